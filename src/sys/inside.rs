//! Changing files inside a directory that somebody else controls, one directory at a time: the directory is found by
//! [`paths`], which no link leads out of, and its entries are replaced by name, never followed.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
    fstat, futimens, mkdirat, openat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::sys::paths::{self, Kind};
use crate::sys::{procfs, random};

/// Opens the root directory as the process `pid`, which started at `started` (ticks since boot), sees it: its mounts are there.
/// `None` where it has ended.
pub fn open_root(pid: i32, started: u64) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{pid}/root");
    let root = match openat(rustix::fs::CWD, path.as_str(), flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // Looked at after the open: if the number was another's by then, that one started later.
    Ok(procfs::is_alive(pid, started).then_some(root))
}

/// A directory inside a root.
#[derive(Debug)]
pub struct Inside {
    directory: OwnedFd,
}

impl Inside {
    /// Opens a directory if it is there; links are followed inside `root`.
    pub fn existing(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Self>> {
        match paths::open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Some(Self { directory })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a directory, made with its parents if missing (mode 0755, owner that of the directory above each).
    pub fn made(root: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        if let Some(found) = Self::existing(root, path)? {
            return Ok(found);
        }
        // The deepest that is there, then what is missing, one by one: each gets its parent's owner.
        let mut missing = Vec::new();
        let mut here = path;
        let mut found = loop {
            let (Some(parent), Some(name)) = (here.parent(), here.file_name()) else {
                break Self {
                    directory: root.try_clone_to_owned()?,
                };
            };
            missing.push(name);
            here = parent;
            if let Some(found) = Self::existing(root, here)? {
                break found;
            }
        };
        while let Some(name) = missing.pop() {
            here = path.ancestors().nth(missing.len()).unwrap_or(path);
            match mkdirat(&found.directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => found.give_owner(name)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            // By its path, not by its name: an entry may be a link whose target is missing.
            found = match Self::existing(root, here)? {
                Some(found) => found,
                None => Self {
                    directory: paths::open_or_create(root, here, Kind::Directory)?,
                },
            };
        }
        Ok(found)
    }

    /// Removes an entry that is no directory, or an empty one; returns whether there was something to remove. A directory with
    /// something in it stays.
    pub fn remove(&self, name: &OsStr) -> io::Result<bool> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match unlinkat(&self.directory, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes an entry a directory, of the permission bits of `like` where it is new; one that is there stays as it is, and so
    /// does a link to one.
    pub fn make_directory(&self, name: &OsStr, like: &Metadata) -> io::Result<bool> {
        if let Some(found) = self.entry(name)? {
            let kind = FileType::from_raw_mode(found.st_mode);
            if kind == FileType::Directory || kind == FileType::Symlink {
                return Ok(false);
            }
            unlinkat(&self.directory, name, AtFlags::empty())?;
        }
        mkdirat(&self.directory, name, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&self.directory, name, flags, Mode::empty())?;
        self.give_owner(name)?;
        fchmod(&made, Mode::from_raw_mode(like.mode() & 0o7777))?;
        Ok(true)
    }

    /// Makes an entry a symbolic link.
    pub fn replace_link(&self, name: &OsStr, target: &Path) -> io::Result<bool> {
        if rustix::fs::readlinkat(&self.directory, name, Vec::new())
            .is_ok_and(|found| found.as_c_str().to_bytes() == target.as_os_str().as_encoded_bytes())
        {
            return Ok(false);
        }
        let temporary = temporary()?;
        symlinkat(target, &self.directory, &temporary)?;
        self.give_owner(temporary.as_os_str())?;
        self.rename(&temporary, name)?;
        Ok(true)
    }

    /// Opens an entry for reading if it is a regular file of the size and permission bits of `like`.
    pub fn open_file(&self, name: &OsStr, like: &Metadata) -> io::Result<Option<fs_err::File>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let stat = fstat(&found)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if !regular || size != like.size() || (stat.st_mode ^ like.mode()) & 0o7777 != 0 {
            return Ok(None);
        }
        // Looked at before it is opened: opening anything but a file may have an effect.
        fs_err::File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map(Some)
    }

    /// Replaces an entry by a file with what `content` has, and the permission bits and modification time of `like`. Its owner is
    /// that of the file it replaces, else of the directory.
    pub fn replace_file(
        &self,
        name: &OsStr,
        content: &mut impl Read,
        like: &Metadata,
    ) -> io::Result<()> {
        let temporary = temporary()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(
            &self.directory,
            &temporary,
            flags,
            Mode::from_raw_mode(0o600),
        )?;
        let mut file = fs_err::File::from_parts(file.into(), temporary.clone());
        let owner = match self.entry(name)? {
            Some(old) if FileType::from_raw_mode(old.st_mode) == FileType::RegularFile => old,
            _ => fstat(&self.directory)?,
        };
        let written = (|| {
            io::copy(content, &mut file)?;
            fchown(
                &file,
                Some(Uid::from_raw(owner.st_uid)),
                Some(Gid::from_raw(owner.st_gid)),
            )?;
            // After the owner: changing that clears the set-id bits.
            fchmod(&file, Mode::from_raw_mode(like.mode() & 0o7777))?;
            let time = Timespec {
                tv_sec: like.mtime(),
                tv_nsec: like.mtime_nsec(),
            };
            futimens(
                &file,
                &Timestamps {
                    last_access: time,
                    last_modification: time,
                },
            )?;
            Ok(())
        })();
        match written {
            Ok(()) => self.rename(&temporary, name),
            Err(error) => Err(self.discard(&temporary, error)),
        }
    }

    /// Returns what an entry is, itself.
    fn entry(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives a new entry the owner of the directory.
    fn give_owner(&self, name: &OsStr) -> io::Result<()> {
        let owner = fstat(&self.directory)?;
        let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
        chownat(
            &self.directory,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }

    /// Renames a temporary entry over another one.
    fn rename(&self, temporary: &Path, name: &OsStr) -> io::Result<()> {
        match renameat(&self.directory, temporary, &self.directory, name) {
            Ok(()) => Ok(()),
            Err(errno) => Err(self.discard(temporary, errno.into())),
        }
    }

    /// Removes a temporary entry after an error.
    fn discard(&self, temporary: &Path, error: io::Error) -> io::Error {
        match unlinkat(&self.directory, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => error,
            Err(left) => io::Error::other(format!("{error}; and then: {left}")),
        }
    }
}

impl AsFd for Inside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Returns a name that nobody else uses, and that most who watch a directory overlook.
fn temporary() -> io::Result<PathBuf> {
    let number = u64::from_ne_bytes(random::bytes::<8>()?);
    Ok(PathBuf::from(format!(".stack-{number:016x}.tmp")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A root with hostile links, and a file beside it.
    fn root() -> (tempfile::TempDir, OwnedFd) {
        let above = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(above.path().join("root/real/dir")).unwrap();
        fs_err::create_dir(above.path().join("outside")).unwrap();
        symlink("../../outside", above.path().join("root/out")).unwrap();
        symlink("real/dir", above.path().join("root/link")).unwrap();
        symlink("/missing/dir", above.path().join("root/dangling")).unwrap();
        let fd = fs_err::File::open(above.path().join("root")).unwrap();
        (above, fd.into_file().into())
    }

    fn put(root: &OwnedFd, path: &str, text: &str, mode: u32) -> io::Result<()> {
        let source = tempfile::NamedTempFile::new().unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(source.path(), permissions).unwrap();
        let like = fs_err::metadata(source.path()).unwrap();
        let path = Path::new(path);
        let directory = Inside::made(root.as_fd(), path.parent().unwrap())?;
        directory.replace_file(path.file_name().unwrap(), &mut text.as_bytes(), &like)
    }

    #[test]
    fn files_come_whole_with_their_mode_inside_the_root_only() {
        let (above, root) = root();
        let rows = [
            ("/real/dir/a", "root/real/dir/a"),
            ("/link/b", "root/real/dir/b"),
            ("/new/x/y", "root/new/x/y"),
            ("/dangling/c", "root/missing/dir/c"),
            ("/../../d", "root/d"),
            ("/out/e", "root/outside/e"),
            ("/link", "root/link"),
        ];
        for (path, expected) in rows {
            put(&root, path, "text", 0o751).unwrap();
            let found = above.path().join(expected);
            let metadata = fs_err::symlink_metadata(&found).unwrap();
            assert_eq!(
                (
                    fs_err::read_to_string(&found).unwrap().as_str(),
                    metadata.mode() & 0o7777,
                    metadata.is_file()
                ),
                ("text", 0o751, true),
                "{path}"
            );
        }
        assert_eq!(
            fs_err::read_dir(above.path().join("outside"))
                .unwrap()
                .count(),
            0
        );
        let names = fs_err::read_dir(above.path().join("root/real/dir")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"], "no temporary is left");
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file_and_nothing_is_left() {
        let (above, root) = root();
        put(&root, "/real", "text", 0o644).unwrap_err();
        let names = fs_err::read_dir(above.path().join("root")).unwrap();
        let left = names.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with(".stack-")
        });
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_removed_is_the_entry_itself_and_no_full_directory() {
        let (above, root) = root();
        put(&root, "/full/file", "text", 0o644).unwrap();
        let top = Inside::existing(root.as_fd(), Path::new("/"))
            .unwrap()
            .unwrap();
        let rows = [
            ("link", true),
            ("full", false),
            ("none", false),
            ("out", true),
        ];
        for (name, expected) in rows {
            assert_eq!(top.remove(OsStr::new(name)).unwrap(), expected, "{name}");
        }
        assert!(above.path().join("root/real/dir").is_dir());
        assert!(above.path().join("outside").is_dir());
    }

    #[test]
    fn links_and_directories_are_made_once() {
        let (above, root) = root();
        let top = Inside::existing(root.as_fd(), Path::new("/"))
            .unwrap()
            .unwrap();
        let like = fs_err::metadata(above.path().join("root/real")).unwrap();
        for expected in [true, false] {
            assert_eq!(
                top.replace_link(OsStr::new("l"), Path::new("x/y")).unwrap(),
                expected
            );
            assert_eq!(
                top.make_directory(OsStr::new("d"), &like).unwrap(),
                expected
            );
        }
        assert_eq!(
            fs_err::read_link(above.path().join("root/l")).unwrap(),
            Path::new("x/y")
        );
    }
}
