//! What a job asks for, resolved and checked: the input of [`super::Plan::new`].

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// What a job asks of its requests and copies. Made by `config`, which checks every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the job: the marker's value, and what makes the sampling of two jobs independent.
    pub job: String,
    /// Shadows; at least 1.
    pub shadows: usize,
    /// Copies per request.
    pub percent: Percent,
    /// What one throw of the dice decides.
    pub sample_by: SampleBy,
    /// Key of the sampling: the same seed and traffic give the same choice.
    pub seed: u64,
    /// Methods to mirror; empty for all. Compared with case (RFC 9110 section 9.1).
    pub methods: Vec<String>,
    /// The path has to begin with these bytes, as the client spelled it: `/api` is also the beginning of `/apis`, and
    /// no escape is decoded. The query is not part of the path.
    pub path_prefix: Option<String>,
    /// Most requests selected in a second, over all shards.
    pub max_rps: Option<NonZeroU32>,
    /// Put behind the host of every authority; empty for none.
    pub host_suffix: String,
    /// Name of the field that marks a copy; its value is [`Settings::job`]. A request that bears it is not mirrored.
    pub marker: Option<String>,
    /// What becomes of the sampled flag of trace fields.
    pub trace: Trace,
    /// Name of the field that the client's address is appended to.
    pub client_ip_header: Option<String>,
    /// Names of fields to remove. Done first.
    pub remove: Vec<String>,
    /// Fields to set: the first one of that name gets the value, further ones go, a missing one is added. A set `Host`
    /// is the authority of an absolute-form target too, and gets no suffix.
    pub set: Vec<(String, String)>,
    /// Fields to add behind all others.
    pub add: Vec<(String, String)>,
}

/// Copies per request, as a percentage with up to six digits after the point: 0 to 1000. Exact, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    /// Millionths of a percent.
    millionths: u64,
}

impl Percent {
    /// One copy of every request.
    pub const HUNDRED: Self = Self { millionths: ONE };
    /// The most there is: ten copies of every request.
    pub const MAX: Self = Self { millionths: 10 * ONE };

    /// Copies that every request gets.
    #[must_use]
    pub fn certain(self) -> u8 {
        u8::try_from(self.millionths / ONE).unwrap_or(u8::MAX)
    }

    /// The chance of one copy more, as the threshold of design section 8: it is made if and only if a hash of 64 bits is
    /// below this. 0 means never.
    #[must_use]
    pub fn threshold(self) -> u64 {
        let fraction = u128::from(self.millionths % ONE);
        // Below 2^64, because the fraction is below one.
        u64::try_from((fraction << 64) / u128::from(ONE)).unwrap_or(u64::MAX)
    }
}

/// 100 %, in millionths of a percent.
const ONE: u64 = 100_000_000;

/// Why a percentage was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// Not digits, a point, digits.
    #[error("not a decimal number")]
    NotANumber,
    /// More digits after the point than are kept.
    #[error("more than six digits after the point")]
    TooFine,
    /// Below 0 or above 1000.
    #[error("out of range")]
    OutOfRange,
}

impl FromStr for Percent {
    type Err = PercentError;

    /// Reads `12`, `12.5` or `12.5%`.
    fn from_str(text: &str) -> Result<Self, PercentError> {
        let text = text.strip_suffix('%').unwrap_or(text);
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(PercentError::NotANumber);
        }
        if negative {
            return Err(PercentError::OutOfRange);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 6 {
            return Err(PercentError::TooFine);
        }
        // Digits only, so what fails to parse is too large.
        let whole: u64 = whole.parse().map_err(|_| PercentError::OutOfRange)?;
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| PercentError::NotANumber)?;
        let millionths = whole
            .checked_mul(1_000_000)
            .and_then(|whole| whole.checked_add(fraction))
            .ok_or(PercentError::OutOfRange)?;
        if millionths > Self::MAX.millionths {
            return Err(PercentError::OutOfRange);
        }
        Ok(Self { millionths })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.millionths / 1_000_000, self.millionths % 1_000_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{fraction:06}").trim_end_matches('0'))
    }
}

/// What one throw of the dice decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleBy {
    /// One request.
    Request,
    /// All requests of a connection.
    Connection,
}

impl SampleBy {
    /// Every choice with its name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Request, "request"), (Self::Connection, "connection")];
}

/// What becomes of the trace fields of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing: the shadow's spans join the production trace.
    Keep,
    /// The sampled flag is cleared: the identifiers stay, the shadow records nothing.
    Unsampled,
    /// The fields are removed: the shadow may begin traces of its own.
    Drop,
}

impl Trace {
    /// Every choice with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Keep, "keep"), (Self::Unsampled, "unsampled"), (Self::Drop, "drop")];
}
