//! `cargo xtask build`: the release binary with its BPF object inside.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::repo;
use crate::setup::{self, BpfToolchain};

/// What `build` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> Result<()> {
    let toolchain = setup::bpf()?;
    binary(&toolchain)
}

/// Builds `target/release/mirror`.
pub(crate) fn binary(toolchain: &BpfToolchain) -> Result<()> {
    repo::say("building the release binary, its BPF object inside");
    let mut build = repo::cargo();
    build.args(["build", "--release", "-p", "mirror-agent"]);
    repo::run(with_bpf(&mut build, toolchain))?;
    let binary = repo::mirror_binary();
    ensure!(
        binary.is_file(),
        "cargo built nothing at {}: is the binary of mirror-agent still called `mirror`?",
        binary.display()
    );
    let shown = binary.strip_prefix(repo::root()).unwrap_or(&binary);
    repo::say(format!("the binary is at {}", shown.display()));
    Ok(())
}

/// Makes mirror-agent's build script compile the BPF program instead of leaving it out.
pub(crate) fn with_bpf<'c>(command: &'c mut Command, toolchain: &BpfToolchain) -> &'c mut Command {
    command.env("MIRROR_BPF", "build").env("MIRROR_BPF_TOOLCHAIN", &toolchain.name)
}
