//! `cargo xtask demo`: live mirroring on this machine, in network namespaces of its own.
//!
//! ```text
//! clients --- node --- reviews v1, which answers them
//!                \---- reviews v2, which gets a copy of every request
//! ```

use std::io::{IsTerminal, Write};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use mirror_tests::load::{Live, run_live};
use mirror_tests::mirror::binary;
use mirror_tests::server::ids;
use mirror_tests::world::{Family, Tap, attached, mirror_args};
use mirror_tests::{Load, LoadReport, Mirror, Reviews, Stats, World, wait_for};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Connections of the clients.
const CONNECTIONS: u64 = 16;
/// Requests a second over all connections; what a slow v2 can still answer.
const RATE: f64 = 320.0;
/// A share of answers below this is no healthy version.
const HEALTHY_SUCCESS: f64 = 99.0;
/// v2 may take this many times v1's p90 (a p99 of a few seconds is one hiccup of the machine), and this much on top, microseconds.
const HEALTHY_SLOWDOWN: u64 = 2;
const HEALTHY_SLACK_US: u64 = 10_000;

/// Watch copies of live requests arrive at a new version.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How long, e.g. 20s or 2m.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = time)]
    time: Duration,

    /// How the new version behaves.
    #[arg(long, value_enum, default_value_t = V2::Fine)]
    v2: V2,
}

/// Behaviour of the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum V2 {
    /// As good as the old one.
    Fine,
    /// 40 ms slower.
    Slow,
    /// Every fourth answer is a 500.
    Failing,
}

/// Runs the demo to its verdict.
///
/// # Errors
/// When it cannot run here, or when the verdict is bad: the mirror's books are uneven, the primary was touched, or v2 is
/// not healthy.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demo makes network namespaces: run it as root, e.g. sudo -E cargo xtask demo"
    );
    ensure!(binary().is_file(), "{} is missing: run cargo xtask build", binary().display());
    build_servers()?;
    let ctrl_c = CtrlC::held_back()?;

    let world = World::try_routed()?;
    let v1 = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &["--delay-ms", "3"])?;
    let behaviour: &[&str] = match options.v2 {
        V2::Fine => &["--delay-ms", "3"],
        V2::Slow => &["--delay-ms", "43"],
        V2::Failing => &["--delay-ms", "3", "--fail-every", "4"],
    };
    let v2 = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), behaviour)?;
    println!(
        "reviews v1 at {} serves {CONNECTIONS} clients, {RATE} requests a second, one in four a POST",
        v1.at()
    );
    println!("reviews v2 at {} gets a copy of each; its answers are read and thrown away", v2.at());
    let mirror = Mirror::start(&world.node, &mirror_args(&world, Tap::HostSide, v1.at(), &[v2.at()], 0))?;
    println!("mirror taps vpri on the node ({})", attached(&world.node, "vpri").join(", "));
    println!();

    let (report, stopped) = watch(options, &world, &v1, &mirror, &ctrl_c)?;
    // What is on its way arrives, or runs into its timeout.
    let at_rest = |stats: Stats| (stats.observed() >= report.answered && stats.at_rest()).then_some(());
    let _told_by_the_verdict = wait_for(Duration::from_secs(20), || at_rest(mirror.stats().ok()?));
    let (status, last) = mirror.stop()?;
    if stopped {
        println!("stopped by a signal");
    }
    let mut verdict = Verdict::default();
    verdict.say(status.success(), "mirror ended in order", &status.to_string());
    judge(&mut verdict, &report, &last, &v1, &v2);
    verdict.say(
        attached(&world.node, "vpri").is_empty(),
        "nothing is left attached",
        "programs are left attached",
    );
    verdict.end()
}

/// Runs the load and shows the numbers each second. True if it was stopped by a signal.
fn watch(
    options: &Options,
    world: &World,
    v1: &Reviews,
    mirror: &Mirror<'_>,
    ctrl_c: &CtrlC,
) -> Result<(LoadReport, bool)> {
    let mut load = Load::new(v1.at(), CONNECTIONS, u64::MAX);
    load.rate = Some(RATE);
    load.at_most = options.time;
    load.post_every = 4;
    load.body = 2000;
    load.per_connection = 500;
    load.tag = "demo".to_owned();
    let live = Live::default();
    let mut screen = Screen::new();
    let mut stopped = false;
    let report = std::thread::scope(|scope| -> Result<LoadReport> {
        let traffic = scope.spawn(|| run_live(&world.cli, &load, &live));
        let mut shown = || -> Result<()> {
            let start = Instant::now();
            let mut before = (start, mirror.stats()?);
            while !traffic.is_finished() {
                if ctrl_c.pressed()? {
                    stopped = true;
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
                if before.0.elapsed() >= Duration::from_secs(1) {
                    let now = (Instant::now(), mirror.stats()?);
                    screen.show(start.elapsed(), now.0 - before.0, &before.1, &now.1)?;
                    before = now;
                }
            }
            Ok(())
        };
        let done = shown();
        // However the watching ended, the load must end too, or the scope would wait for it.
        live.stop.store(true, Ordering::Relaxed);
        let report = traffic.join().map_err(|_| anyhow::anyhow!("the clients panicked"))?;
        done.map(|()| report)
    })?;
    println!();
    Ok((report, stopped))
}

fn judge(verdict: &mut Verdict, report: &LoadReport, last: &Stats, v1: &Reviews, v2: &Reviews) {
    verdict.say(
        report.errors.is_empty() && report.answered == report.sent && report.not_fine == 0,
        &format!("primary untouched: all {} requests answered well", report.sent),
        &format!(
            "of {} requests {} were answered; {:?}",
            report.sent,
            report.answered,
            report.errors.first()
        ),
    );
    let broken = last.broken_laws();
    verdict.say(
        broken.is_empty() && last.at_rest(),
        &format!(
            "the books are even: {} requests, {} bytes, each in one place",
            last.observed(),
            last.n("/bytes/matched")
        ),
        &format!("the books are uneven: {}", broken.join("; ")),
    );
    let (served, copied) = (v1.requests(), v2.requests());
    let agree = served.len() as u64 == last.observed() && copied.len() as u64 == last.delivered(0);
    verdict.say(
        agree,
        "both servers' logs agree with the mirror",
        &format!(
            "v1 logged {} and {} were observed; v2 logged {} and {} were delivered",
            served.len(),
            last.observed(),
            copied.len(),
            last.delivered(0)
        ),
    );
    verdict.say(
        last.delivered(0) == last.observed() && ids(&served) == ids(&copied),
        &format!("every request arrived at v2, {} of {}", last.delivered(0), last.observed()),
        &format!("{} of {} requests arrived at v2: {}", last.delivered(0), last.observed(), last.losses(0)),
    );
    let (old, new) = (Version::primary(last), Version::shadow(last));
    let fast = new.p90 <= old.p90 * HEALTHY_SLOWDOWN + HEALTHY_SLACK_US;
    verdict.say(
        new.success() >= HEALTHY_SUCCESS && fast,
        &format!(
            "v2 is healthy: {:.1}% fine, p90 {} (v1 {})",
            new.success(),
            millis(new.p90),
            millis(old.p90)
        ),
        &format!(
            "v2 is not healthy: {:.1}% fine, p90 {} (v1 {})",
            new.success(),
            millis(new.p90),
            millis(old.p90)
        ),
    );
}

/// What is known of one version's answers.
struct Version {
    answers: u64,
    fine: u64,
    p50: u64,
    p90: u64,
    p99: u64,
}

impl Version {
    fn primary(stats: &Stats) -> Self {
        Self::at(stats, "/primary/answered", "/primary/latency_us")
    }

    fn shadow(stats: &Stats) -> Self {
        Self::at(stats, "/shadows/0/delivered_by_class", "/shadows/0/latency_us")
    }

    fn at(stats: &Stats, classes: &str, latency: &str) -> Self {
        Self {
            answers: stats.sum(classes),
            fine: stats.n(&format!("{classes}/2xx")) + stats.n(&format!("{classes}/3xx")),
            p50: stats.n(&format!("{latency}/p50")),
            p90: stats.n(&format!("{latency}/p90")),
            p99: stats.n(&format!("{latency}/p99")),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
    fn success(&self) -> f64 {
        if self.answers == 0 { 0.0 } else { self.fine as f64 * 100.0 / self.answers as f64 }
    }
}

/// The live table: redrawn on a terminal, a line a second elsewhere.
struct Screen {
    redraw: bool,
    drawn: usize,
}

impl Screen {
    fn new() -> Self {
        Self { redraw: std::io::stdout().is_terminal(), drawn: 0 }
    }

    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    fn show(&mut self, since_start: Duration, step: Duration, before: &Stats, now: &Stats) -> Result<()> {
        let (old, new) = (Version::primary(now), Version::shadow(now));
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / step.as_secs_f64();
        let old_rate = rate(old.answers, Version::primary(before).answers);
        let new_rate = rate(new.answers, Version::shadow(before).answers);
        let captured =
            now.capture_ratio().map_or("-".to_owned(), |ratio| format!("{:.2}%", ratio.min(1.0) * 100.0));
        let lost = now.shadow(0, "failed") + now.shadow(0, "dropped");
        let lines = if self.redraw {
            let row = |name: &str, rate: f64, version: &Version| {
                format!(
                    "{name:<12}{rate:>10.0}{:>11.1}%{:>12}{:>12}{:>12}",
                    version.success(),
                    millis(version.p50),
                    millis(version.p99),
                    version.answers
                )
            };
            vec![
                format!(
                    "{:<12}{:>10}{:>12}{:>12}{:>12}{:>12}",
                    "", "requests/s", "success", "p50", "p99", "answered"
                ),
                row("reviews v1", old_rate, &old),
                row("reviews v2", new_rate, &new),
                format!(
                    "{:>3} s   observed {}   delivered {}   failed or dropped {lost}   captured {captured}",
                    since_start.as_secs(),
                    now.observed(),
                    now.delivered(0)
                ),
            ]
        } else {
            vec![format!(
                "{:>3} s  v1 {old_rate:.0}/s {:.1}% p50 {} p99 {}  v2 {new_rate:.0}/s {:.1}% p50 {} p99 {}  delivered {} of {}, lost {lost}, captured {captured}",
                since_start.as_secs(),
                old.success(),
                millis(old.p50),
                millis(old.p99),
                new.success(),
                millis(new.p50),
                millis(new.p99),
                now.delivered(0),
                now.observed()
            )]
        };
        let mut out = std::io::stdout().lock();
        if self.redraw && self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        for line in &lines {
            writeln!(out, "{line}{}", if self.redraw { "\x1b[K" } else { "" })?;
        }
        self.drawn = lines.len();
        Ok(out.flush()?)
    }
}

/// What is said at the end, and whether all of it is good.
#[derive(Default)]
struct Verdict {
    bad: Vec<String>,
}

impl Verdict {
    fn say(&mut self, good: bool, yes: &str, no: &str) {
        if good {
            println!("  yes  {yes}");
        } else {
            println!("  NO   {no}");
            self.bad.push(no.lines().next().unwrap_or_default().to_owned());
        }
    }

    fn end(self) -> Result<()> {
        if self.bad.is_empty() {
            println!("verdict: v2 can take over");
            return Ok(());
        }
        println!("verdict: v2 should not take over");
        bail!("{}", self.bad.join("; "))
    }
}

/// SIGINT and SIGTERM, held back from this process so that it can clean up; its children hear them as ever.
struct CtrlC(SignalFd);

impl CtrlC {
    fn held_back() -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        // Threads begun after this inherit it.
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn pressed(&self) -> Result<bool> {
        Ok(self.0.read_signal()?.is_some())
    }
}

/// The `reviews` program, beside this one.
fn build_servers() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "mirror-tests", "--bins"])
        .status()
        .context("cargo build of the demo's servers")?;
    ensure!(status.success(), "the demo's servers do not build: cargo build -p mirror-tests --bins");
    Ok(())
}

fn millis(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time; write 20s or 2m"))?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" if number <= 60 * 24 => Ok(Duration::from_secs(number * 60)),
        "m" => Err(format!("{text:?} is more than a day")),
        _ => Err(format!("{text:?} is no time; write 20s or 2m")),
    }
}
