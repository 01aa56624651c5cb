//! What a person or a program reads on standard output.
//!
//! A thread of its own writes: a pipe that nobody reads, or a terminal that was stopped by Ctrl-S, must hold up neither the
//! agent's sign of life nor its end.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context;

use crate::cli::report;
use crate::stats::{Rates, Snapshot};

/// Lines that wait for a reader; further ones are left out. Numbers are totals, so the next line says as much.
pub(super) const MAX_WAITING_LINES: usize = 16;
/// How long the last lines wait for a reader at the end.
pub(super) const LAST_WORDS_GRACE: Duration = Duration::from_millis(300);

/// The live line on a terminal, JSON lines otherwise.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
    lines: Sender<String>,
    waiting: Arc<AtomicUsize>,
    written: Receiver<()>,
}

impl Output {
    /// `json` asks for JSON on a terminal too.
    pub(super) fn new(json: bool) -> anyhow::Result<Self> {
        let json = json || !std::io::stdout().is_terminal();
        let (lines, queue) = channel::<String>();
        let (done, written) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let write_all = move || {
            for line in queue {
                // A closed standard output does not end the mirroring.
                let mut out = std::io::stdout().lock();
                let _closed = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                left.fetch_sub(1, Ordering::Relaxed);
            }
            let _nobody_waits = done.send(());
        };
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(write_all)
            .context("the thread that writes to standard output cannot start")?;
        Ok(Self { json, lines, waiting, written })
    }

    /// The taps are in place. With the seed that is shown the same choice can be made again.
    pub(super) fn ready(&self, snapshot: &Snapshot, seed: u64) {
        if self.json {
            self.print(report::ready_line(snapshot, seed) + "\n");
        } else {
            self.print(format!("sampling by --seed {seed}\n"));
            for tap in &snapshot.taps {
                let before = if tap.before.is_empty() {
                    String::new()
                } else {
                    format!(", after {}", tap.before.join(", "))
                };
                self.print(format!("tapped {} {} ({}){before}\n", tap.interface, tap.hook, tap.mode));
            }
        }
    }

    /// A second went by.
    pub(super) fn second(&self, snapshot: &Snapshot, rates: &Rates) {
        let text =
            if self.json { report::json_line("stats", snapshot) } else { report::live_line(snapshot, rates) };
        self.live(&text);
    }

    /// Everything has come to rest. Returns when it is written, or when nobody reads.
    pub(super) fn last(self, snapshot: &Snapshot) {
        let text =
            if self.json { report::json_line("final", snapshot) } else { report::final_table(snapshot) };
        self.end(&text);
    }

    /// Whether lines of JSON are asked for.
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// A line that must not be left out.
    pub(super) fn line(&self, text: &str) {
        self.print(format!("{text}\n"));
    }

    /// A line that the next one makes up for; on a terminal it stands in the place of the one before.
    pub(super) fn live(&self, text: &str) {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING_LINES {
            return;
        }
        // Back to the first column, rest of the line cleared.
        self.print(if self.json { format!("{text}\n") } else { format!("\r{text}\x1b[K") });
    }

    /// The last words. Returns when they are written, or when nobody reads.
    pub(super) fn end(self, text: &str) {
        let text = text.trim_end();
        self.print(if self.json { format!("{text}\n") } else { format!("\r\x1b[K{text}\n") });
        drop(self.lines);
        let _nobody_reads = self.written.recv_timeout(LAST_WORDS_GRACE);
    }

    fn print(&self, text: String) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _writer_is_gone = self.lines.send(text);
    }
}
