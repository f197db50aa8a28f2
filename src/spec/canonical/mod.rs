//! One file's tree into canonical form: every short form long, every type checked, every relative path absolute.
//!
//! What is not valid is reported and left out, so that the rest is still checked. Nodes that are canonical already are
//! shared, not copied.

mod collections;
mod devices;
pub(crate) mod forms;
pub(crate) mod mounts;
mod options;
pub(crate) mod paths;
pub(crate) mod ports;
mod scalars;

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::schema::{self, Shape, Unique};
use super::source::Span;
use super::template;
use super::tree::{Entry, Mapping, Node, Tag, Value};
use super::yaml::resolve::go_float;
use collections::without_repeats;
use paths::PathBase;

/// A step of the way to a node.
#[derive(Debug, Clone)]
enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// Makes one file's tree canonical.
pub(crate) struct Canonicalizer<'a> {
    paths: PathBase<'a>,
    diagnostics: &'a mut Diagnostics,
    way: Vec<Step>,
    /// Whether values that name a variable stay as they are written.
    keeps_variables: bool,
}

/// A canonical node; `None` where it was reported: it is left out of a list, and is [`Value::Invalid`] in a map.
type Canonical = Option<Arc<Node>>;

impl<'a> Canonicalizer<'a> {
    /// Relative paths are resolved against `paths`.
    pub(crate) fn new(paths: PathBase<'a>, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            paths,
            diagnostics,
            way: Vec::new(),
            keeps_variables: false,
        }
    }

    /// Leaves values that name a variable as they are written, since what they are is not known yet.
    pub(crate) fn keep_variables(mut self, keeps: bool) -> Self {
        self.keeps_variables = keeps;
        self
    }

    /// Whether `node` stays as it is written: `${DIR}` may be absolute, and `${PORTS}` anything.
    fn is_kept(&self, node: &Node) -> bool {
        self.keeps_variables && node.as_str().is_some_and(template::names_variable)
    }

    /// Whether a value of this shape stays as it is written. One text that stands for a list of one is not taken apart,
    /// and can be made a list all the same; so can what only stands before a slash.
    fn is_kept_as(&self, node: &Node, shape: &Shape) -> bool {
        self.is_kept(node)
            && match shape {
                Shape::OneOrMany(_) | Shape::HealthTest | Shape::EnvFiles => false,
                Shape::Path | Shape::Context | Shape::Build => {
                    node.as_str().is_some_and(|text| text.starts_with('$'))
                }
                _ => true,
            }
    }

    /// Makes a whole file canonical; `None` where it is not a map.
    pub(crate) fn project(&mut self, node: &Arc<Node>) -> Option<Arc<Node>> {
        if node.as_mapping().is_none() {
            self.diagnostics.push(
                Diagnostic::error(node.span, "top-level object must be a mapping")
                    .label(format!("this is {}", node.kind())),
            );
            return None;
        }
        self.shape(node, &Shape::Object(schema::PROJECT))
    }

    /// Makes an entry of `include` canonical.
    pub(crate) fn include(&mut self, node: &Arc<Node>) -> Canonical {
        if node.as_str().is_some() {
            let list = Node::new(node.span, Value::Sequence(vec![Arc::clone(node)]));
            return Some(object(node.span, [("path", Arc::new(list))]));
        }
        self.shape(node, &Shape::Object(schema::INCLUDE))
    }

    /// Makes one service canonical.
    pub(crate) fn service(&mut self, entry: &Entry) -> Canonical {
        self.way = vec![
            Step::Key("services".into()),
            Step::Key(Arc::clone(&entry.key)),
        ];
        self.shape(&entry.value, &Shape::Object(schema::SERVICE))
    }

    /// Returns the way to the node in hand, such as `services.web.ports.0`.
    fn place(&self) -> String {
        let steps = self.way.iter().map(|step| match step {
            Step::Key(key) => key.to_string(),
            Step::Index(index) => index.to_string(),
        });
        steps.collect::<Vec<_>>().join(".")
    }

    fn error(&mut self, span: Span, message: impl std::fmt::Display) {
        let place = self.place();
        self.diagnostics.error(span, format!("{place}: {message}"));
    }

    fn must_be(&mut self, node: &Node, what: &str) -> Canonical {
        let place = self.place();
        let mut diagnostic = Diagnostic::error(node.span, format!("{place} must be {what}"))
            .label(format!("this is {}", node.kind()));
        if what == "a string"
            && let Some(text) = scalar_text(node)
        {
            diagnostic = diagnostic.hint(format!("put it in quotes: \"{text}\""));
        }
        self.diagnostics.push(diagnostic);
        None
    }

    /// Makes `node` canonical. Nulls pass: whether one may stay is known only when everything is merged.
    fn shape(&mut self, node: &Arc<Node>, shape: &Shape) -> Canonical {
        if node.tag == Tag::Reset
            || node.is_null()
            || self.is_kept_as(node, shape)
            || self.diagnostics.is_full()
        {
            return Some(Arc::clone(node));
        }
        let canonical = match shape {
            Shape::Any => Some(Arc::clone(node)),
            Shape::Object(attributes) | Shape::NullOrObject(attributes) => {
                self.object(node, attributes)
            }
            Shape::Map(values) => self.map(node, values),
            Shape::List(items, _) => {
                self.list(node, "a list", |this, item| this.shape(item, items))
            }
            Shape::OneOrMany(_) => self.one_or_many(node),
            Shape::Paths => self.path_list(node),
            Shape::Options => self.options(node),
            Shape::MultiOptions => self.multi_options(node),
            Shape::BuildSecrets => self.list(node, "a list", |this, item| this.grant(item, false)),
            Shape::Contexts => self.contexts(node),
            Shape::Ssh => self.ssh(node),
            Shape::Devices => self.list(node, "a list", Self::device),
            Shape::Gpus => self.gpus(node),
            Shape::DeviceCount => self.device_count(node),
            Shape::Logging => self.object(node, schema::LOGGING),
            Shape::KeyValues(bare) => self.key_values(node, *bare),
            Shape::Command => self.command(node),
            Shape::Build | Shape::Extends => self.text_or_object(node, shape),
            Shape::DependsOn | Shape::ServiceNetworks | Shape::ServiceModels => {
                self.list_or_map(node, shape)
            }
            Shape::Ports => self.ports(node),
            Shape::Mounts => self.list(node, "a list", Self::mount),
            Shape::Grants(secrets) => {
                self.list(node, "a list", |this, item| this.grant(item, *secrets))
            }
            Shape::EnvFiles => self.env_files(node),
            Shape::ExtraHosts => self.extra_hosts(node),
            Shape::Ulimits => self.ulimits(node),
            Shape::HealthTest => self.health_test(node),
            Shape::External => self.external(node),
            scalar => self.scalar(node, scalar),
        };
        if shape.unique() == Unique::Once {
            self.refuse_repeats(canonical.as_ref());
        }
        let canonical = canonical.map(|list| without_repeats(list, shape));
        let canonical = match canonical {
            Some(_) if self.keeps_variables && stays_as_text(node, shape) => Some(Arc::clone(node)),
            canonical => canonical,
        };
        match canonical {
            Some(new) if new.tag != node.tag => {
                let mut new = Arc::unwrap_or_clone(new);
                new.tag = node.tag;
                Some(Arc::new(new))
            }
            other => other,
        }
    }

    /// Reports the items that a list has twice.
    fn refuse_repeats(&mut self, list: Option<&Arc<Node>>) {
        let mut first = std::collections::BTreeMap::new();
        for item in list.and_then(|list| list.as_sequence()).unwrap_or_default() {
            let Some(text) = scalar_text(item) else {
                continue;
            };
            if let Some(span) = first.get(&text) {
                let place = self.place();
                self.diagnostics.push(
                    Diagnostic::error(
                        item.span,
                        format!("{place} items must be unique: `{text}` is repeated"),
                    )
                    .note(*span, "first listed here"),
                );
            } else {
                first.insert(text, item.span);
            }
        }
    }

    fn scalar(&mut self, node: &Arc<Node>, shape: &Shape) -> Canonical {
        match shape {
            Shape::Text | Shape::TextOrNull if node.as_str().is_some() => Some(Arc::clone(node)),
            Shape::Text | Shape::TextOrNull => self.must_be(node, "a string"),
            Shape::TextOrBoolean => match &node.value {
                Value::String(_) => Some(Arc::clone(node)),
                Value::Bool(value) => Some(text_node(node, value.to_string())),
                _ => self.must_be(node, "a string or a boolean"),
            },
            Shape::TextOrNumber => self.text_or_number(node),
            Shape::Word(words) => self.word(node, words),
            Shape::Boolean => self.boolean(node),
            Shape::Integer(low, high) => self.integer(node, *low, *high),
            Shape::Cut(low, high) => self.cut(node, *low, *high),
            Shape::Number => self.number(node),
            Shape::Bytes => self.bytes(node),
            Shape::Duration => self.duration(node),
            Shape::Mode => self.mode(node),
            Shape::NumericMode => self.numeric_mode(node),
            Shape::Path | Shape::Context => {
                let Some(text) = node.as_str() else {
                    return self.must_be(node, "a string");
                };
                let resolved = match shape {
                    Shape::Path if text.is_empty() => String::new(),
                    Shape::Context => self.paths.resolve_context(text),
                    _ => self.paths.resolve(text),
                };
                Some(text_node(node, resolved))
            }
            _ => Some(Arc::clone(node)),
        }
    }
}

/// Whether a valid value stays in its own spelling where variables stay too, as nothing but its decoding asks for another.
fn stays_as_text(node: &Node, shape: &Shape) -> bool {
    let is_scalar = !matches!(node.value, Value::Mapping(_) | Value::Sequence(_));
    is_scalar
        && matches!(
            shape,
            Shape::Command
                | Shape::HealthTest
                | Shape::Duration
                | Shape::Bytes
                | Shape::Boolean
                | Shape::Integer(..)
                | Shape::Cut(..)
                | Shape::Number
                | Shape::Mode
                | Shape::NumericMode
                | Shape::TextOrNumber
        )
}

/// Whether a number is none that JSON has a word for.
fn is_infinite(node: &Node) -> bool {
    matches!(node.value, Value::Float(value) if !value.is_finite())
}

/// Returns a scalar as the text that Go prints of it; none of null, lists and maps.
pub(crate) fn scalar_text(node: &Node) -> Option<String> {
    Some(match &node.value {
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Float(value) => go_float(*value),
        Value::String(text) => text.to_string(),
        Value::Null | Value::Invalid | Value::Sequence(_) | Value::Mapping(_) => return None,
    })
}

/// A text in the place of `node`; `node` itself where it is that text.
fn text_node(node: &Arc<Node>, text: String) -> Arc<Node> {
    if node.as_str() == Some(&text) {
        return Arc::clone(node);
    }
    Arc::new(Node::string(node.span, text))
}

/// A list.
fn list_of(span: Span, items: Vec<Arc<Node>>) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Sequence(items)))
}

fn mapping_node(span: Span, entries: Vec<Entry>) -> Arc<Node> {
    Arc::new(Node::new(
        span,
        Value::Mapping(Mapping::from_entries(entries).0),
    ))
}

/// A map of these entries, all at `span`.
pub(crate) fn object<const N: usize>(span: Span, entries: [(&str, Arc<Node>); N]) -> Arc<Node> {
    let entries = entries.into_iter().map(|(key, value)| Entry {
        key: key.into(),
        key_span: span,
        value,
    });
    mapping_node(span, entries.collect())
}
