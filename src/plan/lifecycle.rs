//! `stop`, `start` and `restart`: the same containers, nothing made or removed.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, ContainerRef, Resource};
use super::cause::Cause;
use super::draft::Draft;
use super::error::PlanError;
use super::graph::{Dependencies, Selection, ServiceGraph};
use super::observed::{ContainerId, Observed, ObservedContainer, State};
use super::options::LifecycleOptions;
use super::starts::{Placed, Starts, order_stops};
use super::{After, Plan, StepId};
use crate::spec::model::Stack;
use crate::spec::model::service::{Condition, Dependency};

/// Plans `stop`: dependents first, by the labels of what runs.
pub fn stop(
    stack: Option<&Stack>,
    observed: &Observed,
    options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    check_services(stack, observed, &options.services)?;
    let graph = ServiceGraph::of_labels(observed);
    let mut draft = Draft::default();
    let mut stops: BTreeMap<String, Vec<StepId>> = BTreeMap::new();
    let containers = observed.containers.iter().filter(|c| !c.oneoff);
    let meant = |container: &&ObservedContainer| {
        options.services.is_empty() || options.services.contains(&container.service)
    };
    for container in containers.filter(meant).filter(|c| c.is_live()) {
        let action = stop_action(container, options);
        let step = draft.add(action, Cause::Command("stop"), &[]);
        let of = stops.entry(container.service.clone()).or_default();
        of.push(step);
    }
    order_stops(&graph, &stops, &mut draft);
    draft.finish()
}

/// Plans `start`: the services and what they depend on, as far as they have containers, dependencies first.
pub fn start(
    stack: Option<&Stack>,
    observed: &Observed,
    options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    let (graph, services) = dependencies_of(stack, observed, options)?;
    if let Some(stack) = stack {
        check_startable(stack, observed, &services)?;
    }
    let meant = |container: &ObservedContainer| services.contains(&container.service);
    let start = |container: &ObservedContainer| meant(container) && !container.is_live();
    let cycling = Cycling::new(observed, start, Cause::Command("start"));
    cycling.plan(&graph, &services, options)
}

/// Plans `restart`: the services and, unless told otherwise, dependents that ask for it (`restart: true`).
pub fn restart(
    stack: Option<&Stack>,
    observed: &Observed,
    options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    check_services(stack, observed, &options.services)?;
    let graph = match stack {
        Some(stack) => Selection::new(stack, &options.services, Dependencies::Leave)?.graph,
        None => ServiceGraph::of_labels(observed),
    };
    let mut services: BTreeSet<String> = options.services.iter().cloned().collect();
    if services.is_empty() {
        services.extend(observed.containers.iter().map(|c| c.service.clone()));
    } else if !options.no_deps {
        services = graph.with_restarted(&services);
    }
    let start = |container: &ObservedContainer| services.contains(&container.service);
    let cycling = Cycling::new(observed, start, Cause::Command("restart"));
    cycling.plan(&graph, &services, options)
}

/// Containers that are stopped, if they run, and started.
struct Cycling<'a> {
    containers: Vec<&'a ObservedContainer>,
    start: BTreeSet<&'a ContainerId>,
    cause: Cause,
}

impl<'a> Cycling<'a> {
    /// Takes those that `start` says, and those that share the network of one of them: a network namespace ends with its
    /// container.
    fn new(
        observed: &'a Observed,
        start: impl Fn(&ObservedContainer) -> bool,
        cause: Cause,
    ) -> Self {
        let containers: Vec<_> = observed.containers.iter().filter(|c| !c.oneoff).collect();
        let chosen = containers.iter().filter(|container| start(container));
        let mut start: BTreeSet<&ContainerId> = chosen.map(|container| &container.id).collect();
        loop {
            let sharing = containers.iter().filter(|container| {
                let donor = container.network_of.as_ref();
                container.is_live() && donor.is_some_and(|donor| start.contains(donor))
            });
            let before = start.len();
            let sharing: Vec<_> = sharing.map(|container| &container.id).collect();
            start.extend(sharing);
            if start.len() == before {
                break;
            }
        }
        Self {
            containers,
            start,
            cause,
        }
    }

    /// Adds the steps; `services` are those shown.
    fn plan(
        self,
        graph: &ServiceGraph,
        services: &BTreeSet<String>,
        options: &LifecycleOptions,
    ) -> Result<Plan, PlanError> {
        let mut draft = Draft::default();
        let mut starts = Starts::new(graph, options.wait_timeout);
        let mut stops: BTreeMap<String, Vec<StepId>> = BTreeMap::new();
        let mut stopped: BTreeMap<&ContainerId, StepId> = BTreeMap::new();
        let started = self
            .containers
            .iter()
            .filter(|c| self.start.contains(&c.id));
        for container in started.filter(|container| container.is_live()) {
            let action = stop_action(container, options);
            let step = draft.add(action, self.cause.clone(), &[]);
            let of = stops.entry(container.service.clone()).or_default();
            of.push(step);
            stopped.insert(&container.id, step);
        }
        for service in graph.order() {
            let of: Vec<_> = self
                .containers
                .iter()
                .filter(|c| c.service == *service)
                .collect();
            let any = of
                .iter()
                .any(|container| self.start.contains(&container.id));
            let ready = if any {
                let dependencies = graph.dependencies(service);
                let owned = dependencies.map(|(name, d)| (name.to_owned(), d));
                let owned: Vec<(String, Dependency)> = owned.collect();
                starts.ready(&mut draft, service, owned)
            } else {
                Vec::new()
            };
            for container in of {
                if !services.contains(service) && !self.start.contains(&container.id) {
                    continue;
                }
                let placed = self.start_one(container, &stopped, &ready, &mut draft);
                starts.place(service, placed);
            }
        }
        if options.wait {
            starts.wait_for_all(&mut draft, &jobs(graph));
        }
        starts.finish(&mut draft);
        order_stops(graph, &stops, &mut draft);
        draft.finish()
    }

    /// Adds the start of one container, unless it is left alone.
    fn start_one(
        &self,
        container: &ObservedContainer,
        stopped: &BTreeMap<&ContainerId, StepId>,
        ready: &[After],
        draft: &mut Draft,
    ) -> Placed {
        let reference = ContainerRef::Existing(container.id.clone());
        let mut start = None;
        if self.start.contains(&container.id) {
            let sharing = self.containers.iter();
            let sharing = sharing.filter(|c| c.network_of.as_ref() == Some(&container.id));
            let all = sharing.map(|c| &c.id).chain([&container.id]);
            let stops = all.filter_map(|id| stopped.get(id));
            let mut after: Vec<After> = stops.map(|step| After::Success(*step)).collect();
            after.extend(ready);
            let cause = match container.state {
                State::Running(_) | State::Restarting | State::Unknown => self.cause.clone(),
                State::Created => Cause::NotStarted,
                State::Exited { code } => Cause::Exited { code },
            };
            let action = Action::StartContainer {
                container: reference.clone(),
                name: container.name.clone(),
            };
            start = Some(draft.add(action, cause, &after));
        } else {
            let resource = Resource::Container(container.name.clone());
            draft.unchanged.push(resource);
        }
        Placed {
            number: container.number,
            name: container.name.clone(),
            reference,
            undisturbed: start.is_none().then_some(container.state),
            start,
        }
    }
}

/// Returns services of which others wait that they complete.
fn jobs(graph: &ServiceGraph) -> BTreeSet<String> {
    let all = graph
        .order()
        .iter()
        .flat_map(|name| graph.dependencies(name));
    let jobs = all.filter(|(_, d)| d.condition == Condition::ServiceCompletedSuccessfully);
    jobs.map(|(name, _)| name.to_owned()).collect()
}

/// Returns the graph, and the named services with what they depend on.
fn dependencies_of(
    stack: Option<&Stack>,
    observed: &Observed,
    options: &LifecycleOptions,
) -> Result<(ServiceGraph, BTreeSet<String>), PlanError> {
    check_services(stack, observed, &options.services)?;
    if let Some(stack) = stack {
        let selection = Selection::new(stack, &options.services, Dependencies::Follow)?;
        let names = selection.services.iter().map(|(name, _)| name.to_string());
        let names = names.collect();
        return Ok((selection.graph, names));
    }
    let graph = ServiceGraph::of_labels(observed);
    let named: BTreeSet<String> = if options.services.is_empty() {
        graph.order().iter().cloned().collect()
    } else {
        graph.with_dependencies(&options.services.iter().cloned().collect())
    };
    Ok((graph, named))
}

/// Checks that each named service is in the file or, without one, has a container.
pub(super) fn check_services(
    stack: Option<&Stack>,
    observed: &Observed,
    names: &[String],
) -> Result<(), PlanError> {
    let has_container =
        |name: &str| -> bool { observed.containers.iter().any(|c| c.service == name) };
    let is_known = |name: &str| match stack {
        Some(stack) => stack.services.contains_key(name) || stack.disabled.contains_key(name),
        None => has_container(name),
    };
    match names.iter().find(|name| !is_known(name)) {
        Some(name) => Err(PlanError::NoSuchService { name: name.clone() }),
        None => Ok(()),
    }
}

/// Checks that each service has a container, unless it is to have none.
fn check_startable(
    stack: &Stack,
    observed: &Observed,
    services: &BTreeSet<String>,
) -> Result<(), PlanError> {
    let with: BTreeSet<&str> = observed
        .containers
        .iter()
        .filter(|container| !container.oneoff)
        .map(|container| container.service.as_str())
        .collect();
    for name in services {
        let service = stack.services.get(name.as_str());
        let service = service.or_else(|| stack.disabled.get(name.as_str()));
        let none_wanted = service.is_some_and(|service| service.scale == Some(0));
        if !none_wanted && !with.contains(name.as_str()) {
            return Err(PlanError::NothingToStart {
                service: name.clone(),
            });
        }
    }
    Ok(())
}

/// Returns the stop of a container.
fn stop_action(container: &ObservedContainer, options: &LifecycleOptions) -> Action {
    Action::StopContainer {
        container: container.id.clone(),
        name: container.name.clone(),
        timeout: options.timeout,
    }
}
