//! What loads, but stands in the way of creating containers or building images: attributes that nothing acts on yet, and
//! values that Docker Compose, too, refuses only then. Found at the load, with its place, and said by the commands that
//! would run into it; the others (`config`, `down`, `ps`, `logs`, …) work.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Severity};
use super::load::{LoadFailure, Loaded};
use super::model::Stack;
use super::model::volume::MountSource;
use super::names::ServiceName;
use super::schema::{self, Attribute, Shape, Status};
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

/// Something in the way, and whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What cannot be made.
    pub subject: Subject,
    /// What for.
    pub phase: Phase,
    /// An error, or a warning for what is ignored.
    pub diagnostic: Diagnostic,
}

/// A part of a project, by its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A service.
    Service(String),
    /// A top-level network.
    Network(String),
    /// A top-level volume.
    Volume(String),
    /// A top-level secret.
    Secret(String),
    /// A top-level config.
    Config(String),
}

/// What a command does with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Builds its image.
    Build,
    /// Creates its containers, for which its image may be built.
    Run,
}

impl Loaded {
    /// Checks that `services` can be built or run here. Returns what to warn of: what is ignored, each attribute once.
    ///
    /// All that stands in the way of any of them is an error, at once.
    pub fn usable<'a>(
        &self,
        services: impl IntoIterator<Item = &'a ServiceName>,
        phase: Phase,
    ) -> Result<Vec<Diagnostic>, LoadFailure> {
        let subjects = subjects(&self.stack, services, phase);
        let concerned = self
            .stack
            .obstacles
            .iter()
            .filter(|obstacle| obstacle.phase <= phase && subjects.contains(&obstacle.subject));
        let (errors, warnings): (Vec<Diagnostic>, Vec<Diagnostic>) = concerned
            .map(|obstacle| obstacle.diagnostic.clone())
            .partition(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.is_empty() {
            return Ok(once(warnings));
        }
        Err(LoadFailure {
            diagnostics: once(errors),
            sources: self.sources.clone(),
        })
    }
}

/// Returns the services and all that is made for them.
fn subjects<'a>(
    stack: &Stack,
    services: impl IntoIterator<Item = &'a ServiceName>,
    phase: Phase,
) -> BTreeSet<Subject> {
    let mut subjects = BTreeSet::new();
    for name in services {
        subjects.insert(Subject::Service(name.to_string()));
        let Some(service) = stack
            .services
            .get(name.as_str())
            .filter(|_| phase == Phase::Run)
        else {
            continue;
        };
        subjects.extend(
            service
                .networks
                .keys()
                .map(|key| Subject::Network(key.to_string())),
        );
        subjects.extend(
            service
                .volumes
                .iter()
                .filter_map(|mount| match &mount.source {
                    MountSource::Volume {
                        source: Some(key), ..
                    } => Some(Subject::Volume(key.to_string())),
                    _ => None,
                }),
        );
        subjects.extend(
            service
                .secrets
                .iter()
                .map(|grant| Subject::Secret(grant.source.clone())),
        );
        subjects.extend(
            service
                .configs
                .iter()
                .map(|grant| Subject::Config(grant.source.clone())),
        );
    }
    subjects
}

/// Orders by place; of warnings with the same words the first stays.
fn once(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
    let mut said = BTreeSet::new();
    diagnostics.retain(|diagnostic| {
        diagnostic.severity == Severity::Error || said.insert(diagnostic.message.clone())
    });
    diagnostics.dedup();
    diagnostics
}

/// The error for what is valid but not acted on.
pub(crate) fn not_yet(span: Span, what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(span, format!("{what}: not supported yet"))
        .label("valid, but nothing acts on it yet")
}

/// A part of a project: its key, its attributes, and the subject that each of its entries is.
type Kind = (&'static str, &'static [Attribute], fn(String) -> Subject);

/// Finds the attributes of a normalized project that nothing acts on.
pub(crate) fn unsupported(project: &Node) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let kinds: [Kind; 5] = [
        ("services", schema::SERVICE, Subject::Service),
        ("networks", schema::NETWORK, Subject::Network),
        ("volumes", schema::VOLUME, Subject::Volume),
        ("secrets", schema::SECRET, Subject::Secret),
        ("configs", schema::CONFIG, Subject::Config),
    ];
    for (kind, attributes, subject) in kinds {
        let entries = project.get(kind).and_then(Node::as_mapping);
        for entry in entries.into_iter().flat_map(Mapping::entries) {
            let mut search = Search {
                way: vec![kind.to_owned(), entry.key.to_string()],
                subject: subject(entry.key.to_string()),
                found: &mut found,
            };
            search.object(&entry.value, attributes);
            search.nul_bytes(&entry.value);
        }
    }
    found
}

/// Goes through one part of a project.
struct Search<'a> {
    way: Vec<String>,
    subject: Subject,
    found: &'a mut Vec<Obstacle>,
}

impl Search<'_> {
    fn object(&mut self, node: &Node, attributes: &'static [Attribute]) {
        for entry in node.as_mapping().into_iter().flat_map(Mapping::entries) {
            let Some(attribute) = schema::find(attributes, &entry.key) else {
                continue;
            };
            self.way.push(entry.key.to_string());
            match attribute.status {
                Status::Supported => self.shape(&entry.value, &attribute.shape),
                Status::Later => self.later(entry, &[]),
                Status::LaterUnless(usual) => self.later(entry, usual),
                Status::Ignored(usual) => self.ignored(entry, usual),
            }
            self.way.pop();
        }
    }

    fn shape(&mut self, node: &Node, shape: &'static Shape) {
        match shape {
            Shape::Object(attributes) | Shape::NullOrObject(attributes) => {
                self.object(node, attributes);
            }
            Shape::Build => self.object(node, schema::BUILD),
            Shape::Logging => self.object(node, schema::LOGGING),
            Shape::Duration if node.as_str().is_some_and(|text| text.starts_with('-')) => {
                let place = self.way.join(".");
                self.push(Diagnostic::error(
                    node.span,
                    format!("{place} must not be negative"),
                ));
            }
            Shape::List(items, _) => self.items(node, |this, item| this.shape(item, items)),
            _ => {
                let Some(attributes) = shape.items() else {
                    return;
                };
                self.items(node, |this, item| this.object(item, attributes));
                for entry in node.as_mapping().into_iter().flat_map(Mapping::entries) {
                    self.way.push(entry.key.to_string());
                    self.object(&entry.value, attributes);
                    self.way.pop();
                }
            }
        }
    }

    fn items(&mut self, node: &Node, mut each: impl FnMut(&mut Self, &Node)) {
        for (index, item) in node.as_sequence().unwrap_or_default().iter().enumerate() {
            self.way.push(index.to_string());
            each(self, item);
            self.way.pop();
        }
    }

    /// Finds texts that nothing can be handed to the kernel of.
    fn nul_bytes(&mut self, node: &Node) {
        match &node.value {
            Value::String(text) if text.contains('\0') => {
                let place = self.way.join(".");
                self.push(Diagnostic::error(
                    node.span,
                    format!("{place} must not have a NUL byte in it"),
                ));
            }
            Value::Sequence(_) => self.items(node, Self::nul_bytes),
            Value::Mapping(mapping) => {
                for entry in mapping
                    .entries()
                    .iter()
                    .filter(|entry| !entry.key.starts_with("x-"))
                {
                    self.way.push(entry.key.to_string());
                    self.nul_bytes(&entry.value);
                    self.way.pop();
                }
            }
            _ => {}
        }
    }

    fn later(&mut self, entry: &Entry, usual: &[&str]) {
        if !asks_nothing(&entry.value, usual) {
            let diagnostic = not_yet(entry.key_span, self.way.join("."));
            self.push(diagnostic);
        }
    }

    fn ignored(&mut self, entry: &Entry, usual: &[&str]) {
        if asks_nothing(&entry.value, usual) {
            return;
        }
        // Without the name, so that it is said once for all services.
        let attribute = self.way.get(2..).unwrap_or_default().join(".");
        let whose = match self.subject {
            Subject::Service(_) => "",
            _ => "networks.*.",
        };
        self.push(Diagnostic::warning(
            entry.key_span,
            format!("`{whose}{attribute}` is ignored: it is for Windows or a swarm"),
        ));
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        let is_build = self.way.get(2).is_some_and(|key| key == "build");
        self.found.push(Obstacle {
            subject: self.subject.clone(),
            phase: if is_build { Phase::Build } else { Phase::Run },
            diagnostic,
        });
    }
}

/// Whether a value asks for what is done anyway: one of `usual`, or nothing at all.
fn asks_nothing(node: &Node, usual: &[&str]) -> bool {
    let is_usual = |text: &str| usual.contains(&text);
    match &node.value {
        Value::Null | Value::Invalid => true,
        Value::Bool(value) => {
            is_usual(if *value { "true" } else { "false" }) || (usual.is_empty() && !value)
        }
        Value::Integer(value) => *value == 0,
        Value::Unsigned(_) => false,
        Value::Float(value) => *value == 0.0,
        Value::String(text) => text.is_empty() || &**text == "0" || is_usual(text),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(mapping) => mapping.is_empty(),
    }
}
