//! Owner, mode, attributes and times of what was made.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, futimens, utimensat,
};
use rustix::io::Errno;

use super::super::error::UnpackError;
use super::super::reader::{Entry, Kind};

/// Of a directory: every entry made in it would inherit it.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Describes an open file or directory. The order matters: a change of owner clears setuid and security.capability.
pub(super) fn describe_fd(fd: &OwnedFd, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(fd, Some(uid), Some(gid)).map_err(UnpackError::io("set the owner of", path))?;
    fchmod(fd, Mode::from_raw_mode(entry.mode))
        .map_err(UnpackError::io("set the mode of", path))?;
    for (name, value) in &entry.xattrs {
        if name != DEFAULT_ACL {
            set_xattr(fd, path, name, value)?;
        }
    }
    futimens(fd, &times(entry.mtime)).map_err(UnpackError::io("set the time of", path))
}

/// Sets an extended attribute.
pub(super) fn set_xattr(
    fd: &OwnedFd,
    path: &Path,
    name: &[u8],
    value: &[u8],
) -> Result<(), UnpackError> {
    match fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
        // The file system knows none; so do overlayfs and containers on it.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(UnpackError::io("set an extended attribute of", path)(errno)),
    }
}

/// Describes what is neither a file nor a directory: `name` in `parent`, made just now.
pub(super) fn describe_at(
    parent: &OwnedFd,
    name: &OsStr,
    path: &Path,
    entry: &Entry,
) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    chownat(parent, name, Some(uid), Some(gid), itself)
        .map_err(UnpackError::io("set the owner of", path))?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        // Made new by us just now, so it is no link that could lead elsewhere.
        let mode = Mode::from_raw_mode(entry.mode);
        chmodat(parent, name, mode, AtFlags::empty())
            .map_err(UnpackError::io("set the mode of", path))?;
    }
    utimensat(parent, name, &times(entry.mtime), itself)
        .map_err(UnpackError::io("set the time of", path))
}

/// Describes a directory that no entry describes: 0755, of root, as old as time, so that the same archive makes the same tree.
pub(super) fn describe_implied(fd: &OwnedFd, path: &Path) -> Result<(), UnpackError> {
    fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT))
        .map_err(UnpackError::io("set the owner of", path))?;
    fchmod(fd, Mode::from_raw_mode(0o755)).map_err(UnpackError::io("set the mode of", path))?;
    futimens(fd, &times((0, 0))).map_err(UnpackError::io("set the time of", path))
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
