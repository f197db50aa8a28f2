//! What a service takes from the environment: nulls that stand for variables, env files and label files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{entry, into_mapping, mapping_node, take, text};
use crate::spec::assemble::Setting;
use crate::spec::budget::Resource;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::dotenv::{Format, Outside};
use crate::spec::origin::Dotenv;
use crate::spec::session::{Environment, Provided, Session};
use crate::spec::source::Span;
use crate::spec::tree::{Entry, Mapping, Node, Value};

/// Gives the nulls of a map the values of the environment.
pub(super) fn from_environment(
    node: &Arc<Node>,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> Arc<Node> {
    if let Some(items) = node.as_sequence() {
        return items_from_environment(node, items, environment);
    }
    let Some(mapping) = node.as_mapping() else {
        return Arc::clone(node);
    };
    if mapping.entries().iter().all(|entry| !entry.value.is_null()) {
        return Arc::clone(node);
    }
    let mut mapping = mapping.clone();
    for entry in mapping.entries_mut().filter(|entry| entry.value.is_null()) {
        if let Some(value) = environment.get(&*entry.key)
            && diagnostics.take(Resource::Filled, value.len(), Some(entry.key_span))
        {
            entry.value = text(entry.value.span, value.as_str());
        }
    }
    mapping_node(node.span, mapping)
}

/// The same for a list, which stays one only while variables are not filled in: names that have no value are left out.
fn items_from_environment(
    node: &Arc<Node>,
    items: &[Arc<Node>],
    environment: &Environment,
) -> Arc<Node> {
    let valued = items.iter().filter_map(|item| {
        let name = item.as_str()?;
        if name.contains('=') {
            return Some(Arc::clone(item));
        }
        let value = environment.get(name)?;
        Some(text(item.span, format!("{name}={value}")))
    });
    Arc::new(Node::new(node.span, Value::Sequence(valued.collect())))
}

/// Leaves out the arguments that have no value anywhere: the Dockerfile's default stands for them.
pub(super) fn without_nulls(node: Arc<Node>) -> Arc<Node> {
    let is_null = |entry: &&Entry| entry.value.is_null();
    let Some(mapping) = node
        .as_mapping()
        .filter(|mapping| mapping.entries().iter().any(|entry| is_null(&entry)))
    else {
        return node;
    };
    let kept = mapping
        .entries()
        .iter()
        .filter(|entry| !is_null(entry))
        .cloned();
    mapping_node(node.span, Mapping::from_entries(kept.collect()).0)
}

/// Reads the env files of a service and puts `environment` above them.
pub(super) fn resolve_environment(
    session: &mut Session<'_>,
    service: &mut Entry,
    setting: &Setting,
) {
    let files = service
        .value
        .get("env_file")
        .and_then(Node::as_sequence)
        .unwrap_or_default()
        .to_vec();
    if files.is_empty() && service.value.get("environment").is_none() {
        return;
    }
    let Value::Mapping(fields) = &mut Arc::make_mut(&mut service.value).value else {
        return;
    };
    let (key_span, span, own) = match fields.remove("environment") {
        Some(environment) => {
            let resolved = from_environment(
                &environment.value,
                &setting.environment,
                &mut session.diagnostics,
            );
            (environment.key_span, resolved.span, into_mapping(resolved))
        }
        None => (service.key_span, service.key_span, Mapping::default()),
    };
    let mut all: BTreeMap<String, (Span, Arc<Node>)> = BTreeMap::new();
    for file in &files {
        if session.diagnostics.left(Resource::Nodes) == 0 {
            break;
        }
        let read = env_file(session, file, setting, &own, &all);
        if !is_granted(&read, file.span, &mut session.diagnostics) {
            continue;
        }
        for (key, variable) in read {
            all.insert(key, (file.span, text(variable.span, variable.value)));
        }
    }
    // Of entries with one key the first is kept.
    let mut variables = own.into_entries();
    variables.extend(
        all.into_iter()
            .map(|(key, (span, value))| entry(&key, span, value)),
    );
    let variables = Mapping::from_entries(variables).0;
    if !variables.is_empty() {
        fields.insert(entry(
            "environment",
            key_span,
            mapping_node(span, variables),
        ));
    }
}

/// Whether a load may take what a file gives a service: any number of services can read one file.
fn is_granted(read: &Provided, span: Span, diagnostics: &mut Diagnostics) -> bool {
    let sizes = read
        .iter()
        .map(|(key, variable)| key.len() + variable.value.len());
    diagnostics.take(Resource::Nodes, read.len(), Some(span))
        && diagnostics.take(Resource::Filled, sizes.sum(), Some(span))
}

/// Reads the label files of a service and puts `labels` above them.
pub(super) fn resolve_labels(session: &mut Session<'_>, service: &mut Entry, setting: &Setting) {
    let files = service
        .value
        .get("label_file")
        .and_then(Node::as_sequence)
        .unwrap_or_default()
        .to_vec();
    let mut all: BTreeMap<String, (Span, String)> = BTreeMap::new();
    for file in &files {
        // Absolute already, unless paths are left as they are.
        let path = &setting.directory.join(file.as_str().unwrap_or_default());
        let Some(id) = session.open(path, Some(file.span), "label file") else {
            continue;
        };
        session.trace.dotenv(id, Dotenv::Service);
        let lookup = |name: &str| all.get(name).map(|(_, value)| value.as_str());
        let read = session
            .dotenv(path, id, Format::Dotenv, Outside::environment(&lookup))
            .unwrap_or_default();
        if !is_granted(&read, file.span, &mut session.diagnostics) {
            continue;
        }
        all.extend(
            read.into_iter()
                .map(|(key, read)| (key, (read.span, read.value))),
        );
    }
    let Value::Mapping(fields) = &mut Arc::make_mut(&mut service.value).value else {
        return;
    };
    if all.is_empty() {
        return;
    }
    let (key_span, span, labels) = take(fields, "labels", service.key_span);
    // Of entries with one key the first is kept.
    let mut labels = labels.into_entries();
    labels.extend(
        all.into_iter()
            .map(|(key, (span, value))| entry(&key, span, text(span, value))),
    );
    let labels = Mapping::from_entries(labels).0;
    fields.insert(entry("labels", key_span, mapping_node(span, labels)));
}

/// Reads one env file of a service.
fn env_file(
    session: &mut Session<'_>,
    file: &Node,
    setting: &Setting,
    own: &Mapping,
    earlier: &BTreeMap<String, (Span, Arc<Node>)>,
) -> Provided {
    let Some(path) = file.get("path") else {
        return Provided::new();
    };
    // Absolute already, unless paths are left as they are.
    let path_text = &setting.directory.join(path.as_str().unwrap_or_default());
    let required = !matches!(
        file.get("required").map(|node| &node.value),
        Some(Value::Bool(false))
    );
    if !required && !session.reader.exists(path_text) {
        return Provided::new();
    }
    let Some(id) = session.open(path_text, Some(path.span), "env file") else {
        return Provided::new();
    };
    session.trace.dotenv(id, Dotenv::Service);
    let format = match file
        .get("format")
        .and_then(|format| Some((format.as_str()?, format.span)))
    {
        None | Some(("" | "dotenv", _)) => Format::Dotenv,
        Some(("raw", _)) => Format::Raw,
        Some((other, span)) => {
            session.diagnostics.push(
                Diagnostic::error(span, format!("unsupported env_file format \"{other}\""))
                    .suggest(other, ["raw", "dotenv"]),
            );
            return Provided::new();
        }
    };
    let outside = Outside {
        environment: &|name| {
            let own = || own.get(name).and_then(Node::as_str);
            let outer = setting.environment.get(name).map(String::as_str);
            outer.or_else(own)
        },
        earlier: &|name| earlier.get(name).and_then(|(_, value)| value.as_str()),
    };
    session
        .dotenv(path_text, id, format, outside)
        .unwrap_or_default()
}
