//! Images between the plan that wants them and the containers that hold them.
//!
//! ```text
//! makes containers   .using shared ─ is it still here? ─ records and leases of the containers ─ let go
//! removes images     removing ─ .using alone, or leave the image ─ which containers are there? ─ out of the index ─ let go
//! ```
//!
//! Who removes therefore sees either a container or nobody, and who makes one finds the image or knows that it is gone while
//! there is still time to fetch it. Nobody who removes waits for who makes, so that no two wait for each other.

use std::path::Path;

use super::super::reference::Digest;
use super::staging::lock_current;
use super::{Store, StoreError};
use crate::sys::lock::{Lock, Mode};

/// Keeps an image from removal.
#[derive(Debug)]
pub struct BegunUse {
    #[expect(dead_code, reason = "held, not read")]
    lock: Lock,
}

/// Keeps an image from being used. Dropped, its file goes with it.
#[derive(Debug)]
pub struct Reserved {
    lock: Lock,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Still alone with it. One that stays is empty, and is used again.
        match fs_err::remove_file(self.lock.path()) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// Keeps other removals away.
#[derive(Debug)]
pub struct Removing {
    #[expect(dead_code, reason = "held, not read")]
    lock: Lock,
}

impl Store {
    /// Waits until nobody else removes images.
    pub fn removing(&self) -> Result<Removing, StoreError> {
        let path = self.path("leases/removing");
        let lock = Lock::acquire(&path, Mode::Exclusive).map_err(StoreError::io("lock", &path))?;
        Ok(Removing { lock })
    }

    /// Takes an image for removal; `None` where somebody is about to make a container of it.
    pub fn try_reserve(&self, _: &Removing, id: &Digest) -> Result<Option<Reserved>, StoreError> {
        let lock = self.lock_use(id, |path| Lock::try_acquire(path, Mode::Exclusive))?;
        Ok(lock.map(|lock| Reserved { lock }))
    }

    /// Keeps an image from removal; waits for one that is going on. Whether it is still here is to be looked at afterwards.
    pub fn begin_use(&self, id: &Digest) -> Result<BegunUse, StoreError> {
        let acquire = |path: &Path| Lock::acquire(path, Mode::Shared).map(Some);
        let lock = self.lock_use(id, acquire)?;
        let lock = lock.ok_or_else(|| {
            let busy = std::io::Error::from(std::io::ErrorKind::WouldBlock);
            StoreError::io("lock", &self.path("leases"))(busy)
        })?;
        Ok(BegunUse { lock })
    }

    fn lock_use(
        &self,
        id: &Digest,
        acquire: impl Fn(&Path) -> std::io::Result<Option<Lock>>,
    ) -> Result<Option<Lock>, StoreError> {
        let path = self.path(&format!("leases/{}.using", id.hex()));
        lock_current(&path, acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_share_an_image_and_who_removes_it_is_alone() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let id = Digest::of(b"x");
        let removing = store.removing().unwrap();
        let is_free = || store.try_reserve(&removing, &id).unwrap().is_some();
        let users = [store.begin_use(&id).unwrap(), store.begin_use(&id).unwrap()];
        let [first, second] = users;
        assert!(!is_free());
        drop(first);
        assert!(!is_free());
        drop(second);
        assert!(is_free());
        // Who waited for the removal holds the file that is there now, not the one that went.
        let reserved = store.try_reserve(&removing, &id).unwrap().unwrap();
        let waited = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.begin_use(&id).unwrap());
            drop(reserved);
            waiting.join().unwrap()
        });
        assert!(!is_free());
        drop(waited);
        assert_eq!(store.holders().unwrap(), [""; 0]);
    }
}
