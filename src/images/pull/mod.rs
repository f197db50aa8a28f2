//! Pull: manifest → missing blobs → layers, unpacked while they stream.
//!
//! ```text
//! endpoint by endpoint (mirrors first): manifest, of an index the one for the platform, configuration
//! layers, six at a time: here? ─no─> flock (somebody else at it? wait, look again) ─> stream ─> pipeline ─> rename
//! at last: one syncfs, the name
//! ```
//!
//! A layer is asked of the endpoint that had the manifest, then of the others. The thread that unpacks owns the temporary
//! directory, so one that is stopped halfway cleans up after itself; a killed process leaves that to the next command.

use futures_util::stream::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};

use super::error::ImageError;
use super::manifest::{
    Descriptor, Document, ImageConfig, Manifest, ManifestError, Platform, parse_config,
    parse_document,
};
use super::progress::{BlobState, Progress};
use super::reference::{Digest, Reference};
use super::registry::client::{check_digest, check_size};
use super::registry::config::Endpoint;
use super::registry::error::chain;
use super::registry::transport::Http;
use super::registry::{Client, ClientEnvironment, RegistryError};
use super::store::{Image, LayerLock, LayerRecord, Staging, Store, StoreError};
use super::unpack::pipeline::{Chunks, Outcome, run};

const LAYERS_AT_ONCE: usize = 6;
/// Packed bytes between the network and the pipeline: chunks of this size, so many at most.
const CHUNK_BYTES: usize = 256 << 10;
const QUEUE: usize = 8;

/// Gets an image from its registry.
pub(super) async fn pull(
    store: &Store,
    client: &Client<'_>,
    reference: &Reference,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Image, ImageError> {
    let failed = |source| ImageError::Pull {
        reference: reference.familiar(),
        source: Box::new(source),
    };
    let _hold = store.hold()?;
    let endpoints = client.endpoints(reference).map_err(failed)?;
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
    store.adopt(&image, &[reference], Some(&found.source))?;
    Ok(image)
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
    let asked = reference.tag_or_digest();
    let endpoints = client.endpoints(reference).map_err(failed)?;
    let mut attempts = Vec::new();
    for endpoint in &endpoints {
        match client.manifest(endpoint, &asked, reference.digest()).await {
            Ok((bytes, _)) => return Ok(Digest::of(&bytes)),
            Err(error) if endpoints.len() == 1 => return Err(failed(error)),
            Err(error) => attempts.push(chain(&error)),
        }
    }
    Err(failed(RegistryError::Everywhere { attempts }))
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
    let mut attempts = Vec::new();
    for (position, endpoint) in endpoints.iter().enumerate() {
        match find_at(client, endpoint, reference, platform).await {
            Ok(mut found) => {
                found.endpoints = endpoints.to_vec();
                found.endpoints.rotate_left(position);
                return Ok(found);
            }
            Err(error) if endpoints.len() == 1 => return Err(error),
            Err(error) => attempts.push(chain(&error)),
        }
    }
    Err(RegistryError::Everywhere { attempts })
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
        if self.is_here(descriptor, diff_id)? {
            self.progress.blob(digest, BlobState::Exists);
            return Ok(());
        }
        let _alone = lock_layer(self.store, diff_id).await?;
        if self.is_here(descriptor, diff_id)? {
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

    /// Whether the layer is unpacked and this blob of it is kept.
    fn is_here(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<bool, StoreError> {
        let record = self.store.layer(diff_id)?;
        Ok(record.is_some_and(|record| record.has_blob(&descriptor.digest)))
    }

    fn failed(&self, source: RegistryError) -> ImageError {
        ImageError::Pull {
            reference: self.reference.familiar(),
            source: Box::new(source),
        }
    }

    async fn download(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> Result<(), ImageError> {
        let stream = self.client.blob(endpoint, descriptor).await;
        let mut stream = stream.map_err(|error| self.failed(error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let unpacking = start_pipeline(self.store.staging()?, receiver, descriptor.size)?;
        let mut waiting: Vec<u8> = Vec::new();
        let mut done_bytes = 0;
        // Where the pipeline has stopped taking chunks, its own error says why.
        let received = loop {
            let chunk = match stream.chunk().await {
                Ok(chunk) => chunk,
                Err(error) => break Err(error),
            };
            let ended = chunk.is_none();
            let chunk = chunk.unwrap_or_default();
            done_bytes += chunk.len() as u64;
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
                    break Ok(());
                }
            }
            if ended {
                // A closed way back shows in the outcome.
                let _closed = sender.send(None).await.is_err();
                break Ok(());
            }
        };
        drop(sender);
        received.map_err(|error| self.failed(error))?;
        self.progress
            .blob(&descriptor.digest, BlobState::Extracting);
        let (staging, outcome) = unpacking.await.map_err(|_| stopped(self.store))?;
        self.keep(endpoint, (descriptor, diff_id), &staging, outcome)
    }

    /// Checks what came and moves it into the store.
    fn keep(
        &self,
        endpoint: &Endpoint,
        (descriptor, diff_id): (&Descriptor, &Digest),
        staging: &Staging,
        outcome: Outcome,
    ) -> Result<(), ImageError> {
        let unusable = |source| StoreError::Unpack {
            layer: descriptor.digest.to_string(),
            source,
        };
        let packed = outcome.packed.map_err(|error| {
            let path = staging.directory().join("blob");
            StoreError::io("write the download", &path)(error.into_io())
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
        let path = staging.directory().join("blob");
        self.store.place_layer(staging, Some(&path), record)?;
        Ok(())
    }
}

/// Starts the threads that hash, unpack and keep what `receiver` gets; they own the directory meanwhile.
fn start_pipeline(
    staging: Staging,
    receiver: mpsc::Receiver<Option<Vec<u8>>>,
    max_bytes: u64,
) -> Result<oneshot::Receiver<(Staging, Outcome)>, StoreError> {
    let path = staging.directory().join("blob");
    let blob = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
    // Whoever reports an error of writing names the path.
    let mut blob = blob.into_parts().0;
    let (sender, result) = oneshot::channel();
    std::thread::spawn(move || {
        let chunks = ChannelChunks {
            receiver,
            ended: false,
        };
        let outcome = run(chunks, &mut blob, &staging.diff(), max_bytes);
        // Nobody may want it any more; then the directory is removed here.
        drop(sender.send((staging, outcome)));
    });
    Ok(result)
}

/// Takes the lock of a layer without holding up other downloads of this thread.
async fn lock_layer(store: &Store, diff_id: &Digest) -> Result<Option<LayerLock>, ImageError> {
    if let Some(lock) = store.try_lock_layer(diff_id.hex())? {
        return Ok(Some(lock));
    }
    let (sender, result) = oneshot::channel();
    let (path, hex) = (store.root().to_owned(), diff_id.hex().to_owned());
    std::thread::spawn(move || {
        let locked = Store::open(&path).and_then(|store| store.lock_layer(&hex));
        drop(sender.send(locked));
    });
    Ok(result.await.map_err(|_| stopped(store))??)
}

/// A thread of ours is gone without a word.
fn stopped(store: &Store) -> StoreError {
    let gone = std::io::Error::other("the thread that did it panicked");
    StoreError::io("wait for the work in", store.root())(gone)
}

/// The pipeline's end of the channel. `None` marks the proper end; a closed channel is a download that was given up.
struct ChannelChunks {
    receiver: mpsc::Receiver<Option<Vec<u8>>>,
    ended: bool,
}

impl Chunks for ChannelChunks {
    fn next_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.blocking_recv() {
            Some(Some(chunk)) => Ok(Some(chunk)),
            Some(None) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(std::io::Error::new(
                std::io::ErrorKind::ConnectionAborted,
                "the download was given up",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
