use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::plan::{SampleBy, Trace};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunFlags,
}

const RANDOM: u64 = 0x5eed;

/// Resolves the shortest command line with `more` behind it; `--primary` and `--shadow` among `more` replace its own.
fn with(more: &[&str]) -> Result<Resolved, Error> {
    let mut args = vec!["run"];
    if !more.contains(&"--primary") {
        args.extend(["--primary", "10.0.0.5:8080"]);
    }
    if !more.contains(&"--shadow") {
        args.extend(["--shadow", "http://10.0.0.9:8080"]);
    }
    args.extend(more);
    resolve(&Line::try_parse_from(args).unwrap().run, RANDOM)
}

#[track_caller]
fn refused(more: &[&str], message: &str) {
    let error = with(more).expect_err("refused").to_string();
    assert_eq!(error, message);
    assert_eq!(error.lines().count(), 1);
}

mod accepted {
    use super::*;

    #[test]
    fn the_shortest_command_line_gives_the_documented_defaults() {
        let resolved = with(&[]).unwrap();
        assert_eq!(
            resolved,
            Resolved {
                primary: Primary { ip: Some([10, 0, 0, 5].into()), port: 8080 },
                copies: Copies {
                    name: "mirror".into(),
                    shadows: vec![ShadowTarget {
                        url: "http://10.0.0.9:8080".into(),
                        scheme: Scheme::Http,
                        host: Host::Ip([10, 0, 0, 9].into()),
                        port: 8080,
                        server_name: None,
                    }],
                    shadow_ca: None,
                    plan: plan::Settings {
                        job: "mirror".into(),
                        shadows: 1,
                        percent: plan::Percent::HUNDRED,
                        sample_by: SampleBy::Request,
                        seed: RANDOM,
                        methods: Vec::new(),
                        path_prefix: None,
                        max_rps: None,
                        host_suffix: "-shadow".into(),
                        marker: Some("x-mirror-job".into()),
                        trace: Trace::Unsampled,
                        client_ip_header: None,
                        remove: Vec::new(),
                        set: Vec::new(),
                        add: Vec::new(),
                    },
                    ordering: Ordering::Connection,
                    connections: Connections::PerClient,
                    limits: Limits {
                        max_in_flight: 32_768,
                        max_connections: 4096,
                        max_queued_bytes: 32 << 20
                    },
                    timeouts: Timeouts {
                        connect: Duration::from_secs(2),
                        head: Duration::from_secs(15),
                        idle: Duration::from_secs(60),
                    },
                    memory: DEFAULT_MEMORY,
                    duration: None,
                    admin: None,
                    json: false,
                    verbose: 0,
                },
                tap: Tap { interfaces: Vec::new(), namespace: Namespace::Own, attach: Attach::Auto },
                shards: None,
                ring: None,
                priority: Priority::Normal,
            }
        );
    }

    #[test]
    fn every_flag_arrives_where_it_belongs() {
        let resolved = with(&[
            "--primary",
            ":9080",
            "--shadow",
            "https://New.Example",
            "--shadow",
            "http://[2001:db8::9]:81/",
            "--shadow-ca",
            "/etc/ca.pem",
            "--shadow-server-name",
            "reviews.example",
            "--percent",
            "12.5",
            "--sample-by",
            "connection",
            "--methods",
            "safe,POST",
            "--methods",
            "GET, PUT",
            "--path-prefix",
            "/api/",
            "--max-rps",
            "500",
            "--seed",
            "42",
            "--name",
            "reviews-v2",
            "--host-suffix",
            "-canary",
            "--marker",
            "x-copy",
            "--trace",
            "drop",
            "--client-ip-header",
            "x-forwarded-for",
            "--remove-header",
            "Cookie",
            "--set-header",
            "x-env:  shadow ",
            "--add-header",
            "via: a:b",
            "--connections",
            "shared",
            "--ordering",
            "none",
            "--max-in-flight",
            "10",
            "--max-connections",
            "20",
            "--max-queued-bytes",
            "4MiB",
            "--connect-timeout",
            "500ms",
            "--head-timeout",
            "1m",
            "--idle-timeout",
            "1m30s",
            "--interface",
            "eth0",
            "--interface",
            "lo",
            "--netns",
            "blue",
            "--attach",
            "clsact",
            "--shards",
            "3",
            "--memory",
            "1GiB",
            "--priority",
            "high",
            "--cpu-budget",
            "150%",
            "--duration",
            "20s",
            "--admin",
            "127.0.0.1:0",
            "--json",
            "-vv",
        ])
        .unwrap();
        assert_eq!(resolved.primary, Primary { ip: None, port: 9080 });
        let shadow = |at: usize| {
            let shadow: &ShadowTarget = &resolved.copies.shadows[at];
            (shadow.scheme, shadow.host.clone(), shadow.port, shadow.server_name.clone())
        };
        let name = Host::Name("new.example".into());
        assert_eq!(shadow(0), (Scheme::Https, name, 443, Some("reviews.example".into())));
        assert_eq!(shadow(1), (Scheme::Http, Host::Ip("2001:db8::9".parse().unwrap()), 81, None));
        assert_eq!(resolved.copies.shadow_ca, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(resolved.copies.name, "reviews-v2");
        assert_eq!(
            resolved.copies.plan,
            plan::Settings {
                job: "reviews-v2".into(),
                shadows: 2,
                percent: "12.5".parse().unwrap(),
                sample_by: SampleBy::Connection,
                seed: 42,
                methods: ["GET", "HEAD", "OPTIONS", "POST", "PUT"].map(str::to_owned).into(),
                path_prefix: Some("/api/".into()),
                max_rps: std::num::NonZeroU32::new(500),
                host_suffix: "-canary".into(),
                marker: Some("x-copy".into()),
                trace: Trace::Drop,
                client_ip_header: Some("x-forwarded-for".into()),
                remove: vec!["Cookie".into()],
                set: vec![("x-env".into(), "shadow".into())],
                add: vec![("via".into(), "a:b".into())],
            }
        );
        assert_eq!(
            (resolved.copies.connections, resolved.copies.ordering),
            (Connections::Shared, Ordering::None)
        );
        let limits = Limits { max_in_flight: 10, max_connections: 20, max_queued_bytes: 4 << 20 };
        assert_eq!(resolved.copies.limits, limits);
        assert_eq!(resolved.copies.timeouts.connect, Duration::from_millis(500));
        assert_eq!(resolved.copies.timeouts.head, Duration::from_secs(60));
        assert_eq!(resolved.copies.timeouts.idle, Duration::from_secs(90));
        assert_eq!(resolved.tap.interfaces, ["eth0", "lo"]);
        assert_eq!(resolved.tap.namespace, Namespace::Path("/run/netns/blue".into()));
        assert_eq!(resolved.tap.attach, Attach::Clsact);
        assert_eq!((resolved.shards, resolved.copies.memory), (Some(3), 1 << 30));
        assert_eq!(resolved.priority, Priority::High { cpu_budget: Some(150) });
        assert_eq!(resolved.copies.duration, Some(Duration::from_secs(20)));
        assert_eq!(resolved.copies.admin, Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!((resolved.copies.json, resolved.copies.verbose), (true, 2));
    }

    #[test]
    fn the_three_default_changes_can_be_switched_off() {
        let off = with(&["--host-suffix", "", "--marker", "", "--trace", "keep"]).unwrap();
        assert!(plan::Plan::new(&off.copies.plan).is_identity());
        assert!(!plan::Plan::new(&with(&[]).unwrap().copies.plan).is_identity());
    }

    #[test]
    fn a_primary_is_an_address_or_a_port() {
        let table = [
            ("10.0.0.5:8080", Some("10.0.0.5"), 8080),
            ("[2001:db8::1]:8080", Some("2001:db8::1"), 8080),
            ("[::ffff:10.0.0.5]:80", Some("10.0.0.5"), 80),
            (":8080", None, 8080),
            ("8080", None, 8080),
        ];
        for (typed, ip, port) in table {
            let ip = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(with(&["--primary", typed]).unwrap().primary, Primary { ip, port }, "{typed}");
        }
        for (typed, shown) in
            [("8080", ":8080"), ("[2001:db8::1]:1", "[2001:db8::1]:1"), ("1.2.3.4:5", "1.2.3.4:5")]
        {
            assert_eq!(with(&["--primary", typed]).unwrap().primary.to_string(), shown);
        }
    }

    #[test]
    fn a_primary_at_any_address_may_have_a_shadow_on_its_port() {
        assert!(with(&["--primary", ":8080", "--shadow", "http://127.0.0.1:8080"]).is_ok());
    }

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        for (typed, bytes) in [
            ("33554432", 32 << 20),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("512M", 512 << 20),
            ("1g", 1 << 30),
            ("40000K", 40_000 << 10),
            ("100MB", 100_000_000),
            ("67108864B", 64 << 20),
        ] {
            assert_eq!(with(&["--memory", typed]).unwrap().copies.memory, bytes, "{typed}");
        }
        for (typed, millis) in [("250ms", 250), ("20s", 20_000), ("1h30m", 5_400_000), ("1d", 86_400_000)] {
            let duration = with(&["--duration", typed]).unwrap().copies.duration;
            assert_eq!(duration, Some(Duration::from_millis(millis)), "{typed}");
        }
    }

    #[test]
    fn rings_take_a_quarter_of_the_memory_or_what_is_asked_for_within_it() {
        let ring =
            |more: &[&str], shards| with(more).unwrap().ring_bytes(shards).map_err(|error| error.to_string());
        assert_eq!(ring(&[], 1), Ok(32 << 20));
        assert_eq!(ring(&[], 3), Ok(8 << 20), "a power of two");
        assert_eq!(
            ring(&["--memory", "32MiB"], 8),
            Ok(256 << 10),
            "the program takes most of the least there is"
        );
        assert_eq!(ring(&["--memory", "64GiB"], 1), Ok(256 << 20));
        assert_eq!(ring(&["--ring", "64KiB"], 1), Ok(64 << 10));
        assert_eq!(ring(&["--ring", "8MiB"], 4), Ok(8 << 20));
        let over = ring(&["--ring", "8MiB"], 5).unwrap_err();
        assert_eq!(
            over,
            "--ring 8MiB: 5 rings of this size are more than the memory has room for; give at most 4MiB, or raise --memory"
        );
    }

    #[test]
    fn the_program_and_all_shares_together_are_within_the_memory() {
        for mebibytes in 32..2048 {
            let memory = mebibytes << 20;
            let shared = shared_memory(memory);
            assert!((20 << 20) + shared / 64 * 53 <= memory && shared > 0, "{mebibytes} MiB");
        }
        assert_eq!(shared_memory(DEFAULT_MEMORY), DEFAULT_MEMORY);
    }

    #[test]
    fn writes_are_repeated_above_100_percent_unless_they_are_left_out() {
        let repeats = |more: &[&str]| with(more).unwrap().copies.repeats_writes();
        assert!(repeats(&["--percent", "100.5"]) && repeats(&["--percent", "200", "--methods", "GET,POST"]));
        assert!(!repeats(&[]) && !repeats(&["--percent", "200", "--methods", "safe"]));
    }

    #[test]
    fn there_are_as_many_shards_as_asked_for_or_half_of_the_cores_within_the_memory() {
        let shards = |more: &[&str], cores| with(more).unwrap().shards_on(cores);
        assert_eq!([1, 2, 3, 8, 64, 128].map(|cores| shards(&[], cores)), [1, 1, 1, 4, 32, 32]);
        assert_eq!(shards(&["--memory", "32MiB"], 64), 8);
        assert_eq!(shards(&["--memory", "64GiB"], 1000), 64);
        assert_eq!(shards(&["--shards", "7"], 2), 7);
        assert_eq!(shards(&["--shards", "64", "--memory", "256MiB"], 2), 64);
    }

    #[test]
    fn queues_take_a_quarter_of_the_memory_split_over_the_shadows() {
        let two = ["--shadow", "http://a:1", "--shadow", "http://b:1", "--memory", "64MiB"];
        assert_eq!(with(&two).unwrap().copies.limits.max_queued_bytes, shared_memory(64 << 20) / 8);
    }

    #[test]
    fn the_https_name_is_the_host_unless_another_is_given() {
        let name = |typed: &str| with(&["--shadow", typed]).unwrap().copies.shadows[0].server_name.clone();
        assert_eq!(name("https://a.example").as_deref(), Some("a.example"));
        assert_eq!(name("https://10.0.0.9").as_deref(), Some("10.0.0.9"));
        assert_eq!(name("https://[2001:db8::9]:1").as_deref(), Some("2001:db8::9"));
    }

    #[test]
    fn a_namespace_is_named_by_path_name_or_process() {
        let namespace = |more: &[&str]| with(more).unwrap().tap.namespace;
        assert_eq!(namespace(&["--netns", "blue"]), Namespace::Path("/run/netns/blue".into()));
        assert_eq!(namespace(&["--netns", "/proc/7/ns/net"]), Namespace::Path("/proc/7/ns/net".into()));
        assert_eq!(namespace(&["--pid", "7"]), Namespace::Pid(7));
    }

    #[test]
    fn a_rate_of_zero_is_no_rate() {
        assert_eq!(with(&["--max-rps", "0"]).unwrap().copies.plan.max_rps, None);
    }

    #[test]
    fn the_clients_header_may_be_removed_first() {
        assert!(with(&["--client-ip-header", "x-real-ip", "--remove-header", "X-Real-IP"]).is_ok());
    }

    #[test]
    fn the_default_memory_is_the_one_in_the_help() {
        assert_eq!(with(&[]).unwrap().copies.memory, DEFAULT_MEMORY);
    }
}

mod bad_input {
    use super::*;

    #[test]
    fn primaries() {
        for (typed, message) in [
            (
                "10.0.0.5",
                "--primary 10.0.0.5: no port; write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080",
            ),
            (
                "",
                "--primary \"\": no port; write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080",
            ),
            (
                "10.0.0.5:",
                "--primary 10.0.0.5:: no port; write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080",
            ),
            (
                "2001:db8::1",
                "--primary 2001:db8::1: no port, or an IPv6 address without brackets; write [2001:db8::1]:8080",
            ),
            (
                "reviews:80",
                "--primary reviews:80: not an IP address before the port; write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080",
            ),
            (
                "http://10.0.0.5:80",
                "--primary http://10.0.0.5:80: a URL is not an address; write IP:PORT, [IPv6]:PORT, or :PORT for any address, e.g. 10.0.0.5:8080",
            ),
            (":0", "--primary :0: port out of range; give the port the service listens on, 1 to 65535"),
            ("70000", "--primary 70000: port out of range; give the port the service listens on, 1 to 65535"),
            (
                "0.0.0.0:80",
                "--primary 0.0.0.0:80: the unspecified address receives nothing; write :80 for any address",
            ),
        ] {
            refused(&["--primary", typed], message);
        }
    }

    #[test]
    fn shadows() {
        for (typed, message) in [
            (
                "10.0.0.9:80",
                "--shadow 10.0.0.9:80: no scheme; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http://",
                "--shadow http://: no host; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http:///reviews",
                "--shadow http:///reviews: no host; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http://:80",
                "--shadow http://:80: no host; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "ftp://a",
                "--shadow ftp://a: unsupported scheme; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http://a b",
                "--shadow \"http://a b\": white space in a URL; write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http://a:70000",
                "--shadow http://a:70000: port out of range; give the port the shadow listens on, 1 to 65535",
            ),
            (
                "http://a:0",
                "--shadow http://a:0: port out of range; give the port the shadow listens on, 1 to 65535",
            ),
            (
                "http://[::1",
                "--shadow http://[::1: not a URL (invalid IPv6 address); write http://HOST:PORT or https://HOST:PORT, e.g. http://10.0.0.9:8080",
            ),
            (
                "http://a/v2",
                "--shadow http://a/v2: a URL with a path, query or fragment; a copy keeps its own path and query; end the URL after the port",
            ),
            (
                "http://a?b",
                "--shadow http://a?b: a URL with a path, query or fragment; a copy keeps its own path and query; end the URL after the port",
            ),
            (
                "http://me:pw@a",
                "--shadow http://me:pw@a: a URL with user or password; credentials come with the requests; leave them out",
            ),
            (
                "http://0.0.0.0:80",
                "--shadow http://0.0.0.0:80: the unspecified address is no target; write 127.0.0.1 for this machine",
            ),
            (
                "http://10.0.0.5:8080/",
                "--shadow http://10.0.0.5:8080/: the shadow is the primary itself; a copy would be served by production; give the address of the new version",
            ),
            (
                "http://[::ffff:10.0.0.5]:8080",
                "--shadow http://[::ffff:10.0.0.5]:8080: the shadow is the primary itself; a copy would be served by production; give the address of the new version",
            ),
            (
                "https://a_.-b",
                "--shadow https://a_.-b: not a name that a certificate can bear; give a DNS name or an IP address with --shadow-server-name",
            ),
        ] {
            refused(&["--shadow", typed], message);
        }
        refused(
            &["--shadow", "http://a", "--shadow", "HTTP://A:80/"],
            "--shadow HTTP://A:80/: two shadows alike; give each shadow once; for more copies to one shadow use --percent 200",
        );
        let many: Vec<String> = (1..=9).map(|port| format!("http://a:{port}")).collect();
        let many: Vec<&str> = many.iter().flat_map(|url| ["--shadow", url]).collect();
        refused(&many, "--shadow http://a:9: 9 shadows, at most 8; start a second mirror for the others");
        refused(
            &["--shadow-ca", "/ca.pem"],
            "--shadow-ca /ca.pem: no shadow is https; write https:// in --shadow, or leave it out",
        );
        refused(
            &["--shadow-server-name", "a"],
            "--shadow-server-name a: no shadow is https; write https:// in --shadow, or leave it out",
        );
        refused(
            &["--shadow", "https://a", "--shadow-server-name", "a b"],
            "--shadow-server-name \"a b\": not a name that a certificate can bear; give a DNS name or an IP address with --shadow-server-name",
        );
    }

    #[test]
    fn percentages_and_rates() {
        for (typed, message) in [
            ("1000.1", "--percent 1000.1: out of range; give a number from 0 to 1000, e.g. 100 or 12.5"),
            ("-1", "--percent -1: out of range; give a number from 0 to 1000, e.g. 100 or 12.5"),
            (
                "99999999999999999999",
                "--percent 99999999999999999999: out of range; give a number from 0 to 1000, e.g. 100 or 12.5",
            ),
            (
                "18446744073710",
                "--percent 18446744073710: out of range; give a number from 0 to 1000, e.g. 100 or 12.5",
            ),
            ("half", "--percent half: not a decimal number; give a number from 0 to 1000, e.g. 100 or 12.5"),
            ("", "--percent \"\": not a decimal number; give a number from 0 to 1000, e.g. 100 or 12.5"),
            ("NaN", "--percent NaN: not a decimal number; give a number from 0 to 1000, e.g. 100 or 12.5"),
            ("1e2", "--percent 1e2: not a decimal number; give a number from 0 to 1000, e.g. 100 or 12.5"),
            ("1.", "--percent 1.: not a decimal number; give a number from 0 to 1000, e.g. 100 or 12.5"),
            (
                "0.0000001",
                "--percent 0.0000001: more than six digits after the point; give a number from 0 to 1000, e.g. 100 or 12.5",
            ),
        ] {
            refused(&["--percent", typed], message);
        }
        refused(
            &["--max-rps", "1000001"],
            "--max-rps 1000001: out of range; give 1 to 1000000, or 0 for no limit",
        );
    }

    #[test]
    fn rules() {
        for (more, message) in [
            (
                ["--methods", "GTE"],
                "--methods GTE: unknown method \"GTE\"; give registered methods separated by commas, e.g. GET,POST, or `safe`",
            ),
            (
                ["--methods", "GET,,POST"],
                "--methods GET,,POST: unknown method \"\"; give registered methods separated by commas, e.g. GET,POST, or `safe`",
            ),
            (
                ["--methods", "GET,post"],
                "--methods GET,post: unknown method \"post\"; methods are compared with case; write POST",
            ),
            (["--methods", "CONNECT"], "--methods CONNECT: CONNECT is never mirrored; leave it out"),
            (
                ["--path-prefix", "api"],
                "--path-prefix api: no path begins like this; begin with /, e.g. /api/",
            ),
            (["--path-prefix", ""], "--path-prefix \"\": no path begins like this; begin with /, e.g. /api/"),
            (
                ["--path-prefix", "/a?b"],
                "--path-prefix /a?b: the query is not looked at; end it before the ? or #",
            ),
            (
                ["--path-prefix", "/ü"],
                "--path-prefix /ü: bytes that no path holds; spell it as it stands in requests, with % escapes",
            ),
            (
                ["--host-suffix", "-a b"],
                "--host-suffix \"-a b\": not part of a host name; use letters, digits, -, . and _, at most 63, e.g. -shadow; \"\" for none",
            ),
            (
                ["--host-suffix", ":80"],
                "--host-suffix :80: not part of a host name; use letters, digits, -, . and _, at most 63, e.g. -shadow; \"\" for none",
            ),
            (
                ["--name", "Reviews v2"],
                "--name \"Reviews v2\": not a name for a job; use lower-case letters, digits, - and ., with a letter or digit at both ends",
            ),
            (
                ["--name", ""],
                "--name \"\": not a name for a job; use lower-case letters, digits, - and ., with a letter or digit at both ends",
            ),
        ] {
            refused(&more, message);
        }
    }

    #[test]
    fn headers() {
        for (more, message) in [
            (
                ["--set-header", "x-a: b\r\nevil: c"],
                "--set-header \"x-a: b\\r\\nevil: c\": a line break or NUL in a header would let in further headers, or a request; take it out",
            ),
            (
                ["--add-header", "x\n: b"],
                "--add-header \"x\\n: b\": a line break or NUL in a header would let in further headers, or a request; take it out",
            ),
            (["--set-header", "x-a"], "--set-header x-a: no colon; write NAME:VALUE, e.g. x-env:shadow"),
            (
                ["--set-header", ": b"],
                "--set-header \": b\": not a name for a header; use letters, digits and -, e.g. x-env",
            ),
            (
                ["--set-header", "x a: b"],
                "--set-header \"x a: b\": not a name for a header; use letters, digits and -, e.g. x-env",
            ),
            (
                ["--set-header", "x: \u{7}"],
                "--set-header \"x: \\u{7}\": a control character in the value; take it out",
            ),
            (
                ["--set-header", "Content-Length: 5"],
                "--set-header \"Content-Length: 5\": this header says where the request ends, and a copy ends where the original does; leave it out",
            ),
            (
                ["--add-header", "transfer-encoding:chunked"],
                "--add-header transfer-encoding:chunked: this header says where the request ends, and a copy ends where the original does; leave it out",
            ),
            (
                ["--remove-header", "content-length"],
                "--remove-header content-length: this header says where the request ends, and a copy ends where the original does; leave it out",
            ),
            (
                ["--remove-header", "Connection"],
                "--remove-header Connection: this header steers the connection to the shadow, which is the mirror's; leave it out",
            ),
            (
                ["--remove-header", "host"],
                "--remove-header host: an HTTP/1.1 request without Host is refused by servers; set it with --set-header, or leave it",
            ),
            (
                ["--add-header", "Host:a"],
                "--add-header Host:a: a request with two Host fields is refused by servers; set it with --set-header",
            ),
            (
                ["--set-header", "Host: a/b"],
                "--set-header \"Host: a/b\": not an authority; write Host: NAME or Host: NAME:PORT",
            ),
            (
                ["--set-header", "Host:"],
                "--set-header Host:: not an authority; write Host: NAME or Host: NAME:PORT",
            ),
            (
                ["--marker", "x y"],
                "--marker \"x y\": not a name for a header; use letters, digits and -, e.g. x-env",
            ),
            (["--marker", "host"], "--marker host: Host says whom the request is for; choose another name"),
            (
                ["--client-ip-header", ""],
                "--client-ip-header \"\": not a name for a header; use letters, digits and -, e.g. x-env",
            ),
        ] {
            refused(&more, message);
        }
        refused(
            &["--set-header", "a:1", "--set-header", "A:2"],
            "--set-header A:2: this header is set twice; give each name once; --add-header puts a second one beside it",
        );
        refused(
            &["--remove-header", "X-Mirror-Job"],
            "--marker x-mirror-job: another flag changes the marker header; choose another name for one of them",
        );
        refused(
            &["--client-ip-header", "X-Mirror-Job"],
            "--marker x-mirror-job: another flag changes the marker header; choose another name for one of them",
        );
        refused(
            &["--client-ip-header", "x-real-ip", "--set-header", "X-Real-Ip:1"],
            "--client-ip-header x-real-ip: another flag writes this header; choose another name for one of them",
        );
        let long = format!("x:{}", "y".repeat(8193));
        refused(&["--set-header", &long], "--set-header x: a value of 8193 bytes, at most 8192; shorten it");
        let many: Vec<String> = (0..65).map(|n| format!("x-{n}")).collect();
        let many: Vec<&str> = many.iter().flat_map(|name| ["--remove-header", name]).collect();
        refused(
            &many,
            "--remove-header, --set-header, --add-header: 65 header changes, at most 64; leave out those that matter least",
        );
    }

    #[test]
    fn the_tap() {
        for (more, message) in [
            (
                vec!["--netns", "blue", "--pid", "7"],
                "--netns blue: --pid 7 is given too; give the one that names the namespace you mean",
            ),
            (vec!["--netns", ""], "--netns \"\": empty; give a name that `ip netns` shows, or a path"),
            (vec!["--pid", "0"], "--pid 0: not the id of a process; give one that `ps` shows"),
            (vec!["--pid", "-7"], "--pid -7: not the id of a process; give one that `ps` shows"),
            (
                vec!["--interface", "eth0", "--interface", "eth0"],
                "--interface eth0: given twice; give each interface once",
            ),
            (
                vec!["--interface", ""],
                "--interface \"\": not the name of an interface; give a name that `ip link` shows",
            ),
            (
                vec!["--interface", "a/b"],
                "--interface a/b: not the name of an interface; give a name that `ip link` shows",
            ),
        ] {
            refused(&more, message);
        }
    }

    #[test]
    fn resources() {
        for (more, message) in [
            (vec!["--memory", "31MiB"], "--memory 31MiB: below the floor; give at least 32MiB"),
            (
                vec!["--memory", "lots"],
                "--memory lots: not a size; write a size such as 64MiB, 1GiB or 67108864",
            ),
            (
                vec!["--memory", "64MiBs"],
                "--memory 64MiBs: not a size; write a size such as 64MiB, 1GiB or 67108864",
            ),
            (
                vec!["--memory", "99999999999GiB"],
                "--memory 99999999999GiB: too large; write a size such as 64MiB, 1GiB or 67108864",
            ),
            (
                vec!["--ring", "32KiB"],
                "--ring 32KiB: not the size of a ring; give a power of two from 64KiB to 256MiB",
            ),
            (
                vec!["--ring", "3MiB"],
                "--ring 3MiB: not the size of a ring; give a power of two from 64KiB to 256MiB",
            ),
            (
                vec!["--ring", "8GiB"],
                "--ring 8GiB: not the size of a ring; give a power of two from 64KiB to 256MiB",
            ),
            (
                vec!["--ring", "64MiB"],
                "--ring 64MiB: a ring of this size is more than the memory has room for; give at most 32MiB, or raise --memory",
            ),
            (
                vec!["--ring", "16MiB", "--shards", "4"],
                "--ring 16MiB: 4 rings of this size are more than the memory has room for; give at most 8MiB, or raise --memory",
            ),
            (
                vec!["--shards", "33"],
                "--shards 33: more than the memory has room for; give at most 32, or raise --memory to 132MiB",
            ),
            (
                vec!["--shards", "0"],
                "--shards 0: out of range; give 1 to 64, or leave it out for one for every two cores",
            ),
            (
                vec!["--shards", "65"],
                "--shards 65: out of range; give 1 to 64, or leave it out for one for every two cores",
            ),
            (
                vec!["--cpu-budget", "50%"],
                "--cpu-budget 50%: there is no budget at normal priority; add --priority high, or leave it out: at normal priority the scheduler bounds the mirror",
            ),
            (
                vec!["--priority", "high", "--cpu-budget", "0"],
                "--cpu-budget 0: not a share of a core; give whole percent of one core, 1% to 6400%, e.g. 50% or 150%",
            ),
            (
                vec!["--priority", "high", "--cpu-budget", "half"],
                "--cpu-budget half: not a share of a core; give whole percent of one core, 1% to 6400%, e.g. 50% or 150%",
            ),
            (vec!["--max-in-flight", "0"], "--max-in-flight 0: nothing could be sent; give at least 1"),
            (vec!["--max-connections", "0"], "--max-connections 0: nothing could be sent; give at least 1"),
            (
                vec!["--max-queued-bytes", "1K"],
                "--max-queued-bytes 1K: too small for large requests; give at least 1MiB",
            ),
            (
                vec!["--max-queued-bytes", "65MiB"],
                "--max-queued-bytes 65MiB: more than the memory has room for, for all shadows together; give at most 64MiB, or raise --memory",
            ),
            (
                vec!["--duration", "20"],
                "--duration 20: no unit; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--duration", "0s"],
                "--duration 0s: no time at all; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--duration", ""],
                "--duration \"\": no time at all; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--duration", "soon"],
                "--duration soon: not a time; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--duration", "366d"],
                "--duration 366d: over a year; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--head-timeout", "5x"],
                "--head-timeout 5x: not a time; write a time with its unit, such as 500ms, 20s, 5m or 1h30m",
            ),
            (
                vec!["--admin", ":9900"],
                "--admin :9900: not an address and port; write IP:PORT, e.g. 127.0.0.1:9900, or 0.0.0.0:9900 for every address",
            ),
        ] {
            refused(&more, message);
        }
    }

    #[test]
    fn a_value_with_a_line_break_is_still_one_line() {
        refused(
            &["--name", "a\nb"],
            "--name \"a\\nb\": not a name for a job; use lower-case letters, digits, - and ., with a letter or digit at both ends",
        );
    }

    #[test]
    fn a_choice_that_clap_did_not_check_is_refused_too() {
        let error = choice::of("--trace", "loud", &Trace::ALL).unwrap_err().to_string();
        assert_eq!(error, "--trace loud: unknown value; choose one of keep, unsampled, drop");
    }
}
