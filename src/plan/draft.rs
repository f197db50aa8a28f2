//! Steps while they are being thought of: in any order, with edges added as they become known.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, ContainerRef, Resource};
use super::cause::Cause;
use super::error::{PlanError, Warning};
use super::{After, Part, Plan, Step, StepId};

/// A plan in the making. Its step ids are provisional: indices in order of adding.
#[derive(Debug, Default)]
pub(super) struct Draft {
    steps: Vec<Step>,
    /// See [`Plan::unchanged`].
    pub(super) unchanged: Vec<Resource>,
    /// See [`Plan::warnings`].
    pub(super) warnings: Vec<Warning>,
}

impl Draft {
    /// Begins with warnings.
    pub(super) fn with_warnings(warnings: Vec<Warning>) -> Self {
        Self {
            warnings,
            ..Self::default()
        }
    }

    /// Adds a step that is shown by itself.
    pub(super) fn add(&mut self, action: Action, cause: Cause, after: &[After]) -> StepId {
        self.add_part(action, cause, after, Part::Whole)
    }

    /// Adds a step.
    pub(super) fn add_part(
        &mut self,
        action: Action,
        cause: Cause,
        after: &[After],
        part: Part,
    ) -> StepId {
        // A plan with four thousand million steps has other troubles.
        let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        self.steps.push(Step {
            id,
            action,
            cause,
            after: after.to_vec(),
            part,
        });
        id
    }

    /// Makes `step` wait for `after`.
    pub(super) fn order(&mut self, step: StepId, after: After) {
        if let Some(step) = self.steps.get_mut(step.0 as usize)
            && after.step() != step.id
        {
            step.after.push(after);
        }
    }

    /// Returns the steps so far.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Replaces the cause of a step.
    pub(super) fn set_cause(&mut self, step: StepId, cause: Cause) {
        if let Some(step) = self.steps.get_mut(step.0 as usize) {
            step.cause = cause;
        }
    }

    /// Puts the steps in order, as near to that of adding as can be, and numbers them from 1.
    ///
    /// Waiting for an end, well or not, is a courtesy (the order of stops): where it closes a cycle it is left out.
    pub(super) fn finish(mut self) -> Result<Plan, PlanError> {
        for step in &mut self.steps {
            step.after.sort_unstable();
            step.after.dedup();
        }
        self.drop_implied();
        let order = match topological(&self.steps) {
            Ok(order) => order,
            Err(stuck) => {
                for index in stuck {
                    if let Some(step) = self.steps.get_mut(index) {
                        step.after.retain(|after| !matches!(after, After::End(_)));
                    }
                }
                topological(&self.steps).map_err(|stuck| PlanError::Entangled {
                    steps: stuck
                        .iter()
                        .filter_map(|index| self.steps.get(*index))
                        .map(|step| step.action.to_string())
                        .collect(),
                })?
            }
        };
        let new_ids: BTreeMap<StepId, StepId> = order
            .iter()
            .zip(1..)
            .filter_map(|(index, number)| Some((self.steps.get(*index)?.id, StepId(number))))
            .collect();
        let mut steps = self.steps;
        for step in &mut steps {
            renumber(step, &new_ids);
        }
        steps.sort_by_key(|step| step.id);
        Ok(Plan {
            steps,
            unchanged: self.unchanged,
            warnings: self.warnings,
        })
    }

    /// Leaves out edges that another edge of the same step implies, so that plans read well.
    fn drop_implied(&mut self) {
        let implied: Vec<BTreeSet<After>> = self
            .steps
            .iter()
            .map(|step| {
                let direct = step.after.iter().filter_map(|after| match after {
                    After::Success(before) => self.steps.get(before.0 as usize),
                    After::End(_) | After::Failure(_) => None,
                });
                let through = direct.flat_map(|before| before.after.iter());
                // What succeeds has ended, too.
                through
                    .flat_map(|after| match after {
                        After::Success(before) => vec![*after, After::End(*before)],
                        After::End(_) | After::Failure(_) => vec![*after],
                    })
                    .collect()
            })
            .collect();
        for (step, implied) in self.steps.iter_mut().zip(implied) {
            step.after.retain(|after| !implied.contains(after));
        }
    }
}

/// Returns the indices of `steps` in an order in which every step comes after what it waits for, or those that have none.
fn topological(steps: &[Step]) -> Result<Vec<usize>, Vec<usize>> {
    let mut waits: Vec<usize> = steps.iter().map(|step| step.after.len()).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (index, step) in steps.iter().enumerate() {
        for after in &step.after {
            if let Some(followers) = followers.get_mut(after.step().0 as usize) {
                followers.push(index);
            }
        }
    }
    let ready = waits.iter().enumerate().filter(|(_, waits)| **waits == 0);
    let mut ready: BTreeSet<usize> = ready.map(|(index, _)| index).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for follower in followers.get(index).into_iter().flatten() {
            if let Some(waits) = waits.get_mut(*follower) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    ready.insert(*follower);
                }
            }
        }
    }
    if order.len() == steps.len() {
        return Ok(order);
    }
    let done: BTreeSet<usize> = order.into_iter().collect();
    Err((0..steps.len())
        .filter(|index| !done.contains(index))
        .collect())
}

impl Plan {
    /// Makes one plan of one for images and the one for containers that is applied after it: what is made of an image waits for it.
    #[must_use]
    pub fn followed_by(mut self, mut next: Self) -> Self {
        let mut images: BTreeMap<String, StepId> = BTreeMap::new();
        for step in &self.steps {
            // A build that makes up for a failed pull comes after it.
            match &step.action {
                Action::PullImage(pull) => images.insert(pull.reference.clone(), step.id),
                Action::BuildImage(build) => images.insert(build.image.clone(), step.id),
                _ => None,
            };
        }
        // A plan with four thousand million steps has other troubles.
        let offset = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let shifted = |id: StepId| StepId(id.0.saturating_add(offset));
        let ids: BTreeMap<StepId, StepId> = next
            .steps
            .iter()
            .map(|step| (step.id, shifted(step.id)))
            .collect();
        for step in &mut next.steps {
            renumber(step, &ids);
            if let Action::CreateContainer(spec) = &step.action
                && let Some(image) = images.get(&spec.image)
            {
                step.after.insert(0, After::Success(*image));
            }
        }
        self.steps.append(&mut next.steps);
        self.unchanged.append(&mut next.unchanged);
        self.warnings.append(&mut next.warnings);
        self
    }
}

/// Replaces every step id in `step`.
fn renumber(step: &mut Step, ids: &BTreeMap<StepId, StepId>) {
    let new = |id: &mut StepId| {
        if let Some(new) = ids.get(id) {
            *id = *new;
        }
    };
    let new_reference = |reference: &mut ContainerRef| {
        if let ContainerRef::New(id) = reference {
            new(id);
        }
    };
    new(&mut step.id);
    for after in &mut step.after {
        match after {
            After::Success(id) | After::End(id) | After::Failure(id) => new(id),
        }
    }
    step.after.sort_by_key(|after| after.step());
    match &mut step.action {
        Action::CreateContainer(spec) => spec.network_of.iter_mut().for_each(new_reference),
        Action::RenameContainer { container, .. } | Action::StartContainer { container, .. } => {
            new_reference(container);
        }
        Action::AwaitCondition(wait) => {
            for (container, _) in &mut wait.containers {
                new_reference(container);
            }
        }
        Action::PullImage(_)
        | Action::BuildImage(_)
        | Action::CreateNetwork(_)
        | Action::RemoveNetwork { .. }
        | Action::CreateVolume(_)
        | Action::RemoveVolume { .. }
        | Action::DisconnectContainer { .. }
        | Action::StopContainer { .. }
        | Action::RemoveContainer { .. } => {}
    }
}
