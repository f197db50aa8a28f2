//! Maps and lists, and the lists that stand for maps (`KEY=value`).

use std::sync::Arc;

use super::{
    Canonical, Canonicalizer, Step, forms, is_infinite, list_of, mapping_node, scalar_text,
    text_node,
};
use crate::spec::diagnostic::{Diagnostic, nearest};
use crate::spec::merge;
use crate::spec::schema::{self, Attribute, Bare, Shape, Unique};
use crate::spec::tree::{Entry, Mapping, Node, Tag, Value};

impl Canonicalizer<'_> {
    pub(super) fn object(
        &mut self,
        node: &Arc<Node>,
        attributes: &'static [Attribute],
    ) -> Canonical {
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

    pub(super) fn unknown_key(&mut self, entry: &Entry, attributes: &'static [Attribute]) {
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

    pub(super) fn map(&mut self, node: &Arc<Node>, values: &'static Shape) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        Some(self.entries(node, mapping, |this, entry| {
            this.shape(&entry.value, values)
        }))
    }

    /// Makes each value of a map canonical; the map stays shared where none changes.
    pub(super) fn entries(
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

    pub(super) fn list(
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

    pub(super) fn one_or_many(&mut self, node: &Arc<Node>) -> Canonical {
        if node.as_str().is_some() {
            return Some(list_of(node.span, vec![Arc::clone(node)]));
        }
        self.list(node, "a string or a list of strings", |this, item| {
            this.shape(item, &Shape::Text)
        })
    }

    pub(super) fn key_values(&mut self, node: &Arc<Node>, bare: Bare) -> Canonical {
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

    pub(super) fn key_value(&mut self, item: &Arc<Node>, bare: Bare) -> Option<Entry> {
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
pub(super) fn without_repeats(node: Arc<Node>, shape: &Shape) -> Arc<Node> {
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

fn bare_value(node: &Node, bare: Bare) -> Arc<Node> {
    Arc::new(match bare {
        Bare::FromEnvironment => Node::new(node.span, Value::Null),
        Bare::Empty => Node::string(node.span, ""),
    })
}
