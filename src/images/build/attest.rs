//! Where an image is from, told in it: an in-toto statement with a SLSA provenance, as BuildKit makes and keeps it.
//!
//! ```text
//! index ─┬─ manifest of the image
//!        └─ manifest, platform unknown/unknown, annotated with what it is about
//!             └─ layer application/vnd.in-toto+json: {_type, subject: [the image], predicateType, predicate}
//! ```
//!
//! Sources: BuildKit `docs/attestations/attestation-storage.md` and `slsa-definitions.md`; <https://slsa.dev/spec/v1.1/provenance>; names
//! of images as package URLs (<https://github.com/package-url/purl-spec>). What BuildKit knows of its own graph (`llbDefinition`) does not
//! exist here and is left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::super::dockerfile::instruction::Kind;
use super::super::dockerfile::lint::is_secret;
use super::super::dockerfile::mount::RunNetwork;
use super::super::manifest::{
    ATTESTATION, Descriptor, DescriptorPlatform, Extra, ImageConfig, Manifest, OCI_CONFIG,
    OCI_MANIFEST, Platform, REFERENCE_DIGEST, REFERENCE_TYPE,
};
use super::super::reference::{Digest, Reference};
use super::super::store::{Store, StoreError};
use super::builder::Build;
use super::error::BuildError;
use super::remote::shown;
use super::step::StepNetwork;
use super::{DockerfileSource, NamedContext};

/// `in-toto.io/Statement`, as BuildKit writes it.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Says of a layer what its statement is about.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// SLSA provenance.
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// How the parameters of a build are to be read.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// What is to be said of where an image is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Also build arguments, labels, secrets' names and the Dockerfile itself (`mode=max`).
    pub max: bool,
    /// Who builds (`builder-id`).
    pub builder_id: String,
    /// Whether whoever builds says that the same comes out each time (`reproducible`).
    pub reproducible: bool,
}

/// Something from elsewhere, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it is from, without a password.
    pub uri: String,
    /// `sha256` or `sha1`, and the digits.
    pub digest: (&'static str, String),
}

impl Material {
    /// Describes what a URL held, whose hash is `sha256:…`.
    pub(super) fn of_url(url: &str, digest: &str) -> Self {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        Self {
            uri: shown(url),
            digest: ("sha256", hex.to_owned()),
        }
    }

    /// Describes a commit of a repository, which is `uri` without a password.
    pub(super) fn of_git(uri: &str, reference: Option<&str>, commit: &str) -> Self {
        Self {
            uri: reference.map_or_else(|| uri.to_owned(), |name| format!("{uri}#{name}")),
            digest: ("sha1", commit.to_owned()),
        }
    }

    fn json(&self) -> Value {
        let (algorithm, digits) = &self.digest;
        json!({"uri": self.uri, "digest": {*algorithm: digits}})
    }
}

/// What is said of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attestation {
    predicate_type: &'static str,
    predicate: Value,
}

impl Attestation {
    pub(super) fn new(predicate_type: &'static str, predicate: Value) -> Self {
        Self {
            predicate_type,
            predicate,
        }
    }
}

impl Build<'_> {
    /// Notes that something was taken from elsewhere.
    pub(super) fn note_material(&self, material: Material) {
        self.materials.borrow_mut().push(material);
    }

    /// Makes what is to be attested of the image of this build.
    pub(super) fn attestations(&self) -> Result<Vec<Attestation>, BuildError> {
        let mut made = self.bills.take();
        if let Some(asked) = &self.request.provenance {
            made.push(Attestation::new(PROVENANCE, self.provenance(asked)?));
        }
        Ok(made)
    }

    fn provenance(&self, asked: &Provenance) -> Result<Value, BuildError> {
        let request = self.request;
        let mut source = Map::new();
        if let Some(material) = &request.source {
            let told = material.json();
            source.extend(told.as_object().cloned().unwrap_or_default());
        }
        let file = match &request.dockerfile {
            DockerfileSource::Path(path) => path.strip_prefix(&request.context).unwrap_or(path),
            DockerfileSource::Inline(_) | DockerfileSource::Text { .. } => "Dockerfile".as_ref(),
        };
        source.insert("path".to_owned(), file.to_string_lossy().into());
        let (parameters, whole) = self.parameters(asked.max);
        let mut dependencies = self.base_materials()?;
        dependencies.extend(request.source.clone());
        dependencies.extend(self.materials.borrow().iter().cloned());
        dependencies.sort();
        dependencies.dedup();
        let dependencies: Vec<Value> = dependencies.iter().map(Material::json).collect();
        let mut own = Map::new();
        if asked.max {
            let text = self.file.text.as_bytes();
            own.insert(
                "source".to_owned(),
                json!({"infos": [{
                    "filename": file.to_string_lossy(),
                    "language": "Dockerfile",
                    "data": base64::engine::general_purpose::STANDARD.encode(text),
                }]}),
            );
        }
        let mut build = json!({
            "buildType": BUILD_TYPE,
            "externalParameters": {"configSource": source, "request": parameters},
            "internalParameters": {"builderPlatform": Platform::host().to_string()},
        });
        if let (Some(build), false) = (build.as_object_mut(), dependencies.is_empty()) {
            build.insert("resolvedDependencies".to_owned(), dependencies.into());
        }
        Ok(json!({
            "buildDefinition": build,
            "runDetails": {
                "builder": {"id": asked.builder_id},
                "metadata": {
                    "invocationID": self.invocation(),
                    "startedOn": request.started.to_string(),
                    "finishedOn": self.finished().to_string(),
                    "buildkit_metadata": own,
                    "buildkit_hermetic": self.is_hermetic(),
                    "buildkit_completeness": {
                        "request": whole,
                        "resolvedDependencies": request.source.is_some(),
                    },
                    "buildkit_reproducible": asked.reproducible,
                },
            },
        }))
    }

    /// Returns what was asked for, and whether that is all of it. Values of arguments whose names speak of secrets are not told.
    fn parameters(&self, max: bool) -> (Value, bool) {
        let request = self.request;
        let mut args = BTreeMap::new();
        let mut whole = max;
        let mut add = |name: String, value: &str| args.insert(name, value.to_owned());
        if let Some(target) = &request.target {
            add("target".to_owned(), target);
        }
        if request.no_cache {
            add("no-cache".to_owned(), "");
        }
        if max {
            for (name, value) in &request.args {
                let Some(value) = value else { continue };
                let is_told = !is_secret(name);
                whole &= is_told;
                // A proxy's URL has its password in it.
                let value = if is_told { &shown(value) } else { "xxxxx" };
                add(format!("build-arg:{name}"), value);
            }
            for (name, value) in &request.labels {
                add(format!("label:{name}"), value);
            }
        } else {
            whole = request.args.is_empty() && request.labels.is_empty();
        }
        let mut parameters = json!({"frontend": "dockerfile.v0", "args": args});
        let Some(object) = parameters.as_object_mut() else {
            return (parameters, whole);
        };
        if request.is_local {
            let locals = json!([{"name": "context"}, {"name": "dockerfile"}]);
            object.insert("locals".to_owned(), locals);
        }
        let ids = |ids: Vec<&String>| -> Vec<Value> {
            ids.into_iter().map(|id| json!({"id": id})).collect()
        };
        for (name, list) in [
            ("secrets", ids(request.secrets.keys().collect())),
            ("ssh", ids(request.agents.keys().collect())),
        ] {
            if max && !list.is_empty() {
                object.insert(name.to_owned(), list.into());
            }
        }
        (parameters, whole)
    }

    /// Returns the images that stages start or copy from.
    fn base_materials(&self) -> Result<Vec<Material>, StoreError> {
        let mut found = Vec::new();
        for ((name, _), image) in &*self.bases.borrow() {
            let Some(image) = image.get() else { continue };
            let reference = match self.request.contexts.get(name) {
                None => Reference::parse(name).ok(),
                Some(NamedContext::Image(reference)) => Some(reference.clone()),
                Some(_) => None,
            };
            let Some(reference) = reference else { continue };
            // What the registry's name stood for, which is what others can look up.
            let source = self.store().source(&reference)?;
            let digest = match (reference.digest(), source) {
                (Some(asked), _) => asked.clone(),
                (None, Some(source)) => source,
                (None, None) => image.manifest.clone(),
            };
            found.push(Material {
                uri: package_url(&reference, &image.config.platform()),
                digest: ("sha256", digest.hex().to_owned()),
            });
        }
        Ok(found)
    }

    /// Whether no step could reach a network.
    fn is_hermetic(&self) -> bool {
        let is_cut_off = self.request.network == StepNetwork::None;
        let stages = self.file.stages.iter();
        let mut instructions = stages.flat_map(|stage| &stage.instructions);
        instructions.all(|instruction| match &instruction.kind {
            Kind::Run(run) => match run.network {
                RunNetwork::None => true,
                RunNetwork::Default => is_cut_off,
                RunNetwork::Host => false,
            },
            _ => true,
        })
    }

    /// Returns what this run of the builder is known by: the same for all platforms.
    fn invocation(&self) -> String {
        let started = self.request.started.as_nanosecond();
        let text = format!("{started} {}", std::process::id());
        let hex = Digest::of(text.as_bytes()).hex().to_owned();
        hex.chars().take(25).collect()
    }
}

/// Returns the package URL of an image.
fn package_url(reference: &Reference, platform: &Platform) -> String {
    let mut url = format!("pkg:docker/{}", reference.familiar_repository());
    if let Some(tag) = reference.tag() {
        url = format!("{url}@{tag}");
    }
    let mut qualifiers = Vec::new();
    if let Some(digest) = reference.digest() {
        qualifiers.push(format!("digest={digest}"));
    }
    let platform = platform.to_string().replace('/', "%2F");
    qualifiers.push(format!("platform={platform}"));
    format!("{url}?{}", qualifiers.join("&"))
}

/// Keeps what is attested of the image that `entry` of an index points to; returns the entry of the attestations.
pub(super) fn keep(
    store: &Store,
    attestations: &[Attestation],
    (entry, names): (&Descriptor, &[Reference]),
) -> Result<Descriptor, StoreError> {
    let about = json!({"sha256": entry.digest.hex()});
    let platform = entry.platform.as_ref().map(DescriptorPlatform::normalized);
    let platform = platform.unwrap_or_else(Platform::host);
    let mut subject: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": package_url(name, &platform), "digest": about}))
        .collect();
    if subject.is_empty() {
        subject.push(json!({"name": "_", "digest": about}));
    }
    let mut layers = Vec::new();
    for attestation in attestations {
        let statement = json!({
            "_type": STATEMENT,
            "predicateType": attestation.predicate_type,
            "subject": subject,
            "predicate": attestation.predicate,
        });
        let mut layer = put(store, IN_TOTO, &statement)?;
        let kind = attestation.predicate_type.to_owned();
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), kind);
        layers.push(layer);
    }
    let nowhere = Platform {
        os: "unknown".to_owned(),
        architecture: "unknown".to_owned(),
        variant: None,
    };
    let mut config = ImageConfig::new(&nowhere);
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest.clone()).collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: put(store, OCI_CONFIG, &config)?,
        layers,
        annotations: BTreeMap::new(),
        extra: Extra::new(),
    };
    let mut attested = put(store, OCI_MANIFEST, &manifest)?;
    attested.platform = Some(DescriptorPlatform::from(nowhere));
    for (key, value) in [
        (REFERENCE_TYPE, ATTESTATION.to_owned()),
        (REFERENCE_DIGEST, entry.digest.to_string()),
    ] {
        attested.annotations.insert(key.to_owned(), value);
    }
    Ok(attested)
}

/// Keeps a document.
fn put(
    store: &Store,
    media_type: &str,
    document: &impl serde::Serialize,
) -> Result<Descriptor, StoreError> {
    let what = "attestation";
    let bytes = serde_json::to_vec(document);
    let bytes = bytes.map_err(|source| StoreError::Write { what, source })?;
    let digest = store.put_blob(&bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_package_urls() {
        let digest = Digest::of(b"x");
        for (name, platform, expected) in [
            (
                "alpine:3.17".to_owned(),
                "linux/amd64",
                "pkg:docker/alpine@3.17?platform=linux%2Famd64".to_owned(),
            ),
            (
                "h.example:5000/team/app".to_owned(),
                "linux/arm/v7",
                "pkg:docker/h.example:5000/team/app@latest?platform=linux%2Farm%2Fv7".to_owned(),
            ),
            (
                format!("alpine@{digest}"),
                "linux/arm64",
                format!("pkg:docker/alpine?digest={digest}&platform=linux%2Farm64"),
            ),
        ] {
            let reference = Reference::parse(&name).unwrap();
            let platform = Platform::parse(platform).unwrap();
            assert_eq!(package_url(&reference, &platform), expected);
        }
    }

    #[test]
    fn materials_name_what_was_had() {
        let git = Material::of_git("https://h/x.git", Some("v1"), "abc");
        assert_eq!(
            git.json(),
            json!({"uri": "https://h/x.git#v1", "digest": {"sha1": "abc"}})
        );
        let url = Material::of_url("https://me:pass@h/x.tar", "sha256:12");
        assert_eq!(
            url.json(),
            json!({"uri": "https://xxxxx:xxxxx@h/x.tar", "digest": {"sha256": "12"}})
        );
    }
}
