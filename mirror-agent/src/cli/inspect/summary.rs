//! The counts of an inspection, and the laws they keep.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::record::End;
use super::time;
use crate::capture::Totals;
use crate::dialog::{Bytes, Counters};
use crate::flow::{self, LostReason};
use crate::http::{AbortReason, H2Error, NotHttp};
use crate::packet::{FragmentsLost, NoSegment};

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) observed: u64,
    pub(super) h1: u64,
    pub(super) h2: u64,
    pub(super) complete: u64,
    aborted: [u64; AbortReason::ALL.len()],
    refused: [u64; AbortReason::ALL.len()],
    /// Written, or counted with `--summary`.
    pub(super) shown: u64,
    pub(super) filtered: u64,
    /// Written before their response, because too many waited.
    pub(super) written_early: u64,
    /// By the first digit of the status.
    statuses: [u64; 10],
    pub(super) h2_connections: u64,
    pub(super) h2_waiting: u64,
    h2_errors: [u64; H2Error::ALL.len()],
    pub(super) cancelled: u64,
    pub(super) tunnels: u64,
    pub(super) tunnel_frames: u64,
    pub(super) tunnel_bytes: u64,
}

impl Tally {
    #[inline]
    pub(super) fn ended(&mut self, end: End) {
        match end {
            End::Complete => self.complete += 1,
            End::Aborted(why) => add(&mut self.aborted, why as usize),
        }
    }

    pub(super) fn refused(&mut self, why: AbortReason) {
        add(&mut self.refused, why as usize);
    }

    pub(super) fn h2_error(&mut self, why: H2Error) {
        add(&mut self.h2_errors, why as usize);
    }

    #[inline]
    pub(super) fn answered(&mut self, status: u16) {
        add(&mut self.statuses, usize::from(status / 100));
    }

    /// Whether every request ended in exactly one place.
    fn balances(&self) -> bool {
        let incomplete: u64 = self.aborted.iter().chain(&self.refused).sum();
        self.observed == self.complete + incomplete
    }
}

fn add(counts: &mut [u64], at: usize) {
    if let Some(count) = counts.get_mut(at) {
        *count += 1;
    }
}

/// All counts of an inspection.
pub(super) struct Summary {
    pub(super) source: Totals,
    pub(super) reassembled: u64,
    pub(super) fragments_lost: FragmentsLost,
    pub(super) connections: Counters,
    pub(super) flows: flow::Counters,
    pub(super) bytes: Bytes,
    pub(super) requests: Tally,
}

/// The counts by name, with those that are not 0 where there are many.
#[derive(Serialize)]
struct Named<'a> {
    packets: BTreeMap<&'a str, u64>,
    connections: BTreeMap<&'a str, u64>,
    requests: BTreeMap<&'a str, u64>,
    incomplete: BTreeMap<&'a str, u64>,
    refused: BTreeMap<&'a str, u64>,
    responses: BTreeMap<&'a str, u64>,
    bytes: BTreeMap<&'a str, u64>,
    not_http: BTreeMap<&'a str, u64>,
    lost: BTreeMap<&'a str, u64>,
    http2: BTreeMap<&'a str, u64>,
    laws_hold: bool,
}

impl Serialize for Summary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.named().serialize(serializer)
    }
}

const CLASSES: [&str; 10] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx"];

impl Summary {
    fn named(&self) -> Named<'_> {
        let Self { source, connections, bytes, requests, fragments_lost, flows, .. } = self;
        let mut packets = BTreeMap::from([
            ("files", source.files),
            ("packets", source.packets),
            ("segments", source.segments),
            ("other_ports", source.other_ports),
            ("datagrams_reassembled", self.reassembled),
        ]);
        packets.extend(some(&NoSegment::ALL, &source.no_segment));
        for (name, count) in [
            ("fragments_lost_timeout", fragments_lost.timeout),
            ("fragments_lost_memory", fragments_lost.memory),
            ("fragments_lost_overlap", fragments_lost.overlap),
        ] {
            if count > 0 {
                packets.insert(name, count);
            }
        }
        let mut http2 = BTreeMap::from([
            ("connections", requests.h2_connections),
            ("waiting", requests.h2_waiting),
            ("cancelled", requests.cancelled),
            ("websocket_tunnels", requests.tunnels),
            ("websocket_frames", requests.tunnel_frames),
            ("websocket_bytes", requests.tunnel_bytes),
        ]);
        http2.extend(some(&H2Error::ALL, &requests.h2_errors));
        let classes: Vec<(usize, &str)> = CLASSES.into_iter().enumerate().collect();
        let mut responses = BTreeMap::from([
            ("answered", connections.answered),
            ("unmatched", connections.answers_unmatched),
            ("unanswered", connections.unanswered),
        ]);
        responses.extend(some(&classes, &requests.statuses));
        Named {
            packets,
            connections: BTreeMap::from([
                ("connections", connections.connections),
                ("with_requests", connections.with_client),
                ("midstream", connections.midstream),
                ("refused", flows.refused),
                ("evicted", flows.evicted_unproven + flows.evicted_quiet),
                ("held_overflows", connections.held_overflows),
                ("heads_given_up", connections.heads_given_up),
            ]),
            requests: BTreeMap::from([
                ("observed", requests.observed),
                ("http1", requests.h1),
                ("http2", requests.h2),
                ("complete", requests.complete),
                ("filtered", requests.filtered),
                ("written_early", requests.written_early),
            ]),
            incomplete: some(&AbortReason::ALL, &requests.aborted),
            refused: some(&AbortReason::ALL, &requests.refused),
            responses,
            bytes: BTreeMap::from([
                ("captured", bytes.captured),
                ("cut", bytes.cut),
                ("parsed", bytes.parsed),
                ("responses", bytes.responses),
                ("skipped_before_sync", bytes.skipped),
                ("duplicate", bytes.duplicate),
                ("gaps", bytes.gaps),
            ]),
            not_http: some(&NotHttp::ALL, &bytes.not_http),
            lost: some(&LostReason::ALL, &bytes.lost),
            http2,
            laws_hold: self.laws_hold(),
        }
    }

    /// Both laws: every request and every byte in exactly one place.
    fn laws_hold(&self) -> bool {
        self.bytes.balance() && self.bytes.buffered == 0 && self.requests.balances()
    }
}

/// The counts over 0, by name.
fn some<'a, T>(names: &[(T, &'a str)], counts: &[u64]) -> BTreeMap<&'a str, u64> {
    let named = names.iter().zip(counts).map(|((_, name), count)| (*name, *count));
    named.filter(|(_, count)| *count > 0).collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, bytes, requests, .. } = self;
        let named = self.named();
        let mut span = String::new();
        if source.packets > 0 {
            span.push_str(", ");
            time::rfc3339(source.first_ns, &mut span);
            span.push_str(" to ");
            time::rfc3339(source.last_ns, &mut span);
        }
        writeln!(f, "packets      {} of {} bytes{span}", source.packets, source.bytes)?;
        writeln!(
            f,
            "             segments {}{}",
            source.segments,
            minus(&named.packets, &["packets", "segments"])
        )?;
        for link in &source.unread_links {
            writeln!(f, "             link type {link} is not read")?;
        }
        writeln!(
            f,
            "connections  {}{}",
            self.connections.connections,
            minus(&named.connections, &["connections"])
        )?;
        writeln!(
            f,
            "requests     observed {} = complete {}{}{}",
            requests.observed,
            requests.complete,
            prefixed("incomplete", &named.incomplete),
            prefixed("refused", &named.refused),
        )?;
        writeln!(f, "             {}", plain(&named.requests, &["observed", "complete"]))?;
        writeln!(f, "responses    {}", plain(&named.responses, &[]))?;
        writeln!(
            f,
            "bytes        captured {} = parsed {} + responses {} + skipped_before_sync {} + duplicate {}{}{}",
            bytes.captured,
            bytes.parsed,
            bytes.responses,
            bytes.skipped,
            bytes.duplicate,
            prefixed("not_http", &named.not_http),
            prefixed("lost", &named.lost),
        )?;
        if bytes.cut + bytes.gaps > 0 {
            writeln!(f, "             never captured: {} cut off, {} in gaps", bytes.cut, bytes.gaps)?;
        }
        let http2 = plain(&named.http2, &[]);
        if !http2.is_empty() {
            writeln!(f, "http/2, ws   {http2}")?;
        }
        if !self.laws_hold() {
            writeln!(
                f,
                "THE LAWS DO NOT HOLD: this is a fault of mirror, please report it with the capture"
            )?;
        }
        Ok(())
    }
}

fn minus(counts: &BTreeMap<&str, u64>, names: &[&str]) -> String {
    match plain(counts, names) {
        text if text.is_empty() => text,
        text => format!(", {text}"),
    }
}

/// The counts over 0 but those of `names`.
fn plain(counts: &BTreeMap<&str, u64>, names: &[&str]) -> String {
    let left = counts.iter().filter(|(name, count)| **count > 0 && !names.contains(name));
    left.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn prefixed(what: &str, counts: &BTreeMap<&str, u64>) -> String {
    counts.iter().map(|(name, count)| format!(" + {what}{{{name}}} {count}")).collect()
}
