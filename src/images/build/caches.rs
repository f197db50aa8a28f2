//! Directories that outlive builds: `RUN --mount=type=cache`.
//!
//! ```text
//! <root>/cache/mounts/<64 hex>[.n]/lock     flock: shared by who shares it, exclusive for who wants it alone; its time is the last use
//! <root>/cache/mounts/<64 hex>[.n]/data/    what is mounted
//! ```
//!
//! The name is the SHA-256 of the id (by default the target), of what the cache begins with, and of who owns it. How long
//! one stays and how much they may have is in [`super::budget`].

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::beside::beside;
use super::super::dockerfile::mount::{Access, Sharing};
use super::super::stop::Stop;
use super::budget::{Item, superfluous};
use super::builder::Build;
use super::cache::modified_ns;
use super::context::{hash_part, hex};
use super::error::StepFailure;
use crate::sys::lock::{Lock, Mode};
use crate::sys::usage;

/// A cache in use.
#[derive(Debug)]
pub(super) struct Held {
    directory: PathBuf,
    #[expect(dead_code, reason = "held, not read")]
    lock: Lock,
}

impl Held {
    /// Returns what is mounted.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

/// Returns the name of a cache.
pub(super) fn name_of(namespace: &str, id: &str, access: Access, seed: &str) -> String {
    let mut hash = Sha256::new();
    let Access { mode, uid, gid } = access;
    let access = format!("{mode:?} {uid:?} {gid:?}");
    for part in [namespace, id, &access, seed] {
        hash_part(&mut hash, part.as_bytes());
    }
    hex(&hash.finalize())
}

impl Build<'_> {
    /// Takes a cache, filled with `fill` where it is new; a `fresh` one begins anew, once a command.
    pub(super) async fn hold_cache(
        &self,
        name: &str,
        sharing: Sharing,
        fresh: bool,
        fill: impl FnOnce(&Path, &Stop) -> Result<(), StepFailure> + Send + 'static,
    ) -> Result<Held, StepFailure> {
        let top = self.cache.mounts();
        let plain = top.join(name);
        let is_first = |path: &Path| {
            let name = format!("mount {}", path.display());
            fresh && self.session.add_new(&name)
        };
        let held = match sharing {
            Sharing::Shared => {
                if is_first(&plain) {
                    let alone = match try_take(&plain, Mode::Exclusive)? {
                        Some(alone) => alone,
                        // Nobody's cache is emptied under him: this command has another one.
                        None => take_free(&top, name)?,
                    };
                    self.empty(&alone)?;
                    self.session.move_cache(plain.clone(), alone.directory);
                }
                take(&self.session.cache_at(&plain), Mode::Shared).await?
            }
            Sharing::Locked => {
                let held = take(&self.session.cache_at(&plain), Mode::Exclusive).await?;
                if is_first(&plain) {
                    self.empty(&held)?;
                }
                held
            }
            Sharing::Private => {
                let held = take_free(&top, name)?;
                if is_first(&held.directory) {
                    self.empty(&held)?;
                }
                held
            }
        };
        let data = held.data();
        if !data.exists() {
            let new = self.store().staging()?;
            let filled = self.aside.run(move |stop| {
                fill(&new.diff(), stop)?;
                Ok::<_, StepFailure>(new)
            });
            let new = filled.await??;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, new.diff(), cwd, &data, flags) {
                // Somebody who shares it was faster, and has it mounted perhaps, be it empty.
                Err(rustix::io::Errno::EXIST) => {}
                renamed => renamed.map_err(io::Error::from)?,
            }
        }
        Ok(held)
    }

    /// Throws away what is in a cache that is held alone.
    fn empty(&self, alone: &Held) -> Result<(), StepFailure> {
        let old = self.store().staging()?;
        match fs_err::rename(alone.data(), old.directory().join("old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Takes a cache, and waits for it.
async fn take(directory: &Path, mode: Mode) -> Result<Held, StepFailure> {
    loop {
        if let Some(held) = try_take(directory, mode)? {
            return Ok(held);
        }
        match wait(directory.join("lock"), mode).await {
            Ok(lock) => {
                if let Some(held) = still_there(directory, lock)? {
                    return Ok(held);
                }
            }
            // It was removed just now.
            Err(StepFailure::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes a cache, made if missing, if nobody uses it against `mode`.
fn try_take(directory: &Path, mode: Mode) -> io::Result<Option<Held>> {
    loop {
        fs_err::create_dir_all(directory)?;
        match Lock::try_acquire(&directory.join("lock"), mode) {
            Ok(Some(lock)) => {
                if let Some(held) = still_there(directory, lock)? {
                    return Ok(Some(held));
                }
            }
            Ok(None) => return Ok(None),
            // It was removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the first cache of that name that nobody uses.
fn take_free(top: &Path, name: &str) -> Result<Held, StepFailure> {
    let mut number = 0_u32;
    loop {
        let directory = match number {
            0 => top.join(name),
            number => top.join(format!("{name}.{number}")),
        };
        if let Some(held) = try_take(&directory, Mode::Exclusive)? {
            return Ok(held);
        }
        number += 1;
    }
}

/// Waits for a lock without holding up what else this thread does.
async fn wait(path: PathBuf, mode: Mode) -> Result<Lock, StepFailure> {
    Ok(beside(move || Lock::acquire(&path, mode)).await??)
}

/// Returns the cache if it was not removed between its making and its locking.
fn still_there(directory: &Path, lock: Lock) -> io::Result<Option<Held>> {
    use std::os::unix::fs::MetadataExt;
    let locked = lock.file().metadata()?;
    match fs_err::metadata(directory.join("lock")) {
        Ok(now) if now.ino() == locked.ino() => {
            touch(lock.file())?;
            Ok(Some(Held {
                directory: directory.to_owned(),
                lock,
            }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a file's time to now.
pub(super) fn touch(file: &fs_err::File) -> io::Result<()> {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// A cache as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Where.
    pub path: PathBuf,
    /// When it was last used, nanoseconds since 1970.
    pub used_ns: i128,
    /// What is in it.
    pub bytes: u64,
}

/// Returns all caches below `top`.
pub(super) fn list(top: &Path) -> io::Result<Vec<CacheMount>> {
    let mut caches = Vec::new();
    let entries = match fs_err::read_dir(top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(caches),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        // One without a lock is being made or removed.
        let Ok(used_ns) = modified_ns(&path.join("lock")) else {
            continue;
        };
        let bytes = usage::bytes_below(&path);
        caches.push(CacheMount {
            path,
            used_ns,
            bytes,
        });
    }
    Ok(caches)
}

/// Returns whether somebody uses a cache.
pub(super) fn is_used(path: &Path) -> io::Result<bool> {
    Ok(Lock::try_acquire(&path.join("lock"), Mode::Exclusive)?.is_none())
}

/// Removes what was last used before `since_ns`, and the least used until `max_bytes` are not exceeded; what is in use stays. Returns the
/// bytes that went.
pub(super) fn prune(
    top: &Path,
    since_ns: i128,
    max_bytes: u64,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut removed, mut unused) = (0, Vec::new());
    for cache in list(top)? {
        // Held until all is decided.
        match Lock::try_acquire(&cache.path.join("lock"), Mode::Exclusive) {
            Ok(Some(alone)) => unused.push((cache, alone)),
            Ok(None) => {}
            // It was removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let items: Vec<Item> = unused
        .iter()
        .map(|(cache, _)| Item {
            used_ns: cache.used_ns,
            bytes: cache.bytes,
        })
        .collect();
    for index in superfluous(&items, since_ns, max_bytes) {
        if let Some((cache, _alone)) = unused.get(index) {
            remove(&cache.path)?;
            removed += cache.bytes;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_least_used_goes_first_and_what_is_in_use_stays() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path();
        for (name, hours) in [("a", 3_u64), ("b", 2), ("c", 1), ("d", 0)] {
            fs_err::create_dir_all(top.join(name).join("data")).unwrap();
            fs_err::copy("/bin/true", top.join(name).join("data/f")).unwrap();
            let lock = fs_err::File::create(top.join(name).join("lock")).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - hours * 3600);
            lock.set_modified(time).unwrap();
        }
        let used = Lock::try_acquire(&top.join("a/lock"), Mode::Shared).unwrap();
        let one = usage::bytes_below(&top.join("a"));
        let remove = |path: &Path| fs_err::remove_dir_all(path);
        assert_eq!(prune(top, 0, one * 2, remove).unwrap(), one);
        let since = i128::from(1_000_000 - 3600 + 1) * 1_000_000_000;
        assert_eq!(prune(top, since, u64::MAX, remove).unwrap(), one);
        assert!(is_used(&top.join("a")).unwrap());
        assert!(!is_used(&top.join("d")).unwrap());
        drop(used);
        let mut left: Vec<_> = fs_err::read_dir(top)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a", "d"]);
    }
}
