//! Images and containers as JSON, in Docker's words and order (`docker inspect`), for the scripts that read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

mod container;
mod image;
mod node;

pub use container::ContainerInspect;
pub use image::ImageInspect;

/// Keys that Docker leaves out where they hold nothing; a template may ask for them all the same.
pub const LEFT_OUT_WHEN_EMPTY: &[&str] = &[
    "ArgsEscaped",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "OsVersion",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "Variant",
];

/// What a container runs: `Config` of either.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct RunInspect {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    exposed_ports: Keys,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    healthcheck: Option<crate::images::manifest::Healthcheck>,
    args_escaped: bool,
    image: String,
    volumes: Option<Keys>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: String,
    stop_timeout: Option<u64>,
    shell: Option<Vec<String>>,
}

/// A set as Go writes one: `{"a": {}, "b": {}}`.
type Keys = BTreeMap<String, serde_json::Value>;

/// Makes such a set.
fn keys(keys: impl IntoIterator<Item = String>) -> Keys {
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    keys.into_iter().map(|key| (key, empty())).collect()
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    data: GraphData,
    name: &'static str,
}

/// Directories of an overlay mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct GraphData {
    /// Top-most first, parted by colons.
    #[serde(rename = "LowerDir", skip_serializing_if = "String::is_empty")]
    lower: String,
    #[serde(rename = "MergedDir")]
    merged: PathBuf,
    #[serde(rename = "UpperDir")]
    upper: PathBuf,
    #[serde(rename = "WorkDir")]
    work: PathBuf,
}

impl GraphDriver {
    /// Describes an overlay whose upper directory lies in `tree`, above `lower`, top-most first.
    fn overlay(tree: &Path, upper: &Path, lower: &[PathBuf]) -> Self {
        let lower = lower.iter().map(|path| path.to_string_lossy());
        Self {
            data: GraphData {
                lower: lower.collect::<Vec<_>>().join(":"),
                merged: tree.join("merged"),
                upper: upper.to_owned(),
                work: tree.join("work"),
            },
            name: "overlay2",
        }
    }
}
