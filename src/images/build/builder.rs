//! The build itself: goes through the plan, asks the cache, copies and runs what it does not have.
//!
//! A step's layer is made in a staging directory of the store and renamed into place when it is whole; its cache entry is written after
//! that. Whatever is killed in between is removed by the next command: nothing half is ever found by a key or a name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Instant;

use super::super::Images;
use super::super::dockerfile::instruction::{Dockerfile, Kind, Run};
use super::super::dockerfile::{Fault, Place, Span, parser};
use super::super::manifest::Platform;
use super::super::progress::{BlobState, Progress};
use super::super::reference::{Digest, Reference};
use super::super::store::layers::Measured;
use super::super::store::{Image, Staging, Store, StoreError};
use super::cache::{Cache, Key, Made};
use super::context::FileIndex;
use super::copy::{Filling, Owner};
use super::error::{BuildError, Excerpt, StepFailure};
use super::inputs::{canonical_context, dockerfile_error, given, read_dockerfile, read_ignore};
use super::pattern::IgnoreRules;
use super::plan::{self, Base, Inputs, Plan, PlannedStage, PlannedStep};
use super::stage::{Given, StageState};
use super::tree::Tree;
use super::{
    BuildEvent, BuildProgress, BuildRequest, Built, RunStep, StepLabel, StepRunner, owner, run,
};

/// Bytes of a layer's tar above which it is hashed beside the next step: what takes no longer than to start one.
const BESIDE_BYTES: u64 = 8 << 20;

impl Images {
    /// Builds an image, gives it the tags of the request, and returns it.
    ///
    /// Base images that the store lacks are pulled. A build with nothing changed writes nothing.
    pub async fn build(
        &self,
        request: &BuildRequest,
        runner: &dyn StepRunner,
        progress: &dyn BuildProgress,
    ) -> Result<Built, BuildError> {
        let (path, text) = read_dockerfile(request)?;
        let file = parser::parse(&path, &text)?;
        let given = given(&file, request)?;
        // Nothing that the cache names may vanish while the build goes on.
        let hold = self.store().hold()?;
        let ignore = read_ignore(request, &path)?;
        let cache = Cache::below(self.store().root());
        let context = canonical_context(request)?;
        let mut build = Build {
            images: self,
            request,
            runner,
            progress,
            index: FileIndex::open(&cache.files(), &context).map_err(BuildError::Cache)?,
            context: Tree::directory(&context),
            cache,
            ignore,
            given,
            bases: BTreeMap::new(),
            stages: BTreeMap::new(),
            pending: None,
            started: Instant::now(),
            cached: 0,
            ran: 0,
            file: &file,
        };
        let plan = build.plan().await?;
        let finished = build.go_through(&plan).await;
        // Hashes are worth keeping also where a later step failed.
        build.index.save().map_err(BuildError::Cache)?;
        let state = finished?;
        let image = build.put(state)?;
        drop(hold);
        Ok(Built {
            image,
            steps_cached: build.cached,
            steps_run: build.ran,
        })
    }
}

/// A build under way.
pub(super) struct Build<'a> {
    images: &'a Images,
    pub(super) request: &'a BuildRequest,
    runner: &'a dyn StepRunner,
    pub(super) progress: &'a dyn BuildProgress,
    file: &'a Dockerfile,
    pub(super) given: Given,
    cache: Cache,
    pub(super) context: Tree,
    pub(super) ignore: IgnoreRules,
    pub(super) index: FileIndex,
    /// By name and platform as written.
    bases: BTreeMap<(String, Option<String>), Image>,
    /// Stages that are done.
    pub(super) stages: BTreeMap<usize, StageState>,
    /// The last step's layer while it is hashed beside the next one.
    pending: Option<Pending>,
    started: Instant,
    cached: usize,
    ran: usize,
}

/// A layer whose digest is not known yet; its history is written already.
struct Pending {
    staging: Staging,
    measuring: JoinHandle<Result<Measured, StoreError>>,
    /// What it is remembered under.
    key: Option<String>,
    created: String,
}

impl Build<'_> {
    /// Plans; as long as that names base images that are not known yet, gets them and plans again with their triggers.
    async fn plan(&mut self) -> Result<Plan, BuildError> {
        loop {
            let mut triggers = BTreeMap::new();
            for ((name, _), image) in &self.bases {
                triggers.insert(name.clone(), image.config.config.on_build.clone());
            }
            let inputs = Inputs {
                globals: &self.given.globals,
                target: self.request.target.as_deref(),
                triggers: &triggers,
            };
            let plan = plan::plan(self.file, inputs).map_err(|faults| self.faults(faults))?;
            let unknown: Vec<&PlannedStage> = plan
                .stages
                .iter()
                .filter(|stage| match &stage.base {
                    Base::Image(name) => !self
                        .bases
                        .contains_key(&(name.clone(), stage.platform.clone())),
                    Base::Scratch | Base::Stage(_) => false,
                })
                .collect();
            if unknown.is_empty() {
                return Ok(plan);
            }
            for stage in unknown {
                if let Base::Image(name) = &stage.base {
                    let (span, text) = from_of(self.file, stage);
                    let got = self.image(name, stage.platform.as_deref()).await;
                    got.map_err(|source| self.failed(span, text, source))?;
                }
            }
        }
    }

    /// Builds every stage of the plan and returns the last.
    async fn go_through(&mut self, plan: &Plan) -> Result<StageState, BuildError> {
        let mut last = None;
        for stage in &plan.stages {
            let state = self.build_stage(stage, plan.stages.len() > 1).await?;
            self.stages.insert(stage.index, state.clone());
            last = Some(state);
        }
        last.ok_or_else(|| self.faults(vec![Fault::new(Span::default(), "nothing to build")]))
    }

    /// Builds one stage.
    async fn build_stage(
        &mut self,
        stage: &PlannedStage,
        several: bool,
    ) -> Result<StageState, BuildError> {
        let total = 1 + stage.steps.iter().filter(|step| step.makes_layer()).count();
        let (span, text) = from_of(self.file, stage);
        let label = |number: usize, text| StepLabel {
            number,
            total,
            stage: if several { &stage.name } else { "" },
            text,
        };
        let begun = Instant::now();
        self.progress.event(BuildEvent::Started(label(1, text)));
        let mut state = self
            .base_of(stage)
            .await
            .map_err(|source| self.failed(span, text, source))?;
        self.progress
            .event(BuildEvent::Done(label(1, text), begun.elapsed()));
        let mut number = 1;
        for step in &stage.steps {
            let instruction = &step.instruction;
            let done = if step.makes_layer() {
                number += 1;
                let shown = state.shown(&instruction.text);
                let label = StepLabel {
                    text: &shown,
                    ..label(number, "")
                };
                self.layer_step(&mut state, step, label).await
            } else {
                let applied = state.apply(&instruction.kind, &self.given);
                applied.map_err(StepFailure::from)
            };
            done.map_err(|source| self.failed(instruction.span, &instruction.text, source))?;
        }
        self.settle(&mut state)
            .map_err(|source| self.failed(span, text, source))?;
        Ok(state)
    }

    /// Returns the state a stage starts from.
    async fn base_of(&mut self, stage: &PlannedStage) -> Result<StageState, StepFailure> {
        Ok(match &stage.base {
            Base::Scratch => StageState::of_scratch(&self.request.platform),
            Base::Stage(index) => match self.stages.get(index) {
                Some(earlier) => StageState::of_stage(earlier),
                None => return Err(StepFailure::Invalid("its base stage was not built")),
            },
            Base::Image(name) => {
                let image = self.image(name, stage.platform.as_deref()).await?;
                StageState::of_image(image.config, image.layers)
            }
        })
    }

    /// Returns an image of the store, pulled if it is not there (or if the request says so); each once a build.
    pub(super) async fn image(
        &mut self,
        name: &str,
        platform: Option<&str>,
    ) -> Result<Image, StepFailure> {
        let key = (name.to_owned(), platform.map(str::to_owned));
        if let Some(image) = self.bases.get(&key) {
            return Ok(image.clone());
        }
        let reference = Reference::parse(name)?;
        let wanted = match platform {
            Some(platform) => Platform::parse(platform).map_err(|_| {
                StepFailure::Invalid("the platform must be os/architecture[/variant]")
            })?,
            None => self.request.platform.clone(),
        };
        let present = self.images.resolve(&reference)?;
        // A local image of another platform serves unless one is asked for by name, as with Docker.
        let fits = |image: &Image| platform.is_none() || image.config.platform() == wanted;
        let present = present.filter(|image| !self.request.pull && fits(image));
        let image = if let Some(image) = present {
            image
        } else {
            let heard = PullProgress {
                image: name,
                progress: self.progress,
            };
            self.images.pull(&reference, &wanted, &heard).await?
        };
        self.bases.insert(key, image.clone());
        Ok(image)
    }

    /// Does one step that makes a layer.
    async fn layer_step(
        &mut self,
        state: &mut StageState,
        step: &PlannedStep,
        label: StepLabel<'_>,
    ) -> Result<(), StepFailure> {
        let begun = Instant::now();
        if !matches!(step.instruction.kind, Kind::Run(_)) {
            self.settle(state)?;
        }
        let was_cached = match &step.instruction.kind {
            Kind::Run(run) => self.run_step(state, run, label).await?,
            Kind::Copy(transfer) => {
                let from = step.from.as_ref();
                self.transfer(state, transfer, from, label).await?
            }
            Kind::Add(transfer) => self.add(state, transfer, label)?,
            Kind::Workdir(path) => self.workdir(state, path, label)?,
            _ => return Ok(()),
        };
        match was_cached {
            Cached::Yes => {
                self.cached += 1;
                self.progress.event(BuildEvent::Cached(label));
            }
            Cached::No => {
                self.ran += 1;
                self.progress
                    .event(BuildEvent::Done(label, begun.elapsed()));
            }
        }
        Ok(())
    }

    /// Does a `RUN`.
    async fn run_step(
        &mut self,
        state: &mut StageState,
        run: &Run,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let args = state.arguments_of(&run::command_of(run));
        let by = state.history_of_run(&args);
        let env = state.run_environment();
        let (cwd, user) = (state.working_directory(), state.config.config.user.clone());
        let platform = state.config.platform().to_string();
        let key = |layers: &[Digest]| {
            let key = Key::new("run", layers).with_all(&args).with_all(&env);
            key.with(&cwd).with(&user).with(&platform).finish()
        };
        // Above a layer that is new, this step was never done.
        if self.pending.is_none() && self.take_cached(state, &key(&state.layers), &by)? {
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        let staging = self.store().staging()?;
        let mut layers = self.directories(&state.layers);
        if let Some(pending) = &self.pending {
            layers.insert(0, pending.staging.diff());
        }
        let points = staging.directory().join("mount-points");
        if run::make_mount_points(&staging.diff(), &points, &layers)? {
            layers.insert(0, points);
        }
        let step = RunStep {
            layers,
            upper: staging.diff(),
            work: staging.work(),
            args: args.clone(),
            env: [env.clone(), state.proxies(&self.given.arguments)].concat(),
            cwd: cwd.clone(),
            user: user.clone(),
        };
        let ran = self.run_command(&step, label).await;
        // What is below is kept also where this step failed.
        self.settle(state)?;
        ran?;
        let key = key(&state.layers);
        self.commit(state, staging, Some(key), by)?;
        Ok(Cached::No)
    }

    /// Runs the command of a `RUN`.
    async fn run_command(&self, step: &RunStep, label: StepLabel<'_>) -> Result<(), StepFailure> {
        let progress = self.progress;
        let mut hear = |line: &[u8]| progress.event(BuildEvent::Output(label, line));
        let mut lines = run::Lines::new(&mut hear);
        let exit_code = self
            .runner
            .run(step, &mut |piece| lines.take(piece))
            .await?;
        let tail = lines.finish();
        if exit_code == 0 {
            return Ok(());
        }
        self.progress.event(BuildEvent::Failed {
            step: label,
            exit_code,
            tail: &tail,
        });
        Err(StepFailure::Exit {
            command: step.args.join(" "),
            exit_code,
            tail,
        })
    }

    /// Does a `WORKDIR`: makes the directory, which belongs to the user of the stage.
    fn workdir(
        &mut self,
        state: &mut StageState,
        path: &str,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let directory = state.enter_directory(path, &self.given)?;
        let by = format!("WORKDIR {directory}");
        if directory == "/" {
            state.remember(by, true);
            return Ok(Cached::Yes);
        }
        let layers = self.directories(&state.layers);
        let user = state.config.config.user.as_str();
        let owner = match user {
            "" => Owner::ROOT,
            user => owner::find(user, &Tree::layers(layers.clone()))?,
        };
        let key = Key::new("workdir", &state.layers)
            .with(&directory)
            .with(&format!("{}:{}", owner.uid, owner.gid))
            .finish();
        if self.take_cached(state, &key, &by)? {
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        let staging = self.store().staging()?;
        let mut filling = Filling::new(&staging.diff(), &layers);
        filling.make_directory(Path::new(&directory), owner)?;
        filling.finish()?;
        self.commit(state, staging, Some(key), by)?;
        Ok(Cached::No)
    }

    /// Takes a step from the cache, if it has it and its layer is in the store.
    pub(super) fn take_cached(
        &self,
        state: &mut StageState,
        key: &str,
        by: &str,
    ) -> Result<bool, StepFailure> {
        if self.request.no_cache {
            return Ok(false);
        }
        let Some(made) = self.cache.get(key)? else {
            return Ok(false);
        };
        if self.store().layer(&made.layer)?.is_none() {
            return Ok(false);
        }
        state.add_layer(made.layer, made.created, by.to_owned());
        Ok(true)
    }

    /// Makes a layer of a staging directory, and remembers it under `key`. A large one is hashed beside the next step, and is the
    /// layer of the state once that is settled.
    pub(super) fn commit(
        &mut self,
        state: &mut StageState,
        staging: Staging,
        key: Option<String>,
        by: String,
    ) -> Result<(), StepFailure> {
        let now = self.request.started.checked_add(self.started.elapsed());
        let created = now.unwrap_or(self.request.started).to_string();
        state.created = Some(created.clone());
        state.remember(by, false);
        if let Some(measured) = Measured::within(&staging.diff(), BESIDE_BYTES)? {
            return self.place(state, staging, measured, key, created);
        }
        let diff = staging.diff();
        self.pending = Some(Pending {
            measuring: std::thread::spawn(move || Measured::of(&diff)),
            staging,
            key,
            created,
        });
        Ok(())
    }

    /// Waits for the digest of the last step's layer, if that is still being found out.
    pub(super) fn settle(&mut self, state: &mut StageState) -> Result<(), StepFailure> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let measured = pending.measuring.join();
        let measured = measured.map_err(|_| StepFailure::Invalid("its hashing panicked"))??;
        let Pending {
            staging,
            key,
            created,
            ..
        } = pending;
        self.place(state, staging, measured, key, created)
    }

    /// Moves a layer into the store and puts it on top of the state.
    fn place(
        &self,
        state: &mut StageState,
        staging: Staging,
        measured: Measured,
        key: Option<String>,
        created: String,
    ) -> Result<(), StepFailure> {
        let layer = self.store().commit_measured(staging, measured)?.diff_id;
        state.layers.push(layer.clone());
        if let Some(key) = key {
            self.cache.put(&key, &Made { layer, created })?;
        }
        Ok(())
    }

    /// Remembers the layer just added under another key too.
    pub(super) fn alias(&self, state: &StageState, key: &str) -> Result<(), StepFailure> {
        if let (Some(layer), Some(created)) = (state.layers.last(), &state.created) {
            let made = Made {
                layer: layer.clone(),
                created: created.clone(),
            };
            self.cache.put(key, &made)?;
        }
        Ok(())
    }

    /// Writes the image, unless its first name has the very same one, and gives it its names.
    fn put(&self, state: StageState) -> Result<Image, BuildError> {
        let (mut config, layers) = state.finish(&self.request.labels);
        config.rootfs.diff_ids.clone_from(&layers);
        let (mut image, mut missing) = (None, Vec::new());
        for tag in &self.request.tags {
            match self.store().resolve(tag)? {
                Some(known) if known.config == config && known.layers == layers => {
                    image.get_or_insert(known);
                }
                _ => missing.push(tag),
            }
        }
        Ok(match image {
            None => self.store().put_named(config, &layers, &missing)?,
            Some(image) => {
                for tag in missing {
                    self.store().tag(&image, tag)?;
                }
                image
            }
        })
    }

    /// Returns overlay lower directories, top first.
    pub(super) fn directories(&self, layers: &[Digest]) -> Vec<PathBuf> {
        self.store().layer_directories(layers)
    }

    /// Returns the store.
    pub(super) fn store(&self) -> &Store {
        self.images.store()
    }

    /// Says that an instruction failed.
    fn failed(&self, span: Span, step: &str, source: StepFailure) -> BuildError {
        BuildError::Step {
            at: Box::new(Excerpt {
                place: Place::of(self.file.path.clone(), &self.file.text, span.start),
                step: step.to_owned(),
                span,
                text: self.file.text.clone(),
            }),
            source: Box::new(source),
        }
    }

    /// Says what is wrong in the Dockerfile.
    fn faults(&self, faults: Vec<Fault>) -> BuildError {
        BuildError::Dockerfile(dockerfile_error(self.file, faults))
    }
}

/// Returns the `FROM` of a stage.
fn from_of<'d>(file: &'d Dockerfile, stage: &PlannedStage) -> (Span, &'d str) {
    let from = file.stages.get(stage.index);
    from.map_or((Span::default(), ""), |from| (from.span, &from.text))
}

/// Whether a step's result was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    Yes,
    No,
}

/// Hands on what a pull tells.
struct PullProgress<'a> {
    image: &'a str,
    progress: &'a dyn BuildProgress,
}

impl Progress for PullProgress<'_> {
    fn blob(&self, blob: &Digest, state: BlobState) {
        self.progress.event(BuildEvent::Pulling {
            image: self.image,
            blob,
            state,
        });
    }
}
