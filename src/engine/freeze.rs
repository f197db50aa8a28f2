//! Containers that stand still while they are read.
//!
//! ```text
//! <run>/frozen/<container id>   flock: held by the command that froze the container, for as long as it does
//! ```
//!
//! The file comes before the frost and goes after it. One that nobody holds is of a command that was killed: the next command of
//! any kind lets the container go on.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::error::EngineError;
use crate::engine::instance::InstanceId;
use crate::engine::roots::Roots;
use crate::engine::{Engine, chain};
use crate::runtime::cgroup::{CgroupError, Cgroups, Frozen};
use crate::runtime::status::{Container, Status};
use crate::sys::lock::{Lock, Mode};

/// A container that stands still. Dropped, it goes on.
#[derive(Debug)]
pub(super) struct StandsStill {
    frozen: Option<Frozen>,
    lock: Lock,
}

impl Drop for StandsStill {
    fn drop(&mut self) {
        drop(self.frozen.take());
        // Still locked. One that stays makes the next command thaw what is thawed.
        match fs_err::remove_file(self.lock.path()) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Engine {
    /// Holds a container still, if it runs; waits where another command does so already.
    pub(super) async fn freeze(
        &self,
        container: &Container,
    ) -> Result<Option<StandsStill>, EngineError> {
        if !matches!(container.status, Status::Running { .. }) {
            return Ok(None);
        }
        let id = container.id().as_str();
        let path = directory(&self.roots).join(id);
        let failed = |source| EngineError::file("lock", &path, source);
        fs_err::create_dir_all(directory(&self.roots)).map_err(failed)?;
        let (sender, locked) = tokio::sync::oneshot::channel();
        let waited = path.clone();
        // A thread that nobody waits for at the end, so that an interrupt is heard.
        let waiting = std::thread::Builder::new().spawn(move || {
            let acquire = |path: &Path| Lock::acquire(path, Mode::Exclusive).map(Some);
            let _unheard = sender.send(Lock::current(&waited, acquire));
        });
        waiting.map_err(failed)?;
        let locked = locked.await.map_err(io::Error::other).flatten();
        let Some(lock) = locked.map_err(failed)? else {
            return Err(failed(io::ErrorKind::WouldBlock.into()));
        };
        let mut still = StandsStill { frozen: None, lock };
        let cgroups = Cgroups::detect(self.instance.as_str());
        let frozen = cgroups.and_then(|cgroups| cgroups.existing(id).freeze());
        still.frozen = Some(frozen.map_err(|error| {
            let name = &container.config().name;
            not_done(format!("pause container {name}"), &error)
        })?);
        Ok(Some(still))
    }
}

/// Lets containers go on that a killed command left standing still.
pub(super) fn thaw_abandoned(roots: &Roots, instance: &InstanceId) -> Result<(), EngineError> {
    let directory = directory(roots);
    let failed = |path: &Path, source| EngineError::file("read", path, source);
    let entries = match fs_err::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(&directory, error))?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let taken = Lock::current(&path, |path| Lock::try_acquire(path, Mode::Exclusive));
        let Some(lock) = taken.map_err(|error| failed(&path, error))? else {
            continue; // somebody is at it
        };
        let cgroups = Cgroups::detect(instance.as_str());
        let thawed = cgroups.and_then(|cgroups| cgroups.existing(id).thaw());
        thawed.map_err(|error| not_done(format!("let container {id} go on"), &error))?;
        drop(StandsStill { frozen: None, lock });
    }
    Ok(())
}

fn directory(roots: &Roots) -> PathBuf {
    roots.run.join("frozen")
}

fn not_done(attempted: String, error: &CgroupError) -> EngineError {
    EngineError::System {
        attempted,
        source: io::Error::other(chain(error)),
    }
}
