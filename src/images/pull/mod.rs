//! Pulls an image: from its registry into the store, each byte touched once.
//!
//! ```text
//! endpoint by endpoint (mirrors first): manifest, of an index the one for the platform, configuration
//! layers, six at a time: here? ─no─> flock (somebody else at it? wait, look again) ─> partial blob, then stream ─> pipeline ─> rename
//! at last: one syncfs, the name
//! ```
//!
//! An image that is here is asked after with HEAD first: where the name still has the digest that it was pulled with, that was all.
//!
//! A layer is asked of the endpoint that had the manifest, then of the others. Its bytes go to `images/partial/`, so a download that
//! breaks off, is interrupted or killed goes on where it stopped, at any endpoint: the next one hashes and unpacks what is there
//! and asks for the rest. Where that comes to another digest, all is fetched once more. The thread that unpacks owns the
//! temporary directory, so one that is stopped halfway cleans up after itself; a killed process leaves that to the next command.

use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::beside::with_store;
use super::error::ImageError;
use super::manifest::{
    Descriptor, Document, ImageConfig, Manifest, ManifestError, Platform, parse_config,
    parse_document,
};
use super::progress::{BlobState, Progress};
use super::reference::{Digest, Reference};
use super::registry::client::check_digest;
use super::registry::config::Endpoint;
use super::registry::error::chain;
use super::registry::fetch::{BlobStream, check_size};
use super::registry::transport::Http;
use super::registry::{Client, ClientEnvironment, RegistryError};
use super::store::{
    Image, LayerLock, LayerRecord, Partial, Staging, Store, StoreError, check_repository,
};
use super::unpack::UnpackError;
use super::unpack::pipeline::{Outcome, PackedError};
use unpacking::{CHUNK_BYTES, Unpacking};

mod unpacking;

const LAYERS_AT_ONCE: usize = 6;

/// What came of a pull.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulled {
    /// Now under that name.
    pub image: Image,
    /// What the registry's name stands for: an index, or a manifest.
    pub source: Digest,
    /// Whether the name stood for something else here before.
    pub is_new: bool,
}

/// Whether what is pulled gets the name that it is pulled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Whatever has it until now.
    Take,
    /// Unless it would take it from something else.
    Keep,
}

/// Gets an image from its registry.
pub(super) async fn pull(
    store: &Store,
    client: &Client<'_>,
    reference: &Reference,
    (platform, naming): (&Platform, Naming),
    progress: &dyn Progress,
) -> Result<Pulled, ImageError> {
    let failed = |source| ImageError::Pull {
        reference: reference.familiar(),
        source: Box::new(source),
    };
    // Said before anything is downloaded.
    check_repository(reference)?;
    let _hold = store.hold()?;
    let endpoints = client.endpoints(reference).map_err(failed)?;
    let before = store.resolve_for(reference, platform)?;
    let before = before.zip(store.source(reference)?);
    if let Some(known) = &before
        && known.0.config.platform() == *platform
        && is_current(client, &endpoints, reference, &known.1).await
        && let Some(layers) = complete(store, &known.0)?
    {
        for state in [BlobState::Waiting, BlobState::Exists] {
            for digest in &layers {
                progress.blob(digest, state);
            }
        }
        let (image, source) = known.clone();
        return Ok(Pulled {
            image,
            source,
            is_new: false,
        });
    }
    let found = find(client, &endpoints, reference, platform)
        .await
        .map_err(failed)?;
    let pull = Pull {
        store,
        client,
        progress,
        reference,
        endpoints: &found.endpoints,
    };
    let mut layers: Vec<(&Descriptor, &Digest)> = Vec::new();
    for pair in found
        .manifest
        .layers
        .iter()
        .zip(&found.config.rootfs.diff_ids)
    {
        if !layers.contains(&pair) {
            layers.push(pair);
        }
    }
    for (descriptor, _) in &layers {
        progress.blob(&descriptor.digest, BlobState::Waiting);
    }
    let tasks = layers
        .iter()
        .map(|(descriptor, diff_id)| pull.layer(descriptor, diff_id));
    let tasks = futures_util::stream::iter(tasks).buffer_unordered(LAYERS_AT_ONCE);
    tasks.try_collect::<Vec<()>>().await?;
    for bytes in &found.documents {
        store.put_blob(bytes)?;
    }
    let image = Image {
        id: found.manifest.config.digest.clone(),
        manifest: found.digest,
        layers: found.config.rootfs.diff_ids.clone(),
        config: found.config,
    };
    let names: &[&Reference] = match naming {
        Naming::Keep if store.displaces(&image, reference, &found.source)? => &[],
        Naming::Keep | Naming::Take => &[reference],
    };
    store.adopt(&image, names, Some(&found.source))?;
    let is_new = before != Some((image.clone(), found.source.clone()));
    Ok(Pulled {
        image,
        source: found.source,
        is_new,
    })
}

/// Whether the registry's name still stands for `digest`. One that cannot be asked is asked again for all.
async fn is_current(
    client: &Client<'_>,
    endpoints: &[Endpoint],
    reference: &Reference,
    digest: &Digest,
) -> bool {
    if let Some(asked) = reference.digest() {
        return asked == digest;
    }
    match endpoints.iter().find(|endpoint| endpoint.resolve) {
        Some(endpoint) => {
            let found = client.digest_of(endpoint, &reference.tag_or_digest()).await;
            found.is_ok_and(|found| found == *digest)
        }
        None => false,
    }
}

/// Returns the blobs of the layers of an image that is here with all of them.
fn complete(store: &Store, image: &Image) -> Result<Option<Vec<Digest>>, StoreError> {
    let Some(bytes) = store.read_blob(&image.manifest)? else {
        return Ok(None);
    };
    let Ok(Document::Manifest(manifest)) = parse_document(&bytes, None) else {
        return Ok(None);
    };
    let mut blobs: Vec<Digest> = Vec::new();
    for (descriptor, diff_id) in manifest.layers.iter().zip(&image.layers) {
        if !is_here(store, descriptor, diff_id)? {
            return Ok(None);
        }
        if !blobs.contains(&descriptor.digest) {
            blobs.push(descriptor.digest.clone());
        }
    }
    Ok(Some(blobs))
}

/// Whether the layer is unpacked and this blob of it is kept.
fn is_here(store: &Store, descriptor: &Descriptor, diff_id: &Digest) -> Result<bool, StoreError> {
    let record = store.layer(diff_id)?;
    Ok(
        record.is_some_and(|record| record.has_blob(&descriptor.digest))
            // A false size is told of when it is downloaded.
            && store
                .blob_file(&descriptor.digest)?
                .is_some_and(|(_, bytes)| bytes == descriptor.size),
    )
}

/// Asks the registry which digest a name has now: that of the index, where there is one. Nothing is stored.
pub async fn remote_digest(
    environment: &ClientEnvironment,
    reference: &Reference,
) -> Result<Digest, ImageError> {
    let failed = |source| ImageError::Digest {
        reference: reference.familiar(),
        source: Box::new(source),
    };
    let http = Http::default();
    let client = Client::new(&http, environment).map_err(failed)?;
    let endpoints = client.endpoints(reference).map_err(failed)?;
    let asked = reference.tag_or_digest();
    let ask = |endpoint| client.digest_of(endpoint, &asked);
    let found = first(&endpoints, reference, ask).await.map_err(failed)?;
    Ok(found.1)
}

/// Lists the tags of a reference's repository.
pub(super) async fn tags(
    client: &Client<'_>,
    reference: &Reference,
) -> Result<Vec<String>, RegistryError> {
    let endpoints = client.endpoints(reference)?;
    let found = first(&endpoints, reference, |endpoint| client.tags(endpoint)).await?;
    Ok(found.1)
}

/// Asks one endpoint after the other; returns the number of the first that answered, and its answer.
async fn first<'e, T, F>(
    endpoints: &'e [Endpoint],
    reference: &Reference,
    ask: impl Fn(&'e Endpoint) -> F,
) -> Result<(usize, T), RegistryError>
where
    F: Future<Output = Result<T, RegistryError>>,
{
    // Content is believed by its digest, a tag only of whom it may be asked.
    let by_digest = reference.digest().is_some();
    let numbered = endpoints.iter().enumerate();
    let asked: Vec<_> = numbered.filter(|(_, e)| by_digest || e.resolve).collect();
    let mut attempts = Vec::new();
    for (position, endpoint) in &asked {
        match ask(endpoint).await {
            Ok(found) => return Ok((*position, found)),
            Err(error) if asked.len() == 1 => return Err(error),
            Err(error) => attempts.push(chain(&error)),
        }
    }
    if attempts.is_empty() {
        let reference = reference.familiar();
        return Err(RegistryError::NoResolver { reference });
    }
    Err(RegistryError::Everywhere { attempts })
}

/// What the registry has.
struct Found {
    /// Those to ask for layers, the one that had the manifest first.
    endpoints: Vec<Endpoint>,
    manifest: Box<Manifest>,
    /// Of the manifest.
    digest: Digest,
    /// Of what the reference pointed to.
    source: Digest,
    config: ImageConfig,
    /// Index, manifest and configuration, verbatim.
    documents: Vec<Vec<u8>>,
}

/// Asks one endpoint after the other.
async fn find(
    client: &Client<'_>,
    endpoints: &[Endpoint],
    reference: &Reference,
    platform: &Platform,
) -> Result<Found, RegistryError> {
    let ask = |endpoint| find_at(client, endpoint, reference, platform);
    let (position, mut found) = first(endpoints, reference, ask).await?;
    found.endpoints = endpoints.to_vec();
    found.endpoints.rotate_left(position);
    Ok(found)
}

async fn find_at(
    client: &Client<'_>,
    endpoint: &Endpoint,
    reference: &Reference,
    platform: &Platform,
) -> Result<Found, RegistryError> {
    let unusable = |source| RegistryError::Document {
        host: endpoint.host.clone(),
        source,
    };
    let asked = reference.tag_or_digest();
    let (bytes, media_type) = client
        .manifest(endpoint, &asked, reference.digest())
        .await?;
    let source = Digest::of(&bytes);
    let document = parse_document(&bytes, media_type.as_deref()).map_err(unusable)?;
    let mut documents = vec![bytes];
    let (manifest, digest) = match document {
        Document::Manifest(manifest) => (manifest, source.clone()),
        Document::Index(index) => {
            let chosen = index.choose(platform).map_err(unusable)?;
            let digest = &chosen.digest;
            let (bytes, media_type) = client
                .manifest(endpoint, &digest.to_string(), Some(digest))
                .await?;
            check_size("manifest", endpoint, chosen, bytes.len() as u64)?;
            let document = parse_document(&bytes, media_type.as_deref()).map_err(unusable)?;
            documents.push(bytes);
            match document {
                Document::Manifest(manifest) => (manifest, digest.clone()),
                Document::Index(_) => {
                    let media_type = "an index within an index".to_owned();
                    return Err(unusable(ManifestError::MediaType { media_type }));
                }
            }
        }
    };
    let bytes = client.small_blob(endpoint, &manifest.config).await?;
    let config = parse_config(&bytes).map_err(unusable)?;
    documents.push(bytes);
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(unusable(ManifestError::LayerCount {
            layers: manifest.layers.len(),
            diff_ids: config.rootfs.diff_ids.len(),
        }));
    }
    Ok(Found {
        endpoints: Vec::new(),
        manifest,
        digest,
        source,
        config,
        documents,
    })
}

/// One running pull.
struct Pull<'a> {
    store: &'a Store,
    client: &'a Client<'a>,
    progress: &'a dyn Progress,
    reference: &'a Reference,
    endpoints: &'a [Endpoint],
}

impl Pull<'_> {
    async fn layer(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<(), ImageError> {
        let digest = &descriptor.digest;
        if is_here(self.store, descriptor, diff_id)? {
            self.progress.blob(digest, BlobState::Exists);
            return Ok(());
        }
        let _alone = lock_layer(self.store, diff_id).await?;
        if is_here(self.store, descriptor, diff_id)? {
            self.progress.blob(digest, BlobState::Exists);
            return Ok(());
        }
        let mut attempts = Vec::new();
        for endpoint in self.endpoints {
            match self.download(endpoint, descriptor, diff_id).await {
                Ok(()) => {
                    self.progress.blob(digest, BlobState::Done);
                    return Ok(());
                }
                Err(ImageError::Pull { source, .. }) if self.endpoints.len() > 1 => {
                    attempts.push(chain(&*source));
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.failed(RegistryError::Everywhere { attempts }))
    }

    fn failed(&self, source: RegistryError) -> ImageError {
        ImageError::Pull {
            reference: self.reference.familiar(),
            source: Box::new(source),
        }
    }

    /// Downloads a layer, from where an earlier download broke off. What was there may be wrong: then once more from the start.
    async fn download(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> Result<(), ImageError> {
        let mut partial = lock_partial(self.store, &descriptor.digest).await?;
        if partial.length_bytes() > descriptor.size {
            partial.empty()?;
        }
        let resumed = partial.length_bytes() > 0;
        let outside = descriptor.is_foreign() && !descriptor.urls.is_empty();
        let first = self.attempt(endpoint, (descriptor, diff_id), partial, outside);
        match first.await {
            // What was there, or somebody outside, may be to blame: then the registry's own.
            Err(ImageError::Pull { source, .. })
                if (resumed || outside) && is_mismatch(&source) =>
            {
                let anew = lock_partial(self.store, &descriptor.digest).await?;
                self.attempt(endpoint, (descriptor, diff_id), anew, false)
                    .await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        (descriptor, diff_id): (&Descriptor, &Digest),
        partial: Partial,
        outside: bool,
    ) -> Result<(), ImageError> {
        let offset = partial.length_bytes();
        let opening = self.client.blob(endpoint, descriptor, (offset, outside));
        let stream = opening.await;
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                if offset == 0 {
                    partial.discard()?;
                }
                return Err(self.failed(error));
            }
        };
        let partial = Arc::new(partial);
        let staging = self.store.staging()?;
        // The sender goes first: it is what the pipeline waits for.
        let begun = Unpacking::start(staging, partial.clone(), descriptor.size);
        let (mut unpacking, sender) =
            begun.map_err(StoreError::io("begin to unpack into", self.store.root()))?;
        let received = self
            .receive((endpoint, &mut stream), &sender, (descriptor, offset))
            .await;
        drop(sender);
        if received.is_ok() {
            self.progress
                .blob(&descriptor.digest, BlobState::Extracting);
        }
        let unpacked = (&mut unpacking.result).await;
        let (staging, outcome) = unpacked.map_err(|_| stopped(self.store))?;
        if let Err(error) = received {
            let is_empty = partial.read_at(0, 1).is_ok_and(|bytes| bytes.is_empty());
            if is_empty || is_mismatch(&error) {
                partial.discard()?;
            }
            return Err(self.failed(error));
        }
        let kept = self.keep(
            (endpoint, &partial),
            (descriptor, diff_id),
            &staging,
            outcome,
        );
        // What is whole and cannot be kept for lack of room, say, need not come once more.
        if kept.as_ref().is_err_and(is_useless) {
            partial.discard()?;
        }
        kept
    }

    /// Hands what comes to the pipeline. Where that has stopped taking chunks, its own error says why.
    async fn receive(
        &self,
        (endpoint, stream): (&Endpoint, &mut BlobStream<'_>),
        sender: &mpsc::Sender<Option<Vec<u8>>>,
        (descriptor, offset): (&Descriptor, u64),
    ) -> Result<(), RegistryError> {
        let mut waiting: Vec<u8> = Vec::new();
        let mut done_bytes = offset;
        loop {
            let chunk = match stream.chunk().await {
                Ok(chunk) => chunk,
                Err(error) => {
                    // What came counts for the next time.
                    let rest = (!waiting.is_empty()).then(|| std::mem::take(&mut waiting));
                    if let Some(rest) = rest {
                        let _closed = sender.send(Some(rest)).await.is_err();
                    }
                    return Err(error);
                }
            };
            let ended = chunk.is_none();
            let chunk = chunk.unwrap_or_default();
            done_bytes += chunk.len() as u64;
            if done_bytes > descriptor.size {
                return check_size("layer", endpoint, descriptor, done_bytes);
            }
            if waiting.is_empty() {
                waiting = chunk;
            } else {
                waiting.extend_from_slice(&chunk);
            }
            if (ended || waiting.len() >= CHUNK_BYTES) && !waiting.is_empty() {
                self.progress.blob(
                    &descriptor.digest,
                    BlobState::Downloading {
                        done_bytes,
                        total_bytes: descriptor.size,
                    },
                );
                if sender
                    .send(Some(std::mem::take(&mut waiting)))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
            if ended {
                // A closed way back shows in the outcome.
                let _closed = sender.send(None).await.is_err();
                return Ok(());
            }
        }
    }

    /// Checks what came and moves it into the store.
    fn keep(
        &self,
        (endpoint, partial): (&Endpoint, &Partial),
        (descriptor, diff_id): (&Descriptor, &Digest),
        staging: &Staging,
        outcome: Outcome,
    ) -> Result<(), ImageError> {
        let unusable = |source| StoreError::Unpack {
            layer: descriptor.digest.to_string(),
            source,
        };
        let packed = outcome.packed.map_err(|error| {
            let doing = match &error {
                PackedError::Read(_) => "read the download",
                PackedError::Write(_) => "write the download",
            };
            StoreError::io(doing, partial.path())(error.into_io())
        })?;
        check_digest("layer", endpoint, &descriptor.digest, &packed.digest)
            .and_then(|()| check_size("layer", endpoint, descriptor, packed.size_bytes))
            .map_err(|error| self.failed(error))?;
        let unpacked = outcome.unpacked.map_err(unusable)?;
        check_digest("unpacked layer", endpoint, diff_id, &unpacked.diff_id)
            .map_err(|error| self.failed(error))?;
        let mut blob = descriptor.clone();
        blob.annotations.clear();
        let record = LayerRecord::new(unpacked.diff_id, blob, unpacked.report);
        self.store
            .place_layer(staging, Some(partial.path()), record)?;
        // Where the store had it already, it was not moved.
        partial.discard()?;
        Ok(())
    }
}

/// Whether what came is not what was asked for.
fn is_mismatch(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Digest { .. } | RegistryError::Size { .. }
    )
}

/// Whether the bytes of a whole download are to blame: they would come to the same again.
fn is_useless(error: &ImageError) -> bool {
    match error {
        ImageError::Pull { source, .. } => is_mismatch(source),
        ImageError::Store(StoreError::Unpack { source, .. }) => {
            !source.is_lack_of_room()
                && !matches!(source, UnpackError::Io { .. } | UnpackError::Stopped)
        }
        _ => false,
    }
}

/// Takes what there is of a blob, without holding up other downloads of this thread while somebody else adds to it.
async fn lock_partial(store: &Store, digest: &Digest) -> Result<Partial, ImageError> {
    if let Some(partial) = store.partial(digest)? {
        return Ok(partial);
    }
    let digest = digest.clone();
    Ok(with_store(store, move |store| store.wait_for_partial(&digest)).await?)
}

/// Takes the lock of a layer without holding up other downloads of this thread.
async fn lock_layer(store: &Store, diff_id: &Digest) -> Result<Option<LayerLock>, ImageError> {
    if let Some(lock) = store.try_lock_layer(diff_id.hex())? {
        return Ok(Some(lock));
    }
    let hex = diff_id.hex().to_owned();
    Ok(with_store(store, move |store| store.lock_layer(&hex)).await?)
}

/// A thread of ours is gone without a word.
fn stopped(store: &Store) -> StoreError {
    let gone = std::io::Error::other("the thread that did it panicked");
    StoreError::io("wait for the work in", store.root())(gone)
}

#[cfg(test)]
mod tests;
