//! The admin API: health, readiness, numbers for people and for Prometheus.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use mirror_tests::client::request;
use mirror_tests::world::Setup;
use mirror_tests::{World, eventually};

/// Sums the samples of each family over their labels.
fn families(text: &str) -> BTreeMap<&str, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        *sums.entry(name.split('{').next().unwrap()).or_insert(0.0) += value.parse::<f64>().unwrap();
    }
    sums
}

#[test]
fn metrics_and_the_api_tell_the_same_numbers_as_the_last_line() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let report = scene.load(|load| {
        load.requests = 120;
        load.post_every = 3;
        load.body = 100;
    });
    report.all_answered();
    let stats = scene.mirror.rest(120);
    let (status, text) = scene.mirror.admin("/metrics").unwrap();
    assert_eq!(status, 200);
    let sums = families(&text);
    let family = |suffix: &str| {
        let hits: Vec<f64> =
            sums.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, sum)| *sum).collect();
        assert_eq!(hits.len(), 1, "one family ends with {suffix}: {:?}", sums.keys());
        hits[0]
    };
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let number = |n: u64| n as f64;
    for (suffix, expected) in [
        ("requests_observed_total", 120),
        ("requests_selected_total", 120),
        ("copies_total", 120),
        ("copies_delivered_total", 120),
        ("bytes_matched_total", stats.n("/bytes/matched")),
        ("witnessed_responses_total", stats.n("/witnessed")),
    ] {
        assert!(
            (family(suffix) - number(expected)).abs() < 0.5,
            "{suffix}: {} != {expected}",
            family(suffix)
        );
    }
    // The witness counts each answer once, however often TCP sends it.
    assert!((family("capture_ratio") - 1.0).abs() < 1e-9, "{}", family("capture_ratio"));
    for line in text.lines().filter(|line| line.starts_with("# TYPE") || line.starts_with("# HELP")) {
        assert!(line.split(' ').count() >= 4, "{line}");
    }
    scene.all_delivered(120);
}

#[test]
fn health_and_readiness_answer_and_unknown_paths_do_not() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/stats"] {
        assert_eq!(scene.mirror.admin(path).unwrap().0, 200, "{path}");
    }
    assert_eq!(scene.mirror.admin("/nowhere").unwrap().0, 404);
    assert!(scene.mirror.ready().get("event").is_some());
    scene.all_delivered(0);
}

#[test]
fn latencies_of_both_sides_are_told_apart() {
    let world = World::routed_alone();
    let setup = Setup { primary: &["--delay-ms", "30"], shadow: &["--delay-ms", "80"], ..Setup::default() };
    let scene = world.scene(&setup);
    scene
        .load(|load| {
            load.connections = 4;
            load.requests = 60;
        })
        .all_answered();
    let ending = scene.all_delivered(60);
    let primary = ending.stats.n("/primary/latency_us/p50");
    let shadow = ending.stats.n("/shadows/0/latency_us/p50");
    // No upper bounds: on a machine that stalls everything takes longer.
    assert!(primary >= 29_000, "primary's p50 {primary} us");
    assert!(shadow >= 79_000 && shadow >= primary + 25_000, "p50 {shadow} us, the primary's {primary} us");
}

#[test]
fn a_peer_that_does_not_read_the_admin_api_holds_up_nothing() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let admin = mirror_tests::mirror::ADMIN.parse().unwrap();
    let mut idle: Vec<_> = (0..20).map(|_| mirror_tests::Conn::open(&world.node, admin).unwrap()).collect();
    for conn in &mut idle {
        conn.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").unwrap();
    }
    let mut conn = scene.open();
    for n in 0..30 {
        conn.exchange(&request("GET", "/", &format!("{n}"), "", b"")).unwrap();
    }
    eventually("all delivered", Duration::from_secs(10), || scene.mirror.stats().unwrap().delivered(0) == 30);
    scene.all_delivered(30);
}
