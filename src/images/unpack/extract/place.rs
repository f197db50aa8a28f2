//! Where an entry goes: directories within the layer's root, found as a container would find them.
//!
//! The path of an archive may lead through symbolic links that the archive made. What is noted of an entry is its true path, which
//! has none: a path that is followed again later, in another tree, must not lead elsewhere.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{OFlags, Timestamps, fstat, readlink};
use rustix::io::Errno;

use super::super::error::UnpackError;
use super::describe::times;
use crate::sys::beneath::{in_root, plainly};

/// As many levels a layer has at most. Removing and copying it must work whatever else is open, and no honest layer has a
/// tenth of it.
pub(super) const MAX_DEPTH: usize = 512;
/// As long is a path at most, `PATH_MAX` without its end.
const MAX_PATH_BYTES: usize = 4095;

/// An open directory of the layer.
#[derive(Debug)]
pub(super) struct Place {
    /// As the archive says it.
    pub(super) asked: PathBuf,
    /// Where it truly is: no component is a link.
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// What its times are, whatever is made in it.
    pub(super) times: Timestamps,
}

impl Place {
    /// Returns the true path of an entry of it.
    pub(super) fn entry(&self, name: &OsStr) -> Result<PathBuf, UnpackError> {
        let path = self.path.join(name);
        bounded(&path)?;
        Ok(path)
    }

    /// Opens `asked` in `root`.
    pub(super) fn open(root: &OwnedFd, asked: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (path, fd) = match plainly(root.as_fd(), asked, flags) {
            Ok(fd) => (asked.to_owned(), fd),
            Err(Errno::LOOP) => {
                let fd = in_root(root.as_fd(), asked, flags)?;
                (true_path(root, fd.as_fd())?, fd)
            }
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&fd)?;
        let seconds = stat.st_mtime;
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Ok(Self {
            asked: asked.to_owned(),
            path,
            fd,
            times: times((seconds, nanoseconds)),
        })
    }
}

/// Returns where in `root` a directory lies.
fn true_path(root: &OwnedFd, fd: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
    let shown = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let target = readlink(link, Vec::new())?;
        rustix::io::Result::Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    };
    let path = shown(fd)?;
    let within = path.strip_prefix(shown(root.as_fd())?);
    within.map(Path::to_owned).map_err(|_| Errno::XDEV)
}

/// Cleans a path of an archive: relative, without `.` and `..`.
pub(super) fn clean(bytes: &[u8]) -> Result<PathBuf, UnpackError> {
    let path = Path::new(OsStr::from_bytes(bytes));
    if bytes.contains(&0) || bytes.len() > MAX_PATH_BYTES + 1 {
        return Err(UnpackError::Name {
            path: path.to_owned(),
        });
    }
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                if !cleaned.pop() {
                    return Err(UnpackError::Escape {
                        path: path.to_owned(),
                    });
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    bounded(&cleaned)?;
    Ok(cleaned)
}

/// Refuses a path that is deeper or longer than any should be.
fn bounded(path: &Path) -> Result<(), UnpackError> {
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(UnpackError::Name {
            path: path.to_owned(),
        });
    }
    if path.components().count() > MAX_DEPTH {
        return Err(UnpackError::Limit {
            limit: MAX_DEPTH as u64,
            unit: "directories in each other",
        });
    }
    Ok(())
}
