//! `mirror record`: what real clients and servers say to each other, written to files, and read again by `mirror inspect`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario ends by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mirror_tests::client::{chunked, noise, request};
use mirror_tests::load::{self, Load};
use mirror_tests::mirror::binary;
use mirror_tests::process::Process;
use mirror_tests::reviews;
use mirror_tests::server::Reviews;
use mirror_tests::world::{Family, IDENTICAL};
use mirror_tests::{Tap, World, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

const START_PATIENCE: Duration = Duration::from_secs(30);
const REST_PATIENCE: Duration = Duration::from_secs(20);
/// 2 s are promised, the rest is for a busy machine.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

fn event(line: &str, name: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("event")?.as_str()? == name).then_some(value)
}

/// A running `mirror record` at the host side of the primary's veth.
struct Recording<'w> {
    world: &'w World,
    process: Process,
}

impl<'w> Recording<'w> {
    fn start(world: &'w World, out: &Path, more: &[&str]) -> Self {
        let mut command = world.node.command(binary());
        let primary = world.primary_at(Family::V4).to_string();
        command.args(["record", "--primary", &primary, "--interface", "vpri", "--json", "--out"]);
        command.arg(out).args(more);
        let mut process = Process::spawn("mirror record", command).unwrap();
        process.wait_line(START_PATIENCE, |line| event(line, "ready")).unwrap();
        Self { world, process }
    }

    /// Ends it, whoever told it to: exit status, last numbers, standard error. The law is checked, and that nothing is left attached.
    fn ended(mut self) -> (ExitStatus, Value, String) {
        let status = self.process.wait(STOP_PATIENCE).expect("it ends");
        let last = self.process.wait_line(Duration::from_secs(2), |line| event(line, "final")).unwrap();
        assert_eq!(last["laws_hold"], true, "{last}");
        assert_eq!(last["bytes"]["buffered"], 0, "{last}");
        assert_eq!(last["bad_records"], 0, "{last}");
        self.world.nothing_attached(Tap::HostSide);
        (status, last, self.process.stderr().join("\n"))
    }

    fn stop(mut self) -> Value {
        self.process.signal(Signal::SIGTERM);
        let (status, last, said) = self.ended();
        assert!(status.success(), "{status}: {said}");
        last
    }

    /// The files, the oldest first.
    fn files(out: &Path) -> Vec<PathBuf> {
        let stem = out.file_stem().unwrap().to_str().unwrap();
        let all = fs::read_dir(out.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(stem);
        let mut files: Vec<PathBuf> = all.filter(ours).collect();
        files.sort();
        files
    }
}

/// What `mirror inspect` says of files: a line for each request.
fn inspect(files: &[PathBuf]) -> Vec<Value> {
    let output = Command::new(binary()).args(["inspect", "--json"]).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("LAWS DO NOT HOLD"), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn field(line: &Value, name: &str) -> Option<String> {
    let fields = line["headers"].as_array()?;
    let found =
        fields.iter().find(|field| field[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
    Some(found[1].as_str()?.to_owned())
}

/// SHA-256 by coreutils.
fn sha256(bytes: &[u8]) -> String {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

fn left_out(last: &Value, why: &str) -> u64 {
    last["bytes"]["left_out"][why].as_u64().unwrap()
}

fn primary(world: &World, options: &[&str]) -> Reviews {
    Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), options).unwrap()
}

/// What the primary's log and the recording say of each request: method, target, status.
type Told = BTreeMap<String, (String, String, u64)>;

fn logged(primary: &Reviews) -> Told {
    let lines = primary.requests();
    lines.into_iter().map(|line| (line.id, (line.method, line.target, line.status))).collect()
}

fn recorded(lines: &[Value]) -> Told {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let one = |line: &Value| {
        let status = line["status"].as_u64().unwrap_or(0);
        (field(line, "x-request-id").unwrap(), (text(line, "method"), text(line, "target"), status))
    };
    lines.iter().map(one).collect()
}

#[test]
fn a_recording_says_what_the_log_of_the_primary_says() {
    let world = World::routed();
    // Answers of many segments, every seventh one a fault.
    let primary = primary(&world, &["--reply-bytes", "60000", "--fail-every", "7"]);
    let out = world.dir().join("capture.pcapng");
    let recording = Recording::start(&world, &out, &[]);
    let mut load = Load::new(primary.at(), 8, 400);
    (load.post_every, load.body, load.per_connection) = (2, 20_000, 15);
    let report = load::run(&world.cli, &load);
    assert_eq!(report.answered, 400, "{:?}", report.errors);
    let (body, whole) = (noise(150_000, 5), noise(90_000, 6));
    let mut conn = world.open(primary.at());
    let chunks = chunked(&body, 7_000, "X-Sum: 1\r\n");
    let mut bytes =
        b"PUT /chunks HTTP/1.1\r\nHost: a\r\nX-Request-Id: chunks\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    bytes.extend_from_slice(&chunks);
    conn.exchange(&bytes).unwrap();
    conn.exchange(&request("PUT", "/whole?a=b", "whole", "", &whole)).unwrap();
    drop(conn);
    eventually("the primary has logged all", REST_PATIENCE, || primary.requests().len() == 402);
    let last = recording.stop();
    assert_eq!((&last["lost"], left_out(&last, "headers_only")), (&Value::from(0), 0), "{last}");
    assert_eq!(last["bytes"]["matched"], last["bytes"]["written"], "{last}");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o7777, 0o600);

    let lines = inspect(&[out]);
    assert_eq!(recorded(&lines), logged(&primary));
    assert!(lines.iter().all(|line| line["complete"] == true));
    assert!(lines.iter().all(|line| line["latency_ns"].as_u64().is_some_and(|ns| ns > 0)));
    for (id, sent, raw) in [("chunks", &body, &chunks), ("whole", &whole, &whole)] {
        let line = lines.iter().find(|line| field(line, "x-request-id").as_deref() == Some(id)).unwrap();
        assert_eq!(line["body_sha256"], sha256(sent), "{id}");
        let at_primary = primary.requests().into_iter().find(|line| line.id == id).unwrap();
        assert_eq!(at_primary.body_hash, reviews::hash(raw), "{id}");
    }
}

#[test]
fn what_was_recorded_is_replayed_as_it_was_sent() {
    let world = World::routed();
    let primary = primary(&world, &["--reply-bytes", "5000"]);
    let out = world.dir().join("again.pcapng");
    let recording =
        Recording::start(&world, &out, &["--rotate-size", "64KiB", "--keep", "0", "--shards", "2"]);
    let mut load = Load::new(primary.at(), 6, 120);
    (load.post_every, load.body, load.per_connection) = (2, 9_000, 10);
    load::run(&world.cli, &load).all_answered();
    eventually("the primary has logged all", REST_PATIENCE, || primary.requests().len() == 120);
    recording.stop();
    let at = world.shadow_at(Family::V4);
    let shadow = Reviews::start(&world.sha, world.dir(), at, &[]).unwrap();
    let mut command = world.node.command(binary());
    command.arg("replay").args(Recording::files(&out)).args(IDENTICAL);
    command.args(["--speed", "max", "--json", "--shadow"]).arg(format!("http://{at}"));
    let (status, _, said) =
        Process::spawn("mirror replay", command).unwrap().finish(Duration::from_secs(90)).unwrap();
    assert!(status.success(), "{status}: {said:?}");
    let sorted = |server: &Reviews| {
        let mut all: Vec<_> = server
            .requests()
            .into_iter()
            .map(|line| (line.id, line.method, line.target, line.bytes, line.body_hash))
            .collect();
        all.sort();
        all
    };
    eventually("the shadow has logged all", REST_PATIENCE, || shadow.requests().len() == 120);
    assert_eq!(sorted(&shadow), sorted(&primary));
}

#[test]
fn files_are_rotated_by_size_and_by_time_and_read_as_one() {
    let world = World::routed();
    let primary = primary(&world, &[]);
    let out = world.dir().join("sized.pcapng");
    let recording =
        Recording::start(&world, &out, &["--rotate-size", "64KiB", "--keep", "0", "--shards", "2"]);
    let mut load = Load::new(primary.at(), 4, 300);
    (load.post_every, load.body) = (2, 3_000);
    load::run(&world.cli, &load);
    let last = recording.stop();
    let files = Recording::files(&out);
    assert!(files.len() > 4, "{files:?}");
    assert_eq!(last["files"]["files"], files.len(), "{last}");
    for file in &files {
        let metadata = fs::metadata(file).unwrap();
        assert!(metadata.len() <= 64 << 10, "{}: {}", file.display(), metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        // Each stands on its own.
        inspect(std::slice::from_ref(file));
    }
    assert_eq!(recorded(&inspect(&files)), logged(&primary));

    let timed = world.dir().join("timed.pcapng");
    let recording = Recording::start(&world, &timed, &["--rotate-time", "200ms", "--keep", "2"]);
    let mut conn = world.open(primary.at());
    let mut sent = 0;
    eventually("the oldest file is removed", REST_PATIENCE, || {
        sent += 1;
        conn.exchange(&request("GET", "/", &format!("timed-{sent}"), "", b"")).unwrap();
        Recording::files(&timed).iter().any(|file| file.to_str().unwrap().contains("timed-00003"))
    });
    let last = recording.stop();
    assert_eq!(Recording::files(&timed).len(), 2, "{last}");
    assert!(last["files"]["removed"].as_u64().unwrap() > 0, "{last}");
}

#[test]
fn what_must_not_lie_on_a_disk_does_not() {
    let world = World::routed();
    let primary = primary(&world, &[]);
    let secret = "s3cr3t-of-the-client";
    let headers = format!(
        "Authorization: Bearer {secret}\r\nCookie: a={secret}\r\nX-Session: {secret}\r\nX-Open: yes\r\n"
    );
    let body = format!("body-{secret}").repeat(500);
    let say = |tag: &str| {
        let mut conn = world.open(primary.at());
        let target = format!("/p?token={secret}");
        conn.exchange(&request("POST", &target, &format!("{tag}-1"), &headers, body.as_bytes())).unwrap();
        let chunks = chunked(body.as_bytes(), 1_000, &format!("X-Session: {secret}\r\n"));
        let head = format!(
            "PUT /c HTTP/1.1\r\nHost: a\r\nX-Request-Id: {tag}-2\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
        );
        let bytes = [head.as_bytes(), &chunks].concat();
        // In pieces that cut every line somewhere.
        conn.send_split(&bytes, &(1..40).map(|at| at * 7).collect::<Vec<_>>()).unwrap();
        conn.response("PUT").unwrap();
        conn.exchange(&request("GET", "/last", &format!("{tag}-3"), "", b"")).unwrap();
    };
    let count = |file: &Path, text: &str| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    };

    let headers_only = world.dir().join("headers.pcapng");
    let recording = Recording::start(&world, &headers_only, &["--headers-only"]);
    say("headers");
    let last = recording.stop();
    assert_eq!(left_out(&last, "headers_only"), 2 * body.len() as u64, "{last}");
    assert_eq!(count(&headers_only, "body-"), 0);
    let lines = inspect(&[headers_only]);
    let told: Vec<(Option<String>, bool, Option<u64>, u64)> = lines
        .iter()
        .map(|line| {
            let id = field(line, "x-request-id");
            (
                id,
                line["complete"] == true,
                line["declared_len"].as_u64(),
                line["status"].as_u64().unwrap_or(0),
            )
        })
        .collect();
    let id = |n: u8| Some(format!("headers-{n}"));
    assert_eq!(
        told,
        [(id(1), false, Some(body.len() as u64), 200), (id(2), false, None, 200), (id(3), true, None, 200)]
    );

    let both = world.dir().join("both.pcapng");
    let recording = Recording::start(&world, &both, &["--headers-only", "--redact", "x-session"]);
    say("both");
    let last = recording.stop();
    assert!(left_out(&last, "redacted") > 0, "{last}");
    assert_eq!(count(&both, secret), 0, "not even in a trailer");
    assert_eq!(count(&both, "X-Open: yes"), 2);
    let lines = inspect(&[both]);
    assert_eq!(lines.len(), 3);
    assert_eq!(field(&lines[0], "authorization"), Some("x".repeat(7 + secret.len())));
    assert_eq!(lines[0]["target"], format!("/p?{}", "x".repeat(6 + secret.len())));

    // Bodies are written as they are; nothing else is.
    let redacted = world.dir().join("redacted.pcapng");
    let recording = Recording::start(&world, &redacted, &["--redact", "x-session"]);
    say("redacted");
    recording.stop();
    let lines = inspect(&[redacted]);
    assert!(
        lines.iter().all(|line| line["complete"] == true && !line["headers"].to_string().contains(secret))
    );
    assert_eq!(lines[1]["body_sha256"], sha256(body.as_bytes()));
}

#[test]
fn a_ring_that_is_too_small_loses_by_name_and_the_file_says_how_much() {
    let world = World::routed_alone();
    let primary = primary(&world, &[]);
    let out = world.dir().join("small.pcapng");
    let mut recording =
        Recording::start(&world, &out, &["--ring", "64KiB", "--shards", "1", "--memory", "32MiB"]);
    // It does not get the CPU, so that its ring overflows.
    recording.process.signal(Signal::SIGSTOP);
    let body = noise(200_000, 3);
    let mut conn = world.open(primary.at());
    for n in 0..5 {
        conn.exchange(&request("POST", "/", &format!("lost-{n}"), "", &body)).unwrap();
    }
    recording.process.signal(Signal::SIGCONT);
    let last = recording.stop();
    assert!(last["lost"].as_u64().unwrap() > 0, "{last}");
    assert!(last["bytes"]["lost_in_ring"].as_u64().unwrap() > 0, "{last}");
    // The interface statistics block: type 5, and its option 5, as long as a number.
    let bytes = fs::read(&out).unwrap();
    let drops = 5_u32.to_le_bytes();
    assert_eq!(&bytes[bytes.len() - 76..][..4], &drops, "the file ends with its statistics");
    let option = bytes.len() - 4 - 4 - 12;
    assert_eq!(bytes[option..][..4], [5, 0, 8, 0]);
    let told = u64::from_le_bytes(bytes[option + 4..][..8].try_into().unwrap());
    assert_eq!(told, last["lost"].as_u64().unwrap());
    inspect(&[out]);
}

#[test]
fn a_full_disk_ends_the_recording_with_whole_files_and_harms_nothing() {
    let world = World::routed();
    let primary = primary(&world, &[]);
    let disk = world.dir().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount =
        |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
    mount(&["-t", "tmpfs", "-o", "size=1m", "mirror-test", disk.to_str().unwrap()]);
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _gone = Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&disk);
    let out = disk.join("capture.pcapng");
    let recording = Recording::start(&world, &out, &["--rotate-size", "300KiB", "--keep", "0"]);
    let mut load = Load::new(primary.at(), 4, 200);
    (load.post_every, load.body) = (1, 20_000);
    let report = load::run(&world.cli, &load);
    assert_eq!(report.answered, 200, "the primary is not harmed: {:?}", report.errors);
    let (status, last, said) = recording.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("capture.pcapng") && said.contains("No space left"), "{said}");
    assert!(left_out(&last, "disk") > 0, "{last}");
    let files = Recording::files(&out);
    assert!(files.len() >= 2, "{files:?}");
    let lines = inspect(&files);
    assert!(!lines.is_empty());
    let log = logged(&primary);
    for (id, (method, target, _)) in recorded(&lines) {
        assert_eq!((&log[&id].0, &log[&id].1), (&method, &target));
    }
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_is_attached() {
    let world = World::routed();
    let out = world.dir().join("taken.pcapng");
    fs::write(&out, "mine").unwrap();
    let mut command = world.node.command(binary());
    command.args([
        "record",
        "--primary",
        &world.primary_at(Family::V4).to_string(),
        "--interface",
        "vpri",
        "--out",
    ]);
    let output = command.arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("taken.pcapng") && said.contains("remove it"), "{said}");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    world.nothing_attached(Tap::HostSide);
}
