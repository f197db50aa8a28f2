//! A normalized tree into the typed model.
//!
//! The tree is canonical: a field that is there has its type. What can still be wrong is the grammar of some texts that
//! Docker Compose reads only when it creates containers, and what is valid but not supported here: both are obstacles.

mod attachments;
mod build;
mod image;
mod mounts;
mod resources;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::model::Stack;
use super::model::service::Service;
use super::names::{NameError, ProjectName, ServiceName};
use super::normalize::Normalized;
use super::obstacle::{self, Obstacle, Phase, Subject};
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

/// Reads fields and reports what is wrong with them.
struct Decoder<'a> {
    /// What keeps the project from loading.
    diagnostics: &'a mut Diagnostics,
    /// What keeps a part of it from being run.
    obstacles: Vec<Obstacle>,
    /// The part in hand.
    subject: Subject,
}

/// Makes the model of a project; where something is wrong, it is reported and left out.
pub(crate) fn decode(
    normalized: Normalized,
    name: ProjectName,
    directory: PathBuf,
    files: Vec<PathBuf>,
    diagnostics: &mut Diagnostics,
) -> Stack {
    let project = normalized.project;
    let mut decoder = Decoder {
        diagnostics,
        obstacles: obstacle::unsupported(&project),
        subject: Subject::Service(String::new()),
    };
    let mut services = decoder.services(mapping(&project, "services"));
    let mut disabled = decoder.services(Some(&normalized.disabled));
    for service in services.values_mut().chain(disabled.values_mut()) {
        // `build: ""` is there, and says nothing.
        if let Some(build) = &mut service.build
            && build.context.as_os_str().is_empty()
        {
            build.context.clone_from(&directory);
        }
    }
    let used = Used::of(&services);
    let networks = decoder.networks(mapping(&project, "networks"), &used.networks);
    let volumes = decoder.volumes(mapping(&project, "volumes"), &used.volumes);
    let secrets = Decoder::file_objects(mapping(&project, "secrets"));
    let configs = Decoder::file_objects(mapping(&project, "configs"));
    Stack {
        name,
        directory,
        files,
        services,
        disabled,
        networks,
        volumes,
        secrets,
        configs,
        obstacles: decoder.obstacles,
        document: project,
    }
}

/// The networks and volumes that services use.
struct Used {
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
}

impl Used {
    fn of(services: &BTreeMap<ServiceName, Service>) -> Self {
        use super::model::volume::MountSource;
        let networks = services
            .values()
            .flat_map(|service| service.networks.keys());
        let mounts = services.values().flat_map(|service| &service.volumes);
        let volumes = mounts.filter_map(|mount| match &mount.source {
            MountSource::Volume { source, .. } => source.as_ref(),
            _ => None,
        });
        Self {
            networks: networks.map(ToString::to_string).collect(),
            volumes: volumes.map(ToString::to_string).collect(),
        }
    }
}

fn mapping<'a>(node: &'a Node, key: &str) -> Option<&'a Mapping> {
    node.get(key)?.as_mapping()
}

fn entries(mapping: Option<&Mapping>) -> &[Entry] {
    mapping.map(Mapping::entries).unwrap_or_default()
}

fn text(node: &Node, key: &str) -> Option<String> {
    node.get(key)?.as_str().map(str::to_owned)
}

fn boolean(node: &Node, key: &str) -> Option<bool> {
    match node.get(key)?.value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

fn integer(node: &Node, key: &str) -> Option<i64> {
    match node.get(key)?.value {
        Value::Integer(value) => Some(value),
        _ => None,
    }
}

fn number(node: &Node, key: &str) -> Option<f64> {
    match node.get(key)?.value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "Go reads these numbers as floats too"
        )]
        Value::Integer(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        _ => None,
    }
}

fn items<'a>(node: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    let items = node
        .get(key)
        .and_then(Node::as_sequence)
        .unwrap_or_default();
    items.iter().map(|item| &**item)
}

fn texts(node: &Node, key: &str) -> Vec<String> {
    items(node, key)
        .filter_map(Node::as_str)
        .map(str::to_owned)
        .collect()
}

/// A map of text; nulls are left out.
fn text_map(node: &Node, key: &str) -> BTreeMap<String, String> {
    let pairs = entries(mapping(node, key)).iter();
    pairs
        .filter_map(|entry| Some((entry.key.to_string(), entry.value.as_str()?.to_owned())))
        .collect()
}

fn span_at(node: &Node, key: &str) -> Span {
    node.get(key).map_or(node.span, |value| value.span)
}

impl Decoder<'_> {
    /// Takes note of what keeps the part in hand from being run.
    fn obstacle(&mut self, diagnostic: Diagnostic) {
        self.obstacles.push(Obstacle {
            subject: self.subject.clone(),
            phase: Phase::Run,
            diagnostic,
        });
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.obstacle(Diagnostic::error(span, message));
    }

    fn not_yet(&mut self, span: Span, what: impl std::fmt::Display) {
        self.obstacle(obstacle::not_yet(span, what));
    }

    /// Reports a name that breaks its rule.
    fn named<T>(&mut self, span: Span, name: Result<T, NameError>) -> Option<T> {
        match name {
            Ok(name) => Some(name),
            Err(error) => {
                self.diagnostics.error(span, error.to_string());
                None
            }
        }
    }

    /// Reads a number of bytes that is not negative; -1, like 0, is no limit.
    fn bytes(&mut self, node: &Node, key: &str, place: &str) -> Option<u64> {
        let value = node.get(key)?;
        let bytes: i64 = value.as_str()?.parse().ok()?;
        match u64::try_from(bytes) {
            Ok(0) => None,
            Ok(bytes) => Some(bytes),
            // No limit.
            Err(_) if bytes == -1 => None,
            Err(_) => {
                self.error(
                    value.span,
                    format!("{place}.{key} must be greater than or equal to 0"),
                );
                None
            }
        }
    }

    fn address(&mut self, node: &Node, key: &str, place: &str) -> Option<std::net::IpAddr> {
        let value = node.get(key)?;
        let text = value.as_str().filter(|text| !text.is_empty())?;
        let address = text.parse().ok();
        if address.is_none() {
            self.error(
                value.span,
                format!("{place}.{key}: invalid ip address: {text}"),
            );
        }
        address
    }

    fn services(&mut self, services: Option<&Mapping>) -> BTreeMap<ServiceName, Service> {
        let mut decoded = BTreeMap::new();
        for entry in entries(services) {
            let name = self.named(entry.key_span, ServiceName::new(&entry.key));
            self.subject = Subject::Service(entry.key.to_string());
            let service = self.service(entry);
            if let Some(name) = name {
                decoded.insert(name, service);
            }
        }
        decoded
    }
}

fn unsigned<T: TryFrom<i64>>(node: &Node, key: &str) -> Option<T> {
    integer(node, key).and_then(|value| T::try_from(value).ok())
}
