//! Authorities: where they stand in a target, and where a host suffix goes.

use std::ops::Range;

/// Where a suffix goes in an authority without userinfo: before the last colon, or at the end if there is none or a
/// `]` stands after it (the colons of an IPv6 literal). The port is not looked at, a suffix that is already there is not
/// recognised: what meshes do, so that routes made for them match.
pub(super) fn suffix_position(authority: &[u8]) -> usize {
    match memchr::memrchr2(b':', b']', authority) {
        Some(at) if authority.get(at) == Some(&b':') => at,
        _ => authority.len(),
    }
}

/// The host and port within an absolute-form target (RFC 9112 section 3.2.2), userinfo left out. `None` for every other
/// form.
pub(super) fn of_absolute_form(target: &[u8]) -> Option<Range<usize>> {
    // Nearly every target is in origin form.
    if target.first() == Some(&b'/') {
        return None;
    }
    let scheme = memchr::memchr(b':', target)?;
    let (first, rest) = target.get(..scheme)?.split_first()?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !first.is_ascii_alphabetic() || !rest.iter().all(allowed) {
        return None;
    }
    let start = scheme + 3;
    if target.get(scheme..start)? != b"://" {
        return None;
    }
    let after = target.get(start..)?;
    let end = start + memchr::memchr3(b'/', b'?', b'#', after).unwrap_or(after.len());
    let userinfo = memchr::memrchr(b'@', target.get(start..end)?).map_or(0, |at| at + 1);
    Some(start + userinfo..end)
}
