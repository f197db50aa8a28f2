//! Trees that somebody else made, removed: however deep they are, and whatever is exchanged in them meanwhile.
//!
//! One directory is open at a time, and the way back is `..`, checked to be where the walk came from: no depth uses up the
//! descriptors, the stack or the longest path. No link is followed, and no mount is gone into: what lies on another file
//! system, or is mounted there, is somebody else's.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat,
    unlinkat,
};
use rustix::io::Errno;

/// Removes what is at `path` with all that is in it; nothing there is fine. What cannot be removed stays, all else goes, and the
/// first reason is returned.
///
/// Errors: what `unlinkat` and `openat2` return; `EXDEV` for a mount; `ESTALE` where a directory was moved away meanwhile.
pub fn tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => entry(parent.as_fd(), name),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The same, for the entry `name` of a directory.
pub fn entry(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut walk = Walk {
        levels: Vec::new(),
        failed: None,
    };
    walk.remove(directory, name)?;
    match walk.failed {
        None => Ok(()),
        Some(errno) => Err(errno.into()),
    }
}

/// A directory that is being emptied.
struct Level {
    /// In the one above.
    name: OsString,
    /// Device and inode.
    id: (u64, u64),
    /// Directories in it that are left.
    below: Vec<OsString>,
}

struct Walk {
    /// From the top to the one that is open.
    levels: Vec<Level>,
    /// The first thing that could not be removed.
    failed: Option<Errno>,
}

impl Walk {
    fn remove(&mut self, top: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let Some(mut here) = self.enter(top, name) else {
            return Ok(());
        };
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.below.pop() {
                if let Some(below) = self.enter(here.as_fd(), &name) {
                    here = below;
                }
                continue;
            }
            let Some(emptied) = self.levels.pop() else {
                break;
            };
            let Some(above) = self.levels.last() else {
                self.rmdir(top, &emptied.name);
                break;
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            here = openat(&here, "..", flags, Mode::empty())?;
            if id(&here)? != above.id {
                return Err(Errno::STALE.into());
            }
            self.rmdir(here.as_fd(), &emptied.name);
        }
        Ok(())
    }

    /// Goes into a directory and removes what is none in it. One that is empty then is removed at once.
    fn enter(&mut self, above: BorrowedFd<'_>, name: &OsStr) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = loop {
            match openat2(above, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => break opened,
            }
        };
        let listed = opened.and_then(|here| {
            let below = self.unlink_all(&here)?;
            Ok((id(&here)?, below, here))
        });
        match listed {
            Ok((_, below, _)) if below.is_empty() => {
                self.rmdir(above, name);
                None
            }
            Ok((id, below, here)) => {
                let name = name.to_owned();
                self.levels.push(Level { name, id, below });
                Some(here)
            }
            Err(Errno::NOENT) => None,
            // Exchanged for something else meanwhile.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let removed = unlinkat(above, name, AtFlags::empty());
                self.note(removed);
                None
            }
            Err(errno) => {
                self.note(Err(errno));
                None
            }
        }
    }

    /// Removes the files of a directory, and returns its directories.
    fn unlink_all(&mut self, here: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
        let mut below = Vec::new();
        for found in Dir::read_from(here)? {
            let found = found?;
            let name: &CString = &found.file_name().to_owned();
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match found.file_type() {
                FileType::Unknown => match statat(here, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                },
                kind => kind,
            };
            if kind == FileType::Directory {
                below.push(OsString::from_vec(name.as_bytes().to_vec()));
                continue;
            }
            match unlinkat(here, name.as_c_str(), AtFlags::empty()) {
                Err(Errno::ISDIR) => below.push(OsString::from_vec(name.as_bytes().to_vec())),
                removed => self.note(removed),
            }
        }
        Ok(below)
    }

    fn rmdir(&mut self, above: BorrowedFd<'_>, name: &OsStr) {
        let removed = unlinkat(above, name, AtFlags::REMOVEDIR);
        self.note(removed);
    }

    fn note(&mut self, removed: rustix::io::Result<()>) {
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                self.failed.get_or_insert(errno);
            }
        }
    }
}

fn id(fd: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes a chain of directories below `path`, deeper than any path can say.
    fn chain(path: &Path, depth: usize) {
        fs_err::create_dir(path).unwrap();
        let mut here: OwnedFd = fs_err::File::open(path).unwrap().into_file().into();
        for _ in 0..depth {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            here = openat(&here, "d", flags, Mode::empty()).unwrap();
            openat(
                &here,
                "f",
                OFlags::CREATE | OFlags::WRONLY,
                Mode::RUSR | Mode::WUSR,
            )
            .unwrap();
        }
    }

    #[test]
    fn the_deepest_tree_goes_with_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep");
        chain(&path, 5000);
        // Everybody's; what is beside it is kept.
        fs_err::write(root.path().join("kept"), "x").unwrap();
        tree(&path).unwrap();
        let left: Vec<_> = fs_err::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kept"]);
        tree(&path).unwrap();
        tree(&root.path().join("none/at/all")).unwrap();
    }

    #[test]
    fn no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs_err::create_dir_all(at("outside/d")).unwrap();
        fs_err::write(at("outside/d/f"), "x").unwrap();
        fs_err::create_dir_all(at("tree/a/b")).unwrap();
        symlink(at("outside"), at("tree/a/link")).unwrap();
        symlink("../../outside/d", at("tree/b")).unwrap();
        tree(&at("tree")).unwrap();
        assert!(!at("tree").exists());
        // A link itself goes, a file too.
        symlink(at("outside"), at("link")).unwrap();
        tree(&at("link")).unwrap();
        fs_err::symlink_metadata(at("link")).unwrap_err();
        assert_eq!(fs_err::read_to_string(at("outside/d/f")).unwrap(), "x");
        tree(&at("outside/d/f")).unwrap();
        assert!(!at("outside/d/f").exists());
    }
}
