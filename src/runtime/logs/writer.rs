//! Appending records, and starting a new file when one is full.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::runtime::config::LogConfig;
use crate::runtime::logs::{LogError, Stream, TEXT_BYTES, at, numbered, open_append, with_suffix};
use crate::runtime::record::Timestamp;

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

    /// Gives back memory that a flood has needed.
    pub(crate) fn rest(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(64 * 1024);
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
        if older > 0 && !self.is_linked()? {
            self.shift(older)?;
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

    /// Tells whether the newest file is the first of the old ones too: a rotation was cut short behind that.
    fn is_linked(&self) -> Result<bool, LogError> {
        let first = numbered(&self.path, 1);
        match fs_err::symlink_metadata(&first) {
            Ok(metadata) => Ok(metadata.ino() == self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("rotate", &first)(error)),
        }
    }

    /// Frees the place of the first of `older` old files: those before the first gap move up by one. There is a gap where a
    /// rotation was cut short or failed, and then none of them is in the way.
    fn shift(&self, older: u32) -> Result<(), LogError> {
        let taken = (1..older).take_while(|number| numbered(&self.path, *number).exists());
        for number in taken.collect::<Vec<_>>().into_iter().rev() {
            let from = numbered(&self.path, number);
            fs_err::rename(&from, numbered(&self.path, number + 1)).map_err(at("rotate", &from))?;
        }
        Ok(())
    }
}

/// Appends `bytes` as records to `out`.
pub(super) fn render(out: &mut Vec<u8>, time: Timestamp, stream: Stream, bytes: &[u8]) {
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

/// Removes a file; one that is gone is fine.
fn remove_if_there(path: &Path) -> Result<(), LogError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}
