//! What needs the kernel's own calls: entering a namespace between fork and exec, small BPF programs of foreign
//! owners, TUN devices. The only unsafe code of the lab.
//!
//! Over 400 lines: hand-assembled programs and the system calls that load and attach them, in the one
//! module of the lab with unsafe code.
#![allow(unsafe_code, reason = "bpf(2), ioctl(2) and pre_exec have no safe form")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

/// Makes the child enter the namespace behind `netns` and become `uid` before it runs its program. It is killed when
/// the thread that started it ends.
pub fn enter_on_exec(command: &mut Command, netns: Option<RawFd>, uid: Option<u32>) {
    // Ctrl-C at a terminal is for the lab, which then ends its children in order.
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec and only makes system calls, which are async-signal-safe; it
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Whatever this process holds back (the demo waits for Ctrl-C), the child must hear.
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            if let Some(fd) = netns {
                setns(BorrowedFd::borrow_raw(fd), CloneFlags::CLONE_NEWNET)?;
            }
            if let Some(uid) = uid {
                nix::unistd::setgid(uid.into())?;
                nix::unistd::setuid(uid.into())?;
                // setuid clears the parent-death signal.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            }
            Ok(())
        });
    }
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets that come in.
    Ingress,
    /// Packets that leave.
    Egress,
}

impl Hook {
    /// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => 46,
            Self::Egress => 47,
        }
    }

    /// As `tc filter` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Verdict that lets the next program of a TCX chain run.
pub const NEXT: i32 = -1;
/// Verdict that ends the chain and lets the packet pass.
pub const PASS: i32 = 0;

/// A BPF program that belongs to somebody else than the mirror.
#[derive(Debug)]
pub struct Foreign {
    program: OwnedFd,
    seen: Option<OwnedFd>,
}

/// What a counting program saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Packets.
    pub packets: u64,
    /// Length of the longest, bytes.
    pub longest: u64,
}

impl Foreign {
    /// Counts packets and returns `verdict`.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn counting(verdict: i32) -> io::Result<Self> {
        Self::counting_if(&[], verdict)
    }

    /// Counts packets with a VLAN tag that the kernel holds beside the bytes, and lets the next program run.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn counting_tags_beside() -> io::Result<Self> {
        let untagged = [
            insn(0x61, 2, 1, 20, 0), // r2 = skb->vlan_present
            insn(0x55, 2, 0, 2, 0),  // if r2 != 0 goto the counting
            mov(0, NEXT),
            exit(),
        ];
        Self::counting_if(&untagged, NEXT)
    }

    /// Counts what `filter` does not end; it may change r0 and r2.
    fn counting_if(filter: &[[u8; 8]], verdict: i32) -> io::Result<Self> {
        let mut attr = Attr::default();
        // An array of one value of two u64: packets, longest.
        attr.u32(0, 2).u32(4, 4).u32(8, 16).u32(12, 1);
        let map = attr.call_fd(MAP_CREATE)?;
        let code = [
            mov_reg(6, 1),
            insn(0x62, 10, 0, -4, 0), // *(u32 *)(r10 - 4) = 0
            mov_reg(2, 10),
            insn(0x07, 2, 0, 0, -4),              // r2 += -4
            insn(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map, two slots
            insn(0, 0, 0, 0, 0),
            call(1),                // bpf_map_lookup_elem
            insn(0x15, 0, 0, 6, 0), // if r0 == 0 goto out
            mov(1, 1),
            insn(0xdb, 0, 1, 0, 0), // lock *(u64 *)(r0 + 0) += r1
            insn(0x61, 1, 6, 0, 0), // r1 = skb->len
            insn(0x79, 2, 0, 8, 0), // r2 = *(u64 *)(r0 + 8)
            insn(0xbd, 1, 2, 1, 0), // if r1 <= r2 goto out
            insn(0x7b, 0, 1, 8, 0), // *(u64 *)(r0 + 8) = r1
            mov(0, verdict),
            exit(),
        ];
        Ok(Self { program: load(&[filter, &code].concat())?, seen: Some(map) })
    }

    /// Pushes a VLAN tag on every packet. `ethertype` is 0x8100 or 0x88a8.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn vlan_push(ethertype: u16, tag: u16) -> io::Result<Self> {
        let code = [
            mov(2, i32::from(ethertype.to_be())),
            mov(3, i32::from(tag)),
            call(18), // bpf_skb_vlan_push
            mov(0, NEXT),
            exit(),
        ];
        Ok(Self { program: load(&code)?, seen: None })
    }

    /// Takes one VLAN tag off every packet that has one.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn vlan_pop() -> io::Result<Self> {
        let code = [call(19), mov(0, NEXT), exit()]; // bpf_skb_vlan_pop
        Ok(Self { program: load(&code)?, seen: None })
    }

    /// Attaches by a TCX link, at the head of the chain or at its end. Dropping the link detaches. Must run in the
    /// interface's namespace.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn attach_tcx(&self, ifindex: u32, hook: Hook, first: bool) -> io::Result<OwnedFd> {
        const BEFORE: u32 = 1 << 3;
        const AFTER: u32 = 1 << 4;
        let mut attr = Attr::default();
        attr.fd(0, &self.program)
            .u32(4, ifindex)
            .u32(8, hook.attach_type())
            .u32(12, if first { BEFORE } else { AFTER });
        attr.call_fd(LINK_CREATE)
    }

    /// Pins it at `path`, on a BPF file system.
    ///
    /// # Errors
    /// What bpf(2) said.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let mut attr = Attr::default();
        attr.pointer(0, path.as_ptr().cast()).fd(8, &self.program);
        attr.call(OBJ_PIN).map(drop)
    }

    /// What a counting program saw so far.
    ///
    /// # Errors
    /// When it does not count, or what bpf(2) said.
    pub fn seen(&self) -> io::Result<Seen> {
        let map = self.seen.as_ref().ok_or_else(|| io::Error::other("this program does not count"))?;
        let key = 0_u32;
        let mut value = [0_u64; 2];
        let mut attr = Attr::default();
        attr.fd(0, map).pointer(8, (&raw const key).cast()).pointer(16, (&raw mut value).cast_const().cast());
        attr.call(MAP_LOOKUP_ELEM)?;
        Ok(Seen { packets: value[0], longest: value[1] })
    }
}

/// Ids of the programs in a TCX chain, in order. Must run in the interface's namespace.
///
/// # Errors
/// What bpf(2) said.
pub fn tcx_chain(ifindex: u32, hook: Hook) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut attr = Attr::default();
    attr.u32(0, ifindex)
        .u32(4, hook.attach_type())
        .pointer(16, (&raw mut ids).cast_const().cast())
        .u32(24, 64);
    attr.call(PROG_QUERY)?;
    let count = attr.read_u32(24) as usize;
    Ok(ids.into_iter().take(count).collect())
}

/// A TUN device (no link-layer header) of the calling thread's namespace; its file carries IP packets.
///
/// # Errors
/// What open(2) or ioctl(2) said.
pub fn tun(name: &str) -> io::Result<File> {
    const IFF_TUN: i16 = 0x0001;
    const IFF_NO_PI: i16 = 0x1000;
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::other("interface name too long"));
    }
    // struct ifreq: the name, then a union of 24 bytes that begins with the flags.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a struct ifreq (40 bytes on 64-bit), which `request` is as large as.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// Lets IPv4 segments of `device` grow to `bytes` (`gso_ipv4_max_size`, `gro_ipv4_max_size`, since 6.3). Must run in the
/// device's namespace.
///
/// # Errors
/// What rtnetlink said.
pub fn set_big_tcp_v4(device: &str, bytes: u32) -> io::Result<()> {
    use socket2::{Domain, Protocol, Socket, Type};
    const SETLINK: u16 = 19;
    const REQUEST_ACK: u16 = 5;
    const GSO_IPV4_MAX_SIZE: u16 = 63;
    const GRO_IPV4_MAX_SIZE: u16 = 64;
    let index = nix::net::if_::if_nametoindex(device)?;
    // struct nlmsghdr, struct ifinfomsg, two attributes of 8 bytes.
    let mut message = Vec::with_capacity(48);
    message.extend_from_slice(&48_u32.to_ne_bytes());
    message.extend_from_slice(&SETLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&index.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    for attribute in [GSO_IPV4_MAX_SIZE, GRO_IPV4_MAX_SIZE] {
        message.extend_from_slice(&8_u16.to_ne_bytes());
        message.extend_from_slice(&attribute.to_ne_bytes());
        message.extend_from_slice(&bytes.to_ne_bytes());
    }
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    socket.send(&message)?;
    let mut answer = [0; 1024];
    let n = crate::client::uninterrupted(|| io::Read::read(&mut &socket, &mut answer))?;
    // struct nlmsgerr begins with a negated errno, 0 for an acknowledgement.
    let code = answer
        .get(16..20)
        .filter(|_| n >= 20)
        .ok_or_else(|| io::Error::other("short answer of rtnetlink"))?;
    match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// Sends `count` TCP SYNs to `to` from inside the calling thread's namespace, each from another invented IPv4 address
/// in `10.99.0.0/16` and another port. Stops early after `at_most`. How many were sent.
///
/// # Errors
/// When the raw socket cannot be made (root is needed).
pub fn spoofed_syns(to: std::net::SocketAddrV4, count: u32, at_most: std::time::Duration) -> io::Result<u32> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    let start = std::time::Instant::now();
    let target = std::net::SocketAddr::from((*to.ip(), 0)).into();
    let mut sent = 0;
    for n in 0..count {
        if n % 1024 == 0 && start.elapsed() > at_most {
            break;
        }
        let [_, _, high, low] = n.to_be_bytes();
        let source = [10, 99, high, low];
        let port = 1024 + u16::try_from(n / 65_536 * 7 % 60_000).unwrap_or(0);
        let packet = syn(source, to.ip().octets(), port, to.port(), n.wrapping_mul(2_654_435_761));
        // A full device queue is no reason to end; such a packet does not count.
        sent += u32::from(socket.send_to(&packet, &target).is_ok());
    }
    Ok(sent)
}

/// An IPv4 packet with a TCP SYN. The kernel fills in the IP checksum.
fn syn(source: [u8; 4], target: [u8; 4], from: u16, to: u16, seq: u32) -> [u8; 40] {
    let mut packet = [0_u8; 40];
    packet[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&target);
    packet[20..22].copy_from_slice(&from.to_be_bytes());
    packet[22..24].copy_from_slice(&to.to_be_bytes());
    packet[24..28].copy_from_slice(&seq.to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    // Pseudo header (protocol 6, 20 bytes), addresses and segment (RFC 9293 section 3.1).
    let mut sum: u32 = 6 + 20;
    for pair in packet[12..].chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    packet[36..38].copy_from_slice(&[high, low]);
    packet
}

/// Bytes sent on a TCP socket that its peer has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// What ioctl(2) said.
pub fn unacknowledged(socket: &impl AsRawFd) -> io::Result<i32> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(waiting) }
}

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;

/// `union bpf_attr`, filled by offset. Pointers in it must outlive the call.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Default for Attr {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attr {
    fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(&mut self, at: usize, fd: &OwnedFd) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
        self
    }

    fn pointer(&mut self, at: usize, to: *const libc::c_void) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&(to as usize).to_ne_bytes());
        self
    }

    fn read_u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<RawFd> {
        // SAFETY: the attribute is as large as said; what it points to is owned by the callers, which outlive the call
        // and are as large as the command writes.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            RawFd::try_from(done).map_err(io::Error::other)
        }
    }

    fn call_fd(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: these commands return a new descriptor, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn load(code: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let code: Vec<u8> = code.concat();
    let count = u32::try_from(code.len() / 8).map_err(io::Error::other)?;
    let mut log = vec![0_u8; 16 << 10];
    let mut attr = Attr::default();
    attr.u32(0, 3) // BPF_PROG_TYPE_SCHED_CLS
        .u32(4, count)
        .pointer(8, code.as_ptr().cast())
        .pointer(16, c"GPL".as_ptr().cast())
        .u32(24, 1)
        .u32(28, 16 << 10)
        .pointer(32, log.as_mut_ptr().cast_const().cast());
    attr.call_fd(PROG_LOAD).map_err(|err| {
        let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
        io::Error::other(format!("{err}: {}", String::from_utf8_lossy(said)))
    })
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
    let off = off.to_le_bytes();
    let imm = imm.to_le_bytes();
    [code, (src << 4) | dst, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
}

const fn mov(dst: u8, imm: i32) -> [u8; 8] {
    insn(0xb7, dst, 0, 0, imm)
}

const fn mov_reg(dst: u8, src: u8) -> [u8; 8] {
    insn(0xbf, dst, src, 0, 0)
}

const fn call(helper: i32) -> [u8; 8] {
    insn(0x85, 0, 0, 0, helper)
}

const fn exit() -> [u8; 8] {
    insn(0x95, 0, 0, 0, 0)
}
