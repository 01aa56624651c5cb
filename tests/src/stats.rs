//! The mirror's own numbers, as its JSON lines and `/api/v1/stats` give them, and the laws they must obey.

use std::fmt;

use serde_json::Value;

/// One reading.
#[derive(Clone, Default)]
pub struct Stats(pub Value);

impl Stats {
    /// The number at a JSON pointer, 0 where there is none: a reason that never occurred may be left out.
    #[must_use]
    pub fn n(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The sum of all numbers at or under a JSON pointer.
    #[must_use]
    pub fn sum(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).map_or(0, total)
    }

    /// Requests recognised.
    #[must_use]
    pub fn observed(&self) -> u64 {
        self.n("/requests/observed")
    }

    /// Number of shadows.
    #[must_use]
    pub fn shadow_count(&self) -> usize {
        self.0.pointer("/shadows").and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// A number of shadow `index`.
    #[must_use]
    pub fn shadow(&self, index: usize, key: &str) -> u64 {
        self.sum(&format!("/shadows/{index}/{key}"))
    }

    /// Copies delivered to shadow `index`.
    #[must_use]
    pub fn delivered(&self, index: usize) -> u64 {
        self.shadow(index, "delivered")
    }

    /// What became of the copies of shadow `index` that were not delivered, in words.
    #[must_use]
    pub fn losses(&self, index: usize) -> String {
        let mut named = Vec::new();
        for kind in ["failed", "dropped"] {
            let reasons = self.0.pointer(&format!("/shadows/{index}/{kind}")).and_then(Value::as_object);
            for (reason, n) in reasons.into_iter().flatten().filter(|(_, n)| total(n) > 0) {
                named.push(format!("{kind} {reason} {n}"));
            }
        }
        if named.is_empty() { "nothing is named as lost".to_owned() } else { named.join(", ") }
    }

    /// `observed / witnessed`, if anything was witnessed.
    #[must_use]
    pub fn capture_ratio(&self) -> Option<f64> {
        self.0.pointer("/capture_ratio").and_then(Value::as_f64)
    }

    /// True if no request, copy or byte is on its way.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.n("/requests/open") == 0
            && self.n("/bytes/buffered") == 0
            && (0..self.shadow_count()).all(|index| self.shadow(index, "in_flight") == 0)
    }

    /// The laws of design section 3 that do not hold, in words. Meant for a reading at rest.
    #[must_use]
    pub fn broken_laws(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut equal = |what: String, whole: u64, parts: u64| {
            if whole != parts {
                broken.push(format!("{what}: {whole} != {parts}"));
            }
        };
        let parts = |pointers: &[&str]| pointers.iter().map(|pointer| self.sum(pointer)).sum::<u64>();
        equal(
            "observed = selected + sampled_out + filtered + dropped + open".to_owned(),
            self.observed(),
            parts(&[
                "/requests/selected",
                "/requests/sampled_out",
                "/requests/filtered",
                "/requests/dropped",
                "/requests/open",
            ]),
        );
        equal(
            "matched = parsed + not_http + skipped_before_sync + duplicate + lost_in_ring + lost_in_reassembly + buffered"
                .to_owned(),
            self.n("/bytes/matched"),
            parts(&[
                "/bytes/parsed",
                "/bytes/not_http",
                "/bytes/skipped_before_sync",
                "/bytes/duplicate",
                "/bytes/lost_in_ring",
                "/bytes/lost_in_reassembly",
                "/bytes/buffered",
            ]),
        );
        for index in 0..self.shadow_count() {
            let of = |key: &str| self.shadow(index, key);
            equal(
                format!("shadow {index}: copies = delivered + failed + dropped + in_flight"),
                of("copies"),
                of("delivered") + of("failed") + of("dropped") + of("in_flight"),
            );
            equal(
                format!("shadow {index}: delivered = its classes"),
                of("delivered"),
                of("delivered_by_class"),
            );
        }
        broken
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Zeros say nothing and hide the rest.
        write!(out, "{:#}", without_zeros(&self.0))
    }
}

fn total(value: &Value) -> u64 {
    match value {
        Value::Number(n) => n.as_u64().unwrap_or(0),
        Value::Object(map) => map.values().map(total).sum(),
        Value::Array(list) => list.iter().map(total).sum(),
        Value::Null | Value::Bool(_) | Value::String(_) => 0,
    }
}

fn without_zeros(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| total(value) != 0 || value.is_string() || value.is_array() || value.is_f64())
            .map(|(key, value)| (key.clone(), without_zeros(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_zeros).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;
    use serde_json::json;

    fn even() -> Stats {
        Stats(json!({
            "requests": {"observed": 10, "selected": 6, "sampled_out": {"percent": 2, "rate": 1}, "filtered": {"path": 1}, "open": 0},
            "bytes": {"matched": 100, "parsed": 90, "not_http": {"tls": 4}, "duplicate": 6, "lost_in_ring": 0},
            "shadows": [{"copies": 6, "delivered": 3, "delivered_by_class": {"2xx": 2, "5xx": 1},
                         "failed": {"refused": 2}, "dropped": {"back_off": 1}, "in_flight": 0}],
        }))
    }

    #[test]
    fn even_books_break_no_law() {
        assert_eq!(even().broken_laws(), Vec::<String>::new());
        assert!(even().at_rest());
    }

    #[test]
    fn each_law_notices_a_request_a_copy_or_a_byte_that_vanished() {
        for pointer in
            ["/requests/selected", "/shadows/0/failed/refused", "/bytes/parsed", "/shadows/0/delivered"]
        {
            let mut stats = even();
            *stats.0.pointer_mut(pointer).unwrap() = json!(1);
            assert!(!stats.broken_laws().is_empty(), "{pointer}");
        }
    }
}
