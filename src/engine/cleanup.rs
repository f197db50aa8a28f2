//! With its last container, an instance leaves the machine as it found it.

use crate::engine::error::EngineError;
use crate::engine::{Engine, INSTANCE_LOCK, chain, step};
use crate::images::ImageError;
use crate::net::error::NetError;
use crate::sys::lock::{Lock, Mode};

impl Engine {
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
        let mut removed = self.net.remove_network(step::BUILD_NETWORK).await;
        if let Err(errors) = &removed
            && let Some(NetError::InUse { holders, .. }) = errors.first()
        {
            // Steps that nobody runs any more: whoever runs one holds the instance.
            let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
            self.net.forget(&holders)?;
            removed = self.net.remove_network(step::BUILD_NETWORK).await;
        }
        if let Err(errors) = removed {
            messages.extend(errors.iter().map(|error| chain(error)));
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
