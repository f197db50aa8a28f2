//! What is said of one host beneath `certs.d`: certificates (Docker), and mirrors in a `hosts.toml` (containerd).
//!
//! ```text
//! /etc/containerd/certs.d/, /etc/docker/certs.d/, ~/.docker/certs.d/
//!   <host[:port]>/  or  <host>_<port>_/, and _default/ for hosts.toml:
//!     *.crt           authorities that are trusted beside the machine's
//!     x.cert, x.key   our certificate and its key
//!     hosts.toml      server = "https://…"    [host."https://mirror"] capabilities ca client skip_verify override_path [….header]
//! ```
//!
//! Sources: docker `engine/security/certificates.md`, containerd `docs/hosts.md`.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::config::{ConfigError, list, malformed, read_optional};
use super::transport::Tls;

/// One host of a `hosts.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostEntry {
    /// Plain HTTP, as its URL says.
    pub(super) http: bool,
    /// `host[:port]`.
    pub(super) host: String,
    /// Path of its URL, without a slash at the end.
    pub(super) path: String,
    /// That path stands instead of `/v2`.
    pub(super) override_path: bool,
    /// Tags are believed.
    pub(super) resolve: bool,
    /// Blobs and manifests come from there.
    pub(super) pull: bool,
    /// Said to take pushes.
    pub(super) push: bool,
    /// Whom to believe.
    pub(super) tls: Tls,
    /// Sent with each request to it, names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

/// A `hosts.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostsFile {
    /// Those to ask first, in the order of the file.
    pub(super) hosts: Vec<HostEntry>,
    /// Instead of the registry itself.
    pub(super) server: Option<HostEntry>,
}

/// Reads the first `hosts.toml` for `host`, or the first `_default` one.
pub(super) fn hosts_file(
    directories: &[PathBuf],
    host: &str,
) -> Result<Option<HostsFile>, ConfigError> {
    let own = names(host).map(|name| (name, false));
    for (name, _) in own.chain([("_default".to_owned(), true)]) {
        for directory in directories {
            let path = directory.join(&name).join("hosts.toml");
            if let Some(text) = read_optional(&path)? {
                return parse(&text, &path).map(Some);
            }
        }
    }
    Ok(None)
}

/// Finds the certificates for `host`.
pub(super) fn certificates(directories: &[PathBuf], host: &str) -> Result<Tls, ConfigError> {
    let mut tls = Tls::default();
    for directory in directories {
        for name in names(host) {
            for path in list(&directory.join(&name))? {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => tls.authorities.push(path),
                    Some("cert") if tls.identity.is_none() => {
                        tls.identity = Some(with_key(path)?);
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(tls)
}

/// Finds the key that goes with a certificate.
fn with_key(certificate: PathBuf) -> Result<(PathBuf, PathBuf), ConfigError> {
    let key = certificate.with_extension("key");
    if !key.exists() {
        let message = format!("`{}` is missing", key.display());
        return Err(malformed(&certificate, &message));
    }
    Ok((certificate, key))
}

/// The names that a host's directory may have.
fn names(host: &str) -> impl Iterator<Item = String> + use<> {
    let underscored = host
        .rsplit_once(':')
        .map(|(name, port)| format!("{name}_{port}_"));
    [host.to_owned()].into_iter().chain(underscored)
}

fn parse(text: &str, path: &Path) -> Result<HostsFile, ConfigError> {
    let table: Table = toml::from_str(text).map_err(|error| malformed(path, &error))?;
    let mut file = HostsFile::default();
    if let Some(server) = table.get("server") {
        let server = server
            .as_str()
            .ok_or_else(|| malformed(path, &"`server` is not text"))?;
        file.server = Some(entry(server, &table, path)?);
    }
    match table.get("host") {
        None => {}
        Some(Value::Table(hosts)) => {
            for (url, of_host) in hosts {
                let of_host = of_host
                    .as_table()
                    .ok_or_else(|| malformed(path, &format!("`host.\"{url}\"` is not a table")))?;
                file.hosts.push(entry(url, of_host, path)?);
            }
        }
        Some(_) => return Err(malformed(path, &"`host` is not a table")),
    }
    Ok(file)
}

fn entry(url: &str, table: &Table, path: &Path) -> Result<HostEntry, ConfigError> {
    let wrong = |key: &str, expected: &str| malformed(path, &format!("`{key}` is not {expected}"));
    let flag = |key: &str| match table.get(key) {
        None => Ok(false),
        Some(Value::Boolean(value)) => Ok(*value),
        Some(_) => Err(wrong(key, "true or false")),
    };
    let (http, rest) = match url.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        None => (false, url),
        Some(_) => return Err(malformed(path, &format!("`{url}` is not a URL"))),
    };
    let (host, below) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') {
        return Err(malformed(path, &format!("`{url}` is not a URL")));
    }
    let below = below.trim_matches('/');
    let capabilities = table
        .get("capabilities")
        .map(|value| texts(value).ok_or_else(|| wrong("capabilities", "a list of words")))
        .transpose()?;
    let can = |what: &str| {
        let listed = capabilities.as_ref();
        listed.is_none_or(|listed| listed.iter().any(|known| known == what))
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let authorities = match table.get("ca") {
        None => Vec::new(),
        Some(value) => texts(value).ok_or_else(|| wrong("ca", "a path or a list of paths"))?,
    };
    let identity = table
        .get("client")
        .map(|value| {
            identity(value).ok_or_else(|| wrong("client", "a path or a list of pairs of paths"))
        })
        .transpose()?;
    Ok(HostEntry {
        http,
        host: host.to_owned(),
        path: if below.is_empty() {
            String::new()
        } else {
            format!("/{below}")
        },
        override_path: flag("override_path")?,
        resolve: can("resolve"),
        pull: can("pull"),
        push: capabilities.is_some() && can("push"),
        tls: Tls {
            any_certificate: flag("skip_verify")?,
            authorities: authorities.iter().map(|ca| directory.join(ca)).collect(),
            identity: identity
                .map(|(certificate, key)| (directory.join(certificate), directory.join(key))),
        },
        headers: headers(table.get("header")).ok_or_else(|| wrong("header", "a table of words"))?,
    })
}

/// A text or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(values) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// `"both.pem"`, `["both.pem", …]` or `[["certificate", "key"], …]`: the first one.
fn identity(value: &Value) -> Option<(String, String)> {
    match value {
        Value::String(both) => Some((both.clone(), both.clone())),
        Value::Array(values) => match values.first()? {
            Value::Array(pair) => match pair.as_slice() {
                [certificate, key] => {
                    Some((certificate.as_str()?.to_owned(), key.as_str()?.to_owned()))
                }
                _ => None,
            },
            both => Some((both.as_str()?.to_owned(), both.as_str()?.to_owned())),
        },
        _ => None,
    }
}

fn headers(value: Option<&Value>) -> Option<Vec<(String, String)>> {
    let Some(value) = value else {
        return Some(Vec::new());
    };
    let mut found = Vec::new();
    for (name, values) in value.as_table()? {
        for text in texts(values)? {
            found.push((name.to_ascii_lowercase(), text));
        }
    }
    Some(found)
}
