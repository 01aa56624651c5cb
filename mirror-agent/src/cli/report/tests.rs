use std::sync::atomic::Ordering;

use serde_json::Value;

use super::*;
use crate::replay::{Dropped, Failed, Outcome};
use crate::stats::Monitor;
use crate::stats::fixture::{Bench, OK, SHADOWS};

/// What the live line shows one second after an idle start, given what happened in that second.
fn second(bench: &Bench, happens: impl FnOnce()) -> (Snapshot, Rates) {
    let monitor = Monitor::new(bench.source());
    let _ = monitor.tick();
    happens();
    let (snapshot, mut rates) = monitor.tick();
    rates.seconds = 1.0;
    (snapshot, rates)
}

#[test]
fn the_live_line_puts_primary_and_shadow_side_by_side() {
    let bench = Bench::new();
    let refused = Outcome::Failed { why: Failed::Refused, partial: false };
    let (snapshot, rates) = second(&bench, || {
        (0..3).for_each(|_| bench.exchange(0, [OK, OK]));
        bench.exchange(1, [OK, refused]);
    });
    assert_eq!(
        live_line(&snapshot, &rates),
        "4 req/s  7 copies/s  ok 100%/87.5%  p50 1.0/2.0ms  p99 1.0/2.0ms  seen 100%  lost 1 refused"
    );
}

#[test]
fn the_first_line_tells_the_seed_to_the_last_digit() {
    let (snapshot, _) = second(&Bench::new(), || ());
    let first: Value = serde_json::from_str(&ready_line(&snapshot, u64::MAX)).unwrap();
    assert_eq!((&first["event"], &first["seed"]), (&"ready".into(), &"18446744073709551615".into()));
    let later: Value = serde_json::from_str(&json_line("stats", &snapshot)).unwrap();
    assert!(later.get("seed").is_none() && later["job"] == first["job"]);
}

#[test]
fn a_quiet_second_shows_dashes() {
    let (snapshot, rates) = second(&Bench::new(), || ());
    assert_eq!(live_line(&snapshot, &rates), "0 req/s  0 copies/s  ok -/-  p50 -/-ms  p99 -/-ms  seen -");
}

#[test]
fn a_pending_job_says_what_it_waits_for() {
    let bench = Bench::new();
    bench.tapped.0.store(false, Ordering::Relaxed);
    let (snapshot, rates) = second(&bench, || ());
    assert_eq!(live_line(&snapshot, &rates), "pending: interface eth0 does not exist");
}

#[test]
fn the_live_line_never_exceeds_its_columns() {
    let bench = Bench::new();
    let (mut snapshot, mut rates) = second(&bench, || bench.fill());
    rates.observed = u64::MAX;
    rates.delivered = 999_949;
    rates.primary_success = Some(0.9999);
    rates.shadow_success = Some(0.9999);
    rates.capture_ratio = Some(0.9999);
    let line = live_line(&snapshot, &rates);
    assert!(line.chars().count() <= LIVE_COLUMNS, "{line}");
    assert!(line.starts_with("999T req/s  1.0M copies/s") || line.starts_with("999T req/s  999k"), "{line}");

    snapshot.health.state = HealthState::Pending;
    snapshot.health.reason = "ü".repeat(500);
    assert_eq!(live_line(&snapshot, &rates).chars().count(), LIVE_COLUMNS);
}

#[test]
fn a_json_line_is_one_line_with_the_event_and_the_reading() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    let line = json_line("stats", &bench.source().read());
    assert!(!line.contains('\n') && line.starts_with("{\"event\":\"stats\",\"job\":\"reviews\""), "{line}");
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["event"], &json["requests"]["observed"]), (&Value::from("stats"), &Value::from(1)));
    assert_eq!(json["shadows"][0]["url"], SHADOWS[0]);
}

#[test]
fn the_final_table_lists_every_outcome_that_occurred_and_no_other() {
    let bench = Bench::new();
    (0..2).for_each(|_| bench.exchange(0, [OK, OK]));
    bench.exchange(
        1,
        [
            Outcome::Dropped { why: Dropped::QueueFull, partial: false },
            Outcome::Failed { why: Failed::Reset, partial: true },
        ],
    );
    let mut snapshot = bench.source().read();
    snapshot.uptime_s = 12.34;
    let expected = "\
reviews ran for 12.3 s
requests: 3
  selected                                     3
copies for http://127.0.0.1:9081: 3
  delivered                                    2
                 2xx                           2
  dropped        queue_full                    1
  latency        p50 2.0  p90 2.0  p99 2.0  max 2.0 ms
  queued         p50 0.05  p90 0.05  p99 0.05  max 0.05 ms
copies for http://127.0.0.1:9082: 3
  delivered                                    2
                 2xx                           2
  failed         reset                         1  (1 in mid-copy)
  latency        p50 2.0  p90 2.0  p99 2.0  max 2.0 ms
  queued         p50 0.05  p90 0.05  p99 0.05  max 0.05 ms
answers of the primary, witnessed: 3
  answered       2xx                           3
  latency        p50 1.0  p90 1.0  p99 1.0  max 1.0 ms
  capture ratio  1.0000
request bytes matched: 300
  parsed                                     300
laws hold: every request, copy and byte has exactly one outcome
";
    assert_eq!(final_table(&snapshot), expected);
}

#[test]
fn the_final_table_names_every_reason_that_occurred() {
    let bench = Bench::new();
    bench.fill();
    let snapshot = bench.source().read();
    let table = final_table(&snapshot);
    let r = &snapshot.requests;
    let b = &snapshot.bytes;
    for counts in [&r.sampled_out, &r.filtered, &r.dropped, &b.not_http, &b.lost_in_reassembly, &b.gap_bytes]
    {
        for (name, n) in counts.iter() {
            let row = |line: &str| line.contains(&format!(" {name} ")) && line.ends_with(&format!(" {n}"));
            assert!(table.lines().any(row), "{name} {n} in {table}");
        }
    }
    assert!(table.ends_with("laws hold: every request, copy and byte has exactly one outcome\n"), "{table}");
}

#[test]
fn the_final_table_says_which_law_is_broken_and_by_how_much() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.ledgers[0].requests.observed.add(2);
    let table = final_table(&bench.source().read());
    assert!(table.contains("LAWS BROKEN"), "{table}");
    assert!(table.ends_with("  requests: 3 observed, outcomes sum to 1: 2 without an outcome\n"), "{table}");
}

#[test]
fn numbers_take_four_characters_at_most_and_never_lie_by_more_than_rounding() {
    for (n, shown) in [
        (0.0, "0"),
        (0.004, "0.00"),
        (0.21, "0.21"),
        (0.996, "1.0"),
        (1.0, "1"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (12_345.0, "12k"),
        (999_600.0, "1.0M"),
        (7.4e9, "7.4G"),
        (2e12, "2T"),
    ] {
        assert_eq!(short(n), shown, "{n}");
    }
}
