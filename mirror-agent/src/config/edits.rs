//! Changes of header fields, and which of them are refused because the copy would break.

use super::{CopyFlags, Error};

/// Most header changes of one job, over `--remove-header`, `--set-header` and `--add-header`.
const MAX_EDITS: usize = 64;
/// Longest name of a field, bytes.
const MAX_NAME: usize = 256;
/// Longest value of a set or added field, bytes.
const MAX_VALUE: usize = 8192;

/// Fields that say where a request ends: a copy with another one is another request, or two (RFC 9112 section 6).
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Fields that steer the connection, which is the mirror's own towards the shadow (RFC 9110 section 7.6.1).
const STEERING: [&str; 7] =
    ["connection", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];

/// The checked changes of header fields; meanings as in [`crate::plan::Settings`].
#[derive(Debug)]
pub(super) struct Edits {
    pub(super) marker: Option<String>,
    pub(super) client_ip_header: Option<String>,
    pub(super) remove: Vec<String>,
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
}

pub(super) fn resolve(flags: &CopyFlags) -> Result<Edits, Error> {
    let edits = Edits {
        marker: own_header("--marker", (!flags.marker.is_empty()).then_some(&flags.marker))?,
        client_ip_header: own_header("--client-ip-header", flags.client_ip_header.as_ref())?,
        remove: removes(&flags.remove_header)?,
        set: sets(&flags.set_header)?,
        add: adds(&flags.add_header)?,
    };
    let count = edits.remove.len() + edits.set.len() + edits.add.len();
    if count > MAX_EDITS {
        let flags = "--remove-header, --set-header, --add-header";
        let what = format!("{count} header changes, at most {MAX_EDITS}");
        return Err(Error::of_all(flags, what, "leave out those that matter least"));
    }
    edits.agree()?;
    Ok(edits)
}

impl Edits {
    /// Refuses changes that would undo the marker or the client's address.
    fn agree(&self) -> Result<(), Error> {
        let written = self.set.iter().chain(&self.add).map(|(name, _)| name);
        let mend = "choose another name for one of them";
        if let Some(marker) = &self.marker {
            let others = written.clone().chain(&self.remove).chain(&self.client_ip_header);
            if has(others, marker) {
                let what = "another flag changes the marker header";
                return Err(Error::new("--marker", marker, what, mend));
            }
        }
        // It may be removed: then the copy bears the client's address and nothing that the client claims.
        if let Some(name) = &self.client_ip_header
            && has(written, name)
        {
            let what = "another flag writes this header";
            return Err(Error::new("--client-ip-header", name, what, mend));
        }
        Ok(())
    }
}

fn removes(typed: &[String]) -> Result<Vec<String>, Error> {
    let flag = "--remove-header";
    for name in typed {
        check_name(flag, name, name)?;
        if name.eq_ignore_ascii_case("host") {
            let mend = "set it with --set-header, or leave it";
            return Err(Error::new(
                flag,
                name,
                "an HTTP/1.1 request without Host is refused by servers",
                mend,
            ));
        }
    }
    Ok(typed.to_vec())
}

fn sets(typed: &[String]) -> Result<Vec<(String, String)>, Error> {
    let flag = "--set-header";
    let mut sets: Vec<(String, String)> = Vec::with_capacity(typed.len());
    for text in typed {
        let (name, value) = field(flag, text)?;
        if has(sets.iter().map(|(name, _)| name), &name) {
            let mend = "give each name once; --add-header puts a second one beside it";
            return Err(Error::new(flag, text, "this header is set twice", mend));
        }
        let authority = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
        if name.eq_ignore_ascii_case("host") && (value.is_empty() || !value.bytes().all(authority)) {
            return Err(Error::new(flag, text, "not an authority", "write Host: NAME or Host: NAME:PORT"));
        }
        sets.push((name, value));
    }
    Ok(sets)
}

fn adds(typed: &[String]) -> Result<Vec<(String, String)>, Error> {
    let flag = "--add-header";
    let mut adds = Vec::with_capacity(typed.len());
    for text in typed {
        let (name, value) = field(flag, text)?;
        if name.eq_ignore_ascii_case("host") {
            let what = "a request with two Host fields is refused by servers";
            return Err(Error::new(flag, text, what, "set it with --set-header"));
        }
        adds.push((name, value));
    }
    Ok(adds)
}

/// The name of a field that the mirror itself writes.
fn own_header(flag: &str, name: Option<&String>) -> Result<Option<String>, Error> {
    let Some(name) = name else { return Ok(None) };
    check_name(flag, name, name)?;
    if name.eq_ignore_ascii_case("host") {
        return Err(Error::new(flag, name, "Host says whom the request is for", "choose another name"));
    }
    Ok(Some(name.clone()))
}

/// Reads `NAME:VALUE`; white space around the value does not count (RFC 9112 section 5.1).
fn field(flag: &str, text: &str) -> Result<(String, String), Error> {
    if text.contains(['\r', '\n', '\0']) {
        let what = "a line break or NUL in a header would let in further headers, or a request";
        return Err(Error::new(flag, text, what, "take it out"));
    }
    let Some((name, value)) = text.split_once(':') else {
        return Err(Error::new(flag, text, "no colon", "write NAME:VALUE, e.g. x-env:shadow"));
    };
    check_name(flag, name, text)?;
    let value = value.trim_matches([' ', '\t']);
    if value.len() > MAX_VALUE {
        let what = format!("a value of {} bytes, at most {MAX_VALUE}", value.len());
        return Err(Error::new(flag, name, what, "shorten it"));
    }
    // RFC 9110 section 5.5: visible characters, space, tab, and bytes above ASCII.
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Error::new(flag, text, "a control character in the value", "take it out"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A name has to be a token (RFC 9110 section 5.6.2), and none that a copy depends on.
fn check_name(flag: &str, name: &str, typed: &str) -> Result<(), Error> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(token) {
        let mend = "use letters, digits and -, e.g. x-env";
        return Err(Error::new(flag, typed, "not a name for a header", mend));
    }
    if has(FRAMING, name) {
        let what = "this header says where the request ends, and a copy ends where the original does";
        return Err(Error::new(flag, typed, what, "leave it out"));
    }
    if has(STEERING, name) {
        let what = "this header steers the connection to the shadow, which is the mirror's";
        return Err(Error::new(flag, typed, what, "leave it out"));
    }
    Ok(())
}

fn has<T: AsRef<str>>(names: impl IntoIterator<Item = T>, name: &str) -> bool {
    names.into_iter().any(|other| other.as_ref().eq_ignore_ascii_case(name))
}
