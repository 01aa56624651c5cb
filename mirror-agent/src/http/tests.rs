//! The framer as the pipeline sees it: a script of segments, holes and responses goes in, a book of events comes out.

mod cuts;
mod framing;
mod leaving;
mod resync;

pub(crate) use crate::testing::wire::{Book, GET, Wire, frame};
