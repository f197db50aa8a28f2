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
    let override_path = flag("override_path")?;
    // The API's own path is there only once, whether it was written or not.
    let below = match below.strip_suffix("v2") {
        Some(rest) if !override_path && (rest.is_empty() || rest.ends_with('/')) => {
            rest.trim_end_matches('/')
        }
        _ => below,
    };
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
        override_path,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(directory: &Path, name: &str, text: &str) {
        let path = directory.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    #[test]
    fn hosts_keep_their_order_and_files_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let d = directory.path();
        let text = r#"
            server = "https://up.example"
            [host."https://z.example/path/"]
              capabilities = ["pull", "push"]
              ca = ["one.pem", "/two.pem"]
              client = [["c.pem", "k.pem"]]
              [host."https://z.example/path/".header]
                X-Key = ["a", "b"]
            [host."http://a.example:81"]
              skip_verify = true
              override_path = true
              client = "both.pem"
        "#;
        at(d, "r.example_5000_/hosts.toml", text);
        at(d, "_default/hosts.toml", "[host.\"https://mirror\"]\n");
        let file = hosts_file(&[d.to_owned()], "r.example:5000")
            .unwrap()
            .unwrap();
        let own = d.join("r.example_5000_");
        let first = HostEntry {
            host: "z.example".to_owned(),
            path: "/path".to_owned(),
            pull: true,
            push: true,
            tls: Tls {
                authorities: vec![own.join("one.pem"), "/two.pem".into()],
                identity: Some((own.join("c.pem"), own.join("k.pem"))),
                ..Tls::default()
            },
            headers: vec![
                ("x-key".to_owned(), "a".to_owned()),
                ("x-key".to_owned(), "b".to_owned()),
            ],
            ..HostEntry::default()
        };
        let second = HostEntry {
            http: true,
            host: "a.example:81".to_owned(),
            resolve: true,
            pull: true,
            override_path: true,
            tls: Tls {
                any_certificate: true,
                identity: Some((own.join("both.pem"), own.join("both.pem"))),
                ..Tls::default()
            },
            ..HostEntry::default()
        };
        assert_eq!(file.hosts, [first, second]);
        assert_eq!(file.server.unwrap().host, "up.example");
        let default = hosts_file(&[d.to_owned()], "other").unwrap().unwrap();
        assert_eq!(default.hosts[0].host, "mirror");
        assert_eq!(hosts_file(&[d.join("nowhere")], "other").unwrap(), None);
    }

    #[test]
    fn the_apis_own_path_is_there_once() {
        let directory = tempfile::tempdir().unwrap();
        for (url, more, expected) in [
            ("https://m.example/v2", "", ""),
            ("https://m.example/v2/hub/v2/", "", "/v2/hub"),
            ("https://m.example/xv2", "", "/xv2"),
            ("https://m.example/v2", "override_path = true", "/v2"),
        ] {
            let text = format!("[host.\"{url}\"]\n{more}\n");
            at(directory.path(), "h/hosts.toml", &text);
            let file = hosts_file(&[directory.path().to_owned()], "h").unwrap();
            assert_eq!(file.unwrap().hosts[0].path, expected, "{url} {more}");
        }
    }

    #[test]
    fn what_is_malformed_is_said() {
        let directory = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("server = 1", "`server` is not text"),
            ("host = 1", "`host` is not a table"),
            ("[host.\"ftp://x\"]", "`ftp://x` is not a URL"),
            (
                "[host.\"x\"]\nskip_verify = 1",
                "`skip_verify` is not true or false",
            ),
            (
                "[host.\"x\"]\nca = 1",
                "`ca` is not a path or a list of paths",
            ),
            (
                "[host.\"x\"]\nclient = [[\"c\"]]",
                "`client` is not a path or a list of pairs of paths",
            ),
        ] {
            at(directory.path(), "h/hosts.toml", text);
            let error = hosts_file(&[directory.path().to_owned()], "h").unwrap_err();
            let path = directory.path().join("h/hosts.toml");
            assert_eq!(
                error.to_string(),
                format!(
                    "the registry configuration `{}` is malformed: {expected}",
                    path.display()
                )
            );
        }
    }

    #[test]
    fn certificates_come_with_their_keys() {
        let directory = tempfile::tempdir().unwrap();
        let d = directory.path();
        for name in [
            "h:5000/b.crt",
            "h:5000/a.crt",
            "h:5000/c.cert",
            "h:5000/c.key",
            "h/x.crt",
        ] {
            at(d, name, "");
        }
        let expected = Tls {
            any_certificate: false,
            authorities: vec![d.join("h:5000/a.crt"), d.join("h:5000/b.crt")],
            identity: Some((d.join("h:5000/c.cert"), d.join("h:5000/c.key"))),
        };
        assert_eq!(certificates(&[d.to_owned()], "h:5000").unwrap(), expected);
        fs_err::remove_file(d.join("h:5000/c.key")).unwrap();
        let error = certificates(&[d.to_owned()], "h:5000")
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("c.key` is missing"), "{error}");
    }
}
