//! `docker image inspect`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{GraphDriver, RunInspect, keys};
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::images::manifest::{Descriptor, DescriptorPlatform, REFERENCE_DIGEST, RunConfig};
use crate::images::store::Member;
use crate::images::{Known, Reference};

/// Go's zero time, for what never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// An image in Docker's words and order (moby `api/types/image`, `InspectResponse`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    docker_version: String,
    author: String,
    config: RunInspect,
    architecture: String,
    variant: String,
    os: String,
    os_version: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
    descriptor: Descriptor,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<ManifestSummary>,
}

/// One entry of an index (moby `api/types/image`, `ManifestSummary`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestSummary {
    #[serde(rename = "ID")]
    id: String,
    descriptor: Descriptor,
    available: bool,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_data: Option<ImageData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation_data: Option<AttestationData>,
}

/// What an image of an index is for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageData {
    platform: DescriptorPlatform,
}

/// Which manifest of the index something is attested of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttestationData {
    r#for: String,
}

impl From<Member> for ManifestSummary {
    fn from(member: Member) -> Self {
        let descriptor = member.descriptor;
        let is_attestation = descriptor.is_attestation();
        let about = descriptor.annotations.get(REFERENCE_DIGEST).cloned();
        let platform = descriptor.platform.clone().or_else(|| {
            let image = member.image.as_ref()?;
            Some(DescriptorPlatform::from(image.config.platform()))
        });
        let platform = platform.filter(|_| !is_attestation);
        Self {
            id: descriptor.digest.to_string(),
            available: member.is_here && (is_attestation || member.image.is_some()),
            kind: match (is_attestation, platform.is_some()) {
                (true, _) => "attestation",
                (false, true) => "image",
                (false, false) => "unknown",
            },
            image_data: platform.map(|platform| ImageData { platform }),
            attestation_data: about
                .filter(|_| is_attestation)
                .map(|r#for| AttestationData { r#for }),
            descriptor,
        }
    }
}

/// Diff ids, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<String>,
}

/// What is not part of the image itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

impl Engine {
    /// Describes an image, of several the one for `platform` or this machine; fails with [`crate::images::ImageError::NoSuchImage`] where there is none.
    pub fn inspect_image(
        &self,
        asked: &str,
        platform: Option<&str>,
    ) -> Result<ImageInspect, EngineError> {
        let mut known = self.known_for(asked, platform)?;
        if platform.is_some() {
            let manifest = &known.image.manifest;
            let mut members = known.members.iter();
            if let Some(member) = members.find(|member| member.descriptor.digest == *manifest) {
                known.descriptor = member.descriptor.clone();
            }
        }
        let directories = self.images.layer_directories(&known.image);
        Ok(describe(known, &directories))
    }
}

/// Describes an image with its overlay lower directories, top-most first.
fn describe(known: Known, directories: &[PathBuf]) -> ImageInspect {
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
    let (config, layers) = (known.image.config, known.image.layers);
    let text = |key: &str| {
        let value = config.extra.get(key).and_then(serde_json::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let last = config.history.last();
    let comment = last.and_then(|entry| entry.comment.clone());
    let (upper, lower) = directories.split_first().unzip();
    let upper = upper.map_or(Path::new(""), PathBuf::as_path);
    let tree = upper.parent().unwrap_or(Path::new(""));
    let descriptor = Descriptor {
        platform: None,
        ..known.descriptor
    };
    ImageInspect {
        id: known.id.to_string(),
        repo_tags: familiar(&known.names),
        repo_digests: familiar(&known.digests),
        parent: String::new(),
        comment: comment.unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: text("docker_version"),
        author: config.author.clone().unwrap_or_default(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: text("os.version"),
        size: known.size_bytes,
        graph_driver: GraphDriver::overlay(tree, upper, lower.unwrap_or_default()),
        root_fs: RootFs {
            r#type: "layers",
            layers: layers.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata {
            last_tag_time: known.tagged.unwrap_or_else(|| NEVER.to_owned()),
        },
        descriptor,
        manifests: known.members.into_iter().map(Into::into).collect(),
        config: RunInspect::from(config.config),
    }
}

impl From<RunConfig> for RunInspect {
    fn from(config: RunConfig) -> Self {
        let extra = |key: &str| config.extra.get(key);
        let text = |key: &str| {
            let value = extra(key).and_then(serde_json::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let flag = |key: &str| {
            extra(key)
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false)
        };
        Self {
            hostname: text("Hostname"),
            domainname: text("Domainname"),
            attach_stdin: flag("AttachStdin"),
            attach_stdout: flag("AttachStdout"),
            attach_stderr: flag("AttachStderr"),
            tty: flag("Tty"),
            open_stdin: flag("OpenStdin"),
            stdin_once: flag("StdinOnce"),
            args_escaped: flag("ArgsEscaped"),
            image: text("Image"),
            stop_timeout: extra("StopTimeout").and_then(serde_json::Value::as_u64),
            user: config.user,
            exposed_ports: keys(config.exposed_ports),
            env: config.env,
            cmd: config.cmd,
            healthcheck: config.healthcheck,
            volumes: (!config.volumes.is_empty()).then(|| keys(config.volumes)),
            working_dir: config.working_dir,
            entrypoint: config.entrypoint,
            on_build: (!config.on_build.is_empty()).then_some(config.on_build),
            labels: (!config.labels.is_empty()).then_some(config.labels),
            stop_signal: config.stop_signal,
            shell: config.shell,
        }
    }
}
