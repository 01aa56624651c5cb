//! Nanoseconds a packet in the BPF program, by the kernel's own statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::lab::{Lab, Load, OTHER_PORT, PORT};
use crate::setup::BpfToolchain;
use crate::{build, repo};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The test of the tap that prints what a frame costs.
const ALONE: &str = "a_packet_that_no_job_matches_costs_less_than_one_that_is_copied";

const LOADS: [(&str, Load, u16); 4] = [
    ("a port that no job matches", Load { name: "unmatched", body: 0, connections: 16 }, OTHER_PORT),
    ("get1k: small requests, answers, their ACKs", Load { name: "get1k", body: 0, connections: 16 }, PORT),
    ("post16k", Load { name: "post16k", body: 16 << 10, connections: 16 }, PORT),
    ("post1m: whole GSO segments", Load { name: "post1m", body: 1 << 20, connections: 4 }, PORT),
];

pub(super) fn section(lab: &Lab, seconds: u32) -> Result<String> {
    repo::say("measuring the tap");
    let foreign: BTreeSet<u64> = programs()?.into_keys().collect();
    let _mirror = lab.mirror(&[])?;
    let _statistics = Statistics::on()?;
    let mut text = String::from(
        "## The tap\n\nRun time of the BPF program a packet, by the kernel's statistics (`kernel.bpf_stats_enabled`), whose own \
         two clock reads are part of each number. One interface, both hooks; a program that stands on both has a line for each.\n\n\
         | traffic | program | packets | ns a packet |\n|---|---|---|---|\n",
    );
    for (what, load, port) in LOADS {
        let before = programs()?;
        lab.load(load, port, seconds, None)?;
        let mut packets = 0;
        for (id, after) in programs()? {
            let earlier = before.get(&id).cloned().unwrap_or_default();
            let runs = after.runs - earlier.runs;
            if foreign.contains(&id) || runs == 0 {
                continue;
            }
            packets += runs;
            let each = (after.nanoseconds - earlier.nanoseconds) as f64 / runs as f64;
            writeln!(text, "| {what} | {} | {runs} | {each:.0} |", after.name)?;
        }
        ensure!(packets > 0, "no packet of `{what}` passed a BPF program of the mirror");
    }
    Ok(text)
}

/// The program alone, fed by `PROG_TEST_RUN` with one frame after the other: the test that orders these costs prints them.
pub(super) fn alone(toolchain: &BpfToolchain) -> Result<String> {
    repo::say("measuring the tap alone");
    let mut test = repo::cargo();
    test.args([
        "test",
        "--release",
        "-p",
        "mirror-agent",
        "--features",
        "kernel-tests",
        "--test",
        "tap",
        "--",
    ])
    .args(["--nocapture", ALONE]);
    let printed = repo::output(build::with_bpf(&mut test, toolchain))?;
    let costs = costs(&printed);
    ensure!(!costs.is_empty(), "the test `{ALONE}` printed no costs");
    let mut text = String::from(
        "\n### One frame after the other\n\nThe same statistics under `PROG_TEST_RUN`, best of 20 runs: linear frames, warm caches but where the frame is new \
         each time.\n\n| frame | ns a packet |\n|---|---|\n",
    );
    for (frame, nanoseconds) in costs {
        writeln!(text, "| {frame} | {nanoseconds} |")?;
    }
    Ok(text)
}

/// The lines `NAME: N ns` of what the test printed.
fn costs(printed: &str) -> Vec<(&str, u64)> {
    let cost = |line| -> Option<(&str, u64)> {
        let (name, cost) = str::rsplit_once(line, ": ")?;
        Some((name, cost.strip_suffix(" ns")?.parse().ok()?))
    };
    printed.lines().filter_map(cost).collect()
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Program {
    name: String,
    runs: u64,
    nanoseconds: u64,
}

/// Every classifier that the kernel holds, by id.
fn programs() -> Result<BTreeMap<u64, Program>> {
    parse(&repo::output(Command::new("bpftool").args(["--json", "prog", "show"]))?)
}

fn parse(json: &str) -> Result<BTreeMap<u64, Program>> {
    let list: Value = serde_json::from_str(json).context("bpftool prints no JSON")?;
    let list = list.as_array().context("bpftool prints no list of programs")?;
    let number = |program: &Value, key: &str| program.get(key).and_then(Value::as_u64).unwrap_or(0);
    let classifiers =
        list.iter().filter(|program| program.get("type").and_then(Value::as_str) == Some("sched_cls"));
    Ok(classifiers
        .map(|program| {
            let name = program.get("name").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
            let runs = number(program, "run_cnt");
            (number(program, "id"), Program { name, runs, nanoseconds: number(program, "run_time_ns") })
        })
        .collect())
}

/// The kernel's statistics, as they were before when dropped.
struct Statistics {
    before: String,
}

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("this kernel has no {SWITCH}"))?;
        fs::write(SWITCH, "1")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.before.trim()) {
            eprintln!("warning: {SWITCH} stays on: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{costs, parse};

    #[test]
    fn costs_are_read_from_among_other_lines() {
        let printed = "running 1 test\nunmatched IPv4: 96 ns\nmatched, 101 bytes: 300 ns\ntest it: ok ns\n";
        assert_eq!(costs(printed), [("unmatched IPv4", 96), ("matched, 101 bytes", 300)]);
    }

    #[test]
    fn classifiers_are_read_with_their_statistics_and_others_left_out() {
        let json = r#"[{"id":7,"type":"sched_cls","name":"tap","run_time_ns":900,"run_cnt":3},
                       {"id":8,"type":"kprobe","name":"other","run_time_ns":1,"run_cnt":1},
                       {"id":9,"type":"sched_cls"}]"#;
        let programs = parse(json).expect("JSON");
        assert_eq!(programs.keys().copied().collect::<Vec<_>>(), [7, 9]);
        assert_eq!((programs[&7].runs, programs[&7].nanoseconds), (3, 900));
        assert_eq!(programs[&9].runs, 0);
    }
}
