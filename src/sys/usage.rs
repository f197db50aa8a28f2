//! How much of the disk a directory takes, however deep it is and whatever is done to it meanwhile.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};

/// A directory whose content is being gone through.
struct Level {
    /// Device and inode.
    identity: (u64, u64),
    /// Directories in it that are still to be gone through.
    ahead: Vec<CString>,
}

/// Returns the bytes of all files below a directory. What cannot be read (any more) counts nothing: it is an estimate.
///
/// It goes by descriptors, one at a time, and comes back through `..`: neither the length of a path nor the number of open files
/// limits it, and what is moved away meanwhile is not followed.
pub fn bytes_below(top: &Path) -> u64 {
    let mut bytes = 0;
    let Some(mut here) = open_directory(CWD, top) else {
        return bytes;
    };
    let mut levels: Vec<Level> = list(here.as_fd(), &mut bytes).into_iter().collect();
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.ahead.pop() {
            let below = open_directory(here.as_fd(), name.as_c_str());
            let listed = below.and_then(|below| Some((list(below.as_fd(), &mut bytes)?, below)));
            if let Some((level, below)) = listed {
                levels.push(level);
                here = below;
            }
            continue;
        }
        levels.pop();
        let Some(above) = levels.last() else {
            break;
        };
        match open_directory(here.as_fd(), "..") {
            Some(up) if identity(up.as_fd()) == Some(above.identity) => here = up,
            // It was moved while it was measured.
            _ => break,
        }
    }
    bytes
}

/// Opens a directory and no link to one.
fn open_directory(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).ok()
}

/// Returns what a directory is.
fn identity(directory: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let stat = fstat(directory).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Counts the files of a directory, and returns its directories.
fn list(directory: BorrowedFd<'_>, bytes: &mut u64) -> Option<Level> {
    let identity = identity(directory)?;
    let mut ahead = Vec::new();
    for entry in Dir::read_from(directory).ok()?.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            ahead.push(name.to_owned());
        } else {
            *bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
    Some(Level { identity, ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_links_are_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::write(temp.path().join("f"), [1; 100]).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("out")).unwrap();
        let shallow = bytes_below(temp.path());
        assert!(shallow >= 512 && shallow < 1 << 20, "{shallow}");
        // Deeper than any path may be long, and than files may be open.
        let mut here = open_directory(CWD, temp.path()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "dd", Mode::RWXU).unwrap();
            here = open_directory(here.as_fd(), "dd").unwrap();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = openat(&here, "f", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, &[1; 100]).unwrap();
        assert_eq!(
            bytes_below(temp.path()),
            shallow + 100_u64.next_multiple_of(4096)
        );
        assert_eq!(bytes_below(&temp.path().join("none")), 0);
        // Gone by descriptors too: what removes the temporary directory goes by paths.
        for _ in 0..3000 {
            let up = open_directory(here.as_fd(), "..").unwrap();
            let _file = rustix::fs::unlinkat(&here, "f", AtFlags::empty());
            rustix::fs::unlinkat(&up, "dd", AtFlags::REMOVEDIR).unwrap();
            here = up;
        }
    }
}
