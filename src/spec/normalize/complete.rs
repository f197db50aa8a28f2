//! What must be there, or may not be null, once everything is merged.

use std::sync::Arc;

use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::schema::{self, Attribute, Shape};
use crate::spec::source::Span;
use crate::spec::tree::{Node, Value};

/// Reports the nulls that may not stay now that everything is merged, and properties that are missing.
pub(crate) fn check_complete(project: &mut Arc<Node>, diagnostics: &mut Diagnostics) {
    static PROJECT: Shape = Shape::Object(schema::PROJECT);
    let mut check = Completeness {
        way: Vec::new(),
        nulls: false,
        diagnostics,
    };
    check.node(project, &PROJECT);
    if check.nulls {
        invalidate_nulls(project, &PROJECT);
    }
}

struct Completeness<'d> {
    way: Vec<String>,
    /// Whether a null was refused.
    nulls: bool,
    diagnostics: &'d mut Diagnostics,
}

impl Completeness<'_> {
    fn node(&mut self, node: &Node, shape: &'static Shape) {
        match &node.value {
            Value::Sequence(items) => {
                let Some(each) = shape.item() else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    self.way.push(index.to_string());
                    self.member(item, item.span, each);
                    self.way.pop();
                }
            }
            Value::Mapping(mapping) => {
                for entry in mapping.entries() {
                    let Some(child) = child(shape, &entry.key) else {
                        continue;
                    };
                    self.way.push(entry.key.to_string());
                    self.member(&entry.value, entry.key_span, child);
                    self.way.pop();
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, value: &Node, span: Span, shape: &'static Shape) {
        match shape.null_refused() {
            Some(what) if value.is_null() => self.refuse(span, what),
            _ if shape.is_nested() => self.node(value, shape),
            _ => {}
        }
        if let Shape::Object(attributes) | Shape::NullOrObject(attributes) = shape {
            self.require(value, attributes, &self.way.join("."));
        }
    }

    fn refuse(&mut self, span: Span, what: &str) {
        let place = self.way.join(".");
        self.nulls = true;
        self.diagnostics.push(
            Diagnostic::error(span, format!("{place} must be {what}")).label("nothing follows it"),
        );
    }

    fn require(&mut self, node: &Node, attributes: &[Attribute], place: &str) {
        for attribute in attributes.iter().filter(|attribute| attribute.required) {
            if node
                .as_mapping()
                .is_some_and(|fields| fields.entry(attribute.name).is_none())
            {
                self.diagnostics.error(
                    node.span,
                    format!("{place} missing property '{}'", attribute.name),
                );
            }
        }
    }
}

/// Makes the nulls that were refused invalid.
fn invalidate_nulls(node: &mut Arc<Node>, shape: &'static Shape) {
    let member = |value: &mut Arc<Node>, shape: &'static Shape| {
        if value.is_null() && shape.null_refused().is_some() {
            *value = Arc::new(Node::new(value.span, Value::Invalid));
        } else if shape.is_nested() {
            invalidate_nulls(value, shape);
        }
    };
    match &mut Arc::make_mut(node).value {
        Value::Sequence(items) => {
            if let Some(each) = shape.item() {
                for item in items {
                    member(item, each);
                }
            }
        }
        Value::Mapping(mapping) => {
            for entry in mapping.entries_mut() {
                if let Some(child) = child(shape, &entry.key) {
                    member(&mut entry.value, child);
                }
            }
        }
        _ => {}
    }
}

static DEPENDENCY: Shape = Shape::Object(schema::DEPENDENCY);
static ATTACHMENT: Shape = Shape::NullOrObject(schema::ATTACHMENT);
static MODEL_USE: Shape = Shape::NullOrObject(schema::MODEL_USE);

/// Returns the shape of the value of `key`.
fn child(shape: &'static Shape, key: &str) -> Option<&'static Shape> {
    let attribute =
        |attributes: &'static [Attribute]| schema::find(attributes, key).map(|found| &found.shape);
    match shape {
        Shape::Object(attributes) | Shape::NullOrObject(attributes) => attribute(attributes),
        Shape::Build => attribute(schema::BUILD),
        Shape::Map(values) => Some(values),
        Shape::DependsOn => Some(&DEPENDENCY),
        Shape::ServiceNetworks => Some(&ATTACHMENT),
        Shape::ServiceModels => Some(&MODEL_USE),
        Shape::Logging => attribute(schema::LOGGING),
        _ => None,
    }
}

impl Shape {
    /// Returns what must stand there, for shapes that a null is not (in the words of an error).
    pub(crate) fn null_refused(&self) -> Option<&'static str> {
        Some(match self {
            Self::Any | Self::Command | Self::NullOrObject(_) | Self::TextOrNull => return None,
            Self::Text | Self::Word(_) | Self::Path | Self::Context | Self::Duration => "a string",
            Self::TextOrNumber => "a string or a number",
            Self::TextOrBoolean => "a string or a boolean",
            Self::DeviceCount => "an integer or `all`",
            Self::Boolean | Self::External => "a boolean",
            Self::Integer(..) => "an integer",
            Self::Number | Self::Cut(..) => "a number",
            Self::Bytes => "a number of bytes",
            Self::Mode | Self::NumericMode => "permission bits in octal",
            Self::List(..)
            | Self::Ports
            | Self::Mounts
            | Self::Grants(_)
            | Self::BuildSecrets
            | Self::Devices => "a list",
            Self::Gpus => "`all` or a list",
            Self::OneOrMany(_) | Self::Paths | Self::EnvFiles | Self::HealthTest => {
                "a string or a list"
            }
            Self::KeyValues(_)
            | Self::Contexts
            | Self::Ssh
            | Self::DependsOn
            | Self::ServiceNetworks
            | Self::ServiceModels
            | Self::ExtraHosts => "a mapping or a list",
            Self::Map(_)
            | Self::Object(_)
            | Self::Ulimits
            | Self::Options
            | Self::MultiOptions
            | Self::Logging => "a mapping",
            Self::Build | Self::Extends => "a string or a mapping",
        })
    }

    /// Returns what each item of a list is.
    fn item(&self) -> Option<&'static Self> {
        match self {
            Self::List(each, _) => Some(each),
            Self::OneOrMany(_) | Self::Paths | Self::Command | Self::HealthTest => {
                Some(&Self::Text)
            }
            Self::Gpus => Some(&Self::Object(&[])),
            _ => None,
        }
    }

    /// Whether something may be missing in it.
    fn is_nested(&self) -> bool {
        matches!(
            self,
            Self::Object(_)
                | Self::NullOrObject(_)
                | Self::Map(_)
                | Self::Build
                | Self::DependsOn
                | Self::ServiceNetworks
                | Self::ServiceModels
                | Self::Logging
        ) || self.item().is_some()
    }
}
