//! The files that the rules look at, as one value: a rule's test plants a violation in a tree of its own.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Result, ensure};

use super::source;
use crate::repo;

/// Text files by their path from the root, `/` between its parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Every text file of the repository that git tracks or would track.
    pub(crate) fn of_repository() -> Result<Self> {
        let mut list = Command::new("git");
        // A checkout of another user's is only read here.
        list.args(["-c", "safe.directory=*"]);
        list.current_dir(repo::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = repo::output(&mut list)?;
        let mut tree = Self::default();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // Deleted but not yet staged, or not text: nothing a rule could read.
            let Ok(text) = std::fs::read_to_string(repo::root().join(path)) else { continue };
            tree.files.insert(path.to_owned(), text);
        }
        ensure!(tree.text("Cargo.toml").is_some(), "git lists no Cargo.toml in {}", repo::root().display());
        Ok(tree)
    }

    /// A tree of these files.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust file that is not for tests or benchmarks only, by path.
    pub(super) fn code(&self) -> impl Iterator<Item = (&str, &str)> {
        let for_tests = self.test_modules();
        self.rust().filter(move |(path, _)| {
            let by_place = path.ends_with("/tests.rs")
                || path.starts_with("tests/tests/")
                || path.contains("/tests/")
                || path.contains("/benches/");
            let module = path.trim_end_matches(".rs");
            let by_name = for_tests.iter().any(|test| {
                module.strip_prefix(test).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            !by_place && !by_name
        })
    }

    /// Paths, without `.rs`, of modules that a `#[cfg(test)]` in their parent keeps to tests.
    fn test_modules(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, text) in self.rust() {
            // What is not Rust is reported by the rule that reads the file itself.
            let Ok(tokens) = source::tokens(text) else { continue };
            let module = path.trim_end_matches(".rs");
            let is_root = ["/lib", "/main"].iter().any(|root| module.ends_with(root));
            let home = if is_root { module.rsplit_once('/').map_or("", |(home, _)| home) } else { module };
            found.extend(source::test_module_names(&tokens).into_iter().map(|name| format!("{home}/{name}")));
        }
        found
    }

    /// Every Rust file, by path.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Whether a file or a directory with files is there.
    pub(super) fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&directory))
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn files_for_tests_are_told_by_their_place_and_by_their_parent() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod lab;"),
            ("a/src/b.rs", "#[cfg(test)]\nmod model;\nmod models;"),
            ("a/src/b/model.rs", ""),
            ("a/src/b/model/deep.rs", ""),
            ("a/src/b/models.rs", ""),
            ("a/src/b/tests.rs", ""),
            ("a/src/lab.rs", ""),
            ("a/tests/x.rs", ""),
            ("a/benches/y.rs", ""),
        ]);
        let code: Vec<_> = tree.code().map(|(path, _)| path).collect();
        assert_eq!(code, ["a/src/b.rs", "a/src/b/models.rs", "a/src/lib.rs"]);
    }
}
