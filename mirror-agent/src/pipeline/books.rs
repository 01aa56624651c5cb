//! What the replayers report, and what readers of the ledger see of it.

use hdrhistogram::Histogram;

use super::Line;
use crate::replay::{H2Report, Report, Totals};

impl Line {
    /// Makes histograms and gauges visible to readers of the ledger.
    pub(super) fn publish(&mut self) {
        self.publish_gauges();
        for job in &mut self.jobs {
            job.ledger.primary_latency.publish(&mut job.primary);
            for (shared, local) in job.ledger.shadow_latency.iter().zip(&mut job.shadow) {
                shared.publish(local);
            }
            for (shared, local) in job.ledger.queued.iter().zip(&mut job.queued) {
                shared.publish(local);
            }
        }
    }

    /// Makes gauges and totals of connections visible, which is cheap.
    pub(super) fn publish_gauges(&self) {
        let (h1, h2) = (&self.shadows.h1, &self.shadows.h2);
        for job in &self.jobs {
            for (index, shadow) in job.ledger.shadows.iter().enumerate() {
                let target = job.first_target + index;
                let totals = sum(h1.totals(target), h2.totals(target));
                shadow.connections.set(totals.connections);
                shadow.connects.set(totals.connects);
                shadow.queued_bytes.set(totals.queued_bytes);
                shadow.written_bytes.set(totals.written_bytes);
                shadow.discarded_bytes.set(totals.discarded_bytes);
            }
        }
    }

    /// Books what the replayers reported.
    pub(super) fn book(&mut self) {
        let Self { jobs, shadows, .. } = self;
        let (h1, h2) = (&mut shadows.h1, &mut shadows.h2);
        for report in h1.reports().map(H2Report::Copy).chain(h2.reports()) {
            let target = match report {
                H2Report::GrpcFailed { shadow }
                | H2Report::Waited { shadow }
                | H2Report::Copy(
                    Report::Outcome { shadow, .. }
                    | Report::Written { shadow, .. }
                    | Report::Answered { shadow, .. }
                    | Report::Resent { shadow },
                ) => shadow,
            };
            let Some(job) = jobs.iter_mut().rev().find(|job| job.first_target <= target) else {
                continue;
            };
            let index = target - job.first_target;
            let Some(books) = job.ledger.shadows.get(index) else { continue };
            match report {
                H2Report::GrpcFailed { .. } => books.grpc_failed.add(1),
                H2Report::Waited { .. } => books.waited_for_stream.add(1),
                H2Report::Copy(Report::Outcome { outcome, .. }) => books.book(outcome),
                H2Report::Copy(Report::Resent { .. }) => books.resent.add(1),
                H2Report::Copy(Report::Written { queued_ns, .. }) => {
                    record(job.queued.get_mut(index), queued_ns);
                }
                H2Report::Copy(Report::Answered { latency_ns, .. }) => {
                    record(job.shadow.get_mut(index), latency_ns);
                }
            }
        }
    }
}

/// Both replayers have a target of their own for a shadow; its limits are one.
fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        connections: a.connections + b.connections,
        connects: a.connects + b.connects,
        queued_bytes: a.queued_bytes + b.queued_bytes,
        written_bytes: a.written_bytes + b.written_bytes,
        discarded_bytes: a.discarded_bytes + b.discarded_bytes,
    }
}

/// Latencies are kept in microseconds; longer than the histogram's range counts as its longest.
pub(super) fn record(histogram: Option<&mut Histogram<u64>>, ns: u64) {
    if let Some(histogram) = histogram {
        histogram.saturating_record((ns / 1000).max(1));
    }
}
