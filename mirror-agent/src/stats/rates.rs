//! The last second and the last minute: what the live line shows, and whether the job is well.
//!
//! [`History`] keeps one small mark a second for a minute; every window is the difference of two marks.

use std::collections::VecDeque;
use std::fmt;

use super::snapshot::{Counts, Latencies, STATUS_CLASSES, Snapshot, ratio};
use crate::http::AbortReason;
use crate::replay::{Dropped, Failed};

/// Length of the window that health is judged by, seconds.
pub const WINDOW_S: f64 = 60.0;
/// Marks kept at most; at one a second they reach back a little further than [`WINDOW_S`].
pub const MARKS: usize = 64;
/// Capture ratio of a minute below which a job is degraded.
pub const CAPTURE_FLOOR: f64 = 0.999;
/// Share of dropped and failed ones in a minute above which a job is degraded.
pub const LOSS_CEILING: f64 = 0.01;

/// How a job does.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// In one word.
    pub state: HealthState,
    /// Why, or what it still waits for, in a phrase; empty if there is nothing to say.
    pub reason: String,
}

impl Default for Health {
    /// Nothing is known yet.
    fn default() -> Self {
        Self { state: HealthState::Pending, reason: "not started".to_owned() }
    }
}

/// How a job does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Traffic is copied.
    Mirroring,
    /// More is lost than should be.
    Degraded,
    /// Nothing is tapped.
    Pending,
}

impl HealthState {
    /// Every state with its exported name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Mirroring, "mirroring"), (Self::Degraded, "degraded"), (Self::Pending, "pending")];
}

/// What happened between the last two ticks; `capture_ratio` is that of the last minute.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Time between the ticks, seconds; 0 at the first tick.
    pub seconds: f64,
    /// Requests observed.
    pub observed: u64,
    /// Copies delivered, over all shadows.
    pub delivered: u64,
    /// Share of the primary's known answers that were no server error; none without answers.
    pub primary_success: Option<f64>,
    /// Share of copies sent that were answered without a server error; a failed copy is no success, nor a gRPC call that failed; a dropped one
    /// says nothing of the shadow. None without copies.
    pub shadow_success: Option<f64>,
    /// The primary's latency.
    pub primary_latency: Latencies,
    /// The shadows' latency, all together.
    pub shadow_latency: Latencies,
    /// Lower bound of the share of witnessed responses whose request was observed, over the last minute.
    pub capture_ratio: Option<f64>,
    /// Requests dropped, copies dropped, copies failed, by reason.
    pub losses: Losses,
}

impl Rates {
    /// `n` of this tick, a second.
    #[must_use]
    pub fn per_second(&self, n: u64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
        if self.seconds > 0.0 { n as f64 / self.seconds } else { 0.0 }
    }
}

/// What was lost, by what and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Losses {
    /// Requests that were recognised but not mirrored.
    pub requests_dropped: Counts,
    /// Copies that the mirror gave up, over all shadows.
    pub copies_dropped: Counts,
    /// Copies that failed, over all shadows.
    pub copies_failed: Counts,
}

impl Losses {
    fn of(snapshot: &Snapshot) -> Self {
        let mut copies_dropped = Counts::zero(Dropped::ALL.iter().map(|(_, name)| *name));
        let mut copies_failed = Counts::zero(Failed::ALL.iter().map(|(_, name)| *name));
        for shadow in &snapshot.shadows {
            copies_dropped.add(&shadow.dropped);
            copies_failed.add(&shadow.failed);
        }
        Self { requests_dropped: snapshot.requests.dropped.clone(), copies_dropped, copies_failed }
    }

    /// All losses together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests_dropped.total() + self.copies_dropped.total() + self.copies_failed.total()
    }

    /// The most frequent loss: its reason and how often.
    #[must_use]
    pub fn top(&self) -> Option<(&'static str, u64)> {
        [&self.copies_dropped, &self.copies_failed, &self.requests_dropped]
            .into_iter()
            .filter_map(Counts::top)
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests_dropped: self.requests_dropped.since(&earlier.requests_dropped),
            copies_dropped: self.copies_dropped.since(&earlier.copies_dropped),
            copies_failed: self.copies_failed.since(&earlier.copies_failed),
        }
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            requests_dropped: Counts::zero(AbortReason::ALL.iter().map(|(_, name)| *name)),
            copies_dropped: Counts::zero(Dropped::ALL.iter().map(|(_, name)| *name)),
            copies_failed: Counts::zero(Failed::ALL.iter().map(|(_, name)| *name)),
        }
    }
}

/// The numbers of one moment that windows are made of.
#[derive(Clone, Debug, Default)]
struct Mark {
    at: f64,
    observed: u64,
    /// Of these, those whose answers the witness can see.
    witnessable: u64,
    witnessed: u64,
    answered: u64,
    unknown: u64,
    delivered: u64,
    matched_bytes: u64,
    lost_in_ring: u64,
    losses: Losses,
}

impl Mark {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            at: snapshot.uptime_s,
            observed: snapshot.requests.observed,
            witnessable: snapshot.witnessable(),
            witnessed: snapshot.witnessed,
            answered: snapshot.primary.answered.total(),
            unknown: snapshot.primary.unknown,
            delivered: snapshot.shadows.iter().map(|shadow| shadow.delivered).sum(),
            matched_bytes: snapshot.bytes.matched,
            lost_in_ring: snapshot.bytes.lost_in_ring,
            losses: Losses::of(snapshot),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            at: self.at - earlier.at,
            observed: self.observed.saturating_sub(earlier.observed),
            witnessable: self.witnessable.saturating_sub(earlier.witnessable),
            witnessed: self.witnessed.saturating_sub(earlier.witnessed),
            answered: self.answered.saturating_sub(earlier.answered),
            unknown: self.unknown.saturating_sub(earlier.unknown),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            matched_bytes: self.matched_bytes.saturating_sub(earlier.matched_bytes),
            lost_in_ring: self.lost_in_ring.saturating_sub(earlier.lost_in_ring),
            losses: self.losses.since(&earlier.losses),
        }
    }

    /// Of a window: the share of witnessed responses whose request was observed, at least.
    ///
    /// A response in the window may answer a request from before it (long polling), and a request in the window may be
    /// answered after it. So a response counts as missed only if both comparisons miss it: with the requests observed,
    /// and with the requests that got their answer, or were known not to, in the window.
    fn capture_ratio(&self) -> Option<f64> {
        let by_requests = self.witnessed.saturating_sub(self.witnessable);
        // What is asked on HTTP/2 is unknown sooner or later.
        let streams = self.observed.saturating_sub(self.witnessable);
        let unknown = self.unknown.saturating_sub(streams);
        let by_answers = self.witnessed.saturating_sub(self.answered + unknown);
        ratio(self.witnessed - by_requests.min(by_answers), self.witnessed)
    }
}

/// The marks of the last minute, and the reading before the newest.
#[derive(Debug, Default)]
pub struct History {
    marks: VecDeque<Mark>,
    latest: Option<Snapshot>,
}

impl History {
    /// Takes up a reading. Call it once a second; what it returns is what happened since the call before.
    pub fn tick(&mut self, snapshot: &Snapshot) -> Rates {
        let mark = Mark::of(snapshot);
        // The oldest mark that is kept is the newest that is a whole window old.
        while self.marks.len() >= MARKS
            || self.marks.get(1).is_some_and(|second| mark.at - second.at >= WINDOW_S)
        {
            self.marks.pop_front();
        }
        let delta = self.marks.back().map(|last| mark.since(last)).unwrap_or_default();
        self.marks.push_back(mark);

        // At the first tick nothing has happened since.
        let earlier = self.latest.replace(snapshot.clone()).unwrap_or_else(|| snapshot.clone());
        let mut classes = Counts::zero(STATUS_CLASSES);
        let mut grpc_failed = 0;
        let mut shadow_latency = Latencies::default();
        for (now, before) in snapshot.shadows.iter().zip(&earlier.shadows) {
            classes.add(&now.delivered_by_class.since(&before.delivered_by_class));
            grpc_failed += now.grpc_failed.saturating_sub(before.grpc_failed);
            shadow_latency.add(&now.latency.since(&before.latency));
        }
        Rates {
            seconds: delta.at,
            observed: delta.observed,
            delivered: delta.delivered,
            primary_success: success(&snapshot.primary.answered.since(&earlier.primary.answered), 0, 0),
            shadow_success: success(&classes, delta.losses.copies_failed.total(), grpc_failed),
            primary_latency: snapshot.primary.latency.since(&earlier.primary.latency),
            shadow_latency,
            capture_ratio: self.window().and_then(|window| window.capture_ratio()),
            losses: delta.losses,
        }
    }

    /// How the job does, judged by the marks; `tapped` says whether anything is attached, `pending` what is not yet.
    /// A job that taps some of what it wants is mirroring, with what it waits for as the reason.
    #[must_use]
    pub fn health(&self, tapped: bool, pending: &[String]) -> Health {
        if !tapped {
            let reason =
                if pending.is_empty() { "no interface is tapped".to_owned() } else { pending.join(", ") };
            return Health { state: HealthState::Pending, reason };
        }
        let complaints = self.window().map(|window| complaints(&window)).unwrap_or_default();
        if complaints.is_empty() {
            return Health { state: HealthState::Mirroring, reason: pending.join(", ") };
        }
        Health { state: HealthState::Degraded, reason: complaints.join("; ") }
    }

    /// The difference of the newest and the oldest mark; none before the second tick.
    fn window(&self) -> Option<Mark> {
        match (self.marks.front(), self.marks.back()) {
            (Some(oldest), Some(newest)) if self.marks.len() > 1 => Some(newest.since(oldest)),
            _ => None,
        }
    }
}

/// What is wrong with a window, the gravest first: lost copies, lost requests, requests never seen, bytes never read.
fn complaints(window: &Mark) -> Vec<String> {
    let losses = &window.losses;
    let (dropped, failed) = (losses.copies_dropped.total(), losses.copies_failed.total());
    let ended = window.delivered + dropped + failed;
    let requests_dropped = losses.requests_dropped.total();

    let mut reasons = Vec::new();
    let lost = dropped + failed;
    if ratio(lost, ended).is_some_and(|share| share > LOSS_CEILING) {
        let by_drop = losses.copies_dropped.top().map(|top| ("dropped", top));
        let by_failure = losses.copies_failed.top().map(|top| ("failed", top));
        let top = by_drop.into_iter().chain(by_failure).reduce(|a, b| if b.1.1 > a.1.1 { b } else { a });
        if let Some((what, (reason, n))) = top {
            let share = Percent(ratio(lost, ended));
            reasons.push(format!("{share} of copies lost in the last minute, most {what}: {reason} ({n})"));
        }
    }
    if ratio(requests_dropped, window.observed).is_some_and(|share| share > LOSS_CEILING)
        && let Some((reason, n)) = losses.requests_dropped.top()
    {
        let share = Percent(ratio(requests_dropped, window.observed));
        reasons.push(format!("{share} of requests dropped in the last minute, most: {reason} ({n})"));
    }
    if let Some(captured) = window.capture_ratio()
        && captured < CAPTURE_FLOOR
    {
        let share = Percent(Some(captured));
        reasons.push(format!("only {share} of answered requests were seen in the last minute"));
    }
    // The witness counts one head a segment, so several answers in one may hide what the ring lost.
    if ratio(window.lost_in_ring, window.matched_bytes).is_some_and(|share| share > 1.0 - CAPTURE_FLOOR) {
        let share = Percent(ratio(window.lost_in_ring, window.matched_bytes));
        reasons.push(format!("{share} of the bytes were lost in the ring in the last minute"));
    }
    reasons
}

/// A share as a percentage: as many digits as tell it from 0 and from 100, none if there is none (`-`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub Option<f64>);

impl fmt::Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(out, "-"),
            Some(share) if share >= 1.0 => write!(out, "{:.0}%", share * 100.0),
            // Never rounded up to 100: a hundredth of a percent lost is shown.
            Some(share) if share >= 0.99 => write!(out, "{:.2}%", (share * 10_000.0).floor() / 100.0),
            Some(share) => write!(out, "{:.1}%", (share * 1_000.0).floor() / 10.0),
        }
    }
}

/// Share of classes 2xx to 4xx in all and `failed`; `of_those` bear a good status and were no success all the same.
fn success(classes: &Counts, failed: u64, of_those: u64) -> Option<f64> {
    let good: u64 = ["2xx", "3xx", "4xx"].iter().filter_map(|class| classes.get(class)).sum();
    ratio(good.saturating_sub(of_those), classes.total() + failed)
}

#[cfg(test)]
mod tests;
