mod streams;

use std::net::SocketAddr;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::{
    Decision, Filtered, Percent, Plan, SampleBy, SampledOut, Sampler, Settings, Trace, authority, path,
};
use crate::http::{BodyKind, Field, Leaves, RequestHead, Version};
use crate::packet::{FlowKey, Peer, Seq};

/// A job that changes nothing and takes everything.
fn plain() -> Settings {
    Settings {
        job: "reviews-v2".into(),
        shadows: 1,
        percent: Percent::HUNDRED,
        sample_by: SampleBy::Request,
        seed: 7,
        methods: Vec::new(),
        path_prefix: None,
        max_rps: None,
        host_suffix: String::new(),
        marker: None,
        trace: Trace::Keep,
        client_ip_header: None,
        remove: Vec::new(),
        set: Vec::new(),
        add: Vec::new(),
    }
}

/// The three changes that are on by default.
fn default_changes() -> Settings {
    Settings {
        host_suffix: "-shadow".into(),
        marker: Some("x-mirror-job".into()),
        trace: Trace::Unsampled,
        ..plain()
    }
}

/// A head with its ranges, found line by line: what the framer does, without its care for bad input.
struct Parsed<'a> {
    raw: &'a [u8],
    fields: Vec<Field>,
    fields_start: usize,
}

impl<'a> Parsed<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let mut lines: Vec<(usize, usize)> = Vec::new();
        let mut start = 0;
        while let Some(end) = raw[start..].iter().position(|byte| *byte == b'\n') {
            lines.push((start, start + end + 1));
            start += end + 1;
        }
        assert_eq!(start, raw.len(), "a head ends with a line end");
        let (_, fields_start) = lines.remove(0);
        let blank = lines.pop().unwrap();
        assert!(matches!(&raw[blank.0..], b"\r\n" | b"\n"));
        let mut fields: Vec<Field> = Vec::new();
        for (start, end) in lines {
            let white = |at: usize| b" \t\r\n".contains(&raw[at]);
            if white(start) {
                let last = fields.last_mut().unwrap();
                last.line.end = n(end);
                last.value.end = n((0..end).rev().find(|at| !white(*at)).unwrap() + 1);
                continue;
            }
            let colon = start + raw[start..end].iter().position(|byte| *byte == b':').unwrap();
            let first = (colon + 1..end).find(|at| !white(*at));
            let value = match first {
                Some(first) => first..(first..end).rev().find(|at| !white(*at)).unwrap() + 1,
                None => colon + 1..colon + 1,
            };
            fields.push(Field {
                line: n(start)..n(end),
                name: n(start)..n(colon),
                value: n(value.start)..n(value.end),
            });
        }
        Self { raw, fields, fields_start }
    }

    fn head(&self) -> RequestHead<'_> {
        let mut words = self.raw[..self.fields_start].split(|byte| b" \r\n".contains(byte));
        let method = words.next().unwrap();
        let target = words.next().unwrap();
        let mut head = RequestHead {
            raw: self.raw,
            method,
            target,
            fields_start: n(self.fields_start),
            version: Version::Http11,
            fields: &self.fields,
            body: BodyKind::None,
            expects_continue: false,
            closes: false,
            leaves: (method == b"CONNECT").then_some(Leaves::Connect),
            proxied: None,
            pos: 0,
            time: 0,
            pipelined: false,
        };
        if head.leaves.is_none() && head.values("upgrade").count() > 0 {
            head.leaves = Some(Leaves::Other);
        }
        head
    }
}

fn n(at: usize) -> u32 {
    u32::try_from(at).unwrap()
}

const CLIENT: &str = "192.0.2.7:40000";

fn rewritten_for(client: &str, settings: &Settings, raw: &str) -> String {
    let client: SocketAddr = client.parse().unwrap();
    let mut out = b"before".to_vec();
    Plan::new(settings).rewrite(&Parsed::new(raw.as_bytes()).head(), &client, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").expect("appended").to_owned()
}

fn rewritten(settings: &Settings, raw: &str) -> String {
    rewritten_for(CLIENT, settings, raw)
}

fn flow(client_port: u16) -> FlowKey {
    let peer = |text: &str| Peer::from(text.parse::<SocketAddr>().unwrap());
    let mut client = peer("10.0.0.2:1");
    client.port = client_port;
    FlowKey { client, primary: peer("10.0.0.5:8080") }
}

fn decided(settings: &Settings, raw: &str) -> Decision {
    let plan = Plan::new(settings);
    plan.decide(&Sampler::new(), &Parsed::new(raw.as_bytes()).head(), &flow(1), Seq(1), 0, 0)
}

mod authorities {
    use super::*;

    #[test]
    fn the_suffix_goes_before_the_last_colon_unless_a_bracket_follows() {
        let table = [
            ("cluster1", "cluster1-shadow"),
            ("cluster1:8000", "cluster1-shadow:8000"),
            ("cluster1:80", "cluster1-shadow:80"),
            ("sni.lyft.com", "sni.lyft.com-shadow"),
            ("10.0.0.7:8080", "10.0.0.7-shadow:8080"),
            ("[2001:db8::1]", "[2001:db8::1]-shadow"),
            ("[2001:db8::1]:8443", "[2001:db8::1]-shadow:8443"),
            ("2001:db8::1", "2001:db8:-shadow:1"),
            ("host:", "host-shadow:"),
            ("a-shadow:80", "a-shadow-shadow:80"),
            ("MiXed:80", "MiXed-shadow:80"),
            ("host:http", "host-shadow:http"),
        ];
        let settings = Settings { host_suffix: "-shadow".into(), ..plain() };
        for (from, to) in table {
            let raw = format!("GET / HTTP/1.1\r\nHost: {from}\r\n\r\n");
            assert_eq!(rewritten(&settings, &raw), format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        }
    }

    #[test]
    fn the_host_field_keeps_its_spelling_and_its_place() {
        let settings = Settings { host_suffix: "-shadow".into(), ..plain() };
        assert_eq!(
            rewritten(&settings, "GET / HTTP/1.1\r\na: b\r\nhOSt:\t x:1 \t\r\nHost:y\nc: d\r\n\r\n"),
            "GET / HTTP/1.1\r\na: b\r\nhOSt:\t x-shadow:1 \t\r\nHost:y-shadow\nc: d\r\n\r\n",
        );
    }

    #[test]
    fn an_empty_or_missing_host_stays_as_it_is() {
        let settings = Settings { host_suffix: "-shadow".into(), ..plain() };
        for raw in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\nx: y\r\n\r\n"] {
            assert_eq!(rewritten(&settings, raw), raw);
        }
    }

    #[test]
    fn an_absolute_target_and_host_get_the_suffix_alike() {
        let settings = Settings { host_suffix: "-shadow".into(), ..plain() };
        let table = [
            ("http://a.example/x?u=http://b:1/", "http://a.example-shadow/x?u=http://b:1/"),
            ("http://a.example:80", "http://a.example-shadow:80"),
            ("HTTP://a.example?q:1", "HTTP://a.example-shadow?q:1"),
            ("http://me:pw@a.example:81/", "http://me:pw@a.example-shadow:81/"),
            ("http://[2001:db8::1]/", "http://[2001:db8::1]-shadow/"),
            ("http://[2001:db8::1]:1/a:b]", "http://[2001:db8::1]-shadow:1/a:b]"),
            ("http:///x", "http:///x"),
            ("*", "*"),
            ("/http://x/", "/http://x/"),
            ("1http://x/", "1http://x/"),
        ];
        for (from, to) in table {
            let raw = format!("GET {from} HTTP/1.1\r\nHost: a:80\r\n\r\n");
            let want = format!("GET {to} HTTP/1.1\r\nHost: a-shadow:80\r\n\r\n");
            assert_eq!(rewritten(&settings, &raw), want);
        }
    }

    #[test]
    fn a_set_host_is_the_whole_authority_everywhere_and_takes_no_suffix() {
        let settings = Settings {
            host_suffix: "-shadow".into(),
            set: vec![("host".into(), "new.example:9".into())],
            ..plain()
        };
        assert_eq!(
            rewritten(&settings, "GET http://u@a:80/x HTTP/1.1\r\nHOST: a:80\r\nhost: b\r\n\r\n"),
            "GET http://u@new.example:9/x HTTP/1.1\r\nHOST: new.example:9\r\n\r\n",
        );
        assert_eq!(
            rewritten(&settings, "GET / HTTP/1.0\r\n\r\n"),
            "GET / HTTP/1.0\r\nhost: new.example:9\r\n\r\n",
        );
    }

    proptest! {
        #[test]
        fn the_suffix_position_agrees_with_the_rule_spelled_out(text in "[a-c:\\[\\]]{0,12}") {
            let naive = match text.rfind(':') {
                Some(colon) if !text[colon..].contains(']') => colon,
                _ => text.len(),
            };
            prop_assert_eq!(authority::suffix_position(text.as_bytes()), naive);
        }

        #[test]
        fn any_bytes_can_stand_as_a_target(target in prop::collection::vec(any::<u8>(), 0..40)) {
            let path = path::of(&target);
            prop_assert!(!path.is_empty());
            if let Some(range) = authority::of_absolute_form(&target) {
                prop_assert!(range.start <= range.end && range.end <= target.len());
            }
        }
    }
}

mod traces {
    use super::*;

    fn with(trace: Trace, line: &str) -> String {
        let settings = Settings { trace, ..plain() };
        let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}x: y\r\n\r\n");
        let copy = rewritten(&settings, &raw);
        let copy = copy.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        copy.strip_suffix("x: y\r\n\r\n").unwrap().to_owned()
    }

    const IDS: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    #[test]
    fn the_sampled_flag_is_cleared_and_nothing_else() {
        let table = [
            (format!("traceparent: 00-{IDS}-01"), format!("traceparent: 00-{IDS}-00")),
            (format!("TraceParent:00-{IDS}-03 "), format!("TraceParent:00-{IDS}-02 ")),
            (format!("traceparent: 00-{IDS}-ff"), format!("traceparent: 00-{IDS}-fe")),
            (format!("traceparent: 00-{IDS}-0B"), format!("traceparent: 00-{IDS}-0A")),
            (format!("traceparent: cc-{IDS}-09-more"), format!("traceparent: cc-{IDS}-08-more")),
            (format!("b3: {IDS}-1"), format!("b3: {IDS}-0")),
            (format!("B3: {IDS}-d-05e3ac9a4f6e3b90"), format!("B3: {IDS}-0-05e3ac9a4f6e3b90")),
            ("b3: 1".into(), "b3: 0".into()),
            ("b3: d".into(), "b3: 0".into()),
            ("X-B3-Sampled: 1".into(), "X-B3-Sampled: 0".into()),
            ("x-b3-sampled: true".into(), "x-b3-sampled: 0".into()),
            ("x-b3-flags: 1".into(), "x-b3-flags: 0".into()),
        ];
        for (from, to) in table {
            assert_eq!(with(Trace::Unsampled, &format!("{from}\r\n")), format!("{to}\r\n"));
            assert_eq!(with(Trace::Keep, &format!("{from}\r\n")), format!("{from}\r\n"));
        }
    }

    #[test]
    fn what_is_not_sampled_or_not_well_formed_is_left_alone() {
        for line in [
            format!("traceparent: 00-{IDS}-00"),
            format!("traceparent: 00-{IDS}-0"),
            format!("traceparent: 00-{IDS}-011"),
            format!("traceparent: 00-{IDS}_01"),
            format!("traceparent: 00-{IDS}-0z"),
            "traceparent:".into(),
            format!("b3: {IDS}"),
            format!("b3: {IDS}-0-1111111111111111"),
            "b3: 0".into(),
            "b3:".into(),
            "b3: -".into(),
            "x-b3-sampled: 0".into(),
            "x-b3-flags: 0".into(),
            "tracestate: a=1".into(),
            "x-b3-traceid: 1".into(),
        ] {
            let line = format!("{line}\r\n");
            assert_eq!(with(Trace::Unsampled, &line), line);
        }
    }

    #[test]
    fn drop_removes_every_trace_field_with_its_folds() {
        let lines =
            "traceparent: x\r\nTraceState: a\r\n b\r\nb3: 1\r\nX-B3-TraceId: 1\r\nx-b3-anything: 2\r\n";
        assert_eq!(with(Trace::Drop, lines), "");
        assert_eq!(with(Trace::Drop, "x-b30: 1\r\n"), "x-b30: 1\r\n");
    }
}

mod changes {
    use super::*;

    #[test]
    fn by_default_a_copy_differs_in_host_marker_and_trace_flag_only() {
        let raw = "POST /a?b HTTP/1.1\r\nhost: reviews:9080\r\nContent-Length:  3\r\n\
                   traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Odd:\ta \r\n\r\n";
        let want = "POST /a?b HTTP/1.1\r\nhost: reviews-shadow:9080\r\nContent-Length:  3\r\n\
                    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\nX-Odd:\ta \r\n\
                    x-mirror-job: reviews-v2\r\n\r\n";
        assert_eq!(rewritten(&default_changes(), raw), want);
    }

    #[test]
    fn new_lines_end_as_the_lines_of_the_head_do() {
        let settings = Settings { marker: Some("m".into()), ..plain() };
        for (raw, want) in [
            ("GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\nHost: a\nm: reviews-v2\n\n"),
            ("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nm: reviews-v2\r\n\r\n"),
            ("GET / HTTP/1.1\n\r\n", "GET / HTTP/1.1\nm: reviews-v2\n\r\n"),
        ] {
            assert_eq!(rewritten(&settings, raw), want);
        }
    }

    #[test]
    fn removes_come_first_then_sets_then_adds_and_the_marker_is_last() {
        let settings = Settings {
            remove: vec!["cookie".into(), "a".into()],
            set: vec![("A".into(), "1".into()), ("b".into(), "2".into()), ("c".into(), "3".into())],
            add: vec![("d".into(), "4".into()), ("B".into(), "5".into()), ("d".into(), "6".into())],
            marker: Some("m".into()),
            ..plain()
        };
        assert_eq!(
            rewritten(
                &settings,
                "GET / HTTP/1.1\r\nCookie: x\r\n y\r\na: old\r\nB:  old \r\nq: r\r\nb: older\r\nCOOKIE: z\r\n\r\n"
            ),
            "GET / HTTP/1.1\r\nB:  2 \r\nq: r\r\nA: 1\r\nc: 3\r\nd: 4\r\nB: 5\r\nd: 6\r\nm: reviews-v2\r\n\r\n",
        );
    }

    #[test]
    fn of_two_sets_of_a_name_the_last_one_stands() {
        let settings = Settings { set: vec![("a".into(), "1".into()), ("A".into(), "2".into())], ..plain() };
        assert_eq!(rewritten(&settings, "GET / HTTP/1.1\r\n\r\n"), "GET / HTTP/1.1\r\nA: 2\r\n\r\n");
        assert_eq!(rewritten(&settings, "GET / HTTP/1.1\r\na: 9\r\n\r\n"), "GET / HTTP/1.1\r\na: 2\r\n\r\n");
    }

    #[test]
    fn the_clients_address_goes_behind_the_last_field_of_the_name() {
        let settings = Settings { client_ip_header: Some("X-Forwarded-For".into()), ..plain() };
        let table = [
            ("", "X-Forwarded-For: 192.0.2.7\r\n"),
            ("x-forwarded-for: 1.1.1.1 \r\n", "x-forwarded-for: 1.1.1.1, 192.0.2.7 \r\n"),
            (
                "x-forwarded-for: 1.1.1.1\r\na: b\r\nX-FORWARDED-FOR:2.2.2.2\r\nc: d\r\n",
                "x-forwarded-for: 1.1.1.1\r\na: b\r\nX-FORWARDED-FOR:2.2.2.2, 192.0.2.7\r\nc: d\r\n",
            ),
            ("x-forwarded-for:\r\n", "x-forwarded-for:192.0.2.7\r\n"),
        ];
        for (from, to) in table {
            let raw = format!("GET / HTTP/1.1\r\n{from}\r\n");
            assert_eq!(rewritten(&settings, &raw), format!("GET / HTTP/1.1\r\n{to}\r\n"));
        }
        assert_eq!(
            rewritten_for("[2001:db8::7]:1", &settings, "GET / HTTP/1.1\r\n\r\n"),
            "GET / HTTP/1.1\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n",
        );
    }

    #[test]
    fn a_removed_client_address_field_comes_back_with_the_peer_alone() {
        let settings = Settings {
            client_ip_header: Some("x-real-ip".into()),
            remove: vec!["X-Real-IP".into()],
            ..plain()
        };
        assert_eq!(
            rewritten(&settings, "GET / HTTP/1.1\r\nX-Real-Ip: 6.6.6.6\r\n\r\n"),
            "GET / HTTP/1.1\r\nx-real-ip: 192.0.2.7\r\n\r\n",
        );
    }

    #[test]
    fn forwarded_gets_a_node_of_its_own_syntax() {
        let settings = Settings { client_ip_header: Some("forwarded".into()), ..plain() };
        let raw = "GET / HTTP/1.1\r\nForwarded: for=1.1.1.1;proto=https\r\n\r\n";
        assert_eq!(
            rewritten(&settings, raw),
            "GET / HTTP/1.1\r\nForwarded: for=1.1.1.1;proto=https, for=192.0.2.7\r\n\r\n",
        );
        assert_eq!(
            rewritten_for("[2001:db8::7]:1", &settings, "GET / HTTP/1.1\r\n\r\n"),
            "GET / HTTP/1.1\r\nforwarded: for=\"[2001:db8::7]\"\r\n\r\n",
        );
    }

    #[test]
    fn a_name_as_long_as_any_is_found() {
        let name = "x".repeat(200);
        let settings = Settings { remove: vec![name.clone()], ..plain() };
        let raw = format!("GET / HTTP/1.1\r\n{name}: 1\r\n{name}y: 2\r\n\r\n");
        assert_eq!(rewritten(&settings, &raw), format!("GET / HTTP/1.1\r\n{name}y: 2\r\n\r\n"));
    }

    #[test]
    fn only_with_every_change_off_is_the_plan_the_identity() {
        assert!(Plan::new(&plain()).is_identity());
        let off = |change: fn(&mut Settings)| {
            let mut settings = plain();
            change(&mut settings);
            assert!(!Plan::new(&settings).is_identity());
        };
        off(|settings| settings.host_suffix = "-s".into());
        off(|settings| settings.marker = Some("m".into()));
        off(|settings| settings.trace = Trace::Unsampled);
        off(|settings| settings.trace = Trace::Drop);
        off(|settings| settings.client_ip_header = Some("c".into()));
        off(|settings| settings.remove = vec!["r".into()]);
        off(|settings| settings.set = vec![("s".into(), "1".into())]);
        off(|settings| settings.add = vec![("a".into(), "1".into())]);
    }

    /// Heads with the names that matter among others, odd spelling, folds, and either line end.
    fn any_head() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            Just("Host".to_owned()),
            Just("hOST".to_owned()),
            Just("b3".to_owned()),
            Just("x-b3-flags".to_owned()),
            Just("traceparent".to_owned()),
            "[a-zA-Z][a-zA-Z0-9-]{0,12}",
        ];
        let value = "[ \t]{0,2}([a-z0-9:.-]{1,10}( [a-z0-9]{1,5})?)?[ \t]{0,2}";
        let target =
            prop_oneof!["/[a-z:?@]{0,9}", "http://[a-z:.@]{1,9}(/[a-z:]{0,5})?", Just("*".to_owned())];
        let eol = prop_oneof![Just("\r\n"), Just("\n")];
        let line = (name, value, eol.clone(), any::<bool>()).prop_map(|(name, value, eol, fold)| {
            let fold = if fold && !value.trim().is_empty() { format!("{eol} more") } else { String::new() };
            format!("{name}:{value}{fold}{eol}")
        });
        (target, prop::collection::vec(line, 0..12), eol)
            .prop_map(|(target, lines, eol)| format!("GET {target} HTTP/1.1{eol}{}{eol}", lines.concat()))
    }

    /// One field line: up to the value, the value, behind it.
    type Line = (String, String, String);

    fn is(line: &Line, name: &str) -> bool {
        line.0.split(':').next().unwrap().eq_ignore_ascii_case(name)
    }

    /// The changes as the documentation words them, one after the other over a list of lines. Trace fields aside.
    fn naive(settings: &Settings, raw: &str) -> String {
        let parsed = Parsed::new(raw.as_bytes());
        let cut = |from: u32, to: u32| raw[from as usize..to as usize].to_owned();
        let mut lines: Vec<Line> = (parsed.fields.iter())
            .map(|f| {
                (
                    cut(f.line.start, f.value.start),
                    cut(f.value.start, f.value.end),
                    cut(f.value.end, f.line.end),
                )
            })
            .collect();
        let end = parsed.fields.last().map_or(parsed.fields_start, |field| field.line.end as usize);
        let eol = if raw[..end].ends_with("\r\n") { "\r\n" } else { "\n" };
        let new = |name: &str, value: &str| (format!("{name}: "), value.to_owned(), eol.to_owned());
        let mut fresh = Vec::new();

        lines.retain(|line| !settings.remove.iter().any(|name| is(line, name)));
        let host_is_set = settings.set.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !host_is_set {
            for line in lines.iter_mut().filter(|line| is(line, "host") && !line.1.is_empty()) {
                let colon = line.1.rfind(':').filter(|colon| !line.1[*colon..].contains(']'));
                line.1.insert_str(colon.unwrap_or(line.1.len()), &settings.host_suffix);
            }
        }
        for (name, value) in &settings.set {
            match lines.iter().position(|line| is(line, name)) {
                Some(first) => {
                    lines[first].1.clone_from(value);
                    let mut index = 0;
                    lines.retain(|line| {
                        index += 1;
                        index <= first + 1 || !is(line, name)
                    });
                }
                None => fresh.push(new(name, value)),
            }
        }
        if let Some(name) = &settings.client_ip_header {
            match lines.iter().rposition(|line| is(line, name)) {
                Some(last) if lines[last].1.is_empty() => lines[last].1 = "192.0.2.7".into(),
                Some(last) => lines[last].1.push_str(", 192.0.2.7"),
                None => fresh.push(new(name, "192.0.2.7")),
            }
        }
        fresh.extend(settings.add.iter().map(|(name, value)| new(name, value)));
        fresh.extend(settings.marker.iter().map(|name| new(name, &settings.job)));
        let lines = lines.into_iter().chain(fresh).map(|(head, value, tail)| head + &value + &tail);
        raw[..parsed.fields_start].to_owned() + &lines.collect::<String>() + &raw[end..]
    }

    fn any_changes() -> impl Strategy<Value = Settings> {
        let name = || prop_oneof![Just("a"), Just("B"), Just("c"), Just("long-name"), Just("traceparent")];
        let written =
            || (name(), "[a-z ]{0,5}").prop_map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let set =
            prop::collection::btree_map(prop_oneof![name(), Just("host")], "[a-z]{1,5}(:[0-9]{1,2})?", 0..3);
        (
            prop_oneof![Just(""), Just("-shadow")],
            prop::option::of(Just("x-forwarded-for".to_owned())),
            prop::collection::vec(prop_oneof![name(), Just("X-Forwarded-For")], 0..3),
            set,
            prop::collection::vec(written(), 0..3),
            prop::option::of(Just("x-marker".to_owned())),
        )
            .prop_map(|(host_suffix, client_ip_header, remove, set, add, marker)| Settings {
                host_suffix: host_suffix.into(),
                client_ip_header,
                remove: remove.into_iter().map(str::to_owned).collect(),
                set: set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                add,
                marker,
                ..plain()
            })
    }

    /// Few names, so that changes meet fields, and each of them more than once.
    fn crowded_head() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            Just("Host"),
            Just("A"),
            Just("b"),
            Just("C"),
            Just("Long-Name"),
            Just("x-Forwarded-For"),
            Just("Traceparent")
        ];
        let eol = prop_oneof![Just("\r\n"), Just("\n")];
        let line = (name, "[ \t]{0,2}([a-z:\\]]{1,6})?[ \t]{0,2}", eol.clone());
        let line = line.prop_map(|(name, value, eol)| format!("{name}:{value}{eol}"));
        (prop::collection::vec(line, 0..8), eol.clone(), eol)
            .prop_map(|(lines, first, last)| format!("GET / HTTP/1.1{first}{}{last}", lines.concat()))
    }

    proptest! {
        #[test]
        fn the_one_pass_agrees_with_the_changes_made_one_after_the_other(
            settings in any_changes(),
            raw in crowded_head(),
        ) {
            prop_assert_eq!(rewritten(&settings, &raw), naive(&settings, &raw));
        }

        #[test]
        fn with_every_change_off_the_copy_is_identical(raw in any_head()) {
            prop_assert_eq!(rewritten(&plain(), &raw), raw);
        }

        #[test]
        fn a_change_that_finds_nothing_leaves_the_copy_identical(raw in any_head()) {
            // Not the identity, so the whole pass runs.
            let settings = Settings { remove: vec!["not-there-1".into()], ..plain() };
            prop_assert!(!Plan::new(&settings).is_identity());
            prop_assert_eq!(rewritten(&settings, &raw), raw);
        }

        #[test]
        fn taking_the_known_changes_out_gives_the_original_back(raw in any_head()) {
            // A suffix and marker that no generated head holds.
            let settings = Settings {
                host_suffix: "_MIRROR_".into(),
                marker: Some("x_marker".into()),
                ..plain()
            };
            let copy = rewritten(&settings, &raw);
            let line = copy.lines().find(|line| line.starts_with("x_marker")).unwrap().to_owned();
            prop_assert_eq!(&line, "x_marker: reviews-v2");
            let without = copy.replace("_MIRROR_", "");
            let without = without.replace("x_marker: reviews-v2\r\n", "").replace("x_marker: reviews-v2\n", "");
            prop_assert_eq!(&without, &raw);
            let hosts = raw.lines().skip(1).filter_map(|line| line.split_once(':'))
                .filter(|(name, value)| name.eq_ignore_ascii_case("host") && !value.trim().is_empty()).count();
            let target = raw.split(' ').nth(1).unwrap();
            let in_target = authority::of_absolute_form(target.as_bytes()).is_some_and(|at| !at.is_empty());
            prop_assert_eq!(copy.matches("_MIRROR_").count(), hosts + usize::from(in_target));
        }

        #[test]
        fn clearing_flags_never_changes_the_length(raw in any_head()) {
            let settings = Settings { trace: Trace::Unsampled, ..plain() };
            prop_assert_eq!(rewritten(&settings, &raw).len(), raw.len());
        }
    }
}

mod rules {
    use super::*;

    const SELECTED: Decision = Decision::Selected { copies: 1 };

    #[test]
    fn methods_are_compared_with_case() {
        let settings = Settings { methods: vec!["GET".into(), "HEAD".into()], ..plain() };
        for (method, want) in [
            ("GET", SELECTED),
            ("HEAD", SELECTED),
            ("get", Decision::Filtered(Filtered::Method)),
            ("POST", Decision::Filtered(Filtered::Method)),
        ] {
            assert_eq!(decided(&settings, &format!("{method} / HTTP/1.1\r\n\r\n")), want, "{method}");
        }
    }

    #[test]
    fn the_path_prefix_looks_at_the_path_as_spelled() {
        let settings = Settings { path_prefix: Some("/api".into()), ..plain() };
        let out = Decision::Filtered(Filtered::Path);
        for (target, want) in [
            ("/api", SELECTED),
            ("/api/x?y", SELECTED),
            ("/apis", SELECTED),
            ("http://h:1/api", SELECTED),
            ("http://u@h/api?x", SELECTED),
            ("/ap", out),
            ("/API", out),
            ("/%61pi", out),
            ("/x?/api", out),
            ("http://h?/api", out),
            ("http://h/", out),
            ("*", out),
        ] {
            assert_eq!(decided(&settings, &format!("GET {target} HTTP/1.1\r\n\r\n")), want, "{target}");
        }
        let root = Settings { path_prefix: Some("/".into()), ..plain() };
        assert_eq!(decided(&root, "GET http://h?x HTTP/1.1\r\n\r\n"), SELECTED);
    }

    #[test]
    fn a_request_that_bears_the_marker_is_a_copy_already() {
        let raw = "GET / HTTP/1.1\r\nX-MIRROR-JOB: another\r\n\r\n";
        assert_eq!(decided(&default_changes(), raw), Decision::Filtered(Filtered::Marker));
        assert_eq!(decided(&plain(), raw), SELECTED);
        // What one mirror sends, a second one of any name refuses.
        let copy = rewritten(&default_changes(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(decided(&default_changes(), &copy), Decision::Filtered(Filtered::Marker));
    }

    #[test]
    fn what_leaves_http_is_not_mirrored() {
        let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(decided(&plain(), connect), Decision::Filtered(Filtered::Connect));
        let upgrade = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: tls/1.0\r\n\r\n";
        assert_eq!(decided(&plain(), upgrade), Decision::Filtered(Filtered::Upgrade));
    }

    #[test]
    fn what_a_rule_leaves_out_spends_nothing_of_the_rate() {
        let settings = Settings { methods: vec!["GET".into()], max_rps: NonZeroU32::new(1), ..plain() };
        let plan = Plan::new(&settings);
        let sampler = Sampler::new();
        let post = Parsed::new(b"POST / HTTP/1.1\r\n\r\n");
        let get = Parsed::new(b"GET / HTTP/1.1\r\n\r\n");
        let at = |parsed: &Parsed<'_>| plan.decide(&sampler, &parsed.head(), &flow(1), Seq(1), 0, 5);
        assert_eq!(at(&post), Decision::Filtered(Filtered::Method));
        assert_eq!(at(&get), SELECTED);
        assert_eq!(at(&get), Decision::SampledOut(SampledOut::Rate));
    }
}

mod sampling {
    use super::*;

    fn copies(plan: &Plan, flow: &FlowKey, origin: u32, ordinal: u64) -> u8 {
        let parsed = Parsed::new(b"GET / HTTP/1.1\r\n\r\n");
        match plan.decide(&Sampler::new(), &parsed.head(), flow, Seq(origin), ordinal, 0) {
            Decision::Selected { copies } => copies,
            Decision::SampledOut(SampledOut::Percent) => 0,
            other => panic!("{other:?}"),
        }
    }

    fn settings(percent: &str, sample_by: SampleBy) -> Settings {
        Settings { percent: percent.parse().unwrap(), sample_by, ..plain() }
    }

    #[test]
    fn the_share_of_copies_is_within_three_sigma_of_the_percentage() {
        const REQUESTS: u32 = 20_000;
        for percent in ["0", "0.5", "10", "50", "99.9", "100", "200", "250", "1000"] {
            let plan = Plan::new(&settings(percent, SampleBy::Request));
            let (mut total, mut seen) = (0, std::collections::BTreeSet::new());
            for request in 0..REQUESTS {
                let got = copies(&plan, &flow(u16::try_from(request / 100).unwrap()), 9, u64::from(request));
                total += u32::from(got);
                seen.insert(got);
            }
            let share = percent.parse::<f64>().unwrap() / 100.0;
            let chance = share.fract();
            let sigma = (f64::from(REQUESTS) * chance * (1.0 - chance)).sqrt();
            let error = (f64::from(total) - share * f64::from(REQUESTS)).abs();
            assert!(error <= 3.0 * sigma, "{percent}: {total} copies, {error} off, sigma {sigma}");
            // Whole hundreds are certain, and only the rest is chance.
            assert_eq!(seen.len(), if chance == 0.0 { 1 } else { 2 }, "{percent}: {seen:?}");
        }
    }

    #[test]
    fn requests_that_alternate_are_both_sampled_at_a_half() {
        let plan = Plan::new(&settings("50", SampleBy::Request));
        let mut kinds = [0; 2];
        for ordinal in 0..1000 {
            kinds[(ordinal % 2) as usize] += i32::from(copies(&plan, &flow(4), 77, ordinal));
        }
        // 500 throws each, sigma 11.2.
        assert!(kinds.iter().all(|count| (count - 250).abs() < 34), "{kinds:?}");
    }

    #[test]
    fn by_connection_all_requests_of_a_connection_share_their_fate() {
        let plan = Plan::new(&settings("250", SampleBy::Connection));
        let mut threes = 0;
        for port in 0..1000 {
            let first = copies(&plan, &flow(port), 5, 0);
            assert!((1..50).all(|ordinal| copies(&plan, &flow(port), 5, ordinal) == first));
            threes += i32::from(first == 3);
        }
        // 1000 throws, sigma 15.8.
        assert!((threes - 500).abs() < 48, "{threes}");
        // A port that is used again is another connection: its origin tells.
        let fates: Vec<_> = (0..64).map(|origin| copies(&plan, &flow(1), origin, 0)).collect();
        assert!(fates.contains(&2) && fates.contains(&3));
    }

    #[test]
    fn a_seed_fixes_the_choice_and_seeds_and_jobs_differ() {
        let choice = |seed: u64, job: &str| -> Vec<u8> {
            let plan = Plan::new(&Settings { seed, job: job.into(), ..settings("50", SampleBy::Request) });
            (0..256).map(|ordinal| copies(&plan, &flow(3), 1, ordinal)).collect()
        };
        assert_eq!(choice(1, "a"), choice(1, "a"));
        assert_ne!(choice(1, "a"), choice(2, "a"));
        assert_ne!(choice(1, "a"), choice(1, "b"));
    }

    #[test]
    fn raising_the_percentage_only_adds_requests() {
        let choice = |percent: &str| -> Vec<u8> {
            let plan = Plan::new(&settings(percent, SampleBy::Request));
            (0..500).map(|ordinal| copies(&plan, &flow(3), 1, ordinal)).collect()
        };
        assert!(choice("20").iter().zip(choice("35")).all(|(low, high)| *low <= high));
    }

    #[test]
    fn percentages_are_read_exactly() {
        for text in ["0", "100", "12.5", "0.000001", "999.999999", "1000"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
        assert_eq!("50%".parse::<Percent>(), "50.0000000".parse());
        assert_eq!("50".parse::<Percent>().unwrap().threshold(), 1 << 63);
        assert_eq!(("99.999999".parse::<Percent>().unwrap().certain()), 0);
        assert!("0.000001".parse::<Percent>().unwrap().threshold() > 0);
    }

    #[test]
    fn the_rate_holds_over_all_shards_and_fills_again() {
        let plan = Plan::new(&Settings { max_rps: NonZeroU32::new(100), ..plain() });
        let shards = Sampler::new();
        let shards = [shards.clone(), shards];
        let parsed = Parsed::new(b"GET / HTTP/1.1\r\n\r\n");
        let mut selected = 0;
        // 10 s at 2000 a second, alternating over two shards whose clocks differ by a little.
        for request in 0..20_000_u64 {
            let shard = (request % 2) as usize;
            let now = 1_000_000_000 + request * 500_000 - (shard as u64) * 3_000;
            match plan.decide(&shards[shard], &parsed.head(), &flow(1), Seq(1), request, now) {
                Decision::Selected { copies: 1 } => selected += 1,
                Decision::SampledOut(SampledOut::Rate) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!((1000..=1010).contains(&selected), "{selected}");
    }

    #[test]
    fn a_rate_below_the_offer_of_one_shard_takes_nothing_away() {
        let plan = Plan::new(&Settings { max_rps: NonZeroU32::new(1000), ..plain() });
        let sampler = Sampler::new();
        let parsed = Parsed::new(b"GET / HTTP/1.1\r\n\r\n");
        for request in 0..5000 {
            let now = request * 1_100_000;
            let decision = plan.decide(&sampler, &parsed.head(), &flow(1), Seq(1), request, now);
            assert_eq!(decision, Decision::Selected { copies: 1 });
        }
    }
}
