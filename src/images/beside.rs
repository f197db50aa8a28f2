//! Blocking work that must not hold up the thread that all downloads and builds of a command go on in.

use std::io;

use tokio::sync::oneshot;

use super::store::{Store, StoreError};

/// Does `work` in a thread of its own and returns its result. Where nobody waits for it any more, it still goes on to its end.
///
/// Errors: no thread can be made, or it panicked.
pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, result) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // Nobody may want it any more: then it goes here, with what it holds.
        drop(sender.send(work()));
    })?;
    let gone = |_| io::Error::other("the thread that did it panicked");
    result.await.map_err(gone)
}

/// Does `work` with the store as [`beside`] does.
pub(super) async fn with_store<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let root = store.root().to_owned();
    let done = beside(move || work(&Store::open(&root)?)).await;
    done.map_err(StoreError::io("work in a thread with", store.root()))?
}
