//! Judgements on the interfaces that would be tapped, and on whether the primary's requests pass them.

use std::net::SocketAddr;

use super::Report;
use crate::kernel::attach::TapMode;
use crate::kernel::interfaces::Interface;
use crate::kernel::probe::{Facts, Inside, Wanted, serves};
use crate::kernel::programs::{ForeignProgram, Place};

pub(super) fn judge_interfaces(report: &mut Report, facts: &Facts, inside: &Inside, wanted: Option<Wanted>) {
    let chosen = selected(inside);
    match &inside.selected {
        Ok(_) => {
            let names: Vec<String> = chosen.iter().map(|i| describe(i)).collect();
            report.ok("interfaces", format!("in {}: {}", facts.netns, names.join(", ")));
        }
        Err(why) => report.fail("interfaces", format!("{}: {why}", facts.netns), elsewhere_mend(facts)),
    }
    for interface in chosen.iter().filter(|i| !i.up) {
        report.warn(
            "interfaces",
            format!("{} is down", interface.name),
            format!("ip link set {} up", interface.name),
        );
    }
    if let Some(ip) = wanted.and_then(|w| w.ip)
        && let Some(holder) = chosen.iter().find(|i| i.addresses.contains(&ip.to_canonical()))
        && (holder.loopback || holder.kind.as_deref() == Some("dummy"))
        && !ip.is_loopback()
    {
        report.warn(
            "interfaces",
            format!("{ip} is held by {}, to which no packet comes from outside", holder.name),
            format!(
                "name the interface at which requests come in, and lo for clients on this host: --interface {} \
                 --interface lo",
                first_real(inside)
            ),
        );
    }
}

pub(super) fn judge_standing(report: &mut Report, inside: &Inside, mode: TapMode) {
    for (index, hook, programs) in &inside.standing {
        let Some(interface) = inside.interfaces.iter().find(|i| i.index == *index) else { continue };
        let before: Vec<String> =
            programs.iter().filter(|p| runs_before(p, mode)).map(ToString::to_string).collect();
        let after = programs.len() - before.len();
        let place = format!("{} {hook}", interface.name);
        if !before.is_empty() {
            report.warn(
                "order",
                format!("{place}: {} would run before the tap; what it drops or redirects is not seen", before.join(", ")),
                if mode == TapMode::Clsact {
                    "if requests are missing, tap the primary's own namespace (--pid), or use a kernel with TCX"
                } else {
                    "if requests are missing, tap the primary's own namespace (--pid)"
                },
            );
        } else if after > 0 {
            report.ok("order", format!("{place}: the tap would stand before the {after} there"));
        }
    }
}

/// With TCX we go to the head of the chain. As a clsact filter we come after all of TCX and after filters of another kind that
/// hold the lowest priorities.
fn runs_before(program: &ForeignProgram, mode: TapMode) -> bool {
    match (program.place, mode) {
        (Place::Xdp, _) | (Place::Tcx, TapMode::Clsact) => true,
        (Place::Tcx | Place::Clsact { .. }, TapMode::Tcx) => false,
        (Place::Clsact { priority }, TapMode::Clsact) => priority == 1 && program.id.is_none(),
    }
}

pub(super) fn judge_primary(report: &mut Report, facts: &Facts, inside: &Inside, wanted: Wanted) {
    let on_port: Vec<&SocketAddr> = inside.listeners.iter().filter(|l| l.port() == wanted.port).collect();
    let port = wanted.port;
    if on_port.iter().any(|listener| serves(**listener, wanted)) {
        let open = inside.connections.iter().filter(|(ours, _)| is_primary(*ours, wanted)).count();
        report.ok("primary", format!("port {port} is served; {open} connections are open"));
    } else if let Some(listener) = on_port.first() {
        report.warn(
            "primary",
            format!("port {port} is served only at {}, not at the primary's address", listener.ip()),
            format!(
                "use --primary {listener} if that is what you mean, or let the service listen on the address"
            ),
        );
    } else {
        report.warn(
            "primary",
            format!("nothing listens on port {port} in {}", facts.netns),
            elsewhere_mend(facts),
        );
    }
}

/// Where else the primary may be, or how to find out.
fn elsewhere_mend(facts: &Facts) -> String {
    let places: Vec<String> = facts
        .elsewhere
        .iter()
        .take(4)
        .filter_map(|place| {
            let flag = place.flag.as_deref()?;
            Some(match (&place.interface, place.listens) {
                (Some(name), true) => format!("{flag} (holds the address on {name} and serves the port)"),
                (Some(name), false) => format!("{flag} (holds the address on {name})"),
                (None, _) => format!("{flag} (serves the port)"),
            })
        })
        .collect();
    if places.is_empty() {
        "start the service, or check address and port; a Service or load balancer address is on no interface: use \
         the address and port of the process itself, and --pid if it runs in a container"
            .into()
    } else {
        format!("use {}", places.join(" or "))
    }
}

pub(super) fn judge_local_clients(report: &mut Report, inside: &Inside, wanted: Wanted) {
    let chosen = selected(inside);
    if chosen.is_empty() || chosen.iter().any(|i| i.loopback) {
        return;
    }
    let names: Vec<String> = chosen.iter().map(|i| format!("--interface {}", i.name)).collect();
    let mend = format!("add lo: {} --interface lo", names.join(" "));
    let local = inside
        .connections
        .iter()
        .filter(|(ours, theirs)| is_primary(*ours, wanted) && inside.holder(theirs.ip()).is_some())
        .count();
    if local > 0 {
        report.warn(
            "lo",
            format!(
                "{local} open connections come from this same host, which pass lo even to another address"
            ),
            mend,
        );
    } else {
        report.ok("lo", format!("not tapped; clients on this same host would pass it ({mend})"));
    }
}

pub(super) fn judge_readable(report: &mut Report, inside: &Inside, wanted: Wanted) {
    if matches!(wanted.port, 443 | 6443 | 8443 | 9443) {
        report.warn(
            "TLS",
            format!(
                "port {} usually speaks TLS, which cannot be read from the side; whether it does is unknown",
                wanted.port
            ),
            "tap the port behind the TLS termination; `not_http{tls}` in the counters would prove it",
        );
    }
    let sidecar = [15001, 15006].iter().any(|port| inside.listeners.iter().any(|l| l.port() == *port));
    if sidecar && !selected(inside).iter().any(|i| i.loopback) {
        report.warn(
            "sidecar",
            "a mesh sidecar listens here (port 15001 or 15006); requests may be encrypted on every interface but lo",
            "tap where the sidecar hands them over in the clear: --interface lo",
        );
    }
}

pub(super) fn judge_bypass(report: &mut Report, facts: &Facts, inside: &Inside) {
    let veths: Vec<&str> = selected(inside)
        .iter()
        .filter(|i| i.kind.as_deref() == Some("veth") && i.peer_elsewhere && i.addresses.is_empty())
        .map(|i| i.name.as_str())
        .collect();
    if let (Some(first), more) = (veths.first(), veths.len().saturating_sub(1)) {
        let which = if more == 0 { (*first).to_owned() } else { format!("{first} and {more} more") };
        let fact = format!(
            "{which}: the host's end of a pod's link; datapaths that use bpf_redirect_peer (Cilium) bring requests \
             past it"
        );
        let mend = "tap the pod's own eth0: --pid with a process of the pod";
        if facts.cilium {
            report.warn("veth", format!("{fact}, and programs of Cilium are loaded"), mend);
        } else {
            report.ok("veth", format!("{fact}; if nothing is seen: {mend}"));
        }
    }
    if !facts.socket_redirects.is_empty() {
        let mut names = facts.socket_redirects.clone();
        names.sort();
        names.dedup();
        report.warn(
            "sockmap",
            format!(
                "programs that can move bytes between local sockets past every interface are loaded: {}",
                names.join(", ")
            ),
            "requests between two processes of this host may be invisible; those from other hosts are not",
        );
    }
}

fn is_primary(end: SocketAddr, wanted: Wanted) -> bool {
    end.port() == wanted.port && wanted.ip.is_none_or(|ip| ip.to_canonical() == end.ip().to_canonical())
}

fn selected(inside: &Inside) -> Vec<&Interface> {
    let indices = inside.selected.as_deref().unwrap_or_default();
    inside.interfaces.iter().filter(|i| indices.contains(&i.index)).collect()
}

fn first_real(inside: &Inside) -> &str {
    inside.interfaces.iter().find(|i| !i.loopback && i.unreal().is_none()).map_or("eth0", |i| i.name.as_str())
}

fn describe(interface: &Interface) -> String {
    let hooks: Vec<String> = interface.hooks().iter().map(ToString::to_string).collect();
    format!("{} ({})", interface.name, hooks.join(", "))
}
