//! `cargo xtask lint`: format, compiler and clippy warnings, licences and sources, and the project's own rules.

mod docs;
mod files;
mod limits;
mod manifests;
mod rooms;
mod rules;
mod source;
pub(crate) mod tree;

use anyhow::{Result, bail};

use crate::{repo, setup};
use rules::{Finding, RULES};
use tree::Tree;

/// What `lint` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Check the project's own rules only: no compiler, a second instead of minutes.
    #[arg(long)]
    rules_only: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut failed = Vec::new();
    if !check_rules()? {
        failed.push("rules");
    }
    if !options.rules_only {
        setup::linters()?;
        for (name, mut command) in tools() {
            repo::say(name);
            if let Err(error) = repo::run(&mut command) {
                eprintln!("error: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    repo::say("lint: nothing found");
    Ok(())
}

/// Runs every rule of the table over the tracked files, and tells whether all hold.
fn check_rules() -> Result<bool> {
    let tree = Tree::of_repository()?;
    let mut found = 0;
    for rule in RULES {
        let findings = (rule.check)(&tree);
        repo::say(format!("rule {}: {}", rule.name, rule.says));
        for finding in &findings {
            println!("  {finding}");
        }
        found += findings.len();
    }
    Ok(found == 0)
}

/// The tools of others, in order, each with the name it is reported by.
///
/// `cargo deny` leaves out its advisories: they come from a database on the network that neither a build machine
/// without network nor this project's own can fetch. `cargo deny check advisories` runs them where it can be had.
fn tools() -> [(&'static str, std::process::Command); 6] {
    let cargo = |args: &[&str]| {
        let mut command = repo::cargo();
        command.args(args);
        command
    };
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "--deny=warnings");
    // No member of the workspace, so it is asked for by its manifest; its products go where `cargo xtask fuzz` has its own.
    let mut fuzz = cargo(&["clippy", "--manifest-path", manifests::FUZZ, "--locked", "--lib", "--bins"]);
    fuzz.arg("--target-dir").arg(repo::target_dir().join("fuzz")).args(["--", "--deny=warnings"]);
    [
        ("rustfmt", cargo(&["fmt", "--all", "--check"])),
        ("rustfmt of the fuzz targets", cargo(&["fmt", "--manifest-path", manifests::FUZZ, "--check"])),
        (
            "clippy",
            cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny=warnings"]),
        ),
        ("clippy of the fuzz targets", fuzz),
        ("rustdoc", doc),
        ("cargo deny", cargo(&["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"])),
    ]
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}
