//! What is copied: every framing, every place of the tap, byte for byte. Traffic is gentle here, so nothing may be lost.
#![allow(clippy::unwrap_used, reason = "a scenario ends by a panic")]

use std::net::SocketAddr;
use std::time::Duration;

use mirror_tests::client::{chunked, noise, request};
use mirror_tests::copy::{expected, without_marker};
use mirror_tests::server::ids;
use mirror_tests::world::{Ending, Family, IDENTICAL, Scene, Setup, Tap, end, mirror_args, witnessed_once};
use mirror_tests::{Conn, Mirror, Nginx, Reviews, World, eventually, netns, tools};

/// Every request reached the shadow as the primary received it: head and body, framing included.
#[track_caller]
fn identical(ending: &Ending) {
    for sent in &ending.primary {
        let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
        assert_eq!(
            copy.head_hash, sent.head_hash,
            "heads of {}: sent {:?}, copied {:?}",
            sent.id, sent.head, copy.head
        );
        assert_eq!(copy.body_hash, sent.body_hash, "bodies of {}", sent.id);
    }
}

/// Requests in every shape that HTTP/1 allows, each complete in itself.
fn shapes() -> Vec<Vec<u8>> {
    let body = noise(5000, 11);
    let mut shapes: Vec<Vec<u8>> = ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "PUT", "POST", "REPORT"]
        .iter()
        .map(|method| request(method, "/plain?a=1&b=%20", &format!("m-{method}"), "", b""))
        .collect();
    for method in ["POST", "PUT", "GET", "DELETE"] {
        shapes.push(request(method, "/body", &format!("b-{method}"), "Content-Type: x/y\r\n", &body));
        let mut bytes =
            request(method, "/chunked", &format!("c-{method}"), "Transfer-Encoding: chunked\r\n", b"");
        bytes.extend(chunked(&body, 700, "X-Trailer: yes\r\nX-Other: no\r\n"));
        shapes.push(bytes);
    }
    let odd = |id: &str, rest: &str| format!("{}\r\n\r\n", rest.replace("ID", id)).into_bytes();
    shapes.push(odd(
        "o-case",
        "GET /case HTTP/1.1\r\nhOST:   reviews\r\nx-REQUEST-id:ID\r\nX-a:1\r\nx-A: 2\r\nX-A:  3  ",
    ));
    shapes.push(odd(
        "o-fold",
        "GET /fold HTTP/1.1\r\nHost: reviews\r\nX-Folded: one\r\n  two\r\n\tthree\r\nX-Request-Id: ID",
    ));
    shapes
        .push(odd("o-abs", "GET http://reviews:8080/abs HTTP/1.1\r\nHost: reviews:8080\r\nX-Request-Id: ID"));
    shapes.push(odd("o-star", "OPTIONS * HTTP/1.1\r\nHost: reviews\r\nX-Request-Id: ID"));
    shapes.push(odd("o-none", "GET /empty-value HTTP/1.1\r\nHost:\r\nX-Empty:\r\nX-Request-Id: ID"));
    shapes.push(odd("o-10", "GET /ten HTTP/1.0\r\nConnection: keep-alive\r\nX-Request-Id: ID"));
    shapes.push(odd("o-high", "GET /high HTTP/1.1\r\nHost: r\r\nX-High: \u{df}\r\nX-Request-Id: ID"));
    let mut bytes =
        odd("o-chunks", "POST /ext HTTP/1.1\r\nHost: r\r\nX-Request-Id: ID\r\nTransfer-Encoding: Chunked");
    bytes.extend_from_slice(b"000A ; a=b ;c=\"d;e\"\r\n0123456789\r\n1\r\nx\r\n000;last\r\nT: \r\n\r\n");
    shapes.push(bytes);
    let long = "v".repeat(12_000);
    shapes
        .push(odd("o-long", &format!("GET /long HTTP/1.1\r\nHost: r\r\nCookie: {long}\r\nX-Request-Id: ID")));
    shapes
}

#[test]
fn with_the_three_changes_off_every_shape_of_request_arrives_byte_for_byte() {
    let world = World::routed();
    let scene = world.scene(&Setup {
        mirror: &IDENTICAL,
        primary: &["--heads"],
        shadow: &["--heads"],
        ..Setup::default()
    });
    let shapes = shapes();
    let mut conn = scene.open();
    for shape in &shapes {
        conn.exchange(shape).unwrap();
    }
    // Once more, each on its own connection that says it closes.
    for (n, shape) in shapes.iter().enumerate() {
        let text: String = shape.iter().copied().map(char::from).collect();
        if text.contains("HTTP/1.0") {
            continue;
        }
        let text =
            text.replacen("\r\n", &format!("\r\nConnection: close\r\nX-Request-Id: closing-{n}\r\n"), 1);
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let mut conn = scene.open();
        conn.exchange(&bytes).unwrap();
        assert!(conn.at_end());
    }
    let sent = shapes.len() as u64 * 2 - 1;
    identical(&scene.all_delivered(sent));
}

#[test]
fn by_default_host_marker_and_trace_flag_are_all_that_changes() {
    let world = World::routed();
    let scene = world.scene(&Setup { primary: &["--heads"], shadow: &["--heads"], ..Setup::default() });
    let mut conn = scene.open();
    let trace = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    let headers = [
        format!("traceparent: 00-{trace}-01\r\ntracestate: a=b\r\n"),
        format!("Traceparent: 00-{trace}-00\r\n"),
        format!("b3: {}-{}-1\r\n", &trace[..32], &trace[33..]),
        format!("X-B3-TraceId: {}\r\nX-B3-SpanId: {}\r\nX-B3-Sampled: 1\r\n", &trace[..32], &trace[33..]),
        "Accept: */*\r\n".to_owned(),
    ];
    for (n, headers) in headers.iter().enumerate() {
        conn.exchange(&request("POST", "/x", &format!("t-{n}"), headers, &noise(100, 5))).unwrap();
    }
    for (n, host) in
        ["cluster-1", "cluster-1:80", "[2001:db8::1]", "[2001:db8::1]:8443", "a-shadow:1"].iter().enumerate()
    {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: h-{n}\r\n\r\n");
        conn.exchange(head.as_bytes()).unwrap();
    }
    let ending = scene.all_delivered(10);
    for sent in &ending.primary {
        let copy = ending.shadow.iter().find(|line| line.id == sent.id).unwrap();
        let (rest, job) = without_marker(&copy.head);
        assert_eq!(rest, expected(&sent.head));
        assert!(!job.is_empty());
        assert_eq!(copy.body_hash, sent.body_hash);
    }
}

#[test]
fn headers_are_set_removed_and_the_client_named_as_asked() {
    let world = World::routed();
    let options = [
        "--set-header",
        "X-Env: shadow",
        "--remove-header",
        "Authorization",
        "--client-ip-header",
        "X-Forwarded-For",
        "--host-suffix",
        ".test",
        "--marker",
        "x-copy-of",
        "--trace",
        "drop",
    ];
    let scene = world.scene(&Setup { shadow: &["--heads"], mirror: &options, ..Setup::default() });
    let headers = "Authorization: Bearer s3cret\r\nX-Env: live\r\nX-Forwarded-For: 192.0.2.7\r\ntraceparent: 00-a-b-01\r\n";
    scene.open().exchange(&request("GET", "/", "a", headers, b"")).unwrap();
    let ending = scene.all_delivered(1);
    let head = ending.shadow[0].head.to_ascii_lowercase();
    assert!(!head.contains("s3cret") && !head.contains("authorization"), "{head}");
    assert!(head.contains("x-env: shadow\r\n") && !head.contains("live"), "{head}");
    assert!(head.contains("192.0.2.7") && head.contains("10.77.1.2"), "{head}");
    assert!(head.contains("host: reviews.test:8080\r\n"), "{head}");
    assert!(head.contains("x-copy-of:") && !head.contains("traceparent"), "{head}");
}

/// A mixed load through one tap.
fn through(world: &World, tap: Tap, family: Family) {
    let scene = world.scene(&Setup { tap, family, mirror: &IDENTICAL, ..Setup::default() });
    let report = scene.load(|load| {
        load.connections = 8;
        load.requests = 400;
        load.post_every = 3;
        load.body = 20_000;
        load.per_connection = 25;
    });
    report.all_answered();
    identical(&scene.all_delivered(400));
}

#[test]
fn the_host_side_of_the_pods_veth_sees_everything() {
    through(&World::routed(), Tap::HostSide, Family::V4);
}

#[test]
fn the_clients_side_sees_everything() {
    through(&World::routed(), Tap::ClientSide, Family::V4);
}

#[test]
fn the_pods_own_interface_is_found_by_the_namespaces_name() {
    through(&World::routed(), Tap::PodByName, Family::V4);
}

#[test]
fn the_pods_own_interface_is_found_by_a_process_in_it() {
    through(&World::routed(), Tap::PodByPid, Family::V4);
}

#[test]
fn lo_is_found_from_the_address_and_sees_each_segment_once() {
    through(&World::single(), Tap::Found, Family::V4);
}

#[test]
fn ipv6_is_copied_at_the_host_side_and_over_lo() {
    through(&World::routed(), Tap::HostSide, Family::V6);
    through(&World::single(), Tap::Found, Family::V6);
}

#[test]
fn a_request_split_at_any_byte_is_one_request() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    let mut conn = scene.open();
    let shape = |id: &str| {
        let mut bytes = request("POST", "/split", id, "Transfer-Encoding: chunked\r\n", b"");
        bytes.extend(chunked(b"hello split world", 6, "X-T: t\r\n"));
        bytes
    };
    let length = shape("s-000").len();
    for at in 1..length {
        conn.send_split(&shape(&format!("s-{at:03}")), &[at]).unwrap();
        assert_eq!(conn.response("POST").unwrap().status, 200);
    }
    // And once byte by byte.
    let every: Vec<usize> = (1..length).collect();
    conn.send_split(&shape("s-all"), &every).unwrap();
    assert_eq!(conn.response("POST").unwrap().status, 200);
    identical(&scene.all_delivered(length as u64));
}

#[test]
fn pipelined_requests_are_copied_in_order() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    let mut conn = scene.open();
    let mut sent = 0;
    for round in 0..20 {
        // Ten requests in one write, POSTs with bodies among them, the last one torn in two.
        let mut bytes = Vec::new();
        for n in 0..10 {
            let body = if n % 3 == 0 { noise(50 * n + 1, 9) } else { Vec::new() };
            bytes.extend(request(
                if body.is_empty() { "GET" } else { "POST" },
                "/p",
                &format!("p-{round:02}-{n}"),
                "",
                &body,
            ));
            sent += 1;
        }
        conn.send_split(&bytes, &[bytes.len() - 30]).unwrap();
        for _ in 0..10 {
            assert_eq!(conn.response("GET").unwrap().status, 200);
        }
    }
    let ending = scene.all_delivered_and_answered_together(sent);
    let order: Vec<&str> = ending.shadow.iter().map(|line| line.id.as_str()).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted, "one connection, one order");
    identical(&ending);
}

#[test]
fn a_body_after_100_continue_is_copied_and_one_that_never_came_is_named() {
    let world = World::routed();
    let scene = world.scene(&Setup { mirror: &IDENTICAL, ..Setup::default() });
    let body = noise(30_000, 21);
    for n in 0..5 {
        let mut conn = scene.open();
        let whole = request("POST", "/e", &format!("e-{n}"), "Expect: 100-continue\r\n", &body);
        let (head, body) = whole.split_at(whole.len() - body.len());
        conn.send(head).unwrap();
        conn.interim(100).unwrap();
        conn.send(body).unwrap();
        assert_eq!(conn.response("POST").unwrap().status, 200);
        conn.exchange(&request("GET", "/after", &format!("e-after-{n}"), "", b"")).unwrap();
    }
    identical(&scene.all_delivered(10));

    let scene = world.scene(&Setup { primary: &["--reply", "refuse-expect"], ..Setup::default() });
    let mut conn = scene.open();
    let whole = request("POST", "/e", "withheld", "Expect: 100-continue\r\n", &body);
    conn.send(&whole[..whole.len() - body.len()]).unwrap();
    assert_eq!(conn.response("POST").unwrap().status, 417);
    for n in 0..3 {
        conn.exchange(&request("GET", "/after", &format!("w-{n}"), "", b"")).unwrap();
    }
    let ending = scene.finish(4);
    assert_eq!(ending.stats.delivered(0), 3);
    assert_eq!(ending.stats.shadow(0, "dropped/body_withheld"), 1, "{:?}", ending.stats);
}

#[test]
fn every_shape_of_answer_from_primary_and_shadow_is_read_to_its_end() {
    let world = World::routed();
    for reply in ["chunked", "close", "http10", "interim", "early"] {
        let scene = world.scene(&Setup {
            primary: &["--reply", reply, "--reply-bytes", "40000"],
            shadow: &["--reply", reply, "--reply-bytes", "40000"],
            ..Setup::default()
        });
        let mut sent = 0;
        for n in 0..6 {
            let mut conn = scene.open();
            for (method, body) in [("GET", 0), ("HEAD", 0), ("POST", 2000)] {
                if reply == "close" && method != "GET" || reply == "early" && method == "HEAD" {
                    continue;
                }
                let bytes = request(method, "/", &format!("{n}-{method}"), "", &noise(body, 2));
                assert_eq!(conn.exchange(&bytes).unwrap().status, 200, "{reply}");
                sent += 1;
            }
        }
        let ending = scene.all_delivered(sent);
        assert_eq!(ending.stats.n("/primary/answered/2xx"), sent, "{reply}: {:?}", ending.stats);
        assert_eq!(ending.stats.shadow(0, "delivered_by_class/2xx"), sent);
    }
}

#[test]
fn connections_that_were_open_before_the_mirror_are_copied_from_their_next_request() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let mut conns: Vec<Conn> = (0..8).map(|_| world.open(primary.at())).collect();
    for (n, conn) in conns.iter_mut().enumerate() {
        conn.exchange(&request("GET", "/before", &format!("before-{n}"), "", b"")).unwrap();
    }
    // One of them is in the middle of a body when the mirror comes; that body looks like a request.
    let decoy = b"\r\n\r\nGET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\n".repeat(40);
    let half = request("POST", "/half", "half", "", &decoy);
    // It goes on within a decoy. (A first segment that is whole requests to the byte cannot be told from them: see the
    // limits of `http::sync`.)
    let middle = half.len() - decoy.len() / 2 + 12;
    conns[0].send_split(&half[..middle], &[]).unwrap();
    let args = mirror_args(&world, Tap::HostSide, primary.at(), &[shadow.at()], 0);
    let mirror = Mirror::start(&world.node, &args).unwrap();
    conns[0].send(&half[middle..]).unwrap();
    conns[0].response("POST").unwrap();
    for round in 0..5 {
        for (n, conn) in conns.iter_mut().enumerate() {
            conn.exchange(&request("GET", "/after", &format!("after-{n}-{round}"), "", b"")).unwrap();
        }
    }
    let stats = mirror.wait_stats("at rest", Duration::from_secs(20), |stats| {
        stats.n("/witnessed") >= 41 && stats.at_rest() && stats.broken_laws().is_empty()
    });
    assert_eq!(primary.requests().len(), 8 + 1 + 40);
    let late: Vec<String> =
        shadow.requests().into_iter().map(|line| line.id).filter(|id| !id.starts_with("after")).collect();
    assert_eq!(late, Vec::<String>::new(), "neither what came before nor a decoy in a body is a request");
    assert!(stats.delivered(0) >= 38, "every connection is found by its second request: {stats:?}");
    assert!(stats.delivered(0) == 40 || stats.n("/bytes/skipped_before_sync") > 0, "{stats:?}");
    assert_eq!(stats.delivered(0), stats.observed());
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn ends_of_connections_in_every_order_lose_no_request() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let mut sent = 0;
    let mut id = || {
        sent += 1;
        format!("x-{sent}")
    };
    for n in 0..10 {
        // The client is done before the answer comes.
        let mut conn = scene.open();
        conn.send(&request("GET", "/", &id(), "", b"")).unwrap();
        conn.half_close().unwrap();
        conn.response("GET").unwrap();
        // The client resets after the answer.
        let mut conn = scene.open();
        conn.exchange(&request("POST", "/", &id(), "", &noise(500, n))).unwrap();
        conn.reset().unwrap();
        // The same port is used again at once, with another sequence number.
        let local: SocketAddr = format!("10.77.1.2:{}", 41_000 + n).parse().unwrap();
        for _ in 0..3 {
            let mut conn = Conn::open_from(&world.cli, local, scene.primary.at()).unwrap();
            conn.exchange(&request("GET", "/", &id(), "", b"")).unwrap();
            conn.exchange(&request("GET", "/", &id(), "", b"")).unwrap();
            conn.reset().unwrap();
        }
    }
    scene.all_delivered(sent);
}

#[test]
fn a_client_that_leaves_in_a_body_leaves_an_aborted_copy_behind_never_a_padded_one() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let whole = request("POST", "/", "left", "", &noise(100_000, 4));
    let mut conn = scene.open();
    conn.send(&whole[..60_000]).unwrap();
    eventually("the primary has the first half", Duration::from_secs(5), || {
        scene.mirror.stats().unwrap().n("/bytes/parsed") >= 60_000
    });
    conn.reset().unwrap();
    let mut conn = scene.open();
    conn.exchange(&request("GET", "/", "stayed", "", b"")).unwrap();
    scene.mirror.rest(2);
    eventually("the primary logs the cut", Duration::from_secs(5), || {
        scene.primary.log().iter().any(|line| line.cut)
    });
    let shadow = scene.shadow.log();
    assert!(shadow.iter().all(|line| line.id != "left" || line.cut), "{shadow:?}");
    let stats = scene.mirror.stats().unwrap();
    assert_eq!(stats.shadow(0, "dropped/client_closed"), 1, "{stats:?}");
    assert_eq!(stats.delivered(0), 1);
    let Scene { world, mirror, .. } = scene;
    end(world, Tap::HostSide, mirror);
}

#[test]
fn a_primary_on_any_address_with_a_shadow_on_the_same_port_makes_no_loop() {
    let world = World::routed();
    let any: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let primary = Reviews::start(&world.pri, world.dir(), any, &[]).unwrap();
    let at: SocketAddr = "10.77.3.2:8080".parse().unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), at, &[]).unwrap();
    let args = ["--primary", ":8080", "--shadow", "http://10.77.3.2:8080", "--marker", ""].map(str::to_owned);
    let mirror = Mirror::start(&world.pri, &args).unwrap();
    let mut sent = 0;
    for (from, to) in
        [(&world.cli, "10.77.2.2:8080"), (&world.pri, "127.0.0.1:8080"), (&world.pri, "10.77.2.2:8080")]
    {
        let mut conn = Conn::open(from, to.parse().unwrap()).unwrap();
        for _ in 0..20 {
            sent += 1;
            conn.exchange(&request("POST", "/", &format!("any-{sent}"), "", b"once")).unwrap();
        }
    }
    let stats = mirror.rest(sent);
    assert_eq!((stats.delivered(0), stats.shadow(0, "copies")), (sent, sent), "{stats:?}");
    assert_eq!(ids(&shadow.requests()), ids(&primary.requests()));
    let last = end(&world, Tap::PodByName, mirror);
    // Answers of the shadow are no witnesses.
    witnessed_once(&last, sent);
}

#[test]
fn a_request_that_bears_the_marker_is_not_mirrored_again() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let mut conn = scene.open();
    conn.exchange(&request("GET", "/", "first", "X-Mirror-Job: somewhere\r\n", b"")).unwrap();
    conn.exchange(&request("GET", "/", "second", "", b"")).unwrap();
    let ending = scene.finish(2);
    assert_eq!(ending.stats.n("/requests/filtered/marker"), 1, "{:?}", ending.stats);
    assert_eq!(ids(&ending.shadow), ["second"]);
}

#[test]
fn what_leaves_http_is_counted_and_not_replayed() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    for (n, head) in [
        "GET /ws HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Request-Id: u\r\n\r\n",
        "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nX-Request-Id: c\r\n\r\n",
    ]
    .iter()
    .enumerate()
    {
        let mut conn = scene.open();
        assert_eq!(conn.exchange(head.as_bytes()).unwrap().status, [101, 200][n]);
        // The tunnel carries what looks like a request.
        conn.send(b"GET /inside HTTP/1.1\r\nHost: inside\r\n\r\n").unwrap();
        conn.half_close().unwrap();
        eventually("the tunnel ends", Duration::from_secs(5), || conn.response("CONNECT").is_err());
    }
    let ending = scene.finish(2);
    assert_eq!(ending.stats.n("/requests/filtered/upgrade"), 1, "{:?}", ending.stats);
    assert_eq!(ending.stats.n("/requests/filtered/connect"), 1, "{:?}", ending.stats);
    assert!(ending.stats.n("/bytes/not_http/tunnel") >= 2 * 38, "{:?}", ending.stats);
    assert!(ending.shadow.is_empty());
}

#[test]
fn tls_and_other_protocols_are_named_and_nothing_is_made_of_them() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let mut hello = vec![0x16, 0x03, 0x01, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8, 0x03, 0x03];
    hello.extend(noise(501, 77));
    for bytes in
        [&hello[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"*1\r\n$4\r\nPING\r\n"]
    {
        let mut conn = scene.open();
        conn.send_split(bytes, &[]).unwrap();
        conn.reset().unwrap();
    }
    scene.open().exchange(&request("GET", "/", "fine", "", b"")).unwrap();
    let ending = scene.finish(1);
    assert_eq!(ending.stats.n("/bytes/not_http/tls"), hello.len() as u64, "{:?}", ending.stats);
    // A preface and SETTINGS are a connection that is read, without a request so far.
    assert_eq!(ending.stats.n("/h2/connections"), 1, "{:?}", ending.stats);
    assert!(
        ending.stats.n("/bytes/not_http/unknown") + ending.stats.n("/bytes/skipped_before_sync") >= 14,
        "{:?}",
        ending.stats
    );
    assert_eq!(ids(&ending.shadow), ["fine"]);
}

#[test]
fn ambiguous_framing_is_counted_as_malformed_and_smuggles_nothing_to_the_shadow() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    // nginx as primary: it has its own view of each, and only the mirror's is looked at.
    let _primary = Nginx::start(&world.pri, world.dir(), &[at.to_string()], "").unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &[]).unwrap();
    let mirror =
        Mirror::start(&world.node, &mirror_args(&world, Tap::HostSide, at, &[shadow.at()], 0)).unwrap();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: r\r\nX-Request-Id: smuggled\r\n\r\n";
    let chunks = format!("0\r\n\r\n{smuggled}");
    let bad = [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}", chunks.len()),
        format!("Content-Length: 5\r\nContent-Length: {}\r\n\r\n{chunks}", chunks.len()),
        format!("Content-Length: +{}\r\n\r\n{chunks}", chunks.len()),
        format!("Content-Length: {}, 5\r\n\r\n{chunks}", chunks.len()),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n{chunks}"),
        format!(
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunks}"
        ),
        format!("Content-Length : {}\r\n\r\n{chunks}", chunks.len()),
        format!("Transfer-Encoding : chunked\r\n\r\n{chunks}"),
        format!("Transfer-Encoding: chunked\r\n\r\nxyz\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{smuggled}"),
    ];
    for rest in &bad {
        let mut conn = world.open(at);
        conn.send(format!("POST /bad HTTP/1.1\r\nHost: r\r\nX-Request-Id: bad\r\n{rest}").as_bytes())
            .unwrap();
        let _whatever_nginx_thinks = conn.response("POST");
    }
    let mut conn = world.open(at);
    conn.exchange(&request("GET", "/", "fine", "", b"")).unwrap();
    let stats = mirror.rest_at_all();
    let whole = shadow.requests();
    assert_eq!(ids(&whole), ["fine"], "{stats:?}");
    let malformed = stats.n("/requests/dropped/malformed") + stats.shadow(0, "dropped/malformed");
    assert_eq!(malformed, bad.len() as u64, "{stats:?}");
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn a_proxy_protocol_header_is_skipped_and_its_address_used() {
    let world = World::routed();
    let at = world.primary_at(Family::V4);
    let primary = Nginx::start(&world.pri, world.dir(), &[format!("{at} proxy_protocol")], "").unwrap();
    let shadow = Reviews::start(&world.sha, world.dir(), world.shadow_at(Family::V4), &["--heads"]).unwrap();
    let mut args = mirror_args(&world, Tap::HostSide, at, &[shadow.at()], 0);
    args.extend(["--client-ip-header", "X-Forwarded-For"].map(str::to_owned));
    let mirror = Mirror::start(&world.node, &args).unwrap();
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([192, 0, 2, 9, 192, 0, 2, 2, 4, 87, 0, 80]);
    for (n, header) in [v1.clone(), v2.clone()].iter().enumerate() {
        let mut conn = world.open(at);
        let mut bytes = header.clone();
        bytes.extend(request("GET", "/", &format!("p-{n}-0"), "", b""));
        assert_eq!(conn.exchange(&bytes).unwrap().status, 200);
        assert_eq!(conn.exchange(&request("GET", "/", &format!("p-{n}-1"), "", b"")).unwrap().status, 200);
    }
    let stats = mirror.rest(4);
    assert_eq!(stats.delivered(0), 4, "{stats:?}");
    assert_eq!(stats.n("/bytes/not_http/proxy_header"), (v1.len() + v2.len()) as u64, "{stats:?}");
    eventually("nginx logs all", Duration::from_secs(5), || primary.log().len() == 4);
    let heads = shadow.requests();
    for (n, address) in [(0, "192.0.2.1"), (1, "192.0.2.9")] {
        let head = &heads.iter().find(|line| line.id == format!("p-{n}-0")).unwrap().head;
        assert!(head.contains(address), "{head}");
    }
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn curl_wrk_and_ab_against_nginx_are_copied_to_nginx_whole() {
    let world = World::routed();
    let (at, to) = (world.primary_at(Family::V4), world.shadow_at(Family::V4));
    let primary = Nginx::start(&world.pri, world.dir(), &[at.to_string()], "").unwrap();
    let shadow = Nginx::start(&world.sha, world.dir(), &[to.to_string()], "").unwrap();
    let mirror = Mirror::start(&world.node, &mirror_args(&world, Tap::HostSide, at, &[to], 0)).unwrap();
    let url = |path: &str| format!("http://{at}{path}");
    let upload = world.dir().join("upload");
    std::fs::write(&upload, noise(300_000, 31)).unwrap();
    let upload = format!("@{}", upload.display());
    tools::curl(&world.cli, &[&url("/static")]).unwrap();
    tools::curl(&world.cli, &["--data-binary", &upload, &url("/a")]).unwrap();
    tools::curl(&world.cli, &["--data-binary", &upload, "-H", "Transfer-Encoding: chunked", &url("/b")])
        .unwrap();
    tools::curl(&world.cli, &["--data-binary", &upload, "-H", "Expect: 100-continue", &url("/c")]).unwrap();
    tools::curl(&world.cli, &["-I", &url("/d")]).unwrap();
    tools::curl(&world.cli, &["--http1.0", &url("/e")]).unwrap();
    tools::curl(&world.cli, &["-X", "DELETE", &url("/f"), &url("/g"), &url("/h")]).unwrap();
    let keep = tools::ab(&world.cli, &["-k", "-n", "300", "-c", "8", &url("/static")]).unwrap();
    let close = tools::ab(&world.cli, &["-n", "300", "-c", "8", &url("/static")]).unwrap();
    assert_eq!((keep.failed, close.failed), (0, 0));
    assert!(tools::curl(&world.cli, &[&url("/missing")]).is_err(), "curl --fail tells a 404");
    let sent = 9 + keep.answered + close.answered + 1;
    eventually("nginx logs all", Duration::from_secs(5), || primary.log().len() as u64 == sent);
    let stats = mirror.rest(sent);
    assert_eq!(stats.delivered(0), sent, "{stats:?}");
    assert_eq!(stats.shadow(0, "delivered_by_class/4xx"), 1, "a 404 is delivered: {stats:?}");
    assert_eq!(stats.n("/primary/answered/4xx"), 1);
    eventually("the shadow logs all", Duration::from_secs(5), || shadow.log().len() as u64 == sent);
    // wrk cuts off the requests under way at its end; what the mirror saw of them must still add up.
    let wrk = tools::wrk(&world.cli, 1, 8, &[&url("/static")]).unwrap();
    assert_eq!(wrk.failed, 0);
    let stats = mirror.rest_at_all();
    assert!(stats.observed() >= sent + wrk.answered, "{stats:?}");
    eventually("the primary's log and the mirror agree", Duration::from_secs(5), || {
        let logged = primary.log().len() as u64;
        stats.n("/witnessed").abs_diff(logged) <= 8 && stats.observed().abs_diff(logged) <= 8
    });
    end(&world, Tap::HostSide, mirror);
}

#[test]
fn two_shadows_get_one_copy_each_and_a_name_is_resolved() {
    let world = World::single();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let one = Reviews::start(&world.sha, world.dir(), "127.0.0.1:8081".parse().unwrap(), &[]).unwrap();
    let two =
        Reviews::start(&world.sha, world.dir(), "127.0.0.1:8082".parse().unwrap(), &["--delay-ms", "20"])
            .unwrap();
    let args = [
        "--primary",
        "127.0.0.1:8080",
        "--shadow",
        "http://localhost:8081",
        "--shadow",
        "http://127.0.0.1:8082",
    ];
    let mirror = Mirror::start(&world.node, &args.map(str::to_owned)).unwrap();
    let mut conn = world.open(primary.at());
    for n in 0..50 {
        conn.exchange(&request("POST", "/", &format!("{n}"), "", b"to both")).unwrap();
    }
    let stats = mirror.rest(50);
    assert_eq!((stats.delivered(0), stats.delivered(1)), (50, 50), "{stats:?}");
    assert_eq!(ids(&one.requests()), ids(&primary.requests()));
    assert_eq!(ids(&two.requests()), ids(&primary.requests()));
    end(&world, Tap::Found, mirror);
}

/// A self-signed certificate of the shadow with these basic constraints: file of the key, file of the certificate.
fn certificate(world: &World, constraints: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let file = |what: &str| world.dir().join(format!("{what}-{}.pem", constraints.replace(':', "-")));
    let (key, cert) = (file("key"), file("cert"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-addext", &format!("basicConstraints=critical,{constraints}")]);
    openssl.args(["-subj", "/CN=shadow", "-addext", "subjectAltName=IP:10.77.3.2,DNS:shadow"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    netns::run_checked(&mut openssl).unwrap();
    (key, cert)
}

#[test]
fn an_https_shadow_is_reached_with_a_ca_of_its_own_and_else_it_says_why_not() {
    let world = World::routed();
    let primary = Reviews::start(&world.pri, world.dir(), world.primary_at(Family::V4), &[]).unwrap();
    let serve = |constraints: &str, port: u16| {
        let (key, cert) = certificate(&world, constraints);
        let tls = format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
        let shadow = Nginx::start(&world.sha, world.dir(), &[format!("10.77.3.2:{port} ssl")], &tls).unwrap();
        (shadow, cert.display().to_string())
    };
    let (shadow, server) = serve("CA:FALSE", 8443);
    let (_never_reached, authority) = serve("CA:TRUE", 8444);
    for (port, ca, says) in [
        (8443, None, Some("--shadow-ca")),
        (8443, Some(&server), None),
        // What `openssl req -x509` makes unless told: the certificate of an authority, shown as a server's own.
        (8444, Some(&authority), Some("basicConstraints=critical,CA:FALSE")),
    ] {
        let mut args = vec!["--primary".to_owned(), "10.77.2.2:8080".to_owned()];
        args.extend(["--interface", "vpri", "--shadow"].map(str::to_owned));
        args.push(format!("https://10.77.3.2:{port}"));
        args.extend(ca.into_iter().flat_map(|file| ["--shadow-ca".to_owned(), file.clone()]));
        let before = primary.requests().len();
        let mut mirror = Mirror::start(&world.node, &args).unwrap();
        let mut conn = world.open(primary.at());
        for n in 0..5 {
            let id = format!("{port}-{}-{n}", ca.is_some());
            conn.exchange(&request("POST", "/", &id, "", &noise(20_000, n))).unwrap();
        }
        assert_eq!(primary.requests().len() - before, 5);
        let stats = mirror.rest(5);
        assert_eq!(stats.delivered(0), if says.is_none() { 5 } else { 0 }, "{stats:?}");
        assert!(says.is_none() || stats.shadow(0, "failed/tls") > 0, "{stats:?}");
        let said = mirror.process().stderr().join("\n");
        assert!(said.contains(says.unwrap_or("")), "{said}");
        assert!(said.matches("certificate").count() <= 4, "it says so once, not for each copy: {said}");
        end(&world, Tap::HostSide, mirror);
    }
    eventually("the shadow logs 5", Duration::from_secs(5), || shadow.log().len() == 5);
}

#[test]
fn shared_connections_copy_the_same_requests_and_need_few_for_requests_without_a_body() {
    let world = World::routed();
    let options = [&IDENTICAL[..], &["--connections", "shared", "--shards", "2"]].concat();
    let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
    let load = |post_every: u64| {
        let report = scene.load(|load| {
            load.connections = 32;
            load.requests = 1000;
            load.post_every = post_every;
            load.body = 1000;
            load.tag = format!("every{post_every}");
        });
        report.all_answered();
    };
    load(0);
    let connects = scene.mirror.rest(1000).shadow(0, "connects");
    assert!((1..=16).contains(&connects), "{connects} connections for 32 clients: eight a shard are enough");
    load(4);
    identical(&scene.all_delivered(2000));
}

#[test]
fn high_priority_another_order_and_the_kernels_own_lines_change_nothing_about_the_copies() {
    for options in [
        &["--priority", "high", "--cpu-budget", "50"][..],
        &["--ordering", "none"],
        &["--connections", "shared", "--ordering", "none"],
        &["-vv"],
        &["--shards", "1", "--memory", "32MiB"],
        &["--shards", "7"],
    ] {
        let world = World::routed();
        let options = [&IDENTICAL[..], options].concat();
        let scene = world.scene(&Setup { mirror: &options, ..Setup::default() });
        let report = scene.load(|load| {
            load.connections = 8;
            load.requests = 200;
            load.rate = Some(1000.0);
            load.post_every = 3;
            load.body = 5000;
            load.per_connection = 10;
        });
        report.all_answered();
        identical(&scene.all_delivered(200));
    }
}

#[test]
fn a_request_with_a_head_over_the_limit_is_observed_and_dropped_by_name() {
    let world = World::routed();
    let scene = world.scene(&Setup::default());
    let cookie = format!("Cookie: {}\r\n", "c".repeat(70_000));
    scene.open().exchange(&request("GET", "/", "large", &cookie, b"")).unwrap();
    scene.open().exchange(&request("GET", "/", "fine", "", b"")).unwrap();
    let ending = scene.finish(2);
    assert_eq!(ending.stats.n("/requests/dropped/head_too_large"), 1, "{:?}", ending.stats);
    assert!(ending.stats.n("/bytes/not_http/head_too_large") > 70_000, "{:?}", ending.stats);
    assert_eq!(ids(&ending.shadow), ["fine"]);
}
