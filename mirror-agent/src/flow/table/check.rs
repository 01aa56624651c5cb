//! For tests: what must hold in a table between two calls.

use super::{Class, Table};

impl<S> Table<S> {
    /// Everything that is kept twice agrees.
    pub(in crate::flow) fn check(&self) {
        let mut memory = 0;
        let mut listed = 0;
        for (place, slot) in (0..).zip(&self.slots) {
            let found = self.index.find(slot.hash, |other| other == place);
            assert_eq!(found.is_some(), slot.state.is_some(), "place {place} in the index");
            if slot.state.is_none() {
                assert!(self.vacant.contains(&place) && slot.armed.is_none());
                continue;
            }
            listed += 1;
            memory += slot.stream.memory();
            assert_eq!(slot.class, Class::of(&slot.stream));
            assert_eq!(slot.armed.map(|armed| armed.0), slot.stream.hole(&self.limits).map(|hole| hole.0));
            if let Some((_, deadline)) = slot.armed {
                assert!(self.holes.contains(&(deadline, place)));
            }
            assert!(slot.stream.memory() <= self.limits.out_of_order_bytes_per_flow);
        }
        assert_eq!((memory, listed), (self.memory, self.len()));
        assert!(memory <= self.limits.out_of_order_bytes_total && listed <= self.limits.flows as usize);
        assert_eq!(self.holes.len(), self.slots.iter().filter(|slot| slot.armed.is_some()).count());
        let on_lists: usize = Class::ALL
            .iter()
            .map(|&class| {
                let members = self.lists.members(class as usize);
                let touched = members.iter().map(|&place| self.slots[place as usize].touched);
                assert!(touched.is_sorted(), "{class:?} ordered by activity");
                assert!(members.iter().all(|&place| self.slots[place as usize].class == class));
                members.len()
            })
            .sum();
        assert_eq!(on_lists, listed);
    }

    /// What refused input must leave as it is: the streams, not the counters.
    pub(in crate::flow) fn streams(&self) -> String {
        let streams = self.slots.iter().map(|slot| (&slot.stream, slot.class, slot.armed));
        format!("{:?} {:?}", streams.collect::<Vec<_>>(), self.holes)
    }
}
