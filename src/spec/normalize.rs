//! What a merged project implies, written out: defaults, names, the default network, implied dependencies, profiles and
//! the environment of each service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::assemble::Setting;
use super::budget::Resource;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::dotenv::{Format, Outside};
use super::names;
use super::origin::Dotenv;
use super::schema::{self, Attribute, Shape};
use super::session::{Environment, Provided, Session};
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

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

/// Gives the nulls of a map the values of the environment.
fn from_environment(
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
fn without_nulls(node: Arc<Node>) -> Arc<Node> {
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
fn dependencies(service: &mut Mapping) {
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
        super::canonical::forms::set_default(&mut dependency.value, "required", |span| {
            boolean(span, true)
        });
    }
    for (target, span, restart) in implied {
        if dependencies.entry(&target).is_some() {
            continue;
        }
        let value = super::canonical::object(
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
fn drop_absent(service: &mut Entry, disabled: &Mapping) {
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

/// Reads the env files of a service and puts `environment` above them.
fn resolve_environment(session: &mut Session<'_>, service: &mut Entry, setting: &Setting) {
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
fn resolve_labels(session: &mut Session<'_>, service: &mut Entry, setting: &Setting) {
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

/// Reports the nulls that may not stay now that everything is merged, and properties that are missing.
pub(crate) fn check_complete(project: &mut Arc<Node>, diagnostics: &mut Diagnostics) {
    static PROJECT: Shape = Shape::Object(schema::PROJECT);
    let mut check = Completeness {
        way: Vec::new(),
        nulls: false,
        diagnostics,
    };
    check.node(project, &PROJECT);
    if check.nulls {
        invalidate_nulls(project, &PROJECT);
    }
}

struct Completeness<'d> {
    way: Vec<String>,
    /// Whether a null was refused.
    nulls: bool,
    diagnostics: &'d mut Diagnostics,
}

impl Completeness<'_> {
    fn node(&mut self, node: &Node, shape: &'static Shape) {
        match &node.value {
            Value::Sequence(items) => {
                let Some(each) = shape.item() else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    self.way.push(index.to_string());
                    self.member(item, item.span, each);
                    self.way.pop();
                }
            }
            Value::Mapping(mapping) => {
                for entry in mapping.entries() {
                    let Some(child) = child(shape, &entry.key) else {
                        continue;
                    };
                    self.way.push(entry.key.to_string());
                    self.member(&entry.value, entry.key_span, child);
                    self.way.pop();
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, value: &Node, span: Span, shape: &'static Shape) {
        match shape.null_refused() {
            Some(what) if value.is_null() => self.refuse(span, what),
            _ if shape.is_nested() => self.node(value, shape),
            _ => {}
        }
        if let Shape::Object(attributes) | Shape::NullOrObject(attributes) = shape {
            self.require(value, attributes, &self.way.join("."));
        }
    }

    fn refuse(&mut self, span: Span, what: &str) {
        let place = self.way.join(".");
        self.nulls = true;
        self.diagnostics.push(
            Diagnostic::error(span, format!("{place} must be {what}")).label("nothing follows it"),
        );
    }

    fn require(&mut self, node: &Node, attributes: &[Attribute], place: &str) {
        for attribute in attributes.iter().filter(|attribute| attribute.required) {
            if node
                .as_mapping()
                .is_some_and(|fields| fields.entry(attribute.name).is_none())
            {
                self.diagnostics.error(
                    node.span,
                    format!("{place} missing property '{}'", attribute.name),
                );
            }
        }
    }
}

/// Makes the nulls that were refused invalid.
fn invalidate_nulls(node: &mut Arc<Node>, shape: &'static Shape) {
    let member = |value: &mut Arc<Node>, shape: &'static Shape| {
        if value.is_null() && shape.null_refused().is_some() {
            *value = Arc::new(Node::new(value.span, Value::Invalid));
        } else if shape.is_nested() {
            invalidate_nulls(value, shape);
        }
    };
    match &mut Arc::make_mut(node).value {
        Value::Sequence(items) => {
            if let Some(each) = shape.item() {
                for item in items {
                    member(item, each);
                }
            }
        }
        Value::Mapping(mapping) => {
            for entry in mapping.entries_mut() {
                if let Some(child) = child(shape, &entry.key) {
                    member(&mut entry.value, child);
                }
            }
        }
        _ => {}
    }
}

static DEPENDENCY: Shape = Shape::Object(schema::DEPENDENCY);
static ATTACHMENT: Shape = Shape::NullOrObject(schema::ATTACHMENT);
static MODEL_USE: Shape = Shape::NullOrObject(schema::MODEL_USE);

/// Returns the shape of the value of `key`.
fn child(shape: &'static Shape, key: &str) -> Option<&'static Shape> {
    let attribute =
        |attributes: &'static [Attribute]| schema::find(attributes, key).map(|found| &found.shape);
    match shape {
        Shape::Object(attributes) | Shape::NullOrObject(attributes) => attribute(attributes),
        Shape::Build => attribute(schema::BUILD),
        Shape::Map(values) => Some(values),
        Shape::DependsOn => Some(&DEPENDENCY),
        Shape::ServiceNetworks => Some(&ATTACHMENT),
        Shape::ServiceModels => Some(&MODEL_USE),
        Shape::Logging => attribute(schema::LOGGING),
        _ => None,
    }
}

impl Shape {
    /// Returns what must stand there, for shapes that a null is not (in the words of an error).
    pub(crate) fn null_refused(&self) -> Option<&'static str> {
        Some(match self {
            Self::Any | Self::Command | Self::NullOrObject(_) | Self::TextOrNull => return None,
            Self::Text | Self::Word(_) | Self::Path | Self::Context | Self::Duration => "a string",
            Self::TextOrNumber => "a string or a number",
            Self::TextOrBoolean => "a string or a boolean",
            Self::DeviceCount => "an integer or `all`",
            Self::Boolean | Self::External => "a boolean",
            Self::Integer(..) => "an integer",
            Self::Number | Self::Cut(..) => "a number",
            Self::Bytes => "a number of bytes",
            Self::Mode | Self::NumericMode => "permission bits in octal",
            Self::List(..)
            | Self::Ports
            | Self::Mounts
            | Self::Grants(_)
            | Self::BuildSecrets
            | Self::Devices => "a list",
            Self::Gpus => "`all` or a list",
            Self::OneOrMany(_) | Self::Paths | Self::EnvFiles | Self::HealthTest => {
                "a string or a list"
            }
            Self::KeyValues(_)
            | Self::Contexts
            | Self::Ssh
            | Self::DependsOn
            | Self::ServiceNetworks
            | Self::ServiceModels
            | Self::ExtraHosts => "a mapping or a list",
            Self::Map(_)
            | Self::Object(_)
            | Self::Ulimits
            | Self::Options
            | Self::MultiOptions
            | Self::Logging => "a mapping",
            Self::Build | Self::Extends => "a string or a mapping",
        })
    }

    /// Returns what each item of a list is.
    fn item(&self) -> Option<&'static Self> {
        match self {
            Self::List(each, _) => Some(each),
            Self::OneOrMany(_) | Self::Paths | Self::Command | Self::HealthTest => {
                Some(&Self::Text)
            }
            Self::Gpus => Some(&Self::Object(&[])),
            _ => None,
        }
    }

    /// Whether something may be missing in it.
    fn is_nested(&self) -> bool {
        matches!(
            self,
            Self::Object(_)
                | Self::NullOrObject(_)
                | Self::Map(_)
                | Self::Build
                | Self::DependsOn
                | Self::ServiceNetworks
                | Self::ServiceModels
                | Self::Logging
        ) || self.item().is_some()
    }
}
