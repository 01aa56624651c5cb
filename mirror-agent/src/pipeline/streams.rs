//! The streams of one client connection that speaks HTTP/2, on their way to the shadows.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::requests::{INLINE_COPIES, is_idempotent};
use super::{Asked, Line};
use crate::flow::FlowInfo;
use crate::http::{HeaderField, StreamHead};
use crate::plan::{Decision, FieldWriter, Filtered};
use crate::replay::{Dropped, H2Copy, H2Replayer, H2Slot, H2Start};

/// Copies of one request.
type Copies = SmallVec<[H2Copy; INLINE_COPIES]>;

/// The copies of a client connection's streams.
pub(super) struct Streams {
    /// The connection, as the replayer names it.
    client: u64,
    /// Requests that were not ended yet. Those that came whole with their head never stand here for long.
    open: BTreeMap<u32, Copies>,
    /// Targets and links, in the order of shadows and then of extra copies.
    links: SmallVec<[(usize, H2Slot); INLINE_COPIES]>,
    fields: Vec<u8>,
}

impl Streams {
    pub(super) fn new(client: u64) -> Self {
        Self { client, open: BTreeMap::new(), links: SmallVec::new(), fields: Vec::new() }
    }

    /// A request opened a stream: decides, and begins its copies.
    pub(super) fn head(&mut self, head: &StreamHead<'_>, flow: &FlowInfo, line: &mut Line) {
        let time = line.at(head.time);
        let taken = line.takes(&Asked {
            flow: &flow.key,
            method: head.method,
            target: head.path.unwrap_or_default(),
            authority: || head.meant_for(),
        });
        let copies = line.select(flow.job, time, |plan, sampler, ordinal, now| {
            if taken {
                plan.decide_stream(sampler, head, &flow.key, flow.origin, ordinal, now)
            } else {
                Decision::Filtered(Filtered::Expression)
            }
        });
        let Some(copies) = copies else { return };
        let client = head.proxied.unwrap_or_else(|| flow.key.client.socket_addr());
        let size = if line.waits() {
            line.measure(|plan, out| plan.rewrite_stream(head, &client, out), flow.job)
        } else {
            0
        };
        let Some((first_target, shadows)) = line.targets(flow.job) else { return };
        let mut begun = Copies::new();
        for place in 0..usize::from(copies) * shadows {
            let shadow = place % shadows;
            let target = first_target + shadow;
            if self.links.len() <= place {
                self.links.push((target, H2Slot::default()));
            }
            let Some((_, slot)) = self.links.get_mut(place) else { continue };
            let start = H2Start {
                shadow: target,
                client: self.client,
                stream: head.stream,
                idempotent: is_idempotent(head.method),
                end_stream: head.end_stream,
                content_length: head.content_length,
                head_time: time,
            };
            line.wait_while(|shadows| shadows.h2.lacks_room(&start, *slot, size));
            let Line { jobs, shadows, .. } = &mut *line;
            let Some(job) = jobs.get(usize::from(flow.job)) else { continue };
            job.planned(shadow);
            begun.extend(shadows.h2.begin(&start, slot, |out| job.plan.rewrite_stream(head, &client, out)));
        }
        if !begun.is_empty() {
            self.open.insert(head.stream, begun);
        }
    }

    pub(super) fn data(&self, stream: u32, bytes: &[u8], line: &mut Line) {
        for copy in self.open.get(&stream).into_iter().flatten() {
            line.wait_while(|shadows| shadows.h2.lacks_room_for(*copy, bytes.len() as u64));
            line.shadows.h2.body(*copy, bytes);
        }
    }

    pub(super) fn trailers(&mut self, stream: u32, fields: &[HeaderField<'_>], line: &mut Line) {
        let Some(copies) = self.open.get(&stream) else { return };
        self.fields.clear();
        let mut writer = FieldWriter::new(&mut self.fields);
        for field in fields {
            writer.copy(field);
        }
        for copy in copies {
            let size = self.fields.len() as u64;
            line.wait_while(|shadows| shadows.h2.lacks_room_for(*copy, size));
            line.shadows.h2.trailers(*copy, &self.fields);
        }
    }

    pub(super) fn end(&mut self, stream: u32, replayer: &mut H2Replayer) {
        for copy in self.open.remove(&stream).into_iter().flatten() {
            replayer.end(copy);
        }
    }

    pub(super) fn abort(&mut self, stream: u32, why: Dropped, code: Option<u32>, replayer: &mut H2Replayer) {
        for copy in self.open.remove(&stream).into_iter().flatten() {
            replayer.abort(copy, why, code);
        }
    }

    /// The request is whole, but the client does not want the rest of its answer.
    pub(super) fn cancelled(&mut self, stream: u32, code: u32, replayer: &mut H2Replayer) {
        for (shadow, slot) in &self.links {
            replayer.cancel(*slot, *shadow, self.client, stream, code);
        }
    }

    /// Gives up every request that is not whole.
    pub(super) fn abort_all(&mut self, why: Dropped, replayer: &mut H2Replayer) {
        for copy in std::mem::take(&mut self.open).into_values().flatten() {
            replayer.abort(copy, why, None);
        }
    }

    /// The client is gone.
    pub(super) fn release(self, replayer: &mut H2Replayer) {
        for (_, slot) in self.links {
            replayer.release(slot);
        }
    }
}
