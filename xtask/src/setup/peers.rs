//! HTTP/2 and WebSocket peers from PyPI, in a Python environment of their own: gRPC's library, hypercorn and websockets. It stands outside the
//! repository, so that a fresh clone finds it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::repo;

/// What is installed, at the versions that the tests were written with.
const PACKAGES: [&str; 3] = ["grpcio==1.85.1", "hypercorn==0.18.0", "websockets==17.4"];
/// Succeeds if all of it can be used.
const PROOF: &str = "import grpc, hypercorn, websockets";

/// `MIRROR_PEERS`, or `mirror/peers` in the user's cache. The tests look there too.
fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MIRROR_PEERS") {
        return Ok(dir.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    let cache =
        cache.or_else(home).context("neither HOME nor XDG_CACHE_HOME is set; MIRROR_PEERS names a folder")?;
    Ok(cache.join("mirror").join("peers"))
}

/// Makes the environment, unless it is there and works.
pub(super) fn find_or_install() -> Result<()> {
    let dir = dir()?;
    let python = dir.join("bin").join("python");
    if !repo::succeeds(Command::new(&python).args(["-c", PROOF])) {
        repo::say(format!("installing {} into {}", PACKAGES.join(", "), dir.display()));
        repo::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        repo::run(Command::new(&python).args(pip).args(PACKAGES))?;
    }
    repo::say("test peers from PyPI: all found");
    Ok(())
}
