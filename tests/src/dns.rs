//! A name server whose answers a scenario changes while it runs, and a way to make a program ask it.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// What every name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This address.
    Address(Ipv4Addr),
    /// There is no such name.
    NoSuchName,
    /// Nothing is said at all.
    Silence,
}

/// A running name server at 127.0.0.1 of its namespace.
#[derive(Debug)]
pub struct NameServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    asked: AtomicU64,
    stop: AtomicBool,
}

impl NameServer {
    /// Starts it.
    ///
    /// # Errors
    /// When port 53 is taken in `namespace`.
    pub fn start(namespace: &Namespace, answer: Answer) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind("127.0.0.1:53")).context("a name server")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            asked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&socket, &of_thread));
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on every name stands for this.
    pub fn say(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Questions so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

/// A command that runs `program` in `namespace` with a mount namespace of its own, in which the name server of
/// `namespace` is the resolver.
///
/// # Errors
/// When the file for it cannot be written to `folder`.
pub fn asking(namespace: &Namespace, folder: &Path, program: &Path) -> Result<Command> {
    let file = folder.join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n")?;
    let mut command = namespace.command("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""])
        .arg(file)
        .arg(program);
    Ok(command)
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0; 512];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let answer = *shared.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = reply(&packet[..length], answer) {
            let _asker_is_gone = socket.send_to(&reply, from);
        }
    }
}

/// The answer to a question (RFC 1035 section 4): its header and question again, and one A record if there is one.
fn reply(question: &[u8], answer: Answer) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let end = 12 + name + 5;
    let kind = question.get(end - 4..end - 2)?;
    let (code, address) = match answer {
        Answer::Silence => return None,
        Answer::NoSuchName => (3, None),
        Answer::Address(address) => (0, Some(address).filter(|_| kind == A)),
    };
    let mut reply = question.get(..end)?.to_vec();
    // Answer, authoritative, recursion desired and available; one question, none or one answer, nothing else.
    reply[2..4].copy_from_slice(&[0x85, 0x80 | code]);
    reply[4..12].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The name is that of the question; class IN, no time to live, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::{Answer, reply};

    #[test]
    fn a_question_for_an_address_gets_one_and_others_none() {
        let question = |kind: u8| {
            [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0][..], &[kind, 0, 1], &[9; 11]].concat()
        };
        let said = reply(&question(1), Answer::Address([10, 0, 0, 9].into())).unwrap();
        assert_eq!(
            (&said[..2], &said[6..8], &said[said.len() - 4..]),
            (&[7, 7][..], &[0, 1][..], &[10, 0, 0, 9][..])
        );
        let none = reply(&question(28), Answer::Address([10, 0, 0, 9].into())).unwrap();
        assert_eq!((none.len(), none[3] & 15), (19, 0));
        assert_eq!(reply(&question(1), Answer::NoSuchName).unwrap()[3] & 15, 3);
        assert_eq!(
            (reply(&question(1), Answer::Silence), reply(&[0; 13], Answer::NoSuchName).is_some()),
            (None, false)
        );
    }
}
