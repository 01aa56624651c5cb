//! A small rtnetlink client: blocking requests and dumps, and a decoder that reads the attributes we use and steps
//! over all others. A generic decoder that refuses a message for one attribute it does not know would
//! lose a tap for the sake of a field nobody asked for.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::sys;

/// Longest wait for an answer of the kernel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A dump that raced with a change is asked for again this many times.
const DUMP_TRIES: usize = 8;
/// Room for one datagram of the kernel, which fills at most 32 KiB of a dump at a time.
const RECEIVE_BYTES: usize = 128 * 1024;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ROOT_MATCH: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
/// Fail if the object exists.
pub(super) const NLM_F_EXCL: u16 = 0x200;
/// Make the object if it does not exist.
pub(super) const NLM_F_CREATE: u16 = 0x400;

/// A request under construction: fixed part, then attributes.
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of this message type with its fixed part.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut body = fixed.to_vec();
        pad(&mut body);
        Self { kind, flags, body }
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        push_attribute(&mut self.body, kind, value);
        self
    }

    /// Adds an attribute that holds attributes.
    pub(super) fn nested(mut self, kind: u16, inner: &[(u16, &[u8])]) -> Self {
        let mut value = Vec::new();
        for (kind, bytes) in inner {
            push_attribute(&mut value, *kind, bytes);
        }
        push_attribute(&mut self.body, kind, &value);
        self
    }

    fn encode(&self, extra_flags: u16) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(self.flags | extra_flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A message of the kernel: its type and what follows the header.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A routing socket of the network namespace in which the calling thread opened it. While it is open it keeps that
/// namespace alive.
pub(super) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket for requests.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Self::with_groups(0)?;
        let timeout = TimeVal::milliseconds(i64::try_from(ANSWER_TIMEOUT.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket.fd, sockopt::ReceiveTimeout, &timeout)?;
        // Words for a refusal, without the request repeated. Both are luxuries.
        let _ = sys::set_netlink_option(socket.fd.as_fd(), NETLINK_EXT_ACK, 1);
        let _ = sys::set_netlink_option(socket.fd.as_fd(), NETLINK_CAP_ACK, 1);
        Ok(socket)
    }

    /// Opens a socket that hears the multicast groups of the mask.
    pub(super) fn with_groups(groups: u32) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends a request and waits for the kernel's yes or no.
    pub(super) fn request(&mut self, request: &Request) -> io::Result<()> {
        self.send(&request.encode(NLM_F_ACK))?;
        loop {
            let length = self.receive(MsgFlags::empty())?;
            for frame in frames(self.buffer.get(..length).unwrap_or_default()) {
                if frame.kind == NLMSG_ERROR {
                    return error_of(&frame);
                }
            }
        }
    }

    /// Sends a request and collects all messages of the answer.
    pub(super) fn dump(&mut self, request: &Request) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            if let Some(messages) = self.dump_once(request)? {
                return Ok(messages);
            }
        }
        Err(io::Error::other(format!(
            "the kernel's list changed while it was read, {DUMP_TRIES} times in a row"
        )))
    }

    /// Reads one datagram without waiting: its length, `None` when there is none. What was heard is of no interest.
    pub(super) fn try_hear(&mut self) -> io::Result<Option<usize>> {
        match self.receive(MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn dump_once(&mut self, request: &Request) -> io::Result<Option<Vec<Message>>> {
        self.send(&request.encode(NLM_F_ROOT_MATCH))?;
        let (mut messages, mut interrupted) = (Vec::new(), false);
        loop {
            let length = self.receive(MsgFlags::empty())?;
            for frame in frames(self.buffer.get(..length).unwrap_or_default()) {
                interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind {
                    NLMSG_ERROR => {
                        error_of(&frame)?;
                        return Ok(Some(messages));
                    }
                    NLMSG_DONE => {
                        // The end of a dump carries its errno.
                        let errno = i32_at(frame.body, 0).unwrap_or(0);
                        if errno < 0 {
                            return Err(io::Error::from_raw_os_error(-errno));
                        }
                        return Ok((!interrupted).then_some(messages));
                    }
                    kind => messages.push(Message { kind, body: frame.body.to_vec() }),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }

    fn receive(&mut self, flags: MsgFlags) -> io::Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC) {
                Err(nix::Error::EINTR) => {}
                // The name for a receive timeout.
                Err(nix::Error::EAGAIN) if !flags.contains(MsgFlags::MSG_DONTWAIT) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel did not answer on netlink",
                    ));
                }
                Err(error) => return Err(error.into()),
                Ok(length) if length > self.buffer.len() => {
                    return Err(io::Error::other(format!("a netlink message of {length} bytes is too long")));
                }
                Ok(length) => return Ok(length),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Attributes of `bytes` from `offset` on: type without its flag bits, value. Ends at the first one cut short.
pub(super) fn attributes(bytes: &[u8], offset: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.get(offset..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// A string attribute, without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// A number of 4 bytes in the machine's order, `None` when it is cut short.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// As [`u32_at`], signed.
pub(super) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of 2 bytes in the machine's order, `None` when it is cut short.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

struct Frame<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let frame =
            Frame { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, body: bytes.get(HEADER..length)? };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    })
}

/// Errno and, where the kernel gives it, its own words.
fn error_of(frame: &Frame<'_>) -> io::Result<()> {
    let errno = i32_at(frame.body, 0).unwrap_or(-libc::EBADMSG);
    if errno == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(errno.saturating_neg());
    // Errno, then the request's header, alone when the answer is capped.
    let repeated = u32_at(frame.body, 4).map_or(HEADER, |l| l as usize);
    let words_at = 4 + if frame.flags & NLM_F_CAPPED == 0 { repeated.next_multiple_of(4) } else { HEADER };
    let words = attributes(frame.body, words_at).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    Err(match words {
        Some((_, value)) => io::Error::new(error.kind(), Refusal { error, words: text(value) }),
        None => error,
    })
}

/// A refusal of the kernel with its own words.
#[derive(Debug, thiserror::Error)]
#[error("{error}: {words}")]
struct Refusal {
    error: io::Error,
    words: String,
}

/// The errno of a refusal, with or without words.
pub(super) fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| error.get_ref()?.downcast_ref::<Refusal>()?.error.raw_os_error())
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::{Request, attributes, frames, text};

    #[test]
    fn attributes_come_back_as_they_were_put_in() {
        let request = Request::new(7, 0, &[1]).attribute(3, b"eth0\0").nested(2, &[(1, b"ab"), (9, &[])]);
        let bytes = request.encode(0);
        let all: Vec<_> = frames(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].kind, 7);
        let top: Vec<_> = attributes(all[0].body, 4).collect();
        assert_eq!(text(top[0].1), "eth0");
        assert_eq!(top[1].0, 2);
        assert_eq!(attributes(top[1].1, 0).collect::<Vec<_>>(), [(1, &b"ab"[..]), (9, &[][..])]);
    }

    #[test]
    fn cut_messages_end_the_walk_without_a_panic() {
        let bytes = Request::new(7, 0, &[1, 2, 3, 4]).attribute(3, b"a long name").encode(0);
        for end in 0..bytes.len() {
            assert_eq!(frames(&bytes[..end]).count(), 0);
            assert!(attributes(&bytes[..end], 20).count() <= 1);
        }
        // A length of 0 must not spin.
        assert_eq!(attributes(&[0; 64], 0).count(), 0);
        assert_eq!(frames(&[0; 64]).count(), 0);
    }
}
