//! `boot`: what ran when the host went down is started again, dependencies first.
//!
//! Unlike `start`, nothing waits in vain: at boot a container whose dependency fails, or stays down because its owner stopped
//! it, is started all the same, as Docker does when its daemon starts.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, AwaitCondition, Awaited, ContainerRef};
use super::cause::Cause;
use super::draft::Draft;
use super::error::PlanError;
use super::graph::ServiceGraph;
use super::observed::{ContainerId, Observed, ObservedContainer};
use super::{After, Plan, StepId};
use crate::spec::model::service::Condition;

/// Plans the starts of the containers `wanted`, by the labels of what is there.
///
/// A container whose successor is wanted too, because its replacement was cut off, is left to the next `up`. Containers
/// wait for their dependencies to start and, where they ask for it, to be healthy; not for jobs, which have been done.
pub fn boot(observed: &Observed, wanted: &BTreeSet<ContainerId>) -> Result<Plan, PlanError> {
    let superseded: BTreeSet<&ContainerId> = observed
        .containers
        .iter()
        .filter(|container| wanted.contains(&container.id) || container.is_live())
        .filter_map(|container| container.replaces.as_ref())
        .collect();
    let starts = |container: &&ObservedContainer| {
        wanted.contains(&container.id)
            && !container.is_live()
            && !superseded.contains(&container.id)
    };
    let graph = ServiceGraph::of_labels(observed);
    let mut draft = Draft::default();
    let mut by_id: BTreeMap<&ContainerId, StepId> = BTreeMap::new();
    for container in observed.containers.iter().filter(starts) {
        let action = Action::StartContainer {
            container: ContainerRef::Existing(container.id.clone()),
            name: container.name.clone(),
        };
        let step = draft.add(action, Cause::Command("boot"), &[]);
        by_id.insert(&container.id, step);
    }
    // What a service's dependents wait for, by service.
    let mut up: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
    for service in graph.order() {
        let of = observed.containers.iter();
        let of: Vec<_> = of
            .filter(|c| c.service == *service && by_id.contains_key(&c.id))
            .collect();
        let mut waits = Vec::new();
        for (name, dependency) in graph.dependencies(service) {
            let Some(started) = up.get(name).filter(|started| !started.is_empty()) else {
                continue;
            };
            let started = started.clone();
            waits.extend(started.iter().map(|step| After::End(*step)));
            if dependency.condition == Condition::ServiceHealthy && !of.is_empty() {
                let healthy = healthy(observed, name, &by_id, &mut draft);
                waits.extend(healthy.map(After::End));
            }
        }
        let mut steps = Vec::new();
        for container in of {
            let Some(step) = by_id.get(&container.id) else {
                continue;
            };
            let donor = container.network_of.as_ref();
            let donor = donor.and_then(|donor| by_id.get(donor));
            let after = waits.iter().copied();
            for after in after.chain(donor.map(|donor| After::Success(*donor))) {
                draft.order(*step, after);
            }
            steps.push(*step);
        }
        if steps.is_empty() {
            // Through a service that starts nothing, its dependents wait for what it depends on.
            steps.extend(waits.iter().map(|after| after.step()));
        }
        up.insert(service, steps);
    }
    draft.finish()
}

/// Adds a wait until the containers of `service` that are started are healthy; a failure is a warning.
fn healthy(
    observed: &Observed,
    service: &str,
    by_id: &BTreeMap<&ContainerId, StepId>,
    draft: &mut Draft,
) -> Option<StepId> {
    let started: Vec<_> = observed
        .containers
        .iter()
        .filter(|container| container.service == service)
        .filter_map(|container| Some((container, *by_id.get(&container.id)?)))
        .collect();
    if started.is_empty() {
        return None;
    }
    let after: Vec<After> = started
        .iter()
        .map(|(_, step)| After::Success(*step))
        .collect();
    let containers = started.iter().map(|(container, _)| {
        let reference = ContainerRef::Existing(container.id.clone());
        (reference, container.name.clone())
    });
    let wait = Action::AwaitCondition(AwaitCondition {
        service: service.to_owned(),
        condition: Awaited::Healthy,
        containers: containers.collect(),
        timeout: None,
        required: false,
    });
    Some(draft.add(wait, Cause::Command("boot"), &after))
}
