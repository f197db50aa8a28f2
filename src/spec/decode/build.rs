//! How a service's image is built.

use super::service::ulimits;
use super::{boolean, entries, items, mapping, text, text_map, texts};
use crate::spec::model::build::{Build, BuildMore, BuildSecret};
use crate::spec::tree::Node;

pub(super) fn build(node: &Node) -> Build {
    let args = entries(mapping(node, "args")).iter();
    Build {
        context: text(node, "context").unwrap_or_default().into(),
        dockerfile: text(node, "dockerfile")
            .unwrap_or_else(|| "Dockerfile".to_owned())
            .into(),
        dockerfile_inline: text(node, "dockerfile_inline"),
        args: args
            .map(|entry| {
                (
                    entry.key.to_string(),
                    entry.value.as_str().map(str::to_owned),
                )
            })
            .collect(),
        target: text(node, "target"),
        more: Box::new(build_more(node)),
    }
}

/// Decodes what few builds say.
fn build_more(node: &Node) -> BuildMore {
    let is_on = |key| boolean(node, key).unwrap_or_default();
    let hosts = texts(node, "extra_hosts");
    let hosts = hosts.iter().filter_map(|line| line.split_once('='));
    let secrets = items(node, "secrets").filter_map(|grant| {
        let source = text(grant, "source")?;
        let id = text(grant, "target").unwrap_or_else(|| source.clone());
        Some(BuildSecret { source, id })
    });
    BuildMore {
        additional_contexts: text_map(node, "additional_contexts"),
        cache_from: texts(node, "cache_from"),
        cache_to: texts(node, "cache_to"),
        provenance: text(node, "provenance").unwrap_or_default(),
        sbom: text(node, "sbom").unwrap_or_default(),
        ssh: texts(node, "ssh"),
        entitlements: texts(node, "entitlements"),
        extra_hosts: hosts
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect(),
        labels: text_map(node, "labels"),
        network: text(node, "network"),
        no_cache: is_on("no_cache"),
        no_cache_filter: texts(node, "no_cache_filter"),
        platforms: texts(node, "platforms"),
        privileged: is_on("privileged"),
        pull: is_on("pull"),
        secrets: secrets.collect(),
        shm_bytes: text(node, "shm_size")
            .and_then(|bytes| bytes.parse().ok())
            .filter(|bytes| *bytes > 0),
        tags: texts(node, "tags"),
        ulimits: ulimits(node),
    }
}
