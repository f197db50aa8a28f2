//! Networks: made when they are not there, made anew when they differ and only containers of this plan use them.
//!
//! Containers outlive their network: they are stopped, give back their addresses, and lease new ones when they start.

use std::collections::{BTreeMap, BTreeSet};

use super::After;
use super::StepId;
use super::action::{Action, NetworkSpec};
use super::cause::Cause;
use super::draft::Draft;
use super::error::{PlanError, Warning};
use super::fingerprint::{self, Change, Fields};
use super::naming;
use super::observed::{ContainerId, Observed, ObservedNetwork};
use crate::spec::model::Stack;
use crate::spec::model::network::Network;
use crate::spec::names::NetworkKey;

/// What becomes of the networks of a plan.
#[derive(Debug, Default)]
pub(super) struct NetworkSteps {
    /// The steps that make them, by key.
    pub(super) made: BTreeMap<NetworkKey, StepId>,
    /// Those that are made anew.
    pub(super) replaced: Vec<Replaced>,
}

/// A network that is made anew.
#[derive(Debug)]
pub(super) struct Replaced {
    /// Name on the machine.
    pub(super) name: String,
    /// The step that removes it: after every user has let go of it.
    pub(super) remove: StepId,
    /// Containers that hold an address of it.
    pub(super) users: BTreeSet<ContainerId>,
}

/// Returns what a network of the file asks for.
pub(super) fn asked(network: &Network) -> Fields {
    let subnets = network.subnets.iter();
    fingerprint::network(
        network.internal,
        subnets.map(|subnet| (subnet.subnet, subnet.gateway)),
        &network.labels,
    )
}

/// Adds the steps for the networks of `keys`; `within` are the containers that the plan may stop.
pub(super) fn networks(
    stack: &Stack,
    observed: &Observed,
    keys: &BTreeSet<&NetworkKey>,
    within: &BTreeSet<&ContainerId>,
    draft: &mut Draft,
) -> Result<NetworkSteps, PlanError> {
    let mut steps = NetworkSteps::default();
    for key in keys {
        let Some(network) = stack.networks.get(*key) else {
            continue;
        };
        let name = &network.name;
        let Some(there) = observed.networks.iter().find(|there| there.name == *name) else {
            if network.external {
                return Err(PlanError::ExternalNetwork { name: name.clone() });
            }
            let create = draft.add(create(stack, key, network), Cause::Missing, &[]);
            steps.made.insert((*key).clone(), create);
            continue;
        };
        if network.external {
            continue;
        }
        if there.project.as_deref() != Some(stack.name.as_str()) {
            draft.warnings.push(Warning::ForeignNetwork {
                name: name.clone(),
                project: stack.name.to_string(),
            });
            continue;
        }
        let changes = fingerprint::compare(&there.asked, &asked(network));
        if changes.is_empty() {
            continue;
        }
        if let Some(remove) = replace(there, changes, within, draft) {
            let cause = Cause::Replaces;
            let create = draft.add(
                create(stack, key, network),
                cause,
                &[After::Success(remove)],
            );
            steps.made.insert((*key).clone(), create);
            steps.replaced.push(Replaced {
                name: name.clone(),
                remove,
                users: there.used_by.keys().cloned().collect(),
            });
        }
    }
    Ok(steps)
}

/// Adds the removal of a network that is to be made anew, or warns that others use it.
fn replace(
    there: &ObservedNetwork,
    changes: Vec<Change>,
    within: &BTreeSet<&ContainerId>,
    draft: &mut Draft,
) -> Option<StepId> {
    let others = there.used_by.iter().filter(|(id, _)| !within.contains(id));
    let used_by: Vec<String> = others.map(|(_, name)| name.clone()).collect();
    let name = there.name.clone();
    if used_by.is_empty() {
        let action = Action::RemoveNetwork { name };
        return Some(draft.add(action, Cause::Changed(changes), &[]));
    }
    draft.warnings.push(Warning::NetworkKept {
        name,
        changes,
        used_by,
    });
    None
}

/// Returns the action that makes a network.
fn create(stack: &Stack, key: &NetworkKey, network: &Network) -> Action {
    Action::CreateNetwork(NetworkSpec {
        name: network.name.clone(),
        internal: network.internal,
        subnets: network.subnets.clone(),
        labels: naming::resource_labels(stack, naming::NETWORK, key.as_str(), &network.labels),
    })
}
