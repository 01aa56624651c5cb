//! Packets that are lost before the tap, after it, and by the mirror itself.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mirror_tests::client::{noise, request};
use mirror_tests::server::ids;
use mirror_tests::world::{Ending, Family, Setup, Tap, end, mirror_args, witnessed_once};
use mirror_tests::{Conn, Mirror, Namespace, Nginx, World, eventually, tools};
use nix::sys::signal::Signal;

/// Drops every `nth` packet with payload that `matching` describes. By count, not by chance: a packet that chance drops three
/// times leaves a hole for longer than the mirror waits.
fn drop_some(namespace: &Namespace, hook: &str, matching: &str, nth: u32) {
    namespace.nft("add table inet lab").unwrap();
    namespace.nft(&format!("add chain inet lab c {{ type filter hook {hook} priority 0 ; }}")).unwrap();
    namespace
        .nft(&format!(
            "add rule inet lab c tcp {matching} meta length > 120 numgen inc mod {nth} 0 counter drop"
        ))
        .unwrap();
}

fn dropped(namespace: &Namespace) -> u64 {
    let rules = namespace.nft("list table inet lab").unwrap();
    let (_, after) = rules.split_once("counter packets ").unwrap();
    after.split(' ').next().unwrap().parse().unwrap()
}

/// A load with bodies through a network that loses packets: nothing of it may be lost at the shadow.
fn survives(world: &World, lossy: &Namespace, hook: &str, matching: &str) -> Ending {
    let scene = world.scene(&Setup::default());
    drop_some(lossy, hook, matching, 25);
    let report = scene.load(|load| {
        load.connections = 16;
        load.requests = 320;
        load.post_every = 2;
        load.body = 30_000;
        load.per_connection = 10;
    });
    report.all_answered();
    assert!(dropped(lossy) > 0, "the network lost something");
    lossy.nft("delete table inet lab").unwrap();
    let ending = scene.finish(320);
    assert_eq!(ending.stats.delivered(0), 320, "{:?}", ending.stats);
    assert_eq!(ids(&ending.shadow), ids(&ending.primary));
    for sent in &ending.primary {
        let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
        assert_eq!(copy.body_hash, sent.body_hash, "{}", sent.id);
    }
    witnessed_once(&ending.stats, 320);
    ending
}

#[test]
fn what_is_lost_before_the_tap_is_copied_when_it_comes_again() {
    let world = World::routed();
    survives(&world, &world.node, "forward", "dport 8080");
}

#[test]
fn what_is_lost_after_the_tap_is_a_duplicate_the_second_time() {
    let world = World::routed();
    let ending = survives(&world, &world.pri, "input", "dport 8080");
    assert!(ending.stats.n("/bytes/duplicate") > 0, "{:?}", ending.stats);
}

#[test]
fn answers_that_are_lost_and_come_again_make_no_request_and_no_answer_twice() {
    let world = World::routed();
    let ending = survives(&world, &world.cli, "input", "sport 8080");
    assert_eq!(
        ending.stats.sum("/primary/answered") + ending.stats.n("/primary/unknown"),
        320,
        "{:?}",
        ending.stats
    );
}

/// Loads 16 keep-alive connections, makes the mirror lose packets under way, and checks that nothing is invented, that
/// every flow is found again within two requests, and that the mirror's own capture ratio tells the truth to within 0.1%.
fn loses_and_recovers(
    options: &[&str],
    body: usize,
    harm: impl FnOnce(&mut Mirror<'_>, &AtomicU64),
) -> Ending {
    const CONNECTIONS: usize = 16;
    let world = World::routed_alone();
    let mut scene = world.scene(&Setup { mirror: options, ..Setup::default() });
    let mut conns: Vec<Conn> = (0..CONNECTIONS).map(|_| scene.open()).collect();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let body = noise(body, 13);
    std::thread::scope(|scope| {
        for (index, conn) in conns.iter_mut().enumerate() {
            let (stop, sent, body) = (&stop, &sent, &body);
            scope.spawn(move || {
                for n in 0..200_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let bytes = request("POST", "/", &format!("load-{index}-{n}"), "", body);
                    assert_eq!(conn.exchange(&bytes).unwrap().status, 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The flag is set however this ends, or the scope would wait for the load for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        eventually("the load runs", Duration::from_secs(10), || sent.load(Ordering::Relaxed) > 200);
        harm(&mut scene.mirror, &sent);
        let seen = sent.load(Ordering::Relaxed);
        eventually("the load still runs", Duration::from_secs(20), || {
            sent.load(Ordering::Relaxed) > seen + 200
        });
    });
    scene.mirror.rest_at_all();
    for n in 0..4 {
        for (index, conn) in conns.iter_mut().enumerate() {
            conn.exchange(&request("GET", "/", &format!("after-{index:02}-{n}"), "", b"")).unwrap();
        }
    }
    drop(conns);
    let total = sent.into_inner() + 4 * CONNECTIONS as u64;
    eventually("the primary has logged all", Duration::from_secs(5), || {
        scene.primary.requests().len() as u64 == total
    });
    let ending = scene.finish_with_losses();
    for index in 0..CONNECTIONS {
        for n in 2..4 {
            let id = format!("after-{index:02}-{n}");
            assert!(
                ending.shadow.iter().any(|line| line.id == id),
                "{id} was not copied: {:?}",
                ending.stats
            );
        }
    }
    let stats = &ending.stats;
    assert!(stats.n("/bytes/lost_in_ring") > 0, "the scenario makes holes: {stats:?}");
    witnessed_once(stats, total);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let truth = stats.observed() as f64 / total as f64;
    let claimed = stats.capture_ratio().unwrap();
    assert!(
        (claimed - truth).abs() <= 0.001,
        "capture ratio {claimed}, by the primary's log {truth}: {stats:?}"
    );
    for copy in &ending.shadow {
        let sent = ending.primary.iter().find(|line| line.id == copy.id).unwrap();
        assert_eq!(copy.body_hash, sent.body_hash, "{}", copy.id);
    }
    ending
}

#[test]
fn an_agent_stopped_for_two_seconds_under_load_loses_by_name_and_finds_every_flow_again() {
    loses_and_recovers(&["--memory", "32MiB"], 16_000, |mirror, sent| {
        let before = sent.load(Ordering::Relaxed);
        mirror.process().signal(Signal::SIGSTOP);
        // Two seconds are the scenario, not a hope.
        std::thread::sleep(Duration::from_secs(2));
        // Three times what the rings have room for, however slow the machine: the stop makes a hole.
        eventually("the primary goes on while the agent stands", Duration::from_secs(30), || {
            sent.load(Ordering::Relaxed) > before + 1600
        });
        mirror.process().signal(Signal::SIGCONT);
    });
}

#[test]
fn a_ring_of_64_kib_loses_by_name_and_finds_every_flow_again() {
    // One shard: all connections press into one ring, which has room for three or four of these uploads.
    let ending = loses_and_recovers(&["--ring", "64KiB", "--shards", "1"], 16_000, |_, _| ());
    assert_eq!(ending.stats.n("/rings/0/capacity"), 64 << 10);
    assert!(ending.stats.delivered(0) > 0, "what found room was copied: {:?}", ending.stats);
}

#[test]
fn uploads_that_no_ring_of_64_kib_has_room_for_are_lost_by_name_and_never_made_up() {
    // Segments grow to 64 KiB here, and a record of that size does not fit: each upload has holes.
    let ending = loses_and_recovers(&["--ring", "64KiB", "--shards", "2"], 400_000, |_, _| ());
    assert_eq!(ending.stats.n("/rings/1/capacity"), 64 << 10);
}

#[test]
fn at_the_most_that_this_machine_sends_every_copy_has_a_name_and_the_books_are_even() {
    const CONNECTIONS: u64 = 64;
    let world = World::routed_alone();
    let (at, to) = (world.primary_at(Family::V4), world.shadow_at(Family::V4));
    let primary = Nginx::start(&world.pri, world.dir(), &[at.to_string()], "").unwrap();
    let shadow = Nginx::start(&world.sha, world.dir(), &[to.to_string()], "").unwrap();
    let mirror = Mirror::start(&world.node, &mirror_args(&world, Tap::HostSide, at, &[to], 0)).unwrap();
    let report = tools::wrk(&world.cli, 4, CONNECTIONS, &[&format!("http://{at}/static")]).unwrap();
    assert_eq!(report.failed, 0, "the primary's clients see nothing");
    let stats = mirror.rest_at_all();
    // wrk resets its connections at the end: what was under way then may or may not be in a log.
    let near = |one: u64, other: u64| one.abs_diff(other) <= CONNECTIONS;
    eventually("the primary's log agrees with the witness", Duration::from_secs(10), || {
        near(primary.log().len() as u64, stats.n("/witnessed"))
    });
    assert!(near(stats.observed(), stats.n("/witnessed")) || stats.n("/bytes/lost_in_ring") > 0, "{stats:?}");
    assert_eq!(stats.shadow(0, "copies"), stats.n("/requests/selected"));
    assert!(stats.delivered(0) > 1000, "{stats:?}");
    eventually("the shadow's log agrees with what was delivered", Duration::from_secs(10), || {
        near(shadow.log().len() as u64, stats.delivered(0))
    });
    end(&world, Tap::HostSide, mirror);
}
