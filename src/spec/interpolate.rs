//! Fills the variables in that the values of a tree name; keys are left as they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Sources, Span};
use super::template::{self, TemplateErrorKind, Variables};
use super::tree::{Entry, Node, Value};

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

/// The variables of one text.
struct Text<'a> {
    environment: &'a BTreeMap<String, String>,
    unset: Vec<(String, Range<usize>)>,
}

impl Variables for Text<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    fn unset(&mut self, name: &str, at: Range<usize>) {
        self.unset.push((name.to_owned(), at));
    }
}

impl Interpolator<'_> {
    /// Returns the tree filled in; the same one where it names no variable.
    pub(crate) fn tree(&mut self, node: &Arc<Node>) -> Arc<Node> {
        let mut way = Vec::new();
        self.node(node, &mut way)
            .unwrap_or_else(|| Arc::clone(node))
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
                let mut filled: Option<super::tree::Mapping> = None;
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
        let filled = template::substitute(text, &mut variables);
        for (name, at) in variables.unset {
            let place = self.within(span, text, at);
            self.unset.entry(name).or_default().insert(place);
        }
        match filled {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(filled)) => Some(filled),
            Err(error) => {
                let place = way
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(".");
                let span = self.within(span, text, error.at);
                self.diagnostics.push(match error.kind {
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

    /// Returns the place of the bytes `at` of `text`, which was read from `span`: exact where the file has them as they
    /// are, else the whole span.
    fn within(&self, span: Span, text: &str, at: Range<usize>) -> Span {
        let exact = || {
            let source = self.sources.get(span.source)?;
            let written = source
                .text
                .get(usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?)?;
            let fragment = text.get(at.clone())?;
            let earlier = text.get(..at.start)?.matches(fragment).count();
            let (offset, _) = written.match_indices(fragment).nth(earlier)?;
            let start = span.start + u32::try_from(offset).ok()?;
            Some(Span {
                source: span.source,
                start,
                end: start + u32::try_from(fragment.len()).ok()?,
            })
        };
        exact().unwrap_or(span)
    }
}
