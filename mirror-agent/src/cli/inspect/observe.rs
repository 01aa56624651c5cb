//! What the dialogs tell, made into records and counts.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::record::{self, End, Id, Record, Summed};
use super::summary::Tally;
use crate::config::{Facts, Filter, Passed, Shown};
use crate::dialog::{Answered, ConnInfo, Observer, Which};
use crate::http::{
    AbortReason, Events, H2Error, HeaderField, NotHttp, RequestHead, StreamHead, TunnelEnd, Waiting,
};

/// Memory for requests whose line waits for their response. Over it a line is written without.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// The observer of an inspection.
pub(super) struct Observed<'a> {
    shown: Shown,
    filter: Option<&'a Filter>,
    out: &'a mut dyn Write,
    /// Why nothing can be written any more.
    pub(super) failed: Option<io::Error>,
    pub(super) tally: Tally,
    waiting_bytes: usize,
    headed: bool,
}

/// One connection.
pub(super) struct Client {
    info: ConnInfo,
    next: u64,
    /// Requests that go on, or wait for their response.
    records: VecDeque<Record>,
}

/// The requests of one connection, on their way into records.
pub(super) struct Requests<'o, 'a> {
    observed: &'o mut Observed<'a>,
    client: &'o mut Client,
}

impl<'a> Observed<'a> {
    pub(super) fn new(shown: Shown, filter: Option<&'a Filter>, out: &'a mut dyn Write) -> Self {
        Self { shown, filter, out, failed: None, tally: Tally::default(), waiting_bytes: 0, headed: false }
    }

    /// Whether requests are looked at one by one.
    fn keeps_records(&self) -> bool {
        matches!(self.shown, Shown::Json | Shown::Table) || self.filter.is_some()
    }

    /// A request begins that is looked at.
    fn begin(&mut self, client: &mut Client, id: Id, head: &Summed<'_>) {
        let passed = match self.filter {
            None => Passed::default(),
            Some(filter) => filter.ask(&Facts {
                client: client.info.client,
                server: client.info.server,
                method: head.method,
                target: head.target,
                authority: head.authority,
            }),
        };
        let record = match self.shown {
            Shown::Table => Record::table(id, passed, &client.info, head),
            _ => Record::json(id, passed, &client.info, head),
        };
        self.waiting_bytes += record.memory();
        client.records.push_back(record);
    }

    #[inline]
    fn ended(&mut self, client: &mut Client, id: Id, end: End) {
        self.tally.ended(end);
        let Some(at) = client.records.iter().rposition(|record| record.id == id) else { return };
        let full = self.waiting_bytes > MAX_WAITING_BYTES;
        if let Some(record) = client.records.get_mut(at) {
            record.end = Some(end);
            if record.status.is_some() || full {
                self.tally.written_early += u64::from(record.status.is_none());
                self.write(client, at);
            }
        }
    }

    /// Writes a record and forgets it.
    fn write(&mut self, client: &mut Client, at: usize) {
        let Some(record) = client.records.remove(at) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(record.memory());
        if client.records.is_empty() {
            client.records = VecDeque::new();
        }
        if self.filter.is_some_and(|filter| !filter.fits(record.passed, record.status)) {
            self.tally.filtered += 1;
            return;
        }
        self.tally.shown += 1;
        if self.failed.is_some() {
            return;
        }
        let line = match self.shown {
            Shown::Json => record.json_line(),
            Shown::Table => record.table_line(),
            Shown::Nothing | Shown::NothingJson => return,
        };
        if self.shown == Shown::Table && !std::mem::replace(&mut self.headed, true) {
            self.failed = self.out.write_all(record::heading().as_bytes()).err();
        }
        if let Err(error) = self.out.write_all(line.as_bytes()) {
            self.failed = Some(error);
        }
    }
}

impl<'a> Observer for Observed<'a> {
    type Conn = Client;
    type Requests<'o>
        = Requests<'o, 'a>
    where
        Self: 'o;

    fn open(&mut self, info: &ConnInfo) -> Client {
        Client { info: *info, next: 0, records: VecDeque::new() }
    }

    fn requests<'o>(&'o mut self, client: &'o mut Client) -> Requests<'o, 'a> {
        Requests { observed: self, client }
    }

    fn answer(&mut self, client: &mut Client, answer: &Answered) {
        if answer.interim {
            return;
        }
        self.tally.answered(answer.status);
        let id = match answer.request {
            Which::Nth(number) => Id::Nth(number),
            Which::Stream(stream) => Id::Stream(stream),
        };
        let Some(at) = client.records.iter().position(|record| record.id == id) else { return };
        if let Some(record) = client.records.get_mut(at) {
            record.status = Some(answer.status);
            record.answered = Some(answer.time);
            if record.end.is_some() {
                self.write(client, at);
            }
        }
    }

    fn close(&mut self, mut client: Client) {
        while !client.records.is_empty() {
            self.write(&mut client, 0);
        }
    }
}

impl Events for Requests<'_, '_> {
    #[inline]
    fn head(&mut self, head: &RequestHead<'_>) {
        let id = Id::Nth(self.client.next);
        self.client.next += 1;
        self.observed.tally.observed += 1;
        self.observed.tally.h1 += 1;
        if self.observed.keeps_records() {
            self.observed.begin(self.client, id, &Summed::h1(head));
        }
    }

    #[inline]
    fn body(&mut self, bytes: &[u8], _time: u64) {
        if !self.observed.keeps_records() {
            return;
        }
        if let Some(record) = self.client.records.back_mut() {
            record.body(bytes);
        }
    }

    fn end(&mut self, _pos: u64) {
        self.observed.ended(self.client, Id::Nth(self.client.next.saturating_sub(1)), End::Complete);
    }

    fn abort(&mut self, why: AbortReason) {
        self.observed.ended(self.client, Id::Nth(self.client.next.saturating_sub(1)), End::Aborted(why));
    }

    fn refused(&mut self, why: AbortReason) {
        self.observed.tally.observed += 1;
        self.observed.tally.refused(why);
    }

    fn h2_begin(&mut self, _upgraded: bool) {
        self.observed.tally.h2_connections += 1;
    }

    fn stream_head(&mut self, head: &StreamHead<'_>) {
        self.observed.tally.observed += 1;
        self.observed.tally.h2 += 1;
        if self.observed.keeps_records() {
            self.observed.begin(self.client, Id::Stream(head.stream), &Summed::h2(head));
        }
    }

    fn stream_data(&mut self, stream: u32, bytes: &[u8], _last: bool, _time: u64) {
        let open = |record: &&mut Record| record.id == Id::Stream(stream);
        if let Some(record) = self.client.records.iter_mut().rev().find(open) {
            record.body(bytes);
        }
    }

    fn stream_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], _time: u64) {
        let open = |record: &&mut Record| record.id == Id::Stream(stream);
        if let Some(record) = self.client.records.iter_mut().rev().find(open) {
            let before = record.memory();
            record.trailers(fields);
            self.observed.waiting_bytes += record.memory() - before;
        }
    }

    fn stream_end(&mut self, stream: u32, _pos: u64) {
        self.observed.ended(self.client, Id::Stream(stream), End::Complete);
    }

    fn stream_abort(&mut self, stream: u32, why: AbortReason, _code: Option<u32>) {
        self.observed.ended(self.client, Id::Stream(stream), End::Aborted(why));
    }

    fn stream_cancelled(&mut self, _stream: u32, _code: u32) {
        self.observed.tally.cancelled += 1;
    }

    fn h2_error(&mut self, why: H2Error) {
        self.observed.tally.h2_error(why);
    }

    fn waiting(&mut self, _why: Waiting, begins: bool) {
        self.observed.tally.h2_waiting += u64::from(begins);
    }

    fn tunnel(&mut self, _time: u64) {
        self.observed.tally.tunnels += 1;
    }

    fn tunnel_data(&mut self, _bytes: &[u8], _time: u64) {}

    fn tunnel_frames(&mut self, frames: u64, payload: u64) {
        self.observed.tally.tunnel_frames += frames;
        self.observed.tally.tunnel_bytes += payload;
    }

    fn tunnel_end(&mut self, _why: TunnelEnd) {}

    // The dialog keeps the books of the bytes.
    fn parsed(&mut self, _bytes: u64) {}
    fn not_http(&mut self, _why: NotHttp, _bytes: u64) {}
    fn skipped(&mut self, _bytes: u64) {}
    fn buffered(&mut self, _delta: i64) {}
}
