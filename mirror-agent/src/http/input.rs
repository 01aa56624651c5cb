//! Bytes on their way through one call, and the counts of that call.

use super::message::{Events, NotHttp};
use crate::packet::Seq;

/// A piece of the stream on its way through the modes.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: u64,
    pub(super) time: u64,
    pub(super) ack: Option<Seq>,
    pub(super) segment_start: bool,
    /// How far the client's ack went on since the bytes before these, if both are known and nothing is missing between.
    pub(super) read: Option<u32>,
}

impl Input<'_> {
    /// The client has received something since it sent the bytes before these; not just a bare `100 Continue`.
    pub(super) fn read_on(&self) -> bool {
        const BARE_CONTINUE: u32 = b"HTTP/1.1 100 Continue\r\n\r\n".len() as u32;
        self.read.is_some_and(|bytes| bytes > BARE_CONTINUE)
    }
}

/// Counts of one call, told once at its end.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) parsed: u64,
    skipped: u64,
    not_http: Option<(NotHttp, u64)>,
}

impl Tally {
    /// Counts bytes that are part of no request: skipped, or for a reason.
    pub(super) fn out(&mut self, why: Option<NotHttp>, bytes: u64, ev: &mut impl Events) {
        match (why, self.not_http) {
            (None, _) => self.skipped += bytes,
            (Some(why), Some((same, sum))) if same == why => self.not_http = Some((why, sum + bytes)),
            (Some(why), earlier) => {
                if let Some((other, sum)) = earlier
                    && sum > 0
                {
                    ev.not_http(other, sum);
                }
                self.not_http = Some((why, bytes));
            }
        }
    }

    pub(super) fn tell(self, ev: &mut impl Events) {
        if self.parsed > 0 {
            ev.parsed(self.parsed);
        }
        if self.skipped > 0 {
            ev.skipped(self.skipped);
        }
        if let Some((why, bytes)) = self.not_http
            && bytes > 0
        {
            ev.not_http(why, bytes);
        }
    }
}
