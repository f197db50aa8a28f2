//! The stages of a plan, all at once: each goes on until it needs another one, and waits for that alone. The first failure ends the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::super::dockerfile::{Fault, Span};
use super::bases::Planned;
use super::builder::{Build, from_of};
use super::error::{BuildError, StepFailure};
use super::plan::{Base, Plan, PlannedStage};
use super::resolve::Resolved;
use super::stage::StageState;
use super::work::StageWork;

/// The ends of the stages of a plan, as they come.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// By index in the Dockerfile.
    stages: BTreeMap<usize, watch::Sender<Option<Rc<StageState>>>>,
    /// Stages that one other stage goes on from, and nobody else asks for: it has their state, and not a copy. Along a chain of
    /// stages, whose states grow, copies would take the square of its length.
    passed_on: BTreeSet<usize>,
}

impl Ends {
    /// Expects the stages of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let stages = plan.stages.iter();
        Self {
            stages: stages
                .map(|stage| (stage.index, watch::Sender::new(None)))
                .collect(),
            passed_on: passed_on(plan),
        }
    }

    /// Tells who waits that a stage is done.
    fn tell(&self, index: usize, state: Rc<StageState>) {
        if let Some(sender) = self.stages.get(&index) {
            sender.send_replace(Some(state));
        }
    }

    /// Waits for the end of a stage.
    ///
    /// Who waits must hold no lock that the stage might need: see [`super::work`].
    pub(super) async fn wait(&self, index: usize) -> Result<Rc<StageState>, StepFailure> {
        let missing = || StepFailure::Invalid("its stage was not built");
        let sender = self.stages.get(&index).ok_or_else(missing)?;
        let mut receiver = sender.subscribe();
        let ended = receiver.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|state| state.clone())
            .ok_or_else(missing)
    }

    /// Waits for the end of a stage, to go on from it.
    pub(super) async fn go_on(&self, index: usize) -> Result<StageState, StepFailure> {
        let state = self.wait(index).await?;
        if self.passed_on.contains(&index)
            && let Some(sender) = self.stages.get(&index)
        {
            drop(sender.send_replace(None));
        }
        Ok(Rc::unwrap_or_clone(state))
    }
}

/// Returns the stages that are the base of one stage, and nothing else to any.
fn passed_on(plan: &Plan) -> BTreeSet<usize> {
    let mut bases: BTreeMap<usize, usize> = BTreeMap::new();
    let mut others: BTreeSet<usize> = plan
        .stages
        .last()
        .map(|last| last.index)
        .into_iter()
        .collect();
    for stage in &plan.stages {
        if let Base::Stage(index) = stage.base {
            *bases.entry(index).or_default() += 1;
        }
        for step in &stage.steps {
            let from = step.from.iter().chain(step.mounts.iter().flatten());
            others.extend(from.filter_map(|base| match base {
                Base::Stage(index) => Some(*index),
                _ => None,
            }));
        }
    }
    let once = bases.into_iter().filter(|(_, count)| *count == 1);
    once.map(|(index, _)| index)
        .filter(|index| !others.contains(index))
        .collect()
}

impl Build<'_> {
    /// Builds every stage of the plan and returns the last.
    pub(super) async fn go_through(&self, planned: &Planned) -> Result<StageState, BuildError> {
        let plan = &planned.plan;
        let ends = Ends::of(plan);
        let several = plan.stages.len() > 1;
        let mut running: FuturesUnordered<_> = plan
            .stages
            .iter()
            .zip(&planned.resolved)
            .map(|stage| self.build_stage(stage, several, &ends))
            .collect();
        // The rest is dropped with the first failure, and so ended.
        while let Some(ended) = running.next().await {
            ended?;
        }
        drop(running);
        let nothing = || self.faults(vec![Fault::new(Span::default(), "nothing to build")]);
        let last = plan.stages.last().ok_or_else(nothing)?;
        let (from, text) = from_of(self.file, last);
        let state = ends.wait(last.index).await;
        let state = state.map_err(|source| self.failed(from, text, source))?;
        drop(ends);
        Ok(Rc::unwrap_or_clone(state))
    }

    /// Builds one stage.
    async fn build_stage(
        &self,
        (stage, resolved): (&PlannedStage, &Vec<Resolved>),
        several: bool,
        ends: &Ends,
    ) -> Result<(), BuildError> {
        let (from, text) = from_of(self.file, stage);
        let begun = StageWork::begin(self, stage, several, ends).await;
        let mut work = begun.map_err(|source| self.failed(from, text, source))?;
        for (step, resolved) in stage.steps.iter().zip(resolved) {
            let done = work.step(step, resolved).await;
            let instruction = &step.instruction;
            done.map_err(|source| self.failed(instruction.span, &instruction.text, source))?;
        }
        let state = work.finish().await;
        let state = state.map_err(|source| self.failed(from, text, source))?;
        ends.tell(stage.index, Rc::new(state));
        Ok(())
    }
}
