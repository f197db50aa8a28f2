//! Names of images and of bytes: [`Reference`] and [`Digest`].
//!
//! ```text
//! reference   [domain/]path[:tag][@digest]        busybox, localhost:5000/a/b:v1, quay.io/x/y@sha256:…
//! component   [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*   path is components joined by "/", at most 255 bytes
//! tag         [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! digest      sha256:<64 lower-case hexadecimal digits>
//! ```
//!
//! The first component is a domain if it holds a `.`, a `:` or an upper-case letter, or is `localhost`; else the domain is
//! `docker.io`, where a single component lives under `library/` (distribution/reference, `normalize.go`).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The domain that names without one mean.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// A name or digest that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not a reference at all.
    #[error("invalid reference format: `{text}`: {rule}")]
    Format {
        /// As given.
        text: String,
        /// What is asked of it.
        rule: &'static str,
    },
    /// Not a digest that we can check.
    #[error("invalid digest `{text}`: it must be `sha256:` and 64 lower-case hexadecimal digits")]
    Digest {
        /// As given.
        text: String,
    },
}

/// The SHA-256 of some bytes, shown as `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Checks `sha256:<64 hex>`; no other algorithm is accepted.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or_else(|| ReferenceError::Digest {
                text: text.to_owned(),
            })
    }

    /// Checks 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let valid = hex.len() == 64 && hex.bytes().all(is_lower_hex);
        valid.then(|| Self(hex.to_owned()))
    }

    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_hash(&sha2::Sha256::digest(bytes))
    }

    /// Takes a finished SHA-256.
    pub(crate) fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in hash {
            // Writing to a String cannot fail.
            let _: fmt::Result = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// Returns the 64 digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, as people see them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where an image is: a repository of a registry, and a tag, a digest or both (the digest decides then).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and completes a reference: `busybox` is `docker.io/library/busybox:latest`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let error = |rule| ReferenceError::Format {
            text: text.to_owned(),
            rule,
        };
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(error("cannot specify 64-byte hexadecimal strings"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest);
        if !is_domain(&domain) {
            return Err(error("the registry must be host[:port]"));
        }
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (rest, None),
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error("repository name must be lowercase"));
        }
        if !path.split('/').all(is_component) {
            return Err(error(
                "each part of the name must be lower-case letters and digits, parted by single `.`, `_`, `__` or `-`s",
            ));
        }
        if path.len() > 255 {
            return Err(error("the name must not be longer than 255 characters"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(error(
                "the tag must be at most 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`",
            ));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }

    /// Returns the registry as written in names: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path in its registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag; `None` only where a digest stands alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that the manifest must have.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns what a registry's `manifests/` endpoint is asked for.
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Returns `domain/path`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the repository as people write it: without `docker.io/` and `library/`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns the reference as people write it, tag and digest included.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}"));
        tag.unwrap_or_default() + &digest.unwrap_or_default()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository(), self.suffix())
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Parts `domain` from the rest; a domain that is only meant is filled in.
fn split_domain(text: &str) -> (String, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN.to_owned(), text);
    };
    let named = first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase());
    match first {
        "index.docker.io" => (DEFAULT_DOMAIN.to_owned(), rest),
        _ if named => (first.to_owned(), rest),
        _ => (DEFAULT_DOMAIN.to_owned(), text),
    }
}

/// Whether `text` is `host[:port]`, the host a name, an IPv4 or a bracketed IPv6 address.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, rest)) => {
            let valid = address.parse::<std::net::Ipv6Addr>().is_ok();
            if !valid {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let host_valid = host.is_none_or(|host| host.split('.').all(label));
    let port_valid = port
        .is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    host_valid && port_valid
}

/// Whether `text` is one component of a repository's path.
fn is_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_in_words =
        bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    let known = bytes
        .iter()
        .all(|&b| word(b) || matches!(b, b'.' | b'_' | b'-'));
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let mut separators = separators.filter(|separator| !separator.is_empty());
    ends_in_words
        && known
        && separators.all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// Whether `text` is a tag.
fn is_tag(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.len() <= 128
        && text.bytes().all(rest)
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match Reference::parse(text) {
            Ok(reference) => format!("{reference} | {}", reference.familiar()),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn completes_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check(
            "busybox",
            "docker.io/library/busybox:latest | busybox:latest",
        );
        check(
            "busybox:1.36",
            "docker.io/library/busybox:1.36 | busybox:1.36",
        );
        check("a/b", "docker.io/a/b:latest | a/b:latest");
        check(
            "docker.io/busybox",
            "docker.io/library/busybox:latest | busybox:latest",
        );
        check("index.docker.io/a/b", "docker.io/a/b:latest | a/b:latest");
        check(
            "library/x/y",
            "docker.io/library/x/y:latest | library/x/y:latest",
        );
        check("localhost/x", "localhost/x:latest | localhost/x:latest");
        check(
            "localhost:5000/x",
            "localhost:5000/x:latest | localhost:5000/x:latest",
        );
        check("[::1]:5000/x:v", "[::1]:5000/x:v | [::1]:5000/x:v");
        check(
            "quay.io/a/b-c__d.e:V_1",
            "quay.io/a/b-c__d.e:V_1 | quay.io/a/b-c__d.e:V_1",
        );
        check("Host/x", "Host/x:latest | Host/x:latest");
        check(
            &format!("x@{digest}"),
            &format!("docker.io/library/x@{digest} | x@{digest}"),
        );
        check(
            &format!("x:t@{digest}"),
            &format!("docker.io/library/x:t@{digest} | x:t@{digest}"),
        );
    }

    #[test]
    fn refuses_what_breaks_the_rules() {
        let parts = "each part of the name must be lower-case letters and digits, parted by single `.`, `_`, `__` or `-`s";
        for text in ["", "a//b", "-a", "a-", "a___b", "a..b", "a/", "a b", "é"] {
            check(
                text,
                &format!("error: invalid reference format: `{text}`: {parts}"),
            );
        }
        check(
            "Busybox",
            "error: invalid reference format: `Busybox`: repository name must be lowercase",
        );
        check(
            &"a".repeat(64),
            &format!(
                "error: invalid reference format: `{}`: cannot specify 64-byte hexadecimal strings",
                "a".repeat(64)
            ),
        );
        check(
            "x:.y",
            "error: invalid reference format: `x:.y`: the tag must be at most 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`",
        );
        check(
            "x.y:99999/z",
            "error: invalid reference format: `x.y:99999/z`: the registry must be host[:port]",
        );
        check(
            "x@sha512:00",
            "error: invalid digest `sha512:00`: it must be `sha256:` and 64 lower-case hexadecimal digits",
        );
    }

    #[test]
    fn hashes_to_the_known_value() {
        assert_eq!(
            Digest::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
