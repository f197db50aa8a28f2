//! Reading a log from its oldest wanted entry on, through its rotations.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::runtime::config::ContainerId;
use crate::runtime::logs::{Entry, LINE_BYTES, LogError, ReadOptions, Stream, at, numbered};
use crate::runtime::record::Timestamp;

/// A record as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) at: Timestamp,
    pub(super) stream: Stream,
    pub(super) full: bool,
    pub(super) text: &'a [u8],
}

/// Reads a record, without its newline; `None` for what no writer wrote whole.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
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
    pub(super) path: PathBuf,
    options: ReadOptions,
    /// Files still to be read, the current one first.
    pub(super) files: VecDeque<fs_err::File>,
    /// Bytes of the current file that do not yet make a record.
    rest: Vec<u8>,
    /// Unfinished lines, by stream.
    open: BTreeMap<Stream, Entry>,
}

impl LogReader {
    /// Opens the files and finds the place to start.
    pub(super) fn open(
        path: PathBuf,
        options: ReadOptions,
        id: &ContainerId,
    ) -> Result<Self, LogError> {
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
