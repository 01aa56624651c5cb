//! Who has a place in the table, for how long, and what comes after.

use super::super::table::recent_bytes;
use super::*;

const FIN: u8 = tcp_flags::FIN | tcp_flags::ACK;
const RST: u8 = tcp_flags::RST;
const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;

/// Opens `conn` at `time` and has the primary answer its first request of 4 bytes.
fn prove(rig: &mut Rig, conn: &Conn, time: u64) {
    rig.feed(&conn.data(time, 1000, b"abcd"));
    assert_eq!(rig.feed(&conn.head(time, 7_000, 1004)), "200@4");
}

#[test]
fn without_payload_nobody_gets_a_place() {
    let mut rig = Rig::new(Limits::default());
    let conn = Conn::new(1);
    for seg in
        [conn.syn(0, 999), conn.data(1, 1000, b""), conn.send(2, FIN, 1000, b""), conn.head(3, 1, 1000)]
    {
        assert_eq!(rig.feed(&seg), "");
    }
    assert!(rig.table.is_empty());
}

#[test]
fn a_million_forged_syns_lose_no_flow_and_take_no_memory() {
    let mut rig = Rig::new(Limits { flows: 64, ..Limits::default() });
    let known: Vec<_> = (0..64).map(Conn::new).collect();
    for conn in &known {
        prove(&mut rig, conn, 1);
    }
    for number in 0..1_000_000 {
        let conn = Conn::new(1_000 + number);
        rig.pour(&conn.syn(2, number));
    }
    // Forged for the known connections too, with numbers of every kind.
    for number in 0..64_000_u32 {
        let conn = &known[number as usize % 64];
        rig.pour(&conn.syn(3, number.wrapping_mul(2_654_435_761)));
    }
    for conn in &known {
        assert_eq!(rig.feed(&conn.data(4, 1004, b"efgh")), "efgh");
        assert_eq!(rig.feed(&conn.head(5, 7_200, 1008)), "200@8");
    }
    assert_eq!((rig.table.len(), rig.book.closed.len()), (64, 0));
    assert_eq!(rig.table.counters().syns, 1_000_000);
    assert!(rig.table.counters().syns_overwritten > 990_000);
}

#[test]
fn a_flood_of_forged_data_only_drives_out_other_flows_without_proof() {
    let mut rig = Rig::new(Limits { flows: 64, ..Limits::default() });
    let known: Vec<_> = (0..32).map(Conn::new).collect();
    for conn in &known {
        prove(&mut rig, conn, 1);
    }
    for number in 0..10_000 {
        rig.pour(&Conn::new(1_000 + number).data(2, number, b"x"));
    }
    rig.check();
    for conn in &known {
        assert_eq!(rig.feed(&conn.data(4, 1004, b"efgh")), "efgh");
    }
    assert_eq!(rig.table.counters().evicted_unproven, 10_000 - 32);
    assert_eq!(rig.table.counters().evicted_quiet + rig.table.counters().refused, 0);
}

#[test]
fn a_full_table_lets_the_oldest_without_proof_go_first() {
    let mut rig = Rig::new(Limits { flows: 3, ..Limits::default() });
    prove(&mut rig, &Conn::new(1), 1);
    rig.feed(&Conn::new(2).data(2, 1, b"2"));
    rig.feed(&Conn::new(3).data(3, 1, b"3"));
    // Moved to the end of its list: active later than the third.
    rig.feed(&Conn::new(2).data(SECOND, 2, b"2"));
    assert_eq!(rig.feed(&Conn::new(4).data(SECOND, 1, b"4")), "close:evicted open:mid 4");
    assert_eq!(rig.book.closed[0].0.key, Conn::new(3).key);
}

#[test]
fn a_table_full_of_proven_flows_refuses_until_one_was_quiet_long_enough() {
    let mut rig = Rig::new(Limits { flows: 2, ..Limits::default() });
    prove(&mut rig, &Conn::new(1), 0);
    prove(&mut rig, &Conn::new(2), SECOND);
    let before = rig.table.streams();
    assert_eq!(rig.feed(&Conn::new(3).data(9 * SECOND, 1, b"xyz")), "lost:3:table_full");
    assert_eq!(rig.table.streams(), before);
    assert_eq!(rig.feed(&Conn::new(3).data(10 * SECOND, 4, b"uvw")), "close:evicted open:mid uvw");
    assert_eq!(rig.book.closed[0].0.key, Conn::new(1).key);
    assert_eq!((rig.table.counters().refused, rig.table.counters().evicted_quiet), (1, 1));
}

#[test]
fn a_flow_that_was_evicted_goes_on_where_it_was_and_repeats_nothing() {
    let mut rig = Rig::new(Limits { flows: 1, ..Limits::default() });
    rig.feed(&Conn::new(1).data(1, 1000, b"abcd"));
    rig.feed(&Conn::new(2).data(2, 1000, b"x"));
    assert_eq!(rig.feed(&Conn::new(1).data(3, 1000, b"abcd")), "dup:4");
    assert_eq!(rig.feed(&Conn::new(1).data(4, 1002, b"cdef")), "close:evicted open:mid ~ef dup:2");
}

#[test]
fn port_reuse_after_a_syn_that_the_primary_accepted_replaces_the_flow() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.syn(2, 50_000)), "");
    assert_eq!(rig.feed(&conn.reply(3, SYN_ACK, 1, 50_001, 0)), "close:replaced");
    assert_eq!(rig.feed(&conn.data(4, 50_001, b"new")), "open:syn new");
}

#[test]
fn port_reuse_is_seen_by_the_first_data_after_its_syn() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.data(2, 1008, b"ij"));
    assert_eq!(rig.feed(&conn.syn(2, 50_000)), "");
    let told = rig.feed(&conn.data(4, 50_001, b"new"));
    assert_eq!(told, "gap:4:closed -2 lost:2:closed close:replaced open:syn new");

    // Out of order, and too far away to be the old connection's.
    let (mut rig, conn) = opened();
    rig.feed(&conn.syn(2, 900_000_000));
    assert_eq!(rig.feed(&conn.data(4, 900_000_011, b"k")), "close:replaced open:syn +1");
    assert_eq!(rig.feed(&conn.data(4, 900_000_001, b"0123456789")), "0123456789 -1 k");
}

#[test]
fn port_reuse_after_either_fin_needs_no_second_witness() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1004, b"")), "half");
    assert_eq!(rig.feed(&conn.syn(3, 50_000)), "close:replaced");
    assert_eq!(rig.feed(&conn.data(4, 50_003, b"w")), "open:syn +1");
}

#[test]
fn a_forged_syn_is_forgotten_when_the_primary_answers_for_the_old_connection() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.syn(2, 1_500)), "");
    assert_eq!(rig.feed(&conn.send(2, tcp_flags::SYN, 1_500, b"hi")), "lost:2:out_of_window");
    assert_eq!(rig.feed(&conn.head(3, 7_000, 1004)), "200@4");
    assert_eq!(rig.feed(&conn.data(4, 1501, b"and on")), "+6", "not the data of the forged SYN");
}

#[test]
fn a_syn_sent_again_changes_nothing() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.syn(2, 999)), "");
    assert_eq!(rig.feed(&conn.data(3, 1004, b"e")), "e");
}

#[test]
fn what_comes_after_a_fin_is_a_duplicate_and_opens_no_ghost() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.send(2, FIN, 1004, b"ef"));
    assert_eq!(rig.feed(&conn.reply(3, FIN, 7_000, 1007, 0)), "close:fin");
    assert_eq!(rig.feed(&conn.data(4, 1000, b"abcd")), "dup:4");
    assert_eq!(rig.feed(&conn.send(5, FIN, 1004, b"ef")), "dup:2");
    assert_eq!(rig.feed(&conn.data(6, 1004, b"efgh")), "dup:2 lost:2:closed");
    assert_eq!(rig.feed(&conn.data(7, 1007, b"new")), "open:mid new", "a connection whose SYN was missed");
}

#[test]
fn a_closed_flow_is_forgotten_after_a_while() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.send(2, FIN, 1004, b""));
    rig.feed(&conn.reply(3, FIN, 7_000, 1005, 0));
    assert_eq!(rig.feed(&conn.data(3 + 10 * SECOND - 1, 1000, b"abcd")), "dup:4");
    assert_eq!(rig.feed(&conn.data(3 + 10 * SECOND, 1000, b"abcd")), "open:mid abcd");
}

#[test]
fn the_rest_in_flight_of_a_reset_flow_is_lost_and_opens_no_ghost() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, RST, 1004, b"")), "close:reset");
    assert_eq!(rig.feed(&conn.data(3, 1002, b"cdef")), "dup:2 lost:2:closed");
    assert_eq!(rig.feed(&conn.data(3, 1008, b"ij")), "lost:2:closed");
    assert_eq!(rig.feed(&conn.data(2 * SECOND, 1010, b"kl")), "open:mid kl", "a forged reset heals");
}

#[test]
fn a_new_connection_right_after_a_close_is_not_taken_for_its_rest() {
    let (mut rig, conn) = opened();
    rig.feed(&conn.send(2, RST, 1004, b""));
    rig.feed(&conn.syn(3, 1_200));
    assert_eq!(rig.feed(&conn.data(4, 1_201, b"new")), "open:syn new");
}

#[test]
fn a_quiet_flow_is_closed_when_its_time_is_over() {
    let (mut rig, _) = opened();
    let deadline = rig.table.next_deadline().unwrap();
    assert!((300 * SECOND - 100 * MS..=300 * SECOND + 1).contains(&deadline));
    assert_eq!(rig.tick(deadline - 1), "");
    assert_eq!(rig.tick(deadline), "close:idle");
    assert_eq!(rig.table.next_deadline(), None);
}

#[test]
fn an_active_flow_is_not_closed() {
    let (mut rig, conn) = opened();
    for at in 1..20 {
        let now = at * 100 * SECOND;
        assert_eq!(rig.feed(&conn.data(now, 1003 + at as u32, b".")), ".");
        assert_eq!(rig.tick(now + 99 * SECOND), "");
    }
}

#[test]
fn a_half_closed_flow_waits_for_the_answer_but_not_for_ever() {
    let (mut rig, conn) = opened();
    assert_eq!(rig.feed(&conn.send(2, FIN, 1004, b"")), "half");
    assert_eq!(rig.feed(&conn.head(20 * SECOND, 7_000, 1005)), "200@4");
    assert_eq!(rig.tick(49 * SECOND), "");
    assert_eq!(rig.tick(50 * SECOND), "close:fin");

    let (mut rig, conn) = opened();
    rig.feed(&conn.reply(2, FIN, 7_000, 1004, 0));
    assert_eq!(rig.tick(30 * SECOND + 2), "close:idle", "the client never said it was done");
}

#[test]
fn one_tick_does_bounded_work_and_says_that_more_is_due() {
    let mut rig = Rig::new(Limits::default());
    for number in 0..2_500 {
        rig.pour(&Conn::new(number).data(1, 1, b"x"));
    }
    let now = 1_000 * SECOND;
    for left in [1_476, 452, 0] {
        assert!(rig.table.next_deadline().is_some_and(|deadline| deadline <= now));
        rig.tick(now);
        assert_eq!(rig.table.len(), left);
    }
    assert_eq!(rig.table.next_deadline(), None);
}

#[test]
fn when_the_table_is_out_of_memory_the_oldest_hole_goes() {
    // Room for three pieces of 100 bytes.
    let mut rig = Rig::new(Limits { out_of_order_bytes_total: 3 * 228, ..Limits::default() });
    for number in 1..=4 {
        rig.feed(&Conn::new(number).data(1, 1000, b"a"));
    }
    let piece = [b'x'; 100];
    let text = "x".repeat(100);
    assert_eq!(rig.feed(&Conn::new(2).data(2, 1002, &piece)), "+100");
    assert_eq!(rig.feed(&Conn::new(1).data(3, 1002, &piece)), "+100");
    assert_eq!(rig.feed(&Conn::new(3).data(4, 1002, &piece)), "+100");
    let told = rig.feed(&Conn::new(4).data(5, 1002, &piece));
    assert_eq!(told, format!("gap:1:memory -100 {text} +100"));
    assert_eq!(rig.feed(&Conn::new(2).data(6, 1102, b"b")), "b", "the second connection's was the oldest");
}

#[test]
fn a_connection_that_changes_its_job_goes_on_in_the_new_one_and_both_books_balance() {
    let (mut rig, conn) = opened();
    let other = Conn { job: JOB + 1, ..conn };
    assert_eq!(rig.feed(&other.data(2, 1000, b"abcd")), "dup:4", "nothing new, no change");
    rig.feed(&conn.data(2, 1008, b"ij"));
    let told = rig.feed(&other.data(3, 1002, b"cdefgh"));
    assert_eq!(told, "gap:4:closed -2 lost:2:closed close:replaced open:mid ~efgh dup:2");
    assert_eq!(rig.feed(&other.data(4, 1008, b"ij")), "ij");
}

#[test]
fn connections_with_one_hash_are_told_apart() {
    let mut rig = Rig::new(Limits::default());
    let conns: Vec<_> = (0..50).map(|number| Conn { hash: 42, ..Conn::new(number) }).collect();
    for conn in &conns {
        rig.feed(&conn.data(1, 1000, b"a"));
    }
    for conn in &conns {
        assert_eq!(rig.feed(&conn.data(2, 1001, b"b")), "b");
    }
    assert_eq!(rig.table.len(), 50);
}

#[test]
fn the_seed_of_the_hash_changes_no_result() {
    let run = |hash_seed| {
        let mut rig = Rig::new(Limits { flows: 5, hash_seed, ..Limits::default() });
        let told: Vec<_> =
            (0..200).map(|at: u32| rig.feed(&Conn::new(at * 7 % 11).data(1, at * 3, b"abcd"))).collect();
        (told, rig.close_all(2))
    };
    // Memories of one place per hash may collide otherwise, so few connections.
    assert_eq!(run(0), run(0x0123_4567_89ab_cdef));
}

#[test]
fn state_is_found_by_id_until_the_flow_is_closed() {
    let (mut rig, conn) = opened();
    let (info, log) = rig.table.state_mut(FlowId(0)).unwrap();
    assert_eq!((info.key, info.origin, info.start), (conn.key, Seq(1000), Start::Syn));
    assert_eq!(log.next, 4);
    assert!(rig.table.state_mut(FlowId(1)).is_none());
    assert_eq!(rig.close_all(2), "close:shutdown");
    assert!(rig.table.state_mut(FlowId(0)).is_none());
}

#[test]
fn limits_follow_a_budget_down_to_a_floor() {
    let roomy = Limits::for_memory(1 << 30, 200);
    assert_eq!(roomy, Limits::default());
    for budget in [0, 1 << 20, 4 << 20, 16 << 20, 32 << 20] {
        let limits = Limits::for_memory(budget, 500);
        let flows = limits.flows as usize * (Table::<Log>::FLOW_BYTES + 500);
        let most = flows + limits.out_of_order_bytes_total + recent_bytes(&limits);
        assert!(most <= budget.max(600 << 10), "{budget}: {most} by {limits:?}");
        assert!(limits.flows >= 64 && limits.out_of_order_bytes_per_flow > 64 << 10);
    }
}

#[test]
fn the_memory_that_the_documentation_names_is_the_memory_of_the_types() {
    assert_eq!(Table::<()>::FLOW_BYTES, 208);
    let defaults = recent_bytes(&Limits::default());
    assert!((1 << 20..=(16_384 + 4_096) * 64).contains(&defaults), "{defaults}");
    // On the heap of a flow that had a hole: itself and the holes it remembers.
    let hole = size_of::<super::super::reorder::Reorder>() + 4 * size_of::<std::ops::Range<u64>>();
    assert!(hole <= 200, "{hole}");
}
