//! Volumes, mounts, secrets and configs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::spec::names::VolumeKey;

/// A top-level volume (compose-spec 07-volumes.md).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    /// Name on the machine: `project_key` unless the file names it.
    pub name: String,
    /// Made by somebody else: must exist, is never removed.
    pub external: bool,
    /// The file's own labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One mount of a service (compose-spec 05-services.md#volumes).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mount {
    /// Where the content comes from.
    #[serde(flatten)]
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path.
        source: PathBuf,
        /// Whether a missing source is made a directory (always so for the short form).
        create_host_path: bool,
        /// `rprivate`, `private`, `rshared`, `shared`, `rslave` or `slave`; `rprivate` where unset.
        #[serde(skip_serializing_if = "Option::is_none")]
        propagation: Option<String>,
    },
    /// A named volume, or an anonymous one.
    Volume {
        /// Key of the top-level volume; anonymous where unset.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<VolumeKey>,
        /// Whether an empty volume is filled from the image: false for `nocopy`.
        copy: bool,
        /// Path beneath the volume's root.
        #[serde(skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Size limit in bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        /// Permission bits, such as 0o1777.
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

/// A top-level secret or config, by its content's origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileObject {
    /// Absolute path of a file on the host.
    File(PathBuf),
    /// Variable of the environment that `up` runs in.
    Environment(String),
    /// The text itself (configs only).
    Content(String),
}

/// A service's use of a secret or a config.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileGrant {
    /// Key of the top-level secret or config.
    pub source: String,
    /// Absolute path in the container; `/run/secrets/KEY` or `/KEY` where the file does not say.
    pub target: String,
    /// Owner, a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits; 0o444 where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}
