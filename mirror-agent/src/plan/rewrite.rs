//! The head of a copy: one pass over the original, which is copied in long stretches between the changes.

mod h2;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::settings::{Settings, Trace};
use super::{authority, bears, trace};
use crate::http::{Field, Leaves, RequestHead};

/// The changes of a job, compiled.
///
/// For each field line the first that applies, in this order: remove, set, authority (`Host`), client address, trace.
/// Then the lines that are new, before the blank line: sets that found nothing, the client address, adds, the marker.
#[derive(Debug)]
pub(super) struct Rewriter {
    /// Bit `min(length, 63)` is set if a field with a name of this length may need a change: most fields are passed over
    /// without a look at their name.
    lengths: u64,
    remove: Vec<Box<[u8]>>,
    set: Vec<Set>,
    authority: Authority,
    client_ip: Option<Box<[u8]>>,
    trace: Trace,
    /// Lines that every copy gets, with CRLF and with bare LF.
    tail: [Vec<u8>; 2],
    /// Bytes by which a head usually grows at most.
    growth: usize,
    identity: bool,
    h2: h2::H2,
}

#[derive(Debug)]
struct Set {
    name: Box<[u8]>,
    value: Box<[u8]>,
    /// Fields of this name are removed first, so the line is always new.
    removed: bool,
}

/// What becomes of the authority, in `Host` and in an absolute-form target alike (RFC 9112 section 3.2.2: the target's
/// wins, so they have to agree).
#[derive(Debug)]
enum Authority {
    Keep,
    Suffix(Box<[u8]>),
    Replace(Box<[u8]>),
}

impl Rewriter {
    pub(super) fn new(settings: &Settings) -> Self {
        let remove: Vec<Box<[u8]>> = settings.remove.iter().map(|name| name.as_bytes().into()).collect();
        let mut set: Vec<Set> = Vec::new();
        for (name, value) in &settings.set {
            let removed = remove.iter().any(|other| other.eq_ignore_ascii_case(name.as_bytes()));
            // As listed: the last one of a name is what stands in the end.
            set.retain(|earlier| !earlier.name.eq_ignore_ascii_case(name.as_bytes()));
            set.push(Set { name: name.as_bytes().into(), value: value.as_bytes().into(), removed });
        }
        let host = set.iter().find(|set| set.name.eq_ignore_ascii_case(b"host"));
        let authority = match host {
            Some(host) => Authority::Replace(host.value.clone()),
            None if settings.host_suffix.is_empty() => Authority::Keep,
            None => Authority::Suffix(settings.host_suffix.as_bytes().into()),
        };
        let marker = settings.marker.as_ref().map(|name| (name, &settings.job));
        let new_lines = settings.add.iter().map(|(name, value)| (name, value)).chain(marker);
        let mut tail = [Vec::new(), Vec::new()];
        for (name, value) in new_lines {
            for (lines, eol) in tail.iter_mut().zip(EOL) {
                push_line(lines, name.as_bytes(), value.as_bytes(), eol);
            }
        }
        let client_ip = settings.client_ip_header.as_ref().map(|name| name.as_bytes().into());
        let mut this = Self {
            lengths: 0,
            growth: 2 * settings.host_suffix.len()
                + tail[0].len()
                + set.iter().map(|set| set.name.len() + 2 * set.value.len() + 4).sum::<usize>()
                + settings.client_ip_header.as_ref().map_or(0, |name| name.len() + 64),
            remove,
            set,
            authority,
            client_ip,
            trace: settings.trace,
            tail,
            identity: false,
            h2: h2::H2::new(settings),
        };
        this.lengths = this.name_lengths();
        this.identity = this.lengths == 0 && this.tail[0].is_empty();
        this
    }

    pub(super) fn is_identity(&self) -> bool {
        self.identity
    }

    pub(super) fn apply(&self, head: &RequestHead<'_>, client: &SocketAddr, out: &mut Vec<u8>) {
        let offers_h2 = head.leaves == Some(Leaves::H2c);
        if self.identity && !offers_h2 {
            out.extend_from_slice(head.raw);
            return;
        }
        out.reserve(head.raw.len() + self.growth);
        let mut copy = Copier { raw: head.raw, done: 0, out };

        self.target(head, &mut copy);
        for (index, field) in head.fields.iter().enumerate() {
            if offers_h2 && is_offer(head.slice(&field.name)) {
                copy.replace(field.line.start as usize..field.line.end as usize, b"");
            } else if self.lengths & length_bit(field.name.len()) != 0 {
                self.field(head, index, field, client, &mut copy);
            }
        }

        let blank_line = head.fields.last().map_or(head.fields_start, |field| field.line.end) as usize;
        copy.up_to(blank_line);
        let bare_lf = !head.raw.get(..blank_line).is_some_and(|lines| lines.ends_with(b"\r\n"));
        self.new_lines(head, client, usize::from(bare_lf), copy.out);
        copy.up_to(head.raw.len());
    }

    /// The authority of an absolute-form target.
    fn target(&self, head: &RequestHead<'_>, copy: &mut Copier<'_, '_>) {
        if head.target.first() == Some(&b'/') || matches!(self.authority, Authority::Keep) {
            return;
        }
        let Some(within) = authority::of_absolute_form(head.target) else { return };
        let after_method = head.raw.get(head.method.len()..head.fields_start as usize).unwrap_or_default();
        let Some(target) = memchr::memmem::find(after_method, head.target) else { return };
        let start = head.method.len() + target;
        self.authority(start + within.start..start + within.end, copy);
    }

    /// The change of one field line, if it needs one.
    fn field(
        &self,
        head: &RequestHead<'_>,
        index: usize,
        field: &Field,
        client: &SocketAddr,
        copy: &mut Copier<'_, '_>,
    ) {
        let name = head.slice(&field.name);
        let value = field.value.start as usize..field.value.end as usize;
        let line = field.line.start as usize..field.line.end as usize;
        let is_name = |other: &[u8]| other.eq_ignore_ascii_case(name);

        if self.remove.iter().any(|other| is_name(other)) {
            copy.replace(line, b"");
        } else if let Some(set) = self.set.iter().find(|set| is_name(&set.name)) {
            if named(head.fields.get(..index).unwrap_or_default(), head, name) {
                copy.replace(line, b"");
            } else {
                copy.replace(value, &set.value);
            }
        } else if is_name(b"host") {
            self.authority(value, copy);
        } else if self.client_ip.as_deref().is_some_and(is_name) {
            if !named(head.fields.get(index + 1..).unwrap_or_default(), head, name) {
                copy.up_to(value.end);
                if !value.is_empty() {
                    copy.out.extend_from_slice(b", ");
                }
                push_client(copy.out, name, client.ip());
            }
        } else {
            match self.trace {
                Trace::Keep => {}
                Trace::Unsampled => {
                    if let Some((within, byte)) = trace::unsampled(name, head.slice(&field.value)) {
                        copy.replace(value.start + within.start..value.start + within.end, &[byte]);
                    }
                }
                Trace::Drop if trace::is_trace(name) => copy.replace(line, b""),
                Trace::Drop => {}
            }
        }
    }

    /// An authority that stands at `at` in the head. An empty one stays empty: there is no host to put a suffix to, and
    /// an empty `Host` says that on purpose (RFC 9112 section 3.2).
    fn authority(&self, at: Range<usize>, copy: &mut Copier<'_, '_>) {
        match &self.authority {
            Authority::Keep => {}
            Authority::Suffix(_) if at.is_empty() => {}
            Authority::Suffix(suffix) => {
                let text = copy.raw.get(at.clone()).unwrap_or_default();
                copy.up_to(at.start + authority::suffix_position(text));
                copy.out.extend_from_slice(suffix);
            }
            Authority::Replace(value) => copy.replace(at, value),
        }
    }

    fn new_lines(&self, head: &RequestHead<'_>, client: &SocketAddr, style: usize, out: &mut Vec<u8>) {
        let [crlf, lf] = &self.tail;
        let (tail, eol) = if style == 0 { (crlf, EOL[0]) } else { (lf, EOL[1]) };
        for set in &self.set {
            if set.removed || !bears(head, &set.name) {
                push_line(out, &set.name, &set.value, eol);
            }
        }
        if let Some(name) = &self.client_ip
            && (self.is_removed(name) || !bears(head, name))
        {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            push_client(out, name, client.ip());
            out.extend_from_slice(eol);
        }
        out.extend_from_slice(tail);
    }

    fn is_removed(&self, name: &[u8]) -> bool {
        self.remove.iter().any(|other| other.eq_ignore_ascii_case(name))
    }

    /// See [`Rewriter::lengths`].
    fn name_lengths(&self) -> u64 {
        let mut lengths = 0;
        for name in self.remove.iter().chain(self.set.iter().map(|set| &set.name)).chain(&self.client_ip) {
            lengths |= length_bit(name.len());
        }
        if !matches!(self.authority, Authority::Keep) {
            lengths |= length_bit("host".len());
        }
        match self.trace {
            Trace::Keep => lengths,
            Trace::Unsampled => {
                trace::SAMPLED_NAME_LENGTHS.iter().fold(lengths, |all, len| all | length_bit(*len))
            }
            // Any name may begin with `x-b3-`.
            Trace::Drop => u64::MAX,
        }
    }
}

const EOL: [&[u8]; 2] = [b"\r\n", b"\n"];

/// The original, and how much of it is in `out` already.
struct Copier<'r, 'o> {
    raw: &'r [u8],
    done: usize,
    out: &'o mut Vec<u8>,
}

impl Copier<'_, '_> {
    /// Copies on, up to `end`.
    fn up_to(&mut self, end: usize) {
        self.out.extend_from_slice(self.raw.get(self.done..end).unwrap_or_default());
        self.done = end;
    }

    /// Copies up to `at`, and puts `bytes` in its place.
    fn replace(&mut self, at: Range<usize>, bytes: &[u8]) {
        self.up_to(at.start);
        self.out.extend_from_slice(bytes);
        self.done = at.end;
    }
}

/// The fields of an offer to go on with HTTP/2 (RFC 7540 section 3.2): the mirror could not take it up.
fn is_offer(name: &[u8]) -> bool {
    [&b"upgrade"[..], b"connection", b"http2-settings"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn length_bit(len: usize) -> u64 {
    1 << len.min(63)
}

fn named(fields: &[Field], head: &RequestHead<'_>, name: &[u8]) -> bool {
    fields.iter().any(|field| head.slice(&field.name).eq_ignore_ascii_case(name))
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8], eol: &[u8]) {
    for part in [name, b": ", value, eol] {
        out.extend_from_slice(part);
    }
}

/// The client's address: bare, or as a node of `Forwarded` (RFC 7239 section 6), where IPv6 is bracketed and quoted.
fn push_client(out: &mut impl Write, name: &[u8], ip: IpAddr) {
    let forwarded = name.eq_ignore_ascii_case(b"forwarded");
    let written = match ip {
        IpAddr::V6(ip) if forwarded => write!(out, "for=\"[{ip}]\""),
        ip if forwarded => write!(out, "for={ip}"),
        ip => write!(out, "{ip}"),
    };
    debug_assert!(written.is_ok(), "writing to a vector, or to room enough, cannot fail");
}
