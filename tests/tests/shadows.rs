//! Sick shadows: whatever they do, the primary's clients see nothing, every copy has a name, memory stays bounded.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::time::Duration;

use mirror_tests::client::request;
use mirror_tests::server::{ids, peak};
use mirror_tests::world::{Ending, Family, Setup, Tap, end, mirror_args};
use mirror_tests::{Mirror, Reviews, World};

const SENT: u64 = 400;
const MEMORY_CEILING: u64 = 128 << 20;

/// A load of 400 requests, a quarter of them POSTs, over 8 connections that are replaced each 20.
fn sick(shadow: &[&str], options: &[&str]) -> Ending {
    let world = World::routed();
    let mut scene = world.scene(&Setup { shadow, mirror: options, ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 8;
        load.requests = SENT;
        load.post_every = 4;
        load.body = 5000;
        load.per_connection = 20;
    });
    report.all_answered();
    scene.mirror.rest(SENT);
    let memory = scene.mirror.process().peak_memory();
    assert!(memory > 0 && memory <= MEMORY_CEILING, "peak memory {} MiB", memory >> 20);
    let ending = scene.finish_with_sick_shadow(SENT);
    assert_eq!(ending.stats.n("/requests/selected"), SENT);
    assert_eq!(ending.stats.shadow(0, "copies"), SENT);
    ending
}

#[test]
fn a_shadow_that_refuses_is_left_alone_and_every_copy_named() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[world.shadow_at(Family::V4)], 0);
    let mirror = Mirror::start(&world.node, &args).unwrap();
    let mut conn = world.open(primary.at());
    for n in 0..200 {
        conn.exchange(&request("GET", "/", &format!("refused-{n}"), "", b"")).unwrap();
    }
    let stats = mirror.rest(200);
    let (refused, left_alone) = (stats.shadow(0, "failed/refused"), stats.shadow(0, "dropped/back_off"));
    assert_eq!(refused + left_alone, 200, "{stats:?}");
    assert!(refused > 0 && left_alone > 0, "{stats:?}");
    assert!(stats.shadow(0, "connects") < 50, "a dead target is not hammered: {stats:?}");
    // It comes to life: copies arrive again without a restart.
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let mut sent = 200;
    mirror.wait_stats("copies arrive", Duration::from_secs(30), |stats| {
        sent += 1;
        conn.exchange(&request("GET", "/", &format!("alive-{sent}"), "", b"")).unwrap();
        stats.delivered(0) >= 20
    });
    let stats = mirror.rest(sent);
    assert_eq!(stats.delivered(0), shadow.requests().len() as u64);
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn a_shadow_whose_packets_vanish_times_out() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    // Accepted by nobody: an address of the shadow's network that answers no ARP but has an entry.
    world.node.ip("neigh add 10.77.3.99 lladdr 02:00:00:00:00:99 dev vsha nud permanent").unwrap();
    let hole = "10.77.3.99:8081".parse().unwrap();
    let mut args = mirror_args(&world, Tap::HostSide, primary.at(), &[hole], 0);
    args.extend(["--connect-timeout", "300ms"].map(str::to_owned));
    let mirror = Mirror::start(&world.node, &args).unwrap();
    let mut conn = world.open(primary.at());
    for n in 0..100 {
        conn.exchange(&request("POST", "/", &format!("{n}"), "", b"into the hole")).unwrap();
    }
    let stats = mirror.rest(100);
    let named = stats.shadow(0, "failed/connect_timeout") + stats.shadow(0, "dropped/back_off");
    assert_eq!(named, 100, "{stats:?}");
    assert!(stats.shadow(0, "failed/connect_timeout") > 0, "{stats:?}");
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn a_shadow_that_never_answers_times_out() {
    let ending = sick(&["--reply", "hang"], &["--head-timeout", "500ms"]);
    assert_eq!(ending.stats.delivered(0), 0);
    assert!(ending.stats.shadow(0, "failed/head_timeout") > 0, "{:?}", ending.stats);
}

#[test]
fn a_slow_shadow_gets_everything_it_can_take_and_the_primary_waits_for_nothing() {
    let world = World::routed_alone();
    let scene = world.scene(&Setup { shadow: &["--delay-ms", "100"], ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 8;
        load.requests = SENT;
    });
    report.all_answered();
    // Had it waited for the shadow, each answer would have taken 100 ms at least.
    assert!(report.quantile_us(0.5) < 100_000, "p50 of the primary is {} us", report.quantile_us(0.5));
    let ending = scene.finish_with_sick_shadow(SENT);
    assert!(ending.stats.delivered(0) > 0);
    let answered_late = ending.stats.n("/shadows/0/latency_us/p50");
    assert!(answered_late >= 95_000, "{:?}", ending.stats);
}

#[test]
fn a_shadow_that_resets_is_named() {
    let ending = sick(&["--reply", "reset"], &[]);
    assert_eq!(ending.stats.delivered(0), 0);
    assert!(
        ending.stats.shadow(0, "failed/reset") + ending.stats.shadow(0, "failed/closed_early") > 0,
        "{:?}",
        ending.stats
    );
    let ending = sick(&["--reply", "reset-in-body"], &[]);
    assert_eq!(ending.stats.delivered(0), 0, "half an answer is no delivery: {:?}", ending.stats);
}

#[test]
fn a_shadow_that_sends_garbage_is_named() {
    let ending = sick(&["--reply", "garbage"], &[]);
    assert_eq!(ending.stats.delivered(0), 0);
    assert!(ending.stats.shadow(0, "failed/bad_response") > 0, "{:?}", ending.stats);
}

#[test]
fn a_shadow_that_fails_every_third_request_is_delivered_and_counted_as_500() {
    let ending = sick(&["--fail-every", "3"], &[]);
    assert_eq!(ending.stats.delivered(0), SENT, "{:?}", ending.stats);
    let failed = ending.shadow.iter().filter(|line| line.status == 500).count() as u64;
    assert_eq!(ending.stats.shadow(0, "delivered_by_class/5xx"), failed);
    assert_eq!(failed, SENT / 3);
}

#[test]
fn a_shadow_that_says_it_closes_each_100_requests_loses_nothing() {
    let world = World::routed();
    let scene = world.scene(&Setup { shadow: &["--close-every", "100"], ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 2;
        load.requests = 1000;
        load.post_every = 3;
        load.body = 100;
    });
    report.all_answered();
    let ending = scene.all_delivered(1000);
    assert!(ending.stats.shadow(0, "connects") >= 10, "{:?}", ending.stats);
}

#[test]
fn a_shadow_that_closes_without_a_word_loses_only_what_the_law_names() {
    let world = World::routed();
    let scene =
        world.scene(&Setup { shadow: &["--close-every", "10", "--close-silently"], ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 2;
        load.requests = 600;
        load.post_every = 3;
        load.body = 100;
    });
    report.all_answered();
    let ending = scene.finish_with_sick_shadow(600);
    let stats = &ending.stats;
    let raced = stats.shadow(0, "failed/closed_early") + stats.shadow(0, "failed/reset");
    assert_eq!(stats.delivered(0) + raced, 600, "{stats:?}");
    // A GET caught by the race is sent once more, so only POSTs may be missing.
    let got = ids(&ending.shadow);
    let missing: Vec<_> = ending.primary.iter().filter(|line| !got.contains(&line.id.as_str())).collect();
    assert!(missing.iter().all(|line| line.method == "POST"), "{missing:?} {stats:?}");
    assert_eq!(missing.len() as u64, raced, "{stats:?}");
}

#[test]
fn a_shadow_that_reads_slowly_costs_bounded_memory() {
    let world = World::routed();
    let slow = ["--reply", "slow-read", "--receive-buffer", "8192"];
    let mut scene =
        world.scene(&Setup { shadow: &slow, mirror: &["--idle-timeout", "2s"], ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 8;
        load.requests = 200;
        load.post_every = 1;
        load.body = 1 << 20;
        // What the tap carries with ease; the shadow reads a tenth of it.
        load.rate = Some(40.0);
    });
    report.all_answered();
    let stats =
        scene.mirror.wait_stats("all observed", Duration::from_secs(20), |stats| stats.observed() == 200);
    assert!(stats.sum("/shadows/0/dropped") > 0, "200 MiB do not fit: {stats:?}");
    let memory = scene.mirror.process().peak_memory();
    assert!(memory > 0 && memory <= MEMORY_CEILING, "peak memory {} MiB", memory >> 20);
    // What is still queued is given up by name at the end.
    let (status, last) = scene.mirror.stop().unwrap();
    assert!(status.success());
    assert_eq!(last.broken_laws(), Vec::<String>::new(), "{last:?}");
    assert!(last.at_rest() && last.observed() == 200, "{last:?}");
    assert!(scene.shadow.requests().len() as u64 >= last.delivered(0));
}

#[test]
fn an_endless_reply_ends_with_the_mirror_at_the_latest() {
    let world = World::routed();
    let scene = world.scene(&Setup { shadow: &["--reply", "endless"], ..Setup::default() });
    let mut conn = scene.open();
    for n in 0..20 {
        conn.exchange(&request("GET", "/", &format!("{n}"), "", b"")).unwrap();
    }
    let mut scene = scene;
    scene.mirror.wait_stats("all observed", Duration::from_secs(10), |stats| stats.observed() == 20);
    let memory = scene.mirror.process().peak_memory();
    assert!(memory > 0 && memory <= MEMORY_CEILING, "peak memory {} MiB", memory >> 20);
    let (status, last) = scene.mirror.stop().unwrap();
    assert!(status.success());
    assert_eq!(last.broken_laws(), Vec::<String>::new(), "{last:?}");
    assert!(last.at_rest(), "{last:?}");
    assert_eq!((last.observed(), last.delivered(0)), (20, 0), "{last:?}");
    world.nothing_attached(Tap::HostSide);
}

#[test]
fn a_shadow_at_20_ms_sees_the_concurrency_that_the_primary_sees() {
    // A peak is one moment, and whatever else runs on this machine may make one: best of three.
    let peaks: Vec<(f64, f64)> = (0..3).map(|_| peaks_at_20_ms()).collect();
    let near = |(of_primary, of_shadow): &(f64, f64)| (of_shadow / of_primary - 1.0).abs() <= 0.2;
    assert!(
        peaks.iter().any(near),
        "peak concurrency at the primary and at the shadow, three times: {peaks:?}"
    );
}

/// Peak concurrency at the primary and at the shadow, everything delivered.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn peaks_at_20_ms() -> (f64, f64) {
    // 64 flows at 20 ms carry 3200 requests a second; half of that is sent, whatever the answers do.
    let world = World::routed_alone();
    let delay = ["--delay-ms", "20"];
    let scene = world.scene(&Setup { primary: &delay, shadow: &delay, ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 64;
        load.rate = Some(1600.0);
        load.requests = 4800;
    });
    report.all_answered();
    let ending = scene.all_delivered(4800);
    (peak(&ending.primary) as f64, peak(&ending.shadow) as f64)
}
