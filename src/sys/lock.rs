//! `flock`: one holder a file, released by the kernel when the holder dies.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A lock held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: fs_err::File,
    path: PathBuf,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

impl Lock {
    /// Waits for the lock on `path`, a file that is made if missing.
    pub fn acquire(path: &Path, mode: Mode) -> io::Result<Self> {
        let file = open(path)?;
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match flock(&file, operation) {
                Ok(()) => {
                    return Ok(Self {
                        file,
                        path: path.to_owned(),
                    });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(named(path, errno)),
            }
        }
    }

    /// Waits for the lock on a directory, which [`Self::file`] then is, whatever its path comes to lead to.
    pub fn directory(path: &Path) -> io::Result<Self> {
        let mut options = fs_err::OpenOptions::new();
        options.read(true);
        options.options_mut().custom_flags(libc::O_DIRECTORY);
        let file = options.open(path)?;
        let operation = FlockOperation::LockExclusive;
        rustix::io::retry_on_intr(|| flock(&file, operation))
            .map_err(|errno| named(path, errno))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Takes the lock on `path` if nobody holds it against `mode`; `None` if somebody does.
    pub fn try_acquire(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        let file = open(path)?;
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(named(path, errno)),
        }
    }

    /// Locks the file that is at `path` now, where the last holder removes or moves it: a lock on one that is elsewhere keeps
    /// nobody out. `None` where `acquire` says so.
    pub fn current(
        path: &Path,
        acquire: impl Fn(&Path) -> io::Result<Option<Self>>,
    ) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt;
        loop {
            let Some(lock) = acquire(path)? else {
                return Ok(None);
            };
            let held = lock.file.metadata()?;
            match fs_err::metadata(path) {
                Ok(now) if now.ino() == held.ino() => return Ok(Some(lock)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the process that holds the lock on `path`, where the kernel tells: one of a namespace that is not below ours has no number.
    pub fn holder(path: &Path) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        let file = fs_err::metadata(path).ok()?;
        let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let locks = fs_err::read_to_string("/proc/locks").ok()?;
        holder_in(&locks, device, file.ino())
    }

    /// Returns the locked file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up the open file, which holds the lock until its last copy is closed, whoever has that.
    pub fn into_file(self) -> OwnedFd {
        self.file.into_file().into()
    }

    /// Returns the open file, which holds the lock, for handing it to a child.
    pub fn file(&self) -> &fs_err::File {
        &self.file
    }
}

/// Opens the lock file, made mode 0600 if missing.
fn open(path: &Path) -> io::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .options_mut()
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

/// Reads `/proc/locks` (`man 5 proc_locks`): the process that has locked a file alone. What waits begins with an arrow.
fn holder_in(locks: &str, (major, minor): (u32, u32), inode: u64) -> Option<u32> {
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let inode = format!(":{inode}");
    let holders = locks.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields.as_slice() else {
            return None;
        };
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        file.ends_with(&inode).then_some((*file == wanted, pid))
    });
    let holders: Vec<(bool, u32)> = holders.collect();
    match holders.as_slice() {
        // Btrfs tells another device of a file than of its lock.
        [(_, pid)] => Some(*pid),
        several => several
            .iter()
            .find(|(is_it, _)| *is_it)
            .map(|(_, pid)| *pid),
    }
}

/// Puts `path` into the error.
fn named(path: &Path, errno: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("lock `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_read() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 10 08:01:77 0 EOF
2: FLOCK  ADVISORY  READ  11 08:01:77 0 EOF
3: FLOCK  ADVISORY  WRITE 0 00:16:88 0 EOF
4: FLOCK  ADVISORY  WRITE 12 fd:00:77 0 EOF
4: -> FLOCK  ADVISORY  WRITE 13 fd:00:99 0 EOF
5: FLOCK  ADVISORY  WRITE 14 fd:00:66 0 EOF
6: FLOCK  ADVISORY  WRITE 15 08:01:66 0 EOF
";
        let disk = (0xfd, 0);
        let table = [
            (disk, 77, Some(12)),
            ((8, 1), 77, Some(12)),
            (disk, 66, Some(14)),
            ((8, 1), 66, Some(15)),
            ((8, 2), 66, None),
            ((0, 0x16), 88, None),
            (disk, 99, None),
            (disk, 7, None),
        ];
        for (device, inode, expected) in table {
            assert_eq!(holder_in(locks, device, inode), expected, "{inode}");
        }
    }

    #[test]
    fn the_holder_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        assert_eq!(Lock::holder(&path), None);
        let lock = Lock::acquire(&path, Mode::Exclusive).unwrap();
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        drop(lock);
        assert_eq!(Lock::holder(&path), None);
    }
}
