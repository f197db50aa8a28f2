//! Pushes an image: from the store to its registry.
//!
//! ```text
//! layers, five at a time:  a blob that is kept ──────────────────────────┐
//!                          made here ─> Store::pack_layer (two at a time) ┴─> there already? mount? else one streamed PUT
//! then the configuration, then the manifest under the tag
//! ```
//!
//! The manifest of an image whose blobs are all kept goes as it is, byte for byte, so that a digest survives its way through here;
//! where the store has all of the index that the image came by, that goes too. An image with layers that were made here gets a
//! manifest of its own, in OCI's types, which names their compressed forms. A name that stands for several images goes as an index of
//! them (`several`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::beside::with_store;
use super::error::ImageError;
use super::manifest::{
    Descriptor, Document, Index, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD,
    OCI_MANIFEST, Platform, parse_config, parse_document,
};
use super::progress::{BlobState, Progress};
use super::reference::{Digest, Reference};
use super::registry::config::Endpoint;
use super::registry::upload::{BlobSource, Uploaded};
use super::registry::{Client, RegistryError};
use super::store::{Packing, Store, StoreError};

mod several;

const LAYERS_AT_ONCE: usize = 5;
/// Each uses all processors, and some memory.
const PACKED_AT_ONCE: usize = 2;
/// A registry is asked to mount from so many repositories at most.
const MAX_MOUNTS: usize = 3;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// How an image is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushChoices {
    /// What layers are compressed with that are not yet.
    pub packing: Packing,
    /// Of an index, only the image for this platform.
    pub platform: Option<Platform>,
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest, or index, that the tag names now.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// One manifest to push.
struct Parcel {
    manifest: Box<Manifest>,
    /// As it is stored.
    bytes: Vec<u8>,
    media_type: String,
    layers: Vec<Layer>,
    config: Vec<u8>,
}

/// One layer of it.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    diff_id: Digest,
    /// As the manifest names it.
    named: Descriptor,
    blob: Blob,
}

#[derive(Debug, Clone, PartialEq)]
enum Blob {
    /// Kept as the manifest says.
    Kept(PathBuf),
    /// To be compressed.
    Loose,
    /// Not for everyone: the manifest says where it is (image-spec `layer.md#non-distributable-layers`).
    Foreign,
}

/// Brings an image to its registry, under the tag of `reference`.
pub(super) async fn push(
    store: &Store,
    client: &Client<'_>,
    reference: &Reference,
    options: &PushChoices,
    progress: &dyn Progress,
) -> Result<Pushed, ImageError> {
    let failed = |source| ImageError::Push {
        reference: reference.familiar(),
        source: Box::new(source),
    };
    let (Some(tag), None) = (reference.tag(), reference.digest()) else {
        return Err(ImageError::PushDigest {
            reference: reference.familiar(),
        });
    };
    let _hold = store.hold()?;
    let known = store.find_known(&reference.to_string())?;
    let known = known.ok_or_else(|| ImageError::NotHere {
        reference: reference.familiar(),
    })?;
    let image = match &options.platform {
        None => &known.image,
        Some(platform) => {
            let image = known.image_of(platform);
            image.ok_or_else(|| ImageError::OtherPlatform {
                text: reference.familiar(),
                platform: platform.clone(),
            })?
        }
    };
    let source = store.source(reference)?;
    let push = Push {
        store,
        client,
        endpoint: client.push_endpoint(reference).map_err(failed)?,
        reference,
        packing: options.packing,
        packers: Semaphore::new(PACKED_AT_ONCE),
        elsewhere: elsewhere(store, reference)?,
        progress,
    };
    if known.descriptor.is_index() && options.platform.is_none() {
        let index = push.index(&known, source.as_ref()).await?;
        push.document(tag, &index.media_type, &index.bytes).await?;
        let digest = store.put_blob(&index.bytes)?;
        store.note_source(&known.descriptor.digest, reference, &digest)?;
        let size_bytes = index.bytes.len() as u64;
        return Ok(Pushed { digest, size_bytes });
    }
    let original = is_original(store, &image.manifest, source.as_ref())?;
    let parcel = pack_up(store, &image.manifest, original)?;
    let parcel = parcel.ok_or_else(|| StoreError::NoBlob {
        digest: image.manifest.clone(),
    })?;
    let index = match source {
        Some(source) if source != image.manifest && options.platform.is_none() => {
            whole_index(store, &source)?
        }
        _ => None,
    };
    let (digest, size_bytes) = if let Some(whole) = index {
        for parcel in &whole.parcels {
            let (bytes, media_type) = push.contents(parcel).await?;
            let digest = Digest::of(&bytes).to_string();
            push.document(&digest, &media_type, &bytes).await?;
        }
        push.document(tag, &whole.media_type, &whole.bytes).await?;
        (Digest::of(&whole.bytes), whole.bytes.len() as u64)
    } else {
        let (bytes, media_type) = push.contents(&parcel).await?;
        push.document(tag, &media_type, &bytes).await?;
        (store.put_blob(&bytes)?, bytes.len() as u64)
    };
    if options.platform.is_none() {
        store.note_source(&image.manifest, reference, &digest)?;
    }
    Ok(Pushed { digest, size_bytes })
}

/// Whether a manifest is a registry's own: what the name stands for there, or part of it.
fn is_original(
    store: &Store,
    manifest: &Digest,
    source: Option<&Digest>,
) -> Result<bool, StoreError> {
    let Some(source) = source else {
        return Ok(false);
    };
    if source == manifest {
        return Ok(true);
    }
    let bytes = store.read_blob(source)?.unwrap_or_default();
    Ok(match parse_document(&bytes, None) {
        Ok(Document::Index(index)) => index.manifests.iter().any(|m| m.digest == *manifest),
        Ok(Document::Manifest(_)) | Err(_) => false,
    })
}

/// An index of which everything is here.
struct WholeIndex {
    bytes: Vec<u8>,
    media_type: String,
    parcels: Vec<Parcel>,
}

fn whole_index(store: &Store, digest: &Digest) -> Result<Option<WholeIndex>, ImageError> {
    let Some(bytes) = store.read_blob(digest)? else {
        return Ok(None);
    };
    let Ok(Document::Index(Index {
        manifests,
        media_type,
        ..
    })) = parse_document(&bytes, None)
    else {
        return Ok(None);
    };
    let mut parcels = Vec::new();
    for entry in &manifests {
        match pack_up(store, &entry.digest, true) {
            Ok(Some(parcel)) if parcel.is_whole() => parcels.push(parcel),
            Ok(_) | Err(_) => return Ok(None),
        }
    }
    Ok(Some(WholeIndex {
        bytes,
        media_type: media_type.unwrap_or_else(|| super::manifest::OCI_INDEX.to_owned()),
        parcels,
    }))
}

/// Reads a manifest of the store, and where its layers are; `None` where it is not here or not an image. `as_it_is`: it came from
/// a registry, so that its uncompressed layers stay so.
fn pack_up(store: &Store, digest: &Digest, as_it_is: bool) -> Result<Option<Parcel>, ImageError> {
    let Some(bytes) = store.read_blob(digest)? else {
        return Ok(None);
    };
    let unusable = |source| StoreError::Document {
        image: digest.clone(),
        source,
    };
    let Document::Manifest(manifest) = parse_document(&bytes, None).map_err(unusable)? else {
        return Ok(None);
    };
    let Some(config) = store.read_blob(&manifest.config.digest)? else {
        return Ok(None);
    };
    let diff_ids = parse_config(&config).map_err(unusable)?.rootfs.diff_ids;
    let mut layers = Vec::new();
    for (named, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let kept = store.blob_file(&named.digest)?;
        let loose = named.digest == diff_id;
        let blob = match kept {
            _ if named.is_foreign() => Blob::Foreign,
            Some((path, _)) if as_it_is || !loose => Blob::Kept(path),
            _ if loose => Blob::Loose,
            _ => {
                return Err(StoreError::NoBlob {
                    digest: named.digest.clone(),
                }
                .into());
            }
        };
        layers.push(Layer {
            diff_id,
            named: named.clone(),
            blob,
        });
    }
    let media_type = manifest.media_type.clone();
    Ok(Some(Parcel {
        manifest,
        bytes,
        media_type: media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
        layers,
        config,
    }))
}

impl Parcel {
    /// Whether all of it goes as it is.
    fn is_whole(&self) -> bool {
        self.layers.iter().all(|layer| layer.blob != Blob::Loose)
    }
}

/// Returns the other repositories of the same registry, with the layers they were seen with.
fn elsewhere(
    store: &Store,
    reference: &Reference,
) -> Result<Vec<(String, Vec<Digest>)>, StoreError> {
    let mut found = store.repositories_at(reference.domain())?;
    found.retain(|(path, _)| path != reference.path());
    Ok(found)
}

/// Writes the manifest of an image whose layers have been compressed, in OCI's types throughout.
fn rewritten(manifest: &Manifest, layers: &[Descriptor]) -> Result<Vec<u8>, StoreError> {
    let mut manifest = manifest.clone();
    manifest.media_type = Some(OCI_MANIFEST.to_owned());
    OCI_CONFIG.clone_into(&mut manifest.config.media_type);
    manifest.layers = layers
        .iter()
        .map(|layer| Descriptor {
            media_type: oci_type(&layer.media_type).to_owned(),
            ..layer.clone()
        })
        .collect();
    let written = serde_json::to_vec(&manifest);
    written.map_err(|source| StoreError::Write {
        what: "manifest",
        source,
    })
}

fn oci_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => OCI_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => OCI_LAYER_ZSTD,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        other => other,
    }
}

/// One running push.
struct Push<'a> {
    store: &'a Store,
    client: &'a Client<'a>,
    endpoint: Endpoint,
    reference: &'a Reference,
    packing: Packing,
    packers: Semaphore,
    elsewhere: Vec<(String, Vec<Digest>)>,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    fn failed(&self, source: RegistryError) -> ImageError {
        ImageError::Push {
            reference: self.reference.familiar(),
            source: Box::new(source),
        }
    }

    /// Uploads layers and configuration; returns the manifest that names them, and its media type.
    async fn contents(&self, parcel: &Parcel) -> Result<(Vec<u8>, String), ImageError> {
        let mut once: Vec<&Layer> = Vec::new();
        for layer in &parcel.layers {
            if !once.contains(&layer) {
                once.push(layer);
            }
        }
        for layer in &once {
            self.progress.blob(&layer.diff_id, BlobState::Waiting);
        }
        let tasks = once.iter().map(|layer| async {
            let descriptor = self.layer(layer).await?;
            Ok::<_, ImageError>((layer.named.digest.clone(), descriptor))
        });
        let tasks = futures_util::stream::iter(tasks).buffer_unordered(LAYERS_AT_ONCE);
        let uploaded: Vec<(Digest, Descriptor)> = tasks.try_collect().await?;
        let config = &parcel.manifest.config;
        let source = BlobSource::Bytes(parcel.config.clone());
        let sent = Arc::new(AtomicU64::new(0));
        let uploading = self
            .client
            .upload(&self.endpoint, config, (&source, &[]), &sent);
        uploading.await.map_err(|error| self.failed(error))?;
        if parcel.is_whole() {
            return Ok((parcel.bytes.clone(), parcel.media_type.clone()));
        }
        let layers: Vec<Descriptor> = parcel
            .layers
            .iter()
            .map(|layer| {
                let found = uploaded
                    .iter()
                    .find(|(named, _)| *named == layer.named.digest);
                found.map_or_else(|| layer.named.clone(), |(_, blob)| blob.clone())
            })
            .collect();
        let bytes = rewritten(&parcel.manifest, &layers)?;
        Ok((bytes, OCI_MANIFEST.to_owned()))
    }

    async fn document(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), ImageError> {
        let put = self
            .client
            .put_manifest(&self.endpoint, tag_or_digest, (media_type, bytes));
        put.await.map_err(|error| self.failed(error))
    }

    /// Brings one layer there; returns what a manifest says of it.
    async fn layer(&self, layer: &Layer) -> Result<Descriptor, ImageError> {
        let (descriptor, path) = match &layer.blob {
            Blob::Foreign => {
                self.progress.blob(&layer.diff_id, BlobState::Skipped);
                return Ok(layer.named.clone());
            }
            Blob::Kept(path) => (layer.named.clone(), path.clone()),
            Blob::Loose => self.pack(layer).await?,
        };
        let mounts: Vec<String> = self
            .elsewhere
            .iter()
            .filter(|(_, layers)| layers.contains(&layer.diff_id))
            .map(|(path, _)| path.clone())
            .take(MAX_MOUNTS)
            .collect();
        let uploaded = self
            .send(layer, &descriptor, (BlobSource::File(path), &mounts))
            .await?;
        let state = match uploaded {
            Uploaded::Exists => BlobState::Exists,
            Uploaded::Mounted(_) => BlobState::Mounted,
            Uploaded::Sent => BlobState::Pushed,
        };
        self.progress.blob(&layer.diff_id, state);
        Ok(descriptor)
    }

    /// Uploads one blob, and tells how far that is.
    async fn send(
        &self,
        layer: &Layer,
        descriptor: &Descriptor,
        (source, mounts): (BlobSource, &[String]),
    ) -> Result<Uploaded, ImageError> {
        let sent = Arc::new(AtomicU64::new(0));
        let work = self
            .client
            .upload(&self.endpoint, descriptor, (&source, mounts), &sent);
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                uploaded = &mut work => return uploaded.map_err(|error| self.failed(error)),
                _ = ticks.tick() => {
                    let done_bytes = sent.load(Ordering::Relaxed);
                    if done_bytes > 0 {
                        let total_bytes = descriptor.size;
                        let state = BlobState::Uploading { done_bytes, total_bytes };
                        self.progress.blob(&layer.diff_id, state);
                    }
                }
            }
        }
    }

    /// Compresses a layer, in a thread of its own.
    async fn pack(&self, layer: &Layer) -> Result<(Descriptor, PathBuf), ImageError> {
        let closed = |_| {
            let closed = std::io::Error::other("the turns are closed");
            StoreError::io("compress a layer in", self.store.root())(closed)
        };
        let _turn = self.packers.acquire().await.map_err(closed)?;
        self.progress.blob(&layer.diff_id, BlobState::Preparing);
        let (diff_id, named) = (layer.diff_id.clone(), layer.named.digest.clone());
        let packing = self.packing;
        let packed = with_store(self.store, move |store| {
            store.pack_layer(&diff_id, &named, packing)
        });
        let descriptor = packed.await?;
        let file = self.store.blob_file(&descriptor.digest)?;
        let (path, _) = file.ok_or_else(|| StoreError::NoBlob {
            digest: descriptor.digest.clone(),
        })?;
        Ok((descriptor, path))
    }
}

/// Returns the tags that a repository has here.
pub(super) fn local_tags(store: &Store, reference: &Reference) -> Result<Vec<String>, ImageError> {
    let tags = store.tags_of(&reference.repository())?;
    if tags.is_empty() {
        return Err(ImageError::NotHere {
            reference: reference.familiar_repository(),
        });
    }
    Ok(tags)
}

#[cfg(test)]
mod tests;
