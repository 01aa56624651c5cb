//! Where and how the tap is attached: beside other owners' programs, under tags, on L3 devices, with huge segments, on
//! interfaces that go and come.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario ends by a panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use mirror_tests::client::{noise, request};
use mirror_tests::kernel::{self, Foreign, Hook, PASS};
use mirror_tests::server::ids;
use mirror_tests::world::{
    Ending, Family, IDENTICAL, Scene, Setup, Tap, end, join, mirror_args, witnessed_once,
};
use mirror_tests::{Conn, Load, Mirror, Namespace, Reviews, Stats, World, eventually, load, wire};

/// GETs and POSTs over four connections, all delivered.
fn mixed(scene: Scene<'_>) -> Ending {
    let report = scene.load(|load| {
        load.requests = 200;
        load.post_every = 2;
        load.body = 30_000;
    });
    report.all_answered();
    scene.all_delivered(200)
}

#[test]
fn a_foreign_tcx_program_that_ends_the_chain_hides_nothing_before_or_after_ours() {
    let world = World::routed();
    let vpri = world.node.ifindex("vpri").unwrap();
    let attach = |foreign: &Foreign| {
        world
            .node
            .run(|| [Hook::Ingress, Hook::Egress].map(|hook| foreign.attach_tcx(vpri, hook, false).unwrap()))
    };
    let before = Foreign::counting(PASS).unwrap();
    let early = attach(&before);
    let scene = world.scene(&Setup { mirror: &["--attach", "tcx"], ..Setup::default() });
    let after = Foreign::counting(PASS).unwrap();
    let late = attach(&after);
    let report = scene.load(|load| load.requests = 100);
    report.all_answered();
    scene.mirror.rest(100);
    assert!(before.seen().unwrap().packets > 100, "ours lets the next program run");
    assert_eq!(after.seen().unwrap().packets, 0, "the foreign one ended the chain");
    drop(early);
    scene
        .load(|load| {
            load.requests = 100;
            load.tag = "second".to_owned();
        })
        .all_answered();
    scene.mirror.rest(200);
    assert!(after.seen().unwrap().packets > 100, "ours lets the next program run");
    drop(late);
    eventually("only ours is left", Duration::from_secs(10), || {
        mirror_tests::world::attached(&world.node, "vpri").len() == 2
    });
    scene.all_delivered(200);
}

#[test]
fn what_stands_before_ours_is_read_back_and_reported() {
    let world = World::routed();
    let vpri = world.node.ifindex("vpri").unwrap();
    let scene = world.scene(&Setup { mirror: &["--attach", "tcx"], ..Setup::default() });
    let foreign = Foreign::counting(PASS).unwrap();
    let link = world.node.run(|| foreign.attach_tcx(vpri, Hook::Egress, true).unwrap());
    let egress = |stats: &Stats| {
        let taps = stats.0.get("taps").and_then(Value::as_array).cloned().unwrap_or_default();
        let tap = taps.into_iter().find(|tap| tap["hook"] == "egress").unwrap_or_default();
        tap["before"].as_array().map_or(0, Vec::len)
    };
    scene
        .mirror
        .wait_stats("what stands before ours is told", Duration::from_secs(10), |stats| egress(stats) == 1);
    let mut doctor = world.node.command(mirror_tests::mirror::binary());
    doctor.args(["doctor", "--json", "--interface", "vpri", "--primary", &scene.primary.at().to_string()]);
    let said = doctor.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("vpri egress"), "doctor speaks of the order: {text}");
    drop(link);
    scene.load(|load| load.requests = 20).all_answered();
    scene.all_delivered(20);
}

#[test]
fn a_foreign_clsact_filter_that_ends_the_chain_hides_nothing_and_survives_us() {
    let world = World::routed();
    let pins = wire::PinFolder::new(world.dir());
    let foreign = Foreign::counting(PASS).unwrap();
    let pin = pins.path().join("foreign");
    foreign.pin(&pin).unwrap();
    world.node.sh("tc qdisc add dev vpri clsact").unwrap();
    for (hook, pref) in [("ingress", 1), ("egress", 1), ("ingress", 7), ("egress", 7)] {
        let line = format!(
            "tc filter add dev vpri {hook} pref {pref} bpf direct-action object-pinned {}",
            pin.display()
        );
        // At our own priority too: ours has to stand before it there.
        world.node.sh(&line).unwrap();
    }
    let kept = |world: &World| world.node.sh("tc filter show dev vpri egress").unwrap();
    let before = kept(&world);
    for mode in ["clsact", "tcx"] {
        let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
        let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
        let mut args = mirror_args(&world, Tap::HostSide, primary.at(), &[shadow.at()], 0);
        args.extend(["--attach", mode].map(str::to_owned));
        let mirror = Mirror::start(&world.node, &args).unwrap();
        let seen = foreign.seen().unwrap().packets;
        load::run(&world.cli, &Load::new(primary.at(), 4, 100)).all_answered();
        let stats = mirror.rest(100);
        assert_eq!(stats.delivered(0), 100, "{mode}: {stats:?}");
        assert!(foreign.seen().unwrap().packets > seen + 100, "{mode}: ours lets the next program run");
        assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
        let (status, last) = mirror.stop().unwrap();
        assert!(status.success() && last.broken_laws().is_empty(), "{last:?}");
        assert_eq!(kept(&world), before, "{mode}: the foreign filters stay as they were");
        assert!(world.node.sh("tc qdisc show dev vpri").unwrap().contains("clsact"), "{mode}: not our qdisc");
    }
}

/// Pushes `tags` on the client's way out and takes them off again behind the mirror's tap.
fn tagged(tags: &[(u16, u16)], family: Family) {
    let world = World::routed();
    let (inside, outside) = (world.cli.ifindex("eth0").unwrap(), world.node.ifindex("vcli").unwrap());
    let beside = Foreign::counting_tags_beside().unwrap();
    let mut links = vec![world.node.run(|| beside.attach_tcx(outside, Hook::Ingress, true)).unwrap()];
    for (ethertype, tag) in tags {
        let push = Foreign::vlan_push(*ethertype, *tag).unwrap();
        links.push(world.cli.run(|| push.attach_tcx(inside, Hook::Egress, false)).unwrap());
        let pop = Foreign::vlan_pop().unwrap();
        links.push(world.node.run(|| pop.attach_tcx(outside, Hook::Ingress, false)).unwrap());
    }
    let scene = world.scene(&Setup {
        tap: Tap::ClientSide,
        family,
        mirror: &["--attach", "tcx"],
        ..Setup::default()
    });
    let report = scene.load(|load| {
        load.requests = 100;
        load.post_every = 2;
        load.body = 30_000;
    });
    report.all_answered();
    scene.mirror.rest(100);
    let seen = beside.seen().unwrap().packets;
    assert!(seen > 100, "the kernel held the tag of {seen} packets beside their bytes");
    drop(links);
    scene.all_delivered(100);
}

#[test]
fn a_tag_that_the_kernel_holds_beside_the_bytes_is_no_obstacle() {
    tagged(&[(0x8100, 42)], Family::V4);
    tagged(&[(0x8100, 42)], Family::V6);
}

#[test]
fn two_tags_one_of_them_in_the_bytes_are_no_obstacle() {
    tagged(&[(0x8100, 7), (0x88a8, 42)], Family::V4);
    tagged(&[(0x8100, 7), (0x88a8, 42)], Family::V6);
}

#[test]
fn a_tun_device_without_ethernet_headers_is_tapped() {
    let world = World::routed();
    let _wire = wire::L3Link::new(&world.node, &world.pri);
    world.node.ip("addr add 10.77.9.1/24 dev tun0").unwrap();
    world.node.ip("-6 addr add fd77:9::1/64 dev tun0 nodad").unwrap();
    world.node.ip("link set tun0 up").unwrap();
    world.pri.ip("addr add 10.77.9.2/24 dev tun0").unwrap();
    world.pri.ip("-6 addr add fd77:9::2/64 dev tun0 nodad").unwrap();
    world.pri.ip("link set tun0 up").unwrap();
    for at in ["10.77.9.2:8080", "[fd77:9::2]:8080"] {
        let at: SocketAddr = at.parse().unwrap();
        let primary = Reviews::start(&world.pri, world.dir(), at, &[]).unwrap();
        let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
        let args = ["--primary", &at.to_string(), "--shadow", "http://10.77.3.2:8081", "--interface", "tun0"]
            .map(str::to_owned);
        let mirror = Mirror::start(&world.node, &args).unwrap();
        let mut load = Load::new(at, 4, 100);
        load.post_every = 2;
        load.body = 20_000;
        // From the node itself: the way to the primary is the tunnel alone.
        load::run(&world.node, &load).all_answered();
        let stats = mirror.rest(100);
        assert_eq!(stats.delivered(0), 100, "{at}: {stats:?}");
        assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
        let (status, last) = mirror.stop().unwrap();
        assert!(status.success() && last.broken_laws().is_empty(), "{last:?}");
        assert!(mirror_tests::world::attached(&world.node, "tun0").is_empty());
    }
}

#[test]
fn segments_beyond_64_kib_are_copied_whole() {
    for family in [Family::V6, Family::V4] {
        let world = World::routed();
        world.big_tcp();
        let meter = Foreign::counting(kernel::NEXT).unwrap();
        let vpri = world.node.ifindex("vpri").unwrap();
        let link = world.node.run(|| meter.attach_tcx(vpri, Hook::Egress, false)).unwrap();
        let scene = world.scene(&Setup { family, mirror: &IDENTICAL, ..Setup::default() });
        let mut conn = scene.open();
        // The window has to open before segments grow, and on a busy machine that takes its time. Each upload is copied
        // before the next one: what does not fit the rings of an agent that is not let on is another scenario.
        let longest = (1..=64).find_map(|n| {
            let body = noise(12 << 20, n);
            conn.exchange(&request("POST", "/", &format!("big-{n}"), "", &body)).unwrap();
            scene.mirror.rest(n);
            Some((n, meter.seen().unwrap().longest)).filter(|(n, longest)| *n >= 4 && *longest > 66_000)
        });
        let Some((sent, _)) = longest else { panic!("{family:?}: this is no BIG TCP: {:?}", meter.seen()) };
        drop(link);
        let ending = scene.all_delivered(sent);
        for sent in &ending.primary {
            let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
            assert_eq!(copy.body_hash, sent.body_hash, "{}", sent.id);
        }
    }
}

#[test]
fn an_interface_that_goes_and_comes_is_tapped_again() {
    let world = World::routed();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let any: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let primary = Reviews::start(&world.pri, world.dir(), any, &[]).unwrap();
    let at: SocketAddr = "10.77.2.2:8080".parse().unwrap();
    let mirror =
        Mirror::start(&world.node, &mirror_args(&world, Tap::HostSide, at, &[shadow.at()], 0)).unwrap();
    load::run(&world.cli, &Load::new(at, 2, 20)).all_answered();
    mirror.rest(20);
    world.node.ip("link del vpri").unwrap();
    join(&world.node, "vpri", &world.pri, 2).unwrap();
    eventually("the new interface is tapped", Duration::from_secs(10), || {
        mirror_tests::world::attached(&world.node, "vpri").len() == 2
    });
    let mut load = Load::new(at, 2, 20);
    load.tag = "again".to_owned();
    load::run(&world.cli, &load).all_answered();
    let stats = mirror.rest(40);
    assert_eq!(stats.delivered(0), 40, "{stats:?}");
    assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn a_segment_seen_at_two_taps_is_one_request() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &["--interface", "vcli"], ..Setup::default() });
    let report = scene.load(|load| {
        load.requests = 200;
        load.post_every = 2;
        load.body = 30_000;
    });
    report.all_answered();
    scene.mirror.rest(200);
    let primary = scene.primary.requests();
    let shadow = scene.shadow.requests();
    assert_eq!(ids(&primary), ids(&shadow));
    let last = end(&world, Tap::HostSide, scene.mirror);
    assert!(last.n("/bytes/duplicate") > 0, "{last:?}");
    assert_eq!((last.delivered(0), last.observed()), (200, 200), "{last:?}");
    witnessed_once(&last, 200);
    assert!(last.sum("/primary/answered") <= 200, "no answer is booked twice: {last:?}");
    world.nothing_attached(Tap::ClientSide);
}

#[test]
fn both_ways_of_attaching_see_the_same() {
    for mode in ["tcx", "clsact"] {
        let world = World::routed();
        mixed(world.scene(&Setup { mirror: &["--attach", mode], ..Setup::default() }));
        let qdiscs = world.node.sh("tc qdisc show dev vpri").unwrap();
        assert!(!qdiscs.contains("clsact"), "{mode}: {qdiscs}");
    }
}

#[test]
fn a_namespace_dies_with_its_pod_though_it_is_mirrored() {
    let world = World::routed();
    let pod = Arc::new(Namespace::new("pod").unwrap());
    join(&world.node, "vpod", &pod, 8).unwrap();
    let primary = Reviews::start(&pod, world.dir(), "10.77.8.2:8080".parse().unwrap(), &[]).unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let args = ["--primary", "10.77.8.2:8080", "--shadow", "http://10.77.3.2:8081", "--netns", pod.name()]
        .map(str::to_owned);
    let mirror = Mirror::start(&world.node, &args).unwrap();
    let mut conn = Conn::open(&world.cli, primary.at()).unwrap();
    conn.exchange(&request("GET", "/", "one", "", b"")).unwrap();
    mirror.rest(1);
    assert_eq!(shadow.requests().len(), 1);
    drop((conn, primary));
    drop(Arc::try_unwrap(pod).unwrap());
    // With the namespace goes its veth, and with that the node's end: nobody holds the namespace.
    eventually("the dead pod's interface is gone", Duration::from_secs(10), || {
        world.node.ifindex("vpod").is_err()
    });
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn interfaces_that_come_and_go_amid_everything_else_are_tapped_each_time() {
    // Heartbeats, the program's own lines, scrapes and the second's line all turn the control loop. Looking without being
    // told happens each 10 s, so an interface that is tapped well before was heard of.
    const HEARD: Duration = Duration::from_secs(6);
    let world = World::routed();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let any: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let primary = Reviews::start(&world.pri, world.dir(), any, &[]).unwrap();
    let at: SocketAddr = "10.77.2.2:8080".parse().unwrap();
    let mut args = mirror_args(&world, Tap::HostSide, at, &[shadow.at()], 0);
    args.extend(["--attach", "clsact", "-vv"].map(str::to_owned));
    let mirror = Mirror::start(&world.node, &args).unwrap();
    let stop = AtomicBool::new(false);
    let mut sent = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    mirror.admin("/metrics").unwrap();
                }
            });
        }
        // News of interfaces that nobody wants, all the time.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.node.ip("link add noise type veth peer name noise2").unwrap();
                world.node.ip("link del noise").unwrap();
            }
        });
        let _stops_however_this_ends = StopOnDrop(&stop);
        for round in 0..8 {
            world.node.ip("link del vpri").unwrap();
            join(&world.node, "vpri", &world.pri, 2).unwrap();
            eventually("the new interface is tapped", HEARD, || {
                let there = mirror_tests::world::attached(&world.node, "vpri");
                ["clsact ingress", "clsact egress"]
                    .iter()
                    .all(|hook| there.iter().any(|it| it.starts_with(hook)))
            });
            let mut load = Load::new(at, 2, 10);
            load.tag = format!("flap-{round}");
            load::run(&world.cli, &load).all_answered();
            sent += 10;
            mirror.rest(sent);
        }
    });
    let stats = mirror.rest(sent);
    assert_eq!(stats.delivered(0), sent, "{stats:?}");
    assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
    end(&world, Tap::HostSide, mirror);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
