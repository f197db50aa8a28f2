//! Following several logs by one descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::runtime::logs::{Entry, LogError, LogReader, at};
use crate::sys::inotify::Inotify;

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
