//! `build:` and `develop.watch` of a service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::service::Ulimit;

/// How to build a service's image (compose-spec build.md).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Build {
    /// Absolute path of the build context.
    pub context: PathBuf,
    /// Dockerfile, as written: relative to `context` unless absolute. `Dockerfile` where unset.
    pub dockerfile: PathBuf,
    /// The Dockerfile's text, where `dockerfile_inline` gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Build arguments; `None` takes the builder's predefined value or none at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build; the last where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the rest of the section says; boxed, since most builds say nothing of it.
    #[serde(flatten)]
    pub more: Box<BuildMore>,
}

/// What few builds say.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildMore {
    /// Named contexts: an absolute path, `service:NAME`, `docker-image://REFERENCE` or a URL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_contexts: BTreeMap<String, String>,
    /// Caches of elsewhere to look for steps in, as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// Where the cache is brought to, as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_to: Vec<String>,
    /// Which provenance is asked for; nothing where unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provenance: String,
    /// Which software bill of materials is asked for; nothing where unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sbom: String,
    /// `default`, or `ID=PATH` with an absolute path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<String>,
    /// Rights beyond a container's: `network.host`, `security.insecure`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// Lines of `/etc/hosts` for `RUN`: name and address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<(String, String)>,
    /// Labels of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Network for `RUN`: `default`, `none`, `host` or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Run every step again.
    #[serde(skip_serializing_if = "is_false")]
    pub no_cache: bool,
    /// Run every step of these stages again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_cache_filter: Vec<String>,
    /// What the image is to run on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Grants `security.insecure`.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Pull base images even if they are there.
    #[serde(skip_serializing_if = "is_false")]
    pub pull: bool,
    /// Secrets that `RUN` may mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<BuildSecret>,
    /// Bytes of `/dev/shm` for `RUN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Further names of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Limits for `RUN`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
}

impl Build {
    /// Returns the services whose images are named contexts of this build.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let contexts = self.more.additional_contexts.values();
        contexts.filter_map(|context| context.strip_prefix("service:"))
    }
}

/// A secret of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildSecret {
    /// Key of the top-level secret.
    pub source: String,
    /// What `RUN --mount=type=secret,id=…` knows it by.
    pub id: String,
}

/// For `skip_serializing_if`.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// One rule of `develop.watch` (compose-spec develop.md).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WatchRule {
    /// What a change does.
    pub action: WatchAction,
    /// Absolute path watched: a file, or a directory with all beneath it.
    pub path: PathBuf,
    /// Where changed files go in the container (`sync`, `sync+restart`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Patterns, in `.dockerignore` syntax relative to `path`, that are not watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Patterns that alone are watched, where any are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Whether `path` is synced once when watching begins.
    pub initial_sync: bool,
}

/// What a change to a watched file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum WatchAction {
    /// Copy the file into the container.
    #[serde(rename = "sync")]
    Sync,
    /// Restart the container.
    #[serde(rename = "restart")]
    Restart,
    /// Copy, then restart.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// Build the image again and recreate the container.
    #[serde(rename = "rebuild")]
    Rebuild,
}
