//! What a merged project implies, written out: defaults, names, the default network, implied dependencies, profiles and
//! the environment of each service.

mod complete;
mod dependencies;
mod environment;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use dependencies::{dependencies, drop_absent};
use environment::{from_environment, resolve_environment, resolve_labels, without_nulls};

use super::assemble::Setting;
use super::budget::Resource;
use super::diagnostic::Diagnostics;
use super::names;
use super::session::Session;
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

pub(crate) use complete::check_complete;

/// A project with nothing left implied.
pub(crate) struct Normalized {
    /// The project, with the services that are enabled.
    pub(crate) project: Node,
    /// The services that no profile enables.
    pub(crate) disabled: Mapping,
}

fn text(span: Span, text: impl Into<Box<str>>) -> Arc<Node> {
    Arc::new(Node::string(span, text))
}

fn empty(span: Span) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Mapping(Mapping::default())))
}

fn entry(key: &str, key_span: Span, value: Arc<Node>) -> Entry {
    Entry {
        key: key.into(),
        key_span,
        value,
    }
}

/// Takes the map out of a node; empty where it is none.
fn into_mapping(node: Arc<Node>) -> Mapping {
    match Arc::unwrap_or_clone(node).value {
        Value::Mapping(mapping) => mapping,
        _ => Mapping::default(),
    }
}

/// Puts a map back into a node.
fn mapping_node(span: Span, mapping: Mapping) -> Arc<Node> {
    Arc::new(Node::new(span, Value::Mapping(mapping)))
}

/// Takes the map at `key` out; empty, at `span`, where there is none.
fn take(mapping: &mut Mapping, key: &str, span: Span) -> (Span, Span, Mapping) {
    match mapping.remove(key) {
        Some(entry) => (entry.key_span, entry.value.span, into_mapping(entry.value)),
        None => (span, span, Mapping::default()),
    }
}

/// What a service of no attributes is counted as.
const SERVICE_NODES: usize = 30;

/// Writes out all that `project` implies, `name` being the project's name.
pub(crate) fn normalize(
    session: &mut Session<'_>,
    project: Arc<Node>,
    setting: &Setting,
    name: &str,
    profiles: &[String],
) -> Normalized {
    let span = project.span;
    let steps = session.options.steps;
    let own_directory = if steps.resolve_paths {
        setting.directory.as_path()
    } else {
        Path::new(".")
    };
    let mut project = into_mapping(default_contexts(project, own_directory));
    if steps.resolve_paths {
        resolve_devices(&mut project, setting);
    }
    let (services_key, services_span, services) = take(&mut project, "services", span);
    let mut enabled = Vec::new();
    let mut disabled = Vec::new();
    for mut service in services.into_entries() {
        // What is implied, and the model, take as much of each, however little is written of it.
        let diagnostics = &mut session.diagnostics;
        if !diagnostics.take(Resource::Nodes, SERVICE_NODES, Some(service.key_span)) {
            break;
        }
        if steps.normalize {
            service.value = Arc::new(self::service(
                service.key_span,
                service.value,
                setting,
                &mut session.diagnostics,
            ));
        }
        let is_enabled = is_enabled(&service.value, profiles);
        if is_enabled {
            enabled.push(service);
        } else {
            disabled.push(service);
        }
    }
    let disabled = Mapping::from_entries(disabled).0;
    let resolved = selected(&enabled, &session.options.services);
    for service in &mut enabled {
        drop_absent(service, &disabled);
        if steps.resolve_environment && steps.interpolate && resolved.contains(&service.key) {
            resolve_environment(session, service, setting);
            resolve_labels(session, service, setting);
        }
    }
    let default_used = enabled
        .iter()
        .chain(disabled.entries())
        .find(|service| uses_default(&service.value));
    let default_span = default_used.map(|service| service.key_span);
    if steps.normalize {
        name_resources(&mut project, name, default_span);
    }
    project.insert(entry("name", span, text(span, name)));
    let services = mapping_node(services_span, Mapping::from_entries(enabled).0);
    project.insert(entry("services", services_key, services));
    Normalized {
        project: Node::new(span, Value::Mapping(project)),
        disabled,
    }
}

/// Returns the services that `named` means, and all that they depend on; all where nothing is named.
fn selected(services: &[Entry], named: &[String]) -> BTreeSet<Arc<str>> {
    let all = || services.iter();
    if named.is_empty() {
        return all().map(|service| Arc::clone(&service.key)).collect();
    }
    let is_named = |name: &str| named.iter().any(|pattern| names::matches(pattern, name));
    let by_name: BTreeMap<&str, &Entry> = all().map(|service| (&*service.key, service)).collect();
    let mut open: Vec<&Entry> = all().filter(|service| is_named(&service.key)).collect();
    let mut selected = BTreeSet::new();
    while let Some(service) = open.pop() {
        if selected.insert(Arc::clone(&service.key)) {
            let dependencies = service.value.get("depends_on").and_then(Node::as_mapping);
            let dependencies = dependencies.into_iter().flat_map(Mapping::entries);
            open.extend(dependencies.filter_map(|entry| by_name.get(&*entry.key).copied()));
        }
    }
    selected
}

/// Makes the device of a local volume that is really a bind mount absolute.
fn resolve_devices(project: &mut Mapping, setting: &Setting) {
    let home = setting.environment.get("HOME").map(String::as_str);
    let Some(volumes) = project.get_mut("volumes") else {
        return;
    };
    let Value::Mapping(volumes) = &mut Arc::make_mut(volumes).value else {
        return;
    };
    for volume in volumes.entries_mut() {
        let text_of = |key: &str| {
            volume
                .value
                .get("driver_opts")?
                .get(key)?
                .as_str()
                .map(str::to_owned)
        };
        let is_local = volume.value.get("driver").and_then(Node::as_str) == Some("local");
        let Some(device) =
            text_of("device").filter(|_| is_local && text_of("o").as_deref() == Some("bind"))
        else {
            continue;
        };
        let resolved = super::canonical::paths::PathBase {
            directory: &setting.directory,
            home,
            resolves: true,
        }
        .resolve(&device);
        if let Value::Mapping(volume) = &mut Arc::make_mut(&mut volume.value).value
            && let Some(options) = volume.get_mut("driver_opts")
            && let Value::Mapping(options) = &mut Arc::make_mut(options).value
            && let Some(device) = options.get_mut("device")
        {
            *device = text(device.span, resolved);
        }
    }
}

/// Gives each build without a context the directory of its project, which is another one for an included file.
pub(crate) fn default_contexts(mut project: Arc<Node>, directory: &Path) -> Arc<Node> {
    let lacks = |service: &Entry| {
        let build = service.value.get("build");
        build.is_some_and(|build| {
            build
                .as_mapping()
                .is_some_and(|build| build.entry("context").is_none())
        })
    };
    let services = project.get("services").and_then(Node::as_mapping);
    if !services.is_some_and(|services| services.entries().iter().any(lacks)) {
        return project;
    }
    let Value::Mapping(fields) = &mut Arc::make_mut(&mut project).value else {
        return project;
    };
    if let Some(services) = fields.get_mut("services")
        && let Value::Mapping(services) = &mut Arc::make_mut(services).value
    {
        for service in services.entries_mut().filter(|service| lacks(service)) {
            if let Value::Mapping(service) = &mut Arc::make_mut(&mut service.value).value
                && let Some(build) = service.get_mut("build")
            {
                super::canonical::forms::set_default(build, "context", |span| {
                    text(span, directory.to_string_lossy())
                });
            }
        }
    }
    project
}

fn uses_default(service: &Node) -> bool {
    service
        .get("networks")
        .and_then(Node::as_mapping)
        .is_some_and(|networks| networks.entry("default").is_some())
}

fn is_enabled(service: &Node, profiles: &[String]) -> bool {
    let own = service
        .get("profiles")
        .and_then(Node::as_sequence)
        .unwrap_or_default();
    own.is_empty()
        || profiles
            .iter()
            .any(|active| active == "*" || own.iter().any(|own| own.as_str() == Some(active)))
}

fn service(
    key_span: Span,
    node: Arc<Node>,
    setting: &Setting,
    diagnostics: &mut Diagnostics,
) -> Node {
    if node.as_mapping().is_none() {
        return Arc::unwrap_or_clone(node);
    }
    let span = node.span;
    let mut service = into_mapping(node);
    if let Some(build) = service.remove("build") {
        service.insert(Entry {
            value: self::build(build.value, setting, diagnostics),
            ..build
        });
    }
    drop_empty_servers(&mut service);
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.as_str() == Some("if_not_present")
    {
        *policy = text(policy.span, "missing");
    }
    inherit_image(&mut service);
    dependencies(&mut service);
    let networks = service.get("networks").and_then(Node::as_mapping);
    let has_networks = networks.is_some_and(|networks| !networks.is_empty());
    if !has_networks && service.get("network_mode").is_none() && service.get("provider").is_none() {
        let default = entry(
            "default",
            key_span,
            Arc::new(Node::new(key_span, Value::Null)),
        );
        let networks = Mapping::from_entries(vec![default]).0;
        service.insert(entry(
            "networks",
            key_span,
            mapping_node(key_span, networks),
        ));
    }
    Node::new(span, Value::Mapping(service))
}

fn build(node: Arc<Node>, setting: &Setting, diagnostics: &mut Diagnostics) -> Arc<Node> {
    if node.as_mapping().is_none() {
        return node;
    }
    let span = node.span;
    let mut build = into_mapping(node);
    if build.get("dockerfile").is_none() && build.get("dockerfile_inline").is_none() {
        build.insert(entry("dockerfile", span, text(span, "Dockerfile")));
    }
    if let Some(args) = build.get_mut("args") {
        *args = without_nulls(from_environment(args, &setting.environment, diagnostics));
    }
    mapping_node(span, build)
}

/// Leaves out the name servers that an unset variable left empty.
fn drop_empty_servers(service: &mut Mapping) {
    let is_empty = |server: &Arc<Node>| server.as_str() == Some("");
    let Some(servers) = service.get("dns").and_then(Node::as_sequence) else {
        return;
    };
    if !servers.iter().any(is_empty) {
        return;
    }
    let kept: Vec<Arc<Node>> = servers
        .iter()
        .filter(|server| !is_empty(server))
        .cloned()
        .collect();
    if let Some(dns) = service.get_mut("dns") {
        *dns = Arc::new(Node::new(dns.span, Value::Sequence(kept)));
    }
}

/// Gives each container that runs before the service's own the service's image, unless it names one.
fn inherit_image(service: &mut Mapping) {
    let Some(image) = service.entry("image").map(|image| Arc::clone(&image.value)) else {
        return;
    };
    if let Some(hooks) = service.get_mut("pre_start")
        && let Value::Sequence(hooks) = &mut Arc::make_mut(hooks).value
    {
        for hook in hooks {
            super::canonical::forms::set_default(hook, "image", |_| Arc::clone(&image));
        }
    }
}

/// Names networks, volumes, secrets and configs; adds the default network where it is used.
fn name_resources(project: &mut Mapping, name: &str, default_used: Option<Span>) {
    if let Some(span) = default_used {
        let (key_span, networks_span, mut networks) = take(project, "networks", span);
        if networks.entry("default").is_none() {
            networks.insert(entry("default", span, empty(span)));
        }
        project.insert(entry(
            "networks",
            key_span,
            mapping_node(networks_span, networks),
        ));
    }
    for kind in ["networks", "volumes", "secrets", "configs"] {
        let Some(resources) = project.remove(kind) else {
            continue;
        };
        let span = resources.value.span;
        let mut named = into_mapping(resources.value);
        for resource in named.entries_mut() {
            let span = resource.value.span;
            let mut fields = into_mapping(Arc::clone(&resource.value));
            let external = matches!(
                fields.get("external").map(|node| &node.value),
                Some(Value::Bool(true))
            );
            if fields.get("name").is_none() {
                let full = if external {
                    resource.key.to_string()
                } else {
                    format!("{name}_{}", resource.key)
                };
                fields.insert(entry("name", span, text(span, full)));
            }
            resource.value = mapping_node(span, fields);
        }
        project.insert(Entry {
            value: mapping_node(span, named),
            ..resources
        });
    }
}
