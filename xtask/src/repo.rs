//! Where the workspace is, and how its programs are run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace's root directory.
pub(crate) fn root() -> &'static Path {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The manifest of a workspace member always has a parent.
    member.parent().unwrap_or(member)
}

/// Where cargo puts what it builds. Absolute.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The release binary.
pub(crate) fn mirror_binary() -> PathBuf {
    target_dir().join("release").join("mirror")
}

/// The cargo that runs this program, in the workspace's root. Without what `cargo run` left in the environment for
/// the xtask package alone, so that build scripts see the same environment whoever calls cargo.
pub(crate) fn cargo() -> Command {
    let mut command =
        without_cargo_environment(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())));
    command.current_dir(root());
    command
}

/// A command without what `cargo run` left in the environment for the xtask package alone.
pub(crate) fn without_cargo_environment(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_BIN_NAME"
        });
        if of_package {
            command.env_remove(name);
        }
    }
    command
}

/// Says a step. Every verb tells what it does before it does it.
pub(crate) fn say(step: impl AsRef<str>) {
    println!("==> {}", step.as_ref());
}

/// The command as a person would type it: environment, program, arguments.
pub(crate) fn spelled(command: &Command) -> String {
    let mut words: Vec<OsString> = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let mut word = name.to_os_string();
            word.push("=");
            word.push(value);
            words.push(word);
        }
    }
    words.push(Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_os_string());
    words.extend(command.get_args().map(OsStr::to_os_string));
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Says the command, runs it with its output shown, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = spelled(command);
    println!("  $ {words}");
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("could not start `{words}`"))?;
    if !status.success() {
        bail!("`{words}` failed ({status})");
    }
    Ok(())
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let words = spelled(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{words}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{words}` failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds. Its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program's file on PATH, or in the directories of system programs that a user's PATH may leave out.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    // The owner of this process's own directory is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[cfg(test)]
mod tests {
    use super::{cargo, root, spelled, which};

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        assert!(root().join("Cargo.toml").is_file());
        assert!(root().join("mirror-agent").is_dir());
    }

    #[test]
    fn a_command_is_spelled_as_it_would_be_typed() {
        let mut command = cargo();
        command.env("MIRROR_BPF", "build").args(["build", "--release"]);
        assert_eq!(spelled(&command), "MIRROR_BPF=build cargo build --release");
    }

    #[test]
    fn which_finds_the_shell_and_not_what_does_not_exist() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-as-this").is_none());
    }
}
