//! What is said of bad input.

/// A flag that cannot stand: one line that says where, what and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}; {mend}")]
pub struct Error {
    /// The flag with its value, as typed.
    at: String,
    what: String,
    mend: String,
}

impl Error {
    /// `flag` with the value `typed` has the fault `what`; `mend` says what to do.
    pub(super) fn new(
        flag: &str,
        typed: impl std::fmt::Display,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        // A value may hold a line break; the message is one line all the same.
        let typed = typed.to_string();
        let at =
            if typed.is_empty() || typed.contains(char::is_whitespace) || typed.chars().any(char::is_control)
            {
                format!("{flag} {typed:?}")
            } else {
                format!("{flag} {typed}")
            };
        Self { at, what: what.into(), mend: mend.into() }
    }

    /// The fault lies in several flags together.
    pub(super) fn of_all(flags: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { at: flags.to_owned(), what: what.into(), mend: mend.into() }
    }
}
