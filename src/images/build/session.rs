//! What the builds of one command share.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// Shared by builds that go on at once or one after the other, on one thread.
#[derive(Debug, Default)]
pub struct Session {
    /// Keys of steps that were done: they need not be done again, whatever else the cache must not be used for.
    made: RefCell<BTreeSet<String>>,
}

impl Session {
    /// Whether a build of this command did the step of that key.
    pub(super) fn has_made(&self, key: &str) -> bool {
        self.made.borrow().contains(key)
    }

    /// Remembers something; returns whether it is new.
    pub(super) fn add_new(&self, what: &str) -> bool {
        self.made.borrow_mut().insert(what.to_owned())
    }

    /// Remembers that it did.
    pub(super) fn add(&self, key: &str) {
        self.made.borrow_mut().insert(key.to_owned());
    }
}
