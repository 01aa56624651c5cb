//! What fuzzing needs: cargo-fuzz, a C++ compiler for libFuzzer, and a rustc that takes the sanitizer's flag.
//!
//! A nightly is used where there is one. Else the toolchain in use, which brings the sanitizer's runtime too, is made to accept
//! the flag by `RUSTC_BOOTSTRAP`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::debian;
use crate::repo;

/// The cargo-fuzz that the project is tested with.
const VERSION: &str = "0.13.2";

/// A toolchain that builds with the address sanitizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FuzzToolchain {
    /// A nightly, by its rustup name.
    Nightly(String),
    /// The toolchain that runs this program.
    Bootstrap,
}

impl FuzzToolchain {
    /// `cargo`, or `rustc`, of this toolchain, in the workspace's root.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Nightly(name) => {
                let mut command = repo::without_cargo_environment(Command::new("rustup"));
                command.args(["run", name, program]);
                // What the rustup of this process chose goes before what the command says.
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
                command
            }
            Self::Bootstrap => {
                let mut command = repo::without_cargo_environment(Command::new(program));
                command.env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.current_dir(repo::root());
        command
    }

    fn name(&self) -> &str {
        match self {
            Self::Nightly(name) => name,
            Self::Bootstrap => "the toolchain in use, by RUSTC_BOOTSTRAP",
        }
    }

    /// Whether it builds a program with the sanitizer, and that runs.
    fn works(&self) -> bool {
        let probe = repo::target_dir().join("fuzz-probe");
        let built = self.build_probe(&probe).is_ok_and(|built| built);
        let runs = built && repo::succeeds(&mut Command::new(&probe));
        let _gone = std::fs::remove_file(&probe);
        runs
    }

    fn build_probe(&self, probe: &std::path::Path) -> Result<bool> {
        use std::io::Write as _;
        std::fs::create_dir_all(repo::target_dir())?;
        let mut rustc = self.program("rustc");
        rustc
            .args(["-Zsanitizer=address", "--edition=2024", "--crate-name=fuzz_probe", "-o"])
            .arg(probe)
            .arg("-");
        rustc.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = rustc.spawn()?;
        child.stdin.take().context("rustc has no standard input")?.write_all(b"fn main() {}\n")?;
        Ok(child.wait()?.success())
    }
}

/// Debian packages that must be installed before [`find_or_install`] can succeed.
pub(super) fn missing_packages() -> Vec<&'static str> {
    if repo::which("c++").is_some() || !debian::is_here() { Vec::new() } else { vec!["g++"] }
}

/// A toolchain that works, after building cargo-fuzz where that is still to be done.
///
/// # Errors
///
/// What this machine lacks.
pub(super) fn find_or_install() -> Result<FuzzToolchain> {
    ensure!(
        repo::which("c++").is_some(),
        "c++ is missing: libFuzzer is C++; install a compiler (Debian: g++)"
    );
    let Some(toolchain) = candidates().into_iter().find(FuzzToolchain::works) else {
        bail!(
            "no toolchain here builds with the address sanitizer: `rustup toolchain install nightly` gives one \
             (x86-64 and aarch64 have its runtime)"
        );
    };
    let version = || repo::output(Command::new("cargo-fuzz").arg("--version")).ok();
    if version().is_none_or(|version| version.trim() != format!("cargo-fuzz {VERSION}")) {
        repo::say(format!("building cargo-fuzz {VERSION} (about a minute on two cores)"));
        let mut install = repo::cargo();
        // It runs for a second: time spent on optimizing it is never won back.
        install
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .args(["install", "cargo-fuzz", "--locked", "--force", "--version", VERSION]);
        repo::run(&mut install)?;
        ensure!(
            version().is_some(),
            "cargo-fuzz was built but does not run from PATH: is cargo's bin directory on it?"
        );
    }
    repo::say(format!("fuzzing: cargo-fuzz {VERSION}, {}", toolchain.name()));
    Ok(toolchain)
}

/// Toolchains worth a try, best first.
fn candidates() -> Vec<FuzzToolchain> {
    let installed = repo::output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let mut found: Vec<_> = nightlies(&installed).into_iter().map(FuzzToolchain::Nightly).collect();
    found.push(FuzzToolchain::Bootstrap);
    found
}

/// The nightlies among what `rustup toolchain list` prints.
fn nightlies(installed: &str) -> Vec<String> {
    let names = installed.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("nightly-")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{FuzzToolchain, nightlies};
    use crate::repo;

    #[test]
    fn a_nightly_is_told_from_other_toolchains() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-x86_64-unknown-linux-gnu\nmirror-bpf\n";
        assert_eq!(nightlies(list), ["nightly-x86_64-unknown-linux-gnu"]);
        assert!(nightlies("no installed toolchains\n").is_empty());
    }

    #[test]
    fn a_toolchain_is_called_by_its_name_or_made_to_take_unstable_flags() {
        let nightly = FuzzToolchain::Nightly("nightly-x".to_owned());
        assert_eq!(repo::spelled(&nightly.program("cargo")), "rustup run nightly-x cargo");
        assert_eq!(repo::spelled(&FuzzToolchain::Bootstrap.program("cargo")), "RUSTC_BOOTSTRAP=1 cargo");
    }
}
