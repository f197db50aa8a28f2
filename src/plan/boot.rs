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
            let after = after.filter(|after| Some(&after.step()) != donor);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::observed::State;
    use crate::plan::testing::{id, stack, up};

    /// The plan where everything of `text` has ended and `wanted` should run.
    fn plan(text: &str, wanted: &[&str]) -> String {
        let mut observed = up(&stack(text));
        for container in &mut observed.containers {
            container.state = State::Exited { code: None };
        }
        let wanted = wanted.iter().map(|service| id(service, 1)).collect();
        boot(&observed, &wanted).unwrap().to_string()
    }

    #[test]
    fn dependencies_start_first_and_a_failure_stops_nobody_else() {
        let text = "db check\njob ends=0\nweb depends:db=healthy depends:job=completed\nside share=web\nidle";
        let expected = "\
[] -> #1 start container demo-db-1: boot
[1] -> #2 wait for demo-db-1 to be healthy: boot
[~1,~2] -> #3 start container demo-web-1: boot
[3] -> #4 start container demo-side-1: boot
";
        assert_eq!(plan(text, &["db", "web", "side"]), expected);
        // Through what does not start: the order of what it depends on.
        let text = "a\nb depends:a\nc depends:b";
        let expected = "\
[] -> #1 start container demo-a-1: boot
[~1] -> #2 start container demo-c-1: boot
";
        assert_eq!(plan(text, &["a", "c"]), expected);
        assert_eq!(plan(text, &[]), "");
    }

    #[test]
    fn of_a_container_and_its_successor_one_starts() {
        let mut observed = up(&stack("web scale=2"));
        for container in &mut observed.containers {
            container.state = State::Exited { code: None };
        }
        observed.containers[1].replaces = Some(id("web", 1));
        let both = BTreeSet::from([id("web", 1), id("web", 2)]);
        let old = BTreeSet::from([id("web", 1)]);
        let text = |wanted| boot(&observed, wanted).unwrap().to_string();
        assert_eq!(text(&both), "[] -> #1 start container demo-web-2: boot\n");
        assert_eq!(text(&old), "[] -> #1 start container demo-web-1: boot\n");
    }
}
