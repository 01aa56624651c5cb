//! Links between the documents, and from them to the tests.

use std::collections::BTreeSet;

use super::rules::Finding;
use super::tree::Tree;

/// Rule `links`: every relative link of a Markdown file names a file of the tree, and its `#anchor` a heading there.
pub(super) fn links_resolve(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.files().filter(|(file, _)| file.ends_with(".md")) {
        for (line, target) in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let Some(path) = resolve(file, path) else {
                findings.push(Finding::at(file, line, format!("`{target}` leads out of the repository")));
                continue;
            };
            if !tree.has(&path) {
                findings.push(Finding::at(file, line, format!("`{target}` leads nowhere: no {path}")));
            } else if let Some(anchor) = anchor
                && let Some(text) = tree.text(&path)
                && path.ends_with(".md")
                && !anchors(text).contains(anchor)
            {
                findings.push(Finding::at(
                    file,
                    line,
                    format!("`{target}` leads nowhere: no heading `{anchor}` in {path}"),
                ));
            }
        }
    }
    findings
}

/// The document that says which test stands for which scenario.
const TESTS: &str = "docs/testing.md";

/// Rule `tests`: every test that the document names is there. A test's name is a sentence: what has three words at least, put
/// together by `_`, is taken for one.
pub(super) fn named_tests_exist(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(TESTS) else { return Vec::new() };
    let missing = |name: &&str| {
        let head = format!("fn {name}(");
        !tree.files().any(|(file, text)| file.ends_with(".rs") && text.contains(&head))
    };
    prose(text)
        .flat_map(|(line, content)| content.split('`').skip(1).step_by(2).map(move |code| (line, code)))
        .filter(|(_, code)| code.matches('_').count() >= 2)
        .filter(|(_, code)| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .filter(|(_, code)| missing(code))
        .map(|(line, code)| Finding::at(TESTS, line, format!("there is no test `{code}`")))
        .collect()
}

/// Lines of prose with their numbers, from 1: what stands in fenced code is left out.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((index + 1, line))
    })
}

/// Targets of inline links, `[text](target)`, and of reference definitions, `[name]: target`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(content);
        for (at, _) in content.match_indices("](") {
            let rest = &content[at + 2..];
            if let Some(end) = rest.find(')') {
                let target = rest[..end].split_whitespace().next().unwrap_or_default();
                found.push((line, target.to_owned()));
            }
        }
        if let Some(rest) = content.strip_prefix('[')
            && let Some((_, target)) = rest.split_once("]: ")
            && !target.trim().is_empty()
        {
            found.push((line, target.trim().to_owned()));
        }
    }
    found
}

/// The line with its `code spans` emptied.
fn without_code(line: &str) -> String {
    line.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "" }).collect()
}

/// A link's path from the root of the tree; an empty one is the file itself. `None` above the root.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

/// Anchors of a document's headings, as the usual renderers make them: lower case, blanks to `-`, signs dropped.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then_some(title.trim())
    });
    headings
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{links_resolve, named_tests_exist};
    use crate::lint::tree::Tree;

    fn broken(text: &str) -> usize {
        links_resolve(&Tree::of(&[
            ("docs/a.md", text),
            ("docs/b.md", "# One, two\n"),
            ("README.md", ""),
            ("docs/adr/0001-x.md", ""),
        ]))
        .len()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[b](b.md) and [up](../README.md), [here](#own), [dir](adr/), [h](b.md#one-two)\n\n## Own\n\
                    [web](https://example.org/x)\n[ref]: b.md\n";
        assert_eq!(broken(text), 0);
    }

    #[test]
    fn a_link_to_no_file_is_found_inline_and_as_reference() {
        assert_eq!(broken("[c](c.md)"), 1);
        assert_eq!(broken("[c]: c.md"), 1);
    }

    #[test]
    fn a_link_to_no_heading_is_found() {
        assert_eq!(broken("[h](b.md#three)"), 1);
        assert_eq!(broken("[h](#three)"), 1);
    }

    #[test]
    fn a_link_out_of_the_repository_is_found() {
        assert_eq!(broken("[x](../../etc)"), 1);
    }

    #[test]
    fn code_is_not_a_link() {
        assert_eq!(broken("`[c](c.md)`\n```\n[c](c.md)\n```\n"), 0);
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_found() {
        let found = |text: &str| {
            named_tests_exist(&Tree::of(&[
                ("docs/testing.md", text),
                ("tests/tests/a.rs", "#[test]\nfn a_test_is_there() {}\n"),
            ]))
        };
        assert_eq!(found("| x | `a`: `a_test_is_there`, `head_timeout`, `--level e2e` |\n"), []);
        let gone = found("one\n| x | `a`: `a_test_is_gone` |\n");
        assert_eq!(gone.iter().map(|finding| finding.line).collect::<Vec<_>>(), [Some(2)]);
    }
}
