//! HTTP: one request, one answer. Redirects, retries and authorization are the client's matter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::config::is_local;

/// Of a file, sent at once.
const PIECE_BYTES: usize = 128 << 10;

/// A future of this thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Whole.
    Get,
    /// Headers alone.
    Head,
    /// Begin something.
    Post,
    /// End it.
    Put,
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// Few bytes.
    Bytes(Vec<u8>),
    /// A file that holds still, streamed.
    File {
        /// Which.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
        /// How many of them were handed to the connection so far.
        sent_bytes: Arc<AtomicU64>,
    },
}

/// How the other side proves who it is, and we to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// Accept any certificate.
    pub any_certificate: bool,
    /// Files with certificates (PEM) that are trusted beside the machine's.
    pub authorities: Vec<PathBuf>,
    /// Files (PEM) with our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A header: its name in lower case, its value.
pub type Header = (Cow<'static, str>, String);

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Absolute.
    pub url: reqwest::Url,
    /// Names in lower case.
    pub headers: Vec<Header>,
    /// What goes with it.
    pub body: RequestBody,
    /// Whom to believe.
    pub tls: Tls,
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
    /// Somebody is there, whose certificate does not hold.
    #[error("cannot connect to {host}: {reason}")]
    Untrusted {
        /// `host[:port]`.
        host: String,
        /// What is wrong with it.
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
    /// A certificate or key of the configuration.
    #[error("use the certificate `{}` for {host}: {reason}", path.display())]
    Certificate {
        /// `host[:port]`.
        host: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Whoever carries requests.
pub trait Transport {
    /// Sends a request; an answer of any status is an answer.
    fn send(&self, request: Request) -> Local<'_, Result<Response, TransportError>>;
}

/// What requests must have in common to share connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// To this machine.
    local: bool,
    /// With a body that takes its time: the answer's beginning may be long in coming.
    upload: bool,
    tls: Tls,
}

/// The real one. Its clients are made when first needed, as reading the machine's certificates takes milliseconds.
#[derive(Debug)]
pub struct Http {
    clients: Mutex<BTreeMap<Kind, reqwest::Client>>,
    /// How long nothing may come.
    stall: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self::new(super::Retry::default().stall)
    }
}

impl Http {
    /// Makes one that gives a connection up where nothing comes for so long.
    pub fn new(stall: Duration) -> Self {
        Self {
            clients: Mutex::default(),
            stall,
        }
    }

    fn client(&self, request: &Request, host: &str) -> Result<reqwest::Client, TransportError> {
        let local = is_local(host);
        let mut tls = request.tls.clone();
        // Nobody else answers there; Docker too accepts any certificate of this machine's.
        tls.any_certificate |= local;
        let kind = Kind {
            local,
            upload: matches!(request.body, RequestBody::File { .. }),
            tls,
        };
        if let Ok(clients) = self.clients.lock()
            && let Some(client) = clients.get(&kind)
        {
            return Ok(client.clone());
        }
        let client = build(&kind, host, self.stall)?;
        if let Ok(mut clients) = self.clients.lock() {
            clients.insert(kind, client.clone());
        }
        Ok(client)
    }
}

fn build(kind: &Kind, host: &str, stall: Duration) -> Result<reqwest::Client, TransportError> {
    // A second call finds the provider set, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let read = |path: &Path| {
        fs_err::read(path).map_err(|error| TransportError::Certificate {
            host: host.to_owned(),
            path: path.to_owned(),
            reason: error.to_string(),
        })
    };
    let unusable = |path: &Path, error: &reqwest::Error| TransportError::Certificate {
        host: host.to_owned(),
        path: path.to_owned(),
        reason: innermost(error),
    };
    let mut authorities = Vec::new();
    for path in &kind.tls.authorities {
        let found = reqwest::Certificate::from_pem_bundle(&read(path)?);
        authorities.extend(found.map_err(|error| unusable(path, &error))?);
    }
    let identity = match &kind.tls.identity {
        Some((certificate, key)) => {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = reqwest::Identity::from_pem(&pem);
            Some(identity.map_err(|error| unusable(certificate, &error))?)
        }
        None => None,
    };
    let builder = || {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stack/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15));
        if !kind.upload {
            builder = builder.read_timeout(stall);
        }
        if let Some(identity) = identity.clone() {
            builder = builder.identity(identity);
        }
        // As in Go, no proxy stands between us and this machine.
        if kind.local {
            builder.no_proxy()
        } else {
            builder
        }
    };
    let made = if kind.tls.any_certificate {
        builder().tls_danger_accept_invalid_certs(true).build()
    } else {
        builder().tls_certs_merge(authorities.clone()).build()
    };
    // Without a bundle of certificates on the machine that fails, but plain HTTP needs none.
    let made = made.or_else(|_| builder().tls_certs_only(authorities).build());
    made.map_err(|error| failure(host, &error.without_url(), stall))
}

impl Transport for Http {
    fn send(&self, request: Request) -> Local<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let host = host_of(&request.url);
            let client = self.client(&request, &host)?;
            let method = match request.method {
                Method::Get => reqwest::Method::GET,
                Method::Head => reqwest::Method::HEAD,
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
            };
            let mut builder = client.request(method, request.url.clone());
            for (name, value) in &request.headers {
                builder = builder.header(name.as_ref(), value);
            }
            builder = match request.body {
                RequestBody::Empty if matches!(request.method, Method::Post | Method::Put) => {
                    // Some servers insist (RFC 9110 8.6).
                    builder.header("content-length", "0")
                }
                RequestBody::Empty => builder,
                RequestBody::Bytes(bytes) => builder.body(bytes),
                RequestBody::File {
                    path,
                    size_bytes,
                    sent_bytes,
                } => builder
                    .header("content-length", size_bytes.to_string())
                    .body(stream_file(&path, sent_bytes)),
            };
            let stall = self.stall;
            let response = builder.send().await;
            let response = response.map_err(|error| failure(&host, &error.without_url(), stall))?;
            let headers = response.headers().iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            });
            Ok(Response {
                status: response.status().as_u16(),
                headers: headers.collect(),
                body: Box::new(HttpBody {
                    host,
                    response,
                    stall,
                }),
            })
        })
    }
}

/// Streams a file, a piece in memory at a time. Where it cannot be read, the connection breaks with the reason.
fn stream_file(path: &Path, sent_bytes: Arc<AtomicU64>) -> reqwest::Body {
    sent_bytes.store(0, Ordering::Relaxed);
    let file = fs_err::File::open(path);
    let pieces = futures_util::stream::unfold(Some(file), move |file| {
        let sent_bytes = sent_bytes.clone();
        async move {
            let mut file = match file? {
                Ok(file) => file,
                Err(error) => return Some((Err(error), None)),
            };
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let mut limited = std::io::Read::take(&mut file, PIECE_BYTES as u64);
            match std::io::Read::read_to_end(&mut limited, &mut piece) {
                Ok(0) => None,
                Ok(length) => {
                    sent_bytes.fetch_add(length as u64, Ordering::Relaxed);
                    Some((Ok(piece), Some(Ok(file))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    reqwest::Body::wrap_stream(pieces)
}

struct HttpBody {
    host: String,
    response: reqwest::Response,
    stall: Duration,
}

impl Body for HttpBody {
    fn chunk(&mut self) -> Local<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            let chunk = self.response.chunk().await;
            let chunk =
                chunk.map_err(|error| failure(&self.host, &error.without_url(), self.stall))?;
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

/// Encodes a form (`application/x-www-form-urlencoded`).
pub(super) fn encode_form(form: &[(&'static str, String)]) -> Vec<u8> {
    // A URL's query has the same encoding.
    let mut url = reqwest::Url::parse("http://x/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(form);
    }
    let query = url.and_then(|url| url.query().map(str::to_owned));
    query.unwrap_or_default().into_bytes()
}

/// Takes the innermost reason, which says most.
fn innermost(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// Whether the other side's certificate was refused: asking again changes nothing.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        // A system's error hides what it was made of.
        let within = error.downcast_ref::<std::io::Error>();
        let within = within.and_then(std::io::Error::get_ref);
        let tls = within.and_then(|within| within.downcast_ref::<rustls::Error>());
        let tls = tls.or_else(|| error.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

fn failure(host: &str, error: &reqwest::Error, stall: Duration) -> TransportError {
    let host = host.to_owned();
    let reason = if error.is_timeout() && !error.is_connect() {
        format!("nothing came for {} s", stall.as_secs_f32())
    } else {
        innermost(error)
    };
    if is_untrusted(error) {
        TransportError::Untrusted { host, reason }
    } else if error.is_connect() || error.is_builder() {
        TransportError::Connect { host, reason }
    } else {
        TransportError::Broken { host, reason }
    }
}
