//! Taps: the programs on the hooks of the wanted interfaces, as values. What is dropped is detached.
//!
//! [`Taps`] belongs to one control thread. It attaches what its specs ask for, follows interfaces that go and come
//! ([`Taps::refresh`], called when a [`super::watch::Watcher`] heard something), and tells what runs before us.
//!
//! Over 400 lines: attaching, undoing and following are one transaction over the same table of taps.

use std::collections::{BTreeMap, BTreeSet};

use super::clsact::ClsactFilter;
use super::interfaces::{self, Framing, Interface, Selection};
use super::netlink;
use super::netns::{Netns, NetnsId};
use super::programs::{ForeignProgram, Ours, TapPrograms, standing_before};
use super::sys::Hook;
use super::tcx::TcxLink;

mod error;
mod mode;

pub use error::AttachError;
pub use mode::{AttachMode, TapMode};

/// Interfaces tapped at a time. Each takes two descriptors with TCX.
pub const MAX_TAPPED_INTERFACES: usize = 4096;

/// Interfaces of one network namespace that a job wants tapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// Where.
    pub netns: Netns,
    /// Which.
    pub interfaces: Selection,
}

/// Something that [`Taps::refresh`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is tapped from now on.
    Attached {
        /// Where.
        netns: String,
        /// Its name.
        interface: String,
    },
    /// An interface is not tapped any more: it is gone, or no longer selected.
    Detached {
        /// Where.
        netns: String,
        /// Its name.
        interface: String,
    },
    /// Something wanted cannot be tapped now; it is tried again at the next refresh.
    Failed {
        /// One line.
        why: String,
    },
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attached { netns, interface } => write!(f, "{interface} in {netns} is tapped"),
            Self::Detached { netns, interface } => write!(f, "{interface} in {netns} is not tapped any more"),
            Self::Failed { why } => f.write_str(why),
        }
    }
}

/// One attachment as status shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TapStatus {
    /// How the namespace was found.
    pub netns: String,
    /// Who it is.
    pub netns_id: NetnsId,
    /// Index of the interface.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// How its packets begin.
    pub framing: Framing,
    /// The hook.
    pub hook: Hook,
    /// How it is attached.
    pub mode: TapMode,
    /// Whether it is there: an interface may have gone since the last refresh.
    pub attached: bool,
    /// What sees packets before us, in running order; `None` when the namespace cannot be entered any more.
    pub before: Option<Vec<ForeignProgram>>,
}

/// The taps of an agent. Dropping them detaches everything.
#[derive(Debug)]
pub struct Taps {
    programs: TapPrograms,
    mode: TapMode,
    specs: Vec<TapSpec>,
    taps: BTreeMap<Key, Tap>,
    pending: Vec<String>,
}

/// An interface of this boot: namespace cookie and index. An index may be given again, so attachments are looked at too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    cookie: u64,
    ifindex: u32,
}

#[derive(Debug)]
struct Tap {
    netns: Netns,
    netns_id: NetnsId,
    ifindex: u32,
    name: String,
    framing: Framing,
    hooks: Vec<(Hook, Attachment)>,
}

#[derive(Debug)]
enum Attachment {
    Tcx(TcxLink),
    Clsact(ClsactFilter),
}

impl Taps {
    /// Attaches to all interfaces that `specs` select.
    ///
    /// # Errors
    /// When any spec selects nothing or any attachment fails; all that was attached is undone.
    pub fn attach(programs: TapPrograms, mode: TapMode, specs: Vec<TapSpec>) -> Result<Self, AttachError> {
        let mut taps = Self { programs, mode, specs: Vec::new(), taps: BTreeMap::new(), pending: Vec::new() };
        if specs.is_empty() {
            return Err(AttachError::NoSpec);
        }
        taps.set_specs(specs)?;
        Ok(taps)
    }

    /// Changes what is wanted. Taps wanted before and after stay as they are.
    ///
    /// # Errors
    /// When a spec that was not there before selects nothing or cannot be attached; then nothing has changed.
    pub fn set_specs(&mut self, specs: Vec<TapSpec>) -> Result<Vec<Change>, AttachError> {
        self.reconcile(specs)
    }

    /// Taps what came, lets go what went, and puts back what somebody else took away.
    pub fn refresh(&mut self) -> Vec<Change> {
        // Specs that were there before cannot fail.
        self.reconcile(self.specs.clone())
            .unwrap_or_else(|error| vec![Change::Failed { why: error.to_string() }])
    }

    /// How taps are attached.
    #[must_use]
    pub fn mode(&self) -> TapMode {
        self.mode
    }

    /// What is wanted and not there now, a line each. While this is not empty the caller should refresh each second: a namespace
    /// that does not exist yet cannot tell that it came.
    #[must_use]
    pub fn pending(&self) -> &[String] {
        &self.pending
    }

    /// Interfaces tapped now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Whether nothing is tapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Namespaces of the specs, each once.
    pub(super) fn namespaces(&self) -> Vec<Netns> {
        let mut all: Vec<Netns> = Vec::new();
        for spec in &self.specs {
            if !all.contains(&spec.netns) {
                all.push(spec.netns.clone());
            }
        }
        all
    }

    /// All attachments, with what the kernel says of each now.
    #[must_use]
    pub fn status(&self) -> Vec<TapStatus> {
        let mut all = Vec::new();
        let mut rest: Vec<&Tap> = self.taps.values().collect();
        // Keys are in order of namespaces: each is entered once.
        while let Some(first) = rest.first() {
            let (netns, id) = (first.netns.clone(), first.netns_id);
            let here = rest.iter().take_while(|tap| tap.netns_id == id).count();
            let taps: Vec<&Tap> = rest.drain(..here).collect();
            let inside = netns.within_same(id, |_| {
                let interfaces = interfaces::list().unwrap_or_default();
                taps.iter().flat_map(|tap| tap.status(Some(&interfaces))).collect::<Vec<_>>()
            });
            all.extend(inside.unwrap_or_else(|_| taps.iter().flat_map(|tap| tap.status(None)).collect()));
        }
        all
    }

    fn reconcile(&mut self, specs: Vec<TapSpec>) -> Result<Vec<Change>, AttachError> {
        let mut new: BTreeMap<Key, Tap> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        let mut failures = Vec::new();
        for spec in &specs {
            let is_known = self.specs.contains(spec);
            let survey = spec
                .netns
                .within(|id| self.survey(spec, id, &new, !is_known))
                .map_err(|error| AttachError::Enter { netns: spec.netns.clone(), error })
                .and_then(|inner| inner);
            match survey {
                Ok(survey) => {
                    new.extend(survey.attached);
                    kept.extend(survey.kept);
                    failures.extend(survey.failures);
                }
                Err(error) if !is_known => return Err(error),
                Err(error) => {
                    // The way into the namespace is gone, not always the namespace: what still works stays.
                    kept.extend(
                        self.taps
                            .iter()
                            .filter(|(_, tap)| tap.netns == spec.netns && tap.may_be_attached())
                            .map(|(key, _)| *key),
                    );
                    failures.push(error.to_string());
                }
            }
        }
        let mut changes = Vec::new();
        let stays = |key: &Key| kept.contains(key) || new.contains_key(key);
        let gone: Vec<Key> = self.taps.keys().filter(|key| !stays(key)).copied().collect();
        for key in gone {
            if let Some(tap) = self.taps.remove(&key) {
                changes.push(Change::Detached { netns: tap.netns.to_string(), interface: tap.name.clone() });
            }
        }
        for (key, mut tap) in new {
            changes.push(Change::Attached { netns: tap.netns.to_string(), interface: tap.name.clone() });
            if let Some(old) = self.taps.remove(&key) {
                tap.take_over(old);
            }
            self.taps.insert(key, tap);
        }
        // A failure that stands is told once.
        changes.extend(
            failures
                .iter()
                .filter(|why| !self.pending.contains(why))
                .map(|why| Change::Failed { why: why.clone() }),
        );
        self.pending = failures;
        self.specs = specs;
        Ok(changes)
    }

    /// Runs on a thread in the namespace of `spec`.
    fn survey(
        &self,
        spec: &TapSpec,
        id: NetnsId,
        new: &BTreeMap<Key, Tap>,
        strict: bool,
    ) -> Result<Survey, AttachError> {
        let netns = &spec.netns;
        let all = interfaces::list().map_err(|error| AttachError::List { netns: netns.clone(), error })?;
        let mut survey = Survey::default();
        let selected = match spec.interfaces.select(&all) {
            Ok(selected) => selected,
            Err(source) if strict => return Err(AttachError::Select { netns: netns.clone(), source }),
            Err(source) => {
                survey.failures.push(AttachError::Select { netns: netns.clone(), source }.to_string());
                spec.interfaces.select_present(&all)
            }
        };
        for interface in selected {
            let Some(framing) = interface.framing() else { continue };
            let key = Key { cookie: id.cookie, ifindex: interface.index };
            if new.contains_key(&key) {
                continue;
            }
            let known = self.taps.get(&key);
            let missing: Vec<Hook> = match known {
                Some(tap) => tap.missing(),
                None => interface.hooks().to_vec(),
            };
            if known.is_some() && missing.is_empty() {
                survey.kept.push(key);
                continue;
            }
            let wanted = self.taps.len() + new.len() + survey.attached.len() + 1;
            let attached = if known.is_none() && wanted > MAX_TAPPED_INTERFACES {
                Err(AttachError::TooMany { wanted })
            } else {
                self.tap(netns, id, interface, framing, &missing)
            };
            match attached {
                Ok(tap) => survey.attached.push((key, tap)),
                // It went between the look and the grasp. A named one is missed by name at the next look.
                Err(AttachError::Attach { error, .. })
                    if netlink::errno(&error) == Some(libc::ENODEV)
                        && !(strict && matches!(spec.interfaces, Selection::Named(_))) => {}
                Err(error) if strict => return Err(error),
                Err(error) => survey.failures.push(error.to_string()),
            }
        }
        Ok(survey)
    }

    fn tap(
        &self,
        netns: &Netns,
        netns_id: NetnsId,
        interface: &Interface,
        framing: Framing,
        on: &[Hook],
    ) -> Result<Tap, AttachError> {
        let (program, program_name) = self.programs.for_framing(framing);
        let (ifindex, name) = (interface.index, interface.name.clone());
        let mut hooks = Vec::new();
        // Egress first: where an ingress qdisc forbids it nothing was attached yet, so that trying again at each refresh
        // makes no news, which would ask for the next refresh.
        for hook in on.iter().rev().copied() {
            let attached = match self.mode {
                TapMode::Tcx => TcxLink::attach(program, ifindex, hook).map(Attachment::Tcx),
                TapMode::Clsact => {
                    ClsactFilter::attach(netns, netns_id, program, program_name, ifindex, hook)
                        .map(Attachment::Clsact)
                }
            };
            match attached {
                Ok(attachment) => hooks.push((hook, attachment)),
                Err(error) => {
                    let (netns, mode) = (netns.clone(), self.mode);
                    return Err(AttachError::Attach { netns, interface: name, hook, mode, error });
                }
            }
        }
        hooks.reverse();
        Ok(Tap { netns: netns.clone(), netns_id, ifindex, name, framing, hooks })
    }
}

#[derive(Default)]
struct Survey {
    kept: Vec<Key>,
    attached: Vec<(Key, Tap)>,
    failures: Vec<String>,
}

impl Tap {
    /// Hooks from which somebody took the program, or all when the interface is another one with the index of the old. To be
    /// called on a thread in its namespace.
    fn missing(&self) -> Vec<Hook> {
        let gone = |attachment: &Attachment| match attachment {
            Attachment::Tcx(link) => !link.is_attached(),
            Attachment::Clsact(filter) => !filter.is_attached(),
        };
        self.hooks.iter().filter(|(_, attachment)| gone(attachment)).map(|(hook, _)| *hook).collect()
    }

    /// Takes from `old` the attachments of the hooks that `self` does not have; those that it has are gone in `old`.
    fn take_over(&mut self, old: Self) {
        for (hook, attachment) in old.hooks {
            if self.hooks.iter().all(|(have, _)| *have != hook) {
                self.hooks.push((hook, attachment));
            } else if let Attachment::Clsact(filter) = attachment {
                filter.disarm();
            }
        }
        self.hooks.sort_by_key(|(hook, _)| *hook);
    }

    /// From anywhere: a filter in a namespace that cannot be entered is given the benefit of the doubt.
    fn may_be_attached(&self) -> bool {
        self.hooks.iter().all(|(_, attachment)| match attachment {
            Attachment::Tcx(link) => link.is_attached(),
            Attachment::Clsact(_) => true,
        })
    }

    /// With the interfaces of its namespace when called on a thread in it.
    fn status(&self, interfaces: Option<&[Interface]>) -> Vec<TapStatus> {
        let one = |(hook, attachment): &(Hook, Attachment)| {
            let (mode, ours, attached) = match attachment {
                Attachment::Tcx(link) => {
                    (TapMode::Tcx, Ours::Tcx { program_id: link.program_id() }, link.is_attached())
                }
                Attachment::Clsact(filter) => {
                    let (priority, handle) = filter.position();
                    let attached = interfaces.is_some() && filter.is_attached();
                    (TapMode::Clsact, Ours::Clsact { priority, handle }, attached)
                }
            };
            let interface = interfaces.and_then(|all| all.iter().find(|i| i.index == self.ifindex));
            TapStatus {
                netns: self.netns.to_string(),
                netns_id: self.netns_id,
                ifindex: self.ifindex,
                interface: interface.map_or_else(|| self.name.clone(), |i| i.name.clone()),
                framing: self.framing,
                hook: *hook,
                mode,
                attached,
                before: interface.and_then(|interface| standing_before(interface, *hook, Some(ours)).ok()),
            }
        };
        self.hooks.iter().map(one).collect()
    }
}
