//! Copies to the shadow, replies to nowhere.
//!
//! A [`Replayer`] belongs to one shard and is driven by its loop: [`Replayer::begin`], [`Replayer::body`],
//! [`Replayer::end`] or [`Replayer::abort`] while the request comes in, [`Replayer::flush`] after a batch,
//! [`Replayer::on_event`] for what `epoll` says, [`Replayer::tick`] for what has waited too long. Every copy that was
//! begun ends in exactly one [`Report::Outcome`]. An [`H2Replayer`] does the same for requests that came by HTTP/2.
//!
//! Nothing here waits. A source that can be kept waiting asks before it begins a copy ([`Replayer::lacks_room`]) or goes on
//! with its body ([`Replayer::lacks_room_for`]), and lets the loop turn while that may help ([`Replayer::goes_on`]).

mod books;
mod budget;
mod h2;
mod link;
mod outcome;
mod pace;
mod queue;
mod replayer;
mod settings;
mod target;
mod transport;
mod turns;

pub use budget::{Budget, Lease};
pub use h2::{
    CONNECTION_BYTES, H2_TOKENS, H2Copy, H2Replayer, H2Report, H2Slot, H2Start, MAX_REPLY_BLOCK_BYTES,
    MAX_REPLY_FIELDS_BYTES, MAX_RETAINED_BODY_BYTES, MAX_UNKNOWN_BODY_RESERVE_BYTES,
};
pub use link::PIPELINE_DEPTH;
pub use outcome::{Dropped, Failed, Outcome, Report};
pub use replayer::{
    CopyId, DIRECT_WRITE_BYTES, LINGER_NS, LinkSlot, MAX_BODY_RESERVE_BYTES, Replayer, SHARED_LINKS, Start,
};
pub use settings::{Connections, Exclude, Ordering, Settings, Timeouts};
pub use target::{
    BACK_OFF_FIRST_NS, BACK_OFF_MAX_NS, DISTRUST_FIRST_NS, DISTRUST_MAX_NS, MAX_ABSENCE_NS, MAX_TIME_WAIT,
    TIME_WAIT_NS, TargetConfig, Totals,
};
pub use transport::TLS_BUFFER_BYTES;
pub use turns::{GATHER_BYTES, GATHER_SLOT_NS, GATHER_SLOTS};

#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

/// A link of a replayer; stale ids are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId {
    index: u32,
    generation: u32,
}
