//! The build itself: goes through the plan, asks the cache, copies and runs what it does not have.
//!
//! A step's layer is made in a staging directory of the store and renamed into place when it is whole; its cache entry is written after
//! that. Whatever is killed in between is removed by the next command: nothing half is ever found by a key or a name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::Images;
use super::super::dockerfile::expand::{self, Variables};
use super::super::dockerfile::instruction::{Dockerfile, Kind, Run, Transfer};
use super::super::dockerfile::{DockerfileError, Fault, Place, Span, parser};
use super::super::manifest::Platform;
use super::super::progress::{BlobState, Progress};
use super::super::reference::{Digest, Reference};
use super::super::store::{Image, Staging, Store};
use super::archive;
use super::cache::{Cache, Key, Made};
use super::context::{self, FileIndex, Origin, Owners, Selected};
use super::copy::{Destination, Filling, Owner, Style};
use super::error::{BuildError, Excerpt, StepFailure};
use super::mode::ModeChange;
use super::pattern::IgnoreRules;
use super::plan::{self, Base, Inputs, Plan, PlannedStage, PlannedStep};
use super::stage::{Given, StageError, StageState};
use super::tree::{Last, Tree};
use super::{
    BuildEvent, BuildProgress, BuildRequest, Built, DockerfileSource, RunStep, StepLabel,
    StepRunner, owner, run,
};

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
struct Build<'a> {
    images: &'a Images,
    request: &'a BuildRequest,
    runner: &'a dyn StepRunner,
    progress: &'a dyn BuildProgress,
    file: &'a Dockerfile,
    given: Given,
    cache: Cache,
    context: Tree,
    ignore: IgnoreRules,
    index: FileIndex,
    /// By name and platform as written.
    bases: BTreeMap<(String, Option<String>), Image>,
    /// Stages that are done.
    stages: BTreeMap<usize, StageState>,
    started: Instant,
    cached: usize,
    ran: usize,
}

/// A `COPY` or `ADD` with everything expanded.
struct Expanded {
    sources: Vec<String>,
    documents: Vec<(String, String)>,
    destination: Destination,
    style: Style,
    /// Of the members of an archive; `None` leaves them their own.
    unpack_owner: Option<Owner>,
    exclude: IgnoreRules,
    /// How it looks in the history.
    by: String,
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
                let label = label(number, &instruction.text);
                self.layer_step(&mut state, step, label).await
            } else {
                let applied = state.apply(&instruction.kind, &self.given);
                applied.map_err(StepFailure::from)
            };
            done.map_err(|source| self.failed(instruction.span, &instruction.text, source))?;
        }
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
    async fn image(&mut self, name: &str, platform: Option<&str>) -> Result<Image, StepFailure> {
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
        let image = match present.filter(|image| !self.request.pull && fits(image)) {
            Some(image) => image,
            None => {
                let heard = PullProgress {
                    image: name,
                    progress: self.progress,
                };
                self.images.pull(&reference, &wanted, &heard).await?
            }
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
        let was_cached = match &step.instruction.kind {
            Kind::Run(run) => self.run_step(state, run, label).await?,
            Kind::Copy(transfer) => {
                let from = step.from.as_ref();
                self.transfer(state, transfer, from, label).await?
            }
            Kind::Add(transfer) => self.add(state, transfer, label).await?,
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
        let mut env = state.run_environment();
        let (cwd, user) = (state.working_directory(), state.config.config.user.clone());
        let key = Key::new("run", &state.layers)
            .with_all(&args)
            .with_all(&env)
            .with(&cwd)
            .with(&user)
            .with(&state.config.platform().to_string())
            .finish();
        if self.from_cache(state, &key, &by)? {
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        env.extend(state.proxies(&self.given.arguments));
        let staging = self.store().staging()?;
        let mut layers = self.directories(&state.layers);
        let points = staging.directory().join("mount-points");
        if run::make_mount_points(&staging.diff(), &points, &layers)? {
            layers.insert(0, points);
        }
        let step = RunStep {
            layers,
            upper: staging.diff(),
            work: staging.work(),
            args,
            env,
            cwd,
            user,
        };
        let progress = self.progress;
        let mut hear = |line: &[u8]| progress.event(BuildEvent::Output(label, line));
        let mut lines = run::Lines::new(&mut hear);
        let exit_code = self
            .runner
            .run(&step, &mut |piece| lines.take(piece))
            .await?;
        let tail = lines.finish();
        if exit_code != 0 {
            self.progress.event(BuildEvent::Failed {
                step: label,
                exit_code,
                tail: &tail,
            });
            return Err(StepFailure::Exit {
                command: step.args.join(" "),
                exit_code,
                tail,
            });
        }
        self.commit(state, staging, Some(&key), by)?;
        Ok(Cached::No)
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
        if self.from_cache(state, &key, &by)? {
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        let staging = self.store().staging()?;
        let mut filling = Filling::new(&staging.diff(), &layers);
        filling.make_directory(Path::new(&directory), owner)?;
        filling.finish()?;
        self.commit(state, staging, Some(&key), by)?;
        Ok(Cached::No)
    }

    /// Does a `COPY`.
    async fn transfer(
        &mut self,
        state: &mut StageState,
        transfer: &Transfer,
        from: Option<&Base>,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        if transfer.sources.iter().any(|source| is_remote(source)) {
            return Err(StepFailure::Invalid("a source can't be a URL for COPY"));
        }
        let expanded = self.expand(state, transfer, "COPY")?;
        let Some(from) = from else {
            let key = transfer_key("copy", state, transfer, &expanded);
            return self.copy_context(state, &expanded, key, label);
        };
        let layers = match from {
            Base::Scratch => Vec::new(),
            Base::Stage(index) => match self.stages.get(index) {
                Some(stage) => stage.layers.clone(),
                None => return Err(StepFailure::Invalid("its stage was not built")),
            },
            Base::Image(name) => self.image(name, None).await?.layers,
        };
        self.copy_layers(state, transfer, &expanded, &layers, label)
    }

    /// Does an `ADD`.
    async fn add(
        &mut self,
        state: &mut StageState,
        transfer: &Transfer,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let expanded = self.expand(state, transfer, "ADD")?;
        if let Some(remote) = expanded.sources.iter().find(|source| is_remote(source)) {
            return Err(StepFailure::NotSupported(format!("ADD of `{remote}`")));
        }
        let key = transfer_key("add", state, transfer, &expanded);
        self.copy_context(state, &expanded, key, label)
    }

    /// Copies from the context.
    fn copy_context(
        &mut self,
        state: &mut StageState,
        expanded: &Expanded,
        mut key: Key,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let origin = Origin {
            tree: &self.context,
            ignore: &self.ignore,
            name: "the build context",
        };
        let selected = select(&origin, expanded)?;
        context::hash_selected(key.hash(), &selected, Owners::Ignored, &mut self.index)?;
        let unpacks = label
            .text
            .get(..3)
            .is_some_and(|word| word.eq_ignore_ascii_case("add"));
        let key = key.finish();
        if self.from_cache(state, &key, &expanded.by)? {
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        let work = Copying {
            selected: &selected,
            expanded,
            unpacks,
        };
        let steady = self.fill(state, &work)?;
        let (staging, steady) = steady;
        self.commit(
            state,
            staging,
            steady.then_some(key.as_str()),
            expanded.by.clone(),
        )?;
        Ok(Cached::No)
    }

    /// Copies from layers. The layers themselves make a first key, so that nothing is read where they are the same; the content that
    /// is taken makes a second one, so that a stage that was built again to the same end changes nothing after it.
    fn copy_layers(
        &mut self,
        state: &mut StageState,
        transfer: &Transfer,
        expanded: &Expanded,
        from: &[Digest],
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let from_hexes: Vec<&str> = from.iter().map(Digest::hex).collect();
        let first = transfer_key("copy layers", state, transfer, expanded)
            .with_all(&from_hexes)
            .finish();
        if self.from_cache(state, &first, &expanded.by)? {
            return Ok(Cached::Yes);
        }
        let tree = Tree::layers(self.directories(from));
        let name = format!("`{}`", transfer.from.as_deref().unwrap_or_default());
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: &name,
        };
        let selected = select(&origin, expanded)?;
        let mut second = transfer_key("copy content", state, transfer, expanded);
        let mut unknown = FileIndex::none();
        context::hash_selected(second.hash(), &selected, Owners::Counted, &mut unknown)?;
        let second = second.finish();
        if self.from_cache(state, &second, &expanded.by)? {
            self.alias(state, &first)?;
            return Ok(Cached::Yes);
        }
        self.progress.event(BuildEvent::Started(label));
        let work = Copying {
            selected: &selected,
            expanded,
            unpacks: false,
        };
        let (staging, _) = self.fill(state, &work)?;
        self.commit(state, staging, Some(&second), expanded.by.clone())?;
        self.alias(state, &first)?;
        Ok(Cached::No)
    }

    /// Copies into a new staging directory; returns it, and whether every file held still meanwhile.
    fn fill(&self, state: &StageState, work: &Copying<'_>) -> Result<(Staging, bool), StepFailure> {
        let staging = self.store().staging()?;
        let layers = self.directories(&state.layers);
        let Expanded {
            destination,
            style,
            unpack_owner,
            ..
        } = work.expanded;
        // A name that several files would get one after the other is a mistake.
        let files = work.selected.iter().filter(|source| {
            let first = source.entries.first();
            first.is_some_and(|entry| !entry.metadata.is_dir())
        });
        if files.count() + work.expanded.documents.len() > 1 && !destination.is_directory {
            let resolved = Tree::layers(layers.clone()).resolve(&destination.path, Last::Follow)?;
            if !resolved.node.is_some_and(|node| node.metadata.is_dir()) {
                let path = destination.path.display().to_string();
                return Err(StepFailure::Destination(path));
            }
        }
        let mut filling = Filling::new(&staging.diff(), &layers);
        for source in work.selected {
            if !(work.unpacks && unpack(&mut filling, source, destination, *unpack_owner)?) {
                filling.copy(source, destination, style)?;
            }
        }
        for (name, content) in &work.expanded.documents {
            filling.document(name, content, destination, style)?;
        }
        filling.finish()?;
        for path in &filling.unsteady {
            let text = format!("`{}` changed while it was copied", path.display());
            self.progress.event(BuildEvent::Warning(&text));
        }
        let steady = filling.unsteady.is_empty();
        Ok((staging, steady))
    }

    /// Expands a `COPY` or `ADD`.
    fn expand(
        &self,
        state: &StageState,
        transfer: &Transfer,
        keyword: &str,
    ) -> Result<Expanded, StepFailure> {
        let variables = state.variables();
        let expand = |text: &String| {
            expand::expand(text, self.given.escape, &variables).map_err(StageError::from)
        };
        let sources = transfer.sources.iter().map(expand);
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let destination = expand(&transfer.destination)?;
        let chown = transfer.chown.as_ref().map(expand).transpose()?;
        let chmod = transfer.chmod.as_ref().map(expand).transpose()?;
        let mut documents = Vec::new();
        for document in &transfer.documents {
            let content = document.content();
            let content = if document.expand {
                expand::expand_heredoc(&content, &variables).map_err(StageError::from)?
            } else {
                content
            };
            documents.push((document.name.clone(), content));
        }
        let chosen = match &chown {
            None => None,
            Some(text) => {
                let tree = Tree::layers(self.directories(&state.layers));
                Some(owner::find(text, &tree)?)
            }
        };
        // Files of the context become root's; those of a stage keep their owner.
        let usual = transfer.from.is_none().then_some(Owner::ROOT);
        let owner = chosen.or(usual);
        let mode = match &chmod {
            None => None,
            Some(text) => {
                let change = ModeChange::parse(text);
                Some(change.ok_or_else(|| StepFailure::Mode(text.clone()))?)
            }
        };
        let flags = [
            ("chown", &chown),
            ("chmod", &chmod),
            ("from", &transfer.from),
        ];
        let flags = flags.iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("--{name}={value} "))
        });
        let flags: String = flags.collect();
        let words: Vec<&str> = sources.iter().map(String::as_str).collect();
        let heredocs: Vec<String> = documents.iter().map(|(n, _)| format!("<<{n}")).collect();
        let heredocs: Vec<&str> = heredocs.iter().map(String::as_str).collect();
        let words = [heredocs, words, vec![destination.as_str()]]
            .concat()
            .join(" ");
        Ok(Expanded {
            by: format!("{keyword} {flags}{words} # buildkit"),
            destination: state.destination(&destination),
            exclude: IgnoreRules::of(transfer.exclude.iter().map(String::as_str))?,
            style: Style { owner, mode },
            unpack_owner: chosen,
            sources,
            documents,
        })
    }

    /// Takes a step from the cache, if it has it and its layer is in the store.
    fn from_cache(&self, state: &mut StageState, key: &str, by: &str) -> Result<bool, StepFailure> {
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

    /// Makes a layer of a staging directory, and remembers it under `key`.
    fn commit(
        &self,
        state: &mut StageState,
        staging: Staging,
        key: Option<&str>,
        by: String,
    ) -> Result<(), StepFailure> {
        let record = self.store().commit_layer(staging)?;
        let now = self.request.started.checked_add(self.started.elapsed());
        let created = now.unwrap_or(self.request.started).to_string();
        let made = Made {
            layer: record.diff_id,
            created,
        };
        if let Some(key) = key {
            self.cache.put(key, &made)?;
        }
        state.add_layer(made.layer, made.created, by);
        Ok(())
    }

    /// Remembers the layer just added under another key too.
    fn alias(&self, state: &StageState, key: &str) -> Result<(), StepFailure> {
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
        let same = |image: &Image| image.config == config && image.layers == layers;
        let mut image = None;
        for tag in &self.request.tags {
            image = self.store().resolve(tag)?.filter(same).or(image);
        }
        let image = match image {
            Some(image) => image,
            None => self.store().put_image(config, &layers)?,
        };
        for tag in &self.request.tags {
            let known = self.store().resolve(tag)?;
            if known.is_none_or(|known| known.manifest != image.manifest) {
                self.store().tag(&image, tag)?;
            }
        }
        Ok(image)
    }

    /// Returns overlay lower directories, top first.
    fn directories(&self, layers: &[Digest]) -> Vec<PathBuf> {
        self.store().layer_directories(layers)
    }

    /// Returns the store.
    fn store(&self) -> &Store {
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
            source,
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
enum Cached {
    Yes,
    No,
}

/// What is copied.
struct Copying<'a> {
    selected: &'a [Selected],
    expanded: &'a Expanded,
    /// Whether archives are unpacked.
    unpacks: bool,
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

/// Finds every source.
fn select(origin: &Origin<'_>, expanded: &Expanded) -> Result<Vec<Selected>, StepFailure> {
    let mut selected = Vec::new();
    for source in &expanded.sources {
        selected.extend(origin.select(source, &expanded.exclude)?);
    }
    Ok(selected)
}

/// Starts the key of a `COPY` or `ADD` with all but the files.
fn transfer_key(kind: &str, state: &StageState, transfer: &Transfer, expanded: &Expanded) -> Key {
    let Style { owner, mode } = &expanded.style;
    let mut key = Key::new(kind, &state.layers)
        .with(&expanded.destination.path.to_string_lossy())
        .with(if expanded.destination.is_directory {
            "/"
        } else {
            ""
        })
        .with(&format!(
            "{owner:?} {mode:?} {}",
            expanded.unpack_owner.is_some()
        ))
        .with_all(&transfer.exclude)
        .with_all(&expanded.sources);
    for (name, content) in &expanded.documents {
        key = key.with(name).with(content);
    }
    key
}

/// Unpacks a source that is an archive; returns whether it is one.
fn unpack(
    filling: &mut Filling,
    source: &Selected,
    destination: &Destination,
    owner: Option<Owner>,
) -> Result<bool, StepFailure> {
    let Some(entry) = source.entries.first().filter(|e| e.metadata.is_file()) else {
        return Ok(false);
    };
    let kind = archive::kind_of(&entry.host)?;
    if let archive::Kind::Unreadable(compression) = kind {
        let name = source.name.display();
        let what = format!("ADD of the {compression} archive `{name}`");
        return Err(StepFailure::NotSupported(what));
    }
    let Some(reader) = archive::open(&entry.host, kind)? else {
        return Ok(false);
    };
    filling.unpack(reader, destination, owner)?;
    Ok(true)
}

/// Returns whether a source lies elsewhere than in the context.
fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "ftp://"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}

/// Returns the context, without links.
fn canonical_context(request: &BuildRequest) -> Result<PathBuf, BuildError> {
    let wrong = |source| BuildError::Context {
        path: request.context.clone(),
        source,
    };
    let path = fs_err::canonicalize(&request.context).map_err(wrong)?;
    if !fs_err::metadata(&path).map_err(wrong)?.is_dir() {
        return Err(wrong(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    Ok(path)
}

/// Reads the Dockerfile; returns its path as messages show it, and its text.
fn read_dockerfile(request: &BuildRequest) -> Result<(PathBuf, String), BuildError> {
    let path = match &request.dockerfile {
        DockerfileSource::Inline(text) => {
            return Ok((PathBuf::from("dockerfile_inline"), text.clone()));
        }
        DockerfileSource::Path(path) => request.context.join(path),
    };
    let error = match fs_err::read_to_string(&path) {
        Ok(text) => return Ok((path, text)),
        Err(error) => error,
    };
    // The name in lower case serves where the usual one is asked for and is not there.
    if error.kind() == io::ErrorKind::NotFound && path.file_name() == Some("Dockerfile".as_ref()) {
        let lower = path.with_file_name("dockerfile");
        if let Ok(text) = fs_err::read_to_string(&lower) {
            return Ok((lower, text));
        }
    }
    Err(BuildError::Read {
        path,
        source: error,
    })
}

/// Reads the ignore rules: those beside the Dockerfile and named after it, else those of the context.
fn read_ignore(request: &BuildRequest, dockerfile: &Path) -> Result<IgnoreRules, BuildError> {
    let mut places = vec![request.context.join(".dockerignore")];
    if matches!(request.dockerfile, DockerfileSource::Path(_)) {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        places.insert(0, PathBuf::from(own));
    }
    for path in places {
        match fs_err::read(&path) {
            Ok(bytes) => {
                return IgnoreRules::parse(&String::from_utf8_lossy(&bytes))
                    .map_err(|source| BuildError::Ignore { path, source });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BuildError::Read { path, source }),
        }
    }
    Ok(IgnoreRules::default())
}

/// Brings together what is given from outside.
fn given(file: &Dockerfile, request: &BuildRequest) -> Result<Given, BuildError> {
    let arguments: Variables = request
        .args
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    let automatic = automatic_variables(request);
    let globals = plan::global_variables(file, &automatic, &arguments)
        .map_err(|faults| dockerfile_error(file, faults))?;
    Ok(Given {
        arguments,
        globals,
        escape: file.escape,
    })
}

/// Returns the arguments that every build has (Dockerfile reference, "Automatic platform ARGs").
fn automatic_variables(request: &BuildRequest) -> Variables {
    let mut variables = Variables::new();
    let host = Platform::host();
    for (prefix, platform) in [("TARGET", &request.platform), ("BUILD", &host)] {
        let variant = platform.variant.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            variables.insert(format!("{prefix}{name}"), value);
        }
    }
    let target = request.target.clone();
    let target = target.unwrap_or_else(|| "default".to_owned());
    variables.insert("TARGETSTAGE".to_owned(), target);
    variables
}

/// Returns faults with what is needed to draw them.
fn dockerfile_error(file: &Dockerfile, faults: Vec<Fault>) -> DockerfileError {
    DockerfileError {
        path: file.path.clone(),
        text: file.text.clone(),
        faults,
    }
}
