use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::flow::LostReason;
use crate::http::{AbortReason, H2Error, NotHttp, Waiting};
use crate::plan::{Filtered, SampledOut};
use crate::replay::{Dropped, Failed};
use crate::stats::Monitor;
use crate::stats::fixture::{Bench, OK, SHADOWS, record};
use crate::stats::ledger::GAP_REASONS;
use crate::stats::snapshot::STATUS_CLASSES;
use mirror_common::counter::TapCounter;

type Set = BTreeMap<String, String>;

struct Family {
    kind: String,
    /// Name, labels, value.
    samples: Vec<(String, Set, f64)>,
}

/// Reads an exposition as strictly as a scraper: HELP then TYPE once a family, its samples right after, one EOF.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut current, mut helped) = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            assert!(!help.is_empty());
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert_eq!(name, helped);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match series.split_once('{') {
                Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect(line))),
                None => (series, Set::new()),
            };
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
            let family = families.get_mut(&current).expect(line);
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_sum", "_count", "_bucket"],
            };
            assert!(
                suffixes.iter().any(|suffix| name == format!("{current}{suffix}")),
                "{line} in {current}"
            );
            assert!(
                !family.samples.iter().any(|(n, l, _)| n == name && *l == labels),
                "series twice: {line}"
            );
            family.samples.push((name.to_owned(), labels, value.parse().expect(line)));
        }
    }
    families
}

/// `name="value",...`; values here hold neither quotes nor backslashes.
fn labels(text: &str) -> Set {
    let mut set = Set::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect(text);
        let (value, after) = after.split_once('"').expect(text);
        assert!(set.insert(name.to_owned(), value.to_owned()).is_none(), "label twice: {text}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    set
}

fn exposition(bench: &Bench) -> String {
    let admin = AdminCounts { open: 2, refused: 3, timed_out: 4 };
    text(vec![Monitor::new(bench.source()).snapshot()], admin).unwrap()
}

fn sum(families: &BTreeMap<String, Family>, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no family {name}"));
    let fits = |set: &Set| wanted.iter().all(|(label, value)| set.get(*label).is_some_and(|v| v == value));
    family.samples.iter().filter(|(_, set, _)| fits(set)).map(|(_, _, value)| value).sum()
}

#[test]
fn the_exposition_is_well_formed_full_and_empty() {
    let bench = Bench::new();
    let empty = parse(&exposition(&bench));
    bench.fill();
    let full = parse(&exposition(&bench));
    assert_eq!(empty.keys().collect::<Vec<_>>(), full.keys().collect::<Vec<_>>());
    // Every series is there from the start, but for the ratio that is not known yet.
    for (name, family) in &empty {
        let series = |family: &Family| -> BTreeSet<(String, Set)> {
            family.samples.iter().map(|(name, set, _)| (name.clone(), set.clone())).collect()
        };
        if name == "mirror_capture_ratio" {
            assert!(family.samples.is_empty(), "a gap, never a zero");
        } else {
            assert_eq!(series(family), series(&full[name]), "{name}");
        }
    }
    assert!(parse(&text(Vec::new(), AdminCounts::default()).unwrap()).contains_key("mirror_build_info"));
}

#[test]
fn every_label_value_is_that_of_its_enum() {
    fn names<T>(all: &[(T, &'static str)]) -> BTreeSet<&'static str> {
        all.iter().map(|(_, name)| *name).collect()
    }
    let families = parse(&exposition(&Bench::new()));
    let values = |family: &str, label: &str| -> BTreeSet<String> {
        families[family].samples.iter().map(|(_, set, _)| set[label].clone()).collect()
    };
    let classes: BTreeSet<&str> = STATUS_CLASSES.into();
    let partial: BTreeSet<&str> = ["false", "true"].into();
    let outcomes: BTreeSet<&str> =
        ["parsed", "not_http", "skipped_before_sync", "duplicate", "lost_in_ring", "lost_in_reassembly"]
            .into();
    let byte_reasons = &(&names(&NotHttp::ALL) | &names(&LostReason::ALL)) | &[""].into();
    for (family, label, expected) in [
        ("mirror_requests_sampled_out", "reason", names(&SampledOut::ALL)),
        ("mirror_requests_filtered", "reason", names(&Filtered::ALL)),
        ("mirror_requests_dropped", "reason", names(&AbortReason::ALL)),
        ("mirror_bytes", "outcome", outcomes),
        ("mirror_bytes", "reason", byte_reasons),
        ("mirror_gap_bytes", "reason", names(&GAP_REASONS)),
        ("mirror_copies_delivered", "class", classes.clone()),
        ("mirror_copies_failed", "reason", names(&Failed::ALL)),
        ("mirror_copies_failed", "partial", partial.clone()),
        ("mirror_copies_dropped", "reason", names(&Dropped::ALL)),
        ("mirror_copies_dropped", "partial", partial),
        ("mirror_copies_dropped", "shadow", SHADOWS.into()),
        ("mirror_primary_responses", "class", classes),
        ("mirror_h2_errors", "reason", names(&H2Error::ALL)),
        ("mirror_h2_waiting", "reason", names(&Waiting::ALL)),
        ("mirror_h2_waited", "reason", names(&Waiting::ALL)),
        ("mirror_tap_events", "event", names(&TapCounter::ALL)),
        ("mirror_health", "state", names(&HealthState::ALL)),
    ] {
        assert_eq!(
            values(family, label),
            expected.into_iter().map(str::to_owned).collect(),
            "{family} {label}"
        );
    }
    assert_eq!(families["mirror_copies_failed"].samples.len(), SHADOWS.len() * Failed::ALL.len() * 2);
}

#[test]
fn the_text_and_the_json_say_the_same_and_keep_the_laws() {
    let bench = Bench::new();
    bench.fill();
    let read = bench.source().read();
    let families = parse(&exposition(&bench));
    let sum = |name: &str, labels: &[(&str, &str)]| sum(&families, name, labels);
    let same = |name: &str, labels: &[(&str, &str)], n: u64| {
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let n = n as f64;
        assert_eq!(sum(name, labels), n, "{name} {labels:?}");
    };

    same("mirror_requests_observed", &[("job", "reviews")], read.requests.observed);
    let outcomes = ["selected", "sampled_out", "filtered", "dropped", "open"];
    let all: f64 = outcomes.iter().map(|name| sum(&format!("mirror_requests_{name}"), &[])).sum();
    assert_eq!(all, sum("mirror_requests_observed", &[]));
    assert_eq!(
        sum("mirror_bytes", &[]) + sum("mirror_bytes_buffered", &[]),
        sum("mirror_bytes_matched", &[])
    );
    for shadow in &read.shadows {
        let labels = [("shadow", shadow.url.as_str())];
        same("mirror_copies", &labels, shadow.copies);
        let ends = ["delivered", "failed", "dropped", "in_flight"];
        let all: f64 = ends.iter().map(|name| sum(&format!("mirror_copies_{name}"), &labels)).sum();
        assert_eq!(all, sum("mirror_copies", &labels));
        let partial = [labels[0], ("partial", "true")];
        same("mirror_copies_dropped", &partial, shadow.dropped_partial.total());
        let reset = [labels[0], ("reason", "reset")];
        same("mirror_copies_failed", &reset, shadow.failed.get("reset").unwrap());
        same("mirror_copies_resent", &labels, shadow.resent);
        same("mirror_copies_grpc_failed", &labels, shadow.grpc_failed);
        same("mirror_copies_waited_for_stream", &labels, shadow.waited_for_stream);
        same("mirror_shadow_connections", &labels, shadow.connections);
        same("mirror_shadow_connects", &labels, shadow.connects);
        same("mirror_shadow_queued_bytes", &labels, shadow.queued_bytes);
        same("mirror_shadow_written_bytes", &labels, shadow.written_bytes);
        same("mirror_shadow_discarded_bytes", &labels, shadow.discarded_bytes);
    }
    same("mirror_requests_completed", &[], read.requests.completed);
    same("mirror_gaps", &[], read.bytes.gaps);
    same("mirror_gap_bytes", &[], read.bytes.gap_bytes.total());
    same("mirror_witnessed_responses", &[], read.witnessed);
    same("mirror_witnessed_responses_lost_in_ring", &[], read.responses_lost_in_ring);
    same("mirror_primary_responses", &[("class", "4xx")], read.primary.answered.get("4xx").unwrap());
    same("mirror_primary_responses_unknown", &[], read.primary.unknown);
    same("mirror_h2_connections", &[], read.h2.connections);
    same("mirror_h2_requests", &[], read.h2.requests);
    same("mirror_h2_errors", &[("reason", "compression")], read.h2.errors.get("compression").unwrap());
    same("mirror_h2_waiting", &[("reason", "gap")], read.h2.waiting.get("gap").unwrap());
    same("mirror_h2_waited", &[("reason", "gap")], read.h2.waited.get("gap").unwrap());
    same("mirror_h2_memory_bytes", &[], read.h2.memory_bytes);
    same("mirror_websocket_tunnels", &[], read.websocket.tunnels);
    same("mirror_websocket_frames", &[], read.websocket.frames);
    same("mirror_websocket_payload_bytes", &[], read.websocket.payload_bytes);
    same("mirror_flows", &[], read.flows);
    same("mirror_flows_opened", &[], read.flows_opened);
    same("mirror_flows_midstream", &[], read.flows_midstream);
    same("mirror_tap_events", &[("event", "ring_full")], read.tap.get("ring_full").unwrap());
    same("mirror_ring_capacity_bytes", &[("shard", "0")], 1 << 20);
    same("mirror_ring_peak_fill_bytes", &[("shard", "0")], 4096);
    same("mirror_tap_attached", &[("interface", "eth0"), ("hook", "ingress"), ("mode", "tcx")], 1);
    same("mirror_health", &[("state", "mirroring")], 1);
    same("mirror_health", &[("state", "pending")], 0);
    same("mirror_admin_connections", &[], 2);
    same("mirror_admin_refused", &[], 3);
    same("mirror_admin_timed_out", &[], 4);
    assert_eq!(sum("mirror_capture_ratio", &[]), read.capture_ratio.unwrap());
}

#[test]
fn histograms_are_cumulative_and_place_each_value_in_its_bucket() {
    let bench = Bench::new();
    // 100 is a bound: it belongs to the bucket that it bounds.
    for us in [80, 100, 240, 9_000, 700_000_000] {
        record_clamped(&bench, us);
    }
    let families = parse(&exposition(&bench));
    let family = &families["mirror_primary_latency_seconds"];
    let bucket = |le: &str| {
        let found = family.samples.iter().find(|(_, set, _)| set.get("le").is_some_and(|v| v == le));
        found.unwrap_or_else(|| panic!("no bucket {le}")).2
    };
    let expected =
        [("0.0001", 2.0), ("0.00025", 3.0), ("0.005", 3.0), ("0.01", 4.0), ("300.0", 4.0), ("+Inf", 5.0)];
    for (le, n) in expected {
        assert_eq!(bucket(le), n, "{le}");
    }
    let all = family.samples.iter().filter(|(name, ..)| name.ends_with("_bucket"));
    let counts: Vec<f64> = all.map(|(_, _, n)| *n).collect();
    assert!(counts.is_sorted() && counts.len() == BUCKETS_US.len() + 1, "{counts:?}");
    let one = |suffix: &str| family.samples.iter().find(|(name, ..)| name.ends_with(suffix)).unwrap().2;
    assert_eq!(one("_count"), 5.0);
    assert!((one("_sum") - 600.0).abs() < 3.0, "{}", one("_sum"));
}

/// As the shards record: what is over the longest latency counts as that.
fn record_clamped(bench: &Bench, us: u64) {
    record(&bench.ledgers[0].primary_latency, us.min(crate::stats::ledger::LATENCY_MAX_US));
}

#[test]
fn two_jobs_share_one_family_and_are_told_apart_by_their_label() {
    let (one, two) = (Bench::new(), Bench::new());
    one.exchange(0, [OK, OK]);
    let mut other = two.source();
    other.job = "ratings \"v2\"".to_owned();
    let text = text(vec![one.source().read(), other.read()], AdminCounts::default()).unwrap();
    assert!(text.contains("mirror_requests_observed_total{job=\"reviews\"} 1\n"), "{text}");
    assert!(text.contains("mirror_requests_observed_total{job=\"ratings \\\"v2\\\"\"} 0\n"));
    assert_eq!(text.matches("# TYPE mirror_requests_observed counter").count(), 1);
    assert_eq!(text.matches("mirror_tap_events_total{event=\"ring_full\"}").count(), 1);
}
