//! Rules about files as such: their size, their names, and what they must not name.

use super::rules::Finding;
use super::source;
use super::tree::Tree;

/// Lines, tests aside, above which a file must argue for itself.
const MANY_LINES: usize = 400;
/// How the argument begins, in the file's head documentation.
const ARGUMENT: &str = "//! Over 400 lines:";

/// Rule `size`.
pub(super) fn size(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.code() {
        let lines = match source::tokens(text) {
            Ok(tokens) => {
                let tests = source::test_modules(&tokens).into_iter();
                let of_tests = tests.map(|range| tokens[*range.end()].line - tokens[*range.start()].line + 1);
                text.lines().count() - of_tests.sum::<usize>()
            }
            Err((line, error)) => {
                findings.push(Finding::at(file, line, error));
                continue;
            }
        };
        let argued = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| line.strip_prefix(ARGUMENT).is_some_and(|argument| !argument.trim().is_empty()));
        if lines > MANY_LINES && !argued {
            let what = format!(
                "{lines} lines without its tests: split it by reason to change, or argue (`{ARGUMENT} ...`)"
            );
            findings.push(Finding::of(file, what));
        }
    }
    findings
}

/// Rule `layout`.
pub(super) fn no_mod_rs(tree: &Tree) -> Vec<Finding> {
    let mods = tree.rust().filter(|(file, _)| file.ends_with("/mod.rs"));
    mods.map(|(file, _)| Finding::of(file, "call it by its module's name, beside the directory")).collect()
}

/// Text that only means something on one machine, or to one registry.
const PLACES: &[&str] = &[
    "/root/",
    "/home/",
    "/work/",
    "/Users/",
    "deb.debian.org",
    "security.debian.org",
    "crates.io",
    "registry.npmjs.org",
    "pypi.org",
    "static.rust-lang.org",
];
/// Written by cargo, which names the registry; and this table.
const PLACES_EXEMPT: &[&str] = &["Cargo.lock", "mirror-agent/fuzz/Cargo.lock", "xtask/src/lint/files.rs"];

/// Rule `places`.
pub(super) fn no_machine_places(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.files().filter(|(file, _)| !PLACES_EXEMPT.contains(file)) {
        for (index, line) in text.lines().enumerate() {
            for place in PLACES {
                // A path is one only where it starts: `a/home/b` is something else.
                let starts = |at: usize| {
                    !place.starts_with('/')
                        || !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}>*".contains(c))
                };
                if line.match_indices(place).any(|(at, _)| starts(at)) {
                    findings.push(Finding::at(file, index + 1, format!("names `{place}`")));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{MANY_LINES, no_machine_places, no_mod_rs, size};
    use crate::lint::tree::Tree;

    fn functions(count: usize) -> String {
        let mut text = String::new();
        for index in 0..count {
            writeln!(text, "fn f{index}() {{}}").expect("a String takes all");
        }
        text
    }

    #[test]
    fn a_long_file_without_an_argument_is_found() {
        let long = functions(MANY_LINES + 1);
        let found =
            size(&Tree::of(&[("xtask/src/long.rs", &long), ("xtask/src/short.rs", &functions(MANY_LINES))]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "xtask/src/long.rs");
    }

    #[test]
    fn a_long_file_that_argues_for_itself_passes_and_an_empty_argument_does_not() {
        let argued = format!("//! A table.\n//! Over 400 lines: one table.\n{}", functions(MANY_LINES));
        assert!(size(&Tree::of(&[("a.rs", &argued)])).is_empty());
        let empty = format!("//! Over 400 lines:\n{}", functions(MANY_LINES));
        assert_eq!(size(&Tree::of(&[("a.rs", &empty)])).len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_lines() {
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", functions(MANY_LINES));
        assert!(size(&Tree::of(&[("a.rs", &tested)])).is_empty());
        assert!(size(&Tree::of(&[("a/src/b/tests.rs", &functions(MANY_LINES + 1))])).is_empty());
    }

    #[test]
    fn a_mod_rs_is_found() {
        assert_eq!(no_mod_rs(&Tree::of(&[("a/src/b/mod.rs", ""), ("a/src/b.rs", "")])).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_and_a_registrys_host_are_found() {
        let found = no_machine_places(&Tree::of(&[
            ("a.md", "fine\nsee /root/x\n"),
            ("b.toml", "url = \"https://pypi.org/simple\""),
            ("c.rs", "let path = \"a/home/b\"; // mirror-agent/work/x"),
        ]));
        let places: Vec<_> = found.iter().map(|finding| (finding.file.as_str(), finding.line)).collect();
        assert_eq!(places, [("a.md", Some(2)), ("b.toml", Some(1))]);
    }
}
