//! `--primary`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Error;

/// The service whose requests are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its address; `None` for any address of this machine. Never IPv4-mapped.
    pub ip: Option<IpAddr>,
    /// Its port, not 0.
    pub port: u16,
}

impl fmt::Display for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

const FLAG: &str = "--primary";

/// Reads `10.0.0.5:8080`, `[2001:db8::1]:8080`, `:8080` or `8080`.
pub(super) fn parse(typed: &str) -> Result<Primary, Error> {
    let error = |what: &str, mend: &str| Error::new(FLAG, typed, what, mend);
    let form = "write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080";
    if typed.contains("://") {
        return Err(error("a URL is not an address", form));
    }
    if typed.parse::<Ipv6Addr>().is_ok() {
        return Err(error("no port, or an IPv6 address without brackets", "write [2001:db8::1]:8080"));
    }
    if typed.parse::<IpAddr>().is_ok() {
        return Err(error("no port", form));
    }
    let (host, port) = typed.rsplit_once(':').unwrap_or(("", typed));
    let ip = match host {
        "" => None,
        host => {
            let ip = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(literal) => literal.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
                None => host.parse::<std::net::Ipv4Addr>().map(IpAddr::V4).ok(),
            };
            // A name may mean several addresses, and the tap knows only addresses.
            Some(ip.ok_or_else(|| error("not an IP address before the port", form))?.to_canonical())
        }
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(error("no port", form));
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(error("port out of range", "give the port the service listens on, 1 to 65535")),
        Ok(_) if ip.is_some_and(|ip| ip.is_unspecified()) => Err(error(
            "the unspecified address receives nothing",
            format!("write :{port} for any address").as_str(),
        )),
        Ok(port) => Ok(Primary { ip, port }),
    }
}
