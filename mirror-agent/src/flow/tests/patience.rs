//! A table that reads a file: segments may come behind the acknowledgements they caused.

use super::*;

const FIN: u8 = tcp_flags::FIN | tcp_flags::ACK;
const PATIENCE: u64 = 3 * SECOND;

fn patient() -> Limits {
    Limits { acknowledged_hole_ns: PATIENCE, hole_timeout_ns: 60 * SECOND, ..Limits::default() }
}

/// As [`opened`], in a patient table.
fn open() -> (Rig, Conn) {
    let mut rig = Rig::new(patient());
    let conn = Conn::new(1);
    assert_eq!(rig.feed(&conn.syn(0, 999)), "");
    assert_eq!(rig.feed(&conn.data(1, 1000, b"abcd")), "open:syn abcd");
    (rig, conn)
}

#[test]
fn a_segment_behind_its_acknowledgement_is_delivered() {
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.reply(2, tcp_flags::ACK, 7_000, 1_008, 0)), "");
    assert_eq!(rig.feed(&conn.data(3, 1_008, b"ijkl")), "+4");
    assert_eq!(rig.feed(&conn.data(4, 1_004, b"efgh")), "efgh -4 ijkl");
    assert_eq!(rig.table.next_deadline().map(|at| at > 100 * SECOND), Some(true), "no hole is left");
}

#[test]
fn an_acknowledged_hole_is_given_up_in_time_one_without_later() {
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.reply(SECOND, tcp_flags::ACK, 7_000, 1_008, 0)), "");
    assert_eq!(rig.tick(SECOND + PATIENCE - 1), "");
    assert_eq!(rig.tick(SECOND + PATIENCE), "gap:4:timeout");
    assert_eq!(rig.feed(&conn.data(5 * SECOND, 1_004, b"efgh")), "lost:4:late");
    assert_eq!(rig.feed(&conn.data(5 * SECOND, 1_012, b"mnop")), "+4");
    assert_eq!(rig.tick(60 * SECOND), "");
    assert_eq!(rig.tick(65 * SECOND), "gap:4:timeout -4 mnop");
}

#[test]
fn an_acknowledgement_brings_the_end_of_a_hole_forward() {
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.data(SECOND, 1_008, b"ijkl")), "+4");
    assert_eq!(rig.table.next_deadline(), Some(61 * SECOND));
    assert_eq!(rig.feed(&conn.reply(2 * SECOND, tcp_flags::ACK, 7_000, 1_012, 0)), "");
    assert_eq!(rig.table.next_deadline(), Some(5 * SECOND));
    assert_eq!(rig.tick(5 * SECOND), "gap:4:timeout -4 ijkl");
}

#[test]
fn a_file_that_goes_back_in_time_waits_as_long_for_a_hole() {
    let (mut rig, conn) = open();
    let other = Conn::new(2);
    assert_eq!(rig.feed(&other.syn(100 * SECOND, 999)), "");
    assert_eq!(rig.feed(&conn.data(2, 1_008, b"ijkl")), "+4");
    assert_eq!(rig.table.next_deadline(), Some(160 * SECOND));
    assert_eq!(rig.feed(&conn.reply(3, tcp_flags::ACK, 7_000, 1_012, 0)), "");
    assert_eq!(rig.table.next_deadline(), Some(100 * SECOND + PATIENCE));
    assert_eq!(rig.tick(100 * SECOND), "");
    assert_eq!(rig.feed(&conn.data(4, 1_004, b"efgh")), "efgh -4 ijkl");
}

#[test]
fn a_reset_waits_for_holes_and_for_nothing_else() {
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.reply(2, tcp_flags::ACK, 7_000, 1_008, 0)), "");
    assert_eq!(rig.feed(&conn.reply(3, tcp_flags::RST | tcp_flags::ACK, 7_000, 1_008, 0)), "");
    assert_eq!(rig.feed(&conn.data(4, 1_004, b"efgh")), "efgh close:reset");
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.send(2, tcp_flags::RST, 1_004, b"")), "close:reset");
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.data(2, 1_008, b"ijkl")), "+4");
    assert_eq!(rig.feed(&conn.send(3, tcp_flags::RST, 1_012, b"")), "");
    assert_eq!(rig.tick(61 * SECOND), "gap:4:timeout -4 ijkl close:reset");
}

#[test]
fn a_fin_that_stands_behind_its_acknowledgement_is_no_hole() {
    let (mut rig, conn) = open();
    // The acknowledgement counts the FIN, and stands before it.
    assert_eq!(rig.feed(&conn.reply(2, tcp_flags::ACK, 7_000, 1_005, 0)), "");
    assert_eq!(rig.feed(&conn.send(3, FIN, 1_004, b"")), "half");
    assert_eq!(rig.feed(&conn.reply(4, FIN, 7_000, 1_005, 0)), "close:fin");
    assert_eq!(rig.book.gap_bytes, 0);
}

#[test]
fn what_waits_behind_holes_is_delivered_at_the_end() {
    let (mut rig, conn) = open();
    assert_eq!(rig.feed(&conn.data(2, 1_008, b"ijkl")), "+4");
    assert_eq!(rig.feed(&conn.send(3, FIN, 1_016, b"")), "");
    assert_eq!(rig.close_all(4), "gap:4:closed -4 ijkl gap:4:closed half close:shutdown");
}

#[test]
fn a_cut_segment_is_a_hole_at_once() {
    for limits in [patient(), Limits::default()] {
        let mut rig = Rig::new(limits);
        let conn = Conn::new(1);
        rig.feed(&conn.syn(0, 999));
        assert_eq!(rig.feed(&conn.data(1, 1_000, b"abcd")), "open:syn abcd");
        let cut = Segment { len: 10, ..conn.data(2, 1_004, b"ef") };
        assert_eq!(rig.feed(&cut), "ef gap:8:cut");
        assert_eq!(rig.feed(&conn.data(3, 1_014, b"op")), "op");
        let fin = Segment { len: 6, ..conn.send(4, FIN, 1_016, b"qr") };
        assert_eq!(rig.feed(&fin), "qr gap:4:cut half");
    }
}

/// Positions of the first bytes told, and all bytes in the order told.
fn begun(segments: &[Segment<'_>], ticks: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut gaps = false;
    let mut tell = Tell(|call: Call<'_>| match call {
        Call::Data(chunk) => bytes.extend_from_slice(chunk.bytes),
        Call::Gap(_) => gaps = true,
        _ => {}
    });
    let mut table = Table::new(patient());
    for segment in segments {
        table.segment(segment, &mut tell);
        table.check();
    }
    table.tick(ticks, &mut tell);
    table.check();
    (bytes, gaps)
}

#[test]
fn a_flow_that_was_under_way_waits_for_what_stands_before_its_first_bytes() {
    let conn = Conn::new(1);
    let (later, first) = (conn.data(1, 1_004, b"efgh"), conn.data(2, 1_000, b"abcd"));
    assert_eq!(begun(&[later, first], 1).0, b"", "nobody knows yet where it begins");
    assert_eq!(begun(&[later, first], 2 * PATIENCE), (b"abcdefgh".to_vec(), false));
    // What the primary acknowledged before is not missing.
    let acked = conn.reply(3, tcp_flags::ACK, 7_000, 990, 0);
    assert_eq!(begun(&[acked, later, acked, first], 2 * PATIENCE), (b"abcdefgh".to_vec(), false));
    // After 64 segments it is not waited for any longer.
    let many: Vec<_> = (0..64).map(|at| conn.data(1, 1_004 + at * 4, b"efgh")).collect();
    assert_eq!((begun(&many[..63], 1).0.len(), begun(&many, 1).0.len()), (0, 256));
    // The SYN says where it begins.
    assert_eq!(begun(&[later, first, conn.syn(3, 999)], 3).0, b"abcdefgh");
    assert_eq!(begun(&[later, conn.syn(3, 999)], 3).0, b"", "four bytes are missing");
}
