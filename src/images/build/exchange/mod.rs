//! The cache brought elsewhere and back (`cache_to`, `cache_from`): an OCI artifact, in a registry or in a directory.
//!
//! ```text
//! manifest ─┬─ config  application/vnd.stack.cacheconfig.v1+json: {"layers": [diff id, …], "records": [{"key", "layer", "created"}, …]}
//!           └─ layers  as a push compresses them, in the order of `layers`
//! ```
//!
//! The transport is BuildKit's (`cache/remotecache`); its keys are digests of its own graph, which no other builder can make, hence the
//! media type of our own. What comes is believed only as far as its digests go: a layer counts if it unpacks to its diff id.
//!
//! An image is a cache too: with records of its own, or by its history ([`inline`]).

mod foreign;
mod inline;
mod layout;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use super::super::beside::with_store;
use super::super::manifest::{Descriptor, Manifest, OCI_MANIFEST};
use super::super::reference::{Digest, Reference};
use super::super::registry::RegistryError;
use super::super::registry::error::chain;
use super::super::registry::upload::BlobSource;
use super::super::store::{Packing, Store, StoreError};
use super::BuildEvent;
use super::builder::Build;
use super::cache::Made;
use super::error::BuildError;
pub(super) use foreign::Foreign;

/// Media type of the configuration.
const CONFIG: &str = "application/vnd.stack.cacheconfig.v1+json";

/// Where a cache is brought to or comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// An OCI layout in a directory, and the cache's name there.
    Local(PathBuf, String),
    /// A registry: a cache, or an image.
    Registry(Reference),
    /// The image that is built; only to be written.
    Inline,
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path, _) => write!(f, "{}", path.display()),
            Self::Registry(reference) => f.write_str(&reference.familiar()),
            Self::Inline => f.write_str("inline"),
        }
    }
}

/// A cache to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExport {
    /// Where to.
    pub place: CachePlace,
    /// Every step of the build (`mode=max`), and not only those whose layers the image has.
    pub all: bool,
    /// What layers are compressed with that are not yet.
    pub packing: Packing,
    /// Also those that have another compression (`force-compression`).
    pub force: bool,
    /// A failure is a warning.
    pub may_fail: bool,
    /// Whatever else is in the layout goes.
    pub reset: bool,
}

/// A cache that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the layout.
    #[error("{attempted} `{}`", path.display())]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// On which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Not what it should be.
    #[error("{0}")]
    Wrong(String),
}

impl CacheError {
    fn file(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            attempted,
            path,
            source,
        }
    }
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    /// Diff ids of the manifest's layers.
    layers: Vec<Digest>,
    records: Vec<Record>,
}

/// What one step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    /// 64 hexadecimal digits.
    key: String,
    /// Position in `layers`.
    layer: usize,
    /// When, RFC 3339.
    created: String,
}

impl Build<'_> {
    /// Reads what there is of the caches that the request names; of one that cannot be read, a warning is told.
    pub(super) async fn read_foreign(&self) -> Vec<Foreign> {
        let mut found = Vec::new();
        if self.request.no_cache {
            return found;
        }
        for place in &self.request.cache_from {
            match self.read_cache(place).await {
                Ok(foreign) => found.push(foreign),
                Err(error) => self.warn(&format!(
                    "the cache `{place}` is not used: {}",
                    chain(&error)
                )),
            }
        }
        found
    }

    fn warn(&self, text: &str) {
        self.progress.event(BuildEvent::Warning(text));
    }

    /// Writes the caches that the request names.
    pub(super) async fn write_caches(&self, layers: &[Digest]) -> Result<(), BuildError> {
        let exports = self.request.cache_to.iter();
        // Which the image has already.
        for export in exports.filter(|export| export.place != CachePlace::Inline) {
            let note = format!("writing the cache {}", export.place);
            self.progress.event(BuildEvent::Note(&note));
            match self.write_cache(export, layers).await {
                Ok(()) => {}
                Err(error) if export.may_fail => self.warn(&format!(
                    "the cache `{}` is not written: {}",
                    export.place,
                    chain(&error)
                )),
                Err(source) => {
                    return Err(BuildError::Export {
                        place: export.place.to_string(),
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(())
    }

    async fn write_cache(&self, export: &CacheExport, image: &[Digest]) -> Result<(), CacheError> {
        let used = self.used.borrow().clone();
        let wanted = |made: &Made| export.all || image.contains(&made.layer);
        let mut config = Config {
            layers: Vec::new(),
            records: Vec::new(),
        };
        for (key, made) in used.into_iter().filter(|(_, made)| wanted(made)) {
            let known = config.layers.iter().position(|layer| *layer == made.layer);
            let layer = known.unwrap_or(config.layers.len());
            if known.is_none() {
                config.layers.push(made.layer);
            }
            let created = made.created;
            config.records.push(Record {
                key,
                layer,
                created,
            });
        }
        let mut blobs = Vec::new();
        for layer in &config.layers {
            let (diff_id, how) = (layer.clone(), (export.packing, export.force));
            let pack = with_store(self.store(), move |store| pack(store, &diff_id, how));
            blobs.push(pack.await?);
        }
        let config = json(&config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Descriptor::new(CONFIG, Digest::of(&config), config.len() as u64),
            layers: blobs.iter().map(|(blob, _)| blob.clone()).collect(),
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        };
        match &export.place {
            CachePlace::Local(directory, tag) => {
                let (directory, tag, reset) = (directory.clone(), tag.clone(), export.reset);
                // Whoever else writes there may keep it locked for long.
                let write = with_store(self.store(), move |_| {
                    layout::write_layout(&directory, &tag, &manifest, &config, &blobs)?;
                    if reset {
                        layout::keep_only(&directory, &tag)?;
                    }
                    Ok(())
                });
                write.await
            }
            CachePlace::Inline => Ok(()),
            CachePlace::Registry(reference) => {
                self.send(reference, &manifest, config, &blobs).await
            }
        }
    }

    async fn send(
        &self,
        reference: &Reference,
        manifest: &Manifest,
        config: Vec<u8>,
        blobs: &[(Descriptor, PathBuf)],
    ) -> Result<(), CacheError> {
        let client = self.images.registry_client()?;
        let endpoint = client.push_endpoint(reference)?;
        let mut sources = vec![(&manifest.config, BlobSource::Bytes(config))];
        sources.extend(
            blobs
                .iter()
                .map(|(blob, path)| (blob, BlobSource::File(path.clone()))),
        );
        for (blob, source) in sources {
            let sent = Arc::new(AtomicU64::new(0));
            client
                .upload(&endpoint, blob, (&source, &[]), &sent)
                .await?;
        }
        let (bytes, tag) = (json(manifest)?, reference.tag_or_digest());
        let put = client.put_manifest(&endpoint, &tag, (OCI_MANIFEST, &bytes));
        Ok(put.await?)
    }
}

/// Returns the compressed blob of a layer and where it lies; one that has another compression already is compressed anew where that is
/// forced.
fn pack(
    store: &Store,
    diff_id: &Digest,
    (packing, force): (Packing, bool),
) -> Result<(Descriptor, PathBuf), CacheError> {
    let missing = || StoreError::NoLayer {
        diff_id: diff_id.clone(),
    };
    let named = store.layer(diff_id)?.and_then(|layer| layer.descriptor());
    let named = named.ok_or_else(missing)?;
    let is_other = force && !packing.is_of(&named.media_type);
    let blob = if named.digest == *diff_id || is_other {
        store.pack_layer(diff_id, &named.digest, packing)?
    } else {
        named
    };
    let digest = blob.digest.clone();
    match store.blob_file(&digest)? {
        Some((path, _)) => Ok((blob, path)),
        None => Err(StoreError::NoBlob { digest }.into()),
    }
}

/// Writes a document.
fn json(document: &impl Serialize) -> Result<Vec<u8>, CacheError> {
    let written = serde_json::to_vec(document);
    written.map_err(|error| CacheError::Wrong(error.to_string()))
}
