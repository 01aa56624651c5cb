//! TCX or clsact.

use super::AttachError;
use crate::kernel::tcx;

/// How the user wants programs attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX where the kernel has it, clsact elsewhere.
    #[default]
    Auto,
    /// TCX or an error.
    Tcx,
    /// clsact, whatever the kernel has.
    Clsact,
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TapMode {
    /// TCX links: gone with the process. Linux 6.6 and newer.
    Tcx,
    /// clsact filters: they outlive the process and need its heartbeat.
    Clsact,
}

impl AttachMode {
    /// What this means on the running kernel. `TapMode::Clsact` asks for `TapConfig::needs_heartbeat`, and for a first beat
    /// before anything is attached.
    ///
    /// # Errors
    /// [`AttachError::NoTcx`], and [`AttachError::Ask`] when the kernel does not let us ask.
    pub fn resolve(self) -> Result<TapMode, AttachError> {
        if self == Self::Clsact {
            return Ok(TapMode::Clsact);
        }
        match (self, tcx::is_available().map_err(|error| AttachError::Ask { error })?) {
            (_, true) => Ok(TapMode::Tcx),
            (Self::Tcx, false) => Err(AttachError::NoTcx),
            (Self::Auto | Self::Clsact, false) => Ok(TapMode::Clsact),
        }
    }
}

impl std::fmt::Display for TapMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}
