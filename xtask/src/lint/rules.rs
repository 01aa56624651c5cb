//! The table of the project's own rules. Each has a test, beside its check, in which a planted violation is found.

use super::tree::Tree;
use super::{docs, files, limits, manifests, rooms};

/// A rule of this project.
pub(super) struct Rule {
    /// Short name.
    pub(super) name: &'static str,
    /// The rule in one sentence.
    pub(super) says: &'static str,
    /// Every place that breaks it.
    pub(super) check: fn(&Tree) -> Vec<Finding>,
}

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// Path from the root.
    pub(super) file: String,
    /// Line, from 1, where one can be named.
    pub(super) line: Option<usize>,
    /// What is wrong, and the mend if it is not plain.
    pub(super) what: String,
}

impl Finding {
    pub(super) fn at(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line), what: what.into() }
    }

    pub(super) fn of(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, what: what.into() }
    }
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "inherit",
        says: "every member inherits the workspace's lints, edition and licence",
        check: manifests::members_inherit,
    },
    Rule {
        name: "versions",
        says: "every version of a dependency stands in the workspace manifest",
        check: manifests::versions_are_shared,
    },
    Rule {
        name: "fuzz",
        says: "the package of the fuzz targets has the lints, versions and crates of the workspace",
        check: manifests::fuzz_agrees,
    },
    Rule {
        name: "rooms",
        says: "a room of mirror-agent imports only what the table in lint/rooms.rs lets it",
        check: rooms::imports,
    },
    Rule {
        name: "pure",
        says: "the pure rooms name no runtime, no socket, no clock, and walk no hash map",
        check: rooms::purity,
    },
    Rule {
        name: "unsafe",
        says: "unsafe stands only in the kernel room, the BPF program, and the two files that need it",
        check: rooms::unsafe_has_an_address,
    },
    Rule {
        name: "size",
        says: "a file over 400 lines, tests aside, argues for itself (`//! Over 400 lines: ...`)",
        check: files::size,
    },
    Rule {
        name: "layout",
        says: "a module with children is `room.rs` beside `room/`, never `mod.rs`",
        check: files::no_mod_rs,
    },
    Rule {
        name: "places",
        says: "no file names a path of one machine or the host of a registry",
        check: files::no_machine_places,
    },
    Rule { name: "links", says: "links between the documents lead somewhere", check: docs::links_resolve },
    Rule {
        name: "tests",
        says: "every test that docs/testing.md names is there",
        check: docs::named_tests_exist,
    },
    Rule {
        name: "limits",
        says: "docs/limits.md names every limit in the code, and no other",
        check: limits::all_are_documented,
    },
];

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::lint::tree::Tree;

    #[test]
    fn rules_have_distinct_names() {
        for rule in RULES {
            assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1, "{}", rule.name);
        }
    }

    #[test]
    fn the_repository_is_read_whole() {
        let tree = Tree::of_repository().expect("a git checkout");
        for file in ["Cargo.toml", "mirror-agent/src/lib.rs", "xtask/src/lint/rules.rs", "README.md"] {
            assert!(tree.text(file).is_some(), "{file}");
        }
    }
}
