//! The response direction of one connection, in whichever protocol it is.

use super::waiting::Waiting;
use super::{Answered, Counters, Observer, Which};
use crate::flow::{Chunk, Gap};
use crate::http::{
    self, Asked, Budget, HeaderField, LastTold, ResponseEvents, ResponseHead, ResponseReader, Responses,
};

/// Reads responses.
pub(super) struct Replies {
    h1: ResponseReader,
    h2: Option<Box<Responses>>,
    /// Memory of `h2`.
    told_memory: LastTold,
    /// The bytes that come next may be the first of HTTP/2.
    fresh: bool,
}

impl Replies {
    /// A direction from its first byte (`whole`) or from somewhere; `fresh` if nothing of it was seen before.
    pub(super) fn new(whole: bool, fresh: bool) -> Self {
        Self { h1: ResponseReader::new(whole), h2: None, told_memory: LastTold::default(), fresh }
    }

    /// Whether the bytes that come next are HTTP/2.
    pub(super) fn is_http2(&self, bytes: &[u8]) -> bool {
        self.h2.is_some() || (self.fresh && may_begin_http2(bytes))
    }

    /// The next bytes, which are HTTP/2. Their state comes out of `memory`; without room for it, nothing more is read.
    pub(super) fn http2(
        &mut self,
        bytes: &[u8],
        time: u64,
        limits: &http::Limits,
        memory: &mut Budget,
        streams: &mut impl ResponseEvents,
    ) {
        let h2 = self.h2.get_or_insert_with(|| Box::new(Responses::new(limits)));
        h2.data(bytes, time, streams);
        let room = self.told_memory.change(h2.memory()).is_none_or(|delta| memory.change(delta));
        if !room {
            h2.give_up();
            if let Some(delta) = self.told_memory.change(h2.memory()) {
                memory.change(delta);
            }
        }
    }

    /// The connection is over.
    pub(super) fn close(mut self, memory: &mut Budget) {
        if let Some(delta) = self.told_memory.change(0) {
            memory.change(delta);
        }
    }

    /// The next bytes, HTTP/1 as far as anyone knows; `answer` is told the heads. Gives how many are.
    pub(super) fn http1(&mut self, chunk: &Chunk<'_>, answer: impl FnMut(&ResponseHead) -> Asked) -> usize {
        let used = self.h1.data(chunk, answer);
        // If a switch of protocols was agreed to, only the very next bytes tell whether it is to HTTP/2.
        self.fresh = self.h1.is_off() && used > 0;
        used
    }

    /// The next bytes are missing for good; `answer` is told of a head that was cut.
    pub(super) fn gap(&mut self, gap: &Gap, answer: impl FnOnce(&ResponseHead) -> Asked) {
        self.fresh = false;
        match &mut self.h2 {
            Some(h2) => h2.gap(gap.len),
            None => self.h1.gap(gap, answer),
        }
    }
}

/// Whether bytes begin with the SETTINGS that a server sends first (RFC 9113 section 3.4).
pub(super) fn begins_http2(bytes: &[u8]) -> bool {
    bytes.len() >= 9 && may_begin_http2(bytes)
}

/// The same as far as there are bytes: no other answer begins with a zero.
fn may_begin_http2(bytes: &[u8]) -> bool {
    match bytes {
        [0] | [0, _] => true,
        [0, high, low, rest @ ..] => {
            // Whole settings of six bytes each.
            u16::from_be_bytes([*high, *low]).is_multiple_of(6)
                && rest.iter().zip([4, 0, 0, 0, 0, 0]).all(|(is, should)| *is == should)
        }
        _ => false,
    }
}

/// What is heard of the responses on streams.
pub(super) struct Streams<'a, O: Observer> {
    pub(super) observer: &'a mut O,
    pub(super) conn: &'a mut Option<O::Conn>,
    pub(super) waiting: &'a mut Waiting,
    pub(super) counters: &'a mut Counters,
}

impl<O: Observer> ResponseEvents for Streams<'_, O> {
    fn response_head(&mut self, stream: u32, status: u16, _fields: &[HeaderField<'_>], time: u64) {
        // Even streams are pushed: nobody asked.
        let Some(conn) = self.conn.as_mut().filter(|_| stream % 2 == 1) else { return };
        let interim = status < 200;
        let request = match self.waiting.h2c {
            Some(number) if stream == 1 => Which::Nth(number),
            _ => Which::Stream(stream),
        };
        if !interim {
            self.counters.answered += 1;
            if matches!(request, Which::Stream(_)) {
                self.waiting.streams = self.waiting.streams.saturating_sub(1);
            }
        }
        self.observer.answer(conn, &Answered { request, status, time, interim, asked: None });
    }

    fn response_data(&mut self, _stream: u32, _bytes: &[u8], _time: u64) {}
    fn response_trailers(&mut self, _stream: u32, _fields: &[HeaderField<'_>], _time: u64) {}
    fn response_end(&mut self, _stream: u32, _time: u64) {}
    fn response_reset(&mut self, _stream: u32, _code: u32, _time: u64) {}
}

#[cfg(test)]
mod tests {
    use super::Replies;
    use crate::http::{Budget, HeaderField, Limits, ResponseEvents};

    #[derive(Default)]
    struct Heads(u64);

    impl ResponseEvents for Heads {
        fn response_head(&mut self, _: u32, status: u16, _: &[HeaderField<'_>], _: u64) {
            assert_eq!(status, 200);
            self.0 += 1;
        }
        fn response_data(&mut self, _: u32, _: &[u8], _: u64) {}
        fn response_trailers(&mut self, _: u32, _: &[HeaderField<'_>], _: u64) {}
        fn response_end(&mut self, _: u32, _: u64) {}
        fn response_reset(&mut self, _: u32, _: u32, _: u64) {}
    }

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// `:status: 200` on stream 1, which ends.
    const HEADERS: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];

    #[test]
    fn http2_is_known_by_whatever_of_its_first_frame_is_there() {
        for len in 1..=SETTINGS.len() + HEADERS.len() {
            let (mut memory, mut told) = (Budget::new(1 << 20), Heads::default());
            let mut replies = Replies::new(true, true);
            for bytes in [&SETTINGS[..], &HEADERS].concat().chunks(len) {
                assert!(replies.is_http2(bytes), "in pieces of {len}");
                replies.http2(bytes, 0, &Limits::default(), &mut memory, &mut told);
            }
            assert_eq!(told.0, 1, "in pieces of {len}");
        }
        for other in
            [&b"HTTP/1.1 200"[..], b"H", b"", &[0, 0, 1], &[0, 0, 0, 1], &[0, 0, 0, 4, 0, 0, 0, 0, 1]]
        {
            assert!(!Replies::new(true, true).is_http2(other), "{other:?}");
        }
    }

    #[test]
    fn without_room_for_their_state_responses_are_read_no_further_and_it_is_given_back() {
        for (room, heads) in [(1 << 20, 2), (1, 0)] {
            let (mut memory, mut told) = (Budget::new(room), Heads::default());
            let mut replies = Replies::new(true, true);
            assert!(replies.is_http2(&SETTINGS));
            for bytes in [&SETTINGS[..], &HEADERS, &HEADERS] {
                replies.http2(bytes, 0, &Limits::default(), &mut memory, &mut told);
            }
            assert_eq!(told.0, heads, "of {room} bytes");
            assert!(memory.used() > 0, "what it takes all the same is counted");
            replies.close(&mut memory);
            assert_eq!(memory.used(), 0);
        }
    }
}
