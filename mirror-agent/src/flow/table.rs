//! The flow table: who has a place in it, for how long, and which stream a segment belongs to.
//!
//! Over 400 lines: the front door of the room: places, lists and clocks change together, the parts that
//! stand alone have files of their own.

#[cfg(test)]
mod check;
mod newcomer;
mod request;
mod response;

use std::collections::BTreeSet;

use mirror_common::record::Direction;

use super::index::{Hash, INDEX_BYTES, Index};
use super::list::Lists;
use super::recent::Recent;
use super::stream::Stream;
use super::{Close, FlowId, FlowInfo, GapReason, Handler, Limits, Start};
use crate::packet::{FlowKey, Segment, Seq};

/// Bytes of the table for each flow, beside the handler's state and what waits behind holes.
pub(super) const FLOW_BYTES: usize = size_of::<Slot<()>>() + INDEX_BYTES + 2 * size_of::<u32>();

/// Flows (and holes) that one [`Table::tick`] ends at most; the rest is due at once.
const TICK_BUDGET: usize = 1_024;

/// How long a flow may go without being moved to the end of its list: no list is touched for each segment.
const MAX_STALENESS_NS: u64 = 100_000_000;

/// How far before the first bytes of a flow that was under way a patient table waits for others.
const REACH: u32 = 1 << 20;

/// What happened in a table since it was made. Bytes go through the [`Handler`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows taken up.
    pub opened: u64,
    /// Of these, flows whose SYN was not seen.
    pub opened_midstream: u64,
    /// Flows without proof that made room for a newcomer.
    pub evicted_unproven: u64,
    /// Quiet flows that made room for a newcomer.
    pub evicted_quiet: u64,
    /// Segments that would have opened a flow and found no place.
    pub refused: u64,
    /// SYNs remembered.
    pub syns: u64,
    /// Of these, SYNs that overwrote another one.
    pub syns_overwritten: u64,
    /// Resets too far away to be believed.
    pub resets_ignored: u64,
    /// Acknowledgements too far away to be believed.
    pub acks_ignored: u64,
    /// Streams found again far from where they were lost.
    pub moved: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            opened: self.opened + other.opened,
            opened_midstream: self.opened_midstream + other.opened_midstream,
            evicted_unproven: self.evicted_unproven + other.evicted_unproven,
            evicted_quiet: self.evicted_quiet + other.evicted_quiet,
            refused: self.refused + other.refused,
            syns: self.syns + other.syns,
            syns_overwritten: self.syns_overwritten + other.syns_overwritten,
            resets_ignored: self.resets_ignored + other.resets_ignored,
            acks_ignored: self.acks_ignored + other.acks_ignored,
            moved: self.moved + other.moved,
        }
    }
}

/// The connections of one shard.
///
/// A flow takes a place only with request payload. It is *proven* when the primary acknowledged a byte of it (seen on a
/// response head or on the end of the response direction): nobody can bring that about with a forged source address.
///
/// Memory: [`Table::FLOW_BYTES`] (208 bytes) and the inline size of `S` for each flow of the most that were ever open at
/// once, about 200 bytes more on the heap for one that ever had a hole; [`Limits::out_of_order_bytes_total`] for what
/// waits; [`Limits::syns_remembered`] and [`Limits::closed_remembered`] at 64 bytes each. The defaults make 13 MiB (and
/// up to 13 MiB more if every flow had a hole) with all 65 536 places taken, 8 MiB out of order and 1.3 MiB for SYNs and
/// closed flows, beside `S`.
///
/// Work for one segment is bounded by the segment and by what it releases; nothing ever walks the table.
#[derive(Debug)]
pub struct Table<S> {
    limits: Limits,
    index: Index,
    slots: Vec<Slot<S>>,
    vacant: Vec<u32>,
    lists: Lists<{ Class::COUNT }>,
    /// Flows with a hole by when it is given up.
    holes: BTreeSet<(u64, u32)>,
    syns: Recent<Seq>,
    closed: Recent<Parted>,
    /// The latest time seen: taps on several CPUs are not ordered to the nanosecond.
    now: u64,
    /// How old `Slot::touched` may be.
    staleness: u64,
    /// Memory of what waits behind holes, of all flows.
    memory: usize,
    counters: Counters,
}

#[derive(Debug)]
struct Slot<S> {
    stream: Stream,
    /// `None` while the place is vacant.
    state: Option<S>,
    hash: Hash,
    class: Class,
    /// When it was last moved to the end of its list.
    touched: u64,
    /// The hole that has a deadline in [`Table::holes`]: its position, and the deadline.
    armed: Option<(u64, u64)>,
}

/// A flow is on the list of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Unproven,
    Proven,
    /// One side sent FIN.
    Ending,
}

impl Class {
    const COUNT: usize = 3;
    const ALL: [Self; Self::COUNT] = [Self::Unproven, Self::Proven, Self::Ending];

    fn of(stream: &Stream) -> Self {
        match stream {
            Stream { half_closed: true, .. } | Stream { primary_fin: true, .. } => Self::Ending,
            _ if stream.is_parting() => Self::Ending,
            Stream { proven: true, .. } => Self::Proven,
            _ => Self::Unproven,
        }
    }
}

/// How a flow that is remembered left the table.
#[derive(Clone, Copy, Debug)]
struct Parted {
    /// Sequence number after the last byte that was delivered or given up.
    end: Seq,
    why: Close,
}

impl<S> Table<S> {
    /// Bytes of the table for each flow, beside the handler's state and what waits behind holes.
    pub const FLOW_BYTES: usize = FLOW_BYTES;

    /// An empty table.
    #[must_use]
    pub fn new(mut limits: Limits) -> Self {
        // Beyond that the order of two sequence numbers means nothing (RFC 7323 section 2.3).
        limits.window = limits.window.min(1 << 30);
        Self {
            index: Index::new(limits.flows),
            slots: Vec::new(),
            vacant: Vec::new(),
            lists: Lists::new(),
            holes: BTreeSet::new(),
            syns: Recent::new(limits.syns_remembered),
            closed: Recent::new(limits.closed_remembered),
            now: 0,
            staleness: MAX_STALENESS_NS.min(limits.idle_timeout_ns.min(limits.half_closed_timeout_ns) / 8),
            memory: 0,
            counters: Counters::default(),
            limits,
        }
    }

    /// Takes one segment of either direction, in the order the tap saw them.
    #[inline]
    pub fn segment<H: Handler<State = S>>(&mut self, seg: &Segment<'_>, handler: &mut H) {
        self.now = self.now.max(seg.time);
        let hash = self.hash(seg);
        let found = self.index.find(hash, |place| self.slots[place as usize].stream.info.key == seg.flow);
        match (found, seg.direction) {
            (Some(place), Direction::Request) => {
                let slot = &mut self.slots[place as usize];
                if let Some(state) = &mut slot.state
                    && slot.stream.deliver_next(state, seg, handler)
                {
                    self.touch(place);
                } else {
                    self.request(hash, place, seg, handler);
                }
            }
            (Some(place), Direction::Response) => {
                if self.slots[place as usize].stream.is_old_news(seg, self.limits.window) {
                    self.touch(place);
                } else {
                    self.response(hash, place, seg, handler);
                }
            }
            (None, Direction::Request) => self.newcomer(hash, seg, handler),
            // Nothing is known that it could answer.
            (None, Direction::Response) => {}
        }
    }

    /// Gives up holes and closes flows whose time is over at `now` (ns, the clock of the segments). Bounded work: if
    /// more is due than one call does, [`Table::next_deadline`] stays in the past.
    pub fn tick<H: Handler<State = S>>(&mut self, now: u64, handler: &mut H) {
        self.now = self.now.max(now);
        for _ in 0..TICK_BUDGET {
            match self.holes.first() {
                Some(&(deadline, place)) if deadline <= self.now => {
                    self.give_up_hole(place, GapReason::Timeout, handler);
                    self.settle(place, handler);
                }
                _ => break,
            }
        }
        for class in Class::ALL {
            for _ in 0..TICK_BUDGET {
                match self.lists.first(class as usize) {
                    Some(place) if self.expiry(place) <= self.now => {
                        let half_closed = self.slots[place as usize].stream.half_closed;
                        self.close(place, if half_closed { Close::Fin } else { Close::Idle }, handler);
                    }
                    _ => break,
                }
            }
        }
    }

    /// The time at which [`Table::tick`] has something to do; `None` if never, as things stand.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let hole = self.holes.first().map(|&(deadline, _)| deadline);
        let expiries =
            Class::ALL.iter().filter_map(|&class| Some(self.expiry(self.lists.first(class as usize)?)));
        expiries.chain(hole).min()
    }

    /// Gives up the first hole of a flow, because too much waits for it elsewhere. Nothing without a hole.
    pub fn give_up<H: Handler<State = S>>(&mut self, id: FlowId, handler: &mut H) {
        if self.slots.get(id.0 as usize).is_some_and(|slot| slot.state.is_some()) {
            self.give_up_hole(id.0, GapReason::Memory, handler);
            self.settle(id.0, handler);
        }
    }

    /// Gives up what is missing of a flow before `seq`: it will not come. A number too far away says nothing.
    pub fn give_up_to<H: Handler<State = S>>(&mut self, id: FlowId, seq: Seq, handler: &mut H) {
        if self.slots.get(id.0 as usize).is_some_and(|slot| slot.state.is_some()) {
            let window = self.limits.window;
            self.on(id.0, |stream, state| stream.give_up_to_seq(state, seq, window, handler));
            self.arm(id.0);
            self.settle(id.0, handler);
        }
    }

    /// A flow and its state, `None` if the place is vacant.
    pub fn state_mut(&mut self, id: FlowId) -> Option<(&FlowInfo, &mut S)> {
        let slot = self.slots.get_mut(id.0 as usize)?;
        Some((&slot.stream.info, slot.state.as_mut()?))
    }

    /// Closes every flow, in the order of their ids.
    pub fn close_all<H: Handler<State = S>>(&mut self, now: u64, handler: &mut H) {
        self.now = self.now.max(now);
        for place in 0..self.slots.len() {
            // A table has fewer than 2^32 places: `Limits::flows` is a u32.
            self.close(place as u32, Close::Shutdown, handler);
        }
    }

    /// What happened since the table was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flows in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// True without a flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of what waits behind holes, overhead included; at most [`Limits::out_of_order_bytes_total`].
    #[must_use]
    pub fn out_of_order_memory(&self) -> usize {
        self.memory
    }

    /// Puts a flow into a place that [`Table::make_room`] found.
    fn open<H: Handler<State = S>>(
        &mut self,
        hash: Hash,
        seg: &Segment<'_>,
        start: Start,
        origin: Seq,
        handler: &mut H,
    ) -> u32 {
        let unsettled = self.is_patient() && start == Start::MidStream;
        let origin = if unsettled { Seq(origin.0.wrapping_sub(REACH)) } else { origin };
        // Fewer than `Limits::flows`, a u32.
        let place = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        let info = FlowInfo { id: FlowId(place), key: seg.flow, job: seg.job, hash: seg.hash, start, origin };
        self.counters.opened += 1;
        self.counters.opened_midstream += u64::from(start == Start::MidStream);
        let mut stream = Stream::new(info);
        if unsettled {
            stream.unsettle();
        }
        let slot = Slot {
            state: Some(handler.open(&info)),
            stream,
            hash,
            class: Class::Unproven,
            touched: self.now,
            armed: None,
        };
        match self.slots.get_mut(place as usize) {
            Some(vacant) => *vacant = slot,
            None => self.slots.push(slot),
        }
        self.index.insert(hash, place);
        self.lists.push(Class::Unproven as usize, place);
        place
    }

    /// Takes a flow out of the table; nothing if the place is vacant.
    fn close<H: Handler<State = S>>(&mut self, place: u32, why: Close, handler: &mut H) {
        if self.is_patient() {
            self.on(place, |stream, state| {
                while let Some(end) = stream.hole_end() {
                    stream.give_up_to(state, end, GapReason::Closed, handler);
                }
            });
        }
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        let Some(mut state) = slot.state.take() else { return };
        self.memory -= slot.stream.memory();
        slot.stream.shut(&mut state, handler);
        let (hash, key) = (slot.hash, slot.stream.info.key);
        self.index.remove(hash, place);
        self.lists.remove(slot.class as usize, place);
        if let Some((_, deadline)) = slot.armed.take() {
            self.holes.remove(&(deadline, place));
        }
        self.vacant.push(place);
        let reopening = slot.stream.reopening.take();
        handler.close(&slot.stream.info, state, why);
        if matches!(why, Close::Fin | Close::Reset | Close::Idle | Close::Evicted) {
            let parted = Parted { end: self.slots[place as usize].stream.next_seq(), why };
            self.closed.put(hash, key, self.now, parted);
            if let Some(isn) = reopening {
                self.remember_syn(hash, key, isn);
            }
        }
    }

    /// Gives up the first hole of a flow, and forgets its deadline if it had none.
    fn give_up_hole<H: Handler<State = S>>(&mut self, place: u32, reason: GapReason, handler: &mut H) {
        self.on(place, |stream, state| {
            if let Some(end) = stream.hole_end() {
                stream.give_up_to(state, end, reason, handler);
            }
        });
        self.arm(place);
    }

    /// The connection was reset: the flow ends now, or when its holes are filled or given up.
    fn reset<H: Handler<State = S>>(&mut self, place: u32, handler: &mut H) {
        let is_patient = self.is_patient();
        let stream = &mut self.slots[place as usize].stream;
        if is_patient && stream.hole_end().is_some() {
            stream.part();
            self.settle(place, handler);
        } else {
            self.close(place, Close::Reset, handler);
        }
    }

    /// Holes wait for a while although they were acknowledged.
    fn is_patient(&self) -> bool {
        self.limits.acknowledged_hole_ns > 0
    }

    fn remember_syn(&mut self, hash: Hash, key: FlowKey, isn: Seq) {
        self.counters.syns += 1;
        self.counters.syns_overwritten += u64::from(self.syns.put(hash, key, self.now, isn));
    }

    /// After anything happened to a flow: its deadline, its class, and its end if both sides are done.
    fn settle<H: Handler<State = S>>(&mut self, place: u32, handler: &mut H) {
        let slot = &mut self.slots[place as usize];
        if slot.state.is_none() {
            return;
        }
        if slot.stream.half_closed && slot.stream.primary_fin {
            self.close(place, Close::Fin, handler);
            return;
        }
        if slot.stream.is_parting() && slot.stream.hole_end().is_none() {
            self.close(place, Close::Reset, handler);
            return;
        }
        let class = Class::of(&slot.stream);
        if class == slot.class {
            self.touch(place);
        } else {
            self.lists.remove(slot.class as usize, place);
            slot.class = class;
            slot.touched = self.now;
            self.lists.push(class as usize, place);
        }
        self.arm(place);
    }

    /// Sets the deadline of the first hole. It runs from the arrival of what waited right behind it when it became the
    /// first, and what comes later changes nothing but an acknowledgement, which may bring it forward.
    fn arm(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        let hole = slot.stream.hole(&self.limits);
        match (slot.armed, hole) {
            (None, None) => return,
            (Some((armed, before)), Some((pos, deadline))) if armed == pos && before <= deadline => return,
            _ => {}
        }
        if let Some((_, deadline)) = slot.armed.take() {
            self.holes.remove(&(deadline, place));
        }
        if let Some((pos, deadline)) = hole {
            slot.armed = Some((pos, deadline));
            self.holes.insert((deadline, place));
        }
    }

    /// The flow was active.
    #[inline]
    fn touch(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        if self.now - slot.touched >= self.staleness {
            slot.touched = self.now;
            self.lists.remove(slot.class as usize, place);
            self.lists.push(slot.class as usize, place);
        }
    }

    /// When a flow is closed if it stays quiet. Counted from its last move in the list, so early by at most
    /// [`MAX_STALENESS_NS`].
    fn expiry(&self, place: u32) -> u64 {
        let slot = &self.slots[place as usize];
        let timeout = match slot.class {
            Class::Unproven | Class::Proven => self.limits.idle_timeout_ns,
            Class::Ending => self.limits.half_closed_timeout_ns,
        };
        slot.touched.saturating_add(timeout)
    }

    /// Works on a flow and keeps the sum of the memory right; `None` if the place is vacant.
    fn on<R>(&mut self, place: u32, work: impl FnOnce(&mut Stream, &mut S) -> R) -> Option<R> {
        let slot = self.slots.get_mut(place as usize)?;
        let state = slot.state.as_mut()?;
        let before = slot.stream.memory();
        let result = work(&mut slot.stream, state);
        self.memory = self.memory - before + slot.stream.memory();
        Some(result)
    }

    /// The tap's hash chose the shard and is no secret; the seed is.
    #[inline]
    fn hash(&self, seg: &Segment<'_>) -> Hash {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let client = &seg.flow.client;
        let [.., a, b, c, d, e, f, g, h] = client.addr;
        let addr = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let ends = u64::from(seg.hash) << 16 | u64::from(client.port);
        let mixed = fold(addr ^ self.limits.hash_seed, ODD);
        // Masked: the low half is as good as any.
        Hash((fold(mixed ^ ends, ODD ^ self.limits.hash_seed.rotate_left(32)) & u64::from(u32::MAX)) as u32)
    }
}

/// Memory of the places for SYNs and closed flows.
pub(super) fn recent_bytes(limits: &Limits) -> usize {
    let bytes = |places: u32, each| (places.max(1) as usize).next_power_of_two() * each;
    bytes(limits.syns_remembered, Recent::<Seq>::ENTRY_BYTES)
        + bytes(limits.closed_remembered, Recent::<Parted>::ENTRY_BYTES)
}

/// Multiplies to 128 bits and folds the halves.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // Both halves on purpose.
    (product >> 64) as u64 ^ (product & u128::from(u64::MAX)) as u64
}

/// Whether `seq` may be the first data seen of the connection that began with `isn`.
fn follows(seq: Seq, isn: Seq, window: u32) -> bool {
    (0..=i64::from(window)).contains(&i64::from(seq.since(isn.plus(1))))
}
