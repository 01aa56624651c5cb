//! The toolchain that compiles the BPF program: a rustc that may build `core` from source, and bpf-linker.
//!
//! Two ways lead there. A rustup nightly with `rust-src` is used when it is found. On Debian, `rustc-web`, which comes
//! with its sources, is linked into rustup as [`LINKED`] and made to accept unstable flags by `RUSTC_BOOTSTRAP` in
//! mirror-agent's build script; bpf-linker is then built against Debian's LLVM.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::debian;
use crate::repo;

/// The rustup name of Debian's toolchain.
const LINKED: &str = "mirror-bpf";
/// The bpf-linker that the project is built and tested with.
const LINKER_VERSION: &str = "0.13.0";
/// The major version of LLVM in Debian's rustc-web; bpf-linker must read what that rustc writes.
const LLVM: &str = "22";

/// Debian's toolchain.
const RUST_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// What building bpf-linker needs.
const LINKER_PACKAGES: [&str; 6] =
    ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "gcc", "g++"];

/// A toolchain that can compile the BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BpfToolchain {
    /// Its rustup name.
    pub(crate) name: String,
}

/// Debian packages that must be installed before [`find_or_link`] can succeed; none if the toolchain is complete, or if
/// this is not Debian (then [`find_or_link`] says what is missing).
pub(super) fn missing_packages() -> Vec<&'static str> {
    if !debian::is_here() {
        return Vec::new();
    }
    let rust = if find().is_none() { &RUST_PACKAGES[..] } else { &[] };
    let linker = if linker_works() { &[][..] } else { &LINKER_PACKAGES[..] };
    rust.iter().chain(linker).copied().filter(|package| !debian::has(package)).collect()
}

/// The toolchain, after linking Debian's into rustup and building bpf-linker where that is still to be done.
pub(super) fn find_or_link() -> Result<BpfToolchain> {
    if repo::which("rustup").is_none() {
        bail!(
            "rustup is not on PATH: the BPF program is built by a second toolchain, which rustup selects; install rustup"
        );
    }
    let toolchain = match find() {
        Some(toolchain) => toolchain,
        None => link_debian()?,
    };
    repo::say(format!("BPF toolchain: {} ({})", toolchain.name, rustc_version(&toolchain.name)));
    if !linker_works() {
        install_linker()?;
    }
    let version = repo::output(Command::new("bpf-linker").arg("--version"))?;
    repo::say(format!("BPF linker: {}", version.trim()));
    Ok(toolchain)
}

/// The first usable toolchain: the one the environment names, Debian's, a nightly.
fn find() -> Option<BpfToolchain> {
    let named = std::env::var("MIRROR_BPF_TOOLCHAIN").ok();
    let installed = repo::output(Command::new("rustup").args(["toolchain", "list"])).ok()?;
    candidates(named.as_deref(), &installed)
        .into_iter()
        .find(|name| has_sources(name))
        .map(|name| BpfToolchain { name })
}

/// Names worth a look, best first. `installed` is what `rustup toolchain list` prints.
fn candidates(named: Option<&str>, installed: &str) -> Vec<String> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let names: Vec<&str> = installed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let linked = names.iter().filter(|name| **name == LINKED);
    let nightly = names.iter().filter(|name| **name == "nightly" || name.starts_with("nightly-"));
    linked.chain(nightly).map(|name| (*name).to_owned()).collect()
}

/// Whether a toolchain runs and brings the sources of `core`.
fn has_sources(toolchain: &str) -> bool {
    let sysroot =
        repo::output(Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]));
    let runs_cargo = || repo::succeeds(Command::new("rustup").args(["run", toolchain, "cargo", "--version"]));
    sysroot.is_ok_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
            && runs_cargo()
    })
}

fn rustc_version(toolchain: &str) -> String {
    repo::output(Command::new("rustup").args(["run", toolchain, "rustc", "--version"]))
        .map_or_else(|_| "version unknown".to_owned(), |version| version.trim().to_owned())
}

fn link_debian() -> Result<BpfToolchain> {
    if let Ok(named) = std::env::var("MIRROR_BPF_TOOLCHAIN") {
        bail!(
            "the toolchain `{named}` that MIRROR_BPF_TOOLCHAIN names does not run, or lacks the component rust-src"
        );
    }
    if !RUST_PACKAGES.iter().all(|package| debian::has(package)) {
        bail!(
            "no toolchain here can build the BPF program: `rustup toolchain install nightly --component rust-src` \
             gives one (on Debian 12, setup installs {} instead)",
            RUST_PACKAGES.join(", ")
        );
    }
    repo::say(format!("linking Debian's rustc into rustup as `{LINKED}`"));
    repo::run(Command::new("rustup").args(["toolchain", "link", LINKED, "/usr"]))?;
    if !has_sources(LINKED) {
        bail!("the linked toolchain `{LINKED}` does not run: try `rustup run {LINKED} rustc --version`");
    }
    Ok(BpfToolchain { name: LINKED.to_owned() })
}

fn linker_works() -> bool {
    repo::succeeds(Command::new("bpf-linker").arg("--version"))
}

fn install_linker() -> Result<()> {
    if !LINKER_PACKAGES.iter().all(|package| debian::has(package)) {
        bail!(
            "bpf-linker is missing: `cargo install bpf-linker --version {LINKER_VERSION}` builds it, given an LLVM that \
             is not older than the toolchain's (its own page says which features choose one)"
        );
    }
    repo::say(format!("building bpf-linker {LINKER_VERSION} against LLVM {LLVM} (about 75 s on two cores)"));
    let mut path = std::ffi::OsString::from(format!("/usr/lib/llvm-{LLVM}/bin:"));
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut install = repo::cargo();
    install
        .env("PATH", path)
        .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    println!("  $ PATH=/usr/lib/llvm-{LLVM}/bin:$PATH {}", without_environment(&install));
    anyhow::ensure!(
        install.stdin(std::process::Stdio::null()).status()?.success(),
        "building bpf-linker failed"
    );
    if !linker_works() {
        bail!("bpf-linker was built but does not run from PATH: is cargo's bin directory on it?");
    }
    Ok(())
}

fn without_environment(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>();
    format!("cargo {}", args.join(" "))
}

#[cfg(test)]
mod tests {
    use super::candidates;

    const LIST: &str =
        "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-x86_64-unknown-linux-gnu\nmirror-bpf\n";

    #[test]
    fn debians_toolchain_goes_before_a_nightly_and_stable_is_no_candidate() {
        assert_eq!(candidates(None, LIST), ["mirror-bpf", "nightly-x86_64-unknown-linux-gnu"]);
    }

    #[test]
    fn a_toolchain_named_by_the_environment_is_the_only_candidate() {
        assert_eq!(candidates(Some("mine"), LIST), ["mine"]);
    }

    #[test]
    fn without_any_there_is_no_candidate() {
        assert!(candidates(None, "no installed toolchains\n").is_empty());
    }
}
