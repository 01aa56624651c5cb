//! The files: made with mode 0600, ended and numbered by size and time, whole whatever happens.
//!
//! `FILE` is the one that is being written. When it is full or old enough it is ended and renamed to `FILE` with a number
//! before its ending (`capture-00001.pcapng`), and a new `FILE` begins: in the order of names the files are in the order of
//! time. No file that is there is ever overwritten, and no symbolic link followed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::capture::{Encoder, Statistics, blocks};

/// Numbers that are tried to find a name that nobody has.
const MAX_NAMES_TRIED: u32 = 10_000;

/// When a file is ended, and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Largest file, bytes.
    pub size: u64,
    /// Longest time that a file with packets is written to.
    pub time: Option<Duration>,
    /// Files that stay, the one that is written included; the oldest are removed. `None` for all.
    pub keep: Option<NonZeroU32>,
}

/// Why nothing is written any more.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}: {source}", path.display())]
pub struct Failed {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// What was written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Files begun.
    pub files: u64,
    /// Of these, files that made room for younger ones.
    pub removed: u64,
    /// Packets, those in removed files included.
    pub packets: u64,
    /// Bytes of files, the same.
    pub bytes: u64,
}

/// How many segments found no room in a ring so far.
pub type Drops = Box<dyn Fn() -> u64 + Send>;

/// The files of a recording.
pub struct Files {
    path: PathBuf,
    rotation: Rotation,
    encoder: Encoder,
    drops: Drops,
    open: Option<Open>,
    number: u32,
    kept: VecDeque<PathBuf>,
    written: Written,
    failed: Option<Failed>,
    stopped: bool,
}

/// The file that is being written.
struct Open {
    file: File,
    /// Whole blocks in it, bytes.
    bytes: u64,
    packets: u64,
    begun: Instant,
    begun_ns: u64,
    drops: u64,
}

impl Files {
    /// Begins the first file.
    ///
    /// # Errors
    ///
    /// If there is such a file (it is left as it is), or it cannot be made.
    pub fn create(path: &Path, rotation: Rotation, encoder: Encoder, drops: Drops) -> Result<Self, Failed> {
        let mut files = Self {
            path: path.to_owned(),
            rotation,
            encoder,
            drops,
            open: None,
            number: 0,
            kept: VecDeque::new(),
            written: Written::default(),
            failed: None,
            stopped: false,
        };
        files.begin()?;
        Ok(files)
    }

    /// Appends whole blocks.
    ///
    /// # Errors
    ///
    /// If not all of them were written. What is in files then are whole blocks; nothing is written after that, and why says
    /// [`Files::failed`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if self.stopped {
            return Err(Stopped);
        }
        let result = self.append(bytes);
        self.keep_failure(result)
    }

    /// Ends the file if its time is over.
    pub fn tick(&mut self) {
        if !self.stopped && self.is_old() {
            let result = self.rotate();
            let _kept = self.keep_failure(result);
        }
    }

    /// Ends the last file.
    pub fn finish(&mut self) {
        let result = self.end();
        let _kept = self.keep_failure(result);
    }

    /// Why nothing is written any more. The first fault, told once.
    pub fn failed(&mut self) -> Option<Failed> {
        self.failed.take()
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    fn keep_failure(&mut self, result: Result<(), Failed>) -> Result<(), Stopped> {
        result.map_err(|failed| {
            self.stopped = true;
            self.failed.get_or_insert(failed);
            Stopped
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        if self.is_old() {
            self.rotate()?;
        }
        let (mut from, mut to, mut packets) = (0, 0, 0);
        for block in blocks(bytes) {
            let len = block.len() as u64;
            let have = self.open.as_ref().map_or(0, |open| open.bytes) + (to - from) as u64;
            let is_empty = self.open.as_ref().is_none_or(|open| open.packets == 0) && packets == 0;
            if !is_empty && have + len + Encoder::STATISTICS_BYTES as u64 > self.rotation.size {
                self.put(&bytes[from..to], packets)?;
                self.rotate()?;
                (from, packets) = (to, 0);
            }
            to += block.len();
            packets += 1;
        }
        self.put(&bytes[from..to], packets)
    }

    /// Writes blocks to the open file: all of them or none.
    fn put(&mut self, bytes: &[u8], packets: u64) -> Result<(), Failed> {
        let Some(open) = &mut self.open else {
            return Err(self.failure("closed", ErrorKind::NotFound.into()));
        };
        if let Err(error) = open.put(bytes) {
            return Err(self.failure("cannot be written", error));
        }
        open.packets += packets;
        self.written.packets += packets;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }

    fn is_old(&self) -> bool {
        let old = |open: &Open| self.rotation.time.is_some_and(|time| open.begun.elapsed() >= time);
        self.open.as_ref().is_some_and(|open| open.packets > 0 && old(open))
    }

    fn begin(&mut self) -> Result<(), Failed> {
        // Made here (O_EXCL): neither an existing file nor a link is opened.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let file = match made {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(self.failure("is there already; name another file, or remove it", error));
            }
            Err(error) => return Err(self.failure("cannot be made", error)),
        };
        self.open = Some(Open {
            file,
            bytes: 0,
            packets: 0,
            begun: Instant::now(),
            begun_ns: now_ns(),
            drops: (self.drops)(),
        });
        let head = self.encoder.head().to_vec();
        let begun = self.put(&head, 0);
        match begun {
            Ok(()) => self.written.files += 1,
            // A file without its head is none.
            Err(_) => {
                self.open = None;
                let _error_is_told = fs::remove_file(&self.path);
            }
        }
        begun
    }

    /// Ends the open file with what it says of itself.
    fn end(&mut self) -> Result<(), Failed> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let mut bytes = Vec::new();
        let statistics = Statistics {
            span: (open.begun_ns, now_ns()),
            packets: open.packets,
            dropped: (self.drops)().saturating_sub(open.drops),
        };
        self.encoder.statistics(&statistics, &mut bytes);
        match open.put(&bytes) {
            Ok(()) => {
                self.written.bytes += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.failure("cannot be ended", error)),
        }
    }

    fn rotate(&mut self) -> Result<(), Failed> {
        self.end()?;
        let kept = self.put_aside()?;
        self.kept.extend(kept);
        if let Some(keep) = self.rotation.keep {
            // The one that begins is one of them.
            while self.kept.len() as u64 >= u64::from(keep.get()) {
                let Some(oldest) = self.kept.pop_front() else { break };
                match fs::remove_file(&oldest) {
                    Ok(()) => self.written.removed += 1,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(source) => {
                        return Err(Failed { path: oldest, what: "cannot be removed (--keep)", source });
                    }
                }
            }
        }
        self.begin()
    }

    /// Gives the file that was ended its number. `None` if somebody took it away.
    fn put_aside(&mut self) -> Result<Option<PathBuf>, Failed> {
        for _ in 0..MAX_NAMES_TRIED {
            self.number += 1;
            let to = numbered(&self.path, self.number);
            match rename(&self.path, &to) {
                Ok(()) => return Ok(Some(to)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failure("cannot be renamed", error)),
            }
        }
        Err(self.failure("no number is free for it", ErrorKind::AlreadyExists.into()))
    }

    fn failure(&self, what: &'static str, source: io::Error) -> Failed {
        Failed { path: self.path.clone(), what, source }
    }
}

/// Nothing is written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Open {
    /// All of the bytes, or none.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What is there of a block that is not whole goes away again. What cannot even be made shorter stays as it is.
                let _error_is_told =
                    self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
                Err(error)
            }
        }
    }
}

/// Like `rename`, but what has the name already keeps it.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Not every file system can do that; those have links.
        Err(nix::Error::EINVAL) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// `name-00001.ending`.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:05}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
