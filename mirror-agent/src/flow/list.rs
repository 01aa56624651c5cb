//! Flows ordered by when they were last active, one list for each class, without an allocation for a move.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

/// `N` doubly linked lists over the same places; a place is on at most one of them, and who calls knows on which.
#[derive(Debug)]
pub(super) struct Lists<const N: usize> {
    links: Vec<Link>,
    ends: [Ends; N],
}

impl<const N: usize> Lists<N> {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), ends: [Ends { first: NONE, last: NONE }; N] }
    }

    /// The place that was pushed longest ago.
    pub(super) fn first(&self, list: usize) -> Option<u32> {
        Some(self.ends[list].first).filter(|&place| place != NONE)
    }

    /// Appends a place that is on no list.
    pub(super) fn push(&mut self, list: usize, place: u32) {
        if self.links.len() <= place as usize {
            self.links.resize(place as usize + 1, Link { prev: NONE, next: NONE });
        }
        let last = std::mem::replace(&mut self.ends[list].last, place);
        self.links[place as usize] = Link { prev: last, next: NONE };
        match last {
            NONE => self.ends[list].first = place,
            last => self.links[last as usize].next = place,
        }
    }

    /// Takes a place off the list it is on.
    pub(super) fn remove(&mut self, list: usize, place: u32) {
        let Link { prev, next } = self.links[place as usize];
        match prev {
            NONE => self.ends[list].first = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => self.ends[list].last = prev,
            next => self.links[next as usize].prev = prev,
        }
    }
}

#[cfg(test)]
impl<const N: usize> Lists<N> {
    /// The places on a list, first to last.
    pub(super) fn members(&self, list: usize) -> Vec<u32> {
        let links = |&place: &u32| Some(self.links[place as usize].next).filter(|&next| next != NONE);
        std::iter::successors(self.first(list), links).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lists_agree_with_plain_vectors(moves in prop::collection::vec((0usize..3, 0u32..12), 0..200)) {
            let mut lists = Lists::<2>::new();
            let mut model = [Vec::new(), Vec::new()];
            for (to, place) in moves {
                for (list, model) in model.iter_mut().enumerate() {
                    if let Some(at) = model.iter().position(|&other| other == place) {
                        model.remove(at);
                        lists.remove(list, place);
                    }
                }
                if to < 2 {
                    lists.push(to, place);
                    model[to].push(place);
                }
                for (list, model) in model.iter().enumerate() {
                    prop_assert_eq!(&lists.members(list), model);
                    prop_assert_eq!(lists.first(list), model.first().copied());
                }
            }
        }
    }
}
