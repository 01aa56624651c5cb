//! What the agent tells the tap: which endpoints are primaries, and that it is alive.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;

use mirror_common::map::{Endpoint, MAX_JOBS, MAX_PRIMARIES, PortBitmap, Primary};
use nix::time::{ClockId, clock_gettime};

use super::call::{self, Mapping};

/// The key of an address and port. Both unspecified addresses (`0.0.0.0`, `::`) mean any address of either family.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    let addr = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => [0; 16],
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Endpoint { addr, port: address.port(), reserved: [0; 2] }
}

/// Why the primaries could not be set.
#[derive(Debug, thiserror::Error)]
pub enum PrimariesError {
    /// More endpoints than the map holds.
    #[error(
        "{0} primary endpoints are more than {MAX_PRIMARIES}: give fewer addresses, or a port on any address"
    )]
    TooMany(usize),
    /// A port of 0, or a slot that no job can have.
    #[error(
        "{endpoint} for job slot {job} cannot be watched: the port is 1 to 65535, the slot below {MAX_JOBS}"
    )]
    Invalid {
        /// Address and port.
        endpoint: SocketAddr,
        /// Slot.
        job: u16,
    },
    /// The kernel's word.
    #[error("the kernel refused to change the tap's maps: {0}")]
    Kernel(#[from] io::Error),
}

/// The endpoints that the tap copies. Starts empty: nothing is copied.
#[derive(Debug)]
pub struct Primaries {
    exact: OwnedFd,
    ports: OwnedFd,
    wildcards: OwnedFd,
    /// What the kernel holds now.
    current: BTreeMap<Endpoint, Primary>,
}

impl Primaries {
    pub(super) const fn new(exact: OwnedFd, ports: OwnedFd, wildcards: OwnedFd) -> Self {
        Self { exact, ports, wildcards, current: BTreeMap::new() }
    }

    /// Replaces all endpoints by `wanted`, each with the slot of its job. Endpoints that stay are matched throughout, and none
    /// is matched that is neither old nor new.
    ///
    /// # Errors
    ///
    /// [`PrimariesError`]. After a kernel's refusal old and new endpoints may both be there; a next call mends that.
    pub fn replace(&mut self, wanted: &BTreeMap<SocketAddr, u16>) -> Result<(), PrimariesError> {
        if wanted.len() > MAX_PRIMARIES as usize {
            return Err(PrimariesError::TooMany(wanted.len()));
        }
        let Desired { entries, ports, wildcards } = desired(wanted)?;
        // Entries before the bitmaps that lead to them, and after them when they go.
        for (key, primary) in &entries {
            if self.current.get(key) != Some(primary) {
                call::update(self.exact.as_fd(), key, primary)?;
                self.current.insert(*key, *primary);
            }
        }
        call::update(self.wildcards.as_fd(), &0_u32, &*wildcards)?;
        call::update(self.ports.as_fd(), &0_u32, &*ports)?;
        let stale: Vec<Endpoint> =
            self.current.keys().filter(|key| !entries.contains_key(key)).copied().collect();
        for key in stale {
            call::delete(self.exact.as_fd(), &key)?;
            self.current.remove(&key);
        }
        Ok(())
    }
}

struct Desired {
    entries: BTreeMap<Endpoint, Primary>,
    ports: Box<PortBitmap>,
    wildcards: Box<PortBitmap>,
}

fn desired(wanted: &BTreeMap<SocketAddr, u16>) -> Result<Desired, PrimariesError> {
    let mut desired = Desired {
        entries: BTreeMap::new(),
        ports: Box::new(PortBitmap::EMPTY),
        wildcards: Box::new(PortBitmap::EMPTY),
    };
    for (&address, &job) in wanted {
        if address.port() == 0 || usize::from(job) >= MAX_JOBS {
            return Err(PrimariesError::Invalid { endpoint: address, job });
        }
        let key = endpoint(address);
        let primary = Primary { job, reserved: [0; 6] };
        desired.entries.insert(key, primary);
        // The address by itself, for fragments (see `Endpoint`).
        desired.entries.entry(Endpoint { port: 0, ..key }).or_insert(primary);
        desired.ports.set(key.port);
        if key.addr == [0; 16] {
            desired.wildcards.set(key.port);
        }
    }
    Ok(desired)
}

/// The agent's sign of life, for taps that outlive it (clsact). One store to shared memory.
#[derive(Debug)]
pub struct Heartbeat(Mapping);

impl Heartbeat {
    pub(super) fn new(map: &OwnedFd) -> io::Result<Self> {
        Mapping::new(map.as_fd(), 0, call::page_size(), true).map(Self)
    }

    /// Says that the agent is alive. Due well within [`mirror_common::map::HEARTBEAT_LIMIT_NS`].
    pub fn beat(&self) {
        // CLOCK_MONOTONIC cannot fail on Linux; if it did, no beat is the honest answer.
        if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let ns = std::time::Duration::from(now).as_nanos();
            self.0.u64_at(0).store(u64::try_from(ns).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &[(&str, u16)]) -> BTreeMap<SocketAddr, u16> {
        list.iter().map(|(address, job)| (address.parse().unwrap(), *job)).collect()
    }

    #[test]
    fn each_endpoint_gets_an_entry_a_port_bit_and_a_mark_for_fragments() {
        let desired = desired(&wanted(&[("10.0.0.1:80", 3), ("[2001:db8::1]:8080", 4)])).unwrap();
        let v4 = endpoint("10.0.0.1:80".parse().unwrap());
        assert_eq!(v4.addr, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
        assert_eq!(desired.entries[&v4].job, 3);
        assert_eq!(desired.entries[&Endpoint { port: 0, ..v4 }].job, 3);
        assert_eq!(desired.entries.len(), 4);
        assert!(desired.ports.has(80) && desired.ports.has(8080) && !desired.ports.has(0));
        assert_eq!(*desired.wildcards, PortBitmap::EMPTY);
    }

    #[test]
    fn any_address_of_either_family_is_one_wildcard() {
        let desired = desired(&wanted(&[("0.0.0.0:80", 1), ("[::]:81", 2)])).unwrap();
        let any = Endpoint { addr: [0; 16], port: 80, reserved: [0; 2] };
        assert_eq!(desired.entries[&any].job, 1);
        assert_eq!(desired.entries[&Endpoint { port: 81, ..any }].job, 2);
        assert!(desired.wildcards.has(80) && desired.wildcards.has(81));
    }

    #[test]
    fn no_endpoint_is_no_bit() {
        let desired = desired(&BTreeMap::new()).unwrap();
        assert!(desired.entries.is_empty());
        assert_eq!(*desired.ports, PortBitmap::EMPTY);
    }

    #[test]
    fn port_0_and_a_slot_too_high_are_refused() {
        for (address, job) in [("10.0.0.1:0", 0), ("10.0.0.1:80", 64)] {
            assert!(matches!(desired(&wanted(&[(address, job)])), Err(PrimariesError::Invalid { .. })));
        }
    }
}
