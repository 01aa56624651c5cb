//! Child processes: their lines are kept, they are ended by pid, and a failing test prints what they said last.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::wait_for;

/// Lines kept of each stream; a process that says more loses its oldest.
const KEPT_LINES: usize = 4096;

type Lines = Arc<Mutex<VecDeque<String>>>;

/// A running (or ended) child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`. `name` is what a failing test calls it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let (stdout, one) = collect(child.stdout.take().context("stdout")?);
        let (stderr, two) = collect(child.stderr.take().context("stderr")?);
        Ok(Self { name: name.to_owned(), child, status: None, stdout, stderr, readers: vec![one, two] })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = i32::try_from(self.child.id()).expect("a pid is a positive i32");
            kill(Pid::from_raw(pid), signal).expect("signalling a child of ours");
        }
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("waiting for a child of ours");
        }
        self.status
    }

    /// Waits until it has ended, `patience` at most.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait_for(patience, || self.ended())
    }

    /// Waits until it has ended and everything it said was read, `patience` at most: exit status, stdout, stderr.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self, patience: Duration) -> Result<(ExitStatus, Vec<String>, Vec<String>)> {
        let status =
            self.wait(patience).with_context(|| format!("{} does not end within {patience:?}", self.name))?;
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        Ok((status, self.stdout(), self.stderr()))
    }

    /// Kills it and waits.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _signalled = self.wait(Duration::from_secs(5));
    }

    /// Lines of stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        snapshot(&self.stdout)
    }

    /// Lines of stderr so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        snapshot(&self.stderr)
    }

    /// Waits for a line of stdout of which `find` makes something.
    ///
    /// # Errors
    /// When it ended or `patience` is over before; the error holds its last words.
    pub fn wait_line<T>(&mut self, patience: Duration, mut find: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let found = wait_for(patience, || {
            // Looked at before the lines: what it said last must not be missed.
            let all_said = self.ended().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            let hit = self.stdout().iter().find_map(|line| find(line));
            if hit.is_none() && all_said { Some(None) } else { hit.map(Some) }
        });
        found.flatten().with_context(|| {
            let tail = |lines: Vec<String>| {
                lines.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join("\n  ")
            };
            format!(
                "{} did not say what was waited for, for {patience:?} or until its end (ended: {:?})\n  {}\n  {}",
                self.name,
                self.status,
                tail(self.stdout()),
                tail(self.stderr())
            )
        })
    }

    /// Peak resident memory (`VmHWM`), bytes; 0 when it has ended.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid())
    }

    /// CPU time used so far, in clock ticks of 10 ms; 0 when it has ended.
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for (stream, lines) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                for line in last_words(&lines, 20) {
                    eprintln!("# {} {stream}: {line}", self.name);
                }
            }
        }
    }
}

fn collect(stream: impl Read + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(std::io::Result::ok) {
            let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(String::from_utf8_lossy(&line).into_owned());
        }
    });
    (lines, reader)
}

/// The last lines, each cut to what a person reads.
fn last_words(lines: &[String], count: usize) -> Vec<String> {
    const WIDTH: usize = 300;
    lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| line.chars().take(WIDTH).collect())
        .collect()
}

fn snapshot(lines: &Lines) -> Vec<String> {
    lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// The most memory that process `pid` had resident so far (`VmHWM`), bytes; 0 when it has ended.
#[must_use]
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
