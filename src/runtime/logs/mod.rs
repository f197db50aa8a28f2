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
//! Rotation makes `.log.new`, shifts `.log.N` to `.log.N+1`, links `.log` to `.log.1`, and renames `.log.new` over `.log`:
//! the newest name is never missing. A reader holds the old file open, reads it to its end and goes on in the next one.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::config::{ContainerId, LogConfig};
use crate::runtime::record::{self, Record, RecordError, Timestamp, VERSION, Versioned};
use crate::sys::atomic::Durability;
use crate::sys::inotify::Inotify;

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

    /// Removes the logs of all but the last `keep` containers of each name, never of one that `exists`.
    pub fn prune(
        &self,
        keep: usize,
        exists: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<(), LogError> {
        let mut by_name: BTreeMap<String, Vec<ContainerId>> = BTreeMap::new();
        for index in self.list()? {
            by_name.entry(index.name).or_default().push(index.id);
        }
        for ids in by_name.values() {
            for id in ids.iter().rev().skip(keep).filter(|id| !exists(id)) {
                self.forget(id)?;
            }
        }
        Ok(())
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

/// Where a log ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The newest file.
    pub inode: u64,
    /// Its size, bytes.
    pub size: u64,
}

/// Appends records and rotates.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: fs_err::File,
    inode: u64,
    size: u64,
    config: LogConfig,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// Opens the log at `path` for appending; finishes a record that a killed writer left half.
    pub fn open(path: &Path, config: LogConfig) -> Result<Self, LogError> {
        let mut writer = Self::open_unfinished(path, config)?;
        writer.finish_record()?;
        Ok(writer)
    }

    /// Opens it as it is, for one who calls [`append_once`](Self::append_once) or [`finish_record`](Self::finish_record) next.
    pub(crate) fn open_unfinished(path: &Path, config: LogConfig) -> Result<Self, LogError> {
        let file = open_append(path)?;
        let metadata = file.metadata().map_err(at("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            inode: metadata.ino(),
            size: metadata.len(),
            config,
            buffer: Vec::new(),
        })
    }

    /// Finishes a record that a killed writer left half.
    pub(crate) fn finish_record(&mut self) -> Result<(), LogError> {
        if self.size == 0 {
            return Ok(());
        }
        let wrap = at("open", &self.path);
        let mut last = [0_u8];
        self.file.seek(SeekFrom::End(-1)).map_err(&wrap)?;
        self.file.read_exact(&mut last).map_err(&wrap)?;
        if last != [b'\n'] {
            self.file.write_all(b"\n").map_err(&wrap)?;
            self.size += 1;
        }
        Ok(())
    }

    /// Returns where it ends.
    pub(crate) fn position(&self) -> Position {
        Position {
            inode: self.inode,
            size: self.size,
        }
    }

    /// Appends what was read from `stream` at `at`, all of it or nothing.
    pub fn append(
        &mut self,
        at_time: Timestamp,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        self.append_once(self.position(), at_time, stream, bytes)
    }

    /// Appends as [`append`](Self::append) does, what a killed writer may have begun to append when the log ended at `before`.
    pub(crate) fn append_once(
        &mut self,
        before: Position,
        at_time: Timestamp,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        self.buffer.clear();
        render(&mut self.buffer, at_time, stream, bytes);
        let length = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        if self.position() != before {
            // Behind a rotation the file began empty. A time has the same width whenever it is.
            let begun = if self.inode == before.inode {
                before.size
            } else {
                0
            };
            if self.size == begun.saturating_add(length) {
                return Ok(());
            }
            if self.size > begun {
                self.file.set_len(begun).map_err(at("cut", &self.path))?;
                self.size = begun;
            }
        }
        let limit = self.config.max_size_bytes;
        if limit > 0 && self.size > 0 && self.size.saturating_add(length) > limit {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            // What cannot be cut back now is finished by a newline at the next open.
            return Err(at("write", &self.path)(
                match self.file.set_len(self.size) {
                    Ok(()) => error,
                    Err(left) => io::Error::other(format!("{error}; and then: {left}")),
                },
            ));
        }
        self.size = self.size.saturating_add(length);
        Ok(())
    }

    /// Brings what was appended to the disk.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(at("sync", &self.path))
    }

    /// Starts a new file; the old ones move up, the oldest goes.
    fn rotate(&mut self) -> Result<(), LogError> {
        let new = with_suffix(&self.path, ".new");
        remove_if_there(&new)?;
        let file = open_append(&new)?;
        let older = self.config.max_files.saturating_sub(1);
        for number in (1..older).rev() {
            let from = numbered(&self.path, number);
            match fs_err::rename(&from, numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("rotate", &from)(error));
                }
                _ => {}
            }
        }
        if older > 0 {
            let first = numbered(&self.path, 1);
            remove_if_there(&first)?;
            fs_err::hard_link(&self.path, &first).map_err(at("rotate", &self.path))?;
        }
        fs_err::rename(&new, &self.path).map_err(at("rotate", &self.path))?;
        self.inode = file.metadata().map_err(at("rotate", &new))?.ino();
        self.file = file;
        self.size = 0;
        Ok(())
    }
}

/// Appends `bytes` as records to `out`.
fn render(out: &mut Vec<u8>, time: Timestamp, stream: Stream, bytes: &[u8]) {
    let head = format!("{time} {} ", stream.word());
    let mut record = |flag: u8, text: &[u8]| {
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&[flag, b' ']);
        out.extend_from_slice(text);
        out.push(b'\n');
    };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, ended) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let mut pieces = text.chunks(TEXT_BYTES).peekable();
        if pieces.peek().is_none() {
            record(b'F', b"");
        }
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            record(if last && ended { b'F' } else { b'P' }, piece);
        }
    }
}

/// A record as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line<'a> {
    at: Timestamp,
    stream: Stream,
    full: bool,
    text: &'a [u8],
}

/// Reads a record, without its newline; `None` for what no writer wrote whole.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time: jiff::Timestamp = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let full = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line {
        at: Timestamp(i64::try_from(time.as_nanosecond()).ok()?),
        stream,
        full,
        text: parts.next()?,
    })
}

/// Reads one container's log, from its oldest wanted entry to its end, and on as it grows.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    options: ReadOptions,
    /// Files still to be read, the current one first.
    files: VecDeque<fs_err::File>,
    /// Bytes of the current file that do not yet make a record.
    rest: Vec<u8>,
    /// Unfinished lines, by stream.
    open: BTreeMap<Stream, Entry>,
}

impl LogReader {
    /// Opens the files and finds the place to start.
    fn open(path: PathBuf, options: ReadOptions, id: &ContainerId) -> Result<Self, LogError> {
        let mut reader = Self {
            files: newer_files(&path, None)?,
            path,
            options,
            rest: Vec::new(),
            open: BTreeMap::new(),
        };
        if reader.files.is_empty() {
            return Err(LogError::NotFound(id.clone()));
        }
        if let Some(lines) = options.tail {
            reader.skip_to_tail(lines)?;
        }
        Ok(reader)
    }

    /// Appends the entries that are there now to `entries`, at most about 64 KiB of them. Returns whether there may be more.
    pub fn read(&mut self, entries: &mut Vec<Entry>) -> Result<bool, LogError> {
        loop {
            if self.read_current(entries)? {
                return Ok(true);
            }
            // At the end of this file. If it is no longer the newest, its writer has left it: one more look, then the next.
            if self.files.len() < 2 {
                let newer = newer_files(&self.path, self.files.front())?;
                if newer.is_empty() {
                    return Ok(false);
                }
                self.files.extend(newer);
            }
            if self.read_current(entries)? {
                return Ok(true);
            }
            self.files.pop_front();
            self.rest.clear();
        }
    }

    /// Returns the unfinished lines, for one who will not read on; what is read later is no part of them.
    pub fn finish(&mut self) -> Vec<Entry> {
        let mut left: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        left.retain(|entry| self.wants(entry));
        left.sort_by_key(|entry| entry.at);
        left
    }

    /// Reads up to 64 KiB from the current file; whether there was anything.
    fn read_current(&mut self, entries: &mut Vec<Entry>) -> Result<bool, LogError> {
        let Some(file) = self.files.front_mut() else {
            return Ok(false);
        };
        let start = self.rest.len();
        self.rest.resize(start + 64 * 1024, 0);
        let buffer = self.rest.get_mut(start..).unwrap_or_default();
        let count = file.read(buffer).map_err(at("read", &self.path))?;
        self.rest.truncate(start + count);
        let rest = std::mem::take(&mut self.rest);
        let mut used = 0;
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            let Some(line_text) = line.strip_suffix(b"\n") else {
                break;
            };
            used += line.len();
            if let Some(line) = parse(line_text) {
                self.take(&line, entries);
            }
        }
        self.rest = rest.get(used..).unwrap_or_default().to_vec();
        Ok(count > 0)
    }

    /// Joins a record to its line.
    fn take(&mut self, line: &Line<'_>, entries: &mut Vec<Entry>) {
        let mut entry = self.open.remove(&line.stream).unwrap_or(Entry {
            at: line.at,
            stream: line.stream,
            text: Vec::new(),
            newline: false,
        });
        entry.text.extend_from_slice(line.text);
        entry.newline = line.full;
        if line.full || entry.text.len() >= LINE_BYTES {
            if self.wants(&entry) {
                entries.push(entry);
            }
        } else {
            self.open.insert(line.stream, entry);
        }
    }

    /// Tells whether it was asked for.
    fn wants(&self, entry: &Entry) -> bool {
        let stream = match entry.stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        stream
            && self.options.since.is_none_or(|since| entry.at >= since)
            && self.options.until.is_none_or(|until| entry.at <= until)
    }

    /// Leaves only the last `lines` lines to be read.
    fn skip_to_tail(&mut self, lines: usize) -> Result<(), LogError> {
        let wrap = at("read", &self.path);
        let mut missing = lines;
        for index in (0..self.files.len()).rev() {
            let Some(file) = self.files.get_mut(index) else {
                break;
            };
            let newest = missing == lines;
            let (offset, found) = tail_offset(file, missing, newest).map_err(&wrap)?;
            file.seek(SeekFrom::Start(offset)).map_err(&wrap)?;
            missing -= found;
            if missing == 0 {
                self.files.drain(..index);
                break;
            }
        }
        Ok(())
    }
}

/// Returns where in `file` the last `lines` lines begin, and how many of them it has. At the end of the `newest` file an
/// unfinished line is a line too.
fn tail_offset(file: &mut fs_err::File, lines: usize, newest: bool) -> io::Result<(u64, usize)> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut may_be_unfinished = newest && lines > 0;
    let mut end = length;
    // The bytes from `end` on that begin inside a record.
    let mut carried: Vec<u8> = Vec::new();
    while end > 0 {
        let size = end.min(64 * 1024);
        let start = end - size;
        let mut block = vec![0_u8; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.append(&mut carried);
        let mut stop = block.len();
        // Each record from the last one back; its first byte follows a newline.
        for newline in (0..block.len())
            .rev()
            .filter(|at| block.get(*at) == Some(&b'\n'))
        {
            let record = block.get(newline + 1..stop).unwrap_or_default();
            let line = parse(record);
            if let Some(line) = &line {
                found += usize::from(may_be_unfinished && !line.full);
                may_be_unfinished = false;
            }
            let ends_line = line.is_some_and(|line| line.full);
            // The line that ends in this record is beyond the last wanted one: what follows it is the tail.
            if ends_line && found == lines {
                let after = u64::try_from(stop).unwrap_or(0) + 1;
                return Ok(((start + after).min(length), lines));
            }
            found += usize::from(ends_line);
            stop = newline;
        }
        carried = block.get(..stop).unwrap_or_default().to_vec();
        if start == 0 {
            let ends_line = parse(&carried).is_some_and(|line| line.full);
            if ends_line && found == lines {
                let after = u64::try_from(stop).unwrap_or(0) + 1;
                return Ok((after.min(length), lines));
            }
            found += usize::from(ends_line);
        }
        end = start;
    }
    Ok((0, found.min(lines)))
}

/// Follows several logs by one descriptor, which is readable when one of them has grown.
#[derive(Debug)]
pub struct Follower {
    inotify: Inotify,
    readers: Vec<(LogReader, i32)>,
}

impl Follower {
    /// Follows nothing yet.
    pub fn new() -> Result<Self, LogError> {
        Ok(Self {
            inotify: Inotify::new().map_err(at("watch", Path::new("logs")))?,
            readers: Vec::new(),
        })
    }

    /// Follows one more log; returns its number. The caller reads it once to its end: what is there causes no event.
    pub fn add(&mut self, reader: LogReader) -> Result<usize, LogError> {
        let watch = watch(&self.inotify, &reader)?;
        self.readers.push((reader, watch));
        Ok(self.readers.len() - 1)
    }

    /// Returns the numbers of the logs that may have grown, without waiting.
    pub fn grown(&mut self) -> Result<Vec<usize>, LogError> {
        let changes = self
            .inotify
            .take()
            .map_err(at("watch", Path::new("logs")))?;
        let all = changes.iter().any(|change| change.overflow);
        let grown = |watch: i32| all || changes.iter().any(|change| change.watch == watch);
        let numbered = self.readers.iter().enumerate();
        Ok(numbered
            .filter(|(_, (_, watch))| grown(*watch))
            .map(|(number, _)| number)
            .collect())
    }

    /// Returns the unfinished lines of log `number`: its writer has ended, or nobody will read on.
    pub fn finish(&mut self, number: usize) -> Vec<Entry> {
        self.readers
            .get_mut(number)
            .map_or_else(Vec::new, |(reader, _)| reader.finish())
    }

    /// Reads log `number` as [`LogReader::read`] does, through its rotations.
    pub fn read(&mut self, number: usize, entries: &mut Vec<Entry>) -> Result<bool, LogError> {
        let Some((reader, watched)) = self.readers.get_mut(number) else {
            return Ok(false);
        };
        let more = reader.read(entries)?;
        let new = watch(&self.inotify, reader)?;
        if new == *watched {
            return Ok(more);
        }
        self.inotify
            .unwatch(*watched)
            .map_err(at("watch", &reader.path))?;
        *watched = new;
        Ok(true) // what came before the new watch made no event
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Watches the file that the reader is at, by the file itself.
fn watch(inotify: &Inotify, reader: &LogReader) -> Result<i32, LogError> {
    let current = reader.files.front();
    let path = current.map(|file| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(file);
        PathBuf::from(format!("/proc/self/fd/{fd}"))
    });
    let path = path.unwrap_or_else(|| reader.path.clone());
    inotify.watch_file(&path).map_err(at("watch", &reader.path))
}

/// Opens the files that are newer than `known` (all, if `None`), oldest first; none if `known` is the newest.
///
/// From the newest to the oldest: a rotation meanwhile moves files towards us, so that one may be seen twice, never missed.
fn newer_files(
    newest: &Path,
    known: Option<&fs_err::File>,
) -> Result<VecDeque<fs_err::File>, LogError> {
    let key = |file: &fs_err::File, path: &Path| {
        let metadata = file.metadata().map_err(at("read", path))?;
        Ok::<_, LogError>((metadata.dev(), metadata.ino()))
    };
    let known = known.map(|file| key(file, newest)).transpose()?;
    let mut files = VecDeque::new();
    let mut seen = Vec::new();
    for number in 0.. {
        let path = match number {
            0 => newest.to_owned(),
            _ => numbered(newest, number),
        };
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(at("open", &path)(error)),
        };
        let key = key(&file, &path)?;
        if Some(key) == known {
            break;
        }
        if !seen.contains(&key) {
            seen.push(key);
            files.push_front(file);
        }
    }
    Ok(files)
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

/// Removes a file; one that is gone is fine.
fn remove_if_there(path: &Path) -> Result<(), LogError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
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
