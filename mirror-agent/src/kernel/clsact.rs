//! clsact filters, for kernels without TCX. They outlive their process, so each bears marks by which it is found again:
//! a handle out of our own range, its name, its program's name, and the program's heartbeat map.
//!
//! A clsact qdisc that was there before us is never removed. One that we made is marked in the handle of each of our filters
//! on it, and goes with the last filter.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::netlink::{
    self, Message, NLM_F_CREATE, NLM_F_EXCL, Request, Socket, attributes, i32_at, text, u32_at,
};
use super::netns::{Netns, NetnsId};
use super::programs::{L2_NAME, L3_NAME};
use super::sys::{self, Hook};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// Both the parent and the handle's major number of a clsact or ingress qdisc.
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;

/// Handles of filters on a qdisc that we made: "MM" and a number.
const HANDLE_MADE: u32 = 0x4d4d_0000;
/// Handles of filters on a qdisc that we found: "MF" and a number.
const HANDLE_FOUND: u32 = 0x4d46_0000;
/// Agents that can have a filter on one hook at a time.
const MAX_HANDLES: u32 = 64;
/// Priorities tried before giving up, when lower ones are taken by filters of another kind.
const MAX_PRIORITY: u16 = 64;

/// A filter on a hook, in the order in which the kernel runs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    /// `ETH_P_*`, host order.
    pub(super) protocol: u16,
    pub(super) handle: u32,
    /// `bpf`, `flower`...
    pub(super) kind: String,
    /// Name given to a BPF filter.
    pub(super) name: String,
    /// Program of a BPF filter.
    pub(super) program_id: Option<u32>,
}

impl Filter {
    /// Whether it bears the marks of the filter itself. Those of its program are looked at by `programs`.
    pub(super) fn is_marked_ours(&self) -> bool {
        self.kind == "bpf"
            && [HANDLE_MADE, HANDLE_FOUND].contains(&(self.handle & 0xffff_0000))
            && [L2_NAME, L3_NAME].contains(&self.name.as_str())
    }

    fn on_made_qdisc(&self) -> bool {
        self.is_marked_ours() && self.handle & 0xffff_0000 == HANDLE_MADE
    }
}

/// A filter of ours. Dropping it removes exactly this filter from exactly its namespace.
#[derive(Debug)]
pub(super) struct ClsactFilter {
    netns: Netns,
    netns_id: NetnsId,
    ifindex: u32,
    hook: Hook,
    filter: Filter,
    armed: bool,
}

impl ClsactFilter {
    /// Puts `program` first on the hook, or as near as the kernel allows. To be called on a thread in `netns`.
    pub(super) fn attach(
        netns: &Netns,
        netns_id: NetnsId,
        program: BorrowedFd<'_>,
        name: &str,
        ifindex: u32,
        hook: Hook,
    ) -> io::Result<Self> {
        let mut socket = Socket::open()?;
        let made_now = match qdisc_kind(&mut socket, ifindex)?.as_deref() {
            Some("clsact") => false,
            Some("ingress") if hook == Hook::Ingress => false,
            Some(other) => {
                return Err(io::Error::other(format!(
                    "its {other} qdisc leaves no room for an egress filter; replace it by a clsact qdisc"
                )));
            }
            None => make_qdisc(&mut socket, ifindex)?,
        };
        let attached = Self::attach_on(&mut socket, netns, netns_id, program, name, ifindex, hook, made_now);
        if attached.is_err() && made_now {
            remove_qdisc_if_empty(&mut socket, ifindex)?;
        }
        attached
    }

    #[allow(clippy::too_many_arguments, reason = "one call, split off only for its clean-up")]
    fn attach_on(
        socket: &mut Socket,
        netns: &Netns,
        netns_id: NetnsId,
        program: BorrowedFd<'_>,
        name: &str,
        ifindex: u32,
        hook: Hook,
        made_now: bool,
    ) -> io::Result<Self> {
        let mut there = Vec::new();
        for hook in Hook::BOTH {
            there.push(dump(socket, ifindex, hook)?);
        }
        // Whoever of ours made the qdisc, the last of ours removes it.
        let made = made_now || there.iter().flatten().any(Filter::on_made_qdisc);
        let on_hook = there.get(usize::from(hook == Hook::Egress)).map(Vec::as_slice).unwrap_or_default();
        let priority = first_priority(on_hook)
            .ok_or_else(|| io::Error::other(format!("priorities 1 to {MAX_PRIORITY} are all taken")))?;
        let program_id = sys::program_info(program)?.id;
        let base = if made { HANDLE_MADE } else { HANDLE_FOUND };
        for number in 1..=MAX_HANDLES {
            let filter = Filter {
                priority,
                protocol: ETH_P_ALL,
                handle: base + number,
                kind: "bpf".into(),
                name: name.into(),
                program_id: Some(program_id),
            };
            let mut text = name.as_bytes().to_vec();
            text.push(0);
            let request = filter_request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, ifindex, hook, &filter)
                .nested(
                    TCA_OPTIONS,
                    &[
                        (TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
                        (TCA_BPF_NAME, &text),
                        (TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
                    ],
                );
            match socket.request(&request) {
                Ok(()) => {
                    return Ok(Self { netns: netns.clone(), netns_id, ifindex, hook, filter, armed: true });
                }
                Err(error) if netlink::errno(&error) == Some(libc::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{MAX_HANDLES} agents have a filter here already")))
    }

    /// Whether it is still on the hook. To be called on a thread in its namespace.
    pub(super) fn is_attached(&self) -> bool {
        filters(self.ifindex, self.hook).is_ok_and(|all| all.contains(&self.filter))
    }

    /// Lets go of a filter that is known to be gone: its place may have been given to another one of ours.
    pub(super) fn disarm(mut self) {
        self.armed = false;
    }

    /// Priority and handle.
    pub(super) fn position(&self) -> (u16, u32) {
        (self.filter.priority, self.filter.handle)
    }
}

impl Drop for ClsactFilter {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let removed = self
            .netns
            .within_same(self.netns_id, |_| remove(self.ifindex, self.hook, &self.filter))
            .and_then(|inner| inner);
        match removed {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {
                tracing::debug!(ifindex = self.ifindex, hook = %self.hook, %error, "filter went before us");
            }
            Err(error) => {
                tracing::warn!(
                    ifindex = self.ifindex, hook = %self.hook, %error,
                    "a clsact filter could not be removed; it is inert in a second, `mirror cleanup` removes it"
                );
            }
        }
    }
}

/// Removes a filter if it is still exactly this one, and the qdisc if we made it and nothing else is on it. Says whether the
/// qdisc went too. In the calling thread's namespace.
pub(super) fn remove(ifindex: u32, hook: Hook, filter: &Filter) -> io::Result<bool> {
    let mut socket = Socket::open()?;
    if !dump(&mut socket, ifindex, hook)?.contains(filter) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the filter is not there any more"));
    }
    socket.request(&filter_request(RTM_DELTFILTER, 0, ifindex, hook, filter))?;
    if filter.on_made_qdisc() { remove_qdisc_if_empty(&mut socket, ifindex) } else { Ok(false) }
}

/// All filters of a hook in the order in which they run; none where there is no clsact or ingress qdisc. In the
/// calling thread's namespace.
pub(super) fn filters(ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
    dump(&mut Socket::open()?, ifindex, hook)
}

/// Indices of all interfaces that have a clsact qdisc, in the calling thread's namespace.
pub(super) fn interfaces_with_clsact() -> io::Result<Vec<u32>> {
    let mut indices: Vec<u32> = qdiscs(&mut Socket::open()?)?
        .into_iter()
        .filter(|(_, kind)| matches!(kind.as_str(), "clsact" | "ingress"))
        .map(|(ifindex, _)| ifindex)
        .collect();
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}

/// Whether an error means that interface, qdisc, filter or namespace is not there any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(netlink::errno(error), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

/// The lowest priority at which the kernel takes a BPF filter for all protocols. At a priority that has some already a new
/// one is put before them.
fn first_priority(on_hook: &[Filter]) -> Option<u16> {
    (1..=MAX_PRIORITY).find(|priority| {
        on_hook
            .iter()
            .filter(|filter| filter.priority == *priority)
            .all(|filter| filter.kind == "bpf" && filter.protocol == ETH_P_ALL)
    })
}

fn make_qdisc(socket: &mut Socket, ifindex: u32) -> io::Result<bool> {
    let request =
        Request::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0))
            .attribute(TCA_KIND, b"clsact\0");
    match socket.request(&request) {
        Ok(()) => Ok(true),
        // Somebody was faster.
        Err(error) if netlink::errno(&error) == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel has no "remove if empty": a filter that somebody adds in the microseconds between look and removal
/// goes with the qdisc.
fn remove_qdisc_if_empty(socket: &mut Socket, ifindex: u32) -> io::Result<bool> {
    for hook in Hook::BOTH {
        // Those of other chains count.
        if !messages(socket, ifindex, hook)?.is_empty() {
            return Ok(false);
        }
    }
    let request = Request::new(RTM_DELQDISC, 0, &tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0))
        .attribute(TCA_KIND, b"clsact\0");
    socket.request(&request)?;
    Ok(true)
}

fn qdisc_kind(socket: &mut Socket, ifindex: u32) -> io::Result<Option<String>> {
    let wanted = |(index, kind): (u32, String)| {
        (index == ifindex && matches!(kind.as_str(), "clsact" | "ingress")).then_some(kind)
    };
    Ok(qdiscs(socket)?.into_iter().find_map(wanted))
}

fn qdiscs(socket: &mut Socket) -> io::Result<Vec<(u32, String)>> {
    let messages = socket.dump(&Request::new(RTM_GETQDISC, 0, &[0; TCMSG]))?;
    Ok(messages
        .iter()
        .filter(|message| message.kind == RTM_NEWQDISC)
        .filter_map(|message| {
            let index = u32::try_from(i32_at(&message.body, 4)?).ok()?;
            let (_, kind) = attributes(&message.body, TCMSG).find(|(kind, _)| *kind == TCA_KIND)?;
            Some((index, text(kind)))
        })
        .collect())
}

fn dump(socket: &mut Socket, ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
    Ok(messages(socket, ifindex, hook)?.iter().filter_map(filter).collect())
}

fn messages(socket: &mut Socket, ifindex: u32, hook: Hook) -> io::Result<Vec<Message>> {
    // An ingress qdisc would give its ingress filters for the egress hook too.
    if hook == Hook::Egress && qdisc_kind(socket, ifindex)?.is_none_or(|kind| kind != "clsact") {
        return Ok(Vec::new());
    }
    let request = Request::new(RTM_GETTFILTER, 0, &tcmsg(ifindex, 0, parent(hook), 0));
    match socket.dump(&request) {
        // No such qdisc.
        Err(error) if matches!(netlink::errno(&error), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        other => other,
    }
}

/// `None` for messages about a priority as a whole (handle 0), and for chains other than 0, which run only when a
/// filter of chain 0 goes to them.
fn filter(message: &Message) -> Option<Filter> {
    let handle = u32_at(&message.body, 8)?;
    let info = u32_at(&message.body, 16)?;
    if message.kind != RTM_NEWTFILTER || handle == 0 {
        return None;
    }
    let mut filter = Filter {
        priority: u16::try_from(info >> 16).ok()?,
        protocol: u16::from_be(u16::try_from(info & 0xffff).ok()?),
        handle,
        kind: String::new(),
        name: String::new(),
        program_id: None,
    };
    let mut options = None;
    for (kind, value) in attributes(&message.body, TCMSG) {
        match kind {
            TCA_KIND => filter.kind = text(value),
            TCA_OPTIONS => options = Some(value),
            TCA_CHAIN if u32_at(value, 0) != Some(0) => return None,
            _ => {}
        }
    }
    if filter.kind == "bpf" {
        for (kind, value) in attributes(options.unwrap_or_default(), 0) {
            match kind {
                TCA_BPF_NAME => filter.name = text(value),
                TCA_BPF_ID => filter.program_id = u32_at(value, 0),
                _ => {}
            }
        }
    }
    Some(filter)
}

fn filter_request(kind: u16, flags: u16, ifindex: u32, hook: Hook, filter: &Filter) -> Request {
    let info = u32::from(filter.priority) << 16 | u32::from(filter.protocol.to_be());
    let mut name = filter.kind.clone().into_bytes();
    name.push(0);
    Request::new(kind, flags, &tcmsg(ifindex, filter.handle, parent(hook), info)).attribute(TCA_KIND, &name)
}

const TCMSG: usize = 20;

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    for (to, from) in bytes.chunks_exact_mut(4).skip(1).zip([ifindex, handle, parent, info]) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    bytes
}

const fn parent(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => 0xffff_fff2,
        Hook::Egress => 0xffff_fff3,
    }
}

#[cfg(test)]
mod tests {
    use super::{ETH_P_ALL, Filter, HANDLE_FOUND, HANDLE_MADE, first_priority};

    fn filter(priority: u16, kind: &str, protocol: u16) -> Filter {
        Filter { priority, protocol, handle: 1, kind: kind.into(), name: "x".into(), program_id: None }
    }

    #[test]
    fn priority_one_is_taken_unless_the_kernel_would_refuse_it() {
        assert_eq!(first_priority(&[]), Some(1));
        assert_eq!(first_priority(&[filter(1, "bpf", ETH_P_ALL), filter(2, "flower", 0x800)]), Some(1));
        assert_eq!(first_priority(&[filter(1, "flower", ETH_P_ALL), filter(2, "bpf", 0x800)]), Some(3));
        let full: Vec<Filter> = (1..=64).map(|p| filter(p, "u32", ETH_P_ALL)).collect();
        assert_eq!(first_priority(&full), None);
    }

    #[test]
    fn a_filter_is_ours_by_kind_handle_and_name_together() {
        let ours = Filter {
            handle: HANDLE_MADE + 1,
            name: "mirror_l2".into(),
            program_id: Some(9),
            ..filter(1, "bpf", ETH_P_ALL)
        };
        assert!(ours.is_marked_ours() && ours.on_made_qdisc());
        assert!(!Filter { handle: HANDLE_FOUND + 1, ..ours.clone() }.on_made_qdisc());
        assert!(!Filter { handle: 1, ..ours.clone() }.is_marked_ours());
        assert!(!Filter { kind: "u32".into(), ..ours.clone() }.is_marked_ours());
        assert!(!Filter { name: "cil_from_netdev".into(), ..ours }.is_marked_ours());
    }
}
