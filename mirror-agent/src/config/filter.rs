//! The expression of `--filter`: which requests are shown.
//!
//! ```text
//! any        = all { ("or" | "||") all }
//! all        = one { ("and" | "&&") one }
//! one        = ("not" | "!") one | "(" any ")" | test
//! test       = ["src" | "dst"] ("host" ADDRESS | "net" ADDRESS/BITS | "port" PORT | "portrange" PORT-PORT)
//!            | "ip" | "ip6"
//!            | "method" NAME{,NAME} | "path" PREFIX | "authority" NAME | "status" (CODE | Nxx)
//! ```
//!
//! The words of the first two lines are those of tcpdump's filters; `src` is the client and `dst` the server, whichever way
//! a packet goes. `and` binds closer than `or`.

use std::net::IpAddr;

use super::Error;
use crate::packet::Peer;

/// Most tests in one expression: each is one bit of a word.
pub const MAX_TESTS: usize = 64;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// An expression that can be asked.
#[derive(Clone, Debug)]
pub struct Filter {
    tests: Vec<Test>,
    root: Node,
}

/// What is known of a request when its head came.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks.
    pub client: Peer,
    /// Who answers.
    pub server: Peer,
    /// Method.
    pub method: &'a [u8],
    /// Target as sent.
    pub target: &'a [u8],
    /// Host and port it is meant for, if it says so.
    pub authority: &'a [u8],
}

/// Which tests a request passed, those of its response aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed(u64);

#[derive(Clone, Debug)]
enum Node {
    Test(usize),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Either,
    Client,
    Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Net {
        end: End,
        net: [u8; 16],
        bits: u32,
    },
    Ports {
        end: End,
        from: u16,
        to: u16,
    },
    Version4(bool),
    Method(Vec<Vec<u8>>),
    Path(Vec<u8>),
    Authority(Vec<u8>),
    /// Codes from and to.
    Status(u16, u16),
}

impl Filter {
    /// Asks all that does not depend on the response.
    #[must_use]
    pub fn ask(&self, facts: &Facts<'_>) -> Passed {
        let bits = self.tests.iter().enumerate().filter(|(_, test)| test.passes(facts));
        Passed(bits.fold(0, |word, (at, _)| word | 1 << at))
    }

    /// Whether a request that passed these tests and was answered with `status` is shown.
    #[must_use]
    pub fn fits(&self, passed: Passed, status: Option<u16>) -> bool {
        self.holds(&self.root, passed, status)
    }

    /// Whether it depends on the response.
    #[must_use]
    pub fn asks_for_status(&self) -> bool {
        self.tests.iter().any(|test| matches!(test, Test::Status(..)))
    }

    fn holds(&self, node: &Node, passed: Passed, status: Option<u16>) -> bool {
        match node {
            Node::Test(at) => match self.tests.get(*at) {
                Some(Test::Status(from, to)) => status.is_some_and(|status| (*from..=*to).contains(&status)),
                _ => passed.0 >> at & 1 == 1,
            },
            Node::Not(inner) => !self.holds(inner, passed, status),
            Node::All(nodes) => nodes.iter().all(|node| self.holds(node, passed, status)),
            Node::Any(nodes) => nodes.iter().any(|node| self.holds(node, passed, status)),
        }
    }
}

impl Test {
    fn passes(&self, facts: &Facts<'_>) -> bool {
        let at = |end: &End, is_it: &dyn Fn(&Peer) -> bool| match end {
            End::Either => is_it(&facts.client) || is_it(&facts.server),
            End::Client => is_it(&facts.client),
            End::Server => is_it(&facts.server),
        };
        match self {
            Self::Net { end, net, bits } => at(end, &|peer| {
                let shift = 128 - bits;
                let number = |addr: &[u8; 16]| u128::from_be_bytes(*addr).checked_shr(shift).unwrap_or(0);
                number(&peer.addr) == number(net)
            }),
            Self::Ports { end, from, to } => at(end, &|peer| (*from..=*to).contains(&peer.port)),
            Self::Version4(four) => facts.client.socket_addr().is_ipv4() == *four,
            Self::Method(names) => names.iter().any(|name| name == facts.method),
            Self::Path(prefix) => path(facts.target).starts_with(prefix),
            Self::Authority(name) => {
                let without_port = facts.authority.rsplitn(2, |&b| b == b':').last().unwrap_or_default();
                facts.authority.eq_ignore_ascii_case(name) || without_port.eq_ignore_ascii_case(name)
            }
            Self::Status(..) => false,
        }
    }
}

/// The path of a target in any form: what follows the authority of an absolute one.
fn path(target: &[u8]) -> &[u8] {
    let Some(scheme) =
        target.windows(3).position(|three| three == b"://").filter(|_| !target.starts_with(b"/"))
    else {
        return target;
    };
    let rest = &target[scheme + 3..];
    rest.iter().position(|&b| b == b'/').map_or(b"/", |slash| &rest[slash..])
}

/// Reads an expression.
///
/// # Errors
///
/// One line that says what is not understood.
pub(super) fn parse(text: &str) -> Result<Filter, Error> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('!', " ! ");
    let mut parser = Parser { text, words: spaced.split_whitespace().collect(), at: 0, tests: Vec::new() };
    let root = parser.any(0)?;
    match parser.next() {
        None => Ok(Filter { tests: parser.tests, root }),
        Some(word) => Err(parser.fault(format!("`{word}` stands where and, or or the end was expected"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<&'a str>,
    at: usize,
    tests: Vec<Test>,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += usize::from(word.is_some());
        word
    }

    fn skips(&mut self, words: [&str; 2]) -> bool {
        let found = self.words.get(self.at).is_some_and(|word| words.contains(word));
        self.at += usize::from(found);
        found
    }

    fn fault(&self, what: impl Into<String>) -> Error {
        Error::new("--filter", self.text, what, "write for example: port 8080 and not path /health")
    }

    fn any(&mut self, depth: usize) -> Result<Node, Error> {
        let mut nodes = vec![self.all(depth)?];
        while self.skips(["or", "||"]) {
            nodes.push(self.all(depth)?);
        }
        Ok(Node::Any(nodes))
    }

    fn all(&mut self, depth: usize) -> Result<Node, Error> {
        let mut nodes = vec![self.one(depth)?];
        while self.skips(["and", "&&"]) {
            nodes.push(self.one(depth)?);
        }
        Ok(Node::All(nodes))
    }

    fn one(&mut self, depth: usize) -> Result<Node, Error> {
        if depth > MAX_DEPTH {
            return Err(self.fault(format!("it is nested deeper than {MAX_DEPTH}")));
        }
        if self.skips(["not", "!"]) {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.skips(["(", "("]) {
            let inner = self.any(depth + 1)?;
            return if self.skips([")", ")"]) { Ok(inner) } else { Err(self.fault("a ) is missing")) };
        }
        let test = self.test()?;
        if self.tests.len() == MAX_TESTS {
            return Err(self.fault(format!("it has over {MAX_TESTS} tests")));
        }
        self.tests.push(test);
        Ok(Node::Test(self.tests.len() - 1))
    }

    fn test(&mut self) -> Result<Test, Error> {
        let Some(mut word) = self.next() else { return Err(self.fault("something is missing at its end")) };
        let end = match word {
            "src" => End::Client,
            "dst" => End::Server,
            _ => End::Either,
        };
        if end != End::Either {
            word = self.next().unwrap_or_default();
            if !matches!(word, "host" | "net" | "port" | "portrange") {
                return Err(
                    self.fault(format!("src and dst go with host, net, port or portrange, not `{word}`"))
                );
            }
        }
        match word {
            "ip" => return Ok(Test::Version4(true)),
            "ip6" => return Ok(Test::Version4(false)),
            _ => {}
        }
        let known = ["host", "net", "port", "portrange", "method", "path", "authority", "status"];
        if !known.contains(&word) {
            return Err(self.fault(format!("`{word}` is no test; tests are ip, ip6, {}", known.join(", "))));
        }
        let Some(value) = self.next() else { return Err(self.fault(format!("`{word}` lacks its value"))) };
        let bad = |parser: &Self| parser.fault(format!("`{value}` is no value for `{word}`"));
        Ok(match word {
            "host" => {
                let (net, _) = address(value).ok_or_else(|| bad(self))?;
                Test::Net { end, net, bits: 128 }
            }
            "net" => {
                let (addr, bits) = value.split_once('/').ok_or_else(|| bad(self))?;
                let (net, before) = address(addr).ok_or_else(|| bad(self))?;
                let bits: u32 = bits.parse().map_err(|_| bad(self))?;
                if bits > 128 - before {
                    return Err(bad(self));
                }
                Test::Net { end, net, bits: before + bits }
            }
            "port" => {
                let port = value.parse().map_err(|_| bad(self))?;
                Test::Ports { end, from: port, to: port }
            }
            "portrange" => {
                let (from, to) = value.split_once('-').ok_or_else(|| bad(self))?;
                let (from, to) = (from.parse().map_err(|_| bad(self))?, to.parse().map_err(|_| bad(self))?);
                Test::Ports { end, from, to }
            }
            "method" => Test::Method(value.split(',').map(|name| name.as_bytes().to_vec()).collect()),
            "path" => Test::Path(value.as_bytes().to_vec()),
            "authority" => Test::Authority(value.as_bytes().to_vec()),
            _ => {
                let (from, to) = status(value).ok_or_else(|| bad(self))?;
                Test::Status(from, to)
            }
        })
    }
}

/// An address as IPv6, and how many bits stand before an IPv4 one.
fn address(text: &str) -> Option<([u8; 16], u32)> {
    match text.parse().ok()? {
        IpAddr::V4(v4) => Some((v4.to_ipv6_mapped().octets(), 96)),
        IpAddr::V6(v6) => Some((v6.octets(), 0)),
    }
}

/// `404` or `4xx`.
fn status(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let code = text.parse().ok().filter(|code| (100..=999).contains(code))?;
    Some((code, code))
}

#[cfg(test)]
mod tests {
    use super::{Facts, MAX_TESTS, parse};

    fn fits(expression: &str, status: Option<u16>) -> bool {
        let peer = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
        let facts = Facts {
            client: peer("10.0.0.7:40000"),
            server: peer("10.1.0.5:8080"),
            method: b"GET",
            target: b"/api/v1?x=1",
            authority: b"shop.example:8080",
        };
        let filter = parse(expression).unwrap();
        filter.fits(filter.ask(&facts), status)
    }

    #[test]
    fn each_test_says_yes_and_no() {
        for (yes, no) in [
            ("host 10.0.0.7", "host 10.0.0.8"),
            ("src host 10.0.0.7", "dst host 10.0.0.7"),
            ("net 10.1.0.0/16", "net 10.2.0.0/16"),
            ("dst net 10.1.0.0/24", "src net 10.1.0.0/24"),
            ("port 8080", "port 80"),
            ("dst port 8080", "src port 8080"),
            ("portrange 8000-8100", "dst portrange 40000-40000"),
            ("ip", "ip6"),
            ("method POST,GET", "method get"),
            ("path /api", "path /apj"),
            ("authority SHOP.example", "authority example"),
            ("authority shop.example:8080", "authority shop.example:80"),
            ("status 200", "status 201"),
            ("status 2xx", "status 3xx"),
            ("net 0.0.0.0/0", "net ::1/128"),
        ] {
            assert!(fits(yes, Some(200)), "{yes}");
            assert!(!fits(no, Some(200)), "{no}");
        }
        assert!(!fits("status 2xx", None) && fits("not status 2xx", None));
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closest() {
        assert!(fits("port 8080 or port 1 and port 2", None));
        assert!(!fits("(port 8080 or port 1) and port 2", None));
        assert!(fits(
            "!(port 1||port 2)&&!method POST".replace("||", " || ").replace("&&", " && ").as_str(),
            None
        ));
        assert!(fits("not port 1 and not port 2", None));
    }

    #[test]
    fn what_is_not_understood_is_said_in_one_line() {
        let many = vec!["ip"; MAX_TESTS + 1].join(" or ");
        let deep = "(".repeat(100);
        for (bad, said) in [
            ("", "something is missing"),
            ("port", "lacks its value"),
            ("port x", "`x` is no value"),
            ("port 1 port 2", "where and, or"),
            ("host example.com", "no value for `host`"),
            ("net 10.0.0.0/33", "no value for `net`"),
            ("src method GET", "src and dst go with"),
            ("colour red", "is no test"),
            ("(port 1", "a ) is missing"),
            ("status 2x", "no value"),
            (many.as_str(), "over 64 tests"),
            (deep.as_str(), "nested deeper"),
        ] {
            let error = parse(bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{bad}: {error}");
        }
    }

    #[test]
    fn the_path_of_an_absolute_target_is_what_follows_its_authority() {
        assert_eq!(super::path(b"http://a.example/x?y"), b"/x?y");
        assert_eq!(super::path(b"http://a.example"), b"/");
        assert_eq!(super::path(b"/a://b"), b"/a://b");
        assert_eq!(super::path(b"*"), b"*");
    }
}
