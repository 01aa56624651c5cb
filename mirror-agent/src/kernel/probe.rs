//! Facts about this kernel, this process and a network namespace, as far as a tap depends on them. What they mean and how to mend
//! them is said in `cli::doctor`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use mirror_common::map::RING_FLOOR_BYTES;

use super::call;
use super::cleanup::{self, CleanupReport, Removal};
use super::descriptors::Descriptors;
use super::interfaces::{self, Interface, Selection};
use super::load::{LoadConfig, Loaded};
use super::netns::{self, Netns};
use super::programs::{ForeignProgram, loaded, standing_before};
use super::status;
use super::sys::{self, Hook};
use super::tcx;

/// Namespaces searched for an address or a port that is not here.
const MAX_NAMESPACES: usize = 1024;

/// A primary as far as it is given: no address stands for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Address.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: u16,
}

/// Everything [`gather`] found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Effective capabilities, a bit each; `None` when /proc does not tell.
    pub capabilities: Option<u64>,
    /// Whether the kernel shows its own types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Whether a BPF file system is mounted.
    pub bpf_fs: bool,
    /// How many descriptors a process may hold; `None` when the kernel does not tell.
    pub descriptors: Option<Descriptors>,
    /// `net.core.bpf_jit_enable`.
    pub jit_enable: Option<u32>,
    /// The kernel's lockdown mode, where it has one.
    pub lockdown: Option<String>,
    /// A map made and thrown away.
    pub map: Result<(), String>,
    /// A classifier loaded and thrown away: whether it was compiled to machine code.
    pub program: Result<bool, String>,
    /// Whether the kernel has TCX.
    pub tcx: Result<bool, String>,
    /// Names of loaded programs that move bytes between sockets past every interface.
    pub socket_redirects: Vec<String>,
    /// Whether programs of Cilium are loaded.
    pub cilium: bool,
    /// Filters of dead agents (`removed`) and of living ones (`live`).
    pub leftovers: Result<CleanupReport, String>,
    /// How the namespace was named.
    pub netns: String,
    /// What is in it.
    pub inside: Result<Inside, String>,
    /// Other namespaces that hold the primary's address or serve its port. Looked for only when this one does not.
    pub elsewhere: Vec<Elsewhere>,
    /// The tap itself, loaded and thrown away; why not, if it could not be.
    pub tap: Result<(), String>,
}

/// What a network namespace has in it.
#[derive(Clone, Debug)]
pub struct Inside {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// Indices of those that would be tapped, or why there are none.
    pub selected: Result<Vec<u32>, String>,
    /// What stands on each hook that would be tapped: index of the interface, hook, programs in running order.
    pub standing: Vec<(u32, Hook, Vec<ForeignProgram>)>,
    /// TCP sockets that listen.
    pub listeners: Vec<SocketAddr>,
    /// Established TCP connections: our end, the other end.
    pub connections: Vec<(SocketAddr, SocketAddr)>,
}

/// Another namespace that has what this one lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// How it is found.
    pub netns: String,
    /// The flag that leads there.
    pub flag: Option<String>,
    /// The interface there that holds the primary's address.
    pub interface: Option<String>,
    /// Whether somebody listens on the primary's port there.
    pub listens: bool,
}

/// Looks at everything. Attaches nothing, changes nothing.
#[must_use]
pub fn gather(netns: &Netns, selection: &Selection, wanted: Option<Wanted>) -> Facts {
    let programs = loaded().unwrap_or_default();
    let redirects = [sys::PROG_TYPE_SK_MSG, sys::PROG_TYPE_SK_SKB];
    let inside = netns.within(|_| look_inside(selection)).and_then(|inner| inner).map_err(|e| e.to_string());
    let elsewhere = match (&inside, wanted) {
        (Ok(inside), Some(wanted)) if !inside.has(wanted) => search(netns, wanted),
        _ => Vec::new(),
    };
    Facts {
        release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        capabilities: capabilities(),
        btf: fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false),
        bpf_fs: read("/proc/self/mounts")
            .is_some_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(2) == Some("bpf"))),
        descriptors: Descriptors::now(),
        jit_enable: read("/proc/sys/net/core/bpf_jit_enable").and_then(|text| text.parse().ok()),
        lockdown: read("/sys/kernel/security/lockdown").and_then(|text| chosen(&text)),
        map: call::create_array::<u64>("mirror_probe").map(drop).map_err(|error| error.to_string()),
        program: sys::classifier_load("mirror_probe", -1, None)
            .and_then(|program| sys::program_info(program.as_fd()))
            .map(|info| info.jited_bytes > 0)
            .map_err(|error| error.to_string()),
        tcx: tcx::is_available().map_err(|error| error.to_string()),
        socket_redirects: programs
            .iter()
            .filter(|p| redirects.contains(&p.kind))
            .map(|p| p.name.clone())
            .collect(),
        cilium: programs.iter().any(|p| p.name.starts_with("cil_")),
        leftovers: cleanup::everywhere(std::slice::from_ref(netns), Removal::LookOnly)
            .map_err(|error| error.to_string()),
        netns: netns.to_string(),
        inside,
        elsewhere,
        tap: load_tap(),
    }
}

/// Shows the tap to this kernel's verifier, with the smallest ring. Nothing is attached, and nothing stays.
fn load_tap() -> Result<(), String> {
    let config =
        LoadConfig { shards: 1, ring_bytes: RING_FLOOR_BYTES, seed: 0, needs_heartbeat: false, log: false };
    Loaded::load(&config).map(drop).map_err(|error| error.to_string())
}

impl Inside {
    /// Whether the address is held here (any address always is) and the port served.
    fn has(&self, wanted: Wanted) -> bool {
        let held = wanted.ip.is_none_or(|ip| self.holder(ip).is_some());
        held && self.listeners.iter().any(|listener| listener.port() == wanted.port)
    }

    /// The first interface that holds the address.
    #[must_use]
    pub fn holder(&self, ip: IpAddr) -> Option<&Interface> {
        let ip = ip.to_canonical();
        self.interfaces.iter().find(|i| i.addresses.contains(&ip) || (i.loopback && ip.is_loopback()))
    }
}

fn look_inside(selection: &Selection) -> io::Result<Inside> {
    let interfaces = interfaces::list()?;
    let selected = selection
        .select(&interfaces)
        .map(|chosen| chosen.iter().map(|i| i.index).collect::<Vec<_>>())
        .map_err(|error| error.to_string());
    let mut standing = Vec::new();
    for interface in interfaces.iter().filter(|i| selected.as_ref().is_ok_and(|s| s.contains(&i.index))) {
        for hook in interface.hooks() {
            // Without privileges the chain is not told; the missing capability is a finding of its own.
            if let Ok(programs) = standing_before(interface, *hook, None) {
                standing.push((interface.index, *hook, programs));
            }
        }
    }
    let (listeners, connections) = sockets();
    Ok(Inside { interfaces, selected, standing, listeners, connections })
}

fn search(here: &Netns, wanted: Wanted) -> Vec<Elsewhere> {
    let here = here.inode().ok();
    let mut found = Vec::new();
    for netns in netns::all().into_iter().take(MAX_NAMESPACES) {
        if netns.inode().ok() == here {
            continue;
        }
        let seen = netns.within(|_| {
            let interfaces = interfaces::list().unwrap_or_default();
            let (listeners, _) = sockets();
            Inside {
                interfaces,
                selected: Ok(Vec::new()),
                standing: Vec::new(),
                listeners,
                connections: Vec::new(),
            }
        });
        let Ok(inside) = seen else { continue };
        // Every namespace holds the loopback addresses.
        let holder = wanted.ip.filter(|ip| !ip.is_loopback()).and_then(|ip| inside.holder(ip));
        let listens = inside.listeners.iter().any(|listener| serves(*listener, wanted));
        if holder.is_some() || listens {
            found.push(Elsewhere {
                netns: netns.to_string(),
                flag: netns.flag(),
                interface: holder.map(|i| i.name.clone()),
                listens,
            });
        }
    }
    found
}

/// Whether a socket that listens takes connections to the primary.
#[must_use]
pub fn serves(listener: SocketAddr, wanted: Wanted) -> bool {
    listener.port() == wanted.port
        && (listener.ip().is_unspecified()
            || wanted.ip.is_none_or(|ip| ip.to_canonical() == listener.ip().to_canonical()))
}

/// Listening sockets and established connections of the calling thread's namespace.
fn sockets() -> (Vec<SocketAddr>, Vec<(SocketAddr, SocketAddr)>) {
    let (mut listeners, mut connections) = (Vec::new(), Vec::new());
    for table in ["tcp", "tcp6"] {
        // Without IPv6 there is no second table.
        let text = read(&format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        for (local, remote, state) in text.lines().skip(1).filter_map(socket) {
            match state {
                STATE_LISTEN => listeners.push(local),
                STATE_ESTABLISHED => connections.push((local, remote)),
                _ => {}
            }
        }
    }
    (listeners, connections)
}

const STATE_ESTABLISHED: u8 = 0x01;
const STATE_LISTEN: u8 = 0x0a;

/// A line of `/proc/net/tcp`: our end, the other end, the state.
fn socket(line: &str) -> Option<(SocketAddr, SocketAddr, u8)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    Some((endpoint(local)?, endpoint(remote)?, u8::from_str_radix(words.next()?, 16).ok()?))
}

/// Address in words of 32 bits as they stand in memory, port in network order: `0100007F:1F90`.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = [0; 16];
    let words = address.len() / 8;
    for (word, to) in bytes.chunks_exact_mut(4).enumerate().take(words) {
        let value = u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok()?;
        to.copy_from_slice(&value.to_ne_bytes());
    }
    let ip = match (words, bytes) {
        (1, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        (4, all) => IpAddr::V6(Ipv6Addr::from(all)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn capabilities() -> Option<u64> {
    status::mask(&read("/proc/thread-self/status")?, "CapEff")
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::{STATE_ESTABLISHED, STATE_LISTEN, Wanted, chosen, serves, socket, sockets};

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_socket_table_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1 0 100 0 0 10 0";
        let none: SocketAddr = "0.0.0.0:0".parse().unwrap();
        assert_eq!(socket(line).unwrap(), ("127.0.0.1:8080".parse().unwrap(), none, STATE_LISTEN));
        let line = "1: B80D0120000000000000000005000000:0050 0000000000000000FFFF00000100007F:C350 01";
        let (local, remote, state) = socket(line).unwrap();
        assert_eq!((local, state), ("[2001:db8::5]:80".parse().unwrap(), STATE_ESTABLISHED));
        assert_eq!(remote, "127.0.0.1:50000".parse().unwrap());
        for bad in ["", "0:", "0: zz:1 0:0 01", "0: 0100007F 0:0 01", "0: 01:1 01:1 01"] {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }

    #[test]
    fn own_sockets_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (listeners, connections) = sockets();
        assert!(listeners.contains(&listener.local_addr().unwrap()));
        assert!(connections.contains(&(client.local_addr().unwrap(), client.peer_addr().unwrap())));
    }

    #[test]
    fn a_wildcard_listener_serves_every_address() {
        let wanted = Wanted { ip: Some("10.0.0.5".parse().unwrap()), port: 80 };
        let serves = |listener: &str| serves(listener.parse().unwrap(), wanted);
        assert!(serves("0.0.0.0:80") && serves("[::]:80") && serves("10.0.0.5:80"));
        assert!(serves("[::ffff:10.0.0.5]:80"));
        assert!(!serves("127.0.0.1:80") && !serves("0.0.0.0:81"));
    }

    #[test]
    fn the_lockdown_mode_is_the_word_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
    }
}
