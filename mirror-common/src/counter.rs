//! Counters that the BPF program raises, per CPU: one set for the whole tap, one for each job.

/// What the tap did with packets, whatever the job. Index into [`TapCounters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapCounter {
    /// Request segments put into a ring.
    RequestRecords,
    /// Response segments put into a ring.
    ResponseRecords,
    /// Matched segments without payload, SYN, FIN or RST, and SYN-ACKs of the response direction: nothing to tell.
    PureAcks,
    /// Matched response segments that begin no response head: seen, not copied.
    ResponseBodies,
    /// Segments of the agent's own replays.
    OwnReplays,
    /// IP fragments: first ones on a watched port, others between addresses of which one is a primary's.
    Fragments,
    /// Segments on a watched port whose headers contradict the packet.
    Unreadable,
    /// IPv6 extension headers or VLAN tags beyond what is followed.
    TooDeep,
    /// SYNs without payload left out because the ring was a quarter full.
    SynShed,
    /// Records that found no room in the ring.
    RingFull,
    /// Packets passed by because the agent's heartbeat was too old.
    Inert,
    /// Wake-ups sent to a reader.
    WakeUps,
}

impl TapCounter {
    /// Every counter with its exported name, in index order.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::RequestRecords, "request_records"),
        (Self::ResponseRecords, "response_records"),
        (Self::PureAcks, "pure_acks"),
        (Self::ResponseBodies, "response_bodies"),
        (Self::OwnReplays, "own_replays"),
        (Self::Fragments, "fragments"),
        (Self::Unreadable, "unreadable"),
        (Self::TooDeep, "too_deep"),
        (Self::SynShed, "syn_shed"),
        (Self::RingFull, "ring_full"),
        (Self::Inert, "inert"),
        (Self::WakeUps, "wake_ups"),
    ];
}

/// The single per-CPU value of `TAP_COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounters {
    /// Indexed by [`TapCounter`].
    pub values: [u64; TapCounter::ALL.len()],
}

/// One per-CPU value of `JOB_COUNTERS`: what the laws of a job need from the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounters {
    /// TCP payload bytes matched in the request direction.
    pub matched_bytes: u64,
    /// Of these, bytes that found no room in the ring.
    pub lost_in_ring_bytes: u64,
    /// The independent witness: final `HTTP/1.x` response heads with which a segment begins, each once.
    pub witnessed: u64,
    /// Of these, heads whose record found no room in the ring. One that TCP sends again may find it then.
    pub responses_lost_in_ring: u64,
}

#[cfg(test)]
mod tests {
    use super::TapCounter;

    #[test]
    fn counters_stand_in_index_order_with_distinct_names() {
        for (index, (counter, name)) in TapCounter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            assert_eq!(TapCounter::ALL.iter().filter(|(_, n)| n == name).count(), 1);
        }
    }
}
