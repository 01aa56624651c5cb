//! Who opened which connection: a memory of SYNs of fixed size.

use crate::packet::{Peer, Seq, TcpView};

/// What a SYN or its answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Who sent the SYN.
    pub(super) client: Peer,
    /// Whom it was sent to.
    pub(super) server: Peer,
    /// The client's initial sequence number.
    pub(super) isn: Option<Seq>,
}

/// One place for each hash; the newest wins.
#[derive(Debug)]
pub(super) struct Syns {
    places: Vec<Option<Opened>>,
}

impl Syns {
    pub(super) fn new(places: u32) -> Self {
        Self { places: vec![None; (places.max(1) as usize).next_power_of_two()] }
    }

    /// Takes a segment with the SYN flag.
    pub(super) fn note(&mut self, view: &TcpView<'_>, hash: u32) {
        let place = self.place(hash);
        let opened = match view.ack {
            None => Opened { client: view.src, server: view.dst, isn: Some(view.seq) },
            // It acknowledges the SYN (and, with TCP Fast Open, perhaps data behind it).
            Some(_) => {
                let (client, server) = (view.dst, view.src);
                if self.places[place].is_some_and(|known| known.client == client && known.server == server) {
                    return;
                }
                Opened { client, server, isn: None }
            }
        };
        self.places[place] = Some(opened);
    }

    /// Who opened the connection between two ends.
    pub(super) fn get(&self, a: Peer, b: Peer, hash: u32) -> Option<Opened> {
        self.places[self.place(hash)].filter(|known| {
            (known.client == a && known.server == b) || (known.client == b && known.server == a)
        })
    }

    fn place(&self, hash: u32) -> usize {
        hash as usize & (self.places.len() - 1)
    }
}
