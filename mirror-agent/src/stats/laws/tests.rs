use super::*;
use crate::http::AbortReason;
use crate::stats::fixture::{Bench, OK, SHADOWS};

fn breaks(bench: &Bench) -> Vec<LawBreak> {
    bench.source().read().laws()
}

#[test]
fn books_that_balance_in_every_column_break_no_law() {
    let bench = Bench::new();
    assert_eq!(breaks(&bench), []);
    bench.exchange(0, [OK, OK]);
    assert_eq!(breaks(&bench), []);
    let bench = Bench::new();
    bench.fill();
    assert_eq!(breaks(&bench), []);
}

#[test]
fn a_request_without_an_outcome_breaks_the_first_law_and_says_by_how_much() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.ledgers[1].requests.observed.add(2);
    let broken = breaks(&bench);
    assert_eq!(broken, [LawBreak { law: Law::Requests, total: 3, sum: 1 }]);
    assert_eq!(broken[0].to_string(), "requests: 3 observed, outcomes sum to 1: 2 without an outcome");
}

#[test]
fn a_request_counted_twice_breaks_the_first_law_the_other_way() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.ledgers[0].requests.dropped[AbortReason::Gap as usize].add(1);
    let broken = breaks(&bench);
    assert_eq!(broken, [LawBreak { law: Law::Requests, total: 1, sum: 2 }]);
    assert!(broken[0].to_string().contains("1 counted twice"), "{}", broken[0]);
}

#[test]
fn a_copy_that_vanished_breaks_the_law_of_its_shadow_alone() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.ledgers[0].shadows[1].copies.add(1);
    assert_eq!(breaks(&bench), [LawBreak { law: Law::Copies(SHADOWS[1].to_owned()), total: 2, sum: 1 }]);
}

#[test]
fn a_selected_request_without_a_copy_is_said_even_if_the_sums_are_even() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.ledgers[0].requests.observed.add(1);
    bench.ledgers[0].requests.selected.add(1);
    let planned = |url: &str| LawBreak { law: Law::Planned(url.to_owned()), total: 2, sum: 1 };
    assert_eq!(breaks(&bench), SHADOWS.map(planned));
}

#[test]
fn a_byte_that_vanished_breaks_the_third_law() {
    let bench = Bench::new();
    bench.exchange(0, [OK, OK]);
    bench.matched(7);
    assert_eq!(breaks(&bench), [LawBreak { law: Law::Bytes, total: 107, sum: 100 }]);
}

#[test]
fn what_is_on_its_way_keeps_the_sums_even_but_is_no_rest() {
    let bench = Bench::new();
    let ledger = &bench.ledgers[0];
    ledger.requests.observed.add(1);
    ledger.requests.open.add(1);
    bench.matched(10);
    ledger.bytes.buffered.add(10);
    ledger.shadows[0].copies.add(1);
    ledger.shadows[0].in_flight.add(1);
    let broken: Vec<String> = breaks(&bench).iter().map(ToString::to_string).collect();
    assert_eq!(
        broken,
        [
            "open requests: 1 at rest, should be 0",
            "buffered bytes: 10 at rest, should be 0",
            "copies in flight: 1 at rest, should be 0"
        ]
    );
}
