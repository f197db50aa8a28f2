//! Whether a normalized project makes sense as a whole: every name refers to something, nothing contradicts, nothing waits
//! for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::canonical::scalar_text;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::normalize::Normalized;
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

static NOTHING: Mapping = Mapping::new();

/// The maps at the top of a project.
struct Project<'a> {
    services: &'a Mapping,
    disabled: &'a Mapping,
    networks: &'a Mapping,
    volumes: &'a Mapping,
    secrets: &'a Mapping,
    configs: &'a Mapping,
    models: &'a Mapping,
}

fn map_at<'a>(node: &'a Node, key: &str) -> &'a Mapping {
    node.get(key).and_then(Node::as_mapping).unwrap_or(&NOTHING)
}

/// Reports everything that does not hold.
pub(crate) fn validate(normalized: &Normalized, diagnostics: &mut Diagnostics) {
    let project = Project {
        services: map_at(&normalized.project, "services"),
        disabled: &normalized.disabled,
        networks: map_at(&normalized.project, "networks"),
        volumes: map_at(&normalized.project, "volumes"),
        secrets: map_at(&normalized.project, "secrets"),
        configs: map_at(&normalized.project, "configs"),
        models: map_at(&normalized.project, "models"),
    };
    let services = project.services.entries().iter();
    for service in services.filter(|service| service.value.as_mapping().is_some()) {
        let mut checker = Checker {
            project: &project,
            name: &service.key,
            span: service.key_span,
            service: &service.value,
            diagnostics,
        };
        checker.check();
    }
    for kind in ["secrets", "configs"] {
        for object in map_at(&normalized.project, kind).entries() {
            check_origin(kind, object, diagnostics);
        }
    }
    for volume in project.volumes.entries() {
        check_external("volumes", volume, diagnostics);
    }
    check_container_names(&project, diagnostics);
    check_cycles(project.services, diagnostics);
}

/// Checks one service.
struct Checker<'a> {
    project: &'a Project<'a>,
    name: &'a str,
    span: Span,
    service: &'a Node,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Checker<'a> {
    fn check(&mut self) {
        let is_given = |key: &str| {
            let value = self.service.get(key);
            value.is_some_and(|value| value.as_str() != Some(""))
        };
        if !["image", "build", "provider"].into_iter().any(is_given) {
            self.diagnostics.push(
                Diagnostic::error(
                    self.span,
                    format!(
                        "service \"{}\" has neither an image nor a build context specified: invalid compose project",
                        self.name
                    ),
                )
                .hint("add `image:` or `build:`"),
            );
        }
        self.references();
        self.dependencies();
        self.exclusives();
        self.limits();
        self.mounts();
        self.watches();
    }

    fn entries(&self, key: &str) -> &'a [Entry] {
        self.service
            .get(key)
            .and_then(Node::as_mapping)
            .map(Mapping::entries)
            .unwrap_or_default()
    }

    fn items(&self, key: &str) -> &'a [Arc<Node>] {
        self.service
            .get(key)
            .and_then(Node::as_sequence)
            .unwrap_or_default()
    }

    fn references(&mut self) {
        for network in self.entries("networks") {
            self.defined(
                "network",
                &network.key,
                network.key_span,
                self.project.networks,
            );
        }
        for mount in self.items("volumes") {
            let is_volume = mount.get("type").and_then(Node::as_str) == Some("volume");
            if let Some((name, span)) =
                text_at(mount, "source").filter(|(name, _)| is_volume && !name.is_empty())
            {
                self.defined("volume", name, span, self.project.volumes);
            }
        }
        for (key, what, defined) in [
            ("secrets", "secret", self.project.secrets),
            ("configs", "config", self.project.configs),
        ] {
            for grant in self.items(key) {
                if let Some((name, span)) = text_at(grant, "source") {
                    self.defined(what, name, span, defined);
                }
            }
        }
        for model in self.entries("models") {
            self.defined("model", &model.key, model.key_span, self.project.models);
        }
        self.build();
    }

    /// What a build refers to.
    fn build(&mut self) {
        let Some(build) = self.service.get("build") else {
            return;
        };
        for grant in build
            .get("secrets")
            .and_then(Node::as_sequence)
            .unwrap_or_default()
        {
            if let Some((name, span)) = text_at(grant, "source") {
                self.defined("build secret", name, span, self.project.secrets);
            }
        }
        for context in map_at(build, "additional_contexts").entries() {
            let Some(target) = context
                .value
                .as_str()
                .and_then(|text| text.strip_prefix("service:"))
            else {
                continue;
            };
            let services = [self.project.services, self.project.disabled];
            let found = services.iter().find_map(|services| services.get(target));
            if found.is_some_and(|service| service.get("build").is_some()) {
                continue;
            }
            let diagnostic = Diagnostic::error(
                context.value.span,
                format!(
                    "service \"{}\" declares unknown (or non-buildable) service \"{target}\" as additional contexts {}",
                    self.name, context.key
                ),
            );
            let buildable = self.project.services.entries().iter();
            let buildable = buildable.filter(|service| service.value.get("build").is_some());
            self.diagnostics
                .push(diagnostic.suggest(target, buildable.map(|service| &*service.key)));
        }
        let platforms = build
            .get("platforms")
            .and_then(Node::as_sequence)
            .unwrap_or_default();
        if let (Some((platform, span)), Some(first)) = (
            text_at(self.service, "platform").filter(|(platform, _)| !platform.is_empty()),
            platforms.first(),
        ) && !platforms
            .iter()
            .any(|built| built.as_str() == Some(platform))
        {
            self.diagnostics.push(
                Diagnostic::error(
                    span,
                    format!("service.build.platforms MUST include service.platform \"{platform}\": invalid compose project"),
                )
                .note(first.span, "built for these"),
            );
        }
    }

    fn defined(&mut self, what: &str, name: &str, span: Span, defined: &Mapping) {
        if defined.entry(name).is_some() || self.diagnostics.is_full() {
            return;
        }
        let mut diagnostic = Diagnostic::error(
            span,
            format!(
                "service \"{}\" refers to undefined {what} {name}: invalid compose project",
                self.name
            ),
        );
        diagnostic = diagnostic.suggest(name, keys(defined));
        if diagnostic.hints.is_empty() {
            let kind = what.rsplit(' ').next().unwrap_or(what);
            diagnostic = diagnostic.hint(format!("add `{name}:` beneath the top-level `{kind}s:`"));
        }
        self.diagnostics.push(diagnostic);
    }

    fn dependencies(&mut self) {
        let mode = text_at(self.service, "network_mode");
        let shared = mode.and_then(|(mode, span)| Some((mode.strip_prefix("service:")?, span)));
        if let Some((target, span)) = shared
            && self.project.services.entry(target).is_none()
        {
            let message =
                format!("service \"{target}\" not found for network_mode 'service:{target}'");
            self.diagnostics.push(
                Diagnostic::error(span, message).suggest(target, keys(self.project.services)),
            );
        }
        for dependency in self.entries("depends_on") {
            let name = &*dependency.key;
            let is_shared = shared.is_some_and(|(target, _)| target == name);
            if self.project.services.entry(name).is_some()
                || is_shared
                || self.diagnostics.is_full()
            {
                continue;
            }
            let required = !matches!(
                dependency.value.get("required").map(|node| &node.value),
                Some(Value::Bool(false))
            );
            let disabled = self.project.disabled.entry(name);
            if !required && disabled.is_some() {
                continue;
            }
            let diagnostic = match disabled {
                Some(disabled) => {
                    let profiles = disabled.value.get("profiles").and_then(Node::as_sequence).unwrap_or_default();
                    let profiles: Vec<&str> = profiles.iter().filter_map(|profile| profile.as_str()).collect();
                    Diagnostic::error(
                        dependency.key_span,
                        format!(
                            "service \"{name}\" is required by \"{}\" but is disabled. Can be enabled by profiles [{}]",
                            self.name,
                            profiles.join(" ")
                        ),
                    )
                    .note(disabled.key_span, "disabled, as none of its profiles is active")
                }
                None => Diagnostic::error(
                    dependency.key_span,
                    format!("service \"{}\" depends on undefined service \"{name}\": invalid compose project", self.name),
                )
                .suggest(name, keys(self.project.services)),
            };
            self.diagnostics.push(diagnostic);
        }
    }

    fn exclusives(&mut self) {
        if let (Some((_, span)), Some(networks)) = (
            text_at(self.service, "network_mode"),
            self.service
                .as_mapping()
                .and_then(|service| service.entry("networks")),
        ) {
            self.diagnostics.push(
                Diagnostic::error(
                    span,
                    format!(
                        "service {} declares mutually exclusive `network_mode` and `networks`: invalid compose project",
                        self.name
                    ),
                )
                .note(networks.key_span, "networks are given here"),
            );
        }
        let build = self.service.get("build");
        if let (Some(file), Some((_, span))) = (
            build.and_then(|build| text_at(build, "dockerfile")),
            build.and_then(|build| text_at(build, "dockerfile_inline")),
        ) {
            self.diagnostics.push(
                Diagnostic::error(
                    span,
                    format!(
                        "service \"{}\" declares mutually exclusive dockerfile and dockerfile_inline: invalid compose project",
                        self.name
                    ),
                )
                .note(file.1, "a Dockerfile is given here"),
            );
        }
        let scale = self.replicas();
        if let (Some((_, span)), Some((scale, _))) =
            (text_at(self.service, "container_name"), scale)
            && scale > 1
        {
            let attribute = if self.service.get("scale").is_some() {
                "scale"
            } else {
                "deploy.replicas"
            };
            self.diagnostics.error(
                span,
                format!(
                    "services.{}: can't set container_name and {attribute} as container name must be unique",
                    self.name
                ),
            );
        }
    }

    fn replicas(&self) -> Option<(i64, Span)> {
        let deployed = self
            .service
            .get("deploy")
            .and_then(|deploy| deploy.get("replicas"));
        let node = self.service.get("scale").or(deployed)?;
        match node.value {
            Value::Integer(count) => Some((count, node.span)),
            _ => None,
        }
    }

    /// Limits that can be written at two places must say the same at both.
    fn limits(&mut self) {
        let deploy = self.service.get("deploy");
        let resources = deploy.and_then(|deploy| deploy.get("resources"));
        let limits = resources.and_then(|resources| resources.get("limits"));
        let reservations = resources.and_then(|resources| resources.get("reservations"));
        let pairs = [
            ("cpus", limits, "cpus", "limits"),
            ("mem_limit", limits, "memory", "limits"),
            ("mem_reservation", reservations, "memory", "reservations"),
            ("pids_limit", limits, "pids", "limits"),
        ];
        if let (Some(one), Some(other)) = (
            self.service.get("scale"),
            deploy.and_then(|deploy| deploy.get("replicas")),
        ) {
            self.equal(("scale", one), "deploy.replicas", other);
        }
        for (key, parent, other_key, kind) in pairs {
            let other_name = format!("deploy.resources.{kind}.{other_key}");
            let one = self.service.get(key).filter(|one| !is_zero(one));
            let (Some(one), Some(parent)) = (one, parent) else {
                continue;
            };
            // What the object does not say is 0 there, which is something else.
            self.equal(
                (key, one),
                &other_name,
                parent.get(other_key).unwrap_or(parent),
            );
        }
    }

    fn equal(&mut self, (key, one): (&str, &Node), other_name: &str, other: &Node) {
        if scalar_text(one).is_some() && scalar_text(one) == scalar_text(other) {
            return;
        }
        let words = if other.as_mapping().is_some() {
            "not set here"
        } else {
            "set to something else here"
        };
        self.diagnostics.push(
            Diagnostic::error(
                one.span,
                format!(
                    "services.{}: can't set distinct values on '{key}' and '{other_name}': invalid compose project",
                    self.name
                ),
            )
            .note(other.span, words),
        );
    }

    /// No two mounts may have one target.
    fn mounts(&mut self) {
        let mut taken: BTreeMap<&str, (String, Span)> = BTreeMap::new();
        let tmpfs = self
            .items("tmpfs")
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let target = item.as_str()?.split(':').next()?;
                Some((
                    target,
                    format!("services.{}.tmpfs[{index}]", self.name),
                    item.span,
                ))
            });
        let volumes = self
            .items("volumes")
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let (target, _) = text_at(item, "target")?;
                Some((
                    target,
                    format!("services.{}.volumes[{index}]", self.name),
                    item.span,
                ))
            });
        let all: Vec<_> = tmpfs.chain(volumes).collect();
        for (target, place, span) in all {
            if let Some((first, first_span)) = taken.get(target) {
                self.diagnostics.push(
                    Diagnostic::error(
                        span,
                        format!("{place}: target {target} already mounted as {first}"),
                    )
                    .note(*first_span, "mounted here"),
                );
            } else {
                taken.insert(target, (place, span));
            }
        }
    }

    fn watches(&mut self) {
        let rules = self
            .service
            .get("develop")
            .and_then(|develop| develop.get("watch")?.as_sequence());
        for rule in rules.unwrap_or_default() {
            let action = text_at(rule, "action").map(|(action, _)| action);
            if let Some(("", span)) = text_at(rule, "path") {
                self.diagnostics.error(
                    span,
                    format!(
                        "services.{}.develop.watch: path: value can't be blank",
                        self.name
                    ),
                );
            }
            if action.is_some_and(|action| action.contains("sync")) && rule.get("target").is_none()
            {
                self.diagnostics.error(
                    rule.span,
                    format!(
                        "services.{}.develop.watch: target is required for non-rebuild actions",
                        self.name
                    ),
                );
            }
        }
    }
}

fn is_zero(node: &Node) -> bool {
    matches!(scalar_text(node).as_deref(), Some("0" | ""))
}

fn text_at<'a>(node: &'a Node, key: &str) -> Option<(&'a str, Span)> {
    let value = node.get(key)?;
    Some((value.as_str()?, value.span))
}

fn keys(mapping: &Mapping) -> impl Iterator<Item = &str> {
    mapping.entries().iter().map(|entry| &*entry.key)
}

/// A secret or a config comes from exactly one place.
fn check_origin(kind: &str, object: &Entry, diagnostics: &mut Diagnostics) {
    let origins: &[&str] = match kind {
        "secrets" => &["file", "environment"],
        _ => &["file", "environment", "content"],
    };
    let external = object.value.get("external").is_some() || object.value.get("driver").is_some();
    let mut given: Vec<&Node> = origins
        .iter()
        .filter_map(|origin| object.value.get(origin))
        .collect();
    given.sort_by_key(|origin| origin.span);
    let all = origins.join("|");
    match given.as_slice() {
        [] if !external => diagnostics.error(
            object.key_span,
            format!("{kind}.{}: one of {all} must be set", object.key),
        ),
        [first, second, ..] => diagnostics.push(
            Diagnostic::error(
                second.span,
                format!(
                    "{kind}.{}: {all} attributes are mutually exclusive",
                    object.key
                ),
            )
            .note(first.span, "already given here"),
        ),
        _ => {}
    }
}

/// An external resource has a name and nothing else.
fn check_external(kind: &str, resource: &Entry, diagnostics: &mut Diagnostics) {
    if !matches!(
        resource.value.get("external").map(|node| &node.value),
        Some(Value::Bool(true))
    ) {
        return;
    }
    for entry in resource.value.as_mapping().unwrap_or(&NOTHING).entries() {
        let is_default = entry.key_span == resource.value.span;
        let fits = matches!(&*entry.key, "external" | "name") || entry.key.starts_with("x-");
        if !fits && !is_default {
            diagnostics.error(
                entry.key_span,
                format!(
                    "{kind}.{}: conflicting parameters \"external\" and \"{}\" specified",
                    resource.key, entry.key
                ),
            );
        }
    }
}

fn check_container_names(project: &Project<'_>, diagnostics: &mut Diagnostics) {
    let mut taken: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
    for service in project.services.entries() {
        let Some((name, span)) = text_at(&service.value, "container_name") else {
            continue;
        };
        if let Some((owner, first)) = taken.get(name) {
            diagnostics.push(
                Diagnostic::error(
                    span,
                    format!(
                        "services.{}: container name \"{name}\" is already in use by service {owner}: invalid compose project",
                        service.key
                    ),
                )
                .note(*first, "in use here"),
            );
        } else {
            taken.insert(name, (&service.key, span));
        }
    }
}

/// How many cycles are reported: a few services can have millions.
const MAX_CYCLES: usize = 100;

/// Reports each service that waits for itself, once a cycle.
fn check_cycles(services: &Mapping, diagnostics: &mut Diagnostics) {
    let mut cycles = 0;
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in services.entries() {
        // The way from `start`: each service with those of its dependencies that are still to be followed.
        let mut way: Vec<(&str, std::slice::Iter<'_, Entry>)> = Vec::new();
        if !done.contains(&*start.key) {
            way.push((&start.key, dependencies(services, &start.key)));
        }
        let mut on_way: BTreeSet<&str> = BTreeSet::from([&*start.key]);
        while let Some((name, rest)) = way.last_mut() {
            let name = *name;
            let Some(dependency) = rest.next() else {
                way.pop();
                on_way.remove(name);
                done.insert(name);
                continue;
            };
            let next = &*dependency.key;
            if on_way.contains(next) {
                if cycles < MAX_CYCLES {
                    report_cycle(services, &way, next, diagnostics);
                }
                cycles += 1;
            } else if !done.contains(next) && services.entry(next).is_some() {
                on_way.insert(next);
                way.push((next, dependencies(services, next)));
            }
        }
    }
}

fn dependencies<'a>(services: &'a Mapping, name: &str) -> std::slice::Iter<'a, Entry> {
    services
        .get(name)
        .map_or(NOTHING.entries(), |service| {
            map_at(service, "depends_on").entries()
        })
        .iter()
}

fn report_cycle(
    services: &Mapping,
    way: &[(&str, std::slice::Iter<'_, Entry>)],
    start: &str,
    diagnostics: &mut Diagnostics,
) {
    let names = way
        .iter()
        .map(|(name, _)| *name)
        .skip_while(|name| *name != start);
    let cycle: Vec<&str> = names.chain([start]).collect();
    let edge = |from: &str, to: &str| {
        let service = services.get(from)?;
        map_at(service, "depends_on")
            .entry(to)
            .map(|entry| entry.key_span)
    };
    let mut spans = cycle
        .windows(2)
        .filter_map(|pair| Some((edge(pair[0], pair[1])?, pair[0])));
    let first = spans.next().map(|(span, _)| span).unwrap_or_default();
    let mut diagnostic = Diagnostic::error(
        first,
        format!("dependency cycle detected: {}", cycle.join(" -> ")),
    );
    for (span, from) in spans.filter(|(span, _)| *span != first) {
        diagnostic = diagnostic.note(span, format!("`{from}` waits for this"));
    }
    diagnostics.push(diagnostic);
}
