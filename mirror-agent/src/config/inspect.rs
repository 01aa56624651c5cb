//! Flags of `mirror inspect`, as typed and resolved.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::filter::Filter;
use super::{Error, filter};

/// Flags of whoever reads captures, `mirror inspect` and `mirror replay`: which files, and what of them.
#[derive(Args, Clone, Debug)]
pub struct CaptureFlags {
    /// Capture files, pcap or pcapng, gzip or not; - is standard input.
    ///
    /// Several are read as one capture in the order given, so that connections go on from one rotated file to the next. A
    /// file that begins before the one before it ended begins anew.
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,

    /// Look only at connections of this port, and take who has it for the server; repeat for several.
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,

    /// Take only requests that fit: words of tcpdump (host, net, port, portrange, ip, ip6, with src for the client and dst
    /// for the server) and method, path, authority, status, joined with and, or, not and parentheses.
    ///
    /// What the status is nobody knows before the answer, so it is none of the words of mirror replay.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
}

/// Flags of `mirror inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectFlags {
    /// What is read.
    #[command(flatten)]
    pub capture: CaptureFlags,

    /// Write one JSON object a request, one a line. The default when standard output is no terminal.
    #[arg(long, conflicts_with = "table")]
    pub json: bool,

    /// Write a table for people. The default on a terminal.
    #[arg(long)]
    pub table: bool,

    /// Decode and count, write nothing a request; with --json the counts are one JSON object on standard output.
    #[arg(long, conflicts_with = "table")]
    pub summary: bool,
}

/// What `mirror inspect` writes for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// One JSON object.
    Json,
    /// One line of a table.
    Table,
    /// Nothing, and at the end the counts as text.
    Nothing,
    /// Nothing, and at the end the counts as one JSON object.
    NothingJson,
}

/// Which captures are read, and what of them.
#[derive(Clone, Debug)]
pub struct ResolvedCapture {
    /// Files in order.
    pub files: Vec<PathBuf>,
    /// Ports that serve; empty for any.
    pub ports: BTreeSet<u16>,
    /// Which requests are taken.
    pub filter: Option<Filter>,
}

/// All that `mirror inspect` needs to know.
#[derive(Clone, Debug)]
pub struct ResolvedInspect {
    /// What is read.
    pub capture: ResolvedCapture,
    /// What is written.
    pub shown: Shown,
}

/// What the flags of `mirror inspect` mean on a terminal or elsewhere.
///
/// # Errors
///
/// If the filter cannot be read.
pub fn resolve_inspect(flags: &InspectFlags, terminal: bool) -> Result<ResolvedInspect, Error> {
    let shown = match (flags.summary, flags.json, flags.table || terminal) {
        (true, false, _) => Shown::Nothing,
        (true, true, _) => Shown::NothingJson,
        (false, false, true) => Shown::Table,
        (false, _, _) => Shown::Json,
    };
    Ok(ResolvedInspect { capture: resolve_capture(&flags.capture)?, shown })
}

pub(super) fn resolve_capture(flags: &CaptureFlags) -> Result<ResolvedCapture, Error> {
    Ok(ResolvedCapture {
        files: flags.files.clone(),
        ports: flags.port.iter().copied().collect(),
        filter: flags.filter.as_deref().map(filter::parse).transpose()?,
    })
}
