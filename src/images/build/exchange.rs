//! The cache brought elsewhere and back (`cache_to`, `cache_from`): an OCI artifact, in a registry or in a directory.
//!
//! ```text
//! manifest ─┬─ config  application/vnd.stack.cacheconfig.v1+json: {"layers": [diff id, …], "records": [{"key", "layer", "created"}, …]}
//!           └─ layers  as a push compresses them, in the order of `layers`
//! ```
//!
//! The transport is BuildKit's (`cache/remotecache`); its keys are digests of its own graph, which no other builder can make, hence the
//! media type of our own. What comes is believed only as far as its digests go: a layer counts if it unpacks to its diff id.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::manifest::{Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use super::super::reference::{Digest, Reference};
use super::super::registry::RegistryError;
use super::super::registry::error::chain;
use super::super::registry::upload::BlobSource;
use super::super::store::{Packing, Staging, Store, StoreError};
use super::super::unpack::pipeline::{ReaderChunks, run};
use super::BuildEvent;
use super::builder::Build;
use super::cache::Made;
use super::error::{BuildError, StepFailure};
use crate::sys::atomic::{self, Durability};

/// Media type of the configuration.
const CONFIG: &str = "application/vnd.stack.cacheconfig.v1+json";
/// The name of an entry in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Documents of a layout that are larger are not read.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Where a cache is brought to or comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// An OCI layout in a directory, and the cache's name there.
    Local(PathBuf, String),
    /// A registry.
    Registry(Reference),
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path, _) => write!(f, "{}", path.display()),
            Self::Registry(reference) => f.write_str(&reference.familiar()),
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

/// A cache of elsewhere: what steps made by their keys, with the blob of the layer.
pub(super) struct Foreign {
    place: CachePlace,
    steps: BTreeMap<String, (Made, Descriptor)>,
}

impl Foreign {
    /// Reads a manifest's configuration.
    fn of(place: &CachePlace, manifest: &Manifest, config: &[u8]) -> Result<Self, CacheError> {
        let wrong = |message: String| CacheError::Wrong(message);
        let config: Config = serde_json::from_slice(config)
            .map_err(|error| wrong(format!("its configuration: {error}")))?;
        if config.layers.len() != manifest.layers.len() {
            return Err(wrong("it has not as many layers as it names".to_owned()));
        }
        let mut steps = BTreeMap::new();
        for Record {
            key,
            layer,
            created,
        } in config.records
        {
            let is_key = key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
            let is_time = created.parse::<jiff::Timestamp>().is_ok();
            let found = config.layers.get(layer).zip(manifest.layers.get(layer));
            match found {
                Some((diff_id, blob)) if is_key && is_time => {
                    let layer = diff_id.clone();
                    steps.insert(key, (Made { layer, created }, blob.clone()));
                }
                _ => return Err(wrong(format!("its record `{key}` says nothing"))),
            }
        }
        Ok(Self {
            place: place.clone(),
            steps,
        })
    }
}

/// Requires that a manifest is that of a cache.
fn cache_manifest(bytes: &[u8]) -> Result<Manifest, CacheError> {
    // An index has no configuration, and an image one of another type.
    match serde_json::from_slice::<Manifest>(bytes) {
        Ok(manifest) if manifest.config.media_type == CONFIG => Ok(manifest),
        Ok(_) | Err(_) => Err(CacheError::Wrong(
            "it is no cache of this builder".to_owned(),
        )),
    }
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

    async fn read_cache(&self, place: &CachePlace) -> Result<Foreign, CacheError> {
        match place {
            CachePlace::Local(directory, tag) => {
                let index = read_index(directory)?.unwrap_or_else(empty_index);
                let entry = index.manifests.iter().find(|entry| is_named(entry, tag));
                let entry =
                    entry.ok_or_else(|| CacheError::Wrong(format!("there is no cache `{tag}`")))?;
                let manifest = cache_manifest(&read_blob(directory, entry)?)?;
                let config = read_blob(directory, &manifest.config)?;
                Foreign::of(place, &manifest, &config)
            }
            CachePlace::Registry(reference) => {
                let client = self.images.registry_client()?;
                let endpoint = client.push_endpoint(reference)?;
                let asked = reference.tag_or_digest();
                let got = client.manifest(&endpoint, &asked, reference.digest());
                let (bytes, _) = got.await?;
                let manifest = cache_manifest(&bytes)?;
                let config = client.small_blob(&endpoint, &manifest.config).await?;
                Foreign::of(place, &manifest, &config)
            }
        }
    }

    /// Looks for a step in the caches of elsewhere, and takes its layer into the store. One that cannot be had is a miss, with a warning.
    pub(super) async fn fetch_step(&self, key: &str) -> Result<Option<Made>, StepFailure> {
        let foreign = self.foreign.get().map(Vec::as_slice).unwrap_or_default();
        for cache in foreign {
            let Some((made, blob)) = cache.steps.get(key) else {
                continue;
            };
            if self.store().layer(&made.layer)?.is_none()
                && let Err(error) = self.fetch_layer(&cache.place, made, blob).await
            {
                self.warn(&format!(
                    "a layer of the cache `{}` is not used: {}",
                    cache.place,
                    chain(&error)
                ));
                continue;
            }
            self.cache.put(key, made)?;
            return Ok(Some(made.clone()));
        }
        Ok(None)
    }

    async fn fetch_layer(
        &self,
        place: &CachePlace,
        made: &Made,
        blob: &Descriptor,
    ) -> Result<(), CacheError> {
        let staging = self.store().staging()?;
        let path = match place {
            CachePlace::Local(directory, _) => blob_path(directory, &blob.digest),
            CachePlace::Registry(reference) => {
                let path = staging.directory().join("blob");
                let client = self.images.registry_client()?;
                let endpoint = client.push_endpoint(reference)?;
                let mut stream = client.blob(&endpoint, blob, (0, false)).await?;
                let failed = |error| CacheError::file("write", &path)(error);
                let mut file = fs_err::File::create(&path).map_err(failed)?;
                while let Some(chunk) = stream.chunk().await? {
                    file.write_all(&chunk).map_err(failed)?;
                }
                path
            }
        };
        let (wanted, blob) = (made.layer.clone(), blob.clone());
        let unpacked = beside(self.store(), move |_| {
            unpack(&path, &blob, &wanted, &staging)?;
            Ok(staging)
        });
        let staging = unpacked.await?;
        // Measured again as a layer of our own, so that an image is the same whoever made its layers.
        let record = self.store().commit_layer(staging)?;
        if record.diff_id == made.layer {
            Ok(())
        } else {
            Err(CacheError::Wrong(format!(
                "layer {} comes out as {}",
                made.layer, record.diff_id
            )))
        }
    }

    /// Writes the caches that the request names.
    pub(super) async fn write_caches(&self, layers: &[Digest]) -> Result<(), BuildError> {
        for export in &self.request.cache_to {
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
            let (diff_id, packing) = (layer.clone(), export.packing);
            let pack = beside(self.store(), move |store| pack(store, &diff_id, packing));
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
                write_layout(directory, tag, &manifest, &config, &blobs)?;
                if export.reset {
                    keep_only(directory, tag)?;
                }
                Ok(())
            }
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

/// Does something with the store in a thread of its own.
async fn beside<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let (sender, done) = oneshot::channel();
    let root = store.root().to_owned();
    std::thread::spawn(move || {
        let result = Store::open(&root)
            .map_err(CacheError::from)
            .and_then(|store| work(&store));
        // Nobody may want it any more.
        drop(sender.send(result));
    });
    let gone = |_| CacheError::Wrong("the thread that did it is gone".to_owned());
    done.await.map_err(gone)?
}

/// Unpacks a blob, which must be what it is called and hold what is wanted.
fn unpack(
    path: &Path,
    blob: &Descriptor,
    wanted: &Digest,
    staging: &Staging,
) -> Result<(), CacheError> {
    let file = fs_err::File::open(path).map_err(CacheError::file("open", path))?;
    let outcome = run(
        ReaderChunks(file),
        &mut std::io::sink(),
        &staging.diff(),
        blob.size,
    );
    let packed = outcome
        .packed
        .map_err(|error| CacheError::file("read", path)(error.into_io()))?;
    if packed.digest != blob.digest {
        return Err(CacheError::Wrong(format!(
            "blob {} is {}",
            blob.digest, packed.digest
        )));
    }
    let unpacked = outcome.unpacked;
    let found = unpacked.map_err(|error| CacheError::Wrong(chain(&error)))?;
    if found.diff_id == *wanted {
        Ok(())
    } else {
        Err(CacheError::Wrong(format!(
            "layer {wanted} is {}",
            found.diff_id
        )))
    }
}

/// Returns the compressed blob of a layer and where it lies.
fn pack(
    store: &Store,
    diff_id: &Digest,
    packing: Packing,
) -> Result<(Descriptor, PathBuf), CacheError> {
    let missing = || StoreError::NoLayer {
        diff_id: diff_id.clone(),
    };
    let named = store.layer(diff_id)?.and_then(|layer| layer.descriptor());
    let named = named.ok_or_else(missing)?;
    let blob = if named.digest == *diff_id {
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

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

fn json(document: &impl Serialize) -> Result<Vec<u8>, CacheError> {
    let written = serde_json::to_vec(document);
    written.map_err(|error| CacheError::Wrong(error.to_string()))
}

fn is_named(entry: &Descriptor, tag: &str) -> bool {
    entry
        .annotations
        .get(REF_NAME)
        .is_some_and(|name| name == tag)
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    }
}

/// Reads the index of a layout, if there is one.
fn read_index(directory: &Path) -> Result<Option<Index>, CacheError> {
    let path = directory.join("index.json");
    match fs_err::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(index) => Ok(Some(index)),
            Err(error) => Err(CacheError::file("read", &path)(error.into())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CacheError::file("read", &path)(error)),
    }
}

/// Reads a document of a layout.
fn read_blob(directory: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, CacheError> {
    let path = blob_path(directory, &descriptor.digest);
    if descriptor.size > MAX_DOCUMENT_BYTES {
        return Err(CacheError::Wrong(format!(
            "`{}` is too large",
            path.display()
        )));
    }
    let bytes = fs_err::read(&path).map_err(CacheError::file("read", &path))?;
    let found = Digest::of(&bytes);
    if found == descriptor.digest {
        Ok(bytes)
    } else {
        Err(CacheError::Wrong(format!(
            "`{}` is {found}",
            path.display()
        )))
    }
}

/// Takes everything out of a layout but the cache of that name.
fn keep_only(directory: &Path, tag: &str) -> Result<(), CacheError> {
    let mut index = read_index(directory)?.unwrap_or_else(empty_index);
    index.manifests.retain(|entry| is_named(entry, tag));
    let path = directory.join("index.json");
    let written = atomic::write(&path, &json(&index)?, 0o644, Durability::Cached);
    written.map_err(CacheError::file("write", &path))?;
    let mut kept = BTreeSet::new();
    for entry in &index.manifests {
        kept.insert(entry.digest.hex().to_owned());
        let manifest = cache_manifest(&read_blob(directory, entry)?)?;
        kept.insert(manifest.config.digest.hex().to_owned());
        kept.extend(
            manifest
                .layers
                .iter()
                .map(|blob| blob.digest.hex().to_owned()),
        );
    }
    let below = directory.join("blobs/sha256");
    let entries = fs_err::read_dir(&below).map_err(CacheError::file("read", &below))?;
    for entry in entries {
        let path = entry.map_err(CacheError::file("read", &below))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !kept.contains(&*name) {
            fs_err::remove_file(&path).map_err(CacheError::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Writes a cache into a layout, which keeps what it has by other names.
fn write_layout(
    directory: &Path,
    tag: &str,
    manifest: &Manifest,
    config: &[u8],
    blobs: &[(Descriptor, PathBuf)],
) -> Result<(), CacheError> {
    let below = directory.join("blobs/sha256");
    fs_err::create_dir_all(&below).map_err(CacheError::file("make", &below))?;
    let write = |path: &Path, bytes: &[u8]| {
        atomic::write(path, bytes, 0o644, Durability::Cached)
            .map_err(CacheError::file("write", path))
    };
    let mut done = BTreeSet::new();
    for (blob, from) in blobs {
        let to = blob_path(directory, &blob.digest);
        let size = fs_err::metadata(&to).map(|metadata| metadata.len());
        if size.is_ok_and(|size| size == blob.size) || !done.insert(&blob.digest) {
            continue;
        }
        let part = to.with_extension("part");
        fs_err::copy(from, &part).map_err(CacheError::file("write", &part))?;
        fs_err::rename(&part, &to).map_err(CacheError::file("write", &to))?;
    }
    let bytes = json(manifest)?;
    write(&blob_path(directory, &manifest.config.digest), config)?;
    let digest = Digest::of(&bytes);
    write(&blob_path(directory, &digest), &bytes)?;
    let mut index = read_index(directory)?.unwrap_or_else(empty_index);
    index.manifests.retain(|entry| !is_named(entry, tag));
    let mut entry = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
    entry
        .annotations
        .insert(REF_NAME.to_owned(), tag.to_owned());
    index.manifests.push(entry);
    write(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    write(&directory.join("index.json"), &json(&index)?)
}
