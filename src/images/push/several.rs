//! A name that stands for several images: their manifests first, then the index that lists them.
//!
//! What came from a registry goes as it is. A manifest of layers that were made here is written anew with their compressed forms (see
//! [`super`]), and so gets another digest: what is attested of it is written anew too, and the index. Images of a foreign index that
//! are not here are left out of it, with a warning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::Value;

use super::super::error::ImageError;
use super::super::manifest::{
    Descriptor, Index, ManifestError, OCI_INDEX, OCI_MANIFEST, REFERENCE_DIGEST,
};
use super::super::reference::Digest;
use super::super::registry::upload::BlobSource;
use super::super::store::{Known, Member, Named, StoreError};
use super::{Push, is_original, pack_up};

/// An index whose manifests are all in the registry.
pub(super) struct PushedIndex {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
}

/// Digests of manifests that were written anew, by those that they have here.
type Renamed = BTreeMap<Digest, Descriptor>;

impl Push<'_> {
    /// Brings all images of an index to the registry, and what is attested of them; returns the index that lists them there.
    pub(super) async fn index(
        &self,
        known: &Known,
        source: Option<&Digest>,
    ) -> Result<PushedIndex, ImageError> {
        let digest = &known.descriptor.digest;
        let gone = || StoreError::NoBlob {
            digest: digest.clone(),
        };
        let bytes = self.store.read_blob(digest)?.ok_or_else(gone)?;
        let index = self.store.index_of(digest)?.ok_or_else(gone)?;
        let mut renamed = Renamed::new();
        let mut missing = Vec::new();
        let mut manifests = Vec::new();
        for member in &known.members {
            let pushed = match (&member.image, member.is_here) {
                (Some(_), _) => Some(self.image_of_index(member, source).await?),
                (None, true) if member.descriptor.is_attestation() => {
                    self.attestation(&member.descriptor, &renamed).await?
                }
                (None, _) => None,
            };
            let Some(pushed) = pushed else {
                missing.extend(named(&member.descriptor));
                continue;
            };
            if pushed.digest != member.descriptor.digest {
                renamed.insert(member.descriptor.digest.clone(), pushed.clone());
            }
            manifests.push(pushed);
        }
        if manifests == index.manifests {
            let media_type = index.media_type.unwrap_or_else(|| OCI_INDEX.to_owned());
            return Ok(PushedIndex { bytes, media_type });
        }
        if !missing.is_empty() {
            let text = format!(
                "only the platforms that are here are pushed; not here: {}",
                missing.join(", ")
            );
            self.progress.warning(&text);
        }
        let media_type = index.media_type.clone();
        let index = Index { manifests, ..index };
        Ok(PushedIndex {
            bytes: written("index", &index)?,
            media_type: media_type.unwrap_or_else(|| OCI_INDEX.to_owned()),
        })
    }

    /// Brings one image of an index there; returns what an index says of it.
    async fn image_of_index(
        &self,
        member: &Member,
        source: Option<&Digest>,
    ) -> Result<Descriptor, ImageError> {
        let digest = &member.descriptor.digest;
        let original = is_original(self.store, digest, source)?;
        let parcel = pack_up(self.store, digest, original)?;
        let parcel = parcel.ok_or_else(|| StoreError::NoBlob {
            digest: digest.clone(),
        })?;
        let (bytes, media_type) = self.contents(&parcel).await?;
        self.manifest(&member.descriptor, media_type, &bytes).await
    }

    /// Brings what is attested of an image there; `None` where a part of it is not here.
    async fn attestation(
        &self,
        entry: &Descriptor,
        renamed: &Renamed,
    ) -> Result<Option<Descriptor>, ImageError> {
        let Some(bytes) = self.store.read_blob(&entry.digest)? else {
            return Ok(None);
        };
        let before = entry.annotations.get(REFERENCE_DIGEST);
        let before = before.and_then(|digest| Digest::parse(digest).ok());
        let Some((before, now)) = before.and_then(|b| renamed.get(&b).map(|now| (b, now))) else {
            return self.plain_attestation(entry, bytes).await;
        };
        let unreadable = |source| StoreError::Document {
            image: entry.digest.clone(),
            source: ManifestError::Shape {
                what: "attestation",
                source,
            },
        };
        let mut manifest: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
        for layer in list_of(&mut manifest, "layers") {
            let descriptor: Descriptor =
                serde_json::from_value(layer.clone()).map_err(unreadable)?;
            let Some(statement) = self.store.read_attested(&descriptor.digest)? else {
                return Ok(None);
            };
            let statement = match serde_json::from_slice::<Value>(&statement) {
                Ok(mut value) => {
                    readdress(&mut value, &before, &now.digest);
                    written("attestation", &value)?
                }
                // What is no JSON names no image.
                Err(_) => statement,
            };
            let uploaded = Descriptor {
                digest: Digest::of(&statement),
                size: statement.len() as u64,
                ..descriptor
            };
            self.bytes(&uploaded, statement).await?;
            *layer = serde_json::to_value(&uploaded).map_err(unreadable)?;
        }
        if let Some(subject) = manifest.get_mut("subject") {
            let of_image = Descriptor::new(&now.media_type, now.digest.clone(), now.size);
            *subject = serde_json::to_value(of_image).map_err(unreadable)?;
        }
        if let Some(config) = manifest.get("config").cloned() {
            let descriptor: Descriptor = serde_json::from_value(config).map_err(unreadable)?;
            let Some(config) = self.store.read_blob(&descriptor.digest)? else {
                return Ok(None);
            };
            let config = Self::reconfigured(&manifest, config)?;
            let uploaded = Descriptor {
                digest: Digest::of(&config),
                size: config.len() as u64,
                ..descriptor
            };
            self.bytes(&uploaded, config).await?;
            if let Some(place) = manifest.get_mut("config") {
                *place = serde_json::to_value(&uploaded).map_err(unreadable)?;
            }
        }
        let mut entry = entry.clone();
        let key = REFERENCE_DIGEST.to_owned();
        entry.annotations.insert(key, now.digest.to_string());
        let bytes = written("attestation", &manifest)?;
        let media_type = OCI_MANIFEST.to_owned();
        Ok(Some(self.manifest(&entry, media_type, &bytes).await?))
    }

    /// Gives the configuration of an attestation, which lists its statements as if they were layers, those of `manifest`.
    fn reconfigured(manifest: &Value, config: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let Ok(mut value) = serde_json::from_slice::<Value>(&config) else {
            return Ok(config);
        };
        let layers = manifest.get("layers").and_then(Value::as_array);
        let digests = layers.into_iter().flatten();
        let digests: Vec<Value> = digests.filter_map(|l| l.get("digest").cloned()).collect();
        match value.pointer_mut("/rootfs/diff_ids") {
            Some(diff_ids) => *diff_ids = Value::from(digests),
            None => return Ok(config),
        }
        written("attestation", &value)
    }

    /// Brings an attestation there as it is; `None` where a part of it is not here.
    async fn plain_attestation(
        &self,
        entry: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<Option<Descriptor>, ImageError> {
        let named = Named::of(&bytes).map_err(|source| StoreError::Document {
            image: entry.digest.clone(),
            source,
        })?;
        for blob in named.blobs() {
            match self.store.read_attested(&blob.digest)? {
                Some(bytes) => self.bytes(blob, bytes).await?,
                None => return Ok(None),
            }
        }
        let media_type = entry.media_type.clone();
        Ok(Some(self.manifest(entry, media_type, &bytes).await?))
    }

    /// Uploads a small blob.
    async fn bytes(&self, descriptor: &Descriptor, bytes: Vec<u8>) -> Result<(), ImageError> {
        let source = BlobSource::Bytes(bytes);
        let sent = Arc::new(AtomicU64::new(0));
        let uploading = self
            .client
            .upload(&self.endpoint, descriptor, (&source, &[]), &sent);
        uploading.await.map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Puts a manifest there by its digest; returns `entry` with what it is now.
    async fn manifest(
        &self,
        entry: &Descriptor,
        media_type: String,
        bytes: &[u8],
    ) -> Result<Descriptor, ImageError> {
        let digest = Digest::of(bytes);
        self.document(&digest.to_string(), &media_type, bytes)
            .await?;
        Ok(Descriptor {
            media_type: if digest == entry.digest {
                entry.media_type.clone()
            } else {
                media_type
            },
            digest,
            size: bytes.len() as u64,
            ..entry.clone()
        })
    }
}

/// Returns what people call an entry of an index that is an image's.
fn named(entry: &Descriptor) -> Option<String> {
    let platform = entry.platform.as_ref()?;
    (!entry.is_attestation()).then(|| platform.normalized().to_string())
}

/// Returns a list of an object.
fn list_of<'v>(value: &'v mut Value, key: &str) -> std::slice::IterMut<'v, Value> {
    let list = value.get_mut(key).and_then(Value::as_array_mut);
    list.map_or_else(Default::default, |list| list.iter_mut())
}

/// Lets an in-toto statement speak of `now` where it spoke of `before` (in-toto `spec/v1/statement.md`).
fn readdress(statement: &mut Value, before: &Digest, now: &Digest) {
    for subject in list_of(statement, "subject") {
        if let Some(hex) = subject.pointer_mut("/digest/sha256")
            && hex.as_str() == Some(before.hex())
        {
            *hex = Value::from(now.hex());
        }
    }
}

fn written(what: &'static str, document: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(document).map_err(|source| StoreError::Write { what, source })
}
