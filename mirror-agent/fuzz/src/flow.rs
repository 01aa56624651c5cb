//! `flow`: the assembler against a map of its bytes, a stream however it travels, and the table under anything at all.

use mirror_common::record::tcp_flags;

use super::Choices;
use crate::flow::{FlowId, Limits, LostReason, Table};
use crate::packet::Segment;
use crate::testing::book::{Book, Conn, JOB, Log};
use crate::testing::naive::Model;
use crate::testing::voyage::Voyage;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    match choices.byte() % 3 {
        0 => model(&mut choices),
        1 => voyage(&mut choices),
        _ => noise(&mut choices),
    }
}

/// For one flow, which stays however long an input waits: a fuzzer makes many tables.
fn one_flow() -> Limits {
    const LONG: u64 = 1 << 60;
    let (idle_timeout_ns, half_closed_timeout_ns) = (LONG, LONG);
    let small = Limits { flows: 2, syns_remembered: 2, closed_remembered: 2, ..Limits::default() };
    Limits { idle_timeout_ns, half_closed_timeout_ns, ..small }
}

/// A table with its books; the law is checked after every step.
struct Rig {
    table: Table<Log>,
    book: Book,
}

impl Rig {
    fn new(limits: &Limits) -> Self {
        // Which connections collide must not change from run to run.
        Self { table: Table::new(Limits { hash_seed: 7, ..limits.clone() }), book: Book::default() }
    }

    fn feed(&mut self, segment: &Segment<'_>) -> String {
        if segment.direction == mirror_common::record::Direction::Request && !segment.payload.is_empty() {
            *self.book.given.entry(segment.job).or_default() += segment.payload.len() as u64;
        }
        self.table.segment(segment, &mut self.book);
        self.check()
    }

    fn tick(&mut self, now: u64) -> String {
        self.table.tick(now, &mut self.book);
        self.check()
    }

    fn close_all(&mut self, now: u64) -> String {
        self.table.close_all(now, &mut self.book);
        self.check()
    }

    fn check(&mut self) -> String {
        self.book.check();
        assert_eq!(self.book.open, self.table.len() as u64);
        self.book.said()
    }
}

/// One stream: payload around what is next, FIN, acknowledgements, and time.
fn model(choices: &mut Choices<'_>) {
    let (mut rig, mut model) = (Rig::new(&one_flow()), Model::default());
    let conn = Conn::new(1);
    let origin = u32::from(choices.word()).wrapping_sub(300);
    let with_fin = choices.byte() & 1 != 0;
    let (mut now, mut fill) = (0, 0_u8);
    rig.feed(&conn.syn(now, origin.wrapping_sub(1)));
    rig.feed(&conn.data(now, origin, b"!"));
    model.segment(0, b"!");
    while !choices.is_empty() {
        now += MS;
        let (what, ahead, len) =
            (choices.byte(), i64::from(choices.byte()), usize::from(choices.byte() % 24));
        let next = model.next().cast_signed();
        let pos = next + ahead % 52 - 12;
        let seq = origin.wrapping_add((pos.cast_unsigned() & 0xffff_ffff) as u32);
        match what % 8 {
            0..=3 => {
                // Every copy has other bytes, so that it shows which one won.
                fill = fill.wrapping_add(1);
                let (pos, seq) = if what % 8 == 3 {
                    (next, origin.wrapping_add((next.cast_unsigned() & 0xffff_ffff) as u32))
                } else {
                    (pos, seq)
                };
                let bytes = vec![fill; len + 1];
                rig.feed(&conn.data(now, seq, &bytes));
                model.segment(pos, &bytes);
            }
            4 if with_fin => {
                let bytes = vec![b'F'; len % 6];
                rig.feed(&conn.send(now, tcp_flags::FIN | tcp_flags::ACK, seq, &bytes));
                model.segment(pos, &bytes);
                model.finish(pos + i64::try_from(len % 6).unwrap());
            }
            5 | 6 => {
                rig.feed(&conn.reply(now, tcp_flags::ACK, 7_000, seq, 200));
                model.give_up_to(pos.max(0).cast_unsigned());
            }
            _ => {
                now += SECOND;
                rig.tick(now);
                while let Some(end) = model.hole_end() {
                    model.give_up_to(end);
                }
            }
        }
        assert_eq!(rig.book.duplicate(), model.duplicate);
        assert_eq!(rig.book.lost(LostReason::Late), model.late);
        assert_eq!(rig.book.lost(LostReason::OutOfWindow), model.beyond);
        assert_eq!(rig.book.buffered(), model.first_copy.len().cast_signed() as i64);
        let (_, log) = rig.table.state_mut(FlowId(0)).unwrap();
        assert_eq!(log.stream, model.told);
        assert_eq!(log.half_closed, model.fin == Some(model.next()));
    }
    rig.close_all(now);
    assert_eq!(rig.book.lost(LostReason::Closed), model.first_copy.len() as u64);
}

/// A stream cut, doubled, out of order and in part lost: every byte that arrived is delivered once, every other is a gap.
fn voyage(choices: &mut Choices<'_>) {
    let len = usize::from(choices.word() % 700) + 1;
    let cuts = (0..4).map(|_| usize::from(choices.byte()) + 1).collect();
    let mut voyage = Voyage { cuts, ..Voyage::default() };
    while !choices.is_empty() {
        let (what, at, to) = (choices.byte(), choices.byte().into(), choices.byte().into());
        match what % 4 {
            0 | 1 => voyage.swaps.push(at),
            2 => voyage.copies.push((at, to)),
            _ => voyage.drops.push(at),
        }
    }
    let text: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut arrived = vec![false; len];
    let mut rig = Rig::new(&one_flow());
    let conn = Conn::new(1);
    let origin = 0_u32.wrapping_sub(300);
    rig.feed(&conn.syn(0, origin.wrapping_sub(1)));
    for (time, part) in (1..).zip(voyage.parts(len)) {
        arrived[part.clone()].fill(true);
        rig.feed(&conn.data(time, origin.wrapping_add(part.start as u32), &text[part]));
    }
    rig.feed(&conn.head(SECOND / 2, 7_000, origin.wrapping_add(len as u32)));
    rig.close_all(SECOND / 2);
    let expected: Vec<_> = text.iter().zip(&arrived).map(|(&byte, &came)| came.then_some(byte)).collect();
    assert_eq!(rig.book.closed[0].1.stream, expected);
    assert_eq!(rig.book.gap_bytes, arrived.iter().filter(|&&came| !came).count() as u64);
    assert!(rig.book.lost.is_empty());
}

/// One segment of anything, and how long nothing came before it.
struct Noise {
    conn: Conn,
    response: bool,
    flags: u8,
    seq: u32,
    len: usize,
    status: u16,
    time: u64,
    tick: bool,
}

/// Any flags, numbers and times on few connections in a small table.
fn noise(choices: &mut Choices<'_>) {
    let limits = Limits {
        flows: u32::from(choices.byte() % 6) + 1,
        segments_out_of_order_per_flow: usize::from(choices.byte() % 6),
        out_of_order_bytes_per_flow: usize::from(choices.byte()) * 8,
        out_of_order_bytes_total: usize::from(choices.byte()) * 12,
        acknowledged_hole_ns: u64::from(choices.byte() & 1) * SECOND,
        window: 100_000,
        syns_remembered: 4,
        closed_remembered: 4,
        ..Limits::default()
    };
    let mut now = 0;
    let mut noises = Vec::new();
    while !choices.is_empty() && noises.len() < 400 {
        let (who, what, len) = (choices.byte(), choices.byte(), choices.byte());
        let ahead = i32::from(choices.word().cast_signed());
        now += match what >> 4 & 7 {
            0..=4 => u64::from(what >> 4) * MS / 4,
            5 => SECOND / 2,
            6 => 11 * SECOND,
            _ => 301 * SECOND,
        };
        let flags = match what & 15 {
            0..=7 => tcp_flags::ACK,
            8 => tcp_flags::SYN,
            9 => tcp_flags::SYN | tcp_flags::ACK,
            10 | 11 => tcp_flags::FIN | tcp_flags::ACK,
            12 => tcp_flags::RST,
            13 => tcp_flags::RST | tcp_flags::ACK,
            _ => len,
        };
        // Near the beginning, or as far away as a number goes.
        let ahead = if who & 0x40 == 0 { ahead % 400 } else { ahead * 65_000 };
        noises.push(Noise {
            conn: Conn { job: JOB + u16::from(who & 0x30 == 0x30), ..Conn::new(u32::from(who & 7)) },
            response: who & 8 != 0,
            flags,
            seq: 1_000_u32.wrapping_add_signed(ahead),
            len: usize::from(len % 120),
            // A patient table is for sources that bring no evidence (`dialog`).
            status: if limits.acknowledged_hole_ns == 0 { u16::from(len & 0x80) / 128 * 200 } else { 0 },
            time: now,
            tick: what & 0x80 != 0,
        });
    }
    let (words, refused) = make(&limits, &noises, &[]);
    if refused.iter().any(|refused| *refused) {
        // A segment that was refused for want of a place left everything as it was: without it the rest goes the same way.
        let (without, _) = make(&limits, &noises, &refused);
        for (at, refused) in refused.iter().enumerate() {
            assert!(*refused || words[at] == without[at], "{} became {}", words[at], without[at]);
        }
    }
}

/// What is said to each of the noises, and which of them were refused: no place in the table. Those of `left_out` do not come.
fn make(limits: &Limits, noises: &[Noise], left_out: &[bool]) -> (Vec<String>, Vec<bool>) {
    let mut rig = Rig::new(limits);
    let payload = [b'.'; 120];
    let (mut words, mut refused) = (Vec::new(), Vec::new());
    for (at, noise) in noises.iter().enumerate() {
        let Noise { conn, response, flags, seq, len, status, time, tick } = noise;
        let mut said = String::new();
        if !left_out.get(at).is_some_and(|left_out| *left_out) {
            said = if *response {
                rig.feed(&conn.reply(*time, *flags, 7_000, *seq, *status))
            } else {
                rig.feed(&conn.send(*time, *flags, *seq, &payload[..*len]))
            };
        }
        refused.push(said == format!("lost:{len}:table_full"));
        if *tick {
            said += &rig.tick(*time);
            assert!(rig.table.next_deadline().is_none_or(|deadline| deadline > *time));
            assert_eq!(rig.table.next_deadline().is_none(), rig.table.is_empty());
        }
        let memory = rig.table.out_of_order_memory();
        assert!(memory <= limits.out_of_order_bytes_total && rig.table.len() <= limits.flows as usize);
        words.push(said);
    }
    let end = noises.last().map_or(0, |noise| noise.time);
    words.push(rig.close_all(end));
    refused.push(false);
    assert!(rig.table.is_empty() && rig.table.next_deadline().is_none());
    assert_eq!(rig.table.out_of_order_memory(), 0);
    assert!(rig.book.buffered.values().all(|&bytes| bytes == 0));
    assert_eq!(rig.book.closed.len() as u64, rig.table.counters().opened);
    (words, refused)
}
