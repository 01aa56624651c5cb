//! Points in time as text, in UTC.

use std::fmt::Write;

const DAY: u64 = 86_400;

/// Appends a time (ns since 1970) as RFC 3339 with nanoseconds.
pub(super) fn rfc3339(ns: u64, to: &mut String) {
    let (seconds, fraction) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = of_day(seconds);
    let _infallible =
        write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z");
}

/// Appends the time of the day with milliseconds.
pub(super) fn time_of_day(ns: u64, to: &mut String) {
    let (hour, minute, second) = of_day(ns / 1_000_000_000);
    let _infallible = write!(to, "{hour:02}:{minute:02}:{second:02}.{:03}", ns / 1_000_000 % 1_000);
}

fn of_day(seconds: u64) -> (u64, u64, u64) {
    let second = seconds % DAY;
    (second / 3_600, second / 60 % 60, second % 60)
}

/// The Gregorian date of a day since 1970, counted in years that begin in March, so that a leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let day = days + 719_468;
    let of_era = day % ERA;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + day / ERA * 400;
    if month < 10 { (year, month + 3, day_of_month) } else { (year + 1, month - 9, day_of_month) }
}

#[cfg(test)]
mod tests {
    use super::{rfc3339, time_of_day};

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_361_916_156, "2013-02-26T22:02:36.000000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            let mut said = String::new();
            rfc3339(seconds * 1_000_000_000, &mut said);
            assert_eq!(said, text);
        }
        let mut said = String::new();
        time_of_day(1_361_916_156_044_429_000, &mut said);
        assert_eq!(said, "22:02:36.044");
    }
}
