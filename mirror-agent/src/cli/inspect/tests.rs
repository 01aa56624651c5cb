//! From flags to lines: what the end-to-end tests cannot reach.

use std::io::{self, Write};
use std::path::PathBuf;

use super::inspect;
use crate::config::{ResolvedCapture, ResolvedInspect, Shown, resolve_inspect};

fn config(shown: Shown) -> ResolvedInspect {
    let files = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures/pipelined.pcap"))];
    ResolvedInspect { capture: ResolvedCapture { files, ports: Default::default(), filter: None }, shown }
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
    let mut err = Vec::new();
    let closed = inspect(&config(Shown::Json), &mut Broken(io::ErrorKind::BrokenPipe), &mut err);
    assert!(closed.unwrap());
    let full = inspect(&config(Shown::Json), &mut Broken(io::ErrorKind::StorageFull), &mut err);
    assert!(full.unwrap_err().to_string().contains("cannot write"));
}

#[test]
fn what_is_written_depends_on_flags_and_terminal() {
    let shown = |args: &[&str], terminal| {
        let cli = crate::cli::parse(["mirror", "inspect", "x"].iter().chain(args)).unwrap();
        let crate::cli::Command::Inspect(flags) = cli.command else { panic!("another command") };
        resolve_inspect(&flags, terminal).unwrap().shown
    };
    assert_eq!((shown(&[], true), shown(&[], false)), (Shown::Table, Shown::Json));
    assert_eq!((shown(&["--json"], true), shown(&["--table"], false)), (Shown::Json, Shown::Table));
    assert_eq!(
        (shown(&["--summary"], false), shown(&["--summary", "--json"], true)),
        (Shown::Nothing, Shown::NothingJson)
    );
}
