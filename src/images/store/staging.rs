//! Directories of running commands, below `tmp/`: each flocked by its maker, so that the next command knows the dead ones.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::{Hold, Store, StoreError};
use crate::sys::lock::{self, Lock};
use crate::sys::remove;

/// A directory of a running pull, import or build, on the store's file system. Dropped, it is removed.
#[derive(Debug)]
pub struct Staging {
    directory: PathBuf,
    #[expect(dead_code, reason = "the flock is held, not read")]
    locked: OwnedFd,
    hold: Option<Hold>,
    counter: AtomicU64,
}

impl Staging {
    /// Returns the directory that becomes the layer: an overlay upper directory.
    pub fn diff(&self) -> PathBuf {
        self.directory.join("diff")
    }

    /// Returns the overlay work directory that goes with it.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Returns the directory of both, where more may be put.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns a path within that nothing has yet.
    pub(super) fn next_path(&self) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{number}.new"))
    }
}

/// Held by who downloads a layer or does a build step. Dropped, its file goes with it.
#[derive(Debug)]
pub(crate) struct LayerLock {
    lock: Lock,
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        // Still locked, so that nobody else's file goes; what stays, the next command's sweep removes.
        match fs_err::remove_file(self.lock.path()) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match remove::tree(&self.directory) {
            // What cannot be removed now stays unlocked, and the next command tries again.
            Ok(()) | Err(_) => {}
        }
    }
}

impl Store {
    /// Makes a directory with empty `diff` (0755) and `work`.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        let mut staging = self.temporary()?;
        staging.hold = Some(self.hold()?);
        for (path, mode) in [(staging.diff(), 0o755), (staging.work(), 0o700)] {
            fs_err::create_dir(&path).map_err(StoreError::io("make", &path))?;
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode))
                .map_err(StoreError::io("set the mode of", &path))?;
        }
        Ok(staging)
    }

    /// Returns the directory for this process's small files, made once.
    pub(super) fn scratch(&self) -> Result<&Staging, StoreError> {
        if self.scratch.get().is_none() {
            let made = self.temporary()?;
            // Another thread may have been faster; then ours is dropped, and so removed.
            drop(self.scratch.set(made));
        }
        self.scratch.get().ok_or_else(|| {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            StoreError::io("make", &self.path("tmp"))(missing)
        })
    }

    fn temporary(&self) -> Result<Staging, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let lock = self.path("tmp/lock");
        // Not between mkdir and flock may others look for dead directories.
        let _making =
            Lock::acquire(&lock, lock::Mode::Shared).map_err(StoreError::io("lock", &lock))?;
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let directory = self.path(&format!("tmp/{}.{number}", std::process::id()));
            match rustix::fs::mkdir(&directory, Mode::RWXU) {
                Ok(()) => {}
                // Of an earlier process of the same id.
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(StoreError::io("make", &directory)(errno)),
            }
            let locked = open_directory(&directory)?;
            flock(&locked, FlockOperation::NonBlockingLockExclusive)
                .map_err(StoreError::io("lock", &directory))?;
            return Ok(Staging {
                directory,
                locked,
                hold: None,
                counter: AtomicU64::new(0),
            });
        }
    }

    /// Removes what killed commands left below `tmp/`; returns what could not be, and why.
    pub(super) fn sweep(&self) -> Result<Vec<(PathBuf, StoreError)>, StoreError> {
        let lock = self.path("tmp/lock");
        let looking = Lock::try_acquire(&lock, lock::Mode::Exclusive)
            .map_err(StoreError::io("lock", &lock))?;
        if looking.is_none() {
            return Ok(Vec::new()); // Somebody is at work; the next command will look.
        }
        let directory = self.path("tmp");
        let entries = fs_err::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
        let mut left = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &directory))?;
            if entry.file_name() == "lock" {
                continue;
            }
            if let Err(error) = sweep_one(&entry.path()) {
                left.push((entry.path(), error));
            }
        }
        Ok(left)
    }

    /// Takes the lock of whoever downloads a layer, if it is free.
    pub(crate) fn try_lock_layer(&self, hex: &str) -> Result<Option<LayerLock>, StoreError> {
        self.layer_lock(hex, |path| Lock::try_acquire(path, lock::Mode::Exclusive))
    }

    /// Waits for that lock; blocks the thread.
    pub(crate) fn lock_layer(&self, hex: &str) -> Result<Option<LayerLock>, StoreError> {
        self.layer_lock(hex, |path| {
            Lock::acquire(path, lock::Mode::Exclusive).map(Some)
        })
    }

    /// Takes the lock of whoever does the build step of that key, if it is free.
    pub(crate) fn try_lock_step(&self, key: &str) -> Result<Option<LayerLock>, StoreError> {
        self.work_lock(&format!("step-{key}"), |path| {
            Lock::try_acquire(path, lock::Mode::Exclusive)
        })
    }

    /// Returns the process that does the build step of that key, where it can be told.
    pub(crate) fn step_holder(&self, key: &str) -> Option<u32> {
        Lock::holder(&self.path(&format!("tmp/step-{key}")))
    }

    /// Waits for that lock; blocks the thread.
    pub(crate) fn lock_step(&self, key: &str) -> Result<LayerLock, StoreError> {
        let locked = self.work_lock(&format!("step-{key}"), |path| {
            Lock::acquire(path, lock::Mode::Exclusive).map(Some)
        })?;
        locked.ok_or_else(|| {
            let busy = std::io::Error::from(std::io::ErrorKind::WouldBlock);
            StoreError::io("lock", &self.path("tmp"))(busy)
        })
    }

    fn layer_lock(
        &self,
        hex: &str,
        acquire: impl Fn(&Path) -> std::io::Result<Option<Lock>>,
    ) -> Result<Option<LayerLock>, StoreError> {
        self.work_lock(&format!("layer-{hex}"), acquire)
    }

    /// Takes a lock that goes with its file.
    fn work_lock(
        &self,
        name: &str,
        acquire: impl Fn(&Path) -> std::io::Result<Option<Lock>>,
    ) -> Result<Option<LayerLock>, StoreError> {
        let path = self.path(&format!("tmp/{name}"));
        Ok(lock_current(&path, acquire)?.map(|lock| LayerLock { lock }))
    }
}

/// Locks the file that is at `path` now: its last holder may have moved or removed the one that was locked.
pub(super) fn lock_current(
    path: &Path,
    acquire: impl Fn(&Path) -> std::io::Result<Option<Lock>>,
) -> Result<Option<Lock>, StoreError> {
    Lock::current(path, acquire).map_err(StoreError::io("lock", path))
}

/// Removes one thing below `tmp/` if nobody holds it.
fn sweep_one(path: &Path) -> Result<(), StoreError> {
    let stat = match fs_err::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("look at", path)(error)),
    };
    if stat.is_dir() {
        return remove_if_dead(path);
    }
    // Not one that its holder has replaced since: somebody else's.
    let unused = lock_current(path, |path| Lock::try_acquire(path, lock::Mode::Exclusive))?;
    match unused {
        Some(_unused) => remove_file(path),
        None => Ok(()),
    }
}

fn remove_if_dead(path: &Path) -> Result<(), StoreError> {
    let directory = match open_directory(path) {
        Ok(directory) => directory,
        // Its owner removed it just now.
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => remove::tree(path).map_err(StoreError::io("remove", path)),
        Err(Errno::WOULDBLOCK) => Ok(()),
        Err(errno) => Err(StoreError::io("lock", path)(errno)),
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(StoreError::io("open", path))
}
