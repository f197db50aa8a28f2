//! Devices of the host, and requests for devices that a driver hands out.

use std::sync::Arc;

use super::forms::set_default;
use super::{Canonical, Canonicalizer, list_of, object};
use crate::spec::diagnostic::Diagnostic;
use crate::spec::schema::{self, Attribute, Shape};
use crate::spec::source::Span;
use crate::spec::tree::{Node, Value};

/// What `all` stands for in a count of devices.
const ALL: i64 = -1;

fn count_all(span: Span) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Integer(ALL)))
}

impl Canonicalizer<'_> {
    /// `HOST[:CONTAINER[:PERMISSIONS]]`, or the name of a device of the Container Device Interface; or an object.
    pub(super) fn device(&mut self, item: &Arc<Node>) -> Canonical {
        let Some(text) = item.as_str() else {
            if item.as_mapping().is_none() {
                return self.must_be(item, "a string or a mapping");
            }
            let device = self.object(item, schema::DEVICE)?;
            for (key, what) in [("source", "a source"), ("target", "a mount target")] {
                if item.get(key).is_none() {
                    self.error(item.span, format!("the device is missing {what}"));
                }
            }
            return Some(device);
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, permissions) = match parts.as_slice() {
            [source] => (*source, *source, "rwm"),
            [source, target] => (*source, *target, "rwm"),
            [source, target, permissions] => (*source, *target, *permissions),
            _ => {
                self.error(
                    item.span,
                    format!("confusing device mapping, please use long syntax: {text}"),
                );
                return None;
            }
        };
        let target = if target.is_empty() { source } else { target };
        let text = |text: &str| Arc::new(Node::string(item.span, text));
        Some(object(
            item.span,
            [
                ("source", text(source)),
                ("target", text(target)),
                ("permissions", text(permissions)),
            ],
        ))
    }

    pub(super) fn gpus(&mut self, node: &Arc<Node>) -> Canonical {
        match node.as_str() {
            Some("all") => {
                let request = object(node.span, [("count", count_all(node.span))]);
                Some(list_of(node.span, vec![request]))
            }
            Some(_) => self.must_be(node, "`all` or a list"),
            None => self.list(node, "`all` or a list", |this, item| {
                this.shape(item, &Shape::Object(schema::GPU))
            }),
        }
    }

    pub(super) fn device_count(&mut self, node: &Arc<Node>) -> Canonical {
        let count = match &node.value {
            Value::Integer(_) => return Some(Arc::clone(node)),
            Value::String(text) if &**text == "all" => Some(ALL),
            Value::String(text) => text.parse().ok(),
            _ => return self.must_be(node, "an integer or `all`"),
        };
        let Some(count) = count else {
            let written = node.as_str().unwrap_or_default();
            self.error(
                node.span,
                format!("invalid value \"{written}\", the only value allowed is 'all' or a number"),
            );
            return None;
        };
        Some(Arc::new(Node::new(node.span, Value::Integer(count))))
    }

    /// Writes out what an object without a count of devices means, and refuses one that names devices too.
    pub(super) fn device_request(
        &mut self,
        mut request: Arc<Node>,
        attributes: &'static [Attribute],
    ) -> Arc<Node> {
        let is_request = [schema::GPU, schema::RESERVED_DEVICE]
            .iter()
            .any(|table| std::ptr::eq(*table, attributes));
        if !is_request {
            return request;
        }
        match (request.get("count"), request.get("device_ids")) {
            (Some(count), Some(ids)) => {
                let (first, second) = if count.span < ids.span {
                    (count.span, ids.span)
                } else {
                    (ids.span, count.span)
                };
                let place = self.place();
                self.diagnostics.push(
                    Diagnostic::error(
                        second,
                        format!("{place}: \"count\" and \"device_ids\" attributes are exclusive"),
                    )
                    .note(first, "already given here"),
                );
            }
            (None, None) => set_default(&mut request, "count", count_all),
            _ => {}
        }
        request
    }
}
