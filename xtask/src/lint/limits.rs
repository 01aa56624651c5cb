//! docs/limits.md against the code: every limit is written down, and nothing that is no limit any more.
//!
//! A limit of the code is a `pub const` with one of [`WORDS`] in its name, or a `pub` field of a struct whose name ends
//! in `Limits` or `Timeouts`, in mirror-agent or mirror-common. Its name in the document is the room, the struct if
//! there is one, and the constant or field: `flow::DEFAULT_MAX_FLOWS`, `replay::Limits::in_flight`, `common::MAX_SHARDS`.

use std::collections::BTreeMap;

use super::rules::Finding;
use super::source::{self, Token, closing, reads};
use super::tree::Tree;

const DOCUMENT: &str = "docs/limits.md";
/// Words between the underscores of a constant's name that make it a limit.
const WORDS: [&str; 6] = ["DEFAULT", "MAX", "FLOOR", "LIMIT", "TIMEOUT", "GRACE"];

/// Rule `limits`.
pub(super) fn all_are_documented(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_code = limits_in_code(tree, &mut findings);
    let Some(document) = tree.text(DOCUMENT) else {
        findings.push(Finding::of(DOCUMENT, "is not there"));
        return findings;
    };
    let in_document = names_in(document);
    for (name, (file, line)) in &in_code {
        if !in_document.contains_key(name.as_str()) {
            findings.push(Finding::at(file, *line, format!("the limit `{name}` is missing in {DOCUMENT}")));
        }
    }
    for (name, line) in in_document {
        if !in_code.contains_key(name) {
            findings.push(Finding::at(DOCUMENT, line, format!("`{name}` is no limit in the code")));
        }
    }
    findings
}

/// Every limit by its name, with its place.
fn limits_in_code<'t>(tree: &'t Tree, findings: &mut Vec<Finding>) -> BTreeMap<String, (&'t str, usize)> {
    let mut limits = BTreeMap::new();
    for (file, text) in tree.code() {
        let Some(room) = room_of(file) else { continue };
        let tokens = match source::tokens(text) {
            Ok(tokens) => tokens,
            Err((line, error)) => {
                findings.push(Finding::at(file, line, error));
                continue;
            }
        };
        let tests = source::test_modules(&tokens);
        for at in (0..tokens.len()).filter(|at| !tests.iter().any(|range| range.contains(at))) {
            if let Some(name) = limit_constant(&tokens, at) {
                limits.insert(format!("{room}::{name}"), (file, tokens[at].line));
            }
            for (field, line) in limit_fields(&tokens, at) {
                limits.insert(format!("{room}::{field}"), (file, line));
            }
        }
    }
    limits
}

fn room_of(file: &str) -> Option<&str> {
    if file.starts_with("mirror-common/src/") {
        return Some("common");
    }
    let inside = file.strip_prefix("mirror-agent/src/")?;
    inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

/// The name of the limit that `pub const` at `at` defines.
fn limit_constant(tokens: &[Token], at: usize) -> Option<&str> {
    if !reads(tokens, at, &["const"]) || !is_pub(tokens, at) || !reads(tokens, at + 2, &[":"]) {
        return None;
    }
    let name = tokens.get(at + 1)?.text.as_str();
    name.split('_').any(|word| WORDS.contains(&word)).then_some(name)
}

/// `Struct::field` of each public field, with its line, if `pub struct ...Limits {` is at `at`.
fn limit_fields(tokens: &[Token], at: usize) -> Vec<(String, usize)> {
    let Some(name) = tokens.get(at + 1).map(|token| token.text.as_str()) else { return Vec::new() };
    let is_limits = reads(tokens, at, &["struct"])
        && is_pub(tokens, at)
        && (name.ends_with("Limits") || name.ends_with("Timeouts"));
    if !is_limits || !reads(tokens, at + 2, &["{"]) {
        return Vec::new();
    }
    let Some(end) = closing(tokens, at + 2) else { return Vec::new() };
    let mut fields = Vec::new();
    for index in at + 3..end {
        // `::` of a path is no end of a field's name.
        let named = reads(tokens, index + 1, &[":"]) && !reads(tokens, index + 2, &[":"]);
        if named && is_pub(tokens, index) {
            fields.push((format!("{name}::{}", tokens[index].text), tokens[index].line));
        }
    }
    fields
}

/// Whether `pub` or `pub(...)` stands right before `at`.
fn is_pub(tokens: &[Token], at: usize) -> bool {
    let before = |back: usize| {
        at.checked_sub(back).and_then(|index| tokens.get(index)).map(|token| token.text.as_str())
    };
    before(1) == Some("pub") || (before(1) == Some(")") && before(4) == Some("pub"))
}

/// The code names in the first column of the document's tables, with their lines.
fn names_in(document: &str) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for (index, line) in document.lines().enumerate() {
        let Some(row) = line.strip_prefix('|') else { continue };
        let Some(first) = row.split('|').next() else { continue };
        for (nth, span) in first.split('`').enumerate() {
            if nth % 2 == 1 && span.contains("::") {
                names.insert(span, index + 1);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::all_are_documented;
    use crate::lint::tree::Tree;

    const CODE: &str = "pub const DEFAULT_MAX_FLOWS: usize = 1;\nconst MAX_PRIVATE: u8 = 1;\n\
                        pub struct Limits { pub in_flight: usize, seen: std::vec::Vec<u8>, pub(crate) bytes: u64 }\n";

    fn findings(document: &str) -> Vec<String> {
        let tree = Tree::of(&[("mirror-agent/src/flow/table.rs", CODE), ("docs/limits.md", document)]);
        all_are_documented(&tree).into_iter().map(|finding| finding.to_string()).collect()
    }

    const ALL: &str =
        "| `flow::DEFAULT_MAX_FLOWS` | 1 |\n| `flow::Limits::in_flight`, `flow::Limits::bytes` | 2 |\n";

    #[test]
    fn a_document_with_every_limit_passes() {
        assert!(findings(ALL).is_empty(), "{:?}", findings(ALL));
    }

    #[test]
    fn a_limit_that_is_not_documented_is_found() {
        let found = findings("| `flow::DEFAULT_MAX_FLOWS` | 1 |\n| `flow::Limits::bytes` | 2 |\n");
        assert_eq!(
            found,
            [
                "mirror-agent/src/flow/table.rs:3: the limit `flow::Limits::in_flight` is missing in docs/limits.md"
            ]
        );
    }

    #[test]
    fn a_documented_limit_that_the_code_lost_is_found() {
        let found = findings(&format!("{ALL}| `flow::Limits::gone` | 3 |\n"));
        assert_eq!(found, ["docs/limits.md:3: `flow::Limits::gone` is no limit in the code"]);
    }

    #[test]
    fn a_limit_is_told_by_any_word_of_its_name() {
        for (code, is_limit) in [
            ("pub const LATENCY_MAX_US: u64 = 1;", true),
            ("pub const MEMORY_FLOOR: u64 = 1;", true),
            ("pub const MAXIMAL: u64 = 1;", false),
            ("pub struct Timeouts { pub idle: u64 }", true),
            ("pub struct Timers { pub idle: u64 }", false),
        ] {
            let tree = Tree::of(&[("mirror-agent/src/flow.rs", code), ("docs/limits.md", "")]);
            assert_eq!(all_are_documented(&tree).len(), usize::from(is_limit), "{code}");
        }
    }

    #[test]
    fn a_name_in_another_column_documents_nothing() {
        assert_eq!(findings(&ALL.replace("| `flow::DEFAULT", "| limit | `flow::DEFAULT")).len(), 1);
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(all_are_documented(&Tree::of(&[("mirror-agent/src/flow.rs", CODE)])).len(), 1);
    }
}
