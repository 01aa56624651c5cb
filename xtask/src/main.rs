//! `cargo xtask`: the project's own verbs. One verb, one file, one `Options`.

mod bench;
mod build;
mod demo;
mod fuzz;
mod lint;
mod repo;
mod setup;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The project's own verbs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Verb {
    /// Find or install the BPF toolchain, the programs that the tests drive, and the linters.
    Setup(setup::Options),
    /// Build the release binary, its BPF object inside.
    Build(build::Options),
    /// Watch copies of live requests arrive at a new version, in network namespaces of its own.
    Demo(demo::Options),
    /// Run the tests, level by level, and end with one line that sums them up.
    Test(test::Options),
    /// Search for bytes that the decoders read wrongly.
    Fuzz(fuzz::Options),
    /// Check format, lints, licences, and the project's own rules.
    Lint(lint::Options),
    /// Measure, and write docs/benchmarks.md.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup(options) => setup::run(&options),
        Verb::Build(options) => build::run(&options),
        Verb::Demo(options) => demo_after_build(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Lint(options) => lint::run(&options),
        Verb::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The demo, with what it needs in place.
fn demo_after_build(options: &demo::Options) -> anyhow::Result<()> {
    // Said before the minutes that a first build takes.
    anyhow::ensure!(
        repo::is_root(),
        "the demo makes network namespaces: sudo --preserve-env=PATH,HOME cargo xtask demo"
    );
    setup::programs()?;
    build::binary(&setup::bpf()?)?;
    demo::run(options)
}
