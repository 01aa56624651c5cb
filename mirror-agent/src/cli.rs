//! The command line: one file per subcommand, and what all of them share: parsing, exit codes, how a failure is said.

pub mod cleanup;
mod complete;
pub mod doctor;
pub mod inspect;
mod man;
pub mod record;
pub mod report;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueHint};

pub use crate::config::{CleanupFlags, DoctorFlags, InspectFlags, RecordFlags, ReplayFlags, RunFlags};
pub use clap_complete::Shell;
pub use complete::completions;
pub use man::man;

/// Exit code of success, `--help` and `--version` included.
pub const EXIT_OK: u8 = 0;
/// Exit code of a failure on this machine: a missing capability, a taken port, an unknown interface.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of flags that cannot stand: unknown ones, and what `config` refuses.
pub const EXIT_USAGE: u8 = 2;

/// Mirrors live HTTP requests to a shadow: a new version under test that nobody waits for.
///
/// A program in the kernel copies the packets of the primary's connections; this agent reads the requests out of them,
/// sends each to the shadow, and throws the answers away. The primary and its clients are never in its hands.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "mirror",
    bin_name = "mirror",
    version,
    max_term_width = 110,
    arg_required_else_help = false
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one value per process")]
pub enum Command {
    /// Mirror until stopped: live numbers each second, a table of outcomes at the end.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(RunFlags),
    /// Look at kernel, rights and interfaces: would anything be seen, and if not, why and what to do.
    Doctor(DoctorFlags),
    /// Read the requests out of capture files: one line each, with what was answered.
    #[command(after_long_help = INSPECT_EXAMPLES)]
    Inspect(InspectFlags),
    /// Send the requests of capture files to a shadow, keeping their time or as fast as it takes them.
    #[command(after_long_help = REPLAY_EXAMPLES)]
    Replay(ReplayFlags),
    /// Write what the tap sees of a service's connections into capture files.
    #[command(after_long_help = RECORD_EXAMPLES)]
    Record(RecordFlags),
    /// Remove what an agent that was killed left attached, and nothing else.
    Cleanup(CleanupFlags),
    /// Write a completion script for a shell to standard output.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory, or the first one to standard output.
    Man {
        /// Directory for mirror.1, mirror-run.1 and the others; it has to exist.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  All requests of a service to its new version:
      mirror run --primary 10.0.0.5:8080 --shadow http://10.0.0.9:8080

  A tenth of the reads, from whatever address the port is served at, for five minutes:
      mirror run --primary :8080 --shadow https://new.example \\
          --percent 10 --methods safe --duration 5m

  Inside a container, identical to the byte:
      mirror run --pid 4242 --primary :8080 --shadow http://10.0.0.9:8080 \\
          --host-suffix \"\" --marker \"\" --trace keep";

const INSPECT_EXAMPLES: &str = "\
Examples:
  All requests of a capture, as JSON lines:
      mirror inspect --json capture.pcapng.gz

  Failed writes of one service, for people:
      mirror inspect --port 8080 --filter 'method POST,PUT and status 5xx' capture.pcap

  How many requests, answered how, and where every byte went:
      tcpdump -i eth0 -w - port 8080 | mirror inspect --summary -

docs/captures.md says what is read and what each field means.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  The requests of a capture to a new version, at the pace they came in:
      mirror replay capture.pcapng.gz --shadow http://10.0.0.9:8080

  The reads of one service, as fast as the shadow takes them, ten times over:
      mirror replay --port 8080 --methods safe --speed max --loop 10 \\
          a.pcap b.pcap --shadow http://10.0.0.9:8080

  What another host sees now, at twice the load:
      ssh host tcpdump -i eth0 -U -w - port 8080 | mirror replay - --percent 200 --shadow http://10.0.0.9:8080

docs/captures.md says what is read, and what keeping time means.";

const RECORD_EXAMPLES: &str = "\
Examples:
  All requests of a service, to look at them later:
      mirror record --primary 10.0.0.5:8080 --out capture.pcapng
      mirror inspect capture*.pcapng

  An hour in files of ten minutes, without bodies, cookies and keys:
      mirror record --primary :8080 --out /var/tmp/capture.pcapng --duration 1h \\
          --rotate-time 10m --headers-only --redact x-session

docs/captures.md says what a file holds, and what it says of answers.";

/// A command line that leads to no command: text to show, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// [`EXIT_OK`] for help and version, else [`EXIT_USAGE`].
    pub code: u8,
    /// The text; one line unless it is help.
    pub text: String,
}

impl Exit {
    /// Shows the text, help on standard output and faults on standard error. A closed pipe is no fault of ours.
    pub fn show(&self) {
        let _closed = match self.code {
            EXIT_OK => write!(io::stdout().lock(), "{}", self.text),
            _ => writeln!(io::stderr().lock(), "{self}"),
        };
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            EXIT_OK => f.write_str(&self.text),
            _ => write!(f, "mirror: {}", self.text),
        }
    }
}

impl From<crate::config::Error> for Exit {
    fn from(error: crate::config::Error) -> Self {
        Self { code: EXIT_USAGE, text: error.to_string() }
    }
}

/// Reads the arguments, the program's name first.
///
/// # Errors
///
/// What to show instead of doing something: help, version, or what is wrong with the arguments.
pub fn parse<I, T>(args: I) -> Result<Cli, Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    Cli::try_parse_from(&args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Exit { code: EXIT_OK, text: error.render().to_string() }
        }
        _ => {
            let subcommand = args.get(1).and_then(|word| definition().find_subcommand(word).cloned());
            let see = subcommand.map_or(String::new(), |found| format!(" {}", found.get_name()));
            Exit { code: EXIT_USAGE, text: format!("{}; see mirror{see} --help", in_one_line(&error)) }
        }
    })
}

/// A failure as one line: what failed, then why, outermost first. Many an error tells its cause in its own words, where the
/// mend stands too: such a cause is not said again.
#[must_use]
pub fn in_a_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for said in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = said;
        } else if !line.contains(&said) {
            line = format!("{line}: {said}");
        }
    }
    line.replace('\n', " ")
}

/// What clap says over several lines, as one: up to where it repeats the usage.
fn in_one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let said: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    said.strip_prefix("error: ").unwrap_or(&said).replace(" tip: ", "; ")
}

/// The whole definition, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}
