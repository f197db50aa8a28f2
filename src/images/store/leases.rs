//! What may not be collected as garbage, and the collection.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::manifest::{Document, parse_document};
use super::super::reference::Digest;
use super::layers::chain_ids;
use super::{Image, Store, StoreError, document_bytes, index};
use crate::sys::lock::{Lock, Mode};

/// Keeps garbage collection away while layers are made that no image names yet.
#[derive(Debug)]
pub struct Hold {
    #[expect(dead_code, reason = "held, not read")]
    lock: Lock,
}

/// What a garbage collection did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    /// A pull, import or build is running: nothing was removed.
    Busy,
    /// So many layers and blobs were removed.
    Removed {
        /// Directories below `layers/`.
        layers: u64,
        /// Files below `blobs/`.
        blobs: u64,
    },
}

/// A lease on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    manifest: Digest,
    layers: Vec<Digest>,
}

impl Store {
    /// Keeps garbage collection away; a build holds it from its first layer until its image is put.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        let path = self.path("leases/working");
        let lock = Lock::acquire(&path, Mode::Shared).map_err(StoreError::io("lock", &path))?;
        Ok(Hold { lock })
    }

    /// Keeps `image` from garbage collection for `holder` (`[A-Za-z0-9._-]+`), replacing what it held.
    pub fn lease(&self, holder: &str, image: &Image) -> Result<(), StoreError> {
        let path = self.lease_path(holder)?;
        let lease = Lease {
            manifest: image.manifest.clone(),
            layers: image.layers.clone(),
        };
        let bytes = document_bytes("lease", &lease)?;
        let _locked = self.lock()?;
        for diff_id in &image.layers {
            if self.layer(diff_id)?.is_none() {
                return Err(StoreError::NoLayer {
                    diff_id: diff_id.clone(),
                });
            }
        }
        self.replace(&path, &bytes)
    }

    /// Ends a lease, if there is one.
    pub fn release(&self, holder: &str) -> Result<(), StoreError> {
        super::staging::remove_file(&self.lease_path(holder)?)
    }

    /// Returns who holds images.
    pub fn holders(&self) -> Result<Vec<String>, StoreError> {
        let held = names(&self.path("leases"))?;
        let holders = held.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(holders.map(str::to_owned).collect())
    }

    fn lease_path(&self, holder: &str) -> Result<std::path::PathBuf, StoreError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let valid = !holder.is_empty() && holder.len() <= 200 && !holder.starts_with('.');
        if !valid || !holder.bytes().all(known) {
            return Err(StoreError::Holder {
                holder: holder.to_owned(),
            });
        }
        Ok(self.path(&format!("leases/{holder}.json")))
    }

    /// Removes the layers and blobs that no name, nameless image or lease holds.
    pub fn collect(&self) -> Result<Collected, StoreError> {
        let working = self.path("leases/working");
        let alone = Lock::try_acquire(&working, Mode::Exclusive)
            .map_err(StoreError::io("lock", &working))?;
        if alone.is_none() {
            return Ok(Collected::Busy);
        }
        let _locked = self.lock()?;
        let (layers, blobs) = self.held()?;
        let mut removed = (0, 0);
        for (below, kept, count) in [
            ("layers", &layers, &mut removed.0),
            ("images/blobs/sha256", &blobs, &mut removed.1),
        ] {
            let directory = self.path(below);
            for name in names(&directory)? {
                if kept.contains(&name) {
                    continue;
                }
                let path = directory.join(&name);
                let trash = self.scratch()?.next_path();
                fs_err::rename(&path, &trash).map_err(StoreError::io("remove", &path))?;
                if trash.is_dir() {
                    fs_err::remove_dir_all(&trash).map_err(StoreError::io("remove", &trash))?;
                } else {
                    super::staging::remove_file(&trash)?;
                }
                *count += 1;
            }
        }
        self.remove_partials()?;
        let (layers, blobs) = removed;
        Ok(Collected::Removed { layers, blobs })
    }

    /// Returns the names of the layer directories and of the blobs that are in use.
    fn held(&self) -> Result<(BTreeSet<String>, BTreeSet<String>), StoreError> {
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        let mut hold_layers = |diff_ids: &[Digest]| {
            layers.extend(diff_ids.iter().map(|id| id.hex().to_owned()));
            layers.extend(chain_ids(diff_ids).iter().map(|id| id.hex().to_owned()));
        };
        let mut manifests: BTreeSet<Digest> = BTreeSet::new();
        for entry in &self.read_index()?.manifests {
            manifests.insert(entry.digest.clone());
            blobs.extend(index::source_of(entry).map(|d| d.hex().to_owned()));
        }
        for name in names(&self.path("leases"))? {
            let path = self.path("leases").join(&name);
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs_err::read(&path).map_err(StoreError::io("read", &path))?;
            let lease: Lease = serde_json::from_slice(&bytes)
                .map_err(|source| StoreError::Record { path, source })?;
            hold_layers(&lease.layers);
            manifests.insert(lease.manifest);
        }
        for manifest in manifests {
            blobs.insert(manifest.hex().to_owned());
            let Some(bytes) = self.read_blob(&manifest)? else {
                continue;
            };
            if let Ok(Document::Manifest(document)) = parse_document(&bytes, None) {
                blobs.insert(document.config.digest.hex().to_owned());
                blobs.extend(document.layers.iter().map(|l| l.digest.hex().to_owned()));
            }
            if let Some(image) = self.load(&manifest)? {
                hold_layers(&image.layers);
                for diff_id in &image.layers {
                    if let Some(record) = self.layer(diff_id)? {
                        let packed = record.packed.into_iter().map(|packed| packed.blob);
                        let kept = record.blobs.into_iter().chain(packed);
                        blobs.extend(kept.map(|blob| blob.digest.hex().to_owned()));
                    }
                }
            }
        }
        Ok((layers, blobs))
    }
}

fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs_err::read_dir(directory).map_err(StoreError::io("list", directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
