//! What has waited too long, and the end of everything.

use super::{Replayer, SCAN_NS};
use crate::replay::LinkId;
use crate::replay::link::{Link, State};
use crate::replay::outcome::{Dropped, Failed};
use crate::replay::settings::Settings;

impl Replayer {
    /// The earliest time at which [`Replayer::tick`] may have something to do, `CLOCK_MONOTONIC` ns.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let waiting =
            self.books.unfinished() > 0 || self.books.targets.iter().any(|target| !target.pool.is_empty());
        let scan = waiting.then_some(self.next_scan);
        let all = [scan, self.books.next_time_wait(), self.books.next_connect(), self.turns.next()];
        all.into_iter().flatten().min()
    }

    /// Ends what has waited too long.
    pub fn tick(&mut self) {
        let now = self.now;
        self.books.leave_time_wait(now);
        self.connect_waiting();
        if now < self.next_scan {
            return;
        }
        self.next_scan = now + SCAN_NS;
        let late = self.each(|link| overdue(link, now, &self.books.targets.get(link.shadow)?.settings));
        for (id, late) in late {
            match late {
                Late::Connect => self.connect_failed(id, Failed::ConnectTimeout),
                Late::Answer(why) => {
                    if why == Failed::HeadTimeout {
                        self.distrust(id);
                    }
                    self.disconnect(id, true);
                    self.lose(id, why, false);
                }
                Late::Orphan => {
                    self.disconnect(id, true);
                    self.give_up(id, Dropped::ClientClosed);
                }
                Late::Pooled => self.close_link(id, false),
                Late::Tunnel => self.deliver(id),
            }
        }
    }

    /// Gives up every copy that has no outcome and closes every link.
    pub fn shutdown(&mut self) {
        for (id, busy) in self.each(|link| Some(!link.copies.is_empty())) {
            self.disconnect(id, busy);
            self.give_up(id, Dropped::Shutdown);
            self.close_link(id, false);
        }
        self.books.leave_time_wait(u64::MAX);
    }

    /// What `look` makes of each link, for those of which it makes something.
    fn each<T>(&self, look: impl Fn(&Link) -> Option<T>) -> Vec<(LinkId, T)> {
        let seen = self.links.iter().filter_map(|(index, link)| {
            let id = LinkId { index: u32::try_from(index).ok()?, generation: link.generation };
            Some((id, look(link)?))
        });
        seen.collect()
    }

    /// A shadow that falls silent when copies are pipelined may not know how to read them: for a while they wait for each
    /// other there.
    fn distrust(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.live(id) else { return };
        let written = link.queue.written();
        if link.copies.get(1).is_none_or(|second| second.start >= written) {
            return;
        }
        link.pipelines = false;
        let shadow = link.shadow;
        if let Some(target) = self.books.targets.get_mut(shadow) {
            target.distrust(now);
        }
    }
}

/// Why a link is looked at by the clock.
enum Late {
    Connect,
    Answer(Failed),
    Orphan,
    Pooled,
    Tunnel,
}

fn overdue(link: &Link, now: u64, settings: &Settings) -> Option<Late> {
    let timeouts = settings.timeouts;
    let still = now.saturating_sub(link.progress);
    match &link.state {
        State::Connecting(_, since) => {
            (now.saturating_sub(*since) > timeouts.connect).then_some(Late::Connect)
        }
        State::Idle => None,
        State::Open(transport) => {
            let Some(front) = link.copies.front() else {
                return (link.pooled && still > timeouts.idle).then_some(Late::Pooled);
            };
            if let Some(shut) = front.shut {
                // It is written whole and was agreed to; the shadow takes its time to hang up.
                return (now.saturating_sub(shut) > timeouts.head).then_some(Late::Tunnel);
            }
            if front.tunnels() && !transport.blocked {
                // A tunnel may be silent for as long as its client is.
                return None;
            }
            if link.orphan && now.saturating_sub(link.orphaned_at.max(link.front_since)) > settings.linger {
                return Some(Late::Orphan);
            }
            let written = link.queue.written();
            let end = if front.tunnel { Some(front.head_end) } else { front.end };
            let whole = end.is_some_and(|end| end <= written);
            if transport.blocked || front.status.is_some() {
                (still > timeouts.idle).then_some(Late::Answer(Failed::IdleTimeout))
            } else if whole {
                (still > timeouts.head).then_some(Late::Answer(Failed::HeadTimeout))
            } else {
                // The rest of the body is the client's to send.
                None
            }
        }
    }
}
