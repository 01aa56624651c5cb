use std::net::IpAddr;

use super::host::version;
use super::{DoctorRequest, Report, Severity, doctor, judge};
use crate::kernel::Hook;
use crate::kernel::attach::AttachMode;
use crate::kernel::cleanup::CleanupReport;
use crate::kernel::descriptors::Descriptors;
use crate::kernel::interfaces::Interface;
use crate::kernel::probe::{Elsewhere, Facts, Inside, Wanted};
use crate::kernel::programs::{ForeignProgram, Place};

fn interface(index: u32, name: &str, address: &str) -> Interface {
    Interface {
        index,
        name: name.into(),
        link_type: 1,
        up: true,
        addresses: vec![address.parse().unwrap()],
        ..Interface::default()
    }
}

/// A host on which all is well: eth0 holds 10.0.0.5, port 80 is served.
fn healthy() -> Facts {
    let lo = Interface { loopback: true, link_type: 772, ..interface(1, "lo", "127.0.0.1") };
    Facts {
        release: "6.12.48+deb13-amd64".into(),
        capabilities: Some(u64::MAX),
        btf: true,
        bpf_fs: false,
        descriptors: Some(Descriptors { soft: 1024, hard: 524_288 }),
        jit_enable: Some(1),
        lockdown: None,
        map: Ok(()),
        program: Ok(true),
        tcx: Ok(true),
        socket_redirects: vec![],
        cilium: false,
        leftovers: Ok(CleanupReport::default()),
        netns: "this network namespace".into(),
        inside: Ok(Inside {
            interfaces: vec![lo, interface(2, "eth0", "10.0.0.5")],
            selected: Ok(vec![2]),
            standing: vec![],
            listeners: vec!["0.0.0.0:80".parse().unwrap()],
            connections: vec![],
        }),
        elsewhere: vec![],
        tap: Ok(()),
    }
}

fn with_inside(change: impl FnOnce(&mut Inside)) -> Facts {
    let mut facts = healthy();
    change(facts.inside.as_mut().unwrap());
    facts
}

const PORT: u16 = 80;

fn ask(facts: &Facts) -> Report {
    judge(facts, AttachMode::Auto, Some(Wanted { ip: Some("10.0.0.5".parse().unwrap()), port: PORT }))
}

/// Severity, fact and mend of the worst finding of a topic.
#[track_caller]
fn on(report: &Report, topic: &str) -> (Severity, String) {
    let finding = report.findings.iter().filter(|f| f.topic == topic).max_by_key(|f| f.severity);
    let finding = finding.unwrap_or_else(|| panic!("nothing on {topic} in\n{report}"));
    (finding.severity, format!("{} -> {}", finding.fact, finding.mend.as_deref().unwrap_or("")))
}

#[track_caller]
fn expect(report: &Report, topic: &str, severity: Severity, words: &[&str]) {
    let (found, line) = on(report, topic);
    assert_eq!(found, severity, "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
}

#[test]
fn a_healthy_host_has_no_complaint() {
    let report = ask(&healthy());
    assert_eq!(report.worst(), Severity::Ok, "{report}");
    assert!(report.to_string().ends_with("A tap works here.\n"));
    expect(&report, "bpf fs", Severity::Ok, &["not mounted; not needed"]);
}

#[test]
fn each_warning_and_failure_has_a_mend_and_each_finding_is_one_line() {
    let mut facts = with_inside(|inside| {
        inside.selected = Err("no interface holds 10.0.0.5".into());
        inside.listeners = vec![];
    });
    facts.release = "4.19.0".into();
    facts.capabilities = Some(0);
    facts.map = Err("Operation not permitted".into());
    facts.tcx = Err("Operation not permitted".into());
    facts.leftovers = Err("Operation not permitted".into());
    facts.socket_redirects = vec!["redir".into()];
    let report = ask(&facts);
    assert_eq!(report.worst(), Severity::Fail);
    assert!(report.findings.iter().filter(|f| f.severity > Severity::Ok).count() >= 7);
    for finding in &report.findings {
        assert_eq!(finding.severity > Severity::Ok, finding.mend.is_some(), "{finding:?}");
        assert!(!finding.fact.contains('\n'));
    }
}

#[test]
fn kernels_are_tested_untested_or_too_old() {
    let kernel = |release: &str| on(&ask(&Facts { release: release.into(), ..healthy() }), "kernel").0;
    assert_eq!(kernel("6.1.0-37-amd64"), Severity::Ok);
    assert_eq!(kernel("6.18.44"), Severity::Ok);
    assert_eq!(kernel("6.6.9"), Severity::Warn);
    // What `run` refuses.
    assert_eq!(kernel("6.0.19"), Severity::Fail);
    assert_eq!(kernel("5.10.0"), Severity::Fail);
    assert_eq!(version("6.18-rc1"), Some((6, 18)));
    assert_eq!(version("?"), None);
}

#[test]
fn missing_capabilities_are_named() {
    let with = |bits: &[u32]| {
        let capabilities = Some(bits.iter().fold(0u64, |all, bit| all | 1 << bit));
        ask(&Facts { capabilities, ..healthy() })
    };
    expect(&with(&[12]), "capabilities", Severity::Fail, &["CAP_BPF, CAP_PERFMON missing", "run as root"]);
    expect(&with(&[12, 38, 39]), "capabilities", Severity::Warn, &["CAP_SYS_ADMIN", "--netns"]);
    expect(&with(&[12, 21]), "capabilities", Severity::Ok, &[]);
    expect(&with(&[21]), "capabilities", Severity::Fail, &["CAP_NET_ADMIN missing"]);
}

#[test]
fn a_refused_bpf_call_of_a_privileged_process_points_at_the_sandbox() {
    let report = ask(&Facts { map: Err("Operation not permitted (os error 1)".into()), ..healthy() });
    expect(&report, "bpf()", Severity::Fail, &["maps cannot be made", "seccomp"]);
    let report = ask(&Facts { program: Ok(false), ..healthy() });
    expect(&report, "bpf()", Severity::Warn, &["interpreted", "bpf_jit_enable=1"]);
}

#[test]
fn the_mode_and_what_would_stand_before_it_are_told() {
    let foreign = |id, name: &str, place| ForeignProgram { id, name: name.into(), place };
    let mut facts = with_inside(|inside| {
        inside.standing = vec![(
            2,
            Hook::Ingress,
            vec![
                foreign(Some(7), "xdp_lb", Place::Xdp),
                foreign(Some(8), "cil_from_netdev", Place::Tcx),
                foreign(None, "flower", Place::Clsact { priority: 1 }),
                foreign(Some(9), "other", Place::Clsact { priority: 1 }),
            ],
        )];
    });
    let report = ask(&facts);
    expect(&report, "attach", Severity::Ok, &["TCX"]);
    let (severity, line) = on(&report, "order");
    assert_eq!(severity, Severity::Warn);
    assert!(line.contains("XDP xdp_lb (program 7)") && !line.contains("cil_from_netdev"), "{line}");

    let wanted = Wanted { ip: None, port: PORT };
    let report = judge(&facts, AttachMode::Clsact, Some(wanted));
    expect(&report, "attach", Severity::Warn, &["leave out --attach clsact"]);
    expect(&report, "order", Severity::Warn, &["cil_from_netdev (program 8)", "flower at priority 1"]);
    assert!(!on(&report, "order").1.contains("other"));

    facts.tcx = Ok(false);
    expect(&ask(&facts), "attach", Severity::Ok, &["clsact", "mirror cleanup"]);
    expect(&judge(&facts, AttachMode::Tcx, None), "attach", Severity::Fail, &["6.6"]);
}

#[test]
fn an_address_that_is_in_another_namespace_is_shown_the_way_to() {
    let mut facts = with_inside(|inside| {
        inside.selected = Err("no interface holds 10.0.0.5".into());
        inside.listeners.clear();
    });
    facts.elsewhere = vec![Elsewhere {
        netns: "the network namespace of process 4711".into(),
        flag: Some("--pid 4711".into()),
        interface: Some("eth0".into()),
        listens: true,
    }];
    let report = ask(&facts);
    expect(
        &report,
        "interfaces",
        Severity::Fail,
        &["no interface holds", "--pid 4711 (holds the address on eth0"],
    );
    expect(&report, "primary", Severity::Warn, &["nothing listens on port 80", "--pid 4711"]);
    facts.elsewhere.clear();
    expect(&ask(&facts), "interfaces", Severity::Fail, &["Service or load balancer"]);
}

#[test]
fn a_port_served_at_another_address_only_is_told_with_that_address() {
    let facts = with_inside(|inside| inside.listeners = vec!["127.0.0.1:80".parse().unwrap()]);
    expect(&ask(&facts), "primary", Severity::Warn, &["only at 127.0.0.1", "--primary 127.0.0.1:80"]);
}

#[test]
fn clients_on_the_same_host_need_lo() {
    let facts = with_inside(|inside| {
        inside.connections = vec![
            ("10.0.0.5:80".parse().unwrap(), "10.0.0.5:40000".parse().unwrap()),
            ("10.0.0.5:80".parse().unwrap(), "10.0.0.9:40000".parse().unwrap()),
        ];
    });
    expect(&ask(&facts), "lo", Severity::Warn, &["1 open connections", "--interface eth0 --interface lo"]);
    expect(&ask(&facts), "primary", Severity::Ok, &["2 connections are open"]);
    expect(&ask(&healthy()), "lo", Severity::Ok, &["--interface lo"]);
    let facts = with_inside(|inside| inside.selected = Ok(vec![1, 2]));
    assert!(ask(&facts).findings.iter().all(|f| f.topic != "lo"));
}

#[test]
fn an_address_on_a_device_that_receives_nothing_is_told() {
    let facts = with_inside(|inside| {
        inside.interfaces[0].addresses.push("10.0.0.5".parse::<IpAddr>().unwrap());
        inside.interfaces[1].addresses = vec!["10.0.0.2".parse().unwrap()];
        inside.selected = Ok(vec![1]);
    });
    expect(&ask(&facts), "interfaces", Severity::Warn, &["held by lo", "--interface eth0 --interface lo"]);
}

#[test]
fn ways_past_the_tap_are_told() {
    let mut facts = with_inside(|inside| {
        let veth = &mut inside.interfaces[1];
        (veth.kind, veth.peer_elsewhere) = (Some("veth".into()), true);
        veth.addresses.clear();
        inside.listeners.push("0.0.0.0:15006".parse().unwrap());
    });
    expect(&ask(&facts), "veth", Severity::Ok, &["bpf_redirect_peer", "--pid"]);
    expect(&ask(&facts), "sidecar", Severity::Warn, &["--interface lo"]);
    facts.cilium = true;
    facts.socket_redirects = vec!["b".into(), "a".into(), "b".into()];
    expect(&ask(&facts), "veth", Severity::Warn, &["Cilium are loaded"]);
    expect(&ask(&facts), "sockmap", Severity::Warn, &["loaded: a, b"]);
    let tls = judge(&healthy(), AttachMode::Auto, Some(Wanted { ip: None, port: 8443 }));
    expect(&tls, "TLS", Severity::Warn, &["unknown", "behind the TLS termination"]);
}

#[test]
fn a_namespace_that_cannot_be_entered_is_a_failure_and_nothing_is_guessed_of_it() {
    let report = ask(&Facts { inside: Err("No such file or directory".into()), ..healthy() });
    expect(&report, "namespace", Severity::Fail, &["cannot be entered", "ip netns"]);
    assert!(report.findings.iter().all(|f| !["interfaces", "primary", "lo"].contains(&f.topic)));
}

#[test]
fn a_request_that_contradicts_itself_is_refused() {
    let request = DoctorRequest { netns: Some("x".into()), pid: Some(1), ..DoctorRequest::default() };
    assert!(doctor(&request).unwrap_err().to_string().contains("give one of them"));
    let request = DoctorRequest { pid: Some(u32::MAX), ..DoctorRequest::default() };
    assert!(format!("{:#}", doctor(&request).unwrap_err()).contains("no such process"));
}

#[test]
fn a_tap_that_the_verifier_refuses_is_a_failure() {
    let facts = Facts { tap: Err("the kernel's verifier refused the program mirror_l2".into()), ..healthy() };
    expect(&ask(&facts), "tap", Severity::Fail, &["verifier refused", "nothing can be mirrored here"]);
    expect(&ask(&healthy()), "tap", Severity::Ok, &["takes the tap's programs"]);
}

#[test]
fn it_runs_on_whatever_machine_this_is() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = DoctorRequest {
        primary: Some((Some("127.0.0.1".parse().unwrap()), port)),
        ..DoctorRequest::default()
    };
    let report = doctor(&request).unwrap();
    expect(&report, "interfaces", Severity::Ok, &["lo (ingress)"]);
    expect(&report, "primary", Severity::Ok, &["is served"]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["topic"], "kernel");
}

#[test]
fn too_few_descriptors_for_the_connections_are_a_warning_with_its_mend() {
    let facts = Facts { descriptors: Some(Descriptors { soft: 1024, hard: 4096 }), ..healthy() };
    expect(&ask(&facts), "open files", Severity::Warn, &["4096", "LimitNOFILE", "--max-connections"]);
    expect(&ask(&healthy()), "open files", Severity::Ok, &["524288"]);
}
