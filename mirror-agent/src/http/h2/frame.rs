//! Frames (RFC 9113 sections 4 and 6): where they begin and end, header blocks put together, padding left out.
//!
//! Payloads are passed on as they come; only header blocks that are cut, and the four bytes of RST_STREAM, are gathered.
//! What the peer's SETTINGS allow is not known here, so a frame may have any length that its type allows; none but those
//! of header blocks needs memory.

pub mod header;

pub(super) use header::{HEADER, Head, flag, kind};

use crate::http::H2Error;

/// What comes next in a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The input is used up.
    More,
    /// A whole header block.
    Block {
        stream: u32,
        /// END_STREAM stands on its HEADERS frame.
        end_stream: bool,
        /// It came with a PUSH_PROMISE.
        promise: bool,
        block: &'a [u8],
    },
    /// Payload of a DATA frame; told at least once for each that is sound, perhaps without bytes.
    Data {
        stream: u32,
        bytes: &'a [u8],
        /// Bytes of the frame that follow these, padding left out; 0 is told once.
        left: u32,
        /// END_STREAM stands on the frame.
        end_stream: bool,
    },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// Bytes of frames that say nothing about requests.
    Other,
}

/// A place in a stream of frames.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    header: [u8; HEADER],
    have: u8,
    /// SETTINGS must come first.
    first: bool,
    /// The header block that is not complete.
    block: Option<Block>,
    buf: Vec<u8>,
    /// Where in `buf` the payload of the current frame begins.
    payload_at: usize,
    /// `buf` was told and is free.
    buf_told: bool,
    held: u64,
    max_block: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    /// Payload to be gathered.
    Gather {
        head: Head,
        left: u32,
    },
    /// Payload of no interest.
    Pass {
        left: u32,
    },
    /// DATA: the length of the padding, if there is any, is not known yet.
    PadLength {
        head: Head,
    },
    Data {
        head: Head,
        left: u32,
        padding: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    promise: bool,
    /// Bytes of its frames so far, headers and padding included.
    spent: u32,
}

/// Memory that is kept from one header block to the next.
const KEPT_BYTES: usize = 1 << 10;

impl Frames {
    /// At the beginning of a direction, after the client's preface. `max_block`: most bytes of the frames of a header block.
    pub(super) fn new(max_block: u32) -> Self {
        Self {
            state: State::Header,
            header: [0; HEADER],
            have: 0,
            first: true,
            block: None,
            buf: Vec::new(),
            payload_at: 0,
            buf_told: false,
            held: 0,
            max_block: max_block.min(16 << 20),
        }
    }

    /// Bytes that were taken and belong to a step that is still to come.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Memory it takes beside its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        self.buf.capacity()
    }

    /// Takes bytes from the beginning of `input` up to the next step. Gives how many.
    ///
    /// # Errors
    /// If the connection cannot be followed any further. What is held and all of the input belong to no step.
    pub(super) fn step<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Step<'a>), H2Error> {
        if std::mem::take(&mut self.buf_told) {
            self.buf.clear();
            self.buf.shrink_to(KEPT_BYTES);
            self.payload_at = 0;
        }
        let mut at = 0;
        if let State::Header = self.state {
            let header = if self.have == 0
                && let Some(whole) = input.first_chunk()
            {
                at = HEADER;
                *whole
            } else {
                let have = usize::from(self.have);
                at = input.len().min(HEADER - have);
                self.header[have..have + at].copy_from_slice(&input[..at]);
                self.have += at as u8;
                if usize::from(self.have) < HEADER {
                    self.held += at as u64;
                    return Ok((at, Step::More));
                }
                self.header
            };
            self.have = 0;
            self.state = self.begin(Head::parse(header))?;
            self.held += at as u64;
        }
        match self.state {
            // Not after a header.
            State::Header => Ok((at, Step::More)),
            State::Gather { head, left } => self.gather(head, left, input, at),
            State::Pass { left } => {
                let here = here(left, &input[at..]);
                self.state = match left - here {
                    0 => State::Header,
                    left => State::Pass { left },
                };
                self.held = 0;
                Ok((at + here as usize, Step::Other))
            }
            State::PadLength { head } => {
                let Some(&padding) = input.get(at) else { return Ok((at, Step::More)) };
                // The length byte itself is one of `len`.
                let Some(left) = head.len.checked_sub(1 + u32::from(padding)) else {
                    return Err(H2Error::Frame);
                };
                self.data(head, left, padding.into(), input, at + 1)
            }
            State::Data { head, left, padding } => self.data(head, left, padding, input, at),
        }
    }

    /// Goes on by `n` bytes that nobody saw. `Ok` if they are payload that says nothing about what follows, with the
    /// stream if it is DATA; its frame is told no more. `Err` if a header block, or the place of the next frame, may be among
    /// them.
    pub(super) fn skip(&mut self, n: u64) -> Result<Option<u32>, ()> {
        let (stream, total) = match self.state {
            State::Pass { left } => (None, left),
            State::PadLength { head } => (Some(head.stream), head.len),
            State::Data { head, left, padding } => (Some(head.stream), left + padding),
            State::Header | State::Gather { .. } => return Err(()),
        };
        let left = u32::try_from(n).ok().and_then(|n| total.checked_sub(n)).ok_or(())?;
        self.state = if left == 0 { State::Header } else { State::Pass { left } };
        Ok(stream)
    }

    /// Bytes that are held no longer: after [`Frames::skip`], for the header of a frame of which nothing else came.
    pub(super) fn release(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }

    /// Judges a frame by its header.
    fn begin(&mut self, head: Head) -> Result<State, H2Error> {
        let Head { len, kind, stream, .. } = head;
        // An acknowledgement of the primary's SETTINGS may come before the client's own: section 3.4 has it otherwise, but
        // clients do it whose primary spoke first, and servers take it.
        if std::mem::take(&mut self.first) && kind != kind::SETTINGS {
            return Err(H2Error::Preface);
        }
        if let Some(block) = &self.block {
            if kind != kind::CONTINUATION || stream != block.stream {
                return Err(H2Error::Continuation);
            }
        } else if kind == kind::CONTINUATION {
            return Err(H2Error::Continuation);
        }
        let on_stream = match kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::PUSH_PROMISE => Some(true),
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
            _ => None,
        };
        if on_stream.is_some_and(|on_stream| on_stream != (stream != 0)) {
            return Err(H2Error::Stream);
        }
        let sound = match kind {
            kind::DATA => !head.has(flag::PADDED) || len > 0,
            kind::RST_STREAM | kind::WINDOW_UPDATE => len == 4,
            kind::SETTINGS => len.is_multiple_of(6) && (len == 0 || !head.has(flag::ACK)),
            kind::PING => len == 8,
            kind::GOAWAY => len >= 8,
            // PRIORITY of a wrong length is an error of its stream, and says nothing here.
            _ => true,
        };
        if !sound {
            return Err(H2Error::FrameSize);
        }
        Ok(match kind {
            kind::DATA if head.has(flag::PADDED) => State::PadLength { head },
            kind::DATA => State::Data { head, left: len, padding: 0 },
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                let block = self.block.get_or_insert(Block {
                    stream,
                    end_stream: kind == kind::HEADERS && head.has(flag::END_STREAM),
                    promise: kind == kind::PUSH_PROMISE,
                    spent: 0,
                });
                block.spent += HEADER as u32 + len;
                if block.spent > self.max_block {
                    return Err(H2Error::BlockTooLarge);
                }
                State::Gather { head, left: len }
            }
            kind::RST_STREAM => State::Gather { head, left: len },
            _ => State::Pass { left: len },
        })
    }

    fn gather<'a>(
        &'a mut self,
        head: Head,
        left: u32,
        input: &'a [u8],
        at: usize,
    ) -> Result<(usize, Step<'a>), H2Error> {
        let here = here(left, &input[at..]);
        let end = at + here as usize;
        let direct = self.buf.is_empty() && here == head.len;
        if !direct {
            self.buf.extend_from_slice(&input[at..end]);
        }
        self.held += u64::from(here);
        if here < left {
            self.state = State::Gather { head, left: left - here };
            return Ok((end, Step::More));
        }
        self.state = State::Header;
        let payload = if direct { &input[at..end] } else { &self.buf[self.payload_at..] };
        if head.kind == kind::RST_STREAM {
            let code = payload.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
            self.buf_told = true;
            self.held = 0;
            return Ok((end, Step::Reset { stream: head.stream, code }));
        }
        let (from, to) = fragment(head, payload)?;
        if !head.has(flag::END_HEADERS) {
            if direct {
                self.buf.extend_from_slice(&input[at + from..at + to]);
            } else {
                self.buf.truncate(self.payload_at + to);
                self.buf.drain(self.payload_at..self.payload_at + from);
            }
            self.payload_at = self.buf.len();
            return Ok((end, Step::More));
        }
        self.held = 0;
        self.buf_told = true;
        let Some(Block { stream, end_stream, promise, .. }) = self.block.take() else {
            return Err(H2Error::Continuation);
        };
        let block = if direct {
            &input[at + from..at + to]
        } else {
            self.buf.truncate(self.payload_at + to);
            self.buf.drain(self.payload_at..self.payload_at + from);
            &self.buf
        };
        Ok((end, Step::Block { stream, end_stream, promise, block }))
    }

    /// The bytes of a DATA frame; `at` is where they go on.
    fn data<'a>(
        &mut self,
        head: Head,
        left: u32,
        padding: u32,
        input: &'a [u8],
        at: usize,
    ) -> Result<(usize, Step<'a>), H2Error> {
        let here = here(left, &input[at..]);
        let end = at + here as usize;
        self.held = 0;
        self.state = match (left - here, padding) {
            (0, 0) => State::Header,
            (0, padding) => State::Pass { left: padding },
            (left, padding) => State::Data { head, left, padding },
        };
        let step = Step::Data {
            stream: head.stream,
            bytes: &input[at..end],
            left: left - here,
            end_stream: head.has(flag::END_STREAM),
        };
        Ok((end, step))
    }
}

/// How many of `left` bytes are there.
fn here(left: u32, input: &[u8]) -> u32 {
    u32::try_from(input.len()).unwrap_or(u32::MAX).min(left)
}

/// Where in the payload of a frame its part of a header block lies (sections 6.2, 6.6, 6.10).
fn fragment(head: Head, payload: &[u8]) -> Result<(usize, usize), H2Error> {
    if head.kind == kind::CONTINUATION {
        return Ok((0, payload.len()));
    }
    let mut from = 0;
    let mut to = payload.len();
    if head.has(flag::PADDED) {
        let padding = usize::from(*payload.first().ok_or(H2Error::FrameSize)?);
        from += 1;
        to = to.checked_sub(padding).ok_or(H2Error::Frame)?;
    }
    if head.kind == kind::PUSH_PROMISE {
        from += 4;
    } else if head.has(flag::PRIORITY) {
        from += 5;
    }
    if from > payload.len() {
        return Err(H2Error::FrameSize);
    }
    if from > to { Err(H2Error::Frame) } else { Ok((from, to)) }
}
