//! Flows to connections: every flow of the table is one side of a dialog.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::one::Dialog;
use super::shared::Shared;
use super::syns::Syns;
use super::waiting::Waiting;
use super::{Bytes, Counters, DialogLimits, Observer, hash};
use crate::flow::{Chunk, Close, Evidence, FlowId, FlowInfo, Gap, Handler, LostReason, Start};
use crate::http;
use crate::packet::{FlowKey, Peer, TcpView};

/// All dialogs, and which flow is which side of which.
pub(super) struct Both<O: Observer> {
    pub(super) observer: O,
    pub(super) bytes: Bytes,
    pub(super) counters: Counters,
    http: http::Limits,
    limits: DialogLimits,
    dialogs: Slab<Dialog<O>>,
    /// The open sides: what the flow table keeps for each is its index here.
    halves: Slab<Half>,
    by_ends: HashMap<FlowKey, usize>,
    syns: Syns,
    held: usize,
    unanswered: usize,
    h2_memory: http::Budget,
    h2_responses_memory: http::Budget,
    unanswered_memory: http::Budget,
    /// Bytes in the decoders of all connections.
    heads: i64,
    /// Dialogs that hold too much.
    overdue: Vec<usize>,
    /// The ports that serve, if the user said so.
    serving: BTreeSet<u16>,
    /// The capture is at its end: whatever leaves now leaves for that reason.
    pub(super) ending: bool,
}

#[derive(Clone, Copy, Debug)]
struct Half {
    dialog: usize,
    side: usize,
}

impl<O: Observer> Both<O> {
    pub(super) const CONNECTION_BYTES: usize = size_of::<Dialog<O>>()
        + Waiting::OWN_BYTES
        + 2 * (size_of::<http::Connection>() + http::Connection::OWN_BYTES)
        + 2 * size_of::<Half>()
        + 2 * (size_of::<FlowKey>() + size_of::<usize>());

    pub(super) fn new(http: http::Limits, limits: DialogLimits, serving: BTreeSet<u16>, observer: O) -> Self {
        Self {
            observer,
            bytes: Bytes::default(),
            counters: Counters::default(),
            h2_memory: http::Budget::new(http.h2_memory_bytes),
            h2_responses_memory: http::Budget::new(http.h2_responses_memory_bytes),
            unanswered_memory: http::Budget::new(http.unanswered_bytes),
            http,
            syns: Syns::new(limits.syns),
            limits,
            dialogs: Slab::new(),
            halves: Slab::new(),
            by_ends: HashMap::new(),
            held: 0,
            unanswered: 0,
            heads: 0,
            overdue: Vec::new(),
            serving,
            ending: false,
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.dialogs.len() as u64
    }

    pub(super) fn h2_memory(&self) -> u64 {
        self.h2_memory.used() + self.h2_responses_memory.used()
    }

    pub(super) fn unanswered_memory(&self) -> u64 {
        self.unanswered_memory.used() + (self.unanswered * Waiting::PLACE_BYTES) as u64
    }

    /// A segment with the SYN flag.
    pub(super) fn syn(&mut self, view: &TcpView<'_>) {
        self.syns.note(view, hash(view.src, view.dst));
    }

    /// What was opened before is of no concern any more.
    pub(super) fn forget_syns(&mut self) {
        self.syns = Syns::new(self.limits.syns);
    }

    /// A dialog that holds too much, and its client's flow.
    pub(super) fn overdue(&mut self) -> Option<(usize, Option<FlowId>)> {
        let dialog = self.overdue.pop()?;
        let client = self.dialogs.get(dialog).and_then(Dialog::client_flow);
        self.counters.held_overflows += 1;
        Some((dialog, client))
    }

    /// The flow of `from` towards `to`, if it is not known to ask.
    pub(super) fn server_flow(&self, from: Peer, to: Peer) -> Option<FlowId> {
        let dialog = self.by_ends.get(&ends(&FlowKey { client: from, primary: to }))?;
        self.dialogs.get(*dialog)?.server_flow(from)
    }

    /// Reads all that waits in a dialog.
    pub(super) fn release_all(&mut self, dialog: usize) {
        self.on(dialog, |dialog, shared| {
            dialog.overdue = false;
            dialog.release(true, shared);
        });
    }

    #[inline]
    fn on<R>(
        &mut self,
        dialog: usize,
        work: impl FnOnce(&mut Dialog<O>, &mut Shared<'_, O>) -> R,
    ) -> Option<R> {
        let mut shared = Shared {
            observer: &mut self.observer,
            bytes: &mut self.bytes,
            counters: &mut self.counters,
            http: &self.http,
            limits: &self.limits,
            held: &mut self.held,
            unanswered: &mut self.unanswered,
            h2_memory: &mut self.h2_memory,
            h2_responses_memory: &mut self.h2_responses_memory,
            unanswered_memory: &mut self.unanswered_memory,
            heads: &mut self.heads,
        };
        Some(work(self.dialogs.get_mut(dialog)?, &mut shared))
    }

    /// Works on the dialog of a side.
    #[inline]
    fn on_half(&mut self, half: usize, work: impl FnOnce(&mut Dialog<O>, usize, &mut Shared<'_, O>)) {
        let Some(&Half { dialog, side }) = self.halves.get(half) else { return };
        let late = self.on(dialog, |dialog, shared| {
            work(dialog, side, shared);
            let late = !dialog.overdue && dialog.holds_too_much(shared.limits, *shared.held);
            dialog.overdue |= late;
            late
        });
        if late == Some(true) {
            self.overdue.push(dialog);
        }
    }

    /// Moves the side that is still open from one dialog to another, and ends the first.
    fn hand_over(&mut self, from: usize, to: usize, side: usize, ends: FlowKey) {
        let Some(half) = self.dialogs.get(from).and_then(|from| from.half(side)) else { return };
        let Some((from, to)) = self.dialogs.get2_mut(from, to).map(|(old, new)| {
            old.hand_over(side, new, &self.http);
            (from, to)
        }) else {
            return;
        };
        if let Some(half) = self.halves.get_mut(half) {
            half.dialog = to;
        }
        self.end(from, ends);
    }

    /// The port that serves, as far as the user said: if both ports may, nobody knows.
    fn server(&self, a: Peer, b: Peer) -> Option<Peer> {
        match (self.serving.contains(&a.port), self.serving.contains(&b.port)) {
            (true, false) => Some(a),
            (false, true) => Some(b),
            _ => None,
        }
    }

    fn begin(&mut self, ends: FlowKey, start: Start) -> usize {
        let (a, b) = (ends.client, ends.primary);
        // A SYN that was seen long ago says nothing of a connection that is under way now, but who opened then.
        let opened = self.syns.get(a, b, hash(a, b));
        let dialog = self.dialogs.insert(Dialog::new(a, b, opened, self.server(a, b)));
        self.by_ends.insert(ends, dialog);
        self.counters.connections += 1;
        self.counters.midstream += u64::from(start == Start::MidStream);
        dialog
    }

    fn end(&mut self, dialog: usize, ends: FlowKey) {
        self.on(dialog, Dialog::close);
        let had_client = self.dialogs.try_remove(dialog).is_some_and(|dialog| dialog.has_client());
        self.counters.with_client += u64::from(had_client);
        if self.by_ends.get(&ends) == Some(&dialog) {
            self.by_ends.remove(&ends);
        }
    }
}

/// The same for both directions.
fn ends(key: &FlowKey) -> FlowKey {
    if key.client <= key.primary { *key } else { FlowKey { client: key.primary, primary: key.client } }
}

impl<O: Observer> Handler for Both<O> {
    type State = usize;

    fn open(&mut self, flow: &FlowInfo) -> usize {
        let ends = ends(&flow.key);
        let known = self.by_ends.get(&ends).copied();
        let side = usize::from(flow.key.client != ends.client);
        let half = self.halves.insert(Half { dialog: 0, side });
        let over =
            known.is_none_or(|known| self.dialogs.get(known).is_none_or(|known| known.is_over_for(side)));
        let dialog = match known {
            Some(known) if !over => known,
            _ => self.begin(ends, flow.start),
        };
        if let Some(half) = self.halves.get_mut(half) {
            half.dialog = dialog;
        }
        if let Some(dialog) = self.dialogs.get_mut(dialog) {
            dialog.open(side, half, flow, &self.http);
        }
        // The same connection found again: the other side was never gone.
        if let Some(known) = known
            && over
            && flow.start == Start::MidStream
        {
            self.hand_over(known, dialog, 1 - side, ends);
        }
        half
    }

    fn data(&mut self, _flow: &FlowInfo, half: &mut usize, chunk: Chunk<'_>) {
        self.on_half(*half, |dialog, side, shared| dialog.data(side, &chunk, shared));
    }

    fn gap(&mut self, _flow: &FlowInfo, half: &mut usize, gap: Gap) {
        self.on_half(*half, |dialog, side, shared| dialog.gap(side, &gap, shared));
    }

    fn response(&mut self, _flow: &FlowInfo, _half: &mut usize, _evidence: Evidence) {
        // Responses are read whole: the table is never told of their status.
    }

    fn half_close(&mut self, _flow: &FlowInfo, half: &mut usize) {
        self.on_half(*half, Dialog::half_close);
    }

    fn close(&mut self, flow: &FlowInfo, half: usize, why: Close) {
        let evicted = matches!(why, Close::Evicted | Close::Idle | Close::Shutdown) && !self.ending;
        self.on_half(half, |dialog, side, shared| dialog.leave(side, evicted, shared));
        let Some(Half { dialog, .. }) = self.halves.try_remove(half) else { return };
        if self.dialogs.get(dialog).is_some_and(Dialog::is_closed) {
            self.end(dialog, ends(&flow.key));
        }
    }

    fn duplicate(&mut self, _job: u16, bytes: u64) {
        self.bytes.duplicate += bytes;
    }

    fn lost(&mut self, _job: u16, why: LostReason, bytes: u64) {
        if let Some(sum) = self.bytes.lost.get_mut(why as usize) {
            *sum += bytes;
        }
    }

    fn buffered(&mut self, _job: u16, delta: i64) {
        self.bytes.buffered += delta;
    }
}
