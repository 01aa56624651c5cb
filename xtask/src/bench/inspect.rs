//! `mirror inspect --summary` on generated captures: bytes and requests a second on one core, from the page cache, and the
//! most memory it held.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mirror_tests::process::peak_memory;

use crate::repo;

/// Bytes of each generated file.
const FILE_BYTES: u64 = 1 << 30;
/// Runs of each; the best counts, because the file is in the page cache from the second on.
const RUNS: usize = 5;
/// Between two looks at the memory of a run.
const LOOK: Duration = Duration::from_millis(2);

/// One generated capture.
struct Case {
    name: &'static str,
    /// Body bytes of a request.
    body: usize,
    /// Payload of a segment, at most.
    segment: usize,
    connections: u16,
}

const CASES: [Case; 4] = [
    Case { name: "GET, no body, 100 connections", body: 0, segment: 1_448, connections: 100 },
    Case { name: "GET, no body, 20,000 connections", body: 0, segment: 1_448, connections: 20_000 },
    Case { name: "POST, 1 MiB, segments of 1,448 bytes", body: 1 << 20, segment: 1_448, connections: 10 },
    Case { name: "POST, 1 MiB, segments of 32 KiB", body: 1 << 20, segment: 32 << 10, connections: 10 },
];

pub(super) fn section() -> Result<String> {
    repo::say("measuring inspect");
    let dir = std::env::temp_dir().join(format!("mirror-bench-inspect-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let measured = rows(&dir);
    fs::remove_dir_all(&dir)?;
    Ok(format!(
        "## Captures\n\n`mirror inspect --summary` of generated captures of 1 GiB in the page cache, one thread. Each request is \
         answered; best of {RUNS} runs. GB/s counts the file.\n\n\
         | capture | requests | seconds | requests/s | GB/s | peak RSS |\n|---|---|---|---|---|---|\n{}",
        measured?
    ))
}

fn rows(dir: &Path) -> Result<String> {
    let mut rows = String::new();
    for case in &CASES {
        let path = dir.join("capture.pcap");
        let requests = generate(case, &path)?;
        let bytes = fs::metadata(&path)?.len();
        let mut best = f64::INFINITY;
        let mut peak = 0;
        for _ in 0..RUNS {
            let begun = Instant::now();
            let mut run = Command::new(repo::mirror_binary())
                .args(["inspect", "--summary", "--json"])
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot run mirror: `cargo xtask build` makes it")?;
            // A summary has room in the pipe: it ends without being read.
            while run.try_wait()?.is_none() {
                peak = peak.max(peak_memory(run.id()));
                std::thread::sleep(LOOK);
            }
            let run = run.wait_with_output()?;
            best = best.min(begun.elapsed().as_secs_f64());
            ensure!(run.status.success(), "inspect failed: {}", String::from_utf8_lossy(&run.stderr));
            let summary: serde_json::Value = serde_json::from_slice(&run.stdout)?;
            let complete = summary["requests"]["complete"].as_u64();
            ensure!(complete == Some(requests), "{complete:?} of {requests} requests were found");
            ensure!(summary["laws_hold"] == true, "the laws do not hold");
        }
        writeln!(
            rows,
            "| {} | {requests} | {best:.2} | {:.0} | {:.2} | {} MiB |",
            case.name,
            requests as f64 / best,
            bytes as f64 / best / 1e9,
            peak >> 20,
        )?;
        fs::remove_file(&path)?;
    }
    Ok(rows)
}

/// Writes a pcap of keep-alive connections that take turns, and gives how many requests are in it.
fn generate(case: &Case, path: &Path) -> Result<u64> {
    let mut file = Capture::new(path)?;
    let head = if case.body == 0 {
        "GET /api/v1/items/4711?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n".to_owned()
    } else {
        format!("POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n", case.body)
    };
    let mut request = head.into_bytes();
    request.resize(request.len() + case.body, b'x');
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut requests = 0;
    let mut seqs = vec![(1_000_u32, 5_000_u32); usize::from(case.connections)];
    for port in 0..case.connections {
        file.segment(port, true, 999, 0, 0x02, b"")?;
        file.segment(port, false, 4_999, 1_000, 0x12, b"")?;
    }
    while file.written < FILE_BYTES {
        for (port, (client, server)) in (0..).zip(&mut seqs) {
            for piece in request.chunks(case.segment) {
                file.segment(port, true, *client, *server, 0x18, piece)?;
                *client = client.wrapping_add(u32::try_from(piece.len())?);
            }
            file.segment(port, false, *server, *client, 0x18, response)?;
            *server = server.wrapping_add(u32::try_from(response.len())?);
            requests += 1;
        }
    }
    file.out.flush()?;
    Ok(requests)
}

struct Capture {
    out: BufWriter<File>,
    written: u64,
    time: u64,
}

impl Capture {
    fn new(path: &Path) -> Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { out, written: 24, time: 1_700_000_000_000_000_000 })
    }

    /// One packet, 2 µs after the one before.
    fn segment(
        &mut self,
        port: u16,
        client: bool,
        seq: u32,
        ack: u32,
        flags: u8,
        payload: &[u8],
    ) -> Result<()> {
        self.time += 2_000;
        let mut packet = [0_u8; 40];
        let total = u16::try_from(40 + payload.len())?;
        packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        let ends = [([10, 0, 0, 1], 10_000 + port), ([10, 0, 0, 2], 8080)];
        let [from, to] = if client { ends } else { [ends[1], ends[0]] };
        packet[12..16].copy_from_slice(&from.0);
        packet[16..20].copy_from_slice(&to.0);
        packet[20..22].copy_from_slice(&from.1.to_be_bytes());
        packet[22..24].copy_from_slice(&to.1.to_be_bytes());
        packet[24..28].copy_from_slice(&seq.to_be_bytes());
        packet[28..32].copy_from_slice(&ack.to_be_bytes());
        packet[32..36].copy_from_slice(&[0x50, flags, 0x20, 0]);
        let seconds = u32::try_from(self.time / 1_000_000_000)?;
        let fraction = u32::try_from(self.time % 1_000_000_000)?;
        for word in [seconds, fraction, u32::from(total), u32::from(total)] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&packet)?;
        self.out.write_all(payload)?;
        self.written += 16 + u64::from(total);
        Ok(())
    }
}
