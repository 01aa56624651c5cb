//! What the tests of both replayers stand on: a clock, the list of own connections, and scripted servers on loopback.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Exclude;

/// What a replayer asked to keep out of the tap.
#[derive(Clone, Default)]
pub(super) struct Excluded(pub(super) Arc<Mutex<Vec<SocketAddr>>>);

impl Exclude for Excluded {
    fn insert(&self, local: SocketAddr) {
        self.0.lock().unwrap().push(local);
    }
    fn remove(&self, local: SocketAddr) {
        self.0.lock().unwrap().retain(|known| *known != local);
    }
}

/// `CLOCK_MONOTONIC`, as far as a test can tell, and `CLOCK_REALTIME`, ns.
pub(super) fn clock() -> (u64, u64) {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let mono = START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000;
    (mono, SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// Runs `script` for each of `connections` connections in turn; returns what it returned.
pub(super) fn server<T: Send + 'static>(
    connections: usize,
    mut script: impl FnMut(usize, TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        (0..connections)
            .map(|i| {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
                stream.set_nodelay(true).unwrap();
                script(i, stream)
            })
            .collect()
    });
    (addr, thread)
}
