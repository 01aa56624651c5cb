//! The assembler as a map from position to byte.

use std::collections::BTreeMap;
use std::ops::Range;

/// Gaps of which it is still known that their bytes come late: as the assembler does.
pub(crate) const GAPS_REMEMBERED: usize = 4;

/// The stream, the slow and obvious way.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) first_copy: BTreeMap<u64, u8>,
    /// Delivered bytes and missing ones, in order.
    pub(crate) told: Vec<Option<u8>>,
    pub(crate) gaps: Vec<Range<u64>>,
    pub(crate) duplicate: u64,
    pub(crate) late: u64,
    pub(crate) beyond: u64,
    pub(crate) fin: Option<u64>,
}

impl Model {
    pub(crate) fn next(&self) -> u64 {
        self.told.len() as u64
    }

    pub(crate) fn segment(&mut self, pos: i64, bytes: &[u8]) {
        for (pos, &byte) in (pos..).zip(bytes) {
            let Ok(pos) = u64::try_from(pos) else {
                self.duplicate += 1;
                continue;
            };
            let remembered = &self.gaps[self.gaps.len().saturating_sub(GAPS_REMEMBERED)..];
            if pos < self.next() && remembered.iter().any(|gap| gap.contains(&pos)) {
                self.late += 1;
            } else if pos < self.next() || self.first_copy.contains_key(&pos) {
                self.duplicate += 1;
            } else if self.fin.is_some_and(|fin| pos >= fin) {
                self.beyond += 1;
            } else {
                self.first_copy.insert(pos, byte);
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some(byte) = self.first_copy.remove(&self.next()) {
            self.told.push(Some(byte));
        }
    }

    pub(crate) fn give_up_to(&mut self, target: u64) {
        let target = self.fin.map_or(target, |fin| target.min(fin));
        while self.next() < target {
            let at = self.next();
            match self.gaps.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => self.gaps.push(at..at + 1),
            }
            self.told.push(None);
            self.deliver();
        }
    }

    pub(crate) fn finish(&mut self, pos: i64) {
        let least = self.first_copy.last_key_value().map_or(0, |(&pos, _)| pos + 1).max(self.next());
        if let Ok(pos) = u64::try_from(pos)
            && self.fin.is_none()
            && pos >= least
        {
            self.fin = Some(pos);
        }
    }

    pub(crate) fn hole_end(&self) -> Option<u64> {
        let waiting = self.first_copy.first_key_value().map(|(&pos, _)| pos);
        waiting.or(self.fin).filter(|&end| end > self.next())
    }
}
