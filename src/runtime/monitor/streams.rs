//! From the container's standard streams to its log.
//!
//! Each stream is a named pipe in `<run>/c/<id12>`, opened read-write by the monitor and by the container: neither ever sees
//! the other's end close. What is in the pipe waits for the next monitor if this one is killed. Reading is bounded: one chunk
//! at a time, and none while the log cannot be written, so that a full disk stops the writers instead of losing lines.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use crate::runtime::logs::{LogError, LogWriter, Stream};
use crate::runtime::record::Timestamp;

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks read from one stream before others have their turn.
const CHUNKS: usize = 8;

/// Room of a pipe, bytes: what a container can write while its monitor is busy or gone.
const PIPE_BYTES: usize = 256 * 1024;

/// A stream that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("open the pipe `{}`", path.display())]
pub struct StreamError {
    path: PathBuf,
    source: io::Error,
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
    directory: PathBuf,
    chunk: Vec<u8>,
    held: Option<(Timestamp, Stream)>,
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
    /// Opens the pipes in `directory`, made if missing.
    pub fn open(directory: &Path, keep_input: bool) -> Result<Self, StreamError> {
        let input = match keep_input {
            true => Some(open(&directory.join("stdin"), libc::O_NONBLOCK)?),
            false => None,
        };
        Ok(Self {
            out: open(&directory.join("stdout"), libc::O_NONBLOCK)?,
            err: open(&directory.join("stderr"), libc::O_NONBLOCK)?,
            input,
            terminal: None,
            directory: directory.to_owned(),
            chunk: Vec::new(),
            held: None,
            ended: false,
        })
    }

    /// Opens the container's ends: standard input where it is kept, output, error. They wait where the monitor's do not.
    pub fn container_ends(&self) -> Result<(Option<OwnedFd>, OwnedFd, OwnedFd), StreamError> {
        let open = |name| open(&self.directory.join(name), 0);
        let input = self.input.is_some().then(|| open("stdin")).transpose()?;
        Ok((input, open("stdout")?, open("stderr")?))
    }

    /// Tells whether something was read that could not be written.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Tells whether the terminal has no other end any more.
    pub fn terminal_ended(&self) -> bool {
        self.ended
    }

    /// Writes what was held.
    pub fn retry(&mut self, log: &mut LogWriter) -> Result<(), LogError> {
        if let Some((at, stream)) = self.held {
            log.append(at, stream, &self.chunk)?;
            self.held = None;
        }
        Ok(())
    }

    /// Copies what is there, at most 128 KiB. Returns whether there may be more.
    ///
    /// Error: the log; what was read is held, and is written by [`retry`](Self::retry) first.
    pub fn copy(&mut self, source: Source, log: &mut LogWriter) -> Result<bool, LogError> {
        self.retry(log)?;
        let (fd, stream) = match source {
            Source::Out => (Some(&self.out), Stream::Stdout),
            Source::Err => (Some(&self.err), Stream::Stderr),
            Source::Terminal => (self.terminal.as_ref(), Stream::Stdout),
        };
        let Some(fd) = fd else {
            return Ok(false);
        };
        for _ in 0..CHUNKS {
            self.chunk.resize(CHUNK_BYTES, 0);
            let count =
                match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut self.chunk[..])) {
                    Ok(count) => count,
                    Err(rustix::io::Errno::AGAIN) => 0,
                    // EIO: a terminal that no process has open any more.
                    Err(_) => {
                        self.ended = true;
                        0
                    }
                };
            self.chunk.truncate(count);
            if count == 0 {
                return Ok(false);
            }
            if source == Source::Terminal {
                self.chunk = without_returns(&self.chunk);
            }
            let now = Timestamp::now();
            self.held = Some((now, stream));
            log.append(now, stream, &self.chunk)?;
            self.held = None;
        }
        Ok(true)
    }

    /// Copies all that is there.
    pub fn drain(&mut self, log: &mut LogWriter) -> Result<(), LogError> {
        for source in [Source::Out, Source::Err, Source::Terminal] {
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

/// Drops the carriage return that a terminal puts before each newline.
fn without_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        if !(*byte == b'\r' && bytes.get(index + 1) == Some(&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// Opens a named pipe read-write, made if missing. Its directory keeps other users out; its mode lets the container's users
/// open `/dev/stdout` anew, whoever they are.
fn open(path: &Path, flags: i32) -> Result<OwnedFd, StreamError> {
    let wrap = |source| StreamError {
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
