//! The few calls that no safe library offers: `bpf(2)` for links, queries and object information, and two socket
//! options of netlink. Each function owns its argument block, so that no pointer outlives the call.
//!
//! Over 400 lines: each call spells out the layout that the kernel reads; together, so that the unsafe code of taps has
//! one address.
#![allow(
    unsafe_code,
    reason = "bpf(2), setsockopt(2) and getsockopt(2) take raw pointers; each block says why it is sound"
)]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use super::call;

const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_GET_NEXT_ID: c_int = 11;
const BPF_PROG_GET_FD_BY_ID: c_int = 13;
const BPF_MAP_GET_FD_BY_ID: c_int = 14;
const BPF_OBJ_GET_INFO_BY_FD: c_int = 15;
const BPF_PROG_QUERY: c_int = 16;
const BPF_LINK_CREATE: c_int = 28;

const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// `BPF_PROG_TYPE_SCHED_CLS`.
pub(super) const PROG_TYPE_SCHED_CLS: u32 = 3;
/// `BPF_PROG_TYPE_SK_SKB`.
pub(super) const PROG_TYPE_SK_SKB: u32 = 14;
/// `BPF_PROG_TYPE_SK_MSG`.
pub(super) const PROG_TYPE_SK_MSG: u32 = 16;

/// One of the two places of an interface where a classifier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Packets that the interface received.
    Ingress,
    /// Packets that the interface is about to send.
    Egress,
}

impl Hook {
    /// Both hooks.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => BPF_TCX_INGRESS,
            Self::Egress => BPF_TCX_EGRESS,
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What the kernel tells of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramInfo {
    pub(super) id: u32,
    pub(super) kind: u32,
    /// At most 15 bytes.
    pub(super) name: String,
    pub(super) map_ids: Vec<u32>,
    /// 0 when the program is interpreted.
    pub(super) jited_bytes: u32,
}

/// What the kernel tells of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapInfo {
    pub(super) name: String,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
}

/// Attaches `program` before every other program of the hook's TCX chain. Closing the descriptor detaches it.
/// The interface is looked up in the network namespace of the calling thread.
pub(super) fn tcx_link_create(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
        // No relative program: "before" then means the head of the chain.
        relative_fd: u32,
        padding: u32,
        expected_revision: u64,
    }
    let mut attr = Attr {
        prog_fd: raw(program),
        target_ifindex: ifindex,
        attach_type: hook.attach_type(),
        flags: BPF_F_BEFORE,
        relative_fd: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: the block holds no pointers and has the layout of `bpf_attr.link_create`.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }?;
    owned(fd)
}

/// Program ids on the hook's TCX chain, in the order in which they run. The interface is looked up in the network
/// namespace of the calling thread. `EINVAL` where the kernel has no TCX.
pub(super) fn tcx_query(ifindex: u32, hook: Hook) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Attr {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        padding: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    // The kernel holds a chain to 64 programs.
    let mut ids = [0u32; 64];
    let mut attr = Attr {
        target_ifindex: ifindex,
        attach_type: hook.attach_type(),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        count: 64,
        padding: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the layout is that of `bpf_attr.query`; `prog_ids` has room for `count` ids and lives past the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    Ok(ids.iter().take(attr.count as usize).copied().collect())
}

/// The interface a TCX link is attached to, 0 once the interface is gone or somebody detached the link.
pub(super) fn tcx_link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        prog_id: u32,
        padding: u32,
        ifindex: u32,
        attach_type: u32,
        rest: [u64; 4],
    }
    let mut info = Info::default();
    // SAFETY: `Info` is plain integers and begins like `bpf_link_info`; the kernel writes at most its size.
    unsafe { object_info(link, &mut info) }?;
    Ok(info.ifindex)
}

/// What the kernel tells of the program behind `program`.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_bytes: u32,
        xlated_bytes: u32,
        jited_insns: u64,
        xlated_insns: u64,
        load_time: u64,
        created_by_uid: u32,
        map_count: u32,
        map_ids: u64,
        name: [u8; 16],
        rest: [u64; 3],
    }
    // Maps a program may use; the kernel's own limit is 64.
    let mut map_ids = [0u32; 64];
    let mut info = Info { map_count: 64, map_ids: map_ids.as_mut_ptr() as u64, ..Info::default() };
    // SAFETY: `Info` is plain integers and begins like `bpf_prog_info`; `map_ids` has room for `map_count` ids and
    // lives past the call, all other pointers are null with length 0.
    unsafe { object_info(program, &mut info) }?;
    Ok(ProgramInfo {
        id: info.id,
        kind: info.kind,
        name: text(&info.name),
        map_ids: map_ids.iter().take(info.map_count as usize).copied().collect(),
        jited_bytes: info.jited_bytes,
    })
}

/// What the kernel tells of the map behind `map`.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        name: [u8; 16],
    }
    let mut info = Info::default();
    // SAFETY: `Info` is plain integers and begins like `bpf_map_info`; the kernel writes at most its size.
    unsafe { object_info(map, &mut info) }?;
    Ok(MapInfo { name: text(&info.name), key_size: info.key_size, value_size: info.value_size })
}

/// A descriptor of the program with this id. Needs `CAP_SYS_ADMIN`.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    fd_by_id(BPF_PROG_GET_FD_BY_ID, id)
}

/// A descriptor of the map with this id. Needs `CAP_SYS_ADMIN`.
pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    fd_by_id(BPF_MAP_GET_FD_BY_ID, id)
}

/// The lowest program id above `id`, `None` after the last. Needs `CAP_SYS_ADMIN`.
pub(super) fn next_program_id(id: u32) -> io::Result<Option<u32>> {
    #[repr(C)]
    struct Attr {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut attr = Attr { start_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: the block holds no pointers and has the layout of `bpf_attr.start_id`.
    match unsafe { bpf(BPF_PROG_GET_NEXT_ID, &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads entry 0 of an array map whose values are 8 bytes, as a heartbeat's is. The map may be anybody's, so its shape is asked for.
pub(super) fn map_first_u64(map: BorrowedFd<'_>) -> io::Result<u64> {
    let info = map_info(map)?;
    if info.key_size != 4 || info.value_size != 8 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the map is not an array of 8-byte values"));
    }
    call::lookup(map, &0_u32)
}

/// Loads a classifier that returns `verdict` and, when `map` is given, uses that map.
pub(super) fn classifier_load(name: &str, verdict: i32, map: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        insn_count: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        expected_attach_type: u32,
    }
    // One instruction: code, registers (source high, destination low), offset, immediate.
    let insn = |code: u8, registers: u8, immediate: u32| -> u64 {
        u64::from_ne_bytes({
            let [a, b, c, d] = immediate.to_ne_bytes();
            [code, registers, 0, 0, a, b, c, d]
        })
    };
    let mut insns = Vec::with_capacity(4);
    if let Some(map) = map {
        // r1 = map: a load of 64 bits whose immediate is a descriptor.
        insns.push(insn(0x18, 0x11, raw(map)));
        insns.push(0);
    }
    insns.push(insn(0xb7, 0x00, verdict.cast_unsigned())); // r0 = verdict
    insns.push(insn(0x95, 0x00, 0)); // exit
    let mut attr = Attr {
        kind: PROG_TYPE_SCHED_CLS,
        insn_count: u32::try_from(insns.len()).unwrap_or(u32::MAX),
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kernel_version: 0,
        flags: 0,
        name: object_name(name),
        ifindex: 0,
        expected_attach_type: 0,
    };
    // SAFETY: the layout is that of `bpf_attr` for `BPF_PROG_LOAD`; `insns` holds `insn_count` instructions, the
    // license is a C string, both live past the call.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    owned(fd)
}

/// Sets an integer option of `SOL_NETLINK`.
pub(super) fn set_netlink_option(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the value is an int that lives past the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast::<c_void>(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number the kernel gave the network namespace of `socket`: never used again until the next boot, unlike
/// its inode.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the value is 8 bytes, its length is given, both live past the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast::<c_void>(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// `asm-generic/socket.h`; libc has it for some targets only.
const SO_NETNS_COOKIE: c_int = 71;

fn fd_by_id(command: c_int, id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut attr = Attr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the block holds no pointers and has the layout of `bpf_attr.prog_id` and its like.
    let fd = unsafe { bpf(command, &mut attr) }?;
    owned(fd)
}

/// # Safety
/// `T` must be plain integers laid out as the head of the object's information block, and each pointer in it must
/// be null or have the room that the length beside it says.
unsafe fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attr =
        Attr { fd: raw(object), length: size_of::<T>() as u32, info: std::ptr::from_mut(info) as u64 };
    // SAFETY: `info` has `length` bytes and lives past the call; what it points to is the caller's promise.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(())
}

/// # Safety
/// `attr` must have the layout that `command` reads, and each pointer in it must be good for the call.
unsafe fn bpf<T>(command: c_int, attr: &mut T) -> io::Result<c_long> {
    // SAFETY: the block is alive and its size is given; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
