//! The whole mirror against the same traffic without one: requests a second, CPU, delivery, memory.

use std::fmt::Write as _;

use anyhow::Result;

use super::lab::{Lab, Load, PORT, Phase};
use super::median;
use crate::repo;

const LOADS: [Load; 3] = [
    Load { name: "get1k", body: 0, connections: 64 },
    Load { name: "post16k", body: 16 << 10, connections: 64 },
    Load { name: "post1m", body: 1 << 20, connections: 16 },
];

/// Flags of `mirror run` that are compared.
const VARIANTS: [(&str, &[&str]); 3] = [
    ("default", &[]),
    ("connections shared", &["--connections", "shared"]),
    ("priority high", &["--priority", "high"]),
];

/// One variant against the baseline of its own round.
struct Ratio {
    requests: f64,
    cost: f64,
    delivered: f64,
    peak_mib: f64,
}

pub(super) fn section(lab: &Lab, seconds: u32, rounds: u32) -> Result<String> {
    let mut text = String::from(
        "## End to end\n\nnginx as primary and as shadow, wrk in a closed loop, each in a network namespace of its own, all on \
         the same cores. Medians of ratios to the un-mirrored baseline of the same round. *Cost* is the CPU that the mirror \
         adds outside the shadow's own process (its process, the tap, the kernel's work for both), over the CPU of client and \
         primary a request without it. *Delivered* is what the shadow's log holds of the primary's. Latency in an open loop \
         is not measured here.\n\n\
         | load | flags | requests a second x baseline | cost x baseline | delivered | peak RSS, MiB |\n|---|---|---|---|---|---|\n",
    );
    for load in LOADS {
        let mut ratios: Vec<Vec<Ratio>> = VARIANTS.iter().map(|_| Vec::new()).collect();
        for round in 1..=rounds {
            repo::say(format!("measuring {}, round {round} of {rounds}", load.name));
            // Warm caches and connections' paths once; not counted.
            lab.load(load, PORT, 1, None)?;
            let baseline = lab.load(load, PORT, seconds, None)?;
            for ((_, flags), ratios) in VARIANTS.iter().zip(&mut ratios) {
                let mirror = lab.mirror(flags)?;
                lab.load(load, PORT, 1, Some(&mirror))?;
                let phase = lab.load(load, PORT, seconds, Some(&mirror))?;
                ratios.push(ratio(&baseline, &phase, mirror.peak_mib()));
            }
        }
        for ((name, _), ratios) in VARIANTS.iter().zip(&ratios) {
            let of = |pick: fn(&Ratio) -> f64| {
                median(&ratios.iter().map(pick).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            writeln!(
                text,
                "| {} | {name} | {:.2} | {:.2} | {:.4} | {:.0} |",
                load.name,
                of(|ratio| ratio.requests),
                of(|ratio| ratio.cost),
                of(|ratio| ratio.delivered),
                of(|ratio| ratio.peak_mib)
            )?;
        }
    }
    Ok(text)
}

fn ratio(baseline: &Phase, phase: &Phase, peak_mib: f64) -> Ratio {
    let base_cost = baseline.cost_without_shadow();
    Ratio {
        requests: phase.requests_per_second / baseline.requests_per_second,
        cost: (phase.cost_without_shadow() - base_cost) / base_cost,
        delivered: phase.shadow as f64 / phase.primary.max(1) as f64,
        peak_mib,
    }
}

#[cfg(test)]
mod tests {
    use super::ratio;
    use crate::bench::lab::Phase;

    fn phase(requests_per_second: f64, shadow: u64, mirror: f64) -> Phase {
        let cpu = [("client", 1.0), ("pri", 1.0), ("sha", 5.0), ("mirror", mirror)].into();
        Phase { requests_per_second, primary: 100, shadow, cpu }
    }

    #[test]
    fn cost_is_what_the_mirror_adds_and_leaves_the_shadow_out() {
        let ratio = ratio(&phase(200.0, 0, 0.0), &phase(100.0, 50, 0.5), 7.0);
        assert!((ratio.requests - 0.5).abs() < 1e-9);
        assert!((ratio.cost - 0.25).abs() < 1e-9);
        assert!((ratio.delivered - 0.5).abs() < 1e-9);
    }
}
