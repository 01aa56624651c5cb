//! Loading: what the verifier has to do, and the program's own log.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use mirror_agent::kernel::load::{L2, L3, LoadConfig};

use super::bench::*;
use super::frame::*;

/// The verifier gives up at a million instructions; older kernels need more of them for the same program.
const VERIFIED_LIMIT: u32 = 200_000;

#[test]
fn both_programs_stay_far_below_the_verifiers_limit_with_and_without_log() {
    for log in [false, true] {
        let mut bench = Bench::new(LoadConfig { log, ..config() }, &[]);
        for name in [L2, L3] {
            let info = bench.loaded.programs.get_mut(name).unwrap().info().unwrap();
            let verified = info.verified_instruction_count().unwrap();
            println!(
                "{name}, log {log}: {verified} instructions verified, {} bytes",
                info.size_translated().unwrap()
            );
            assert!(verified < VERIFIED_LIMIT, "{name}, log {log}: {verified}");
        }
    }
}

#[test]
fn descriptors_of_both_programs_can_be_handed_on() {
    let bench = Bench::plain();
    let (l2, l3) = bench.loaded.programs.descriptors().unwrap();
    assert!(l2.try_clone_to_owned().is_ok() && l3.try_clone_to_owned().is_ok());
}

#[test]
fn the_programs_log_shows_what_was_taken_and_what_was_passed_by() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer({
            let lines = Arc::clone(&lines);
            move || Lines(Arc::clone(&lines))
        })
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut bench = Bench::new(LoadConfig { log: true, ..config() }, &[(PRIMARY, JOB)]);
        bench.one(&Frame::new(CLIENT, PRIMARY, b"hello"));
        bench.send(&Frame::new(CLIENT, PRIMARY, b""));
        let log = bench.loaded.log.as_mut().unwrap();
        assert!(log.as_fd().try_clone_to_owned().is_ok());
        log.flush();
    });
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert!(text.contains("job 5: segment of 5 bytes"), "{text}");
    assert!(text.contains("passed by: counter 2"), "{text}");
    assert!(text.contains("mirror::bpf"), "{text}");
    assert!(Bench::plain().loaded.log.is_none());
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
