//! Captures made by tcpdump in a namespace, of real clients and servers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::eventually::wait_for;
use crate::mirror::binary;
use crate::netns::Namespace;
use crate::process::Process;
use crate::server::unique;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running tcpdump.
#[derive(Debug)]
pub struct Recording {
    process: Process,
    path: PathBuf,
}

impl Recording {
    /// Records what goes to and from `server` at its own interface, into a file in `folder`.
    ///
    /// # Errors
    /// When tcpdump does not come to listen.
    pub fn start(namespace: &Namespace, folder: &Path, server: SocketAddr) -> Result<Self> {
        let path = folder.join(format!("recorded-{}-{}.pcap", namespace.name(), unique()));
        let mut command = namespace.command("tcpdump");
        // At once: what waits in its buffer when it ends is lost.
        command.args(["-i", "eth0", "-U", "--immediate-mode", "-B", "65536", "-s", "0", "-Z", "root", "-w"]);
        command.arg(&path).args(["tcp", "port", &server.port().to_string()]);
        let process = Process::spawn("tcpdump", command)?;
        wait_for(PATIENCE, || {
            process.stderr().iter().any(|line| line.contains("listening on")).then_some(())
        })
        .with_context(|| format!("tcpdump does not listen: {:?}", process.stderr()))?;
        Ok(Self { process, path })
    }

    /// Ends it once `requests` whole ones with their answers are in the file, and every connection is over; the file.
    ///
    /// # Errors
    /// When that does not come to be.
    pub fn end(mut self, requests: u64) -> Result<PathBuf> {
        let mut last = Value::Null;
        let whole = wait_for(PATIENCE, || {
            last = summary(&self.path).ok()?;
            let n = |pointer: &str| last.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            (n("/requests/complete") >= requests && n("/responses/answered") >= requests).then_some(())
        });
        ensure!(whole.is_some(), "not in the capture: {requests} answered requests; there is {last}");
        self.process.signal(Signal::SIGINT);
        self.process.wait(PATIENCE).context("tcpdump does not end")?;
        Ok(self.path.clone())
    }
}

/// What `mirror inspect` counts in a capture.
///
/// # Errors
/// When it cannot be read.
pub fn summary(path: &Path) -> Result<Value> {
    let output = Command::new(binary()).args(["inspect", "--summary", "--json"]).arg(path).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packets of a little-endian pcap file with microseconds: where each record begins, and its time.
#[must_use]
pub fn records(pcap: &[u8]) -> Vec<(usize, u64)> {
    let word = |at: usize| u64::from(u32::from_le_bytes(pcap[at..at + 4].try_into().expect("four bytes")));
    let mut found = Vec::new();
    let mut at = 24;
    while at + 16 <= pcap.len() {
        found.push((at, word(at) * 1_000_000 + word(at + 4)));
        at += 16 + usize::try_from(word(at + 8)).expect("a length");
    }
    found
}

/// The same capture with the time of each record, microseconds, as `change` makes it of what it was.
#[must_use]
pub fn retimed(pcap: &[u8], change: impl Fn(u64) -> u64) -> Vec<u8> {
    let mut changed = pcap.to_vec();
    for (at, time) in records(pcap) {
        let time = change(time);
        for (place, value) in [(at, time / 1_000_000), (at + 4, time % 1_000_000)] {
            let value = u32::try_from(value).expect("a time of 32 bits");
            changed[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    changed
}
