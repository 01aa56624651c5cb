//! Streams: what is sent on them, what the shadow says on them, and what is lost with them.

use super::{H2Replayer, Loss};
use crate::replay::h2::conn::{Session, State};
use crate::replay::h2::copy::Answer;
use crate::replay::h2::mux::{LARGEST_WINDOW, Mux, STREAM_WINDOW, Said, What, code};
use crate::replay::h2::{H2Report, head};
use crate::replay::outcome::{Dropped, Failed, Outcome, Report};

impl H2Replayer {
    /// Opens a stream for the copy that waits longest.
    pub(super) fn open(&mut self, index: u32, stream: u32, at: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let State::Open(session) = &mut conn.state else { return };
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        if let Some(link) = self.links.get_mut(copy.link.index as usize) {
            link.waiting.pop_front();
        }
        let bare = copy.is_bare();
        session.mux.headers(session.wire.out(), stream, bare, |out| head::encode(&copy.head, out));
        copy.opened = self.now;
        copy.window = session.mux.stream_window;
        copy.owed = 0;
        copy.answer = Answer::Head;
        copy.end_sent = bare;
        copy.conn = Some((index, stream));
        conn.open.insert(stream, at);
        conn.opened += 1;
        conn.unflushed.push(at);
        self.wake(index);
        if !bare {
            self.send_more(at);
        }
    }

    /// Hands over what there is of a copy's body, as far as socket and flow control take it.
    pub(super) fn send_more(&mut self, at: u32) {
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        // One that is on no stream yet is sent from its beginning when it is.
        let Some((index, stream)) = copy.conn else { return };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let State::Open(session) = &mut conn.state else { return };
        let Session { mux, wire, .. } = &mut **session;
        let mut any = false;
        while !copy.end_sent && (copy.ended || !copy.pending.is_empty()) {
            if !wire.takes() {
                conn.starved = true;
                break;
            }
            if copy.pending.is_empty()
                && let Some(fields) = &copy.trailers
            {
                mux.headers(wire.out(), stream, true, |out| head::encode(fields, out));
                copy.end_sent = true;
            } else {
                let room = mux.room(copy.window, copy.pending.len());
                if room == 0 && !copy.pending.is_empty() {
                    break;
                }
                let retains = copy.retained.is_some();
                let (chunk, last) = copy.take(room);
                if !retains {
                    conn.handed += chunk.len() as u64;
                }
                copy.window -= i64::try_from(chunk.len()).unwrap_or(0);
                wire.put(&mux.data(stream, last, chunk.len()), &chunk);
                copy.end_sent = last;
            }
            any = true;
        }
        if any {
            copy.flushed = false;
            copy.progress = self.now;
            conn.unflushed.push(at);
            self.wake(index);
        }
    }

    /// The socket took all that was handed over on a connection.
    pub(super) fn flushed(&mut self, index: u32, (mono, real): (u64, u64)) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let (shadow, received) = (conn.shadow, conn.received());
        let handed = std::mem::take(&mut conn.handed);
        let mut list = std::mem::take(&mut conn.unflushed);
        self.give(shadow, handed);
        for at in list.drain(..) {
            let Some(copy) = self.copies.get_mut(at as usize) else { continue };
            if copy.conn.is_none_or(|(conn, _)| conn != index) {
                continue;
            }
            copy.flushed = true;
            copy.progress = mono;
            if copy.written_at.is_none() {
                copy.written_at = Some(real);
                copy.received_then = received;
                let queued_ns = mono.saturating_sub(copy.head_time);
                self.reports.push(H2Report::Copy(Report::Written { shadow, queued_ns }));
            }
            self.settle_if_done(at);
        }
        if let Some(conn) = self.conns.get_mut(index as usize)
            && conn.unflushed.is_empty()
        {
            conn.unflushed = list;
        }
    }

    /// Hands over what was kept back while the socket took nothing.
    pub(super) fn feed(&mut self, index: u32) {
        if self.conns.get_mut(index as usize).is_some_and(|conn| std::mem::take(&mut conn.starved)) {
            self.send_all(index);
        }
    }

    /// Hands over what the copies on a connection have to send.
    pub(super) fn send_all(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let unsent = |at: &u32| self.copies.get(*at as usize).is_some_and(|copy| !copy.end_sent);
        let unsent: Vec<u32> = conn.open.values().copied().filter(unsent).collect();
        for at in unsent {
            self.send_more(at);
        }
    }

    /// Takes the windows that the shadow gave and took before anything is sent by them: what it took, it was already told to
    /// be taken (RFC 9113 section 6.5.3). Whether there were any; `None` if they are too large for all streams (section 6.9.2).
    pub(super) fn take_windows(&mut self, index: u32, said: &[Said]) -> Option<bool> {
        let Some(conn) = self.conns.get(index as usize) else { return Some(false) };
        let mut any = false;
        for one in said {
            match one.what {
                What::Windows(more) => {
                    any = true;
                    for at in conn.open.values() {
                        let Some(copy) = self.copies.get_mut(*at as usize) else { continue };
                        copy.window += more;
                        if copy.window > LARGEST_WINDOW {
                            return None;
                        }
                    }
                }
                What::Window(more) => {
                    any = true;
                    let at = conn.open.get(&one.stream);
                    if let Some(copy) = at.and_then(|at| self.copies.get_mut(*at as usize)) {
                        copy.window += more;
                    }
                }
                _ => {}
            }
        }
        Some(any)
    }

    /// The shadow has said something on a connection.
    pub(super) fn hear(&mut self, index: u32, said: Said) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match said.what {
            What::Pong => {
                if let State::Open(session) = &mut conn.state {
                    session.pong();
                }
            }
            What::GoAway(last, why) => self.drain(index, last, why),
            // Taken before anything was heard, see [`H2Replayer::take_windows`].
            What::Windows(_) => {}
            What::Window(_) if said.stream == 0 => {}
            // A stream that is over may still be spoken of.
            what => {
                if let Some(at) = conn.open.get(&said.stream).copied() {
                    self.answer(at, what);
                }
            }
        }
    }

    /// The shadow has said something of a copy.
    pub(super) fn answer(&mut self, at: u32, what: What) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        let Some((index, stream)) = copy.conn else { return };
        match what {
            What::Head { status, content_length, grpc_failed, ends } => {
                copy.progress = now;
                match (copy.answer, status) {
                    (Answer::Head, Some(100 | 102..=199)) if !ends => return,
                    (Answer::Head, Some(status @ 200..)) => {
                        copy.status = Some(status);
                        copy.answer = Answer::Body;
                        let empty = matches!(status, 204 | 304) || head::method(&copy.head) == b"HEAD";
                        copy.expected = content_length.filter(|_| !empty);
                        self.answered(at);
                    }
                    (Answer::Body, None) if ends => {}
                    _ => return self.bad(at),
                }
                let Some(copy) = self.copies.get_mut(at as usize) else { return };
                copy.grpc_failed |= grpc_failed;
                if ends {
                    self.complete(at);
                }
            }
            What::Data { bytes, credit, ends } => {
                copy.progress = now;
                if copy.answer != Answer::Body {
                    return self.bad(at);
                }
                if let Some(expected) = &mut copy.expected {
                    match expected.checked_sub(bytes.into()) {
                        Some(rest) => *expected = rest,
                        None => return self.bad(at),
                    }
                }
                copy.owed += credit;
                if ends {
                    return self.complete(at);
                }
                if copy.owed >= STREAM_WINDOW / 2 {
                    let owed = std::mem::take(&mut copy.owed);
                    if let Some(conn) = self.conns.get_mut(index as usize)
                        && let State::Open(session) = &mut conn.state
                    {
                        Mux::credit(session.wire.out(), stream, owed);
                    }
                    self.wake(index);
                }
            }
            What::Window(more) => {
                // RFC 9113 section 6.9.
                if more == 0 || copy.window > LARGEST_WINDOW {
                    self.bad(at);
                }
            }
            What::Reset(why) => {
                let (why, loss) = match why {
                    code::REFUSED_STREAM => (Failed::RefusedStream, Loss::Unprocessed),
                    // It has answered and wants no more of the request (RFC 9113 section 8.1).
                    code::NO_ERROR => (Failed::ClosedEarly, Loss::Final),
                    code::HTTP_1_1_REQUIRED => (Failed::NotH2, Loss::Final),
                    _ => (Failed::StreamReset, Loss::Final),
                };
                self.lose(at, why, loss);
            }
            What::BadHead => self.bad(at),
            // Of the connection.
            What::Windows(_) | What::GoAway(..) | What::Pong => {}
        }
    }

    /// The final head of an answer came.
    pub(super) fn answered(&mut self, at: u32) {
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        let Some((index, _)) = copy.conn else { return };
        let (shadow, forgotten) = (copy.shadow, copy.forget());
        let stamp = self.conns.get(index as usize).and_then(|conn| conn.stamp);
        let answered = stamp.unwrap_or_else(|| (self.clock)().1);
        // Answered before the socket had taken everything: nobody knows how long it took.
        if let Some(written) = copy.written_at {
            let latency_ns = answered.saturating_sub(written);
            self.reports.push(H2Report::Copy(Report::Answered { shadow, latency_ns }));
        }
        self.give(shadow, forgotten);
    }

    /// An answer is complete.
    pub(super) fn complete(&mut self, at: u32) {
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        if copy.expected.is_some_and(|rest| rest > 0) {
            return self.bad(at);
        }
        copy.answer = Answer::Complete;
        self.settle_if_done(at);
    }

    /// What came on a stream is no answer (RFC 9113 section 8.1.1).
    pub(super) fn bad(&mut self, at: u32) {
        self.reset(at, code::PROTOCOL_ERROR);
        self.lose(at, Failed::BadResponse, Loss::Final);
    }

    /// Delivered, once it is written to its end and answered to its end.
    pub(super) fn settle_if_done(&mut self, at: u32) {
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        if !matches!(copy.answer, Answer::Complete) {
            return;
        }
        if copy.end_sent && copy.flushed {
            let (shadow, status, grpc_failed) = (copy.shadow, copy.status.unwrap_or(0), copy.grpc_failed);
            if let Some(conn) = copy.conn.and_then(|(index, _)| self.conns.get_mut(index as usize)) {
                conn.answers += 1;
            }
            if grpc_failed {
                self.reports.push(H2Report::GrpcFailed { shadow });
            }
            self.settle(at, Outcome::Delivered { status });
        }
    }

    /// A copy's stream is gone.
    pub(super) fn lose(&mut self, at: u32, why: Failed, loss: Loss) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(at as usize) else { return };
        let shadow = copy.shadow;
        let counts = loss != Loss::Behind;
        if loss == Loss::Final || !copy.is_kept() || counts && copy.resent {
            let answered = matches!(copy.answer, Answer::Complete);
            let why = if answered { Failed::ClosedEarly } else { why };
            return self.settle(at, Outcome::Failed { why, partial: true });
        }
        if let Some((index, stream)) = copy.conn {
            copy.rewind();
            copy.resent |= counts;
            copy.progress = now;
            self.leave(index, stream);
        }
        self.reports.push(H2Report::Copy(Report::Resent { shadow }));
        self.wait_again(at);
    }

    /// Puts a copy back among those that wait, in its order.
    pub(super) fn wait_again(&mut self, at: u32) {
        let Some(copy) = self.copies.get(at as usize) else { return };
        let (id, serial) = (copy.link, copy.serial);
        let Some(link) = self.links.get_mut(id.index as usize) else { return };
        let copies = &self.copies;
        let place = link
            .waiting
            .iter()
            .position(|other| copies.get(*other as usize).is_some_and(|other| other.serial > serial))
            .unwrap_or(link.waiting.len());
        link.waiting.insert(place, at);
        self.mark_dirty(id);
    }

    /// Gives a copy up.
    pub(super) fn give_up(&mut self, at: u32, why: Dropped, code: Option<u32>) {
        let Some(copy) = self.copies.get(at as usize) else { return };
        let partial = copy.conn.is_some();
        self.reset(at, code.unwrap_or(code::CANCEL));
        self.settle(at, Outcome::Dropped { why, partial });
    }

    /// Tells the shadow that a copy's stream is over.
    pub(super) fn reset(&mut self, at: u32, why: u32) {
        let Some(copy) = self.copies.get(at as usize) else { return };
        let Some((index, stream)) = copy.conn else { return };
        if let Some(conn) = self.conns.get_mut(index as usize)
            && let State::Open(session) = &mut conn.state
        {
            Mux::reset(session.wire.out(), stream, why);
        }
        self.wake(index);
    }
}
