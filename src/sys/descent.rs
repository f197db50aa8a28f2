//! Going through a tree that others change meanwhile, without ever leaving it.
//!
//! One directory is open at a time: it is entered from the one above without following links, and the way back is `..`, checked to
//! be where the walk came from. So no depth uses up descriptors, and an exchange of names leads nowhere else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::beneath::plainly;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A walk, and where it is.
#[derive(Debug)]
pub struct Descent {
    here: OwnedFd,
    /// Device and inode of the directories above, the top first.
    above: Vec<(u64, u64)>,
}

impl Descent {
    /// Begins at `top`, which is no link.
    pub fn new(top: &Path) -> io::Result<Self> {
        Ok(Self {
            here: rustix::fs::open(top, DIRECTORY, Mode::empty())?,
            above: Vec::new(),
        })
    }

    /// Returns the directory where it is.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Goes into a directory of this one. Errors: `ENOTDIR` or `ELOOP` for what is none.
    pub fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let below = plainly(self.here(), Path::new(name), DIRECTORY)?;
        self.above.push(id(&self.here)?);
        self.here = below;
        Ok(())
    }

    /// Goes back to where [`Descent::enter`] was called. Errors: `ESTALE` where this directory was moved away meanwhile.
    pub fn leave(&mut self) -> io::Result<()> {
        let above = openat(&self.here, "..", DIRECTORY, Mode::empty())?;
        if self.above.pop() != Some(id(&above)?) {
            return Err(Errno::STALE.into());
        }
        self.here = above;
        Ok(())
    }

    /// Returns the names in this directory, in no order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.here)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

fn id(fd: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_into_no_link_and_back_only_where_it_came_from() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs_err::create_dir_all(at("top/a/b")).unwrap();
        fs_err::create_dir(at("elsewhere")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("top/link")).unwrap();
        let mut walk = Descent::new(&at("top")).unwrap();
        let errno = |result: io::Result<()>| Errno::from_io_error(&result.unwrap_err());
        assert_eq!(errno(walk.enter(OsStr::new("link"))), Some(Errno::NOTDIR));
        assert_eq!(errno(walk.enter(OsStr::new(".."))), Some(Errno::XDEV));
        walk.enter(OsStr::new("a")).unwrap();
        assert_eq!(walk.names().unwrap(), ["b"]);
        walk.enter(OsStr::new("b")).unwrap();
        walk.leave().unwrap();
        walk.enter(OsStr::new("b")).unwrap();
        fs_err::rename(at("top/a/b"), at("elsewhere/b")).unwrap();
        assert_eq!(errno(walk.leave()), Some(Errno::STALE));
    }
}
