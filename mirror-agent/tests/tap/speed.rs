//! What a packet costs, by the kernel's own statistics (`kernel.bpf_stats_enabled`): they include reading the clock twice, which
//! is what an empty program shows. `cargo xtask bench` prints the numbers; what is asserted here is their order, which no
//! other work on the machine can change.

use std::os::fd::AsRawFd as _;

use aya::sys::{Stats, enable_stats};
use mirror_agent::kernel::load::{L2, LoadConfig};

use super::bench::*;
use super::frame::*;

/// Total time and count of runs of the Ethernet program.
fn runs(bench: &mut Bench) -> (u64, u64) {
    let fd = bench.loaded.programs.get_mut(L2).unwrap().fd().unwrap();
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsFd::as_fd(fd).as_raw_fd()));
    let info = info.unwrap();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    (field("run_time_ns:"), field("run_cnt:"))
}

/// Best of some means: other work only ever adds.
fn best(bench: &mut Bench, bytes: &[u8]) -> u64 {
    (0..20)
        .map(|_| {
            let before = runs(bench);
            // As many as the ring holds.
            assert_eq!(bench.run(L2, bytes, 5_000).0, -1);
            let after = runs(bench);
            bench.take();
            (after.0 - before.0) / (after.1 - before.1)
        })
        .min()
        .unwrap()
}

/// The same for frames of which none is like the one before; each is a call of its own, and so finds colder caches.
fn best_of_new(bench: &mut Bench, frame: &Frame) -> u64 {
    let mut seq = frame.seq;
    (0..20)
        .map(|_| {
            let before = runs(bench);
            for _ in 0..500 {
                seq = seq.wrapping_add(100);
                assert_eq!(bench.run(L2, &Frame { seq, ..frame.clone() }.bytes(), 1).0, -1);
            }
            let after = runs(bench);
            bench.take();
            (after.0 - before.0) / (after.1 - before.1)
        })
        .min()
        .unwrap()
}

#[test]
fn a_packet_that_no_job_matches_costs_less_than_one_that_is_copied() {
    let _while_held = enable_stats(Stats::RunTime).unwrap();
    let mut bench =
        Bench::new(LoadConfig { ring_bytes: 64 << 20, ..config() }, &[(PRIMARY, JOB), (PRIMARY6, JOB)]);
    let get = [b"GET / HTTP/1.1\r\nHost: reviews\r\n".as_slice(), &[b'a'; 70]].concat();
    let frames = [
        ("not IP", vec![0xff; 60]),
        ("unmatched IPv4", Frame::new(CLIENT, "10.1.2.3:443", &get).bytes()),
        ("unmatched IPv6", Frame::new(CLIENT6, "[2001:db8::1]:443", &get).bytes()),
        ("pure ACK", Frame::new(CLIENT, PRIMARY, b"").bytes()),
        ("matched, 101 bytes", Frame::new(CLIENT, PRIMARY, &get).bytes()),
        ("matched, 1400 bytes", Frame::new(CLIENT, PRIMARY, &[b'a'; 1400]).bytes()),
        ("matched IPv6, 101 bytes", Frame::new(CLIENT6, PRIMARY6, &get).bytes()),
        ("response head, again", Frame::new(PRIMARY, CLIENT, b"HTTP/1.1 200 OK\r\nx: y\r\n").bytes()),
        ("response body", Frame::new(PRIMARY, CLIENT, &[b'a'; 1400]).bytes()),
    ];
    let mut means: Vec<_> =
        frames.into_iter().map(|(name, bytes)| (name, best(&mut bench, &bytes))).collect();
    for (name, last) in [("response head, new", "HTTP/1.1 200 OK"), ("response body, new", "HTTP/1.1 2")] {
        let payload = format!("{last}\r\nx: y\r\n");
        let frame = Frame::new(PRIMARY, CLIENT, payload.as_bytes());
        means.push((name, best_of_new(&mut bench, &frame)));
    }
    for (name, mean) in &means {
        println!("{name}: {mean} ns");
    }
    let mean = |which: &str| means.iter().find(|(name, _)| *name == which).unwrap().1;
    for passed_by in ["not IP", "unmatched IPv4", "unmatched IPv6", "pure ACK"] {
        let (less, more) = (mean(passed_by), mean("matched, 101 bytes"));
        assert!(less < more, "{passed_by}: {less} ns, and a copied packet {more} ns");
    }
}
