//! Values that must not lie on a disk, overwritten with as many `x`: lengths and numbers stay true.

use memchr::{memchr, memchr2};

use crate::http::RequestHead;

/// What stands in place of a byte.
const VEIL: u8 = b'x';

/// Fields whose values are overwritten, beside the query of every target and what stands before an `@` in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redact(Vec<Box<[u8]>>);

impl Redact {
    /// The fields of these names, whatever their case.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| name.as_bytes().into()).collect())
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Overwrites in `raw`, a copy of the head's bytes; how many.
    pub(super) fn head(&self, head: &RequestHead<'_>, raw: &mut [u8]) -> u64 {
        let start = head.method.len() + 1;
        let end = start + head.target.len();
        let mut veiled = raw.get_mut(start..end).map_or(0, target);
        for field in head.fields {
            if self.has(head.slice(&field.name)) {
                let value = field.value.start as usize..field.value.end as usize;
                veiled += raw.get_mut(value).map_or(0, value_of);
            }
        }
        veiled
    }

    /// Overwrites in a whole trailer section (RFC 9112 section 7.1.2, lines end in CRLF and are not folded); how many.
    pub(super) fn trailers(&self, section: &mut [u8]) -> u64 {
        let mut veiled = 0;
        for line in section.split_mut(|&byte| byte == b'\n') {
            let Some(colon) = memchr(b':', line) else { continue };
            let (name, value) = line.split_at_mut(colon);
            if self.has(name) {
                veiled += value_of(&mut value[1..]);
            }
        }
        veiled
    }
}

/// The query of a target, a fragment that should not be there, and a name and password before the host.
fn target(target: &mut [u8]) -> u64 {
    let query = memchr2(b'?', b'#', target).unwrap_or(target.len());
    let (before, query) = target.split_at_mut(query);
    let mut veiled = query.get_mut(1..).map_or(0, veil);
    // The authority of an absolute target, or all of an authority on its own.
    let from = match before.windows(3).position(|three| three == b"://") {
        Some(scheme) if before.first() != Some(&b'/') => Some(scheme + 3),
        None if before.first() != Some(&b'/') => Some(0),
        _ => None,
    };
    if let Some(authority) = from.and_then(|from| before.get_mut(from..)) {
        let end = memchr(b'/', authority).unwrap_or(authority.len());
        if let Some(at) = authority[..end].iter().rposition(|&byte| byte == b'@') {
            veiled += veil(&mut authority[..at]);
        }
    }
    veiled
}

/// A value; the line ends of a folded one stay, with the white space that makes the next line a part of it.
fn value_of(value: &mut [u8]) -> u64 {
    let mut veiled = 0;
    let mut begins = true;
    for byte in value {
        begins = match *byte {
            b'\r' | b'\n' => true,
            b' ' | b'\t' if begins => true,
            _ => {
                *byte = VEIL;
                veiled += 1;
                false
            }
        };
    }
    veiled
}

/// All of it.
pub(super) fn veil(bytes: &mut [u8]) -> u64 {
    bytes.fill(VEIL);
    bytes.len() as u64
}
