//! HTTP/2 and gRPC with clients and servers that others made: what the shadow got is what the clients sent.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::collections::BTreeSet;
use std::time::Duration;

use mirror_tests::client::noise;
use mirror_tests::copy::{MARKER, with_suffix};
use mirror_tests::eventually;
use mirror_tests::peers::{self, Server, curl, finish, grpc_calls, grpc_client, h2load, nghttp};
use mirror_tests::server::{Line, ids};
use mirror_tests::world::{Family, mirror_args};
use mirror_tests::{Mirror, Nginx, Stats, Tap, World};

/// What the issue allows for bodies (`VmHWM`).
const MEMORY_CEILING: u64 = 128 << 20;

/// Starts the mirror for a primary and a shadow.
fn mirror<'w>(world: &'w World, more: &[&str]) -> Mirror<'w> {
    let (primary, shadow) = (world.primary_at(Family::V4), world.shadow_at(Family::V4));
    let mut args = mirror_args(world, Tap::HostSide, primary, &[shadow], 0);
    args.extend(more.iter().map(|word| (*word).to_owned()));
    Mirror::start(&world.node, &args).unwrap()
}

type Kind = fn(&World, &mirror_tests::Namespace, std::net::SocketAddr, &[&str]) -> anyhow::Result<Server>;

/// Primary and shadow of one kind.
fn servers(world: &World, kind: Kind) -> (Server, Server) {
    let primary = kind(world, &world.pri, world.primary_at(Family::V4), &[]).unwrap();
    let shadow = kind(world, &world.sha, world.shadow_at(Family::V4), &[]).unwrap();
    (primary, shadow)
}

/// Every request of the primary's log stands in the shadow's, with the same target and body.
#[track_caller]
fn same_requests(primary: &[Line], shadow: &[Line]) {
    assert_eq!(ids(shadow), ids(primary), "the same requests at both servers");
    for sent in primary {
        let same = |line: &&Line| {
            (&line.id, &line.method, &line.target, &line.body_hash, line.bytes)
                == (&sent.id, &sent.method, &sent.target, &sent.body_hash, sent.bytes)
        };
        assert!(
            shadow.iter().any(|line| same(&line)),
            "not at the shadow as it was sent: {sent:?} in {shadow:?}"
        );
    }
}

#[track_caller]
fn all_delivered(stats: &Stats, count: u64) {
    assert_eq!(stats.delivered(0), count, "{}; the mirror says {stats:?}", stats.losses(0));
    // Nobody witnesses answers on HTTP/2, so no ratio is made of them.
    assert_eq!(stats.n("/h2/requests") + stats.n("/witnessed"), stats.observed(), "{stats:?}");
}

#[test]
fn requests_of_curl_and_nghttp_arrive_as_they_were_sent() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::hypercorn);
    let mirror = mirror(&world, &[]);
    let url = format!("http://{}", primary.at());
    let body = world.dir().join("body");
    std::fs::write(&body, noise(300_000, 7)).unwrap();
    let data = format!("@{}", body.display());
    let mut sent = 0;
    for n in 0..5 {
        let id = format!("X-Request-Id: get-{n}");
        let target = format!("{url}/path/{n}?a=%20&b={n}");
        curl(
            &world.cli,
            &["-H", &id, "-H", "Cookie: a=1; b=2", "-H", "X-Twice: 1", "-H", "X-Twice: 2", &target],
        )
        .unwrap();
        let id = format!("X-Request-Id: post-{n}");
        curl(&world.cli, &["-H", &id, "--data-binary", &data, &target]).unwrap();
        sent += 2;
    }
    // Several streams of one connection, with a body, trailers and an answer of some size.
    let (a, b) = (format!("{url}/large?1"), format!("{url}/large?2"));
    nghttp(&world.cli, &["-n", "-H", "x-request-id: many", &a, &b]).unwrap();
    let file = body.display().to_string();
    nghttp(&world.cli, &["-n", "-H", "x-request-id: trailed", "-d", &file, "--trailer", "checksum: 7", &a])
        .unwrap();
    sent += 3;
    primary.has_logged(sent);
    let stats = finish(&world, mirror, sent as u64);
    all_delivered(&stats, sent as u64);
    shadow.has_logged(sent);
    let (primary, shadow) = (primary.requests(), shadow.requests());
    same_requests(&primary, &shadow);
    assert_eq!(stats.shadow(0, "connects"), 12, "a connection for each client connection");
    for copy in &shadow {
        let original =
            primary.iter().find(|line| (&line.id, &line.target) == (&copy.id, &copy.target)).unwrap();
        assert_eq!(copy.host, with_suffix(&original.host, "-shadow"));
        let rest = |line: &Line| -> Vec<String> {
            let changed =
                |text: &&str| !text.starts_with("host: ") && !text.starts_with(&format!("{MARKER}: "));
            line.head.lines().filter(changed).map(str::to_owned).collect()
        };
        assert_eq!(rest(copy), rest(original), "fields in their order");
        assert_eq!(copy.head.lines().filter(|line| line.starts_with(MARKER)).count(), 1, "{}", copy.head);
    }
}

#[test]
fn with_the_changes_off_header_lists_are_the_same() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::hypercorn);
    let mirror = mirror(&world, &mirror_tests::world::IDENTICAL);
    let url = format!("http://{}/", primary.at());
    for n in 0..3 {
        let (id, trace) = (
            format!("X-Request-Id: {n}"),
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        curl(&world.cli, &["-H", &id, "-H", trace, &url]).unwrap();
    }
    primary.has_logged(3);
    all_delivered(&finish(&world, mirror, 3), 3);
    shadow.has_logged(3);
    for line in shadow.requests() {
        let original = primary.requests().into_iter().find(|other| other.id == line.id).unwrap();
        assert_eq!(line.head, original.head);
    }
}

#[test]
fn load_over_many_streams_is_mirrored_whole_over_as_many_connections() {
    let world = World::routed();
    let (primary, _shadow) = servers(&world, Server::nghttpd);
    let mirror = mirror(&world, &[]);
    let url = format!("http://{}/nothing", primary.at());
    // The folder is empty: 404 is an answer like any other, but none that h2load calls a success.
    std::fs::write(world.dir().join("nothing"), b"something").unwrap();
    assert_eq!(h2load(&world.cli, &["-n", "4000", "-c", "4", "-m", "16", &url]).unwrap(), 4000);
    let stats = finish(&world, mirror, 4000);
    all_delivered(&stats, 4000);
    assert_eq!(stats.shadow(0, "connects"), 4, "{stats:?}");
}

#[test]
fn shared_connections_are_few_however_many_clients_there_are() {
    let world = World::routed();
    let (primary, _shadow) = servers(&world, Server::nghttpd);
    std::fs::write(world.dir().join("file"), b"something").unwrap();
    let mirror = mirror(&world, &["--connections", "shared", "--shards", "1"]);
    let url = format!("http://{}/file", primary.at());
    assert_eq!(h2load(&world.cli, &["-n", "3000", "-c", "30", "-m", "4", &url]).unwrap(), 3000);
    let stats = finish(&world, mirror, 3000);
    all_delivered(&stats, 3000);
    assert!(stats.shadow(0, "connects") <= 8, "{stats:?}");
}

#[test]
fn a_shadow_that_says_goodbye_after_some_requests_loses_nothing() {
    let world = World::routed();
    let primary = Server::nghttpd(&world, &world.pri, world.primary_at(Family::V4), &[]).unwrap();
    std::fs::write(world.dir().join("file"), b"something").unwrap();
    // nginx sends GOAWAY, and reads no stream that comes behind it.
    let shadow = world.shadow_at(Family::V4);
    let nginx = Nginx::start_with(&world.sha, world.dir(), &[format!("{shadow} http2")], "", 50).unwrap();
    let mirror = mirror(&world, &[]);
    let url = format!("http://{}/static", primary.at());
    h2load(&world.cli, &["-n", "2000", "-c", "2", "-m", "8", &url]).unwrap();
    let stats = finish(&world, mirror, 2000);
    all_delivered(&stats, 2000);
    assert!(stats.shadow(0, "connects") >= 2000 / 50, "{stats:?}");
    eventually("the shadow logs all", Duration::from_secs(10), || nginx.log().len() == 2000);
}

#[test]
fn grpc_calls_of_every_kind_arrive_as_they_were_made_over_one_connection() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::grpc);
    let mirror = mirror(&world, &[]);
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["all", "25"]).unwrap(), (100, 0));
    primary.has_logged(100);
    let stats = finish(&world, mirror, 100);
    all_delivered(&stats, 100);
    shadow.has_logged(100);
    same_requests(&primary.requests(), &shadow.requests());
    let messages = |lines: &[Line]| -> BTreeSet<(String, u64)> {
        lines.iter().map(|line| (line.id.clone(), line.concurrent)).collect()
    };
    assert_eq!(messages(&shadow.requests()), messages(&primary.requests()), "messages a call");
    assert_eq!(stats.shadow(0, "connects"), 1, "{stats:?}");
    assert_eq!(stats.shadow(0, "grpc_failed"), 0);
    assert_eq!(shadow.messages(), primary.messages());
}

#[test]
fn messages_of_a_call_reach_the_shadow_before_the_call_ends() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::grpc);
    let mirror = mirror(&world, &[]);
    let gate = world.dir().join("gate");
    let client = grpc_client(&world.cli, primary.at(), &["hold", "1", &gate.display().to_string()]).unwrap();
    eventually("three messages at the shadow", Duration::from_secs(20), || shadow.messages() == 3);
    assert_eq!(shadow.requests(), [], "the call is not over");
    assert_eq!(mirror.stats().unwrap().shadow(0, "in_flight"), 1);
    std::fs::write(&gate, b"").unwrap();
    assert_eq!(peers::report(client).unwrap(), (1, 0));
    primary.has_logged(1);
    all_delivered(&finish(&world, mirror, 1), 1);
    shadow.has_logged(1);
    same_requests(&primary.requests(), &shadow.requests());
}

#[test]
fn calls_that_are_taken_back_are_reset_at_the_shadow_and_never_finished() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::grpc);
    let mirror = mirror(&world, &[]);
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["cancel", "8"]).unwrap(), (8, 0));
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["unary", "5"]).unwrap(), (5, 0));
    let stats = finish(&world, mirror, 13);
    all_delivered(&stats, 5);
    assert_eq!(stats.shadow(0, "dropped/client_reset"), 8, "{stats:?}");
    assert_eq!(stats.n("/requests/completed"), 5, "{stats:?}");
    // A line comes when its call is over. A call whose beginning and reset came together may be none to the shadow.
    shadow.has_logged(5);
    let begun = 5 + stats.shadow(0, "dropped_partial/client_reset");
    assert!(shadow.log().len() as u64 <= begun, "{begun} were begun: {:?}", shadow.log());
    assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
    assert_eq!(shadow.requests().len(), 5, "none that was taken back was finished");
}

#[test]
fn calls_that_the_shadow_fails_are_delivered_and_no_success() {
    let world = World::routed();
    let primary = Server::grpc(&world, &world.pri, world.primary_at(Family::V4), &[]).unwrap();
    let shadow = Server::grpc(&world, &world.sha, world.shadow_at(Family::V4), &["--fail"]).unwrap();
    let mirror = mirror(&world, &[]);
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["unary", "20"]).unwrap(), (20, 0));
    let stats = finish(&world, mirror, 20);
    all_delivered(&stats, 20);
    assert_eq!(stats.shadow(0, "grpc_failed"), 20, "{stats:?}");
    shadow.has_logged(20);
    assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
}

#[test]
fn a_shadow_that_dies_and_comes_back_is_invisible_to_clients() {
    let world = World::routed();
    let (primary, mut shadow) = servers(&world, Server::grpc);
    let mirror = mirror(&world, &[]);
    // Four calls are under way when it dies, whatever the pace of this machine; others come while it is dead.
    let gate = world.dir().join("gate");
    let held = grpc_client(&world.cli, primary.at(), &["hold", "4", &gate.display().to_string()]).unwrap();
    eventually("the shadow gets calls", Duration::from_secs(20), || shadow.messages() == 12);
    shadow.process.kill();
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["all", "10"]).unwrap(), (40, 0));
    std::fs::write(&gate, b"").unwrap();
    assert_eq!(peers::report(held).unwrap(), (4, 0));
    let again = Server::grpc(&world, &world.sha, world.shadow_at(Family::V4), &[]).unwrap();
    let mut sent = 44;
    eventually("it is found again", Duration::from_secs(60), || {
        assert_eq!(grpc_calls(&world.cli, primary.at(), &["unary", "1"]).unwrap(), (1, 0));
        sent += 1;
        !again.requests().is_empty()
    });
    primary.has_logged(usize::try_from(sent).unwrap());
    let stats = finish(&world, mirror, sent);
    let lost = stats.shadow(0, "failed") + stats.shadow(0, "dropped");
    assert_eq!(stats.delivered(0) + lost, sent, "{stats:?}");
    assert!(lost >= 44, "{stats:?}");
    again.has_logged(usize::try_from(stats.delivered(0)).unwrap());
}

#[test]
fn a_connection_that_was_open_before_is_waiting_until_its_client_connects_anew() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::grpc);
    let gate = world.dir().join("gate");
    let early = grpc_client(&world.cli, primary.at(), &["later", "20", &gate.display().to_string()]).unwrap();
    primary.has_logged(1);
    let mirror = mirror(&world, &[]);
    std::fs::write(&gate, b"").unwrap();
    assert_eq!(peers::report(early).unwrap(), (20, 0));
    // Nothing is guessed of what it says without the beginning; another connection is read from its first byte.
    assert_eq!(grpc_calls(&world.cli, primary.at(), &["unary", "5"]).unwrap(), (5, 0));
    let seen = mirror.wait_stats("both connections are seen", Duration::from_secs(20), |stats| {
        stats.observed() == 5 && stats.n("/bytes/not_http/http2_waiting") > 0
    });
    assert_eq!(seen.n("/flows_midstream"), 1, "{seen:?}");
    primary.has_logged(26);
    shadow.has_logged(5);
    let stats = finish(&world, mirror, 5);
    all_delivered(&stats, 5);
    assert_eq!(shadow.requests().len(), 5);
}

#[test]
fn a_shadow_of_http_1_alone_is_named() {
    let world = World::routed();
    let primary = Server::hypercorn(&world, &world.pri, world.primary_at(Family::V4), &[]).unwrap();
    let shadow = world.shadow_at(Family::V4);
    let nginx = Nginx::start(&world.sha, world.dir(), &[shadow.to_string()], "").unwrap();
    let mirror = mirror(&world, &[]);
    let url = format!("http://{}/", primary.at());
    for _ in 0..10 {
        curl(&world.cli, &[&url]).unwrap();
    }
    let stats = finish(&world, mirror, 10);
    let (named, left_alone) = (stats.shadow(0, "failed/not_h2"), stats.shadow(0, "dropped/back_off"));
    assert!(named > 0 && named + left_alone == 10, "{stats:?}");
    assert!(nginx.log().iter().all(|line| line.target.is_empty() || line.status == 400), "{:?}", nginx.log());
}

#[test]
fn an_https_shadow_must_agree_on_h2() {
    let world = World::routed();
    let (key, cert) = (world.dir().join("key.pem"), world.dir().join("cert.pem"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.args(["-subj", "/CN=shadow", "-addext", "subjectAltName=IP:10.77.3.2"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    mirror_tests::netns::run_checked(&mut openssl).unwrap();
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
    let primary = Server::hypercorn(&world, &world.pri, world.primary_at(Family::V4), &[]).unwrap();
    let url = format!("http://{}/", primary.at());
    let body = world.dir().join("body");
    std::fs::write(&body, noise(200_000, 5)).unwrap();
    for (port, listen, agrees) in [(8443, "ssl http2", true), (8444, "ssl", false)] {
        let at = format!("10.77.3.2:{port}");
        let nginx = Nginx::start(&world.sha, world.dir(), &[format!("{at} {listen}")], &tls).unwrap();
        let args = [
            "--primary",
            "10.77.2.2:8080",
            "--interface",
            "vpri",
            "--shadow",
            &format!("https://{at}"),
            "--shadow-ca",
            &cert.display().to_string(),
        ]
        .map(str::to_owned);
        let mirror = Mirror::start(&world.node, &args).unwrap();
        for _ in 0..5 {
            curl(&world.cli, &["--data-binary", &format!("@{}", body.display()), &url]).unwrap();
        }
        let stats = finish(&world, mirror, 5);
        all_delivered(&stats, if agrees { 5 } else { 0 });
        assert!(agrees || stats.shadow(0, "failed/not_h2") > 0, "{stats:?}");
        eventually("the shadow's log agrees", Duration::from_secs(5), || {
            nginx.log().len() == if agrees { 5 } else { 0 }
        });
    }
}

#[test]
fn a_client_that_upgrades_is_mirrored_from_its_first_request_on() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::hypercorn);
    let mirror = mirror(&world, &[]);
    let url = format!("http://{}/", primary.at());
    // The second goes over the connection that the first one upgraded.
    let (one, two) = (format!("{url}one"), format!("{url}two"));
    mirror_tests::tools::curl(&world.cli, &["--http2", "-H", "X-Request-Id: up", &one, &two]).unwrap();
    primary.has_logged(2);
    let stats = finish(&world, mirror, 2);
    all_delivered(&stats, 2);
    shadow.has_logged(2);
    same_requests(&primary.requests(), &shadow.requests());
    let spoken = |log: &[Line]| log.iter().filter(|line| line.head.starts_with("HTTP/2")).count();
    assert_eq!(spoken(&primary.requests()), 2, "the primary answers both by HTTP/2");
    assert_eq!(spoken(&shadow.requests()), 1, "the offer goes by HTTP/1.1");
}

#[test]
fn no_percentage_is_exactly_all_and_0_is_none() {
    for (options, copies) in [(&[][..], 1000), (&["--percent", "0"], 0), (&["--percent", "200"], 2000)] {
        let world = World::routed();
        let (primary, _shadow) = servers(&world, Server::nghttpd);
        std::fs::write(world.dir().join("file"), b"something").unwrap();
        let mirror = mirror(&world, options);
        let url = format!("http://{}/file", primary.at());
        assert_eq!(h2load(&world.cli, &["-n", "1000", "-c", "5", "-m", "5", &url]).unwrap(), 1000);
        let stats = finish(&world, mirror, 1000);
        all_delivered(&stats, copies);
        assert_eq!(stats.shadow(0, "connects"), copies / 200, "{stats:?}");
    }
}

#[test]
fn rules_look_at_streams_as_they_look_at_requests() {
    let world = World::routed();
    let (primary, shadow) = servers(&world, Server::hypercorn);
    let rules = [
        "--methods",
        "GET",
        "--path-prefix",
        "/api",
        "--set-header",
        "X-Env: shadow",
        "--remove-header",
        "x-secret",
        "--client-ip-header",
        "x-forwarded-for",
    ];
    let mirror = mirror(&world, &rules);
    let url = format!("http://{}", primary.at());
    for (id, path, more) in [
        ("in", "/api/x", "X-Secret: 1"),
        ("path", "/other", "A: b"),
        ("loop", "/api/x", "X-Mirror-Job: other"),
    ] {
        curl(&world.cli, &["-H", &format!("X-Request-Id: {id}"), "-H", more, &format!("{url}{path}")])
            .unwrap();
    }
    curl(&world.cli, &["-H", "X-Request-Id: method", "-d", "x", &format!("{url}/api/x")]).unwrap();
    let stats = finish(&world, mirror, 4);
    all_delivered(&stats, 1);
    for rule in ["method", "path", "marker"] {
        assert_eq!(stats.n(&format!("/requests/filtered/{rule}")), 1, "{stats:?}");
    }
    shadow.has_logged(1);
    let got = shadow.requests();
    assert_eq!(ids(&got), ["in"]);
    let client = format!("x-forwarded-for: {}", mirror_tests::world::pod_v4(1));
    for line in ["x-env: shadow", &client] {
        assert!(got[0].head.lines().any(|other| other == line), "{}", got[0].head);
    }
    assert!(!got[0].head.contains("x-secret"), "{}", got[0].head);
}

#[test]
fn a_large_upload_is_mirrored_in_bounded_memory() {
    const SIZE: usize = 64 << 20;
    let world = World::routed_alone();
    let (primary, shadow) = servers(&world, Server::hypercorn);
    let mut mirror = mirror(&world, &[]);
    let body = world.dir().join("large");
    std::fs::write(&body, noise(SIZE, 3)).unwrap();
    let (data, url) = (format!("@{}", body.display()), format!("http://{}/", primary.at()));
    // Within what the shadow reads: what is refused beyond it is another scenario.
    curl(
        &world.cli,
        &["--limit-rate", "12M", "-X", "POST", "-T", &data[1..], "-H", "X-Request-Id: large", &url],
    )
    .unwrap();
    primary.has_logged(1);
    mirror.rest(1);
    let peak = mirror.process().peak_memory();
    let stats = finish(&world, mirror, 1);
    all_delivered(&stats, 1);
    shadow.has_logged(1);
    same_requests(&primary.requests(), &shadow.requests());
    assert!(peak > 0 && peak <= MEMORY_CEILING, "peak memory {} MiB", peak >> 20);
}
