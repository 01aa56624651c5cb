//! `cargo xtask bench`: what the pure rooms, the BPF program and the whole mirror cost, as docs/benchmarks.md.

mod ends;
mod inspect;
mod lab;
mod machine;
mod micro;
mod tap;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{build, repo, setup};
use lab::Lab;

/// What `bench` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this part; docs/benchmarks.md is then left as it is, and the result goes to the terminal alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Seconds of each load phase.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Rounds; each runs every variant once, and the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Two seconds a phase and one round: a look in a few minutes, not a claim.
    #[arg(long, conflicts_with_all = ["seconds", "rounds"])]
    quick: bool,
}

impl Options {
    /// Seconds of a phase, and rounds.
    fn extent(&self) -> (u32, u32) {
        if self.quick { (2, 1) } else { (self.seconds, self.rounds) }
    }

    /// The command that makes the same page again.
    fn command(&self) -> String {
        if self.quick {
            "cargo xtask bench --quick".to_owned()
        } else {
            format!("cargo xtask bench --seconds {} --rounds {}", self.seconds, self.rounds)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Time and allocations of the pure rooms. No root.
    Micro,
    /// Speed and memory of `mirror inspect` on generated captures. No root, 1 GiB of temporary files.
    Inspect,
    /// Nanoseconds a packet in the BPF program, by the kernel's own statistics.
    Tap,
    /// Requests, CPU and delivery against the same traffic without a mirror.
    Ends,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let needs_lab = wanted(Part::Tap) || wanted(Part::Ends);
    if needs_lab && !repo::is_root() {
        bail!(
            "the tap and the ends are measured in network namespaces, which needs root; `--only micro` and `--only inspect` do not"
        );
    }
    let start = Instant::now();
    let (seconds, rounds) = options.extent();
    let machine = machine::table()?;
    let mut sections = Vec::new();
    if wanted(Part::Micro) {
        sections.push(micro::section()?);
    }
    let toolchain = needs_lab.then(setup::bpf).transpose()?;
    if let Some(toolchain) = &toolchain {
        setup::programs()?;
        build::binary(toolchain)?;
    }
    if wanted(Part::Inspect) {
        sections.push(inspect::section()?);
    }
    if let Some(toolchain) = &toolchain {
        let lab = Lab::new()?;
        if wanted(Part::Tap) {
            sections.push(tap::section(&lab, seconds)?);
            sections.push(tap::alone(toolchain)?);
        }
        if wanted(Part::Ends) {
            sections.push(ends::section(&lab, seconds, rounds)?);
        }
    }
    let page = page(options, &machine, &sections)?;
    println!("\n{page}");
    if options.only.is_none() {
        std::fs::write(repo::root().join("docs/benchmarks.md"), page)?;
        repo::say("written: docs/benchmarks.md");
    }
    repo::say(format!("it took {} s", start.elapsed().as_secs()));
    Ok(())
}

/// The whole document.
fn page(options: &Options, machine: &str, sections: &[String]) -> Result<String> {
    let mut page =
        String::from("# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit. Numbers of one machine: ");
    page.push_str("compare them with each other, not with another page.\n\n");
    writeln!(page, "    {}\n", options.command())?;
    page.push_str(machine);
    for section in sections {
        page.push('\n');
        page.push_str(section);
    }
    Ok(page)
}

/// The middle one of some numbers, the mean of the two in the middle for an even count. `None` for none.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(sorted[middle - 1], upper)) }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
