//! One request stream on its way through a bad network: cut, doubled, out of order, in part lost.

use std::ops::Range;

use crate::flow::{self, Chunk, Close, Evidence, FlowInfo, Gap, Handler, LostReason, Table};
use crate::http::{Connection, Limits, Pickup};

use super::book::Conn;
use super::wire::Book;

/// What happens to the segments on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Voyage {
    /// Lengths of the segments, over and over; none is 0.
    pub(crate) cuts: Vec<usize>,
    /// Which one changes places with the next.
    pub(crate) swaps: Vec<usize>,
    /// Which one comes again, and where.
    pub(crate) copies: Vec<(usize, usize)>,
    /// Which one is lost.
    pub(crate) drops: Vec<usize>,
}

impl Voyage {
    /// The parts of a stream of `len` bytes in the order in which they arrive. Places count around the end.
    pub(crate) fn parts(&self, len: usize) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in self.cuts.iter().cycle() {
            let to = (from + cut).min(len);
            parts.push(from..to);
            from = to;
            if from == len {
                break;
            }
        }
        for &at in &self.swaps {
            let at = at % parts.len();
            if at + 1 < parts.len() {
                parts.swap(at, at + 1);
            }
        }
        for &(what, to) in &self.copies {
            let part = parts[what % parts.len()].clone();
            parts.insert(to % (parts.len() + 1), part);
        }
        for &at in &self.drops {
            if parts.len() > 1 {
                parts.remove(at % parts.len());
            }
        }
        parts
    }

    /// What is told of a stream that was sent this way on a connection of its own, after the SYN. Nobody answers.
    pub(crate) fn sail(&self, stream: &[u8], limits: &Limits) -> Book {
        let conn = Conn::new(1);
        // One flow needs no large table, and a fuzzer makes many.
        let small =
            flow::Limits { flows: 2, syns_remembered: 2, closed_remembered: 2, ..flow::Limits::default() };
        let mut table = Table::new(small);
        let mut harbour = Harbour { limits, book: Book::default() };
        let isn = u32::MAX - 20;
        table.segment(&conn.syn(1, isn), &mut harbour);
        for part in self.parts(stream.len()) {
            let at = isn.wrapping_add(1).wrapping_add(part.start as u32);
            table.segment(&conn.data(1, at, &stream[part]), &mut harbour);
        }
        table.close_all(1, &mut harbour);
        harbour.book
    }
}

/// Where the segments arrive: the rooms `flow` and `http` in a row.
struct Harbour<'l> {
    limits: &'l Limits,
    book: Book,
}

impl Handler for Harbour<'_> {
    type State = Connection;

    fn open(&mut self, flow: &FlowInfo) -> Connection {
        Connection::new(flow.start, self.limits, Pickup::Prove)
    }
    fn data(&mut self, _: &FlowInfo, connection: &mut Connection, chunk: Chunk<'_>) {
        connection.data(&chunk, &mut self.book);
    }
    fn gap(&mut self, _: &FlowInfo, connection: &mut Connection, gap: Gap) {
        connection.gap(&gap, &mut self.book);
    }
    fn response(&mut self, _: &FlowInfo, _: &mut Connection, _: Evidence) {
        unreachable!("nobody answers");
    }
    fn half_close(&mut self, _: &FlowInfo, connection: &mut Connection) {
        connection.half_close(&mut self.book);
    }
    fn close(&mut self, _: &FlowInfo, mut connection: Connection, _: Close) {
        connection.close(&mut self.book);
    }
    fn duplicate(&mut self, _: u16, _: u64) {}
    fn lost(&mut self, _: u16, why: LostReason, bytes: u64) {
        panic!("{bytes} bytes are lost: {why:?}");
    }
    fn buffered(&mut self, _: u16, _: i64) {}
}
