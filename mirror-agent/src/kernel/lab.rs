//! Tests of this room against the running kernel, in network namespaces of their own. Need root.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::attach::{AttachError, AttachMode, Change, TapMode, TapSpec, TapStatus, Taps};
use super::call;
use super::cleanup::{self, Removal};
use super::clsact;
use super::interfaces::{self, Framing, SelectError, Selection};
use super::netlink::Socket;
use super::netns::Netns;
use super::probe::{self, Wanted};
use super::programs::{HEARTBEAT_NAME, L2_NAME, L3_NAME, Place, TapPrograms};
use super::sys::{self, Hook};
use super::tcx;
use super::watch::Watcher;

const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;

/// How long something may take on a busy machine. What is waited for is heard of, not looked for: a change that makes no news is
/// never found, however long this is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A network namespace with lo up. Its name is unique, and it goes with the value.
struct Lab {
    name: String,
}

impl Lab {
    fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the feature kernel-tests needs root: it loads BPF programs and makes network namespaces"
        );
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mta-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let lab = Self { name };
        lab.ip(&["link", "set", "lo", "up"]);
        lab
    }

    /// With a veth pair: `va` here, up, and its other end `vb` here too.
    fn with_veth() -> Self {
        let lab = Self::new();
        lab.veth();
        lab
    }

    fn veth(&self) {
        self.ip(&["link", "add", "va", "type", "veth", "peer", "name", "vb"]);
        self.ip(&["link", "set", "va", "up"]);
        self.ip(&["link", "set", "vb", "up"]);
    }

    fn ip(&self, args: &[&str]) {
        run("ip", &[&["-n", &self.name], args].concat());
    }

    fn tc(&self, args: &[&str]) -> String {
        run("tc", &[&["-n", &self.name], args].concat())
    }

    fn netns(&self) -> Netns {
        Netns::named(&self.name)
    }

    fn spec(&self, names: &[&str]) -> TapSpec {
        let names = names.iter().map(ToString::to_string).collect();
        TapSpec { netns: self.netns(), interfaces: Selection::Named(names) }
    }

    fn attach(&self, mode: TapMode, names: &[&str]) -> Result<Taps, AttachError> {
        Taps::attach(Ours::load().programs(), mode, vec![self.spec(names)])
    }

    fn index(&self, name: &str) -> u32 {
        let all = self.netns().within(|_| interfaces::list().unwrap()).unwrap();
        all.iter().find(|i| i.name == name).map(|i| i.index).unwrap()
    }

    fn chain(&self, name: &str, hook: Hook) -> Vec<u32> {
        let index = self.index(name);
        self.netns().within(|_| tcx::chain(index, hook).unwrap()).unwrap()
    }

    fn filters(&self, name: &str, hook: Hook) -> Vec<clsact::Filter> {
        let index = self.index(name);
        self.netns().within(|_| clsact::filters(index, hook).unwrap()).unwrap()
    }

    fn has_clsact(&self, name: &str) -> bool {
        self.tc(&["qdisc", "show", "dev", name]).contains("clsact")
    }

    fn foreign_link(&self, program: &OwnedFd, name: &str, hook: Hook) -> OwnedFd {
        let index = self.index(name);
        self.netns().within(|_| sys::tcx_link_create(program.as_fd(), index, hook).unwrap()).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test may have deleted it.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Stand-ins for the tap programs: they let everything pass and use a heartbeat map, as ours do.
struct Ours {
    l2: OwnedFd,
    l3: OwnedFd,
    heartbeat: OwnedFd,
}

impl Ours {
    fn load() -> Self {
        let heartbeat = call::create_array::<u64>(HEARTBEAT_NAME).unwrap();
        let load = |name| sys::classifier_load(name, TC_ACT_UNSPEC, Some(heartbeat.as_fd())).unwrap();
        Self { l2: load(L2_NAME), l3: load(L3_NAME), heartbeat }
    }

    fn programs(&self) -> TapPrograms {
        TapPrograms::new(self.l2.as_fd(), self.l3.as_fd()).unwrap()
    }

    fn beat(&self) {
        let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
        call::update(self.heartbeat.as_fd(), &0_u32, &(now.as_nanos() as u64)).unwrap();
    }
}

/// Ways to attach on this kernel, the default first. TCX came with Linux 6.6; that a newer kernel lacks it is a failure.
fn modes() -> &'static [TapMode] {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> =
        release.split(|c: char| !c.is_ascii_digit()).take(2).map(|number| number.parse().unwrap()).collect();
    let (default, modes): (TapMode, &[TapMode]) = if numbers >= vec![6, 6] {
        (TapMode::Tcx, &[TapMode::Tcx, TapMode::Clsact])
    } else {
        assert!(matches!(AttachMode::Tcx.resolve(), Err(AttachError::NoTcx)));
        println!("without TCX on Linux {release}");
        (TapMode::Clsact, &[TapMode::Clsact])
    };
    assert_eq!(AttachMode::Auto.resolve().unwrap(), default);
    modes
}

fn has_tcx() -> bool {
    modes().contains(&TapMode::Tcx)
}

fn foreign(name: &str, verdict: i32) -> OwnedFd {
    sys::classifier_load(name, verdict, None).unwrap()
}

fn id(program: &OwnedFd) -> u32 {
    sys::program_info(program.as_fd()).unwrap().id
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    done()
}

fn before(status: &[TapStatus], hook: Hook) -> Vec<String> {
    let tap = status.iter().find(|s| s.hook == hook).unwrap();
    assert!(tap.attached);
    tap.before.as_ref().unwrap().iter().map(|p| p.name.clone()).collect()
}

#[test]
fn tcx_goes_before_what_is_there_and_reports_what_comes_before_it_later() {
    if !has_tcx() {
        return;
    }
    let lab = Lab::with_veth();
    let (earlier, later) = (foreign("earlier", TC_ACT_OK), foreign("later", TC_ACT_SHOT));
    let _earlier = lab.foreign_link(&earlier, "va", Hook::Ingress);

    let ours = Ours::load();
    let taps = Taps::attach(ours.programs(), TapMode::Tcx, vec![lab.spec(&["va"])]).unwrap();
    assert_eq!(lab.chain("va", Hook::Ingress), [id(&ours.l2), id(&earlier)]);
    assert_eq!(lab.chain("va", Hook::Egress), [id(&ours.l2)]);
    assert!(before(&taps.status(), Hook::Ingress).is_empty());

    let _later = lab.foreign_link(&later, "va", Hook::Ingress);
    let status = taps.status();
    assert_eq!(before(&status, Hook::Ingress), ["later"]);
    let first = &status[0].before.as_ref().unwrap()[0];
    assert_eq!((first.id, first.place), (Some(id(&later)), Place::Tcx));
    assert!(before(&status, Hook::Egress).is_empty());

    drop(taps);
    assert_eq!(lab.chain("va", Hook::Ingress), [id(&later), id(&earlier)]);
    assert!(lab.chain("va", Hook::Egress).is_empty());
}

#[test]
fn a_clsact_qdisc_that_we_made_goes_with_our_last_filter() {
    let lab = Lab::with_veth();
    let taps = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    for hook in Hook::BOTH {
        let filters = lab.filters("va", hook);
        assert_eq!(filters.len(), 1);
        assert_eq!((filters[0].priority, filters[0].name.as_str()), (1, L2_NAME));
        assert!(filters[0].is_marked_ours());
    }
    assert!(lab.tc(&["filter", "show", "dev", "va", "ingress"]).contains("direct-action"));
    assert!(taps.status().iter().all(|s| s.attached && s.mode == TapMode::Clsact));
    drop(taps);
    assert!(!lab.has_clsact("va"));
}

#[test]
fn a_foreign_clsact_qdisc_and_its_filters_stay() {
    let lab = Lab::with_veth();
    lab.tc(&["qdisc", "add", "dev", "va", "clsact"]);
    lab.tc(&[
        "filter", "add", "dev", "va", "ingress", "prio", "7", "protocol", "all", "u32", "match", "u32", "0",
        "0",
    ]);
    drop(lab.attach(TapMode::Clsact, &["va"]).unwrap());
    assert!(lab.has_clsact("va"));
    assert!(lab.filters("va", Hook::Ingress).iter().all(|f| f.kind == "u32"));
    assert!(lab.tc(&["filter", "show", "dev", "va", "ingress"]).contains("match 00000000"));

    // Empty, but not ours.
    lab.tc(&["filter", "del", "dev", "va", "ingress"]);
    drop(lab.attach(TapMode::Clsact, &["va"]).unwrap());
    assert!(lab.has_clsact("va"));
}

#[test]
fn a_qdisc_that_we_made_stays_while_a_foreign_filter_is_on_it() {
    let lab = Lab::with_veth();
    let taps = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    lab.tc(&[
        "filter", "add", "dev", "va", "egress", "prio", "9", "protocol", "ip", "u32", "match", "u32", "0",
        "0",
    ]);
    drop(taps);
    assert!(lab.filters("va", Hook::Ingress).is_empty());
    assert!(lab.tc(&["filter", "show", "dev", "va", "egress"]).contains("match 00000000"));

    // One that no packet reaches is a filter too.
    let taps = lab.attach(TapMode::Clsact, &["vb"]).unwrap();
    let args = "filter add dev vb egress chain 5 prio 9 protocol ip u32 match u32 0 0";
    lab.tc(&args.split(' ').collect::<Vec<_>>());
    assert_eq!(before(&taps.status(), Hook::Egress), [""; 0]);
    drop(taps);
    assert!(lab.has_clsact("vb"));
}

#[test]
fn the_last_of_two_agents_removes_the_qdisc_that_the_first_one_made() {
    let lab = Lab::with_veth();
    let first = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    let second = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    assert_eq!(lab.filters("va", Hook::Ingress).len(), 2);
    drop(first);
    assert_eq!(lab.filters("va", Hook::Ingress).len(), 1);
    assert!(second.status().iter().all(|s| s.attached));
    drop(second);
    assert!(!lab.has_clsact("va"));
}

#[test]
fn a_clsact_filter_goes_before_bpf_filters_and_reports_others_that_hold_priority_one() {
    let lab = Lab::with_veth();
    lab.tc(&["qdisc", "add", "dev", "va", "clsact"]);
    lab.tc(&[
        "filter", "add", "dev", "va", "ingress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0",
        "0",
    ]);
    // Another agent's stands for any BPF filter at priority 1 of the egress hook.
    let other = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    let taps = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    let status = taps.status();
    assert_eq!(before(&status, Hook::Ingress), ["u32"]);
    assert!(before(&status, Hook::Egress).is_empty());
    assert_eq!(before(&other.status(), Hook::Egress), [L2_NAME]);

    if has_tcx() {
        // TCX programs run before every filter.
        let program = foreign("cil_from_netdev", TC_ACT_OK);
        let _link = lab.foreign_link(&program, "va", Hook::Egress);
        assert_eq!(before(&taps.status(), Hook::Egress), ["cil_from_netdev"]);
    }
}

#[test]
fn an_attach_that_fails_half_way_leaves_nothing() {
    let lab = Lab::with_veth();
    lab.tc(&["qdisc", "add", "dev", "vb", "ingress"]);
    let error = lab.attach(TapMode::Clsact, &["va", "vb"]).unwrap_err();
    assert!(matches!(&error, AttachError::Attach { interface, hook: Hook::Egress, .. } if interface == "vb"));
    let line = error.to_string();
    assert!(line.contains("replace it by a clsact qdisc") && !line.contains('\n'), "{line}");
    assert!(!lab.has_clsact("va"));
    assert!(lab.filters("vb", Hook::Ingress).is_empty());

    // The second spec fails after the first was attached.
    let nowhere =
        TapSpec { netns: lab.netns(), interfaces: Selection::Addresses(vec!["192.0.2.9".parse().unwrap()]) };
    let error =
        Taps::attach(Ours::load().programs(), modes()[0], vec![lab.spec(&["va"]), nowhere]).unwrap_err();
    assert!(matches!(error, AttachError::Select { source: SelectError::Nothing(_), .. }));
    assert!(lab.chain("va", Hook::Ingress).is_empty() && !lab.has_clsact("va"));
}

#[test]
fn an_unknown_interface_or_namespace_is_one_line_with_the_mend() {
    let lab = Lab::with_veth();
    let error = lab.attach(TapMode::Tcx, &["eth9"]).unwrap_err().to_string();
    assert!(error.contains("\"eth9\"") && error.contains("lo, vb, va"), "{error}");
    let spec = TapSpec { netns: Netns::named("mta-none"), interfaces: Selection::All };
    let error = Taps::attach(Ours::load().programs(), TapMode::Tcx, vec![spec]).unwrap_err().to_string();
    assert!(
        error.contains("network namespace mta-none cannot be entered") && error.contains("ip netns"),
        "{error}"
    );
    let spec = TapSpec { netns: Netns::named("/proc/self/ns/mnt"), interfaces: Selection::All };
    let error = Taps::attach(Ours::load().programs(), TapMode::Tcx, vec![spec]).unwrap_err().to_string();
    assert!(error.contains("must be a network namespace"), "{error}");
    assert!(Netns::of_process(u32::MAX).is_err());
}

#[test]
fn equal_index_and_handle_in_two_namespaces_are_two_filters() {
    let (one, two) = (Lab::with_veth(), Lab::with_veth());
    let first = one.attach(TapMode::Clsact, &["va"]).unwrap();
    let second = two.attach(TapMode::Clsact, &["va"]).unwrap();
    assert_eq!(one.index("va"), two.index("va"));
    let handle = |lab: &Lab| lab.filters("va", Hook::Ingress)[0].handle;
    assert_eq!(handle(&one), handle(&two));
    drop(first);
    assert!(!one.has_clsact("va"));
    assert_eq!(two.filters("va", Hook::Ingress).len(), 1);
    assert_eq!(two.filters("va", Hook::Egress).len(), 1);
    drop(second);
    assert!(!two.has_clsact("va"));
}

#[test]
fn a_killed_agent_leaves_clsact_filters_that_cleanup_removes_here_and_nowhere_else() {
    let (one, two) = (Lab::with_veth(), Lab::with_veth());
    two.tc(&["qdisc", "add", "dev", "vb", "clsact"]);
    let (mut first, mut second) = (agent(&one, "va", TapMode::Clsact), agent(&two, "va", TapMode::Clsact));
    let both = [one.netns(), two.netns()];

    // Both live: nothing is touched.
    let report = cleanup::within(&both, Removal::Remove);
    assert_eq!((report.removed.len(), report.live.len(), report.failed.len()), (0, 4, 0), "{report:?}");

    // Killed a moment ago its heartbeat is still young; cleanup waits until that is sure.
    kill(&mut first);
    assert_eq!(one.filters("va", Hook::Ingress).len(), 1);
    let looked = cleanup::within(&both, Removal::LookOnly);
    let report = cleanup::within(&both, Removal::Remove);
    assert_eq!(looked.removed.len(), 2);
    assert_eq!((report.removed.len(), report.live.len(), report.failed.len()), (2, 2, 0), "{report:?}");
    assert!(report.removed.iter().all(|f| f.interface == "va" && f.netns.contains(&one.name)));
    assert!(report.removed[1].with_qdisc);
    assert!(!one.has_clsact("va"));
    assert_eq!(two.filters("va", Hook::Ingress).len(), 1);
    assert_eq!(two.filters("va", Hook::Egress).len(), 1);

    kill(&mut second);
    assert_eq!(cleanup::within(&both, Removal::Remove).removed.len(), 2);
    assert!(!two.has_clsact("va"));
    assert!(two.has_clsact("vb"));
    assert_eq!(cleanup::within(&both, Removal::Remove).removed.len(), 0);
}

#[test]
fn cleanup_leaves_a_stranger_with_our_name_alone() {
    let lab = Lab::with_veth();
    // Our names, but no heartbeat.
    let nameless = foreign(L2_NAME, TC_ACT_OK);
    let programs = TapPrograms::new(nameless.as_fd(), nameless.as_fd()).unwrap();
    let taps = Taps::attach(programs, TapMode::Clsact, vec![lab.spec(&["va"])]).unwrap();
    let report = cleanup::within(&[lab.netns()], Removal::Remove);
    assert_eq!((report.removed.len(), report.live.len(), report.failed.len()), (0, 0, 0), "{report:?}");
    assert!(taps.status().iter().all(|s| s.attached));
}

#[test]
fn every_named_namespace_is_searched_for_stale_filters() {
    let lab = Lab::with_veth();
    let mut agent = agent(&lab, "va", TapMode::Clsact);
    kill(&mut agent);
    // Looking only: other tests of this machine have stale filters of their own.
    let report = cleanup::everywhere(&[], Removal::LookOnly).unwrap();
    let here = format!("network namespace {}", lab.name);
    assert_eq!(report.removed.iter().filter(|f| f.netns == here).count(), 2, "{report:?}");
    assert_eq!(lab.filters("va", Hook::Ingress).len(), 1);
}

#[test]
fn the_doctor_sees_the_chain_the_listeners_and_the_namespace_where_the_primary_is() {
    let (pod, other) = (Lab::with_veth(), Lab::with_veth());
    pod.ip(&["addr", "add", "10.77.0.5/24", "dev", "va"]);
    let listener = pod.netns().within(|_| std::net::TcpListener::bind("10.77.0.5:8077").unwrap()).unwrap();
    let wanted = Wanted { ip: Some("10.77.0.5".parse().unwrap()), port: 8077 };
    let program = foreign("cil_from_netdev", TC_ACT_OK);
    let _link = has_tcx().then(|| pod.foreign_link(&program, "va", Hook::Egress));
    let selection = Selection::Addresses(vec!["10.77.0.5".parse().unwrap()]);

    let facts = probe::gather(&pod.netns(), &selection, Some(wanted));
    let inside = facts.inside.unwrap();
    assert_eq!(inside.selected, Ok(vec![pod.index("va")]));
    assert_eq!(inside.listeners, [listener.local_addr().unwrap()]);
    let standing: Vec<_> =
        inside.standing.iter().map(|(_, hook, programs)| (*hook, programs.len())).collect();
    assert_eq!(standing, [(Hook::Ingress, 0), (Hook::Egress, usize::from(has_tcx()))]);
    assert!(inside.standing[1].2.iter().all(|standing| standing.name == "cil_from_netdev"));
    assert!(facts.elsewhere.is_empty() && facts.cilium);
    assert_eq!((facts.map, facts.tcx), (Ok(()), Ok(has_tcx())));
    assert!(facts.program.is_ok());

    let facts = probe::gather(&other.netns(), &selection, Some(wanted));
    assert!(facts.inside.unwrap().selected.unwrap_err().contains("no interface holds 10.77.0.5"));
    let flag = Some(format!("--netns {}", pod.name));
    let found = facts.elsewhere.iter().find(|place| place.flag == flag).unwrap();
    assert_eq!((found.interface.as_deref(), found.listens), (Some("va"), true));
}

#[test]
fn with_tcx_nothing_is_left_of_a_killed_agent() {
    if !has_tcx() {
        return;
    }
    let lab = Lab::with_veth();
    let mut agent = agent(&lab, "va", TapMode::Tcx);
    assert_eq!(lab.chain("va", Hook::Ingress).len(), 1);
    kill(&mut agent);
    assert!(within(PATIENCE, || { Hook::BOTH.iter().all(|hook| lab.chain("va", *hook).is_empty()) }));
}

#[test]
fn loopback_is_tapped_on_one_hook_and_addresses_find_their_interfaces() {
    let lab = Lab::with_veth();
    lab.ip(&["addr", "add", "10.7.0.5/24", "dev", "va"]);
    lab.ip(&["addr", "add", "2001:db8::5/64", "dev", "vb", "nodad"]);
    let tapped = |addresses: &[&str]| -> Vec<(String, Hook)> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let spec = TapSpec { netns: lab.netns(), interfaces: Selection::Addresses(addresses) };
        let taps = Taps::attach(Ours::load().programs(), modes()[0], vec![spec]).unwrap();
        taps.status().into_iter().map(|s| (s.interface, s.hook)).collect()
    };
    assert_eq!(tapped(&["127.0.0.1"]), [("lo".to_string(), Hook::Ingress)]);
    let both = |name: &str| Hook::BOTH.map(|hook| (name.to_string(), hook));
    assert_eq!(tapped(&["10.7.0.5"]), both("va"));
    assert_eq!(tapped(&["2001:db8::5"]), both("vb"));

    let spec = TapSpec { netns: lab.netns(), interfaces: Selection::All };
    let taps = Taps::attach(Ours::load().programs(), modes()[0], vec![spec]).unwrap();
    assert_eq!(taps.status().len(), 5);
    assert!(lab.chain("lo", Hook::Egress).is_empty() && lab.filters("lo", Hook::Egress).is_empty());
}

#[test]
fn a_device_without_ethernet_header_gets_the_other_program() {
    let lab = Lab::with_veth();
    lab.ip(&["tuntap", "add", "dev", "t0", "mode", "tun"]);
    let ours = Ours::load();
    for mode in modes().iter().copied() {
        let taps = Taps::attach(ours.programs(), mode, vec![lab.spec(&["va", "t0"])]).unwrap();
        let framing: Vec<Framing> = taps.status().iter().map(|s| s.framing).collect();
        assert_eq!(framing.iter().filter(|f| **f == Framing::Ip).count(), 2);
        if mode == TapMode::Tcx {
            assert_eq!(lab.chain("t0", Hook::Ingress), [id(&ours.l3)]);
            assert_eq!(lab.chain("va", Hook::Ingress), [id(&ours.l2)]);
        } else {
            assert_eq!(lab.filters("t0", Hook::Egress)[0].name, L3_NAME);
        }
    }
}

#[test]
fn an_interface_that_comes_again_is_tapped_again() {
    for mode in modes().iter().copied() {
        let lab = Lab::with_veth();
        let mut watcher = Watcher::new().unwrap();
        let mut taps = lab.attach(mode, &["va"]).unwrap();
        assert_eq!(watcher.follow(&taps), Vec::<String>::new());
        let old = lab.index("va");

        lab.ip(&["link", "del", "va"]);
        assert!(follow_until(&mut watcher, &mut taps, Taps::is_empty));
        assert_eq!(taps.pending().len(), 1);
        lab.veth();
        let changes = |taps: &Taps| taps.status().len() == 2 && taps.status().iter().all(|s| s.attached);
        assert!(follow_until(&mut watcher, &mut taps, changes));
        assert!(taps.pending().is_empty());
        assert_ne!(lab.index("va"), old);

        // The same index again, and so fast that the loss is not seen in between.
        let index = lab.index("va").to_string();
        lab.ip(&["link", "del", "va"]);
        lab.ip(&["link", "add", "va", "index", &index, "type", "veth", "peer", "name", "vb"]);
        assert!(follow_until(&mut watcher, &mut taps, changes));
    }
}

#[test]
fn an_address_that_moves_takes_the_tap_with_it() {
    let lab = Lab::with_veth();
    lab.ip(&["addr", "add", "10.7.1.5/24", "dev", "va"]);
    let spec =
        TapSpec { netns: lab.netns(), interfaces: Selection::Addresses(vec!["10.7.1.5".parse().unwrap()]) };
    let mut watcher = Watcher::new().unwrap();
    let mut taps = Taps::attach(Ours::load().programs(), modes()[0], vec![spec]).unwrap();
    watcher.follow(&taps);
    lab.ip(&["addr", "del", "10.7.1.5/24", "dev", "va"]);
    assert!(follow_until(&mut watcher, &mut taps, Taps::is_empty));
    assert!(taps.pending()[0].contains("no interface holds 10.7.1.5"));
    lab.ip(&["addr", "add", "10.7.1.5/24", "dev", "vb"]);
    let is_there = |taps: &Taps| taps.status().iter().any(|s| s.interface == "vb" && s.attached);
    assert!(follow_until(&mut watcher, &mut taps, is_there));
    assert!(taps.pending().is_empty());
}

#[test]
fn a_wish_that_cannot_be_met_is_tried_again_without_touching_what_is_there() {
    let lab = Lab::with_veth();
    let mut watcher = Watcher::new().unwrap();
    let mut taps = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    watcher.follow(&taps);
    // The egress hook is taken away, and cannot be had again.
    lab.tc(&["qdisc", "del", "dev", "va", "clsact"]);
    lab.tc(&["qdisc", "add", "dev", "va", "ingress"]);
    assert!(follow_until(&mut watcher, &mut taps, |taps| taps.pending().len() == 1));
    // An attachment made and undone would be news in this namespace, and news ask for the next try.
    let tc_news = 1 << 3;
    let mut news = lab.netns().within(|_| Socket::with_groups(tc_news).unwrap()).unwrap();
    assert!(taps.refresh().is_empty());
    assert_eq!(news.try_hear().unwrap(), None);
    assert!(lab.filters("va", Hook::Ingress).is_empty());
    assert_eq!(taps.pending().len(), 1);
}

#[test]
fn a_filter_that_somebody_removed_is_put_back() {
    let lab = Lab::with_veth();
    let mut watcher = Watcher::new().unwrap();
    let mut taps = lab.attach(TapMode::Clsact, &["va"]).unwrap();
    watcher.follow(&taps);
    lab.tc(&["filter", "del", "dev", "va", "ingress"]);
    assert!(follow_until(&mut watcher, &mut taps, |taps| taps.status().iter().all(|s| s.attached)));
    assert_eq!(lab.filters("va", Hook::Ingress).len(), 1);
    assert_eq!(lab.filters("va", Hook::Egress).len(), 1);
}

#[test]
fn a_tapped_namespace_can_die() {
    for mode in modes().iter().copied() {
        let (outside, inside) = (Lab::new(), Lab::new());
        outside.ip(&["link", "add", "host0", "type", "veth", "peer", "name", "eth0", "netns", &inside.name]);
        let mut watcher = Watcher::new().unwrap();
        let mut taps = inside.attach(mode, &["eth0"]).unwrap();
        assert!(watcher.follow(&taps).is_empty());
        run("ip", &["netns", "del", &inside.name]);
        // The kernel takes a veth away with the namespace of its other end, when nothing holds that.
        let has_peer = || {
            let all = outside.netns().within(|_| interfaces::list().unwrap()).unwrap();
            all.iter().any(|i| i.name == "host0")
        };
        assert!(within(PATIENCE, || !has_peer()), "{mode} keeps the namespace alive");
        assert!(follow_until(&mut watcher, &mut taps, |taps| !taps.pending().is_empty()));
        if mode == TapMode::Tcx {
            assert!(taps.is_empty());
        }
        drop(taps);
    }
}

#[test]
fn a_name_that_leads_to_a_new_namespace_is_followed_there() {
    let lab = Lab::with_veth();
    let mut taps = lab.attach(modes()[0], &["va"]).unwrap();
    let old = taps.status()[0].netns_id;
    run("ip", &["netns", "del", &lab.name]);
    assert!(taps.refresh().iter().any(|change| matches!(change, Change::Failed { .. })));
    run("ip", &["netns", "add", &lab.name]);
    lab.veth();
    let changes = taps.refresh();
    assert!(changes.iter().any(|change| matches!(change, Change::Attached { .. })), "{changes:?}");
    assert_eq!(taps.len(), 1);
    assert_ne!(taps.status()[0].netns_id.cookie, old.cookie);
    assert!(taps.refresh().is_empty());
}

#[test]
fn fifty_interfaces_are_tapped_and_looked_after_in_time() {
    let lab = Lab::new();
    for number in 0..25 {
        lab.ip(&[
            "link",
            "add",
            &format!("x{number}"),
            "up",
            "type",
            "veth",
            "peer",
            "name",
            &format!("y{number}"),
        ]);
    }
    for mode in modes().iter().copied() {
        let names: Vec<String> = (0..25).flat_map(|n| [format!("x{n}"), format!("y{n}")]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let started = Instant::now();
        let mut taps = lab.attach(mode, &names).unwrap();
        let attached = started.elapsed();
        assert_eq!(taps.status().len(), 100);
        let told = started.elapsed();
        assert!(taps.refresh().is_empty());
        let refreshed = started.elapsed();
        drop(taps);
        let dropped = started.elapsed();
        println!(
            "{mode}: attach {attached:?} status {:?} refresh {:?} drop {:?}",
            told - attached,
            refreshed - told,
            dropped - refreshed
        );
        assert!(dropped < PATIENCE, "{mode}: {dropped:?}");
    }
}

#[test]
fn wishes_change_without_touching_taps_that_stay() {
    if !has_tcx() {
        return;
    }
    let lab = Lab::with_veth();
    let ours = Ours::load();
    let mut taps = Taps::attach(ours.programs(), TapMode::Tcx, vec![lab.spec(&["va"])]).unwrap();
    let link_before = lab.chain("va", Hook::Ingress);
    let foreign = foreign("foreign", TC_ACT_OK);
    let _link = lab.foreign_link(&foreign, "va", Hook::Ingress);
    let changes = taps.set_specs(vec![lab.spec(&["vb"]), lab.spec(&["va"])]).unwrap();
    assert_eq!(changes.len(), 1);
    // Had it been attached anew it would stand first.
    assert_eq!(lab.chain("va", Hook::Ingress), [id(&foreign), link_before[0]]);

    // A wish that cannot be met changes nothing.
    assert!(taps.set_specs(vec![lab.spec(&["vb"]), lab.spec(&["c"])]).is_err());
    assert_eq!(taps.len(), 2);
    let changes = taps.set_specs(vec![lab.spec(&["vb"])]).unwrap();
    assert!(matches!(&changes[..], [Change::Detached { interface, .. }] if interface == "va"));
    assert_eq!(lab.chain("va", Hook::Ingress), [id(&foreign)]);
}

#[test]
fn a_process_leads_into_its_namespace_and_not_to_its_successor() {
    let lab = Lab::with_veth();
    let mut child = Command::new("ip").args(["netns", "exec", &lab.name, "sleep", "60"]).spawn().unwrap();
    let netns = Netns::of_process(child.id()).unwrap();
    let path = Path::new("/run/netns").join(&lab.name);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    assert!(within(PATIENCE, || netns.inode().is_ok_and(|found| found == inode)));
    let spec = TapSpec { netns: netns.clone(), interfaces: Selection::Named(vec!["va".into()]) };
    let mut taps = Taps::attach(Ours::load().programs(), TapMode::Clsact, vec![spec]).unwrap();
    assert_eq!(lab.filters("va", Hook::Ingress).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(netns.within(|_| ()).is_err());
    // The namespace lives on by its name: the tap stays, and is found for its removal.
    taps.refresh();
    assert_eq!((taps.len(), taps.pending().len()), (1, 1));
    drop(taps);
    assert!(!lab.has_clsact("va"));
}

fn follow_until(watcher: &mut Watcher, taps: &mut Taps, mut done: impl FnMut(&Taps) -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        if done(taps) {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        if watcher.wait(left).unwrap() {
            taps.refresh();
            watcher.follow(taps);
        }
    }
}

/// Starts this test binary again as an agent that taps `interface` and beats until it is killed.
fn agent(lab: &Lab, interface: &str, mode: TapMode) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernel::lab::the_agent_that_gets_killed", "--ignored", "--nocapture"])
        .env("MIRROR_LAB_NETNS", &lab.name)
        .env("MIRROR_LAB_INTERFACE", interface)
        .env("MIRROR_LAB_MODE", mode.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("attached")), "the agent did not attach");
    child
}

fn kill(agent: &mut Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
#[ignore = "not a test: other tests start it as the agent that they kill"]
fn the_agent_that_gets_killed() {
    let Ok(netns) = std::env::var("MIRROR_LAB_NETNS") else { return };
    let interface = std::env::var("MIRROR_LAB_INTERFACE").unwrap();
    let mode = match std::env::var("MIRROR_LAB_MODE").unwrap().as_str() {
        "tcx" => TapMode::Tcx,
        _ => TapMode::Clsact,
    };
    let ours = Ours::load();
    ours.beat();
    let spec = TapSpec { netns: Netns::named(&netns), interfaces: Selection::Named(vec![interface]) };
    let _taps = Taps::attach(ours.programs(), mode, vec![spec]).unwrap();
    println!("attached");
    for _ in 0..600 {
        ours.beat();
        std::thread::sleep(Duration::from_millis(100));
    }
}
