//! Who we are to a registry: credentials of Docker's `config.json`, and the challenges that ask for them.
//!
//! ```text
//! config.json   {"auths": {"host": {"auth": base64("user:password"), "identitytoken": "…", "registrytoken": "…"}}}
//! 401           WWW-Authenticate: Bearer realm="https://…",service="…",scope="repository:a/b:pull"    or    Basic realm="…"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It is there, but cannot be read.
    #[error("read the credentials `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not JSON of Docker's shape. Its content is not shown.
    #[error("the credentials `{}` are malformed at line {line}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// What to show a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A name and its password.
    Password {
        /// Name.
        user: String,
        /// Password.
        password: String,
    },
    /// A refresh token (`OAuth2`).
    Identity(String),
    /// A bearer token as it is.
    Bearer(String),
}

// Secrets do not reach messages.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Returns the header of basic authorization, for a password.
    pub fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                let encoded =
                    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {encoded}"))
            }
            Self::Identity(_) | Self::Bearer(_) => None,
        }
    }
}

/// The credentials by host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    secrets: BTreeMap<String, Secret>,
    /// Whether the file names helper programs, which are not asked.
    pub helpers: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ConfigJson {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Credentials {
    /// Reads Docker's `config.json`, if it is there.
    pub fn read(path: Option<&Path>) -> Result<Self, CredentialsError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => {
                return Err(CredentialsError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let config: ConfigJson =
            serde_json::from_str(&text).map_err(|error| CredentialsError::Malformed {
                path: path.to_owned(),
                line: error.line(),
            })?;
        let secrets = config.auths.iter();
        let secrets = secrets.filter_map(|(key, auth)| Some((host_of_key(key), secret(auth)?)));
        Ok(Self {
            secrets: secrets.collect(),
            helpers: !config.creds_store.is_empty() || !config.cred_helpers.is_empty(),
        })
    }

    /// Returns the secret for a registry's host, and for no other.
    pub fn of_host(&self, host: &str) -> Option<&Secret> {
        let host = match host {
            "registry-1.docker.io" | "docker.io" => "index.docker.io",
            other => other,
        };
        self.secrets.get(host)
    }
}

/// Keys are hosts or URLs (`https://index.docker.io/v1/`).
fn host_of_key(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn secret(auth: &Auth) -> Option<Secret> {
    if !auth.registrytoken.is_empty() {
        return Some(Secret::Bearer(auth.registrytoken.clone()));
    }
    if !auth.identitytoken.is_empty() {
        return Some(Secret::Identity(auth.identitytoken.clone()));
    }
    if !auth.username.is_empty() {
        return Some(Secret::Password {
            user: auth.username.clone(),
            password: auth.password.clone(),
        });
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(&auth.encoded)
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Secret::Password {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A token from another server (distribution `token.md`).
    Bearer {
        /// Where to get it.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
    /// Name and password.
    Basic,
}

/// Parses `WWW-Authenticate` headers; a token is preferred over a password.
pub fn parse_challenges<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in challenges_of(header) {
            match scheme.to_ascii_lowercase().as_str() {
                "bearer" => {
                    if let Some(realm) = parameters.get("realm") {
                        return Some(Challenge::Bearer {
                            realm: realm.clone(),
                            service: parameters.get("service").cloned(),
                            scope: parameters.get("scope").cloned(),
                        });
                    }
                }
                "basic" => basic = Some(Challenge::Basic),
                _ => {}
            }
        }
    }
    basic
}

/// Splits one header into schemes and their parameters: `Scheme a="b",c=d, Scheme2 …` (RFC 9110 11.6.1).
fn challenges_of(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = parameter_value(value);
            if let Some((_, parameters)) = found.last_mut() {
                parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            if !word.is_empty() {
                found.push((word.to_owned(), BTreeMap::new()));
            }
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    found
}

/// Takes a token or a quoted string from the start of `text`.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        for (headers, expected) in [
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push""#][..],
                bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push")),
            ),
            (
                &[r#"bearer scope=x, realm="https://a/\"t""#],
                bearer("https://a/\"t", None, Some("x")),
            ),
            (
                &[r#"Basic realm="x", Bearer realm="https://a""#],
                bearer("https://a", None, None),
            ),
            (&["Basic realm=x", "Negotiate"], Some(Challenge::Basic)),
            (&["Negotiate abc=="], None),
            (&["", "=,=\"", "Bearer"], None),
        ] {
            assert_eq!(
                parse_challenges(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn finds_secrets_by_host() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let encoded = base64::engine::general_purpose::STANDARD.encode("u:p:w\0");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{encoded}"}},"r.example:5000":{{"identitytoken":"t"}},
            "e.example":{{}}}},"credsStore":"x","unknown":1}}"#
        );
        fs_err::write(&path, text).unwrap();
        let credentials = Credentials::read(Some(&path)).unwrap();
        let password = Secret::Password {
            user: "u".to_owned(),
            password: "p:w".to_owned(),
        };
        assert_eq!(credentials.of_host("registry-1.docker.io"), Some(&password));
        assert_eq!(
            credentials.of_host("r.example:5000"),
            Some(&Secret::Identity("t".to_owned()))
        );
        assert_eq!(credentials.of_host("r.example"), None);
        assert_eq!(credentials.of_host("e.example"), None);
        assert!(credentials.helpers);
    }
}
