//! Harmlessness: the agent is killed, stopped, flooded; no request of the primary fails and nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mirror_tests::client::request;
use mirror_tests::kernel::spoofed_syns;
use mirror_tests::load::{Live, run_live};
use mirror_tests::mirror::binary;
use mirror_tests::world::{Family, Setup, Tap, attached, end, mirror_args};
use mirror_tests::{Conn, Load, Mirror, Namespace, Reviews, World, eventually, load, netns};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs a load while `harm` is done to the mirror; every request must be answered well.
fn under_load(world: &World, primary: &Reviews, harm: impl FnOnce()) -> u64 {
    let live = Live::default();
    let mut load = Load::new(primary.at(), 16, 1_000_000);
    load.post_every = 4;
    load.body = 10_000;
    load.per_connection = 50;
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| run_live(&world.cli, &load, &live));
        struct Stop<'a>(&'a Live);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop.store(true, Ordering::Relaxed);
            }
        }
        let stop = Stop(&live);
        let more = |n: u64| {
            let goal = live.answered.load(Ordering::Relaxed) + n;
            eventually("the load runs", Duration::from_secs(20), || {
                live.answered.load(Ordering::Relaxed) >= goal
            });
        };
        more(300);
        harm();
        more(1000);
        drop(stop);
        running.join().unwrap()
    });
    report.all_answered();
    report.sent
}

#[test]
fn sigkill_under_load_fails_no_request_and_tcx_leaves_nothing() {
    let world = World::routed();
    let mut scene = world.scene(&Setup { mirror: &["--attach", "tcx"], ..Setup::default() });
    assert_eq!(attached(&world.node, "vpri").len(), 2, "both hooks: {:?}", attached(&world.node, "vpri"));
    let (primary, mirror) = (&scene.primary, &mut scene.mirror);
    let sent = under_load(&world, primary, || {
        // The kill may come before its first write, unless that is waited for.
        eventually("the mirror is at work", Duration::from_secs(20), || !scene.shadow.requests().is_empty());
        mirror.process().kill();
        world.nothing_attached(Tap::HostSide);
    });
    assert_eq!(primary.requests().len() as u64, sent);
    mirror_tests::world::nothing_invented(&primary.log(), &scene.shadow.log());
}

/// The clsact filters of an interface, as `tc` tells them.
fn filters(namespace: &Namespace, interface: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for hook in ["ingress", "egress"] {
        let said = namespace.sh(&format!("tc -j filter show dev {interface} {hook}")).unwrap();
        let list: Value = serde_json::from_str(&said).unwrap();
        for filter in
            list.as_array().unwrap().iter().filter(|filter| filter.pointer("/options/prog/id").is_some())
        {
            all.push((hook.to_owned(), filter.clone()));
        }
    }
    all
}

/// A tap counter summed over CPUs, read from the map of a program that may have lost its agent.
fn tap_counter(program: u64, index: usize) -> u64 {
    let bpftool = |args: &[&str]| -> Value {
        let said = netns::run_checked(std::process::Command::new("bpftool").arg("-j").args(args)).unwrap();
        serde_json::from_str(&said).unwrap()
    };
    let shown = bpftool(&["prog", "show", "id", &program.to_string()]);
    let maps = shown.get("map_ids").and_then(Value::as_array).cloned().unwrap_or_default();
    let counters = maps.iter().filter_map(Value::as_u64).find(|id| {
        bpftool(&["map", "show", "id", &id.to_string()]).get("name").and_then(Value::as_str)
            == Some("TAP_COUNTERS")
    });
    let dump = bpftool(&["map", "dump", "id", &counters.unwrap().to_string()]);
    let entry = &dump.as_array().unwrap()[0];
    let cpus = entry.get("values").and_then(Value::as_array).unwrap();
    cpus.iter()
        .map(|cpu| {
            let bytes: Vec<u8> = cpu["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|byte| u8::from_str_radix(byte.as_str().unwrap().trim_start_matches("0x"), 16).unwrap())
                .collect();
            u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap())
        })
        .sum()
}

const REQUEST_RECORDS: usize = 0;
const INERT: usize = 10;

#[test]
fn sigkill_under_load_leaves_an_inert_clsact_filter_that_the_next_start_removes() {
    let world = World::routed();
    let mut scene = world.scene(&Setup { mirror: &["--attach", "clsact"], ..Setup::default() });
    let before = filters(&world.node, "vpri");
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(before.iter().all(|(_, filter)| filter["pref"] == 1), "first in line: {before:?}");
    let programs: Vec<u64> =
        before.iter().filter_map(|(_, filter)| filter.pointer("/options/prog/id")?.as_u64()).collect();
    let copied = || programs.iter().map(|id| tap_counter(*id, REQUEST_RECORDS)).sum::<u64>();
    let passed = || tap_counter(programs[0], INERT);
    let (primary, mirror) = (&scene.primary, &mut scene.mirror);
    let sent = under_load(&world, primary, || {
        mirror.process().kill();
        assert_eq!(filters(&world.node, "vpri").len(), 2, "a clsact filter outlives its process");
        // Inert within a second (and what the load takes to show it): between two looks it counts passes and copies nothing.
        // One look does not tell: a machine that stands still for a second makes the filter of a living agent pass some too.
        let mut before = (copied(), passed());
        eventually("the filter is inert", Duration::from_secs(5), || {
            let now = (copied(), passed());
            let (earlier_copied, earlier_passed) = std::mem::replace(&mut before, now);
            now.0 == earlier_copied && now.1 > earlier_passed + 20
        });
    });
    let inert = copied();
    load::run(&world.cli, &Load::new(primary.at(), 2, 50)).all_answered();
    assert_eq!(copied(), inert);
    assert_eq!(primary.requests().len() as u64, sent + 50);
    // The next start removes exactly these and taps anew.
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[scene.shadow.at()], 0);
    let args = [args, vec!["--attach".to_owned(), "clsact".to_owned()]].concat();
    let next = Mirror::start(&world.node, &args).unwrap();
    let now: Vec<u64> = filters(&world.node, "vpri")
        .iter()
        .filter_map(|(_, f)| f.pointer("/options/prog/id")?.as_u64())
        .collect();
    assert_eq!(now.len(), 2);
    assert!(now.iter().all(|id| !programs.contains(id)), "{now:?} {programs:?}");
    load::run(&world.cli, &Load::new(primary.at(), 2, 50)).all_answered();
    next.rest(50);
    end(&world, Tap::HostSide, next);
    let qdiscs = world.node.sh("tc qdisc show dev vpri").unwrap();
    assert!(!qdiscs.contains("clsact"), "the qdisc it made goes with it: {qdiscs}");
}

#[test]
fn cleanup_removes_what_a_killed_agent_left_and_nothing_else() {
    let world = World::routed();
    world.node.sh("tc qdisc add dev vcli clsact").unwrap();
    let mut scene = world.scene(&Setup { mirror: &["--attach", "clsact"], ..Setup::default() });
    scene.mirror.process().kill();
    assert_eq!(filters(&world.node, "vpri").len(), 2);
    netns::run_checked(world.node.command(binary()).arg("cleanup")).unwrap();
    assert_eq!(filters(&world.node, "vpri").len(), 0);
    let foreign = world.node.sh("tc qdisc show dev vcli").unwrap();
    assert!(foreign.contains("clsact"), "a qdisc that the mirror did not make stays: {foreign}");
    load::run(&world.cli, &Load::new(scene.primary.at(), 2, 20)).all_answered();
}

#[test]
fn two_namespaces_with_equal_index_and_handle_do_not_touch_each_other() {
    // Two pods whose eth0 has the same index; each with its own agent, attached by clsact inside.
    let (one, two) = (World::routed(), World::routed());
    assert_eq!(one.pri.ifindex("eth0").unwrap(), two.pri.ifindex("eth0").unwrap());
    let setup = Setup { tap: Tap::PodByName, mirror: &["--attach", "clsact"], ..Setup::default() };
    let (mut first, second) = (one.scene(&setup), two.scene(&setup));
    assert_eq!((filters(&one.pri, "eth0").len(), filters(&two.pri, "eth0").len()), (2, 2));
    let kept = filters(&two.pri, "eth0");
    first.mirror.process().kill();
    let args = mirror_args(&one, Tap::PodByName, first.primary.at(), &[first.shadow.at()], 0);
    let again =
        Mirror::start(&one.node, &[args, vec!["--attach".to_owned(), "clsact".to_owned()]].concat()).unwrap();
    assert_eq!(filters(&two.pri, "eth0"), kept, "the other agent's filters are as they were");
    load::run(&one.cli, &Load::new(first.primary.at(), 2, 20)).all_answered();
    again.rest(20);
    end(&one, Tap::PodByName, again);
    assert_eq!(filters(&two.pri, "eth0"), kept);
    load::run(&two.cli, &Load::new(second.primary.at(), 2, 20)).all_answered();
    second.all_delivered(20);
}

#[test]
fn a_stopped_agent_slows_nobody() {
    let world = World::routed();
    let mut scene = world.scene(&Setup::default());
    let (primary, mirror) = (&scene.primary, &mut scene.mirror);
    let sent = under_load(&world, primary, || mirror.process().signal(Signal::SIGSTOP));
    mirror.process().signal(Signal::SIGCONT);
    assert_eq!(primary.requests().len() as u64, sent);
    scene.finish_with_losses();
}

#[test]
fn a_million_spoofed_syns_lose_no_established_flow() {
    let world = World::routed_alone();
    let mut scene = world.scene(&Setup::default());
    // What the primary answers to invented addresses goes nowhere.
    world.node.ip("route add blackhole 10.99.0.0/16").unwrap();
    world.node.sysctl("ipv4/conf/vcli/rp_filter", "0").unwrap();
    world.node.sysctl("ipv4/conf/all/rp_filter", "0").unwrap();
    let mut conns: Vec<Conn> = (0..50).map(|_| scene.open()).collect();
    for (n, conn) in conns.iter_mut().enumerate() {
        conn.exchange(&request("GET", "/", &format!("before-{n}"), "", b"")).unwrap();
    }
    scene.mirror.rest(50);
    let std::net::SocketAddr::V4(to) = scene.primary.at() else { unreachable!("the setup is IPv4") };
    let to: SocketAddrV4 = to;
    let sent = world.cli.run(|| spoofed_syns(to, 1_000_000, Duration::from_secs(30))).unwrap();
    assert!(sent >= 200_000, "only {sent} SYNs were sent");
    let memory = scene.mirror.process().peak_memory();
    for (n, conn) in conns.iter_mut().enumerate() {
        conn.exchange(&request("GET", "/", &format!("after-{n}"), "", b"")).unwrap();
    }
    assert!(memory > 0 && memory <= 64 << 20, "peak memory {} MiB", memory >> 20);
    let ending = scene.all_delivered(100);
    assert_eq!(ending.stats.n("/flows_opened"), 50, "SYNs alone take no place: {:?}", ending.stats);
}

#[test]
fn at_rest_it_costs_nothing() {
    let world = World::routed_alone();
    let mut scene = world.scene(&Setup::default());
    scene.load(|load| load.requests = 50).all_answered();
    scene.mirror.rest(50);
    let before = scene.mirror.process().cpu_ticks();
    // The measure is time itself. 0.5% of a core over 4 s are 2 ticks of 10 ms; the JSON lines are within it.
    std::thread::sleep(Duration::from_secs(4));
    let used = scene.mirror.process().cpu_ticks() - before;
    assert!(used <= 2, "{used} ticks of 10 ms in 4 s");
    let memory = scene.mirror.process().peak_memory();
    assert!(memory > 0 && memory <= 64 << 20, "peak memory {} MiB", memory >> 20);
    scene.all_delivered(50);
}

#[test]
fn signals_and_the_duration_end_it_within_two_seconds_with_even_books() {
    for how in ["SIGTERM", "SIGINT", "SIGHUP", "--duration"] {
        let world = World::routed();
        let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
        // A shadow that keeps every copy in flight.
        let shadow =
            Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &["--reply", "hang"])
                .unwrap();
        // Time enough for a busy machine to observe all before it ends by itself.
        let duration = if how == "--duration" { Duration::from_secs(8) } else { Duration::ZERO };
        let mut args = mirror_args(&world, Tap::HostSide, primary.at(), &[shadow.at()], 0);
        if how == "--duration" {
            args.extend(["--duration".to_owned(), format!("{}s", duration.as_secs())]);
        }
        // The tests themselves may run under nohup, and who ignores a signal leaves that to its children.
        let mut command = world.node.command("env");
        command.arg("--default-signal=HUP").arg(binary());
        let mut mirror = Mirror::start_command(&world.node, command, &args).unwrap();
        let ready = std::time::Instant::now();
        load::run(&world.cli, &Load::new(primary.at(), 4, 40)).all_answered();
        mirror.wait_stats("all observed", Duration::from_secs(10), |stats| stats.observed() == 40);
        match how {
            "SIGTERM" => mirror.process().signal(Signal::SIGTERM),
            "SIGINT" => mirror.process().signal(Signal::SIGINT),
            "SIGHUP" => mirror.process().signal(Signal::SIGHUP),
            _ => (),
        }
        let asked = if how == "--duration" { ready + duration } else { std::time::Instant::now() };
        let (status, last) = mirror.ended().unwrap();
        assert!(status.success(), "{how}: {status}");
        assert!(asked.elapsed() < Duration::from_millis(4500), "{how}: {:?}", asked.elapsed());
        assert_eq!(last.broken_laws(), Vec::<String>::new(), "{how}: {last:?}");
        assert!(last.at_rest(), "{how}: {last:?}");
        assert_eq!(last.shadow(0, "dropped/shutdown"), 40, "{how}: {last:?}");
        world.nothing_attached(Tap::HostSide);
    }
}

#[test]
fn a_terminal_that_goes_away_ends_no_mirror_that_was_started_by_nohup() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[shadow.at()], 0);
    let mut command = world.node.command("nohup");
    command.arg(binary());
    let mut mirror = Mirror::start_command(&world.node, command, &args).unwrap();
    mirror.process().signal(Signal::SIGHUP);
    load::run(&world.cli, &Load::new(primary.at(), 4, 40)).all_answered();
    assert_eq!(mirror.rest(40).shadow(0, "delivered"), 40);
    mirror.process().signal(Signal::SIGTERM);
    let (status, _) = mirror.ended().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_standard_output_that_nobody_reads_holds_up_neither_copies_nor_the_end() {
    // By clsact, whose filters go inert when the agent gives no sign of life for a second.
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let (unread, writer) = nix::unistd::pipe().unwrap();
    nix::fcntl::fcntl(&unread, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut command = world.node.command(binary());
    command.arg("run").args(mirror_args(&world, Tap::HostSide, primary.at(), &[shadow.at()], 0));
    command.args(["--attach", "clsact", "--json", "--admin", mirror_tests::mirror::ADMIN]);
    command.stdout(writer).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    // It holds a copy of our end of the pipe.
    drop(command);
    let admin = |path: &str| -> Option<String> {
        let mut conn = Conn::open(&world.node, mirror_tests::mirror::ADMIN.parse().unwrap()).ok()?;
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        conn.response("GET")
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
    };
    let stats = || mirror_tests::Stats(serde_json::from_str(&admin("/api/v1/stats").unwrap()).unwrap());
    eventually("it is ready", Duration::from_secs(30), || admin("/readyz").is_some());
    eventually("its output is stuck", Duration::from_secs(30), || {
        let mut waiting = [nix::poll::PollFd::new(unread.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut waiting, 0_u8).unwrap() > 0
    });
    // Longer than filters live without a sign of life, several lines long.
    let mut load = Load::new(primary.at(), 2, 400);
    load.rate = Some(100.0);
    load::run(&world.cli, &load).all_answered();
    eventually("all delivered", Duration::from_secs(20), || stats().delivered(0) == 400);
    assert_eq!(stats().n("/tap/inert"), 0, "{:?}", stats());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let ended = mirror_tests::wait_for(Duration::from_millis(4500), || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(ended.is_some_and(|status| status.success()), "it ends by SIGTERM: {ended:?}");
    world.nothing_attached(Tap::HostSide);
}

#[test]
fn unfinished_heads_of_many_clients_take_bounded_memory() {
    let world = World::routed();
    let mut scene = world.scene(&Setup { mirror: &["--memory", "32MiB"], ..Setup::default() });
    let head = request("GET", "/", "slow", &format!("Cookie: {}\r\n", "c".repeat(60_000)), b"");
    let mut slow: Vec<Conn> = (0..200).map(|_| scene.open()).collect();
    for conn in &mut slow {
        conn.send_split(&head[..head.len() - 2], &[]).unwrap();
    }
    // 12 MB came; what the decoders may hold is a part of the eighth of --memory that the flow tables have.
    let stats = scene.mirror.wait_stats("heads are given up", Duration::from_secs(20), |stats| {
        stats.sum("/rings/0/heads_given_up") > 0 && stats.n("/bytes/matched") >= 12_000_000
    });
    assert!(stats.n("/bytes/buffered") <= 4 << 20, "{stats:?}");
    scene.open().exchange(&request("GET", "/", "fine", "", b"")).unwrap();
    for conn in &mut slow {
        conn.send(b"\r\n").unwrap();
        assert_eq!(conn.response("GET").unwrap().status, 200);
    }
    drop(slow);
    scene.mirror.wait_stats("the small one arrives", Duration::from_secs(10), |stats| stats.delivered(0) > 0);
    assert!(scene.mirror.process().peak_memory() <= 64 << 20);
    assert_eq!(scene.primary.requests().len(), 201);
    let ending = scene.finish_with_losses();
    assert!(ending.shadow.iter().any(|line| line.id == "fine"));
    assert!(ending.stats.n("/bytes/skipped_before_sync") > 0, "{:?}", ending.stats);
}
