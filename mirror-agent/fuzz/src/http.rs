//! `h1`, `h2`: a connection as a script (see `mirror-agent/src/testing/script.rs`). The same segments in other pieces, and the
//! same stream cut, repeated and reordered, give the same requests, bodies and outcomes, and every byte is counted once.
//! What is read of responses does not depend on cuts either.

use crate::flow::Chunk;
use crate::http::{
    Asked, BadResponse, HeaderField, Limits, ReplyReader, ResponseEvents, ResponseHead, ResponseReader,
    Responses,
};
use crate::testing::script::Script;

/// HTTP/1, what it leads to, and the responses of both kinds of readers.
pub fn h1(bytes: &[u8]) {
    let script = Script::parse(bytes);
    script.check(b"");
    let stream = script.stream(b"");
    let cuts = script.cuts.map(|cut| usize::from(cut) + 1);
    for asked in [Asked::Unknown, Asked::Head, Asked::Connect, Asked::Other] {
        let whole = heads(&stream, &[usize::MAX], asked);
        assert_eq!(heads(&stream, &[1], asked), whole);
        assert_eq!(heads(&stream, &cuts, asked), whole);
    }
    let whole = replies(&stream, &[usize::MAX]);
    assert_eq!(replies(&stream, &[1]), whole);
    assert_eq!(replies(&stream, &cuts), whole);
}

/// HTTP/2 with prior knowledge: the script begins after the client's preface and empty SETTINGS.
pub fn h2(bytes: &[u8]) {
    const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let script = Script::parse(bytes);
    script.check(BEGIN);
    let stream = script.stream(&BEGIN[24..]);
    let cuts = script.cuts.map(|cut| usize::from(cut) + 1);
    let whole = responses(&stream, &[usize::MAX]);
    assert_eq!(responses(&stream, &[1]), whole);
    assert_eq!(responses(&stream, &cuts), whole);
}

/// The stream in pieces of these lengths, over and over, each with its place.
fn pieces<'a>(stream: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = (u64, &'a [u8])> {
    let mut cuts = cuts.iter().cycle();
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = (*cuts.next()?).min(stream.len() - at);
        let piece = stream.get(at..at + len).filter(|piece| !piece.is_empty())?;
        at += len;
        Some(((at - len) as u64, piece))
    })
}

/// The response heads that a capture gives, and how many bytes are HTTP/1.
fn heads(stream: &[u8], cuts: &[usize], asked: Asked) -> (Vec<ResponseHead>, usize) {
    let mut reader = ResponseReader::new(true);
    let mut heads = Vec::new();
    let mut of_http = 0;
    for (pos, bytes) in pieces(stream, cuts) {
        let chunk = Chunk { pos, bytes, time: 1, ack: None, segment_start: pos == 0 };
        let taken = reader.data(&chunk, |head| {
            heads.push(*head);
            asked
        });
        assert!(taken <= bytes.len());
        of_http += taken;
    }
    (heads, of_http)
}

/// What a shadow's answers to some requests come to: statuses, interim responses, complete ones, the fault, and where.
type Replies = (Vec<(u16, bool)>, u64, u64, Option<BadResponse>);

fn replies(stream: &[u8], cuts: &[usize]) -> Replies {
    let mut reader = ReplyReader::new();
    for number in 0..8 {
        reader.expect(number % 3 == 1);
    }
    let (mut statuses, mut interim, mut complete) = (Vec::new(), 0, 0);
    for (_, mut bytes) in pieces(stream, cuts) {
        while !bytes.is_empty() {
            let outstanding = reader.outstanding();
            let progress = match reader.feed(bytes) {
                Ok(progress) => progress,
                // A call that fails says nothing of what it read before the fault, and how much that is depends on the cut:
                // what counts is which responses were complete.
                Err(fault) => {
                    statuses.truncate(usize::try_from(complete).unwrap());
                    return (statuses, 0, complete, Some(fault));
                }
            };
            assert!(progress.consumed == bytes.len() || progress.complete);
            assert_eq!(reader.outstanding(), outstanding - usize::from(progress.complete));
            bytes = &bytes[progress.consumed..];
            statuses.extend(progress.head.map(|head| (head.status, head.keep_alive)));
            interim += u64::from(progress.interim);
            complete += u64::from(progress.complete);
        }
    }
    (statuses, interim, complete, None)
}

/// The primary's frames as text, data joined.
#[derive(Default)]
struct Told {
    log: Vec<String>,
    data: u64,
}

impl ResponseEvents for Told {
    fn response_head(&mut self, stream: u32, status: u16, fields: &[HeaderField<'_>], _: u64) {
        self.log.push(format!("#{stream} {status} {fields:?}"));
    }
    fn response_data(&mut self, _: u32, bytes: &[u8], _: u64) {
        self.data += bytes.len() as u64;
    }
    fn response_trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], _: u64) {
        self.log.push(format!("#{stream} trailers {fields:?}"));
    }
    fn response_end(&mut self, stream: u32, _: u64) {
        self.log.push(format!("#{stream} end"));
    }
    fn response_reset(&mut self, stream: u32, code: u32, _: u64) {
        self.log.push(format!("#{stream} reset {code}"));
    }
}

fn responses(stream: &[u8], cuts: &[usize]) -> (Vec<String>, u64, bool) {
    let mut responses = Responses::new(&Limits::default());
    let mut told = Told::default();
    for (_, bytes) in pieces(stream, cuts) {
        responses.data(bytes, 1, &mut told);
    }
    (told.log, told.data, responses.is_lost())
}
