//! The path of a request target (RFC 9112 section 3.2).

use super::authority;

/// The path as spelled, without query: of origin-form and absolute-form targets. An absolute-form target that ends
/// with its authority has the path `/` (RFC 9110 section 4.2.3); `*` and what has no path are given back whole, so
/// that no prefix beginning with `/` fits them.
pub(super) fn of(target: &[u8]) -> &[u8] {
    let rest = match authority::of_absolute_form(target) {
        Some(authority) => target.get(authority.end..).unwrap_or_default(),
        None => target,
    };
    let end = memchr::memchr2(b'?', b'#', rest).unwrap_or(rest.len());
    let path = rest.get(..end).unwrap_or_default();
    if path.is_empty() { b"/" } else { path }
}
