//! `bpf(2)` on maps and `mmap(2)` of them, as far as aya has no call that fits: rings made at run time, updates through a
//! shared descriptor, mappings of our own shape.
#![allow(unsafe_code, reason = "bpf(2) and mmap(2) take raw pointers; each block says why it is sound")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use aya::Pod;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_RINGBUF`.
pub(super) const RINGBUF: u32 = 27;

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// The head of `union bpf_attr` for calls on one element.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Makes a map. `name` is cut to what the kernel takes, 15 bytes.
pub(super) fn create_map(
    name: &str,
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr { map_type, key_size, value_size, max_entries, ..CreateAttr::default() };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let fd = bpf(BPF_MAP_CREATE, &attr)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an array of one value.
pub(super) fn create_array<V: Pod>(name: &str) -> io::Result<OwnedFd> {
    create_map(name, ARRAY, size_of::<u32>() as u32, size_of::<V>() as u32, 1)
}

/// Reads one element; `NotFound` if there is none. `K` and `V` have the sizes that the map was made with, as in [`update`].
pub(super) fn lookup<K: Pod, V: Pod + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::default();
    element(BPF_MAP_LOOKUP_ELEM, map, key, ptr::from_mut(&mut value) as u64)?;
    Ok(value)
}

/// Sets one element. `K` and `V` have the sizes that the map was made with: the callers' types are pinned to the program's.
pub(super) fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    element(BPF_MAP_UPDATE_ELEM, map, key, ptr::from_ref(value) as u64)
}

/// Removes one element; `NotFound` if there is none.
pub(super) fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    element(BPF_MAP_DELETE_ELEM, map, key, 0)
}

fn element<K: Pod>(command: libc::c_int, map: BorrowedFd<'_>, key: &K, value: u64) -> io::Result<()> {
    // Shared even for a lookup: the kernel writes to what `value` points to, and to nothing of the block.
    let attr = ElementAttr {
        map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        reserved: 0,
        key: ptr::from_ref(key) as u64,
        value,
        flags: 0,
    };
    bpf(command, &attr).map(|_| ())
}

fn bpf<A>(command: libc::c_int, attr: &A) -> io::Result<RawFd> {
    // SAFETY: `attr` lives through the call and is as long as said; the kernel takes what is missing of its union as 0,
    // and the pointers in it are to values that the callers borrow through the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attr), size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

/// Bytes of a page.
pub(super) fn page_size() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A shared mapping of a map, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: memory that the kernel shares with everybody who maps it; it is reached through atomics or by the rules of the
// ring, never by `&mut`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset`, both in whole pages.
    pub(super) fn new(map: BorrowedFd<'_>, offset: usize, len: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, map.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(Self { start, len })
    }

    /// The word at `offset`, shared with the kernel. `offset` is a multiple of 4 within the mapping.
    pub(super) fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "word outside of its mapping");
        // SAFETY: within the mapping, aligned (the start is a page's), and only ever reached as an atomic.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The double word at `offset`, shared with the kernel. `offset` is a multiple of 8 within the mapping.
    pub(super) fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "word outside of its mapping");
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// `len` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Nobody writes to these bytes while the slice lives.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len && len <= self.len - offset, "bytes outside of their mapping");
        // SAFETY: within the mapping; the caller promises that they stand still.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped, and every borrow of it has ended.
        let _cannot_fail = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
