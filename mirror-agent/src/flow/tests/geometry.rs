//! One stream, one geometry each.

use super::*;

const FIN: u8 = tcp_flags::FIN | tcp_flags::ACK;
const RST: u8 = tcp_flags::RST;
const RST_ACK: u8 = tcp_flags::RST | tcp_flags::ACK;

#[test]
fn in_order_segments_are_delivered_from_the_record_itself() {
    let mut seen = Vec::new();
    let mut tell = Tell(|call: Call<'_>| match call {
        Call::Data(chunk) => seen.push(chunk.bytes.as_ptr()),
        other => panic!("{other:?}"),
    });
    let mut table = Table::new(Limits::default());
    let conn = Conn::new(1);
    let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
    let mut seq = 50;
    for payload in payloads {
        table.segment(&conn.data(1, seq, payload), &mut tell);
        seq += payload.len() as u32;
    }
    assert_eq!(seen, payloads.map(<[u8]>::as_ptr));
}

#[test]
fn a_segment_ahead_waits_until_the_hole_is_filled() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1008, b"ijkl")), "+4");
    assert_eq!(rig.feed(&conn.data(3, 1004, b"efgh")), "efgh -4 ijkl");
}

#[test]
fn a_chunk_keeps_the_time_and_the_ack_of_its_own_segment() {
    let mut facts = Vec::new();
    let mut tell = Tell(|call: Call<'_>| {
        if let Call::Data(chunk) = call {
            facts.push((chunk.pos, chunk.time, chunk.ack));
        }
    });
    let mut table = Table::new(Limits::default());
    let conn = Conn::new(1);
    let with_ack = |seg: Segment<'static>, ack| Segment { ack: Some(Seq(ack)), ..seg };
    table.segment(&with_ack(conn.data(10, 0, b"a"), 1), &mut tell);
    table.segment(&with_ack(conn.data(20, 2, b"c"), 2), &mut tell);
    table.segment(&with_ack(conn.data(30, 1, b"b"), 3), &mut tell);
    assert_eq!(facts, [(0, 10, Some(Seq(1))), (1, 30, Some(Seq(3))), (2, 20, Some(Seq(2)))]);
}

#[test]
fn a_retransmission_is_a_duplicate_wherever_it_begins_and_only_news_goes_on() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1000, b"abcd")), "dup:4");
    assert_eq!(rig.feed(&conn.data(3, 1002, b"cd")), "dup:2");
    assert_eq!(rig.feed(&conn.data(4, 1002, b"cdef")), "~ef dup:2");
    assert_eq!(rig.feed(&conn.data(5, 998, b"??abcdefgh")), "~gh dup:8");
}

#[test]
fn bytes_that_wait_win_over_a_later_copy() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1006, b"GH")), "+2");
    assert_eq!(rig.feed(&conn.data(3, 1005, b"fghi")), "+2 dup:2", "what is new of it waits beside");
    assert_eq!(rig.feed(&conn.data(4, 1004, b"efghijkl")), "e -1 f -2 GH -1 ~i ~jkl dup:4");
}

#[test]
fn a_segment_that_spans_several_waiting_pieces_fills_only_the_holes() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1006, b"G")), "+1");
    assert_eq!(rig.feed(&conn.data(2, 1008, b"I")), "+1");
    assert_eq!(rig.feed(&conn.data(2, 1005, b"fghij")), "+3 dup:2");
    assert_eq!(rig.feed(&conn.data(2, 1004, b"e")), "e -1 f -1 G -1 ~h -1 I -1 ~j");
}

#[test]
fn keep_alive_and_zero_window_probes_change_nothing_that_is_delivered() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1003, b"\0")), "dup:1", "keep-alive with a stale byte");
    assert_eq!(rig.feed(&conn.data(3, 1003, b"")), "", "keep-alive without");
    assert_eq!(rig.feed(&conn.data(4, 1004, b"e")), "e", "zero-window probe");
    assert_eq!(rig.feed(&conn.data(5, 1004, b"efgh")), "~fgh dup:1", "sent again when the window opened");
}

#[test]
fn a_stream_goes_on_across_the_wrap_of_its_sequence_number() {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    assert_eq!(rig.feed(&conn.syn(0, u32::MAX - 3)), "");
    assert_eq!(rig.feed(&conn.data(1, u32::MAX - 2, b"ab")), "open:syn ab");
    assert_eq!(rig.feed(&conn.data(1, 2, b"fg")), "+2");
    assert_eq!(rig.feed(&conn.data(1, u32::MAX, b"cde")), "cde -2 fg");
    assert_eq!(rig.feed(&conn.head(2, 7_000, 4)), "200@7");
}

#[test]
fn a_stream_of_more_than_four_gibibytes_keeps_counting() {
    let mut next = 0;
    let mut told = None;
    let mut tell = Tell(|call: Call<'_>| match call {
        Call::Data(chunk) => {
            assert_eq!(chunk.pos, next);
            next += chunk.bytes.len() as u64;
        }
        Call::Response(evidence) => told = Some(evidence.acked),
        other => panic!("{other:?}"),
    });
    let mut table = Table::new(Limits::default());
    let conn = Conn::new(1);
    let block = vec![b'x'; 1 << 20];
    let mut seq = 1004_u32;
    for _ in 0..4_200 {
        table.segment(&conn.data(1, seq, &block), &mut tell);
        seq = seq.wrapping_add(1 << 20);
    }
    table.segment(&conn.head(2, 1, seq), &mut tell);
    assert_eq!(told, Some(4_200 << 20));
}

#[test]
fn an_acknowledgement_closes_the_hole_and_then_the_response_is_told() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.data(2, 1008, b"ijkl")), "+4");
    assert_eq!(rig.feed(&conn.head(3, 7_000, 1012)), "gap:4:acked -4 ijkl 200@12");
    assert_eq!(rig.feed(&conn.data(4, 1012, b"m")), "m");
    assert_eq!(rig.feed(&conn.data(5, 1004, b"efgh")), "lost:4:late", "they were never delivered");
    assert_eq!(rig.feed(&conn.data(5, 1002, b"cdefghij")), "lost:4:late dup:4");
}

#[test]
fn an_acknowledgement_of_what_never_came_is_a_gap_up_to_it_and_no_further() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.head(3, 7_000, 1010)), "gap:6:acked 200@10");
    assert_eq!(rig.feed(&conn.data(4, 1014, b"op")), "+2");
    assert_eq!(rig.feed(&conn.head(5, 7_100, 1012)), "gap:2:acked 200@12", "the rest may still come");
    assert_eq!(rig.feed(&conn.data(6, 1012, b"mn")), "mn -2 op");
}

#[test]
fn an_acknowledgement_inside_a_waiting_piece_releases_all_of_it() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ijkl"));
    rig.feed(&conn.data(2, 1016, b"q"));
    assert_eq!(rig.feed(&conn.head(3, 7_000, 1010)), "gap:4:acked -4 ijkl 200@10");
}

#[test]
fn a_response_of_before_the_origin_says_nothing_and_one_at_the_origin_does() {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    assert_eq!(rig.feed(&conn.data(1, 1000, b"abcd")), "open:mid abcd");
    assert_eq!(rig.feed(&conn.head(2, 6_000, 990)), "");
    assert_eq!(rig.feed(&conn.head(3, 6_100, 1000)), "200@0");
    assert_eq!(rig.feed(&conn.head(4, 6_200, 1004)), "200@4");
}

#[test]
fn a_response_head_that_is_sent_again_is_told_once() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.reply(2, tcp_flags::ACK, 7_000, 1004, 100)), "100@4");
    assert_eq!(rig.feed(&conn.head(2, 7_025, 1004)), "200@4");
    assert_eq!(rig.feed(&conn.head(3, 7_025, 1004)), "", "a second tap");
    assert_eq!(rig.feed(&conn.reply(3, tcp_flags::ACK, 7_000, 1004, 100)), "", "retransmitted later");
    assert_eq!(rig.feed(&conn.head(3, 7_225, 1004)), "200@4", "the next of a pipeline");
}

#[test]
fn an_absurd_acknowledgement_changes_nothing() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ijkl"));
    let before = rig.table.streams();
    for ack in [1004 + (1 << 30) + 1, 1004_u32.wrapping_add(1 << 31), 1000_u32.wrapping_sub((16 << 20) + 1)] {
        assert_eq!(rig.feed(&conn.head(3, 7_000, ack)), "");
        assert_eq!(rig.feed(&conn.reply(3, FIN, 7_000, ack, 0)), "");
        assert_eq!(rig.feed(&conn.reply(3, RST_ACK, 7_000, ack, 0)), "");
    }
    assert_eq!(rig.table.streams(), before);
    assert_eq!((rig.table.counters().acks_ignored, rig.table.counters().resets_ignored), (6, 3));
}

#[test]
fn fin_ends_the_clients_direction_and_the_flow_waits_for_the_answer() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1004, b"ef")), "ef half");
    assert_eq!(rig.feed(&conn.send(2, FIN, 1004, b"ef")), "dup:2", "sent again");
    assert_eq!(rig.feed(&conn.head(3, 7_000, 1007)), "200@6", "the FIN is no byte");
    assert_eq!(rig.feed(&conn.head(3, 7_200, 1007)), "200@6");
    assert_eq!(rig.feed(&conn.reply(4, FIN, 7_400, 1007, 0)), "close:fin");
}

#[test]
fn fin_of_the_primary_first_closes_when_the_client_follows() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.reply(2, FIN, 7_000, 1004, 200)), "200@4");
    assert_eq!(rig.feed(&conn.send(3, FIN, 1004, b"")), "half close:fin");
}

#[test]
fn a_fin_out_of_order_is_applied_when_it_is_reached() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1008, b"ij")), "+2");
    assert_eq!(rig.feed(&conn.data(3, 1004, b"efgh")), "efgh -2 ij half");

    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1008, b"")), "");
    assert_eq!(rig.table.next_deadline(), Some(2 + SECOND), "a hole before a FIN has a deadline too");
    assert_eq!(rig.tick(2 + SECOND), "gap:4:timeout half");

    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1008, b"")), "");
    assert_eq!(rig.feed(&conn.reply(3, FIN, 7_000, 1009, 0)), "gap:4:acked half close:fin");
}

#[test]
fn bytes_beyond_the_fin_belong_to_nothing() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1006, b"gh")), "+2");
    assert_eq!(rig.feed(&conn.data(3, 1004, b"efghij")), "ef -2 gh dup:2 lost:2:out_of_window half");
    assert_eq!(rig.feed(&conn.data(3, 1008, b"ij")), "lost:2:out_of_window");
}

#[test]
fn a_fin_that_contradicts_what_came_is_ignored() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1002, b"")), "");
    assert_eq!(rig.feed(&conn.data(2, 1008, b"ij")), "+2");
    assert_eq!(rig.feed(&conn.send(2, FIN, 1006, b"")), "");
    assert_eq!(rig.feed(&conn.data(3, 1004, b"efgh")), "efgh -2 ij");
}

#[test]
fn a_reset_of_either_side_closes_and_what_waits_is_lost() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ij"));
    assert_eq!(rig.feed(&conn.send(3, RST, 1010, b"")), "gap:4:closed -2 lost:2:closed close:reset");

    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ij"));
    let told = rig.feed(&conn.reply(3, RST_ACK, 7_000, 1006, 0));
    assert_eq!(told, "gap:2:acked gap:2:closed -2 lost:2:closed close:reset");

    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.reply(3, RST, 7_000, 0, 0)), "close:reset", "at what the client acknowledged");
}

#[test]
fn a_reset_from_nowhere_is_ignored() {
    let (mut rig, conn) = opened();
    let before = rig.table.streams();
    let far = 1004 + (16 << 20) + 1;
    assert_eq!(rig.feed(&conn.send(3, RST, far, b"")), "");
    assert_eq!(rig.feed(&conn.send(3, RST, far, b"why")), "lost:3:out_of_window");
    assert_eq!(rig.feed(&conn.reply(3, RST, 7_000 + (16 << 20) + 1, 0, 0)), "");
    assert_eq!(rig.feed(&conn.reply(3, RST_ACK, 7_000, far, 0)), "");
    assert_eq!(rig.table.streams(), before);
    assert_eq!(rig.table.counters().resets_ignored, 4);
    assert_eq!(rig.feed(&conn.data(4, 1004, b"e")), "e");
}

#[test]
fn text_in_a_reset_is_not_data() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(3, RST, 1004, b"bye")), "lost:3:closed close:reset");
    assert_eq!(rig.feed(&conn.send(3, RST, 1004, b"bye")), "lost:3:closed");
}

#[test]
fn data_in_the_syn_comes_after_its_number() {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    assert_eq!(rig.feed(&conn.send(0, tcp_flags::SYN, 999, b"ab")), "open:syn ab");
    assert_eq!(rig.feed(&conn.send(1, tcp_flags::SYN, 999, b"ab")), "dup:2");
    assert_eq!(rig.feed(&conn.data(2, 1002, b"cd")), "cd");
}

#[test]
fn a_first_segment_out_of_order_waits_for_the_origin_of_its_syn() {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    rig.feed(&conn.syn(0, 999));
    assert_eq!(rig.feed(&conn.data(1, 1004, b"ef")), "open:syn +2");
    assert_eq!(rig.feed(&conn.data(2, 1000, b"abcd")), "abcd -2 ef");
}

#[test]
fn a_segment_too_far_ahead_is_lost_and_changes_nothing_that_was_there() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ij"));
    assert_eq!(rig.feed(&conn.data(3, 1004 + (16 << 20), b"x")), "+1", "the last place in the window");
    let far = 1004 + (16 << 20) + 1;
    assert_eq!(rig.feed(&conn.data(3, far, b"xyz")), "lost:3:out_of_window");
    assert_eq!(rig.feed(&conn.data(3, far, b"xyz")), "lost:3:out_of_window", "the same again is no proof");
    assert_eq!(rig.feed(&conn.data(4, 1004, b"efgh")), "efgh -2 ij");
}

/// What a table makes of some segments: the call, a position or sum, and bytes.
fn calls(segments: &[Segment<'_>]) -> Vec<(&'static str, u64, u64)> {
    let mut calls = Vec::new();
    let mut tell = Tell(|call: Call<'_>| {
        calls.push(match call {
            Call::Data(chunk) => ("data", chunk.pos, chunk.bytes.len() as u64),
            Call::Gap(gap) => ("gap", gap.pos, gap.len),
            Call::Response(evidence) => ("response", evidence.acked, 0),
            Call::Duplicate(bytes) => ("duplicate", 0, bytes),
            Call::Lost(bytes) => ("lost", 0, bytes),
        });
    });
    let mut table = Table::new(Limits::default());
    for seg in segments {
        table.segment(seg, &mut tell);
    }
    calls
}

#[test]
fn a_stream_that_moved_is_found_again_by_two_segments_in_a_row() {
    let conn = Conn::new(1);
    for ahead in [(16 << 20) + 1, 1 << 30, 3_u32 << 30, u32::MAX - (40 << 20)] {
        let there = 1004_u32.wrapping_add(ahead);
        let told = calls(&[
            conn.data(1, 1000, b"abcd"),
            conn.data(2, there, b"xy"),
            conn.data(3, there.wrapping_add(2), b"z"),
        ]);
        let gap = u64::from(ahead) + 2;
        assert_eq!(told, [("data", 0, 4), ("lost", 0, 2), ("gap", 4, gap), ("data", 4 + gap, 1)]);
    }
}

#[test]
fn a_stream_that_moved_is_found_again_by_a_segment_and_its_acknowledgement() {
    let conn = Conn::new(1);
    for ahead in [(16 << 20) + 1, 1 << 30, 3_u32 << 30, u32::MAX - (40 << 20)] {
        let there = 1004_u32.wrapping_add(ahead);
        let told = calls(&[
            conn.data(1, 1000, b"abcd"),
            conn.data(2, there, b"xy"),
            conn.head(3, 7_000, there.wrapping_add(2)),
            conn.data(4, there.wrapping_add(2), b"z"),
        ]);
        let gap = u64::from(ahead) + 2;
        let end = 4 + gap;
        let expected =
            [("data", 0, 4), ("lost", 0, 2), ("gap", 4, gap), ("response", end, 0), ("data", end, 1)];
        assert_eq!(told, expected);
    }
}

#[test]
fn a_segment_where_the_stream_was_left_is_proof_that_it_did_not_move() {
    for at in [1004, 1006] {
        let (mut rig, conn) = opened();
        assert_eq!(rig.feed(&conn.data(2, 900_000_000, b"xy")), "lost:2:out_of_window");
        rig.feed(&conn.data(3, at, b"e"));
        assert_eq!(rig.feed(&conn.data(4, 900_000_002, b"z")), "lost:1:out_of_window");
        assert_eq!(rig.table.counters().moved, 0);
    }
}

#[test]
fn a_hole_is_given_up_when_its_time_is_over_and_the_next_one_by_its_own_time() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(100 * MS, 1008, b"i"));
    rig.feed(&conn.data(200 * MS, 1010, b"k"));
    rig.feed(&conn.data(900 * MS, 1012, b"m"));
    assert_eq!(rig.table.next_deadline(), Some(1_100 * MS));
    assert_eq!(rig.tick(1_099 * MS), "");
    assert_eq!(rig.tick(1_100 * MS), "gap:4:timeout -1 i");
    assert_eq!(rig.table.next_deadline(), Some(1_200 * MS));
    assert_eq!(rig.feed(&conn.data(1_150 * MS, 1009, b"j")), "j -1 k");
    assert_eq!(rig.table.next_deadline(), Some(1_900 * MS));
    assert_eq!(rig.tick(10 * SECOND), "gap:1:timeout -1 m");
    assert_eq!(rig.book.gap_bytes, 5);
}

#[test]
fn what_goes_over_the_memory_of_a_flow_gives_up_its_first_hole() {
    let mut rig = Rig::new(Limits { segments_out_of_order_per_flow: 2, ..Limits::default() });
    let conn = Conn::new(1);
    rig.feed(&conn.data(1, 1000, b"a"));
    assert_eq!(rig.feed(&conn.data(1, 1002, b"c")), "+1");
    assert_eq!(rig.feed(&conn.data(1, 1004, b"e")), "+1");
    assert_eq!(rig.feed(&conn.data(1, 1006, b"g")), "gap:1:memory -1 c +1");

    // A segment that could never wait goes on at once.
    let mut rig = Rig::new(Limits { out_of_order_bytes_per_flow: 200, ..Limits::default() });
    rig.feed(&conn.data(1, 1000, b"a"));
    assert_eq!(rig.feed(&conn.data(1, 1002, &[b'x'; 73])), format!("gap:1:memory {}", "x".repeat(73)));
}

#[test]
fn bytes_of_one_each_in_reverse_order_are_put_right() {
    let (mut rig, conn) = opened();
    let text = b"efghijklmnopqrstuvwxyz";
    for (at, byte) in text.iter().enumerate().skip(1).rev() {
        assert_eq!(rig.feed(&conn.data(2, 1004 + at as u32, std::slice::from_ref(byte))), "+1");
    }
    rig.feed(&conn.data(2, 1004, b"e"));
    assert_eq!((rig.book.buffered(), rig.table.out_of_order_memory()), (0, 0));
    rig.close_all(3);
    let stream: Vec<u8> = rig.book.closed[0].1.stream.iter().map(|byte| byte.unwrap()).collect();
    assert_eq!(stream, b"abcdefghijklmnopqrstuvwxyz");
}
