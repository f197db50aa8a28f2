//! One stage under way: its steps one after the other, each from the cache or done.
//!
//! # Locks
//!
//! Who does a step holds a lock on its key until its layer and its entry in the cache are there, so that two builds that want the same
//! share it: the second waits and finds it done. A layer that is hashed beside the next step ([`super::keep`]) keeps its lock meanwhile, and
//! then until the lock of that is held. Nobody ever *waits*, for a lock or for another stage, while holding one: [`StageWork::settle`]
//! comes first. So there is no circle to wait in.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::beside::with_store;
use super::super::dockerfile::instruction::Kind;
use super::super::reference::Digest;
use super::super::store::{LayerLock, Staging, Store};
use super::builder::Build;
use super::cache::{FinishedKey, Key, Made};
use super::copy::{Filling, Owner};
use super::error::StepFailure;
use super::graph::Ends;
use super::keep::{Claim, Finished, Kept, Pending, Placed};
use super::plan::{Base, PlannedStage, PlannedStep};
use super::resolve::Resolved;
use super::stage::StageState;
use super::tree::Tree;
use super::{BuildEvent, BuildProgress, StepLabel, owner};

/// A stage under way.
pub(super) struct StageWork<'b, 'a> {
    pub(super) build: &'b Build<'a>,
    pub(super) ends: &'b Ends,
    pub(super) stage: &'b PlannedStage,
    pub(super) state: StageState,
    /// The last step's layer while it is hashed beside the next one.
    pub(super) pending: Option<Pending>,
    /// Whether labels name the stage: not where the build has but one.
    several: bool,
    /// How many steps it has that are shown, and which one it is at.
    total: usize,
    number: usize,
    /// When the step at hand began, if it is being done.
    begun: Instant,
}

/// Whether a step's result was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    Yes,
    No,
}

/// What was found under a key.
pub(super) enum Found {
    /// The step's layer, which is on top of the stage now.
    Layer,
    /// Nothing: the step is to be done.
    Nothing(Claim),
}

impl<'b, 'a> StageWork<'b, 'a> {
    /// Starts from the stage's base.
    pub(super) async fn begin(
        build: &'b Build<'a>,
        stage: &'b PlannedStage,
        several: bool,
        ends: &'b Ends,
    ) -> Result<Self, StepFailure> {
        let shown_name = build.stage_label(stage, several, None);
        let (_, text) = super::builder::from_of(build.file, stage);
        let label = StepLabel {
            number: 1,
            total: 1 + stage.steps.iter().filter(|step| step.makes_layer()).count(),
            stage: &shown_name,
            stage_index: stage.index,
            text,
        };
        let state = match &stage.base {
            Base::Stage(index) => StageState::of_stage(ends.go_on(*index).await?),
            base => {
                let begun = Instant::now();
                build.progress.event(BuildEvent::Started(label));
                let cut_off = CutOff::new(build.progress, label);
                let state = build.base_of(base, stage.platform.as_deref()).await;
                let state = cut_off.ended(state)?;
                build
                    .progress
                    .event(BuildEvent::Done(label, begun.elapsed()));
                state
            }
        };
        Ok(Self {
            build,
            ends,
            stage,
            state,
            pending: None,
            several,
            total: label.total,
            number: 1,
            begun: Instant::now(),
        })
    }

    /// Does the next step.
    pub(super) async fn step(
        &mut self,
        step: &PlannedStep,
        resolved: &Resolved,
    ) -> Result<(), StepFailure> {
        if !step.makes_layer() {
            let kind = &step.instruction.kind;
            return Ok(self.state.apply(kind, &self.build.given)?);
        }
        self.number += 1;
        let shown = self.state.shown(&step.instruction.text);
        let state = Some(&self.state);
        let shown_name = self.build.stage_label(self.stage, self.several, state);
        let label = StepLabel {
            number: self.number,
            total: self.total,
            stage: &shown_name,
            stage_index: self.stage.index,
            text: &shown,
        };
        if !matches!(step.instruction.kind, Kind::Run(_)) {
            self.settle().await?;
        }
        let progress = self.build.progress;
        let cut_off = CutOff::new(progress, label);
        let done = match (&step.instruction.kind, resolved) {
            (Kind::Run(run), Resolved::Run(resolved)) => {
                self.run((run, resolved), step, label).await
            }
            (Kind::Copy(transfer), Resolved::Transfer(expanded)) => {
                let from = step.from.as_ref();
                self.copy((transfer, expanded), from, label).await
            }
            (Kind::Add(transfer), Resolved::Transfer(expanded)) => {
                self.add((transfer, expanded), label).await
            }
            (Kind::Workdir(path), _) => self.workdir(path, label).await,
            _ => Err(StepFailure::Invalid("it is not what was planned")),
        };
        match cut_off.ended(done)? {
            Cached::Yes => {
                self.build.count_cached();
                progress.event(BuildEvent::Cached(label));
            }
            Cached::No => {
                self.build.count_run();
                progress.event(BuildEvent::Done(label, self.begun.elapsed()));
            }
        }
        Ok(())
    }

    /// Says that a step begins, which is neither in the cache nor done by somebody else.
    pub(super) fn start(&mut self, label: StepLabel<'_>) {
        self.begun = Instant::now();
        self.build.progress.event(BuildEvent::Started(label));
    }

    /// Ends the stage.
    pub(super) async fn finish(mut self) -> Result<StageState, StepFailure> {
        self.settle().await?;
        Ok(self.state)
    }

    /// Does a `WORKDIR`: makes the directory, which belongs to the user of the stage.
    async fn workdir(&mut self, path: &str, label: StepLabel<'_>) -> Result<Cached, StepFailure> {
        let directory = self.state.enter_directory(path, &self.build.given)?;
        let by = format!("WORKDIR {directory}");
        if directory == "/" {
            self.state.remember(by, true);
            return Ok(Cached::Yes);
        }
        let directory = self.state.working_directory();
        let layers = self.directories();
        let user = self.state.config.config.user.as_str();
        let owner = match user {
            "" => Owner::ROOT,
            user => owner::find(user, &Tree::layers(layers.clone()))?,
        };
        let key = self
            .key("workdir")
            .with("directory", &directory)
            .with("owner", &format!("{}:{}", owner.uid, owner.gid))
            .finish();
        if self.take(&key.hex, &by).await? || self.take_by_history(&key.hex, &by).await? {
            return Ok(Cached::Yes);
        }
        let claim = match self.find(key, &by, label).await? {
            Found::Layer => return Ok(Cached::Yes),
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let staging = self.build.store().staging()?;
        let mut filling = Filling::new(&staging.diff(), &layers);
        filling.make_directory(Path::new(&directory), owner)?;
        filling.finish()?;
        self.commit(staging, claim, by).await?;
        Ok(Cached::No)
    }

    /// Begins the key of a step above the layers so far.
    pub(super) fn key(&self, kind: &'static str) -> Key {
        self.key_above(kind, &self.state.layers)
    }

    /// Begins the key of a step above `layers`.
    pub(super) fn key_above(&self, kind: &'static str, layers: &[Digest]) -> Key {
        let key = Key::new(kind, layers);
        match self.build.epoch {
            Some(epoch) => key.with("SOURCE_DATE_EPOCH", &epoch.to_string()),
            None => key,
        }
    }

    /// Takes a step from the cache, if it has it and its layer is in the store; else takes the right to do it, and waits for whoever
    /// does it now. No lock may be held.
    pub(super) async fn find(
        &mut self,
        key: FinishedKey,
        by: &str,
        label: StepLabel<'_>,
    ) -> Result<Found, StepFailure> {
        if self.take(&key.hex, by).await? {
            return Ok(Found::Layer);
        }
        let mut lock = self.build.try_lock(&key)?;
        let was_waited_for = lock.is_none();
        if was_waited_for {
            let store = self.build.store();
            let waiting = BuildEvent::Waiting(label, store.step_holder(&key.hex));
            self.build.progress.event(waiting);
            lock = Some(wait_for_lock(store, &key).await?);
        }
        // Between the look and the lock it may have been done.
        if (was_waited_for || !self.build.skips_cache(self.stage))
            && self.take_made(&key.hex, by).await?
        {
            return Ok(Found::Layer);
        }
        let place = (self.stage, self.number);
        self.build.tell_why(place, label, &key)?;
        let key = Some(key);
        Ok(Found::Nothing(Claim { key, lock }))
    }

    /// Takes a step from the cache, unless this stage must not use it.
    pub(super) async fn take(&mut self, key: &str, by: &str) -> Result<bool, StepFailure> {
        if self.build.skips_cache(self.stage) && !self.build.session.has_made(key) {
            return Ok(false);
        }
        self.take_made(key, by).await
    }

    /// Takes a step from the cache.
    async fn take_made(&mut self, key: &str, by: &str) -> Result<bool, StepFailure> {
        let build = self.build;
        let mut known = build.cache.get(key)?;
        if let Some(made) = &known
            && build.store().layer(&made.layer)?.is_none()
        {
            known = None;
        }
        let Some(made) = (match known {
            Some(made) => Some(made),
            None => build.fetch_step(key).await?,
        }) else {
            return Ok(false);
        };
        build.cache.note_use(key, build.request.started);
        build.note_use(key, &made);
        self.state
            .add_layer(made.layer, made.created, by.to_owned());
        Ok(true)
    }

    /// Makes a layer of a staging directory, and remembers it. A large one is hashed beside the next step, and is the layer of the
    /// state once that is settled.
    pub(super) async fn commit(
        &mut self,
        staging: Staging,
        claim: Claim,
        by: String,
    ) -> Result<(), StepFailure> {
        let build = self.build;
        let created = build.now();
        let finished = Finished {
            store: build.images.shared_store(),
            cache: build.cache.clone(),
            reasons: build.reasons((self.stage, self.number)),
            staging,
            claim,
            created: created.clone(),
            epoch: build.epoch,
        };
        let kept = finished.keep(&build.aside).await?;
        self.state.created = Some(created);
        self.state.remember(by, false);
        match kept {
            Kept::Placed(placed) => drop(self.put_on_top(placed)),
            Kept::Pending(pending) => self.pending = Some(pending),
        }
        Ok(())
    }

    /// Waits for the digest of the last step's layer, if that is still being found out.
    pub(super) async fn settle(&mut self) -> Result<(), StepFailure> {
        self.settle_keeping().await.map(drop)
    }

    /// As [`StageWork::settle`], and returns the lock that the step held.
    pub(super) async fn settle_keeping(&mut self) -> Result<Option<LayerLock>, StepFailure> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(None);
        };
        pending.release();
        let placed = pending.placed().await?;
        Ok(self.put_on_top(placed))
    }

    /// Puts a layer on top of the state; returns the lock of its step.
    pub(super) fn put_on_top(&mut self, placed: Placed) -> Option<LayerLock> {
        let Placed {
            layer,
            key,
            lock,
            reserved,
            ..
        } = placed;
        if let Some(path) = reserved {
            let text = format!(
                "`/{}`: whoever pulls or loads the image takes a name that begins with `.wh.` for the deletion of another file",
                path.display()
            );
            self.build.progress.event(BuildEvent::Warning(&text));
        }
        if let (Some(key), Some(created)) = (key, &self.state.created) {
            let created = created.clone();
            let layer = layer.clone();
            self.build.note_use(&key, &Made { layer, created });
            self.build.session.add(&key);
        }
        self.state.layers.push(layer);
        lock
    }

    /// Takes a step from an image that says what its steps did and not what their keys were; the step must depend on nothing else.
    pub(super) async fn take_by_history(
        &mut self,
        key: &str,
        by: &str,
    ) -> Result<bool, StepFailure> {
        let build = self.build;
        if build.skips_cache(self.stage) || build.epoch.is_some() {
            return Ok(false);
        }
        let Some(made) = build.fetch_step_after(&self.state, by, key).await? else {
            return Ok(false);
        };
        build.note_use(key, &made);
        self.state
            .add_layer(made.layer, made.created, by.to_owned());
        Ok(true)
    }

    /// Remembers the layer just added, whose key is `other`, under another one too.
    pub(super) fn alias(&self, key: &FinishedKey, other: &str) -> Result<(), StepFailure> {
        if let (Some(layer), Some(created)) = (self.state.layers.last(), &self.state.created) {
            let made = Made {
                layer: layer.clone(),
                created: created.clone(),
            };
            self.build.cache.put_alias(&key.hex, &made, other)?;
            self.build.note_use(&key.hex, &made);
        }
        Ok(())
    }

    /// Returns the overlay lower directories of the stage so far, top first; not of a layer that is still being hashed.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.build.directories(&self.state.layers)
    }

    /// Returns the layers of an earlier stage, an image or nothing, once they are there. No lock may be held.
    pub(super) async fn layers_of(&self, base: &Base) -> Result<Vec<Digest>, StepFailure> {
        Ok(match base {
            Base::Scratch => Vec::new(),
            Base::Stage(index) => self.ends.wait(*index).await?.layers.clone(),
            Base::Image(name) | Base::Context(name) => self.build.image(name, None).await?.layers,
        })
    }
}

/// Tells of a step that is dropped before its end, because something else failed or the build was interrupted.
struct CutOff<'a> {
    progress: &'a dyn BuildProgress,
    /// Until it has ended.
    label: Option<StepLabel<'a>>,
}

impl<'a> CutOff<'a> {
    fn new(progress: &'a dyn BuildProgress, label: StepLabel<'a>) -> Self {
        Self {
            progress,
            label: Some(label),
        }
    }

    /// Hears of its end, and tells where that is a failure that nothing was told of yet.
    fn ended<T>(mut self, result: Result<T, StepFailure>) -> Result<T, StepFailure> {
        if let (Some(label), Err(error)) = (self.label.take(), &result)
            && !matches!(error, StepFailure::Exit { .. })
        {
            let why = error.to_string();
            self.progress.event(BuildEvent::Broke(label, &why));
        }
        result
    }
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        if let Some(label) = self.label {
            self.progress.event(BuildEvent::CutOff(label));
        }
    }
}

/// Waits until nobody does the step of that key any more.
async fn wait_for_lock(store: &Store, key: &FinishedKey) -> Result<LayerLock, StepFailure> {
    let name = key.hex.clone();
    Ok(with_store(store, move |store| store.lock_step(&name)).await?)
}
