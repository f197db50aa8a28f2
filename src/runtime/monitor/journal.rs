//! What has left the container's pipes and may not yet be in its log: so that a monitor may be killed between any two
//! instructions, and every byte still comes into the log once.
//!
//! ```text
//! <run>/c/<id12>/stdout.part   bytes of standard output, moved here out of the pipe by splice(2): the kernel takes from the pipe
//! <run>/c/<id12>/stderr.part   exactly what it has put into the file, so the file's size says what has left the pipe
//! <run>/c/<id12>/copied        48 bytes, replaced by one pwrite(2); numbers are u64, little endian:
//!     "stackcp2"               how this is read
//!     out, err                 how many bytes of each part are in the log; a part that is shorter has been emptied since
//!     inode, size              the newest log file and its size when they were
//!     returned                 1 where what is in the log of a terminal was followed by a carriage return that is not
//! ```
//!
//! For each chunk: move, append to the log, note in `copied`. After a kill the part is longer than noted; whether the log has
//! what is behind it is told by the log's size: nothing of it, a part (which is cut off), or all. A part that has grown is
//! emptied once all of it is noted, and then noted to be empty; whoever finds it emptied and not yet noted notes that first.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::runtime::logs::{LogError, Position, Stream};

/// Bytes moved at once: fewer cost more calls of the kernel than reading and writing alone would.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A part of this size is emptied as soon as it is copied.
const MOST_BYTES: u64 = 256 * 1024;

/// A part of this size is emptied when the pipe is empty.
const IDLE_BYTES: u64 = 16 * 1024;

/// Beginning of `copied`.
const MAGIC: [u8; 8] = *b"stackcp2";

/// Size of `copied`.
const NOTE_BYTES: usize = 48;

/// Both parts, and the note of what of them is in the log.
#[derive(Debug)]
pub(crate) struct Journal {
    out: Part,
    err: Part,
    note: fs_err::File,
    /// What else was noted then.
    noted: Noted,
}

/// What the log was when the sizes of the parts were noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    /// Where it ended.
    end: Position,
    /// Whether a carriage return followed on the terminal, which is written once what comes behind it is known.
    returned: bool,
}

/// What has left one pipe.
#[derive(Debug)]
struct Part {
    file: fs_err::File,
    /// Bytes in it.
    moved: u64,
    /// Bytes of these that are in the log.
    copied: u64,
}

impl Journal {
    /// Opens the files in `directory`, made if missing; `end` is where the log ends.
    pub(crate) fn open(directory: &Path, end: Position) -> Result<Self, LogError> {
        let path = directory.join("copied");
        let note = open(&path)?;
        let mut bytes = [0_u8; NOTE_BYTES];
        let known = match note.file().read_exact_at(&mut bytes, 0) {
            Ok(()) => parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let begun = Noted {
            end,
            returned: false,
        };
        let (out, err, noted) = known.unwrap_or((0, 0, begun));
        let mut journal = Self {
            out: Part::open(&directory.join("stdout.part"), out)?,
            err: Part::open(&directory.join("stderr.part"), err)?,
            note,
            noted,
        };
        let emptied = journal.out.copied < out || journal.err.copied < err;
        if known.is_none() {
            journal.write_note(begun)?;
        } else if emptied {
            // Before it grows beyond what the old note says.
            journal.write_note(noted)?;
        }
        Ok(journal)
    }

    /// Tells whether there is one in `directory`.
    pub(crate) fn exists(directory: &Path) -> bool {
        directory.join("copied").exists()
    }

    /// Moves what is in the pipe, at most `most` bytes; returns whether there was anything.
    pub(crate) fn take(
        &mut self,
        stream: Stream,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Result<bool, LogError> {
        let part = self.part(stream);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let mut end = part.moved;
        let moved = rustix::io::retry_on_intr(|| {
            rustix::pipe::splice(pipe, None, part.file.file(), Some(&mut end), most, flags)
        });
        let count = match moved {
            Ok(count) => count,
            Err(Errno::AGAIN) => 0,
            // A file system that is not spliced to: without that a kill between the two calls loses the chunk.
            Err(Errno::INVAL) => {
                let mut bytes = vec![0_u8; most];
                match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut bytes[..])) {
                    Ok(count) => {
                        let bytes = bytes.get(..count).unwrap_or_default();
                        let written = part.file.file().write_all_at(bytes, part.moved);
                        written.map_err(failed("write", part.file.path()))?;
                        count
                    }
                    Err(Errno::AGAIN) => 0,
                    Err(errno) => return Err(failed("read into", part.file.path())(errno.into())),
                }
            }
            Err(errno) => return Err(failed("move into", part.file.path())(errno.into())),
        };
        part.moved += u64::try_from(count).unwrap_or(0);
        Ok(count > 0)
    }

    /// Reads what of a part is not noted to be in the log into `bytes`; returns where the log ended before.
    pub(crate) fn pending(
        &mut self,
        stream: Stream,
        bytes: &mut Vec<u8>,
    ) -> Result<Position, LogError> {
        let noted = self.noted.end;
        let part = self.part(stream);
        let length = usize::try_from(part.moved.saturating_sub(part.copied)).unwrap_or(0);
        bytes.resize(length, 0);
        part.file
            .file()
            .read_exact_at(bytes, part.copied)
            .map_err(failed("read", part.file.path()))?;
        Ok(noted)
    }

    /// Tells whether something of a part is not noted to be in the log.
    pub(crate) fn is_pending(&self, stream: Stream) -> bool {
        let part = match stream {
            Stream::Stdout => &self.out,
            Stream::Stderr => &self.err,
        };
        part.moved > part.copied
    }

    /// Tells whether a carriage return is held back: what comes behind it decides whether it comes into the log.
    pub(crate) fn holds_return(&self) -> bool {
        self.noted.returned
    }

    /// Notes that all of a part is in the log, which ends at `end`, or all but a carriage return at its end.
    pub(crate) fn commit(
        &mut self,
        stream: Stream,
        end: Position,
        returned: bool,
    ) -> Result<(), LogError> {
        let part = self.part(stream);
        let copied = std::mem::replace(&mut part.copied, part.moved);
        let full = part.moved >= MOST_BYTES;
        if let Err(error) = self.write_note(Noted { end, returned }) {
            // The next try finds the chunk in the log already.
            self.part(stream).copied = copied;
            return Err(error);
        }
        if full {
            self.empty(stream)?;
        }
        Ok(())
    }

    /// Empties a part that is all in the log and has grown.
    pub(crate) fn rest(&mut self, stream: Stream) -> Result<(), LogError> {
        let part = self.part(stream);
        if part.moved < IDLE_BYTES || part.moved > part.copied {
            return Ok(());
        }
        self.empty(stream)
    }

    /// Empties a part that is noted to be all in the log.
    fn empty(&mut self, stream: Stream) -> Result<(), LogError> {
        self.part(stream).empty()?;
        self.write_note(self.noted)
    }

    fn part(&mut self, stream: Stream) -> &mut Part {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    fn write_note(&mut self, noted: Noted) -> Result<(), LogError> {
        let numbers = [
            self.out.copied,
            self.err.copied,
            noted.end.inode,
            noted.end.size,
            u64::from(noted.returned),
        ];
        let mut bytes = [0_u8; NOTE_BYTES];
        let values = std::iter::once(MAGIC).chain(numbers.map(u64::to_le_bytes));
        for (place, value) in bytes.chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value);
        }
        self.note
            .file()
            .write_all_at(&bytes, 0)
            .map_err(failed("write", self.note.path()))?;
        self.noted = noted;
        Ok(())
    }
}

impl Part {
    fn open(path: &Path, noted: u64) -> Result<Self, LogError> {
        let file = open(path)?;
        let metadata = file.metadata().map_err(failed("read", path))?;
        let moved = metadata.len();
        Ok(Self {
            file,
            moved,
            // Emptied, and not yet noted.
            copied: if moved < noted { 0 } else { noted },
        })
    }

    fn empty(&mut self) -> Result<(), LogError> {
        self.file
            .file()
            .set_len(0)
            .map_err(failed("empty", self.file.path()))?;
        (self.moved, self.copied) = (0, 0);
        Ok(())
    }
}

/// Reads `copied`; `None` for what this program did not write.
fn parse(bytes: &[u8; NOTE_BYTES]) -> Option<(u64, u64, Noted)> {
    let mut words = bytes
        .chunks_exact(8)
        .filter_map(|word| <[u8; 8]>::try_from(word).ok());
    (words.next()? == MAGIC).then_some(())?;
    let mut numbers = words.map(u64::from_le_bytes);
    let (out, err) = (numbers.next()?, numbers.next()?);
    let (inode, size) = (numbers.next()?, numbers.next()?);
    let noted = Noted {
        end: Position { inode, size },
        returned: numbers.next()? == 1,
    };
    Some((out, err, noted))
}

/// Opens a file of the journal, mode 0600, made if missing.
fn open(path: &Path) -> Result<fs_err::File, LogError> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .options_mut()
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(failed("open", path))
}

/// Wraps an error of `path`.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::runtime::config::LogConfig;
    use crate::runtime::logs::LogWriter;
    use crate::runtime::monitor::streams::{Source, Streams, hold};

    /// When a monitor is killed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Killed {
        /// Before the chunk has left the pipe.
        Before,
        /// Behind the move.
        Moved,
        /// While the log is written: half a record is there.
        Half,
        /// Behind the write.
        Written,
        /// Behind the note.
        Noted,
        /// Behind the emptying, before that is noted.
        Emptied,
    }

    /// Writes three chunks; at the second one the writer is killed and another one goes on.
    fn survive(killed: Killed, log_bytes: u64) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let log_path = directory.path().join("one.log");
        let config = LogConfig {
            max_size_bytes: log_bytes,
            max_files: 100,
        };
        // Somebody else holds the pipe too: the container.
        let [out, _err] = hold(directory.path()).unwrap();
        let send = |text: &str| rustix::io::write(&out, text.as_bytes()).unwrap();
        let begin = || {
            let mut log = LogWriter::open_unfinished(&log_path, config.clone()).unwrap();
            let mut streams =
                Streams::open(directory.path(), (false, false), log.position()).unwrap();
            streams.retry(&mut log).unwrap();
            (streams, log)
        };
        let (mut streams, mut log) = begin();
        send("first\nsame\n");
        streams.copy(Source::Out, &mut log).unwrap();
        send("same\nsame\n");
        if killed != Killed::Before {
            let journal = &mut streams.journal;
            journal
                .take(Stream::Stdout, out.as_fd(), CHUNK_BYTES)
                .unwrap();
            let mut bytes = Vec::new();
            let base = journal.pending(Stream::Stdout, &mut bytes).unwrap();
            if killed != Killed::Moved {
                log.append_once(
                    base,
                    crate::runtime::record::Timestamp(0),
                    Stream::Stdout,
                    &bytes,
                )
                .unwrap();
            }
            if killed == Killed::Half {
                let file = fs_err::OpenOptions::new()
                    .write(true)
                    .open(&log_path)
                    .unwrap();
                file.set_len(log.position().size - 10).unwrap();
            }
            if killed == Killed::Noted {
                journal
                    .commit(Stream::Stdout, log.position(), false)
                    .unwrap();
            }
            if killed == Killed::Emptied {
                journal
                    .commit(Stream::Stdout, log.position(), false)
                    .unwrap();
                journal.out.file.file().set_len(0).unwrap();
            }
        }
        drop((streams, log));
        let (mut streams, mut log) = begin();
        send("last\n");
        streams.drain(&mut log).unwrap();
        let mut paths: Vec<_> = fs_err::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().contains("one.log"))
            .collect();
        // one.log, .log.1, .log.2: the newest first.
        paths.sort();
        let texts = paths
            .iter()
            .rev()
            .map(|path| fs_err::read_to_string(path).unwrap());
        let text: String = texts.collect();
        let last = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
        text.lines().map(last).collect()
    }

    #[test]
    fn every_line_is_in_the_log_once_whenever_the_writer_is_killed() {
        for killed in [
            Killed::Before,
            Killed::Moved,
            Killed::Half,
            Killed::Written,
            Killed::Noted,
            Killed::Emptied,
        ] {
            // In one file, and with a new one for each chunk.
            for log_bytes in [0, 100] {
                assert_eq!(
                    survive(killed, log_bytes),
                    ["first", "same", "same", "same", "last"],
                    "{killed:?} {log_bytes}"
                );
            }
        }
    }

    /// A log, its directory, and the container's end of its standard output.
    struct Place {
        directory: tempfile::TempDir,
        /// Of the container's output and errors.
        pipes: [std::os::fd::OwnedFd; 2],
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let pipes = hold(directory.path()).unwrap();
            Self { directory, pipes }
        }

        /// Another monitor begins.
        fn begin(&self) -> (Streams, LogWriter) {
            let config = LogConfig {
                max_size_bytes: 0,
                max_files: 1,
            };
            let path = self.directory.path().join("one.log");
            let mut log = LogWriter::open_unfinished(&path, config).unwrap();
            let mut streams =
                Streams::open(self.directory.path(), (false, false), log.position()).unwrap();
            streams.retry(&mut log).unwrap();
            (streams, log)
        }

        /// Writes the lines of these numbers, 4096 bytes each, and moves them out of the pipe.
        fn send(&self, streams: &mut Streams, numbers: std::ops::Range<usize>) {
            for number in numbers {
                rustix::io::write(&self.pipes[0], format!("{number:04095}\n").as_bytes()).unwrap();
            }
            while streams
                .journal
                .take(Stream::Stdout, self.pipes[0].as_fd(), CHUNK_BYTES)
                .unwrap()
            {}
        }

        /// Returns the numbers of the lines in the log.
        fn numbers(&self) -> Vec<usize> {
            let text = fs_err::read_to_string(self.directory.path().join("one.log")).unwrap();
            let number = |line: &str| line.rsplit(' ').next().unwrap().parse().unwrap();
            text.lines().map(number).collect()
        }
    }

    #[test]
    fn a_part_that_is_full_is_noted_before_it_is_emptied() {
        let place = Place::new();
        let (mut streams, mut log) = place.begin();
        let chunk = CHUNK_BYTES / 4096;
        for begun in (0..MOST_BYTES).step_by(CHUNK_BYTES) {
            let first = usize::try_from(begun).unwrap() / 4096;
            place.send(&mut streams, first..first + chunk);
            if begun + CHUNK_BYTES as u64 == MOST_BYTES {
                // Killed at the note.
                let note = fs_err::File::open(place.directory.path().join("copied")).unwrap();
                streams.journal.note = note;
                streams.retry(&mut log).unwrap_err();
            } else {
                streams.retry(&mut log).unwrap();
            }
        }
        drop((streams, log));
        let (mut streams, mut log) = place.begin();
        let lines = usize::try_from(MOST_BYTES).unwrap() / 4096;
        place.send(&mut streams, lines..lines + 1);
        streams.drain(&mut log).unwrap();
        assert_eq!(place.numbers(), (0..=lines).collect::<Vec<_>>());
    }

    #[test]
    fn a_part_that_was_emptied_is_noted_before_it_grows() {
        let place = Place::new();
        let (mut streams, mut log) = place.begin();
        place.send(&mut streams, 0..5);
        streams.retry(&mut log).unwrap();
        // Killed between emptying and noting, and the next one behind a move.
        streams.journal.out.file.file().set_len(0).unwrap();
        drop((streams, log));
        let (mut streams, log) = place.begin();
        place.send(&mut streams, 5..15);
        drop((streams, log));
        let _third = place.begin();
        assert_eq!(place.numbers(), (0..15).collect::<Vec<_>>());
    }

    #[test]
    fn a_part_that_has_grown_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(
            &directory.path().join("one.log"),
            LogConfig {
                max_size_bytes: 0,
                max_files: 1,
            },
        )
        .unwrap();
        let mut streams = Streams::open(directory.path(), (false, false), log.position()).unwrap();
        let line = [b'x'; 4095];
        let mut sent = 0;
        let mut largest = 0;
        while sent < 1 << 20 {
            rustix::io::write(&streams.out, &line).unwrap();
            rustix::io::write(&streams.out, b"\n").unwrap();
            sent += 4096;
            if sent % (128 << 10) == 0 {
                while streams.copy(Source::Out, &mut log).unwrap() {}
                largest = largest.max(streams.journal.out.moved);
                let part = directory.path().join("stdout.part");
                assert_eq!(
                    fs_err::metadata(part).unwrap().len(),
                    streams.journal.out.moved
                );
            }
        }
        assert!(largest < IDLE_BYTES, "{largest}");
        assert!(log.position().size > 1 << 20);
    }
}
