//! `mirror`: flags, then config, then the runtime, then an exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use mirror_agent::{app, cli, config};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(exit) => {
            exit.show();
            return ExitCode::from(exit.code);
        }
    };
    match run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mirror: {}", cli::in_a_line(&error));
            let usage = error.downcast_ref::<config::Error>().is_some();
            ExitCode::from(if usage { cli::EXIT_USAGE } else { cli::EXIT_FAILURE })
        }
    }
}

fn run(command: cli::Command) -> anyhow::Result<u8> {
    match command {
        cli::Command::Run(flags) => {
            let config = config::resolve(&flags, random_seed())?;
            log_to_stderr(config.copies.verbose);
            app::run(&config)?;
            Ok(cli::EXIT_OK)
        }
        cli::Command::Doctor(flags) => doctor(&config::resolve_doctor(&flags)?),
        cli::Command::Inspect(flags) => {
            let config = config::resolve_inspect(&flags, std::io::stdout().is_terminal())?;
            let whole = cli::inspect::inspect(&config, &mut std::io::stdout(), &mut std::io::stderr())?;
            Ok(if whole { cli::EXIT_OK } else { cli::EXIT_FAILURE })
        }
        cli::Command::Replay(flags) => {
            let config = config::resolve_replay(&flags, random_seed())?;
            log_to_stderr(config.copies.verbose);
            let faults = app::replay(&config)?;
            for fault in &faults {
                eprintln!("mirror: {fault}");
            }
            Ok(if faults.is_empty() { cli::EXIT_OK } else { cli::EXIT_FAILURE })
        }
        cli::Command::Record(flags) => {
            let config = config::resolve_record(&flags)?;
            log_to_stderr(config.verbose);
            app::record(&config)?;
            Ok(cli::EXIT_OK)
        }
        cli::Command::Cleanup(flags) => cleanup(flags),
        cli::Command::Completions { shell } => {
            cli::completions(shell, &mut std::io::stdout())?;
            Ok(cli::EXIT_OK)
        }
        cli::Command::Man { dir } => {
            cli::man(dir.as_deref(), &mut std::io::stdout())?;
            Ok(cli::EXIT_OK)
        }
    }
}

fn doctor(config: &config::ResolvedDoctor) -> anyhow::Result<u8> {
    let (netns, pid) = match &config.tap.namespace {
        config::Namespace::Own => (None, None),
        config::Namespace::Path(path) => (Some(path.to_string_lossy().into_owned()), None),
        config::Namespace::Pid(pid) => (None, Some(*pid)),
    };
    let report = cli::doctor::doctor(&cli::doctor::DoctorRequest {
        primary: config.primary.map(|primary| (primary.ip, primary.port)),
        interfaces: config.tap.interfaces.clone(),
        netns,
        pid,
        attach: app::attach_mode(config.tap.attach),
    })?;
    show(&report, config.json)?;
    let failed = report.worst() == cli::doctor::Severity::Fail;
    Ok(if failed { cli::EXIT_FAILURE } else { cli::EXIT_OK })
}

fn cleanup(flags: cli::CleanupFlags) -> anyhow::Result<u8> {
    let request =
        cli::cleanup::CleanupRequest { netns: flags.netns, pids: Vec::new(), dry_run: flags.dry_run };
    let cleaned = cli::cleanup::cleanup(&request)?;
    show(&cleaned, flags.json)?;
    Ok(if cleaned.is_failed() { cli::EXIT_FAILURE } else { cli::EXIT_OK })
}

/// As text for people or as one JSON object. A closed pipe is no fault of ours.
fn show(what: &(impl std::fmt::Display + serde::Serialize), json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let _closed =
        if json { writeln!(out, "{}", serde_json::to_string(what)?) } else { write!(out, "{what}") };
    Ok(())
}

/// Warnings, and with `-v` what the agent does, with `-vv` what the BPF program does too.
fn log_to_stderr(verbose: u8) {
    let levels = match verbose {
        0 => "warn",
        1 => "info",
        // Of the program every line, those on segments that were taken too.
        _ => "debug,mirror::bpf=trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(levels))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A sampling key that differs from run to run.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
