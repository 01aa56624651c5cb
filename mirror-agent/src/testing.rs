//! What tests of several rooms and the fuzz targets (`mirror-agent/fuzz`) share. It names nothing but what the rooms show
//! to all, so that it compiles beside the rooms without the rest of the agent.

pub(crate) mod book;
pub(crate) mod naive;
pub(crate) mod quiet;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod seeds;
pub(crate) mod talk;
pub(crate) mod voyage;
pub(crate) mod wire;
