//! What a copy's head must be, found the slow and plain way from the head that the primary received.

/// Name of the marker header.
pub const MARKER: &str = "x-mirror-job";

/// The head a shadow must receive by default, but for the marker line: host suffix, and the trace header's sampled
/// flag taken away.
#[must_use]
pub fn expected(original: &str) -> String {
    let lines: Vec<String> = original
        .split("\r\n")
        .map(|line| {
            let Some((name, value)) = line.split_once(':') else { return line.to_owned() };
            let changed = match name.to_ascii_lowercase().as_str() {
                "host" => with_suffix(value.trim(), "-shadow"),
                "traceparent" => unsampled_parent(value.trim()),
                "b3" => unsampled_b3(value.trim()),
                "x-b3-sampled" => "0".to_owned(),
                _ => return line.to_owned(),
            };
            line.replacen(value.trim(), &changed, 1)
        })
        .collect();
    lines.join("\r\n")
}

/// The copy without its marker line, and the marker's value. Panics unless there is exactly one such line.
#[track_caller]
#[must_use]
pub fn without_marker(copy: &str) -> (String, String) {
    let (marks, rest): (Vec<&str>, Vec<&str>) = copy
        .split("\r\n")
        .partition(|line| line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case(MARKER)));
    assert_eq!(marks.len(), 1, "one marker line in {copy:?}");
    let value = marks[0].split_once(':').map_or("", |(_, value)| value.trim());
    (rest.join("\r\n"), value.to_owned())
}

/// The `-shadow` rule: before the last colon, unless there is none or a `]` stands after it.
#[must_use]
pub fn with_suffix(authority: &str, suffix: &str) -> String {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            format!("{}{suffix}{}", &authority[..colon], &authority[colon..])
        }
        _ => format!("{authority}{suffix}"),
    }
}

/// W3C trace context: the last field is flags, bit 0 is "sampled".
fn unsampled_parent(value: &str) -> String {
    let Some((before, flags)) = value.rsplit_once('-') else { return value.to_owned() };
    u8::from_str_radix(flags, 16)
        .map_or_else(|_| value.to_owned(), |flags| format!("{before}-{:02x}", flags & !1))
}

/// B3 in one header: trace, span, sampling state, parent.
fn unsampled_b3(value: &str) -> String {
    let mut parts: Vec<&str> = value.split('-').collect();
    if let Some(state) = parts.get_mut(2) {
        *state = "0";
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::{expected, with_suffix, without_marker};

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (from, to) in [
            ("cluster-1", "cluster-1-shadow"),
            ("cluster-1:80", "cluster-1-shadow:80"),
            ("[2001:db8::1]", "[2001:db8::1]-shadow"),
            ("[2001:db8::1]:8443", "[2001:db8::1]-shadow:8443"),
        ] {
            assert_eq!(with_suffix(from, "-shadow"), to);
        }
    }

    #[test]
    fn only_host_and_trace_are_changed() {
        let head = "GET / HTTP/1.1\r\nhOsT:  a:1\r\ntraceparent: 00-aa-bb-01\r\nX: y\r\n\r\n";
        assert_eq!(
            expected(head),
            "GET / HTTP/1.1\r\nhOsT:  a-shadow:1\r\ntraceparent: 00-aa-bb-00\r\nX: y\r\n\r\n"
        );
    }

    #[test]
    fn the_marker_line_goes_as_a_whole() {
        let (rest, job) = without_marker("GET / HTTP/1.1\r\nA: b\r\nX-Mirror-Job: j\r\n\r\n");
        assert_eq!((rest.as_str(), job.as_str()), ("GET / HTTP/1.1\r\nA: b\r\n\r\n", "j"));
    }
}
