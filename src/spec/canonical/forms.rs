//! The attributes with a short and a long form.

use std::sync::Arc;

use super::{
    Canonical, Canonicalizer, Step, list_of, mapping_node, mounts, object, paths, ports,
    scalar_text, text_node,
};
use crate::spec::budget::Resource;
use crate::spec::diagnostic::Diagnostic;
use crate::spec::schema::{self, Shape};
use crate::spec::source::Span;
use crate::spec::tree::{Entry, Mapping, Node, Value};
use crate::spec::words;

fn text_at(span: Span, text: &str) -> Arc<Node> {
    Arc::new(Node::string(span, text))
}

fn bool_at(span: Span, value: bool) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Bool(value)))
}

fn empty_object(span: Span) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Mapping(Mapping::default())))
}

/// Puts `value` at `key` of a map, unless the map has that key.
pub(crate) fn set_default(node: &mut Arc<Node>, key: &str, value: impl FnOnce(Span) -> Arc<Node>) {
    if node.get(key).is_some() {
        return;
    }
    let span = node.span;
    if let Value::Mapping(mapping) = &mut Arc::make_mut(node).value {
        mapping.insert(Entry {
            key: key.into(),
            key_span: span,
            value: value(span),
        });
    }
}

/// Takes `key` out of a map.
pub(crate) fn remove(node: &mut Arc<Node>, key: &str) {
    if node.get(key).is_some()
        && let Value::Mapping(mapping) = &mut Arc::make_mut(node).value
    {
        mapping.remove(key);
    }
}

impl Canonicalizer<'_> {
    /// Takes `key` out of a map where it is `true`, which is what it means to be absent; writes that out where the project
    /// is shown as it is written, as Docker Compose does.
    fn opt_out(&self, node: &mut Arc<Node>, key: &str) {
        if self.keeps_variables {
            set_default(node, key, |span| bool_at(span, true));
        } else if matches!(
            node.get(key).map(|value| &value.value),
            Some(Value::Bool(true))
        ) {
            remove(node, key);
        }
    }

    pub(super) fn command(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(text) = node.as_str() else {
            return self.list(node, "a string or a list of strings", |this, item| {
                this.shape(item, &Shape::Text)
            });
        };
        let Some(split) = words::split(text) else {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(node.span, format!("{place}: invalid command line string"))
                    .label("a quote or an escape is left open, or there is a bare parenthesis")
                    .hint("write it as a list: [\"sh\", \"-c\", \"…\"]"),
            );
            return None;
        };
        if let Some(cut) = split.cut {
            let place = self.place();
            let dropped = text.get(cut..).unwrap_or_default().trim_end();
            self.diagnostics.push(
                Diagnostic::warning(
                    node.span,
                    format!("{place}: `{dropped}` is dropped, as no shell reads this"),
                )
                .hint("write it as a list: [\"sh\", \"-c\", \"…\"]"),
            );
        }
        let words = split.words.iter().map(|word| text_at(node.span, word));
        Some(list_of(node.span, words.collect()))
    }

    pub(super) fn health_test(&mut self, node: &Arc<Node>) -> Canonical {
        if node.as_str().is_some() {
            return Some(list_of(
                node.span,
                vec![text_at(node.span, "CMD-SHELL"), Arc::clone(node)],
            ));
        }
        let list = self.list(node, "a string or a list of strings", |this, item| {
            this.shape(item, &Shape::Text)
        })?;
        let items = list.as_sequence().unwrap_or_default();
        match items.first().and_then(|first| first.as_str()) {
            None | Some("CMD" | "CMD-SHELL" | "NONE") => Some(list),
            Some(_) => {
                let span = items.first().map_or(node.span, |first| first.span);
                self.diagnostics.push(
                    Diagnostic::error(
                        span,
                        "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"",
                    )
                    .hint("put \"CMD\" before it"),
                );
                None
            }
        }
    }

    pub(super) fn text_or_object(&mut self, node: &Arc<Node>, shape: &Shape) -> Canonical {
        let (key, attributes) = match shape {
            Shape::Build => ("context", schema::BUILD),
            _ => ("service", schema::EXTENDS),
        };
        let Some(text) = node.as_str() else {
            return match node.value {
                Value::Mapping(_) => self.object(node, attributes),
                _ => self.must_be(node, "a string or a mapping"),
            };
        };
        let value = match shape {
            Shape::Build => text_node(node, self.paths.resolve_context(text)),
            _ => Arc::clone(node),
        };
        Some(object(node.span, [(key, value)]))
    }

    /// `depends_on` and `networks`: a list of names is a map of them.
    pub(super) fn list_or_map(&mut self, node: &Arc<Node>, shape: &Shape) -> Canonical {
        let Value::Sequence(items) = &node.value else {
            let (Value::Mapping(mapping), Some(attributes)) = (&node.value, shape.items()) else {
                return self.must_be(node, "a mapping or a list");
            };
            return Some(self.entries(node, mapping, |this, entry| {
                if entry.value.is_null() && matches!(shape, Shape::DependsOn) {
                    return this.must_be(&entry.value, "a mapping");
                }
                this.shape(&entry.value, &Shape::NullOrObject(attributes))
            }));
        };
        let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.way.push(Step::Index(index));
            if let Some(name) = item.as_str() {
                let value = match shape {
                    Shape::DependsOn => object(
                        item.span,
                        [
                            ("condition", text_at(item.span, "service_started")),
                            ("required", bool_at(item.span, true)),
                        ],
                    ),
                    _ => Arc::new(Node::new(item.span, Value::Null)),
                };
                entries.push(Entry {
                    key: name.into(),
                    key_span: item.span,
                    value,
                });
            } else {
                self.must_be(item, "a string");
            }
            self.way.pop();
        }
        let (mapping, repeated) = Mapping::from_entries(entries);
        for (entry, first) in repeated {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::error(
                    entry.key_span,
                    format!("{place}: `{}` is listed twice", entry.key),
                )
                .note(first, "first listed here"),
            );
        }
        Some(Arc::new(Node::new(node.span, Value::Mapping(mapping))))
    }

    pub(super) fn ports(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(items) = node.as_sequence() else {
            return self.must_be(node, "a list");
        };
        let mut canonical = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.way.push(Step::Index(index));
            self.port(item, &mut canonical);
            self.way.pop();
        }
        Some(list_of(node.span, canonical))
    }

    fn port(&mut self, item: &Arc<Node>, canonical: &mut Vec<Arc<Node>>) {
        if self.is_kept(item) {
            canonical.push(Arc::clone(item));
            return;
        }
        if item.as_mapping().is_some() {
            canonical.extend(self.long_port(item));
            return;
        }
        let text = match &item.value {
            Value::String(_) | Value::Integer(_) => scalar_text(item),
            _ => None,
        };
        let Some(text) = text else {
            self.must_be(item, "a number, a string or a mapping");
            return;
        };
        match ports::parse(&text) {
            Ok(specs) => {
                // A range of few letters is up to 65,535 of these, each of a few nodes.
                let span = Some(item.span);
                let count = 4 * (specs.len() - 1);
                if self.diagnostics.take(Resource::Nodes, count, span) {
                    canonical.extend(specs.iter().map(|spec| port_node(item.span, spec)));
                }
            }
            Err(message) => self.error(item.span, message),
        }
    }

    fn long_port(&mut self, item: &Arc<Node>) -> Canonical {
        let mut port = self.object(item, schema::PORT)?;
        if port.get("target").is_none() {
            if item.get("target").is_none() {
                self.error(item.span, "missing property 'target'");
            }
            return None;
        }
        if let Some(host_ip) = port.get("host_ip").and_then(Node::as_str)
            && !host_ip.is_empty()
            && host_ip.parse::<std::net::IpAddr>().is_err()
        {
            let message = format!("invalid ip address: {host_ip}");
            let span = port.get("host_ip").map_or(item.span, |node| node.span);
            self.error(span, message);
            return None;
        }
        set_default(&mut port, "protocol", |span| text_at(span, "tcp"));
        set_default(&mut port, "mode", |span| text_at(span, "ingress"));
        Some(port)
    }

    pub(super) fn mount(&mut self, item: &Arc<Node>) -> Canonical {
        let Some(text) = item.as_str() else {
            return match item.value {
                Value::Mapping(_) => self.long_mount(item),
                _ => self.must_be(item, "a string or a mapping"),
            };
        };
        let spec = match mounts::parse(text) {
            Ok(spec) => spec,
            Err(message) => {
                self.error(item.span, format!("invalid volume `{text}`: {message}"));
                return None;
            }
        };
        let span = item.span;
        for unknown in &spec.unknown {
            let place = self.place();
            self.diagnostics.push(
                Diagnostic::warning(
                    span,
                    format!("{place}: the option `{unknown}` is unknown; it is ignored"),
                )
                .suggest(unknown, mounts::OPTIONS),
            );
        }
        let is_path = spec.source.is_some_and(mounts::is_path);
        let mut bind: Vec<(&str, Arc<Node>)> = Vec::new();
        bind.extend(
            spec.propagation
                .map(|value| ("propagation", text_at(span, value))),
        );
        bind.extend(spec.selinux.map(|value| ("selinux", text_at(span, value))));
        let mut volume: Vec<(&str, Arc<Node>)> = Vec::new();
        volume.extend(spec.no_copy.then(|| ("nocopy", bool_at(span, true))));
        let kind = if is_path { "bind" } else { "volume" };
        let mut entries = vec![
            ("type", text_at(span, kind)),
            ("target", text_at(span, &paths::clean(spec.target))),
        ];
        // An option of the other kind stays, though it means nothing; two characters are taken for a target as they are.
        if is_path || !bind.is_empty() {
            let mut bind = node_of(span, bind);
            self.opt_out(&mut bind, "create_host_path");
            entries.push(("bind", bind));
        }
        if (!is_path && text.len() > 2) || !volume.is_empty() {
            entries.push(("volume", node_of(span, volume)));
        }
        if let Some(source) = spec.source {
            let source = if is_path {
                self.paths.resolve_bind(source)
            } else {
                source.to_owned()
            };
            entries.push(("source", text_at(span, &source)));
        }
        if spec.read_only {
            entries.push(("read_only", bool_at(span, true)));
        }
        Some(node_of(span, entries))
    }

    fn long_mount(&mut self, item: &Arc<Node>) -> Canonical {
        let mut mount = self.object(item, schema::MOUNT)?;
        let Some(kind) = mount.get("type").and_then(Node::as_str).map(str::to_owned) else {
            if item.get("type").is_none() {
                self.error(item.span, "missing property 'type'");
            }
            return None;
        };
        let source = mount
            .get("source")
            .and_then(Node::as_str)
            .map(str::to_owned);
        if kind == "bind" && source.as_deref().unwrap_or_default().is_empty() {
            self.error(
                item.span,
                "invalid mount config for type \"bind\": field Source must not be empty",
            );
            return None;
        }
        if let (Some(source), "bind") = (source, kind.as_str()) {
            let resolved = self.paths.resolve_bind(&source);
            replace_text(&mut mount, "source", &resolved);
        }
        let Some(target) = mount.get("target").and_then(Node::as_str).map(paths::clean) else {
            if item.get("target").is_none() {
                self.error(item.span, "service volume is missing a mount target");
            }
            return None;
        };
        replace_text(&mut mount, "target", &target);
        if mount.get("bind").is_some()
            && let Value::Mapping(mapping) = &mut Arc::make_mut(&mut mount).value
            && let Some(bind) = mapping.get_mut("bind")
        {
            self.opt_out(bind, "create_host_path");
        }
        Some(mount)
    }

    pub(super) fn grant(&mut self, item: &Arc<Node>, secret: bool) -> Canonical {
        let mut grant = match &item.value {
            Value::String(_) => object(item.span, [("source", Arc::clone(item))]),
            Value::Mapping(_) => self.object(item, schema::GRANT)?,
            _ => return self.must_be(item, "a string or a mapping"),
        };
        let Some(source) = grant
            .get("source")
            .and_then(Node::as_str)
            .map(str::to_owned)
        else {
            self.error(item.span, "missing property 'source'");
            return None;
        };
        if secret {
            let target = format!("/run/secrets/{source}");
            set_default(&mut grant, "target", |span| text_at(span, &target));
        }
        Some(grant)
    }

    pub(super) fn env_files(&mut self, node: &Arc<Node>) -> Canonical {
        let one;
        let node = if node.as_str().is_some() {
            one = list_of(node.span, vec![Arc::clone(node)]);
            &one
        } else {
            node
        };
        self.list(node, "a string or a list", |this, item| {
            let mut file = if let Some(path) = item.as_str() {
                let path = text_node(item, this.paths.resolve(path));
                object(item.span, [("path", path)])
            } else {
                this.object(item, schema::ENV_FILE)?
            };
            if file.get("path").is_none() {
                this.error(item.span, "missing property 'path'");
                return None;
            }
            this.opt_out(&mut file, "required");
            Some(file)
        })
    }

    pub(super) fn extra_hosts(&mut self, node: &Arc<Node>) -> Canonical {
        let mut hosts = Vec::new();
        match &node.value {
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.way.push(Step::Index(index));
                    self.extra_host(item, &mut hosts);
                    self.way.pop();
                }
            }
            Value::Mapping(mapping) => {
                for entry in mapping.entries() {
                    self.addresses(entry, &mut hosts);
                }
            }
            _ => return self.must_be(node, "a mapping or a list"),
        }
        if self.keeps_variables {
            return Some(Arc::clone(node));
        }
        Some(list_of(node.span, hosts))
    }

    /// One host of the map form, with an address or a list of them.
    fn addresses(&mut self, entry: &Entry, hosts: &mut Vec<Arc<Node>>) {
        let one = [Arc::clone(&entry.value)];
        for address in entry.value.as_sequence().unwrap_or(&one) {
            if let Some(text) = address.as_str() {
                self.host_line(address.span, &entry.key, text, hosts);
            } else {
                self.must_be(address, "a string");
            }
        }
    }

    fn extra_host(&mut self, item: &Arc<Node>, hosts: &mut Vec<Arc<Node>>) {
        if self.is_kept(item) {
            hosts.push(Arc::clone(item));
            return;
        }
        let Some(text) = item.as_str() else {
            self.must_be(item, "a string");
            return;
        };
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((host, addresses)) => {
                for address in addresses.split(',') {
                    self.host_line(item.span, host, address, hosts);
                }
            }
            None => self.error(
                item.span,
                format!("invalid additional host, missing IP: {text}"),
            ),
        }
    }

    fn host_line(&mut self, span: Span, host: &str, address: &str, hosts: &mut Vec<Arc<Node>>) {
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        if host.is_empty() || host.contains([':', '=']) {
            self.error(span, format!("bad host name '{host}'"));
        } else {
            hosts.push(text_at(span, &format!("{host}={bare}")));
        }
    }

    pub(super) fn ulimits(&mut self, node: &Arc<Node>) -> Canonical {
        let Some(mapping) = node.as_mapping() else {
            return self.must_be(node, "a mapping");
        };
        Some(self.entries(node, mapping, |this, entry| {
            if entry.value.as_mapping().is_none() {
                return this.shape(&entry.value, &Shape::Integer(-1, i64::MAX));
            }
            let limit = this.object(&entry.value, schema::ULIMIT)?;
            for key in ["soft", "hard"] {
                if entry.value.get(key).is_none() {
                    this.error(entry.value.span, format!("missing property '{key}'"));
                }
            }
            Some(limit)
        }))
    }

    /// A truth value, or an object that [`Self::completed`] makes one.
    pub(super) fn external(&mut self, node: &Arc<Node>) -> Canonical {
        if node.as_mapping().is_none() {
            return self.shape(node, &Shape::Boolean);
        }
        self.shape(node, &Shape::Object(schema::EXTERNAL))
    }
}

fn replace_text(node: &mut Arc<Node>, key: &str, text: &str) {
    if let Value::Mapping(mapping) = &mut Arc::make_mut(node).value
        && let Some(value) = mapping.get_mut(key)
    {
        *value = text_node(value, text.to_owned());
    }
}

fn node_of(span: Span, entries: Vec<(&str, Arc<Node>)>) -> Arc<Node> {
    if entries.is_empty() {
        return empty_object(span);
    }
    let entries = entries.into_iter().map(|(key, value)| Entry {
        key: key.into(),
        key_span: span,
        value,
    });
    mapping_node(span, entries.collect())
}

fn port_node(span: Span, spec: &ports::PortSpec) -> Arc<Node> {
    let target = Value::Integer(i64::from(spec.target));
    let mut entries = vec![
        ("mode", text_at(span, "ingress")),
        ("protocol", text_at(span, &spec.protocol)),
        ("target", Arc::new(Node::new(span, target))),
    ];
    entries.extend(
        spec.published
            .as_deref()
            .map(|text| ("published", text_at(span, text))),
    );
    entries.extend(
        spec.host_ip
            .as_deref()
            .map(|text| ("host_ip", text_at(span, text))),
    );
    node_of(span, entries)
}
