//! Bodies of every size, streamed in bounded memory.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::time::{Duration, Instant};

use mirror_tests::World;
use mirror_tests::client::{chunked, noise, request};
use mirror_tests::world::{IDENTICAL, Setup};

const MIB: usize = 1 << 20;
/// What the issue allows for bodies (`VmHWM`).
const MEMORY_CEILING: u64 = 128 << 20;

#[test]
fn bodies_around_every_boundary_arrive_byte_for_byte() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    let sizes = [
        1,
        2,
        10,
        1000,
        1447,
        1448,
        1449,
        4096,
        16_384,
        65_535,
        65_536,
        65_537,
        131_072,
        MIB,
        3 * MIB + 7,
        16 * MIB + 3,
    ];
    let mut conn = scene.open();
    for size in sizes {
        let body = noise(size, size as u64);
        conn.exchange(&request("POST", "/length", &format!("l-{size}"), "", &body)).unwrap();
        let chunk = (size / 7).max(1);
        let mut bytes =
            request("PUT", "/chunked", &format!("c-{size}"), "Transfer-Encoding: chunked\r\n", b"");
        bytes.extend(chunked(&body, chunk, "X-End: 1\r\n"));
        conn.exchange(&bytes).unwrap();
    }
    let ending = scene.all_delivered(sizes.len() as u64 * 2);
    for sent in &ending.primary {
        let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
        assert_eq!((copy.bytes, &copy.body_hash), (sent.bytes, &sent.body_hash), "{}", sent.id);
    }
}

#[test]
fn many_uploads_side_by_side_stay_apart() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    std::thread::scope(|scope| {
        for client in 0..8_u64 {
            let scene = &scene;
            scope.spawn(move || {
                let mut conn = scene.open();
                let start = Instant::now();
                for n in 0..6 {
                    // 32 MB a second in all: what is refused at saturation is another scenario.
                    let due = start + Duration::from_millis(100 * n);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let body = noise(400_000 + 1000 * usize::try_from(n).unwrap(), client * 100 + n);
                    let answer =
                        conn.exchange(&request("POST", "/", &format!("{client}-{n}"), "", &body)).unwrap();
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
    let ending = scene.all_delivered(48);
    for sent in &ending.primary {
        let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
        assert_eq!((copy.bytes, &copy.body_hash), (sent.bytes, &sent.body_hash), "{}", sent.id);
    }
}

#[test]
fn a_gigabyte_is_mirrored_in_bounded_memory() {
    // As fast as the shadow takes it, within this much: it is about memory and truth, not speed.
    const AHEAD: u64 = 4 << 20;
    const PIECES: u32 = 1024;
    let world = World::routed_alone();
    let mut scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    let mut conn = scene.open();
    let head = format!(
        "POST /giga HTTP/1.1\r\nHost: r\r\nX-Request-Id: giga\r\nContent-Length: {}\r\n\r\n",
        u64::from(PIECES) << 20
    );
    conn.send(head.as_bytes()).unwrap();
    let mut piece = noise(MIB, 99);
    for n in 0..PIECES {
        // No two pieces are alike: one that is lost, doubled or moved changes the hash.
        piece[..4].copy_from_slice(&n.to_le_bytes());
        conn.send(&piece).unwrap();
        if n % 4 == 3 {
            let sent = u64::from(n + 1) << 20;
            scene.mirror.wait_stats("the shadow keeps up", Duration::from_secs(20), |stats| {
                stats.shadow(0, "written_bytes") + AHEAD >= sent
            });
        }
    }
    assert_eq!(conn.response("POST").unwrap().status, 200);
    conn.exchange(&request("GET", "/", "after", "", b"")).unwrap();
    scene.mirror.rest(2);
    let peak = scene.mirror.process().peak_memory();
    let ending = scene.all_delivered(2);
    let giga = |lines: &[mirror_tests::Line]| lines.iter().find(|line| line.id == "giga").unwrap().clone();
    assert_eq!(giga(&ending.primary).body_hash, giga(&ending.shadow).body_hash);
    assert!(peak > 0 && peak <= MEMORY_CEILING, "peak memory {} MiB", peak >> 20);
}
