//! One request head: where its lines lie, what they say of the framing (RFC 9112 sections 2 to 6).
//!
//! What is taken and what is refused. The copy is byte for byte, so leniency here never changes what the shadow reads;
//! it decides only whether a request is recognised. The rule: take what one of the common servers takes as long as all
//! readers that take it agree where the message ends; refuse what two readers may frame differently.
//!
//! - A bare LF ends a line (section 2.2 allows it, nginx does it). A head that mixes both line ends and announces a
//!   body is refused: to a reader that keeps the LF in the value the framing field is not there.
//! - A bare CR, NUL and other control characters are refused anywhere in a head.
//! - A folded line (obs-fold) is kept in `raw` and in the value, but not in a field that is interpreted here, not before
//!   the first field, and not when it is blank: old readers take that for the end of the head.
//! - `Content-Length` is digits only. Repeated fields with byte-identical values are one length to every reader that
//!   takes them; lists (`5, 5`) are refused, because readers of the digits and readers of the list differ.
//! - `Transfer-Encoding` ends in exactly one `chunked`; registered compressions may stand before it. Anything else,
//!   an empty list element, HTTP/1.0, or a `Content-Length` beside it is refused.
//! - A target with bytes beyond ASCII is none (RFC 3986 section 2). Some servers take it and some refuse it, and what it
//!   stands for depends on who reads it. The request is refused, but its framing is sound and the connection goes on.
//! - A missing or repeated `Host` is not framing: the server's business.
//!
//! httparse is not used: it refuses folded lines in requests and gives no line spans.
//!
//! Over 400 lines: one grammar, RFC 9112 sections 3 and 5, read from top to bottom.

use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use super::message::{BodyKind, Field, Leaves, Version};

/// Field lines of one head. The inline part lives on the caller's stack; a head with more fields allocates.
pub(super) type Fields = SmallVec<[Field; 32]>;

/// Longest method taken for one; registered methods have up to 17 bytes.
const MAX_METHOD: usize = 64;
/// Longest scheme of a target that is waited for; those of HTTP have up to 5 bytes.
const MAX_SCHEME: usize = 16;

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes from the first byte of the request line to the blank line, both included.
    pub(super) len: usize,
    pub(super) method_len: usize,
    pub(super) target: Range<usize>,
    pub(super) fields_start: u32,
    pub(super) version: Version,
    pub(super) body: BodyKind,
    pub(super) expects_continue: bool,
    pub(super) closes: bool,
    /// It says so (`Connection: close`); else HTTP/1.0 says it.
    pub(super) says_close: bool,
    pub(super) leaves: Option<Leaves>,
    /// Its framing is sound, but it is no request that may be sent on.
    pub(super) unfit: bool,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fail {
    /// Its end is not there yet, and nothing said so far is wrong.
    Incomplete,
    /// Not a request line of HTTP/1.0 or 1.1.
    Unknown,
    /// The line that begins the HTTP/2 preface.
    Http2,
    /// A request line of HTTP/1, but something that must be refused in it or in a field.
    Malformed,
    /// A request line of HTTP/1, and with the fields it is over the limit of bytes or fields.
    TooLarge,
    /// Over the limit of bytes before there was a whole request line.
    LineTooLarge,
}

/// Reads the head that `bytes` begins with. Faults of the request line are told as soon as that line is there, faults
/// of fields when the whole head is, so that the answer does not depend on how the bytes were cut.
pub(super) fn parse(bytes: &[u8], max_fields: usize, fields: &mut Fields) -> Result<Head, Fail> {
    fields.clear();
    let line = request_line(bytes)?;
    let mut at = line.len;
    let mut ends = LineEnds::default();
    ends.note(line.crlf);
    let mut fault = None;
    let len = loop {
        let rest = &bytes[at..];
        match rest {
            [b'\n', ..] => {
                ends.note(false);
                break at + 1;
            }
            [b'\r', b'\n', ..] => {
                ends.note(true);
                break at + 2;
            }
            _ => {}
        }
        if fault.is_none()
            && fields.len() < max_fields
            && let Some((field, next)) = plain_field(bytes, at)
        {
            fields.push(field);
            ends.note(true);
            at = next;
            continue;
        }
        let lf = memchr(b'\n', rest).ok_or(Fail::Incomplete)?;
        let crlf = lf > 0 && rest[lf - 1] == b'\r';
        ends.note(crlf);
        let text = &rest[..lf - usize::from(crlf)];
        if fault.is_none() {
            fault = field_line(text, at, at + lf + 1, bytes, max_fields, fields).err();
        }
        at += lf + 1;
    };
    if let Some(fault) = fault {
        return Err(fault);
    }
    let method = &bytes[..line.method_len];
    let mut head = Head {
        len,
        method_len: line.method_len,
        target: line.target,
        fields_start: offset(line.len),
        version: line.version,
        body: BodyKind::None,
        expects_continue: false,
        closes: line.version == Version::Http10,
        says_close: false,
        leaves: (method == b"CONNECT").then_some(Leaves::Connect),
        unfit: line.unfit,
    };
    interpret(&mut head, bytes, fields, ends.mixed())?;
    Ok(head)
}

/// Whether `bytes` may begin a request: after blank lines a method, then a whole request line, or so much of one as is
/// there. Cheaper than [`parse`], for the search after a gap.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    match request_line(&bytes[blank..]) {
        Ok(_) => true,
        Err(Fail::Incomplete) => bytes.len() > blank && target_so_far(&bytes[blank..]),
        Err(_) => false,
    }
}

/// Whether `bytes` are blank lines and the beginning of a method, perhaps a target's scheme after it, and nothing else: more than
/// [`may_yet_begin`] takes, for where a guess is enough.
pub(super) fn may_become(bytes: &[u8]) -> bool {
    let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    let line = &bytes[blank..];
    match method(line) {
        Err(Fail::Incomplete) => true,
        Ok(end) => line.len() - end <= MAX_SCHEME && line[end + 1..].iter().all(u8::is_ascii_alphabetic),
        Err(_) => false,
    }
}

/// Whether `bytes` may begin a request with a method of RFC 9110 section 9.3 or RFC 5789.
pub(super) fn may_begin_well_known(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH "];
    METHODS.iter().any(|method| bytes.starts_with(method)) && may_begin(bytes)
}

/// Whether `bytes`, of which [`may_begin`] is not true, are too few to tell: blank lines, or a method that may go on.
pub(super) fn may_yet_begin(bytes: &[u8]) -> bool {
    let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    matches!(method(&bytes[blank..]), Err(Fail::Incomplete))
}

/// A method and the beginning of a target, with nothing in them that cannot stand there.
fn target_so_far(line: &[u8]) -> bool {
    let Ok(method) = method(line) else { return false };
    let rest = &line[method + 1..];
    let end = memchr(b' ', rest);
    let target = end.map_or(rest, |end| &rest[..end]);
    // What is there of a scheme may go on: else it would matter where the line is cut.
    let goes_on = end.is_none() && (target.is_empty() || scheme(target) == target.len());
    !has_control(target) && (goes_on || plausible_target(target, &line[..method] == b"CONNECT"))
}

/// Length of the URI scheme that `target` begins with (RFC 3986 section 3.1); 0 if there is none.
fn scheme(target: &[u8]) -> usize {
    if !target.first().is_some_and(u8::is_ascii_alphabetic) {
        return 0;
    }
    target.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count()
}

#[derive(Default)]
struct LineEnds {
    crlf: bool,
    bare: bool,
}

impl LineEnds {
    fn note(&mut self, crlf: bool) {
        self.crlf |= crlf;
        self.bare |= !crlf;
    }

    fn mixed(&self) -> bool {
        self.crlf && self.bare
    }
}

struct Line {
    len: usize,
    crlf: bool,
    method_len: usize,
    target: Range<usize>,
    version: Version,
    unfit: bool,
}

/// Length of the method that `bytes` begins with, the space after it left out.
fn method(bytes: &[u8]) -> Result<usize, Fail> {
    for (at, &byte) in bytes.iter().take(MAX_METHOD + 1).enumerate() {
        if byte == b' ' && at > 0 {
            return Ok(at);
        }
        if !is_token(byte) {
            return Err(Fail::Unknown);
        }
    }
    if bytes.len() > MAX_METHOD { Err(Fail::Unknown) } else { Err(Fail::Incomplete) }
}

/// Whether the beginning of a head whose blank line is not there yet can still become one: [`Fail::Incomplete`] if so.
pub(super) fn check_start(bytes: &[u8]) -> Fail {
    request_line(bytes).err().unwrap_or(Fail::Incomplete)
}

fn request_line(bytes: &[u8]) -> Result<Line, Fail> {
    let method_len = method(bytes)?;
    if let Some(line) = plain_line(bytes, method_len) {
        return Ok(line);
    }
    let lf = memchr(b'\n', bytes).ok_or(Fail::Incomplete)?;
    let crlf = bytes[lf - 1] == b'\r';
    let line = &bytes[..lf - usize::from(crlf)];
    let version = if line.ends_with(b" HTTP/1.1") {
        Version::Http11
    } else if line.ends_with(b" HTTP/1.0") {
        Version::Http10
    } else if line == b"PRI * HTTP/2.0" {
        return Err(Fail::Http2);
    } else {
        return Err(Fail::Unknown);
    };
    let target = method_len + 1..(line.len() - b" HTTP/1.1".len()).max(method_len + 1);
    let text = line.get(target.clone()).unwrap_or_default();
    let bad = has_control(text) || memchr(b' ', text).is_some() || memchr(b'\t', text).is_some();
    if bad || !plausible_target(text, &line[..method_len] == b"CONNECT") {
        return Err(Fail::Malformed);
    }
    Ok(Line { len: lf + 1, crlf, method_len, unfit: !text.is_ascii(), target, version })
}

/// The request line of nearly every request, in one pass: origin-form, HTTP/1.1, CRLF. Only ever says what the rules
/// below would say as well.
fn plain_line(bytes: &[u8], method_len: usize) -> Option<Line> {
    let from = method_len + 1;
    if bytes.get(from) != Some(&b'/') {
        return None;
    }
    let to = from + bytes[from..].iter().position(|&b| b <= b' ' || b >= 0x7f)?;
    bytes[to..].starts_with(b" HTTP/1.1\r\n").then_some(Line {
        len: to + b" HTTP/1.1\r\n".len(),
        crlf: true,
        method_len,
        target: from..to,
        version: Version::Http11,
        unfit: false,
    })
}

/// A field line like nearly every one, in one pass: a name, a value without control characters, CRLF. With it, where the
/// next line begins. Only ever says what [`field_line`] would say as well.
fn plain_field(bytes: &[u8], start: usize) -> Option<(Field, usize)> {
    let rest = &bytes[start..];
    let name = rest.iter().position(|&b| !is_token(b))?;
    if name == 0 || rest[name] != b':' {
        return None;
    }
    let end = name + 1 + first_control(&rest[name + 1..])?;
    if !rest[end..].starts_with(b"\r\n") {
        return None;
    }
    let (from, to) = trimmed(&rest[name + 1..end]);
    let value = start + name + 1;
    let next = start + end + 2;
    let field = Field {
        line: offset(start)..offset(next),
        name: offset(start)..offset(start + name),
        value: offset(value + from)..offset(value + to),
    };
    Some((field, next))
}

/// Where the first control character stands, eight bytes at a time. The tab counts: it is rare, and the slow way knows it.
fn first_control(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let (words, _) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte's high bit is set if it is below 0x20, or 0x7f; a borrow can only reach bytes after the first such.
        let low = word.wrapping_sub(0x20 * ONES) & !word;
        let delete = word ^ (0x7f * ONES);
        let found = (low | (delete.wrapping_sub(ONES) & !delete)) & HIGH;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let done = words.len() * 8;
    text[done..].iter().position(|&b| b < 0x20 || b == 0x7f).map(|at| done + at)
}

/// The four forms of section 3.2, told apart by how they begin.
fn plausible_target(target: &[u8], connect: bool) -> bool {
    match target {
        [b'/', ..] | b"*" => true,
        [first, ..] if connect => first.is_ascii_graphic() || *first >= 0x80,
        // absolute-form: a scheme, then a colon.
        _ => match scheme(target) {
            0 => false,
            end => target.get(end) == Some(&b':'),
        },
    }
}

/// Takes one line after the request line: `text` without its line end stands at `start..end` of `bytes`.
fn field_line(
    text: &[u8],
    start: usize,
    end: usize,
    bytes: &[u8],
    max_fields: usize,
    fields: &mut Fields,
) -> Result<(), Fail> {
    if has_control(text) {
        return Err(Fail::Malformed);
    }
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return fold(text, start, end, bytes, fields);
    }
    let name = text.iter().position(|&b| !is_token(b)).unwrap_or(text.len());
    if name == 0 || text.get(name) != Some(&b':') {
        return Err(Fail::Malformed);
    }
    if fields.len() == max_fields {
        return Err(Fail::TooLarge);
    }
    let (from, to) = trimmed(&text[name + 1..]);
    let value = start + name + 1;
    fields.push(Field {
        line: offset(start)..offset(end),
        name: offset(start)..offset(start + name),
        value: offset(value + from)..offset(value + to),
    });
    Ok(())
}

/// Joins a folded line to the field before it.
fn fold(text: &[u8], start: usize, end: usize, bytes: &[u8], fields: &mut Fields) -> Result<(), Fail> {
    let field = fields.last_mut().ok_or(Fail::Malformed)?;
    let (from, to) = trimmed(text);
    let name = &bytes[field.name.start as usize..field.name.end as usize];
    if from == to || INTERPRETED.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Err(Fail::Malformed);
    }
    if field.value.is_empty() {
        field.value.start = offset(start + from);
    }
    field.value.end = offset(start + to);
    field.line.end = offset(end);
    Ok(())
}

/// Fields that framing or routing depends on.
const INTERPRETED: [&[u8]; 6] =
    [b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"host"];

/// Framing and connection options of a head whose lines are sound.
fn interpret(head: &mut Head, bytes: &[u8], fields: &Fields, mixed_ends: bool) -> Result<(), Fail> {
    let mut length: Option<&[u8]> = None;
    let mut coding = Coding::default();
    let mut close = false;
    let mut keep_alive = false;
    let mut upgrade_option = false;
    let mut upgrade = Upgrade::default();
    for field in fields {
        let name = &bytes[field.name.start as usize..field.name.end as usize];
        let value = &bytes[field.value.start as usize..field.value.end as usize];
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if length.is_some_and(|earlier| earlier != value) {
                    return Err(Fail::Malformed);
                }
                length = Some(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => coding.add(value)?,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => upgrade.add(value),
            14 if name.eq_ignore_ascii_case(b"http2-settings") => upgrade.settings = true,
            17 if name.eq_ignore_ascii_case(b"sec-websocket-key") => upgrade.key = true,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                head.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
    }
    if mixed_ends && (length.is_some() || coding.present) {
        return Err(Fail::Malformed);
    }
    let new = head.version == Version::Http11;
    head.body = match (length, coding.present) {
        (None, false) => BodyKind::None,
        (Some(digits), false) => match decimal(digits).ok_or(Fail::Malformed)? {
            0 => BodyKind::None,
            length => BodyKind::Length(length),
        },
        (None, true) if new && coding.chunked => BodyKind::Chunked,
        _ => return Err(Fail::Malformed),
    };
    // Section 6.1 of RFC 9110 and 7.8: to a sender of 1.0 neither means anything.
    head.expects_continue &= new;
    if new && upgrade_option && head.leaves.is_none() {
        head.leaves = upgrade.leaves();
    }
    head.closes = close || (!new && !keep_alive);
    head.says_close = close;
    Ok(())
}

/// `Upgrade`, over all its fields, and what the protocols it names need beside it.
#[derive(Default)]
struct Upgrade {
    present: bool,
    websocket: bool,
    h2c: bool,
    key: bool,
    settings: bool,
}

impl Upgrade {
    fn add(&mut self, value: &[u8]) {
        self.present = true;
        for protocol in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            self.websocket |= protocol.eq_ignore_ascii_case(b"websocket");
            self.h2c |= protocol.eq_ignore_ascii_case(b"h2c");
        }
    }

    fn leaves(&self) -> Option<Leaves> {
        if self.websocket && self.key {
            Some(Leaves::WebSocket)
        } else if self.h2c && self.settings {
            Some(Leaves::H2c)
        } else {
            self.present.then_some(Leaves::Other)
        }
    }
}

/// `Transfer-Encoding`, over all its fields.
#[derive(Default)]
struct Coding {
    present: bool,
    chunked: bool,
}

impl Coding {
    fn add(&mut self, value: &[u8]) -> Result<(), Fail> {
        const COMPRESSIONS: [&[u8]; 5] = [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress"];
        self.present = true;
        for coding in value.split(|&b| b == b',') {
            // Trims what RFC 9110 calls OWS; other white space was refused as a control character.
            let (from, to) = trimmed(coding);
            let coding = &coding[from..to];
            let compression = COMPRESSIONS.iter().any(|known| coding.eq_ignore_ascii_case(known));
            if self.chunked || !(compression || coding.eq_ignore_ascii_case(b"chunked")) {
                return Err(Fail::Malformed);
            }
            self.chunked = !compression;
        }
        Ok(())
    }
}

/// `1*DIGIT` that fits 64 bits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Bounds of `text` without spaces and tabs around it.
pub(super) fn trimmed(text: &[u8]) -> (usize, usize) {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let from = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let to = text.iter().rposition(|b| !blank(b)).map_or(from, |last| last + 1);
    (from, to)
}

/// Any control character but the tab. Written as a fold so that it is done 16 bytes at a time.
fn has_control(text: &[u8]) -> bool {
    text.iter().fold(false, |found, &b| found | ((b < 0x20) & (b != b'\t')) | (b == 0x7f))
}

/// Offsets are 32 bits: a head is limited to less than that by `Limits::max_head_bytes`.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// `tchar` of RFC 9110 section 5.6.2.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 128 {
        #[allow(clippy::cast_possible_truncation, reason = "below 128")]
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric();
        at += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests;
