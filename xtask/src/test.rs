//! `cargo xtask test`: the tests, level by level, and one closing line that sums them up.

mod tally;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::setup::{self, BpfToolchain};
use crate::{build, fuzz, repo};
use tally::Tally;

/// What `test` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run this level only.
    #[arg(long, value_enum, default_value = "all")]
    level: Choice,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// Pure rooms, the ledger, flags, xtask itself: no root, no BPF toolchain.
    Unit,
    /// The BPF program in this kernel. Root.
    Bpf,
    /// The release binary, real servers, namespaces. Root.
    E2e,
    /// The BPF program in Debian's kernels under qemu. Root.
    Qemu,
    /// The decoders under bytes that nobody would send: the committed ones, then a minute of new ones each.
    Fuzz,
    /// Every level that this user may run.
    All,
}

/// A level of tests, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Unit,
    Fuzz,
    Bpf,
    E2e,
    Qemu,
}

impl Level {
    const ALL: [Self; 5] = [Self::Unit, Self::Fuzz, Self::Bpf, Self::E2e, Self::Qemu];

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Fuzz => "fuzz",
            Self::Bpf => "bpf",
            Self::E2e => "e2e",
            Self::Qemu => "qemu",
        }
    }

    const fn needs_root(self) -> bool {
        !matches!(self, Self::Unit | Self::Fuzz)
    }

    /// What must be there before it runs.
    fn prepare(self) -> Result<Option<BpfToolchain>> {
        if matches!(self, Self::Unit | Self::Fuzz) {
            return Ok(None);
        }
        if matches!(self, Self::E2e) {
            setup::programs()?;
            setup::peers()?;
        }
        if matches!(self, Self::Qemu) {
            setup::kernels()?;
        }
        let toolchain = setup::bpf()?;
        if matches!(self, Self::E2e | Self::Qemu) {
            build::binary(&toolchain)?;
        }
        Ok(Some(toolchain))
    }

    /// The cargo calls that run it.
    fn commands(self, toolchain: Option<&BpfToolchain>, filter: Option<&str>) -> Result<Vec<Command>> {
        const AGENT: [&str; 4] = ["-p", "mirror-agent", "--features", "kernel-tests"];
        let command = |args: &[&str], filter: Option<&str>| {
            let mut command = repo::cargo();
            command.arg("test").args(args).args(["--no-fail-fast", "--"]).args(filter);
            if let Some(toolchain) = toolchain {
                // The host has one kernel: what works on it runs one test at a time.
                build::with_bpf(&mut command, toolchain)
                    .env("MIRROR_BIN", repo::mirror_binary())
                    .arg("--test-threads=1");
            }
            command
        };
        Ok(match self {
            Self::Unit => vec![command(&[], filter)],
            // Its programs are no tests of cargo's.
            Self::Fuzz => Vec::new(),
            Self::Bpf => vec![
                // Of the library only the kernel room: the others ran in the level before.
                command(&[&AGENT[..], &["--lib"]].concat(), filter.or(Some("kernel::"))),
                command(&[&AGENT[..], &["--test", "*"]].concat(), filter),
            ],
            Self::E2e => {
                let scenarios = scenarios(&repo::root().join("tests/tests"))?;
                let mut args = vec!["-p", "mirror-tests", "--lib", "--bins"];
                for scenario in &scenarios {
                    args.extend(["--test", scenario]);
                }
                vec![command(&args, filter)]
            }
            Self::Qemu => vec![command(&["-p", "mirror-tests", "--test", QEMU], filter)],
        })
    }
}

/// The test program that is a level of its own.
const QEMU: &str = "qemu";

/// Every test program of the end-to-end package but [`QEMU`]: read from its directory, so that a new one cannot be
/// forgotten here.
fn scenarios(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let path = entry?.path();
        let is_program =
            path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if is_program && name != QEMU {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (levels, left_out) = select(options.level, repo::is_root())?;
    let mut total = Tally::default();
    let mut cannot_fuzz = None;
    for level in levels {
        if level == Level::Fuzz {
            match fuzz_level(options.filter.as_deref()) {
                Ok(tally) => total.add(tally),
                // Asked for by name, it must run.
                Err(error) if options.level == Choice::Fuzz => return Err(error),
                Err(error) => cannot_fuzz = Some(error),
            }
        } else {
            total.add(run_level(level, options.filter.as_deref()));
        }
    }
    if let Some(error) = cannot_fuzz {
        println!();
        println!("left out: fuzz: {error:#}");
        println!("to run it, when that is mended: cargo xtask test --level fuzz");
    }
    if !left_out.is_empty() {
        let names = left_out.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ");
        println!();
        println!("left out for want of root: {names}");
        println!("to run them: sudo --preserve-env=PATH,HOME cargo xtask test");
        for level in left_out {
            println!("     or one: sudo --preserve-env=PATH,HOME cargo xtask test --level {}", level.name());
        }
    }
    println!();
    println!("{}", total.closing_line());
    std::io::stdout().flush()?;
    if total.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Which levels run, and which are left out because this user is not root.
fn select(choice: Choice, root: bool) -> Result<(Vec<Level>, Vec<Level>)> {
    let only = match choice {
        Choice::All => return Ok(Level::ALL.into_iter().partition(|level| root || !level.needs_root())),
        Choice::Unit => Level::Unit,
        Choice::Bpf => Level::Bpf,
        Choice::E2e => Level::E2e,
        Choice::Qemu => Level::Qemu,
        Choice::Fuzz => Level::Fuzz,
    };
    if only.needs_root() && !root {
        bail!(
            "level {} needs root: sudo --preserve-env=PATH,HOME cargo xtask test --level {}",
            only.name(),
            only.name()
        );
    }
    Ok((vec![only], Vec::new()))
}

/// Runs the level that is no matter of cargo's tests. What fails in it is counted.
///
/// # Errors
///
/// If this machine lacks what it needs.
fn fuzz_level(filter: Option<&str>) -> Result<Tally> {
    println!();
    repo::say("test level fuzz");
    if let Some(filter) = filter {
        repo::say(format!("level fuzz: no test in it has a name; left out for the filter `{filter}`"));
        return Ok(Tally::default());
    }
    let toolchain = fuzz::toolchain()?;
    let tally = match fuzz::level(&toolchain) {
        Ok(fuzz::Fared { well, badly }) => Tally { passed: well, failed: badly, ignored: 0 },
        Err(error) => {
            eprintln!("error: {error:#}");
            Tally { failed: 1, ..Tally::default() }
        }
    };
    repo::say(format!("level fuzz: {}", tally.closing_line()));
    Ok(tally)
}

/// Runs one level. What goes wrong around its tests is a failure of the level, counted as one.
fn run_level(level: Level, filter: Option<&str>) -> Tally {
    println!();
    repo::say(format!("test level {}", level.name()));
    let done = level.prepare().and_then(|toolchain| {
        let mut tally = Tally::default();
        for mut command in level.commands(toolchain.as_ref(), filter)? {
            println!("  $ {}", repo::spelled(&command));
            let mut part = Tally::default();
            let ended_well = stream(&mut command, &mut part)?;
            part.conclude(ended_well, filter.is_some());
            tally.add(part);
        }
        Ok(tally)
    });
    let tally = done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Tally { failed: 1, ..Tally::default() }
    });
    repo::say(format!("level {}: {}", level.name(), tally.closing_line()));
    tally
}

/// Runs a command, shows its standard output as it comes, and counts what it says of its tests.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        std::io::stdout().flush()?;
        tally.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::{Choice, Level, scenarios, select};
    use crate::setup::BpfToolchain;

    #[test]
    fn root_runs_every_level_and_leaves_none_out() {
        let (run, left_out) = select(Choice::All, true).expect("a choice");
        assert_eq!(run, Level::ALL);
        assert!(left_out.is_empty());
    }

    #[test]
    fn without_root_the_pure_levels_run_and_the_others_are_named() {
        let (run, left_out) = select(Choice::All, false).expect("a choice");
        assert_eq!(run, [Level::Unit, Level::Fuzz]);
        assert_eq!(left_out, [Level::Bpf, Level::E2e, Level::Qemu]);
    }

    #[test]
    fn a_level_that_is_asked_for_by_name_without_root_is_an_error() {
        let error = select(Choice::E2e, false).expect_err("no root");
        assert!(error.to_string().contains("needs root"), "{error}");
    }

    #[test]
    fn every_test_program_is_in_a_level_and_qemu_in_its_own() {
        let directory = crate::repo::root().join("tests/tests");
        let names = scenarios(&directory).expect("the end-to-end tests");
        let programs = std::fs::read_dir(directory).expect("the directory").flatten();
        let files = programs.filter(|entry| entry.file_name().to_string_lossy().ends_with(".rs")).count();
        assert_eq!(names.len() + 1, files, "{names:?} and qemu");
        assert!(!names.iter().any(|name| name == super::QEMU));
    }

    #[test]
    fn levels_on_the_real_kernel_run_one_test_at_a_time() {
        let toolchain = BpfToolchain { name: "mirror-bpf".to_owned() };
        for level in [Level::Bpf, Level::E2e, Level::Qemu] {
            for command in level.commands(Some(&toolchain), Some("slow")).expect("commands") {
                let words = crate::repo::spelled(&command);
                assert!(words.ends_with("--no-fail-fast -- slow --test-threads=1"), "{words}");
                assert!(words.contains("MIRROR_BPF=build"), "{words}");
            }
        }
    }
}
