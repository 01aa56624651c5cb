//! `cargo xtask setup`: finds what building and testing need, and installs what is missing where it can.
//!
//! Every step is said. A second run changes nothing, and with everything in place nothing is fetched: presence is
//! asked of the machine (PATH, dpkg, rustup), never of a registry.

mod bpf;
mod debian;
mod fuzz;
mod kernels;
mod linters;
mod peers;
mod programs;

use anyhow::Result;

pub(crate) use bpf::BpfToolchain;
pub(crate) use fuzz::FuzzToolchain;

use crate::repo;

/// What `setup` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What setup looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The toolchain that compiles the BPF program.
    Bpf,
    /// The programs that the tests and the demo drive.
    Programs,
    /// Debian's kernels, which the tests boot in qemu.
    Kernels,
    /// cargo-fuzz, and a toolchain that has the address sanitizer.
    Fuzz,
    /// What `cargo xtask lint` runs beside rustfmt and clippy.
    Linters,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    // One list before any work, so that apt is asked once.
    let mut packages = Vec::new();
    if wanted(Part::Bpf) {
        packages.extend(bpf::missing_packages());
    }
    if wanted(Part::Programs) {
        packages.extend(programs::missing_packages());
    }
    if wanted(Part::Kernels) {
        packages.extend(programs::missing_for_qemu());
    }
    if wanted(Part::Fuzz) {
        packages.extend(fuzz::missing_packages());
    }
    debian::install(&packages)?;
    if wanted(Part::Bpf) {
        bpf()?;
    }
    if wanted(Part::Programs) {
        programs()?;
        peers()?;
    }
    if wanted(Part::Kernels) {
        kernels()?;
    }
    if wanted(Part::Fuzz)
        && let Err(error) = fuzz()
    {
        // All else works without it; `test` says it again.
        anyhow::ensure!(options.only.is_none(), "{error:#}");
        repo::say(format!("fuzzing will be left out of the tests: {error:#}"));
    }
    if wanted(Part::Linters) {
        linters()?;
    }
    repo::say("all that was asked for is in place");
    Ok(())
}

/// The BPF toolchain, installed if need be.
pub(crate) fn bpf() -> Result<BpfToolchain> {
    debian::install(&bpf::missing_packages())?;
    bpf::find_or_link()
}

/// The programs that tests and demo drive, installed if need be.
pub(crate) fn programs() -> Result<()> {
    debian::install(&programs::missing_packages())?;
    repo::say("test programs: all found");
    Ok(())
}

/// The test peers from PyPI, which the demo does without, installed if need be.
pub(crate) fn peers() -> Result<()> {
    peers::find_or_install()
}

/// qemu and Debian's kernels, installed and fetched if need be.
pub(crate) fn kernels() -> Result<()> {
    debian::install(&programs::missing_for_qemu())?;
    kernels::fetch_missing()
}

/// What fuzzing needs, installed if need be.
pub(crate) fn fuzz() -> Result<FuzzToolchain> {
    debian::install(&fuzz::missing_packages())?;
    fuzz::find_or_install()
}

/// cargo-deny, built if need be, and the compiler of libFuzzer, without which the fuzz targets cannot be checked.
pub(crate) fn linters() -> Result<()> {
    debian::install(&fuzz::missing_packages())?;
    linters::find_or_install()
}
