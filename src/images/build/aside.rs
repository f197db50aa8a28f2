//! Work that would hold up the thread that all builds of a command go on in: walks, hashes, copies and archives have threads of their own.
//!
//! | | where nobody waits for the result any more | where the build is given up |
//! | --- | --- | --- |
//! | [`Aside::run`] | it ends at the next entry or piece of a file | the same |
//! | [`Aside::keep`] | it goes on: what it keeps is worth it | it ends at the next entry or piece of a file |
//!
//! A build that ended waits for its threads, so that what they began is gone with it ([`Aside::end`]). One that hangs in a read of a file
//! system that does not answer is not waited for longer than [`PATIENCE`]: what it leaves is removed by the next command.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::stop::Stop;

/// How long a build that ended waits for what it has given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a build waits that is cut off itself: nothing else goes on meanwhile.
const CUT_OFF: Duration = Duration::from_millis(500);

/// Bytes of a thread's stack, as the first one's: a walk goes as deep as directories do.
const STACK: usize = 8 << 20;

/// The threads of a build. Dropped, they are given up.
#[derive(Debug)]
pub(super) struct Aside {
    /// Asked of those that are kept.
    given_up: Stop,
    /// Each thread has a clone, so that the other end hears of the last one's end.
    alive: RefCell<Option<Sender<Infallible>>>,
    ended: RefCell<Option<Receiver<Infallible>>>,
    /// One for each that is kept: closed with its end.
    kept: RefCell<Vec<oneshot::Receiver<Infallible>>>,
}

impl Default for Aside {
    fn default() -> Self {
        let (alive, ended) = channel();
        Self {
            given_up: Stop::default(),
            alive: RefCell::new(Some(alive)),
            ended: RefCell::new(Some(ended)),
            kept: RefCell::default(),
        }
    }
}

/// Asks to stop when it goes, which is when nobody waits any more.
struct AskOnDrop(Stop);

impl Drop for AskOnDrop {
    fn drop(&mut self) {
        self.0.ask();
    }
}

impl Aside {
    /// Does `work` in a thread and returns its result.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> io::Result<T> {
        let stop = Stop::default();
        let _asking = AskOnDrop(stop.clone());
        let (sender, result) = oneshot::channel();
        self.start(move || {
            // Where nobody wants it any more it goes here, with what it holds.
            drop(sender.send(work(&stop)));
        })?;
        result.await.map_err(|_| panicked())
    }

    /// Does `work` in a thread, to its end. What it returns is dropped there.
    pub(super) fn keep<T>(&self, work: impl FnOnce(&Stop) -> T + Send + 'static) -> io::Result<()> {
        let stop = self.given_up.clone();
        let (sender, ended) = oneshot::channel();
        self.start(move || {
            drop(work(&stop));
            drop(sender);
        })?;
        let mut kept = self.kept.borrow_mut();
        kept.retain_mut(|other| {
            matches!(other.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        });
        kept.push(ended);
        Ok(())
    }

    /// Waits until what is kept has ended, and what was given up as long as is reasonable. Nothing may be begun after it.
    pub(super) async fn end(&self) {
        let kept = self.kept.take();
        for ended in kept {
            // Nothing is ever sent: it is closed.
            let Err(_closed) = ended.await;
        }
        drop(self.alive.take());
        let Some(ended) = self.ended.take() else {
            return;
        };
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        let (sender, waited) = oneshot::channel::<Infallible>();
        let waiting = std::thread::Builder::new().spawn(move || {
            let _closed = ended.recv_timeout(PATIENCE);
            drop(sender);
        });
        if waiting.is_ok() {
            let Err(_closed) = waited.await;
        }
    }

    fn start(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let alive = self.alive.borrow().clone();
        let begun = std::thread::Builder::new().stack_size(STACK);
        let begun = begun.spawn(move || {
            work();
            drop(alive);
        });
        begun.map(drop).map_err(|error| {
            let text = format!("start a thread: {error}");
            io::Error::new(error.kind(), text)
        })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.given_up.ask();
        drop(self.alive.take());
        if let Some(ended) = self.ended.take() {
            let _closed = ended.recv_timeout(CUT_OFF);
        }
    }
}

/// A thread is gone without a word.
pub(super) fn panicked() -> io::Error {
    io::Error::other("the thread that did it panicked")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;

    use super::*;

    /// Works until it is asked to stop, then counts.
    fn until_asked(count: &Arc<AtomicUsize>) -> impl FnOnce(&Stop) + Send + 'static {
        let count = Arc::clone(count);
        move |stop| {
            while stop.check().is_ok() {
                std::thread::yield_now();
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        { runtime }.build().unwrap().block_on(work)
    }

    #[test]
    fn what_nobody_waits_for_ends_and_what_is_kept_goes_on() {
        block_on(async {
            let (aside, count) = (Aside::default(), Arc::new(AtomicUsize::new(0)));
            assert_eq!(aside.run(|_| 7).await.unwrap(), 7);
            assert!(aside.run(until_asked(&count)).now_or_never().is_none());
            let (go, going) = channel::<Infallible>();
            let counted = Arc::clone(&count);
            aside
                .keep(move |stop| {
                    let _closed = going.recv();
                    stop.check().unwrap();
                    counted.fetch_add(10, Ordering::SeqCst);
                })
                .unwrap();
            let mut ending = Box::pin(aside.end());
            assert!(ending.as_mut().now_or_never().is_none());
            drop(go);
            ending.await;
            assert_eq!(count.load(Ordering::SeqCst), 11);
        });
    }

    #[test]
    fn what_is_cut_off_gives_up_what_it_keeps() {
        let count = Arc::new(AtomicUsize::new(0));
        let aside = Aside::default();
        aside.keep(until_asked(&count)).unwrap();
        drop(aside);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
