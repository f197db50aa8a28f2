//! What the builds of one command share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::Notify;

use super::error::BuildError;

/// Shared by builds that go on at once or one after the other, on one thread.
#[derive(Debug, Default)]
pub struct Session {
    /// Keys of steps that were done: they need not be done again, whatever else the cache must not be used for.
    made: RefCell<BTreeSet<String>>,
    /// Caches that began anew beside the one that somebody else uses: where that is to where they are.
    moved_caches: RefCell<BTreeMap<PathBuf, PathBuf>>,
    /// Whether the builds are to end.
    interrupted: Cell<bool>,
    /// Wakes who waits for that.
    woken: Notify,
}

impl Session {
    /// Ends the builds that go on, and those that would begin: each keeps what is finished, takes down what is not, and fails with
    /// [`BuildError::Interrupted`].
    pub fn interrupt(&self) {
        self.interrupted.set(true);
        self.woken.notify_waiters();
    }

    /// Does `work`, which is dropped where the builds are to end.
    pub async fn unless_interrupted<T, E: From<BuildError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut woken = std::pin::pin!(self.woken.notified());
        // From here on no word is missed.
        woken.as_mut().enable();
        if self.interrupted.get() {
            return Err(BuildError::Interrupted.into());
        }
        tokio::select! {
            biased;
            done = work => done,
            () = woken => Err(BuildError::Interrupted.into()),
        }
    }

    /// Whether a build of this command did the step of that key.
    pub(super) fn has_made(&self, key: &str) -> bool {
        self.made.borrow().contains(key)
    }

    /// Remembers something; returns whether it is new.
    pub(super) fn add_new(&self, what: &str) -> bool {
        self.made.borrow_mut().insert(what.to_owned())
    }

    /// Returns where the cache is that lies at `path` for other commands.
    pub(super) fn cache_at(&self, path: &Path) -> PathBuf {
        let moved = self.moved_caches.borrow();
        moved
            .get(path)
            .map_or_else(|| path.to_owned(), Clone::clone)
    }

    /// Remembers that it is elsewhere for this command.
    pub(super) fn move_cache(&self, path: PathBuf, to: PathBuf) {
        self.moved_caches.borrow_mut().insert(path, to);
    }

    /// Remembers that it did.
    pub(super) fn add(&self, key: &str) {
        self.made.borrow_mut().insert(key.to_owned());
    }
}
