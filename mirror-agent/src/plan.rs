//! Which copies of a request are sent, and how they are changed. Pure.
//!
//! [`Plan::decide`] takes a request head to its one [`Decision`]: first the rules (method, path, marker, `CONNECT`,
//! upgrade), then the percentage, then the rate. [`Plan::rewrite`] writes the head of the copy: the original's bytes
//! except for the changes the job asks for. Both read an immutable snapshot that all shards share; the only shared
//! word is the rate's bucket, and only if there is a rate.

mod authority;
mod decision;
mod fields;
mod path;
mod rewrite;
mod sample;
mod settings;
mod trace;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::http::{Leaves, RequestHead, StreamHead};
use crate::packet::{FlowKey, Seq};

pub use decision::{Decision, Filtered, SampledOut};
pub use fields::{FieldAt, FieldWriter, fields};
pub use sample::Sampler;
pub use settings::{Percent, PercentError, SampleBy, Settings, Trace};

use rewrite::Rewriter;
use sample::{Rate, Share};

/// What a job wants of each request: an immutable snapshot, shared by the shards behind an `Arc`.
#[derive(Debug)]
pub struct Plan {
    shadows: usize,
    methods: Vec<Box<[u8]>>,
    path_prefix: Option<Box<[u8]>>,
    marker: Option<Box<[u8]>>,
    share: Share,
    rate: Option<Rate>,
    rewriter: Rewriter,
}

impl Plan {
    /// Compiles the settings of a job. They are taken as checked: `config` refuses what would break a copy.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let bytes = |text: &String| text.as_bytes().into();
        Self {
            shadows: settings.shadows,
            methods: settings.methods.iter().map(bytes).collect(),
            path_prefix: settings.path_prefix.as_ref().map(bytes),
            marker: settings.marker.as_ref().map(bytes),
            share: Share::new(settings.percent, settings.sample_by, settings.seed, &settings.job),
            rate: settings.max_rps.map(Rate::new),
            rewriter: Rewriter::new(settings),
        }
    }

    /// Shadows that every selected request is sent to.
    #[must_use]
    pub fn shadows(&self) -> usize {
        self.shadows
    }

    /// What becomes of a request.
    ///
    /// With the seed, `ordinal` (a number no other request of the job has) fixes the choice by request, and `flow` with
    /// `origin` (the flow's first sequence number) the choice by connection. `now_ns` is monotonic time; it is looked at
    /// only if the job has a rate.
    ///
    /// A request is left out for the first reason that applies, in this order: method, path, marker (with any value),
    /// `CONNECT`, upgrade, percentage, rate. So the rate is spent on nothing that would be left out anyway.
    #[must_use]
    pub fn decide(
        &self,
        sampler: &Sampler,
        head: &RequestHead<'_>,
        flow: &FlowKey,
        origin: Seq,
        ordinal: u64,
        now_ns: u64,
    ) -> Decision {
        match self.filter(head) {
            Some(rule) => Decision::Filtered(rule),
            None => self.choose(sampler, flow, origin, ordinal, now_ns),
        }
    }

    /// [`Plan::decide`] for a request that opens an HTTP/2 stream.
    #[must_use]
    pub fn decide_stream(
        &self,
        sampler: &Sampler,
        head: &StreamHead<'_>,
        flow: &FlowKey,
        origin: Seq,
        ordinal: u64,
        now_ns: u64,
    ) -> Decision {
        match self.filter_stream(head) {
            Some(rule) => Decision::Filtered(rule),
            None => self.choose(sampler, flow, origin, ordinal, now_ns),
        }
    }

    fn choose(&self, sampler: &Sampler, flow: &FlowKey, origin: Seq, ordinal: u64, now_ns: u64) -> Decision {
        let copies = self.share.copies(flow, origin, ordinal);
        if copies == 0 {
            return Decision::SampledOut(SampledOut::Percent);
        }
        match &self.rate {
            Some(rate) if !sampler.take(rate, now_ns) => Decision::SampledOut(SampledOut::Rate),
            _ => Decision::Selected { copies },
        }
    }

    /// Appends the head of the copy to `out`. It is the same for every shadow and for every extra copy of a request,
    /// so it is written once and shared.
    ///
    /// Allocates only if `out` has to grow. `client` is the peer whose address [`Settings::client_ip_header`] names.
    pub fn rewrite(&self, head: &RequestHead<'_>, client: &SocketAddr, out: &mut Vec<u8>) {
        self.rewriter.apply(head, client, out);
    }

    /// Appends the fields of the copy's head to `out`, as a [`FieldWriter`] does. As [`Plan::rewrite`].
    pub fn rewrite_stream(&self, head: &StreamHead<'_>, client: &SocketAddr, out: &mut Vec<u8>) {
        self.rewriter.apply_h2(head, client, out);
    }

    /// Whether every change is switched off: the head of a copy is the original's, byte for byte, and may be sent from
    /// where it lies.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.rewriter.is_identity()
    }

    /// The rule that leaves a request out, if there is one.
    fn filter(&self, head: &RequestHead<'_>) -> Option<Filtered> {
        if let Some(rule) = self.filter_line(head.method, head.target) {
            return Some(rule);
        }
        if let Some(marker) = &self.marker
            && bears(head, marker)
        {
            return Some(Filtered::Marker);
        }
        match head.method {
            b"CONNECT" => Some(Filtered::Connect),
            _ => match head.leaves {
                // A request like any other once the offer is taken out; what follows it comes as streams.
                None | Some(Leaves::H2c) => None,
                // The handshake is copied as it is, and what the client says in the tunnel after it.
                Some(Leaves::WebSocket) => None,
                Some(_) => Some(Filtered::Upgrade),
            },
        }
    }

    fn filter_stream(&self, head: &StreamHead<'_>) -> Option<Filtered> {
        if let Some(rule) = self.filter_line(head.method, head.path.unwrap_or_default()) {
            return Some(rule);
        }
        if let Some(marker) = &self.marker
            && head.fields.iter().any(|field| field.name.eq_ignore_ascii_case(marker))
        {
            return Some(Filtered::Marker);
        }
        // An extended one (RFC 8441) asks for another protocol on its stream.
        (head.method == b"CONNECT").then_some(Filtered::Connect)
    }

    fn filter_line(&self, method: &[u8], target: &[u8]) -> Option<Filtered> {
        if !self.methods.is_empty() && !self.methods.iter().any(|other| **other == *method) {
            return Some(Filtered::Method);
        }
        let outside = |prefix: &[u8]| !path::of(target).starts_with(prefix);
        self.path_prefix.as_deref().is_some_and(outside).then_some(Filtered::Path)
    }
}

/// Whether a field called `name` stands in the head. Lengths first: most names are told apart by them.
fn bears(head: &RequestHead<'_>, name: &[u8]) -> bool {
    head.fields
        .iter()
        .any(|field| field.name.len() == name.len() && head.slice(&field.name).eq_ignore_ascii_case(name))
}
