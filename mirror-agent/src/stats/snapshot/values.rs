//! What a reading is made of: numbers by reason, distributions, ratios.

use hdrhistogram::Histogram;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::stats::ledger::{Counter, Latency, latency_histogram};

/// One number for each value of a closed enum, in the enum's order, zeros included. Serialises as a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    /// A zero for each name.
    #[must_use]
    pub fn zero(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self(names.into_iter().map(|name| (name, 0)).collect())
    }

    /// The number of each name, in the order of `names`.
    pub fn set(&mut self, numbers: &[u64]) {
        for ((_, mine), n) in self.0.iter_mut().zip(numbers) {
            *mine = *n;
        }
    }

    /// Name and number, in the enum's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Sum of all numbers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, n)| sum.wrapping_add(*n))
    }

    /// The number called `name`, if the enum has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, n)| *n)
    }

    /// The greatest number and its name; none if all are 0. Of equals the first.
    #[must_use]
    pub fn top(&self) -> Option<(&'static str, u64)> {
        self.0
            .iter()
            .copied()
            .filter(|(_, n)| *n > 0)
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// What was added since `earlier`, name by name. Both come from the same enum.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|((name, now), (_, then))| (*name, now.saturating_sub(*then))).collect())
    }

    /// Adds `other`, which comes from the same enum, name by name.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, n)) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.wrapping_add(*n);
        }
    }

    /// Adds the counters of an enum, in its order.
    pub fn add_counters(&mut self, counters: &[Counter]) {
        for ((_, sum), counter) in self.0.iter_mut().zip(counters) {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A distribution of microseconds. Serialises as count, mean and the usual quantiles (0 where nothing was recorded).
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(latency_histogram())
    }
}

impl Latencies {
    /// Values recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Mean, microseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The value at quantile `q` (0 to 1), microseconds; 0 if nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        self.0.value_at_quantile(q)
    }

    /// The greatest value, microseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// Each recorded value (the middle of its bucket, microseconds) with its count, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0
            .iter_recorded()
            .map(|step| (self.0.median_equivalent(step.value_iterated_to()), step.count_at_value()))
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        // Equal bounds by construction.
        let _same_bounds = self.0.add(&other.0);
    }

    /// What was recorded since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.0.clone();
        match delta.subtract(&earlier.0) {
            Ok(()) => Self(delta),
            // `earlier` holds what `self` does not: they are not readings of one source. Nothing is known.
            Err(_) => Self::default(),
        }
    }

    pub(super) fn add_shared(&mut self, shared: &Latency) {
        shared.merge_into(&mut self.0);
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("count", &self.count())?;
        map.serialize_entry("mean", &self.mean())?;
        for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            map.serialize_entry(name, &self.quantile(q))?;
        }
        map.serialize_entry("max", &self.max())?;
        map.end()
    }
}

/// `part / whole`; none if `whole` is 0.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
    (whole > 0).then(|| part as f64 / whole as f64)
}
