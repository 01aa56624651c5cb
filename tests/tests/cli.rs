//! Bad input: one line that says what and how to mend it, exit code 2 (usage) or 1, and nothing left attached.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use mirror_tests::mirror::binary;
use mirror_tests::world::{Family, Setup, Tap, attached, mirror_args};
use mirror_tests::{Mirror, Process, Reviews, World, eventually};

/// Runs the binary to its end: exit code, stdout and stderr.
fn run(mut command: Command, args: &[&str]) -> (i32, Vec<String>, Vec<String>) {
    command.args(args);
    let process = Process::spawn("mirror", command).unwrap();
    let (status, stdout, stderr) = process.finish(Duration::from_secs(20)).unwrap();
    (status.code().unwrap_or(-1), stdout, stderr)
}

/// The options must be refused with `code`, on one line that holds each of `words`, with nothing attached.
#[track_caller]
fn refused(world: &World, args: &[&str], code: i32, words: &[&str]) {
    let (exit, stdout, stderr) = run(world.node.command(binary()), &[&["run"], args].concat());
    assert_eq!(exit, code, "{args:?}: {stdout:?} {stderr:?}");
    one_line(args, &stdout, &stderr, words);
    for interface in ["vpri", "vcli", "vsha", "lo"] {
        assert!(attached(&world.node, interface).is_empty(), "{args:?} left something at {interface}");
    }
}

#[track_caller]
fn one_line(args: &[&str], stdout: &[String], stderr: &[String], words: &[&str]) {
    assert!(stdout.is_empty(), "{args:?}: stdout says {stdout:?}");
    let said: Vec<&String> = stderr.iter().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(said.len(), 1, "{args:?}: one line: {stderr:?}");
    let line = said[0].to_lowercase();
    assert!(
        !line
            .split(": ")
            .enumerate()
            .any(|(at, part)| part.len() > 8 && line.split(": ").skip(at + 1).any(|other| other == part)),
        "{args:?} says something twice: {line:?}"
    );
    for word in words {
        assert!(line.contains(&word.to_lowercase()), "{args:?}: {word:?} is not in {line:?}");
    }
}

const GOOD: [&str; 6] =
    ["--primary", "10.77.2.2:8080", "--shadow", "http://10.77.3.2:8081", "--interface", "vpri"];

#[test]
fn usage_errors_are_one_line_and_exit_code_2() {
    let world = World::routed();
    let with = |more: &[&'static str]| [&GOOD[..], more].concat();
    for (args, words) in [
        (vec!["--primary", "10.77.2.2:8080"], vec!["--shadow"]),
        (vec!["--shadow", "http://10.77.3.2:8081"], vec!["--primary"]),
        (vec!["--primary", "10.77.2.2", "--shadow", "http://10.77.3.2"], vec!["--primary", "10.77.2.2"]),
        (vec!["--primary", "10.77.2.2:99999", "--shadow", "http://10.77.3.2"], vec!["--primary", "99999"]),
        (vec!["--primary", "10.77.2.2:8080", "--shadow", "http://"], vec!["--shadow", "host"]),
        (vec!["--primary", "10.77.2.2:8080", "--shadow", "http://:8080"], vec!["--shadow", "host"]),
        (vec!["--primary", "10.77.2.2:8080", "--shadow", "10.77.3.2:8081"], vec!["--shadow", "http://"]),
        (vec!["--primary", "10.77.2.2:8080", "--shadow", "ftp://10.77.3.2"], vec!["--shadow", "ftp"]),
        (vec!["--primary", "10.77.2.2:8080", "--shadow", "http://10.77.2.2:8080"], vec!["primary", "shadow"]),
        (with(&["--shadow", "http://10.77.3.2:8081"]), vec!["--shadow", "http://10.77.3.2:8081"]),
        (with(&["--percent", "1001"]), vec!["--percent", "1001", "1000"]),
        (with(&["--percent", "-1"]), vec!["--percent", "-1"]),
        (with(&["--percent", "many"]), vec!["--percent", "many"]),
        (with(&["--percent", "NaN"]), vec!["--percent", "NaN"]),
        (with(&["--set-header", "X-A: b\r\nEvil: yes"]), vec!["--set-header", "line break"]),
        (with(&["--set-header", "no-colon"]), vec!["--set-header", "no-colon"]),
        (with(&["--remove-header", "a b"]), vec!["--remove-header", "a b"]),
        (with(&["--marker", "x y"]), vec!["--marker", "x y"]),
        (with(&["--memory", "1MiB"]), vec!["--memory", "32MiB"]),
        (with(&["--memory", "lots"]), vec!["--memory", "lots"]),
        (with(&["--shards", "0"]), vec!["--shards", "0"]),
        (with(&["--shards", "65"]), vec!["--shards", "64"]),
        (with(&["--shards", "9", "--memory", "32MiB"]), vec!["--shards", "at most 8", "--memory"]),
        (with(&["--sample-by", "moon"]), vec!["--sample-by", "moon"]),
        (with(&["--attach", "glue"]), vec!["--attach", "glue"]),
        (with(&["--duration", "soon"]), vec!["--duration", "soon"]),
        (with(&["--admin", "nowhere"]), vec!["--admin", "nowhere"]),
        (with(&["--path-prefix", "api"]), vec!["--path-prefix", "api"]),
        (with(&["--methods", "GE T"]), vec!["--methods"]),
        (with(&["--no-such-flag"]), vec!["--no-such-flag"]),
        (with(&["--netns", "a", "--pid", "1"]), vec!["--netns", "--pid"]),
    ] {
        refused(&world, &args, 2, &words);
    }
}

#[test]
fn what_the_machine_lacks_is_one_line_and_exit_code_1() {
    let world = World::routed();
    let with = |more: &[&'static str]| [&GOOD[..4], more].concat();
    for (args, words) in [
        (with(&["--interface", "eth9"]), vec!["eth9"]),
        (with(&["--interface", "vpri", "--interface", "eth9"]), vec!["eth9"]),
        (with(&["--netns", "no-such-namespace"]), vec!["no-such-namespace"]),
        (with(&["--netns", "/etc/hostname"]), vec!["/etc/hostname", "network namespace"]),
        (with(&["--pid", "4194304"]), vec!["4194304"]),
        // No interface of the node holds the primary's address.
        (with(&[]), vec!["10.77.2.2", "--interface"]),
    ] {
        refused(&world, &args, 1, &words);
    }
}

#[test]
fn a_shadow_that_is_the_primary_by_another_name_is_refused() {
    let world = World::routed();
    for (primary, shadow) in [
        // A name for it, and addresses of this machine where the primary is the port on any.
        ("127.0.0.1:8080", "http://localhost:8080"),
        (":8080", "http://127.0.0.1:8080"),
        (":8080", "http://10.77.1.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("10.77.2.2:8080", "http://[::ffff:10.77.2.2]:8080"),
    ] {
        let args = ["--primary", primary, "--shadow", shadow, "--interface", "lo"];
        let (exit, stdout, stderr) = run(world.node.command(binary()), &[&["run"], &args[..]].concat());
        assert!(exit == 1 || exit == 2, "{args:?}: {exit} {stdout:?} {stderr:?}");
        one_line(&args, &stdout, &stderr, &["--shadow", "primary"]);
        assert!(attached(&world.node, "lo").is_empty(), "{args:?}");
    }
}

#[test]
fn certificates_that_cannot_be_read_are_one_line_and_exit_code_1() {
    let world = World::routed();
    let text = world.dir().join("no-certificate.pem");
    std::fs::write(&text, "this is no certificate\n").unwrap();
    let text = text.display().to_string();
    let https = ["--primary", "10.77.2.2:8080", "--shadow", "https://10.77.3.2:8443", "--interface", "vpri"];
    for file in ["/no/such/file.pem", &text] {
        refused(&world, &[&https[..], &["--shadow-ca", file]].concat(), 1, &["--shadow-ca", file]);
    }
}

#[test]
fn the_limit_of_open_files_is_raised_and_said_to_be_too_low_where_it_cannot_be() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[world.shadow_at(Family::V4)], 0);
    for (limit, raised, warns) in [("256:8192", "8192", false), ("256:2048", "2048", true)] {
        let mut command = world.node.command("prlimit");
        command.arg(format!("--nofile={limit}")).arg(binary());
        let mut mirror = Mirror::start_command(&world.node, command, &args).unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", mirror.process().pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().nth(3), Some(raised), "{line}");
        let said = mirror.process().stderr().join("\n");
        assert_eq!(said.contains("--max-connections"), warns, "{limit}: {said}");
        assert_eq!(said.contains("(ulimit -n, systemd: LimitNOFILE=)"), warns, "{limit}: {said}");
        mirror_tests::world::end(&world, Tap::HostSide, mirror);
    }
}

#[test]
fn an_admin_port_that_is_taken_is_one_line_and_exit_code_1() {
    let world = World::routed();
    let at: SocketAddr = "127.0.0.1:9911".parse().unwrap();
    let _taken = Reviews::start(&world.node, world.dir(), at, &[]).unwrap();
    refused(&world, &[&GOOD[..], &["--admin", "127.0.0.1:9911"]].concat(), 1, &["127.0.0.1:9911"]);
}

#[test]
fn without_capabilities_it_says_which_it_needs() {
    let world = World::routed();
    // The binary may stand where nobody else may go.
    let copy = std::env::temp_dir().join(format!("mirror-lab-bin-{}", std::process::id()));
    std::fs::copy(binary(), &copy).unwrap();
    let (exit, stdout, stderr) = run(world.node.command_as(&copy, 65_534), &[&["run"], &GOOD[..]].concat());
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(exit, 1, "{stderr:?}");
    one_line(&["as nobody"], &stdout, &stderr, &["CAP_"]);
    assert!(attached(&world.node, "vpri").is_empty());
}

#[test]
fn an_old_kernel_is_one_line_and_exit_code_1() {
    let world = World::routed();
    // The kernel calls itself 2.6.x to this process and its children (personality(2), UNAME26).
    let mut command = world.node.command("setarch");
    command.args([std::env::consts::ARCH, "--uname-2.6"]).arg(binary());
    let (exit, stdout, stderr) = run(command, &[&["run"], &GOOD[..]].concat());
    assert_eq!(exit, 1, "{stderr:?}");
    one_line(&["on an old kernel"], &stdout, &stderr, &["kernel 2.6", "too old", "6.1"]);
    assert!(attached(&world.node, "vpri").is_empty());
}

#[test]
fn no_bpf_file_system_is_needed() {
    // Nothing is pinned, so a machine without /sys/fs/bpf is as good as any.
    let world = World::routed();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[world.shadow_at(Family::V4)], 0);
    let mut command = Command::new("unshare");
    mirror_tests::kernel::enter_on_exec(&mut command, Some(world.node.descriptor()), None);
    // A mount namespace of its own, in which /sys/fs/bpf is an empty folder.
    command
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/fs/bpf && exec \"$0\" \"$@\""])
        .arg(binary());
    let mirror = Mirror::start_command(&world.node, command, &args).unwrap();
    mirror_tests::world::end(&world, Tap::HostSide, mirror);
    assert_eq!(std::fs::read_to_string("/proc/mounts").unwrap(), mounts, "and none is mounted");
}

#[test]
fn help_version_completions_and_man_page_are_there() {
    for (args, word) in [
        (vec!["--help"], "Usage"),
        (vec!["run", "--help"], "--primary"),
        (vec!["--version"], "mirror "),
        (vec!["completions", "bash"], "--client-ip-header"),
        (vec!["completions", "zsh"], "--client-ip-header"),
        (vec!["completions", "fish"], "client-ip-header"),
        (vec!["man"], ".TH mirror 1"),
    ] {
        let (exit, stdout, _) = run(Command::new(binary()), &args);
        assert_eq!(exit, 0, "{args:?}");
        assert!(stdout.join("\n").contains(word), "{args:?}: {stdout:?}");
    }
    let world = World::routed();
    let (exit, stdout, stderr) = run(Command::new(binary()), &["man", &world.dir().display().to_string()]);
    assert_eq!(exit, 0, "{stderr:?}");
    assert!(stdout.iter().any(|path| path.ends_with("/mirror-run.1")), "{stdout:?}");
    let page = std::fs::read_to_string(world.dir().join("mirror-run.1")).unwrap();
    assert!(page.contains("\\-\\-client\\-ip\\-header"), "{page}");
}

#[test]
fn doctor_is_content_here_and_says_why_nothing_would_be_seen() {
    let world = World::routed();
    let doctor = |args: &[&str]| run(world.node.command(binary()), &[&["doctor", "--json"], args].concat());
    let (exit, stdout, stderr) = doctor(&["--primary", "10.77.2.2:8080", "--interface", "vpri"]);
    assert_eq!(exit, 0, "{stdout:?} {stderr:?}");
    let said = stdout.join("\n");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(report.is_object(), "{said}");
    assert!(said.contains("vpri"), "{said}");
    // No interface of the node holds this address.
    let (exit, stdout, _) = doctor(&["--primary", "192.0.2.1:80"]);
    assert_eq!(exit, 1, "{stdout:?}");
    assert!(stdout.join("\n").contains("192.0.2.1"), "{stdout:?}");
    assert!(attached(&world.node, "vpri").is_empty(), "doctor leaves nothing");
}

#[test]
fn without_json_and_without_a_terminal_it_says_the_same_lines() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let mut command = world.node.command(binary());
    command.arg("run").args(mirror_args(
        &world,
        Tap::HostSide,
        primary.at(),
        &[world.shadow_at(Family::V4)],
        0,
    ));
    command.args(["--duration", "3s"]);
    let process = Process::spawn("mirror", command).unwrap();
    let (status, stdout, stderr) = process.finish(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{stderr:?}");
    let events: Vec<String> = stdout
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(events.first().map(String::as_str), Some("ready"), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("final"), "{events:?}");
    let stats = events.iter().filter(|event| *event == "stats").count();
    assert!((1..=4).contains(&stats), "a line each second: {events:?}");
    world.nothing_attached(Tap::HostSide);
}

#[test]
fn asked_for_twice_the_programs_own_lines_are_shown_and_else_none_is() {
    let world = World::routed();
    for (verbose, shown) in [(&["-vv"][..], true), (&["-v"], false), (&[], false)] {
        let mut scene = world.scene(&Setup { mirror: verbose, ..Setup::default() });
        scene.load(|load| load.requests = 20).all_answered();
        scene.mirror.rest(20);
        let says = |mirror: &mut Mirror<'_>, what: &str| {
            mirror.process().stderr().iter().any(|line| line.contains("mirror::bpf") && line.contains(what))
        };
        if shown {
            for what in ["segment of", "passed by"] {
                eventually(what, Duration::from_secs(10), || says(&mut scene.mirror, what));
            }
        } else {
            assert!(!says(&mut scene.mirror, ""), "{verbose:?}");
        }
        scene.all_delivered(20);
    }
}

#[test]
fn a_second_start_beside_a_running_one_works_or_says_why_not() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let other = Reviews::start(&world.sha, world.dir(), "10.77.3.2:8082".parse().unwrap(), &[]).unwrap();
    let mut command = world.node.command(binary());
    command.arg("run").args(mirror_args(&world, Tap::HostSide, scene.primary.at(), &[other.at()], 0));
    command.args(["--json", "--duration", "2s"]);
    let second = Process::spawn("mirror", command).unwrap();
    let (status, stdout, stderr) = second.finish(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{stdout:?} {stderr:?}");
    scene.load(|load| load.requests = 50).all_answered();
    scene.all_delivered(50);
}
