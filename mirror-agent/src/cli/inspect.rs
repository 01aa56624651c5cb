//! `mirror inspect`: the requests in capture files, and what was answered.

mod observe;
mod record;
mod summary;
mod text;
mod time;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::capture::{self, Feed, Reader};
use crate::config::{ResolvedInspect, Shown};
use crate::dialog::{DialogLimits, Dialogs};
use crate::{flow, http};
pub use observe::MAX_WAITING_BYTES;
pub use record::MAX_GRPC_MESSAGES;

use observe::Observed;

/// Directions of connections in the flow table: 131,072 connections.
pub const MAX_FLOWS: u32 = 262_144;
/// How long a hole stays open for a segment that stands late in the file, ns of the file's time, after the other side
/// acknowledged what is missing.
pub const ACKNOWLEDGED_HOLE_TIMEOUT_NS: u64 = 30_000_000_000;
/// The same without an acknowledgement: the sender may still send it again.
pub const HOLE_TIMEOUT_NS: u64 = 60_000_000_000;
/// Memory for segments behind holes.
pub const MAX_OUT_OF_ORDER_BYTES: usize = 64 << 20;
/// Memory for the state of HTTP/2 connections, for each direction.
pub const MAX_H2_BYTES: u64 = 64 << 20;
/// Memory of requests whose response the decoders wait for, beside [`DialogLimits::unanswered_total`].
pub const MAX_UNANSWERED_BYTES: u64 = 48 << 20;

/// Reads the files, writes requests to `out` and the summary and what is wrong with files to `err`. False if a file was
/// not read to its end.
///
/// # Errors
///
/// If `out` cannot be written. A closed pipe is no error: nobody wants more.
pub fn inspect(config: &ResolvedInspect, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<bool> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let mut inspection = Inspection::new(config, &mut out);
    let mut faults = Vec::new();
    for file in &config.capture.files {
        if let Err(error) = inspection.file(file) {
            faults.push(error);
        }
        if inspection.is_unwanted() {
            break;
        }
    }
    inspection.finish();
    let summary = inspection.summary();
    let written = inspection.written();
    let whole = faults.is_empty();
    let written = written.and_then(|()| match config.shown {
        Shown::NothingJson => writeln!(out, "{}", serde_json::to_string(&summary)?),
        _ => Ok(()),
    });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("cannot write")?,
    }
    let mut said = String::new();
    if config.shown != Shown::NothingJson {
        let _infallible = write!(said, "{summary}");
    }
    for fault in &faults {
        let _infallible = writeln!(said, "mirror: {fault}");
    }
    let _closed = err.write_all(said.as_bytes());
    Ok(whole)
}

/// The rooms of an inspection in a row: capture, packet, dialog (with flow and http), observer.
struct Inspection<'a> {
    feed: Feed,
    dialogs: Dialogs<Observed<'a>>,
}

impl<'a> Inspection<'a> {
    fn new(config: &'a ResolvedInspect, out: &'a mut dyn Write) -> Self {
        let observed = Observed::new(config.shown, config.capture.filter.as_ref(), out);
        Self {
            feed: Feed::default(),
            dialogs: Dialogs::new(
                flow::Limits { hash_seed: seed(), ..capture_limits() },
                http::Limits {
                    h2_memory_bytes: MAX_H2_BYTES,
                    h2_responses_memory_bytes: MAX_H2_BYTES,
                    unanswered_bytes: MAX_UNANSWERED_BYTES,
                    ..http::Limits::default()
                },
                DialogLimits::default(),
                config.capture.ports.clone(),
                observed,
            ),
        }
    }

    /// All packets of a file.
    fn file(&mut self, path: &Path) -> Result<(), capture::Error> {
        let mut reader = Reader::open(path)?;
        self.feed.file();
        while let Some(packet) = reader.next_packet()? {
            if self.feed.begins_anew(&packet) {
                self.dialogs.restart();
            }
            if let Some(view) = self.feed.segment(&packet)
                && !self.dialogs.segment(&view, packet.time, packet.sparse)
            {
                self.feed.other_port();
            }
            if self.feed.totals().packets.is_multiple_of(4_096) && self.is_unwanted() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.dialogs.finish();
    }

    /// Whether nobody reads what is written.
    fn is_unwanted(&mut self) -> bool {
        self.dialogs.observer().failed.is_some()
    }

    fn written(&mut self) -> io::Result<()> {
        self.dialogs.observer().failed.take().map_or(Ok(()), Err)
    }

    fn summary(&mut self) -> summary::Summary {
        let requests = self.dialogs.observer().tally.clone();
        summary::Summary {
            source: self.feed.totals().clone(),
            reassembled: self.feed.reassembled(),
            fragments_lost: self.feed.fragments_lost(),
            connections: *self.dialogs.counters(),
            flows: self.dialogs.flows(),
            bytes: *self.dialogs.bytes(),
            requests,
        }
    }
}

/// A capture is not live: nothing is gained by giving a hole up early.
#[must_use]
pub fn capture_limits() -> flow::Limits {
    flow::Limits {
        flows: MAX_FLOWS,
        segments_out_of_order_per_flow: 4_096,
        out_of_order_bytes_per_flow: 4 << 20,
        out_of_order_bytes_total: MAX_OUT_OF_ORDER_BYTES,
        hole_timeout_ns: HOLE_TIMEOUT_NS,
        acknowledged_hole_ns: ACKNOWLEDGED_HOLE_TIMEOUT_NS,
        syns_remembered: 262_144,
        closed_remembered: 65_536,
        ..flow::Limits::default()
    }
}

/// A number that nobody outside knows.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8)
}
