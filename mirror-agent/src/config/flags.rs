//! The flags as typed: strings and numbers, nothing inferred, nothing looked up. The one place where a flag, its
//! default and its help stand; man page and completions are made from it.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are the help texts, where [IPv6]:PORT is no link"
)]

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueHint};

use super::choice::{self, Attach, Connections, Ordering, PRIORITY};
use super::limits::DEFAULT_MAX_CONNECTIONS;
use crate::plan::{SampleBy, Trace};

const SELECT: &str = "What is copied";
const SHADOW: &str = "Where copies go";
const CHANGE: &str = "How copies are changed";
const LIMIT: &str = "Limits towards each shadow";
const TAP: &str = "The tap";
const RESOURCE: &str = "The agent's own resources";
const OUTPUT: &str = "Output";

/// Flags of `mirror run`.
#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    /// The service whose requests are copied.
    ///
    /// IP:PORT, [IPv6]:PORT, or :PORT (or PORT) for the port on any address of this machine.
    #[arg(long, value_name = "[IP]:PORT", help_heading = SELECT)]
    pub primary: String,

    /// What becomes of its requests.
    #[command(flatten)]
    pub copies: CopyFlags,

    /// Where to tap.
    #[command(flatten)]
    pub tap: TapFlags,

    /// Scheduling priority of the workers.
    ///
    /// normal: on a machine without idle cores copies are shed before the primary is slowed. high: the workers go before
    /// the primary, up to --cpu-budget.
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = choice::names(PRIORITY), help_heading = RESOURCE)]
    pub priority: String,

    /// CPU that the workers may take together at high priority before they shed copies, in percent of one core
    /// [default: 100% for each shard].
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, help_heading = RESOURCE)]
    pub cpu_budget: Option<String>,
}

/// Flags of whoever sends copies, `mirror run` and `mirror replay`: which requests, where to, how changed, and within what
/// limits.
#[derive(Args, Clone, Debug)]
pub struct CopyFlags {
    /// A shadow that receives the copies; repeat for several.
    ///
    /// http:// or https://, host, and a port unless it is 80 or 443. Every selected request goes to every shadow.
    /// Replies are read and thrown away. A name is resolved again while mirroring.
    #[arg(long, value_name = "URL", required = true, help_heading = SHADOW, value_hint = ValueHint::Url)]
    pub shadow: Vec<String>,

    /// Certificates (a PEM file) to trust for https shadows, besides the system's.
    #[arg(long, value_name = "FILE", help_heading = SHADOW, value_hint = ValueHint::FilePath)]
    pub shadow_ca: Option<PathBuf>,

    /// Name that https shadows are asked for and checked against, if it is not the host of the URL.
    #[arg(long, value_name = "NAME", help_heading = SHADOW)]
    pub shadow_server_name: Option<String>,

    /// Copies per hundred requests, 0 to 1000, decimals allowed.
    ///
    /// By chance, request by request: 12.5 copies one in eight. Above 100 extra copies are sent: 250 sends two copies of
    /// every request and a third one of half of them.
    #[arg(long, value_name = "PERCENT", default_value = "100", allow_negative_numbers = true, help_heading = SELECT)]
    pub percent: String,

    /// Whether chance falls on single requests or on whole connections.
    #[arg(long, value_name = "UNIT", default_value = "request", value_parser = choice::names(SampleBy::ALL), help_heading = SELECT)]
    pub sample_by: String,

    /// Methods to copy, separated by commas; `safe` stands for GET, HEAD and OPTIONS.
    ///
    /// Without it all methods are copied, writes included. CONNECT and requests that ask for an upgrade are never copied.
    #[arg(long, value_name = "LIST", help_heading = SELECT)]
    pub methods: Vec<String>,

    /// Copy only requests whose path begins with this.
    ///
    /// Compared byte by byte with the path as the client spelled it, without its query: /api fits /api, /api/x and /apis.
    #[arg(long, value_name = "PATH", help_heading = SELECT)]
    pub path_prefix: Option<String>,

    /// Most requests to copy in a second, over all connections; 0 is no limit.
    ///
    /// Bursts up to a tenth of it pass at once.
    #[arg(long, value_name = "NUMBER", help_heading = SELECT)]
    pub max_rps: Option<u64>,

    /// Key of the sampling, a number: the same seed and the same traffic give the same choice.
    ///
    /// Without it a random one, which is shown at the start.
    #[arg(long, value_name = "NUMBER", help_heading = SELECT)]
    pub seed: Option<u64>,

    /// Name of this job, the value of the marker header.
    #[arg(long, value_name = "NAME", default_value = "mirror", help_heading = CHANGE)]
    pub name: String,

    /// Put behind the host in every authority, before the port; "" leaves it as it is.
    #[arg(long, value_name = "SUFFIX", default_value = "-shadow", allow_hyphen_values = true, help_heading = CHANGE)]
    pub host_suffix: String,

    /// Header that marks a copy; "" for none.
    ///
    /// A request that bears it is a copy already and is not copied again, so without it chains of mirrors may loop.
    #[arg(long, value_name = "NAME", default_value = "x-mirror-job", help_heading = CHANGE)]
    pub marker: String,

    /// What becomes of trace headers (traceparent, b3, x-b3-*).
    ///
    /// keep: nothing. unsampled: the sampled flag is cleared, so that copies do not double the traces of production.
    /// drop: they are removed, with tracestate.
    #[arg(long, value_name = "MODE", default_value = "unsampled", value_parser = choice::names(Trace::ALL), help_heading = CHANGE)]
    pub trace: String,

    /// Header to which the client's address is appended, e.g. x-forwarded-for.
    #[arg(long, value_name = "NAME", help_heading = CHANGE)]
    pub client_ip_header: Option<String>,

    /// Remove a header; repeat for several. Removes come before sets, sets before adds.
    #[arg(long, value_name = "NAME", help_heading = CHANGE)]
    pub remove_header: Vec<String>,

    /// Set a header to this one value, whether it is there or not; repeat for several.
    ///
    /// "Host: NAME" sets the whole authority, and no suffix is put to it.
    #[arg(long, value_name = "NAME:VALUE", help_heading = CHANGE)]
    pub set_header: Vec<String>,

    /// Add a header beside those of the same name; repeat for several.
    #[arg(long, value_name = "NAME:VALUE", help_heading = CHANGE)]
    pub add_header: Vec<String>,

    /// Connections to a shadow: one for each client connection, or few pipelined ones for all.
    ///
    /// per-client shows the shadow the concurrency that the primary sees. shared costs least.
    #[arg(long, value_name = "MODE", default_value = "per-client", value_parser = choice::names(Connections::ALL), help_heading = SHADOW)]
    pub connections: String,

    /// Order of the copies of one client connection: as sent, or none.
    ///
    /// connection: copies go over one connection in order; one that may not be repeated (POST) waits for the answers before it.
    /// none: a copy goes as soon as a connection is free.
    #[arg(long, value_name = "MODE", default_value = "connection", value_parser = choice::names(Ordering::ALL), help_heading = SHADOW)]
    pub ordering: String,

    /// Most copies without an answer.
    #[arg(long, value_name = "NUMBER", default_value_t = 32_768, help_heading = LIMIT)]
    pub max_in_flight: u32,

    /// Most open connections.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_MAX_CONNECTIONS, help_heading = LIMIT)]
    pub max_connections: u32,

    /// Most bytes waiting to be sent, e.g. 16MiB [default: a quarter of --memory, split over the shadows].
    #[arg(long, value_name = "SIZE", help_heading = LIMIT)]
    pub max_queued_bytes: Option<String>,

    /// Longest wait for a connection (and the TLS handshake), e.g. 500ms or 2s.
    #[arg(long, value_name = "TIME", default_value = "2s", help_heading = LIMIT)]
    pub connect_timeout: String,

    /// Longest wait for the head of the answer after the whole copy was sent.
    #[arg(long, value_name = "TIME", default_value = "15s", help_heading = LIMIT)]
    pub head_timeout: String,

    /// Longest standstill of a copy or its answer, and of an unused connection.
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = LIMIT)]
    pub idle_timeout: String,

    /// Serve /metrics, /healthz, /readyz and /api/v1/stats at this address; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", help_heading = OUTPUT)]
    pub admin: Option<String>,

    /// Memory, time, and what is said.
    #[command(flatten)]
    pub agent: AgentFlags,
}

/// Where and how to tap: what `mirror run` and `mirror record` have in common.
#[derive(Args, Clone, Debug)]
pub struct TapFlags {
    /// Interface to tap; repeat for several [default: those that hold the primary's address].
    #[arg(long, value_name = "NAME", help_heading = TAP)]
    pub interface: Vec<String>,

    /// Network namespace to tap: its name as `ip netns` has it, or a path.
    #[arg(long, value_name = "NAME|PATH", help_heading = TAP, value_hint = ValueHint::AnyPath)]
    pub netns: Option<String>,

    /// Tap in the network namespace of this process.
    #[arg(long, value_name = "PID", allow_negative_numbers = true, help_heading = TAP)]
    pub pid: Option<i64>,

    /// How the BPF program is attached; auto takes TCX where the kernel has it.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = choice::names(Attach::ALL), help_heading = TAP)]
    pub attach: String,

    /// Worker threads, 1 to 64 [default: one for every two cores].
    #[arg(long, value_name = "NUMBER", help_heading = RESOURCE)]
    pub shards: Option<u32>,

    /// Size of each worker's ring, a power of two from 64KiB to 256MiB [default: what a quarter of --memory has room for].
    ///
    /// The kernel puts what it copies there. A larger one outlasts a longer pause of its worker; in one of 64KiB the longest
    /// segments find no room.
    #[arg(long, value_name = "SIZE", help_heading = RESOURCE)]
    pub ring: Option<String>,
}

/// What every long-running command of the tap takes.
#[derive(Args, Clone, Debug)]
pub struct AgentFlags {
    /// Ceiling of the agent's memory, at least 32MiB; the program itself takes 20MiB of it.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", help_heading = RESOURCE)]
    pub memory: String,

    /// Stop by itself after this time, e.g. 20s or 1h30m.
    #[arg(long, value_name = "TIME", help_heading = RESOURCE)]
    pub duration: Option<String>,

    /// Write JSON lines, on a terminal too.
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,

    /// Say more; twice for the BPF program's own lines.
    #[arg(short, long, action = ArgAction::Count, help_heading = OUTPUT)]
    pub verbose: u8,
}

/// Flags of `mirror doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorFlags {
    /// The service whose requests should be seen: [IP]:PORT.
    #[arg(long, value_name = "[IP]:PORT")]
    pub primary: Option<String>,

    /// Interface to look at; repeat for several [default: those that hold the primary's address].
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,

    /// Network namespace to look into: its name as `ip netns` has it, or a path.
    #[arg(long, value_name = "NAME|PATH", value_hint = ValueHint::AnyPath)]
    pub netns: Option<String>,

    /// Look into the network namespace of this process.
    #[arg(long, value_name = "PID", allow_negative_numbers = true)]
    pub pid: Option<i64>,

    /// How the BPF program would be attached.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = choice::names(Attach::ALL))]
    pub attach: String,

    /// Write one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `mirror cleanup`.
#[derive(Args, Clone, Debug)]
pub struct CleanupFlags {
    /// Network namespace to clean besides the current one: a name or a path; repeat for several.
    #[arg(long, value_name = "NAME|PATH", value_hint = ValueHint::AnyPath)]
    pub netns: Vec<String>,

    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Write one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}
