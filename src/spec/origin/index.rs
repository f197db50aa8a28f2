//! What the files say at each place: read again, as a load keeps no raw tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::spec::diagnostic::Diagnostics;
use crate::spec::source::{SourceId, Sources, Span};
use crate::spec::tree::{Mapping, Node, Value};
use crate::spec::yaml::parse;

/// What was written at a span.
#[derive(Debug, Clone)]
pub(super) enum Written {
    /// A key of a map.
    Key,
    /// Text, a number, a truth value, nothing; the text as it stands, quotes taken off.
    Scalar(Arc<Node>),
    /// A list or a map.
    Collection(Arc<Node>),
}

/// Everything that the Compose files of a load say, by its span.
#[derive(Debug, Default)]
pub(super) struct Index {
    spans: BTreeMap<Span, Written>,
    /// Documents by their file, in the order of reading.
    documents: Vec<(SourceId, Arc<Node>)>,
    /// Top-level keys, and those of the sections beneath: span of the value and dotted path; sorted.
    parts: Vec<(Span, String)>,
}

impl Index {
    /// Reads the files of `ids` again.
    pub(super) fn new(sources: &Sources, ids: impl IntoIterator<Item = SourceId>) -> Self {
        let mut index = Self::default();
        for id in ids {
            let Some(source) = sources.get(id) else {
                continue;
            };
            // What is wrong with it was said by the load.
            let mut said = Diagnostics::default();
            for document in parse::parse(&source.text, id, &mut said).unwrap_or_default() {
                index.add(&document);
                index.add_parts(&document);
                index.documents.push((id, document));
            }
        }
        index.parts.sort();
        index
    }

    /// Returns what was written at `span`.
    pub(super) fn at(&self, span: Span) -> Option<&Written> {
        self.spans.get(&span)
    }

    /// Returns every document.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.documents.iter().map(|(_, document)| document)
    }

    /// Returns the part of a file that `span` lies in: `services.web`, or `x-common`.
    pub(super) fn part(&self, span: Span) -> Option<&str> {
        // Parts lie beside each other: the last one that begins before it has it, or none; a section begins with the first
        // of its own.
        let begin = |part: &Span| (part.source, part.start);
        let after = self
            .parts
            .partition_point(|(part, _)| begin(part) <= begin(&span));
        let before = self.parts.get(..after)?.iter().rev().take(2);
        let around = before.filter(|(part, _)| part.source == span.source && span.end <= part.end);
        around
            .min_by_key(|(part, _)| part.end - part.start)
            .map(|(_, path)| path.as_str())
    }

    fn add(&mut self, node: &Arc<Node>) {
        let children: Vec<&Arc<Node>> = match &node.value {
            Value::Mapping(mapping) => {
                for entry in mapping.entries() {
                    self.spans.entry(entry.key_span).or_insert(Written::Key);
                }
                mapping.entries().iter().map(|entry| &entry.value).collect()
            }
            Value::Sequence(items) => items.iter().collect(),
            _ => {
                let scalar = Written::Scalar(Arc::clone(node));
                self.spans.insert(node.span, scalar);
                return;
            }
        };
        // What an alias repeats is there already.
        let collection = Written::Collection(Arc::clone(node));
        if self.spans.insert(node.span, collection).is_none() || node.span.start == node.span.end {
            for child in children {
                self.add(child);
            }
        }
    }

    fn add_parts(&mut self, document: &Node) {
        let entries = |node: &Node| -> Vec<(String, Span, Arc<Node>)> {
            let mapping = node.as_mapping().into_iter().flat_map(Mapping::entries);
            let part = |entry: &crate::spec::tree::Entry| {
                (
                    entry.key.to_string(),
                    entry.value.span,
                    Arc::clone(&entry.value),
                )
            };
            mapping.map(part).collect()
        };
        for (key, span, node) in entries(document) {
            let is_section = matches!(
                key.as_str(),
                "services" | "networks" | "volumes" | "secrets" | "configs" | "models"
            );
            if is_section {
                for (name, span, _) in entries(&node) {
                    self.parts.push((span, format!("{key}.{name}")));
                }
            }
            self.parts.push((span, key));
        }
    }
}
