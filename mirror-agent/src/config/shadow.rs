//! `--shadow`, `--shadow-ca`, `--shadow-server-name`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use url::Url;

use super::{CopyFlags, Error, Primary};

/// Most shadows of one job.
pub const MAX_SHADOWS: usize = 8;

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowTarget {
    /// The URL as typed: what it is called in output and metrics.
    pub url: String,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Its host.
    pub host: Host,
    /// Its port, not 0.
    pub port: u16,
    /// For `https`: the name that is asked for and that the certificate has to bear. A DNS name or an IP address that
    /// `rustls` takes.
    pub server_name: Option<String>,
}

/// Scheme of a shadow's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Host of a shadow's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address, never IPv4-mapped.
    Ip(IpAddr),
    /// A name to resolve, in lower case.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

const FLAG: &str = "--shadow";
const FORM: &str = "write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080";

/// Every `--shadow`, in order; none is `primary`, if there is one.
pub(super) fn parse_all(flags: &CopyFlags, primary: Option<&Primary>) -> Result<Vec<ShadowTarget>, Error> {
    let mut shadows: Vec<ShadowTarget> = Vec::with_capacity(flags.shadow.len());
    for typed in &flags.shadow {
        let mut shadow = parse(typed)?;
        let same_place = |other: &ShadowTarget| {
            (other.scheme, &other.host, other.port) == (shadow.scheme, &shadow.host, shadow.port)
        };
        if shadows.iter().any(same_place) {
            let mend = "give each shadow once; for more copies to one shadow use --percent 200";
            return Err(Error::new(FLAG, typed, "two shadows alike", mend));
        }
        if let (Host::Ip(ip), Some(primary)) = (&shadow.host, primary)
            && (Some(*ip), shadow.port) == (primary.ip, primary.port)
        {
            let mend = "a copy would be served by production; give the address of the new version";
            return Err(Error::new(FLAG, typed, "the shadow is the primary itself", mend));
        }
        if shadow.scheme == Scheme::Https {
            shadow.server_name = Some(server_name(flags, &shadow)?);
        }
        shadows.push(shadow);
    }
    if shadows.len() > MAX_SHADOWS {
        let what = format!("{} shadows, at most {MAX_SHADOWS}", shadows.len());
        return Err(Error::new(
            FLAG,
            &flags.shadow[MAX_SHADOWS],
            what,
            "start a second mirror for the others",
        ));
    }
    if let Some(name) = &flags.shadow_server_name
        && shadows.iter().all(|shadow| shadow.scheme == Scheme::Http)
    {
        let mend = "write https:// in --shadow, or leave it out";
        return Err(Error::new("--shadow-server-name", name, "no shadow is https", mend));
    }
    Ok(shadows)
}

/// `--shadow-ca`.
pub(super) fn ca(flags: &CopyFlags, shadows: &[ShadowTarget]) -> Result<Option<PathBuf>, Error> {
    if let Some(file) = &flags.shadow_ca
        && shadows.iter().all(|shadow| shadow.scheme == Scheme::Http)
    {
        let mend = "write https:// in --shadow, or leave it out";
        return Err(Error::new("--shadow-ca", file.display(), "no shadow is https", mend));
    }
    Ok(flags.shadow_ca.clone())
}

fn parse(typed: &str) -> Result<ShadowTarget, Error> {
    let error = |what: &str, mend: &str| Error::new(FLAG, typed, what, mend);
    // The URL parser of the web mends what it can (`http:///x` becomes host `x`); a tool had better not.
    let Some((scheme, rest)) = typed.split_once("://") else {
        return Err(error("no scheme", FORM));
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(error("unsupported scheme", FORM)),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        return Err(error("no host", FORM));
    }
    if typed.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(error("white space in a URL", FORM));
    }
    let url = match Url::parse(typed) {
        Ok(url) => url,
        Err(url::ParseError::InvalidPort) => {
            return Err(error("port out of range", "give the port the shadow listens on, 1 to 65535"));
        }
        Err(reason) => return Err(error(&format!("not a URL ({reason})"), FORM)),
    };
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(error(
            "a URL with user or password",
            "credentials come with the requests; leave them out",
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        let mend = "a copy keeps its own path and query; end the URL after the port";
        return Err(error("a URL with a path, query or fragment", mend));
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
        Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
        Some(url::Host::Ipv6(ip)) => Host::Ip(IpAddr::from(ip).to_canonical()),
        None => return Err(error("no host", FORM)),
    };
    if matches!(host, Host::Ip(ip) if ip.is_unspecified()) {
        return Err(error("the unspecified address is no target", "write 127.0.0.1 for this machine"));
    }
    match url.port_or_known_default() {
        None | Some(0) => Err(error("port out of range", "give the port the shadow listens on, 1 to 65535")),
        Some(port) => Ok(ShadowTarget { url: typed.to_owned(), scheme, host, port, server_name: None }),
    }
}

fn server_name(flags: &CopyFlags, shadow: &ShadowTarget) -> Result<String, Error> {
    let (flag, name, typed) = match &flags.shadow_server_name {
        Some(name) => ("--shadow-server-name", name.clone(), name),
        None => (FLAG, shadow.host.to_string(), &shadow.url),
    };
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => {
            let mend = "give a DNS name or an IP address with --shadow-server-name";
            Err(Error::new(flag, typed, "not a name that a certificate can bear", mend))
        }
    }
}
