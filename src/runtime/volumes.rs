//! Named volumes: a directory and a record each.
//!
//! ```text
//! <root>/volumes/<name>/_data         the volume; mode 0755 and root's until an image's content says otherwise
//! <root>/volumes/<name>/volume.json   {"version":1,"name":…,"created":…,"labels":{…}}
//! <root>/volumes/.new-<name>, .gone-<name>   being made, being removed
//! <root>/volumes/.lock                flock: creation and removal
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::bundle::is_name;
use crate::runtime::record::{self, RecordError, Timestamp, VERSION, Versioned};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

/// A volume that cannot be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not a name.
    #[error("`{0}` is not a volume name")]
    BadName(String),
    /// No such volume.
    #[error("no volume `{0}`")]
    NotFound(String),
    /// A file or directory.
    #[error("{action} `{}`", path.display())]
    Path {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Its record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// [`VERSION`].
    pub version: u32,
    /// Unique.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Opaque to this room.
    pub labels: BTreeMap<String, String>,
}

impl Versioned for Volume {
    fn version(&self) -> u32 {
        self.version
    }
}

/// The named volumes of an instance.
#[derive(Debug, Clone)]
pub struct Volumes {
    directory: PathBuf,
}

impl Volumes {
    /// Opens the directory, which exists.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns where the content of `name` is, whether or not it exists.
    pub fn data(&self, name: &str) -> PathBuf {
        self.directory.join(name).join("_data")
    }

    /// Makes a volume; one that exists is left as it is. Returns its record.
    pub fn create(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        durability: Durability,
    ) -> Result<Volume, VolumeError> {
        check(name)?;
        if let Some(volume) = self.get(name)? {
            return Ok(volume);
        }
        let _lock = self.lock()?;
        if let Some(volume) = self.get(name)? {
            return Ok(volume);
        }
        let volume = Volume {
            version: VERSION,
            name: name.to_owned(),
            created: Timestamp::now(),
            labels: labels.clone(),
        };
        let target = self.directory.join(name);
        if self.data(name).exists() {
            // Its record was lost with the machine's power, its content perhaps not.
            record::write(&target.join("volume.json"), &volume, durability)?;
            return Ok(volume);
        }
        let hidden = self.directory.join(format!(".new-{name}"));
        remove_tree(&hidden)?;
        let data = hidden.join("_data");
        make(&hidden, 0o700)?;
        make(&data, 0o755)?;
        record::write(&hidden.join("volume.json"), &volume, durability)?;
        fs_err::rename(&hidden, &target).map_err(at("make", &target))?;
        self.sync(durability)?;
        Ok(volume)
    }

    /// Returns all volumes by name.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let wrap = at("list", &self.directory);
        let mut volumes = Vec::new();
        for entry in fs_err::read_dir(&self.directory).map_err(&wrap)? {
            let name = entry.map_err(&wrap)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_name(name)) {
                volumes.extend(self.get(name)?);
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Returns the record of `name`.
    pub fn get(&self, name: &str) -> Result<Option<Volume>, VolumeError> {
        if !is_name(name) {
            return Ok(None);
        }
        Ok(record::read(
            &self.directory.join(name).join("volume.json"),
        )?)
    }

    /// Removes a volume and what is in it; one that is gone is fine. Whether something uses it is the caller's to know.
    pub fn remove(&self, name: &str, durability: Durability) -> Result<(), VolumeError> {
        check(name)?;
        let _lock = self.lock()?;
        let path = self.directory.join(name);
        let hidden = self.directory.join(format!(".gone-{name}"));
        remove_tree(&hidden)?; // of a removal that was killed
        match fs_err::rename(&path, &hidden) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("remove", &path)(error)),
        }
        self.sync(durability)?;
        remove_tree(&hidden)
    }

    /// Takes the lock of creation and removal.
    fn lock(&self) -> Result<Lock, VolumeError> {
        let path = self.directory.join(".lock");
        Lock::acquire(&path, Mode::Exclusive).map_err(at("lock", &path))
    }

    /// Makes the directory's entries durable.
    fn sync(&self, durability: Durability) -> Result<(), VolumeError> {
        match durability {
            Durability::Synced => {
                atomic::sync_directory(&self.directory).map_err(at("sync", &self.directory))
            }
            Durability::Cached => Ok(()),
        }
    }
}

/// Refuses what is not a name.
fn check(name: &str) -> Result<(), VolumeError> {
    is_name(name)
        .then_some(())
        .ok_or_else(|| VolumeError::BadName(name.to_owned()))
}

/// Wraps an error of `path`.
fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Path {
        action,
        path: path.clone(),
        source,
    }
}

/// Makes one directory with these permission bits whatever the umask.
fn make(path: &Path, mode: u32) -> Result<(), VolumeError> {
    let wrap = at("make", path);
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(&wrap)?;
    fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(wrap)
}

/// Removes a directory and all in it; one that is gone is fine.
fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    crate::sys::remove::tree(path).map_err(at("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once_listed_and_removed_with_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(directory.path().to_owned());
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let first = volumes.create("data", &labels, Durability::Synced).unwrap();
        fs_err::File::create(volumes.data("data").join("kept")).unwrap();
        let again = volumes
            .create("data", &BTreeMap::new(), Durability::Cached)
            .unwrap();
        assert_eq!(first, again);
        assert!(volumes.data("data").join("kept").exists());
        assert_eq!(volumes.list().unwrap(), vec![first]);
        volumes.remove("data", Durability::Cached).unwrap();
        volumes.remove("data", Durability::Cached).unwrap();
        assert_eq!(volumes.list().unwrap(), vec![]);
        for name in ["", "..", ".x", "a/b", "a b"] {
            volumes
                .create(name, &labels, Durability::Cached)
                .unwrap_err();
        }
    }
}
