//! The shard threads: how they are made, spoken to and ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use mio::{Poll, Waker};
use tokio::sync::Notify;

use super::headroom::Headroom;
use super::memory::Memory;
use super::own::Own;
use super::shadows::Tls;
use super::worker::{COMMANDS, Command, SLICE_NS, Worker, clocks};
use crate::api::Ready;
use crate::config::{Connections, Copies, Ordering, Priority, Resolved};
use crate::kernel::own::OwnEndpoints;
use crate::kernel::ring::Ring;
use crate::kernel::thread::{set_batch, set_nice};
use crate::pipeline::{Job, Pipeline, Shadows};
use crate::plan::{Plan, Sampler};
use crate::replay::{self, Budget, H2Replayer, Replayer, TargetConfig};
use crate::stats::ledger::{Ledger, ShardLedger};
use crate::{flow, http};

/// Niceness of the shards with `--priority high`.
const HIGH_NICE: i32 = -7;

/// All shards of the agent.
pub(super) struct Shards {
    shards: Vec<Shard>,
    ended: Arc<Notify>,
}

struct Shard {
    thread: JoinHandle<std::io::Result<()>>,
    commands: Sender<Command>,
    waker: Waker,
    ledger: Arc<Ledger>,
    books: Arc<ShardLedger>,
}

impl Shards {
    /// Starts a thread for each ring.
    pub(super) fn start(
        config: &Resolved,
        rings: Vec<Ring>,
        own: &OwnEndpoints,
        tls: &[Option<Tls>],
        memory: &Memory,
        ready: &Ready,
    ) -> anyhow::Result<Self> {
        let plan = Arc::new(Plan::new(&config.copies.plan));
        let sampler = Sampler::default();
        let targets = targets(&config.copies, tls, replay::LINGER_NS);
        let ended = Arc::new(Notify::new());
        let cpu_budget = match config.priority {
            Priority::Normal => None,
            // Of all shards together, in percent of one core.
            Priority::High { cpu_budget: Some(percent) } => {
                Some(f64::from(percent) / 100.0 / rings.len() as f64)
            }
            Priority::High { cpu_budget: None } => None,
        };
        let nice = matches!(config.priority, Priority::High { .. }).then_some(HIGH_NICE);
        let mut shards = Vec::new();
        for (index, ring) in rings.into_iter().enumerate() {
            let poll = Poll::new().context("epoll is not to be had")?;
            let waker = Waker::new(poll.registry(), COMMANDS).context("eventfd is not to be had")?;
            let ledger = Arc::new(Ledger::new(config.copies.shadows.len()));
            let books = Arc::new(ShardLedger::default());
            books.ring_capacity.set(ring.capacity() as u64);
            let registry = poll.registry().try_clone().context("epoll is not to be had")?;
            let second = poll.registry().try_clone().context("epoll is not to be had")?;
            let h2 = H2Replayer::new(&targets, second, Box::new(Own(own.clone())), clocks);
            let replayer = Replayer::new(&targets, registry, Box::new(Own(own.clone())), clocks);
            let job = Job::new(
                plan.clone(),
                sampler.clone(),
                ledger.clone(),
                0,
                u16::try_from(index).unwrap_or(u16::MAX),
            );
            let pipeline = Pipeline::new(
                flow::Limits {
                    hash_seed: table_seed(),
                    ..flow::Limits::for_memory(memory.flows, Pipeline::CLIENT_BYTES)
                },
                memory.http(),
                http::Pickup::Prove,
                vec![job],
                Shadows::new(replayer, h2),
                books.clone(),
            );
            let (commands, receiver) = channel();
            let headroom = Headroom::new(ring.capacity());
            let worker = Worker {
                pipeline,
                ring,
                poll,
                commands: receiver,
                books: books.clone(),
                headroom,
                cpu_budget,
            };
            let ended = ended.clone();
            let blocker = ready.wait_for(format!("shard {index} is starting"));
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || {
                    // With high priority a shard is to have its turn: slices as everybody's, and more of them.
                    if let Err(error) = set_batch(nice.is_none().then_some(SLICE_NS)) {
                        tracing::debug!(%error, "no batch scheduling here");
                    }
                    if let Some(nice) = nice
                        && let Err(error) = set_nice(nice)
                    {
                        tracing::warn!(%error, "--priority high: the priority cannot be raised (CAP_SYS_NICE)");
                    }
                    drop(blocker);
                    let result = worker.run();
                    ended.notify_one();
                    result
                })
                .context("a shard's thread cannot start")?;
            shards.push(Shard { thread, commands, waker, ledger, books });
        }
        Ok(Self { shards, ended })
    }

    /// The job's books, one a shard.
    pub(super) fn ledgers(&self) -> Vec<Arc<Ledger>> {
        self.shards.iter().map(|shard| shard.ledger.clone()).collect()
    }

    /// The shards' own books.
    pub(super) fn books(&self) -> Vec<Arc<ShardLedger>> {
        self.shards.iter().map(|shard| shard.books.clone()).collect()
    }

    /// Tells every shard where the shadows are.
    pub(super) fn send_addrs(&self, addrs: &[Vec<SocketAddr>]) {
        let addrs: Arc<[Vec<SocketAddr>]> = addrs.into();
        self.send(&Command::Addrs(addrs));
    }

    fn send(&self, command: &Command) {
        for shard in &self.shards {
            // A shard that has ended is noticed by `failure`.
            let _ended = shard.commands.send(command.clone());
            let _ended = shard.waker.wake();
        }
    }

    /// Waits until a shard ends that was not told to.
    pub(super) async fn failure(&self) -> anyhow::Error {
        self.ended.notified().await;
        anyhow!("a shard ended by itself; mirroring stops")
    }

    /// Ends all shards: what is in the rings is read, whole copies get `grace` to be answered.
    pub(super) fn stop(self, grace: Duration) -> anyhow::Result<()> {
        self.send(&Command::Stop(grace));
        let mut result = Ok(());
        for (index, shard) in self.shards.into_iter().enumerate() {
            match shard.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(anyhow!(error).context(format!("shard {index} failed"))),
                Err(_) => result = Err(anyhow!("shard {index} panicked")),
            }
        }
        result
    }
}

/// What the replayers need to know of the shadows.
pub(super) fn targets(copies: &Copies, tls: &[Option<Tls>], linger: u64) -> Vec<TargetConfig> {
    let settings = replay::Settings {
        connections: match copies.connections {
            Connections::PerClient => replay::Connections::PerClient,
            Connections::Shared => replay::Connections::Shared,
        },
        ordering: match copies.ordering {
            Ordering::Connection => replay::Ordering::Connection,
            Ordering::None => replay::Ordering::None,
        },
        timeouts: replay::Timeouts {
            connect: nanos(copies.timeouts.connect),
            head: nanos(copies.timeouts.head),
            idle: nanos(copies.timeouts.idle),
        },
        linger,
    };
    tls.iter()
        .map(|tls| TargetConfig {
            settings,
            tls: tls.clone(),
            in_flight: Budget::new(u64::from(copies.limits.max_in_flight)),
            connections: Budget::new(u64::from(copies.limits.max_connections)),
            queued: Budget::new(copies.limits.max_queued_bytes),
        })
        .collect()
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A seed that nobody outside knows, so that nobody can choose addresses that fall together in a table.
pub(super) fn table_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
