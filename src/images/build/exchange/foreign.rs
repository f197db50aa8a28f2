//! A cache of elsewhere, read: which steps it has, and where their layers are.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::super::super::beside::with_store;
use super::super::super::manifest::{
    Descriptor, Document, ImageConfig, Manifest, parse_config, parse_document,
};
use super::super::super::reference::{Digest, Reference};
use super::super::super::registry::error::chain;
use super::super::super::store::layers::{LayerRecord, Measured};
use super::super::super::store::{Staging, Store};
use super::super::super::unpack::pipeline::{ReaderChunks, run};
use super::super::builder::Build;
use super::super::cache::Made;
use super::super::error::StepFailure;
use super::super::stage::StageState;
use super::layout::{empty_index, is_named, read_blob, read_index, take_blob};
use super::{CONFIG, CacheError, CachePlace, Config, Record, inline};

/// Media type of the configuration of a cache that BuildKit wrote.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A cache of elsewhere.
pub(in super::super) struct Foreign {
    pub(super) place: CachePlace,
    /// What steps made by their keys, with the blob of the layer.
    pub(super) steps: BTreeMap<String, (Made, Descriptor)>,
    /// An image that says no keys: its configuration, and the blobs of its layers.
    pub(super) image: Option<(ImageConfig, Vec<Descriptor>)>,
}

impl Foreign {
    /// Reads a cache's configuration.
    fn of_cache(
        place: &CachePlace,
        manifest: &Manifest,
        config: &[u8],
    ) -> Result<Self, CacheError> {
        let config: Config = serde_json::from_slice(config)
            .map_err(|error| CacheError::Wrong(format!("its configuration: {error}")))?;
        let layers = (config.layers.as_slice(), manifest.layers.as_slice());
        Ok(Self {
            place: place.clone(),
            steps: steps(config.records, layers)?,
            image: None,
        })
    }

    /// Reads the configuration of an image, which may have the keys of its steps; without them there is its history.
    pub(super) fn of_image(
        place: &CachePlace,
        blobs: &[Descriptor],
        config: ImageConfig,
    ) -> Result<Self, CacheError> {
        let layers = (config.rootfs.diff_ids.as_slice(), blobs);
        let records = inline::records_in(&config)?.unwrap_or_default();
        let steps = steps(records, layers)?;
        Ok(Self {
            place: place.clone(),
            image: steps.is_empty().then(|| (config, blobs.to_vec())),
            steps,
        })
    }

    /// Returns what it has for the key of a step.
    fn step(&self, key: &str) -> Option<(Made, Descriptor)> {
        self.steps.get(key).cloned()
    }

    /// Returns what it has for a step that comes after `state` and is in the history as `by`.
    fn step_after(&self, state: &StageState, by: &str) -> Option<(Made, Descriptor)> {
        let (config, blobs) = self.image.as_ref()?;
        let made = inline::step_after(config, &state.config, &state.layers, by)?;
        let blob = blobs.get(state.layers.len())?;
        Some((made, blob.clone()))
    }
}

/// Connects records with layers.
fn steps(
    records: Vec<Record>,
    (diff_ids, blobs): (&[Digest], &[Descriptor]),
) -> Result<BTreeMap<String, (Made, Descriptor)>, CacheError> {
    let wrong = |message: String| CacheError::Wrong(message);
    if diff_ids.len() != blobs.len() {
        return Err(wrong("it has not as many layers as it names".to_owned()));
    }
    let mut steps = BTreeMap::new();
    for Record {
        key,
        layer,
        created,
    } in records
    {
        let is_key = key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
        let is_time = created.parse::<jiff::Timestamp>().is_ok();
        let found = diff_ids.get(layer).zip(blobs.get(layer));
        match found {
            Some((diff_id, blob)) if is_key && is_time => {
                let layer = diff_id.clone();
                steps.insert(key, (Made { layer, created }, blob.clone()));
            }
            _ => return Err(wrong(format!("its record `{key}` says nothing"))),
        }
    }
    Ok(steps)
}

/// Requires that a manifest is that of a cache.
pub(super) fn cache_manifest(bytes: &[u8]) -> Result<Manifest, CacheError> {
    // An index has no configuration, and an image one of another type.
    match serde_json::from_slice::<Manifest>(bytes) {
        Ok(manifest) if manifest.config.media_type == CONFIG => Ok(manifest),
        Ok(_) | Err(_) => Err(not_ours()),
    }
}

fn not_ours() -> CacheError {
    CacheError::Wrong("it is no cache of this builder".to_owned())
}

impl Build<'_> {
    /// Reads a cache.
    pub(super) async fn read_cache(&self, place: &CachePlace) -> Result<Foreign, CacheError> {
        match place {
            CachePlace::Inline => Err(not_ours()),
            CachePlace::Local(directory, tag) => {
                let index = read_index(directory)?.unwrap_or_else(empty_index);
                let entry = index.manifests.iter().find(|entry| is_named(entry, tag));
                let entry =
                    entry.ok_or_else(|| CacheError::Wrong(format!("there is no cache `{tag}`")))?;
                let manifest = cache_manifest(&read_blob(directory, entry)?)?;
                let config = read_blob(directory, &manifest.config)?;
                Foreign::of_cache(place, &manifest, &config)
            }
            CachePlace::Registry(reference) => match self.read_remote(place, reference).await {
                Err(error) => match self.read_present(place, reference)? {
                    Some(image) => Ok(image),
                    None => Err(error),
                },
                read => read,
            },
        }
    }

    /// Reads an image that is here under the name of a cache: whoever pulled it before the build need not be able to do so now.
    fn read_present(
        &self,
        place: &CachePlace,
        reference: &Reference,
    ) -> Result<Option<Foreign>, CacheError> {
        let Some(image) = self.store().resolve(reference)? else {
            return Ok(None);
        };
        let mut blobs = Vec::new();
        for diff_id in &image.layers {
            let layer = self.store().layer(diff_id)?;
            let blob = layer.and_then(|layer| layer.descriptor());
            blobs.push(blob.ok_or_else(|| CacheError::Wrong(format!("layer {diff_id} is gone")))?);
        }
        Foreign::of_image(place, &blobs, image.config).map(Some)
    }

    /// Reads a cache or an image in a registry.
    async fn read_remote(
        &self,
        place: &CachePlace,
        reference: &Reference,
    ) -> Result<Foreign, CacheError> {
        let client = self.images.registry_client()?;
        let endpoint = client.push_endpoint(reference)?;
        let asked = reference.tag_or_digest();
        let got = client.manifest(&endpoint, &asked, reference.digest());
        let (mut bytes, mut kind) = got.await?;
        if let Some(chosen) = self.chosen_of(&bytes, kind.as_deref())? {
            let digest = chosen.digest.to_string();
            let got = client.manifest(&endpoint, &digest, Some(&chosen.digest));
            (bytes, kind) = got.await?;
        }
        let manifest: Manifest = match parse_document(&bytes, kind.as_deref()) {
            Ok(Document::Manifest(manifest)) => *manifest,
            // Such as a cache's own, whose configuration is none of an image.
            Ok(Document::Index(_)) | Err(_) => {
                serde_json::from_slice(&bytes).map_err(|_| not_ours())?
            }
        };
        let config_kind = manifest.config.media_type.clone();
        if config_kind == BUILDKIT {
            return Err(of_buildkit());
        }
        let config = client.small_blob(&endpoint, &manifest.config).await?;
        if config_kind == CONFIG {
            return Foreign::of_cache(place, &manifest, &config);
        }
        let config = parse_config(&config).map_err(|_| not_ours())?;
        Foreign::of_image(place, &manifest.layers, config)
    }

    /// Returns the manifest that is meant where a document lists several.
    fn chosen_of(
        &self,
        bytes: &[u8],
        kind: Option<&str>,
    ) -> Result<Option<Descriptor>, CacheError> {
        let Ok(Document::Index(index)) = parse_document(bytes, kind) else {
            return Ok(None);
        };
        if index
            .manifests
            .iter()
            .any(|entry| entry.media_type == BUILDKIT)
        {
            return Err(of_buildkit());
        }
        let chosen = index.choose(&self.request.platform);
        let chosen = chosen.map_err(|error| CacheError::Wrong(chain(&error)))?;
        Ok(Some(chosen.clone()))
    }

    /// Looks for a step in the caches of elsewhere, and takes its layer into the store. One that cannot be had is a miss, with a warning.
    pub(in super::super) async fn fetch_step(
        &self,
        key: &str,
    ) -> Result<Option<Made>, StepFailure> {
        self.fetch_first(key, |cache| cache.step(key)).await
    }

    /// Looks for a step in the histories of images that say no keys. What it does must depend on nothing that a history does not say.
    pub(in super::super) async fn fetch_step_after(
        &self,
        state: &StageState,
        by: &str,
        key: &str,
    ) -> Result<Option<Made>, StepFailure> {
        self.fetch_first(key, |cache| cache.step_after(state, by))
            .await
    }

    /// Takes the first layer that a cache has for a step.
    async fn fetch_first(
        &self,
        key: &str,
        find: impl Fn(&Foreign) -> Option<(Made, Descriptor)>,
    ) -> Result<Option<Made>, StepFailure> {
        let foreign = self.foreign.get().map(Vec::as_slice).unwrap_or_default();
        for cache in foreign {
            let Some((made, blob)) = find(cache) else {
                continue;
            };
            if self.store().layer(&made.layer)?.is_none()
                && let Err(error) = self.fetch_layer(&cache.place, &made, &blob).await
            {
                self.warn(&format!(
                    "a layer of the cache `{}` is not used: {}",
                    cache.place,
                    chain(&error)
                ));
                continue;
            }
            self.cache.put(key, &made)?;
            return Ok(Some(made));
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
        let path = staging.directory().join("blob");
        match place {
            CachePlace::Inline => return Err(not_ours()),
            CachePlace::Local(directory, _) => {
                take_blob(directory, blob, &path)?;
            }
            CachePlace::Registry(reference) => {
                let client = self.images.registry_client()?;
                let endpoint = client.push_endpoint(reference)?;
                let mut stream = client.blob(&endpoint, blob, (0, false)).await?;
                let failed = |error| CacheError::file("write", &path)(error);
                let mut file = fs_err::File::create(&path).map_err(failed)?;
                let mut length = 0;
                while let Some(chunk) = stream.chunk().await? {
                    length += chunk.len() as u64;
                    if length > blob.size {
                        let text = format!("`{}` is larger than it is said to be", blob.digest);
                        return Err(CacheError::Wrong(text));
                    }
                    file.write_all(&chunk).map_err(failed)?;
                }
            }
        }
        let (wanted, blob) = (made.layer.clone(), blob.clone());
        with_store(self.store(), move |store| {
            take(store, &path, blob, &wanted, &staging)
        })
        .await
    }
}

fn of_buildkit() -> CacheError {
    CacheError::Wrong(
        "it is a cache of BuildKit, whose keys are of its own; the images that were built with it serve"
            .to_owned(),
    )
}

/// Unpacks a blob, which must be what it is called and hold what is wanted, and takes the layer into the store: as one of our own where
/// it could be made here, so that an image is the same whoever made its layers, else with its blob.
fn take(
    store: &Store,
    path: &Path,
    mut blob: Descriptor,
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
        let message = format!("blob {} is {}", blob.digest, packed.digest);
        return Err(CacheError::Wrong(message));
    }
    let unpacked = outcome.unpacked;
    let found = unpacked.map_err(|error| CacheError::Wrong(chain(&error)))?;
    if found.diff_id != *wanted {
        let message = format!("layer {wanted} is {}", found.diff_id);
        return Err(CacheError::Wrong(message));
    }
    let measured = Measured::of(&staging.diff())?;
    if measured.is(wanted) {
        store.commit_measured(staging, measured)?;
        return Ok(());
    }
    // What has to take something from the layers below does not stand alone.
    if !found.report.implied.is_empty() || !found.report.lower_links.is_empty() {
        let message = format!("layer {wanted} does not say all that is in it");
        return Err(CacheError::Wrong(message));
    }
    blob.annotations.clear();
    let record = LayerRecord::new(found.diff_id, blob, found.report);
    store.place_layer(staging, Some(path), record)?;
    Ok(())
}
