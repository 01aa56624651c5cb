//! Whom a request is meant for.

use super::message::RequestHead;
use super::stream::StreamHead;

impl RequestHead<'_> {
    /// Host and port that the request is meant for: of an absolute target, else of the `Host` field (RFC 9112 section
    /// 3.3); of `CONNECT` its target. Empty if it does not say.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        if self.method == b"CONNECT" {
            return self.target;
        }
        if !self.target.starts_with(b"/")
            && let Some(scheme) = self.target.windows(3).position(|three| three == b"://")
        {
            let rest = self.target.get(scheme + 3..).unwrap_or_default();
            let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
            return rest.get(..end).unwrap_or_default();
        }
        self.values("host").next().unwrap_or_default()
    }
}

impl StreamHead<'_> {
    /// Host and port that the request is meant for: `:authority`, else the `host` field. Empty if it does not say.
    #[must_use]
    pub fn meant_for(&self) -> &[u8] {
        self.authority.or_else(|| self.values("host").next()).unwrap_or_default()
    }
}
