//! Time and allocations of the pure rooms, one call at a time and in a row. `cargo bench -p mirror-agent --bench rooms`.
//!
//! Steady state is what counts: tables and buffers are warm, so an allocation that shows here is one that every request
//! pays for.
#![allow(missing_docs, reason = "a benchmark has no interface")]

use std::hint::black_box;
use std::net::SocketAddr;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use mirror_agent::flow::{self, Chunk, Close, Evidence, FlowInfo, Gap, Handler, LostReason, Start, Table};
use mirror_agent::http::{
    self, AbortReason, BodyKind, Connection, Events, Field, H2Error, HeaderField, NotHttp, Pickup,
    RequestHead, StreamHead, TunnelEnd, Version, Waiting,
};
use mirror_agent::packet::{Flags, FlowKey, Peer, RecordView, Segment, Seq};
use mirror_agent::plan::{Decision, Percent, Plan, SampleBy, Sampler, Settings, Trace};
use mirror_agent::replay::Outcome;
use mirror_agent::stats::ledger::Ledger;
use mirror_common::record::{Direction, RecordHeader, tcp_flags};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    // Many calls a sample: one alone is near the timer's precision.
    divan::Divan::from_args().sample_size(SAMPLE).run_benches();
}

/// Calls that are timed together.
const SAMPLE: u32 = 1000;

/// A request as a browser behind a gateway sends it.
const GET: &[u8] = b"GET /api/v1/reviews/1234567?lang=en HTTP/1.1\r\n\
    Host: reviews.example.org:9080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    X-Request-Id: 7b1c9b1e-4f6a-4a0e-9a58-0e6b6d8f3a11\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Connection: keep-alive\r\n\r\n";

/// A millisecond, in the kernel's nanoseconds.
const MILLISECOND: u64 = 1_000_000;

#[divan::bench]
fn packet_record_to_segment(bencher: Bencher<'_, '_>) {
    let record = record(client(1), Seq(1000), GET);
    bencher.bench_local(|| RecordView::new_checked(black_box(&record)).map(|view| view.segment().len));
}

/// One in-order segment of a connection that is in the table, among so many others.
#[divan::bench(args = [1, 10_000])]
fn flow_in_order_segment(bencher: Bencher<'_, '_>, flows: u32) {
    let mut table = Table::new(flow::Limits::default());
    let mut sink = Sink::default();
    let mut next = vec![Seq(1); flows as usize];
    let mut turn = 0_usize;
    let mut now = 0;
    let mut one = || {
        turn = (turn + 1) % next.len();
        now += 1000;
        let segment = segment(client(turn), next[turn], GET, now);
        next[turn] = next[turn].plus(len(GET));
        table.segment(black_box(&segment), &mut sink);
    };
    (0..2 * flows).for_each(|_| one());
    bencher.counter(BytesCount::new(GET.len())).bench_local(one);
}

/// A segment behind a hole, then the one that fills it: one copy, two chunks.
#[divan::bench]
fn flow_swapped_segments(bencher: Bencher<'_, '_>) {
    let payload = vec![b'x'; 1448];
    let mut table = Table::new(flow::Limits::default());
    let mut sink = Sink::default();
    let (mut next, mut now) = (Seq(1), 0);
    table.segment(&segment(client(1), next, &payload, now), &mut sink);
    bencher.counter(BytesCount::new(2 * payload.len())).bench_local(|| {
        now += 1000;
        let first = next.plus(len(&payload));
        let second = first.plus(len(&payload));
        table.segment(black_box(&segment(client(1), second, &payload, now)), &mut sink);
        table.segment(black_box(&segment(client(1), first, &payload, now)), &mut sink);
        next = second;
    });
}

#[divan::bench]
fn http_get(bencher: Bencher<'_, '_>) {
    let mut framed = Framed::new();
    bencher.counter(BytesCount::new(GET.len())).bench_local(|| framed.exchange(black_box(GET)));
}

/// A head and its body by Content-Length, in GSO segments of 64 KiB: the body is passed on, never copied.
#[divan::bench(args = [16 << 10, 1 << 20])]
fn http_post_length(bencher: Bencher<'_, '_>, body: usize) {
    let mut request =
        format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    request.resize(request.len() + body, b'x');
    let mut framed = Framed::new();
    bencher.counter(BytesCount::new(request.len())).bench_local(|| framed.exchange(black_box(&request)));
}

/// The same in chunks of 8 KiB.
#[divan::bench(args = [16 << 10, 1 << 20])]
fn http_post_chunked(bencher: Bencher<'_, '_>, body: usize) {
    let mut request = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..body / (8 << 10) {
        request.extend_from_slice(b"2000\r\n");
        request.resize(request.len() + (8 << 10), b'x');
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let mut framed = Framed::new();
    bencher.counter(BytesCount::new(request.len())).bench_local(|| framed.exchange(black_box(&request)));
}

#[divan::bench(args = ["100", "50"])]
fn plan_decide(bencher: Bencher<'_, '_>, percent: &str) {
    let plan = Plan::new(&settings(percent));
    let (sampler, fields) = (Sampler::new(), fields_of(GET));
    let (head, flow) = (head_of(GET, &fields), key(client(1)));
    let mut ordinal = 0;
    bencher.bench_local(|| {
        ordinal += 1;
        plan.decide(&sampler, black_box(&head), &flow, Seq(1), ordinal, 0)
    });
}

/// The head of a copy with the default changes: authority, marker, trace flag.
#[divan::bench]
fn plan_rewrite(bencher: Bencher<'_, '_>) {
    let plan = Plan::new(&settings("100"));
    let fields = fields_of(GET);
    let (head, mut out) = (head_of(GET, &fields), Vec::with_capacity(4096));
    bencher.counter(BytesCount::new(GET.len())).bench_local(|| {
        out.clear();
        plan.rewrite(black_box(&head), &client(1), &mut out);
        out.len()
    });
}

/// What the books cost: a request with one copy, delivered.
#[divan::bench]
fn ledger_request_and_outcome(bencher: Bencher<'_, '_>) {
    let ledger = Ledger::new(1);
    bencher.bench_local(|| {
        let ledger = black_box(&ledger);
        ledger.requests.observed.add(1);
        ledger.requests.selected.add(1);
        ledger.bytes.parsed.add(len(GET).into());
        ledger.shadows[0].copies.add(1);
        ledger.shadows[0].in_flight.add(1);
        ledger.requests.completed.add(1);
        ledger.shadows[0].book(Outcome::Delivered { status: 200 });
    });
}

/// The whole pure middle: ring entry to rewritten head, over a thousand keep-alive connections with their answers.
#[divan::bench]
fn line_get_record_to_copy(bencher: Bencher<'_, '_>) {
    const CONNECTIONS: usize = 1000;
    let mut table = Table::new(flow::Limits::default());
    let mut line = Line {
        plan: Plan::new(&settings("100")),
        sampler: Sampler::new(),
        limits: http::Limits::default(),
        out: Vec::with_capacity(4096),
        copies: 0,
    };
    let mut next = vec![Seq(1); CONNECTIONS];
    for (turn, next) in next.iter_mut().enumerate() {
        let mut syn = segment(client(turn), *next, &[], 0);
        syn.seq = Seq(next.0.wrapping_sub(1));
        syn.flags = Flags(tcp_flags::SYN);
        syn.ack = None;
        table.segment(&syn, &mut line);
    }
    let (mut turn, mut now) = (0, 0);
    let mut request = record(client(0), Seq(1), GET);
    let mut one = || {
        turn = (turn + 1) % CONNECTIONS;
        now += 1000;
        address(&mut request, client(turn), next[turn], now);
        if let Ok(view) = RecordView::new_checked(black_box(&request)) {
            table.segment(&view.segment(), &mut line);
        }
        next[turn] = next[turn].plus(len(GET));
        table.segment(&answer(client(turn), next[turn], now + 500), &mut line);
    };
    (0..2 * CONNECTIONS).for_each(|_| one());
    bencher.counter(ItemsCount::new(1_usize)).bench_local(one);
    assert!(line.copies > 0, "no request was recognised: this would measure nothing");
}

/// Takes chunks and looks at their first byte.
#[derive(Default)]
struct Sink {
    seen: u64,
}

/// A request whose fields are known to the compression table but for path and identifiers, as a gateway sends it.
#[divan::bench]
fn http2_get(bencher: Bencher<'_, '_>) {
    let mut client = Framed2::new();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| client.get());
}

/// The same, 64 in one segment.
#[divan::bench]
fn http2_64_gets_in_a_segment(bencher: Bencher<'_, '_>) {
    let mut client = Framed2::new();
    bencher.counter(ItemsCount::new(64_u32)).bench_local(|| client.gets(64));
}

/// Four DATA frames of 16 KiB in a segment.
#[divan::bench]
fn http2_data_64k(bencher: Bencher<'_, '_>) {
    let mut client = Framed2::new();
    client.open();
    bencher.counter(BytesCount::new(64_u32 << 10)).bench_local(|| client.data());
}

/// One HTTP/2 connection's decoder.
struct Framed2 {
    framed: Framed,
    stream: u32,
    out: Vec<u8>,
}

impl Framed2 {
    const FIELDS: [(&'static str, &'static str); 9] = [
        (":authority", "reviews.example.org:9080"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("x-forwarded-proto", "http"),
        ("x-envoy-internal", "true"),
        ("x-request-id", "7b1c9b1e-4f6a-4a0e-9a58-0e6b6d8f3a11"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];

    /// After a request that put its fields into the table.
    fn new() -> Self {
        let mut client = Self { framed: Framed::new(), stream: 1, out: Vec::new() };
        client.out.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        let mut block = b"\x82\x86\x84".to_vec();
        for (name, value) in Self::FIELDS {
            block.extend([0x40, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        client.headers(5, &block);
        client.send(1);
        client
    }

    fn get(&mut self) {
        self.gets(1);
    }

    fn gets(&mut self, count: u64) {
        for _ in 0..count {
            // The youngest entry, the last field, has index 62.
            let mut block = b"\x82\x86\x04\x1f/api/v1/reviews/1234567?lang=en".to_vec();
            block.extend((64..=70).rev().map(|index| 0x80 | index));
            for index in [63, 62] {
                let value = Self::FIELDS[70 - index].1;
                block.extend([0x0f, index as u8 - 15, value.len() as u8]);
                block.extend(value.as_bytes());
            }
            self.headers(5, &block);
        }
        self.send(count);
    }

    fn open(&mut self) {
        self.headers(4, b"\x83\x86\x84");
        self.send(0);
    }

    fn data(&mut self) {
        if self.out.is_empty() {
            for _ in 0..4 {
                self.out.extend(b"\0\x40\0\0\0");
                self.out.extend((self.stream - 2).to_be_bytes());
                self.out.extend([b'x'; 16 << 10]);
            }
        }
        let bytes = std::mem::take(&mut self.out);
        let before = self.framed.ends.body;
        self.framed.feed(&bytes);
        assert!(self.framed.ends.body == before + (64 << 10));
        self.out = bytes;
    }

    fn headers(&mut self, flags: u8, block: &[u8]) {
        self.out.extend([0, (block.len() >> 8) as u8, block.len() as u8, 1, flags]);
        self.out.extend(self.stream.to_be_bytes());
        self.out.extend(block);
        self.stream += 2;
    }

    fn send(&mut self, requests: u64) {
        let before = self.framed.ends.requests;
        let bytes = std::mem::take(&mut self.out);
        self.framed.feed(&bytes);
        self.out = bytes;
        self.out.clear();
        assert!(self.framed.ends.requests == before + requests, "the decoder lost its way");
    }
}

impl Handler for Sink {
    type State = ();

    fn open(&mut self, _: &FlowInfo) {}
    fn data(&mut self, _: &FlowInfo, (): &mut (), chunk: Chunk<'_>) {
        self.seen += u64::from(chunk.bytes.first().copied().unwrap_or_default());
    }
    fn gap(&mut self, _: &FlowInfo, (): &mut (), gap: Gap) {
        self.seen += gap.len;
    }
    fn response(&mut self, _: &FlowInfo, (): &mut (), _: Evidence) {}
    fn half_close(&mut self, _: &FlowInfo, (): &mut ()) {}
    fn close(&mut self, _: &FlowInfo, (): (), _: Close) {}
    fn duplicate(&mut self, _: u16, _: u64) {}
    fn lost(&mut self, _: u16, _: LostReason, _: u64) {}
    fn buffered(&mut self, _: u16, _: i64) {}
}

/// One connection's framer, fed request by request.
struct Framed {
    connection: Connection,
    ends: Ends,
    pos: u64,
    now: u64,
}

impl Framed {
    fn new() -> Self {
        let connection = Connection::new(Start::Syn, &http::Limits::default(), Pickup::Prove);
        Self { connection, ends: Ends::default(), pos: 0, now: 0 }
    }

    /// A whole request, in segments of at most 64 KiB, and its answer.
    fn exchange(&mut self, request: &[u8]) {
        let before = self.ends.requests;
        self.feed(request);
        let evidence = Evidence { acked: self.pos, status: 200, time: self.now };
        black_box(self.connection.response(&evidence, &mut self.ends));
        self.now += MILLISECOND;
        assert!(self.ends.requests == before + 1, "the framer lost its way: this would measure nothing");
    }

    fn feed(&mut self, request: &[u8]) {
        for bytes in request.chunks(64 << 10) {
            let chunk =
                Chunk { pos: self.pos, bytes, time: self.now, ack: Some(Seq(1)), segment_start: true };
            self.connection.data(&chunk, &mut self.ends);
            self.pos += bytes.len() as u64;
        }
    }
}

#[derive(Default)]
struct Ends {
    requests: u64,
    body: u64,
}

impl Events for Ends {
    fn head(&mut self, head: &RequestHead<'_>) {
        black_box(head);
    }
    fn body(&mut self, bytes: &[u8], _: u64) {
        self.body += bytes.len() as u64;
    }
    fn end(&mut self, _: u64) {
        self.requests += 1;
    }
    fn abort(&mut self, _: AbortReason) {}
    fn refused(&mut self, _: AbortReason) {}
    fn h2_begin(&mut self, _: bool) {}
    fn stream_head(&mut self, head: &StreamHead<'_>) {
        black_box(head);
    }
    fn stream_data(&mut self, _: u32, bytes: &[u8], _: bool, _: u64) {
        self.body += bytes.len() as u64;
    }
    fn stream_trailers(&mut self, _: u32, _: &[HeaderField<'_>], _: u64) {}
    fn stream_end(&mut self, _: u32, _: u64) {
        self.requests += 1;
    }
    fn stream_abort(&mut self, _: u32, _: AbortReason, _: Option<u32>) {}
    fn stream_cancelled(&mut self, _: u32, _: u32) {}
    fn h2_error(&mut self, _: H2Error) {}
    fn waiting(&mut self, _: Waiting, _: bool) {}
    fn tunnel(&mut self, _: u64) {}
    fn tunnel_data(&mut self, _: &[u8], _: u64) {}
    fn tunnel_frames(&mut self, _: u64, _: u64) {}
    fn tunnel_end(&mut self, _: TunnelEnd) {}
    fn parsed(&mut self, _: u64) {}
    fn not_http(&mut self, _: NotHttp, _: u64) {}
    fn skipped(&mut self, _: u64) {}
    fn buffered(&mut self, _: i64) {}
}

/// The rooms from `flow` to `plan` in a row.
struct Line {
    plan: Plan,
    sampler: Sampler,
    limits: http::Limits,
    out: Vec<u8>,
    copies: u64,
}

/// A framer and the number of its requests.
struct Client {
    connection: Connection,
    requests: u64,
}

/// What the framer's calls need of the line.
struct Requests<'a> {
    line: &'a mut Line,
    flow: &'a FlowInfo,
    ordinal: &'a mut u64,
}

impl Handler for Line {
    type State = Client;

    fn open(&mut self, flow: &FlowInfo) -> Client {
        Client { connection: Connection::new(flow.start, &self.limits, Pickup::Prove), requests: 0 }
    }
    fn data(&mut self, flow: &FlowInfo, client: &mut Client, chunk: Chunk<'_>) {
        let mut requests = Requests { line: self, flow, ordinal: &mut client.requests };
        client.connection.data(&chunk, &mut requests);
    }
    fn gap(&mut self, _: &FlowInfo, _: &mut Client, _: Gap) {}
    fn response(&mut self, flow: &FlowInfo, client: &mut Client, evidence: Evidence) {
        let mut requests = Requests { line: self, flow, ordinal: &mut client.requests };
        black_box(client.connection.response(&evidence, &mut requests));
    }
    fn half_close(&mut self, _: &FlowInfo, _: &mut Client) {}
    fn close(&mut self, _: &FlowInfo, _: Client, _: Close) {}
    fn duplicate(&mut self, _: u16, _: u64) {}
    fn lost(&mut self, _: u16, _: LostReason, _: u64) {}
    fn buffered(&mut self, _: u16, _: i64) {}
}

impl Events for Requests<'_> {
    fn head(&mut self, head: &RequestHead<'_>) {
        *self.ordinal += 1;
        let Line { plan, sampler, out, copies, .. } = &mut *self.line;
        let flow = self.flow;
        if let Decision::Selected { .. } =
            plan.decide(sampler, head, &flow.key, flow.origin, *self.ordinal, head.time)
        {
            out.clear();
            plan.rewrite(head, &flow.key.client.socket_addr(), out);
            *copies += 1;
            black_box(&*out);
        }
    }
    fn body(&mut self, _: &[u8], _: u64) {}
    fn end(&mut self, _: u64) {}
    fn abort(&mut self, _: AbortReason) {}
    fn refused(&mut self, _: AbortReason) {}
    fn h2_begin(&mut self, _: bool) {}
    fn stream_head(&mut self, _: &StreamHead<'_>) {}
    fn stream_data(&mut self, _: u32, _: &[u8], _: bool, _: u64) {}
    fn stream_trailers(&mut self, _: u32, _: &[HeaderField<'_>], _: u64) {}
    fn stream_end(&mut self, _: u32, _: u64) {}
    fn stream_abort(&mut self, _: u32, _: AbortReason, _: Option<u32>) {}
    fn stream_cancelled(&mut self, _: u32, _: u32) {}
    fn h2_error(&mut self, _: H2Error) {}
    fn waiting(&mut self, _: Waiting, _: bool) {}
    fn tunnel(&mut self, _: u64) {}
    fn tunnel_data(&mut self, _: &[u8], _: u64) {}
    fn tunnel_frames(&mut self, _: u64, _: u64) {}
    fn tunnel_end(&mut self, _: TunnelEnd) {}
    fn parsed(&mut self, _: u64) {}
    fn not_http(&mut self, _: NotHttp, _: u64) {}
    fn skipped(&mut self, _: u64) {}
    fn buffered(&mut self, _: i64) {}
}

fn primary() -> SocketAddr {
    SocketAddr::from(([10, 77, 2, 2], 8080))
}

/// The `n`th client.
fn client(n: usize) -> SocketAddr {
    let [.., high, low] = n.to_be_bytes();
    SocketAddr::from(([10, 77, high, low], 40_000))
}

fn key(client: SocketAddr) -> FlowKey {
    FlowKey { client: client.into(), primary: primary().into() }
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A hash that spreads clients as the tap's does.
fn hash(client: SocketAddr) -> u32 {
    let peer = Peer::from(client);
    peer.addr
        .iter()
        .fold(u32::from(peer.port), |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn segment(client: SocketAddr, seq: Seq, payload: &[u8], time: u64) -> Segment<'_> {
    Segment {
        flow: key(client),
        job: 0,
        direction: Direction::Request,
        hash: hash(client),
        time,
        seq,
        ack: Some(Seq(1)),
        flags: Flags(tcp_flags::ACK | tcp_flags::PSH),
        window: 512,
        status: None,
        len: len(payload),
        payload,
    }
}

/// A response head that acknowledges all before `ack`.
fn answer(client: SocketAddr, ack: Seq, time: u64) -> Segment<'static> {
    Segment {
        direction: Direction::Response,
        ack: Some(ack),
        status: Some(200),
        len: 1000,
        ..segment(client, Seq(1), &[], time)
    }
}

/// A ring entry of the request direction.
fn record(client: SocketAddr, seq: Seq, payload: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; RecordHeader::SIZE];
    let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
    let to = Peer::from(primary());
    put(std::mem::offset_of!(RecordHeader, dst_addr), &to.addr);
    put(std::mem::offset_of!(RecordHeader, dst_port), &to.port.to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, ack), &1_u32.to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, len), &len(payload).to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, captured), &len(payload).to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, flags), &[tcp_flags::ACK | tcp_flags::PSH]);
    put(std::mem::offset_of!(RecordHeader, direction), &[Direction::Request as u8]);
    entry.extend_from_slice(payload);
    address(&mut entry, client, seq, 0);
    entry
}

/// Makes a ring entry one of another connection, position and time.
fn address(entry: &mut [u8], client: SocketAddr, seq: Seq, time: u64) {
    let from = Peer::from(client);
    let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
    put(std::mem::offset_of!(RecordHeader, time_ns), &time.to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, src_addr), &from.addr);
    put(std::mem::offset_of!(RecordHeader, src_port), &from.port.to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, seq), &seq.0.to_ne_bytes());
    put(std::mem::offset_of!(RecordHeader, hash), &hash(client).to_ne_bytes());
}

fn settings(percent: &str) -> Settings {
    Settings {
        job: "bench".to_owned(),
        shadows: 1,
        percent: percent.parse().unwrap_or(Percent::HUNDRED),
        sample_by: SampleBy::Request,
        seed: 7,
        methods: Vec::new(),
        path_prefix: None,
        max_rps: None,
        host_suffix: "-shadow".to_owned(),
        marker: Some("x-mirror-job".to_owned()),
        trace: Trace::Unsampled,
        client_ip_header: None,
        remove: Vec::new(),
        set: Vec::new(),
        add: Vec::new(),
    }
}

/// Field lines of a well-formed head, found the plain way.
fn fields_of(raw: &[u8]) -> Vec<Field> {
    let text = String::from_utf8_lossy(raw);
    let mut at = 0;
    let mut fields = Vec::new();
    for line in text.split_inclusive("\r\n") {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            let value_at = at + len(name.as_bytes()) + 2;
            fields.push(Field {
                line: at..at + len(line.as_bytes()),
                name: at..at + len(name.as_bytes()),
                value: value_at..value_at + len(value.as_bytes()),
            });
        }
        at += len(line.as_bytes());
    }
    fields
}

fn head_of<'a>(raw: &'a [u8], fields: &'a [Field]) -> RequestHead<'a> {
    RequestHead {
        raw,
        method: b"GET",
        target: b"/api/v1/reviews/1234567?lang=en",
        fields_start: fields.first().map_or(0, |field| field.line.start),
        version: Version::Http11,
        fields,
        body: BodyKind::None,
        expects_continue: false,
        closes: false,
        leaves: None,
        proxied: None,
        pos: 0,
        time: 0,
        pipelined: false,
    }
}
