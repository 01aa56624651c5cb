//! WebSockets: the handshake is mirrored, then what the client says as it comes.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::time::Duration;

use mirror_tests::eventually::eventually;
use mirror_tests::peers::{Server, finish, report, ws_client};
use mirror_tests::server::{Line, ids};
use mirror_tests::world::{Family, Tap, World, mirror_args};
use mirror_tests::{Mirror, Stats};

struct Scene<'w> {
    primary: Server,
    shadow: Server,
    mirror: Mirror<'w>,
}

impl<'w> Scene<'w> {
    fn new(world: &'w World, more: &[&str]) -> Self {
        let (primary, shadow) = (world.primary_at(Family::V4), world.shadow_at(Family::V4));
        let mut args = mirror_args(world, Tap::HostSide, primary, &[shadow], 0);
        args.extend(more.iter().map(|word| (*word).to_owned()));
        Self {
            // In one process each, so that one can be killed.
            primary: Server::hypercorn(world, &world.pri, primary, &["--workers", "0"]).unwrap(),
            shadow: Server::hypercorn(world, &world.sha, shadow, &["--workers", "0"]).unwrap(),
            mirror: Mirror::start(&world.node, &args).unwrap(),
        }
    }

    /// Runs `count` sockets of a client to their end.
    fn sockets(&self, world: &World, mode: &str, count: u64) {
        let client = ws_client(&world.cli, self.primary.at(), &[mode, &count.to_string()]).unwrap();
        assert_eq!(report(client).unwrap(), (count, 0));
    }
}

/// Every socket of the primary's log stands in the shadow's, with the same messages in the same order and the same end.
#[track_caller]
fn same_sockets(primary: &[Line], shadow: &[Line]) {
    let all = |lines: &[Line]| {
        let mut all: Vec<_> = lines
            .iter()
            .map(|line| (line.id.clone(), line.body_hash.clone(), line.bytes, line.concurrent, line.status))
            .collect();
        all.sort();
        all
    };
    assert_eq!(all(shadow), all(primary));
}

#[track_caller]
fn tunnelled(stats: &Stats, count: u64) {
    assert_eq!(stats.delivered(0), count, "{}; the mirror says {stats:?}", stats.losses(0));
    assert_eq!(stats.n("/websocket/tunnels"), count, "{stats:?}");
    assert!(stats.n("/websocket/frames") > count, "{stats:?}");
    assert!(stats.n("/websocket/payload_bytes") > 0, "{stats:?}");
}

#[test]
fn what_clients_say_arrives_as_they_said_it() {
    for connections in ["per-client", "shared"] {
        let world = World::routed();
        let scene = Scene::new(&world, &["--connections", connections]);
        scene.sockets(&world, "close", 40);
        scene.primary.has_logged(40);
        scene.shadow.has_logged(40);
        same_sockets(&scene.primary.requests(), &scene.shadow.requests());
        tunnelled(&finish(&world, scene.mirror, 40), 40);
    }
}

#[test]
fn clients_that_vanish_end_their_tunnels_at_the_shadow_too() {
    let world = World::routed();
    let scene = Scene::new(&world, &[]);
    scene.sockets(&world, "drop", 20);
    scene.primary.has_logged(20);
    scene.shadow.has_logged(20);
    assert_eq!(ids(&scene.shadow.requests()), ids(&scene.primary.requests()));
    let stats = finish(&world, scene.mirror, 20);
    // Those whose client reset the connection end with it.
    assert_eq!(stats.delivered(0) + stats.shadow(0, "dropped/client_closed"), 20, "{stats:?}");
}

#[test]
fn a_primary_that_ends_its_sockets_ends_those_of_the_shadow_by_what_its_clients_answer() {
    let world = World::routed();
    let scene = Scene::new(&world, &[]);
    // The shadow reads the same words and would go on: they name the primary.
    scene.sockets(&world, "server", 20);
    scene.primary.has_logged(20);
    scene.shadow.has_logged(20);
    same_sockets(&scene.primary.requests(), &scene.shadow.requests());
    tunnelled(&finish(&world, scene.mirror, 20), 20);
}

#[test]
fn messages_reach_the_shadow_while_the_socket_is_open_and_a_shadow_that_dies_is_invisible() {
    let world = World::routed();
    let mut scene = Scene::new(&world, &[]);
    let gate = world.dir().join("gate");
    let args = ["hold", "8", &gate.display().to_string()];
    let client = ws_client(&world.cli, scene.primary.at(), &args).unwrap();
    let written = |mirror: &Mirror<'_>| mirror.stats().map_or(0, |stats| stats.shadow(0, "written_bytes"));
    eventually("frames at the shadow", Duration::from_secs(20), || written(&scene.mirror) > 100_000);
    let stats = scene.mirror.stats().unwrap();
    assert_eq!((stats.shadow(0, "in_flight"), stats.delivered(0)), (8, 0), "{stats:?}");
    scene.shadow.process.kill();
    std::fs::write(&gate, b"").unwrap();
    assert_eq!(report(client).unwrap(), (8, 0));
    scene.primary.has_logged(8);
    let stats = finish(&world, scene.mirror, 8);
    assert_eq!(stats.shadow(0, "failed"), 8, "{stats:?}");
}
