//! Images out of a tar: see the drawing in [`super`].
//!
//! An archive with an OCI layout is read as one, since its manifests say most; else its `manifest.json` counts. Nothing is believed:
//! blobs must be what their names say, layers must unpack to the diff ids of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::manifest::{
    Descriptor, Document, ImageConfig, Index, Manifest, ManifestError, OCI_LAYER, Platform,
    parse_config, parse_document,
};
use super::super::progress::BlobState;
use super::super::reference::{Digest, Reference};
use super::super::store::{Image, LayerRecord, Store, StoreError, check_tag};
use super::super::unpack::UnpackError;
use super::super::unpack::pipeline::{ReaderChunks, run};
use super::spool::{Spool, Spooled};
use super::{ArchivedImage, FULL_NAME, REF_NAME};

/// Hears, from any thread, where a layer of an image stands: the image as people write it, the layer's digest.
pub type Told<'a> = &'a (dyn Fn(&str, &Digest, BlobState) + Sync);

/// Layers that are unpacked at once.
const LAYERS_AT_ONCE: usize = 4;
/// Indexes in indexes.
const MAX_DEPTH: usize = 8;

/// An archive that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tar itself.
    #[error("read the archive")]
    Read(#[source] UnpackError),
    /// A compression that we have no reader for.
    #[error(
        "the archive is compressed with {0}, which is not supported: decompress it first (`{1} -dc FILE | stack image load`)"
    )]
    Compression(&'static str, &'static str),
    /// Not an archive of images.
    #[error("invalid archive: does not contain a manifest.json")]
    NoManifest,
    /// An archive that would load nothing: that is no success.
    #[error("invalid archive: `{path}` names no image")]
    Empty {
        /// Which document.
        path: &'static str,
    },
    /// A document within.
    #[error("invalid archive: `{path}`")]
    Document {
        /// Which.
        path: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A document within that is not JSON of the right shape.
    #[error("invalid archive: `{path}`")]
    Json {
        /// Which.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file that a document names.
    #[error("invalid archive: `{path}` is missing")]
    Missing {
        /// Which.
        path: String,
    },
    /// A blob that is not as long as its descriptor says: the image could not be pushed, nor copied by anything that checks.
    #[error("invalid archive: `{path}` has {found} bytes, and is described with {expected}")]
    Size {
        /// Which.
        path: String,
        /// As described.
        expected: u64,
        /// Of the file.
        found: u64,
    },
    /// A layer that is not what the configuration says.
    #[error("invalid diffID for layer {number}: expected \"{expected}\", got \"{found}\"")]
    DiffId {
        /// From 0, bottom first, as Docker counts.
        number: usize,
        /// In the configuration.
        expected: Digest,
        /// Of the layer.
        found: Digest,
    },
    /// A name that is none.
    #[error("invalid archive: the name `{name}`")]
    Name {
        /// As written.
        name: String,
        /// Why not.
        #[source]
        source: super::super::reference::ReferenceError,
    },
    /// A name that is more, or less, than a tag.
    #[error("invalid tag \"{name}\"")]
    Tag {
        /// As written.
        name: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// Not there, or several without one of that name.
    #[error("the OCI layout `{}` has no image `{image}`", path.display())]
    NoImage {
        /// Directory of the layout.
        path: std::path::PathBuf,
        /// A tag or digest.
        image: String,
    },
    /// A layout that was asked for in other words than it can be.
    #[error("`oci-layout://{text}` is not oci-layout://PATH[:TAG][@DIGEST]")]
    Layout {
        /// As written, without its scheme.
        text: String,
    },
    /// No image for that machine.
    #[error("the archive has no image for the platform {platform}")]
    Platform {
        /// As asked for.
        platform: Platform,
    },
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub id: Digest,
    /// Its names in the archive.
    pub names: Vec<Reference>,
    /// Names that another image had until now, and its id.
    pub replaced: Vec<(Reference, Digest)>,
}

/// What an archive says of one image. Its documents stay in their files: many images may share a large one.
struct Found {
    names: Vec<Reference>,
    config: Spooled,
    /// Of the configuration, in the archive.
    config_path: String,
    /// Its manifest where it has one.
    manifest: Option<Spooled>,
    /// Bottom first, with the file in the archive where there is one.
    layers: Vec<(Descriptor, Option<Spooled>)>,
}

impl Found {
    /// Reads the configuration, as it is and as what it says.
    fn config(&self) -> Result<(Vec<u8>, ImageConfig), LoadError> {
        let bytes = self.config.bytes()?;
        let config = parse_config(&bytes).map_err(|source| LoadError::Document {
            path: self.config_path.clone(),
            source,
        })?;
        Ok((bytes, config))
    }
}

/// Loads every image of an archive that is for `platform`; without one, that is for this machine where there is a choice.
pub(in crate::images) fn load(
    store: &Store,
    source: impl Read + Send + 'static,
    platform: Option<&Platform>,
    told: Told<'_>,
) -> Result<Vec<Loaded>, LoadError> {
    // From the first layer to the last name nothing of it is garbage.
    let staging = store.staging()?;
    let directory = staging.directory().join("spool");
    fs_err::create_dir(&directory).map_err(StoreError::io("make", &directory))?;
    let spool = Spool::read(source, &directory)?;
    let (found, several) = if spool.get("index.json").is_some() && spool.get("oci-layout").is_some()
    {
        from_layout(&spool, platform)?
    } else {
        (from_list(&spool, platform)?, Vec::new())
    };
    // All is known to be whole before anything is kept.
    found.iter().try_for_each(check)?;
    several.iter().try_for_each(Several::check)?;
    let kept = found.into_iter().map(|image| keep(store, image, told));
    let kept_several = several.into_iter().map(|group| group.keep(store, told));
    kept.chain(kept_several).collect()
}

/// Reads `index.json`.
fn from_layout(
    spool: &Spool,
    platform: Option<&Platform>,
) -> Result<(Vec<Found>, Vec<Several>), LoadError> {
    let index: Index = json(spool, "index.json")?;
    let Some(first) = index.manifests.first().map(|entry| entry.digest.clone()) else {
        let path = "index.json";
        return Err(LoadError::Empty { path });
    };
    let is_here = |entry: &Descriptor| spool.blob(&entry.digest).map(|file| file.is_some());
    let mut any = false;
    for entry in &index.manifests {
        any |= is_here(entry)?;
    }
    if !any {
        let path = format!("blobs/sha256/{}", first.hex());
        return Err(LoadError::Missing { path });
    }
    let mut named: BTreeMap<Option<Reference>, Vec<Descriptor>> = BTreeMap::new();
    let mut order: Vec<Option<Reference>> = Vec::new();
    let mut nameless: Vec<Descriptor> = Vec::new();
    for entry in index.manifests {
        let name = name_of(&entry)?;
        if name.is_none() && platform.is_none() {
            nameless.push(entry);
            continue;
        }
        if !order.contains(&name) {
            order.push(name.clone());
        }
        named.entry(name).or_default().push(entry);
    }
    // What has no name stands for itself.
    let groups = order.into_iter().map(|name| {
        let entries = named.remove(&name).unwrap_or_default();
        (name, entries)
    });
    let nameless = nameless.into_iter().map(|entry| (None, vec![entry]));
    let groups: Vec<_> = groups.chain(nameless).collect();
    let mut found: Vec<(Digest, Found)> = Vec::new();
    let mut several: Vec<Several> = Vec::new();
    for (name, entries) in groups {
        if platform.is_none()
            && let Some(group) = Several::of(spool, &entries, name.as_ref())?
        {
            match several.iter_mut().find(|same| same.is(&group)) {
                Some(same) => same.names.extend(name),
                None => several.push(group),
            }
            continue;
        }
        for entry in choose(spool, &entries, platform)? {
            let same = found.iter_mut().find(|(digest, _)| *digest == entry.digest);
            if let Some((_, same)) = same {
                same.names.extend(name.clone());
                continue;
            }
            let mut image = from_manifest(spool, &entry)?;
            image.names.extend(name.clone());
            found.push((entry.digest, image));
        }
    }
    if found.is_empty() && several.is_empty() {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        return Err(LoadError::Platform { platform });
    }
    let found = found.into_iter().map(|(_, image)| image);
    Ok((found.collect(), several))
}

/// Returns the name that an entry of `index.json` gives its image.
fn name_of(entry: &Descriptor) -> Result<Option<Reference>, LoadError> {
    let full = entry.annotations.get(FULL_NAME);
    // The other one is a tag alone, or any name of a tool's choice.
    let other = entry
        .annotations
        .get(REF_NAME)
        .filter(|name| name.contains(['/', ':']));
    let Some(name) = full.or(other) else {
        return Ok(None);
    };
    let parsed = Reference::parse(name).map_err(|source| LoadError::Name {
        name: name.clone(),
        source,
    })?;
    Ok(Some(parsed).filter(|name| name.digest().is_none()))
}

/// Returns the manifests to load of entries that stand for one name: what is in indexes, too.
fn choose(
    spool: &Spool,
    entries: &[Descriptor],
    platform: Option<&Platform>,
) -> Result<Vec<Descriptor>, LoadError> {
    let mut manifests = Vec::new();
    flatten(spool, entries, 0, &mut BTreeSet::new(), &mut manifests)?;
    let mut platforms = BTreeSet::new();
    let distinct = manifests
        .iter()
        .all(|(_, platform)| platforms.insert(platform.clone()));
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    if !distinct && platform.is_none() {
        return Ok(manifests.into_iter().map(|(entry, _)| entry).collect());
    }
    let preferred = if platform.is_some() {
        vec![wanted.clone()]
    } else {
        wanted.preferences()
    };
    for wanted in &preferred {
        let fits = manifests.iter().filter(|(_, platform)| platform == wanted);
        let fits: Vec<Descriptor> = fits.map(|(entry, _)| entry.clone()).collect();
        if !fits.is_empty() {
            return Ok(fits);
        }
    }
    match (manifests.as_slice(), platform) {
        ([], _) => Ok(Vec::new()),
        // Nothing else was asked for, and there is nothing else.
        ([(only, _)], None) => Ok(vec![only.clone()]),
        _ => Err(LoadError::Platform { platform: wanted }),
    }
}

/// Collects the manifests whose configuration is in the archive, each once, with what it runs on.
///
/// `seen` keeps the work within the archive's own size: a few indexes that name each other ten times over come to millions of ways.
fn flatten(
    spool: &Spool,
    entries: &[Descriptor],
    depth: usize,
    seen: &mut BTreeSet<Digest>,
    manifests: &mut Vec<(Descriptor, Platform)>,
) -> Result<(), LoadError> {
    for entry in entries {
        let path = format!("blobs/sha256/{}", entry.digest.hex());
        if !seen.insert(entry.digest.clone()) {
            continue;
        }
        // Of an image for several machines, those that were not saved are missing.
        let Some(file) = spool.described(entry)? else {
            continue;
        };
        let bytes = file.bytes()?;
        let invalid = |source| LoadError::Document {
            path: path.clone(),
            source,
        };
        match parse_document(&bytes, Some(&entry.media_type)) {
            Ok(Document::Index(index)) if depth < MAX_DEPTH => {
                flatten(spool, &index.manifests, depth + 1, seen, manifests)?;
            }
            Ok(Document::Manifest(manifest)) => {
                if entry.is_attestation() {
                    continue;
                }
                if let Some(config) = spool.described(&manifest.config)? {
                    let config = parse_config(&config.bytes()?).map_err(invalid)?;
                    manifests.push((entry.clone(), config.platform()));
                }
            }
            // Attestations and other artifacts are no images, nor is what hides that deep.
            Ok(Document::Index(_)) | Err(ManifestError::MediaType { .. }) => {}
            Err(source) => return Err(invalid(source)),
        }
    }
    Ok(())
}

/// Reads an image by its manifest.
fn from_manifest(spool: &Spool, entry: &Descriptor) -> Result<Found, LoadError> {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let missing = |digest: &Digest| LoadError::Missing { path: path(digest) };
    let file = spool.described(entry)?;
    let manifest = file.ok_or_else(|| missing(&entry.digest))?;
    let document = parse_document(&manifest.bytes()?, Some(&entry.media_type));
    let invalid = |source| LoadError::Document {
        path: path(&entry.digest),
        source,
    };
    let Document::Manifest(document) = document.map_err(invalid)? else {
        return Err(missing(&entry.digest));
    };
    let Manifest { config, layers, .. } = *document;
    let file = spool.described(&config)?;
    let file = file.ok_or_else(|| missing(&config.digest))?;
    let mut found = Vec::new();
    for layer in layers {
        let file = spool.described(&layer)?.cloned();
        found.push((layer, file));
    }
    Ok(Found {
        names: Vec::new(),
        config: file.clone(),
        config_path: path(&config.digest),
        manifest: Some(manifest.clone()),
        layers: found,
    })
}

/// Reads `manifest.json`.
fn from_list(spool: &Spool, platform: Option<&Platform>) -> Result<Vec<Found>, LoadError> {
    if spool.get("manifest.json").is_none() {
        return Err(LoadError::NoManifest);
    }
    let list: Vec<ArchivedImage> = json(spool, "manifest.json")?;
    if list.is_empty() {
        let path = "manifest.json";
        return Err(LoadError::Empty { path });
    }
    let mut images = Vec::new();
    for entry in list {
        let file = |path: &str| {
            let found = spool.get(path);
            found.ok_or_else(|| LoadError::Missing {
                path: path.to_owned(),
            })
        };
        let config = file(&entry.config)?.clone();
        let mut layers = Vec::new();
        for path in entry.layers.unwrap_or_default() {
            let file = file(&path)?;
            // What it is compressed with shows when it is unpacked.
            let descriptor = Descriptor::new(OCI_LAYER, file.digest.clone(), file.size);
            layers.push((descriptor, Some(file.clone())));
        }
        let names = entry.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| {
            Reference::parse(name).map_err(|source| LoadError::Name {
                name: name.clone(),
                source,
            })
        });
        images.push(Found {
            names: names.collect::<Result<_, _>>()?,
            config,
            config_path: entry.config,
            manifest: None,
            layers,
        });
    }
    let Some(platform) = platform else {
        return Ok(images);
    };
    let mut fitting = Vec::new();
    for image in images {
        if image.config()?.1.platform() == *platform {
            fitting.push(image);
        }
    }
    if fitting.is_empty() {
        let platform = platform.clone();
        return Err(LoadError::Platform { platform });
    }
    Ok(fitting)
}

fn json<T: serde::de::DeserializeOwned>(spool: &Spool, path: &str) -> Result<T, LoadError> {
    let file = spool.get(path);
    let missing = || LoadError::Missing {
        path: path.to_owned(),
    };
    let bytes = file.ok_or_else(missing)?.bytes()?;
    serde_json::from_slice(&bytes).map_err(|source| LoadError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Checks what needs no unpacking.
fn check(image: &Found) -> Result<(), LoadError> {
    check_names(&image.names)?;
    let diff_ids = image.config()?.1.rootfs.diff_ids.len();
    let layers = image.layers.len();
    if layers == diff_ids {
        return Ok(());
    }
    Err(LoadError::Document {
        path: format!("configuration {}", image.config.digest),
        source: ManifestError::LayerCount { layers, diff_ids },
    })
}

/// Checks the names that an archive gives an image.
fn check_names(names: &[Reference]) -> Result<(), LoadError> {
    names.iter().try_for_each(|name| {
        // Nobody has checked a digest that it claims, and no name may read like an id.
        check_tag(name).map_err(|source| LoadError::Tag {
            name: name.familiar(),
            source: Box::new(source),
        })
    })
}

/// Puts an image into the store, under its names.
fn keep(store: &Store, image: Found, told: Told<'_>) -> Result<Loaded, LoadError> {
    let names = image.names.clone();
    let shown = names.first().map(Reference::familiar);
    let image = take(store, image, shown, told)?;
    let replaced = replaced(store, &names, &image.id)?;
    let references: Vec<&Reference> = names.iter().collect();
    store.adopt(&image, &references, None)?;
    Ok(Loaded {
        id: image.id,
        names,
        replaced,
    })
}

/// Returns the names that something else has, with its id.
fn replaced(
    store: &Store,
    names: &[Reference],
    id: &Digest,
) -> Result<Vec<(Reference, Digest)>, LoadError> {
    let mut replaced = Vec::new();
    for name in names {
        let before = store.find_known(&name.to_string())?;
        let before = before.filter(|before| before.id != *id);
        replaced.extend(before.map(|before| (name.clone(), before.id)));
    }
    Ok(replaced)
}

/// Puts an image into the store, where nothing names it yet; it is `shown` so meanwhile.
fn take(
    store: &Store,
    image: Found,
    shown: Option<String>,
    told: Told<'_>,
) -> Result<Image, LoadError> {
    let (config_bytes, config) = image.config()?;
    let Found {
        manifest,
        mut layers,
        config: Spooled { digest: id, .. },
        ..
    } = image;
    let shown = shown.unwrap_or_else(|| id.short().to_owned());
    let told = |layer: &Digest, state| told(&shown, layer, state);
    let known = match &manifest {
        Some(manifest) => store.load(&manifest.digest)?,
        None => store.image_of(&id)?,
    };
    if let Some(image) = known {
        for (layer, _) in &layers {
            told(&layer.digest, BlobState::Exists);
        }
        return Ok(image);
    }
    unpack(store, &config.rootfs.diff_ids, &mut layers, &told)?;
    let layers = layers.into_iter().map(|(descriptor, _)| descriptor);
    let manifest = manifest.map(|manifest| manifest.bytes()).transpose()?;
    Ok(store.put_documents(&config_bytes, config, manifest.as_deref(), layers.collect())?)
}

/// Unpacks the layers that are not here yet, several at once.
fn unpack(
    store: &Store,
    diff_ids: &[Digest],
    layers: &mut [(Descriptor, Option<Spooled>)],
    told: &(dyn Fn(&Digest, BlobState) + Sync),
) -> Result<(), LoadError> {
    let mut work = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, (diff_id, (descriptor, file))) in diff_ids.iter().zip(layers.iter()).enumerate() {
        let record = store.layer(diff_id)?;
        let is_here = record.is_some_and(|record| record.has_blob(&descriptor.digest));
        if is_here {
            told(&descriptor.digest, BlobState::Exists);
        }
        if is_here || !seen.insert(&descriptor.digest) {
            continue;
        }
        told(&descriptor.digest, BlobState::Waiting);
        let file = file.as_ref().ok_or_else(|| LoadError::Missing {
            path: format!("blobs/sha256/{}", descriptor.digest.hex()),
        })?;
        work.push((number, diff_id, descriptor, file));
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(&(number, diff_id, descriptor, file)) =
            work.get(next.fetch_add(1, Ordering::Relaxed))
        {
            unpack_one(store, number, (diff_id, descriptor, file), told)?;
            told(&descriptor.digest, BlobState::Loaded);
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(LAYERS_AT_ONCE).min(work.len());
    let results: Vec<Result<(), LoadError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let panicked = || {
            let error = std::io::Error::other("the thread that did it panicked");
            StoreError::io("unpack layers in", store.root())(error).into()
        };
        let joined = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|done| done.unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    // Media types as the layers turned out to be.
    for (diff_id, (descriptor, _)) in diff_ids.iter().zip(layers) {
        if let Some(record) = store.layer(diff_id)?
            && let Some(blob) = record
                .blobs
                .iter()
                .find(|blob| blob.digest == descriptor.digest)
        {
            *descriptor = blob.clone();
        }
    }
    Ok(())
}

fn unpack_one(
    store: &Store,
    number: usize,
    (diff_id, descriptor, file): (&Digest, &Descriptor, &Spooled),
    told: &(dyn Fn(&Digest, BlobState) + Sync),
) -> Result<(), LoadError> {
    let staging = store.staging()?;
    let source = fs_err::File::open(&file.path).map_err(StoreError::io("open", &file.path))?;
    let source = Watched {
        source,
        done_bytes: 0,
        told: |done_bytes| {
            let total_bytes = file.size;
            let state = BlobState::Loading {
                done_bytes,
                total_bytes,
            };
            told(&descriptor.digest, state);
        },
    };
    let outcome = run(
        ReaderChunks(source),
        &mut std::io::sink(),
        &staging.diff(),
        u64::MAX,
    );
    let packed = outcome
        .packed
        .map_err(|error| StoreError::io("read", &file.path)(error.into_io()))?;
    let unusable = |source| StoreError::Unpack {
        layer: descriptor.digest.to_string(),
        source,
    };
    let unpacked = outcome.unpacked.map_err(unusable)?;
    if unpacked.diff_id != *diff_id {
        return Err(LoadError::DiffId {
            number,
            expected: diff_id.clone(),
            found: unpacked.diff_id,
        });
    }
    let media_type = format!("{OCI_LAYER}{}", packed.compression);
    let blob = Descriptor::new(&media_type, file.digest.clone(), file.size);
    let record = LayerRecord::new(unpacked.diff_id, blob, unpacked.report);
    store.place_layer(&staging, Some(&file.path), record)?;
    Ok(())
}

/// Tells how far it is.
struct Watched<R, F> {
    source: R,
    done_bytes: u64,
    told: F,
}

impl<R: Read, F: Fn(u64)> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.done_bytes += length as u64;
        (self.told)(self.done_bytes);
        Ok(length)
    }
}

mod layout;
mod several;
#[cfg(test)]
mod tests;

pub use layout::LayoutImage;
pub(in crate::images) use layout::load_layout;
use several::Several;
