use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use super::*;
use crate::http::NotHttp;
use crate::replay::Outcome;
use crate::replay::{Dropped, Failed};
use crate::stats::Law;
use crate::stats::fixture::{Bench, OK, SHADOWS, record};

#[test]
fn a_reading_sums_the_shards_and_keeps_the_shadows_apart() {
    let bench = Bench::new();
    let refused = Outcome::Failed { why: Failed::Refused, partial: false };
    bench.exchange(0, [OK, OK]);
    bench.exchange(1, [OK, refused]);
    bench.exchange(
        1,
        [Outcome::Delivered { status: 503 }, Outcome::Dropped { why: Dropped::Gap, partial: true }],
    );

    let read = bench.source().read();
    assert_eq!((read.requests.observed, read.requests.selected, read.witnessed), (3, 3, 3));
    assert_eq!(read.capture_ratio, Some(1.0));
    let [first, second] = &read.shadows[..] else { panic!("two shadows") };
    assert_eq!((first.copies, first.delivered, first.failed.total(), first.dropped.total()), (3, 3, 0, 0));
    assert_eq!(
        (first.delivered_by_class.get("2xx"), first.delivered_by_class.get("5xx")),
        (Some(2), Some(1))
    );
    assert_eq!(
        (second.delivered, second.failed.get("refused"), second.dropped.get("gap")),
        (1, Some(1), Some(1))
    );
    assert_eq!((first.latency.count(), second.latency.count(), read.primary.latency.count()), (3, 1, 3));
}

#[test]
fn failed_and_dropped_count_the_partial_ones_too() {
    let bench = Bench::new();
    let reset = |partial| Outcome::Failed { why: Failed::Reset, partial };
    bench.exchange(0, [reset(true), reset(false)]);
    bench.exchange(1, [reset(false), reset(false)]);

    let read = bench.source().read();
    assert_eq!(read.shadows[0].failed.get("reset"), Some(2));
    assert_eq!(read.shadows[0].failed_partial.get("reset"), Some(1));
    assert_eq!(read.shadows[1].failed_partial.total(), 0);
}

#[test]
fn the_capture_ratio_is_absent_until_a_response_was_witnessed() {
    let bench = Bench::new();
    assert_eq!(bench.source().read().capture_ratio, None);
    bench.ledgers[0].requests.observed.add(999);
    bench.witness(1000);
    assert_eq!(bench.source().read().capture_ratio, Some(0.999));
}

#[test]
fn the_json_has_the_agreed_fields_and_every_reason_in_its_enums_order() {
    let bench = Bench::new();
    bench.fill();
    let read = bench.source().read();
    let text = serde_json::to_string(&read).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();

    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let sorted = |words: &str| {
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(
        keys(&json),
        sorted(
            "job uptime_s requests bytes shadows primary h2 websocket witnessed responses_lost_in_ring capture_ratio tap taps \
             flows flows_opened flows_midstream rings health"
        )
    );
    assert_eq!(
        keys(&json["requests"]),
        sorted("observed selected completed sampled_out filtered dropped open")
    );
    assert_eq!(
        keys(&json["bytes"]),
        sorted(
            "matched parsed not_http skipped_before_sync duplicate lost_in_ring lost_in_reassembly buffered \
             gap_bytes gaps"
        )
    );
    assert_eq!(
        keys(&json["shadows"][0]),
        sorted(
            "url copies delivered delivered_by_class failed failed_partial dropped dropped_partial in_flight \
             connections connects queued_bytes resent grpc_failed waited_for_stream written_bytes discarded_bytes latency_us queued_us"
        )
    );
    assert_eq!(keys(&json["primary"]), sorted("answered unknown latency_us"));
    assert_eq!(keys(&json["h2"]), sorted("connections requests errors memory_bytes waiting waited"));
    assert_eq!(keys(&json["websocket"]), sorted("tunnels frames payload_bytes"));
    assert_eq!(keys(&json["primary"]["latency_us"]), sorted("count mean p50 p90 p99 p999 max"));
    assert_eq!(keys(&json["taps"][0]), sorted("interface ifindex netns hook mode before"));
    assert_eq!(
        json["rings"][0],
        serde_json::json!({"shard": 0, "capacity": 1 << 20, "peak_fill": 4096, "records": 0, "bad_records": 0, "rounds": 0, "sleeps": 0, "overloads": 0, "heads_given_up": 0})
    );
    assert_eq!(json["shadows"][1]["url"], SHADOWS[1]);
    assert_eq!(json["shadows"][0]["delivered_by_class"].as_object().unwrap().len(), 5);
    assert_eq!(json["tap"]["own_replays"].as_u64(), read.tap.get("own_replays"));

    // The map is written in the order of the enum, not of the alphabet.
    let reasons: Vec<String> = Failed::ALL.iter().map(|(_, name)| format!("\"{name}\":")).collect();
    let failed = text.split("\"failed\":").nth(1).unwrap();
    let places: Vec<usize> = reasons.iter().map(|reason| failed.find(reason.as_str()).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn counts_cover_every_value_of_their_enum_and_place_each_by_its_index() {
    let bench = Bench::new();
    let ledger = &bench.ledgers[0];
    for (index, counter) in ledger.bytes.not_http.iter().enumerate() {
        counter.add(index as u64 + 1);
    }
    for (why, _) in Dropped::ALL {
        ledger.shadows[0].dropped[why as usize].add(why as u64 + 1);
    }
    let read = bench.source().read();
    for (why, name) in NotHttp::ALL {
        assert_eq!(read.bytes.not_http.get(name), Some(why as u64 + 1), "{name}");
    }
    for (why, name) in Dropped::ALL {
        assert_eq!(read.shadows[0].dropped.get(name), Some(why as u64 + 1), "{name}");
    }
    assert_eq!(read.bytes.not_http.top(), Some(("unknown", 8)));
    assert_eq!(read.requests.filtered.top(), None);
}

#[test]
fn the_difference_of_two_readings_of_a_histogram_is_what_came_between() {
    let bench = Bench::new();
    record(&bench.ledgers[0].primary_latency, 100);
    let before = bench.source().read().primary.latency;
    record(&bench.ledgers[1].primary_latency, 40_000);
    let after = bench.source().read().primary.latency;

    let between = after.since(&before);
    assert_eq!((between.count(), after.count()), (1, 2));
    assert!((39_600..=40_400).contains(&between.quantile(0.5)), "{}", between.quantile(0.5));
    // Readings that are not of one source give nothing rather than nonsense.
    assert_eq!(before.since(&after).count(), 0);
}

#[test]
fn an_empty_histogram_serialises_as_zeros() {
    let json = serde_json::to_value(Latencies::default()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"count": 0, "mean": 0.0, "p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0})
    );
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reading_of_a_live_ledger_never_shows_more_outcomes_than_totals() {
    let bench = Bench::new();
    let source = bench.source();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ledger = &bench.ledgers[0];
        let stop = &stop;
        scope.spawn(move || {
            let shadow = &ledger.shadows[0];
            while !stop.load(Ordering::Relaxed) {
                ledger.requests.observed.add(1);
                ledger.requests.selected.add(1);
                shadow.copies.add(1);
                shadow.in_flight.add(1);
                shadow.book(OK);
            }
        });
        // Also when an assertion fails: the scope waits for the writer.
        let _stop = StopOnDrop(stop);
        while ledger.requests.observed.get() == 0 {
            thread::yield_now();
        }
        for _ in 0..300 {
            let read = source.read();
            let shadow = &read.shadows[0];
            assert!(read.requests.selected <= read.requests.observed);
            assert!(shadow.delivered <= shadow.copies, "{} > {}", shadow.delivered, shadow.copies);
            assert!(shadow.in_flight <= 1, "{}", shadow.in_flight);
        }
        // Many more of the part where a wrong order would show, without the histograms.
        for _ in 0..50_000 {
            let mut shadow = Shadow::empty(String::new());
            shadow.add(&ledger.shadows[0]);
            assert!(shadow.delivered + shadow.in_flight <= shadow.copies);
        }
    });
    let broken = source.read().laws();
    // The other shadow got no copies here; all else is even at rest.
    assert!(broken.iter().all(|broken| broken.law == Law::Planned(SHADOWS[1].to_owned())), "{broken:?}");
}
