//! The lab itself: a scenario may only blame the mirror if its own parts do what they say. No mirror runs here.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use mirror_tests::kernel::{Foreign, Hook, NEXT, PASS, spoofed_syns};
use mirror_tests::world::{Family, attached};
use mirror_tests::{Load, Nginx, Reviews, World, client, eventually, load, server, tools, wire};

#[test]
fn a_world_carries_requests_over_both_families_and_both_servers_log_them() {
    let world = World::routed();
    for family in [Family::V4, Family::V6] {
        let reviews =
            Reviews::start(&world.pri, world.dir(), world.primary_at(family), &["--heads"]).unwrap();
        let mut one = Load::new(reviews.at(), 4, 50);
        one.post_every = 2;
        one.body = 3000;
        load::run(&world.cli, &one).all_answered();
        let log = reviews.requests();
        assert_eq!(log.len(), 50);
        assert!(log.iter().filter(|line| line.method == "POST").all(|line| line.bytes == 3000));
        assert!(
            log.iter().all(|line| line.head.starts_with(&line.method) && line.head.ends_with("\r\n\r\n"))
        );
        assert_eq!(log.iter().map(|line| line.conn).collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
    let at = world.shadow_at(Family::V4);
    let nginx = Nginx::start(&world.sha, world.dir(), &[at.to_string()], "").unwrap();
    load::run(&world.cli, &Load::new(at, 4, 50)).all_answered();
    eventually("nginx logs 50 requests", Duration::from_secs(5), || nginx.log().len() == 50);
    assert_eq!(server::ids(&nginx.log()).len(), 50);
}

#[test]
fn the_log_tells_bodies_apart_by_every_byte_of_their_framing() {
    let world = World::single();
    let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let body = client::noise(10_000, 3);
    let mut conn = world.open(reviews.at());
    for (id, size) in [("a", 1000), ("b", 1000), ("c", 999)] {
        let mut bytes = client::request("POST", "/", id, "Transfer-Encoding: chunked\r\n", b"");
        bytes.extend(client::chunked(&body, size, "X-T: 1\r\n"));
        assert_eq!(conn.exchange(&bytes).unwrap().status, 200);
    }
    let log = reviews.requests();
    assert_eq!(log[0].body_hash, log[1].body_hash);
    assert_ne!(log[0].body_hash, log[2].body_hash);
}

#[test]
fn a_client_that_waits_is_not_disturbed_by_signals() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut conn = client::Conn::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    std::thread::scope(|scope| {
        let (tell, thread) = std::sync::mpsc::channel();
        let waiting = scope.spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            conn.response("GET")
        });
        let stat = format!("/proc/self/task/{}/stat", thread.recv().unwrap());
        eventually("the client sleeps", Duration::from_secs(5), || {
            std::fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.starts_with('S')
        });
        // A stop and its end cut a wait with a timeout short though no handler runs.
        let stop = "kill -STOP $PPID && sleep 0.05; kill -CONT $PPID";
        assert!(Command::new("sh").args(["-c", stop]).status().unwrap().success());
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().status, 200);
    });
}

#[test]
fn a_body_that_is_cut_is_logged_as_cut() {
    let world = World::single();
    let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let mut conn = world.open(reviews.at());
    conn.send(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    conn.reset().unwrap();
    eventually("the cut request is logged", Duration::from_secs(5), || reviews.log().len() == 1);
    assert!(reviews.log()[0].cut && reviews.requests().is_empty());
}

#[test]
fn curl_wrk_and_ab_report_what_they_did() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    let nginx = Nginx::start(&world.pri, world.dir(), &[at.to_string()], "").unwrap();
    assert_eq!(tools::curl(&world.cli, &[&format!("http://{at}/static")]).unwrap(), "static");
    let ab = tools::ab(&world.cli, &["-n", "200", "-c", "4", "-k", &format!("http://{at}/static")]).unwrap();
    assert_eq!((ab.answered, ab.failed), (200, 0));
    let wrk = tools::wrk(&world.cli, 1, 4, &[&format!("http://{at}/static")]).unwrap();
    assert!(wrk.answered > 100 && wrk.failed == 0, "{wrk:?}");
    eventually("nginx logs them", Duration::from_secs(5), || {
        let logged = nginx.log().len() as u64;
        (201 + wrk.answered..=201 + wrk.answered + 4).contains(&logged)
    });
}

#[test]
fn foreign_programs_count_end_a_chain_and_move_tags() {
    let world = World::routed();
    let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let vcli = world.node.ifindex("vcli").unwrap();
    let eth0 = world.cli.ifindex("eth0").unwrap();
    let (before, after) = (Foreign::counting(NEXT).unwrap(), Foreign::counting(PASS).unwrap());
    let behind = Foreign::counting(PASS).unwrap();
    let (push, pop) = (Foreign::vlan_push(0x8100, 42).unwrap(), Foreign::vlan_pop().unwrap());
    let links = world.node.run(|| {
        [&before, &pop, &after, &behind]
            .map(|program| program.attach_tcx(vcli, Hook::Ingress, false).unwrap())
    });
    let tagging = world.cli.run(|| push.attach_tcx(eth0, Hook::Egress, true).unwrap());
    assert_eq!(attached(&world.node, "vcli").len(), 4);
    load::run(&world.cli, &Load::new(reviews.at(), 1, 10)).all_answered();
    assert!(before.seen().unwrap().packets >= 10);
    // The last packets of a connection may be between the two just now.
    eventually("both have seen the same", Duration::from_secs(5), || {
        before.seen().unwrap().packets == after.seen().unwrap().packets
    });
    assert_eq!(behind.seen().unwrap().packets, 0, "the chain ended before it");
    drop((links, tagging));
    eventually("the links are gone", Duration::from_secs(2), || attached(&world.node, "vcli").is_empty());
}

#[test]
fn big_tcp_makes_segments_beyond_64_kib_in_both_families() {
    for family in [Family::V6, Family::V4] {
        let world = World::routed();
        world.big_tcp();
        let meter = Foreign::counting(NEXT).unwrap();
        let vpri = world.node.ifindex("vpri").unwrap();
        let _link = world.node.run(|| meter.attach_tcx(vpri, Hook::Egress, false)).unwrap();
        let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(family), &[]).unwrap();
        let mut conn = world.open(reviews.at());
        // The window has to open before segments grow, and on a busy machine that takes its time.
        let longest = (0..64).find_map(|n| {
            conn.exchange(&client::request("POST", "/", &format!("{n}"), "", &client::noise(4 << 20, n)))
                .unwrap();
            Some(meter.seen().unwrap().longest).filter(|longest| *longest > 66_000)
        });
        assert!(longest.is_some(), "{family:?}: {:?}", meter.seen());
    }
}

#[test]
fn an_l3_link_carries_requests_without_ethernet_headers() {
    let world = World::routed();
    let _link = wire::L3Link::new(&world.node, &world.pri);
    world.node.ip("addr add 10.77.9.1/24 dev tun0").unwrap();
    world.node.ip("link set tun0 up").unwrap();
    world.pri.ip("addr add 10.77.9.2/24 dev tun0").unwrap();
    world.pri.ip("link set tun0 up").unwrap();
    let reviews = Reviews::start(&world.pri, world.dir(), "10.77.9.2:8080".parse().unwrap(), &[]).unwrap();
    load::run(&world.node, &Load::new(reviews.at(), 2, 20)).all_answered();
    assert_eq!(reviews.requests().len(), 20);
}

#[test]
fn a_pinned_program_can_be_attached_by_tc() {
    let world = World::routed();
    let pins = wire::PinFolder::new(world.dir());
    let counter = Foreign::counting(PASS).unwrap();
    let pin = pins.path().join("counter");
    counter.pin(&pin).unwrap();
    world.node.sh("tc qdisc add dev vpri clsact").unwrap();
    let add =
        format!("tc filter add dev vpri egress pref 3 bpf direct-action object-pinned {}", pin.display());
    world.node.sh(&add).unwrap();
    let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    load::run(&world.cli, &Load::new(reviews.at(), 1, 10)).all_answered();
    assert!(counter.seen().unwrap().packets >= 10);
    assert!(attached(&world.node, "vpri").iter().any(|one| one.starts_with("clsact egress")));
}

#[test]
fn spoofed_syns_reach_the_primary_and_bind_nobody() {
    let world = World::routed();
    world.node.ip("route add blackhole 10.99.0.0/16").unwrap();
    for key in ["all", "vcli"] {
        world.node.sysctl(&format!("ipv4/conf/{key}/rp_filter"), "0").unwrap();
    }
    let reviews = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let meter = Foreign::counting(NEXT).unwrap();
    let eth0 = world.pri.ifindex("eth0").unwrap();
    let _link = world.pri.run(|| meter.attach_tcx(eth0, Hook::Egress, false)).unwrap();
    let std::net::SocketAddr::V4(to) = reviews.at() else { unreachable!("the world was asked for IPv4") };
    let sent = world.cli.run(|| spoofed_syns(to, 5000, Duration::from_secs(10))).unwrap();
    assert!(sent > 4000, "{sent}");
    // The primary's kernel answers them: checksums and all are right.
    eventually("SYN-ACKs leave", Duration::from_secs(5), || meter.seen().unwrap().packets > 500);
    load::run(&world.cli, &Load::new(reviews.at(), 2, 20)).all_answered();
}
