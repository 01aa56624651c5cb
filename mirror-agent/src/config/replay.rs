//! Flags of `mirror replay`, as typed and resolved.

use std::num::NonZeroU32;

use clap::Args;

use super::inspect::{CaptureFlags, ResolvedCapture, resolve_capture};
use super::{Copies, CopyFlags, Error, resolve_copies};

/// Slowest and fastest of `--speed`, in thousandths of the capture's own pace.
const SPEEDS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// Flags of `mirror replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayFlags {
    /// What is read.
    #[command(flatten)]
    pub capture: CaptureFlags,

    /// Pace: a multiple of the capture's own, such as 2x or 0.5x, or max.
    ///
    /// max is as fast as the slowest shadow takes it: the file is read no faster, so that no limit drops a copy and
    /// --max-rps slows the reading down. At any other pace time is kept, and what is too much for a shadow is dropped
    /// by name, as live.
    #[arg(long, value_name = "N|max", default_value = "1x")]
    pub speed: String,

    /// How often the files are replayed, one round after the other; each opens connections of its own.
    #[arg(long = "loop", value_name = "NUMBER", default_value_t = NonZeroU32::MIN)]
    pub rounds: NonZeroU32,

    /// What becomes of the requests.
    #[command(flatten)]
    pub copies: CopyFlags,
}

/// The pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the slowest shadow takes it.
    Max,
    /// So many thousandths of the capture's own.
    Thousandths(NonZeroU32),
}

/// All that `mirror replay` needs to know.
#[derive(Clone, Debug)]
pub struct ResolvedReplay {
    /// What is read.
    pub capture: ResolvedCapture,
    /// How fast.
    pub speed: Speed,
    /// How often.
    pub rounds: NonZeroU32,
    /// What becomes of the requests.
    pub copies: Copies,
}

/// Resolves the flags of `mirror replay`; `seed` as for [`resolve`](super::resolve).
///
/// # Errors
///
/// The first flag that cannot stand, as one line for the user.
pub fn resolve_replay(flags: &ReplayFlags, seed: u64) -> Result<ResolvedReplay, Error> {
    let capture = resolve_capture(&flags.capture)?;
    if let Some(typed) = flags
        .capture
        .filter
        .as_ref()
        .filter(|_| capture.filter.as_ref().is_some_and(super::Filter::asks_for_status))
    {
        let mend = "leave the status out; mirror inspect --filter shows which requests had it";
        return Err(Error::new("--filter", typed, "a request is sent before its status is known", mend));
    }
    let inputs = capture.files.iter().filter(|file| file.as_os_str() == "-").count();
    if inputs > 1 {
        let mend = "give it once";
        return Err(Error::new("FILE", "-", "standard input can be read once", mend));
    }
    if inputs > 0 && flags.rounds.get() > 1 {
        let mend = "write it to a file first, or leave --loop out";
        return Err(Error::new("--loop", flags.rounds, "standard input can be read once", mend));
    }
    Ok(ResolvedReplay {
        capture,
        speed: speed(&flags.speed)?,
        rounds: flags.rounds,
        copies: resolve_copies(&flags.copies, None, seed)?,
    })
}

/// Reads `max`, `2x`, `0.5x` or the same without x.
fn speed(typed: &str) -> Result<Speed, Error> {
    if typed == "max" {
        return Ok(Speed::Max);
    }
    thousandths(typed.strip_suffix(['x', 'X']).unwrap_or(typed)).map(Speed::Thousandths).ok_or_else(|| {
        let mend = "write max, or a number from 0.001x to 1000x with at most three decimals, e.g. 2x";
        Error::new("--speed", typed, "not a pace", mend)
    })
}

fn thousandths(number: &str) -> Option<NonZeroU32> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let whole = whole.parse::<u32>().ok()?.checked_mul(1000)?;
    let part = format!("{part:0<3}").parse::<u32>().ok()?;
    NonZeroU32::new(whole.checked_add(part)?).filter(|speed| SPEEDS.contains(&speed.get()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{ReplayFlags, ResolvedReplay, Speed, resolve_replay};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ReplayFlags,
    }

    fn with(more: &[&str]) -> Result<ResolvedReplay, String> {
        let args = ["replay", "a.pcap", "--shadow", "http://10.0.0.9:8080"].iter().chain(more);
        let line = Line::try_parse_from(args).map_err(|error| error.to_string())?;
        resolve_replay(&line.flags, 7).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pace_is_max_or_a_number_of_thousandths() {
        for (typed, thousandths) in
            [("1x", 1000), ("2", 2000), ("0.5x", 500), ("0.001", 1), ("1.25X", 1250), ("1000x", 1_000_000)]
        {
            let speed = Speed::Thousandths(thousandths.try_into().unwrap());
            assert_eq!(with(&["--speed", typed]).unwrap().speed, speed, "{typed}");
        }
        assert_eq!(with(&["--speed", "max"]).unwrap().speed, Speed::Max);
        assert_eq!(with(&[]).unwrap().speed, Speed::Thousandths(1000.try_into().unwrap()));
        for bad in ["", "x", "0", "0.0005", "0.0001x", "1001", "1e3", "-1", "fast", "1.", ".5", "99999999999"]
        {
            let flag = format!("--speed={bad}");
            assert!(with(&[&flag]).unwrap_err().contains("not a pace"), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_in_one_line() {
        for (more, said) in [
            (&["--filter", "path /a and status 5xx"][..], "before its status is known"),
            (&["-", "-"], "standard input can be read once; give it once"),
            (&["-", "--loop", "2"], "standard input can be read once; write it to a file"),
        ] {
            let error = with(more).unwrap_err();
            assert!(error.contains(said) && error.lines().count() == 1, "{more:?}: {error}");
        }
        assert!(with(&["--loop", "0"]).is_err());
        assert!(
            with(&["--filter", "path /a", "--port", "80,8080", "--loop", "3", "--percent", "50"]).is_ok()
        );
        assert!(with(&["-"]).is_ok());
    }
}
