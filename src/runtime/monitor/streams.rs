//! From the container's standard streams to its log.
//!
//! Each stream is a named pipe in `<run>/c/<id12>`, opened read-write by the monitor and by the container: neither ever sees
//! the other's end close. What is in the pipe waits for the next monitor if this one is killed, and so does what has left it
//! ([`journal`](super::journal)). A terminal's output is moved into the pipe of standard output first, which its keeper holds.
//! Reading is bounded: one chunk at a time, and none while the log cannot be written, so that a full disk stops the writers
//! instead of losing lines.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::pipe::SpliceFlags;

use crate::runtime::config::ContainerConfig;
use crate::runtime::logs::{LogError, LogWriter, Position, Stream};
use crate::runtime::monitor::journal::{CHUNK_BYTES, Journal};
use crate::runtime::record::Timestamp;

/// Chunks moved from one stream before others have their turn.
const CHUNKS: usize = 2;

/// Bytes moved at once where log files are small: the records of a chunk are in one file, and short lines make many.
const SMALL_CHUNK_BYTES: usize = 16 * 1024;

/// Log files below this size are small.
const SMALL_LOG_BYTES: u64 = 8 << 20;

/// Room of a pipe, bytes: what a container can write while its monitor is busy or gone.
const PIPE_BYTES: usize = 256 * 1024;

/// A stream that cannot be made, or what was left of one that cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The pipe.
    #[error("open the pipe `{}`", path.display())]
    Pipe {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The log, or what is on its way there.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The monitor's ends, and what was read and not yet written.
#[derive(Debug)]
pub struct Streams {
    /// Standard output's pipe.
    pub out: OwnedFd,
    /// Standard error's.
    pub err: OwnedFd,
    /// Standard input's, where it is kept open: for a terminal the monitor reads it.
    pub input: Option<OwnedFd>,
    /// Master end of the terminal.
    pub terminal: Option<OwnedFd>,
    pub(super) journal: Journal,
    directory: PathBuf,
    chunk: Vec<u8>,
    chunk_bytes: usize,
    /// Whether what is read comes from a terminal, which puts a carriage return before each newline.
    returns: bool,
    ended: bool,
}

/// Where to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output's pipe.
    Out,
    /// Standard error's.
    Err,
    /// The terminal.
    Terminal,
}

impl Streams {
    /// Opens the pipes in `directory`, made if missing; `end` is where the log ends.
    pub fn open(
        directory: &Path,
        (keep_input, terminal): (bool, bool),
        end: Position,
    ) -> Result<Self, StreamError> {
        let open_input = || open(&directory.join("stdin"), libc::O_NONBLOCK);
        let input = keep_input.then(open_input).transpose()?;
        Ok(Self {
            out: open(&directory.join("stdout"), libc::O_NONBLOCK)?,
            err: open(&directory.join("stderr"), libc::O_NONBLOCK)?,
            input,
            terminal: None,
            journal: Journal::open(directory, end)?,
            directory: directory.to_owned(),
            chunk: Vec::new(),
            chunk_bytes: CHUNK_BYTES,
            returns: terminal,
            ended: false,
        })
    }

    /// Opens the pipes in `directory` and the log, and brings into the log what a monitor that was killed had taken out of the
    /// pipes. Also returns how that went: where the log cannot be written, it is held for [`retry`](Self::retry).
    pub fn resume(
        directory: &Path,
        log: &Path,
        config: &ContainerConfig,
    ) -> Result<(Self, LogWriter, Result<(), LogError>), StreamError> {
        let mut log = LogWriter::open_unfinished(log, config.log.clone())?;
        let process = &config.process;
        let kinds = (process.stdin_open, process.tty);
        let mut streams = Self::open(directory, kinds, log.position())?;
        if (1..SMALL_LOG_BYTES).contains(&config.log.max_size_bytes) {
            streams.chunk_bytes = SMALL_CHUNK_BYTES;
        }
        let left = streams.retry(&mut log);
        Ok((streams, log, left))
    }

    /// Opens the container's ends: standard input where it is kept, output, error. They wait where the monitor's do not.
    pub fn container_ends(&self) -> Result<(Option<OwnedFd>, OwnedFd, OwnedFd), StreamError> {
        let open = |name| open(&self.directory.join(name), 0);
        let input = self.input.is_some().then(|| open("stdin")).transpose()?;
        Ok((input, open("stdout")?, open("stderr")?))
    }

    /// Tells whether the terminal has no other end any more.
    pub fn terminal_ended(&self) -> bool {
        self.ended
    }

    /// Writes what was taken and could not be written, or not by who took it; then no record is left half.
    pub fn retry(&mut self, log: &mut LogWriter) -> Result<(), LogError> {
        self.write_pending(log)?;
        log.finish_record()
    }

    /// Writes what was taken and is not noted to be in the log.
    fn write_pending(&mut self, log: &mut LogWriter) -> Result<(), LogError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.journal.is_pending(stream) {
                self.write(stream, log)?;
            }
        }
        Ok(())
    }

    /// Copies what is there, at most 128 KiB. Returns whether there may be more.
    ///
    /// Error: the log; what was taken is held, and is written by [`retry`](Self::retry) first.
    pub fn copy(&mut self, source: Source, log: &mut LogWriter) -> Result<bool, LogError> {
        self.write_pending(log)?;
        match source {
            Source::Out => self.copy_pipe(Stream::Stdout, log),
            Source::Err => self.copy_pipe(Stream::Stderr, log),
            Source::Terminal => {
                let moved = self.move_from_terminal();
                Ok(self.copy_pipe(Stream::Stdout, log)? || moved)
            }
        }
    }

    /// Copies from a pipe.
    fn copy_pipe(&mut self, stream: Stream, log: &mut LogWriter) -> Result<bool, LogError> {
        for _ in 0..CHUNKS {
            let pipe = match stream {
                Stream::Stdout => &self.out,
                Stream::Stderr => &self.err,
            };
            if !self.journal.take(stream, pipe.as_fd(), self.chunk_bytes)? {
                self.journal.rest(stream)?;
                // What a flood has needed.
                self.chunk.shrink_to(SMALL_CHUNK_BYTES);
                log.rest();
                return Ok(false);
            }
            self.write(stream, log)?;
        }
        Ok(true)
    }

    /// Appends what was taken from a pipe to the log, unless it is there already.
    fn write(&mut self, stream: Stream, log: &mut LogWriter) -> Result<(), LogError> {
        let before = self.journal.pending(stream, &mut self.chunk)?;
        let mut returned = self.journal.holds_return();
        if self.returns && stream == Stream::Stdout {
            (self.chunk, returned) = without_returns(&self.chunk, returned);
        }
        log.append_once(before, Timestamp::now(), stream, &self.chunk)?;
        self.journal.commit(stream, log.position(), returned)
    }

    /// Moves what the container has written to its terminal into the pipe; returns whether there was anything.
    fn move_from_terminal(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..CHUNKS {
            let Some(terminal) = &self.terminal else {
                return moved;
            };
            let flags = SpliceFlags::NONBLOCK;
            let splice = || {
                let pipe = &self.out;
                rustix::pipe::splice(terminal, None, pipe, None, CHUNK_BYTES, flags)
            };
            match rustix::io::retry_on_intr(splice) {
                // Nothing there, or no room: the pipe is emptied next.
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return moved,
                Ok(_) => moved = true,
                // EIO: no process has it open any more.
                Err(_) => {
                    self.ended = true;
                    return moved;
                }
            }
        }
        moved
    }

    /// Copies all that is there.
    pub fn drain(&mut self, log: &mut LogWriter) -> Result<(), LogError> {
        for source in [Source::Terminal, Source::Out, Source::Err] {
            while self.copy(source, log)? {}
        }
        Ok(())
    }

    /// Hands what was written to `stdin` to the terminal; what it does not take at once is lost, as on any terminal whose
    /// input queue is full.
    pub fn copy_input(&self) -> io::Result<()> {
        let (Some(input), Some(terminal)) = (&self.input, &self.terminal) else {
            return Ok(());
        };
        let mut bytes = [0_u8; 1024];
        match rustix::io::read(input, &mut bytes) {
            Ok(count) => {
                match rustix::io::write(terminal, bytes.get(..count).unwrap_or_default()) {
                    Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the master end of a new terminal, whose reads are not to wait.
    pub fn take_terminal(&mut self, terminal: OwnedFd) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&terminal)?;
        rustix::fs::fcntl_setfl(&terminal, flags | rustix::fs::OFlags::NONBLOCK)?;
        self.terminal = Some(terminal);
        self.ended = false;
        Ok(())
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let terminal = self
            .terminal
            .as_ref()
            .ok_or_else(|| io::Error::other("the container has no terminal"))?;
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }
}

/// Opens the pipes of output in `directory`, so that what is in them outlives the container.
pub(crate) fn hold(directory: &Path) -> Result<[OwnedFd; 2], StreamError> {
    let open = |name| open(&directory.join(name), libc::O_NONBLOCK);
    Ok([open("stdout")?, open("stderr")?])
}

/// Drops the carriage return that a terminal puts before each newline. `returned` tells whether one came before these bytes;
/// the other result, whether one ends them: whether it counts is known with the next ones.
fn without_returns(bytes: &[u8], returned: bool) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    let mut returned = returned;
    for byte in bytes {
        if returned && *byte != b'\n' {
            out.push(b'\r');
        }
        returned = *byte == b'\r';
        if !returned {
            out.push(*byte);
        }
    }
    (out, returned)
}

/// Opens a named pipe read-write, made if missing. Its directory keeps other users out; its mode lets the container's users
/// open `/dev/stdout` anew, whoever they are.
fn open(path: &Path, flags: i32) -> Result<OwnedFd, StreamError> {
    let wrap = |source| StreamError::Pipe {
        path: path.to_owned(),
        source,
    };
    let mode = Mode::from_raw_mode(0o622);
    let made = match rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(errno) => return Err(wrap(errno.into())),
    };
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true);
    options
        .options_mut()
        .custom_flags(flags | libc::O_NOFOLLOW | libc::O_NOCTTY);
    let file = options.open(path).map_err(wrap)?;
    if made {
        rustix::fs::fchmod(&file, mode).map_err(|errno| wrap(errno.into()))?;
        match rustix::pipe::fcntl_setpipe_size(&file, PIPE_BYTES) {
            // EPERM: this user may not have more; the default has to do.
            Ok(_) | Err(rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(wrap(errno.into())),
        }
    }
    Ok(OwnedFd::from(file.into_file()))
}

impl Streams {
    /// Returns what there is to wait for, with what it is.
    pub fn sources(&self) -> Vec<(Source, std::os::fd::BorrowedFd<'_>)> {
        let mut sources = vec![
            (Source::Out, self.out.as_fd()),
            (Source::Err, self.err.as_fd()),
        ];
        sources.extend(
            self.terminal
                .as_ref()
                .map(|fd| (Source::Terminal, fd.as_fd())),
        );
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::config::LogConfig;

    #[test]
    fn a_return_is_dropped_before_a_newline_only() {
        let rows: &[(&[u8], bool, &[u8], bool)] = &[
            (b"", false, b"", false),
            (b"", true, b"", true),
            (b"a\r\nb\r\n", false, b"a\nb\n", false),
            (b"a\r\r\n", false, b"a\r\n", false),
            (b"1%\r2%\r", false, b"1%\r2%", true),
            (b"3%", true, b"\r3%", false),
            (b"\nb", true, b"\nb", false),
            (b"\r", true, b"\r", true),
        ];
        for (bytes, before, out, returned) in rows {
            let seen = without_returns(bytes, *before);
            assert_eq!(seen, (out.to_vec(), *returned), "{bytes:?} {before}");
        }
    }

    /// Wherever the chunks of a terminal's output end, and whoever writes them, the log is the same.
    #[test]
    fn a_newline_in_the_next_chunk_takes_the_return_with_it() {
        for restarted in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("one.log");
            let config = LogConfig {
                max_size_bytes: 0,
                max_files: 1,
            };
            let begin = || {
                let mut log = LogWriter::open_unfinished(&path, config.clone()).unwrap();
                let mut streams =
                    Streams::open(directory.path(), (false, true), log.position()).unwrap();
                streams.retry(&mut log).unwrap();
                (streams, log)
            };
            // Keeps the pipe while nobody else does.
            let _held = hold(directory.path()).unwrap();
            let (mut streams, mut log) = begin();
            for chunk in ["one\r", "\ntwo\r\n3%", "\r", "4%\r", "\r\n", "five\r\n"] {
                rustix::io::write(&streams.out, chunk.as_bytes()).unwrap();
                streams.copy(Source::Out, &mut log).unwrap();
                if restarted {
                    drop((streams, log));
                    (streams, log) = begin();
                }
            }
            let records = fs_err::read_to_string(&path).unwrap();
            let text: String = records
                .split_terminator('\n')
                .map(|record| record.splitn(4, ' ').collect::<Vec<_>>())
                .map(|fields| [fields[3], if fields[2] == "F" { "\n" } else { "" }].concat())
                .collect();
            assert_eq!(text, "one\ntwo\n3%\r4%\r\nfive\n", "{restarted}");
        }
    }
}
