//! Images in one tar, for other machines and tools: what `docker save` writes and `docker load` reads.
//!
//! ```text
//! oci-layout, index.json      an OCI image layout: one entry a name, annotated as Docker does
//! manifest.json               docker-archive: [{Config, RepoTags, Layers, LayerSources}], paths below blobs/
//! repositories                the same names for tools of before 2014: {repository: {tag: layer}}
//! blobs/sha256/<hex>          manifests, configurations, layers as they are kept
//! ```
//!
//! Reading order: [`save`], [`load`], `spool` (what of a stranger's tar is kept meanwhile).

pub mod load;
pub mod save;
mod spool;

/// `io.containerd.image.name`: the whole name, as Docker and containerd write and read it.
const FULL_NAME: &str = "io.containerd.image.name";
/// OCI image-spec, `annotations.md`: the tag alone, as Docker writes it here.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An entry of `manifest.json` (moby `image/tarexport`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ArchivedImage {
    /// Path of the configuration.
    config: String,
    /// Names as people write them.
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// Paths of the layers, bottom first.
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Diff id to what the layer's file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_sources: Option<std::collections::BTreeMap<String, super::manifest::Descriptor>>,
}
