//! What a recording says: a line each second, the table at the end. Formatting only.

use std::fmt::Write as _;

use serde::Serialize;

use crate::record::Summary;

/// One line of JSON without line end: `event`, and the numbers; `taps` and the file when it begins.
#[must_use]
pub fn json_line(event: &str, extra: impl Serialize, summary: &Summary) -> String {
    #[derive(Serialize)]
    struct Line<'a, T: Serialize> {
        event: &'a str,
        #[serde(flatten)]
        extra: T,
        #[serde(flatten)]
        summary: &'a Summary,
    }
    serde_json::to_string(&Line { event, extra, summary })
        .unwrap_or_else(|error| serde_json::json!({"event": "error", "error": error.to_string()}).to_string())
}

/// One line for a terminal.
#[must_use]
pub fn live_line(summary: &Summary) -> String {
    let Summary { segments, lost, bytes, files, .. } = summary;
    let file = if files.files == 1 { "file" } else { "files" };
    let mut line = format!("{segments} segments  {} bytes  {} {file}", bytes.written, files.files);
    if *lost > 0 {
        let _infallible = write!(line, "  lost in ring {lost} segments, {} bytes", bytes.lost_in_ring);
    }
    line
}

/// The table at the end. Ends with a line end.
#[must_use]
pub fn final_table(out: &str, summary: &Summary) -> String {
    let Summary { uptime_s, segments, answers, lost, bytes, files, bad_records, tap, laws_hold } = summary;
    let mut text = format!("recorded for {uptime_s:.1} s into {out}\n");
    let mut row = |what: &str, why: &str, n: u64| {
        let _infallible = writeln!(text, "  {what:<14} {why:<18} {n:>12}");
    };
    row("segments", "", *segments);
    row("", "answers", *answers);
    row("lost in ring", "", *lost);
    row("files", "", files.files);
    row("", "packets", files.packets);
    row("", "bytes", files.bytes);
    for (what, n) in [("removed", files.removed), ("no records", *bad_records)] {
        if n > 0 {
            row("", what, n);
        }
    }
    row("request bytes", "matched", bytes.matched);
    row("written", "", bytes.written);
    row("lost in ring", "", bytes.lost_in_ring);
    for (why, n) in bytes.left_out.iter().filter(|(_, n)| *n > 0) {
        row("left out", why, n);
    }
    for (what, n) in tap.iter().filter(|(_, n)| *n > 0) {
        row("tap", what, n);
    }
    text.push_str(if *laws_hold {
        "the law holds: every byte of a request has exactly one outcome\n"
    } else {
        "LAW BROKEN: some bytes of requests have no outcome, or two; please report this\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mirror_common::counter::{JobCounters, TapCounters};

    use super::{final_table, json_line, live_line};
    use crate::record::{Books, LeftOut, Summary, Written};

    fn summary(matched_bytes: u64) -> Summary {
        let books = Arc::new(Books::default());
        books.written.add(70);
        books.left_out[LeftOut::HeadersOnly as usize].add(25);
        books.segments.add(3);
        let job = JobCounters { matched_bytes, lost_in_ring_bytes: 5, ..JobCounters::default() };
        let files = Written { files: 2, removed: 1, packets: 4, bytes: 1000 };
        Summary::new(1.5, &[books], files, &TapCounters::default(), &job)
    }

    #[test]
    fn a_byte_without_an_outcome_is_told() {
        let sound = final_table("a.pcapng", &summary(100));
        assert!(sound.contains("the law holds") && !sound.contains("BROKEN"), "{sound}");
        let broken = final_table("a.pcapng", &summary(101));
        assert!(broken.contains("LAW BROKEN"), "{broken}");
        assert!(json_line("final", (), &summary(101)).contains("\"laws_hold\":false"));
    }

    #[test]
    fn every_number_that_is_not_zero_has_its_row() {
        let table = final_table("a.pcapng", &summary(100));
        for row in ["headers_only", "removed", "packets", "matched", "written"] {
            assert!(table.contains(row), "{row}: {table}");
        }
        assert!(!table.contains("redacted"), "{table}");
        assert_eq!(live_line(&summary(100)), "3 segments  70 bytes  2 files");
    }

    #[test]
    fn a_json_line_names_its_event_and_holds_the_law() {
        let line: serde_json::Value =
            serde_json::from_str(&json_line("final", serde_json::json!({"file": "a"}), &summary(100)))
                .unwrap();
        assert_eq!(line["event"], "final");
        assert_eq!(line["file"], "a");
        assert_eq!(line["bytes"]["left_out"]["headers_only"], 25);
        assert_eq!(line["files"]["removed"], 1);
        assert_eq!(line["laws_hold"], true);
    }
}
