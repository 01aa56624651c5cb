//! Worlds: who stands where, and the ending that every scenario shares.
//!
//! Over 400 lines: the lab's one vocabulary: layouts, what runs in them, and how a scene ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::Conn;
use crate::eventually::{eventually, wait_for};
use crate::kernel::{self, Hook, tcx_chain};
use crate::load::{self, Load, LoadReport};
use crate::mirror::Mirror;
use crate::netns::{Namespace, is_dead};
use crate::server::{Line, Reviews, ids};
use crate::stats::Stats;

/// Port of the primary.
pub const PRIMARY_PORT: u16 = 8080;
/// Port of the shadow.
pub const SHADOW_PORT: u16 = 8081;

/// Which address family a scenario uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

/// Where the mirror taps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tap {
    /// On the node, at the host side of the primary's veth.
    #[default]
    HostSide,
    /// In the primary's namespace, found by name.
    PodByName,
    /// In the primary's namespace, found by its process.
    PodByPid,
    /// At the node's side of the client's veth.
    ClientSide,
    /// No interface named: found from the primary's address.
    Found,
}

/// The namespaces of a scenario.
#[derive(Debug)]
pub struct World {
    /// Clients.
    pub cli: Arc<Namespace>,
    /// The node; the mirror runs here.
    pub node: Arc<Namespace>,
    /// The primary.
    pub pri: Arc<Namespace>,
    /// The shadows.
    pub sha: Arc<Namespace>,
    dir: PathBuf,
    single: bool,
    _turn: Turn,
}

/// Scenarios of one test binary run side by side, but for those that need the machine for themselves.
#[derive(Debug)]
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

static TURN: RwLock<()> = RwLock::new(());

impl Turn {
    fn shared() -> Self {
        Self::Shared { _guard: TURN.read().unwrap_or_else(PoisonError::into_inner) }
    }

    fn alone() -> Self {
        Self::Alone { _guard: TURN.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl World {
    /// Four namespaces: clients, primary and shadow, each by a veth pair to the node that routes between them.
    #[must_use]
    pub fn routed() -> Self {
        Self::try_routed().expect("making a world")
    }

    /// The same, for those who would rather say what went wrong.
    ///
    /// # Errors
    /// When not root, or when the machine lacks something.
    pub fn try_routed() -> Result<Self> {
        Self::routed_in(Turn::shared())
    }

    /// The same, with no other scenario beside it: for those that measure.
    #[must_use]
    pub fn routed_alone() -> Self {
        Self::routed_in(Turn::alone()).expect("making a world")
    }

    /// Everything in one namespace, over `lo`.
    #[must_use]
    pub fn single() -> Self {
        let turn = Turn::shared();
        let host = Arc::new(Namespace::new("host").expect("making a world"));
        Self {
            cli: Arc::clone(&host),
            node: Arc::clone(&host),
            pri: Arc::clone(&host),
            sha: host,
            dir: folder().expect("making a folder"),
            single: true,
            _turn: turn,
        }
    }

    fn routed_in(turn: Turn) -> Result<Self> {
        let node = Arc::new(Namespace::new("node")?);
        node.sysctl("ipv4/ip_forward", "1")?;
        node.sysctl("ipv6/conf/all/forwarding", "1")?;
        let cli = Arc::new(Namespace::new("cli")?);
        let pri = Arc::new(Namespace::new("pri")?);
        let sha = Arc::new(Namespace::new("sha")?);
        for (net, name, pod) in [(1, "vcli", &cli), (2, "vpri", &pri), (3, "vsha", &sha)] {
            join(&node, name, pod, net)?;
        }
        Ok(Self { cli, node, pri, sha, dir: folder()?, single: false, _turn: turn })
    }

    /// Where the primary listens.
    #[must_use]
    pub fn primary_at(&self, family: Family) -> SocketAddr {
        self.address(2, family, PRIMARY_PORT)
    }

    /// Where the shadow listens.
    #[must_use]
    pub fn shadow_at(&self, family: Family) -> SocketAddr {
        self.address(3, family, SHADOW_PORT)
    }

    fn address(&self, net: u8, family: Family, port: u16) -> SocketAddr {
        let text = match (self.single, family) {
            (true, Family::V4) => format!("127.0.0.1:{port}"),
            (true, Family::V6) => format!("[::1]:{port}"),
            (false, Family::V4) => format!("{}:{port}", pod_v4(net)),
            (false, Family::V6) => format!("[{}]:{port}", pod_v6(net)),
        };
        text.parse().expect("an address by formula")
    }

    /// Lets segments of both families grow to 185000 bytes on the whole way from client to primary (BIG TCP).
    ///
    /// Panics when the kernel does not know how.
    pub fn big_tcp(&self) {
        let way = [(&self.cli, "eth0"), (&self.node, "vcli"), (&self.node, "vpri"), (&self.pri, "eth0")];
        for (namespace, device) in way {
            namespace
                .ip(&format!("link set dev {device} gso_max_size 185000 gro_max_size 185000"))
                .expect("BIG TCP");
            namespace.run(|| kernel::set_big_tcp_v4(device, 185_000)).expect("BIG TCP for IPv4");
        }
        // A segment beyond 64 KiB bears a jumbo option of 8 bytes, which a router counts against the MTU of the way on.
        for (namespace, device) in &way[1..] {
            namespace.ip(&format!("link set dev {device} mtu 1600")).expect("a larger MTU");
        }
    }

    /// A folder for logs; gone with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection from the clients' namespace.
    #[track_caller]
    #[must_use]
    pub fn open(&self, to: SocketAddr) -> Conn {
        Conn::open(&self.cli, to).expect("connecting to the primary")
    }

    /// Starts primary, shadow and mirror.
    #[must_use]
    pub fn scene(&self, setup: &Setup<'_>) -> Scene<'_> {
        Scene::start(self, setup).expect("setting the scene")
    }

    /// The interface a tap stands at and its namespace.
    fn tapped(&self, tap: Tap) -> (&Namespace, &'static str) {
        match tap {
            Tap::HostSide => (&self.node, "vpri"),
            Tap::ClientSide => (&self.node, "vcli"),
            Tap::PodByName | Tap::PodByPid => (&self.pri, "eth0"),
            Tap::Found => (&self.node, "lo"),
        }
    }

    /// Panics if any program is attached where `tap` stands, by TCX or by clsact.
    #[track_caller]
    pub fn nothing_attached(&self, tap: Tap) {
        let (namespace, interface) = self.tapped(tap);
        eventually("nothing of the mirror is left attached", Duration::from_secs(10), || {
            attached(namespace, interface).is_empty()
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("MIRROR_LAB_KEEP").is_some() {
            eprintln!("# logs are in {}", self.dir.display());
        } else {
            let _gone_already = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// What is attached to an interface: `tcx ingress ID`, and what `tc` shows of clsact filters.
#[must_use]
pub fn attached(namespace: &Namespace, interface: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(ifindex) = namespace.ifindex(interface) else { return found };
    for hook in [Hook::Ingress, Hook::Egress] {
        // Below 6.6 there is no TCX and so nothing by it.
        let chain = namespace.run(|| tcx_chain(ifindex, hook)).unwrap_or_default();
        found.extend(chain.iter().map(|id| format!("tcx {} {id}", hook.name())));
        let filters =
            namespace.sh(&format!("tc filter show dev {interface} {}", hook.name())).unwrap_or_default();
        found.extend(
            filters
                .lines()
                .filter(|line| line.contains("bpf"))
                .map(|line| format!("clsact {}: {line}", hook.name())),
        );
    }
    found
}

/// A veth pair: `name` on the node, `eth0` in the pod, addresses of network `net` on both.
///
/// # Errors
/// What `ip` said.
pub fn join(node: &Namespace, name: &str, pod: &Namespace, net: u8) -> Result<()> {
    node.ip(&format!("link add {name} type veth peer name eth0 netns {}", pod.name()))?;
    node.ip(&format!("addr add {}/24 dev {name}", node_v4(net)))?;
    node.ip(&format!("addr add {}/64 dev {name} nodad", node_v6(net)))?;
    node.ip(&format!("link set {name} up"))?;
    pod.ip(&format!("addr add {}/24 dev eth0", pod_v4(net)))?;
    pod.ip(&format!("addr add {}/64 dev eth0 nodad", pod_v6(net)))?;
    pod.ip("link set eth0 up")?;
    pod.ip(&format!("route add default via {}", node_v4(net)))?;
    pod.ip(&format!("-6 route add default via {}", node_v6(net)))?;
    Ok(())
}

fn node_v4(net: u8) -> String {
    format!("10.77.{net}.1")
}

/// Address of the pod in network `net`: 1 clients, 2 primary, 3 shadows.
#[must_use]
pub fn pod_v4(net: u8) -> String {
    format!("10.77.{net}.2")
}

fn node_v6(net: u8) -> String {
    format!("fd77:{net}::1")
}

/// As [`pod_v4`].
#[must_use]
pub fn pod_v6(net: u8) -> String {
    format!("fd77:{net}::2")
}

/// Logs of failed scenarios are kept until a lab is made after this time.
const LOGS_ARE_KEPT: Duration = Duration::from_secs(3600);

fn folder() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if COUNT.load(Ordering::Relaxed) == 0 {
        sweep_folders();
    }
    let name = format!("mirror-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// Removes old logs of labs that have ended.
fn sweep_folders() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("mirror-lab-")
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok());
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if pid.is_some_and(is_dead) && age.is_some_and(|age| age > LOGS_ARE_KEPT) {
            let _someone_else_did = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// How to set a scene. Each list of options goes to its program as it stands.
#[derive(Clone, Debug, Default)]
pub struct Setup<'a> {
    /// Family of all addresses.
    pub family: Family,
    /// Where the mirror taps.
    pub tap: Tap,
    /// Options of the primary, a `reviews` server.
    pub primary: &'a [&'a str],
    /// Options of the shadow, a `reviews` server.
    pub shadow: &'a [&'a str],
    /// Options of `mirror run` beside primary, shadow and tap.
    pub mirror: &'a [&'a str],
}

/// Options with which a copy is byte for byte what the client sent.
pub const IDENTICAL: [&str; 6] = ["--host-suffix", "", "--marker", "", "--trace", "keep"];

/// Primary, shadow and mirror at work.
#[derive(Debug)]
pub struct Scene<'w> {
    /// Where it plays.
    pub world: &'w World,
    /// The primary.
    pub primary: Reviews,
    /// The shadow.
    pub shadow: Reviews,
    /// The mirror.
    pub mirror: Mirror<'w>,
    tap: Tap,
}

/// What a scenario left behind.
#[derive(Debug)]
pub struct Ending {
    /// The mirror's last numbers.
    pub stats: Stats,
    /// Whole requests in the primary's log.
    pub primary: Vec<Line>,
    /// Whole requests in the shadow's log.
    pub shadow: Vec<Line>,
}

impl<'w> Scene<'w> {
    fn start(world: &'w World, setup: &Setup<'_>) -> Result<Self> {
        let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(setup.family), setup.primary)?;
        let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(setup.family), setup.shadow)?;
        let mut args = mirror_args(world, setup.tap, primary.at(), &[shadow.at()], primary.process.pid());
        args.extend(setup.mirror.iter().map(|word| (*word).to_owned()));
        let mirror = Mirror::start(&world.node, &args)?;
        Ok(Self { world, primary, shadow, mirror, tap: setup.tap })
    }

    /// Runs a load from the clients' namespace to the primary.
    #[must_use]
    pub fn load(&self, change: impl FnOnce(&mut Load)) -> LoadReport {
        let mut load = Load::new(self.primary.at(), 4, 100);
        change(&mut load);
        load::run(&self.world.cli, &load)
    }

    /// A connection from the clients' namespace to the primary.
    #[track_caller]
    #[must_use]
    pub fn open(&self) -> Conn {
        self.world.open(self.primary.at())
    }

    /// A scene of parts that were started by hand.
    #[must_use]
    pub const fn of(
        world: &'w World,
        primary: Reviews,
        shadow: Reviews,
        mirror: Mirror<'w>,
        tap: Tap,
    ) -> Self {
        Self { world, primary, shadow, mirror, tap }
    }

    /// Ends a scenario in which every one of `sent` requests must have been copied whole, once.
    #[track_caller]
    pub fn all_delivered(self, sent: u64) -> Ending {
        let ending = self.all_copied(sent);
        witnessed_once(&ending.stats, sent);
        ending
    }

    /// The same for requests whose answers TCP may send together: the witness counts those that share a segment once, and
    /// all but the first of them are unknown.
    #[track_caller]
    pub fn all_delivered_and_answered_together(self, sent: u64) -> Ending {
        let ending = self.all_copied(sent);
        let (witnessed, unknown) = (ending.stats.n("/witnessed"), ending.stats.n("/primary/unknown"));
        assert_eq!(witnessed + unknown, sent, "the mirror says {:?}", ending.stats);
        ending
    }

    #[track_caller]
    fn all_copied(self, sent: u64) -> Ending {
        let ending = self.finish(sent);
        let losses = ending.stats.losses(0);
        assert_eq!(
            ending.stats.delivered(0),
            sent,
            "all delivered: {losses}; the mirror says {:?}",
            ending.stats
        );
        assert_eq!(ids(&ending.shadow), ids(&ending.primary), "the same requests at both servers");
        ending
    }

    /// Ends a scenario: the primary has `sent` requests in its log and the mirror observed as many, both laws hold at
    /// rest and in the final event, the shadow's log has what was delivered and nothing invented, and nothing is left
    /// attached.
    #[track_caller]
    pub fn finish(self, sent: u64) -> Ending {
        self.primary_has_logged(sent);
        self.mirror.rest(sent);
        self.leave(false)
    }

    /// The same with a shadow that may have received whole requests without answering them.
    #[track_caller]
    pub fn finish_with_sick_shadow(self, sent: u64) -> Ending {
        self.primary_has_logged(sent);
        self.mirror.rest(sent);
        self.leave(true)
    }

    /// The same without a claim about how many requests the mirror saw.
    #[track_caller]
    pub fn finish_with_losses(self) -> Ending {
        self.mirror.rest_at_all();
        self.leave(false)
    }

    /// The log may come a moment after the answer (a server that answers before it read the body).
    #[track_caller]
    fn primary_has_logged(&self, sent: u64) {
        let logged = || self.primary.requests().len() as u64;
        let _told_by_the_assertion = wait_for(Duration::from_secs(5), || (logged() >= sent).then_some(()));
        assert_eq!(logged(), sent, "requests in the primary's log");
    }

    #[track_caller]
    fn leave(self, sick: bool) -> Ending {
        let Self { world, primary, shadow, mirror, tap } = self;
        let stats = end(world, tap, mirror);
        let ending = Ending { stats, primary: primary.requests(), shadow: shadow.requests() };
        let (whole, delivered) = (ending.shadow.len() as u64, ending.stats.delivered(0));
        let most = if sick {
            ending.stats.shadow(0, "copies") + ending.stats.shadow(0, "resent")
        } else {
            delivered
        };
        assert!(
            (delivered..=most).contains(&whole),
            "{whole} whole requests in the shadow's log, {delivered} delivered; the mirror says {:?}",
            ending.stats
        );
        nothing_invented(&primary.log(), &shadow.log());
        ending
    }
}

/// Ends a mirror that is at rest: exit code 0, both laws in its last words, nothing left attached. Its last numbers.
#[track_caller]
pub fn end(world: &World, tap: Tap, mirror: Mirror<'_>) -> Stats {
    let rest = mirror.stats().expect("numbers before the end");
    let (status, last) = mirror.stop().expect("ending the mirror");
    assert!(status.success(), "the mirror ends with {status}");
    assert_eq!(last.broken_laws(), Vec::<String>::new(), "the mirror says {last:?}");
    assert!(last.at_rest(), "the mirror says {last:?}");
    assert_eq!(last.observed(), rest.observed(), "nothing is observed after the rest");
    world.nothing_attached(tap);
    last
}

/// Panics unless the witness counted `sent` answers to within 0.1%: whatever TCP sent again, and however many taps it passed.
#[track_caller]
pub fn witnessed_once(stats: &Stats, sent: u64) {
    let witnessed = stats.n("/witnessed");
    assert!(
        witnessed.abs_diff(sent) * 1000 <= sent,
        "the witness saw {witnessed} answers to {sent} requests; the mirror says {stats:?}"
    );
}

/// Panics if the shadow's log holds something that is not a request of the primary's log.
#[track_caller]
pub fn nothing_invented(primary: &[Line], shadow: &[Line]) {
    let sent: std::collections::BTreeSet<&str> = primary.iter().map(|line| line.id.as_str()).collect();
    for line in shadow {
        assert!(!line.bad, "the shadow received what is no request: {line:?}");
        assert!(
            line.cut || sent.contains(line.id.as_str()),
            "the shadow received a request nobody sent: {line:?}"
        );
    }
}

/// Options of `mirror run` for a tap, a primary and its shadows.
#[must_use]
pub fn mirror_args(
    world: &World,
    tap: Tap,
    primary: SocketAddr,
    shadows: &[SocketAddr],
    pid: u32,
) -> Vec<String> {
    let mut args = vec!["--primary".to_owned(), primary.to_string()];
    for shadow in shadows {
        args.extend(["--shadow".to_owned(), format!("http://{shadow}")]);
    }
    match tap {
        Tap::HostSide => args.extend(["--interface".to_owned(), "vpri".to_owned()]),
        Tap::ClientSide => args.extend(["--interface".to_owned(), "vcli".to_owned()]),
        Tap::PodByName => args.extend(["--netns".to_owned(), world.pri.name().to_owned()]),
        Tap::PodByPid => args.extend(["--pid".to_owned(), pid.to_string()]),
        Tap::Found => {}
    }
    args
}
