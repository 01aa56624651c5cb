//! Links and file systems that a few scenarios need: an L3 link over TUN, a BPF file system for pins.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel;
use crate::netns::{Namespace, run_checked};

/// Two TUN devices with a thread between them: a link without Ethernet headers.
#[derive(Debug)]
pub struct L3Link {
    stop: Arc<AtomicBool>,
    ends: [Arc<Namespace>; 2],
}

impl L3Link {
    /// `tun0` in both namespaces, without addresses and down. Panics when TUN is not to be had.
    #[must_use]
    pub fn new(one: &Arc<Namespace>, two: &Arc<Namespace>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let open = |namespace: &Namespace| namespace.run(|| kernel::tun("tun0").unwrap());
        let (left, right) = (open(one), open(two));
        for (mut from, mut to) in [(left.try_clone().unwrap(), right.try_clone().unwrap()), (right, left)] {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut packet = vec![0; 70_000];
                while !stop.load(Ordering::Relaxed) {
                    // An error is a device that is down or gone.
                    let Ok(n) = from.read(&mut packet) else { break };
                    let _full_or_down = to.write(&packet[..n]);
                }
            });
        }
        Self { stop, ends: [Arc::clone(one), Arc::clone(two)] }
    }
}

impl Drop for L3Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in &self.ends {
            // The reader wakes with an error when its device goes down.
            let _gone_already = end.ip("link set tun0 down");
        }
    }
}

/// A BPF file system of this test alone, for `tc` to find a pinned program.
#[derive(Debug)]
pub struct PinFolder(PathBuf);

impl PinFolder {
    /// Mounted below `dir`. Panics when it cannot be mounted.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("pins");
        std::fs::create_dir_all(&path).unwrap();
        run_checked(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path)).unwrap();
        Self(path)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        let _gone_already = run_checked(Command::new("umount").arg(&self.0));
    }
}
