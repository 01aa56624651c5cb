//! What the flow table tells the room after it.

use crate::packet::{FlowKey, Seq};

/// Index of a flow in its table; reused after [`Handler::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

/// How a flow was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its SYN was seen: stream position 0 is the first byte the client sent.
    Syn,
    /// It was under way already: stream position 0 is the first byte the tap saw.
    MidStream,
}

/// What stays true for a flow as long as it is in the table.
#[derive(Clone, Copy, Debug)]
pub struct FlowInfo {
    /// Its place in the table.
    pub id: FlowId,
    /// The two ends.
    pub key: FlowKey,
    /// Slot of the job that matched it.
    pub job: u16,
    /// Symmetric hash of the connection, the one that chose the shard.
    pub hash: u32,
    /// How it was taken up.
    pub start: Start,
    /// Sequence number of stream position 0.
    pub origin: Seq,
}

/// In-order bytes of the request direction, each byte of the stream at most once.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Stream position of the first byte.
    pub pos: u64,
    /// The bytes; never empty.
    pub bytes: &'a [u8],
    /// Kernel time at which the segment that carried them passed the tap, ns.
    pub time: u64,
    /// What the client had acknowledged when it sent this segment: grows when the client has read a response.
    pub ack: Option<Seq>,
    /// True if the first byte of `bytes` was the first payload byte of a segment.
    pub segment_start: bool,
}

/// Why a hole was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GapReason {
    /// The primary has the bytes, the tap did not deliver them: they will not be sent again. Either it acknowledged
    /// them, or the client went on further than it could have without an acknowledgement.
    Acknowledged,
    /// Nothing filled it in time.
    Timeout,
    /// Too much was waiting behind it, or behind the holes of the table.
    Memory,
    /// The connection ended with the hole open.
    Closed,
    /// The segment was seen, but not all of its payload was captured (the `snaplen` of a capture file).
    Cut,
}

/// A hole that will never be filled.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Stream position of the first missing byte.
    pub pos: u64,
    /// Missing bytes.
    pub len: u64,
    /// Why it was given up.
    pub reason: GapReason,
}

/// A response head (or the end of the response direction) as seen at the tap.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Stream position in the request direction that the primary had acknowledged when it sent this.
    pub acked: u64,
    /// Status code, final or interim (1xx).
    pub status: u16,
    /// Kernel time, ns.
    pub time: u64,
}

/// Why a flow left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Close {
    /// The client ended its direction, all its bytes were delivered (or given up), and the primary ended too or was
    /// silent for the half-closed timeout.
    Fin,
    /// Either side reset the connection.
    Reset,
    /// A connection with another initial sequence number took its place (port reuse), or another job took it over.
    Replaced,
    /// Nothing happened for the idle timeout.
    Idle,
    /// It made room for another flow.
    Evicted,
    /// The agent is stopping.
    Shutdown,
}

/// Where matched payload bytes went that were not delivered as a [`Chunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LostReason {
    /// No place in the flow table.
    TableFull,
    /// They came after their hole had been given up.
    Late,
    /// Too far from what was delivered, or beyond the FIN: they do not belong to this stream.
    OutOfWindow,
    /// They waited behind a hole when the flow was closed, or came with or after its RST.
    Closed,
}

impl LostReason {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::TableFull, "table_full"),
        (Self::Late, "late"),
        (Self::OutOfWindow, "out_of_window"),
        (Self::Closed, "closed"),
    ];
}

/// The room after `flow`. The calls for one flow come in stream order; `State` is its own memory for that flow.
pub trait Handler {
    /// What the handler keeps for each flow.
    type State;

    /// A flow took a place in the table; always the first call for it.
    fn open(&mut self, flow: &FlowInfo) -> Self::State;
    /// The next bytes of the request direction.
    fn data(&mut self, flow: &FlowInfo, state: &mut Self::State, chunk: Chunk<'_>);
    /// The next bytes are missing for good.
    fn gap(&mut self, flow: &FlowInfo, state: &mut Self::State, gap: Gap);
    /// A response head passed; all request bytes before `evidence.acked` were delivered or given up before this call.
    /// A head that is sent or seen again makes no second call.
    fn response(&mut self, flow: &FlowInfo, state: &mut Self::State, evidence: Evidence);
    /// The client sent FIN and every byte before it was delivered or given up; the primary may still be answering.
    fn half_close(&mut self, flow: &FlowInfo, state: &mut Self::State);
    /// The flow left the table; always the last call for it.
    fn close(&mut self, flow: &FlowInfo, state: Self::State, why: Close);
    /// Payload bytes of the request direction that were delivered or buffered before.
    fn duplicate(&mut self, job: u16, bytes: u64);
    /// Payload bytes of the request direction that will not be delivered.
    fn lost(&mut self, job: u16, why: LostReason, bytes: u64);
    /// Payload bytes of the request direction went into (positive) or out of (negative) out-of-order memory.
    fn buffered(&mut self, job: u16, delta: i64);
}
