//! Into the ring: which segments make records, how large, and whether the reader is to be woken.
//!
//! The law's kernel half is kept here: a payload byte of the request direction is in `matched_bytes` once, and then either
//! in a submitted record or in `lost_in_ring_bytes`.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ringbuf_query};
use core::ptr;
use mirror_common::counter::TapCounter;
use mirror_common::map::ShardState;
use mirror_common::record::{Direction, MAX_CAPTURE, RecordHeader, STATUS_LINE, tcp_flags};
use mirror_ebpf::capacity::{CLASSES, MAX_RECORDS};
use mirror_ebpf::{hash, witness};

use crate::headers::Segment;
use crate::maps::{CONFIG, RINGS, Ring, SHARDS, WITNESS, count, job_counters, tap_counters};
use crate::observe::Skip;
use crate::packet::{Aligned, Packet};

const MAX: u32 = MAX_CAPTURE as u32;
/// Records of at least this much look how full the ring is; in a ring below [`SMALL_RING`] all do.
const BIG_RECORD: u32 = 4096;
const SMALL_RING: u32 = 1 << 20;

/// What the status line says with which a response segment begins; zeros if it begins with none.
#[derive(Clone, Copy)]
struct Status {
    code: u16,
    /// Last digit of the version, ASCII.
    minor: u8,
}

impl Status {
    const NONE: Self = Self { code: 0, minor: 0 };
}

/// What was told, or tried to be.
pub(crate) struct Emitted {
    pub(crate) job: u16,
    /// TCP payload of the segment.
    pub(crate) bytes: u32,
}

/// Request direction: all of the payload, and the segments that open or end a connection.
#[inline(always)]
pub(crate) fn request(packet: Packet, segment: &Segment, job: u16) -> Result<Emitted, Skip> {
    let len = segment.payload_len;
    let counters = job_counters(job).ok_or(Skip::Unmatched)?;
    if len == 0 && segment.flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) == 0 {
        return Err(Skip::Counted(TapCounter::PureAcks));
    }
    let tap = tap_counters().ok_or(Skip::Unmatched)?;
    counters.matched_bytes += u64::from(len);
    let Some(out) = Out::new(packet, segment, job, flow_hash(segment), Direction::Request, Status::NONE)
    else {
        counters.lost_in_ring_bytes += u64::from(len);
        return Err(Skip::Counted(TapCounter::RingFull));
    };
    if len == 0 && segment.flags & tcp_flags::SYN != 0 && out.waiting() > CONFIG.load().ring_bytes / 4 {
        return Err(Skip::Counted(TapCounter::SynShed));
    }

    let mut piece = Piece {
        at: segment.payload_at,
        len: MAX,
        seq: segment.seq,
        flags: segment.flags & !(tcp_flags::FIN | tcp_flags::RST),
    };
    // What became of a piece goes to the counters at once. Summed up in registers, each sum would be a state of its own for
    // the verifier, through all that follows.
    let mut rest = len;
    for _ in 1..MAX_RECORDS {
        if rest <= MAX {
            break;
        }
        if put::<MAX_CAPTURE>(&out, piece) {
            tap.values[TapCounter::RequestRecords as usize] += 1;
        } else {
            tap.values[TapCounter::RingFull as usize] += 1;
            counters.lost_in_ring_bytes += u64::from(MAX);
        }
        rest -= MAX;
        piece = piece.next();
    }
    piece.len = rest;
    piece.flags |= segment.flags & (tcp_flags::FIN | tcp_flags::RST);
    if put_smallest(&out, piece) {
        tap.values[TapCounter::RequestRecords as usize] += 1;
    } else {
        tap.values[TapCounter::RingFull as usize] += 1;
        counters.lost_in_ring_bytes += u64::from(rest);
    }
    out.wake(len >= BIG_RECORD);
    Ok(Emitted { job, bytes: len })
}

/// Response direction: heads and ends only, without payload.
#[inline(always)]
pub(crate) fn response(packet: Packet, segment: &Segment, job: u16) -> Result<Emitted, Skip> {
    let len = segment.payload_len;
    let counters = job_counters(job).ok_or(Skip::Unmatched)?;
    let status = status(packet, segment);
    if status.code == 0 && segment.flags & (tcp_flags::FIN | tcp_flags::RST) == 0 {
        let nothing_to_tell = if len > 0 { TapCounter::ResponseBodies } else { TapCounter::PureAcks };
        return Err(Skip::Counted(nothing_to_tell));
    }
    let hash = flow_hash(segment);
    let is_new = is_final(status.code) && is_first(hash, segment.seq);
    if is_new {
        counters.witnessed += 1;
    }
    // A head that comes again is told again: the first one's record may have been lost. Who reads it knows the numbers.
    let piece = Piece { at: 0, len: 0, seq: segment.seq, flags: segment.flags };
    let Some(out) =
        Out::new(packet, segment, job, hash, Direction::Response, status).filter(|out| put::<0>(out, piece))
    else {
        if is_new {
            counters.responses_lost_in_ring += 1;
        }
        return Err(Skip::Counted(TapCounter::RingFull));
    };
    count(TapCounter::ResponseRecords);
    out.wake(false);
    Ok(Emitted { job, bytes: len })
}

/// Status and version if the payload begins a response head (RFC 9112 section 4).
#[inline(always)]
fn status(packet: Packet, segment: &Segment) -> Status {
    if segment.payload_len < STATUS_LINE as u32 {
        return Status::NONE;
    }
    let mut line = Aligned::<STATUS_LINE>::new();
    let Some(line) = packet.copy(segment.payload_at, &mut line) else { return Status::NONE };
    let version = line.be32::<4>();
    let digits = [line.u8::<9>(), line.u8::<10>(), line.u8::<11>()];
    if line.be32::<0>() != u32::from_be_bytes(*b"HTTP")
        || version >> 8 != u32::from_be_bytes(*b"\0/1.")
        || !(version as u8).is_ascii_digit()
        || line.u8::<8>() != b' '
        || digits[0] == b'0'
        || !digits[0].is_ascii_digit()
        || !digits[1].is_ascii_digit()
        || !digits[2].is_ascii_digit()
    {
        return Status::NONE;
    }
    let digit = |at: usize| u16::from(digits[at] & 0x0f);
    Status { code: digit(0) * 100 + digit(1) * 10 + digit(2), minor: version as u8 }
}

/// 101 ends the HTTP of a connection, so it is the last word on its request.
#[inline(always)]
const fn is_final(status: u16) -> bool {
    status >= 200 || status == 101
}

/// Asked for final response heads only.
#[inline(always)]
fn is_first(hash: u32, seq: u32) -> bool {
    // There always is a bucket; the verifier wants it checked.
    WITNESS.get(witness::bucket(hash)).is_none_or(|bucket| witness::is_first(bucket, hash, seq))
}

#[inline(always)]
fn flow_hash(segment: &Segment) -> u32 {
    hash::flow((segment.src.addr, segment.src.port), (segment.dst.addr, segment.dst.port), CONFIG.load().seed)
}

/// The ring of a segment's shard, and what all its records have in common.
struct Out<'a> {
    packet: Packet,
    segment: &'a Segment,
    ring: &'static Ring,
    state: *mut ShardState,
    time: u64,
    hash: u32,
    ifindex: u32,
    job: u16,
    status: Status,
    direction: Direction,
}

/// The part of a segment that one record carries.
#[derive(Clone, Copy)]
struct Piece {
    at: u32,
    len: u32,
    seq: u32,
    flags: u8,
}

impl Piece {
    /// The piece behind a full one. A SYN takes a sequence number of its own and stands on the first piece only.
    #[inline(always)]
    fn next(self) -> Self {
        let syn = u32::from(self.flags & tcp_flags::SYN != 0);
        Self {
            at: self.at + self.len,
            len: self.len,
            seq: self.seq.wrapping_add(self.len + syn),
            flags: self.flags & !tcp_flags::SYN,
        }
    }
}

impl<'a> Out<'a> {
    #[inline(always)]
    fn new(
        packet: Packet,
        segment: &'a Segment,
        job: u16,
        hash: u32,
        direction: Direction,
        status: Status,
    ) -> Option<Self> {
        let shard = hash::shard(hash, CONFIG.load().shards);
        let state = SHARDS.get_ptr_mut(shard)?;
        let ring = RINGS.get(shard)?;
        // SAFETY: a helper without arguments.
        let time = unsafe { bpf_ktime_get_ns() };
        let ifindex = packet.ifindex();
        Some(Self { packet, segment, ring, state, time, hash, ifindex, job, status, direction })
    }

    /// Bytes in the ring that are not read yet.
    #[inline(always)]
    fn waiting(&self) -> u32 {
        let ring = ptr::from_ref(self.ring).cast_mut().cast();
        // SAFETY: a ring map.
        unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) as u32 }
    }

    /// Wakes a reader that sleeps, or one that would come too late.
    ///
    /// The reader goes to sleep by setting `asleep`, a full fence, and a look at the ring. Here a record is submitted,
    /// which has a full barrier, then `asleep` is read: one of the two sees the other. Each 0 that is written here is
    /// followed by a wake-up, so that a reader that sets it to 1 again meanwhile is woken once too often, never too seldom.
    #[inline(always)]
    fn wake(&self, big: bool) {
        let (asleep, pressed) = self.words();
        let ring_bytes = CONFIG.load().ring_bytes;
        // SAFETY: words of a map value; the reader writes them through its mapping.
        let (is_asleep, is_pressed) = unsafe { (asleep.read_volatile() != 0, pressed.read_volatile() != 0) };
        if is_asleep {
            self.nudge(asleep, 0, 1);
        } else if (big || ring_bytes < SMALL_RING) && !is_pressed && self.waiting() > ring_bytes / 2 {
            self.nudge(pressed, 1, 0);
        }
    }

    /// Marks that the reader is being woken, and wakes it by a record that it passes over. Takes the mark back if there
    /// is no room even for that.
    #[inline(always)]
    fn nudge(&self, mark: *mut u32, set: u32, unset: u32) {
        // SAFETY: as in `wake`.
        unsafe { mark.write_volatile(set) };
        if let Some(nudge) = self.ring.reserve_bytes(8, 0) {
            nudge.discard(u64::from(BPF_RB_FORCE_WAKEUP));
            count(TapCounter::WakeUps);
        } else {
            // SAFETY: as in `wake`.
            unsafe { mark.write_volatile(unset) };
        }
    }

    #[inline(always)]
    fn words(&self) -> (*mut u32, *mut u32) {
        // SAFETY: fields of the map value that `state` points to.
        unsafe { (&raw mut (*self.state).asleep, &raw mut (*self.state).pressed) }
    }
}

/// A record of the smallest class that holds the piece.
#[inline(always)]
fn put_smallest(out: &Out<'_>, piece: Piece) -> bool {
    macro_rules! first_that_fits {
        ($($class:literal)+) => {
            $(if piece.len <= CLASSES[$class] as u32 {
                return put::<{ CLASSES[$class] }>(out, piece);
            })+
        };
    }
    if piece.len == 0 {
        return put::<0>(out, piece);
    }
    if piece.len <= CLASSES[9] as u32 {
        first_that_fits!(0 1 2 3 4 5 6 7 8 9);
    } else {
        first_that_fits!(10 11 12 13 14 15 16 17 18 19);
    }
    false
}

/// Reserves, fills and submits one record with room for `N` payload bytes.
#[inline(always)]
fn put<const N: usize>(out: &Out<'_>, piece: Piece) -> bool {
    let Some(mut slot) = out.ring.reserve_bytes(RecordHeader::SIZE + N, 0) else { return false };
    let to = slot.as_mut_ptr();
    // SAFETY: the slot has room for a header, and the kernel aligns it to 8.
    unsafe { write_header(to.cast(), out, piece, if N == 0 { 0 } else { piece.len }) };
    if N > 0 {
        // One less than the length, from behind a barrier: so one comparison bounds it on both sides where every verifier
        // sees it, right before the call, and the compiler can neither drop nor reshape it.
        let last = core::hint::black_box(u64::from(piece.len).wrapping_sub(1));
        let copied = last < N as u64
            // SAFETY: N bytes stand behind the header.
            && unsafe { out.packet.copy_payload(piece.at, to.add(RecordHeader::SIZE), last as u32 + 1) };
        if !copied {
            slot.discard(u64::from(BPF_RB_NO_WAKEUP));
            return false;
        }
    }
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    true
}

/// # Safety
///
/// `to` is valid for writes and aligned to 8.
#[inline(always)]
unsafe fn write_header(to: *mut RecordHeader, out: &Out<'_>, piece: Piece, captured: u32) {
    let segment = out.segment;
    // SAFETY: the caller's promise; the addresses stand at multiples of 8.
    unsafe {
        (&raw mut (*to).time_ns).write(out.time);
        write_address((&raw mut (*to).src_addr).cast(), &segment.src.addr);
        write_address((&raw mut (*to).dst_addr).cast(), &segment.dst.addr);
        (&raw mut (*to).src_port).write(segment.src.port);
        (&raw mut (*to).dst_port).write(segment.dst.port);
        (&raw mut (*to).seq).write(piece.seq);
        (&raw mut (*to).ack).write(segment.ack);
        (&raw mut (*to).len).write(if captured == 0 { segment.payload_len } else { captured });
        (&raw mut (*to).captured).write(captured);
        (&raw mut (*to).hash).write(out.hash);
        (&raw mut (*to).ifindex).write(out.ifindex);
        (&raw mut (*to).window).write(segment.window);
        (&raw mut (*to).job).write(out.job);
        (&raw mut (*to).status).write(out.status.code);
        (&raw mut (*to).flags).write(piece.flags);
        (&raw mut (*to).direction).write(out.direction as u8);
        (&raw mut (*to).minor).write(out.status.minor);
        (&raw mut (*to).reserved).write([0; 3]);
    }
}

/// Word by word: as a whole the compiler would copy it by a call with a loop over bytes.
///
/// # Safety
///
/// `to` is valid for writes of four words and aligned to one.
#[inline(always)]
unsafe fn write_address(to: *mut u32, address: &[u32; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        to.write(address[0]);
        to.add(1).write(address[1]);
        to.add(2).write(address[2]);
        to.add(3).write(address[3]);
    }
}
