//! Real TCP over a veth pair: segments that no hand-made frame can be, because the kernel puts them together itself (GSO,
//! paged, BIG TCP).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{LinkOrder, TcAttachType, tc::TcAttachOptions};
use mirror_agent::kernel::load::{L2, LoadConfig};
use mirror_common::record::{Direction, MAX_CAPTURE, tcp_flags};
use nix::sched::{CloneFlags, setns};

use super::bench::*;

const SENT: usize = 6 << 20;

/// Two namespaces and a veth pair between them, gone when dropped.
struct Lab {
    client: String,
    server: String,
}

impl Lab {
    fn new(big: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("mk{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Self { client: format!("{id}c"), server: format!("{id}s") };
        let (client, server) = (&lab.client, &lab.server);
        ip(&format!("netns add {client}"));
        ip(&format!("netns add {server}"));
        ip(&format!("-n {client} link add v0 type veth peer name v0 netns {server}"));
        for (space, host) in [(client, 1), (server, 2)] {
            ip(&format!("-n {space} addr add 10.77.0.{host}/24 dev v0"));
            ip(&format!("-n {space} addr add fd77::{host}/64 dev v0 nodad"));
            if big {
                // Of IPv6. The words for IPv4 are unknown to Debian 12's iproute2; its length of 0 is among the shapes.
                ip(&format!("-n {space} link set v0 gso_max_size 250000 gro_max_size 250000"));
            }
            ip(&format!("-n {space} link set v0 up"));
        }
        lab
    }

    /// Runs `work` on a thread inside a namespace.
    fn within<T: Send + 'static>(
        space: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/var/run/netns/{space}")).unwrap();
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in [&self.client, &self.server] {
            let _may_not_have_been_made = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where taps stand: at the server's end of the veth, or at both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taps {
    Server,
    Both,
}

/// Taps both hooks of `v0` in a namespace.
fn tap(space: &str, mut bench: Bench) -> Bench {
    let tapped = Lab::within(space, move || {
        let program = bench.loaded.programs.get_mut(L2).unwrap();
        for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
            let first = TcAttachOptions::TcxOrder(LinkOrder::first());
            program.attach_with_options("v0", hook, first).unwrap();
        }
        bench
    });
    tapped.join().unwrap()
}

/// Sends [`SENT`] bytes to `primary`, and gives what the taps saw. The answer is witnessed once, whatever became of it.
fn send_through(lab: &Lab, primary: &'static str, taps: Taps) -> (Vec<u8>, Vec<Record>) {
    let config = LoadConfig { ring_bytes: 64 << 20, ..config() };
    let mut bench = tap(&lab.server, Bench::new(config, &[(primary, JOB)]));
    if taps == Taps::Both {
        bench = tap(&lab.client, bench);
    }
    let server = Lab::within(&lab.server, move || {
        let listener = TcpListener::bind(primary).unwrap();
        move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            socket.read_to_end(&mut all).unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            all
        }
    });
    let server = std::thread::spawn(server.join().unwrap());
    let sent: Vec<u8> =
        (0..SENT as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let client = Lab::within(&lab.client, {
        let sent = sent.clone();
        move || {
            let mut socket = TcpStream::connect(primary).unwrap();
            socket.write_all(&sent).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            answer
        }
    });
    assert!(client.join().unwrap().starts_with(b"HTTP/1.1 200"));
    assert!(server.join().unwrap() == sent, "the primary itself got what was sent");
    // The taps are still there, and TCP may send something again at any time: from here on nothing matches.
    bench.loaded.primaries.replace(&BTreeMap::new()).unwrap();
    let records = bench.take();

    // The law, at rest and with a ring that is large enough.
    let job = bench.job(JOB);
    let captured: u64 = records.iter().map(|record| u64::from(record.header.captured)).sum();
    assert_eq!(job.matched_bytes, captured + job.lost_in_ring_bytes);
    assert_eq!(job.lost_in_ring_bytes, 0);
    assert_eq!(job.witnessed, 1);
    (sent, records)
}

/// Sends until `enough` of the records that came, and gives those: how large segments grow depends on windows and so on
/// how busy the machine is, and one connection may stay small. What is sent has to arrive whole each time.
fn send_until(lab: &Lab, primary: &'static str, enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    for _ in 0..10 {
        let (sent, records) = send_through(lab, primary, Taps::Server);
        assert_whole(&sent, &records);
        if enough(&records) {
            return records;
        }
    }
    panic!("ten times no segment of the size that is wanted came by");
}

/// Puts the request direction together by sequence numbers, and checks that it is what was sent, from SYN to FIN. TCP may send
/// anything again, cut otherwise; each byte has to be there once at least, and each piece has to be right.
fn assert_whole(sent: &[u8], records: &[Record]) {
    let requests: Vec<&Record> =
        records.iter().filter(|record| record.header.direction == Direction::Request as u8).collect();
    let syn = requests[0];
    assert_eq!(syn.header.flags & tcp_flags::SYN, tcp_flags::SYN);
    let first = syn.header.seq.wrapping_add(1);
    // The longest piece at each place.
    let mut pieces = BTreeMap::new();
    for record in &requests {
        let is_syn = u32::from(record.header.flags & tcp_flags::SYN != 0);
        assert_eq!(record.header.len as usize, record.payload.len());
        let at = record.header.seq.wrapping_add(is_syn).wrapping_sub(first) as usize;
        let end = at + record.payload.len();
        assert!(sent.get(at..end).is_some_and(|part| part == record.payload), "bytes from {at} to {end}");
        assert!(
            record.header.flags & tcp_flags::FIN == 0 || end == sent.len(),
            "FIN on a piece that ends at {end}"
        );
        let longest = pieces.entry(at).or_insert(0);
        *longest = record.payload.len().max(*longest);
    }
    let mut end = 0;
    for (at, len) in pieces {
        assert!(at <= end, "nothing between {end} and {at}");
        end = end.max(at + len);
    }
    assert_eq!(end, sent.len());
    assert!(
        requests.iter().any(|record| record.header.flags & tcp_flags::FIN != 0),
        "a FIN on the last piece"
    );
    assert!(records.iter().any(|record| record.header.status == 200));
}

/// Records that follow one of the same segment. They have one time, which the first of them bears filled to the brim, and stand in
/// order; records of another CPU may stand between.
fn followers(records: &[Record]) -> usize {
    let mut last: BTreeMap<u64, &Record> = BTreeMap::new();
    let mut followers = 0;
    for record in records.iter().filter(|record| record.header.direction == Direction::Request as u8) {
        if let Some(before) = last.insert(record.header.time_ns, record) {
            assert_eq!(before.header.captured as usize, MAX_CAPTURE);
            assert_eq!(record.header.seq, before.header.seq.wrapping_add(before.header.captured));
            followers += 1;
        }
    }
    followers
}

#[test]
fn super_packets_are_captured_whole() {
    let lab = Lab::new(false);
    for primary in ["10.77.0.2:8080", "[fd77::2]:8080"] {
        let records =
            send_until(&lab, primary, |all| all.iter().any(|record| record.header.captured > 32_768));
        assert_eq!(followers(&records), 0, "none is longer than a record");
    }
}

#[test]
fn segments_beyond_64_kib_become_records_that_follow_each_other() {
    let lab = Lab::new(true);
    send_until(&lab, "[fd77::2]:8080", |all| followers(all) > 10);
}

/// How often the answer's head was told.
fn answers(records: &[Record]) -> usize {
    records.iter().filter(|record| record.header.status == 200).count()
}

#[test]
fn a_response_that_passes_two_taps_is_witnessed_once() {
    let lab = Lab::new(false);
    for primary in ["10.77.0.2:8080", "[fd77::2]:8080"] {
        let (sent, records) = send_through(&lab, primary, Taps::Both);
        assert_whole(&sent, &records);
        assert!(answers(&records) >= 2, "both taps tell of it");
    }
}

#[test]
fn a_response_that_tcp_sends_again_is_witnessed_once() {
    let lab = Lab::new(false);
    nft(&lab.client, "add table inet lab");
    nft(&lab.client, "add chain inet lab c { type filter hook input priority 0 ; }");
    // Longer than any segment without payload: the answer. The first is lost behind the tap, the second arrives, and so on.
    nft(&lab.client, "add rule inet lab c tcp sport 8080 meta length > 85 numgen inc mod 2 == 0 drop");
    for taps in [Taps::Server, Taps::Both] {
        let (sent, records) = send_through(&lab, "10.77.0.2:8080", taps);
        assert_whole(&sent, &records);
        assert!(answers(&records) >= 2, "it was sent twice");
    }
}

fn nft(space: &str, command: &str) {
    let mut nft = Command::new("ip");
    let output = nft.args(["netns", "exec", space, "nft"]).args(command.split(' ')).output().unwrap();
    assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
}
