//! The client: requests with authorization, redirects and repetitions; documents and blobs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::super::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use super::super::reference::{Digest, Reference};
use super::auth::{Challenge, Credentials, Secret, parse_challenges};
use super::config::{Endpoint, RegistryConfig, Security};
use super::error::RegistryError;
use super::transport::{Body, Request, Response, Transport, TransportError, host_of};
use super::{ClientEnvironment, Retry};

/// Manifests and indexes (distribution-spec: registries should accept 4 MiB).
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Configurations, tokens.
const MAX_DOCUMENT_BYTES: u64 = super::super::store::MAX_DOCUMENT_BYTES;
const MAX_REDIRECTS: u32 = 5;

/// Asks registries.
pub struct Client<'a> {
    transport: &'a dyn Transport,
    config: RegistryConfig,
    credentials: Credentials,
    retry: Retry,
    known: RefCell<Known>,
}

/// What earlier answers taught.
#[derive(Default)]
struct Known {
    /// Host to whether it speaks plain HTTP.
    plain: BTreeMap<String, bool>,
    /// Host and repository to the authorization that it takes.
    authorization: BTreeMap<(String, String), String>,
}

/// What is asked for: a document or a blob of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// `manifests/latest`.
    path: String,
    /// For messages: `manifest latest`.
    what: String,
    headers: Vec<(&'static str, String)>,
}

impl Wanted {
    fn manifest(tag_or_digest: &str) -> Self {
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        Self {
            path: format!("manifests/{tag_or_digest}"),
            what: format!("manifest {tag_or_digest}"),
            headers: vec![("accept", accept)],
        }
    }

    fn blob(digest: &Digest, from: u64) -> Self {
        let range = (from > 0).then(|| ("range", format!("bytes={from}-")));
        Self {
            path: format!("blobs/{digest}"),
            what: format!("blob {digest}"),
            // What is hashed is what is sent: no content coding.
            headers: [("accept-encoding", "identity".to_owned())]
                .into_iter()
                .chain(range)
                .collect(),
        }
    }
}

impl<'a> Client<'a> {
    /// Reads the configuration.
    pub fn new(
        transport: &'a dyn Transport,
        environment: &ClientEnvironment,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            transport,
            config: RegistryConfig::read(environment)?,
            credentials: Credentials::read(environment.docker_config.as_deref())?,
            retry: environment.retry,
            known: RefCell::default(),
        })
    }

    /// Returns where to ask for `reference`, in order.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        Ok(self.config.endpoints(reference)?)
    }

    /// Gets a manifest or index with its media type; `expected` is the digest it must have.
    pub async fn manifest(
        &self,
        endpoint: &Endpoint,
        tag_or_digest: &str,
        expected: Option<&Digest>,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let wanted = Wanted::manifest(tag_or_digest);
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

    /// Gets a small blob whole, checked.
    pub async fn small_blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let wanted = Wanted::blob(&descriptor.digest, 0);
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

    /// Begins to get a blob.
    pub async fn blob<'c>(
        &'c self,
        endpoint: &'c Endpoint,
        descriptor: &'c Descriptor,
    ) -> Result<BlobStream<'c>, RegistryError> {
        let response = self
            .get(endpoint, &Wanted::blob(&descriptor.digest, 0))
            .await?;
        Ok(BlobStream {
            client: self,
            endpoint,
            descriptor,
            body: response.body,
            offset: 0,
            skip: 0,
            breaks: 0,
        })
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
            let mut response = self.get(endpoint, wanted).await?;
            match read_all(&mut *response.body, limit).await {
                Ok(Some(bytes)) => return Ok((bytes, response.headers)),
                Ok(None) => {
                    return Err(RegistryError::TooLarge {
                        what: wanted.what.clone(),
                        host: endpoint.host.clone(),
                        limit,
                    });
                }
                Err(error) if number >= self.retry.attempts => return Err(error.into()),
                Err(_) => tokio::time::sleep(self.retry.wait(number, None)).await,
            }
        }
    }

    /// Sends a request until there is a good answer (2xx) or a final one.
    async fn get(&self, endpoint: &Endpoint, wanted: &Wanted) -> Result<Response, RegistryError> {
        let mut number = 0;
        loop {
            number += 1;
            let last = number >= self.retry.attempts;
            let asked = match self.get_once(endpoint, wanted).await {
                Ok(response) if (200..300).contains(&response.status) => return Ok(response),
                Ok(response) if passing(response.status) && !last => retry_after(&response),
                Ok(response) => return Err(refusal(endpoint, wanted, response).await),
                Err(RegistryError::Transport(TransportError::Broken { .. })) if !last => None,
                Err(error) => return Err(error),
            };
            tokio::time::sleep(self.retry.wait(number, asked)).await;
        }
    }

    async fn get_once(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Result<Response, RegistryError> {
        let plain = match endpoint.security {
            Security::Https => Some(false),
            Security::Http => Some(true),
            Security::Insecure => self.known.borrow().plain.get(&endpoint.host).copied(),
        };
        if let Some(plain) = plain {
            return self.authorized(endpoint, wanted, plain).await;
        }
        let (plain, result) = match self.authorized(endpoint, wanted, false).await {
            Err(RegistryError::Transport(TransportError::Connect { .. })) => {
                (true, self.authorized(endpoint, wanted, true).await)
            }
            result => (false, result),
        };
        if result.is_ok() {
            self.known
                .borrow_mut()
                .plain
                .insert(endpoint.host.clone(), plain);
        }
        result
    }

    /// Sends with what the host is known to take, and once more with what it then asks for.
    async fn authorized(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
        plain: bool,
    ) -> Result<Response, RegistryError> {
        let scheme = if plain { "http" } else { "https" };
        let text = format!(
            "{scheme}://{}{}/v2/{}/{}",
            endpoint.host, endpoint.base, endpoint.repository, wanted.path
        );
        let url = Url::parse(&text).map_err(|error| TransportError::Connect {
            host: endpoint.host.clone(),
            reason: error.to_string(),
        })?;
        let key = (endpoint.host.clone(), endpoint.repository.clone());
        let known = self.known.borrow().authorization.get(&key).cloned();
        let response = self.redirected(endpoint, wanted, &url, known).await?;
        if response.status != 401 {
            return Ok(response);
        }
        let headers = response
            .headers
            .iter()
            .filter(|(name, _)| name == "www-authenticate");
        let Some(challenge) = parse_challenges(headers.map(|(_, value)| value.as_str())) else {
            return Err(self.denied(endpoint));
        };
        drop(response);
        let authorization = self.answer(endpoint, &challenge, plain).await?;
        self.known
            .borrow_mut()
            .authorization
            .insert(key, authorization.clone());
        match self
            .redirected(endpoint, wanted, &url, Some(authorization))
            .await?
        {
            response if response.status == 401 => Err(self.denied(endpoint)),
            response => Ok(response),
        }
    }

    /// Follows redirects. The authorization stays behind where the origin changes.
    async fn redirected(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
        url: &Url,
        mut authorization: Option<String>,
    ) -> Result<Response, RegistryError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = wanted.headers.clone();
            headers.extend(authorization.clone().map(|value| ("authorization", value)));
            let request = Request {
                url: url.clone(),
                headers,
                form: None,
                any_certificate: endpoint.security == Security::Insecure
                    && host_of(&url) == endpoint.host,
            };
            let response = self.transport.send(request).await?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.header("location").unwrap_or_default().to_owned();
            let refused = |reason| RegistryError::Redirect {
                host: host_of(&url),
                location: location.clone(),
                reason,
            };
            let next = url
                .join(&location)
                .map_err(|_| refused("it is not a URL"))?;
            match (url.scheme(), next.scheme()) {
                (_, "https") | ("http", "http") => {}
                ("https", "http") => return Err(refused("it is not encrypted any more")),
                _ => return Err(refused("it is neither http nor https")),
            }
            if next.origin() != url.origin() {
                authorization = None;
            }
            url = next;
        }
        Err(RegistryError::Redirect {
            host: endpoint.host.clone(),
            location: url.to_string(),
            reason: "there were too many redirects before it",
        })
    }

    /// Gets the authorization header that meets a challenge.
    async fn answer(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        plain: bool,
    ) -> Result<String, RegistryError> {
        let secret = self.credentials.of_host(&endpoint.host);
        let (realm, service, scope) = match (challenge, secret) {
            (Challenge::Basic, secret) => {
                let basic = secret.and_then(Secret::basic);
                return basic.ok_or_else(|| self.denied(endpoint));
            }
            (Challenge::Bearer { .. }, Some(Secret::Bearer(token))) => {
                return Ok(format!("Bearer {token}"));
            }
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                _,
            ) => (realm, service, scope),
        };
        let unsupported = |reason: String| RegistryError::Challenge {
            host: endpoint.host.clone(),
            reason,
        };
        let mut url = Url::parse(realm)
            .map_err(|_| unsupported(format!("`{realm}` is not the URL of a token server")))?;
        let same_host = host_of(&url) == endpoint.host;
        match url.scheme() {
            "https" => {}
            "http" if plain => {}
            _ => {
                return Err(unsupported(format!(
                    "the token server `{realm}` is not encrypted"
                )));
            }
        }
        // Over plain HTTP, whoever sits in between could name any token server.
        let secret = secret.filter(|_| url.scheme() == "https" || same_host);
        let scope = scope.clone();
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", endpoint.repository));
        let service = service.iter().map(|service| ("service", service.clone()));
        let mut parameters: Vec<_> = service.chain([("scope", scope)]).collect();
        let mut headers = Vec::new();
        let form = match secret {
            Some(Secret::Identity(token)) => {
                parameters.push(("grant_type", "refresh_token".to_owned()));
                parameters.push(("client_id", "stack".to_owned()));
                parameters.push(("refresh_token", token.clone()));
                Some(parameters)
            }
            other => {
                headers.extend(other.and_then(Secret::basic).map(|v| ("authorization", v)));
                url.query_pairs_mut().extend_pairs(&parameters);
                None
            }
        };
        let request = Request {
            any_certificate: endpoint.security == Security::Insecure && same_host,
            url,
            headers,
            form,
        };
        self.token(endpoint, &request).await
    }

    async fn token(&self, endpoint: &Endpoint, request: &Request) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let host = host_of(&request.url);
        let wanted = Wanted {
            path: String::new(),
            what: "a token".to_owned(),
            headers: Vec::new(),
        };
        let mut number = 0;
        let mut response = loop {
            number += 1;
            let last = number >= self.retry.attempts;
            let asked = match self.transport.send(request.clone()).await {
                Ok(response) if passing(response.status) && !last => retry_after(&response),
                Ok(response) => break response,
                Err(TransportError::Broken { .. }) if !last => None,
                Err(error) => return Err(error.into()),
            };
            tokio::time::sleep(self.retry.wait(number, asked)).await;
        };
        match response.status {
            200..300 => {}
            401 | 403 => return Err(self.denied(endpoint)),
            _ => {
                let at = Endpoint {
                    host,
                    ..endpoint.clone()
                };
                return Err(refusal(&at, &wanted, response).await);
            }
        }
        let bytes = read_all(&mut *response.body, MAX_DOCUMENT_BYTES).await?;
        let token: Option<Token> = serde_json::from_slice(&bytes.unwrap_or_default()).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        // A header takes no line breaks; a token has none.
        let token =
            token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        token
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(|| RegistryError::Challenge {
                host,
                reason: "the token server answered without a token".to_owned(),
            })
    }

    fn denied(&self, endpoint: &Endpoint) -> RegistryError {
        let helpers =
            self.credentials.helpers && self.credentials.of_host(&endpoint.host).is_none();
        RegistryError::Denied {
            repository: endpoint.repository.clone(),
            host: endpoint.host.clone(),
            hint: if helpers {
                " (credential helpers of Docker's config.json are not supported yet)"
            } else {
                ""
            },
        }
    }
}

/// A blob on its way. Breaks are mended by asking for the rest.
pub struct BlobStream<'c> {
    client: &'c Client<'c>,
    endpoint: &'c Endpoint,
    descriptor: &'c Descriptor,
    body: Box<dyn Body>,
    /// Bytes handed out.
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
            if self.breaks >= self.client.retry.attempts {
                return Err(error.into());
            }
            tokio::time::sleep(self.client.retry.wait(self.breaks, None)).await;
            self.resume().await?;
        }
    }

    /// Asks for the rest; a server without ranges sends all again.
    async fn resume(&mut self) -> Result<(), RegistryError> {
        let wanted = Wanted::blob(&self.descriptor.digest, self.offset);
        let response = self.client.get(self.endpoint, &wanted).await?;
        let from_here = response
            .header("content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {}-", self.offset)));
        self.skip = if response.status == 206 && from_here {
            0
        } else {
            self.offset
        };
        if response.status == 206 && !from_here {
            return Err(refusal(self.endpoint, &wanted, response).await);
        }
        self.body = response.body;
        Ok(())
    }
}

/// Compares digests.
pub(crate) fn check_digest(
    what: &'static str,
    endpoint: &Endpoint,
    expected: &Digest,
    found: &Digest,
) -> Result<(), RegistryError> {
    if expected == found {
        Ok(())
    } else {
        Err(RegistryError::Digest {
            what,
            host: endpoint.host.clone(),
            expected: expected.clone(),
            found: found.clone(),
        })
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

/// Reads a whole body; `None` if it is larger than `limit`.
async fn read_all(body: &mut dyn Body, limit: u64) -> Result<Option<Vec<u8>>, TransportError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Whether the answer may be another one soon.
fn passing(status: u16) -> bool {
    matches!(status, 408 | 429) || (500..600).contains(&status)
}

/// Reads `Retry-After` in seconds; a date is left to our own waits.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Makes an error of an answer, in the registry's words where it has some.
async fn refusal(endpoint: &Endpoint, wanted: &Wanted, mut response: Response) -> RegistryError {
    let body = read_all(&mut *response.body, 64 << 10).await;
    let message = message_of(&body.ok().flatten().unwrap_or_default());
    let message = message
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
    let what = wanted.what.clone();
    match response.status {
        403 => RegistryError::Denied {
            repository,
            host,
            hint: "",
        },
        404 => RegistryError::NotFound {
            what,
            repository,
            host,
            message,
        },
        status => RegistryError::Status {
            what,
            repository,
            host,
            status,
            message,
        },
    }
}

/// Takes the message out of `{"errors":[{"code","message"}]}` and its like, else the first line of text.
fn message_of(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => {
            let error = value.pointer("/errors/0");
            let field = |name: &str| {
                let found = error.and_then(|e| e.get(name)).or_else(|| value.get(name));
                found.and_then(|text| text.as_str()).map(str::to_owned)
            };
            let message = field("message").or_else(|| field("details"));
            message
                .filter(|m| !m.is_empty())
                .or_else(|| field("code"))?
        }
        Err(_) => String::from_utf8_lossy(body).lines().next()?.to_owned(),
    };
    // It goes to a terminal.
    let shown: String = text.chars().filter(|c| !c.is_control()).take(256).collect();
    Some(shown.trim().to_owned()).filter(|shown| !shown.is_empty())
}
