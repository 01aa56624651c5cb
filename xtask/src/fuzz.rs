//! `cargo xtask fuzz`: the decoders under bytes that nobody would send, and the level of tests that does so for a minute each.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::personality::{self, Persona};

use crate::repo;
use crate::setup::{self, FuzzToolchain};

/// How long the level of tests fuzzes each target.
const LEVEL_SECONDS: u32 = 60;
/// Where the level begins to search: the same inputs in the same order each time, so that CI fails for what was changed (see
/// [`same_addresses`]). Whoever fuzzes by hand searches anew each time.
const LEVEL_SEED: u32 = 1;
/// Targets that run at once: as many as CI has cores.
const AT_ONCE: usize = 2;
/// Longest input that is made, bytes. Longer ones are slower and find nothing else.
const MAX_LEN: &str = "-max_len=4096";

/// What `fuzz` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this target; else each in turn, two at once.
    target: Option<Target>,
    /// How long each is run.
    #[arg(long, default_value_t = LEVEL_SECONDS, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Do not search: run this input once, to see what is wrong with it.
    #[arg(long, requires = "target", conflicts_with = "seconds")]
    input: Option<PathBuf>,
    /// Do not search: write the seeds anew, as the tests' own builders make them.
    #[arg(long, conflicts_with_all = ["target", "seconds", "input"])]
    seeds: bool,
}

/// A fuzz target, by the decoder it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Ring records, frames of capture files, IP fragments.
    Packet,
    /// The assembler and the flow table.
    Flow,
    /// HTTP/1, upgrades, WebSocket, responses.
    H1,
    /// HTTP/2.
    H2,
    /// Capture files, and all that `mirror inspect` makes of them.
    Pcap,
    /// Both directions of connections.
    Dialog,
}

impl Target {
    const ALL: [Self; 6] = [Self::Packet, Self::Flow, Self::H1, Self::H2, Self::Pcap, Self::Dialog];

    const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Flow => "flow",
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::Pcap => "pcap",
            Self::Dialog => "dialog",
        }
    }
}

/// How the targets fared: each counts once when its seeds are replayed, and once when it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fared {
    pub(crate) well: u64,
    pub(crate) badly: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.seeds {
        return write_seeds();
    }
    let targets = Targets::build(&setup::fuzz()?)?;
    let wanted: Vec<_> =
        Target::ALL.into_iter().filter(|target| options.target.is_none_or(|only| only == *target)).collect();
    if let (Some(input), [target]) = (&options.input, &wanted[..]) {
        ensure!(input.is_file(), "{} is no file", input.display());
        return repo::run(targets.command(*target).arg(input)).context("the input still fails; see above");
    }
    let fared = targets.fuzz(&wanted, options.seconds, None)?;
    ensure!(fared.badly == 0, "fuzzing found something; see above");
    Ok(())
}

/// The level of tests: every target's seeds, then every target for a minute.
pub(crate) fn level(toolchain: &FuzzToolchain) -> Result<Fared> {
    let targets = Targets::build(toolchain)?;
    same_addresses();
    let mut fared = Fared::default();
    for target in Target::ALL {
        if targets.replay(target)? {
            fared.well += 1;
        } else {
            fared.badly += 1;
        }
    }
    let run = targets.fuzz(&Target::ALL, LEVEL_SECONDS, Some(LEVEL_SEED))?;
    Ok(Fared { well: fared.well + run.well, badly: fared.badly + run.badly })
}

/// Has what this process starts laid out at the same addresses each time: libFuzzer learns from the numbers that a program
/// compares, and some of them are addresses.
fn same_addresses() {
    let set = personality::get().and_then(|now| personality::set(now | Persona::ADDR_NO_RANDOMIZE));
    if let Err(error) = set {
        repo::say(format!("addresses stay random ({error}): the search is not the same each time"));
    }
}

fn package() -> PathBuf {
    repo::root().join("mirror-agent").join("fuzz")
}

fn seeds(target: Target) -> PathBuf {
    package().join("seeds").join(target.name())
}

/// Makes the seeds anew: the tests that hold them to their builders write them instead.
fn write_seeds() -> Result<()> {
    let mut test = repo::cargo();
    test.env("MIRROR_WRITE_SEEDS", "1").args(["test", "-p", "mirror-agent", "--lib", "the_seeds_of_"]);
    repo::run(&mut test)
}

/// The built targets.
struct Targets {
    programs: PathBuf,
    /// Inputs that earlier runs found interesting, and those that failed.
    finds: PathBuf,
}

impl Targets {
    /// Builds all targets, with the address sanitizer, overflow checks and debug assertions.
    fn build(toolchain: &FuzzToolchain) -> Result<Self> {
        repo::say("building the fuzz targets (about 2 minutes of two cores the first time)");
        let built = repo::target_dir().join("fuzz");
        let mut build = toolchain.program("cargo");
        build.args(["fuzz", "build", "--debug-assertions", "--fuzz-dir"]).arg(package());
        build.arg("--target-dir").arg(&built);
        repo::run(&mut build)?;
        let host = repo::output(toolchain.program("rustc").args(["--print", "host-tuple"]))?;
        let programs = built.join(host.trim()).join("release");
        for target in Target::ALL {
            let program = programs.join(target.name());
            ensure!(program.is_file(), "cargo-fuzz built nothing at {}", program.display());
        }
        Ok(Self { programs, finds: built })
    }

    fn command(&self, target: Target) -> Command {
        let mut command = Command::new(self.programs.join(target.name()));
        command.current_dir(repo::root());
        // An input takes a few milliseconds; a minute of slowness is a fault of its own.
        command.args([MAX_LEN, "-timeout=60", "-rss_limit_mb=2048"]);
        command
    }

    /// Runs the committed inputs once. False, after it was said, if one fails.
    fn replay(&self, target: Target) -> Result<bool> {
        let files = inputs(&seeds(target))?;
        ensure!(!files.is_empty(), "{} has no seeds in {}", target.name(), seeds(target).display());
        let mut command = self.command(target);
        command.args(&files);
        let log = self.log(target, "replay")?;
        let status = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        if status.success() {
            repo::say(format!("fuzz {}: {} committed inputs replayed", target.name(), files.len()));
        } else {
            self.tell(target, "replay", &format!("a committed input fails ({status})"))?;
        }
        Ok(status.success())
    }

    /// Runs these targets for so long, as many at once as CI has cores. With `seed` it is the same search each time, from the
    /// committed inputs alone.
    fn fuzz(&self, targets: &[Target], seconds: u32, seed: Option<u32>) -> Result<Fared> {
        let mut fared = Fared::default();
        for group in targets.chunks(AT_ONCE) {
            let names = group.iter().map(|target| target.name()).collect::<Vec<_>>().join(", ");
            repo::say(format!("fuzzing {names} for {seconds} s"));
            let running = group
                .iter()
                .map(|target| Ok((*target, self.begin(*target, seconds, seed)?)))
                .collect::<Result<Vec<_>>>();
            for (target, mut child) in running? {
                let status = child.wait()?;
                let text = std::fs::read(self.log_path(target, "run")).unwrap_or_default();
                let runs = executed(&String::from_utf8_lossy(&text));
                match runs {
                    Some(runs) if status.success() && runs > 0 => {
                        repo::say(format!("fuzz {}: {runs} inputs, none fails", target.name()));
                        fared.well += 1;
                    }
                    _ => {
                        self.tell(target, "run", &format!("the run failed ({status})"))?;
                        fared.badly += 1;
                    }
                }
            }
        }
        Ok(fared)
    }

    fn begin(&self, target: Target, seconds: u32, seed: Option<u32>) -> Result<Child> {
        let failed = self.dir("artifacts", target)?;
        let mut command = self.command(target);
        let found = match seed {
            None => self.dir("corpus", target)?,
            Some(seed) => {
                // To look for what another process found is a matter of time.
                command.arg(format!("-seed={seed}")).arg("-reload=0");
                self.empty_dir("level", target)?
            }
        };
        command.arg(&found).arg(seeds(target)).arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", failed.display())).arg("-print_final_stats=1");
        let log = self.log(target, "run")?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        child.with_context(|| format!("could not start {}", target.name()))
    }

    /// What went wrong, where the input is, and how to see it again.
    fn tell(&self, target: Target, what: &str, how: &str) -> Result<()> {
        let path = self.log_path(target, what);
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        eprintln!("error: fuzz {}: {how}; all of it is in {}", target.name(), path.display());
        for line in reason(&text) {
            eprintln!("  {line}");
        }
        match failing_input(&text) {
            Some(input) => {
                eprintln!("  the input: {input}");
                eprintln!("  see it again: cargo xtask fuzz {} --input {input}", target.name());
                eprintln!("  mended, it stays as a regression: copy it to {}", seeds(target).display());
            }
            None => eprintln!("  no input is named: the target did not run, or was killed"),
        }
        Ok(())
    }

    fn dir(&self, what: &str, target: Target) -> Result<PathBuf> {
        let dir = self.finds.join(what).join(target.name());
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    fn empty_dir(&self, what: &str, target: Target) -> Result<PathBuf> {
        let dir = self.dir(what, target)?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        self.dir(what, target)
    }

    fn log_path(&self, target: Target, what: &str) -> PathBuf {
        self.finds.join(format!("{}-{what}.log", target.name()))
    }

    fn log(&self, target: Target, what: &str) -> Result<std::fs::File> {
        let path = self.log_path(target, what);
        std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The files of a directory, in order.
fn inputs(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// How many inputs libFuzzer says that it ran.
fn executed(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
}

/// The input that failed: what libFuzzer wrote, or what it was running.
fn failing_input(log: &str) -> Option<&str> {
    let written =
        log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path.trim()));
    let running = || log.lines().rev().find_map(|line| line.strip_prefix("Running: ").map(str::trim));
    written.or_else(running)
}

/// What a failed run says of the reason: the panic's message, the summary.
fn reason(log: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut message = 0_u32;
    for line in log.lines() {
        let panic = line.contains(" panicked at ");
        if panic {
            message = 4;
        }
        if line.starts_with("stack backtrace:") || line.starts_with("note:") {
            message = 0;
        }
        if message > 0 || line.starts_with("SUMMARY:") || line.contains("ERROR:") {
            lines.push(line);
        }
        message = message.saturating_sub(1);
    }
    lines
}

/// What a machine lacks to fuzz is no failure of the tests where it is said.
pub(crate) fn toolchain() -> Result<FuzzToolchain> {
    match setup::fuzz() {
        Ok(toolchain) => Ok(toolchain),
        Err(error) => bail!("this machine cannot fuzz: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, executed, failing_input, inputs, reason, seeds};

    const FAILED: &str = "INFO: seed corpus: files: 3\n#3 INITED cov: 7\n\nthread '<unnamed>' (7) panicked at src/a.rs:1:2:\nassertion failed\n  left: 1\n right: 2\nstack backtrace:\n   0: x\n==7== ERROR: libFuzzer: deadly signal\nSUMMARY: libFuzzer: deadly signal\nartifact_prefix='x/'; Test unit written to x/crash-0123\nstat::number_of_executed_units: 41\n";

    #[test]
    fn a_failed_run_names_its_input_and_its_reason() {
        assert_eq!(failing_input(FAILED), Some("x/crash-0123"));
        assert_eq!(executed(FAILED), Some(41));
        let said = reason(FAILED).join("\n");
        assert!(
            said.contains("assertion failed\n  left: 1\n right: 2\n") && !said.contains("0: x"),
            "{said}"
        );
    }

    #[test]
    fn a_replay_that_fails_names_the_input_it_was_running() {
        let log = "Running: seeds/a\nExecuted seeds/a in 1 ms\nRunning: seeds/b\nthread panicked at x\n";
        assert_eq!(failing_input(log), Some("seeds/b"));
        assert_eq!((failing_input("killed"), executed("killed")), (None, None));
    }

    #[test]
    fn every_target_has_a_program_and_seeds_of_its_own() {
        for target in Target::ALL {
            let program = super::package().join("targets").join(format!("{}.rs", target.name()));
            assert!(program.is_file(), "{}", program.display());
            assert!(!inputs(&seeds(target)).expect("seeds").is_empty());
        }
        let programs = std::fs::read_dir(super::package().join("targets")).expect("the programs").count();
        assert_eq!(programs, Target::ALL.len());
    }
}
