//! The first bytes of a connection that was under way, where a guess is enough: capture files ([`Pickup::Trust`]).
//!
//! They often begin with a request or the HTTP/2 preface, and the first segment may end within the method: then the bytes are gathered until
//! they tell. A lone byte in front of a request is the probe of a keep-alive, not a part of its method.
//!
//! [`Pickup::Trust`]: super::Pickup

use super::Pickup;
use super::connection::{Connection, Mode};
use super::h2::PREFACE;
use super::head::{may_become, may_begin, may_begin_well_known};
use super::input::{Input, Tally};
use super::message::Events;

impl Connection {
    /// No gap came before, and no byte that says anything.
    pub(super) fn nothing_yet(&self) -> bool {
        self.next.is_none() || self.lone_byte
    }

    pub(super) fn trusts(&self) -> bool {
        self.pickup == Pickup::Trust
    }

    /// Takes the first bytes for a request if they look like one, or waits if they are too few. False if they do not.
    pub(super) fn guess(&mut self, bytes: &[u8]) -> bool {
        self.mode = if is_part_of_preface(bytes) || may_become(bytes) {
            Mode::First
        } else if may_begin(bytes) {
            self.guessed = true;
            Mode::Sync
        } else {
            return false;
        };
        true
    }

    /// More bytes while too few came to tell.
    pub(super) fn first(
        &mut self,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        if at == 0 && input.segment_start && !self.framer.at_boundary() {
            let probe = self.lone_byte && may_begin_well_known(input.bytes);
            if probe || self.stands_at_boundary(input) {
                self.lose(None, ev, tally);
                return at;
            }
        }
        // Few bytes, so one by one.
        while at < input.bytes.len() {
            self.framer.gather(&input.bytes[at..=at]);
            at += 1;
            let gathered = self.framer.gathered();
            if gathered == PREFACE {
                self.begin_h2(false, ev);
            } else if is_part_of_preface(gathered) || may_become(gathered) {
                continue;
            } else if may_begin(gathered) {
                self.guessed = true;
                self.mode = Mode::Sync;
            } else {
                self.lose(None, ev, tally);
                return at;
            }
            self.pump_gathered(input.pos + at as u64, input, ev, tally);
            return at;
        }
        at
    }
}

/// Whether `bytes` are the beginning of the HTTP/2 preface, and not all of it.
fn is_part_of_preface(bytes: &[u8]) -> bool {
    bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes)
}
