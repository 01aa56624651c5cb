//! Interfaces of a network namespace, and which of them a job wants tapped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Message, Request, Socket, attributes, i32_at, text, u16_at, u32_at};
use super::sys::Hook;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_XDP_PROG_ID: u16 = 4;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// An interface as the kernel tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number, unique in its namespace at a time.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its other names (`ip link property add altname`).
    pub other_names: Vec<String>,
    /// `ARPHRD_*`: what kind of header its packets have.
    pub link_type: u16,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The driver's kind, for virtual devices: `veth`, `bridge`, `tun`...
    pub kind: Option<String>,
    /// What it is a port of, if it is one: `bond`, `bridge`, `vrf`...
    pub port_of: Option<String>,
    /// Index of the device it is a port of.
    pub master: Option<u32>,
    /// Whether its other end is in another namespace, as of a pod's veth.
    pub peer_elsewhere: bool,
    /// Id of the XDP program on it.
    pub xdp: Option<u32>,
    /// Addresses it holds.
    pub addresses: Vec<IpAddr>,
}

/// How packets of an interface begin, which decides the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// An Ethernet header: the program `mirror_l2`.
    Ethernet,
    /// The IP header: the program `mirror_l3`.
    Ip,
}

impl Interface {
    /// How its packets begin, `None` for link types that are not read (InfiniBand, 802.11 monitors, CAN...).
    #[must_use]
    pub fn framing(&self) -> Option<Framing> {
        match self.link_type {
            // ETHER, LOOPBACK
            1 | 772 => Some(Framing::Ethernet),
            // PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE (tun, wireguard)
            512 | 519 | 768 | 769 | 776 | 778 | 823 | 0xfffe => Some(Framing::Ip),
            _ => None,
        }
    }

    /// Hooks to tap. A packet on loopback leaves and comes in on the same device: one hook sees it all.
    #[must_use]
    pub fn hooks(&self) -> &'static [Hook] {
        if self.loopback { &[Hook::Ingress] } else { &Hook::BOTH }
    }

    /// Why "all interfaces" leaves it out, `None` when it does not.
    ///
    /// Left out are those that are down or of a link type that is not read; ports of a bond, team or bridge, because
    /// what this host serves reaches it through the device above them (a VRF is no such device); and ifb, nlmon and
    /// dummy devices, which show packets a second time or never receive any.
    #[must_use]
    pub fn unreal(&self) -> Option<String> {
        if !self.up {
            return Some("down".into());
        }
        if self.framing().is_none() {
            return Some(format!("link type {}", self.link_type));
        }
        if let Some(of) = &self.port_of
            && of != "vrf"
        {
            return Some(format!("port of a {of}"));
        }
        match self.kind.as_deref() {
            Some(kind @ ("ifb" | "nlmon" | "dummy" | "vcan")) => Some(format!("{kind} device")),
            _ => None,
        }
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.other_names.iter().any(|other| other == name)
    }

    fn holds(&self, address: IpAddr) -> bool {
        // All of 127/8 is local through the one address on lo.
        self.addresses.contains(&address) || (self.loopback && address.is_loopback())
    }
}

/// Which interfaces of a namespace are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, by name. All must exist when taps are first attached.
    Named(Vec<String>),
    /// Those that hold one of these addresses.
    Addresses(Vec<IpAddr>),
    /// All that are up and real (see [`Interface::unreal`]), and lo.
    All,
}

/// Why a selection selects nothing, or not all it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// A name that no interface answers to.
    #[error("there is no interface {name:?}; there are: {known}")]
    Unknown {
        /// As it was given.
        name: String,
        /// Names of all interfaces.
        known: String,
    },
    /// The interface's packets begin in a way that is not read.
    #[error(
        "interface {name} has link type {link_type}, which is neither Ethernet nor plain IP; name another"
    )]
    LinkType {
        /// Its name.
        name: String,
        /// `ARPHRD_*`.
        link_type: u16,
    },
    /// Nothing is left.
    #[error("{0}")]
    Nothing(String),
}

impl Selection {
    /// The wanted ones among `all`, in order of their index.
    ///
    /// # Errors
    /// When a named one is missing or its link type is not read, and when nothing is selected. An empty selection never
    /// widens to something else.
    pub fn select<'a>(&self, all: &'a [Interface]) -> Result<Vec<&'a Interface>, SelectError> {
        let chosen: Vec<&Interface> = match self {
            Self::Named(names) => {
                for name in names {
                    let Some(interface) = all.iter().find(|i| i.answers_to(name)) else {
                        return Err(SelectError::Unknown { name: name.clone(), known: known(all) });
                    };
                    if interface.framing().is_none() {
                        let (name, link_type) = (interface.name.clone(), interface.link_type);
                        return Err(SelectError::LinkType { name, link_type });
                    }
                }
                all.iter().filter(|i| names.iter().any(|name| i.answers_to(name))).collect()
            }
            Self::Addresses(wanted) => {
                let wanted: Vec<IpAddr> = wanted.iter().map(IpAddr::to_canonical).collect();
                all.iter()
                    .filter(|i| i.framing().is_some() && wanted.iter().any(|address| i.holds(*address)))
                    .collect()
            }
            Self::All => all.iter().filter(|i| i.unreal().is_none()).collect(),
        };
        if chosen.is_empty() { Err(SelectError::Nothing(self.why_nothing(all))) } else { Ok(chosen) }
    }

    /// The named ones that exist, for a namespace in which interfaces come and go.
    pub(super) fn select_present<'a>(&self, all: &'a [Interface]) -> Vec<&'a Interface> {
        match self {
            Self::Named(names) => {
                let present = |i: &&Interface| i.framing().is_some() && names.iter().any(|n| i.answers_to(n));
                all.iter().filter(present).collect()
            }
            Self::Addresses(_) | Self::All => self.select(all).unwrap_or_default(),
        }
    }

    fn why_nothing(&self, all: &[Interface]) -> String {
        match self {
            Self::Named(_) => {
                "no interface is named; name one with --interface, or leave it out to tap those that \
                               hold the primary's address"
                    .into()
            }
            Self::Addresses(addresses) if addresses.is_empty() => {
                "no address and no interface is given".into()
            }
            Self::Addresses(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!(
                    "no interface holds {}; name the interface its requests pass with --interface, or its namespace \
                     with --netns or --pid ({})",
                    addresses.join(" or "),
                    known_addresses(all)
                )
            }
            Self::All => {
                let reasons: Vec<String> = all
                    .iter()
                    .filter_map(|i| i.unreal().map(|why| format!("{} is {why}", i.name)))
                    .take(16)
                    .collect();
                format!("no interface is up ({}); set one up or name it with --interface", reasons.join(", "))
            }
        }
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(names) => write!(f, "interfaces {}", names.join(", ")),
            Self::Addresses(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "interfaces that hold {}", addresses.join(" or "))
            }
            Self::All => f.write_str("all interfaces that are up and real"),
        }
    }
}

/// All interfaces of the calling thread's namespace with their addresses, in order of their index.
///
/// # Errors
/// When the kernel does not answer.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut socket = Socket::open()?;
    // ifinfomsg of 16 bytes, all 0: every family, every interface.
    let links = Request::new(RTM_GETLINK, 0, &[0; 16])
        .attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let mut interfaces: Vec<Interface> = socket.dump(&links)?.iter().filter_map(interface).collect();
    for message in socket.dump(&Request::new(RTM_GETADDR, 0, &[0; 8]))? {
        if let Some((index, address)) = address(&message)
            && let Some(interface) = interfaces.iter_mut().find(|i| i.index == index)
        {
            interface.addresses.push(address);
        }
    }
    interfaces.sort_by_key(|i| i.index);
    Ok(interfaces)
}

fn interface(message: &Message) -> Option<Interface> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let flags = u32_at(&message.body, 8)?;
    let mut interface = Interface {
        index: u32::try_from(i32_at(&message.body, 4)?).ok()?,
        link_type: u16_at(&message.body, 2)?,
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        ..Interface::default()
    };
    for (kind, value) in attributes(&message.body, 16) {
        match kind {
            IFLA_IFNAME => interface.name = text(value),
            IFLA_MASTER => interface.master = u32_at(value, 0),
            IFLA_LINK_NETNSID => interface.peer_elsewhere = true,
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value, 0) {
                    match kind {
                        IFLA_INFO_KIND => interface.kind = Some(text(value)),
                        IFLA_INFO_SLAVE_KIND => interface.port_of = Some(text(value)),
                        _ => {}
                    }
                }
            }
            IFLA_XDP => {
                interface.xdp = attributes(value, 0)
                    .find(|(k, _)| *k == IFLA_XDP_PROG_ID)
                    .and_then(|(_, v)| u32_at(v, 0));
            }
            IFLA_PROP_LIST => {
                let names = attributes(value, 0).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                interface.other_names = names.map(|(_, value)| text(value)).collect();
            }
            _ => {}
        }
    }
    Some(interface)
}

/// Index and address of an address message.
fn address(message: &Message) -> Option<(u32, IpAddr)> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let index = u32_at(&message.body, 4)?;
    let value = |wanted| attributes(&message.body, 8).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is ours where it is given.
    let bytes = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    let address = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::V4(Ipv4Addr::from(v4))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
    };
    Some((index, address))
}

fn known(all: &[Interface]) -> String {
    let names: Vec<&str> = all.iter().map(|i| i.name.as_str()).take(32).collect();
    let more = all.len().saturating_sub(names.len());
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

fn known_addresses(all: &[Interface]) -> String {
    let held: Vec<String> = all
        .iter()
        .filter(|i| !i.addresses.is_empty())
        .take(16)
        .map(|i| {
            let addresses: Vec<String> = i.addresses.iter().map(ToString::to_string).collect();
            format!("{} holds {}", i.name, addresses.join(" "))
        })
        .collect();
    if held.is_empty() { "no interface holds any address".into() } else { held.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Framing, Interface, SelectError, Selection};
    use crate::kernel::sys::Hook;

    fn host() -> Vec<Interface> {
        let device = |index, name: &str, addresses: &[&str]| Interface {
            index,
            name: name.into(),
            link_type: 1,
            up: true,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..Interface::default()
        };
        vec![
            Interface { loopback: true, link_type: 772, ..device(1, "lo", &["127.0.0.1", "::1"]) },
            Interface { other_names: vec!["enp1s0".into()], ..device(2, "eth0", &["10.0.0.5", "fe80::1"]) },
            Interface { up: false, ..device(3, "eth1", &["10.0.1.5"]) },
            Interface { port_of: Some("bond".into()), ..device(4, "eth2", &[]) },
            Interface { kind: Some("bond".into()), ..device(5, "bond0", &["10.0.0.5"]) },
            Interface { link_type: 0xfffe, ..device(6, "tun0", &["10.9.0.1"]) },
            Interface { port_of: Some("vrf".into()), ..device(7, "eth3", &[]) },
            Interface { link_type: 32, ..device(8, "ib0", &["10.8.0.1"]) },
            Interface { kind: Some("dummy".into()), ..device(9, "dummy0", &[]) },
        ]
    }

    fn names(selection: &Selection) -> Result<Vec<String>, SelectError> {
        let host = host();
        Ok(selection.select(&host)?.into_iter().map(|i| i.name.clone()).collect())
    }

    fn addresses(list: &[&str]) -> Selection {
        Selection::Addresses(list.iter().map(|a| a.parse::<IpAddr>().unwrap()).collect())
    }

    #[test]
    fn all_means_up_and_real_and_lo() {
        assert_eq!(names(&Selection::All).unwrap(), ["lo", "eth0", "bond0", "tun0", "eth3"]);
    }

    #[test]
    fn an_address_selects_each_interface_that_holds_it_even_one_that_is_down() {
        assert_eq!(names(&addresses(&["10.0.0.5"])).unwrap(), ["eth0", "bond0"]);
        assert_eq!(names(&addresses(&["::ffff:10.0.1.5"])).unwrap(), ["eth1"]);
        assert_eq!(names(&addresses(&["127.0.0.9"])).unwrap(), ["lo"]);
    }

    #[test]
    fn an_address_that_nobody_holds_selects_nothing_and_says_who_holds_what() {
        let error = names(&addresses(&["192.0.2.1"])).unwrap_err().to_string();
        assert!(
            error.contains("no interface holds 192.0.2.1") && error.contains("eth0 holds 10.0.0.5"),
            "{error}"
        );
        assert!(!error.contains('\n'));
        // An InfiniBand device holds it, but its packets cannot be read.
        assert!(names(&addresses(&["10.8.0.1"])).is_err());
    }

    #[test]
    fn an_empty_selection_is_an_error_and_never_widens() {
        assert!(matches!(names(&Selection::Named(vec![])), Err(SelectError::Nothing(_))));
        assert!(matches!(names(&addresses(&[])), Err(SelectError::Nothing(_))));
        assert!(matches!(Selection::All.select(&[]), Err(SelectError::Nothing(_))));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_there_are() {
        let error = names(&Selection::Named(vec!["eth0".into(), "eth9".into()])).unwrap_err().to_string();
        assert!(error.contains("\"eth9\"") && error.contains("lo, eth0, eth1"), "{error}");
        assert_eq!(names(&Selection::Named(vec!["enp1s0".into(), "eth0".into()])).unwrap(), ["eth0"]);
        assert!(matches!(
            names(&Selection::Named(vec!["ib0".into()])),
            Err(SelectError::LinkType { link_type: 32, .. })
        ));
    }

    #[test]
    fn loopback_has_one_hook_and_a_tun_no_ethernet_header() {
        let host = host();
        assert_eq!(host[0].hooks(), [Hook::Ingress]);
        assert_eq!(host[1].hooks(), [Hook::Ingress, Hook::Egress]);
        assert_eq!(host[0].framing(), Some(Framing::Ethernet));
        assert_eq!(host[5].framing(), Some(Framing::Ip));
    }

    #[test]
    fn of_named_interfaces_those_present_are_followed() {
        let host = host();
        let named = Selection::Named(vec!["eth0".into(), "eth9".into()]);
        assert_eq!(named.select_present(&host).len(), 1);
    }
}
