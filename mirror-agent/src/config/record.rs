//! Flags of `mirror record`, as typed and resolved.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are the help texts, where [IPv6]:PORT is no link"
)]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::{AgentFlags, Error, Primary, Tap, TapFlags, limits, primary, tap, units};
use crate::record::{Redact, Rotation, Rules};

/// Largest file without `--rotate-size`, bytes.
pub const DEFAULT_ROTATE_SIZE: u64 = 256 << 20;
/// Least size of a file that is worth a name, bytes.
pub const ROTATE_SIZE_FLOOR: u64 = 64 << 10;
/// Files that stay without `--keep`.
pub const DEFAULT_KEEP: u32 = 16;

/// Fields whose values `--redact` overwrites in any case.
const REDACTED: [&str; 5] = ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];

const WRITE: &str = "What is written";
const LEAVE: &str = "What is left out";

/// Flags of `mirror record`.
#[derive(Args, Clone, Debug)]
pub struct RecordFlags {
    /// The service whose connections are recorded.
    ///
    /// IP:PORT, [IPv6]:PORT, or :PORT (or PORT) for the port on any address of this machine.
    #[arg(long, value_name = "[IP]:PORT", help_heading = WRITE)]
    pub primary: String,

    /// The file to write, pcapng. There must be none of this name.
    ///
    /// When it is full it is renamed to FILE with a number before its ending (capture-00001.pcapng), and a new FILE begins.
    #[arg(long, value_name = "FILE", help_heading = WRITE, value_hint = ValueHint::FilePath)]
    pub out: PathBuf,

    /// Begin a new file when one would be larger than this, at least 64KiB.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = WRITE)]
    pub rotate_size: String,

    /// Begin a new file after this time, e.g. 10m. A file without packets goes on.
    #[arg(long, value_name = "TIME", help_heading = WRITE)]
    pub rotate_time: Option<String>,

    /// Files that stay, the one that is written included: the oldest are removed. 0 keeps all.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_KEEP, help_heading = WRITE)]
    pub keep: u32,

    /// Leave out bodies: of what clients send only heads are written, and how long the rest was.
    ///
    /// Also the messages of WebSockets and the payload of DATA frames. What is not proved to be HTTP is left out altogether.
    #[arg(long, help_heading = LEAVE)]
    pub headers_only: bool,

    /// Overwrite with x the query of every target, and the values of these fields: authorization, cookie, set-cookie,
    /// proxy-authorization, x-api-key, and those that are named here.
    ///
    /// Bodies are written as they are, unless --headers-only leaves them out. HTTP/2 connections are left out altogether: what a
    /// compressed header block says cannot be overwritten in it.
    #[arg(long, value_name = "NAME,...", num_args = 0..=1, default_missing_value = "", value_delimiter = ',', help_heading = LEAVE)]
    pub redact: Option<Vec<String>>,

    /// Where to tap.
    #[command(flatten)]
    pub tap: TapFlags,

    /// Memory, time, and what is said.
    #[command(flatten)]
    pub agent: AgentFlags,
}

/// All that `mirror record` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRecord {
    /// Whose connections are recorded.
    pub primary: Primary,
    /// The file.
    pub out: PathBuf,
    /// When it ends, and how many stay.
    pub rotation: Rotation,
    /// What is not written.
    pub rules: Rules,
    /// Where and how to tap.
    pub tap: Tap,
    /// Worker threads; `None` for one for every two cores.
    pub shards: Option<u16>,
    /// Ceiling of the memory, bytes.
    pub memory: u64,
    /// Bytes of a ring as asked for; see [`ResolvedRecord::ring_bytes`].
    pub ring: Option<u32>,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// JSON lines even on a terminal.
    pub json: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl ResolvedRecord {
    /// As [`Resolved::shards_on`](super::Resolved::shards_on).
    #[must_use]
    pub fn shards_on(&self, cores: usize) -> u16 {
        limits::shards_on(self.shards, self.memory, cores)
    }

    /// As [`Resolved::ring_bytes`](super::Resolved::ring_bytes).
    ///
    /// # Errors
    ///
    /// When what was asked for is more than the share.
    pub fn ring_bytes(&self, shards: u16) -> Result<u32, Error> {
        limits::ring_bytes(self.memory, self.ring, shards)
    }
}

/// Resolves the flags of `mirror record`.
///
/// # Errors
///
/// The first flag that cannot stand, as one line for the user.
pub fn resolve_record(flags: &RecordFlags) -> Result<ResolvedRecord, Error> {
    let memory = limits::memory(&flags.agent)?;
    let resolved = ResolvedRecord {
        primary: primary::parse(&flags.primary)?,
        out: out(flags)?,
        rotation: rotation(flags)?,
        rules: Rules { headers_only: flags.headers_only, redact: redact(flags)? },
        tap: tap::of(&flags.tap)?,
        shards: limits::shards(flags.tap.shards, memory)?,
        memory,
        ring: limits::ring(&flags.tap)?,
        duration: units::some_duration("--duration", flags.agent.duration.as_deref())?,
        json: flags.agent.json,
        verbose: flags.agent.verbose,
    };
    // How many shards there are without `--shards` is not known here.
    resolved.ring_bytes(resolved.shards.unwrap_or(1))?;
    Ok(resolved)
}

fn out(flags: &RecordFlags) -> Result<PathBuf, Error> {
    let typed = flags.out.display();
    if flags.out.as_os_str() == "-" {
        let mend = "name a file";
        return Err(Error::new("--out", typed, "standard output cannot be ended and numbered", mend));
    }
    if flags.out.file_name().is_none() {
        return Err(Error::new("--out", typed, "not the name of a file", "name a file, e.g. capture.pcapng"));
    }
    Ok(flags.out.clone())
}

fn rotation(flags: &RecordFlags) -> Result<Rotation, Error> {
    let size = units::bytes("--rotate-size", &flags.rotate_size)?;
    if size < ROTATE_SIZE_FLOOR {
        let mend = "give at least 64KiB";
        return Err(Error::new("--rotate-size", &flags.rotate_size, "too small for a file", mend));
    }
    Ok(Rotation {
        size,
        time: units::some_duration("--rotate-time", flags.rotate_time.as_deref())?,
        keep: NonZeroU32::new(flags.keep),
    })
}

fn redact(flags: &RecordFlags) -> Result<Option<Redact>, Error> {
    let Some(typed) = &flags.redact else { return Ok(None) };
    let named = typed.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let names: Vec<&str> = REDACTED.into_iter().chain(named).collect();
    for name in &names {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(is_token) {
            let mend = "write names with commas between them, e.g. --redact x-token,x-session";
            return Err(Error::new("--redact", name, "not the name of a field", mend));
        }
    }
    Ok(Some(Redact::new(names)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{RecordFlags, ResolvedRecord, resolve_record};
    use crate::record::{Redact, Rules};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: RecordFlags,
    }

    fn resolved(more: &[&str]) -> Result<ResolvedRecord, String> {
        let line = [&["record", "--primary", ":80", "--out", "dir/a.pcapng"], more].concat();
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        resolve_record(&line.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_files_are_bounded_and_nothing_is_left_out() {
        let plain = resolved(&[]).unwrap();
        assert_eq!((plain.rotation.size, plain.rotation.time), (256 << 20, None));
        assert_eq!(plain.rotation.keep.map(std::num::NonZero::get), Some(16));
        assert!(plain.rules.is_plain());
        assert_eq!(resolved(&["--keep", "0"]).unwrap().rotation.keep, None);
    }

    #[test]
    fn names_are_added_to_those_that_are_redacted_anyway() {
        let always = ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];
        let rules =
            |names: &[&str]| Rules { headers_only: false, redact: Some(Redact::new(names.iter().copied())) };
        assert_eq!(resolved(&["--redact"]).unwrap().rules, rules(&always));
        let more = [&always[..], &["x-a", "X-B"]].concat();
        assert_eq!(resolved(&["--redact", "x-a, X-B"]).unwrap().rules, rules(&more));
        assert_eq!(resolved(&["--redact=x-a", "--redact=X-B"]).unwrap().rules, rules(&more));
        assert!(resolved(&["--redact", "--headers-only"]).unwrap().rules.headers_only);
    }

    #[test]
    fn what_cannot_stand_is_refused_in_one_line_that_says_the_mend() {
        for (flags, said) in [
            (&["--rotate-size", "1KiB"][..], "--rotate-size 1KiB: too small for a file; give at least 64KiB"),
            (&["--rotate-time", "5"], "--rotate-time 5: no unit; "),
            (&["--redact", "a b"], "--redact \"a b\": not the name of a field; "),
            (&["--ring", "5KiB"], "--ring 5KiB: not the size of a ring; "),
            (&["--memory", "1MiB"], "--memory 1MiB: below the floor; "),
            (&["--shards", "65"], "--shards 65: out of range; "),
        ] {
            let error = resolved(flags).unwrap_err();
            assert!(error.starts_with(said), "{flags:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        for out in ["-", "..", "/"] {
            let line = Line::try_parse_from(["record", "--primary", ":80", "--out", out]).unwrap();
            let error = resolve_record(&line.flags).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--out {out}: ")), "{error}");
        }
    }
}
