//! What a running mirror says: a line each second, the table at the end. Formatting only.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::stats::rates::{HealthState, Percent, Rates};
use crate::stats::snapshot::{Counts, Latencies, Shadow, Snapshot};

/// Columns that the live line never exceeds.
pub const LIVE_COLUMNS: usize = 100;

/// One line for a terminal, at most [`LIVE_COLUMNS`] wide: the last second, primary and shadow side by side (`ok`,
/// `p50` and `p99` are `primary/shadow`), and over the last minute the share of requests that was seen.
#[must_use]
pub fn live_line(snapshot: &Snapshot, rates: &Rates) -> String {
    if snapshot.health.state == HealthState::Pending {
        return clip(format!("pending: {}", snapshot.health.reason), LIVE_COLUMNS);
    }
    let mut line = format!("{} req/s", short(rates.per_second(rates.observed)));
    let _ = write!(line, "  {} copies/s", short(rates.per_second(rates.delivered)));
    let _ = write!(line, "  ok {}/{}", Percent(rates.primary_success), Percent(rates.shadow_success));
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let (primary, shadow) = (millis(&rates.primary_latency, q), millis(&rates.shadow_latency, q));
        let _ = write!(line, "  {name} {primary}/{shadow}ms");
    }
    let _ = write!(line, "  seen {}", Percent(rates.capture_ratio));
    if let Some((reason, _)) = rates.losses.top() {
        let _ = write!(line, "  lost {} {reason}", short(to_f64(rates.losses.total())));
    }
    clip(line, LIVE_COLUMNS)
}

/// One line of JSON without line end: `event`, and the fields of `/api/v1/stats`.
#[must_use]
pub fn json_line(event: &str, snapshot: &Snapshot) -> String {
    line(&Line { event, seed: None, snapshot })
}

/// The first line, event `ready`: the same, and `seed`, a string because many readers of JSON round large numbers.
#[must_use]
pub fn ready_line(snapshot: &Snapshot, seed: u64) -> String {
    line(&Line { event: "ready", seed: Some(seed.to_string()), snapshot })
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

fn line(line: &Line<'_>) -> String {
    serde_json::to_string(line)
        .unwrap_or_else(|error| serde_json::json!({"event": "error", "error": error.to_string()}).to_string())
}

/// The table at the end: every outcome that occurred, latencies, and whether the laws of the counters hold. Ends with a
/// line end.
#[must_use]
pub fn final_table(snapshot: &Snapshot) -> String {
    let mut table = Table::default();
    let uptime = Duration::from_secs_f64(snapshot.uptime_s.max(0.0));
    table.head(&format!("{} ran for {:.1} s", snapshot.job, uptime.as_secs_f64()));
    requests(&mut table, snapshot);
    for shadow in &snapshot.shadows {
        copies(&mut table, shadow);
    }
    answers(&mut table, snapshot);
    bytes(&mut table, snapshot);
    table.counts("tap", &snapshot.tap);

    let broken = snapshot.laws();
    if broken.is_empty() {
        table.head("laws hold: every request, copy and byte has exactly one outcome");
    } else {
        table.head("LAWS BROKEN: some requests, copies or bytes have no outcome, or two; please report this");
        for law in broken {
            table.head(&format!("  {law}"));
        }
    }
    table.text
}

fn requests(table: &mut Table, snapshot: &Snapshot) {
    let r = &snapshot.requests;
    table.total("requests", r.observed);
    table.row("selected", "", r.selected);
    table.counts("sampled out", &r.sampled_out);
    table.counts("filtered", &r.filtered);
    table.counts("dropped", &r.dropped);
    table.some("open", r.open);
}

fn copies(table: &mut Table, shadow: &Shadow) {
    table.total(&format!("copies for {}", shadow.url), shadow.copies);
    table.row("delivered", "", shadow.delivered);
    for (class, n) in shadow.delivered_by_class.iter().filter(|(_, n)| *n > 0) {
        table.row("", class, n);
    }
    table.partial("failed", &shadow.failed, &shadow.failed_partial);
    table.partial("dropped", &shadow.dropped, &shadow.dropped_partial);
    table.some("in flight", shadow.in_flight);
    table.some("resent", shadow.resent);
    table.some("failed by grpc-status", shadow.grpc_failed);
    table.some("waited for a stream", shadow.waited_for_stream);
    table.latency("latency", &shadow.latency);
    table.latency("queued", &shadow.queued);
}

fn answers(table: &mut Table, snapshot: &Snapshot) {
    table.total("answers of the primary, witnessed", snapshot.witnessed);
    table.counts("answered", &snapshot.primary.answered);
    table.some("unknown", snapshot.primary.unknown);
    table.some("lost in ring", snapshot.responses_lost_in_ring);
    table.latency("latency", &snapshot.primary.latency);
    if let Some(ratio) = snapshot.capture_ratio {
        table.text_row("capture ratio", &format!("{ratio:.4}"));
    }
}

fn bytes(table: &mut Table, snapshot: &Snapshot) {
    let b = &snapshot.bytes;
    table.total("request bytes matched", b.matched);
    table.row("parsed", "", b.parsed);
    table.counts("not HTTP", &b.not_http);
    table.some("before sync", b.skipped_before_sync);
    table.some("duplicate", b.duplicate);
    table.some("lost in ring", b.lost_in_ring);
    table.counts("reassembly", &b.lost_in_reassembly);
    table.some("buffered", b.buffered);
    if b.gaps > 0 {
        table.total("holes in request streams", b.gaps);
        table.counts("missing bytes", &b.gap_bytes);
    }
}

/// Rows of one table: what, why, how many.
#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn head(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    fn total(&mut self, what: &str, n: u64) {
        let _ = writeln!(self.text, "{what}: {n}");
    }

    fn row(&mut self, what: &str, why: &str, n: u64) {
        let _ = writeln!(self.text, "  {what:<14} {why:<18} {n:>12}");
    }

    fn text_row(&mut self, what: &str, value: &str) {
        let _ = writeln!(self.text, "  {what:<14} {value}");
    }

    fn some(&mut self, what: &str, n: u64) {
        if n > 0 {
            self.row(what, "", n);
        }
    }

    fn counts(&mut self, what: &str, counts: &Counts) {
        for (why, n) in counts.iter().filter(|(_, n)| *n > 0) {
            self.row(what, why, n);
        }
    }

    fn partial(&mut self, what: &str, all: &Counts, partial: &Counts) {
        for ((why, n), (_, partial)) in all.iter().zip(partial.iter()).filter(|((_, n), _)| *n > 0) {
            let note = if partial > 0 { format!("  ({partial} in mid-copy)") } else { String::new() };
            let _ = writeln!(self.text, "  {what:<14} {why:<18} {n:>12}{note}");
        }
    }

    fn latency(&mut self, what: &str, latencies: &Latencies) {
        if latencies.count() > 0 {
            let at = |q| millis(latencies, q);
            let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), at(1.0));
            self.text_row(what, &format!("p50 {p50}  p90 {p90}  p99 {p99}  max {max} ms"));
        }
    }
}

/// A quantile in milliseconds with about three digits, `-` if nothing was recorded.
fn millis(latencies: &Latencies, q: f64) -> String {
    if latencies.count() == 0 {
        return "-".to_owned();
    }
    short(to_f64(latencies.quantile(q)) / 1000.0)
}

/// At most four characters: three digits and a decimal point, or a unit (k, M, G, T).
fn short(n: f64) -> String {
    let mut n = n;
    for unit in ["", "k", "M", "G"] {
        // What rounds up to 1000 belongs to the next unit.
        if n < 999.5 {
            let digits = match (unit, n) {
                ("", n) if n != 0.0 && n < 0.995 => 2,
                (_, n) if n != 0.0 && n < 9.95 && (!unit.is_empty() || n.fract() != 0.0) => 1,
                _ => 0,
            };
            return format!("{n:.digits$}{unit}");
        }
        n /= 1000.0;
    }
    format!("{:.0}T", n.min(999.0))
}

fn to_f64(n: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let n = n as f64;
    n
}

/// The first `columns` characters.
fn clip(mut line: String, columns: usize) -> String {
    if let Some((end, _)) = line.char_indices().nth(columns) {
        line.truncate(end);
    }
    line
}

#[cfg(test)]
mod tests;
