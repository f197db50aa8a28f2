//! Making a container: all its files under a hidden name, then its name, then one rename.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::runtime::bundle::{self, BundleError, make_directory};
use crate::runtime::config::{ContainerConfig, ContainerId};
use crate::runtime::record::{self, Desired, Record, Timestamp, VERSION};
use crate::runtime::{Runtime, RuntimeError, remove};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

impl Runtime {
    /// Makes a container and its first generation; nothing of it is left where it fails.
    ///
    /// With [`Durability::Cached`] the caller calls [`Runtime::sync`] once for all that it makes.
    pub fn create(
        &self,
        config: &ContainerConfig,
        durability: Durability,
    ) -> Result<ContainerId, RuntimeError> {
        let id = random_id()?;
        self.create_as(&id, config, durability)?;
        Ok(id)
    }

    /// Makes a container with an id chosen before, since its configuration may speak of it.
    pub fn create_as(
        &self,
        id: &ContainerId,
        config: &ContainerConfig,
        durability: Durability,
    ) -> Result<(), RuntimeError> {
        if !bundle::is_name(&config.name) {
            return Err(RuntimeError::BadName(config.name.clone()));
        }
        let layout = &self.layout;
        let _lock = self.lock_containers()?;
        self.sweep_once()?;
        if let Some(holder) = layout.named(&config.name)? {
            let name = config.name.clone();
            return Err(RuntimeError::NameInUse { name, holder });
        }
        let directory = layout.being_made(id);
        let made = self.make(id, config, durability);
        if made.is_err() {
            let mut errors = Vec::new();
            remove::tree(&directory, &mut errors);
            remove::file(&layout.container(id), &mut errors);
        }
        made
    }

    /// Makes generation `n + 1` of a container, with a new root and configuration, and makes it the current one: the next
    /// start or [`Runtime::restart`] uses it, in the same sandbox.
    pub fn swap(
        &self,
        id: &ContainerId,
        config: &ContainerConfig,
        durability: Durability,
    ) -> Result<u32, RuntimeError> {
        let _lock = self.lock_record(id)?;
        let mut record = self.record(id)?;
        let number = record.generation.saturating_add(1);
        let mut errors = Vec::new();
        remove::tree(&self.layout.generation(id, number), &mut errors); // of a swap that was killed
        let container = self.layout.container(id);
        self.layout
            .make_generation(&container, number, (id, config), durability)?;
        record.generation = number;
        record.config = config.clone();
        record::write(&self.layout.record(id), &record, durability)?;
        Ok(number)
    }

    /// Writes everything and gives it its names.
    fn make(
        &self,
        id: &ContainerId,
        config: &ContainerConfig,
        durability: Durability,
    ) -> Result<(), RuntimeError> {
        let layout = &self.layout;
        let directory = layout.being_made(id);
        make_directory(&directory)?;
        layout.make_generation(&directory, 1, (id, config), durability)?;
        let record = Record {
            version: VERSION,
            id: id.clone(),
            created: Timestamp::now(),
            desired: Desired::Created,
            stopped_by_hand: false,
            generation: 1,
            sandbox: serde_json::Value::Null,
            etc: crate::runtime::config::EtcFiles::default(),
            config: config.clone(),
        };
        record::write(&directory.join("record.json"), &record, durability)?;
        self.logs().begin(&record)?;
        let link = layout.name(&config.name);
        // A link that leads nowhere was left by a creation or removal that was killed; the lock is ours.
        let mut errors = Vec::new();
        remove::file(&link, &mut errors);
        let wrap = |path: &std::path::Path, error| {
            RuntimeError::Bundle(BundleError::Make(path.to_owned(), error))
        };
        std::os::unix::fs::symlink(id.as_str(), &link).map_err(|error| wrap(&link, error))?;
        let target = layout.container(id);
        fs_err::rename(&directory, &target).map_err(|error| wrap(&target, error))?;
        if durability == Durability::Synced {
            for changed in [layout.names(), layout.containers()] {
                atomic::sync_directory(&changed).map_err(|error| wrap(&changed, error))?;
            }
        }
        Ok(())
    }

    /// Takes the lock of creation and removal.
    pub(crate) fn lock_containers(&self) -> Result<Lock, RuntimeError> {
        let path = self.layout.containers_lock();
        Lock::acquire(&path, Mode::Exclusive).map_err(|error| RuntimeError::Directory(path, error))
    }

    /// Takes the lock of one record's writers.
    pub(crate) fn lock_record(&self, id: &ContainerId) -> Result<Lock, RuntimeError> {
        make_directory(&self.layout.control(id))?;
        let path = self.layout.record_lock(id);
        Lock::acquire(&path, Mode::Exclusive).map_err(|error| RuntimeError::Directory(path, error))
    }

    /// Removes what killed creations and removals left, once for this process. The lock is the caller's, so nobody is at it.
    pub(crate) fn sweep_once(&self) -> Result<(), RuntimeError> {
        if self.swept.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.sweep()
    }

    /// Finishes what killed creations and removals left and no container is listed for.
    pub fn finish_removals(&self) -> Result<(), RuntimeError> {
        let _lock = self.lock_containers()?;
        self.sweep()
    }

    fn sweep(&self) -> Result<(), RuntimeError> {
        self.set_aside()?;
        for path in self.layout.leftovers()? {
            let mut errors = Vec::new();
            remove::tree(&path, &mut errors);
            let name = path.file_name().and_then(|name| name.to_str());
            let gone = name.and_then(|name| name.strip_prefix(".gone-"));
            if let Some(id) = gone.and_then(ContainerId::new) {
                remove::file(&self.layout.live(&id), &mut errors);
                remove::tree(&self.layout.control(&id), &mut errors);
            }
            // What cannot be removed now stays hidden, and is shown as being removed: `list`.
        }
        Ok(())
    }
}

/// Keeps what is left of containers whose record was lost with the machine's power: nobody knows what they were, and they may
/// have held something.
impl Runtime {
    fn set_aside(&self) -> Result<(), RuntimeError> {
        for id in self.layout.unwritten()? {
            if self.monitor_pid(&id)?.is_some() {
                continue; // it knows its record, and writes it again
            }
            let kept = self.layout.damaged(&id);
            if let Some(parent) = kept.parent() {
                make_directory(parent)?;
            }
            let wrap = |error| BundleError::Make(kept.clone(), error);
            fs_err::rename(self.layout.container(&id), &kept).map_err(wrap)?;
            self.lost
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((id, kept));
        }
        Ok(())
    }

    /// Returns what was set aside since the last call, and where: containers whose record was lost with the machine's power.
    pub fn take_lost(&self) -> Vec<(ContainerId, PathBuf)> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns an id that nobody has.
pub fn random_id() -> Result<ContainerId, RuntimeError> {
    let wrap = |error| RuntimeError::Directory("/dev/urandom".into(), error);
    let mut bytes = [0_u8; 32];
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| wrap(errno.into()))?;
    let mut text = String::with_capacity(64);
    for byte in bytes.iter().take(count) {
        // Writing to a string cannot fail.
        if write!(text, "{byte:02x}").is_err() {
            break;
        }
    }
    ContainerId::new(&text).ok_or_else(|| wrap(io::ErrorKind::UnexpectedEof.into()))
}
