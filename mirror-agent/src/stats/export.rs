//! Prometheus text of a reading: the same numbers as `/api/v1/stats`, nothing is counted twice.
//!
//! Every label value is the exported name of a closed enum's value, and every value is always there, zeros included:
//! a series that appears only with the first loss hides that loss from `rate()`.
//!
//! Over 400 lines: one list of metric families in the order of the exposition; nothing here is logic.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::rates::HealthState;
use super::snapshot::{Counts, Latencies, Shadow, Snapshot};

/// Media type of what [`text()`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histograms' buckets, microseconds. Values are told apart by two significant digits, so one
/// within 1% of a bound may count on either side of it.
pub const BUCKETS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// What the admin server counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminCounts {
    /// Open connections.
    pub open: u64,
    /// Connections closed at once because too many were open.
    pub refused: u64,
    /// Connections closed because an exchange took too long.
    pub timed_out: u64,
}

/// The exposition of `snapshots`, one a job. Counters of the whole agent (`tap`, `rings`) are taken from the first.
///
/// # Errors
///
/// None in practice: writing to a string does not fail.
pub fn text(snapshots: Vec<Snapshot>, admin: AdminCounts) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Reading { snapshots, admin }));
    let mut out = String::with_capacity(64 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Reading {
    snapshots: Vec<Snapshot>,
    admin: AdminCounts,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder, snapshots: &self.snapshots };
        page.requests()?;
        page.bytes()?;
        page.copies()?;
        page.primary()?;
        page.protocols()?;
        page.job()?;
        page.agent(self.admin)
    }
}

struct Page<'s, 'e> {
    encoder: DescriptorEncoder<'e>,
    snapshots: &'s [Snapshot],
}

impl Page<'_, '_> {
    fn requests(&mut self) -> fmt::Result {
        self.job_counter("requests_observed", "Requests recognised", |s| s.requests.observed)?;
        self.job_counter("requests_selected", "Requests with at least one planned copy", |s| {
            s.requests.selected
        })?;
        self.job_counter("requests_completed", "Selected requests whose end was seen", |s| {
            s.requests.completed
        })?;
        self.job_reasons("requests_sampled_out", "Requests left out by sampling", |s| {
            &s.requests.sampled_out
        })?;
        self.job_reasons("requests_filtered", "Requests left out by a rule", |s| &s.requests.filtered)?;
        self.job_reasons("requests_dropped", "Requests recognised but not to be mirrored", |s| {
            &s.requests.dropped
        })?;
        self.job_gauge("requests_open", "Requests not decided yet", |s| s.requests.open)
    }

    fn bytes(&mut self) -> fmt::Result {
        self.job_counter("bytes_matched", "TCP payload bytes of requests that the tap matched", |s| {
            s.bytes.matched
        })?;
        self.job_gauge("bytes_buffered", "Bytes that wait behind a hole or for the rest of a head", |s| {
            s.bytes.buffered
        })?;
        let help = "Matched bytes by the one place each ended in; with the buffered ones they sum to the matched ones";
        self.jobs("bytes", help, MetricType::Counter, |s, row| {
            let b = &s.bytes;
            let job = ("job", s.job.as_str());
            let plain = [
                ("parsed", b.parsed),
                ("skipped_before_sync", b.skipped_before_sync),
                ("duplicate", b.duplicate),
                ("lost_in_ring", b.lost_in_ring),
            ];
            for (outcome, n) in plain {
                row(vec![job, ("outcome", outcome), ("reason", "")], Value::Counter(n))?;
            }
            for (outcome, counts) in
                [("not_http", &b.not_http), ("lost_in_reassembly", &b.lost_in_reassembly)]
            {
                for (reason, n) in counts.iter() {
                    row(vec![job, ("outcome", outcome), ("reason", reason)], Value::Counter(n))?;
                }
            }
            Ok(())
        })?;
        self.job_reasons("gap_bytes", "Request bytes that the tap did not deliver", |s| &s.bytes.gap_bytes)?;
        self.job_counter("gaps", "Holes in request streams that were given up", |s| s.bytes.gaps)
    }

    fn copies(&mut self) -> fmt::Result {
        self.shadow_counter("copies", "Copies planned", |s| s.copies)?;
        let help = "Copies written whole and answered completely, by status class";
        self.jobs("copies_delivered", help, MetricType::Counter, |s, row| {
            each_shadow(s, |shadow, labels| each(&shadow.delivered_by_class, "class", &labels, row))
        })?;
        let help = "Copies that were tried and failed; partial: bytes of the copy had been written";
        self.jobs("copies_failed", help, MetricType::Counter, |s, row| {
            each_shadow(s, |shadow, labels| {
                each_partial(&shadow.failed, &shadow.failed_partial, &labels, row)
            })
        })?;
        let help = "Copies that the mirror gave up; partial: bytes of the copy had been written";
        self.jobs("copies_dropped", help, MetricType::Counter, |s, row| {
            each_shadow(s, |shadow, labels| {
                each_partial(&shadow.dropped, &shadow.dropped_partial, &labels, row)
            })
        })?;
        self.shadow_gauge("copies_in_flight", "Copies without an outcome", |s| s.in_flight)?;
        self.shadow_counter(
            "copies_resent",
            "Copies sent once more, after a keep-alive race or unread by the shadow",
            |s| s.resent,
        )?;
        let help = "Copies delivered whose answer says by grpc-status that the call failed";
        self.shadow_counter("copies_grpc_failed", help, |s| s.grpc_failed)?;
        let help = "Copies that waited until the shadow allowed another HTTP/2 stream";
        self.shadow_counter("copies_waited_for_stream", help, |s| s.waited_for_stream)?;
        self.shadow_gauge("shadow_connections", "Open connections", |s| s.connections)?;
        self.shadow_counter("shadow_connects", "Connections opened", |s| s.connects)?;
        self.shadow_gauge("shadow_queued_bytes", "Bytes queued", |s| s.queued_bytes)?;
        self.shadow_counter("shadow_written_bytes", "Bytes written", |s| s.written_bytes)?;
        self.shadow_counter("shadow_discarded_bytes", "Response bytes read and discarded", |s| {
            s.discarded_bytes
        })?;
        let help = "Copy's head written to first byte of the final response head";
        self.jobs("shadow_latency_seconds", help, MetricType::Histogram, |s, row| {
            each_shadow(s, |shadow, labels| row(labels, Value::Histogram(&shadow.latency)))
        })?;
        let help = "Request head seen at the tap to copy's head written";
        self.jobs("queued_seconds", help, MetricType::Histogram, |s, row| {
            each_shadow(s, |shadow, labels| row(labels, Value::Histogram(&shadow.queued)))
        })
    }

    fn primary(&mut self) -> fmt::Result {
        let help = "Final responses of the primary matched to a request, by status class";
        self.jobs("primary_responses", help, MetricType::Counter, |s, row| {
            each(&s.primary.answered, "class", &[("job", &s.job)], row)
        })?;
        self.job_counter("primary_responses_unknown", "Requests whose response was not seen", |s| {
            s.primary.unknown
        })?;
        let help = "Request head to final response head of the primary, by kernel time";
        self.jobs("primary_latency_seconds", help, MetricType::Histogram, |s, row| {
            row(vec![("job", &s.job)], Value::Histogram(&s.primary.latency))
        })?;
        let help = "Final response heads that the kernel saw leave the primary";
        self.job_counter("witnessed_responses", help, |s| s.witnessed)?;
        let help = "Witnessed response heads that found no room in a ring";
        self.job_counter("witnessed_responses_lost_in_ring", help, |s| s.responses_lost_in_ring)?;
        let help =
            "Requests observed over responses witnessed, since the start; absent before the first response";
        self.jobs("capture_ratio", help, MetricType::Gauge, |s, row| match s.capture_ratio {
            Some(ratio) => row(vec![("job", &s.job)], Value::Ratio(ratio)),
            None => Ok(()),
        })
    }

    fn protocols(&mut self) -> fmt::Result {
        self.job_counter(
            "h2_connections",
            "Connections that began to speak HTTP/2 and could be read",
            |s| s.h2.connections,
        )?;
        let help = "Requests observed on HTTP/2, whose answers the witness does not see";
        self.job_counter("h2_requests", help, |s| s.h2.requests)?;
        self.job_reasons("h2_errors", "HTTP/2 connections that are read no further", |s| &s.h2.errors)?;
        let help = "HTTP/2 connections that cannot be read before their clients reconnect";
        self.jobs("h2_waiting", help, MetricType::Gauge, |s, row| {
            for (reason, n) in s.h2.waiting.iter() {
                row(vec![("job", &s.job), ("reason", reason)], Value::Gauge(n))?;
            }
            Ok(())
        })?;
        self.job_gauge("h2_memory_bytes", "Memory of the state of HTTP/2 connections", |s| {
            s.h2.memory_bytes
        })?;
        self.job_reasons("h2_waited", "HTTP/2 connections that ever came to wait", |s| &s.h2.waited)?;
        self.job_counter("websocket_tunnels", "Connections that left HTTP for WebSocket", |s| {
            s.websocket.tunnels
        })?;
        self.job_counter("websocket_frames", "WebSocket frames of clients", |s| s.websocket.frames)?;
        self.job_counter("websocket_payload_bytes", "Payload bytes of WebSocket clients", |s| {
            s.websocket.payload_bytes
        })
    }

    fn job(&mut self) -> fmt::Result {
        self.job_gauge("flows", "Flows in the tables", |s| s.flows)?;
        self.job_counter("flows_opened", "Flows taken up", |s| s.flows_opened)?;
        self.job_counter("flows_midstream", "Flows that were under way when taken up", |s| {
            s.flows_midstream
        })?;
        self.jobs("health", "1 for the state the job is in", MetricType::Gauge, |s, row| {
            for (state, name) in HealthState::ALL {
                let is = u64::from(state == s.health.state);
                row(vec![("job", &s.job), ("state", name)], Value::Gauge(is))?;
            }
            Ok(())
        })?;
        self.jobs("tap_attached", "1 for each attachment of the tap", MetricType::Gauge, |s, row| {
            for tap in &s.taps {
                let labels = vec![
                    ("job", s.job.as_str()),
                    ("interface", tap.interface.as_str()),
                    ("netns", tap.netns.as_deref().unwrap_or_default()),
                    ("hook", tap.hook.as_str()),
                    ("mode", tap.mode.as_str()),
                ];
                row(labels, Value::Gauge(1))?;
            }
            Ok(())
        })?;
        self.jobs("uptime_seconds", "Time since the job began", MetricType::Gauge, |s, row| {
            row(vec![("job", &s.job)], Value::Ratio(s.uptime_s))
        })
    }

    /// What is counted for the whole agent.
    fn agent(&mut self, admin: AdminCounts) -> fmt::Result {
        if let Some(first) = self.snapshots.first() {
            self.family("tap_events", "What the tap did with packets", MetricType::Counter, |row| {
                each(&first.tap, "event", &[], row)
            })?;
            self.family("ring_capacity_bytes", "Size of the shard's ring", MetricType::Gauge, |row| {
                first.rings.iter().try_for_each(|ring| {
                    row(vec![("shard", &ring.shard.to_string())], Value::Gauge(ring.capacity))
                })
            })?;
            let help = "The most bytes seen waiting in the shard's ring";
            self.family("ring_peak_fill_bytes", help, MetricType::Gauge, |row| {
                first.rings.iter().try_for_each(|ring| {
                    row(vec![("shard", &ring.shard.to_string())], Value::Gauge(ring.peak_fill))
                })
            })?;
            let help = "Ring entries that were no records; 0 unless tap and agent disagree";
            self.family("ring_bad_records", help, MetricType::Counter, |row| {
                first.rings.iter().try_for_each(|ring| {
                    row(vec![("shard", &ring.shard.to_string())], Value::Counter(ring.bad_records))
                })
            })?;
            let help = "Times the shard fell behind and refused new copies";
            self.family("shard_overloads", help, MetricType::Counter, |row| {
                first.rings.iter().try_for_each(|ring| {
                    row(vec![("shard", &ring.shard.to_string())], Value::Counter(ring.overloads))
                })
            })?;
            let help = "Times a connection gave up an unfinished head because all of them held too much";
            self.family("shard_heads_given_up", help, MetricType::Counter, |row| {
                first.rings.iter().try_for_each(|ring| {
                    row(vec![("shard", &ring.shard.to_string())], Value::Counter(ring.heads_given_up))
                })
            })?;
        }
        let one = |value: Value<'static>| move |row: Row<'_>| row(Vec::new(), value);
        let help = "Open connections of the admin server";
        self.family("admin_connections", help, MetricType::Gauge, one(Value::Gauge(admin.open)))?;
        let help = "Admin connections closed at once because too many were open";
        self.family("admin_refused", help, MetricType::Counter, one(Value::Counter(admin.refused)))?;
        let help = "Admin connections closed because an exchange took too long";
        self.family("admin_timed_out", help, MetricType::Counter, one(Value::Counter(admin.timed_out)))?;
        self.family("build_info", "1, with the version as a label", MetricType::Gauge, |row| {
            row(vec![("version", env!("CARGO_PKG_VERSION"))], Value::Gauge(1))
        })
    }

    fn job_counter(&mut self, name: &str, help: &str, value: impl Fn(&Snapshot) -> u64) -> fmt::Result {
        self.jobs(name, help, MetricType::Counter, |s, row| {
            row(vec![("job", &s.job)], Value::Counter(value(s)))
        })
    }

    fn job_gauge(&mut self, name: &str, help: &str, value: impl Fn(&Snapshot) -> u64) -> fmt::Result {
        self.jobs(name, help, MetricType::Gauge, |s, row| row(vec![("job", &s.job)], Value::Gauge(value(s))))
    }

    fn job_reasons(&mut self, name: &str, help: &str, counts: impl Fn(&Snapshot) -> &Counts) -> fmt::Result {
        self.jobs(name, help, MetricType::Counter, |s, row| {
            each(counts(s), "reason", &[("job", &s.job)], row)
        })
    }

    fn shadow_counter(&mut self, name: &str, help: &str, value: impl Fn(&Shadow) -> u64) -> fmt::Result {
        self.jobs(name, help, MetricType::Counter, |s, row| {
            each_shadow(s, |shadow, labels| row(labels, Value::Counter(value(shadow))))
        })
    }

    fn shadow_gauge(&mut self, name: &str, help: &str, value: impl Fn(&Shadow) -> u64) -> fmt::Result {
        self.jobs(name, help, MetricType::Gauge, |s, row| {
            each_shadow(s, |shadow, labels| row(labels, Value::Gauge(value(shadow))))
        })
    }

    /// One family with rows of every job.
    fn jobs(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl Fn(&Snapshot, Row<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let snapshots = self.snapshots;
        self.family(name, help, kind, |row| snapshots.iter().try_for_each(|snapshot| rows(snapshot, row)))
    }

    /// One family: `mirror_` and `name`; the encoder adds `_total` to counters.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl FnOnce(Row<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let name = format!("mirror_{name}");
        let mut family = self.encoder.encode_descriptor(&name, help, None, kind)?;
        rows(&mut |labels, value| {
            if labels.is_empty() {
                return value.encode(&mut family);
            }
            value.encode(&mut family.encode_family(&labels)?)
        })
    }
}

/// Where the rows of a family go.
type Row<'r> = &'r mut dyn FnMut(Labels<'_>, Value<'_>) -> fmt::Result;

#[derive(Clone, Copy)]
enum Value<'a> {
    Counter(u64),
    Gauge(u64),
    Ratio(f64),
    Histogram(&'a Latencies),
}

impl Value<'_> {
    fn encode(self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(n) => metric.encode_counter::<NoLabelSet, u64, u64>(&n, None),
            Self::Gauge(n) => metric.encode_gauge(&n),
            Self::Ratio(x) => metric.encode_gauge(&x),
            Self::Histogram(latencies) => {
                let (sum, buckets) = buckets(latencies);
                metric.encode_histogram::<NoLabelSet>(sum, latencies.count(), &buckets, None)
            }
        }
    }
}

/// Sum in seconds, and the buckets (upper bound in seconds, values in this bucket alone), the last one without bound.
fn buckets(latencies: &Latencies) -> (f64, Vec<(f64, u64)>) {
    let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
    let bounds = BUCKETS_US.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
    let mut sum = 0.0;
    for (us, count) in latencies.iter() {
        let index = BUCKETS_US.partition_point(|bound| *bound < us);
        buckets[index].1 += count;
        #[allow(clippy::cast_precision_loss, reason = "a sum of latencies needs no more than 52 bits")]
        let n = count as f64;
        sum += seconds(us) * n;
    }
    (sum, buckets)
}

/// A row for each name of `counts`, as the value of `label`.
fn each(counts: &Counts, label: &'static str, labels: &[(&'static str, &str)], row: Row<'_>) -> fmt::Result {
    counts.iter().try_for_each(|(name, n)| {
        let mut labels = labels.to_vec();
        labels.push((label, name));
        row(labels, Value::Counter(n))
    })
}

/// Two rows for each reason: those of `all` that are in `partial`, and the rest.
fn each_partial(
    all: &Counts,
    partial: &Counts,
    labels: &[(&'static str, &str)],
    row: Row<'_>,
) -> fmt::Result {
    all.iter().zip(partial.iter()).try_for_each(|((reason, all), (_, partial))| {
        for (is_partial, n) in [("false", all.saturating_sub(partial)), ("true", partial)] {
            let mut labels = labels.to_vec();
            labels.extend([("reason", reason), ("partial", is_partial)]);
            row(labels, Value::Counter(n))?;
        }
        Ok(())
    })
}

/// Calls `rows` for each shadow with the labels that name it.
fn each_shadow(s: &Snapshot, mut rows: impl FnMut(&Shadow, Labels<'_>) -> fmt::Result) -> fmt::Result {
    s.shadows.iter().try_for_each(|shadow| rows(shadow, vec![("job", &s.job), ("shadow", &shadow.url)]))
}

#[cfg(test)]
mod tests;
