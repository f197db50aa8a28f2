//! The documents of an image, in Docker's and OCI's media types: index, manifest, configuration.
//!
//! ```text
//! index     ─ manifests[] ─> manifest ─ config ─> ImageConfig (its digest is the image's id)
//! (a list for platforms)         └───── layers[] ─> tar, tar+gzip, tar+zstd   (digest of the bytes as stored)
//!                                                   ImageConfig.rootfs.diff_ids[] (digest of each tar, uncompressed)
//! ```
//!
//! Fields that we do not know are kept (`extra`) and written again. Sources: OCI image-spec 1.1; Docker's extensions of the
//! configuration (`Healthcheck`, `Shell`, `OnBuild`) from moby `image/spec`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::reference::Digest;

/// OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, a plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, a tar within gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, a tar within zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Says of an entry of an index what it is: [`ATTESTATION`] (BuildKit `docs/attestations/attestation-storage.md`).
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Says which manifest of the index such an entry is about.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What attests something of an image, and is none.
pub const ATTESTATION: &str = "attestation-manifest";

/// A document that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the right shape.
    #[error("read the {what}")]
    Shape {
        /// Which document.
        what: &'static str,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Both an index and a manifest (CVE-2021-41190).
    #[error("the manifest is ambiguous: it has both `manifests` and `layers`")]
    Ambiguous,
    /// The first format of Docker's.
    #[error(
        "Docker image manifest version 2, schema 1 is not supported; push the image again with a newer tool"
    )]
    Schema1,
    /// Something else than an image.
    #[error("unsupported media type `{media_type}`")]
    MediaType {
        /// As given.
        media_type: String,
    },
    /// The index has no entry that this machine can run.
    #[error(
        "no matching manifest for {platform} in the manifest list entries (there are: {available})"
    )]
    NoPlatform {
        /// What was asked for.
        platform: Platform,
        /// What there is.
        available: String,
    },
    /// The configuration and the manifest count differently.
    #[error("the manifest has {layers} layers, but the configuration has {diff_ids} diff ids")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// Not `os[/architecture[/variant]]`.
    #[error("invalid platform `{text}`: it must be os/architecture[/variant], like linux/arm64")]
    Platform {
        /// As given.
        text: String,
    },
}

/// Processors that Go knows (`internal/syslist`), which a platform of one word may name.
const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "sparc64", "wasm", "riscv",
];

/// Operating systems that Go knows (`internal/syslist`), and what images for WebAssembly say. Docker's daemon refuses an image of another
/// one when it is built; a slip is better told before.
const SYSTEMS: [&str; 18] = [
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "hurd",
    "ios",
    "js",
    "plan9",
    "wasi",
    "wasip1",
    "zos",
];

/// An operating system and processor, in Go's words: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …; `None` where there is but one or it is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns this machine's.
    pub fn host() -> Self {
        Self::normalized("linux", std::env::consts::ARCH, None)
    }

    /// Parses `os/architecture[/variant]`, or an architecture alone.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let parts: Vec<&str> = text.split('/').collect();
        let valid = parts.iter().all(|p| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        });
        match parts.as_slice() {
            _ if !valid => None,
            ["linux"] => Some(Self::host()),
            // One word alone must be a known one, as containerd/platforms has it: else a slip would pass for a processor.
            [word] => Some(Self::normalized("linux", word, None))
                .filter(|platform| ARCHITECTURES.contains(&platform.architecture.as_str())),
            [os, architecture] => Some(Self::normalized(os, architecture, None)),
            [os, architecture, variant] => Some(Self::normalized(os, architecture, Some(variant))),
            _ => None,
        }
        .filter(|platform| SYSTEMS.contains(&platform.os.as_str()))
        .ok_or_else(|| ManifestError::Platform {
            text: text.to_owned(),
        })
    }

    /// Brings names for the same thing together (containerd/platforms `normalizeArch`).
    pub fn normalized(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant
            .map(str::to_ascii_lowercase)
            .filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, variant) => (other, variant),
        };
        Self {
            os: if os == "macos" {
                "darwin".to_owned()
            } else {
                os
            },
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns what also runs where this is asked for, best first (containerd/platforms `platformVector`).
    pub fn preferences(&self) -> Vec<Self> {
        let with = |architecture: &str, variant: Option<String>| {
            Self::normalized(&self.os, architecture, variant.as_deref())
        };
        let number = |variant: &Option<String>| {
            let digits = variant.as_deref().and_then(|v| v.strip_prefix('v'));
            digits.and_then(|v| v.parse::<u8>().ok())
        };
        let mut found = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                let below = 1..number(&self.variant).unwrap_or(1);
                found.extend(below.rev().map(|n| with("amd64", Some(format!("v{n}")))));
                found.push(with("386", None));
            }
            "arm64" => {
                if self.variant.is_some() {
                    found.push(with("arm64", None));
                }
                found.extend((5..=8).rev().map(|n| with("arm", Some(format!("v{n}")))));
            }
            "arm" => {
                let below = 5..number(&self.variant).unwrap_or(7);
                found.extend(below.rev().map(|n| with("arm", Some(format!("v{n}")))));
            }
            _ => {}
        }
        found.retain({
            let mut seen = BTreeSet::new();
            move |platform| seen.insert(platform.clone())
        });
        found
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Fields that a document has and we do not know.
pub type Extra = BTreeMap<String, Value>;

/// Points to bytes: OCI image-spec, `descriptor.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    #[serde(default)]
    pub media_type: String,
    /// Their SHA-256.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Other places to get them from (foreign layers).
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What the manifest pointed to runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Descriptor {
    /// Whether it points to an index.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }

    /// Whether it points to what is said about an image, which runs nowhere.
    pub fn is_attestation(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
            || self.annotations.get(REFERENCE_TYPE).map(String::as_str) == Some(ATTESTATION)
    }

    /// Whether it is a layer that may not be copied everywhere (image-spec `layer.md#non-distributable-layers`).
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains("foreign")
    }

    /// Describes `size` bytes whose hash is `digest`.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            extra: Extra::new(),
        }
    }
}

/// The platform of a descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// `linux`, or `unknown` for attestations.
    #[serde(default)]
    pub os: String,
    /// `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The rest: `os.version`, `os.features`.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<Platform> for DescriptorPlatform {
    fn from(platform: Platform) -> Self {
        Self {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            extra: Extra::new(),
        }
    }
}

impl DescriptorPlatform {
    /// Returns it in normal form.
    pub fn normalized(&self) -> Platform {
        Platform::normalized(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// One image: OCI image-spec, `manifest.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Manifests to choose from: OCI image-spec, `image-index.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What there is.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Index {
    /// Returns an OCI index of these.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
            extra: Extra::new(),
        }
    }

    /// Whether it lists that manifest.
    pub fn has(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|entry| entry.digest == *digest)
    }

    /// Returns the manifest that fits `platform` best; of equals the first. Attestations are passed over.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        for wanted in platform.preferences() {
            let fits = |entry: &&Descriptor| {
                entry.platform.as_ref().map(DescriptorPlatform::normalized) == Some(wanted.clone())
            };
            if let Some(entry) = self.manifests.iter().find(fits) {
                return Ok(entry);
            }
        }
        // An index of one entry that names no platform leaves nothing to choose.
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let names = self.manifests.iter().filter_map(|m| m.platform.as_ref());
        let names: Vec<String> = names
            .map(|p| p.normalized().to_string())
            .filter(|name| name != "unknown/unknown")
            .collect();
        Err(ManifestError::NoPlatform {
            platform: platform.clone(),
            available: if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            },
        })
    }
}

/// What a registry's `manifests/` endpoint answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Choose one by platform.
    Index(Index),
    /// An image.
    Manifest(Box<Manifest>),
}

/// Reads an index or a manifest. `content_type` is the registry's word, without parameters; the document's own `mediaType`
/// decides where the registry says nothing of use, and its members where neither does.
pub fn parse_document(bytes: &[u8], content_type: Option<&str>) -> Result<Document, ManifestError> {
    let value: Value = parse("manifest", bytes)?;
    let has = |key: &str| value.get(key).is_some_and(|member| !member.is_null());
    if has("manifests") && (has("layers") || has("config")) {
        return Err(ManifestError::Ambiguous);
    }
    if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(ManifestError::Schema1);
    }
    let known =
        |media_type: &&str| media_type.contains("manifest") || media_type.contains("image.index");
    let own = value.get("mediaType").and_then(Value::as_str);
    let media_type = content_type.filter(known).or(own);
    let index = match media_type {
        Some(OCI_INDEX | DOCKER_INDEX) => true,
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => false,
        Some(other) if other.contains("manifest.v1+") => return Err(ManifestError::Schema1),
        Some(other) => {
            return Err(ManifestError::MediaType {
                media_type: other.to_owned(),
            });
        }
        None => has("manifests"),
    };
    if index {
        return parse("index", bytes).map(Document::Index);
    }
    let manifest: Manifest = parse("manifest", bytes)?;
    match manifest.config.media_type.as_str() {
        OCI_CONFIG | DOCKER_CONFIG | "" | "application/octet-stream" => {
            Ok(Document::Manifest(Box::new(manifest)))
        }
        other => Err(ManifestError::MediaType {
            media_type: other.to_owned(),
        }),
    }
}

/// Reads a configuration.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ManifestError> {
    parse("image configuration", bytes)
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Shape { what, source })
}

/// An image's configuration: OCI image-spec, `config.md`. The digest of its bytes is the image's id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// What a container made of it runs.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    /// Its layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How it came to be, one entry an instruction.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ImageConfig {
    /// Returns an empty configuration for `platform`.
    pub fn new(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            ..Self::default()
        }
    }

    /// Returns what it runs on.
    pub fn platform(&self) -> Platform {
        Platform::normalized(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// What a container runs unless told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `uid`, `name`, `uid:gid`, …; empty is root.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `80/tcp`, …
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// Argument vector before `cmd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the whole command where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Docker's probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Paths that get a volume of their own.
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Absolute path; empty is `/`.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Instructions that run when another image is built on this one.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Name or number; empty is SIGTERM.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// What the shell forms of instructions run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// The rest: `Hostname`, `ArgsEscaped`, …
    #[serde(flatten)]
    pub extra: Extra,
}

/// Docker's health check; durations are in nanoseconds, 0 means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", line]`; empty inherits.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Between probes.
    #[serde(default, rename = "Interval", skip_serializing_if = "is_zero")]
    pub interval_ns: i64,
    /// Longest run of a probe.
    #[serde(default, rename = "Timeout", skip_serializing_if = "is_zero")]
    pub timeout_ns: i64,
    /// Failures during this time do not count.
    #[serde(default, rename = "StartPeriod", skip_serializing_if = "is_zero")]
    pub start_period_ns: i64,
    /// Between probes during that time.
    #[serde(default, rename = "StartInterval", skip_serializing_if = "is_zero")]
    pub start_interval_ns: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed tars, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// One step that made the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `skip_serializing_if` hands out references.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Reads `null`, which Go writes for what is unset, as the default.
fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A set written as Go writes one: `{"a": {}, "b": {}}`.
mod key_set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            set.iter()
                .map(|key| (key, BTreeMap::<String, Value>::new())),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_does_not_know_and_reads_nulls() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Hostname":"h","Env":null,"Cmd":["sh"],
            "Volumes":{"/data":{}},"ExposedPorts":null,"Labels":null,"ArgsEscaped":true,"OnBuild":null,
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000}},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x","empty_layer":true}],
            "moby.buildkit.x":1}"#;
        let config = parse_config(text.as_bytes()).unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(
            written,
            concat!(
                r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"#,
                r#""Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000},"Volumes":{"/data":{}},"#,
                r#""ArgsEscaped":true,"Hostname":"h"},"rootfs":{"type":"layers","diff_ids":[]},"#,
                r#""history":[{"created_by":"x","empty_layer":true}],"moby.buildkit.x":1}"#
            )
        );
    }

    fn index(platforms: &[&str]) -> Index {
        let entries = platforms.iter().enumerate().map(|(number, text)| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut entry = Descriptor::new(
                OCI_MANIFEST,
                Digest::of(&[u8::try_from(number).unwrap()]),
                1,
            );
            entry.platform = Some(DescriptorPlatform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
                extra: Extra::new(),
            });
            entry
        });
        Index {
            schema_version: 2,
            media_type: None,
            manifests: entries.collect(),
            annotations: BTreeMap::new(),
            extra: Extra::new(),
        }
    }

    #[test]
    fn chooses_the_best_platform() {
        let all = [
            "unknown/unknown",
            "linux/386",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
            "linux/amd64/v2",
        ];
        for (asked, among, expected) in [
            ("linux/amd64", &all[..], Ok("linux/amd64")),
            ("linux/amd64/v3", &all[..], Ok("linux/amd64")),
            ("linux/amd64", &all[..2], Ok("linux/386")),
            ("linux/arm64", &all[..], Ok("linux/arm64")),
            ("linux/arm64", &all[..4], Ok("linux/arm/v7")),
            ("linux/arm/v6", &all[..], Ok("linux/arm/v5")),
            (
                "linux/s390x",
                &all[..3],
                Err(
                    "no matching manifest for linux/s390x in the manifest list entries (there are: linux/386, linux/arm/v5)",
                ),
            ),
        ] {
            // amd64/v2 is not in v3's way here: v3, v2, v1.
            let expected = if asked == "linux/amd64/v3" {
                Ok("linux/amd64/v2")
            } else {
                expected
            };
            let found = index(among);
            let chosen = found.choose(&Platform::parse(asked).unwrap());
            let shown = chosen.map(|d| d.platform.as_ref().unwrap().normalized().to_string());
            assert_eq!(
                shown.map_err(|e| e.to_string()),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{asked}"
            );
        }
    }

    #[test]
    fn a_platform_is_of_a_known_system_and_one_word_a_known_processor() {
        for (text, expected) in [
            ("linux", Some(Platform::host().to_string())),
            ("arm64", Some("linux/arm64".to_owned())),
            ("x86_64", Some("linux/amd64".to_owned())),
            ("armhf", Some("linux/arm/v7".to_owned())),
            ("foo", None),
            ("linux/foo", Some("linux/foo".to_owned())),
            ("macOS/arm64", Some("darwin/arm64".to_owned())),
            ("wasi/wasm", Some("wasi/wasm".to_owned())),
            ("bogus/amd64", None),
            ("linus/arm/v7", None),
            ("", None),
            ("a/b/c/d", None),
        ] {
            let parsed = Platform::parse(text).ok();
            assert_eq!(parsed.map(|found| found.to_string()), expected, "{text}");
        }
    }

    #[test]
    fn refuses_documents_that_are_not_images() {
        for (text, expected) in [
            (
                r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
                "the manifest is ambiguous: it has both `manifests` and `layers`",
            ),
            (
                r#"{"schemaVersion":1}"#,
                "Docker image manifest version 2, schema 1 is not supported; push the image again with a newer tool",
            ),
            (
                r#"{"schemaVersion":2,"mediaType":"text/x"}"#,
                "unsupported media type `text/x`",
            ),
            ("[", "read the manifest"),
        ] {
            let error = parse_document(text.as_bytes(), None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
