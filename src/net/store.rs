//! The files drawn in [`crate::net`]: read, written, listed, removed; no decisions.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::net::error::NetError;
use crate::net::record::{LeaseTable, NetworkRecord, Publication};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

/// Where the files are.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
    run: PathBuf,
    /// The lock of networks and leases, while this process holds it.
    networks: Arc<Mutex<Weak<Lock>>>,
}

impl Store {
    /// Returns the files below a root and its run directory.
    pub(crate) fn new(root: &Path, run: &Path) -> Self {
        Self {
            root: root.to_owned(),
            run: run.join("net"),
            networks: Arc::default(),
        }
    }

    /// Returns the root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Locks networks and leases for one change; within this process it is one lock, shared.
    ///
    /// What is async holds it while it waits for the kernel, and another task of the same thread that waited for it would
    /// stop both for good. Within one change of leases nothing waits, so that they exclude each other all the same.
    pub(crate) fn lock_networks(&self) -> Result<Arc<Lock>, NetError> {
        let mut held = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = held.upgrade() {
            return Ok(lock);
        }
        let taken = lock(&self.root.join("networks/.lock"), Mode::Exclusive)?;
        let taken = Arc::new(taken);
        *held = Arc::downgrade(&taken);
        Ok(taken)
    }

    /// Locks the firewall table: shared to change elements, exclusive to replace it.
    pub(crate) fn lock_firewall(&self, mode: Mode) -> Result<Lock, NetError> {
        lock(&self.run.join("firewall.lock"), mode)
    }

    /// Returns a network's record, or `None`.
    pub(crate) fn network(&self, name: &str) -> Result<Option<NetworkRecord>, NetError> {
        read(&self.network_path(name))
    }

    /// Returns all networks by name.
    pub(crate) fn networks(&self) -> Result<Vec<NetworkRecord>, NetError> {
        networks_below(&self.root)
    }

    /// Writes a network's record; it survives a loss of power, but for a pair's, which means nothing then.
    pub(crate) fn write_network(&self, record: &NetworkRecord) -> Result<(), NetError> {
        let durability = if record.is_pair {
            Durability::Cached
        } else {
            Durability::Synced
        };
        let path = self.network_path(&record.config.name);
        write(&path, record, 0o600, durability)
    }

    /// Removes a network's record and lease table.
    pub(crate) fn remove_network(&self, name: &str) -> Result<(), NetError> {
        remove(&self.leases_path(name))?;
        remove(&self.network_path(name))
    }

    /// Returns a network's leases.
    pub(crate) fn leases(&self, name: &str) -> Result<LeaseTable, NetError> {
        read(&self.leases_path(name)).map(Option::unwrap_or_default)
    }

    /// Writes a network's leases.
    pub(crate) fn write_leases(&self, name: &str, table: &LeaseTable) -> Result<(), NetError> {
        write(&self.leases_path(name), table, 0o600, Durability::Cached)
    }

    /// Returns a container's publication, or `None`.
    pub(crate) fn publication(&self, id: &str) -> Result<Option<Publication>, NetError> {
        read(&self.publication_path(id))
    }

    /// Returns all publications.
    pub(crate) fn publications(&self) -> Result<Vec<Publication>, NetError> {
        let names = list(&self.run.join("published"))?;
        let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
        // One that is gone since the listing has been released.
        ids.filter_map(|id| self.publication(id).transpose())
            .collect()
    }

    /// Writes a container's publication.
    pub(crate) fn write_publication(&self, publication: &Publication) -> Result<(), NetError> {
        write(
            &self.publication_path(&publication.id),
            publication,
            0o600,
            Durability::Cached,
        )
    }

    /// Removes a container's publication.
    pub(crate) fn remove_publication(&self, id: &str) -> Result<(), NetError> {
        remove(&self.publication_path(id))
    }

    /// Returns the directory of a network's name files.
    pub(crate) fn names_directory(&self, network: &str) -> PathBuf {
        self.run.join("names").join(network)
    }

    /// Makes the directory of a network's name files, which a process without rights can read through an open descriptor.
    pub(crate) fn make_names_directory(&self, network: &str) -> Result<(), NetError> {
        let path = self.names_directory(network);
        make_directory(&self.run, 0o700)
            .and_then(|()| make_directory(&path, 0o755))
            .map_err(|source| NetError::File {
                action: "make",
                path,
                source,
            })
    }

    /// Writes a container's names in a network.
    pub(crate) fn write_names(
        &self,
        network: &str,
        id: &str,
        names: &impl Serialize,
    ) -> Result<(), NetError> {
        write(
            &self.names_directory(network).join(id),
            names,
            0o644,
            Durability::Cached,
        )
    }

    /// Removes a container's names in a network.
    pub(crate) fn remove_names(&self, network: &str, id: &str) -> Result<(), NetError> {
        remove(&self.names_directory(network).join(id))
    }

    /// Removes the directory of a network's names with what is left in it.
    pub(crate) fn remove_names_directory(&self, network: &str) -> Result<(), NetError> {
        let path = self.names_directory(network);
        crate::sys::remove::tree(&path).map_err(|source| NetError::File {
            action: "remove",
            path,
            source,
        })
    }

    fn network_path(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.json"))
    }

    fn leases_path(&self, name: &str) -> PathBuf {
        self.root
            .join("networks/leases")
            .join(format!("{name}.json"))
    }

    fn publication_path(&self, id: &str) -> PathBuf {
        self.run.join("published").join(format!("{id}.json"))
    }
}

/// Returns all networks of the root directory `root`, by name.
pub(crate) fn networks_below(root: &Path) -> Result<Vec<NetworkRecord>, NetError> {
    let directory = root.join("networks");
    let mut records = BTreeMap::new();
    for file in list(&directory)? {
        let Some(name) = file
            .strip_suffix(".json")
            .filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        let record: Option<NetworkRecord> = read(&directory.join(&file))?;
        records.extend(record.map(|record| (name.to_owned(), record)));
    }
    Ok(records.into_values().collect())
}

/// Takes the lock, making its directory if need be.
pub(crate) fn lock(path: &Path, mode: Mode) -> Result<Lock, NetError> {
    let locked = with_directory(path, || Lock::acquire(path, mode));
    locked.map_err(|source| NetError::File {
        action: "lock",
        path: path.to_owned(),
        source,
    })
}

/// Returns the names in a directory; none where it does not exist.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>, NetError> {
    let failed = |source| NetError::File {
        action: "list",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Reads and decodes a record; `None` where there is no file, or one without content: it was not synced when the power was lost.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, NetError> {
    let bytes = match fs_err::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| NetError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?,
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let decoded = serde_json::from_slice(&bytes);
    decoded.map(Some).map_err(|source| NetError::Record {
        path: path.to_owned(),
        source,
    })
}

/// Encodes and writes a record, making its directory if need be.
fn write(
    path: &Path,
    record: &impl Serialize,
    mode: u32,
    durability: Durability,
) -> Result<(), NetError> {
    let bytes = serde_json::to_vec(record).map_err(|source| NetError::Record {
        path: path.to_owned(),
        source,
    })?;
    with_directory(path, || atomic::write(path, &bytes, mode, durability)).map_err(|source| {
        NetError::File {
            action: "write",
            path: path.to_owned(),
            source,
        }
    })
}

/// Removes a file that may be gone.
pub(crate) fn remove(path: &Path) -> Result<(), NetError> {
    match fs_err::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(NetError::File {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Tries again with the directory of `path` made, if it was missing.
pub(crate) fn with_directory<T>(path: &Path, action: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match action() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(path.parent().unwrap_or(Path::new("/")), 0o700)?;
            action()
        }
        result => result,
    }
}

/// Makes a directory and those above it.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
}
