//! How much is copied: percentages within three standard deviations at a fixed seed, methods, paths, rates.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mirror_tests::World;
use mirror_tests::client::request;
use mirror_tests::server::ids;
use mirror_tests::world::{Ending, Setup};

const SENT: u64 = 2000;

/// Requests a second: twice as many copies must not pile up behind one shadow connection for each client.
const RATE: f64 = 1000.0;

/// Runs `SENT` GETs over 8 connections with these options.
fn sampled(options: &[&str]) -> Ending {
    let world = World::routed();
    // By request the choice is a matter of the seed and of each request's number in its shard.
    let options = [options, &["--shards", "1"]].concat();
    let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 8;
        load.requests = SENT;
        load.rate = Some(RATE);
        load.per_connection = 10;
    });
    report.all_answered();
    scene.finish(SENT)
}

#[track_caller]
fn within_three_sigma(hits: u64, of: u64, share: f64) {
    within(3.0, hits, of, share);
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
#[track_caller]
fn within(sigmas: f64, hits: u64, of: u64, share: f64) {
    let (hits, of) = (hits as f64, of as f64);
    let sigma = (of * share * (1.0 - share)).sqrt();
    assert!((hits - of * share).abs() <= sigmas * sigma, "{hits} of {of} at {share}: sigma is {sigma:.1}");
}

#[test]
fn the_same_seed_chooses_the_same_requests_again_and_another_seed_others() {
    let chosen = |seed: &str| {
        let world = World::routed();
        let options = ["--percent", "37.5", "--seed", seed, "--shards", "1"];
        let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
        for conn in 0..10 {
            let mut open = scene.open();
            for n in 0..30 {
                open.exchange(&request("GET", "/", &format!("{conn}-{n:02}"), "", b"")).unwrap();
            }
        }
        assert_eq!(scene.mirror.ready()["seed"], seed, "it is told at the start");
        let ending = scene.finish(300);
        assert_eq!(ending.stats.delivered(0), ending.stats.n("/requests/selected"));
        ids(&ending.shadow).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = chosen("21");
    assert_eq!(chosen("21"), first, "other ports and sequence numbers, the same choice");
    assert_ne!(chosen("22"), first);
}

#[test]
fn nothing_is_copied_at_0_percent_and_everything_at_100() {
    let none = sampled(&["--percent", "0", "--seed", "1"]);
    assert_eq!(none.stats.n("/requests/sampled_out/percent"), SENT);
    assert_eq!((none.stats.shadow(0, "copies"), none.shadow.len()), (0, 0));
    let all = sampled(&["--percent", "100", "--seed", "1"]);
    assert_eq!(all.stats.delivered(0), SENT);
    assert_eq!(ids(&all.shadow), ids(&all.primary));
}

#[test]
fn a_share_is_kept_within_three_sigma() {
    for (percent, share) in [("10", 0.1), ("50", 0.5), ("12.5", 0.125)] {
        let ending = sampled(&["--percent", percent, "--seed", "7"]);
        within_three_sigma(ending.stats.n("/requests/selected"), SENT, share);
        assert_eq!(ending.stats.delivered(0), ending.stats.n("/requests/selected"));
    }
}

#[test]
fn above_100_percent_whole_copies_are_sent_again_and_the_rest_by_chance() {
    let twice = sampled(&["--percent", "200", "--seed", "3"]);
    let counted = (twice.stats.n("/requests/selected"), twice.stats.delivered(0));
    assert_eq!(counted, (SENT, 2 * SENT), "{}", twice.stats.losses(0));
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &twice.shadow {
        *times.entry(&line.id).or_default() += 1;
    }
    assert!(times.values().all(|n| *n == 2) && times.len() as u64 == SENT);
    let more = sampled(&["--percent", "150", "--seed", "3"]);
    within_three_sigma(more.stats.delivered(0) - SENT, SENT, 0.5);
}

#[test]
fn requests_that_alternate_are_both_copied_at_50_percent() {
    let world = World::routed();
    let options = ["--percent", "50", "--seed", "11", "--shards", "1"];
    let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
    let mut conn = scene.open();
    for n in 0..500 {
        for kind in ["a", "b"] {
            conn.exchange(&request("GET", &format!("/{kind}"), &format!("{kind}-{n}"), "", b"")).unwrap();
        }
    }
    let ending = scene.finish(1000);
    for kind in ["/a", "/b"] {
        let copies = ending.shadow.iter().filter(|line| line.target == kind).count() as u64;
        within_three_sigma(copies, 500, 0.5);
    }
}

#[test]
fn chance_by_connection_takes_all_of_a_connection_or_nothing() {
    let world = World::routed();
    let options = ["--percent", "50", "--sample-by", "connection", "--seed", "5"];
    let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
    for conn in 0..200 {
        let mut open = scene.open();
        for n in 0..4 {
            open.exchange(&request("GET", "/", &format!("{conn:03}-{n}"), "", b"")).unwrap();
        }
    }
    let ending = scene.finish(800);
    let mut by_connection: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &ending.shadow {
        *by_connection.entry(&line.id[..3]).or_default() += 1;
    }
    assert!(by_connection.values().all(|n| *n == 4), "{by_connection:?}");
    // Ports and sequence numbers differ from run to run, so this is a draw, not a fixed seed's result.
    within(6.0, by_connection.len() as u64, 200, 0.5);
}

#[test]
fn methods_and_paths_are_filtered_by_name() {
    let world = World::routed();
    let options = ["--methods", "safe", "--path-prefix", "/api"];
    let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
    let mut conn = scene.open();
    let mut sent = 0;
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/api", "/api/x?y", "/other", "/ap"] {
            sent += 1;
            conn.exchange(&request(method, path, &format!("{method}{path}"), "", b"")).unwrap();
        }
    }
    let ending = scene.finish(sent);
    assert_eq!(ending.stats.delivered(0), 3 * 2);
    assert_eq!(ending.stats.sum("/requests/filtered"), sent - 6);
    assert!(ending.shadow.iter().all(|line| ["GET", "HEAD", "OPTIONS"].contains(&line.method.as_str())));
    assert!(ending.shadow.iter().all(|line| line.target.starts_with("/api")));
}

#[test]
fn a_list_of_methods_is_taken_as_it_stands() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &["--methods", "GET,POST"], ..Setup::default() });
    let mut conn = scene.open();
    for (n, method) in ["GET", "POST", "DELETE", "HEAD"].iter().enumerate() {
        conn.exchange(&request(method, "/", &format!("{n}"), "", b"")).unwrap();
    }
    let ending = scene.finish(4);
    assert_eq!(ending.stats.n("/requests/filtered/method"), 2);
    assert_eq!(ids(&ending.shadow), ["0", "1"]);
}

#[test]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
fn a_limit_of_requests_a_second_holds_and_names_what_it_left_out() {
    let world = World::routed_alone();
    let scene = world.scene(&Setup { mirror: &["--max-rps", "100"], ..Setup::default() });
    let start = Instant::now();
    let report = scene.load(|load| {
        load.connections = 4;
        load.requests = 3000;
        load.rate = Some(1000.0);
        load.at_most = Duration::from_secs(20);
    });
    let took = start.elapsed().as_secs_f64();
    report.all_answered();
    let ending = scene.finish(3000);
    let allowed = 100.0 * took;
    let delivered = ending.stats.delivered(0) as f64;
    // While the machine stalls nothing comes to be taken, so the lower bound is loose; without the limit all 3000 are taken.
    assert!((allowed * 0.3..=allowed * 1.2 + 20.0).contains(&delivered), "{delivered} in {took:.1} s");
    assert_eq!(ending.stats.n("/requests/sampled_out/rate"), 3000 - ending.stats.delivered(0));
}
