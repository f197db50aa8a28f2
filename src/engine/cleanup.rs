//! With its last container, an instance leaves the machine as it found it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::engine::error::EngineError;
use crate::engine::{Engine, INSTANCE_LOCK, chain, step};
use crate::images::ImageError;
use crate::net::error::NetError;
use crate::sys::lock::{Lock, Mode};

/// What goes on beside the end of the last build of a command: see [`Engine::clean_up_early`].
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Builds of this command whose steps are not all done.
    builds: AtomicUsize,
    /// Its answer is what could not be done.
    cleaning: Mutex<Option<JoinHandle<Vec<String>>>>,
}

impl Engine {
    /// Says how many builds this command does and nothing after them, so that [`Engine::clean_up_early`] need not wait for their end.
    pub(crate) fn expect_builds(&self, count: usize) {
        self.early.builds.store(count, Ordering::Relaxed);
    }

    /// Begins with [`Engine::clean_up`] in a thread of its own, if the steps that are done now are those of the last build of the
    /// command: the kernel takes its time to delete links and firewall rules, and the image is still to be written.
    pub(crate) fn clean_up_early(&self) {
        let builds = &self.early.builds;
        let last = builds.try_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            count.checked_sub(1)
        });
        if last != Ok(1) {
            return;
        }
        let (roots, environment) = (self.roots.clone(), self.environment.clone());
        let cleaning = std::thread::Builder::new().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return vec![chain(&error)],
            };
            // As another command would.
            let engine = Self::open(&roots, &environment);
            let cleaned = engine.and_then(|engine| runtime.block_on(engine.clean_up()));
            match cleaned {
                Ok(()) => Vec::new(),
                Err(EngineError::Several { messages }) => messages,
                Err(error) => vec![chain(&error)],
            }
        });
        let mut kept = self
            .early
            .cleaning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Where no thread could be made, the end of the build cleans up.
        *kept = cleaning.ok();
    }

    /// Ends what [`Engine::clean_up_early`] began, or cleans up where that has not begun.
    pub(crate) async fn clean_up_late(&self) -> Result<(), EngineError> {
        let cleaning = self
            .early
            .cleaning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match cleaning {
            Some(cleaning) => several(
                cleaning
                    .join()
                    .unwrap_or_else(|_| vec!["the thread that cleans up panicked".to_owned()]),
            ),
            None => self.clean_up().await,
        }
    }

    /// Holds the instance: shared while containers start, alone while its last traces are removed.
    pub(crate) fn lock_instance(&self, mode: Mode) -> Result<Lock, EngineError> {
        let path = self.roots.root.join(INSTANCE_LOCK);
        Lock::acquire(&path, mode).map_err(|source| EngineError::file("lock", &path, source))
    }

    /// With the last container, removes what the instance put on the machine: cgroups, the sealed program, and the network
    /// that build steps used.
    pub async fn clean_up(&self) -> Result<(), EngineError> {
        let path = self.roots.root.join(INSTANCE_LOCK);
        let taken = Lock::try_acquire(&path, Mode::Exclusive);
        let taken = taken.map_err(|source| EngineError::file("lock", &path, source))?;
        // Somebody is starting containers: then this is not the last one.
        let Some(_lock) = taken else { return Ok(()) };
        let mut messages = step::sweep(self);
        if !self.runtime.list()?.is_empty() {
            return several(messages);
        }
        let finished = self.runtime.finish_removals();
        messages.extend(finished.err().map(|error| chain(&error)));
        messages.extend(self.release_images().err().map(|error| chain(&error)));
        for network in step::NETWORKS {
            messages.extend(self.remove_step_network(network).await?);
        }
        let cgroups = crate::runtime::cgroup::Cgroups::detect(self.instance.as_str());
        messages.extend(
            cgroups
                .and_then(|cgroups| cgroups.remove_instance())
                .err()
                .map(|error| chain(&error)),
        );
        messages.extend(
            crate::runtime::seal::unseal(&self.roots.run)
                .err()
                .map(|error| chain(&error)),
        );
        several(messages)
    }

    /// Removes a network of build steps; returns what could not be. Nobody runs a step.
    async fn remove_step_network(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let mut removed = self.net.remove_network(name).await;
        if let Err(errors) = &removed
            && let Some(NetError::InUse { holders, .. }) = errors.first()
        {
            // Steps that nobody runs any more: whoever runs one holds the instance.
            let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
            self.net.forget(&holders)?;
            removed = self.net.remove_network(name).await;
        }
        let errors = removed.err().unwrap_or_default();
        Ok(errors.iter().map(|error| chain(error)).collect())
    }

    /// Gives back the images of containers whose removal was killed before it came to them. There is no container, and nobody
    /// makes one while the instance is the caller's.
    fn release_images(&self) -> Result<(), ImageError> {
        for holder in self.images.holders()? {
            self.images.release(&holder)?;
        }
        Ok(())
    }
}

/// An error of all these, if there are any.
fn several(messages: Vec<String>) -> Result<(), EngineError> {
    if messages.is_empty() {
        Ok(())
    } else {
        Err(EngineError::Several { messages })
    }
}
