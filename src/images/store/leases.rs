//! What may not be collected as garbage, and the collection.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::manifest::{Document, parse_document};
use super::super::reference::Digest;
use super::layers::{LayerRecord, chain_ids};
use super::{Image, Known, Named, Store, StoreError, document_bytes, index};
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
        /// Bytes of both.
        bytes: u64,
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

    /// Whether `holder` has a lease that reached the disk: one that is empty was lost with the machine's power.
    pub fn is_leased(&self, holder: &str) -> Result<bool, StoreError> {
        let path = self.lease_path(holder)?;
        match fs_err::metadata(&path) {
            Ok(stat) => Ok(stat.len() > 0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
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

    fn lease_path(&self, holder: &str) -> Result<PathBuf, StoreError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let valid = !holder.is_empty() && holder.len() <= 200 && !holder.starts_with('.');
        if !valid || !holder.bytes().all(known) {
            return Err(StoreError::Holder {
                holder: holder.to_owned(),
            });
        }
        Ok(self.path(&format!("leases/{holder}.json")))
    }

    /// Removes the layers and blobs that no name, nameless image, lease or step of the build cache (`cached`) holds.
    pub fn collect(&self, cached: &BTreeSet<Digest>) -> Result<Collected, StoreError> {
        let working = self.path("leases/working");
        let alone = Lock::try_acquire(&working, Mode::Exclusive)
            .map_err(StoreError::io("lock", &working))?;
        if alone.is_none() {
            return Ok(Collected::Busy);
        }
        let locked = self.lock()?;
        let (kept_layers, kept_blobs) = self.held(cached)?;
        let mut bytes = 0;
        let layers = self.discard("layers", &kept_layers, &mut bytes)?;
        let blobs = self.discard("images/blobs/sha256", &kept_blobs, &mut bytes)?;
        // Out of the store they are nobody's; removing them takes time that others need not wait for.
        drop((locked, alone));
        for trash in layers.iter().chain(&blobs) {
            crate::sys::remove::tree(trash).map_err(StoreError::io("remove", trash))?;
        }
        Ok(Collected::Removed {
            layers: layers.len() as u64,
            blobs: blobs.len() as u64,
            bytes,
        })
    }

    /// Moves what is not `kept` out of the store, adding to `bytes`; returns where it is now.
    fn discard(
        &self,
        below: &str,
        kept: &BTreeSet<String>,
        bytes: &mut u64,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.path(below);
        let mut moved = Vec::new();
        for name in names(&directory)? {
            if kept.contains(&name) {
                continue;
            }
            let path = directory.join(&name);
            *bytes += self.size_of(&path, &name)?;
            let trash = self.scratch()?.next_path();
            fs_err::rename(&path, &trash).map_err(StoreError::io("remove", &path))?;
            moved.push(trash);
        }
        Ok(moved)
    }

    /// Returns the bytes of a layer's files, or of a blob. A tree by chain id is made of links and counts nothing.
    fn size_of(&self, path: &Path, name: &str) -> Result<u64, StoreError> {
        let stat = fs_err::symlink_metadata(path).map_err(StoreError::io("look at", path))?;
        if !stat.is_dir() {
            return Ok(stat.len());
        }
        let record = match Digest::from_hex(name) {
            Some(id) => self.layer(&id)?.filter(|record| record.diff_id == id),
            None => None,
        };
        Ok(record.map_or(0, |record| record.size_bytes))
    }

    /// Returns the chain ids of those layers of an image, or of all of an index, the top first, that nothing else holds.
    pub fn freed(
        &self,
        known: &Known,
        cached: &BTreeSet<Digest>,
    ) -> Result<Vec<Digest>, StoreError> {
        let (kept, _) = self.held(cached)?;
        let mut freed = Vec::new();
        for image in known.images() {
            let chains = chain_ids(&image.layers);
            for (diff_id, chain) in image.layers.iter().zip(chains).rev() {
                if !kept.contains(diff_id.hex()) && !freed.contains(&chain) {
                    freed.push(chain);
                }
            }
        }
        Ok(freed)
    }

    /// Returns the names of the layer directories and of the blobs that are in use.
    fn held(
        &self,
        cached: &BTreeSet<Digest>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), StoreError> {
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for diff_id in cached {
            let kept = self
                .layer(diff_id)?
                .into_iter()
                .flat_map(|record| record.blobs);
            blobs.extend(kept.map(|blob| blob.digest.hex().to_owned()));
            layers.insert(diff_id.hex().to_owned());
        }
        let mut hold_layers = |diff_ids: &[Digest]| {
            layers.extend(diff_ids.iter().map(|id| id.hex().to_owned()));
            layers.extend(chain_ids(diff_ids).iter().map(|id| id.hex().to_owned()));
        };
        let mut manifests: BTreeSet<Digest> = BTreeSet::new();
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
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
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(StoreError::LostLease {
                    holder: name.trim_end_matches(".json").to_owned(),
                });
            }
            let lease: Lease = serde_json::from_slice(&bytes)
                .map_err(|source| StoreError::Record { path, source })?;
            hold_layers(&lease.layers);
            manifests.insert(lease.manifest);
        }
        while let Some(manifest) = manifests.pop_first() {
            blobs.insert(manifest.hex().to_owned());
            seen.insert(manifest.clone());
            let Some(bytes) = self.read_blob(&manifest)? else {
                continue;
            };
            match (parse_document(&bytes, None), Named::of(&bytes)) {
                (Ok(Document::Index(index)), _) => {
                    let inner = index.manifests.into_iter().map(|entry| entry.digest);
                    manifests.extend(inner.filter(|digest| !seen.contains(digest)));
                    continue;
                }
                // Also of what is no image: attestations, say.
                (_, Ok(named)) => {
                    blobs.extend(named.blobs().map(|blob| blob.digest.hex().to_owned()));
                }
                (_, Err(_)) => {}
            }
            // What the configuration names is kept, whether or not all of it can be read: a layer that is whole is not to go
            // because another one of its image is damaged.
            if let Some((_, diff_ids)) = self.image_documents(&manifest)? {
                hold_layers(&diff_ids);
                for diff_id in &diff_ids {
                    let record = self.layer(diff_id)?;
                    let kept = record.into_iter().flat_map(LayerRecord::into_blobs);
                    blobs.extend(kept.map(|blob| blob.digest.hex().to_owned()));
                }
            }
        }
        Ok((layers, blobs))
    }
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs_err::read_dir(directory).map_err(StoreError::io("list", directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
