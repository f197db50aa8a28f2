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
use super::credentials::{self, shown};
use super::logins::{advice, goes_along};
use crate::images::build::context::hex;

/// How many times a server may point elsewhere.
const MAX_REDIRECTS: usize = 10;

/// Bytes that come between two looks at how much room there is.
const LOOK_EVERY: u64 = 16 << 20;

/// Bytes of the disk that no body takes; less on a small one.
const KEPT_FREE: u64 = 512 << 20;

/// A file that is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Where it is.
    pub url: &'a str,
    /// What the body must have.
    pub checksum: Option<&'a str>,
    /// What it was: it does not come again if the server says that it still is.
    pub known: Option<&'a Known>,
    /// The value of `Authorization`, for the host of the URL alone.
    pub authorization: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Asks for a URL, and nothing else.
    pub fn of(url: &'a str) -> Self {
        Self {
            url,
            ..Self::default()
        }
    }
}

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
    /// Gets a file into `directory`, unless it still is what is known.
    pub async fn get(
        transport: &dyn Transport,
        asked: Asked<'_>,
        directory: &Path,
    ) -> Result<Self, RemoteError> {
        let url = asked.url;
        let checksum = asked.checksum.map(Checksum::parse).transpose()?;
        let parsed = Url::parse(url).map_err(|e| RemoteError::Source(format!("{url}: {e}")))?;
        let name = file_name(&parsed);
        // What must have that checksum is not asked for again if it is there.
        let known = asked.known.filter(|_| checksum.is_none());
        let mut response = send(transport, parsed, known, asked.authorization).await?;
        if let Some(known) = known
            && is_unchanged(&response, known)
        {
            return Ok(Self {
                path: None,
                name,
                digest: known.digest.clone(),
                modified: known.modified,
                etag: Some(known.etag.clone()),
            });
        }
        if !matches!(response.status, 200..300) {
            return Err(RemoteError::Status {
                url: shown(url),
                status: response.status,
                advice: advice(url, response.status),
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

/// Whether an answer says that a file is as it was. Servers that do not know the question say so by the same tag, and their bodies need
/// not be read.
fn is_unchanged(response: &Response, known: &Known) -> bool {
    let strong = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let tag = response.header("etag").map(strong);
    match response.status {
        304 => true,
        200 => tag.is_some_and(|tag| tag == strong(&known.etag)),
        _ => false,
    }
}

/// Sends a request, and goes where the answers point. What logs in goes along only on the host it is for; once off it, never again.
async fn send(
    transport: &dyn Transport,
    url: Url,
    known: Option<&Known>,
    authorization: Option<&str>,
) -> Result<Response, RemoteError> {
    let (mut url, mut authorization) = (url, authorization);
    for _ in 0..=MAX_REDIRECTS {
        let mut headers = Vec::new();
        if let Some(known) = known {
            headers.push((Cow::Borrowed("if-none-match"), known.etag.clone()));
        }
        // Who logs in is told once: the client would tell what the address holds besides.
        let parted = credentials::part(url.as_str());
        let own = parted.authorization.as_deref();
        if let Some(value) = authorization.or(own) {
            headers.push((Cow::Borrowed("authorization"), value.to_owned()));
        }
        let plain = Url::parse(&parted.address);
        let plain =
            plain.map_err(|_| RemoteError::Redirect(shown(url.as_str()), "it is no URL"))?;
        let request = Request {
            method: Method::Get,
            url: plain,
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
        let next = next.ok_or(RemoteError::Redirect(here, "it redirects to nowhere"))?;
        authorization = authorization.filter(|_| goes_along(&url, &next));
        url = next;
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
    let length = response.header("content-length");
    let mut room = Room::new(url, path, length.and_then(|text| text.parse().ok()))?;
    loop {
        let chunk = response.body.chunk().await;
        let chunk = chunk.map_err(|source| RemoteError::Transport {
            url: shown(url),
            source,
        })?;
        let Some(chunk) = chunk else {
            break;
        };
        room.take(chunk.len() as u64)?;
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

/// Watches over the room on the disk while a body comes, which may have no end.
struct Room<'a> {
    url: &'a str,
    directory: &'a Path,
    received: u64,
    /// When to look again, in bytes received.
    next_look: u64,
}

impl<'a> Room<'a> {
    /// Looks whether a body of that length can be had at all.
    fn new(url: &'a str, path: &'a Path, length: Option<u64>) -> Result<Self, RemoteError> {
        let room = Self {
            url,
            directory: path.parent().unwrap_or(path),
            received: 0,
            next_look: LOOK_EVERY,
        };
        room.look(length.unwrap_or(0))?;
        Ok(room)
    }

    fn take(&mut self, bytes: u64) -> Result<(), RemoteError> {
        self.received += bytes;
        if self.received < self.next_look {
            return Ok(());
        }
        self.next_look = self.received + LOOK_EVERY;
        self.look(0)
    }

    /// Fails where `more` bytes have no room.
    fn look(&self, more: u64) -> Result<(), RemoteError> {
        let disk = rustix::fs::statvfs(self.directory);
        let disk =
            disk.map_err(|errno| RemoteError::file("look at", self.directory)(errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let kept = KEPT_FREE.min(bytes(disk.f_blocks) / 20);
        let left = bytes(disk.f_bavail).saturating_sub(kept);
        if left > more {
            return Ok(());
        }
        Err(RemoteError::NoRoom {
            url: shown(self.url),
            received: self.received + more,
            left,
        })
    }
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
