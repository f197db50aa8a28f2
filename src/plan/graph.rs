//! Order of services: who depends on whom, and which are meant.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use super::error::PlanError;
use super::observed::Observed;
use crate::spec::model::Stack;
use crate::spec::model::service::{Condition, Dependency, NetworkMode, Service};
use crate::spec::names::ServiceName;

/// What each service depends on, without cycles.
///
/// `network_mode: service:` counts as a dependency that has started, with `restart: true`, as Docker Compose normalises it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceGraph {
    depends_on: BTreeMap<String, BTreeMap<String, Dependency>>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    order: Vec<String>,
}

/// The services that a command is about.
#[derive(Debug, Clone)]
pub struct Selection<'a> {
    /// In order: what others depend on comes first.
    pub services: Vec<(&'a ServiceName, &'a Service)>,
    /// The graph of all enabled services.
    pub graph: ServiceGraph,
    named: BTreeSet<String>,
}

/// Enabled services by name.
type Enabled<'a> = BTreeMap<&'a str, (&'a ServiceName, &'a Service)>;

/// Whether a selection takes in what the named services depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// It does.
    Follow,
    /// It does not (`--no-deps`).
    Leave,
}

impl ServiceGraph {
    /// Builds the graph of `depends_on`; dependencies that are no key of it are left out.
    pub fn new(
        depends_on: BTreeMap<String, BTreeMap<String, Dependency>>,
    ) -> Result<Self, PlanError> {
        let graph = digraph(&depends_on);
        match toposort(&graph, None) {
            Ok(order) => {
                let order = order.iter().filter_map(|node| graph.node_weight(*node));
                let order = order.map(|name| (*name).to_owned()).collect();
                Ok(Self {
                    order,
                    dependents: dependents(&depends_on),
                    depends_on,
                })
            }
            Err(_) => Err(PlanError::Cycle {
                path: cycle(&graph),
            }),
        }
    }

    /// Reads the graph from the labels of what is there. Labels of different times may contradict each other: of a cycle, the
    /// dependencies of its first service are left out.
    pub fn of_labels(observed: &Observed) -> Self {
        let mut depends_on: BTreeMap<String, BTreeMap<String, Dependency>> = BTreeMap::new();
        for container in &observed.containers {
            let entry = depends_on.entry(container.service.clone()).or_default();
            let others = container.depends_on.iter();
            entry.extend(others.map(|(name, dependency)| (name.clone(), *dependency)));
        }
        loop {
            match Self::new(depends_on.clone()) {
                Ok(graph) => return graph,
                Err(PlanError::Cycle { path }) if !path.is_empty() => {
                    depends_on.insert(path.first().cloned().unwrap_or_default(), BTreeMap::new());
                }
                // Not reached: a graph without edges has an order.
                Err(_) => depends_on.clear(),
            }
        }
    }

    /// Returns the graph of `services`.
    fn of_services(services: &Enabled<'_>) -> Result<Self, PlanError> {
        let depends_on = services.iter().map(|(name, (_, service))| {
            let dependencies = service_dependencies(service);
            ((*name).to_owned(), dependencies)
        });
        Self::new(depends_on.collect())
    }

    /// Returns every service, dependencies before dependents.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// Returns what `service` depends on itself, among the graph's services.
    pub fn dependencies<'s>(
        &'s self,
        service: &str,
    ) -> impl Iterator<Item = (&'s str, Dependency)> + use<'s> {
        let of = self.depends_on.get(service).into_iter().flatten();
        of.filter(|(name, _)| self.depends_on.contains_key(*name))
            .map(|(name, dependency)| (name.as_str(), *dependency))
    }

    /// Returns who depends on `service` itself.
    pub fn dependents<'s>(&'s self, service: &str) -> impl Iterator<Item = &'s str> + use<'s> {
        let of = self.dependents.get(service).into_iter().flatten();
        of.map(String::as_str)
    }

    /// Returns `services` and all that they depend on, at any depth.
    pub fn with_dependencies(&self, services: &BTreeSet<String>) -> BTreeSet<String> {
        closure(services, |name| {
            self.dependencies(name).map(|(name, _)| name).collect()
        })
    }

    /// Returns `services` and all that depend on them, at any depth.
    pub fn with_dependents(&self, services: &BTreeSet<String>) -> BTreeSet<String> {
        closure(services, |name| self.dependents(name).collect())
    }

    /// Returns `services` and all that ask to be restarted with one of them (`restart: true`), at any depth.
    pub fn with_restarted(&self, services: &BTreeSet<String>) -> BTreeSet<String> {
        let asks = |dependent: &str, name: &str| {
            let mut all = self.dependencies(dependent);
            all.any(|(dependency, entry)| dependency == name && entry.restart)
        };
        closure(services, |name| {
            let dependents = self.dependents(name);
            dependents
                .filter(|dependent| asks(dependent, name))
                .collect()
        })
    }
}

impl<'a> Selection<'a> {
    /// Selects the named services (all that are enabled where none is named) and, unless told otherwise, what they depend on.
    ///
    /// A named service that no profile enables is enabled by being named, with all that share a profile with it, as Docker
    /// Compose does (compose-spec 15-profiles.md).
    pub fn new(
        stack: &'a Stack,
        names: &[String],
        dependencies: Dependencies,
    ) -> Result<Self, PlanError> {
        let enabled = enabled(stack, names)?;
        let graph = ServiceGraph::of_services(&enabled)?;
        let named: BTreeSet<String> = names.iter().cloned().collect();
        let selected = match dependencies {
            _ if names.is_empty() => enabled.keys().map(ToString::to_string).collect(),
            Dependencies::Follow => graph.with_dependencies(&named),
            Dependencies::Leave => named.clone(),
        };
        let services: Vec<_> = graph
            .order()
            .iter()
            .filter(|name| selected.contains(*name))
            .filter_map(|name| enabled.get(name.as_str()).copied())
            .collect();
        if dependencies == Dependencies::Follow {
            for (name, service) in &services {
                check_dependencies(stack, &enabled, name, service)?;
            }
        }
        Ok(Self {
            services,
            graph,
            named,
        })
    }

    /// Whether `service` was named, or none was.
    pub fn is_named(&self, service: &str) -> bool {
        self.named.is_empty() || self.named.contains(service)
    }
}

/// Returns what `service` depends on, the one whose network it shares among them.
pub fn service_dependencies(service: &Service) -> BTreeMap<String, Dependency> {
    let written = service.depends_on.iter();
    let mut all: BTreeMap<String, Dependency> = written
        .map(|(name, dependency)| (name.to_string(), *dependency))
        .collect();
    if let Some(NetworkMode::Service(donor)) = &service.network_mode {
        all.entry(donor.to_string()).or_insert(Dependency {
            condition: Condition::ServiceStarted,
            restart: true,
            required: true,
        });
    }
    all
}

/// Returns the enabled services, those among them that `names` enables.
fn enabled<'a>(stack: &'a Stack, names: &[String]) -> Result<Enabled<'a>, PlanError> {
    let mut enabled: Enabled<'a> = BTreeMap::new();
    let mut enable = |(key, service): (&'a ServiceName, &'a Service)| {
        enabled.insert(key.as_str(), (key, service));
    };
    stack.services.iter().for_each(&mut enable);
    let mut profiles: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        if stack.services.contains_key(name.as_str()) {
            continue;
        }
        let Some((key, service)) = stack.disabled.get_key_value(name.as_str()) else {
            return Err(PlanError::NoSuchService { name: name.clone() });
        };
        enable((key, service));
        profiles.extend(service.profiles.iter().map(String::as_str));
    }
    let shares = |service: &Service| {
        service
            .profiles
            .iter()
            .any(|p| profiles.contains(p.as_str()))
    };
    let sharing = stack.disabled.iter().filter(|(_, service)| shares(service));
    sharing.for_each(&mut enable);
    Ok(enabled)
}

/// Checks that what `service` requires is enabled.
fn check_dependencies(
    stack: &Stack,
    enabled: &Enabled<'_>,
    name: &ServiceName,
    service: &Service,
) -> Result<(), PlanError> {
    for (dependency, entry) in service_dependencies(service) {
        if !entry.required || enabled.contains_key(dependency.as_str()) {
            continue;
        }
        let service = name.to_string();
        return Err(if stack.disabled.contains_key(dependency.as_str()) {
            PlanError::DependencyDisabled {
                service,
                dependency,
            }
        } else {
            PlanError::DependencyUndefined {
                service,
                dependency,
            }
        });
    }
    Ok(())
}

/// Returns the graph with an edge from each dependency to who depends on it.
fn digraph(depends_on: &BTreeMap<String, BTreeMap<String, Dependency>>) -> DiGraph<&str, ()> {
    let mut graph = DiGraph::new();
    // toposort() takes later nodes first where it may choose: names are added backwards to come out in order.
    let nodes: BTreeMap<&str, NodeIndex> = depends_on
        .keys()
        .rev()
        .map(|name| (name.as_str(), graph.add_node(name.as_str())))
        .collect();
    for (name, dependencies) in depends_on {
        for dependency in dependencies.keys() {
            if let (Some(from), Some(to)) =
                (nodes.get(dependency.as_str()), nodes.get(name.as_str()))
            {
                graph.add_edge(*from, *to, ());
            }
        }
    }
    graph
}

/// Returns who depends on each service.
fn dependents(
    depends_on: &BTreeMap<String, BTreeMap<String, Dependency>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, dependencies) in depends_on {
        for dependency in dependencies.keys() {
            all.entry(dependency.clone())
                .or_default()
                .insert(name.clone());
        }
    }
    all
}

/// Returns one cycle of a graph that has one, its first service again at the end, each service depending on the next.
fn cycle(graph: &DiGraph<&str, ()>) -> Vec<String> {
    let components = tarjan_scc(graph);
    let in_cycle = |component: &Vec<NodeIndex>| {
        component.len() > 1
            || component
                .first()
                .is_some_and(|n| graph.contains_edge(*n, *n))
    };
    let Some(component) = components
        .into_iter()
        .filter(in_cycle)
        .min_by_key(|c| least(graph, c))
    else {
        return Vec::new();
    };
    let Some(start) = component
        .iter()
        .min_by_key(|node| graph.node_weight(**node))
    else {
        return Vec::new();
    };
    // Within the component every service depends on another of it: walking on must come back to one seen before.
    let mut path = vec![*start];
    let mut at = *start;
    loop {
        let next = graph
            .neighbors_directed(at, petgraph::Direction::Incoming)
            .filter(|node| component.contains(node))
            .min_by_key(|node| graph.node_weight(*node));
        let Some(next) = next else {
            break;
        };
        let seen = path.iter().position(|node| *node == next);
        path.push(next);
        if let Some(seen) = seen {
            path.drain(..seen);
            break;
        }
        at = next;
    }
    let names = path.iter().filter_map(|node| graph.node_weight(*node));
    names.map(|name| (*name).to_owned()).collect()
}

/// Returns the first name of a component.
fn least<'n>(graph: &DiGraph<&'n str, ()>, component: &[NodeIndex]) -> Option<&'n str> {
    let names = component.iter().filter_map(|node| graph.node_weight(*node));
    names.min().copied()
}

/// Returns `start` and all that `next` leads to.
fn closure<'s>(start: &BTreeSet<String>, next: impl Fn(&str) -> Vec<&'s str>) -> BTreeSet<String> {
    let mut all = start.clone();
    let mut open: Vec<String> = start.iter().cloned().collect();
    while let Some(name) = open.pop() {
        for other in next(&name) {
            if all.insert(other.to_owned()) {
                open.push(other.to_owned());
            }
        }
    }
    all
}
