//! Removing a container: everything of it, whatever fails on the way.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::runtime::cgroup::{CgroupError, Cgroups};
use crate::runtime::config::ContainerId;
use crate::runtime::record::{self, Record};
use crate::runtime::status::Status;
use crate::runtime::stop::StopOptions;
use crate::runtime::{Runtime, RuntimeError};
use crate::sys::atomic::{self, Durability};

/// One thing of a container that could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It must be stopped first, or removed by force.
    #[error("container {} is running", .0.short())]
    Running(ContainerId),
    /// A file or directory.
    #[error("remove `{}`", .0.display())]
    Path(PathBuf, #[source] io::Error),
    /// Its cgroup.
    #[error("remove the cgroup of container {}", .0.short())]
    Cgroup(ContainerId, #[source] CgroupError),
    /// Anything else.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl Runtime {
    /// Removes a container: processes, cgroup, files, name; its log stays. Goes on past errors and returns all of them. One
    /// that is gone, wholly or half, is no error.
    ///
    /// With `force` it is killed first. What it held of the network is the caller's to forget.
    pub fn remove(
        &self,
        id: &ContainerId,
        force: bool,
        durability: Durability,
    ) -> Result<(), Vec<RemoveError>> {
        let mut errors = Vec::new();
        match self.get(id).map(|container| container.status) {
            Ok(Status::Running { .. } | Status::Restarting { .. }) if !force => {
                return Err(vec![RemoveError::Running(id.clone())]);
            }
            Err(RuntimeError::NotFound(_)) => {}
            Err(error) if !force => return Err(vec![error.into()]),
            // A record that cannot be understood must not keep its container for ever, when that is what is asked for.
            Ok(_) | Err(_) => self.end_for_removal(id, &mut errors),
        }
        self.remove_cgroup(id, &mut errors);
        if let Err(error) = self.remove_files(id, durability, &mut errors) {
            errors.push(error.into());
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Has a monitor or an init that still lives end at once.
    fn end_for_removal(&self, id: &ContainerId, errors: &mut Vec<RemoveError>) {
        let options = StopOptions {
            timeout: Some(Duration::ZERO),
            durability: Durability::Cached,
            releases: true,
        };
        if let Err(error) = self
            .stop(id, options)
            .and_then(crate::runtime::stop::Stopping::finish)
        {
            errors.push(error.into());
        }
    }

    /// Kills what is left in the cgroup and removes it.
    fn remove_cgroup(&self, id: &ContainerId, errors: &mut Vec<RemoveError>) {
        let removed = Cgroups::detect(&self.layout.instance).and_then(|cgroups| {
            let cgroup = cgroups.existing(id.as_str());
            cgroup.kill_all()?;
            cgroup.remove()
        });
        if let Err(error) = removed {
            errors.push(RemoveError::Cgroup(id.clone(), error));
        }
    }

    /// Hides the directory by one rename, then deletes; a removal that is killed in between is finished by the next.
    fn remove_files(
        &self,
        id: &ContainerId,
        durability: Durability,
        errors: &mut Vec<RemoveError>,
    ) -> Result<(), RuntimeError> {
        let layout = &self.layout;
        let hidden = layout.being_removed(id);
        {
            let _lock = self.lock_containers()?;
            let directory = layout.container(id);
            let found = [&directory, &hidden]
                .into_iter()
                .find_map(|path| record::read::<Record>(&path.join("record.json")).ok()?);
            match fs_err::rename(&directory, &hidden) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => errors.push(RemoveError::Path(directory, error)),
            }
            let names = found.map_or_else(|| self.names_of(id), |record| vec![record.config.name]);
            for name in names {
                let link = layout.name(&name);
                if fs_err::read_link(&link).is_ok_and(|to| to == Path::new(id.as_str())) {
                    file(&link, errors);
                }
            }
            for changed in [layout.containers(), layout.names()] {
                if durability == Durability::Synced
                    && let Err(error) = atomic::sync_directory(&changed)
                {
                    errors.push(RemoveError::Path(changed, error));
                }
            }
        }
        // The hidden directory last: while it is there, the next command knows that there is something to remove.
        file(&layout.live(id), errors);
        tree(&layout.control(id), errors);
        tree(&hidden.join("gen"), errors);
        tree(&hidden, errors);
        Ok(())
    }

    /// Returns the names that lead to `id`, by looking at all: for a record that cannot be read.
    fn names_of(&self, id: &ContainerId) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(self.layout.names()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|entry| {
                fs_err::read_link(entry.path()).is_ok_and(|to| to == Path::new(id.as_str()))
            })
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// Removes a file; one that is gone is fine.
pub(crate) fn file(path: &Path, errors: &mut Vec<RemoveError>) {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(RemoveError::Path(path.to_owned(), error));
        }
        _ => {}
    }
}

/// Removes a directory and all in it, never following a link or going into a mount; one that is gone is fine.
pub(crate) fn tree(path: &Path, errors: &mut Vec<RemoveError>) {
    if let Err(error) = crate::sys::remove::tree(path) {
        errors.push(RemoveError::Path(path.to_owned(), error));
    }
}
