//! `pcap`: a capture file gives the same packets and the same fault in whatever lengths it is read, and a fault stands within
//! the file. Its packets go the whole way of `mirror inspect`: the law of the bytes holds after each.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use super::Choices;
use crate::capture::{Fault, Packet, Reader};
use crate::dialog::{DialogLimits, Dialogs};
use crate::packet::{FragmentLimits, Unwrapper};
use crate::testing::quiet::Quiet;
use crate::{flow, http};

/// Link type, time, length on the wire, bytes, whether it is of a file that holds no answers.
type Seen = (u32, u64, u32, Vec<u8>, bool);

/// Packets, and the fault with its place.
type Outcome = (Vec<Seen>, Option<(u64, String)>);

/// Checks one input: two lengths of reads, then the file.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let lengths = [usize::from(choices.byte()) + 1, usize::from(choices.byte()) + 1];
    let file = choices.0;
    let whole = read(file, [usize::MAX; 2]);
    let (packets, fault) = &whole;
    let zipped = file.starts_with(&[0x1f, 0x8b]);
    if let Some((offset, _)) = fault {
        assert!(zipped || *offset <= file.len() as u64, "a fault at {offset} of {} bytes", file.len());
    }
    for lengths in [[1; 2], lengths] {
        assert_eq!(read(file, lengths), whole, "read {lengths:?} bytes at a time");
    }
    let mut unwrapper = Unwrapper::new(FragmentLimits::default());
    let (http, limits) = (http::Limits::default(), DialogLimits { syns: 64, ..DialogLimits::default() });
    let flow = flow::Limits {
        flows: 64,
        syns_remembered: 16,
        closed_remembered: 16,
        acknowledged_hole_ns: 30_000_000_000,
        ..flow::Limits::default()
    };
    let mut dialogs = Dialogs::new(flow, http, limits, BTreeSet::new(), Quiet);
    let mut payload = 0;
    for (link, time, len, bytes, sparse) in packets {
        if let Ok(view) = unwrapper.segment(crate::packet::LinkType(*link), bytes, *len, *time) {
            payload += view.payload.len() as u64;
            assert!(dialogs.segment(&view, *time, *sparse));
            assert!(dialogs.bytes().balance(), "{:?}", dialogs.bytes());
        }
    }
    dialogs.finish();
    assert!(dialogs.bytes().balance() && dialogs.bytes().buffered == 0, "{:?}", dialogs.bytes());
    assert_eq!((dialogs.h2_memory(), dialogs.unanswered_memory()), (0, 0), "memory is left behind");
    assert_eq!(dialogs.bytes().captured, payload);
}

/// A source that gives as much at a time as it is told, in turn.
struct Dribble {
    file: Cursor<Vec<u8>>,
    lengths: [usize; 2],
}

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.lengths.reverse();
        let len = into.len().min(self.lengths[0]);
        self.file.read(&mut into[..len])
    }
}

fn read(file: &[u8], lengths: [usize; 2]) -> Outcome {
    let mut seen = Vec::new();
    let fault = |error: crate::capture::Error| {
        let text = match &error.fault {
            // What gzip says of itself is not ours.
            Fault::Io(_) => "io".to_owned(),
            fault => fault.to_string(),
        };
        Some((error.offset, text))
    };
    let source = Dribble { file: Cursor::new(file.to_vec()), lengths };
    let mut reader = match Reader::new(Box::new(source), "file") {
        Ok(reader) => reader,
        Err(error) => return (seen, fault(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(Packet { link, time, len, bytes, sparse })) => {
                seen.push((link.0, time, len, bytes.to_vec(), sparse));
            }
            Ok(None) => return (seen, None),
            Err(error) => return (seen, fault(error)),
        }
    }
}
