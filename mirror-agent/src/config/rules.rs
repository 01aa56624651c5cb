//! Which requests, how many, and under which name.

use std::num::NonZeroU32;

use super::Error;
use crate::plan::{Percent, PercentError, Settings};

/// The methods of the IANA registry, `PRI` and `*` aside, and `PURGE` of the caches. `CONNECT` is never mirrored.
const METHODS: [&str; 39] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];
/// What `safe` stands for.
const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
/// Highest `--max-rps`.
const MAX_RPS: u32 = 1_000_000;
/// Longest job name: a DNS subdomain, as the names of cluster resources.
const MAX_NAME: usize = 253;
/// Longest host suffix: a DNS label.
const MAX_SUFFIX: usize = 63;

pub(super) fn name(typed: &str) -> Result<String, Error> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = || typed.bytes();
    if !bytes().all(allowed) || !ends(bytes().next()) || !ends(bytes().last()) || typed.len() > MAX_NAME {
        let mend = "use lower-case letters, digits, - and ., with a letter or digit at both ends";
        return Err(Error::new("--name", typed, "not a name for a job", mend));
    }
    Ok(typed.to_owned())
}

pub(super) fn percent(typed: &str) -> Result<Percent, Error> {
    typed.parse().map_err(|reason: PercentError| {
        Error::new("--percent", typed, reason.to_string(), "give a number from 0 to 1000, e.g. 100 or 12.5")
    })
}

/// Whether a request that changes something may be sent more than once.
pub(super) fn repeats_writes(plan: &Settings) -> bool {
    let writes = |method: &String| !SAFE.contains(&method.as_str());
    plan.percent > Percent::HUNDRED && (plan.methods.is_empty() || plan.methods.iter().any(writes))
}

pub(super) fn methods(typed: &[String]) -> Result<Vec<String>, Error> {
    let flag = "--methods";
    let mut methods: Vec<String> = Vec::new();
    for list in typed {
        for method in list.split(',').map(str::trim) {
            let chosen: &[&str] = match METHODS.iter().position(|known| *known == method) {
                Some(at) => &METHODS[at..=at],
                None if method == "safe" => &SAFE,
                None if method == "CONNECT" => {
                    return Err(Error::new(flag, list, "CONNECT is never mirrored", "leave it out"));
                }
                None if METHODS.contains(&method.to_ascii_uppercase().as_str()) => {
                    let mend =
                        format!("methods are compared with case; write {}", method.to_ascii_uppercase());
                    return Err(Error::new(flag, list, format!("unknown method {method:?}"), mend));
                }
                None => {
                    let mend = "give registered methods separated by commas, e.g. GET,POST, or `safe`";
                    return Err(Error::new(flag, list, format!("unknown method {method:?}"), mend));
                }
            };
            for method in chosen {
                if !methods.iter().any(|have| have == method) {
                    methods.push((*method).to_owned());
                }
            }
        }
    }
    Ok(methods)
}

pub(super) fn path_prefix(typed: Option<&str>) -> Result<Option<String>, Error> {
    let flag = "--path-prefix";
    let Some(typed) = typed else { return Ok(None) };
    if !typed.starts_with('/') {
        return Err(Error::new(flag, typed, "no path begins like this", "begin with /, e.g. /api/"));
    }
    if typed.contains(['?', '#']) {
        return Err(Error::new(flag, typed, "the query is not looked at", "end it before the ? or #"));
    }
    if !typed.bytes().all(|byte| byte.is_ascii_graphic()) {
        let mend = "spell it as it stands in requests, with % escapes";
        return Err(Error::new(flag, typed, "bytes that no path holds", mend));
    }
    Ok(Some(typed.to_owned()))
}

pub(super) fn max_rps(typed: Option<u64>) -> Result<Option<NonZeroU32>, Error> {
    match typed.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(rps)) if rps <= MAX_RPS => Ok(NonZeroU32::new(rps)),
        Some(_) => {
            let mend = format!("give 1 to {MAX_RPS}, or 0 for no limit");
            Err(Error::new("--max-rps", typed.unwrap_or_default(), "out of range", mend))
        }
    }
}

pub(super) fn host_suffix(typed: &str) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if typed.len() > MAX_SUFFIX || !typed.bytes().all(allowed) {
        let mend = "use letters, digits, -, . and _, at most 63, e.g. -shadow; \"\" for none";
        return Err(Error::new("--host-suffix", typed, "not part of a host name", mend));
    }
    Ok(typed.to_owned())
}
