//! `build:` and `develop.watch` of a service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

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
