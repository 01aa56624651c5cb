//! The assembler against a map from position to byte, and the table under anything at all.

use proptest::prelude::*;

use super::super::reorder;
use super::super::stream::{Arrival, Room, Stream, signed};
use super::*;
use crate::testing::naive::{self, Model};
use crate::testing::voyage::Voyage;

// The model knows nothing of the room, so it has the number for itself.
const _: () = assert!(naive::GAPS_REMEMBERED == reorder::GAPS_REMEMBERED);

#[derive(Clone, Debug)]
enum Step {
    /// Payload around what is next.
    Segment {
        ahead: i64,
        len: usize,
    },
    Fin {
        ahead: i64,
        len: usize,
    },
    Ack {
        ahead: i64,
    },
    /// The hole's time is over.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (-12_i64..40, 1_usize..24).prop_map(|(ahead, len)| Step::Segment { ahead, len }),
        4 => (1_usize..24).prop_map(|len| Step::Segment { ahead: 0, len }),
        2 => (-4_i64..40).prop_map(|ahead| Step::Segment { ahead, len: 1 }),
        2 => (-20_i64..30).prop_map(|ahead| Step::Ack { ahead }),
        1 => Just(Step::Wait),
        1 => (-6_i64..30, 0_usize..6).prop_map(|(ahead, len)| Step::Fin { ahead, len }),
    ]
}

fn origins() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX, 0_u32..20]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_stream_agrees_with_a_map_of_its_bytes(
        origin in origins(),
        steps in prop::collection::vec(step(), 1..60),
        with_fin in any::<bool>(),
    ) {
        let mut rig = Rig::new(Limits::default());
        let mut model = Model::default();
        let conn = Conn::new(1);
        let mut now = 0;
        let mut fill = 0_u8;
        rig.feed(&conn.syn(now, origin.wrapping_sub(1)));
        rig.feed(&conn.data(now, origin, b"!"));
        model.segment(0, b"!");
        for step in steps {
            now += MS;
            let next = model.next().cast_signed();
            let seq = |pos: i64| origin.wrapping_add((pos.cast_unsigned() & 0xffff_ffff) as u32);
            match step {
                Step::Segment { ahead, len } => {
                    // Every copy has other bytes, so that it shows which one won.
                    fill = fill.wrapping_add(1);
                    let bytes = vec![fill; len];
                    rig.feed(&conn.data(now, seq(next + ahead), &bytes));
                    model.segment(next + ahead, &bytes);
                }
                Step::Fin { ahead, len } if with_fin => {
                    let bytes = vec![b'F'; len];
                    let flags = tcp_flags::FIN | tcp_flags::ACK;
                    rig.feed(&conn.send(now, flags, seq(next + ahead), &bytes));
                    model.segment(next + ahead, &bytes);
                    model.finish(next + ahead + signed(len));
                }
                Step::Fin { .. } => {}
                Step::Ack { ahead } => {
                    rig.feed(&conn.reply(now, tcp_flags::ACK, 7_000, seq(next + ahead), 200));
                    model.give_up_to((next + ahead).max(0).cast_unsigned());
                }
                Step::Wait => {
                    now += SECOND;
                    rig.tick(now);
                    while let Some(end) = model.hole_end() {
                        model.give_up_to(end);
                    }
                }
            }
            prop_assert_eq!(rig.book.duplicate(), model.duplicate);
            prop_assert_eq!(rig.book.lost(LostReason::Late), model.late);
            prop_assert_eq!(rig.book.lost(LostReason::OutOfWindow), model.beyond);
            prop_assert_eq!(rig.book.buffered(), signed(model.first_copy.len()));
            let (_, log) = rig.table.state_mut(FlowId(0)).unwrap();
            prop_assert_eq!(&log.stream, &model.told);
            prop_assert_eq!(log.half_closed, model.fin == Some(model.next()));
        }
        rig.close_all(now);
        prop_assert_eq!(rig.book.lost(LostReason::Closed), model.first_copy.len() as u64);
    }
}

fn voyage() -> impl Strategy<Value = Voyage> {
    let cuts = prop_oneof![Just(vec![1]), prop::collection::vec(1_usize..300, 1..40)];
    let swaps = prop::collection::vec(0_usize..60, 0..60);
    let copies = prop::collection::vec((0_usize..60, 0_usize..60), 0..20);
    let drops = prop::collection::vec(0_usize..60, 0..6);
    (cuts, swaps, copies, drops).prop_map(|(cuts, swaps, copies, drops)| Voyage {
        cuts,
        swaps,
        copies,
        drops,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_byte_that_arrives_once_is_delivered_and_every_other_is_a_gap(
        origin in origins(),
        len in 1_usize..700,
        voyage in voyage(),
        seen in any::<bool>(),
    ) {
        let text: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
        let parts = voyage.parts(len);
        let mut arrived = vec![false; len];
        let mut rig = Rig::new(Limits::default());
        let conn = Conn::new(1);
        // Without its SYN a stream begins at what came first: then that has to be the beginning.
        if seen {
            rig.feed(&conn.syn(0, origin.wrapping_sub(1)));
        } else {
            rig.feed(&conn.data(0, origin, &text[..1]));
            arrived[0] = true;
        }
        for (time, part) in (1..).zip(parts) {
            arrived[part.clone()].fill(true);
            rig.feed(&conn.data(time, origin.wrapping_add(part.start as u32), &text[part]));
        }
        rig.feed(&conn.head(1_000_000, 7_000, origin.wrapping_add(len as u32)));
        rig.close_all(2_000_000);
        let expected: Vec<_> = text.iter().zip(&arrived).map(|(&byte, &came)| came.then_some(byte)).collect();
        prop_assert_eq!(&rig.book.closed[0].1.stream, &expected);
        let missing = arrived.iter().filter(|&&came| !came).count() as u64;
        prop_assert_eq!(rig.book.gap_bytes, missing);
        prop_assert!(rig.book.lost.is_empty());
    }
}

/// Anything: flags, numbers and times of any kind, on few connections in a small table.
#[derive(Clone, Debug)]
struct Noise {
    conn: u32,
    job: u16,
    response: bool,
    flags: u8,
    base: u32,
    ahead: i32,
    len: usize,
    status: u16,
    wait: u64,
    tick: bool,
}

fn noise() -> impl Strategy<Value = Noise> {
    let flags = prop_oneof![
        12 => Just(tcp_flags::ACK),
        1 => Just(tcp_flags::SYN),
        1 => Just(tcp_flags::SYN | tcp_flags::ACK),
        1 => Just(tcp_flags::FIN | tcp_flags::ACK),
        1 => Just(tcp_flags::RST),
        1 => any::<u8>(),
    ];
    let base = prop_oneof![20 => Just(1_000_u32), 3 => Just(90_000_u32), 1 => any::<u32>()];
    let ahead = prop_oneof![8 => -50_i32..400, 1 => -300_000_i32..300_000];
    let job = prop_oneof![30 => Just(JOB), 1 => Just(JOB + 1)];
    let wait = prop_oneof![8 => 0_u64..MS, 2 => 0..2 * SECOND, 1 => 0..400 * SECOND];
    let status = prop_oneof![Just(0_u16), Just(200)];
    (
        (0_u32..9, job, prop::bool::weighted(0.2), flags),
        (base, ahead, 0_usize..120),
        (status, wait, any::<bool>()),
    )
        .prop_map(|((conn, job, response, flags), (base, ahead, len), (status, wait, tick))| Noise {
            conn,
            job,
            response,
            flags,
            base,
            ahead,
            len,
            status,
            wait,
            tick,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_law_of_the_bytes_and_every_limit_hold_whatever_comes(
        noises in prop::collection::vec(noise(), 1..150),
        flows in 1_u32..7,
        pieces in 0_usize..6,
        memory in 0_usize..2_000,
        total in 0_usize..3_000,
    ) {
        let mut rig = Rig::new(Limits {
            flows,
            segments_out_of_order_per_flow: pieces,
            out_of_order_bytes_per_flow: memory,
            out_of_order_bytes_total: total,
            window: 100_000,
            syns_remembered: 4,
            closed_remembered: 4,
            ..Limits::default()
        });
        let mut now = 0;
        let payload = [b'.'; 120];
        for noise in noises {
            now += noise.wait;
            let conn = Conn { job: noise.job, ..Conn::new(noise.conn) };
            let seq = noise.base.wrapping_add_signed(noise.ahead);
            if noise.response {
                rig.feed(&conn.reply(now, noise.flags, 7_000, seq, noise.status));
            } else {
                rig.feed(&conn.send(now, noise.flags, seq, &payload[..noise.len]));
            }
            if noise.tick {
                rig.tick(now);
                prop_assert!(rig.table.next_deadline().is_none_or(|deadline| deadline > now));
                prop_assert_eq!(rig.table.next_deadline().is_none(), rig.table.is_empty());
            }
        }
        rig.close_all(now);
        prop_assert!(rig.table.is_empty() && rig.table.next_deadline().is_none());
        prop_assert_eq!(rig.table.out_of_order_memory(), 0);
        prop_assert!(rig.book.buffered.values().all(|&bytes| bytes == 0));
        prop_assert_eq!(rig.book.closed.len() as u64, rig.table.counters().opened);
    }

    #[test]
    fn refused_input_leaves_the_stream_as_it_was_and_says_nothing(
        pieces in prop::collection::vec((0_i64..80, 1_usize..12), 0..12),
        pos in -5_i64..80,
        len in 1_usize..60,
        room in (0_usize..3_000, 0_usize..12, 0_usize..600),
    ) {
        let key = Conn::new(1).key;
        let info = FlowInfo { id: FlowId(0), key, job: JOB, hash: 0, start: Start::Syn, origin: Seq(0) };
        let mut stream = Stream::new(info);
        let mut book = Book::default();
        let mut log = book.open(&info);
        let bytes = [b'x'; 60];
        let arrival =
            |pos, len: usize| Arrival { pos, bytes: &bytes[..len], job: JOB, time: 1, now: 1, ack: None };
        let roomy = Room { flow_memory: 1 << 20, flow_pieces: 1_000, table_memory: 1 << 20 };
        for (pos, len) in pieces {
            stream.accept(&mut log, arrival(pos, len), roomy, &mut book).unwrap();
        }
        book.said();
        let room = Room { flow_memory: room.0, flow_pieces: room.1, table_memory: room.2 };
        let before = (format!("{stream:?}"), format!("{log:?}"));
        let memory = stream.memory();
        if stream.accept(&mut log, arrival(pos, len), room, &mut book).is_err() {
            prop_assert_eq!((format!("{stream:?}"), format!("{log:?}")), before);
            prop_assert_eq!(book.said(), "");
        } else if stream.memory() > memory {
            prop_assert!(stream.memory() <= room.flow_memory);
            prop_assert!(stream.memory() - memory <= room.table_memory);
        }
    }
}

#[test]
fn the_seeds_of_flow_are_steps_of_every_kind() {
    // What the target reads first says which of the tests above it is; then come their steps.
    let steps = |first: &[u8], step: &dyn Fn(u8) -> Vec<u8>| {
        [first, &(0..40).flat_map(step).collect::<Vec<_>>()].concat()
    };
    crate::testing::seeds::hold(
        "flow",
        &[
            ("model", steps(&[0, 0x2c, 1, 0], &|at| vec![at % 7, at.wrapping_mul(11), at.wrapping_mul(5)])),
            ("model-fin", steps(&[0, 9, 0, 1], &|at| vec![at.wrapping_mul(3), at.wrapping_mul(7), at])),
            (
                "voyage",
                steps(&[1, 0xbc, 2, 9, 30, 1, 70], &|at| {
                    vec![at % 3, at.wrapping_mul(5), at.wrapping_mul(3)]
                }),
            ),
            (
                "voyage-lossy",
                steps(&[1, 0x2c, 1, 3, 3, 3, 3], &|at| vec![at, at.wrapping_mul(5), at.wrapping_mul(3)]),
            ),
            (
                "noise",
                steps(&[2, 5, 5, 200, 200, 0], &|at| {
                    vec![at, at.wrapping_mul(9), at.wrapping_mul(5), at.wrapping_mul(13), 0]
                }),
            ),
            (
                "noise-full",
                steps(&[2, 1, 2, 60, 60, 1], &|at| {
                    vec![at.wrapping_mul(7), at.wrapping_mul(3), 60 + at, at.wrapping_mul(40), at % 2]
                }),
            ),
        ],
    );
}
