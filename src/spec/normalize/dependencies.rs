//! Which services a service depends on: what `depends_on` says, and what other attributes imply.

use std::sync::Arc;

use super::{entry, mapping_node, take, text};
use crate::spec::source::Span;
use crate::spec::tree::{Entry, Mapping, Node, Value};

/// Returns the services that other attributes than `depends_on` refer to, each with whether this service restarts with it.
fn implied_dependencies(service: &Mapping) -> Vec<(String, Span, bool)> {
    let texts = |key: &str| {
        let items = service
            .get(key)
            .and_then(Node::as_sequence)
            .unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some((item.as_str()?, item.span)))
            .collect::<Vec<_>>()
    };
    let mut implied = Vec::new();
    for (link, span) in texts("links") {
        // With more than one colon it is a name as it stands, which nothing has (Docker Compose).
        let name = match link.split_once(':') {
            Some((name, alias)) if !alias.contains(':') => name,
            _ => link,
        };
        implied.push((name.to_owned(), span, true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(entry) = service.entry(key)
            && let Some(name) = entry
                .value
                .as_str()
                .and_then(|text| text.strip_prefix("service:"))
        {
            implied.push((name.to_owned(), entry.value.span, true));
        }
    }
    for (source, span) in texts("volumes_from") {
        if !source.starts_with("container:") {
            let name = source.split_once(':').map_or(source, |(name, _)| name);
            implied.push((name.to_owned(), span, false));
        }
    }
    implied
}

/// Completes `depends_on`, and adds what other attributes imply.
pub(super) fn dependencies(service: &mut Mapping) {
    let implied = implied_dependencies(service);
    if implied.is_empty() && service.get("depends_on").is_none() {
        return;
    }
    let span = service.entry("depends_on").map(|entry| entry.key_span);
    let span = span
        .or(implied.first().map(|(_, span, _)| *span))
        .unwrap_or_default();
    let (key_span, span, mut dependencies) = take(service, "depends_on", span);
    let boolean = |span, value| Arc::new(Node::new(span, Value::Bool(value)));
    for dependency in dependencies.entries_mut() {
        crate::spec::canonical::forms::set_default(&mut dependency.value, "required", |span| {
            boolean(span, true)
        });
    }
    for (target, span, restart) in implied {
        if dependencies.entry(&target).is_some() {
            continue;
        }
        let value = crate::spec::canonical::object(
            span,
            [
                ("condition", text(span, "service_started")),
                ("required", boolean(span, true)),
                ("restart", boolean(span, restart)),
            ],
        );
        dependencies.insert(entry(&target, span, value));
    }
    service.insert(entry(
        "depends_on",
        key_span,
        mapping_node(span, dependencies),
    ));
}

/// Drops dependencies that need not be there on services that are not enabled.
pub(super) fn drop_absent(service: &mut Entry, disabled: &Mapping) {
    let optional = |dependency: &Entry| {
        let required = dependency.value.get("required");
        matches!(required.map(|node| &node.value), Some(Value::Bool(false)))
            && disabled.entry(&dependency.key).is_some()
    };
    let dependencies = service.value.get("depends_on").and_then(Node::as_mapping);
    if !dependencies.is_some_and(|mapping| mapping.entries().iter().any(optional)) {
        return;
    }
    if let Value::Mapping(mapping) = &mut Arc::make_mut(&mut service.value).value
        && let Some(dependencies) = mapping.get_mut("depends_on")
        && let Value::Mapping(dependencies) = &mut Arc::make_mut(dependencies).value
    {
        dependencies.retain(|dependency| !optional(dependency));
    }
}
