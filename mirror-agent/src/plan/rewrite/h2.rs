//! The head of an HTTP/2 copy: the same changes as for HTTP/1, on fields instead of lines.
//!
//! Names are lower case there, pseudo-fields come first, and there are no fields of the connection: what a job sets or
//! adds of those is left out (RFC 9113 section 8.2.2).

use std::net::{IpAddr, SocketAddr};

use super::super::fields::FieldWriter;
use super::super::{authority, trace};
use super::{Authority, Rewriter, Set, length_bit, push_client};
use crate::http::{HeaderField, Pseudo, StreamHead};
use crate::plan::settings::{Settings, Trace};

/// What of a job's changes is spelled otherwise in HTTP/2.
#[derive(Debug, Default)]
pub(super) struct H2 {
    /// Names to set with their values, in lower case; `host` is not among them, it is the authority.
    set: Vec<Set>,
    client_ip: Option<Box<[u8]>>,
    /// Fields that every copy gets, written.
    tail: Vec<u8>,
}

/// Fields that no HTTP/2 request may carry.
fn of_the_connection(name: &str, value: &str) -> bool {
    const NAMES: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
        || name.eq_ignore_ascii_case("te") && value != "trailers"
}

fn lower(name: &str) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into()
}

impl H2 {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut set: Vec<Set> = Vec::new();
        for (name, value) in settings.set.iter().filter(|(name, value)| !of_the_connection(name, value)) {
            let name = lower(name);
            set.retain(|earlier| earlier.name != name);
            if &*name != b"host" {
                let removed =
                    settings.remove.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(&name));
                set.push(Set { name, value: value.as_bytes().into(), removed });
            }
        }
        let mut tail = Vec::new();
        let mut writer = FieldWriter::new(&mut tail);
        for (name, value) in settings.add.iter().filter(|(name, value)| !of_the_connection(name, value)) {
            writer.push(&lower(name), &[value.as_bytes()], false);
        }
        if let Some(marker) = &settings.marker {
            writer.push(&lower(marker), &[settings.job.as_bytes()], false);
        }
        Self { set, client_ip: settings.client_ip_header.as_deref().map(lower), tail }
    }
}

impl Rewriter {
    /// As [`Rewriter::apply`], for the head of an HTTP/2 stream.
    pub(in crate::plan) fn apply_h2(&self, head: &StreamHead<'_>, client: &SocketAddr, out: &mut Vec<u8>) {
        let mut out = FieldWriter::new(out);
        let never = |field| head.never_indexed.has(field);
        out.push(b":method", &[head.method], never(Pseudo::Method));
        if let Some(scheme) = head.scheme {
            out.push(b":scheme", &[scheme], never(Pseudo::Scheme));
        }
        let replaced = match (&self.authority, head.authority) {
            // A set host names the authority of a copy whose original named none at all.
            (Authority::Replace(value), None) if !bears(head, b"host") => Some(&**value),
            (_, authority) => authority,
        };
        if let Some(text) = replaced {
            self.push_authority(b":authority", text, never(Pseudo::Authority), &mut out);
        }
        if let Some(path) = head.path {
            out.push(b":path", &[path], never(Pseudo::Path));
        }
        for (index, field) in head.fields.iter().enumerate() {
            if self.lengths & length_bit(field.name.len()) == 0 {
                out.copy(field);
            } else {
                self.field_h2(head, index, field, client, &mut out);
            }
        }
        for set in &self.h2.set {
            if set.removed || !bears(head, &set.name) {
                out.push(&set.name, &[&set.value], false);
            }
        }
        if let Some(name) = &self.h2.client_ip
            && (self.is_removed(name) || !bears(head, name))
        {
            push_client_field(name, None, client.ip(), false, &mut out);
        }
        out.append(&self.h2.tail);
    }

    /// A field of which something may be changed.
    fn field_h2(
        &self,
        head: &StreamHead<'_>,
        index: usize,
        field: &HeaderField<'_>,
        client: &SocketAddr,
        out: &mut FieldWriter<'_>,
    ) {
        let HeaderField { name, value, never_indexed } = *field;
        let bear = |fields: &[HeaderField<'_>]| fields.iter().any(|other| other.name == name);
        if self.is_removed(name) {
            return;
        }
        if let Some(set) = self.h2.set.iter().find(|set| *set.name == *name) {
            if !bear(head.fields.get(..index).unwrap_or_default()) {
                out.push(name, &[&set.value], never_indexed);
            }
        } else if name == b"host" {
            self.push_authority(name, value, never_indexed, out);
        } else if self.h2.client_ip.as_deref() == Some(name)
            && !bear(head.fields.get(index + 1..).unwrap_or_default())
        {
            push_client_field(name, Some(value), client.ip(), never_indexed, out);
        } else {
            match self.trace {
                Trace::Drop if trace::is_trace(name) => {}
                Trace::Unsampled if let Some((within, byte)) = trace::unsampled(name, value) => {
                    let before = value.get(..within.start).unwrap_or_default();
                    let after = value.get(within.end..).unwrap_or_default();
                    out.push(name, &[before, &[byte], after], never_indexed);
                }
                Trace::Keep | Trace::Unsampled | Trace::Drop => out.copy(field),
            }
        }
    }

    fn push_authority(&self, name: &[u8], text: &[u8], never_indexed: bool, out: &mut FieldWriter<'_>) {
        match &self.authority {
            Authority::Suffix(suffix) if !text.is_empty() => {
                let (host, port) = text.split_at(authority::suffix_position(text));
                out.push(name, &[host, suffix, port], never_indexed);
            }
            Authority::Replace(value) => out.push(name, &[value], never_indexed),
            Authority::Keep | Authority::Suffix(_) => out.push(name, &[text], never_indexed),
        }
    }
}

fn bears(head: &StreamHead<'_>, name: &[u8]) -> bool {
    head.fields.iter().any(|field| field.name == name)
}

/// The client's address behind what stands in the field already.
fn push_client_field(
    name: &[u8],
    before: Option<&[u8]>,
    ip: IpAddr,
    never_indexed: bool,
    out: &mut FieldWriter<'_>,
) {
    let mut address = [0; 64];
    let mut rest = &mut address[..];
    push_client(&mut rest, name, ip);
    let unused = rest.len();
    let address = address.get(..address.len() - unused).unwrap_or_default();
    match before {
        Some(before) if !before.is_empty() => out.push(name, &[before, b", ", address], never_indexed),
        _ => out.push(name, &[address], never_indexed),
    }
}
