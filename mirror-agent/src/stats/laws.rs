//! The laws of the counters (design section 3), checked on a reading taken at rest.

use std::fmt;

use super::snapshot::Snapshot;

/// A law of the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Law {
    /// `observed` is the sum of the outcomes of requests.
    Requests,
    /// `copies` of this shadow (its URL) is the sum of their outcomes.
    Copies(String),
    /// Every selected request has at least one copy for this shadow (its URL).
    Planned(String),
    /// `matched` bytes is the sum of the places of bytes.
    Bytes,
    /// This gauge is 0 at rest.
    AtRest(&'static str),
}

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LawBreak {
    /// Which.
    pub law: Law,
    /// The total that was counted, or what is expected at least.
    pub total: u64,
    /// What the outcomes sum to.
    pub sum: u64,
}

impl fmt::Display for LawBreak {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, sum) = (self.total, self.sum);
        match &self.law {
            Law::Requests => uneven(out, "requests", "observed", total, sum),
            Law::Copies(url) => uneven(out, &format!("copies for {url}"), "planned", total, sum),
            Law::Bytes => uneven(out, "bytes", "matched", total, sum),
            Law::Planned(url) => write!(
                out,
                "copies for {url}: {total} requests were selected but only {sum} copies planned: {} are missing",
                total.saturating_sub(sum)
            ),
            Law::AtRest(gauge) => write!(out, "{gauge}: {sum} at rest, should be 0"),
        }
    }
}

fn uneven(out: &mut fmt::Formatter<'_>, what: &str, verb: &str, total: u64, sum: u64) -> fmt::Result {
    let side = if sum < total { "without an outcome" } else { "counted twice or never counted as such" };
    let by = total.abs_diff(sum);
    write!(out, "{what}: {total} {verb}, outcomes sum to {sum}: {by} {side}")
}

impl Snapshot {
    /// Checks every law. Meaningful for a reading taken at rest; while traffic flows, sums may be short by what was on
    /// its way. Empty if all hold.
    #[must_use]
    pub fn laws(&self) -> Vec<LawBreak> {
        let mut broken = Vec::new();
        let mut equal = |law: Law, total: u64, terms: &[u64]| {
            let sum = terms.iter().fold(0_u64, |sum, term| sum.saturating_add(*term));
            if sum != total {
                broken.push(LawBreak { law, total, sum });
            }
        };

        let r = &self.requests;
        equal(
            Law::Requests,
            r.observed,
            &[r.selected, r.sampled_out.total(), r.filtered.total(), r.dropped.total(), r.open],
        );
        for shadow in &self.shadows {
            equal(
                Law::Copies(shadow.url.clone()),
                shadow.copies,
                &[shadow.delivered, shadow.failed.total(), shadow.dropped.total(), shadow.in_flight],
            );
        }
        let b = &self.bytes;
        equal(
            Law::Bytes,
            b.matched,
            &[
                b.parsed,
                b.not_http.total(),
                b.skipped_before_sync,
                b.duplicate,
                b.lost_in_ring,
                b.lost_in_reassembly.total(),
                b.buffered,
            ],
        );
        equal(Law::AtRest("open requests"), 0, &[r.open]);
        equal(Law::AtRest("buffered bytes"), 0, &[b.buffered]);
        for shadow in &self.shadows {
            equal(Law::AtRest("copies in flight"), 0, &[shadow.in_flight]);
        }
        for shadow in self.shadows.iter().filter(|shadow| shadow.copies < r.selected) {
            broken.push(LawBreak {
                law: Law::Planned(shadow.url.clone()),
                total: r.selected,
                sum: shadow.copies,
            });
        }
        broken
    }
}

#[cfg(test)]
mod tests;
