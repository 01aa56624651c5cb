//! The tap in the kernel, run by `PROG_TEST_RUN`: what a packet costs it.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::SocketAddr;

use aya::programs::{TestRun as _, TestRunOptions};
use mirror_agent::kernel::counters::Counters;
use mirror_agent::kernel::load::{LoadConfig, Loaded};
use mirror_common::counter::{JobCounters, TapCounter, TapCounters};
use mirror_common::record::{Direction, RecordHeader};

use super::frame::Frame;

/// A loaded tap and the means to look at all it does.
pub(crate) struct Bench {
    pub loaded: Loaded,
}

/// One record as it came out of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub header: RecordHeader,
    pub payload: Vec<u8>,
    pub shard: usize,
}

impl Bench {
    pub(crate) fn new(config: LoadConfig, primaries: &[(&str, u16)]) -> Self {
        // RUST_LOG=mirror_agent=debug shows the verifier's log, and RUST_LOG=mirror::bpf=trace the program's own.
        let _only_the_first = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let mut loaded = Loaded::load(&config).unwrap_or_else(|error| panic!("{error}"));
        loaded.primaries.replace(&wanted(primaries)).unwrap();
        Self { loaded }
    }

    /// One shard, 1 MiB, one primary of each family.
    pub(crate) fn plain() -> Self {
        Self::new(config(), &[(PRIMARY, JOB), (PRIMARY6, JOB)])
    }

    /// Runs a frame through the Ethernet program.
    pub(crate) fn send(&mut self, frame: &Frame) {
        self.send_bytes("mirror_l2", &frame.bytes());
    }

    /// Runs bytes through a program; the verdict has to be "let the next program run".
    pub(crate) fn send_bytes(&mut self, program: &str, bytes: &[u8]) {
        let verdict = self.run(program, bytes, 1).0;
        assert_eq!(verdict, -1, "TC_ACT_UNSPEC, whatever the packet: {bytes:02x?}");
    }

    /// Verdict, and the mean of `repeat` runs in nanoseconds.
    pub(crate) fn run(&mut self, program: &str, bytes: &[u8], repeat: u32) -> (i32, u64) {
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.repeat = repeat;
        let program = self.loaded.programs.get_mut(program).unwrap();
        let result = program.test_run(options).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        (result.return_value.cast_signed(), u64::try_from(result.duration.as_nanos()).unwrap())
    }

    /// All that waits in the rings.
    pub(crate) fn take(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for ring in &mut self.loaded.rings {
            let shard = ring.shard();
            let drained = ring.drain(usize::MAX, |bytes| records.push(Record::parse(bytes, shard)));
            assert!(!drained.more);
            assert_eq!(ring.fill(), 0);
        }
        records
    }

    /// Runs a frame that has to make exactly one record.
    pub(crate) fn one(&mut self, frame: &Frame) -> Record {
        self.send(frame);
        let records = self.take();
        assert_eq!(records.len(), 1, "{frame:?}: {records:?}");
        records.into_iter().next().unwrap()
    }

    /// Runs a frame that has to make no record, and raise only `counter`, or none at all.
    pub(crate) fn none(&mut self, frame: &Frame, counter: Option<TapCounter>) {
        self.none_bytes("mirror_l2", &frame.bytes(), counter);
    }

    pub(crate) fn none_bytes(&mut self, program: &str, bytes: &[u8], counter: Option<TapCounter>) {
        let before = self.tap();
        self.send_bytes(program, bytes);
        assert_eq!(self.take(), [], "{bytes:02x?}");
        let mut expected = before;
        if let Some(counter) = counter {
            expected.values[counter as usize] += 1;
        }
        assert_eq!(named(self.tap()), named(expected), "{bytes:02x?}");
    }

    pub(crate) fn tap(&self) -> TapCounters {
        self.loaded.counters.tap().unwrap()
    }

    pub(crate) fn count(&self, counter: TapCounter) -> u64 {
        self.tap().values[counter as usize]
    }

    pub(crate) fn job(&self, slot: u16) -> JobCounters {
        let counters: &Counters = &self.loaded.counters;
        counters.job(slot).unwrap()
    }
}

impl Record {
    fn parse(bytes: &[u8], shard: usize) -> Self {
        let u16_at = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let header = RecordHeader {
            time_ns: u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
            src_addr: bytes[8..24].try_into().unwrap(),
            dst_addr: bytes[24..40].try_into().unwrap(),
            src_port: u16_at(offset_of!(RecordHeader, src_port)),
            dst_port: u16_at(offset_of!(RecordHeader, dst_port)),
            seq: u32_at(offset_of!(RecordHeader, seq)),
            ack: u32_at(offset_of!(RecordHeader, ack)),
            len: u32_at(offset_of!(RecordHeader, len)),
            captured: u32_at(offset_of!(RecordHeader, captured)),
            hash: u32_at(offset_of!(RecordHeader, hash)),
            ifindex: u32_at(offset_of!(RecordHeader, ifindex)),
            window: u16_at(offset_of!(RecordHeader, window)),
            job: u16_at(offset_of!(RecordHeader, job)),
            status: u16_at(offset_of!(RecordHeader, status)),
            flags: bytes[offset_of!(RecordHeader, flags)],
            direction: bytes[offset_of!(RecordHeader, direction)],
            minor: bytes[76],
            reserved: bytes[77..80].try_into().unwrap(),
        };
        let payload = bytes[RecordHeader::SIZE..][..header.captured as usize].to_vec();
        Self { header, payload, shard }
    }

    /// Asserts every field of the header but time and hash, and the payload, against the frame it was made from.
    pub(crate) fn assert_is(&self, frame: &Frame, direction: Direction, status: u16) {
        let captured = if direction == Direction::Request { frame.payload.as_slice() } else { &[] };
        let expected = RecordHeader {
            time_ns: self.header.time_ns,
            src_addr: octets(frame.src),
            dst_addr: octets(frame.dst),
            src_port: frame.src.port(),
            dst_port: frame.dst.port(),
            seq: frame.seq,
            ack: frame.ack,
            len: u32::try_from(frame.payload.len()).unwrap(),
            captured: u32::try_from(captured.len()).unwrap(),
            hash: self.header.hash,
            // PROG_TEST_RUN lends the loopback device of the caller's namespace.
            ifindex: 1,
            window: frame.window,
            job: JOB,
            status,
            flags: frame.flags,
            direction: direction as u8,
            minor: if status == 0 { 0 } else { frame.payload[7] },
            reserved: [0; 3],
        };
        assert_eq!(self.header, expected);
        assert_eq!(self.payload, captured);
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        let age = std::time::Duration::from(now).as_nanos().abs_diff(self.header.time_ns.into());
        assert!(age < 60_000_000_000, "the kernel's monotonic clock: {age} ns ago");
    }
}

/// Counters that are not 0, by name.
pub(crate) fn named(counters: TapCounters) -> BTreeMap<&'static str, u64> {
    TapCounter::ALL
        .iter()
        .map(|(counter, name)| (*name, counters.values[*counter as usize]))
        .filter(|(_, value)| *value > 0)
        .collect()
}

pub(crate) fn wanted(primaries: &[(&str, u16)]) -> BTreeMap<SocketAddr, u16> {
    primaries.iter().map(|(address, job)| (address.parse().unwrap(), *job)).collect()
}

fn octets(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

pub(crate) fn config() -> LoadConfig {
    LoadConfig { shards: 1, ring_bytes: 1 << 20, seed: 7, needs_heartbeat: false, log: false }
}

pub(crate) const JOB: u16 = 5;
pub(crate) const PRIMARY: &str = "10.1.2.3:8080";
pub(crate) const CLIENT: &str = "10.9.8.7:40001";
pub(crate) const PRIMARY6: &str = "[2001:db8::1]:8080";
pub(crate) const CLIENT6: &str = "[2001:db8::9]:40001";
