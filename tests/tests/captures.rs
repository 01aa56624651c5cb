//! `mirror inspect` on the captures of `tests/captures`, which were recorded with this project's own lab programs (see the
//! README there), and on broken copies of them. No root, no network.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario ends by a panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use mirror_tests::mirror::inspect;
use serde_json::Value;

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line of standard error, where a fault stands.
fn fault(output: &Output) -> String {
    text(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// A file in a directory that is removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mirror-captures-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_kept_capture_gives_the_lines_that_were_checked_by_hand() {
    let mut seen = 0;
    for entry in fs::read_dir(captures()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = [".pcap", ".pcap.gz", ".pcapng"].iter().find_map(|end| name.strip_suffix(end))
        else {
            continue;
        };
        let expected = fs::read_to_string(captures().join(format!("{stem}.jsonl"))).unwrap();
        let output = inspect(&["--json", path.to_str().unwrap()], b"");
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected, "{name}");
        let piped = inspect(&["--json", "-"], &fs::read(&path).unwrap());
        assert_eq!(text(&piped.stdout), expected, "{name} by standard input");
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} captures were found");
}

#[test]
fn a_capture_that_is_split_over_files_is_one_capture() {
    let whole = fs::read(captures().join("pipelined.pcap")).unwrap();
    // Behind the fourth record: the handshake and the requests; their answers are in the second file.
    let mut at = 24;
    for _ in 0..4 {
        at += 16 + u32::from_le_bytes(whole[at + 8..at + 12].try_into().unwrap()) as usize;
    }
    let scratch = Scratch::new("split");
    let first = scratch.file("1.pcap", &whole[..at]);
    let second = scratch.file("2.pcap", &[&whole[..24], &whole[at..]].concat());
    let output = inspect(&["--json", &first, &second], b"");
    assert_eq!(text(&output.stdout), fs::read_to_string(captures().join("pipelined.jsonl")).unwrap());
    // The other way round they are two captures, and the answers answer nobody.
    let output = inspect(&["--json", &second, &first], b"");
    assert!(lines(&output).iter().all(|line| line["status"].is_null()));
}

#[test]
fn ports_filters_and_summaries_count_what_they_leave_out() {
    let path = captures().join("keepalive.pcap");
    let path = path.to_str().unwrap();
    let targets = |args: &[&str]| -> Vec<String> {
        let output = inspect(&[&["--json"], args, &[path]].concat(), b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        lines(&output).iter().map(|line| line["target"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(targets(&[]), ["/a", "/missing", "/b?x=1&y=%20", "/six"]);
    assert_eq!(targets(&["--port", "8080"]).len(), 4);
    assert_eq!(targets(&["--port", "80,443"]).len(), 0);
    assert_eq!(targets(&["--filter", "status 4xx"]), ["/missing"]);
    assert_eq!(targets(&["--filter", "ip6 or path /a"]), ["/a", "/six"]);
    assert_eq!(targets(&["--filter", "dst port 8080 and not (method HEAD or host ::1)"]).len(), 3);

    let output = inspect(&["--summary", "--json", path], b"");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["laws_hold"], true);
    assert_eq!(summary["requests"]["complete"], 4);
    assert_eq!(summary["responses"]["4xx"], 1);
    let output = inspect(&["--summary", path], b"");
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("observed 4 = complete 4"), "{}", text(&output.stderr));

    let output = inspect(&["--table", path], b"");
    let table = text(&output.stdout);
    assert_eq!(table.lines().count(), 5, "a heading and four requests:\n{table}");
    assert!(table.contains("HEAD [::1]:8080/six"), "{table}");
}

#[test]
fn what_was_whole_is_reported_then_one_line_says_what_is_wrong_and_where() {
    let scratch = Scratch::new("broken");
    let whole = fs::read(captures().join("keepalive.pcap")).unwrap();
    let cut = scratch.file("cut.pcap", &whole[..whole.len() - 700]);
    let output = inspect(&["--json", &cut], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output).len() >= 3);
    let said = fault(&output);
    assert!(
        said.starts_with(&format!("mirror: {cut}: at byte ")) && said.contains("ends within a packet"),
        "{said}"
    );

    let zipped = fs::read(captures().join("upload.pcap.gz")).unwrap();
    for (name, bytes, expected) in [
        ("empty.pcap", &b""[..], "at byte 0: the file is empty"),
        (
            "text.pcap",
            b"not a capture at all",
            "at byte 0: neither pcap nor pcapng: it begins with 6e 6f 74 20",
        ),
        ("head.pcap", &whole[..10], "at byte 0: the file ends within its header"),
        ("cut.pcap.gz", &zipped[..zipped.len() / 2], "at byte "),
        ("broken.pcap", &[&whole[..24], &[0xff; 40]].concat(), "at byte 24: a packet of 4294967295 bytes"),
    ] {
        let path = scratch.file(name, bytes);
        let output = inspect(&["--json", &path], b"");
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = fault(&output);
        assert!(said.starts_with(&format!("mirror: {path}: ")) && said.contains(expected), "{name}: {said}");
    }
    let output = inspect(&["--json", "/nowhere/at/all.pcap"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fault(&output), "mirror: /nowhere/at/all.pcap: No such file or directory (os error 2)");

    // A broken file does not keep the others from being read.
    let good = captures().join("pipelined.pcap");
    let output = inspect(&["--json", &cut, good.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output).len() >= 6);
}

#[test]
fn usage_errors_are_one_line_and_exit_code_2() {
    for (args, word) in [
        (&[][..], "FILE"),
        (&["--filter", "colour red", "x"], "colour"),
        (&["--filter", "(port 1", "x"], ")"),
        (&["--port", "0", "x"], "--port"),
        (&["--json", "--table", "x"], "--table"),
    ] {
        let output = inspect(args, b"");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(word) && output.stdout.is_empty(), "{args:?}: {said}");
    }
}

/// Every byte of every kept capture is broken once or cut at: the exit is 0 or 1, never a panic or a signal.
#[test]
fn no_broken_byte_ends_it_in_any_other_way() {
    let scratch = Scratch::new("bytes");
    let whole = fs::read(captures().join("pipelined.pcap")).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        broken[(at * 31 + 5) % whole.len()] = 0x80;
        let path = scratch.file("broken.pcap", &broken);
        let output = inspect(&["--json", &path], b"");
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "byte {at}: {:?} {}",
            output.status,
            text(&output.stderr)
        );
        assert!(!text(&output.stderr).contains("LAWS"), "byte {at}: {}", text(&output.stderr));
    }
}
