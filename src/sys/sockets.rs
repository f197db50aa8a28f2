//! Paths of sockets: an address has 108 bytes, a path may have more (`man 7 unix`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Another path of a socket, which fits into an address; it leads there as long as this lives, also for programs that this one starts.
#[derive(Debug)]
pub struct ShortPath {
    #[expect(dead_code, reason = "held, not read")]
    directory: OwnedFd,
    path: PathBuf,
}

impl ShortPath {
    /// Opens the directory of `path`; the socket itself may be yet to come.
    pub fn of(path: &Path) -> io::Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory: OwnedFd = rustix::fs::open(parent, flags, Mode::empty())?;
        let process = rustix::process::getpid().as_raw_nonzero();
        let short = format!("/proc/{process}/fd/{}", directory.as_raw_fd());
        let name = path.file_name().unwrap_or(OsStr::new(""));
        Ok(Self {
            path: Path::new(&short).join(name),
            directory,
        })
    }

    /// Returns it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn sockets_of_any_path_are_reached() {
        let temp = tempfile::tempdir().unwrap();
        let long = temp.path().join("d".repeat(200));
        fs_err::create_dir(&long).unwrap();
        let path = long.join("socket");
        UnixListener::bind(&path).unwrap_err();
        let short = ShortPath::of(&path).unwrap();
        let _listener = UnixListener::bind(short.path()).unwrap();
        assert!(path.exists());
        UnixStream::connect(short.path()).unwrap();
    }
}
