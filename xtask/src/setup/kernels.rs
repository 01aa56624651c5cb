//! Debian's packaged kernels, unpacked for qemu. Never installed: the host keeps its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::repo;

/// A kernel line that the tests boot: how its packages' names begin, and Debian's package that always stands for its
/// newest release. The cloud flavour: a quarter of the size, with all that the tests need.
const KERNELS: [(&str, &str); 2] = [
    ("linux-image-6.1.0-", "linux-image-cloud-amd64"),
    ("linux-image-6.12.", "linux-image-6.12-cloud-amd64"),
];

/// Where they are, each in a folder by its package's name, with `boot/vmlinuz-*` and `lib/modules/*`. The test `qemu`
/// looks here too.
fn dir() -> PathBuf {
    repo::root().join("target").join("kernels")
}

/// Fetches and unpacks the kernels that are not there yet.
pub(super) fn fetch_missing() -> Result<()> {
    let missing: Vec<_> = KERNELS.iter().filter(|(prefix, _)| !has(prefix)).collect();
    if !missing.is_empty() {
        if !debian::is_here() {
            bail!("the kernels for qemu are Debian packages, and this machine has no apt-get");
        }
        if repo::is_root() {
            repo::run(debian::apt().arg("update"))?;
        }
    }
    for (prefix, package) in missing {
        fetch(prefix, package).with_context(|| format!("the kernel {prefix}* for qemu"))?;
    }
    repo::say("kernels for qemu: all found");
    Ok(())
}

/// Whether some release of a line is unpacked.
fn has(prefix: &str) -> bool {
    let Ok(entries) = fs::read_dir(dir()) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix) && !name.ends_with(PART))
            && is_unpacked(&entry.path())
    })
}

/// Ends the name of a folder that is being filled.
const PART: &str = ".part";

fn is_unpacked(root: &Path) -> bool {
    image_in(root).is_some()
}

/// `boot/vmlinuz-*` of an unpacked package.
fn image_in(root: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(root.join("boot")).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("vmlinuz-"))
    })
}

fn fetch(prefix: &str, package: &str) -> Result<()> {
    let depends = repo::output(Command::new("apt-cache").args(["depends", "--important", package]))?;
    let image = newest_image(&depends, prefix)
        .with_context(|| format!("Debian's `{package}` does not stand for such a kernel on this release"))?;
    repo::say(format!("fetching a kernel for qemu: {image}"));
    // Unpacked beside its place and moved there when complete: a broken run leaves nothing that looks whole.
    let staging = dir().join(format!("{image}{PART}"));
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    fs::create_dir_all(&staging)?;
    repo::run(debian::apt().current_dir(&staging).args([
        "download",
        "-o",
        "APT::Sandbox::User=root",
        &image,
    ]))?;
    let deb = fs::read_dir(&staging)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    repo::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&staging))?;
    fs::remove_file(&deb)?;
    let place = dir().join(&image);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(&staging, &place)?;
    anyhow::ensure!(is_unpacked(&place), "the package {image} holds no boot/vmlinuz-*");
    Ok(())
}

/// The package of the kernel itself among what a meta package depends on.
fn newest_image(depends: &str, prefix: &str) -> Option<String> {
    let depends_on = depends.lines().filter_map(|text| text.trim().strip_prefix("Depends: "));
    depends_on.filter(|name| name.starts_with(prefix)).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::newest_image;

    #[test]
    fn a_meta_package_leads_to_the_kernel_of_its_line() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\n";
        assert_eq!(
            newest_image(depends, "linux-image-6.1.0-").as_deref(),
            Some("linux-image-6.1.0-50-cloud-amd64")
        );
    }

    #[test]
    fn a_meta_package_of_another_line_is_refused() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.48+deb13-cloud-amd64\n";
        assert_eq!(newest_image(depends, "linux-image-6.1.0-"), None);
    }
}
