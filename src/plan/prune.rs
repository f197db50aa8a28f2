//! `apply`: networks that the file no longer has go with the containers that used them. Volumes never do.

use std::collections::BTreeMap;

use super::action::Action;
use super::cause::Cause;
use super::observed::{ContainerId, Observed};
use super::{After, Part, Plan, Step, StepId};
use crate::spec::model::Stack;

/// Adds to a plan of containers the removal of the project's networks that no enabled service of the file uses, each after the
/// removal of every container that holds an address of it. A network that keeps a user stays, without a word: the user is
/// one that the plan leaves alone, such as a service of a profile that is not enabled now.
pub fn networks(plan: &mut Plan, stack: &Stack, observed: &Observed) {
    let removed: BTreeMap<ContainerId, StepId> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::RemoveContainer { container, .. } => Some((container.clone(), step.id)),
            _ => None,
        })
        .collect();
    for network in &observed.networks {
        let is_ours = network.project.as_deref() == Some(stack.name.as_str());
        let mut declared = stack.networks.values();
        if !is_ours || declared.any(|declared| declared.name == network.name) {
            continue;
        }
        let users = network.used_by.keys().map(|user| removed.get(user));
        let Some(users) = users.collect::<Option<Vec<_>>>() else {
            continue;
        };
        let mut after: Vec<After> = users
            .into_iter()
            .map(|step| After::Success(*step))
            .collect();
        after.sort_unstable();
        plan.steps.push(Step {
            // A plan with four thousand million steps has other troubles.
            id: StepId(u32::try_from(plan.steps.len() + 1).unwrap_or(u32::MAX)),
            action: Action::RemoveNetwork {
                name: network.name.clone(),
            },
            cause: Cause::NotInFile,
            after,
            part: Part::Whole,
        });
    }
}
