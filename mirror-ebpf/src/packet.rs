//! The one door to packet bytes: checked once, read-only. Nothing here can write to the packet or make the kernel move it.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;

/// The packet as the kernel hands it over.
#[derive(Clone, Copy)]
pub(crate) struct Packet(*mut __sk_buff);

impl Packet {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    /// Bytes of the packet, paged parts and Ethernet padding included.
    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        // SAFETY: the context pointer of this program; the verifier checks the offset. Volatile, so that the compiler does not
        // keep the field's address in a register, which the verifier takes for a changed context pointer.
        unsafe { (&raw const (*self.0).len).read_volatile() }
    }

    /// Interface the packet is on, in the tap's namespace.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (&raw const (*self.0).ifindex).read_volatile() }
    }

    /// `N` bytes from `at`, if the linear part of the packet holds them. `at` must be a constant after inlining: old
    /// verifiers lose track of a variable offset.
    #[inline(always)]
    pub(crate) fn head<const N: usize>(self, at: usize) -> Option<Bytes<N>> {
        // SAFETY: as in `len`; the pair of addresses is known to the verifier as packet start and end.
        let (data, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        if data + at + N > end {
            return None;
        }
        Some(Bytes((data + at) as *const u8))
    }

    /// Copies a header from anywhere in the packet, also from its paged part. `None` if the packet ends before.
    #[inline(always)]
    pub(crate) fn copy<const N: usize>(self, at: u32, to: &mut Aligned<N>) -> Option<Bytes<N>> {
        let to = ptr::from_mut(to).cast::<u8>();
        // SAFETY: `to` has N bytes; the helper checks the rest.
        let error = unsafe { bpf_skb_load_bytes(self.0.cast(), at, to.cast(), N as u32) };
        (error == 0).then_some(Bytes(to))
    }

    /// Copies `len` bytes from `at` to `to`.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes, and the verifier can see that `len` lies between 1 and what `to` has.
    #[inline(always)]
    pub(crate) unsafe fn copy_payload(self, at: u32, to: *mut u8, len: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe { bpf_skb_load_bytes(self.0.cast(), at, to.cast(), len) == 0 }
    }
}

/// A place for [`Packet::copy`], aligned for word reads.
#[repr(C, align(8))]
pub(crate) struct Aligned<const N: usize>(MaybeUninit<[u8; N]>);

impl<const N: usize> Aligned<N> {
    /// Not zeroed: that would be a call with a loop over bytes, and [`Packet::copy`] fills all of it or gives nothing.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// `N` readable bytes, in the packet or copied from it. Offsets are constants and checked when this is compiled.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<const N: usize>(*const u8);

impl<const N: usize> Bytes<N> {
    /// The byte at `AT`.
    #[inline(always)]
    pub(crate) fn u8<const AT: usize>(self) -> u8 {
        const { assert!(AT < N) };
        // SAFETY: within the N bytes.
        unsafe { *self.0.add(AT) }
    }

    /// Two bytes at `AT` in network order, read byte by byte: so every verifier knows their bounds, which a byte swap
    /// hides from old ones.
    #[inline(always)]
    pub(crate) fn be16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 1 < N) };
        // SAFETY: within the N bytes.
        unsafe { u16::from_be_bytes([*self.0.add(AT), *self.0.add(AT + 1)]) }
    }

    /// Four bytes at `AT` in network order.
    #[inline(always)]
    pub(crate) fn be32<const AT: usize>(self) -> u32 {
        u32::from_be(self.word::<AT>())
    }

    /// Four bytes at `AT` as they lie in memory. Fields of 32 bits in IP and TCP headers start at multiples of 4 from
    /// the header, and the kernel aligns headers for its own word reads (or runs where it need not).
    #[inline(always)]
    pub(crate) fn word<const AT: usize>(self) -> u32 {
        const { assert!(AT + 3 < N && AT.is_multiple_of(4)) };
        // SAFETY: within the N bytes; the load becomes one BPF instruction, whose alignment the verifier checks where the
        // machine demands it.
        unsafe { *self.0.add(AT).cast::<u32>() }
    }

    /// The same bytes from `AT` on, `M` of them.
    #[inline(always)]
    pub(crate) fn at<const AT: usize, const M: usize>(self) -> Bytes<M> {
        const { assert!(AT + M <= N) };
        // SAFETY: within the N bytes.
        Bytes(unsafe { self.0.add(AT) })
    }
}
