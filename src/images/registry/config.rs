//! Where a reference is fetched from: mirrors, and registries that speak plain HTTP.
//!
//! ```text
//! /etc/docker/daemon.json               registry-mirrors (docker.io only, tried in order), insecure-registries (host[:port] or CIDR)
//! /etc/containers/registries.conf       version 2, and the *.conf of registries.conf.d/ in the order of their names:
//!   [[registry]] prefix = "…" location = "…" insecure blocked   [[registry.mirror]] location insecure pull-from-mirror
//! ```
//!
//! Docker's mirrors come first, then those of a `hosts.toml` (see `hosts`), then those of containers, then the registry itself. Of several `[[registry]]` the longest prefix
//! counts. Names without a registry always mean docker.io; `unqualified-search-registries` and `[aliases]` have no say.
//! Sources: docker `dockerd.md#registry-mirrors`, containers-registries.conf(5).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::super::reference::{DEFAULT_DOMAIN, Reference};
use super::ClientEnvironment;
use super::hosts::{HostEntry, certificates, hosts_file};
use super::transport::Tls;

/// Where Docker Hub really is.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is there, but cannot be read.
    #[error("read the registry configuration `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not in its format.
    #[error("the registry configuration `{}` is malformed: {message}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The reference may not be fetched at all.
    #[error("registry `{prefix}` is blocked by registries.conf")]
    Blocked {
        /// The entry.
        prefix: String,
    },
}

/// One place to ask, in the order of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`.
    pub host: String,
    /// Path before `/v2/`, of a mirror's URL; empty mostly.
    pub base: String,
    /// The repository there.
    pub repository: String,
    /// What may be spoken.
    pub security: Security,
    /// Whether it stands in for the registry that the reference names.
    pub mirror: bool,
    /// Whether `base` stands instead of `/v2`, not before it.
    pub override_path: bool,
    /// Whether it is believed which digest a tag has.
    pub resolve: bool,
    /// Whether it takes pushes.
    pub push: bool,
    /// Certificates of the configuration.
    pub tls: Tls,
    /// Sent with each request to this host, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The registry that a mirror is asked for (`?ns=docker.io`).
    pub namespace: Option<String>,
}

impl Endpoint {
    /// Returns the path of a repository's resource: `/v2/<repository>/<below>`.
    pub fn path(&self, below: &str) -> String {
        let api = if self.override_path { "" } else { "/v2" };
        format!("{}{api}/{}/{below}", self.base, self.repository)
    }
}

/// How a host may be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// HTTPS with a certificate that holds.
    Https,
    /// HTTPS with any certificate.
    AnyCertificate,
    /// HTTPS with any certificate, else plain HTTP.
    Insecure,
    /// Plain HTTP, as the mirror's URL says.
    Http,
}

/// All that the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    docker_mirrors: Vec<Url>,
    insecure: Vec<String>,
    registries: Vec<Registry>,
    /// With `hosts.toml` files, by host.
    hosts_directories: Vec<PathBuf>,
    /// With certificates, by host.
    certs_directories: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    http: bool,
    host: String,
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DaemonJson {
    #[serde(rename = "registry-mirrors")]
    mirrors: Vec<String>,
    #[serde(rename = "insecure-registries")]
    insecure: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistriesConf {
    registry: Vec<Registry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<Mirror>,
    mirror_by_digest_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    only: Option<PullFromMirror>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

impl RegistryConfig {
    /// Reads the files that are there.
    pub fn read(environment: &ClientEnvironment) -> Result<Self, ConfigError> {
        let mut config = Self {
            hosts_directories: environment.hosts_directories.clone(),
            certs_directories: environment.certs_directories.clone(),
            ..Self::default()
        };
        if let Some(text) = read_optional(&environment.daemon_json)? {
            let path = &environment.daemon_json;
            let daemon: DaemonJson =
                serde_json::from_str(&text).map_err(|error| malformed(path, &error))?;
            for mirror in &daemon.mirrors {
                let url = parse_url(mirror).ok_or_else(|| {
                    malformed(path, &format!("`{mirror}` is not the URL of a mirror"))
                })?;
                config.docker_mirrors.push(url);
            }
            config.insecure = daemon.insecure;
        }
        let mut files = vec![environment.registries_conf.clone()];
        files.extend(drop_ins(&environment.registries_conf_directory)?);
        for path in files {
            if let Some(text) = read_optional(&path)? {
                let file: RegistriesConf =
                    toml::from_str(&text).map_err(|error| malformed(&path, &error))?;
                for registry in file.registry {
                    config.add(registry, &path)?;
                }
            }
        }
        Ok(config)
    }

    /// A later file's entry replaces an earlier one of the same prefix.
    fn add(&mut self, mut registry: Registry, path: &Path) -> Result<(), ConfigError> {
        if registry.prefix.is_empty() {
            registry.prefix.clone_from(&registry.location);
        }
        if registry.prefix.is_empty() {
            return Err(malformed(
                path,
                &"a [[registry]] has neither prefix nor location",
            ));
        }
        if registry
            .mirror
            .iter()
            .any(|mirror| mirror.location.is_empty())
        {
            return Err(malformed(path, &"a [[registry.mirror]] has no location"));
        }
        self.registries
            .retain(|known| known.prefix != registry.prefix);
        self.registries.push(registry);
        Ok(())
    }

    /// Returns where to ask for `reference`, in order; the registry itself comes last.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, ConfigError> {
        let mut endpoints = Vec::new();
        if reference.domain() == DEFAULT_DOMAIN {
            for url in &self.docker_mirrors {
                let security = if url.http {
                    Security::Http
                } else {
                    self.security(&url.host, false)
                };
                let name = format!("{}/{}", url.host, reference.path());
                endpoints.push(Endpoint {
                    base: url.path.clone(),
                    security,
                    ..self.endpoint(&name, false, true)?
                });
            }
        }
        let file = hosts_file(&self.hosts_directories, reference.domain())?.unwrap_or_default();
        for entry in &file.hosts {
            if entry.pull || entry.resolve {
                endpoints.push(self.of_entry(entry, reference, true)?);
            }
        }
        let name = reference.repository();
        let matching = self
            .registries
            .iter()
            .filter(|r| matches_prefix(&r.prefix, reference));
        let registry = matching.max_by_key(|r| r.prefix.len());
        if let Some(registry) = registry {
            self.add_mirrors(registry, reference, &mut endpoints)?;
        }
        endpoints.push(match (&file.server, registry) {
            (Some(server), _) => self.of_entry(server, reference, false)?,
            (None, Some(registry)) => {
                let name = relocated(&name, &registry.prefix, &registry.location);
                self.endpoint(&name, registry.insecure, false)?
            }
            (None, None) => self.endpoint(&name, false, false)?,
        });
        Ok(endpoints)
    }

    /// Returns where an image is pushed to: never to a mirror, but where a `hosts.toml` says so.
    pub fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint, ConfigError> {
        let endpoints = self.endpoints(reference)?;
        let own = || self.endpoint(&reference.repository(), false, false);
        let chosen = endpoints.into_iter().find(|endpoint| endpoint.push);
        chosen.map_or_else(own, Ok)
    }

    /// Returns how to reach a registry as such, for a login.
    pub fn of_host(&self, host: &str) -> Result<Endpoint, ConfigError> {
        self.endpoint(&format!("{host}/"), false, false)
    }

    fn add_mirrors(
        &self,
        registry: &Registry,
        reference: &Reference,
        endpoints: &mut Vec<Endpoint>,
    ) -> Result<(), ConfigError> {
        if registry.blocked {
            return Err(ConfigError::Blocked {
                prefix: registry.prefix.clone(),
            });
        }
        let name = reference.repository();
        for mirror in &registry.mirror {
            let by_digest = reference.digest().is_some();
            let fits = match mirror.only {
                Some(PullFromMirror::DigestOnly) => by_digest,
                Some(PullFromMirror::TagOnly) => !by_digest,
                Some(PullFromMirror::All) => true,
                None => by_digest || !registry.mirror_by_digest_only,
            };
            if fits {
                let name = relocated(&name, &registry.prefix, &mirror.location);
                endpoints.push(self.endpoint(&name, mirror.insecure, true)?);
            }
        }
        Ok(())
    }

    fn endpoint(&self, name: &str, insecure: bool, mirror: bool) -> Result<Endpoint, ConfigError> {
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        let tls = certificates(&self.certs_directories, host)?;
        let host = if host == DEFAULT_DOMAIN {
            DOCKER_HUB_HOST
        } else {
            host
        };
        Ok(Endpoint {
            host: host.to_owned(),
            base: String::new(),
            repository: repository.to_owned(),
            security: self.security(host, insecure),
            mirror,
            override_path: false,
            resolve: true,
            push: !mirror,
            tls,
            headers: Vec::new(),
            namespace: None,
        })
    }

    fn of_entry(
        &self,
        entry: &HostEntry,
        reference: &Reference,
        mirror: bool,
    ) -> Result<Endpoint, ConfigError> {
        let name = format!("{}/{}", entry.host, reference.path());
        let mut endpoint = self.endpoint(&name, false, mirror)?;
        endpoint.base.clone_from(&entry.path);
        endpoint.override_path = entry.override_path;
        endpoint.resolve = entry.resolve;
        endpoint.push = !mirror || entry.push;
        endpoint.headers.clone_from(&entry.headers);
        endpoint.namespace = mirror.then(|| reference.domain().to_owned());
        endpoint
            .tls
            .authorities
            .extend(entry.tls.authorities.clone());
        if entry.tls.identity.is_some() {
            endpoint.tls.identity.clone_from(&entry.tls.identity);
        }
        endpoint.security = match endpoint.security {
            _ if entry.http => Security::Http,
            _ if entry.tls.any_certificate => Security::AnyCertificate,
            security => security,
        };
        Ok(endpoint)
    }

    fn security(&self, host: &str, insecure: bool) -> Security {
        let named = |entry: &String| {
            let network = entry.parse::<IpNetwork>().ok();
            let address = host_name(host).parse::<IpAddr>().ok();
            match (network, address) {
                (Some(network), Some(address)) => network.contains(address),
                _ => entry == host,
            }
        };
        if insecure || is_local(host) || self.insecure.iter().any(named) {
            Security::Insecure
        } else {
            Security::Https
        }
    }
}

/// Whether the host is this machine, where Docker too tolerates plain HTTP.
pub(super) fn is_local(host: &str) -> bool {
    let name = host_name(host);
    let address = name.parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Returns `host[:port]` without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// Whether `prefix` (`host/path`, or `*.host`) is one of the reference's, at a border of its parts.
fn matches_prefix(prefix: &str, reference: &Reference) -> bool {
    if let Some(parent) = prefix.strip_prefix("*.") {
        let host = host_name(reference.domain());
        return host
            .strip_suffix(parent)
            .is_some_and(|rest| rest.ends_with('.'));
    }
    let name = reference.to_string();
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

/// Replaces the prefix of a name by a location.
fn relocated(name: &str, prefix: &str, location: &str) -> String {
    let location = location.trim_end_matches('/');
    if location.is_empty() {
        return name.to_owned();
    }
    if prefix.starts_with("*.") {
        let path = name.split_once('/').map_or("", |(_, path)| path);
        return format!("{location}/{path}");
    }
    format!(
        "{location}{}",
        name.strip_prefix(prefix).unwrap_or_default()
    )
}

/// Parses a mirror's `http[s]://host[:port][/path]`.
fn parse_url(text: &str) -> Option<Url> {
    let (http, rest) = match text.split_once("://")? {
        ("http", rest) => (true, rest),
        ("https", rest) => (false, rest),
        _ => return None,
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    let base = if path.is_empty() {
        String::new()
    } else {
        format!("/{path}")
    };
    (!host.is_empty() && !host.contains('@')).then(|| Url {
        http,
        host: host.to_owned(),
        path: base,
    })
}

pub(super) fn read_optional(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Returns the drop-ins in the order of their names.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut paths = list(directory)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "conf"));
    Ok(paths)
}

/// Returns what is in a directory in the order of its names: nothing, if it is not there.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn malformed(path: &Path, message: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Malformed {
        path: path.to_owned(),
        message: message.to_string().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(daemon: &str, registries: &[&str]) -> Result<RegistryConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::create_dir(at("conf.d")).unwrap();
        if !daemon.is_empty() {
            fs_err::write(at("daemon.json"), daemon).unwrap();
        }
        for (number, text) in registries.iter().enumerate() {
            fs_err::write(at(&format!("conf.d/{number}.conf")), text).unwrap();
        }
        let environment = ClientEnvironment {
            daemon_json: at("daemon.json"),
            registries_conf: at("registries.conf"),
            registries_conf_directory: at("conf.d"),
            hosts_directories: vec![at("hosts.d")],
            certs_directories: vec![at("certs.d")],
            ..ClientEnvironment::system(None)
        };
        RegistryConfig::read(&environment).map_err(|error| {
            error
                .to_string()
                .replace(&format!("{}/", directory.path().display()), "")
        })
    }

    fn check(config: &RegistryConfig, reference: &str, expected: &[&str]) {
        let shown: Vec<String> = match config.endpoints(&Reference::parse(reference).unwrap()) {
            Ok(endpoints) => endpoints
                .iter()
                .map(|e| {
                    let mirror = if e.mirror { "mirror " } else { "" };
                    format!(
                        "{mirror}{:?} {}{} {}",
                        e.security, e.host, e.base, e.repository
                    )
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(shown, expected, "{reference}");
    }

    #[test]
    fn without_files_asks_the_registry() {
        let config = config("", &[]).unwrap();
        check(
            &config,
            "busybox",
            &["Https registry-1.docker.io library/busybox"],
        );
        check(&config, "quay.io/a/b", &["Https quay.io a/b"]);
        check(&config, "localhost:5000/a", &["Insecure localhost:5000 a"]);
        check(&config, "127.1.2.3:5000/a", &["Insecure 127.1.2.3:5000 a"]);
        check(&config, "[::1]:5000/a", &["Insecure [::1]:5000 a"]);
        check(&config, "10.1.2.3:5000/a", &["Https 10.1.2.3:5000 a"]);
    }

    #[test]
    fn follows_dockers_file() {
        let text = r#"{"registry-mirrors":["https://m.example/","http://n.example:80/x"],"dns":["1.1.1.1"],
            "insecure-registries":["10.0.0.0/8","r.example:5000"]}"#;
        let config = config(text, &[]).unwrap();
        check(
            &config,
            "busybox",
            &[
                "mirror Https m.example library/busybox",
                "mirror Http n.example:80/x library/busybox",
                "Https registry-1.docker.io library/busybox",
            ],
        );
        check(&config, "10.1.2.3:5000/a", &["Insecure 10.1.2.3:5000 a"]);
        check(&config, "r.example:5000/a", &["Insecure r.example:5000 a"]);
        check(&config, "r.example/a", &["Https r.example a"]);
    }

    #[test]
    fn follows_containers_files() {
        let first = r#"
            unqualified-search-registries = ["x.example"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "m.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "d.example"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "q.example/team"
            location = "q.example/old"
            [[registry]]
            prefix = "*.wild.example"
            blocked = true
            [aliases]
            "x" = "y.example/x"
        "#;
        let second = "[[registry]]\nprefix = \"q.example/team\"\nlocation = \"new.example/t\"\ninsecure = true\n";
        let config = config("", &[first, second]).unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        check(
            &config,
            "busybox",
            &[
                "mirror Insecure m.example:5000 hub/library/busybox",
                "Https registry-1.docker.io library/busybox",
            ],
        );
        check(
            &config,
            &format!("a/b@{digest}"),
            &[
                "mirror Insecure m.example:5000 hub/a/b",
                "mirror Https d.example a/b",
                "Https registry-1.docker.io a/b",
            ],
        );
        check(&config, "q.example/team/x", &["Insecure new.example t/x"]);
        check(&config, "q.example/teams/x", &["Https q.example teams/x"]);
        check(
            &config,
            "a.wild.example/x",
            &["registry `*.wild.example` is blocked by registries.conf"],
        );
    }

    #[test]
    fn says_what_is_malformed() {
        for (daemon, registries, expected) in [
            (
                r#"{"registry-mirrors":["m.example"]}"#,
                "",
                "the registry configuration `daemon.json` is malformed: `m.example` is not the URL of a mirror",
            ),
            (
                "{",
                "",
                "the registry configuration `daemon.json` is malformed: EOF while parsing an object at line 1 column 1",
            ),
            (
                "",
                "[[registry]]\ninsecure = true",
                "the registry configuration `conf.d/0.conf` is malformed: a [[registry]] has neither prefix nor location",
            ),
        ] {
            assert_eq!(config(daemon, &[registries]).unwrap_err(), expected);
        }
    }
}
