//! A small memory of connections that are not in the table: one place per hash, the newest wins.

use super::index::Hash;
use crate::packet::FlowKey;

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    key: FlowKey,
    time: u64,
    value: V,
}

/// Of fixed size whatever comes in: a flood overwrites, it does not grow.
#[derive(Debug)]
pub(super) struct Recent<V> {
    entries: Vec<Option<Entry<V>>>,
}

impl<V: Copy> Recent<V> {
    /// Bytes of one place.
    pub(super) const ENTRY_BYTES: usize = size_of::<Option<Entry<V>>>();

    /// A memory of at least `places`.
    pub(super) fn new(places: u32) -> Self {
        Self { entries: vec![None; (places.max(1) as usize).next_power_of_two()] }
    }

    /// Remembers `value` for `key`; true if it took the place of another connection.
    pub(super) fn put(&mut self, hash: Hash, key: FlowKey, time: u64, value: V) -> bool {
        let place = self.place(hash);
        let old = self.entries[place].replace(Entry { key, time, value });
        old.is_some_and(|old| old.key != key)
    }

    /// What is remembered for `key`, and since when.
    pub(super) fn get(&self, hash: Hash, key: &FlowKey) -> Option<(u64, V)> {
        let entry = self.entries[self.place(hash)].filter(|entry| entry.key == *key)?;
        Some((entry.time, entry.value))
    }

    /// Forgets `key`.
    pub(super) fn forget(&mut self, hash: Hash, key: &FlowKey) {
        let place = self.place(hash);
        if self.entries[place].is_some_and(|entry| entry.key == *key) {
            self.entries[place] = None;
        }
    }

    fn place(&self, hash: Hash) -> usize {
        hash.0 as usize & (self.entries.len() - 1)
    }
}
