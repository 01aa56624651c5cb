use proptest::prelude::*;

use super::{BadResponse, Eof, MAX_REPLY_HEAD_BYTES, ReplyReader};

/// What a reader says of `bytes` given in pieces of these lengths, one entry a response; and the end of the connection.
fn read(
    bytes: &[u8],
    to_head: &[bool],
    cuts: &[usize],
    skip: bool,
) -> Result<(Vec<String>, Eof), BadResponse> {
    let mut reader = ReplyReader::new();
    to_head.iter().for_each(|&head| reader.expect(head));
    let mut log = Vec::new();
    let mut text = String::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        let mut piece = piece;
        while !piece.is_empty() {
            if skip && let Some(n) = reader.bytes_to_discard() {
                let n = usize::try_from(n).unwrap_or(usize::MAX).min(piece.len());
                if reader.skip(n as u64) {
                    log.push(std::mem::take(&mut text));
                }
                piece = &piece[n..];
                continue;
            }
            let progress = reader.feed(piece)?;
            assert!(progress.consumed == piece.len() || progress.complete);
            piece = &piece[progress.consumed..];
            text += &"1xx ".repeat(progress.interim.into());
            if let Some(head) = progress.head {
                text += &format!("{}{}", head.status, if head.keep_alive { "" } else { " close" });
            }
            if progress.complete {
                log.push(std::mem::take(&mut text));
            }
        }
    }
    let eof = reader.eof();
    if eof == Eof::Complete || !text.is_empty() {
        log.push(text + "...");
    }
    Ok((log, eof))
}

fn check(bytes: impl AsRef<[u8]>, to_head: &[bool], log: &[&str], eof: Eof) {
    for cuts in [&[usize::MAX][..], &[1], &[2], &[7, 3]] {
        for skip in [false, true] {
            let (seen, end) = read(bytes.as_ref(), to_head, cuts, skip).unwrap();
            assert_eq!((seen.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), end), (log, eof));
        }
    }
}

#[test]
fn responses_of_all_framings_follow_each_other() {
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 \r\nContent-Length: 9\r\n\r\n\
         HTTP/1.1 304\r\n\r\nHTTP/1.1 500 x\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;a\r\nhello\r\n0\r\nT: a\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nHTTP/1.1 404 Not Found\ncontent-length:0\n\n",
        &[false, false, false, false, true, false],
        &["200", "204", "304", "500", "200", "404"],
        Eof::Idle,
    );
}

#[test]
fn interim_responses_are_passed_over() {
    check(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        &[false],
        &["1xx 1xx 200"],
        Eof::Idle,
    );
    let flood = "HTTP/1.1 100 \r\n\r\n".repeat(257);
    assert_eq!(read(flood.as_bytes(), &[false], &[usize::MAX], false), Err(BadResponse::Interim));
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    check("HTTP/1.1 200 OK\r\n\r\nhello", &[false], &["200 close..."], Eof::Complete);
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nhello",
        &[false],
        &["200 close..."],
        Eof::Complete,
    );
}

#[test]
fn whether_the_connection_lives_on_is_told_with_the_head() {
    let closes = |head: &str, closes| {
        check(format!("{head}\r\n\r\n"), &[false], &[if closes { "200 close" } else { "200" }], Eof::Idle);
    };
    closes("HTTP/1.1 200 \r\nContent-Length: 0", false);
    closes("HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: x, Close", true);
    closes("HTTP/1.0 200 \r\nContent-Length: 0", true);
    closes("HTTP/1.0 200 \r\nContent-Length: 0\r\nConnection: keep-alive", false);
    check("HTTP/1.1 101 \r\n\r\n", &[false], &["101 close"], Eof::Idle);
    check(
        "HTTP/1.1 200 \r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[false],
        &["200 close"],
        Eof::Idle,
    );
}

#[test]
fn a_response_that_breaks_off_is_cut() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", &[false], &["200..."], Eof::Cut);
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        &[false],
        &["200..."],
        Eof::Cut,
    );
    check("HTTP/1.1 200 OK\r\nConte", &[false], &[], Eof::Cut);
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[false, false], &["200"], Eof::Unanswered);
    check("", &[], &[], Eof::Idle);
}

#[test]
fn what_is_no_response_is_told_at_once() {
    for (bytes, why) in [
        ("HTTP/2 200 OK\r\n", BadResponse::StatusLine),
        ("SSH-2.0", BadResponse::StatusLine),
        ("HTTP/1.1 2000 OK\r\n", BadResponse::StatusLine),
        ("HTTP/1.1 099 OK\r\n", BadResponse::StatusLine),
        ("HTTP/1.1200", BadResponse::StatusLine),
        ("<html>", BadResponse::StatusLine),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadResponse::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BadResponse::ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", BadResponse::Chunk),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nextra", BadResponse::Unexpected),
    ] {
        for cuts in [&[usize::MAX][..], &[1], &[3]] {
            assert_eq!(read(bytes.as_bytes(), &[false], cuts, false), Err(why), "{bytes:?}");
        }
    }
    let long = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(MAX_REPLY_HEAD_BYTES / 6 + 1));
    for cuts in [usize::MAX, 1000] {
        assert_eq!(read(long.as_bytes(), &[false], &[cuts], false), Err(BadResponse::HeadTooLarge));
    }
}

#[test]
fn bodies_can_be_thrown_away_unseen() {
    let mut reader = ReplyReader::new();
    reader.expect(false);
    assert!(!reader.begun() && reader.bytes_to_discard().is_none());
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    assert_eq!(reader.feed(head).unwrap().consumed, head.len());
    assert_eq!(reader.bytes_to_discard(), Some(1_000_000));
    assert!(!reader.skip(999_999) && reader.begun());
    assert!(reader.skip(1));
    assert_eq!((reader.outstanding(), reader.begun()), (0, false));
    reader.expect(false);
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx").unwrap();
    assert_eq!(reader.bytes_to_discard(), Some(254));
    assert!(!reader.skip(254));
    assert_eq!(reader.bytes_to_discard(), None);
    assert!(reader.feed(b"\r\n0\r\n\r\n").unwrap().complete);
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        bytes in prop::collection::vec(prop_oneof![
            Just(b"HTTP/1.1 200 OK\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"Content-Length: 3\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked\r\n".to_vec()), Just(b"3\r\nabc\r\n".to_vec()), Just(b"0\r\n\r\n".to_vec()),
            Just(b"abc".to_vec()), Just(b"HTTP/1.1 100 C\r\n\r\n".to_vec()), prop::collection::vec(any::<u8>(), 1..5),
        ], 0..12),
        cuts in prop::collection::vec(1..20usize, 1..8),
        to_head in prop::collection::vec(any::<bool>(), 0..4),
    ) {
        let bytes = bytes.concat();
        let whole = read(&bytes, &to_head, &[usize::MAX], false);
        prop_assert_eq!(&whole, &read(&bytes, &to_head, &cuts, false));
        prop_assert_eq!(&whole, &read(&bytes, &to_head, &cuts, true));
        prop_assert_eq!(&whole, &read(&bytes, &to_head, &[1], true));
    }
}
