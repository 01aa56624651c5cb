//! What the tests of the flow room share: segments by hand, and a handler that keeps the books.

mod geometry;
mod model;
mod patience;
mod table;
mod traffic;

use mirror_common::record::{Direction, tcp_flags};

use super::{Chunk, Close, Evidence, FlowId, FlowInfo, Gap, Handler, Limits, LostReason, Start, Table};
use crate::packet::{Segment, Seq};
use crate::testing::book::{Book, Conn, JOB, Log};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// A call that carries something.
#[derive(Debug)]
enum Call<'a> {
    Data(Chunk<'a>),
    Gap(Gap),
    Response(Evidence),
    Duplicate(u64),
    Lost(u64),
}

/// A handler for tests that look at some calls only.
struct Tell<F>(F);

impl<F: FnMut(Call<'_>)> Handler for Tell<F> {
    type State = ();

    fn open(&mut self, _: &FlowInfo) {}
    fn data(&mut self, _: &FlowInfo, (): &mut (), chunk: Chunk<'_>) {
        self.0(Call::Data(chunk));
    }
    fn gap(&mut self, _: &FlowInfo, (): &mut (), gap: Gap) {
        self.0(Call::Gap(gap));
    }
    fn response(&mut self, _: &FlowInfo, (): &mut (), evidence: Evidence) {
        self.0(Call::Response(evidence));
    }
    fn half_close(&mut self, _: &FlowInfo, (): &mut ()) {}
    fn close(&mut self, _: &FlowInfo, (): (), _: Close) {}
    fn duplicate(&mut self, _: u16, bytes: u64) {
        self.0(Call::Duplicate(bytes));
    }
    fn lost(&mut self, _: u16, _: LostReason, bytes: u64) {
        self.0(Call::Lost(bytes));
    }
    fn buffered(&mut self, _: u16, _: i64) {}
}

/// A table with its books; checks both after every step.
#[derive(Debug)]
struct Rig {
    table: Table<Log>,
    book: Book,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits), book: Book::default() }
    }

    /// A segment, what was said about it, and every check.
    fn feed(&mut self, seg: &Segment<'_>) -> String {
        self.pour(seg);
        self.check()
    }

    /// A segment of very many: checked with the next one that is fed.
    fn pour(&mut self, seg: &Segment<'_>) {
        if seg.direction == Direction::Request && !seg.payload.is_empty() {
            *self.book.given.entry(seg.job).or_default() += seg.payload.len() as u64;
        }
        self.table.segment(seg, &mut self.book);
    }

    fn tick(&mut self, now: u64) -> String {
        self.table.tick(now, &mut self.book);
        self.check()
    }

    fn close_all(&mut self, now: u64) -> String {
        self.table.close_all(now, &mut self.book);
        self.check()
    }

    fn check(&mut self) -> String {
        self.book.check();
        self.table.check();
        assert_eq!(self.book.open, self.table.len() as u64);
        self.book.said()
    }
}

/// A rig whose connection 1 is open from its SYN with ISN 999, so that position 0 is sequence number 1000.
fn opened() -> (Rig, Conn) {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    assert_eq!(rig.feed(&conn.syn(0, 999)), "");
    assert_eq!(rig.feed(&conn.data(1, 1000, b"abcd")), "open:syn abcd");
    (rig, conn)
}
