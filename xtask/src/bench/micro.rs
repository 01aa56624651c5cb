//! Time and allocations of the pure rooms: mirror-agent's own benchmark, as it prints.

use anyhow::Result;

use crate::repo;

pub(super) fn section() -> Result<String> {
    repo::say("measuring the pure rooms");
    let mut bench = repo::cargo();
    bench.args(["bench", "-p", "mirror-agent", "--bench", "rooms"]).env("NO_COLOR", "1");
    println!("  $ {}", repo::spelled(&bench));
    let table = repo::output(&mut bench)?;
    Ok(format!(
        "## Pure rooms\n\nTime and allocations of one call, by `cargo bench -p mirror-agent --bench rooms`.\n\n```text\n{}\n```\n",
        table.trim()
    ))
}
