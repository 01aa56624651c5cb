//! Debian's packages: what is there, and how to get the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::repo;

/// Whether a package is installed.
pub(super) fn has(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${db:Status-Status}", package]);
    repo::output(&mut query).is_ok_and(|status| status == "installed")
}

/// Whether this machine installs its programs with apt.
pub(super) fn is_here() -> bool {
    repo::which("apt-get").is_some() && repo::which("dpkg-query").is_some()
}

/// Installs packages; does nothing, and asks nobody, for an empty list.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_here() {
        bail!(
            "missing: {list} (names of Debian packages); this machine has no apt-get, so setup cannot install them: \
             install what your distribution calls them, or see \"Without Debian\" in CONTRIBUTING.md"
        );
    }
    if !repo::is_root() {
        bail!(
            "missing: {list}; run `apt-get install --no-install-recommends {list}` as root, then this again"
        );
    }
    repo::say(format!("installing Debian packages: {list}"));
    let _services = NoNewServices::begin()?;
    repo::run(apt().arg("update"))?;
    repo::run(apt().args(["install", "--no-install-recommends", "-y"]).args(packages)).with_context(|| {
        "Debian does not give these packages; where it has no rustc-web, a rustup nightly with rust-src and a \
         bpf-linker do the same: see \"Without Debian\" in CONTRIBUTING.md"
    })
}

/// An apt-get that asks no question, and waits for another that runs.
pub(super) fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Keeps packages from starting their services while it lives: the tests want nginx's program, not a server on port
/// 80 of this host. A policy that the host has already is left alone.
struct NoNewServices {
    ours: bool,
}

impl NoNewServices {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self> {
        let policy = Path::new(Self::POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        // 101: "action forbidden by policy", the answer that invoke-rc.d obeys.
        fs::write(policy, "#!/bin/sh\nexit 101\n")
            .context("cannot write the policy that keeps services stopped")?;
        let guard = Self { ours: true };
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoNewServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(Self::POLICY)
        {
            eprintln!("warning: {} is left behind: {error}", Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{has, install};

    #[test]
    fn an_empty_list_installs_nothing_and_succeeds() {
        install(&[]).expect("nothing to do");
    }

    #[test]
    fn a_package_that_does_not_exist_is_not_installed() {
        assert!(!has("no-such-package-as-this"));
    }
}
