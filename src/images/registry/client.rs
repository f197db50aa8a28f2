//! The client: requests with authorization, redirects and repetitions.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;

use super::auth::{Challenge, Credentials, Secret, parse_challenges};
use super::config::{Endpoint, RegistryConfig, Security};
use super::error::RegistryError;
use super::token::{Access, Token};
use super::transport::{
    Body, Header, Method, Request, RequestBody, Response, Tls, Transport, TransportError, host_of,
};
use super::{ClientEnvironment, Retry};
use crate::images::reference::{Digest, Reference};

const MAX_REDIRECTS: u32 = 5;
/// What a registry warns of: so many texts, so long each.
const MAX_WARNINGS: usize = 16;
const MAX_WARNING_BYTES: usize = 1024;
/// Of answers that are errors.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;

/// Asks registries.
pub struct Client<'a> {
    pub(super) transport: &'a dyn Transport,
    pub(super) config: RegistryConfig,
    pub(super) credentials: Credentials,
    pub(super) retry: Retry,
    pub(super) known: RefCell<Known>,
    /// One token is fetched at a time, so that what many requests need is fetched once.
    pub(super) asking: tokio::sync::Mutex<()>,
}

/// What earlier answers taught.
#[derive(Default)]
pub(super) struct Known {
    /// Host to whether it speaks plain HTTP.
    pub(super) plain: BTreeMap<String, bool>,
    /// Host to what it asks of everyone.
    pub(super) challenges: BTreeMap<String, Challenge>,
    /// Host and scopes to the authorization that it takes.
    pub(super) tokens: BTreeMap<(String, String), Token>,
    /// Host and repository to our secret for them.
    pub(super) secrets: BTreeMap<(String, String), Option<Secret>>,
    /// Hosts that have answered.
    pub(super) reached: BTreeSet<String>,
    /// What registries warn of, each once.
    pub(super) warnings: BTreeSet<String>,
    /// Why a credential helper could not be asked.
    pub(super) helper_problem: Option<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Beneath the repository: `manifests/latest`, with a query perhaps.
    Below(String),
    /// Where the server said.
    At(Url),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) method: Method,
    pub(super) place: Place,
    /// For messages: `manifest latest`.
    pub(super) what: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: RequestBody,
    pub(super) access: Access,
    /// The body is a secret: it goes to no other origin.
    pub(super) confidential: bool,
    /// Named by a document, not by a registry: not for this machine and its neighbours.
    pub(super) outside: bool,
}

impl Wanted {
    pub(super) fn get(below: String, what: String) -> Self {
        Self {
            method: Method::Get,
            place: Place::Below(below),
            what,
            headers: Vec::new(),
            body: RequestBody::Empty,
            access: Access::Pull,
            confidential: false,
            outside: false,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((Cow::Borrowed(name), value.into()));
        self
    }
}

/// What came of one attempt.
pub(super) enum Attempt {
    /// 2xx.
    Good(Response),
    /// It may be another one soon: why, and when the server wants to be asked again.
    Passing(RegistryError, Option<Duration>),
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
            credentials: Credentials::read(environment)?,
            retry: environment.retry,
            known: RefCell::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Returns where to ask for `reference`, in order.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        Ok(self.config.endpoints(reference)?)
    }

    /// Returns where `reference` is pushed to.
    pub fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        Ok(self.config.push_endpoint(reference)?)
    }

    /// Sends a request until there is a good answer (2xx) or a final one.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Result<Response, RegistryError> {
        let mut number = 0;
        loop {
            number += 1;
            match self.attempt(endpoint, wanted).await? {
                Attempt::Good(response) => return Ok(response),
                Attempt::Passing(error, asked) => {
                    if !self.retry.pause(number, asked).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Sends a request once, that is: with all the authorization and redirects that it takes.
    pub(super) async fn attempt(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Result<Attempt, RegistryError> {
        let response = match self.by_scheme(endpoint, wanted).await {
            Ok(response) => response,
            Err(error @ RegistryError::Transport(TransportError::Broken { .. })) => {
                return Ok(Attempt::Passing(error, None));
            }
            // Whoever cannot be reached at all is said at once; whoever was there a moment ago may be there again.
            Err(error @ RegistryError::Transport(TransportError::Connect { .. }))
                if self.known.borrow().reached.contains(&endpoint.host) =>
            {
                return Ok(Attempt::Passing(error, None));
            }
            Err(error) => return Err(error),
        };
        self.note_warnings(endpoint, &response);
        if (200..300).contains(&response.status) {
            return Ok(Attempt::Good(response));
        }
        let passing = passing(response.status);
        let asked = retry_after(&response);
        let error = refusal(endpoint, wanted, response, asked).await;
        if passing {
            Ok(Attempt::Passing(error, asked))
        } else {
            Err(error)
        }
    }

    async fn by_scheme(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Result<Response, RegistryError> {
        let plain = match endpoint.security {
            Security::Https | Security::AnyCertificate => Some(false),
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
        let own = url_of(endpoint, "", plain)?;
        let url = match &wanted.place {
            Place::Below(below) => url_of(endpoint, below, plain)?,
            Place::At(url) => url.clone(),
        };
        // A place that the server named on another host gets nothing of ours.
        if url.origin() != own.origin() {
            let (response, _) = self.redirected(endpoint, wanted, &url, None).await?;
            return Ok(response);
        }
        let known = self.known_header(endpoint, &wanted.access, plain).await?;
        let (mut response, answered) = self
            .redirected(endpoint, wanted, &url, known.clone())
            .await?;
        if response.status != 401 {
            return Ok(response);
        }
        // What another host asks for is none of ours to give.
        if answered.origin() != own.origin() {
            let other = host_of(&answered);
            let hint = format!(" ({other} says so, where it redirects to)");
            return Err(denied(endpoint, None, hint));
        }
        let headers = response
            .headers
            .iter()
            .filter(|(name, _)| name == "www-authenticate");
        let challenge = parse_challenges(headers.map(|(_, value)| value.as_str()));
        // A body that was read to its end leaves the connection to the next request.
        let said = read_all(&mut *response.body, MAX_MESSAGE_BYTES).await;
        let message = message_of(&said.ok().flatten().unwrap_or_default());
        let Some(challenge) = challenge else {
            return Err(self.denied(endpoint, message));
        };
        drop(response);
        let header = self
            .answer(endpoint, &wanted.access, (&challenge, plain), known)
            .await?;
        match self
            .redirected(endpoint, wanted, &url, Some(header))
            .await?
        {
            (response, _) if response.status == 401 => Err(self.denied(endpoint, message)),
            (response, _) => Ok(response),
        }
    }

    /// Follows redirects; returns the last answer and whose it is. The authorization stays behind where the origin changes.
    pub(super) async fn redirected(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted,
        url: &Url,
        mut authorization: Option<String>,
    ) -> Result<(Response, Url), RegistryError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = wanted.headers.clone();
            if let Some(value) = &authorization {
                headers.push((Cow::Borrowed("authorization"), value.clone()));
            }
            if host_of(&url) == endpoint.host {
                let own = endpoint.headers.iter().cloned();
                headers.extend(own.map(|(name, value)| (Cow::Owned(name), value)));
            }
            let request = Request {
                method: wanted.method,
                url: url.clone(),
                headers,
                body: wanted.body.clone(),
                tls: tls_for(endpoint, &url),
            };
            let mut response = self.transport.send(request).await?;
            if host_of(&url) == endpoint.host {
                let host = endpoint.host.clone();
                self.known.borrow_mut().reached.insert(host);
            }
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let location = response.header("location").map(str::trim);
            let Some(location) = location.filter(|location| !location.is_empty()) else {
                return Err(RegistryError::NoLocation {
                    host: host_of(&url),
                    status: response.status,
                });
            };
            let location = location.to_owned();
            let next = next_hop(&url, &location, wanted.method, response.status)?;
            // Read to its end, so that the connection can be used again; what it says does not matter.
            let _said = read_all(&mut *response.body, MAX_MESSAGE_BYTES).await;
            let refused = |reason| RegistryError::Redirect {
                host: host_of(&url),
                location: shown(next.as_str()),
                reason,
            };
            if wanted.outside && is_near(&next) && !is_near(&url) {
                return Err(refused("it leads into this machine's own network"));
            }
            if next.origin() != url.origin() {
                if wanted.confidential {
                    return Err(refused("a secret would go to another host"));
                }
                authorization = None;
            }
            url = next;
        }
        Err(RegistryError::Redirect {
            host: endpoint.host.clone(),
            location: shown(url.as_str()),
            reason: "there were too many redirects before it",
        })
    }

    /// Keeps what an answer warns of.
    fn note_warnings(&self, endpoint: &Endpoint, response: &Response) {
        let warnings = &mut self.known.borrow_mut().warnings;
        let headers = response.headers.iter();
        for (_, value) in headers.filter(|(name, _)| name == "warning") {
            if warnings.len() < MAX_WARNINGS
                && let Some(text) = warning_of(value)
            {
                warnings.insert(format!("{} says: {text}", endpoint.host));
            }
        }
    }

    /// Returns what registries warned of so far.
    pub fn warnings(&self) -> Vec<String> {
        self.known.borrow().warnings.iter().cloned().collect()
    }

    pub(super) fn denied(&self, endpoint: &Endpoint, message: Option<String>) -> RegistryError {
        let problem = self.known.borrow().helper_problem.clone();
        let hint = problem.map(|problem| format!(" ({problem})"));
        denied(endpoint, message, hint.unwrap_or_default())
    }
}

/// Returns `http[s]://host/v2/<repository>/<below>`.
pub(super) fn url_of(endpoint: &Endpoint, below: &str, plain: bool) -> Result<Url, RegistryError> {
    let scheme = if plain { "http" } else { "https" };
    let text = format!("{scheme}://{}{}", endpoint.host, endpoint.path(below));
    let mut url = Url::parse(&text).map_err(|error| TransportError::Connect {
        host: endpoint.host.clone(),
        reason: error.to_string(),
    })?;
    if let Some(namespace) = &endpoint.namespace {
        url.query_pairs_mut().append_pair("ns", namespace);
    }
    Ok(url)
}

/// The configured authorities are believed wherever the registry leads, as in Docker (its token server is often behind the same
/// authority); our own certificate is shown, and any certificate taken, at the registry itself alone.
pub(super) fn tls_for(endpoint: &Endpoint, url: &Url) -> Tls {
    let same = host_of(url) == endpoint.host;
    let any = matches!(
        endpoint.security,
        Security::Insecure | Security::AnyCertificate
    );
    Tls {
        any_certificate: any && same,
        authorities: endpoint.tls.authorities.clone(),
        identity: endpoint.tls.identity.clone().filter(|_| same),
    }
}

fn next_hop(url: &Url, location: &str, method: Method, status: u16) -> Result<Url, RegistryError> {
    let refused = |reason| RegistryError::Redirect {
        host: host_of(url),
        location: shown(location),
        reason,
    };
    let next = url.join(location);
    let next = next.map_err(|_| refused("it is not a URL"))?;
    if status == 303 && !matches!(method, Method::Get | Method::Head) {
        return Err(refused("it asks for something else than was sent"));
    }
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        ("https", "http") => Err(refused("it is not encrypted any more")),
        _ => Err(refused("it is neither http nor https")),
    }
}

/// Reads a `Warning` header as the distribution-spec has it: `299 - "text"`.
fn warning_of(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 ")?.split_once('"')?.1;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next().filter(|next| !next.is_control())),
            // A stranger's words go to a terminal.
            character if character.is_control() => text.push(' '),
            character => text.push(character),
        }
        if text.len() >= MAX_WARNING_BYTES {
            break;
        }
    }
    Some(text).filter(|text| !text.trim().is_empty())
}

/// Shows where a URL leads, without its query and whatever else may let somebody in: that is for no log.
pub(super) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if url.has_host() => {
            format!("{}://{}{}", url.scheme(), host_of(&url), url.path())
        }
        Ok(_) | Err(_) => url.split(['?', '#']).next().unwrap_or(url).to_owned(),
    }
}

/// Whether a URL names this machine or its own network by address.
pub(super) fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => match address.to_canonical() {
            IpAddr::V4(a) => {
                a.is_loopback() || a.is_private() || a.is_link_local() || a.is_unspecified()
            }
            IpAddr::V6(a) => {
                a.is_loopback()
                    || a.is_unspecified()
                    || a.is_unique_local()
                    || a.is_unicast_link_local()
            }
        },
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
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

/// Reads a whole body; `None` if it is larger than `limit`.
pub(super) async fn read_all(
    body: &mut dyn Body,
    limit: u64,
) -> Result<Option<Vec<u8>>, TransportError> {
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
pub(super) fn passing(status: u16) -> bool {
    matches!(status, 408 | 429) || (500..600).contains(&status)
}

/// Reads `Retry-After`: seconds, or a date, which is compared with the server's own clock (RFC 9110 10.2.3).
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).map(|date| date.timestamp());
    let until = date(text).ok()?;
    let now = response.header("date").and_then(|text| date(text).ok());
    let now = now.unwrap_or_else(jiff::Timestamp::now);
    // What has passed already is now.
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// Makes an error of an answer, in the registry's words where it has some.
pub(super) async fn refusal(
    endpoint: &Endpoint,
    wanted: &Wanted,
    mut response: Response,
    asked: Option<Duration>,
) -> RegistryError {
    let body = read_all(&mut *response.body, MAX_MESSAGE_BYTES).await;
    let found = message_of(&body.ok().flatten().unwrap_or_default());
    let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
    let what = wanted.what.clone();
    let message = || {
        let found = found.clone();
        found.map(|m| format!(": {m}")).unwrap_or_default()
    };
    match response.status {
        401 | 403 => denied(endpoint, found, String::new()),
        404 => RegistryError::NotFound {
            what,
            repository,
            host,
            message: message(),
        },
        429 => RegistryError::RateLimited {
            host,
            message: message(),
            wait: asked.filter(|wait| !wait.is_zero()),
        },
        status => RegistryError::Status {
            what,
            repository,
            host,
            status,
            message: message(),
        },
    }
}

fn denied(endpoint: &Endpoint, message: Option<String>, hint: String) -> RegistryError {
    // What every registry says to strangers says nothing more.
    let plain = |message: &String| {
        !matches!(
            message.to_ascii_lowercase().as_str(),
            "authentication required" | "unauthorized" | "access denied"
        )
    };
    let message = message.filter(plain);
    RegistryError::Denied {
        repository: endpoint.repository.clone(),
        host: endpoint.host.clone(),
        message: message.map(|m| format!(" ({m})")).unwrap_or_default(),
        hint,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_somebody_in_is_not_shown() {
        for (url, expected) in [
            (
                "https://u:p@h.example:1/a/b?X-Amz-Signature=1#f",
                "https://h.example:1/a/b",
            ),
            (
                "/v2/a/blobs/uploads/1?_state=secret",
                "/v2/a/blobs/uploads/1",
            ),
            ("ftp://x/", "ftp://x/"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_near_is_known_by_its_address() {
        for (url, expected) in [
            ("https://169.254.169.254/x", true),
            ("https://0x7f.1/x", true),
            ("https://[::1]:5000/x", true),
            ("https://[::ffff:10.0.0.1]/x", true),
            ("https://[fd00::1]/x", true),
            ("https://localhost/x", true),
            ("https://a.localhost/x", true),
            ("https://1.2.3.4/x", false),
            ("https://mcr.example/x", false),
        ] {
            assert_eq!(is_near(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
