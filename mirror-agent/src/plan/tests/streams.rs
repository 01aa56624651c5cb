//! Heads of HTTP/2 streams.

use proptest::prelude::*;

use super::{
    CLIENT, Decision, Filtered, Parsed, Plan, Sampler, Settings, Trace, decided, default_changes, flow, plain,
};
use crate::http::{HeaderField, Leaves, Pseudo, PseudoFields, StreamHead};
use crate::packet::Seq;
use crate::plan::fields;

fn field<'a>(name: &'a str, value: &'a str) -> HeaderField<'a> {
    HeaderField { name: name.as_bytes(), value: value.as_bytes(), never_indexed: name == "secret" }
}

fn head<'a>(authority: Option<&'a str>, fields: &'a [HeaderField<'a>]) -> StreamHead<'a> {
    StreamHead {
        stream: 1,
        method: b"GET",
        scheme: Some(b"http"),
        authority: authority.map(str::as_bytes),
        path: Some(b"/a?b"),
        protocol: None,
        never_indexed: PseudoFields::default(),
        fields,
        content_length: None,
        end_stream: true,
        proxied: None,
        pos: 0,
        time: 0,
    }
}

/// The copy's fields, a line each; those never indexed end with `!`.
fn rewritten(settings: &Settings, head: &StreamHead<'_>) -> Vec<String> {
    let mut out = Vec::new();
    Plan::new(settings).rewrite_stream(head, &CLIENT.parse().unwrap(), &mut out);
    let text = |range: std::ops::Range<usize>| String::from_utf8(out[range].to_vec()).unwrap();
    fields(&out)
        .map(|at| {
            let flag = if at.never_indexed { "!" } else { "" };
            format!("{}: {}{flag}", text(at.name), text(at.value))
        })
        .collect()
}

const LINE: [&str; 4] = [":method: GET", ":scheme: http", ":authority: a:80", ":path: /a?b"];

fn with(line: &[&str], rest: &[&str]) -> Vec<String> {
    line.iter().chain(rest).map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_job_without_changes_leaves_every_field_in_its_place() {
    let all =
        [field("b", "1"), field("cookie", "x"), field("cookie", "y"), field("secret", "s"), field("a", "")];
    let copy = rewritten(&plain(), &head(Some("a:80"), &all));
    assert_eq!(copy, with(&LINE, &["b: 1", "cookie: x", "cookie: y", "secret: s!", "a: "]));
}

#[test]
fn what_the_client_has_never_indexed_is_never_indexed_in_the_copy() {
    const LINE: [(Pseudo, &str); 4] = [
        (Pseudo::Method, ":method: GET"),
        (Pseudo::Scheme, ":scheme: http"),
        (Pseudo::Authority, ":authority: a-shadow:80"),
        (Pseudo::Path, ":path: /a?b"),
    ];
    for secret in [Pseudo::Method, Pseudo::Scheme, Pseudo::Authority, Pseudo::Path] {
        let never_indexed = PseudoFields::default().with(secret);
        let copy = rewritten(&default_changes(), &StreamHead { never_indexed, ..head(Some("a:80"), &[]) });
        let line =
            LINE.map(|(field, text)| if field == secret { format!("{text}!") } else { text.to_owned() });
        assert_eq!(copy[..4], line);
    }
}

#[test]
fn what_a_client_says_of_its_connection_is_left_out() {
    let all = [field("connection", "close"), field("te", "gzip"), field("a", "1"), field("te", "trailers")];
    assert_eq!(rewritten(&plain(), &head(Some("a:80"), &all)), with(&LINE, &["a: 1", "te: trailers"]));
    assert_eq!(rewritten(&default_changes(), &head(Some("a"), &all))[4..6], ["a: 1", "te: trailers"]);
}

#[test]
fn the_suffix_goes_to_the_authority_and_to_a_host_field() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let all = [field("host", "[::1]:8443"), field("traceparent", parent)];
    let copy = rewritten(&default_changes(), &head(Some("a:80"), &all));
    let mut line = LINE;
    line[2] = ":authority: a-shadow:80";
    let unsampled = format!("traceparent: {}0", &parent[..parent.len() - 1]);
    assert_eq!(copy, with(&line, &["host: [::1]-shadow:8443", &unsampled, "x-mirror-job: reviews-v2"]));
    let without = rewritten(&default_changes(), &head(None, &all[..1]));
    assert_eq!(without[2..4], [":path: /a?b", "host: [::1]-shadow:8443"]);
}

#[test]
fn a_set_host_is_the_authority_of_any_head() {
    let settings = Settings { set: vec![("Host".into(), "new".into())], ..plain() };
    for (authority, host) in
        [(Some("old"), None), (None, None), (Some("old"), Some("old")), (None, Some("old"))]
    {
        let all: Vec<_> = host.map(|value| field("host", value)).into_iter().collect();
        let copy = rewritten(&settings, &head(authority, &all));
        let named = |name: &str| copy.iter().filter(|text| **text == format!("{name}: new")).count();
        let expected = (usize::from(authority.is_some() || host.is_none()), usize::from(host.is_some()));
        assert_eq!((named(":authority"), named("host")), expected, "{copy:?}");
        assert!(!copy.iter().any(|text| text.contains("old")), "{copy:?}");
    }
}

#[test]
fn fields_are_removed_set_and_added_in_lower_case_and_those_of_the_connection_left_out() {
    let settings = Settings {
        remove: vec!["X-Gone".into(), "X-New".into()],
        set: [("X-Set", "1"), ("X-New", "2"), ("Connection", "close")]
            .map(|(n, v)| (n.into(), v.into()))
            .to_vec(),
        add: [("X-Add", "3"), ("TE", "gzip"), ("Upgrade", "x")].map(|(n, v)| (n.into(), v.into())).to_vec(),
        ..plain()
    };
    let all = [
        field("x-gone", "0"),
        field("x-set", "a"),
        field("x-set", "b"),
        field("x-new", "c"),
        field("te", "trailers"),
    ];
    let copy = rewritten(&settings, &head(Some("a:80"), &all));
    assert_eq!(copy, with(&LINE, &["x-set: 1", "te: trailers", "x-new: 2", "x-add: 3"]));
}

#[test]
fn the_client_is_appended_to_the_last_field_of_its_name_or_gets_one() {
    let settings = Settings { client_ip_header: Some("X-Forwarded-For".into()), ..plain() };
    let all = [field("x-forwarded-for", "1.1.1.1"), field("x-forwarded-for", "2.2.2.2")];
    let copy = rewritten(&settings, &head(Some("a:80"), &all));
    assert_eq!(copy, with(&LINE, &["x-forwarded-for: 1.1.1.1", "x-forwarded-for: 2.2.2.2, 192.0.2.7"]));
    let copy = rewritten(&settings, &head(Some("a:80"), &[]));
    assert_eq!(copy, with(&LINE, &["x-forwarded-for: 192.0.2.7"]));
}

#[test]
fn trace_fields_are_dropped_where_a_job_says_so() {
    let settings = Settings { trace: Trace::Drop, ..plain() };
    let all = [field("b3", "1"), field("x-b3-traceid", "1"), field("tracestate", "a"), field("x", "1")];
    assert_eq!(rewritten(&settings, &head(Some("a:80"), &all)), with(&LINE, &["x: 1"]));
}

#[test]
fn rules_leave_streams_out_as_they_do_requests() {
    let settings = Settings {
        methods: vec!["GET".into()],
        path_prefix: Some("/a".into()),
        marker: Some("X-Mirror-Job".into()),
        ..plain()
    };
    let decided = |head: &StreamHead<'_>| {
        Plan::new(&settings).decide_stream(&Sampler::default(), head, &flow(1), Seq(1), 0, 0)
    };
    let plain_head = head(Some("a"), &[]);
    assert_eq!(decided(&plain_head), Decision::Selected { copies: 1 });
    assert_eq!(decided(&StreamHead { method: b"POST", ..plain_head }), Decision::Filtered(Filtered::Method));
    assert_eq!(decided(&StreamHead { path: Some(b"/b"), ..plain_head }), Decision::Filtered(Filtered::Path));
    let marked = [field("x-mirror-job", "other")];
    assert_eq!(decided(&head(Some("a"), &marked)), Decision::Filtered(Filtered::Marker));
}

#[test]
fn a_connect_is_not_mirrored() {
    let connect = StreamHead { method: b"CONNECT", path: None, scheme: None, ..head(Some("a"), &[]) };
    let decision = Plan::new(&plain()).decide_stream(&Sampler::default(), &connect, &flow(1), Seq(1), 0, 0);
    assert_eq!(decision, Decision::Filtered(Filtered::Connect));
}

#[test]
fn a_request_that_offers_h2c_goes_on_without_the_offer() {
    let raw = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nA: b\r\n\r\n";
    for (settings, expected) in [
        (plain(), "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"),
        (
            Settings { trace: Trace::Drop, host_suffix: "-s".into(), ..plain() },
            "GET / HTTP/1.1\r\nHost: a-s\r\nA: b\r\n\r\n",
        ),
    ] {
        let parsed = Parsed::new(raw.as_bytes());
        let mut offer = parsed.head();
        offer.leaves = Some(Leaves::H2c);
        let mut out = Vec::new();
        Plan::new(&settings).rewrite(&offer, &CLIENT.parse().unwrap(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    assert_eq!(
        decided(&plain(), raw),
        Decision::Filtered(Filtered::Upgrade),
        "known by what the framer says only"
    );
}

proptest! {
    /// A change of a job that finds nothing to change leaves a head as it is.
    #[test]
    fn a_change_that_finds_nothing_changes_nothing(
        names in proptest::collection::vec("[a-z]{1,12}", 0..20),
        values in proptest::collection::vec("[ -~]{0,20}", 20),
    ) {
        let all: Vec<_> = names.iter().zip(&values).map(|(name, value)| field(name, value)).collect();
        let settings = Settings {
            remove: vec!["x-none".into()],
            trace: Trace::Unsampled,
            ..plain()
        };
        let traced = names.iter().any(|name| name == "traceparent");
        prop_assume!(!traced);
        prop_assert_eq!(
            rewritten(&settings, &head(Some("a:80"), &all)),
            rewritten(&plain(), &head(Some("a:80"), &all))
        );
    }
}
