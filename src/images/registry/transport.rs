//! HTTP: one request, one answer. Redirects, retries and authorization are the client's matter.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use super::config::is_local;

/// A future of this thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Absolute.
    pub url: reqwest::Url,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// A form makes it a POST; without one it is a GET.
    pub form: Option<Vec<(&'static str, String)>>,
    /// Accept any certificate.
    pub any_certificate: bool,
}

/// The head of an answer, and the way to its body.
pub struct Response {
    /// HTTP's number.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The rest.
    pub body: Box<dyn Body>,
}

impl Response {
    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// The body of an answer.
pub trait Body {
    /// Returns the next bytes; `None` at the end.
    fn chunk(&mut self) -> Local<'_, Result<Option<Vec<u8>>, TransportError>>;
}

/// Why there is no answer, or not all of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody is there.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// `host[:port]`.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// It broke off.
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        /// `host[:port]`.
        host: String,
        /// What happened.
        reason: String,
    },
}

/// Whoever carries requests.
pub trait Transport {
    /// Sends a request; an answer of any status is an answer.
    fn send(&self, request: Request) -> Local<'_, Result<Response, TransportError>>;
}

/// The real one. Its clients are made when first needed, as reading the machine's certificates takes milliseconds.
#[derive(Debug, Default)]
pub struct Http {
    strict: OnceLock<reqwest::Client>,
    any_certificate: OnceLock<reqwest::Client>,
    local: OnceLock<reqwest::Client>,
}

impl Http {
    fn client(&self, request: &Request, host: &str) -> Result<reqwest::Client, reqwest::Error> {
        // As in Go, no proxy stands between us and this machine.
        let local = is_local(host);
        let slot = match (local, request.any_certificate) {
            (true, _) => &self.local,
            (false, true) => &self.any_certificate,
            (false, false) => &self.strict,
        };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        // A second call finds the provider set, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("stack/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(15))
                .read_timeout(Duration::from_mins(1));
            if local { builder.no_proxy() } else { builder }
        };
        let client = if local || request.any_certificate {
            builder().tls_danger_accept_invalid_certs(true).build()
        } else {
            builder().build()
        };
        // Without a bundle of certificates on the machine that fails, but plain HTTP needs none.
        let client = client.or_else(|_| builder().tls_certs_only([]).build())?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

impl Transport for Http {
    fn send(&self, request: Request) -> Local<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let host = host_of(&request.url);
            let client = self
                .client(&request, &host)
                .map_err(|e| failure(&host, &e))?;
            let mut builder = match &request.form {
                Some(form) => client
                    .post(request.url.clone())
                    .body(encode_form(form))
                    .header("content-type", "application/x-www-form-urlencoded"),
                None => client.get(request.url.clone()),
            };
            for (name, value) in &request.headers {
                builder = builder.header(*name, value);
            }
            let response = builder.send().await.map_err(|e| failure(&host, &e))?;
            let headers = response.headers().iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            });
            Ok(Response {
                status: response.status().as_u16(),
                headers: headers.collect(),
                body: Box::new(HttpBody { host, response }),
            })
        })
    }
}

struct HttpBody {
    host: String,
    response: reqwest::Response,
}

impl Body for HttpBody {
    fn chunk(&mut self) -> Local<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            let chunk = self.response.chunk().await;
            let chunk = chunk.map_err(|error| failure(&self.host, &error))?;
            Ok(chunk.map(|bytes| bytes.to_vec()))
        })
    }
}

/// Returns `host[:port]` of a URL.
pub(super) fn host_of(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn encode_form(form: &[(&'static str, String)]) -> String {
    // A URL's query has the same encoding.
    let mut url = reqwest::Url::parse("http://x/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(form);
    }
    url.and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

/// Takes the innermost reason, which says most.
fn failure(host: &str, error: &reqwest::Error) -> TransportError {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    let host = host.to_owned();
    let reason = reason.to_string();
    if error.is_connect() || error.is_builder() {
        TransportError::Connect { host, reason }
    } else {
        TransportError::Broken { host, reason }
    }
}
