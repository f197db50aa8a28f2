//! One file's tree into canonical form: every short form long, every type checked, every relative path absolute.
//!
//! What is not valid is reported and left out, so that the rest is still checked. Nodes that are canonical already are
//! shared, not copied.

mod devices;
pub(crate) mod forms;
pub(crate) mod mounts;
mod options;
pub(crate) mod paths;
pub(crate) mod ports;

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, nearest};
use super::merge;
use super::schema::{self, Attribute, Bare, Shape, Unique};
use super::source::Span;
use super::template;
use super::tree::{Entry, Mapping, Node, Tag, Value};
use super::units;
use super::yaml::resolve::go_float;
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

    fn object(&mut self, node: &Arc<Node>, attributes: &'static [Attribute]) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        let object = self.entries(node, mapping, |this, entry| {
            match schema::find(attributes, &entry.key) {
                Some(attribute) => this.shape(&entry.value, &attribute.shape),
                None if entry.key.starts_with("x-") => Some(Arc::clone(&entry.value)),
                None => {
                    this.unknown_key(entry, attributes);
                    None
                }
            }
        });
        Some(self.completed(standing_for(object, mapping, attributes), attributes))
    }

    fn unknown_key(&mut self, entry: &Entry, attributes: &'static [Attribute]) {
        if self.diagnostics.is_full() {
            return;
        }
        self.way.pop();
        let place = self.place();
        self.way.push(Step::Key(Arc::clone(&entry.key)));
        let place = if place.is_empty() {
            String::new()
        } else {
            format!("{place} ")
        };
        self.diagnostics.push(
            Diagnostic::error(
                entry.key_span,
                format!("{place}additional properties '{}' not allowed", entry.key),
            )
            .suggest(
                &entry.key,
                attributes.iter().map(|attribute| attribute.name),
            ),
        );
    }

    fn map(&mut self, node: &Arc<Node>, values: &'static Shape) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        Some(self.entries(node, mapping, |this, entry| {
            this.shape(&entry.value, values)
        }))
    }

    /// Makes each value of a map canonical; the map stays shared where none changes.
    fn entries(
        &mut self,
        node: &Arc<Node>,
        mapping: &Mapping,
        mut each: impl FnMut(&mut Self, &Entry) -> Canonical,
    ) -> Arc<Node> {
        let mut changed = false;
        let mut entries = Vec::with_capacity(mapping.len());
        for entry in mapping.entries() {
            self.way.push(Step::Key(Arc::clone(&entry.key)));
            let value = each(self, entry);
            self.way.pop();
            let value =
                value.unwrap_or_else(|| Arc::new(Node::new(entry.value.span, Value::Invalid)));
            changed |= !Arc::ptr_eq(&value, &entry.value);
            entries.push(Entry {
                value,
                ..entry.clone()
            });
        }
        if !changed {
            return Arc::clone(node);
        }
        mapping_node(node.span, entries)
    }

    fn list(
        &mut self,
        node: &Arc<Node>,
        what: &str,
        mut each: impl FnMut(&mut Self, &Arc<Node>) -> Canonical,
    ) -> Canonical {
        let Some(items) = node.as_sequence() else {
            return self.must_be(node, what);
        };
        let mut changed = false;
        let mut canonical = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            // `!reset` on an item only drops the item.
            if item.tag == Tag::Reset {
                changed = true;
                continue;
            }
            if self.is_kept(item) {
                canonical.push(Arc::clone(item));
                continue;
            }
            self.way.push(Step::Index(index));
            match each(self, item) {
                Some(new) => {
                    changed |= !Arc::ptr_eq(&new, item);
                    canonical.push(new);
                }
                None => changed = true,
            }
            self.way.pop();
        }
        if !changed {
            return Some(Arc::clone(node));
        }
        Some(Arc::new(Node::new(node.span, Value::Sequence(canonical))))
    }

    fn one_or_many(&mut self, node: &Arc<Node>) -> Canonical {
        if node.as_str().is_some() {
            return Some(list_of(node.span, vec![Arc::clone(node)]));
        }
        self.list(node, "a string or a list of strings", |this, item| {
            this.shape(item, &Shape::Text)
        })
    }

    fn key_values(&mut self, node: &Arc<Node>, bare: Bare) -> Canonical {
        match &node.value {
            Value::Mapping(mapping) => Some(self.entries(node, mapping, |this, entry| {
                if entry.value.tag == Tag::Reset {
                    return Some(Arc::clone(&entry.value));
                }
                let is_scalar = entry.value.is_null() || scalar_text(&entry.value).is_some();
                if this.keeps_variables && is_scalar {
                    return Some(Arc::clone(&entry.value));
                }
                if entry.key.is_empty() {
                    this.error(entry.key_span, "a name must not be empty");
                    return None;
                }
                if entry.value.is_null() {
                    return Some(bare_value(&entry.value, bare));
                }
                match scalar_text(&entry.value).filter(|_| !is_infinite(&entry.value)) {
                    Some(_) if entry.value.as_str().is_some() => Some(Arc::clone(&entry.value)),
                    Some(text) => Some(text_node(&entry.value, text)),
                    None => this.must_be(&entry.value, "a boolean, null, number or string"),
                }
            })),
            Value::Sequence(items) => {
                let mut entries = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.way.push(Step::Index(index));
                    entries.extend(self.key_value(item, bare));
                    self.way.pop();
                }
                // A name may be a variable only here, and two that differ may come to the same.
                if self.keeps_variables {
                    return Some(Arc::clone(node));
                }
                // Of a repeated key, the last one counts.
                entries.reverse();
                Some(mapping_node(node.span, entries))
            }
            _ => self.must_be(node, "a mapping or a list"),
        }
    }

    fn key_value(&mut self, item: &Arc<Node>, bare: Bare) -> Option<Entry> {
        let Some(text) = item.as_str() else {
            self.must_be(item, "a string");
            return None;
        };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Arc::new(Node::string(item.span, value))),
            None => (text, bare_value(&Node::new(item.span, Value::Null), bare)),
        };
        if bare == Bare::FromEnvironment && key.ends_with(char::is_whitespace) {
            self.error(
                item.span,
                format!("environment variable `{key}` is declared with a trailing space"),
            );
            return None;
        }
        Some(Entry {
            key: key.into(),
            key_span: item.span,
            value,
        })
    }

    fn text_or_number(&mut self, node: &Arc<Node>) -> Canonical {
        match (&node.value, scalar_text(node)) {
            (Value::String(_), _) => Some(Arc::clone(node)),
            (Value::Bool(_), _) | (_, None) => self.must_be(node, "a string or a number"),
            (_, Some(text)) => Some(text_node(node, text)),
        }
    }

    fn word(&mut self, node: &Arc<Node>, words: &[&str]) -> Canonical {
        let Some(text) = node.as_str() else {
            return self.must_be(node, "a string");
        };
        if words.contains(&text) {
            return Some(Arc::clone(node));
        }
        let place = self.place();
        let one_of = words.join(", ");
        self.diagnostics.push(
            Diagnostic::error(node.span, format!("{place} must be one of {one_of}"))
                .suggest(text, words.iter().copied()),
        );
        None
    }

    fn boolean(&mut self, node: &Arc<Node>) -> Canonical {
        let text = match &node.value {
            Value::Bool(_) => return Some(Arc::clone(node)),
            Value::String(text) => text,
            _ => return self.must_be(node, "a boolean"),
        };
        let Some((value, old)) = units::parse_boolean(text) else {
            return self.must_be(node, "a boolean");
        };
        if old {
            self.diagnostics.push(Diagnostic::warning(
                node.span,
                format!(
                    "\"{text}\" for boolean is not supported by YAML 1.2, please use `{value}`"
                ),
            ));
        }
        Some(Arc::new(Node::new(node.span, Value::Bool(value))))
    }

    fn integer(&mut self, node: &Arc<Node>, low: i64, high: i64) -> Canonical {
        let value = match &node.value {
            Value::Integer(value) => Some(*value),
            Value::Float(value) => whole(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            None => self.must_be(node, "an integer"),
            Some(value) if value < low => {
                self.must_be_in_range(node, &format!("greater than or equal to {low}"))
            }
            Some(value) if value > high => {
                self.must_be_in_range(node, &format!("less than or equal to {high}"))
            }
            Some(_) if matches!(node.value, Value::Integer(_)) => Some(Arc::clone(node)),
            Some(value) => Some(Arc::new(Node::new(node.span, Value::Integer(value)))),
        }
    }

    /// A number without what follows its point, as Docker Compose reads it.
    fn cut(&mut self, node: &Arc<Node>, low: i64, high: i64) -> Canonical {
        let cut = match &node.value {
            Value::Float(value) => whole(value.trunc()),
            _ => return self.integer(node, low, high),
        };
        match cut {
            Some(value) => {
                let value = Arc::new(Node::new(node.span, Value::Integer(value)));
                self.integer(&value, low, high)
            }
            None => self.must_be(node, "an integer"),
        }
    }

    fn must_be_in_range(&mut self, node: &Node, range: &str) -> Canonical {
        let place = self.place();
        self.diagnostics
            .error(node.span, format!("{place} must be {range}"));
        None
    }

    fn number(&mut self, node: &Arc<Node>) -> Canonical {
        let value = match &node.value {
            #[expect(
                clippy::cast_precision_loss,
                reason = "Go reads these numbers as floats too"
            )]
            Value::Integer(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) if value.is_finite() && value < 0.0 => {
                self.must_be_in_range(node, "greater than or equal to 0")
            }
            Some(value) if value.is_finite() => {
                let value = whole(value).map_or(Value::Float(value), Value::Integer);
                Some(Arc::new(Node::new(node.span, value)))
            }
            _ => self.must_be(node, "a number"),
        }
    }

    fn bytes(&mut self, node: &Arc<Node>) -> Canonical {
        let bytes = match &node.value {
            Value::Integer(bytes) => Some(*bytes),
            Value::Float(bytes) if bytes.is_finite() && bytes.fract() != 0.0 => {
                self.warn_of_fraction(node);
                Some(0)
            }
            Value::Float(bytes) => whole(*bytes),
            Value::String(text) => units::parse_bytes(text),
            _ => return self.must_be(node, "a number of bytes"),
        };
        let Some(bytes) = bytes else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place}: invalid size"))
                    .hint("write a number with b, k, m, g or t after it, such as 512m"),
            );
            return None;
        };
        Some(text_node(node, bytes.to_string()))
    }

    /// A number with a fraction is no size: Docker Compose goes on as if it were not there.
    fn warn_of_fraction(&mut self, node: &Node) {
        let place = self.place();
        let written = scalar_text(node).unwrap_or_default();
        self.diagnostics.push(
            Diagnostic::warning(
                node.span,
                format!("{place}: {written} is no whole number of bytes; it is ignored"),
            )
            .hint("write a number with b, k, m, g or t after it, such as 512m"),
        );
    }

    fn duration(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(text) = node.as_str() else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place} must be a string"))
                    .hint("write a number with a unit, such as 30s or 1m30s"),
            );
            return None;
        };
        // A negative one is refused only where it is used.
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text),
        };
        let Some(duration) = units::parse_duration(digits) else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place}: invalid duration `{text}`"))
                    .hint("write a number with a unit, such as 30s or 1m30s"),
            );
            return None;
        };
        let sign = if duration.is_zero() { "" } else { sign };
        Some(text_node(
            node,
            format!("{sign}{}", units::format_duration(duration)),
        ))
    }

    fn mode(&mut self, node: &Arc<Node>) -> Canonical {
        let mode = match &node.value {
            Value::Integer(mode) => u32::try_from(*mode).ok().filter(|mode| *mode <= 0o7777),
            Value::String(text) => units::parse_mode(text),
            _ => None,
        };
        match mode {
            Some(mode) => Some(text_node(node, format!("0{mode:o}"))),
            None => self.must_be(node, "permission bits in octal, such as 0440"),
        }
    }

    fn numeric_mode(&mut self, node: &Arc<Node>) -> Canonical {
        let mode = match &node.value {
            Value::Float(value) => whole(value.trunc()),
            Value::Integer(mode) => Some(*mode),
            Value::String(text) => units::parse_mode(text).map(i64::from),
            _ => None,
        };
        match mode.filter(|mode| (0..=0o7777).contains(mode)) {
            Some(mode) => Some(Arc::new(Node::new(node.span, Value::Integer(mode)))),
            None => self.must_be(node, "permission bits in octal, such as 0o1777"),
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

/// Lets an unknown key stand for the one that was probably meant, so that this one is not said to be missing.
fn standing_for(
    mut object: Arc<Node>,
    written: &Mapping,
    attributes: &'static [Attribute],
) -> Arc<Node> {
    let is_unknown = |key: &str| schema::find(attributes, key).is_none() && !key.starts_with("x-");
    if !written.entries().iter().any(|entry| is_unknown(&entry.key)) {
        return object;
    }
    if let Value::Mapping(mapping) = &mut Arc::make_mut(&mut object).value {
        mapping.retain(|entry| !is_unknown(&entry.key));
    }
    // More than these are not shown either.
    let unknown = written.entries().iter();
    for entry in unknown.filter(|entry| is_unknown(&entry.key)).take(100) {
        if let Some(meant) = nearest(
            &entry.key,
            attributes.iter().map(|attribute| attribute.name),
        ) {
            forms::set_default(&mut object, meant, |span| {
                Arc::new(Node::new(span, Value::Invalid))
            });
        }
    }
    object
}

/// Lets later items of a list replace the earlier ones that they repeat.
fn without_repeats(node: Arc<Node>, shape: &Shape) -> Arc<Node> {
    let unique = shape.unique();
    match &node.value {
        Value::Sequence(items) if unique != Unique::Appended && items.len() > 1 => {
            let kept = merge::deduplicated(items.clone(), unique);
            if kept.len() == items.len() {
                return node;
            }
            list_of(node.span, kept)
        }
        _ => node,
    }
}

/// Whether a number is none that JSON has a word for.
fn is_infinite(node: &Node) -> bool {
    matches!(node.value, Value::Float(value) if !value.is_finite())
}

/// Returns the whole number that `value` is.
fn whole(value: f64) -> Option<i64> {
    let in_range = value.abs() < 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    (in_range && value.fract() == 0.0).then_some(value as i64)
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

fn bare_value(node: &Node, bare: Bare) -> Arc<Node> {
    Arc::new(match bare {
        Bare::FromEnvironment => Node::new(node.span, Value::Null),
        Bare::Empty => Node::string(node.span, ""),
    })
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
