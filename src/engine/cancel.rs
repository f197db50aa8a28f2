//! A request to stop, shared by whoever may ask and whoever should heed.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Set once, seen by every clone. For one thread.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    shared: Rc<Shared>,
}

/// What the clones share.
#[derive(Debug, Default)]
struct Shared {
    cancelled: Cell<bool>,
    notify: Notify,
}

impl Cancel {
    /// Asks everybody to stop.
    pub fn cancel(&self) {
        self.shared.cancelled.set(true);
        self.shared.notify.notify_waiters();
    }

    /// Returns whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.get()
    }

    /// Returns when somebody has asked.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.shared.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}
