//! Names and labels, as Docker Compose has them, so that files, scripts and tools that read them go on working.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::fingerprint::Fields;
use super::graph;
use super::observed::ContainerId;
use crate::spec::model::Stack;
use crate::spec::model::service::{Condition, Dependency, Service};
use crate::spec::names::ServiceName;

/// What all of Compose's labels begin with.
pub const LABEL_PREFIX: &str = "com.docker.compose.";
/// Project name: on containers, networks, volumes, and images that are built.
pub const PROJECT: &str = "com.docker.compose.project";
/// Service name: on containers, and on images that are built.
pub const SERVICE: &str = "com.docker.compose.service";
/// Number among the service's containers.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for containers that `run` made.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// Digest of the asked fields; written for tools, never compared.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// Image id.
pub const IMAGE: &str = "com.docker.compose.image";
/// `svc:condition:restart,…`.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Id of the container whose place this one takes.
pub const REPLACE: &str = "com.docker.compose.replace";
/// Key of a network.
pub const NETWORK: &str = "com.docker.compose.network";
/// Key of a volume.
pub const VOLUME: &str = "com.docker.compose.volume";
/// Version of the program that made it.
pub const VERSION: &str = "com.docker.compose.version";
/// Project directory.
pub const WORKING_DIRECTORY: &str = "com.docker.compose.project.working_dir";
/// Files of the project, comma-separated.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";

/// Returns the name of a service's container: `container_name`, or `project-service-number`.
pub fn container_name(stack: &Stack, name: &ServiceName, service: &Service, number: u32) -> String {
    match &service.container_name {
        Some(fixed) => fixed.clone(),
        None => format!("{}-{name}-{number}", stack.name),
    }
}

/// Returns the name under which a container is made that takes the place of `old`.
pub fn replacement_name(old: &ContainerId, name: &str) -> String {
    format!("{}_{name}", old.short())
}

/// Returns the image reference of a service: `image`, or `project-service` for what is built.
pub fn image_reference(stack: &Stack, name: &ServiceName, service: &Service) -> String {
    match &service.image {
        Some(image) => image.clone(),
        None => format!("{}-{name}", stack.name),
    }
}

/// Returns Compose's labels and the file's for a container; those of the file cannot replace Compose's.
pub fn container_labels(
    stack: &Stack,
    name: &ServiceName,
    service: &Service,
    number: u32,
) -> BTreeMap<String, String> {
    let files: Vec<_> = stack
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let mut labels = service.labels.clone();
    let own = [
        (PROJECT, stack.name.to_string()),
        (SERVICE, name.to_string()),
        (NUMBER, number.to_string()),
        (ONEOFF, "False".to_owned()),
        (
            DEPENDS_ON,
            render_depends_on(&graph::service_dependencies(service)),
        ),
        (WORKING_DIRECTORY, stack.directory.display().to_string()),
        (CONFIG_FILES, files.join(",")),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// Returns Compose's labels and the file's for a network (`NETWORK`), a volume (`VOLUME`) or an image that is built (`SERVICE`: the first
/// that builds it; docker/compose `pkg/compose/build.go`, `getImageBuildLabels`).
pub fn resource_labels(
    stack: &Stack,
    kind: &'static str,
    key: &str,
    file: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = file.clone();
    let own = [
        (PROJECT, stack.name.to_string()),
        (kind, key.to_owned()),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// Returns the digest written to [`CONFIG_HASH`]: 64 hexadecimal digits.
pub fn config_hash(asked: &Fields) -> String {
    use std::fmt::Write;
    let mut hash = Sha256::new();
    for (path, value) in asked {
        hash.update(path.as_bytes());
        hash.update(b"=");
        hash.update(value.to_string().as_bytes());
        hash.update(b"\n");
    }
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ok = write!(text, "{byte:02x}");
            text
        })
}

/// Renders the label [`DEPENDS_ON`]: `db:service_healthy:false,…`.
pub fn render_depends_on(depends_on: &BTreeMap<String, Dependency>) -> String {
    let entries: Vec<String> = depends_on
        .iter()
        .map(|(name, dependency)| {
            let condition = match dependency.condition {
                Condition::ServiceStarted => "service_started",
                Condition::ServiceHealthy => "service_healthy",
                Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
            };
            format!("{name}:{condition}:{}", dependency.restart)
        })
        .collect();
    entries.join(",")
}

/// Reads the label [`DEPENDS_ON`]; entries that are not understood are left out, missing parts take their defaults.
pub fn parse_depends_on(label: &str) -> BTreeMap<String, Dependency> {
    let entries = label.split(',').filter(|entry| !entry.is_empty());
    let parsed = entries.map(|entry| {
        let mut parts = entry.split(':');
        let name = parts.next().unwrap_or_default().to_owned();
        let condition = match parts.next() {
            Some("service_healthy") => Condition::ServiceHealthy,
            Some("service_completed_successfully") => Condition::ServiceCompletedSuccessfully,
            _ => Condition::ServiceStarted,
        };
        let dependency = Dependency {
            condition,
            restart: parts.next() == Some("true"),
            required: true,
        };
        (name, dependency)
    });
    parsed.filter(|(name, _)| !name.is_empty()).collect()
}
