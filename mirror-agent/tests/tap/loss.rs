//! A ring that fills, and a reader that sleeps.

use std::os::fd::AsFd as _;
use std::time::Duration;

use mirror_agent::kernel::load::{LoadConfig, Loaded};
use mirror_common::counter::TapCounter;
use mirror_common::map::RING_FLOOR_BYTES;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::bench::*;
use super::frame::*;

fn small() -> Bench {
    Bench::new(LoadConfig { ring_bytes: RING_FLOOR_BYTES, ..config() }, &[(PRIMARY, JOB)])
}

#[test]
fn what_finds_no_room_is_lost_by_name_and_to_the_byte() {
    let mut bench = small();
    let payload = [7; 1000];
    let frame = Frame::new(CLIENT, PRIMARY, &payload);
    let mut delivered = 0;
    for round in 0..3 {
        for _ in 0..100 {
            bench.send(&frame);
        }
        let records = bench.take();
        assert!(records.len() > 40 && records.len() < 64, "round {round}: {}", records.len());
        assert!(records.iter().all(|record| record.payload == payload));
        delivered += records.len();
        let job = bench.job(JOB);
        assert_eq!(job.matched_bytes, (round + 1) * 100_000);
        assert_eq!(job.matched_bytes, delivered as u64 * 1000 + job.lost_in_ring_bytes);
        assert_eq!(bench.count(TapCounter::RequestRecords), delivered as u64);
        assert_eq!(bench.count(TapCounter::RingFull), (round + 1) * 100 - delivered as u64);
    }
    // And then it goes on as before.
    bench.one(&frame);
}

#[test]
fn the_witness_counts_responses_that_the_ring_lost() {
    let mut bench = small();
    let frame = Frame::new(PRIMARY, CLIENT, b"HTTP/1.1 200 OK\r\n\r\n");
    for seq in 0..1000 {
        bench.send(&Frame { seq, ..frame.clone() });
    }
    // The last one comes again, and finds no room either: it is still one that was lost.
    bench.send(&Frame { seq: 999, ..frame.clone() });
    let delivered = bench.take().len() as u64;
    let job = bench.job(JOB);
    assert!(delivered < 1000);
    assert_eq!(job.witnessed, 1000);
    assert_eq!(job.responses_lost_in_ring, 1000 - delivered);
    assert_eq!(job.lost_in_ring_bytes, 0);
    // One that was lost is told when it comes again, and is not witnessed anew.
    assert_eq!(bench.one(&Frame { seq: 999, ..frame }).header.status, 200);
    assert_eq!(bench.job(JOB), job);
}

#[test]
fn a_flood_of_syns_leaves_three_quarters_of_the_ring() {
    let mut bench = small();
    let syn = Frame::new(CLIENT, PRIMARY, b"").flags(SYN);
    for _ in 0..5000 {
        bench.send(&syn);
    }
    let fill = bench.loaded.rings[0].fill();
    assert!(fill <= RING_FLOOR_BYTES as usize / 4 + 256, "{fill}");
    assert_eq!(bench.count(TapCounter::RingFull), 0);
    let shed = bench.count(TapCounter::SynShed);
    // Data still finds room, and so does a SYN with data.
    let data = Frame::new(CLIENT, PRIMARY, b"GET / HTTP/1.1\r\n\r\n");
    bench.send(&data);
    bench.send(&data.clone().flags(SYN));
    let records = bench.take();
    assert_eq!(records.len() as u64, 5000 - shed + 2);
    assert_eq!(records.last().unwrap().header.flags, SYN);
    bench.one(&syn);
}

#[test]
fn a_drain_keeps_to_its_budget_and_to_the_order() {
    let mut bench = Bench::plain();
    for n in 0..100_u32 {
        bench.send(&Frame { seq: n, ..Frame::new(CLIENT, PRIMARY, &[1; 200]) });
    }
    let ring = &mut bench.loaded.rings[0];
    let waiting = ring.fill();
    let mut next = 0;
    let mut bytes = 0;
    loop {
        let drained = ring.drain(1000, |record| {
            assert_eq!(record[44..48], u32::to_ne_bytes(next));
            next += 1;
        });
        assert!(drained.bytes < 1000 + 400 && drained.records > 0);
        bytes += drained.bytes;
        assert_eq!(ring.fill(), waiting - bytes);
        if !drained.more {
            break;
        }
    }
    assert_eq!((next, bytes), (100, waiting));
    assert_eq!(ring.drain(1000, |_| panic!("empty")), Default::default());
}

#[test]
fn records_that_wrap_around_the_end_lie_in_one_piece() {
    let mut bench = small();
    let payload: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
    let frame = Frame::new(CLIENT, PRIMARY, &payload);
    // 3072 + 88 divides no power of two: over the rounds every kind of wrap comes by.
    for _ in 0..500 {
        assert_eq!(bench.one(&frame).payload, payload);
    }
}

#[test]
fn a_ring_that_was_read_all_around_counts_once_in_rss() {
    const RING: usize = 16 << 20;
    let mut bench = Bench::new(LoadConfig { ring_bytes: RING as u32, ..config() }, &[(PRIMARY, JOB)]);
    let bytes = Frame::new(CLIENT, PRIMARY, &[7; 3000]).bytes();
    for _ in 0..10 {
        assert_eq!(bench.run("mirror_l2", &bytes, 4000).0, -1);
        assert_eq!(bench.take().len(), 4000);
    }
    // Maps of this size are this test's only: the data, a page, and the window onto its beginning.
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let kib = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap();
    let (mut is_map, mut size, mut mapped, mut resident) = (false, 0, 0, 0);
    for line in smaps.lines() {
        // The line that begins a mapping has its addresses first.
        if line.split_whitespace().next().is_some_and(|word| word.contains('-')) {
            is_map = line.ends_with("bpf-map");
        } else if line.starts_with("Size:") {
            size = kib(line);
        } else if line.starts_with("Rss:") && is_map && (RING / 1024..RING / 512).contains(&size) {
            mapped += size;
            resident += kib(line);
        }
    }
    assert!(resident >= RING / 1024, "{resident} KiB: every page was read");
    assert!(mapped < (RING >> 10) + 128, "{mapped} KiB are mapped for a ring of {} KiB", RING >> 10);
}

fn wait(epoll: &Epoll, timeout: u16) -> usize {
    let mut events = [EpollEvent::empty()];
    epoll.wait(&mut events, EpollTimeout::from(timeout)).unwrap()
}

fn watch(loaded: &Loaded) -> Epoll {
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
    epoll.add(loaded.rings[0].as_fd(), event).unwrap();
    epoll
}

#[test]
fn a_reader_that_is_up_is_not_woken_and_one_that_sleeps_is_woken_once() {
    let mut bench = Bench::plain();
    let epoll = watch(&bench.loaded);
    let frame = Frame::new(CLIENT, PRIMARY, b"x");
    for _ in 0..100 {
        bench.send(&frame);
    }
    assert_eq!((wait(&epoll, 20), bench.count(TapCounter::WakeUps)), (0, 0));
    assert!(!bench.loaded.rings[0].sleep(), "there is something to read");
    assert_eq!(bench.take().len(), 100);

    assert!(bench.loaded.rings[0].sleep());
    assert_eq!(wait(&epoll, 20), 0, "nothing came");
    for _ in 0..100 {
        bench.send(&frame);
    }
    assert_eq!((wait(&epoll, 1000), bench.count(TapCounter::WakeUps)), (1, 1));
    assert_eq!(bench.take().len(), 100, "the wake-up itself is no record");

    // Up again by its own will: no wake-up.
    assert!(bench.loaded.rings[0].sleep());
    bench.loaded.rings[0].wake();
    bench.send(&frame);
    assert_eq!((wait(&epoll, 20), bench.count(TapCounter::WakeUps)), (0, 1));
}

#[test]
fn a_response_wakes_a_sleeping_reader_too() {
    let mut bench = Bench::plain();
    let epoll = watch(&bench.loaded);
    assert!(bench.loaded.rings[0].sleep());
    bench.send(&Frame::new(PRIMARY, CLIENT, b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(wait(&epoll, 1000), 1);
}

#[test]
fn a_ring_over_half_full_wakes_its_reader_once_until_it_drains() {
    let mut bench = small();
    let epoll = watch(&bench.loaded);
    let frame = Frame::new(CLIENT, PRIMARY, &[1; 1000]);
    for _ in 0..25 {
        bench.send(&frame);
    }
    assert_eq!((wait(&epoll, 20), bench.count(TapCounter::WakeUps)), (0, 0));
    for _ in 0..25 {
        bench.send(&frame);
    }
    assert_eq!((wait(&epoll, 1000), bench.count(TapCounter::WakeUps)), (1, 1));
    bench.take();
    for _ in 0..50 {
        bench.send(&frame);
    }
    assert_eq!((wait(&epoll, 1000), bench.count(TapCounter::WakeUps)), (1, 2));
}

#[test]
fn sleep_and_records_that_race_never_leave_a_reader_asleep_over_data() {
    const SENT: usize = 20_000;
    // How often the reader comes to sleep is the scheduler's choice: one round may be too few on a busy machine.
    let mut slept = 0;
    for _ in 0..20 {
        slept += race(SENT);
        if slept > 50 {
            return;
        }
    }
    panic!("the reader slept {slept} times only: the race was not run");
}

/// One thread sends `count` records, another reads them and sleeps whenever there is none. How often that was.
fn race(count: usize) -> usize {
    // Room for all: a reader that is not let on must lose none.
    let ring_bytes = u32::try_from((count * 256).next_power_of_two()).unwrap();
    let mut bench = Bench::new(LoadConfig { ring_bytes, ..config() }, &[(PRIMARY, JOB)]);
    let mut ring = bench.loaded.rings.remove(0);
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    epoll.add(ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut read, mut slept) = (0, 0);
        while read < count {
            read += ring.drain(usize::MAX, |_| ()).records;
            if read < count && ring.sleep() {
                slept += 1;
                // Nothing to read is a sender that was not let on; data under a sleeper is a lost wake-up.
                let woken = (0..6).any(|_| wait(&epoll, 5000) > 0);
                if !woken {
                    return Err(format!("asleep after {read} records with {} bytes to read", ring.fill()));
                }
                ring.wake();
            }
        }
        Ok(slept)
    });
    let bytes = Frame::new(CLIENT, PRIMARY, b"x").bytes();
    for n in 0..count {
        bench.send_bytes("mirror_l2", &bytes);
        if n % 64 == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let slept = reader.join().unwrap().unwrap_or_else(|error| panic!("{error}"));
    assert!(bench.count(TapCounter::WakeUps) > 0 || slept == 0);
    slept
}
