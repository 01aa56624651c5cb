//! What became of a request before a copy of it existed.

/// Why a request was left out by sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SampledOut {
    /// Not within the percentage.
    Percent,
    /// Over the job's requests a second.
    Rate,
}

impl SampledOut {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Percent, "percent"), (Self::Rate, "rate")];
}

/// Why a request was left out by the job's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filtered {
    /// Its method is not in the list.
    Method,
    /// Its path is not under the prefix.
    Path,
    /// It bears the marker header: it is a copy already.
    Marker,
    /// `CONNECT`.
    Connect,
    /// It asks for another protocol.
    Upgrade,
    /// It is not what an expression asks for (captures).
    Expression,
}

impl Filtered {
    /// Every reason with its exported name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Method, "method"),
        (Self::Path, "path"),
        (Self::Marker, "marker"),
        (Self::Connect, "connect"),
        (Self::Upgrade, "upgrade"),
        (Self::Expression, "expression"),
    ];
}

/// What the plan says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This many copies go to every shadow; at least 1.
    Selected {
        /// Copies per shadow.
        copies: u8,
    },
    /// Left out by sampling.
    SampledOut(SampledOut),
    /// Left out by a rule.
    Filtered(Filtered),
}
