//! Maps of options, and the forms of a build that are lists or maps.

use std::sync::Arc;

use super::forms::{remove, set_default};
use super::{Canonical, Canonicalizer, list_of, scalar_text, text_node};
use crate::spec::diagnostic::Diagnostic;
use crate::spec::schema::{self, Attribute, Bare, Shape};
use crate::spec::tree::{Entry, Node, Value};

impl Canonicalizer<'_> {
    /// A path or a list of paths.
    pub(super) fn path_list(&mut self, node: &Arc<Node>) -> Canonical {
        let one;
        let list = if node.as_str().is_some() {
            one = list_of(node.span, vec![Arc::clone(node)]);
            &one
        } else {
            node
        };
        self.list(list, "a string or a list of strings", |this, item| {
            this.shape(item, &Shape::Path)
        })
    }

    /// A map of text or numbers; a null is empty.
    pub(super) fn options(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        Some(self.entries(node, mapping, |this, entry| {
            if entry.value.is_null() {
                return Some(Arc::new(Node::string(entry.value.span, "")));
            }
            match (&entry.value.value, scalar_text(&entry.value)) {
                (Value::Bool(_), _) | (_, None) => {
                    this.must_be(&entry.value, "a number or a string")
                }
                (_, Some(text)) => Some(text_node(&entry.value, text)),
            }
        }))
    }

    /// A map of scalars or lists of them.
    pub(super) fn multi_options(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        Some(self.entries(node, mapping, |this, entry| {
            let one = [Arc::clone(&entry.value)];
            let items = entry.value.as_sequence().unwrap_or(&one);
            let mut texts = Vec::with_capacity(items.len());
            for item in items {
                match scalar_text(item) {
                    Some(text) => texts.push(text_node(item, text)),
                    None => return this.must_be(item, "a string, a number or a boolean"),
                }
            }
            Some(list_of(entry.value.span, texts))
        }))
    }

    /// `additional_contexts`: relative paths become absolute; URLs, references to services and images stay.
    pub(super) fn contexts(&mut self, node: &Arc<Node>) -> Canonical {
        let contexts = self.key_values(node, Bare::Empty)?;
        let Some(mapping) = contexts.as_mapping().cloned() else {
            return Some(contexts);
        };
        Some(self.entries(&contexts, &mapping, |this, entry| {
            let Some(text) = entry.value.as_str() else {
                return Some(Arc::clone(&entry.value));
            };
            let is_reference = text.starts_with("service:") || text.starts_with("target:");
            if text.is_empty() || is_reference {
                return Some(Arc::clone(&entry.value));
            }
            Some(text_node(&entry.value, this.paths.resolve_context(text)))
        }))
    }

    /// `ssh`: `default` for the agent, `ID=PATH` for a socket or a key.
    pub(super) fn ssh(&mut self, node: &Arc<Node>) -> Canonical {
        let Value::Mapping(mapping) = &node.value else {
            return self.list(node, "a mapping or a list", Self::ssh_key);
        };
        let mut keys = Vec::with_capacity(mapping.len());
        for entry in mapping.entries() {
            let path = scalar_text(&entry.value).unwrap_or_default();
            if entry.value.as_sequence().is_some() || entry.value.as_mapping().is_some() {
                self.must_be(&entry.value, "a string");
                continue;
            }
            let text = if path.is_empty() {
                entry.key.to_string()
            } else {
                format!("{}={path}", entry.key)
            };
            keys.extend(self.ssh_key(&Arc::new(Node::string(entry.key_span, text))));
        }
        Some(list_of(node.span, keys))
    }

    fn ssh_key(&mut self, item: &Arc<Node>) -> Canonical {
        let Some(text) = item.as_str() else {
            return self.must_be(item, "a string");
        };
        match text.split_once('=') {
            Some((id, path)) => {
                let path = self.paths.resolve(path);
                Some(text_node(item, format!("{id}={path}")))
            }
            None if text == "default" => Some(Arc::clone(item)),
            None => {
                let place = self.place();
                self.diagnostics.push(
                    Diagnostic::error(item.span, format!("{place}: invalid ssh key \"{text}\""))
                        .hint("write `default` for the agent, or ID=PATH"),
                );
                None
            }
        }
    }

    /// What an object implies once all its attributes are canonical.
    pub(super) fn completed(
        &mut self,
        object: Arc<Node>,
        attributes: &'static [Attribute],
    ) -> Arc<Node> {
        let object = self.device_request(object, attributes);
        let external = object
            .get("external")
            .filter(|external| external.as_mapping().is_some());
        let is_resource = schema::find(attributes, "external").is_some();
        match external.map(|external| external.span) {
            Some(_) if is_resource => self.external_name(object),
            _ => object,
        }
    }

    /// `external: {name: …}`, the old form of `external: true` with `name` beside it.
    fn external_name(&mut self, mut object: Arc<Node>) -> Arc<Node> {
        let Some(entry) = object
            .as_mapping()
            .and_then(|mapping| mapping.entry("external"))
            .cloned()
        else {
            return object;
        };
        let place = self.place();
        let named = object.get("name").and_then(Node::as_str).map(str::to_owned);
        if let Some(name) = entry
            .value
            .as_mapping()
            .and_then(|external| external.entry("name"))
        {
            let written = name.value.as_str().map(str::to_owned);
            if named.is_some() && named != written {
                self.diagnostics.error(
                    name.key_span,
                    format!("{place}: name and external.name conflict; only use name"),
                );
            } else {
                self.diagnostics.push(Diagnostic::warning(
                    name.key_span,
                    format!(
                        "{place}: external.name is deprecated. Please set name and external: true"
                    ),
                ));
            }
            set_default(&mut object, "name", |_| Arc::clone(&name.value));
        }
        remove(&mut object, "external");
        if let Value::Mapping(mapping) = &mut Arc::make_mut(&mut object).value {
            mapping.insert(Entry {
                value: Arc::new(Node::new(entry.value.span, Value::Bool(true))),
                ..entry
            });
        }
        object
    }
}
