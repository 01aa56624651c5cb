//! `dialog`: both directions of a few connections, in any order, repeated, cut and with holes. The law of the bytes holds after
//! every segment, and at the end nothing is left.
//!
//! Payload as it is; 0xff begins a sign: the next byte says what is done with the segment gathered so far.

use std::collections::BTreeSet;

use crate::dialog::{DialogLimits, Dialogs};
use crate::testing::quiet::Quiet;
use crate::testing::talk::{ACK, FIN, MS, RST, Sent, Talk};
use crate::{flow, http};

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let (options, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let sent = sent(rest);
    let small = options & 1 != 0;
    let sparse = options & 8 != 0;
    let ports = if options & 2 != 0 { BTreeSet::from([80]) } else { BTreeSet::new() };
    let flow = flow::Limits {
        flows: if small { 3 } else { 64 },
        segments_out_of_order_per_flow: if small { 3 } else { 4_096 },
        syns_remembered: 16,
        closed_remembered: 16,
        acknowledged_hole_ns: if options & 4 != 0 { 0 } else { 3_000 * MS },
        ..flow::Limits::default()
    };
    let limits = DialogLimits {
        held_bytes_per_connection: if small { 64 } else { 1 << 20 },
        held_bytes_total: if small { 100 } else { 1 << 20 },
        unanswered: if small { 2 } else { 1_024 },
        unanswered_total: if small { 4 } else { 1_024 },
        heads_total: if small { 64 } else { 1 << 20 },
        syns: 16,
    };
    let ample = http::Limits::default();
    let scarce = http::Limits {
        h2_memory_bytes: 2_000,
        h2_responses_memory_bytes: 1_000,
        unanswered_bytes: 400,
        ..ample
    };
    let mut dialogs = Dialogs::new(flow, if small { scarce } else { ample }, limits, ports, Quiet);
    let mut payload = 0;
    for sent in &sent {
        assert!(dialogs.segment(&sent.view(), sent.time, sparse), "port 80 serves");
        payload += sent.payload.len() as u64;
        let bytes = dialogs.bytes();
        assert!(bytes.balance() && bytes.captured == payload, "{bytes:?} after {sent:?}");
    }
    dialogs.finish();
    let bytes = dialogs.bytes();
    assert!(bytes.balance() && bytes.buffered == 0, "{bytes:?}");
    assert_eq!((dialogs.h2_memory(), dialogs.unanswered_memory()), (0, 0), "memory is left behind");
}

/// The segments that a script makes.
fn sent(mut rest: &[u8]) -> Vec<Sent> {
    let mut talks: Vec<Talk> = (0..3).map(|at| Talk::new(4_000 + at)).collect();
    let mut all: Vec<Sent> = Vec::new();
    let mut payload = Vec::new();
    let (mut talk, mut began) = (0, [false; 3]);
    let mut time = 1_000 * MS;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != 0xff {
            payload.push(byte);
            continue;
        }
        let (&sign, after) = rest.split_first().unwrap_or((&0, &[]));
        rest = after;
        let client = sign & 1 == 0;
        let flags = match sign >> 1 & 15 {
            0 => {
                payload.push(0xff);
                continue;
            }
            // Ahead of what was said before it, again, or lost.
            1 if all.len() > 1 => {
                let last = all.len() - 1;
                all.swap(last - 1, last);
                continue;
            }
            2 => {
                let again = all.last().cloned();
                all.extend(again);
                continue;
            }
            3 => {
                all.pop();
                continue;
            }
            4 => {
                if let Some(last) = all.last_mut() {
                    last.payload.truncate(usize::from(sign >> 5) * 9);
                }
                continue;
            }
            5 => {
                talk = usize::from(sign >> 5) % talks.len();
                continue;
            }
            6 => {
                time += u64::from(sign >> 5) * 1_500 * MS;
                continue;
            }
            7 => FIN | ACK,
            8 => RST,
            _ => ACK,
        };
        // Its handshake stands in the file, or the capture came later.
        if !std::mem::replace(&mut began[talk], true) && sign & 0x80 == 0 {
            all.append(&mut talks[talk].sent);
        }
        talks[talk].sent.clear();
        talks[talk].send(client, flags, &std::mem::take(&mut payload));
        all.append(&mut talks[talk].sent);
        time += MS;
        if let Some(last) = all.last_mut() {
            last.time = time;
        }
    }
    all
}
