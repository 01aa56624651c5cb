//! One connection to a shadow: plain TCP or TLS over it, never blocking.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::SockRef;

/// Plain text that rustls may hold before the socket takes it, bytes.
pub const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A connection, from the moment `connect` was called.
#[derive(Debug)]
pub(super) struct Transport {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    local: Option<SocketAddr>,
    /// The socket took less than it was offered: wait for it to be writable again.
    pub(super) blocked: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// TCP or TLS is still shaking hands.
    Pending,
    /// Requests can be written.
    Ready,
}

/// What one read gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// Bytes at the front of the buffer; 0 is the end of the stream.
    pub(super) bytes: usize,
    /// `CLOCK_REALTIME` at which the kernel took in the last of them, ns; `None` with TLS.
    pub(super) time: Option<u64>,
    /// More may be waiting.
    pub(super) more: bool,
}

/// Reusable memory for reads, one a shard.
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    control: Vec<u8>,
    /// Never written by the kernel (`MSG_TRUNC` throws bytes away), so its pages are never there.
    discard: Vec<u8>,
}

/// Response bytes taken in one read.
const READ_BYTES: usize = 64 * 1024;
/// Response bytes thrown away in one call.
const DISCARD_BYTES: usize = 4 * 1024 * 1024;

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; READ_BYTES], control: control_buffer(), discard: vec![0; DISCARD_BYTES] }
    }

    pub(super) fn get(&self, count: usize) -> &[u8] {
        self.bytes.get(..count).unwrap_or_default()
    }
}

/// Memory for what the kernel says of bytes received.
pub(super) fn control_buffer() -> Vec<u8> {
    nix::cmsg_space!(nix::sys::time::TimeSpec)
}

impl Transport {
    /// Starts to connect. The handshake goes on while the socket is polled.
    pub(super) fn connect(
        addr: SocketAddr,
        tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect(addr)?;
        let tls = tls
            .map(|(config, name)| {
                let mut connection =
                    ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
                connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                Ok::<_, io::Error>(Box::new(connection))
            })
            .transpose()?;
        // Heads and bodies are gathered here, so nothing is won by waiting for more.
        socket.set_nodelay(true)?;
        if tls.is_none() {
            // The kernel's stamp keeps latency exact although replies are read in batches.
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        }
        socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        let local = socket.local_addr().ok();
        Ok(Self { socket, tls, local, blocked: false })
    }

    /// The local end, which the tap must pass by.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Goes on with the handshake after the socket became ready.
    pub(super) fn advance(&mut self) -> io::Result<Progress> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        if let Err(error) = self.socket.peer_addr() {
            // Not connected yet: the event was for something else.
            return if error.kind() == ErrorKind::NotConnected { Ok(Progress::Pending) } else { Err(error) };
        }
        let Some(tls) = &mut self.tls else { return Ok(Progress::Ready) };
        while tls.is_handshaking() {
            if tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Pending),
                    Err(error) => return Err(error),
                }
            }
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    tls.process_new_packets()
                        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Pending),
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Ready)
    }

    /// Writes what the socket takes now of `slices` and returns how much. Sets `blocked` if it took less than all.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut done = 0;
        let Some(tls) = &mut self.tls else {
            loop {
                match self.socket.write_vectored(slices) {
                    Ok(count) => {
                        self.blocked = count < wanted;
                        return Ok(count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.blocked = true;
                        return Ok(0);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        for slice in slices {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                let took = tls.writer().write(rest)?;
                done += took;
                rest = rest.get(took..).unwrap_or_default();
                let drained = write_tls(tls, &mut self.socket)?;
                if took == 0 && !drained {
                    self.blocked = true;
                    return Ok(done);
                }
            }
        }
        self.blocked = !write_tls(tls, &mut self.socket)?;
        Ok(done)
    }

    /// Writes what TLS still holds.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            self.blocked = !write_tls(tls, &mut self.socket)?;
        } else {
            self.blocked = false;
        }
        Ok(())
    }

    /// Tells the peer that nothing more will be written.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            write_tls(tls, &mut self.socket)?;
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Whether the peer agreed to speak `protocol` (ALPN, RFC 7301). Without TLS nobody asked it.
    pub(super) fn agreed_on(&self, protocol: &[u8]) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.alpn_protocol() == Some(protocol))
    }

    /// Reads once. `WouldBlock` when nothing is there.
    pub(super) fn read(&mut self, buffer: &mut ReadBuffer) -> io::Result<Received> {
        self.read_into(&mut buffer.bytes, &mut buffer.control)
    }

    /// Reads once to the front of `bytes`; `control` is memory for what the kernel says of them ([`control_buffer`]).
    pub(super) fn read_into(&mut self, bytes: &mut [u8], control: &mut Vec<u8>) -> io::Result<Received> {
        let room = bytes.len();
        let Some(tls) = &mut self.tls else {
            control.clear();
            let mut slices = [IoSliceMut::new(bytes)];
            let message =
                recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty())?;
            let time = message.cmsgs().ok().and_then(|mut all| {
                all.find_map(|one| match one {
                    ControlMessageOwned::ScmTimestampns(stamp) => {
                        u64::try_from(Duration::from(stamp).as_nanos()).ok()
                    }
                    _ => None,
                })
            });
            return Ok(Received { bytes: message.bytes, time, more: message.bytes == room });
        };
        loop {
            match tls.reader().read(bytes) {
                Ok(bytes) => return Ok(Received { bytes, time: None, more: bytes > 0 }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer left without a close_notify: to HTTP an end like any other, judged by its framing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(Received { bytes: 0, time: None, more: false });
                }
                Err(error) => return Err(error),
            }
            // An end of the stream shows in the reader after the packets were processed.
            let count = tls.read_tls(&mut self.socket)?;
            let state =
                tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            if count == 0 && state.plaintext_bytes_to_read() == 0 {
                return Ok(Received { bytes: 0, time: None, more: false });
            }
        }
    }

    /// Throws away up to `most` bytes that were received, unseen; `None` with TLS, whose bytes must be decrypted.
    pub(super) fn discard(&mut self, most: u64, buffer: &mut ReadBuffer) -> io::Result<Option<usize>> {
        if self.tls.is_some() {
            return Ok(None);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(DISCARD_BYTES);
        let target = buffer.discard.get_mut(..most).unwrap_or_default();
        // MSG_TRUNC on a TCP socket discards instead of copying (tcp(7)).
        let count = nix::sys::socket::recv(self.socket.as_raw_fd(), target, MsgFlags::MSG_TRUNC)?;
        Ok(Some(count))
    }

    /// Ends the connection: with a reset, or in good order.
    pub(super) fn close(mut self, registry: &Registry, reset: bool) {
        let _already_gone = self.socket.deregister(registry);
        if reset {
            let _best_effort = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        } else if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _best_effort = write_tls(tls, &mut self.socket);
            let _best_effort = self.socket.shutdown(Shutdown::Write);
        }
    }
}

/// Writes out what TLS holds; true if nothing is left.
fn write_tls(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
