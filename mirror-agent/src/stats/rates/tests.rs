use std::sync::atomic::Ordering;

use super::*;
use crate::replay::Outcome;
use crate::stats::Monitor;
use crate::stats::fixture::{Bench, OK};
use crate::stats::snapshot::Source;

/// A bench whose clock is set by hand.
struct Clock {
    bench: Bench,
    source: Source,
    history: History,
    at: f64,
}

impl Clock {
    fn new() -> Self {
        let bench = Bench::new();
        let source = bench.source();
        let mut clock = Self { bench, source, history: History::default(), at: 0.0 };
        clock.tick(0.0);
        clock
    }

    fn tick(&mut self, after: f64) -> Rates {
        self.at += after;
        let mut snapshot = self.source.read();
        snapshot.uptime_s = self.at;
        self.history.tick(&snapshot)
    }

    fn health(&self) -> Health {
        self.history.health(true, &[])
    }
}

const REFUSED: Outcome = Outcome::Failed { why: Failed::Refused, partial: false };
const QUEUE_FULL: Outcome = Outcome::Dropped { why: Dropped::QueueFull, partial: false };

fn exchanges(bench: &Bench, n: usize, outcomes: [Outcome; 2]) {
    (0..n).for_each(|_| bench.exchange(0, outcomes));
}

#[test]
fn rates_are_what_happened_between_two_ticks() {
    let mut clock = Clock::new();
    exchanges(&clock.bench, 10, [OK, OK]);
    clock.tick(1.0);
    exchanges(&clock.bench, 3, [OK, REFUSED]);
    exchanges(&clock.bench, 1, [Outcome::Delivered { status: 500 }, QUEUE_FULL]);
    let rates = clock.tick(2.0);

    assert_eq!((rates.seconds, rates.observed, rates.delivered), (2.0, 4, 4));
    assert_eq!(rates.per_second(rates.observed), 2.0);
    assert_eq!(rates.primary_success, Some(1.0));
    // 3 of 4 delivered without a server error, 3 failed; the dropped one does not count against the shadow.
    assert_eq!(rates.shadow_success, Some(3.0 / 7.0));
    assert_eq!((rates.primary_latency.count(), rates.shadow_latency.count()), (4, 4));
    assert_eq!((rates.losses.total(), rates.losses.top()), (4, Some(("refused", 3))));
}

#[test]
fn the_first_tick_and_a_quiet_second_show_nothing() {
    let mut history = History::default();
    let bench = Bench::new();
    exchanges(&bench, 5, [OK, REFUSED]);
    let first = history.tick(&bench.source().read());
    assert_eq!(
        (first.observed, first.losses.total(), first.primary_success, first.seconds),
        (0, 0, None, 0.0)
    );
    assert_eq!(first.per_second(7), 0.0);

    let mut clock = Clock::new();
    let quiet = clock.tick(1.0);
    assert_eq!((quiet.primary_success, quiet.shadow_success, quiet.capture_ratio), (None, None, None));
    assert_eq!((quiet.primary_latency.count(), quiet.losses.top()), (0, None));
    assert_eq!(clock.health(), Health { state: HealthState::Mirroring, reason: String::new() });
}

#[test]
fn more_than_one_percent_lost_copies_degrade_with_the_top_reason_until_a_minute_has_passed() {
    let mut clock = Clock::new();
    exchanges(&clock.bench, 99, [OK, OK]);
    exchanges(&clock.bench, 1, [OK, REFUSED]);
    exchanges(&clock.bench, 1, [OK, QUEUE_FULL]);
    clock.tick(1.0);
    // 2 of 202 is less than one percent.
    assert_eq!(clock.health().state, HealthState::Mirroring);

    exchanges(&clock.bench, 1, [OK, QUEUE_FULL]);
    clock.tick(1.0);
    let health = clock.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert_eq!(health.reason, "1.4% of copies lost in the last minute, most dropped: queue_full (2)");

    for _ in 0..59 {
        clock.tick(1.0);
    }
    assert_eq!(clock.health().state, HealthState::Degraded);
    clock.tick(1.0);
    clock.tick(1.0);
    assert_eq!(clock.health().state, HealthState::Mirroring);
}

#[test]
fn dropped_requests_degrade_too() {
    let mut clock = Clock::new();
    exchanges(&clock.bench, 50, [OK, OK]);
    let requests = &clock.bench.ledgers[1].requests;
    requests.observed.add(1);
    requests.dropped[AbortReason::Gap as usize].add(1);
    clock.tick(1.0);
    assert_eq!(clock.health().reason, "1.9% of requests dropped in the last minute, most: gap (1)");
}

#[test]
fn bytes_lost_in_the_ring_degrade_though_the_witness_saw_less_than_was_observed() {
    let mut clock = Clock::new();
    exchanges(&clock.bench, 100, [OK, OK]);
    clock.bench.lost_in_ring(10);
    clock.tick(1.0);
    assert_eq!(clock.health().state, HealthState::Mirroring);
    clock.bench.lost_in_ring(100);
    clock.tick(1.0);
    assert_eq!(clock.health().reason, "1.0% of the bytes were lost in the ring in the last minute");
}

#[test]
fn requests_that_were_never_seen_degrade_by_the_witness() {
    let mut clock = Clock::new();
    exchanges(&clock.bench, 999, [OK, OK]);
    clock.bench.witness(1);
    let rates = clock.tick(1.0);
    assert_eq!((rates.capture_ratio, clock.health().state), (Some(0.999), HealthState::Mirroring));

    clock.bench.witness(1);
    clock.tick(1.0);
    let health = clock.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert_eq!(health.reason, "only 99.80% of answered requests were seen in the last minute");
}

#[test]
fn an_answer_to_a_request_from_before_the_window_is_no_miss() {
    let mut clock = Clock::new();
    clock.bench.ledgers[0].requests.observed.add(5);
    for _ in 0..70 {
        clock.tick(1.0);
    }
    (0..5).for_each(|_| clock.bench.answer(0));
    let rates = clock.tick(1.0);
    assert_eq!((rates.capture_ratio, clock.health().state), (Some(1.0), HealthState::Mirroring));
}

#[test]
fn a_response_whose_head_was_lost_does_not_count_as_an_unseen_request() {
    let mut clock = Clock::new();
    // Observed and witnessed, but never matched: the head found no room in the ring.
    clock.bench.ledgers[0].requests.observed.add(5);
    clock.bench.witness(5);
    assert_eq!(clock.tick(1.0).capture_ratio, Some(1.0));
}

#[test]
fn the_history_stays_bounded_at_any_pace() {
    let mut clock = Clock::new();
    for _ in 0..1000 {
        clock.tick(0.01);
        assert!(clock.history.marks.len() <= MARKS);
    }
    for _ in 0..200 {
        clock.tick(1.0);
    }
    let window = clock.history.window().unwrap();
    assert!((60.0..61.5).contains(&window.at), "{}", window.at);
    // After a pause the last minute is only what the newest two marks span.
    clock.tick(3600.0);
    assert_eq!(clock.history.marks.len(), 2);
}

#[test]
fn without_a_tap_the_job_is_pending_and_says_why() {
    let bench = Bench::new();
    bench.tapped.0.store(false, Ordering::Relaxed);
    let monitor = Monitor::new(bench.source());
    let reason = "interface eth0 does not exist".to_owned();
    assert_eq!(monitor.tick().0.health, Health { state: HealthState::Pending, reason: reason.clone() });
    assert_eq!(monitor.untapped(), Some(reason));

    bench.tapped.0.store(true, Ordering::Relaxed);
    assert_eq!(monitor.snapshot().health.state, HealthState::Mirroring);
    assert_eq!(monitor.untapped(), None);

    let nothing = History::default().health(false, &[]);
    assert_eq!(nothing.reason, "no interface is tapped");
    let some = History::default().health(true, &["interface eth1 does not exist".to_owned()]);
    assert_eq!((some.state, some.reason.as_str()), (HealthState::Mirroring, "interface eth1 does not exist"));
}

#[test]
fn the_states_are_serialised_by_their_exported_names() {
    for (state, name) in HealthState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), name);
    }
}

#[test]
fn a_share_is_never_rounded_up_to_all() {
    let shown = [None, Some(1.0), Some(0.999_99), Some(0.9907), Some(0.5), Some(0.9899), Some(0.0)];
    assert_eq!(
        shown.map(|share| Percent(share).to_string()),
        ["-", "100%", "99.99%", "99.07%", "50.0%", "98.9%", "0.0%"]
    );
}
