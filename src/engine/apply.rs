//! Applies a plan: walks its steps as their turn comes, decides nothing.
//!
//! All steps whose turn has come run at once, on one thread; only pulls and builds are bounded. A failure stops what needs
//! it, and waits that nobody needs then, and nothing else; but the first build that fails ends the other builds and pulls, and nothing
//! begins after it (Docker Compose: one `errgroup`). An interrupt begins nothing new, breaks off what may be broken off (waits, pulls, builds, stops) and
//! lets the rest end. Nothing is rolled back: the next command observes and plans again.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;

use super::chain;
use super::event::{Event, EventKind, EventSink, StepEnd, subject};
use super::host::{Host, HostError};
use crate::images::build::BuildError;
use crate::plan::action::{Action, Awaited, ContainerRef, Resource};
use crate::plan::observed::ContainerId;
use crate::plan::{After, Part, Plan, Step, StepId};

/// Pulls at once: enough to fill a link, few enough that one comes to an end.
const PULLS_AT_ONCE: usize = 4;

/// Builds at once: each brings processes of its own.
const BUILDS_AT_ONCE: usize = 2;

/// Why a plan was not applied to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Steps failed; what did not depend on them was done.
    #[error("{}", summary(failures))]
    Failed {
        /// Every failure, in the order they happened.
        failures: Vec<StepFailure>,
    },
    /// It was interrupted; nothing new was begun from then on.
    #[error("interrupted")]
    Interrupted {
        /// What had failed by then.
        failures: Vec<StepFailure>,
    },
}

/// One step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct StepFailure {
    /// Which.
    pub step: StepId,
    /// What it attempted: `start container demo-web-1`.
    pub attempted: String,
    /// The same, for whoever looks for what it stems from.
    pub action: Box<Action>,
    /// Why it failed.
    #[source]
    pub source: HostError,
}

/// A wait that took too long.
#[derive(Debug, thiserror::Error)]
#[error("not ready after {seconds}s")]
struct WaitedTooLong {
    seconds: f64,
}

/// A step needs a container that no step has made; no plan of ours has one.
#[derive(Debug, thiserror::Error)]
#[error("the container of step {step} was not made")]
struct NotMade {
    step: StepId,
}

/// An action names no container; [`Walk::resolve`] gives one to each that does.
#[derive(Debug, thiserror::Error)]
#[error("the step names no container")]
struct NoTarget;

/// Applies `plan`; `cancel` ending means an interrupt.
pub async fn apply<H: Host>(
    plan: &Plan,
    host: &H,
    events: &dyn EventSink,
    cancel: impl Future<Output = ()>,
) -> Result<(), ApplyError> {
    apply_within(None, plan, host, events, cancel).await
}

/// Applies `plan`, at most so many steps at once; waits for conditions do nothing and do not count.
pub async fn apply_within<H: Host>(
    limit: Option<NonZeroUsize>,
    plan: &Plan,
    host: &H,
    events: &dyn EventSink,
    cancel: impl Future<Output = ()>,
) -> Result<(), ApplyError> {
    for resource in &plan.unchanged {
        emit(events, resource, EventKind::Unchanged(unchanged(resource)));
    }
    let mut cancel = pin!(cancel);
    let mut walk = Walk::new(plan, events);
    walk.limit = limit.map_or(usize::MAX, NonZeroUsize::get);
    let mut running = FuturesUnordered::new();
    loop {
        if !walk.cancelled && cancel.as_mut().now_or_never().is_some() {
            walk.cancel();
        }
        while let Some(index) = walk.next() {
            if let Some(step) = plan.steps.get(index) {
                running.push(walk.begin(index, step, host));
            }
        }
        tokio::select! {
            biased;
            () = cancel.as_mut(), if !walk.cancelled && !running.is_empty() => walk.cancel(),
            ended = running.next() => match ended {
                Some((index, result)) => {
                    walk.end(index, result);
                    if walk.halted {
                        host.end_builds();
                    }
                }
                None => break,
            },
        }
    }
    walk.finish()
}

/// What running a step gives: the container it made, if it made one.
type StepResult = Result<Result<Option<ContainerId>, HostError>, Aborted>;

/// A step that runs.
type Running<'a> = Pin<Box<dyn Future<Output = (usize, StepResult)> + 'a>>;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    Skipped,
}

/// How far the walk has come.
struct Walk<'a> {
    plan: &'a Plan,
    events: &'a dyn EventSink,
    /// How many steps each step still waits for.
    waits: Vec<usize>,
    /// Who waits for each step.
    followers: Vec<Vec<usize>>,
    /// How each step ended.
    outcomes: Vec<Option<Outcome>>,
    ready: BTreeSet<usize>,
    pulls: usize,
    builds: usize,
    /// Steps that are going on, waits apart, and how many of them may be.
    working: usize,
    limit: usize,
    made: BTreeMap<StepId, ContainerId>,
    /// Steps that run and may be broken off.
    breakable: BTreeMap<usize, AbortHandle>,
    /// Waits that were broken off because nobody needs them any more.
    idle: BTreeSet<usize>,
    failures: Vec<StepFailure>,
    cancelled: bool,
    /// Whether a build failed: nothing new begins, and the other builds and the pulls end.
    halted: bool,
    broken_off: bool,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan, events: &'a dyn EventSink) -> Self {
        let count = plan.steps.len();
        let mut followers = vec![Vec::new(); count];
        for (index, step) in plan.steps.iter().enumerate() {
            for after in &step.after {
                if let Some(of) =
                    index_of(after.step()).and_then(|before| followers.get_mut(before))
                {
                    of.push(index);
                }
            }
        }
        let waits: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
        let ready = waits.iter().enumerate().filter(|(_, waits)| **waits == 0);
        Self {
            plan,
            events,
            ready: ready.map(|(index, _)| index).collect(),
            waits,
            followers,
            outcomes: vec![None; count],
            pulls: 0,
            builds: 0,
            working: 0,
            limit: usize::MAX,
            made: BTreeMap::new(),
            breakable: BTreeMap::new(),
            idle: BTreeSet::new(),
            failures: Vec::new(),
            cancelled: false,
            halted: false,
            broken_off: false,
        }
    }

    /// Takes the first step whose turn has come and that there is room for.
    fn next(&mut self) -> Option<usize> {
        if self.cancelled || self.halted {
            return None;
        }
        let steps = &self.plan.steps;
        let has_room = |index: &usize| match steps.get(*index).map(|step| &step.action) {
            Some(Action::AwaitCondition(_)) => true,
            _ if self.working >= self.limit => false,
            Some(Action::PullImage(_)) => self.pulls < PULLS_AT_ONCE,
            Some(Action::BuildImage(_)) => self.builds < BUILDS_AT_ONCE,
            _ => true,
        };
        let index = self.ready.iter().copied().find(|index| has_room(index))?;
        self.ready.remove(&index);
        Some(index)
    }

    /// Begins a step.
    fn begin<H: Host>(&mut self, index: usize, step: &'a Step, host: &'a H) -> Running<'a> {
        if !matches!(step.action, Action::AwaitCondition(_)) {
            self.working = self.working.saturating_add(1);
        }
        match &step.action {
            Action::PullImage(_) => self.pulls = self.pulls.saturating_add(1),
            Action::BuildImage(_) => self.builds = self.builds.saturating_add(1),
            _ => {}
        }
        if let Some(word) = words(step).begin {
            self.emit_all(step, &EventKind::Started(word));
        }
        let targets = self.resolve(&step.action);
        let work = async move {
            let targets = targets?;
            perform(&step.action, &targets, host).await
        };
        if !may_break_off(&step.action) {
            return Box::pin(async move { (index, Ok(work.await)) });
        }
        let (handle, registration) = AbortHandle::new_pair();
        self.breakable.insert(index, handle);
        let work = Abortable::new(work, registration);
        Box::pin(async move { (index, work.await) })
    }

    /// Finds the containers that an action names, in its order.
    fn resolve(&self, action: &Action) -> Result<Vec<ContainerId>, HostError> {
        let references: Vec<&ContainerRef> = match action {
            Action::CreateContainer(spec) => spec.network_of.iter().collect(),
            Action::RenameContainer { container, .. }
            | Action::StartContainer { container, .. } => vec![container],
            Action::AwaitCondition(wait) => wait.containers.iter().map(|(r, _)| r).collect(),
            Action::DisconnectContainer { container, .. }
            | Action::StopContainer { container, .. }
            | Action::RemoveContainer { container, .. } => return Ok(vec![container.clone()]),
            Action::PullImage(_)
            | Action::BuildImage(_)
            | Action::CreateNetwork(_)
            | Action::RemoveNetwork { .. }
            | Action::CreateVolume(_)
            | Action::RemoveVolume { .. } => Vec::new(),
        };
        let found = references.into_iter().map(|reference| match reference {
            ContainerRef::Existing(id) => Ok(id.clone()),
            ContainerRef::New(step) => {
                let id = self.made.get(step).cloned();
                id.ok_or_else(|| HostError::from(NotMade { step: *step }))
            }
        });
        found.collect()
    }

    /// Takes in how a step ended, and what follows from it.
    fn end(&mut self, index: usize, result: StepResult) {
        self.breakable.remove(&index);
        let plan = self.plan;
        let Some(step) = plan.steps.get(index) else {
            return;
        };
        if !matches!(step.action, Action::AwaitCondition(_)) {
            self.working = self.working.saturating_sub(1);
        }
        match &step.action {
            Action::PullImage(_) => self.pulls = self.pulls.saturating_sub(1),
            Action::BuildImage(_) => self.builds = self.builds.saturating_sub(1),
            _ => {}
        }
        let outcome = match result {
            Ok(Err(error)) if is_interruption(&error) => self.broken_off(index, step),
            Ok(Ok(made)) => {
                if let Some(id) = made {
                    self.made.insert(step.id, id);
                }
                if let Some(word) = words(step).end {
                    self.emit_all(step, &EventKind::Finished(word));
                }
                if matches!(step.action, Action::StartContainer { .. }) {
                    let started = self.resolve(&step.action).unwrap_or_default();
                    for id in &started {
                        self.events.runs(id);
                    }
                }
                self.events.step(step, &StepEnd::Done);
                Outcome::Succeeded
            }
            Ok(Err(error)) => {
                self.fail(step, error);
                Outcome::Failed
            }
            Err(Aborted) => self.broken_off(index, step),
        };
        self.settle(index, outcome);
        if outcome != Outcome::Succeeded {
            self.break_off_idle_waits();
        }
    }

    /// Notes that a step was not done to its end.
    fn broken_off(&mut self, index: usize, step: &Step) -> Outcome {
        self.broken_off |= !self.idle.contains(&index);
        if self.halted && !self.cancelled {
            self.emit_all(step, &EventKind::CutOff);
        }
        self.events.step(step, &StepEnd::Skipped);
        Outcome::Skipped
    }

    /// Breaks off the waits whose every follower will not be done any more: they might never end.
    fn break_off_idle_waits(&mut self) {
        for (index, handle) in &self.breakable {
            let is_wait = matches!(
                self.plan.steps.get(*index).map(|step| &step.action),
                Some(Action::AwaitCondition(_))
            );
            let followers = self.followers.get(*index).map_or(&[][..], Vec::as_slice);
            let is_needed = |follower: &usize| !self.is_doomed(*follower);
            // A wait without followers is `--wait` itself.
            if is_wait && !followers.is_empty() && !followers.iter().any(is_needed) {
                self.idle.insert(*index);
                handle.abort();
            }
        }
    }

    /// Whether a step will not be done, whatever it still waits for.
    fn is_doomed(&self, index: usize) -> bool {
        let after = self.plan.steps.get(index).map(|step| step.after.as_slice());
        let mut after = after.unwrap_or_default().iter();
        after.any(|after| {
            let outcome = index_of(after.step()).and_then(|i| self.outcomes.get(i).copied()?);
            match after {
                After::Success(_) => matches!(outcome, Some(Outcome::Failed | Outcome::Skipped)),
                After::Failure(_) | After::End(_) => false,
            }
        })
    }

    /// Reports a failure: an error, or a warning where the plan can do without the step.
    fn fail(&mut self, step: &Step, error: HostError) {
        let text = chain(error.as_ref());
        let followers = index_of(step.id).and_then(|index| self.followers.get(index));
        let mut followers = followers.into_iter().flatten();
        let has_fallback = followers.any(|follower| {
            let follower = self.plan.steps.get(*follower);
            follower.is_some_and(|f| f.after.contains(&After::Failure(step.id)))
        });
        let optional = matches!(&step.action, Action::AwaitCondition(wait) if !wait.required);
        if has_fallback || optional {
            self.emit_all(
                step,
                &EventKind::Warning(format!("{}: {text}", step.action)),
            );
            self.events.step(step, &StepEnd::Spared(text));
            return;
        }
        self.emit_all(step, &EventKind::Failed(text.clone()));
        self.events.step(step, &StepEnd::Failed(text));
        if matches!(step.action, Action::BuildImage(_)) {
            self.halt();
        }
        self.failures.push(StepFailure {
            step: step.id,
            attempted: step.action.to_string(),
            action: Box::new(step.action.clone()),
            source: error,
        });
    }

    /// Sets how a step ended; what waits for it becomes ready, or is skipped, which is an end as well.
    fn settle(&mut self, index: usize, outcome: Outcome) {
        let mut open = vec![(index, outcome)];
        while let Some((index, outcome)) = open.pop() {
            if let Some(slot) = self.outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
            for follower in self.followers.get(index).cloned().unwrap_or_default() {
                let Some(waits) = self.waits.get_mut(follower) else {
                    continue;
                };
                *waits = waits.saturating_sub(1);
                if *waits > 0 {
                    continue;
                }
                match self.turn(follower) {
                    None => {
                        self.ready.insert(follower);
                    }
                    Some(outcome) => {
                        self.tell_undone(follower, outcome);
                        open.push((follower, outcome));
                    }
                }
            }
        }
    }

    /// Tells of a step that ended without being done.
    fn tell_undone(&self, index: usize, outcome: Outcome) {
        let end = match outcome {
            Outcome::Succeeded => StepEnd::NotNeeded,
            Outcome::Failed | Outcome::Skipped => StepEnd::Skipped,
        };
        if let Some(step) = self.plan.steps.get(index) {
            self.events.step(step, &end);
        }
    }

    /// Returns how a step ends without being done, if it is not to be done; all it waits for has ended.
    fn turn(&self, index: usize) -> Option<Outcome> {
        let step = self.plan.steps.get(index)?;
        let ended = |step: StepId| index_of(step).and_then(|i| self.outcomes.get(i).copied()?);
        for after in &step.after {
            match (after, ended(after.step())) {
                (After::Success(_), Some(Outcome::Succeeded))
                | (After::Failure(_), Some(Outcome::Failed))
                | (After::End(_), _) => {}
                // Nothing has failed: what would make up for it is as good as done.
                (After::Failure(_), Some(Outcome::Succeeded)) => return Some(Outcome::Succeeded),
                (After::Success(_) | After::Failure(_), _) => return Some(Outcome::Skipped),
            }
        }
        None
    }

    /// Begins nothing new, breaks off what may be.
    fn cancel(&mut self) {
        self.cancelled = true;
        for handle in self.breakable.values() {
            handle.abort();
        }
    }

    /// Begins nothing new, breaks off pulls; whoever walks ends the builds.
    fn halt(&mut self) {
        self.halted = true;
        for (index, handle) in &self.breakable {
            let action = self.plan.steps.get(*index).map(|step| &step.action);
            if matches!(action, Some(Action::PullImage(_))) {
                handle.abort();
            }
        }
    }

    fn finish(self) -> Result<(), ApplyError> {
        let outcomes = self.outcomes.iter().enumerate();
        for (index, _) in outcomes.filter(|(_, outcome)| outcome.is_none()) {
            self.tell_undone(index, Outcome::Skipped);
        }
        let unfinished = self.outcomes.contains(&None) || self.broken_off;
        let is_interrupted = unfinished && (self.cancelled || !self.halted);
        let Self { failures, .. } = self;
        match (is_interrupted, failures.is_empty()) {
            (true, _) => Err(ApplyError::Interrupted { failures }),
            (false, false) => Err(ApplyError::Failed { failures }),
            (false, true) => Ok(()),
        }
    }

    /// Emits an event for everything that a step is done to.
    fn emit_all(&self, step: &Step, kind: &EventKind) {
        for resource in step.action.resources() {
            emit(self.events, &resource, kind.clone());
        }
    }
}

/// Does what an action says to the containers it names.
async fn perform<H: Host>(
    action: &Action,
    targets: &[ContainerId],
    host: &H,
) -> Result<Option<ContainerId>, HostError> {
    let target = || targets.first().ok_or(NoTarget);
    match action {
        Action::PullImage(pull) => host.pull_image(pull).await?,
        Action::BuildImage(build) => host.build_image(build).await?,
        Action::CreateNetwork(network) => host.create_network(network).await?,
        Action::RemoveNetwork { name } => host.remove_network(name).await?,
        Action::CreateVolume(volume) => host.create_volume(volume).await?,
        Action::RemoveVolume { name } => host.remove_volume(name).await?,
        Action::CreateContainer(spec) => {
            let made = host.create_container(spec, targets.first()).await?;
            return Ok(Some(made));
        }
        Action::RenameContainer { to, .. } => host.rename_container(target()?, to).await?,
        Action::DisconnectContainer { .. } => host.disconnect_container(target()?).await?,
        Action::StartContainer { .. } => host.start_container(target()?).await?,
        Action::StopContainer { timeout, .. } => host.stop_container(target()?, *timeout).await?,
        Action::RemoveContainer {
            anonymous_volumes, ..
        } => host.remove_container(target()?, *anonymous_volumes).await?,
        Action::AwaitCondition(wait) => {
            let met = host.await_condition(wait, targets);
            match wait.timeout {
                None => met.await?,
                Some(timeout) => tokio::time::timeout(timeout, met).await.map_err(|_| {
                    let seconds = timeout.as_secs_f64();
                    WaitedTooLong { seconds }
                })??,
            }
        }
    }
    Ok(None)
}

/// Whether a step ended because its host was interrupted.
fn is_interruption(error: &HostError) -> bool {
    let error = error.downcast_ref::<BuildError>();
    matches!(error, Some(BuildError::Interrupted))
}

/// Whether an interrupt may drop the future of an action: what it waits for goes on, or is taken up again, without it.
fn may_break_off(action: &Action) -> bool {
    match action {
        Action::PullImage(_) | Action::AwaitCondition(_) | Action::StopContainer { .. } => true,
        // A build ends by itself where it is interrupted, and keeps what is finished.
        Action::BuildImage(_)
        | Action::CreateNetwork(_)
        | Action::RemoveNetwork { .. }
        | Action::CreateVolume(_)
        | Action::RemoveVolume { .. }
        | Action::CreateContainer(_)
        | Action::RenameContainer { .. }
        | Action::DisconnectContainer { .. }
        | Action::StartContainer { .. }
        | Action::RemoveContainer { .. } => false,
    }
}

/// What is said when a step begins and when it ends well.
struct Words {
    begin: Option<&'static str>,
    end: Option<&'static str>,
}

/// Returns Docker Compose's words for a step.
fn words(step: &Step) -> Words {
    let (begin, end) = match &step.action {
        Action::PullImage(_) => ("Pulling", "Pulled"),
        Action::BuildImage(_) => ("Building", "Built"),
        Action::CreateNetwork(_) | Action::CreateVolume(_) | Action::CreateContainer(_) => {
            ("Creating", "Created")
        }
        Action::RemoveNetwork { .. }
        | Action::RemoveVolume { .. }
        | Action::RemoveContainer { .. } => ("Removing", "Removed"),
        Action::RenameContainer { .. } => ("Renaming", "Renamed"),
        Action::DisconnectContainer { .. } => ("Disconnecting", "Disconnected"),
        Action::StartContainer { .. } => ("Starting", "Started"),
        Action::AwaitCondition(wait) => match wait.condition {
            Awaited::Healthy | Awaited::RunningOrHealthy => ("Waiting", "Healthy"),
            Awaited::Completed => ("Waiting", "Exited"),
        },
        Action::StopContainer { .. } => ("Stopping", "Stopped"),
    };
    let (begin, end) = match step.part {
        Part::Whole => (Some(begin), Some(end)),
        Part::First => (Some("Recreate"), None),
        Part::Middle => (None, None),
        Part::Last => (None, Some("Recreated")),
    };
    Words { begin, end }
}

/// Returns the word for what is as it should be.
fn unchanged(resource: &Resource) -> &'static str {
    match resource {
        Resource::Container(_) => "Running",
        Resource::Network(_) | Resource::Volume(_) | Resource::Image(_) | Resource::Build(_) => {
            "Exists"
        }
    }
}

/// Emits one event.
fn emit(events: &dyn EventSink, resource: &Resource, kind: EventKind) {
    let subject = subject(resource);
    events.emit(Event { subject, kind });
}

/// Returns the index of a step in its plan.
fn index_of(step: StepId) -> Option<usize> {
    usize::try_from(step.0).ok()?.checked_sub(1)
}

/// Renders how many steps failed.
fn summary(failures: &[StepFailure]) -> String {
    match failures.len() {
        1 => "1 step failed".to_owned(),
        more => format!("{more} steps failed"),
    }
}
