//! Downloads that broke off: `images/partial/<hex>` has the first bytes of the blob `sha256:<hex>`, locked by who adds to it.
//!
//! What is in there is not believed: whoever goes on hashes it again, from its first byte, on the way through the pipeline. Not
//! synced; after a crash of the machine it may be anything, and then the hash tells.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::reference::Digest;
use super::staging::{lock_current, remove_file};
use super::{Store, StoreError};
use crate::sys::lock::{Lock, Mode};

/// The beginning of a blob, for one download alone.
#[derive(Debug)]
pub(crate) struct Partial {
    lock: Lock,
    length_bytes: u64,
}

impl Partial {
    /// Returns where it lies; whoever has the whole blob moves it away from there, while it is locked.
    pub(crate) fn path(&self) -> &Path {
        self.lock.path()
    }

    /// Returns how many bytes it had when it was opened.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Forgets what is there: the download begins anew.
    pub(crate) fn empty(&mut self) -> Result<(), StoreError> {
        let path = self.lock.path();
        let emptied = self.lock.file().set_len(0);
        emptied.map_err(StoreError::io("empty", path))?;
        self.length_bytes = 0;
        Ok(())
    }

    /// Removes it, where it has not been moved away.
    pub(crate) fn discard(&self) -> Result<(), StoreError> {
        remove_file(self.lock.path())
    }

    /// Returns the bytes from `offset` on, at most `limit` of them.
    pub(crate) fn read_at(&self, offset: u64, limit: usize) -> std::io::Result<Vec<u8>> {
        let file = self.lock.file().file();
        let mut bytes = vec![0; limit];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Writes bytes at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.lock.file().file().write_all_at(bytes, offset)
    }
}

impl Store {
    fn partials(&self) -> PathBuf {
        self.path("images/partial")
    }

    /// Opens what there is of a blob, perhaps nothing yet. `None`: somebody else adds to it right now.
    pub(crate) fn partial(&self, digest: &Digest) -> Result<Option<Partial>, StoreError> {
        self.open_partial(digest, |path| Lock::try_acquire(path, Mode::Exclusive))
    }

    /// The same, once nobody else adds to it; blocks the thread.
    pub(crate) fn wait_for_partial(&self, digest: &Digest) -> Result<Partial, StoreError> {
        let wait = |path: &Path| Lock::acquire(path, Mode::Exclusive).map(Some);
        let opened = self.open_partial(digest, wait)?;
        opened.ok_or_else(|| {
            let path = self.partials().join(digest.hex());
            StoreError::io("lock", &path)(std::io::Error::from(std::io::ErrorKind::WouldBlock))
        })
    }

    fn open_partial(
        &self,
        digest: &Digest,
        acquire: impl Fn(&Path) -> std::io::Result<Option<Lock>>,
    ) -> Result<Option<Partial>, StoreError> {
        let directory = self.partials();
        match rustix::fs::mkdir(&directory, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(StoreError::io("make", &directory)(errno)),
        }
        let path = directory.join(digest.hex());
        let Some(lock) = lock_current(&path, acquire)? else {
            return Ok(None);
        };
        let stat = lock.file().metadata();
        let length_bytes = stat.map_err(StoreError::io("look at", &path))?.len();
        Ok(Some(Partial { lock, length_bytes }))
    }

    /// Removes the downloads that broke off and that nobody goes on with now; returns their bytes.
    pub(crate) fn remove_partials(&self) -> Result<u64, StoreError> {
        let directory = self.partials();
        let entries = match fs_err::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(StoreError::io("list", &directory)(error)),
        };
        let mut removed_bytes = 0;
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &directory))?.path();
            let lock = lock_current(&path, |path| Lock::try_acquire(path, Mode::Exclusive))?;
            if let Some(lock) = lock {
                let stat = lock.file().metadata();
                removed_bytes += stat.map_err(StoreError::io("look at", &path))?.len();
                remove_file(&path)?;
            }
        }
        Ok(removed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_blob_is_one_downloads_alone_and_goes_when_it_is_nobodys() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.remove_partials().unwrap(), 0);
        let digest = Digest::of(b"x");
        let held = store.partial(&digest).unwrap().unwrap();
        held.write_at(b"abc", 0).unwrap();
        assert!(store.partial(&digest).unwrap().is_none());
        assert_eq!(store.remove_partials().unwrap(), 0);
        // Who waits gets the file that is there then, not the one that was moved away.
        let path = held.path().to_owned();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.wait_for_partial(&digest).unwrap());
            fs_err::rename(&path, root.path().join("moved")).unwrap();
            drop(held);
            waiting.join().unwrap()
        });
        assert_eq!(
            (waiting.length_bytes(), waiting.path()),
            (0, path.as_path())
        );
        waiting.write_at(b"de", 0).unwrap();
        drop(waiting);
        assert_eq!(store.partial(&digest).unwrap().unwrap().length_bytes(), 2);
        assert_eq!(store.remove_partials().unwrap(), 2);
        assert!(!path.exists());
        assert_eq!(fs_err::read(root.path().join("moved")).unwrap(), b"abc");
    }
}
