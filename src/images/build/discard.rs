//! What a step leaves beside its layer is removed by a thread, while the next step is done.

use std::cell::OnceCell;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::super::store::Staging;

/// Removes staging directories. Dropped, with the build, it waits until all are gone; who is killed before leaves them to the next command.
#[derive(Default)]
pub(super) struct Discarded {
    /// Made for the first one.
    running: OnceCell<Running>,
}

struct Running {
    sender: mpsc::Sender<Staging>,
    /// Where one could be made.
    thread: Option<JoinHandle<()>>,
}

impl Discarded {
    /// Removes a directory whose layer was taken.
    pub(super) fn add(&self, staging: Staging) {
        let running = self.running.get_or_init(|| {
            let (sender, receiver) = mpsc::channel();
            let removing = move || receiver.into_iter().for_each(drop::<Staging>);
            let thread = std::thread::Builder::new().spawn(removing).ok();
            Running { sender, thread }
        });
        // Where the thread is gone it comes back, and is removed here.
        drop(running.sender.send(staging));
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        if let Some(Running { sender, thread }) = self.running.take() {
            drop(sender);
            // What a panic left is removed by the next command.
            drop(thread.map(JoinHandle::join));
        }
    }
}
