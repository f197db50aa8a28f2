//! What is read from a registry: manifests, small blobs, large ones in a stream, tags.

use std::collections::BTreeSet;

use reqwest::Url;
use serde::Deserialize;

use super::client::{Client, Place, Wanted, check_digest, is_near, read_all, refusal};
use super::config::{Endpoint, Security, is_local};
use super::error::RegistryError;
use super::transport::{Body, Method, Response, Tls, TransportError, host_of};
use crate::images::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::images::reference::Digest;
use crate::images::store::MAX_DOCUMENT_BYTES;

/// Manifests and indexes (distribution-spec: registries should accept 4 MiB).
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Of `tags/list`.
const MAX_PAGES: usize = 1000;
/// Of all of them together.
const MAX_TAGS_BYTES: u64 = 32 << 20;
/// Places outside of the registry that a layer is looked for at.
const MAX_OUTSIDE: usize = 3;

fn manifest(tag_or_digest: &str) -> Wanted {
    let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
    Wanted::get(
        format!("manifests/{tag_or_digest}"),
        format!("manifest {tag_or_digest}"),
    )
    .header("accept", accept)
}

fn blob(digest: &Digest, from: u64) -> Wanted {
    // What is hashed is what is sent: no content coding.
    let wanted = Wanted::get(format!("blobs/{digest}"), format!("blob {digest}"))
        .header("accept-encoding", "identity");
    if from > 0 {
        wanted.header("range", format!("bytes={from}-"))
    } else {
        wanted
    }
}

impl Client<'_> {
    /// Gets a manifest or index with its media type; `expected` is the digest it must have.
    pub async fn manifest(
        &self,
        endpoint: &Endpoint,
        tag_or_digest: &str,
        expected: Option<&Digest>,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let wanted = manifest(tag_or_digest);
        let (bytes, headers) = self.document(endpoint, &wanted, MAX_MANIFEST_BYTES).await?;
        let header = |name: &str| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let announced = header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
        let found = Digest::of(&bytes);
        for expected in expected.into_iter().chain(&announced) {
            check_digest("manifest", endpoint, expected, &found)?;
        }
        let content_type = header("content-type").and_then(|value| value.split(';').next());
        Ok((bytes, content_type.map(|value| value.trim().to_owned())))
    }

    /// Asks which digest a tag has, without getting what it is of: that counts against no limit. A registry that does not say is
    /// asked for the document.
    pub async fn digest_of(
        &self,
        endpoint: &Endpoint,
        tag_or_digest: &str,
    ) -> Result<Digest, RegistryError> {
        let mut wanted = manifest(tag_or_digest);
        wanted.method = Method::Head;
        let announced = match self.ask(endpoint, &wanted).await {
            Ok(response) => response
                .header("docker-content-digest")
                .and_then(|digest| Digest::parse(digest).ok()),
            // Without a body there are no words of the registry's: the document's answer has them.
            Err(
                RegistryError::Status { status: 405, .. }
                | RegistryError::NotFound { .. }
                | RegistryError::Denied { .. },
            ) => None,
            Err(error) => return Err(error),
        };
        if let Some(digest) = announced {
            return Ok(digest);
        }
        let (bytes, _) = self.manifest(endpoint, tag_or_digest, None).await?;
        Ok(Digest::of(&bytes))
    }

    /// Lists a repository's tags, in the registry's order.
    pub async fn tags(&self, endpoint: &Endpoint) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut wanted = Wanted::get("tags/list".to_owned(), "the list of tags".to_owned());
        let mut tags = Vec::new();
        let mut seen = BTreeSet::new();
        let endless = |message: &str| RegistryError::Malformed {
            what: "the list of tags".to_owned(),
            host: endpoint.host.clone(),
            message: message.to_owned(),
        };
        let mut left_bytes = MAX_TAGS_BYTES;
        for _ in 0..MAX_PAGES {
            let limit = MAX_DOCUMENT_BYTES.min(left_bytes);
            let (bytes, headers) = self.document(endpoint, &wanted, limit).await?;
            left_bytes -= bytes.len() as u64;
            let page: Page =
                serde_json::from_slice(&bytes).map_err(|error| RegistryError::Malformed {
                    what: wanted.what.clone(),
                    host: endpoint.host.clone(),
                    message: error.to_string(),
                })?;
            tags.extend(page.tags.unwrap_or_default());
            let link = headers.iter().find(|(name, _)| name == "link");
            let Some(next) = link.and_then(|(_, value)| next_page(value)) else {
                return Ok(tags);
            };
            // Relative to what was asked; only the path and the query count, it is the same registry.
            let prefix = endpoint.path("");
            let query = next.rsplit_once('?').map_or("", |(_, query)| query);
            let at = match next.find(&prefix) {
                Some(start) => next.get(start + prefix.len()..).unwrap_or_default(),
                None => &format!("tags/list?{query}"),
            };
            if !seen.insert(at.to_owned()) {
                return Err(endless("its pages lead back to one that was read"));
            }
            wanted.place = Place::Below(at.to_owned());
        }
        // A part of the tags is not all of them.
        Err(endless(&format!("it has more than {MAX_PAGES} pages")))
    }

    /// Gets a small blob whole, checked.
    pub async fn small_blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let wanted = blob(&descriptor.digest, 0);
        let (bytes, _) = self.document(endpoint, &wanted, MAX_DOCUMENT_BYTES).await?;
        check_digest(
            "configuration",
            endpoint,
            &descriptor.digest,
            &Digest::of(&bytes),
        )?;
        check_size("configuration", endpoint, descriptor, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Begins to get a blob from its byte `offset` on. `outside` says whether it may come from where its own `urls` lead.
    pub async fn blob<'c>(
        &'c self,
        endpoint: &'c Endpoint,
        descriptor: &'c Descriptor,
        (offset, outside): (u64, bool),
    ) -> Result<BlobStream<'c>, RegistryError> {
        let mut stream = BlobStream {
            client: self,
            endpoint,
            descriptor,
            body: Box::new(Nothing),
            offset,
            skip: 0,
            breaks: 0,
        };
        if offset == descriptor.size && offset > 0 {
            return Ok(stream);
        }
        // Layers that may not be copied are elsewhere (image-spec `descriptor.md`, `urls`), but many registries have them. Whoever
        // wrote the manifest chose these addresses: each is asked once, as anybody would ask.
        if outside && descriptor.is_foreign() {
            let plain = match endpoint.security {
                Security::Http => true,
                _ => self.known.borrow().plain.get(&endpoint.host) == Some(&true),
            };
            let urls = descriptor
                .urls
                .iter()
                .filter_map(|url| Url::parse(url).ok());
            let urls = urls.filter(|url| may_be_asked(url, plain, is_local(&endpoint.host)));
            for url in urls.take(MAX_OUTSIDE) {
                if stream.open_outside(url).await.is_ok() {
                    return Ok(stream);
                }
            }
        }
        stream.open().await?;
        Ok(stream)
    }

    /// Gets a document whole; one that breaks off is asked for again.
    async fn document(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
        limit: u64,
    ) -> Result<(Vec<u8>, Vec<(String, String)>), RegistryError> {
        let mut number = 0;
        loop {
            number += 1;
            let mut response = self.ask(endpoint, wanted).await?;
            match read_all(&mut *response.body, limit).await {
                Ok(Some(bytes)) => return Ok((bytes, response.headers)),
                Ok(None) => {
                    return Err(RegistryError::TooLarge {
                        what: wanted.what.clone(),
                        host: endpoint.host.clone(),
                        limit,
                    });
                }
                Err(error) => {
                    if !self.retry.pause(number, None).await {
                        return Err(error.into());
                    }
                }
            }
        }
    }
}

/// Whether an address that a manifest names may be asked: encrypted, and out in the world; a registry that is not may name its like.
fn may_be_asked(url: &Url, plain: bool, near: bool) -> bool {
    let scheme = match url.scheme() {
        "https" => true,
        "http" => plain,
        _ => false,
    };
    scheme && url.has_host() && (near || !is_near(url))
}

/// Takes the target of `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        next.then_some(target)
    })
}

/// The body of nothing more to come.
struct Nothing;

impl Body for Nothing {
    fn chunk(&mut self) -> super::transport::Local<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// A blob on its way. Breaks are mended by asking for the rest.
pub struct BlobStream<'c> {
    client: &'c Client<'c>,
    endpoint: &'c Endpoint,
    descriptor: &'c Descriptor,
    body: Box<dyn Body>,
    /// Where the next bytes belong.
    offset: u64,
    /// Bytes to pass over, of an answer that began at the start again.
    skip: u64,
    breaks: u32,
}

impl BlobStream<'_> {
    /// Returns the next bytes; `None` when all have come.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, RegistryError> {
        loop {
            let error = match self.body.chunk().await {
                Ok(Some(mut bytes)) => {
                    let skipped = usize::try_from(self.skip)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    bytes.drain(..skipped);
                    self.skip -= skipped as u64;
                    if bytes.is_empty() {
                        continue;
                    }
                    self.offset += bytes.len() as u64;
                    self.breaks = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.offset >= self.descriptor.size => return Ok(None),
                Ok(None) => TransportError::Broken {
                    host: self.endpoint.host.clone(),
                    reason: format!(
                        "only {} of {} bytes came",
                        self.offset, self.descriptor.size
                    ),
                },
                Err(error) => error,
            };
            self.breaks += 1;
            if !self.client.retry.pause(self.breaks, None).await {
                return Err(error.into());
            }
            self.open().await?;
        }
    }

    /// Asks for the rest. A server without ranges sends all again, and one that refuses the range is asked for all.
    async fn open(&mut self) -> Result<(), RegistryError> {
        let response = match self.ask(self.offset).await {
            Err(RegistryError::Status { status: 416, .. }) if self.offset > 0 => {
                self.ask(0).await?
            }
            response => response?,
        };
        self.take(response)
    }

    /// Asks somebody whom the manifest names, once and without anything of ours.
    async fn open_outside(&mut self, url: Url) -> Result<(), RegistryError> {
        let outside = Endpoint {
            host: host_of(&url),
            security: Security::Https,
            headers: Vec::new(),
            tls: Tls {
                identity: None,
                ..self.endpoint.tls.clone()
            },
            ..self.endpoint.clone()
        };
        let mut wanted = blob(&self.descriptor.digest, self.offset);
        wanted.outside = true;
        let (response, _) = self
            .client
            .redirected(&outside, &wanted, &url, None)
            .await?;
        if !(200..300).contains(&response.status) {
            return Err(refusal(&outside, &wanted, response, None).await);
        }
        self.take(response)
    }

    /// Takes an answer that begins at, or before, the next byte.
    fn take(&mut self, response: Response) -> Result<(), RegistryError> {
        let start = (response.status == 206).then(|| {
            let range = response.header("content-range").unwrap_or_default();
            let start = range.strip_prefix("bytes ")?.split_once('-')?.0;
            start.trim().parse::<u64>().ok()
        });
        self.skip = match start {
            None => self.offset,
            Some(Some(start)) if start <= self.offset => self.offset - start,
            Some(_) => {
                return Err(RegistryError::Range {
                    digest: self.descriptor.digest.clone(),
                    host: self.endpoint.host.clone(),
                    asked: self.offset,
                });
            }
        };
        self.body = response.body;
        Ok(())
    }

    async fn ask(&self, from: u64) -> Result<Response, RegistryError> {
        let wanted = blob(&self.descriptor.digest, from);
        self.client.ask(self.endpoint, &wanted).await
    }
}

/// Compares a size with the one announced.
pub(crate) fn check_size(
    what: &'static str,
    endpoint: &Endpoint,
    descriptor: &Descriptor,
    found: u64,
) -> Result<(), RegistryError> {
    if descriptor.size == found {
        Ok(())
    } else {
        Err(RegistryError::Size {
            what,
            digest: descriptor.digest.clone(),
            host: endpoint.host.clone(),
            expected: descriptor.size,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_leads_nobody_into_his_own_network() {
        for (url, plain, near, expected) in [
            ("https://m.example/l", false, false, true),
            ("http://m.example/l", false, false, false),
            ("http://m.example/l", true, false, true),
            ("https://169.254.169.254/l", true, false, false),
            ("http://127.0.0.1:1/l", true, true, true),
            ("ftp://m.example/l", true, true, false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(may_be_asked(&parsed, plain, near), expected, "{url}");
        }
    }

    #[test]
    fn finds_the_next_page() {
        for (link, expected) in [
            (
                r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
                Some("/v2/a/tags/list?n=2&last=b"),
            ),
            (
                r#"<x>; rel="prev", <https://h/y>; rel=next"#,
                Some("https://h/y"),
            ),
            ("<x>; rel=\"prev\"", None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }
}
