//! Fills the variables in that the values of a tree name; keys are left as they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::budget::Resource;
use super::diagnostic::{Diagnostic, Diagnostics, MAX_KEPT};
use super::source::{Sources, Span};
use super::template::{self, TemplateErrorKind, Variables};
use super::tree::{Entry, Mapping, Node, Value};

/// What interpolation reads and what it tells.
pub(crate) struct Interpolator<'a> {
    /// Values.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// For the places of variables inside a text.
    pub(crate) sources: &'a Sources,
    /// Errors and warnings go here.
    pub(crate) diagnostics: &'a mut Diagnostics,
    /// The places of each variable that is not set.
    pub(crate) unset: &'a mut BTreeMap<String, BTreeSet<Span>>,
}

/// A step of the way to a node.
#[derive(Clone, Copy)]
pub(crate) enum Step<'n> {
    /// Into a map.
    Key(&'n str),
    /// Into a list.
    Index(usize),
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// How many variables that are not set are told of, how many of one text, and how many places of each are counted: one more
/// than is shown, so that it is said that there are more.
const MAX_UNSET: usize = MAX_KEPT + 1;

/// The variables of one text.
struct Text<'a> {
    environment: &'a BTreeMap<String, String>,
    /// The ones that are not set, from the first to the last.
    unset: Vec<(String, Range<usize>)>,
}

impl Variables for Text<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    fn unset(&mut self, name: &str, at: Range<usize>) {
        if self.unset.len() < MAX_UNSET {
            self.unset.push((name.to_owned(), at));
        }
    }
}

/// Puts `value` at the end of a way of keys that is there.
fn put(node: &mut Arc<Node>, way: &[&str], value: Arc<Node>) {
    let Some((key, rest)) = way.split_first() else {
        *node = value;
        return;
    };
    if let Value::Mapping(mapping) = &mut Arc::make_mut(node).value
        && let Some(child) = mapping.get_mut(key)
    {
        put(child, rest, value);
    }
}

impl Interpolator<'_> {
    /// Returns the tree filled in; the same one where it names no variable.
    pub(crate) fn tree(&mut self, node: &Arc<Node>) -> Arc<Node> {
        let mut way = Vec::new();
        self.node(node, &mut way)
            .unwrap_or_else(|| Arc::clone(node))
    }

    /// Returns the tree with only that filled in which says what else is to be read: `include`, and what services extend.
    pub(crate) fn references(&mut self, node: &Arc<Node>) -> Arc<Node> {
        let mut filled = Arc::clone(node);
        if let Some(include) = node.get("include").map(|include| Arc::new(include.clone()))
            && let Some(new) = self.node(&include, &mut vec![Step::Key("include")])
        {
            put(&mut filled, &["include"], new);
        }
        let services = node.get("services").and_then(Node::as_mapping);
        for service in services.into_iter().flat_map(Mapping::entries) {
            let way = ["services", &*service.key, "extends"];
            let Some(extends) = service
                .value
                .as_mapping()
                .and_then(|it| it.entry("extends"))
            else {
                continue;
            };
            if let Some(new) = self.node(&extends.value, &mut way.map(Step::Key).to_vec()) {
                put(&mut filled, &way, new);
            }
        }
        filled
    }

    /// Returns the filled in node where it differs.
    fn node<'n>(&mut self, node: &'n Arc<Node>, way: &mut Vec<Step<'n>>) -> Option<Arc<Node>> {
        let value = match &node.value {
            Value::String(text) if text.contains('$') => {
                Value::String(self.text(node.span, text, way)?.into())
            }
            Value::Sequence(items) => {
                let mut filled: Option<Vec<Arc<Node>>> = None;
                for (index, item) in items.iter().enumerate() {
                    way.push(Step::Index(index));
                    if let Some(new) = self.node(item, way) {
                        filled.get_or_insert_with(|| items.clone())[index] = new;
                    }
                    way.pop();
                }
                Value::Sequence(filled?)
            }
            Value::Mapping(mapping) => {
                let mut filled: Option<Mapping> = None;
                for entry in mapping.entries() {
                    way.push(Step::Key(&entry.key));
                    if let Some(value) = self.node(&entry.value, way) {
                        filled.get_or_insert_with(|| mapping.clone()).insert(Entry {
                            value,
                            ..entry.clone()
                        });
                    }
                    way.pop();
                }
                Value::Mapping(filled?)
            }
            _ => return None,
        };
        Some(Arc::new(Node {
            span: node.span,
            tag: node.tag,
            value,
        }))
    }

    /// Returns the filled in text where it differs.
    pub(crate) fn text(&mut self, span: Span, text: &str, way: &[Step<'_>]) -> Option<String> {
        let mut variables = Text {
            environment: self.environment,
            unset: Vec::new(),
        };
        let room = self.diagnostics.left(Resource::Filled);
        let filled = template::substitute(text, &mut variables, room);
        self.note_unset(span, text, variables.unset);
        match filled {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(filled)) => {
                self.diagnostics
                    .take(Resource::Filled, filled.len(), Some(span));
                Some(filled)
            }
            Err(error) => {
                let place = way
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(".");
                let span = Locator::new(self.sources, span, text).find(error.at);
                self.diagnostics.push(match error.kind {
                    TemplateErrorKind::TooLong => {
                        self.diagnostics.take(Resource::Filled, usize::MAX, Some(span));
                        return None;
                    }
                    TemplateErrorKind::Invalid => {
                        Diagnostic::error(span, format!("invalid interpolation format for {place}"))
                            .hint("you may need to escape any $ with another $")
                    }
                    TemplateErrorKind::TooDeep => {
                        Diagnostic::error(span, format!("interpolation of {place} is nested too deep"))
                    }
                    TemplateErrorKind::Required { name, message } => {
                        let message = if message.is_empty() { message } else { format!(": {message}") };
                        Diagnostic::error(
                            span,
                            format!(
                                "error while interpolating {place}: required variable {name} is missing a value{message}"
                            ),
                        )
                    }
                });
                None
            }
        }
    }

    /// Takes note of the places of variables that are not set.
    fn note_unset(&mut self, span: Span, text: &str, unset: Vec<(String, Range<usize>)>) {
        let mut locator = Locator::new(self.sources, span, text);
        for (name, at) in unset {
            let place = locator.find(at);
            if self.unset.len() >= MAX_UNSET && !self.unset.contains_key(&name) {
                continue;
            }
            let places = self.unset.entry(name).or_default();
            if places.len() < MAX_UNSET {
                places.insert(place);
            }
        }
    }
}

/// Finds pieces of a value where its file has them, from the first to the last: a text of megabytes may name any number
/// of variables, and is gone over once.
struct Locator<'a> {
    /// The place of the value.
    span: Span,
    /// The value.
    text: &'a str,
    /// What the file has there: the same, but for quotes, escapes and folded lines.
    written: Option<&'a str>,
    /// How far both have been gone over.
    text_at: usize,
    written_at: usize,
}

impl<'a> Locator<'a> {
    fn new(sources: &'a Sources, span: Span, text: &'a str) -> Self {
        let written = || {
            let bytes = usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?;
            sources.get(span.source)?.text.get(bytes)
        };
        Self {
            span,
            text,
            written: written(),
            text_at: 0,
            written_at: 0,
        }
    }

    /// Returns the place of the bytes `at` of the value, which lie behind those asked for before: exact where the file has
    /// them as they are, else that of the whole value.
    fn find(&mut self, at: Range<usize>) -> Span {
        let mut exact = || {
            let rest = self.written?.get(self.written_at..)?;
            let fragment = self.text.get(at.clone())?;
            let earlier = self
                .text
                .get(self.text_at..at.start)?
                .matches(fragment)
                .count();
            let Some((offset, _)) = rest.match_indices(fragment).nth(earlier) else {
                self.written = None;
                return None;
            };
            self.text_at = at.end;
            self.written_at += offset + fragment.len();
            let end = self.span.start + u32::try_from(self.written_at).ok()?;
            Some(Span {
                start: end - u32::try_from(fragment.len()).ok()?,
                end,
                ..self.span
            })
        };
        exact().unwrap_or(self.span)
    }
}
