//! How much of the disk a directory takes, however deep it is and whatever is done to it meanwhile.

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};

use super::descent::Descent;

/// Returns the bytes of all files below a directory. What cannot be read (any more) counts nothing, and where a directory is moved
/// while it is gone through the rest does not: it is an estimate.
pub fn bytes_below(top: &Path) -> u64 {
    let mut bytes = 0;
    let Ok(mut walk) = Descent::new(top) else {
        return bytes;
    };
    // What is still to be gone through, of each directory down to where the walk is.
    let mut levels = vec![count(&walk, &mut bytes)];
    while let Some(ahead) = levels.last_mut() {
        if let Some(name) = ahead.pop() {
            if walk.enter(&name).is_ok() {
                levels.push(count(&walk, &mut bytes));
            }
            continue;
        }
        levels.pop();
        if !levels.is_empty() && walk.leave().is_err() {
            break;
        }
    }
    bytes
}

/// Counts the files of the directory where a walk is; returns its directories.
fn count(walk: &Descent, bytes: &mut u64) -> Vec<OsString> {
    let mut ahead = Vec::new();
    for name in walk.names().unwrap_or_default() {
        let Ok(stat) = statat(walk.here(), &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            ahead.push(name);
        } else {
            *bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
    ahead
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    #[test]
    fn depth_and_links_are_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::write(temp.path().join("f"), [1; 100]).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("out")).unwrap();
        let shallow = bytes_below(temp.path());
        assert!((512..1 << 20).contains(&shallow), "{shallow}");
        // Deeper than any path may be long, and than files may be open.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |at: BorrowedFd<'_>, name: &str| openat(at, name, flags, Mode::empty()).unwrap();
        let mut here = open(CWD, temp.path().to_str().unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "dd", Mode::RWXU).unwrap();
            here = open(here.as_fd(), "dd");
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = openat(&here, "f", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, &[1; 100]).unwrap();
        let deep = bytes_below(temp.path());
        assert!(deep > shallow && deep < 1 << 20, "{deep}");
        assert_eq!(bytes_below(&temp.path().join("none")), 0);
        // By descriptors too: what removes the temporary directory goes by paths.
        super::super::remove::tree(temp.path()).unwrap();
    }
}
