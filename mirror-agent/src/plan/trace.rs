//! Trace context: W3C `traceparent` and B3, the two that carry a sampled flag in a place that is laid down.

use std::ops::Range;

/// Lengths of the names that [`unsampled`] knows.
pub(super) const SAMPLED_NAME_LENGTHS: [usize; 4] = [2, 10, 11, 12];

/// The change that clears the sampled flag of a field: this range of the value becomes this byte. `None` if the field
/// carries none, or one that is not set; a value that is not well-formed is left alone, as its reader will do.
pub(super) fn unsampled(name: &[u8], value: &[u8]) -> Option<(Range<usize>, u8)> {
    match name.len() {
        2 if name.eq_ignore_ascii_case(b"b3") => b3(value),
        10 if name.eq_ignore_ascii_case(b"x-b3-flags") => (value == b"1").then_some((0..1, b'0')),
        11 if name.eq_ignore_ascii_case(b"traceparent") => traceparent(value),
        12 if name.eq_ignore_ascii_case(b"x-b3-sampled") => {
            // `true` and `d` are spellings of older writers.
            let set = value == b"1" || value == b"d" || value.eq_ignore_ascii_case(b"true");
            set.then_some((0..value.len(), b'0'))
        }
        _ => None,
    }
}

/// Whether a field is part of a trace context, whatever it says.
pub(super) fn is_trace(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"traceparent")
        || name.eq_ignore_ascii_case(b"tracestate")
        || name.eq_ignore_ascii_case(b"b3")
        || name.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-b3-"))
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, two hex digits for the flags; later versions may go on behind
/// another dash (W3C Trace Context, sections 3.2.2 and 4). Bit 0 of the flags is `sampled`; the others stay.
fn traceparent(value: &[u8]) -> Option<(Range<usize>, u8)> {
    const LEN: usize = 55;
    let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
    if !dashes || !matches!(value.get(LEN), None | Some(b'-')) {
        return None;
    }
    let low = *value.get(LEN - 1)?;
    let digit = char::from(low).to_digit(16)?;
    // An odd hex digit stands one behind the even one below it, in either case.
    (digit & 1 == 1).then(|| (LEN - 1..LEN, low - 1))
}

/// `trace-span`, `trace-span-state`, `trace-span-state-parent`, or the state alone (B3 single header). `1` is accept,
/// `d` is debug, which implies accept.
fn b3(value: &[u8]) -> Option<(Range<usize>, u8)> {
    let mut dashes = memchr::memchr_iter(b'-', value);
    let state = match (dashes.next(), dashes.next(), dashes.next()) {
        (None, ..) => 0..value.len(),
        (Some(_), Some(before), after) => before + 1..after.unwrap_or(value.len()),
        (Some(_), None, _) => return None,
    };
    matches!(value.get(state.clone())?, b"1" | b"d").then_some((state, b'0'))
}
