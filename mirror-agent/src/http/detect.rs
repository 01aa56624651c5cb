//! What a connection begins with: HTTP, a TLS record, or a PROXY protocol header before either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::connection::{Connection, Mode};
use super::h2::PREFACE;
use super::head::decimal;
use super::input::{Input, Tally};
use super::message::{Events, NotHttp};

impl Connection {
    /// The first bytes: TLS, a PROXY protocol header, or HTTP.
    pub(super) fn open(
        &mut self,
        input: &Input<'_>,
        mut at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        if self.framer.at_boundary() {
            match opening(&input.bytes[at..], !self.proxy_seen) {
                Opening::More => {}
                other => return self.opened(other, input, at, ev, tally),
            }
        }
        // Cut within the first few bytes: seldom, so byte by byte.
        while at < input.bytes.len() {
            self.framer.gather(&input.bytes[at..=at]);
            at += 1;
            match opening(self.framer.gathered(), !self.proxy_seen) {
                Opening::More => {}
                other => {
                    let gathered = self.framer.take();
                    let start = (input.pos + at as u64).saturating_sub(gathered.len() as u64);
                    let whole = Input { bytes: &gathered, pos: start, ..*input };
                    let used = self.opened(other, &whole, 0, ev, tally);
                    let rest = Input { bytes: &gathered[used..], pos: start + used as u64, ..*input };
                    self.pump(&rest, ev, tally);
                    return at;
                }
            }
        }
        if self.framer.gathered().len() > self.limits.max_head_bytes as usize {
            self.stop(NotHttp::ProxyHeader, ev, tally);
        }
        at
    }

    fn opened(
        &mut self,
        opening: Opening,
        input: &Input<'_>,
        at: usize,
        ev: &mut impl Events,
        tally: &mut Tally,
    ) -> usize {
        match opening {
            Opening::More => {}
            Opening::Http => self.mode = Mode::Sync,
            Opening::Http2 => self.begin_h2(false, ev),
            Opening::Tls => self.mode = Mode::Off(NotHttp::Tls),
            Opening::BadProxy => self.mode = Mode::Off(NotHttp::Unknown),
            Opening::Proxy { len, client } => {
                self.proxy_seen = true;
                self.proxied = client;
                let here = len.min(input.bytes.len() - at);
                tally.out(Some(NotHttp::ProxyHeader), here as u64, ev);
                return at + here;
            }
        }
        at
    }
}

/// Longest header of version 1, line end included.
const MAX_V1: usize = 107;
/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Too few to tell.
    More,
    /// For the request framer to judge.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake.
    Tls,
    /// A PROXY protocol header of `len` bytes that names the client, or that names nobody (health checks).
    Proxy { len: usize, client: Option<SocketAddr> },
    /// A PROXY protocol header that breaks its rules.
    BadProxy,
}

/// Judges `bytes`; a longer input with the same beginning is never judged otherwise once it is not [`Opening::More`].
pub(super) fn opening(bytes: &[u8], proxy: bool) -> Opening {
    match bytes {
        [] | [0x16] => Opening::More,
        [0x16, 0x03, ..] => Opening::Tls,
        [b'P', ..] if bytes.starts_with(PREFACE) => Opening::Http2,
        [b'P', ..] if PREFACE.starts_with(bytes) => Opening::More,
        [b'P', ..] if proxy => version_1(bytes),
        [b'\r', ..] if proxy => version_2(bytes),
        _ => Opening::Http,
    }
}

/// A record of an established TLS connection: handshake, alert, data.
pub(super) fn looks_like_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}

fn version_1(bytes: &[u8]) -> Opening {
    let Some(text) = bytes.strip_prefix(b"PROXY ") else {
        return if b"PROXY ".starts_with(bytes) { Opening::More } else { Opening::Http };
    };
    let window = &bytes[..bytes.len().min(MAX_V1)];
    let Some(lf) = memchr::memchr(b'\n', window) else {
        return if window.len() == MAX_V1 { Opening::BadProxy } else { Opening::More };
    };
    let Some(line) = bytes[..lf].strip_suffix(b"\r") else { return Opening::BadProxy };
    let line = &text[..line.len() - b"PROXY ".len()];
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        // A method of that name.
        return Opening::Http;
    }
    let len = lf + 1;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Opening::Proxy { len, client: None };
    }
    match tcp_line(line) {
        Some(client) => Opening::Proxy { len, client: Some(client) },
        None => Opening::BadProxy,
    }
}

/// `TCP4 source destination source-port destination-port`
fn tcp_line(line: &[u8]) -> Option<SocketAddr> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = address()?;
    address()?;
    let mut port = || u16::try_from(decimal(words.next()?.as_bytes())?).ok();
    let source_port = port()?;
    port()?;
    words.next().is_none().then(|| SocketAddr::new(source, source_port))
}

fn version_2(bytes: &[u8]) -> Opening {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes[..common] != SIGNATURE[..common] {
        return Opening::Http;
    }
    let &[.., version_command, family, high, low] = (match bytes.get(..16) {
        Some(fixed) => fixed,
        None => return Opening::More,
    }) else {
        return Opening::More;
    };
    if version_command >> 4 != 2 || version_command & 0xf > 1 {
        return Opening::BadProxy;
    }
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    let Some(body) = bytes.get(16..len) else { return Opening::More };
    // LOCAL: a health check of the proxy itself, whatever address it gives.
    let client = if version_command & 0xf == 0 { None } else { source(family, body) };
    Opening::Proxy { len, client }
}

/// The source address of a version 2 header, if its family is TCP over IPv4 or IPv6.
fn source(family: u8, body: &[u8]) -> Option<SocketAddr> {
    let (ip, ports): (IpAddr, &[u8]) = match family {
        0x11 => (IpAddr::from(<[u8; 4]>::try_from(body.get(..4)?).ok()?), body.get(8..10)?),
        0x21 => (IpAddr::from(<[u8; 16]>::try_from(body.get(..16)?).ok()?), body.get(32..34)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(ports.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{Opening, PREFACE, SIGNATURE, opening};

    /// Judges every prefix: once told, the answer stays.
    fn judge(bytes: &[u8]) -> Opening {
        let whole = opening(bytes, true);
        for cut in 0..bytes.len() {
            let part = opening(&bytes[..cut], true);
            assert!(part == Opening::More || part == whole, "{part:?} of {cut} bytes, then {whole:?}");
        }
        whole
    }

    #[test]
    fn plain_requests_are_left_to_the_framer() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST / HTTP/1.1\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"PROXY / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSX",
            b"\x16GET",
        ] {
            assert_eq!(judge(bytes), Opening::Http, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_http_2_preface_is_told_when_it_is_whole() {
        assert_eq!(judge(PREFACE), Opening::Http2);
        assert_eq!(judge(&[PREFACE, b"\0\0\0\x04"].concat()), Opening::Http2);
        assert_eq!(opening(&PREFACE[..23], false), Opening::More);
    }

    #[test]
    fn a_tls_handshake_is_told() {
        assert_eq!(judge(b"\x16\x03\x01\x02\x00\x01"), Opening::Tls);
    }

    #[test]
    fn a_version_1_header_names_the_client() {
        let client = |line: &str| match judge(format!("{line}\r\nGET /").as_bytes()) {
            Opening::Proxy { len, client } => {
                assert_eq!(len, line.len() + 2);
                client.map(|c| c.to_string())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(client("PROXY TCP4 192.0.2.1 10.0.0.1 5000 80").as_deref(), Some("192.0.2.1:5000"));
        assert_eq!(client("PROXY TCP6 2001:db8::1 ::1 5000 80").as_deref(), Some("[2001:db8::1]:5000"));
        assert_eq!(client("PROXY UNKNOWN whatever"), None);
        for bad in [
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536",
            "PROXY TCP4 ::1 ::1 1 1",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1",
        ] {
            assert_eq!(judge(format!("{bad}\r\n").as_bytes()), Opening::BadProxy, "{bad}");
        }
        assert_eq!(judge(format!("PROXY {}", "x".repeat(200)).as_bytes()), Opening::BadProxy);
    }

    #[test]
    fn a_version_2_header_names_the_client() {
        let header = |rest: &[u8]| [SIGNATURE, rest].concat();
        let v4 = header(&[0x21, 0x11, 0, 14, 192, 0, 2, 1, 10, 0, 0, 1, 0x13, 0x88, 0, 80, 9, 9]);
        assert_eq!(judge(&v4), Opening::Proxy { len: 30, client: Some("192.0.2.1:5000".parse().unwrap()) });
        let mut v6 = vec![0x21, 0x21, 0, 36];
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0; 16]);
        v6.extend([0x13, 0x88, 0, 80]);
        assert_eq!(
            judge(&header(&v6)),
            Opening::Proxy { len: 52, client: Some("[2001:db8::1]:5000".parse().unwrap()) }
        );
        assert_eq!(judge(&header(&[0x20, 0, 0, 0])), Opening::Proxy { len: 16, client: None });
        assert_eq!(judge(&header(&[0x21, 0x11, 0, 2, 1, 2])), Opening::Proxy { len: 18, client: None });
        assert_eq!(judge(&header(&[0x11, 0x11, 0, 0])), Opening::BadProxy);
    }
}
