//! Puts the BPF object where `kernel::load` includes it from: the real one if `MIRROR_BPF=build` asks for it, else an
//! empty stub, so that `cargo check`, clippy and the tests of the pure rooms need no BPF toolchain.
//!
//! `cargo xtask build` sets `MIRROR_BPF=build`. `MIRROR_BPF_TOOLCHAIN` names the rustup toolchain that builds the object,
//! by default the one that `cargo xtask setup` links.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

const OBJECT: &str = "mirror-ebpf";
const DEFAULT_TOOLCHAIN: &str = "mirror-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(mirror_bpf_stub)");
    println!("cargo:rerun-if-env-changed=MIRROR_BPF");
    println!("cargo:rerun-if-env-changed=MIRROR_BPF_TOOLCHAIN");
    let mode = env::var_os("MIRROR_BPF");
    match mode.as_deref().and_then(OsStr::to_str) {
        Some("" | "stub") => stub(),
        None if mode.is_none() => stub(),
        Some("build") if env::var_os("RUSTC_BOOTSTRAP").is_none_or(|value| value != "1") => {
            again_with_bootstrap()
        }
        Some("build") => build(),
        _ => bail!("MIRROR_BPF is {mode:?}: say `build` for the real BPF program, or `stub`"),
    }
}

fn stub() -> Result<()> {
    println!("cargo::rustc-cfg=mirror_bpf_stub");
    let object = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?).join(OBJECT);
    std::fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))
}

/// `-Z build-std` wants `RUSTC_BOOTSTRAP=1` on a stable compiler. Set for the whole outer build it would make other
/// crates' build scripts believe in a nightly, so this script starts itself once more with it. What the outer cargo
/// chose for its own compiler is left out.
fn again_with_bootstrap() -> Result<()> {
    let mut again = Command::new(env::current_exe().context("cannot find this build script")?);
    again.env("RUSTC_BOOTSTRAP", "1");
    for outer in
        ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"]
    {
        again.env_remove(outer);
    }
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        // The outer build's profile, target and flags are not the BPF program's.
        if name_text.starts_with("CARGO_PROFILE_") || name_text.starts_with("CARGO_BUILD_") {
            again.env_remove(&name);
        }
    }
    let status = again.status().context("cannot start this build script again")?;
    ensure!(status.success(), "the BPF program was not built");
    Ok(())
}

fn build() -> Result<()> {
    let toolchain = env::var("MIRROR_BPF_TOOLCHAIN").unwrap_or_else(|_| DEFAULT_TOOLCHAIN.to_owned());
    let workspace = Path::new(&env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?)
        .parent()
        .context("the package has no parent folder")?
        .to_owned();
    // aya-build watches the program's own folder; it shares its types with this crate.
    println!("cargo:rerun-if-changed={}", workspace.join("mirror-common").display());
    println!("cargo:rerun-if-changed={}", workspace.join("Cargo.lock").display());
    let program = workspace.join("mirror-ebpf");
    let package = aya_build::Package {
        name: OBJECT,
        root_dir: program.to_str().context("the workspace's path is not UTF-8")?,
        ..Default::default()
    };
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(&toolchain)).with_context(|| {
        format!(
            "cannot build the BPF program with the rustup toolchain `{toolchain}`: run `cargo xtask setup`"
        )
    })
}
