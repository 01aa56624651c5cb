//! How many descriptors this process may hold: each connection to a shadow is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors beside those of connections to shadows: rings, maps, taps, the admin server, libraries.
pub const RESERVED_DESCRIPTORS: u64 = 512;

/// What `RLIMIT_NOFILE` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// How many may be open.
    pub soft: u64,
    /// How far the process itself may raise that.
    pub hard: u64,
}

impl Descriptors {
    /// The limit as it stands; `None` when the kernel does not tell.
    #[must_use]
    pub fn now() -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(Self { soft, hard })
    }

    /// Raises the limit as far as this process may (the agent uses no `select`, for which the low default is kept), and gives
    /// it as it stands then.
    #[must_use]
    pub fn raise() -> Option<Self> {
        let now = Self::now()?;
        if now.soft < now.hard {
            // Refused by a seccomp profile at most; what counts is what stands then.
            let _refused = setrlimit(Resource::RLIMIT_NOFILE, now.hard, now.hard);
        }
        Self::now()
    }

    /// Whether that many connections find a descriptor each, once the limit is raised.
    #[must_use]
    pub fn suffice(&self, connections: u64) -> bool {
        self.hard >= connections.saturating_add(RESERVED_DESCRIPTORS)
    }
}

#[cfg(test)]
mod tests {
    use super::Descriptors;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let raised = Descriptors::raise().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(Descriptors::now(), Some(raised));
    }

    #[test]
    fn connections_need_a_descriptor_each_beside_the_reserved_ones() {
        let limit = Descriptors { soft: 1024, hard: 4096 };
        assert!(limit.suffice(3584) && !limit.suffice(3585) && !limit.suffice(u64::MAX));
    }
}
