//! Requests of a connection whose position is known: heads and bodies out, one after the other.

use super::answer::Asked;
use super::chunked::Piece;
use super::connection::{Connection, Mode};
use super::framer::HeadStep;
use super::head::{Fail, Fields, may_begin, may_yet_begin};
use super::input::{Input, Tally};
use super::message::{AbortReason, Events, H2Error, Leaves, NotHttp, RequestHead};

/// The request whose body comes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    start: u64,
    pub(super) head_end: u64,
    /// It was not aborted: its bytes are passed on.
    pub(super) live: bool,
    pub(super) leaves: Option<Leaves>,
    /// What became of the wish to leave, if its response came before its end.
    pub(super) left: Option<bool>,
    pub(super) closes: bool,
    pub(super) says_close: bool,
    /// `Expect: 100-continue`, and no byte of the body was seen yet.
    pub(super) expects: bool,
    /// A final response came instead of the 100.
    pub(super) withheld: bool,
}

impl Connection {
    /// Requests, until the input ends or the mode changes.
    pub(super) fn frame(
        &mut self,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        let bytes = input.bytes;
        let resumed =
            self.blank_with.take().filter(|(pos, _)| at == 0 && *pos == input.pos && !input.segment_start);
        // Nothing but blank lines stood before `at` in this segment.
        let mut fresh = at == 0 && (input.segment_start || resumed.is_some());
        let read = resumed.map_or(input.read, |(_, read)| read);
        let mut fields = Fields::new();
        while at < bytes.len() && self.mode == Mode::Sync {
            if self.current.is_some() {
                at = self.frame_body(input, at, ev, tally);
                fresh = false;
                continue;
            }
            if self.framer.at_boundary() {
                let blank = bytes[at..].iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
                tally.parsed += blank as u64;
                if blank > 0 {
                    ev.blank(&bytes[at..at + blank], input.pos + at as u64, input.time);
                }
                at += blank;
                if at == bytes.len() {
                    self.blank_with = fresh.then_some((input.pos + at as u64, read));
                    break;
                }
                self.head_start = input.pos + at as u64;
                let read_on = Input { read, ..*input }.read_on();
                self.head_pipelined = self.answers.begins(!fresh, read_on, self.visible);
            }
            fresh = false;
            let before = self.framer.gathered().len();
            let max_bytes = self.limits.max_head_bytes as usize;
            match self.framer.head(&bytes[at..], max_bytes, self.limits.max_fields as usize, &mut fields) {
                HeadStep::More => return bytes.len(),
                HeadStep::Head { head, gathered, consumed } => {
                    self.maybe_left = false;
                    self.guessed = false;
                    let raw = if gathered { self.framer.gathered() } else { &bytes[at..at + consumed] };
                    if head.unfit {
                        tally.out(Some(NotHttp::Malformed), raw.len() as u64, ev);
                    } else {
                        tally.parsed += raw.len() as u64;
                    }
                    at += consumed;
                    let end = input.pos + at as u64;
                    // It may have been answered while the head came in pieces.
                    let pipelined = self.head_pipelined && self.answers.waiting();
                    let asked = Asked {
                        start: self.head_start,
                        head_end: end,
                        head_time: input.time,
                        leaves: head.leaves,
                        told: !head.unfit,
                    };
                    self.answers.push(asked, head.body, self.limits.max_unanswered as usize);
                    let told = RequestHead {
                        raw,
                        method: &raw[..head.method_len],
                        target: &raw[head.target.clone()],
                        fields_start: head.fields_start,
                        version: head.version,
                        fields: &fields,
                        body: head.body,
                        expects_continue: head.expects_continue,
                        closes: head.closes,
                        leaves: head.leaves,
                        proxied: self.proxied,
                        pos: self.head_start,
                        time: input.time,
                        pipelined,
                    };
                    if head.unfit {
                        ev.refused(AbortReason::Malformed);
                    } else {
                        ev.head(&told);
                    }
                    self.framer.begin(head.body);
                    self.current = Some(Current {
                        start: self.head_start,
                        head_end: end,
                        live: !head.unfit,
                        leaves: head.leaves,
                        left: None,
                        closes: head.closes,
                        says_close: head.says_close,
                        expects: head.expects_continue,
                        withheld: false,
                    });
                    if self.framer.at_boundary() {
                        self.finish(end, ev);
                    }
                }
                HeadStep::Fail(fail) => {
                    // What this call gathered is in the input as well.
                    self.framer.take();
                    let lost = (before + bytes.len() - at) as u64;
                    let why = self.failed(fail, ev, tally);
                    tally.out(Some(why), lost, ev);
                    return bytes.len();
                }
            }
        }
        at
    }

    fn frame_body(
        &mut self,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        let Some(current) = &mut self.current else { return at };
        if current.expects {
            let goes_on = at == 0 && input.segment_start && input.read != Some(0);
            let begins = may_begin(input.bytes);
            if current.withheld && goes_on && (begins || may_yet_begin(input.bytes)) {
                self.try_instead_of_body(input, begins);
                return at;
            }
            current.expects = false;
        }
        let live = current.live;
        let (taken, piece) = self.framer.body(&input.bytes[at..]);
        if taken > 0 {
            tally.parsed += taken as u64;
            if live {
                ev.body(&input.bytes[at..at + taken], input.time);
            }
            at += taken;
        }
        match piece {
            Piece::More => {}
            Piece::Done => self.finish(input.pos + at as u64, ev),
            Piece::Bad => {
                self.abort(AbortReason::Malformed, ev);
                self.lose(Some(NotHttp::Malformed), ev, tally);
            }
        }
        at
    }

    /// The current request ends before `pos`.
    pub(super) fn finish(&mut self, pos: u64, ev: &mut impl Events) {
        let Some(current) = self.current.take() else { return };
        if current.live {
            ev.end(pos);
        }
        self.answers.ended(current.start, pos);
        match (current.leaves, current.left) {
            (None, _) | (_, Some(false)) => {
                // RFC 9112 section 9.6: nothing after it is processed by the server.
                if current.says_close {
                    self.mode = Mode::Off(NotHttp::Unknown);
                } else if current.closes {
                    self.mode = Mode::Last;
                }
            }
            (Some(leaves), Some(true)) => self.leave(leaves, ev),
            (Some(leaves), None) => {
                self.closing = current.closes;
                self.mode = Mode::Leaving(leaves);
            }
        }
    }

    /// The place of a request is taken by something else. Gives what its bytes are.
    fn failed(&mut self, fail: Fail, ev: &mut impl Events, tally: &mut Tally) -> NotHttp {
        let why = match fail {
            Fail::Http2 => NotHttp::Http2,
            _ if self.maybe_left => NotHttp::Tunnel,
            Fail::Malformed => NotHttp::Malformed,
            Fail::TooLarge | Fail::LineTooLarge => NotHttp::HeadTooLarge,
            Fail::Unknown | Fail::Incomplete => NotHttp::Unknown,
        };
        match why {
            NotHttp::Malformed => {
                ev.refused(AbortReason::Malformed);
                self.lose(Some(why), ev, tally);
            }
            NotHttp::HeadTooLarge => {
                if fail == Fail::TooLarge {
                    ev.refused(AbortReason::HeadTooLarge);
                }
                self.lose(Some(why), ev, tally);
            }
            NotHttp::Unknown if !self.answers.none_yet() => self.lose(Some(why), ev, tally),
            NotHttp::Unknown if std::mem::take(&mut self.guessed) => self.lose(None, ev, tally),
            _ => self.stop(why, ev, tally),
        }
        if why == NotHttp::Http2 {
            // Its first line, and not what must follow it, or not where it may stand.
            ev.h2_error(H2Error::Preface);
        }
        why
    }
}
