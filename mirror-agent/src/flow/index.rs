//! From a connection to its place in the table: open addressing with linear probing, no tombstones.

/// A hash that was mixed with the table's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(pub(super) u32);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    hash: Hash,
    // Place plus one; 0 is empty, so that untouched buckets stay untouched zero pages.
    place: u32,
}

/// At most half full by construction: as many buckets as twice the flows, rounded up.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
}

impl Index {
    /// An index that may hold `flows` places.
    pub(super) fn new(flows: u32) -> Self {
        let buckets = (flows.max(1) as usize * 2).next_power_of_two();
        Self { buckets: vec![Bucket { hash: Hash(0), place: 0 }; buckets] }
    }

    /// The place with this hash for which `is_it` holds. Whole keys are compared there.
    #[inline]
    pub(super) fn find(&self, hash: Hash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets[at];
            if bucket.place == 0 {
                return None;
            }
            if bucket.hash == hash && is_it(bucket.place - 1) {
                return Some(bucket.place - 1);
            }
            at = self.after(at);
        }
    }

    /// Adds a place that is not in the index. The caller keeps to the number of flows it named.
    pub(super) fn insert(&mut self, hash: Hash, place: u32) {
        let mut at = self.home(hash);
        while self.buckets[at].place != 0 {
            at = self.after(at);
        }
        self.buckets[at] = Bucket { hash, place: place + 1 };
    }

    /// Takes a place out, and moves those that probed past it back towards their home.
    pub(super) fn remove(&mut self, hash: Hash, place: u32) {
        let mut hole = self.home(hash);
        while self.buckets[hole].place != place + 1 {
            if self.buckets[hole].place == 0 {
                return;
            }
            hole = self.after(hole);
        }
        let mut at = self.after(hole);
        while self.buckets[at].place != 0 {
            let home = self.home(self.buckets[at].hash);
            // It may move if the hole lies on its way, that is between its home and where it is.
            if self.distance(home, at) >= self.distance(hole, at) {
                self.buckets[hole] = self.buckets[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.buckets[hole].place = 0;
    }

    fn home(&self, hash: Hash) -> usize {
        hash.0 as usize & (self.buckets.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.buckets.len() - 1)
    }
}

/// Bytes of the index for each flow, at most.
pub(super) const INDEX_BYTES: usize = 4 * size_of::<Bucket>();

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        // Few hashes in few buckets: nearly every operation collides and wraps around the end.
        #[test]
        fn the_index_agrees_with_a_map(steps in prop::collection::vec((0u32..8, 0u32..24, any::<bool>()), 0..200)) {
            let mut index = Index::new(8);
            let mut model = BTreeMap::new();
            for (place, hash, add) in steps {
                match model.get(&place).copied() {
                    None if add => {
                        index.insert(Hash(hash), place);
                        model.insert(place, hash);
                    }
                    Some(hash) if !add => {
                        index.remove(Hash(hash), place);
                        model.remove(&place);
                    }
                    _ => {}
                }
                for place in 0..8 {
                    for hash in 0..24 {
                        let found = index.find(Hash(hash), |other| other == place);
                        let expected = (model.get(&place) == Some(&hash)).then_some(place);
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
