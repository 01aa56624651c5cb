//! Checked views over what the tap hands over: records of the ring, sequence numbers, flow keys, segments; and the way
//! from the whole frames of capture files to the same segments. Pure.

mod record;
mod segment;
mod seq;
mod unwrap;

pub use record::{FirstBytes, RecordError, RecordView};
pub use segment::{Flags, FlowKey, Peer, Segment};
pub use seq::Seq;
pub use unwrap::{FragmentLimits, FragmentsLost, LinkType, MAX_LAYERS, NoSegment, TcpView, Unwrapper};
