//! Whole connections, many at a time, on few ports that are used again and again.

use proptest::prelude::*;

use super::*;

const FIN: u8 = tcp_flags::FIN | tcp_flags::ACK;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientFirst,
    PrimaryFirst,
    ClientReset,
    PrimaryReset,
    FinOnLastData,
}

#[derive(Clone, Debug)]
struct Talk {
    port: u32,
    /// Distance of its first sequence number from the end of the connection before it on the port.
    isn_ahead: u32,
    /// Lengths of its requests; each is answered before the next.
    requests: Vec<usize>,
    end: End,
}

fn talk() -> impl Strategy<Value = Talk> {
    let end = prop_oneof![
        Just(End::ClientFirst),
        Just(End::PrimaryFirst),
        Just(End::ClientReset),
        Just(End::PrimaryReset),
        Just(End::FinOnLastData),
    ];
    // Linux numbers follow a clock: the next connection of a port begins a little after the end of the last one.
    let isn_ahead = prop_oneof![1_u32..2_000_000, any::<u32>()];
    (0_u32..6, isn_ahead, prop::collection::vec(1_usize..50, 1..5), end)
        .prop_map(|(port, isn_ahead, requests, end)| Talk { port, isn_ahead, requests, end })
}

static TEXT: [u8; 64] = *b"GET /0123456789/0123456789/0123456789/0123456789/0123456789/abcd";

/// The segments of a connection as the tap sees them, and the sequence number after its last one.
fn segments(talk: &Talk, isn: u32) -> (Vec<Segment<'static>>, u32) {
    let conn = Conn::new(talk.port);
    let mut out =
        vec![conn.syn(0, isn), conn.reply(0, tcp_flags::SYN | tcp_flags::ACK, 1, isn.wrapping_add(1), 0)];
    let mut seq = isn.wrapping_add(1);
    let mut answer = 2_u32;
    for (at, &len) in talk.requests.iter().enumerate() {
        let fin = matches!(talk.end, End::FinOnLastData) && at + 1 == talk.requests.len();
        let flags = if fin { FIN } else { tcp_flags::ACK };
        out.push(Segment { ack: Some(Seq(answer)), ..conn.send(0, flags, seq, &TEXT[..len]) });
        seq = seq.wrapping_add(len as u32 + u32::from(fin));
        out.push(conn.head(0, answer, seq));
        answer += 100;
    }
    match talk.end {
        End::ClientFirst => {
            out.push(conn.send(0, FIN, seq, b""));
            seq = seq.wrapping_add(1);
            out.push(conn.reply(0, FIN, answer, seq, 0));
        }
        End::PrimaryFirst => {
            out.push(conn.reply(0, FIN, answer, seq, 0));
            out.push(conn.send(0, FIN, seq, b""));
            seq = seq.wrapping_add(1);
        }
        End::ClientReset => out.push(conn.send(0, tcp_flags::RST, seq, b"")),
        End::PrimaryReset => out.push(conn.reply(0, tcp_flags::RST | tcp_flags::ACK, answer, seq, 0)),
        End::FinOnLastData => out.push(conn.reply(0, FIN, answer, seq, 0)),
    }
    (out, seq)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_connection_is_one_flow_with_its_own_bytes_and_answers(
        talks in prop::collection::vec(talk(), 1..25),
        order in prop::collection::vec(0_usize..6, 0..300),
        two_taps in any::<bool>(),
        isn in any::<u32>(),
    ) {
        // One queue of segments for each port; the order says which port is next.
        let mut queues = vec![std::collections::VecDeque::new(); 6];
        let mut next_isn = [isn; 6];
        let mut expected = Vec::new();
        let mut bytes = 0;
        for talk in &talks {
            let port = talk.port as usize;
            let isn = next_isn[port].wrapping_add(talk.isn_ahead);
            let (segments, end) = segments(talk, isn);
            next_isn[port] = end;
            queues[port].extend(segments);
            let stream: Vec<_> = talk.requests.iter().flat_map(|&len| &TEXT[..len]).map(|&byte| Some(byte)).collect();
            bytes += stream.len() as u64;
            expected.push((Conn::new(talk.port).key, isn.wrapping_add(1), stream));
        }
        let mut rig = Rig::new(Limits::default());
        let mut heads = 0;
        let rest = (0..6).flat_map(|port| std::iter::repeat_n(port, 400));
        for (time, port) in (1..).zip(order.into_iter().chain(rest)) {
            let Some(seg) = queues[port].pop_front() else { continue };
            for _ in 0..if two_taps { 2 } else { 1 } {
                heads += rig.feed(&Segment { time, ..seg }).matches("200@").count();
            }
        }
        prop_assert!(rig.table.is_empty(), "every connection ended");
        prop_assert_eq!(heads, talks.iter().map(|talk| talk.requests.len()).sum::<usize>());
        prop_assert_eq!(rig.book.duplicate(), if two_taps { bytes } else { 0 });
        prop_assert!(rig.book.lost.is_empty() && rig.book.gap_bytes == 0);
        for (info, _, why) in &rig.book.closed {
            prop_assert!(info.start == Start::Syn && matches!(why, Close::Fin | Close::Reset), "{:?} {:?}", info, why);
        }
        let mut seen: Vec<_> =
            rig.book.closed.into_iter().map(|(info, log, _)| (info.key, info.origin.0, log.stream)).collect();
        seen.sort();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }
}
