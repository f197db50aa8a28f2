//! `layers/`: unpacked trees by the digest of their tar, in any order, each once.
//!
//! Two things of a layer depend on the layers below it: directories that it has files in without an entry for them, which
//! take their owner and mode from below, and hard links to files below. Where that makes a difference, [`Store::stand`]
//! makes a second tree, of hard links, under the chain id (OCI image-spec, `config.md#layer-chainid`): see [`super::standing`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::manifest::{Descriptor, OCI_LAYER};
use super::super::reference::Digest;
use super::super::unpack::UnpackError;
use super::super::unpack::extract::Report;
use super::super::unpack::writer::{Written, write_layer, write_settled};
use super::hashing::Hashing;
use super::{Packed, Staging, Store, StoreError, document_bytes};
use crate::sys::atomic::{Durability, sync_directory};

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the regular files in it.
    pub size_bytes: u64,
    /// The blobs that unpack to it, all present in the store.
    pub blobs: Vec<Descriptor>,
    /// Bytes of the uncompressed tar of a layer that was made here: its blob is made of the tree when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar_bytes: Option<u64>,
    /// Its compressed forms that were made for pushes, all present in the store. No manifest of the store names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<Packed>,
    /// Directories it has without saying what they are: they take their owner and mode from the layers below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<PathBuf>,
    /// Hard links to files of the layers below: (link, target).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower_links: Vec<(PathBuf, PathBuf)>,
    /// The boot since which it has not been synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

impl LayerRecord {
    /// Returns the blob that a manifest names for it.
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        self.blobs.first().cloned().or_else(|| self.tar())
    }

    /// Returns the blob that can be made of the tree of a layer that was made here.
    pub(super) fn tar(&self) -> Option<Descriptor> {
        let bytes = self.tar_bytes?;
        Some(Descriptor::new(OCI_LAYER, self.diff_id.clone(), bytes))
    }

    /// Whether it names this blob as one that is kept.
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.iter().any(|blob| blob.digest == *digest)
    }

    /// Returns all blobs that it needs.
    pub(super) fn into_blobs(self) -> impl Iterator<Item = Descriptor> {
        let packed = self.packed.into_iter().map(|packed| packed.blob);
        self.blobs.into_iter().chain(packed)
    }

    /// Describes a layer that was just unpacked from `blob`.
    pub(crate) fn new(diff_id: Digest, blob: Descriptor, report: Report) -> Self {
        Self {
            diff_id,
            size_bytes: report.size_bytes,
            blobs: vec![blob],
            tar_bytes: None,
            packed: Vec::new(),
            implied: report.implied,
            lower_links: report.lower_links,
            boot: None,
        }
    }
}

/// Returns the chain ids of all prefixes of `diff_ids`; the first is the first diff id itself.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chains.push(chain);
    }
    chains
}

impl Store {
    pub(super) fn layer_path(&self, id: &Digest) -> PathBuf {
        self.path("layers").join(id.hex())
    }

    /// Returns the layer if it is here whole.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        let path = self.layer_path(diff_id).join("layer.json");
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        // Records are renamed into place whole, so one that cannot be read was hit by a crash of the machine.
        let record: Option<LayerRecord> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.boot.as_ref().is_none_or(|boot| *boot == self.boot)))
    }

    /// Makes a layer of an overlay upper directory: the directory itself becomes the layer, and its tar is only hashed
    /// ([`Store::layer_blob`] writes it where somebody wants it). Not synced before [`Store::put_image`].
    pub fn commit_layer(&self, staging: Staging) -> Result<LayerRecord, StoreError> {
        let measured = Measured::of(&staging.diff())?;
        let record = self.commit_measured(&staging, measured);
        drop(staging);
        record
    }

    /// As [`Store::commit_layer`], with the tree's measures taken before; the staging directory is good for nothing after it.
    pub(crate) fn commit_measured(
        &self,
        staging: &Staging,
        measured: Measured,
    ) -> Result<LayerRecord, StoreError> {
        let record = LayerRecord {
            diff_id: measured.diff_id,
            size_bytes: measured.size_bytes,
            blobs: Vec::new(),
            tar_bytes: Some(measured.tar_bytes),
            packed: Vec::new(),
            implied: Vec::new(),
            lower_links: Vec::new(),
            boot: None,
        };
        self.place_layer(staging, None, record)
    }

    /// Returns the blob of a layer that is here, as a manifest names it: one that came with the layer, or the tar of one that was
    /// made here, which is written, checked and synced now unless somebody has asked for it before.
    pub fn layer_blob(&self, diff_id: &Digest, named: &Digest) -> Result<Descriptor, StoreError> {
        let _hold = self.hold()?;
        let record = self.layer(diff_id)?;
        let record = record.ok_or_else(|| StoreError::NoLayer {
            diff_id: diff_id.clone(),
        })?;
        if let Some(blob) = record.blobs.iter().find(|blob| blob.digest == *named) {
            return Ok(blob.clone());
        }
        let tar = record.tar().filter(|tar| tar.digest == *named);
        let blob = tar.ok_or_else(|| StoreError::NoBlob {
            digest: named.clone(),
        })?;
        let to = self.blob_path(&blob.digest);
        if to.exists() {
            return Ok(blob);
        }
        let path = self.scratch()?.next_path();
        let file = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
        let diff = self.layer_path(diff_id).join("diff");
        let measured = Measured::writing(&diff, io::BufWriter::with_capacity(256 << 10, &file))?;
        if measured.diff_id != *diff_id {
            return Err(StoreError::Damaged {
                expected: diff_id.clone(),
                found: measured.diff_id,
            });
        }
        // Under its name it counts as whole, also after a crash of the machine.
        file.sync_all().map_err(StoreError::io("sync", &path))?;
        fs_err::rename(&path, &to).map_err(StoreError::io("write", &to))?;
        Ok(blob)
    }

    /// Moves `diff` of `staging` and the file `blob` to where `record` says. A layer that is here already only learns of the blob.
    pub(crate) fn place_layer(
        &self,
        staging: &Staging,
        blob: Option<&Path>,
        mut record: LayerRecord,
    ) -> Result<LayerRecord, StoreError> {
        let _locked = self.lock()?;
        let known = self.layer(&record.diff_id)?;
        if let (Some(blob), Some(descriptor)) = (blob, record.blobs.first()) {
            let to = self.blob_path(&descriptor.digest);
            // One that is kept may be synced, as this copy is not.
            let has_blob = |known: &LayerRecord| known.has_blob(&descriptor.digest);
            if !(known.as_ref().is_some_and(has_blob) && to.exists()) {
                fs_err::rename(blob, &to).map_err(StoreError::io("write", &to))?;
            }
        }
        if let Some(known) = known {
            let mut blobs = record.blobs;
            blobs.retain(|blob| !known.has_blob(&blob.digest));
            return self.add_blobs(known, blobs);
        }
        record.boot = Some(self.boot.clone());
        let layer = staging.directory().join("layer");
        fs_err::create_dir(&layer).map_err(StoreError::io("make", &layer))?;
        fs_err::rename(staging.diff(), layer.join("diff"))
            .map_err(StoreError::io("write", &layer))?;
        self.place_tree(&layer, &record.diff_id.clone(), &record)?;
        Ok(record)
    }

    /// Moves a directory with `diff` to `layers/<id>`; the lock is held.
    pub(super) fn place_tree(
        &self,
        tree: &Path,
        id: &Digest,
        record: &LayerRecord,
    ) -> Result<(), StoreError> {
        self.replace(&tree.join("layer.json"), &document_bytes("layer", record)?)?;
        let path = self.layer_path(id);
        if path.exists() {
            // It does not count any more, see the module of the store.
            let trash = self.scratch()?.next_path();
            fs_err::rename(&path, &trash).map_err(StoreError::io("remove", &path))?;
        }
        fs_err::rename(tree, &path).map_err(StoreError::io("write", &path))
    }

    /// Notes that blobs in the store unpack to a layer that is here. They are synced at once: the layer may be in use and
    /// count for good, and must go on doing so if this command never comes to [`Store::seal`].
    fn add_blobs(
        &self,
        mut record: LayerRecord,
        blobs: Vec<Descriptor>,
    ) -> Result<LayerRecord, StoreError> {
        if blobs.is_empty() {
            return Ok(record);
        }
        for blob in &blobs {
            let path = self.blob_path(&blob.digest);
            let synced = fs_err::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(StoreError::io("sync", &path))?;
        }
        let directory = self.path("images/blobs/sha256");
        sync_directory(&directory).map_err(StoreError::io("sync", &directory))?;
        record.blobs.extend(blobs);
        let path = self.layer_path(&record.diff_id).join("layer.json");
        let bytes = document_bytes("layer", &record)?;
        self.replace_with(&path, &bytes, Durability::Synced)?;
        Ok(record)
    }

    /// Syncs the file system once, then lets the layers count for good.
    pub(super) fn seal(&self, diff_ids: &[Digest]) -> Result<(), StoreError> {
        self.sync()?;
        let _locked = self.lock()?;
        let mut sealed = false;
        for id in diff_ids.iter().chain(&chain_ids(diff_ids)) {
            if let Some(mut record) = self.layer(id)?
                && record.boot.take().is_some()
            {
                let path = self.layer_path(id).join("layer.json");
                self.replace(&path, &document_bytes("layer", &record)?)?;
                sealed = true;
            }
        }
        if sealed {
            // Before an index names them: a record that a crash leaves empty is a layer that does not count.
            self.sync()?;
        }
        Ok(())
    }

    /// Returns the overlay lower directories of `layers` (diff ids, bottom first), top-most first, each once: the kernel
    /// refuses a directory given twice, and of two equal layers the lower one adds nothing that the upper one does not have.
    pub fn layer_directories(&self, layers: &[Digest]) -> Vec<PathBuf> {
        let chains = chain_ids(layers);
        let both = layers.iter().zip(&chains).rev();
        let mut directories: Vec<PathBuf> = Vec::new();
        for (diff_id, chain) in both {
            let standing = self.layer_path(chain);
            let tree = if standing.join("layer.json").exists() {
                standing
            } else {
                self.layer_path(diff_id)
            };
            let directory = tree.join("diff");
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }
}

/// What a tree is as a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Of its tar.
    diff_id: Digest,
    /// Bytes of the tar.
    tar_bytes: u64,
    /// Bytes of the regular files.
    size_bytes: u64,
    /// See [`Written`].
    reserved: Option<PathBuf>,
}

impl Measured {
    /// The first path that whoever reads the layer takes for the deletion of another one.
    pub(crate) fn reserved(&self) -> Option<&Path> {
        self.reserved.as_deref()
    }

    /// Whether its tar has this diff id.
    pub(crate) fn is(&self, diff_id: &Digest) -> bool {
        self.diff_id == *diff_id
    }

    /// Hashes the tar of the tree `diff`, which must hold still meanwhile.
    pub(crate) fn of(diff: &Path) -> Result<Self, StoreError> {
        Self::writing(diff, io::sink())
    }

    /// Hashes what a layer's archive says of its tree, see [`write_settled`]: to compare two trees of one layer.
    pub(crate) fn settled(diff: &Path, implied: &[PathBuf]) -> Result<Self, StoreError> {
        Self::with(diff, io::sink(), |sink| write_settled(diff, implied, sink))
    }

    /// The same, if the tar has no more than `limit` bytes.
    pub(crate) fn within(diff: &Path, limit: u64) -> Result<Option<Self>, StoreError> {
        let mut room = Room { left: limit };
        match Self::writing(diff, &mut room) {
            Err(_) if room.left == 0 => Ok(None),
            measured => measured.map(Some),
        }
    }

    /// The same, with the tar going to `sink`, piece by piece.
    pub(crate) fn writing(diff: &Path, sink: impl Write) -> Result<Self, StoreError> {
        Self::with(diff, sink, |sink| write_layer(diff, sink))
    }

    fn with<W: Write>(
        diff: &Path,
        sink: W,
        write: impl FnOnce(&mut Hashing<W>) -> Result<Written, UnpackError>,
    ) -> Result<Self, StoreError> {
        let mut sink = Hashing::new(sink);
        let failed = |source| StoreError::Pack {
            path: diff.to_owned(),
            source,
        };
        let Written {
            size_bytes,
            reserved,
        } = write(&mut sink).map_err(failed)?;
        let flushed = sink
            .flush()
            .map_err(UnpackError::io("pack", Path::new("/")));
        flushed.map_err(failed)?;
        let (_, diff_id, tar_bytes) = sink.finish();
        Ok(Self {
            diff_id,
            tar_bytes,
            size_bytes,
            reserved,
        })
    }
}

/// Takes so many bytes.
struct Room {
    left: u64,
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
