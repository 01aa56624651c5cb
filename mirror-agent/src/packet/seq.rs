//! TCP sequence numbers: 32 bits, compared by distance (RFC 9293 section 3.4).

use std::fmt;

/// A TCP sequence number. The peers are not ours and may send anything, so no operation can panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `bytes` further on, wrapping.
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Signed distance from `origin` to `self`: negative if `self` lies before it. Two numbers 2^31 apart have no
    /// order; they read as before.
    #[must_use]
    #[allow(clippy::cast_possible_wrap, reason = "the wrap is the definition of the distance")]
    pub const fn since(self, origin: Self) -> i32 {
        self.0.wrapping_sub(origin.0) as i32
    }

    /// Whether `self` lies strictly after `other`.
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        self.since(other) > 0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn order_survives_the_wrap() {
        let before = Seq(u32::MAX - 2);
        let after = before.plus(5);
        assert_eq!(after, Seq(2));
        assert!(after.after(before) && !before.after(after) && !before.after(before));
        assert_eq!((after.since(before), before.since(after)), (5, -5));
        assert_eq!(Seq(0).since(Seq(1 << 31)), i32::MIN);
    }
}
