//! Paths that lead nowhere but into a directory (`openat2`).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

/// Opens `path` as a process with `root` as its root would, links and all; magic links are refused.
pub fn in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open(root, path, flags, resolve)
}

/// Opens a path without links in it: one anywhere is `ELOOP`.
pub fn plainly(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    open(root, path, flags, resolve)
}

/// Opens an absolute path as [`plainly`] does: for one that had no links in it when it was found out.
pub fn absolute(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(rustix::fs::CWD, path, flags, ResolveFlags::NO_SYMLINKS)
}

fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere on the system raced with `..` in a link (man 2 openat2).
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}
