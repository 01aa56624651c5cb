//! Sizes and times with their units.

use std::time::Duration;

use super::Error;

/// Longest time that a flag takes.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads `64MiB`, `1GiB`, `512M`, `100MB` or plain bytes. `K`, `M`, `G` and `KiB`, `MiB`, `GiB` are powers of 1024;
/// `KB`, `MB`, `GB` are powers of 1000. Case does not count.
pub(super) fn bytes(flag: &str, typed: &str) -> Result<u64, Error> {
    let error = |what: &str| Error::new(flag, typed, what, "write a size such as 64MiB, 1GiB or 67108864");
    let unit_at = typed.find(|c: char| !c.is_ascii_digit()).unwrap_or(typed.len());
    let (number, unit) = typed.split_at(unit_at);
    if number.is_empty() {
        return Err(error("not a size"));
    }
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(error("not a size")),
    };
    let number: u64 = number.parse().map_err(|_| error("too large"))?;
    number.checked_mul(unit).ok_or_else(|| error("too large"))
}

/// A power of two as it is typed: `64KiB`, `8MiB`.
pub(super) fn shown(bytes: u32) -> String {
    if bytes < 1 << 20 { format!("{}KiB", bytes >> 10) } else { format!("{}MiB", bytes >> 20) }
}

/// As [`duration`], if a time was given.
pub(super) fn some_duration(flag: &str, typed: Option<&str>) -> Result<Option<Duration>, Error> {
    typed.map(|typed| duration(flag, typed)).transpose()
}

/// Reads `500ms`, `20s`, `5m`, `2h`, `1d` and rows of them such as `1h30m`; over zero, at most a year.
pub(super) fn duration(flag: &str, typed: &str) -> Result<Duration, Error> {
    let error = |what: &str| {
        Error::new(flag, typed, what, "write a time with its unit, such as 500ms, 20s, 5m or 1h30m")
    };
    let mut total = Duration::ZERO;
    let mut rest = typed;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| error("no unit"))?;
        let (number, tail) = rest.split_at(unit_at);
        let next = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(error("not a time")),
        };
        if number.is_empty() {
            return Err(error("not a time"));
        }
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
        total = part
            .and_then(|part| total.checked_add(Duration::from_millis(part)))
            .filter(|total| *total <= MAX_DURATION)
            .ok_or_else(|| error("over a year"))?;
        rest = tail;
    }
    if total.is_zero() {
        return Err(error("no time at all"));
    }
    Ok(total)
}
