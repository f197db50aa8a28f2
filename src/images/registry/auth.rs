//! Who we are to a registry: credentials of Docker's `config.json`, and the challenges that ask for them.
//!
//! ```text
//! DOCKER_AUTH_CONFIG   {"auths": {…}}, before all others
//! config.json          {"auths": {"host": {"auth": base64("user:password"), "identitytoken": "…", "registrytoken": "…"}},
//!                       "credHelpers": {"host": "name"}, "credsStore": "name"}     docker-credential-<name> get < host
//! auth.json            podman's, the same shape; where the others know nothing. Keys `host/path` are for what is below, everywhere
//! 401                  WWW-Authenticate: Bearer realm="https://…",service="…",scope="repository:a/b:pull"    or    Basic realm="…"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::ClientEnvironment;
use super::helper::{self, HelperError};

/// Docker Hub's name among credentials.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

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
    /// It cannot be written.
    #[error("write the credentials `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no place for it.
    #[error("there is no place for credentials: neither DOCKER_CONFIG nor HOME is set")]
    NoPlace,
    /// A program of the configuration.
    #[error(transparent)]
    Helper(#[from] HelperError),
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
    /// Of `DOCKER_AUTH_CONFIG`.
    variable: BTreeMap<String, Secret>,
    /// Of `config.json`.
    file: BTreeMap<String, Secret>,
    /// Of podman's file.
    podman: BTreeMap<String, Secret>,
    store: Option<String>,
    helpers: BTreeMap<String, String>,
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
    /// Reads what is there.
    pub fn read(environment: &ClientEnvironment) -> Result<Self, CredentialsError> {
        let mut found = Self::default();
        if let Some(text) = &environment.docker_auth_config {
            found.variable = secrets(&parse(text, Path::new("$DOCKER_AUTH_CONFIG"))?);
        }
        if let Some(config) = read_config(environment.docker_config.as_deref())? {
            found.file = secrets(&config);
            found.store = Some(config.creds_store).filter(|name| !name.is_empty());
            let helpers = config.cred_helpers.into_iter();
            found.helpers = helpers
                .map(|(key, name)| (host_of_key(&key), name))
                .collect();
        }
        if let Some(config) = read_config(environment.containers_auth.as_deref())? {
            found.podman = secrets(&config);
        }
        Ok(found)
    }

    /// Returns the secret for a registry's host, and for no other. May run a program, and wait for it.
    pub fn of_host(&self, host: &str) -> Result<Option<Secret>, CredentialsError> {
        self.of_repository(host, "")
    }

    /// Returns the secret for a repository of a host: in each place the one for the longest part of its path, else for the host.
    pub fn of_repository(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Secret>, CredentialsError> {
        let host = host_of_key(host);
        if let Some(secret) = nearest(&self.variable, &host, repository) {
            return Ok(Some(secret.clone()));
        }
        if let Some(name) = self.helper(&host)
            && let Some(secret) = helper::get(name, &server_of(&host))?
        {
            return Ok(Some(secret));
        }
        let secret = nearest(&self.file, &host, repository);
        let secret = secret.or_else(|| nearest(&self.podman, &host, repository));
        Ok(secret.cloned())
    }

    /// Returns the helper that has the secrets of a host, if one has them.
    pub fn helper(&self, host: &str) -> Option<&str> {
        let own = self.helpers.get(&host_of_key(host));
        own.or(self.store.as_ref()).map(String::as_str)
    }
}

fn read_config(path: Option<&Path>) -> Result<Option<ConfigJson>, CredentialsError> {
    let Some(path) = path else {
        return Ok(None);
    };
    match fs_err::read_to_string(path) {
        Ok(text) => parse(&text, path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CredentialsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse(text: &str, path: &Path) -> Result<ConfigJson, CredentialsError> {
    // An empty file is what some tools leave; Docker takes it for none.
    if text.trim().is_empty() {
        return Ok(ConfigJson::default());
    }
    serde_json::from_str(text).map_err(|error| CredentialsError::Malformed {
        path: path.to_owned(),
        line: error.line(),
    })
}

/// A key that is the host itself stands before one that is a URL of it.
fn secrets(config: &ConfigJson) -> BTreeMap<String, Secret> {
    let mut found = BTreeMap::new();
    let (urls, hosts): (Vec<_>, Vec<_>) =
        config.auths.iter().partition(|(key, _)| key.contains('/'));
    for (key, auth) in urls.into_iter().chain(hosts) {
        if let Some(secret) = secret(auth) {
            found.insert(scope_of_key(key), secret);
        }
    }
    found
}

/// Finds the secret of `host/a/b`, of `host/a` or of `host`, in this order.
fn nearest<'s>(
    known: &'s BTreeMap<String, Secret>,
    host: &str,
    repository: &str,
) -> Option<&'s Secret> {
    let name = format!("{host}/{repository}");
    let mut scope = name.trim_end_matches('/');
    loop {
        if let Some(secret) = known.get(scope) {
            return Some(secret);
        }
        scope = scope.rsplit_once('/')?.0;
    }
}

/// Returns what a key is for: `host`, or `host/path` (containers-auth.json(5)). The path of a URL says nothing, nor does the API's
/// own (`/v1/`).
pub(super) fn scope_of_key(key: &str) -> String {
    let host = host_of_key(key);
    let path = match key.split_once('/') {
        Some((_, path)) if !key.contains("://") => path.trim_matches('/'),
        _ => "",
    };
    match path {
        "" | "v1" | "v2" => host,
        path => format!("{host}/{path}"),
    }
}

/// Keys are hosts or URLs (`https://index.docker.io/v1/`).
pub(super) fn host_of_key(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns what credentials of a host are filed under.
pub(super) fn server_of(host: &str) -> String {
    match host_of_key(host).as_str() {
        "index.docker.io" => DOCKER_HUB_KEY.to_owned(),
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

    fn environment(directory: &Path) -> ClientEnvironment {
        ClientEnvironment {
            docker_config: Some(directory.join("config.json")),
            containers_auth: Some(directory.join("auth.json")),
            ..ClientEnvironment::system(None)
        }
    }

    fn password(user: &str, password: &str) -> Secret {
        Secret::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn the_longest_part_of_a_path_counts() {
        let directory = tempfile::tempdir().unwrap();
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"q.example/team-a":{{"auth":"{}"}},"q.example/team-a/x":{{"auth":"{}"}},"q.example/team-b":{{"auth":"{}"}},
            "h.example/v2/":{{"auth":"{}"}},"docker.io/me":{{"auth":"{}"}}}}}}"#,
            encode("a:1"),
            encode("x:2"),
            encode("b:3"),
            encode("h:4"),
            encode("me:5"),
        );
        fs_err::write(directory.path().join("auth.json"), text).unwrap();
        let credentials = Credentials::read(&environment(directory.path())).unwrap();
        for (host, repository, expected) in [
            ("q.example", "team-a/app", Some(password("a", "1"))),
            ("q.example", "team-a/x/y", Some(password("x", "2"))),
            ("q.example", "team-ab/app", None),
            ("q.example", "team-b", Some(password("b", "3"))),
            ("q.example", "other", None),
            ("q.example", "", None),
            ("h.example", "any/thing", Some(password("h", "4"))),
            ("registry-1.docker.io", "me/app", Some(password("me", "5"))),
            ("registry-1.docker.io", "library/x", None),
        ] {
            let found = credentials.of_repository(host, repository).unwrap();
            assert_eq!(found, expected, "{host}/{repository}");
        }
    }

    #[test]
    fn finds_secrets_by_host() {
        let directory = tempfile::tempdir().unwrap();
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"r.example:5000":{{"identitytoken":"t"}},
            "e.example":{{}},"https://two.example/v1/":{{"auth":"{}"}},"two.example":{{"auth":"{}"}}}},"unknown":1}}"#,
            encode("u:p:w\0"),
            encode("url:1"),
            encode("host:2"),
        );
        fs_err::write(directory.path().join("config.json"), text).unwrap();
        let podman = r#"{"auths":{"p.example":{"auth":"dTpw"},"two.example":{"auth":"dTpw"}}}"#;
        fs_err::write(directory.path().join("auth.json"), podman).unwrap();
        let mut environment = environment(directory.path());
        let found = |environment: &ClientEnvironment, host: &str| {
            Credentials::read(environment)
                .unwrap()
                .of_host(host)
                .unwrap()
        };
        for (host, expected) in [
            ("registry-1.docker.io", Some(password("u", "p:w"))),
            ("docker.io", Some(password("u", "p:w"))),
            ("r.example:5000", Some(Secret::Identity("t".to_owned()))),
            ("r.example", None),
            ("e.example", None),
            ("two.example", Some(password("host", "2"))),
            ("p.example", Some(password("u", "p"))),
        ] {
            assert_eq!(found(&environment, host), expected, "{host}");
        }
        let variable = r#"{"auths":{"r.example:5000":{"auth":"dTpw"}},"credsStore":"ignored"}"#;
        environment.docker_auth_config = Some(variable.to_owned());
        assert_eq!(
            found(&environment, "r.example:5000"),
            Some(password("u", "p"))
        );
        assert_eq!(
            found(&environment, "two.example"),
            Some(password("host", "2"))
        );
        environment.docker_auth_config = Some("{".to_owned());
        assert_eq!(
            Credentials::read(&environment).unwrap_err().to_string(),
            "the credentials `$DOCKER_AUTH_CONFIG` are malformed at line 1"
        );
    }
}
