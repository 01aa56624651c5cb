//! The taps of the job: attached at the start, followed while interfaces come and go, shown to whoever asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use super::attention::Attention;
use crate::config::{Attach, Namespace, Primary, Tap};
use crate::kernel::attach::{AttachMode, TapMode, TapSpec, Taps};
use crate::kernel::cleanup::{Removal, within};
use crate::kernel::interfaces::Selection;
use crate::kernel::load::Programs;
use crate::kernel::netns::Netns;
use crate::kernel::programs::TapPrograms;
use crate::kernel::readable::Readable;
use crate::kernel::watch::Watcher;
use crate::stats::{self, TapInfo};

/// How often taps are looked at although nothing was heard: what stands before them changes without a word.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often it is tried to tap what is wanted and not there.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What is to be tapped, decided before anything is loaded.
pub(super) struct TapPlan {
    mode: TapMode,
    spec: TapSpec,
}

impl TapPlan {
    /// Where the programs go.
    pub(super) fn new(tap: &Tap, primary: &Primary) -> anyhow::Result<Self> {
        let netns = match &tap.namespace {
            Namespace::Own => Netns::current(),
            Namespace::Path(path) => Netns::named(&path.to_string_lossy()),
            Namespace::Pid(pid) => {
                Netns::of_process(*pid).with_context(|| format!("--pid {pid}: there is no such process"))?
            }
        };
        let interfaces = match (tap.interfaces.as_slice(), primary.ip) {
            ([], None) => Selection::All,
            ([], Some(ip)) => Selection::Addresses(vec![ip]),
            (named, _) => Selection::Named(named.to_vec()),
        };
        let mode = attach_mode(tap.attach).resolve()?;
        Ok(Self { mode, spec: TapSpec { netns, interfaces } })
    }

    /// Filters outlive the agent, so the program asks for its sign of life.
    pub(super) fn needs_heartbeat(&self) -> bool {
        self.mode == TapMode::Clsact
    }

    /// Removes what an agent that was killed left behind, and attaches.
    pub(super) fn attach(self, programs: &Programs) -> anyhow::Result<TapSet> {
        let cleaned = within(std::slice::from_ref(&self.spec.netns), Removal::Remove);
        let watcher = Watcher::new().context("changes of interfaces cannot be listened to")?;
        let (l2, l3) = programs.descriptors()?;
        let taps = Taps::attach(TapPrograms::new(l2, l3)?, self.mode, vec![self.spec])?;
        // Not before: a namespace that cannot be entered is one line, the error's.
        for line in &cleaned.failed {
            tracing::warn!("a stale filter could not be removed: {line}");
        }
        // The first look comes soon, and says what cannot be heard.
        follow(&watcher, &taps);
        let watcher = Readable::new(watcher).context("changes of interfaces cannot be listened to")?;
        let mut set = TapSet { taps, watcher, attention: Attention::new(RETRY_EVERY), view: Arc::default() };
        set.show();
        Ok(set)
    }
}

/// The taps, with an ear on their namespaces. Dropping it detaches everything.
pub(super) struct TapSet {
    taps: Taps,
    watcher: Readable<Watcher>,
    attention: Attention,
    view: Arc<View>,
}

impl TapSet {
    /// Waits until it is worth a [`TapSet::refresh`]. May be given up and called again at any time.
    pub(super) async fn changed(&mut self) {
        self.attention.due(self.watcher.ready()).await;
    }

    /// Taps what came, lets go what went.
    pub(super) fn refresh(&mut self) {
        let drained = self.watcher.get_mut().drain();
        if let Err(error) = &drained {
            tracing::warn!(%error, "changes of interfaces are not heard any more; looking once a second");
        }
        for change in self.taps.refresh() {
            tracing::info!("{change}");
        }
        let deaf = !follow(self.watcher.get(), &self.taps) || drained.is_err();
        let again = if deaf || !self.taps.pending().is_empty() { RETRY_EVERY } else { LOOK_EVERY };
        self.attention.looked(again);
        self.show();
    }

    /// What is tapped, for readers on other threads.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    fn show(&mut self) {
        let taps = self
            .taps
            .status()
            .into_iter()
            .filter(|tap| tap.attached)
            .map(|tap| TapInfo {
                interface: tap.interface,
                ifindex: tap.ifindex,
                netns: (tap.netns != Netns::current().to_string()).then_some(tap.netns),
                hook: match tap.hook {
                    crate::kernel::Hook::Ingress => "ingress".to_owned(),
                    crate::kernel::Hook::Egress => "egress".to_owned(),
                },
                mode: tap.mode.to_string(),
                before: tap.before.unwrap_or_default().iter().map(ToString::to_string).collect(),
            })
            .collect();
        *self.view.0.lock().unwrap_or_else(PoisonError::into_inner) = (taps, self.taps.pending().to_vec());
    }
}

/// Hears all namespaces of the taps; whether that is so.
fn follow(watcher: &Watcher, taps: &Taps) -> bool {
    let deaf = watcher.follow(taps);
    for line in &deaf {
        tracing::debug!("{line}");
    }
    deaf.is_empty()
}

/// The taps as they were last seen, and what is still wanted.
#[derive(Debug, Default)]
pub(super) struct View(Mutex<(Vec<TapInfo>, Vec<String>)>);

impl stats::Taps for View {
    fn taps(&self) -> Vec<TapInfo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn pending(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// The flag as the kernel room has it.
#[must_use]
pub fn attach_mode(flag: Attach) -> AttachMode {
    match flag {
        Attach::Auto => AttachMode::Auto,
        Attach::Tcx => AttachMode::Tcx,
        Attach::Clsact => AttachMode::Clsact,
    }
}

/// The primary of a job as the kernel's map takes it; the unspecified address stands for any.
pub(super) fn primaries(primary: &Primary, job: u16) -> BTreeMap<SocketAddr, u16> {
    let ip = primary.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    BTreeMap::from([(SocketAddr::new(ip, primary.port), job)])
}
