//! Shadows with a name: what it stands for may change, and a name server may fail, while copies go on.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mirror_tests::client::request;
use mirror_tests::dns::{Answer, NameServer, asking};
use mirror_tests::mirror::binary;
use mirror_tests::server::ids;
use mirror_tests::world::{Family, Tap, end};
use mirror_tests::{Mirror, Reviews, World, eventually};

const ONE: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 3);
/// Names are resolved each 10 s, and one resolution may take 5 s.
const RESOLVED: Duration = Duration::from_secs(30);

/// Primary, two shadows at the same port of two addresses, a name server, and a mirror whose shadow is a name.
struct Cast<'w> {
    world: &'w World,
    primary: Reviews,
    shadows: [Reviews; 2],
    names: NameServer,
    mirror: Mirror<'w>,
    sent: u64,
}

impl<'w> Cast<'w> {
    fn new(world: &'w World, more: &[&str]) -> Self {
        world.sha.ip("addr add 10.77.3.3/24 dev eth0").unwrap();
        // At the shadow's port, so that the name can come to stand for it.
        let primary =
            Reviews::start(&world.pri, world.dir(), "10.77.2.2:8081".parse().unwrap(), &[]).unwrap();
        let shadows =
            [ONE, TWO].map(|ip| Reviews::start(&world.sha, world.dir(), (ip, 8081).into(), &[]).unwrap());
        let names = NameServer::start(&world.node, Answer::Address(ONE)).unwrap();
        let args =
            ["--primary", "10.77.2.2:8081", "--shadow", "http://reviews.test:8081", "--interface", "vpri"];
        let args: Vec<String> = args.iter().chain(more).map(|word| (*word).to_owned()).collect();
        let command = asking(&world.node, world.dir(), &binary()).unwrap();
        let mirror = Mirror::start_command(&world.node, command, &args).unwrap();
        Self { world, primary, shadows, names, mirror, sent: 0 }
    }

    /// A request on a connection of its own, copied to its end.
    fn one(&mut self) {
        self.sent += 1;
        let mut conn = self.world.open(self.primary.at());
        conn.exchange(&request("POST", "/", &format!("n-{}", self.sent), "", b"by name")).unwrap();
        self.mirror.rest(self.sent);
    }

    fn arrived(&self) -> [u64; 2] {
        [0, 1].map(|at| self.shadows[at].requests().len() as u64)
    }

    /// Sends until copies arrive at the second shadow.
    fn moves(&mut self) {
        let limit = Instant::now() + RESOLVED;
        let before = self.arrived()[1];
        while self.arrived()[1] == before {
            assert!(Instant::now() < limit, "copies do not move: {:?}", self.mirror.process().stderr());
            self.one();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a line of the log, while requests go on.
    fn until_it_says(&mut self, what: &str) {
        let limit = Instant::now() + RESOLVED;
        while !self.mirror.process().stderr().iter().any(|line| line.contains(what)) {
            assert!(Instant::now() < limit, "it does not say {what:?}: {:?}", self.mirror.process().stderr());
            self.one();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything that was sent arrived once, at one of the two.
    fn all_delivered(self) {
        let stats = self.mirror.rest(self.sent);
        assert_eq!(stats.delivered(0), self.sent, "{stats:?}");
        let (one, two, sent) =
            (self.shadows[0].requests(), self.shadows[1].requests(), self.primary.requests());
        let mut arrived = [ids(&one), ids(&two)].concat();
        arrived.sort_unstable();
        assert_eq!(arrived, ids(&sent), "what was sent arrived once, at one of the two");
        end(self.world, Tap::HostSide, self.mirror);
    }
}

#[test]
fn copies_follow_a_name_to_its_new_address_but_never_to_the_primary() {
    let world = World::routed();
    let mut cast = Cast::new(&world, &[]);
    for _ in 0..20 {
        cast.one();
    }
    assert_eq!(cast.arrived(), [20, 0]);
    cast.names.say(Answer::Address(TWO));
    cast.moves();
    let moved = cast.arrived();
    for _ in 0..20 {
        cast.one();
    }
    assert_eq!(cast.arrived(), [moved[0], moved[1] + 20], "all of them go to the new address");
    // Somebody points the name at the primary: its copies would be real requests there.
    cast.names.say(Answer::Address(Ipv4Addr::new(10, 77, 2, 2)));
    cast.until_it_says("stands for the primary");
    for _ in 0..5 {
        cast.one();
    }
    assert_eq!(cast.primary.requests().len() as u64, cast.sent, "no copy came to the primary");
    // A name that is gone stays where it was.
    cast.names.say(Answer::NoSuchName);
    cast.until_it_says("cannot be resolved");
    for _ in 0..5 {
        cast.one();
    }
    cast.all_delivered();
}

#[test]
fn a_name_server_that_falls_silent_holds_up_neither_copies_nor_the_end() {
    let world = World::routed();
    // By clsact, whose filters go inert when the agent gives no sign of life for a second.
    let mut cast = Cast::new(&world, &["--attach", "clsact"]);
    cast.one();
    cast.names.say(Answer::Silence);
    let asked = cast.names.asked();
    eventually("it asks again", RESOLVED, || cast.names.asked() > asked);
    // The resolver waits now; so may the filters' sign of life not.
    cast.until_it_says("takes too long");
    cast.one();
    let stats = cast.mirror.rest(cast.sent);
    assert_eq!((stats.delivered(0), stats.n("/tap/inert")), (cast.sent, 0), "{stats:?}");
    assert_eq!(cast.arrived(), [cast.sent, 0]);
    // It still waits: for 10 s in all, by resolv.conf's defaults.
    cast.mirror.process().signal(nix::sys::signal::Signal::SIGTERM);
    let since = Instant::now();
    let (status, last) = cast.mirror.ended().unwrap();
    assert!(since.elapsed() < Duration::from_millis(4500), "it ended after {:?}", since.elapsed());
    assert!(status.success() && last.broken_laws().is_empty(), "{status}: {last:?}");
    world.nothing_attached(Tap::HostSide);
}

#[test]
fn a_name_that_nobody_knows_at_the_start_is_found_later() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let names = NameServer::start(&world.node, Answer::NoSuchName).unwrap();
    let args = ["--primary", "10.77.2.2:8080", "--shadow", "http://later.test:8081", "--interface", "vpri"]
        .map(str::to_owned);
    let command = asking(&world.node, world.dir(), &binary()).unwrap();
    let mirror = Mirror::start_command(&world.node, command, &args).unwrap();
    let mut sent = 0;
    let mut conn = world.open(primary.at());
    let mut one = || {
        sent += 1;
        conn.exchange(&request("GET", "/", &format!("l-{sent}"), "", b"")).unwrap();
        mirror.rest(sent)
    };
    let stats = one();
    assert_eq!(stats.shadow(0, "dropped/unresolved"), 1, "{stats:?}");
    names.say(Answer::Address(ONE));
    eventually("copies arrive", RESOLVED, || one().delivered(0) > 0);
    let stats = one();
    let (delivered, unresolved) = (stats.delivered(0), stats.shadow(0, "dropped/unresolved"));
    assert_eq!(delivered + unresolved, stats.observed(), "{stats:?}");
    assert_eq!(shadow.requests().len() as u64, delivered);
    end(&world, Tap::HostSide, mirror);
}
