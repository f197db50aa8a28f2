//! Files by URL.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use reqwest::Url;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::super::super::registry::transport::{
    Method, Request, RequestBody, Response, Tls, Transport,
};
use super::RemoteError;
use super::credentials::shown;
use crate::images::build::context::hex;

/// How many times a server may point elsewhere.
const MAX_REDIRECTS: usize = 10;

/// What is known of a URL from an earlier build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the server called that state.
    pub etag: String,
    /// `sha256:…` of the body.
    pub digest: String,
    /// Of `Last-Modified`, seconds since 1970.
    pub modified: i64,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies; nothing if it is as it was known to be.
    pub path: Option<PathBuf>,
    /// The last part of the URL's path.
    pub name: String,
    /// `sha256:…` of the body.
    pub digest: String,
    /// Of `Last-Modified`, seconds since 1970; 0 where the server does not say.
    pub modified: i64,
    /// What the server calls this state.
    pub etag: Option<String>,
}

impl Fetched {
    /// Gets `url` into `directory`, unless the server says that it is still what is `known`. `checksum` is what the body must have.
    pub async fn get(
        transport: &dyn Transport,
        url: &str,
        checksum: Option<&str>,
        known: Option<&Known>,
        directory: &Path,
    ) -> Result<Self, RemoteError> {
        let checksum = checksum.map(Checksum::parse).transpose()?;
        let parsed = Url::parse(url).map_err(|e| RemoteError::Source(format!("{url}: {e}")))?;
        let name = file_name(&parsed);
        // What must have that checksum is not asked for again if it is there.
        let known = known.filter(|_| checksum.is_none());
        let mut response = send(transport, parsed, known).await?;
        if let (304, Some(known)) = (response.status, known) {
            return Ok(Self {
                path: None,
                name,
                digest: known.digest.clone(),
                modified: known.modified,
                etag: Some(known.etag.clone()),
            });
        }
        if response.status != 200 {
            return Err(RemoteError::Status {
                url: shown(url),
                status: response.status,
            });
        }
        let path = directory.join("body");
        let digest = save(&mut response, url, &path, checksum).await?;
        let modified = response.header("last-modified").and_then(http_date);
        let modified = modified.unwrap_or(0);
        let time = std::time::UNIX_EPOCH
            .checked_add(std::time::Duration::from_secs(
                u64::try_from(modified).unwrap_or(0),
            ))
            .unwrap_or(std::time::UNIX_EPOCH);
        let file = fs_err::OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(RemoteError::file("open", &path))?;
        file.file()
            .set_modified(time)
            .map_err(RemoteError::file("date", &path))?;
        Ok(Self {
            path: Some(path),
            name,
            digest,
            modified,
            etag: response.header("etag").map(str::to_owned),
        })
    }
}

impl Fetched {
    /// Returns what is known, without asking.
    pub fn known(url: &str, known: &Known) -> Result<Self, RemoteError> {
        let parsed = Url::parse(url).map_err(|e| RemoteError::Source(format!("{url}: {e}")))?;
        Ok(Self {
            path: None,
            name: file_name(&parsed),
            digest: known.digest.clone(),
            modified: known.modified,
            etag: Some(known.etag.clone()),
        })
    }
}

/// Sends a request, and goes where the answers point.
async fn send(
    transport: &dyn Transport,
    url: Url,
    known: Option<&Known>,
) -> Result<Response, RemoteError> {
    let mut url = url;
    for _ in 0..=MAX_REDIRECTS {
        let mut headers = Vec::new();
        if let Some(known) = known {
            headers.push((Cow::Borrowed("if-none-match"), known.etag.clone()));
        }
        if let Some(password) = url.password() {
            use base64::Engine as _;
            let pair = format!("{}:{password}", url.username());
            let code = base64::engine::general_purpose::STANDARD.encode(pair);
            headers.push((Cow::Borrowed("authorization"), format!("Basic {code}")));
        }
        let request = Request {
            method: Method::Get,
            url: url.clone(),
            headers,
            body: RequestBody::Empty,
            tls: Tls::default(),
        };
        let here = shown(url.as_str());
        let sent = transport.send(request).await;
        let response = sent.map_err(|source| RemoteError::Transport {
            url: here.clone(),
            source,
        })?;
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let next = response.header("location").and_then(|to| url.join(to).ok());
        let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
        url = next.ok_or(RemoteError::Redirect(here, "it redirects to nowhere"))?;
    }
    Err(RemoteError::Redirect(
        shown(url.as_str()),
        "stopped after 10 redirects",
    ))
}

/// Writes a body down; returns its SHA-256.
async fn save(
    response: &mut Response,
    url: &str,
    path: &Path,
    mut checksum: Option<Checksum>,
) -> Result<String, RemoteError> {
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(options.options_mut(), 0o600);
    let mut file = options
        .open(path)
        .map_err(RemoteError::file("make", path))?;
    let mut hash = Sha256::new();
    loop {
        let chunk = response.body.chunk().await;
        let chunk = chunk.map_err(|source| RemoteError::Transport {
            url: shown(url),
            source,
        })?;
        let Some(chunk) = chunk else {
            break;
        };
        hash.update(&chunk);
        if let Some(checksum) = &mut checksum {
            checksum.update(&chunk);
        }
        file.write_all(&chunk)
            .map_err(RemoteError::file("write", path))?;
    }
    if let Some(checksum) = checksum {
        checksum.check()?;
    }
    Ok(format!("sha256:{}", hex(&hash.finalize())))
}

/// What a body must hash to.
struct Checksum {
    expected: String,
    hash: Hasher,
}

enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Checksum {
    /// Reads `algorithm:digits`.
    fn parse(text: &str) -> Result<Self, RemoteError> {
        let wrong = || RemoteError::Checksum(text.to_owned());
        let (algorithm, digits) = text.split_once(':').ok_or_else(wrong)?;
        let (hash, length) = match algorithm {
            "sha256" => (Hasher::Sha256(Sha256::new()), 64),
            "sha384" => (Hasher::Sha384(Sha384::new()), 96),
            "sha512" => (Hasher::Sha512(Sha512::new()), 128),
            _ => return Err(wrong()),
        };
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != length || !digits.bytes().all(is_hex) {
            return Err(wrong());
        }
        Ok(Self {
            expected: text.to_owned(),
            hash,
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha384(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    fn check(self) -> Result<(), RemoteError> {
        let found = match self.hash {
            Hasher::Sha256(hash) => format!("sha256:{}", hex(&hash.finalize())),
            Hasher::Sha384(hash) => format!("sha384:{}", hex(&hash.finalize())),
            Hasher::Sha512(hash) => format!("sha512:{}", hex(&hash.finalize())),
        };
        if found == self.expected {
            return Ok(());
        }
        Err(RemoteError::Mismatch {
            found,
            expected: self.expected,
        })
    }
}

/// Returns the name that a URL gives its file.
pub(super) fn file_name(url: &Url) -> String {
    let mut parts = url.path().split('/').rev();
    let last = parts.find(|part| !part.is_empty()).unwrap_or_default();
    let name = super::parse::unescape(last);
    let is_name = !name.contains(['/', '\0']) && !matches!(name.as_str(), "" | "." | "..");
    if is_name {
        name
    } else {
        "__unnamed__".to_owned()
    }
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7) as seconds since 1970.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    Some(time.ok()?.as_second().max(0))
}
