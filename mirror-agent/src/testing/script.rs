//! What passes a tap on one connection, written as bytes, so that a fuzzer can change it.
//!
//! ```text
//! options, three lengths of pieces, then the client's bytes, in which 0xff begins a sign:
//! ff 00    the byte ff            ff 04 n  a final response that acknowledges all but the last n bytes
//! ff 01    a segment ends         ff 05    a response that the tap did not see
//! ff 02 n  n bytes are missing    ff 06    what is held is given up, for want of memory
//! ff 03 n  a response             ff 07    FIN; nothing follows
//! ```

use crate::flow::Start;
use crate::http::{Answer, Limits, Pickup};

use super::voyage::Voyage;
use super::wire::{Book, Wire};

/// The connection was under way when the tap came.
pub(crate) const MIDSTREAM: u8 = 1;
/// [`Pickup::Trust`].
pub(crate) const TRUST: u8 = 2;
/// Limits so small that a fuzzer reaches them.
pub(crate) const SMALL: u8 = 4;

/// Something that passes the tap, or should have.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Send(Vec<u8>),
    Lose(u8),
    Answer(u16),
    AnswerBack(u8),
    Read,
    Shed,
    Fin,
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send(\"{}\")", bytes.escape_ascii()),
            Self::Lose(n) => write!(f, "Lose({n})"),
            Self::Answer(status) => write!(f, "Answer({status})"),
            Self::AnswerBack(n) => write!(f, "AnswerBack({n})"),
            Self::Read => f.write_str("Read"),
            Self::Shed => f.write_str("Shed"),
            Self::Fin => f.write_str("Fin"),
        }
    }
}

/// What passes a tap on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) options: u8,
    /// Lengths less one.
    pub(crate) cuts: [u8; 3],
    pub(crate) acts: Vec<Act>,
}

const STATUS: [u16; 4] = [200, 100, 101, 400];

impl Script {
    /// Bytes of any kind are a script.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (head, mut rest) = bytes.split_at(bytes.len().min(4));
        let at = |at: usize| head.get(at).copied().unwrap_or(0);
        let mut script = Self { options: at(0), cuts: [at(1), at(2), at(3)], acts: Vec::new() };
        let mut segment = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != 0xff {
                segment.push(byte);
                continue;
            }
            let mut next = || {
                let (&byte, after) = rest.split_first().unwrap_or((&0, &[]));
                rest = after;
                byte
            };
            let act = match next() & 7 {
                0 => {
                    segment.push(0xff);
                    continue;
                }
                1 => None,
                2 => Some(Act::Lose(next())),
                3 => Some(Act::Answer(STATUS[usize::from(next() & 3)])),
                4 => Some(Act::AnswerBack(next())),
                5 => Some(Act::Read),
                6 => Some(Act::Shed),
                _ => Some(Act::Fin),
            };
            if !segment.is_empty() {
                script.acts.push(Act::Send(std::mem::take(&mut segment)));
            }
            let ends = act == Some(Act::Fin);
            script.acts.extend(act);
            if ends {
                return script;
            }
        }
        if !segment.is_empty() {
            script.acts.push(Act::Send(segment));
        }
        script
    }

    /// The same as bytes.
    #[cfg(test)]
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = vec![self.options];
        out.extend(self.cuts);
        for act in &self.acts {
            match act {
                Act::Send(bytes) => {
                    for &byte in bytes {
                        out.push(byte);
                        if byte == 0xff {
                            out.push(0);
                        }
                    }
                    out.extend([0xff, 1]);
                }
                Act::Lose(n) => out.extend([0xff, 2, *n]),
                Act::Answer(status) => {
                    let at = STATUS.iter().position(|known| known == status).unwrap();
                    out.extend([0xff, 3, at as u8]);
                }
                Act::AnswerBack(n) => out.extend([0xff, 4, *n]),
                Act::Read => out.extend([0xff, 5]),
                Act::Shed => out.extend([0xff, 6]),
                Act::Fin => out.extend([0xff, 7]),
            }
        }
        out
    }

    fn limits(&self) -> Limits {
        if self.options & SMALL == 0 {
            return Limits::default();
        }
        Limits {
            max_head_bytes: 120,
            max_fields: 4,
            max_held_bytes: 200,
            max_unanswered: 3,
            h2_table_bytes: 8_192,
            h2_block_bytes: 300,
            h2_list_bytes: 300,
            h2_streams: 2,
            h2_resets_per_second: 3,
            ..Limits::default()
        }
    }

    /// Requests without an answer, the book, and the answers, if every segment comes in pieces of these lengths. `before` was
    /// sent before the script.
    pub(crate) fn play(&self, before: &[u8], cuts: &[usize]) -> (u64, Book, Vec<Answer>) {
        let start = if self.options & MIDSTREAM == 0 { Start::Syn } else { Start::MidStream };
        let pickup = if self.options & TRUST == 0 { Pickup::Prove } else { Pickup::Trust };
        let mut wire = Wire::with(start, pickup, &self.limits()).cut(cuts);
        wire.send(before);
        for act in &self.acts {
            match act {
                Act::Send(bytes) => wire.send(bytes),
                Act::Lose(0) => &mut wire,
                Act::Lose(n) => wire.lose(vec![0; (*n).into()]),
                Act::Answer(status) => wire.answer(*status),
                Act::AnswerBack(n) => wire.answer_at(200, wire.pos.saturating_sub((*n).into())),
                Act::Read => wire.unseen_answer(),
                Act::Shed => wire.shed(),
                Act::Fin => wire.fin(),
            };
        }
        let answers = std::mem::take(&mut wire.answers);
        let (unknown, book) = wire.close();
        (unknown, book, answers)
    }

    /// What the client sent, if nothing else happened.
    pub(crate) fn stream(&self, before: &[u8]) -> Vec<u8> {
        let mut stream = before.to_vec();
        for act in &self.acts {
            if let Act::Send(bytes) = act {
                stream.extend_from_slice(bytes);
            }
        }
        stream
    }

    /// Checks that it does not matter in which pieces the segments come, nor in which segments, how often and in which order
    /// the client's bytes come where nobody answers.
    pub(crate) fn check(&self, before: &[u8]) {
        let cuts = self.cuts.map(|cut| usize::from(cut) + 1);
        let whole = self.play(before, &[usize::MAX]);
        for cuts in [&[1][..], &cuts] {
            let pieces = self.play(before, cuts);
            // What a connection speaks that was under way is told by how its first segments begin: by their first pieces.
            if self.options & MIDSTREAM == 0 {
                assert_eq!(pieces, whole, "cut into {cuts:?}");
            }
        }
        let stream = self.stream(before);
        if stream.is_empty() {
            return;
        }
        let one = Voyage { cuts: vec![stream.len()], ..Voyage::default() };
        let whole = one.sail(&stream, &self.limits()).essence();
        let places = self.cuts.map(usize::from);
        let bad = Voyage {
            cuts: cuts.to_vec(),
            swaps: places.iter().flat_map(|place| [*place, place / 3, place / 7 + 1]).collect(),
            copies: places.iter().map(|place| (place / 2, *place)).collect(),
            drops: Vec::new(),
        };
        assert_eq!(bad.sail(&stream, &self.limits()).essence(), whole, "{bad:?}");
    }
}
