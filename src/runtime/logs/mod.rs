//! What containers wrote: the file format, its writer, its readers.
//!
//! ```text
//! <root>/logs/<id>.log       newest; .log.1 is older, and so on
//! <root>/logs/<id>.json      {"version":1,"id":…,"name":…,"created":…,"labels":{…}}: whose log it is; outlives the container
//!
//! record  = time " " stream " " flag " " text "\n"
//! time    = RFC 3339 in UTC with nine digits of nanoseconds: 2026-11-21T10:42:51.123456789Z
//! stream  = "stdout" | "stderr"
//! flag    = "F": a newline followed the text | "P": the line goes on in the next record of the same stream
//! text    = any bytes but a newline; at most 16 KiB
//! ```
//!
//! What is read from a pipe is written at once, so an unfinished line is a `P` record and not in the monitor's memory.
//! Readers join them. One append is one `write`: if it fails, for want of space, the file is cut back to where it was, and
//! the caller keeps the bytes and tries again.
//!
//! A log outlives its container; what is kept of those is bounded ([`KEPT_PER_NAME`], [`KEPT_BYTES`]).
//!
//! Rotation makes `.log.new`, shifts `.log.N` to `.log.N+1`, links `.log` to `.log.1`, and renames `.log.new` over `.log`:
//! the newest name is never missing. One that was cut short, or failed, goes on where it stopped. A reader holds the old file open, reads it to its end and goes on in the next one.

mod follow;
mod reader;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::config::ContainerId;
use crate::runtime::record::{self, Record, RecordError, Timestamp, VERSION, Versioned};
use crate::sys::atomic::Durability;

pub use crate::runtime::logs::follow::Follower;
pub use crate::runtime::logs::reader::LogReader;
pub use crate::runtime::logs::writer::{LogWriter, Position};

/// How many containers of one name have a log after they are gone.
pub const KEPT_PER_NAME: usize = 10;

/// How large the logs of all containers that are gone may be together, bytes.
pub const KEPT_BYTES: u64 = 1 << 30;

/// Longest text of a record, bytes.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Longest line that a reader joins, bytes; a longer one comes in pieces without a newline.
const LINE_BYTES: usize = 1024 * 1024;

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log file.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The record beside it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No such log.
    #[error("no log of container {}", .0.short())]
    NotFound(ContainerId),
}

/// Which of its streams a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output, and a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns its word in the file.
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// `<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIndex {
    /// [`VERSION`].
    pub version: u32,
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Opaque to this room.
    pub labels: BTreeMap<String, String>,
}

impl Versioned for LogIndex {
    fn version(&self) -> u32 {
        self.version
    }
}

/// One line, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When its first byte was read.
    pub at: Timestamp,
    /// Where it was written to.
    pub stream: Stream,
    /// Without the newline.
    pub text: Vec<u8>,
    /// Whether a newline followed.
    pub newline: bool,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Nothing before.
    pub since: Option<Timestamp>,
    /// Nothing after.
    pub until: Option<Timestamp>,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl ReadOptions {
    /// Everything.
    pub const ALL: Self = Self {
        tail: None,
        since: None,
        until: None,
        stdout: true,
        stderr: true,
    };
}

/// The logs of an instance.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: PathBuf,
}

impl Logs {
    /// Opens the directory, which exists.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes an empty log and says whose it is.
    pub(crate) fn begin(&self, record: &Record) -> Result<(), LogError> {
        let index = LogIndex {
            version: VERSION,
            id: record.id.clone(),
            name: record.config.name.clone(),
            created: record.created,
            labels: record.config.labels.clone(),
        };
        record::write(&self.index(&record.id), &index, Durability::Cached)?;
        open_append(&self.newest(&record.id)).map(drop)
    }

    /// Returns whose logs there are, oldest container first.
    pub fn list(&self) -> Result<Vec<LogIndex>, LogError> {
        let wrap = at("list", &self.directory);
        let mut found = Vec::new();
        for entry in fs_err::read_dir(&self.directory).map_err(&wrap)? {
            let name = entry.map_err(&wrap)?.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(ContainerId::new);
            if let Some(id) = id {
                found.extend(record::read::<LogIndex>(&self.index(&id))?);
            }
        }
        found.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(found)
    }

    /// Opens the log of `id` at the first entry that `options` ask for.
    pub fn open(&self, id: &ContainerId, options: ReadOptions) -> Result<LogReader, LogError> {
        LogReader::open(self.newest(id), options, id)
    }

    /// Removes the log of `id`; one that is gone is fine.
    pub fn forget(&self, id: &ContainerId) -> Result<(), LogError> {
        let newest = self.newest(id);
        let mut paths = vec![self.index(id), with_suffix(&newest, ".new"), newest.clone()];
        let rotated = (1..).map(|number| numbered(&newest, number));
        paths.extend(rotated.take_while(|path| path.exists()));
        for path in paths {
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes logs of containers that are gone: of each name all but the last [`KEPT_PER_NAME`], of all names the oldest until
    /// [`KEPT_BYTES`] are left. Never of one that `exists`.
    pub fn prune(&self, exists: &dyn Fn(&ContainerId) -> bool) -> Result<(), LogError> {
        self.prune_to((KEPT_PER_NAME, KEPT_BYTES), exists)
    }

    /// Like [`prune`](Self::prune), with these bounds.
    fn prune_to(
        &self,
        (per_name, bytes): (usize, u64),
        exists: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<(), LogError> {
        let mut of_name: BTreeMap<String, usize> = BTreeMap::new();
        let mut total: u64 = 0;
        // The newest first.
        for index in self.list()?.iter().rev().filter(|index| !exists(&index.id)) {
            let number = of_name.entry(index.name.clone()).or_default();
            *number += 1;
            total = total.saturating_add(self.bytes(&index.id)?);
            if *number > per_name || total > bytes {
                self.forget(&index.id)?;
            }
        }
        Ok(())
    }

    /// Returns the size of a log, all of its files.
    fn bytes(&self, id: &ContainerId) -> Result<u64, LogError> {
        let newest = self.newest(id);
        let rotated = (1..).map(|number| numbered(&newest, number));
        let mut total: u64 = 0;
        for path in std::iter::once(newest.clone()).chain(rotated) {
            match fs_err::metadata(&path) {
                Ok(metadata) => total = total.saturating_add(metadata.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(at("measure", &path)(error)),
            }
        }
        Ok(total)
    }

    /// Returns the path of the newest file.
    fn newest(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(format!("{id}.log"))
    }

    /// Returns the path of the record.
    fn index(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

/// Opens a log file for reading and appending, mode 0600.
fn open_append(path: &Path) -> Result<fs_err::File, LogError> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).append(true).create(true);
    options
        .options_mut()
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(at("open", path))
}

/// Returns the path of the rotated file `number`, from 1.
fn numbered(newest: &Path, number: u32) -> PathBuf {
    with_suffix(newest, &format!(".{number}"))
}

/// Appends to the file name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Wraps an error of `path`.
fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
