//! cargo-deny, at the version that deny.toml was written for.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::repo;

const VERSION: &str = "0.20.2";

/// Builds cargo-deny unless one is there. rustfmt and clippy are rustup's and only looked for.
pub(super) fn find_or_install() -> Result<()> {
    for (program, component) in [("rustfmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        ensure!(
            repo::which(program).is_some(),
            "{program} is missing: `rustup component add {component}` brings it"
        );
    }
    match repo::output(Command::new("cargo-deny").arg("--version")) {
        Ok(version) => repo::say(format!("linters: rustfmt, clippy, {}", version.trim())),
        Err(_) => install()?,
    }
    Ok(())
}

fn install() -> Result<()> {
    repo::say(format!("building cargo-deny {VERSION} (about 2 minutes on two cores)"));
    let mut install = repo::cargo();
    // It runs for a second: time spent on optimizing it is never won back.
    install
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .args(["install", "cargo-deny", "--locked", "--version", VERSION, "--no-default-features"]);
    repo::run(&mut install)?;
    ensure!(
        repo::succeeds(Command::new("cargo-deny").arg("--version")),
        "cargo-deny was built but does not run from PATH: is cargo's bin directory on it?"
    );
    Ok(())
}
