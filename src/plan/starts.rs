//! The order in which services start and stop, and the waits that conditions take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::action::{Action, AwaitCondition, Awaited, ContainerRef};
use super::cause::Cause;
use super::draft::Draft;
use super::graph::ServiceGraph;
use super::observed::{Health, State};
use super::{After, StepId};
use crate::spec::model::service::{Condition, Dependency};

/// What has been placed so far, dependencies before dependents.
pub(super) struct Starts<'a> {
    graph: &'a ServiceGraph,
    wait_timeout: Option<Duration>,
    /// What each service has in the end.
    placed: BTreeMap<String, Vec<Placed>>,
    /// Waits, by whom, for what and whether it is required.
    waits: BTreeMap<(String, Awaited, bool), StepId>,
    /// Who needs each wait.
    needed_by: BTreeMap<StepId, Vec<String>>,
}

/// A container of a service, in the end.
pub(super) struct Placed {
    /// Number among the service's containers.
    pub(super) number: u32,
    /// Its name.
    pub(super) name: String,
    /// Itself.
    pub(super) reference: ContainerRef,
    /// The step that starts it, unless it runs or nothing starts.
    pub(super) start: Option<StepId>,
    /// What it does, if it is left alone.
    pub(super) undisturbed: Option<State>,
}

impl<'a> Starts<'a> {
    /// Begins with nothing placed.
    pub(super) fn new(graph: &'a ServiceGraph, wait_timeout: Option<Duration>) -> Self {
        Self {
            graph,
            wait_timeout,
            placed: BTreeMap::new(),
            waits: BTreeMap::new(),
            needed_by: BTreeMap::new(),
        }
    }

    /// Places a container.
    pub(super) fn place(&mut self, service: &str, placed: Placed) {
        self.placed
            .entry(service.to_owned())
            .or_default()
            .push(placed);
    }

    /// Returns what has been placed of a service.
    pub(super) fn placed(&self, service: &str) -> &[Placed] {
        self.placed.get(service).map_or(&[], Vec::as_slice)
    }

    /// Returns what must be so before containers of `service` start, and adds the waits it takes.
    ///
    /// Dependencies that are not placed, or have no container, are not waited for.
    pub(super) fn ready(
        &mut self,
        draft: &mut Draft,
        service: &str,
        dependencies: impl IntoIterator<Item = (String, Dependency)>,
    ) -> Vec<After> {
        let mut ready = Vec::new();
        for (name, dependency) in dependencies {
            if self.placed(&name).is_empty() {
                continue;
            }
            let condition = awaited(dependency.condition).filter(|c| !self.is_met(&name, *c));
            if let Some(condition) = condition {
                let wait = self.wait(draft, &name, condition, dependency.required);
                let needed_by = self.needed_by.entry(wait).or_default();
                needed_by.push(service.to_owned());
                ready.push(edge(dependency, wait));
            } else {
                let started = self.started(&name).into_iter();
                ready.extend(started.map(|step| edge(dependency, step)));
            }
        }
        ready
    }

    /// Adds the waits of `--wait` for every service placed; those of `jobs` are to complete.
    pub(super) fn wait_for_all(&mut self, draft: &mut Draft, jobs: &BTreeSet<String>) {
        let services: Vec<String> = self.placed.keys().cloned().collect();
        let in_order = self.graph.order().iter();
        for name in in_order.filter(|name| services.contains(name)) {
            let condition = if jobs.contains(name) {
                Awaited::Completed
            } else {
                Awaited::RunningOrHealthy
            };
            let key = (name.clone(), Awaited::Healthy, true);
            if self.placed(name).is_empty()
                || self.waits.contains_key(&key)
                || self.is_met(name, condition)
            {
                continue;
            }
            self.wait(draft, name, condition, true);
        }
    }

    /// Gives each wait its cause.
    pub(super) fn finish(self, draft: &mut Draft) {
        for (step, services) in self.needed_by {
            draft.set_cause(step, Cause::NeededBy { services });
        }
    }

    /// Whether nothing has to be waited for.
    fn is_met(&self, service: &str, awaited: Awaited) -> bool {
        let mut placed = self.placed(service).iter();
        placed.all(|placed| match (awaited, placed.undisturbed) {
            (
                Awaited::RunningOrHealthy,
                Some(State::Running(Health::Healthy | Health::Unchecked)),
            )
            | (Awaited::Healthy, Some(State::Running(Health::Healthy)))
            | (Awaited::Completed, Some(State::Exited { code: Some(0) })) => true,
            (Awaited::Healthy | Awaited::RunningOrHealthy | Awaited::Completed, _) => false,
        })
    }

    /// Returns the steps after which a service has started; where it has none, those of what it depends on.
    fn started(&self, service: &str) -> BTreeSet<StepId> {
        let mut steps = BTreeSet::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![service];
        while let Some(name) = open.pop() {
            let before = steps.len();
            steps.extend(self.placed(name).iter().filter_map(|placed| placed.start));
            if steps.len() == before {
                let dependencies = self.graph.dependencies(name).map(|(name, _)| name);
                open.extend(dependencies.filter(|name| seen.insert(name)));
            }
        }
        steps
    }

    /// Adds a wait for a service's containers, or finds it.
    fn wait(
        &mut self,
        draft: &mut Draft,
        service: &str,
        condition: Awaited,
        required: bool,
    ) -> StepId {
        let key = (service.to_owned(), condition, required);
        if let Some(step) = self.waits.get(&key) {
            return *step;
        }
        let placed = self.placed(service);
        let starts = placed.iter().filter_map(|placed| placed.start);
        let after: Vec<After> = starts.map(After::Success).collect();
        let containers = placed.iter();
        let containers = containers.map(|p| (p.reference.clone(), p.name.clone()));
        let action = Action::AwaitCondition(AwaitCondition {
            service: service.to_owned(),
            condition,
            containers: containers.collect(),
            timeout: self.wait_timeout,
            required,
        });
        let step = draft.add(action, Cause::Flag("--wait"), &after);
        self.waits.insert(key, step);
        step
    }
}

/// Makes the stops of each service wait for those of its dependents; through those that have none, for those of theirs.
pub(super) fn order_stops(
    graph: &ServiceGraph,
    stops: &BTreeMap<String, Vec<StepId>>,
    draft: &mut Draft,
) {
    // What must have ended before a dependency may stop, by service; dependents come last in the order.
    let mut ends: BTreeMap<&str, BTreeSet<StepId>> = BTreeMap::new();
    for service in graph.order().iter().rev() {
        let dependents = graph.dependents(service);
        let before = dependents.filter_map(|dependent| ends.get(dependent));
        let before: BTreeSet<StepId> = before.flatten().copied().collect();
        let own = stops.get(service).map_or(&[][..], Vec::as_slice);
        for stop in own {
            for end in &before {
                draft.order(*stop, After::End(*end));
            }
        }
        let end = if own.is_empty() {
            before
        } else {
            own.iter().copied().collect()
        };
        ends.insert(service, end);
    }
}

/// Returns what a condition of `depends_on` waits for beyond the start.
fn awaited(condition: Condition) -> Option<Awaited> {
    match condition {
        Condition::ServiceStarted => None,
        Condition::ServiceHealthy => Some(Awaited::Healthy),
        Condition::ServiceCompletedSuccessfully => Some(Awaited::Completed),
    }
}

/// Returns how a dependent waits for a step of its dependency.
fn edge(dependency: Dependency, step: StepId) -> After {
    if dependency.required {
        After::Success(step)
    } else {
        After::End(step)
    }
}
