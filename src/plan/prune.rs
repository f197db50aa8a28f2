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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::containers::containers;
    use crate::plan::options::UpOptions;
    use crate::plan::testing::{stack, up};

    /// What is planned where `before` runs and `after` is applied.
    fn plan(before: &str, after: &str) -> String {
        let (observed, stack) = (up(&stack(before)), stack(after));
        let options = UpOptions {
            remove_orphans: true,
            ..UpOptions::default()
        };
        let mut plan = containers(&stack, &observed, &options).unwrap();
        networks(&mut plan, &stack, &observed);
        plan.to_string()
    }

    #[test]
    fn networks_go_after_their_last_user_and_no_others_do() {
        let two = "web\nold net=side";
        let expected = "\
[] -> #1 stop container demo-old-1: service old is not in the file
[1] -> #2 remove container demo-old-1: service old is not in the file
[2] -> #3 remove network demo_side: not in the file
";
        assert_eq!(plan(two, "web"), expected);
        assert_eq!(plan(two, two), "");
        // Its service is only not enabled, and runs on.
        assert_eq!(plan(two, "web\n-old net=other"), "");
        // External: nobody's of this project.
        assert!(!plan("web\nold net=side\nnetwork side external", "web").contains("network"));
    }
}
