//! What is written to a registry: blobs, mounted from other repositories or sent, and manifests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Url;

use super::client::{Attempt, Client, Place, Wanted, check_digest};
use super::config::Endpoint;
use super::error::RegistryError;
use super::token::Access;
use super::transport::{Method, RequestBody, Response, TransportError};
use crate::images::manifest::Descriptor;
use crate::images::reference::Digest;

/// A connection that takes nothing for so long is broken.
const STALL: Duration = Duration::from_mins(1);
/// A registry may be busy so long with what it has got, before it says that it has it.
const COMMIT: Duration = Duration::from_mins(10);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file that holds still.
    File(PathBuf),
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Exists,
    /// The registry had it elsewhere: in this repository.
    Mounted(String),
    /// It was sent.
    Sent,
}

fn push(method: Method, below: String, what: String) -> Wanted {
    Wanted {
        method,
        access: Access::Push,
        ..Wanted::get(below, what)
    }
}

impl Client<'_> {
    /// Brings a blob into the repository, the cheapest way there is. `mounts` are repositories of the same registry that may have
    /// it. `sent_bytes` tells how far that is.
    pub async fn upload(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        (source, mounts): (&BlobSource, &[String]),
        sent_bytes: &Arc<AtomicU64>,
    ) -> Result<Uploaded, RegistryError> {
        if self.has_blob(endpoint, &descriptor.digest).await? {
            return Ok(Uploaded::Exists);
        }
        let mut session = None;
        for from in mounts {
            match self.mount(endpoint, &descriptor.digest, from).await? {
                Begun::Mounted => return Ok(Uploaded::Mounted(from.clone())),
                Begun::Session(url) => session = Some(url),
                Begun::Refused => {}
            }
        }
        let mut number = 0;
        loop {
            number += 1;
            let url = match session.take() {
                Some(url) => url,
                None => self.begin(endpoint, &descriptor.digest).await?,
            };
            match self
                .send(endpoint, descriptor, (source, url), sent_bytes)
                .await?
            {
                Attempt::Good(response) => {
                    check_answer(endpoint, "layer", &response, &descriptor.digest)?;
                    return Ok(Uploaded::Sent);
                }
                // The session is of no more use: the next attempt begins anew.
                Attempt::Passing(error, asked) => {
                    if !self.retry.pause(number, asked).await {
                        return Err(error);
                    }
                }
            }
            // The answer may be all that was lost.
            if self.has_blob(endpoint, &descriptor.digest).await? {
                return Ok(Uploaded::Sent);
            }
        }
    }

    /// Puts a manifest or index under a tag or its digest.
    pub async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        tag_or_digest: &str,
        (media_type, bytes): (&str, &[u8]),
    ) -> Result<(), RegistryError> {
        let mut wanted = push(
            Method::Put,
            format!("manifests/{tag_or_digest}"),
            format!("manifest {tag_or_digest}"),
        )
        .header("content-type", media_type);
        wanted.body = RequestBody::Bytes(bytes.to_vec());
        let response = self.ask(endpoint, &wanted).await?;
        check_answer(endpoint, "manifest", &response, &Digest::of(bytes))
    }

    /// Whether the repository has a blob.
    pub async fn has_blob(
        &self,
        endpoint: &Endpoint,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let wanted = push(
            Method::Head,
            format!("blobs/{digest}"),
            format!("blob {digest}"),
        );
        match self.ask(endpoint, &wanted).await {
            Ok(_) => Ok(true),
            // Whoever may not read may still write, or is told at the next step.
            Err(
                RegistryError::NotFound { .. }
                | RegistryError::Denied { .. }
                | RegistryError::Status { status: 405, .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn mount(
        &self,
        endpoint: &Endpoint,
        digest: &Digest,
        from: &str,
    ) -> Result<Begun, RegistryError> {
        let mut wanted = push(
            Method::Post,
            format!("blobs/uploads/?mount={digest}&from={from}"),
            format!("a mount of blob {digest} from `{from}`"),
        );
        wanted.access = Access::Mount(from.to_owned());
        match self.ask(endpoint, &wanted).await {
            Ok(response) if response.status == 201 => Ok(Begun::Mounted),
            Ok(response) => Ok(Begun::Session(self.location(endpoint, &response)?)),
            Err(
                RegistryError::Denied { .. }
                | RegistryError::NotFound { .. }
                | RegistryError::Status { .. },
            ) => Ok(Begun::Refused),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, endpoint: &Endpoint, digest: &Digest) -> Result<Url, RegistryError> {
        let wanted = push(
            Method::Post,
            "blobs/uploads/".to_owned(),
            format!("an upload of blob {digest}"),
        );
        let response = self.ask(endpoint, &wanted).await?;
        self.location(endpoint, &response)
    }

    /// Sends the bytes, and gives up where they stand still.
    async fn send(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        (source, mut url): (&BlobSource, Url),
        sent_bytes: &Arc<AtomicU64>,
    ) -> Result<Attempt, RegistryError> {
        let digest = descriptor.digest.to_string();
        // It may have a query of its own, which is the registry's memory.
        url.query_pairs_mut().append_pair("digest", &digest);
        let mut wanted = push(Method::Put, String::new(), format!("blob {digest}"))
            .header("content-type", "application/octet-stream");
        wanted.place = Place::At(url);
        wanted.body = match source {
            BlobSource::Bytes(bytes) => RequestBody::Bytes(bytes.clone()),
            BlobSource::File(path) => RequestBody::File {
                path: path.clone(),
                size_bytes: descriptor.size,
                sent_bytes: sent_bytes.clone(),
            },
        };
        sent_bytes.store(0, Ordering::Relaxed);
        let work = self.attempt(endpoint, &wanted);
        let watch = stalled(sent_bytes, descriptor.size);
        tokio::select! {
            done = work => done,
            () = watch => Ok(Attempt::Passing(
                RegistryError::Transport(TransportError::Broken {
                    host: endpoint.host.clone(),
                    reason: "it takes no more bytes".to_owned(),
                }),
                None,
            )),
        }
    }

    /// Reads where an upload goes on: relative to where it was begun.
    fn location(&self, endpoint: &Endpoint, response: &Response) -> Result<Url, RegistryError> {
        let location = response.header("location").unwrap_or_default();
        let refused = |reason| RegistryError::Redirect {
            host: endpoint.host.clone(),
            location: super::client::shown(location),
            reason,
        };
        let plain = match endpoint.security {
            super::config::Security::Http => true,
            _ => self.known.borrow().plain.get(&endpoint.host) == Some(&true),
        };
        let base = super::client::url_of(endpoint, "blobs/uploads/", plain)?;
        let url = base.join(location);
        let url = url.map_err(|_| refused("it is not a URL"))?;
        match (location.is_empty(), url.scheme()) {
            (true, _) => Err(refused("there is no place to upload to")),
            (_, "https") => Ok(url),
            (_, "http") if plain => Ok(url),
            _ => Err(refused("it is not encrypted any more")),
        }
    }
}

/// How an upload began.
enum Begun {
    Mounted,
    Session(Url),
    /// The registry does not mount, or not for us.
    Refused,
}

/// Ends when nothing was sent for too long.
async fn stalled(sent_bytes: &AtomicU64, size_bytes: u64) {
    let mut last = (
        sent_bytes.load(Ordering::Relaxed),
        tokio::time::Instant::now(),
    );
    loop {
        tokio::time::sleep(LOOK).await;
        let sent = sent_bytes.load(Ordering::Relaxed);
        if sent != last.0 {
            last = (sent, tokio::time::Instant::now());
        }
        let patience = if sent >= size_bytes { COMMIT } else { STALL };
        if last.1.elapsed() > patience {
            return;
        }
    }
}

/// A registry that says which digest it got must have got ours.
fn check_answer(
    endpoint: &Endpoint,
    what: &'static str,
    response: &Response,
    expected: &Digest,
) -> Result<(), RegistryError> {
    let found = response.header("docker-content-digest");
    match found.and_then(|digest| Digest::parse(digest).ok()) {
        Some(found) => check_digest(what, endpoint, expected, &found),
        None => Ok(()),
    }
}
