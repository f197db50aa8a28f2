//! The real file system, as the loader sees it.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::spec::{MAX_FILE_BYTES, ReadError, ReadFile};

/// How long a named pipe may have no writer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The real file system.
pub(super) struct Disk;

impl ReadFile for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        // The loader's own error names the path, so the system's words alone are wanted.
        match read_bounded(path) {
            Ok(bytes) if bytes.len() > MAX_FILE_BYTES => {
                let limit = MAX_FILE_BYTES >> 20;
                Err(ReadError::Other(format!("larger than {limit} MiB")))
            }
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(ReadError::NotFound),
            Err(error) => Err(ReadError::Other(system_words(&error))),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }
}

/// Returns the directory that this process is in, by the name under which the shell went there (`PWD`) where that is true: a
/// symbolic link gives a project its name.
pub(super) fn working_directory(pwd: Option<&String>) -> std::io::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let is_here = |path: &Path| {
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        path.is_absolute() && plain && path.canonicalize().is_ok_and(|real| real == here)
    };
    let named = pwd.map(PathBuf::from).filter(|path| is_here(path));
    Ok(named.unwrap_or(here))
}

/// Reads a file, a pipe or a device to its end, or one byte beyond [`MAX_FILE_BYTES`]: `/dev/zero` has no end.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if fs_err::metadata(path)?.file_type().is_fifo() {
        return bounded(Pipe::open(path, PATIENCE)?);
    }
    bounded(fs_err::File::open(path)?)
}

/// Reads to the end, or one byte beyond [`MAX_FILE_BYTES`].
pub(super) fn bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES + 1).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A pipe, be it a named one or a shell's `<(…)`: it is read to its end however long that takes, as long as somebody has it
/// open to write into. Opening one the plain way waits for a writer for ever.
struct Pipe {
    file: fs_err::File,
    /// How long to wait for the first writer.
    patience: Timespec,
}

impl Pipe {
    fn open(path: &Path, patience: Duration) -> std::io::Result<Self> {
        let mut options = fs_err::OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        Ok(Self {
            file: options.open(path)?,
            patience: Timespec::try_from(patience).map_err(std::io::Error::other)?,
        })
    }

    /// Waits for something to read, the end, or the end of the patience; returns whether it was one of the first two.
    fn is_ready(&self, patience: Option<&Timespec>) -> std::io::Result<bool> {
        let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
        loop {
            match poll(&mut polled, patience) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result? > 0),
            }
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let is_ready = self.is_ready(Some(&self.patience))?;
        match self.file.read(buffer) {
            // Without a writer this is what a read returns.
            Ok(0) if !is_ready => Err(std::io::Error::new(
                ErrorKind::TimedOut,
                "nobody writes into this pipe",
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_ready(None)?;
                self.file.read(buffer)
            }
            result => result,
        }
    }
}

/// Returns what the system says, without the path that `fs_err` puts before it and the number behind it.
fn system_words(error: &std::io::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let words = innermost.to_string();
    let words = words
        .split_once(" (os error")
        .map_or(words.as_str(), |(words, _)| words);
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pipes_are_read_to_their_end_and_never_waited_for_in_vain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let nobody = bounded(Pipe::open(&path, Duration::from_millis(1)).unwrap());
        assert_eq!(
            nobody.unwrap_err().to_string(),
            "nobody writes into this pipe"
        );

        let reader = Pipe::open(&path, Duration::from_mins(1)).unwrap();
        let write = || {
            let mut writer = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
            // More than a pipe holds at once.
            writer.write_all(&b"a".repeat(200_000)).unwrap();
            writer.write_all(b"b").unwrap();
        };
        let read = std::thread::scope(|scope| {
            scope.spawn(write);
            bounded(reader).unwrap()
        });
        assert_eq!((read.len(), read.last()), (200_001, Some(&b'b')));
    }
}
