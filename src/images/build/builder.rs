//! The build itself: goes through the plan, asks the cache, copies and runs what it does not have.
//!
//! A step's layer is made in a staging directory of the store and renamed into place when it is whole; its cache entry is written after
//! that. Whatever is killed in between is removed by the next command: nothing half is ever found by a key or a name.
//!
//! ```text
//! builder   what a whole build has: this file        graph    the stages, all at once
//! work      one stage: its steps, cache, layers      execute  RUN          transfer  COPY and ADD
//! aside     threads for what takes long              keep     the end of a step: layer and cache entry
//! bases     the images that stages begin with
//! ```
//!
//! All stages go on in one thread, which only ever waits; what reads, hashes or writes files goes on in others. The first failure drops
//! every other stage, and an interrupt ([`Session::interrupt`]) all of them: what a stage does in a thread is given up then, a container is
//! killed when its future is dropped, and what is finished is kept nevertheless.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use super::super::Images;
use super::super::dockerfile::instruction::Dockerfile;
use super::super::dockerfile::{Fault, Place, Span, parser};
use super::super::manifest::ImageConfig;
use super::super::reference::Digest;
use super::super::registry::transport::Transport;
use super::super::store::{Image, LayerLock, Store};
use super::annotation::{self, AnnotationPlace};
use super::aside::Aside;
use super::assemble::{self, Part};
use super::attest::{Attestation, Material};
use super::budget;
use super::cache::{Cache, FinishedKey, Made};
use super::contexts::{ContextCopy, Local, Spooled};
use super::error::{BuildError, Excerpt, StepFailure};
use super::exchange::Foreign;
use super::explain::{self, StepPlace};
use super::inputs::{
    self, canonical_context, dockerfile_error, given, read_dockerfile, read_ignore,
};
use super::label::Merged;
use super::pattern::IgnoreRules;
use super::plan::BaseName;
use super::plan::PlannedStage;
use super::session::Session;
use super::stage::{Given, StageState};
use super::{BuildEvent, BuildProgress, BuildRequest, Built, StepLabel, StepRunner};

impl Images {
    /// Builds an image, or one for each platform that the request lists, gives it the tags of the request, and returns it.
    ///
    /// Base images that the store lacks are pulled. A build with nothing changed writes nothing.
    pub async fn build(
        &self,
        request: &BuildRequest,
        session: &Session,
        runner: &dyn StepRunner,
        progress: &dyn BuildProgress,
    ) -> Result<Built, BuildError> {
        let requests = request.for_each_platform();
        let opened: Vec<Opened<'_>> = requests
            .iter()
            .map(Opened::read)
            .collect::<Result<_, _>>()?;
        // Nothing that the cache names may vanish while the build goes on.
        let hold = self.store().hold()?;
        let merged = Merged::new(progress);
        let progress: &dyn BuildProgress = if requests.len() > 1 {
            &merged
        } else {
            progress
        };
        let builds = opened
            .iter()
            .map(|opened| Build::new(self, opened, session, (runner, progress)));
        let builds: Vec<Build<'_>> = builds.collect::<Result<_, _>>()?;
        let running = builds.iter().map(|build| Box::pin(build.run()));
        let running = try_join_all(running);
        let finished = session.unless_interrupted(running).await;
        runner.finish();
        for build in &builds {
            // What nobody waits for any more ends, and what is finished is kept.
            build.aside.end().await;
            // Hashes are worth keeping also where a later step failed; without them the next build only takes longer.
            build.warn_unless_done(
                "keep the hashes of the context's files",
                build.save_indexes(),
            );
        }
        let built = put_all(&builds, finished?)?;
        if request.is_stored {
            progress.event(BuildEvent::Stored(built.id(), &request.tags));
        }
        if let Some((first, others)) = builds.split_first() {
            first.take_uses(others);
            let layers = built.layers();
            let written = first.write_caches(&layers);
            session.unless_interrupted(written).await?;
        }
        drop(hold);
        if let Some(first) = builds.first()
            && built.steps_run > 0
        {
            let done = self.apply_budget(request.started);
            let done = done.map_err(std::io::Error::other);
            first.warn_unless_done("keep the build cache within its budget", done);
        }
        Ok(built)
    }
}

/// Writes what builds made: an image, or an index where there are several or something is attested.
fn put_all(builds: &[Build<'_>], states: Vec<StageState>) -> Result<Built, BuildError> {
    let first = builds.first().ok_or(BuildError::NoPlatform)?;
    let mut parts = Vec::new();
    for (build, state) in builds.iter().zip(states) {
        let (image, attestations) = if first.request.makes_index() {
            (build.make(state)?, build.attestations()?)
        } else {
            (build.put(state)?, Vec::new())
        };
        parts.push(Part {
            platform: build.request.platform.clone(),
            image,
            attestations,
        });
    }
    let own = assemble::own(&parts).ok_or(BuildError::NoPlatform)?;
    let image = own.image.clone();
    let target = if first.request.makes_index() {
        first.put_index(&parts)?
    } else {
        first.store().descriptor(&image)?
    };
    Ok(Built {
        image,
        target,
        images: parts.into_iter().map(|p| (p.platform, p.image)).collect(),
        steps_cached: builds.iter().map(|build| build.cached.get()).sum(),
        steps_run: builds.iter().map(|build| build.ran.get()).sum(),
    })
}

/// What a build begins with.
pub(super) struct Opened<'a> {
    request: &'a BuildRequest,
    /// Where the Dockerfile is.
    path: PathBuf,
    pub(super) file: Dockerfile,
    pub(super) given: Given,
}

impl<'a> Opened<'a> {
    /// Reads and parses the Dockerfile.
    pub(super) fn read(request: &'a BuildRequest) -> Result<Self, BuildError> {
        let (path, text) = read_dockerfile(request)?;
        let frontend = request.args.get("BUILDKIT_SYNTAX");
        let frontend = frontend.and_then(Option::as_deref);
        let file = parser::parse_for(&inputs::shown(request, &path), &text, frontend)?;
        Ok(Self {
            given: given(&file, request)?,
            request,
            path,
            file,
        })
    }
}

/// A build under way.
pub(super) struct Build<'a> {
    pub(super) images: &'a Images,
    pub(super) request: &'a BuildRequest,
    pub(super) session: &'a Session,
    pub(super) runner: &'a dyn StepRunner,
    pub(super) progress: &'a dyn BuildProgress,
    pub(super) file: &'a Dockerfile,
    /// Where it is.
    dockerfile: &'a Path,
    pub(super) given: Given,
    /// Nothing in the image is younger (`SOURCE_DATE_EPOCH`).
    pub(super) epoch: Option<jiff::Timestamp>,
    pub(super) cache: Cache,
    pub(super) context: Arc<Local>,
    /// Named contexts that were opened.
    pub(super) locals: RefCell<BTreeMap<String, Arc<Local>>>,
    /// Named contexts that are elsewhere, by name.
    pub(super) fetches: RefCell<BTreeMap<String, Rc<OnceCell<Spooled>>>>,
    /// Parts of contexts as steps see them, by their digest.
    pub(super) copies: RefCell<BTreeMap<String, Rc<OnceCell<Rc<ContextCopy>>>>>,
    /// The names of all named contexts.
    pub(super) context_names: BTreeSet<String>,
    /// By name and platform as written; each is got once.
    pub(super) bases: RefCell<BTreeMap<BaseName, Rc<OnceCell<Image>>>>,
    /// What else the build took from elsewhere, for whoever asks where the image is from.
    pub(super) materials: RefCell<Vec<Material>>,
    /// What a scanner found in the image.
    pub(super) bills: RefCell<Vec<Attestation>>,
    /// Caches of elsewhere, once they were looked at.
    pub(super) foreign: OnceCell<Vec<Foreign>>,
    /// What steps made that were done or found, by their keys.
    pub(super) used: RefCell<BTreeMap<String, Made>>,
    /// What goes on in threads.
    pub(super) aside: Aside,
    started: Instant,
    cached: Cell<usize>,
    ran: Cell<usize>,
}

impl<'a> Build<'a> {
    /// Opens the context.
    pub(super) fn new(
        images: &'a Images,
        opened: &'a Opened<'a>,
        session: &'a Session,
        (runner, progress): (&'a dyn StepRunner, &'a dyn BuildProgress),
    ) -> Result<Self, BuildError> {
        let Opened {
            request,
            path,
            file,
            given,
        } = opened;
        let ignore = if request.is_local {
            read_ignore(request, path)?
        } else {
            IgnoreRules::default()
        };
        let cache = Cache::below(images.store().root());
        let context = canonical_context(request)?;
        Ok(Self {
            images,
            request,
            session,
            runner,
            progress,
            context: Arc::new(Local::open(
                request.is_local.then_some(&cache),
                &context,
                ignore,
                "the build context",
            )?),
            locals: RefCell::default(),
            fetches: RefCell::default(),
            copies: RefCell::default(),
            context_names: request.contexts.keys().cloned().collect(),
            cache,
            epoch: epoch_of(given)?,
            given: given.clone(),
            bases: RefCell::default(),
            materials: RefCell::default(),
            bills: RefCell::default(),
            foreign: OnceCell::new(),
            used: RefCell::default(),
            aside: Aside::default(),
            started: Instant::now(),
            cached: Cell::new(0),
            ran: Cell::new(0),
            file,
            dockerfile: path,
        })
    }
}

impl Build<'_> {
    /// Does what there is to do; returns the last stage.
    async fn run(&self) -> Result<StageState, BuildError> {
        self.look_for_contexts()?;
        let planned = self.plan().await?;
        self.check(&planned.plan)?;
        self.refuse(&planned.plan)?;
        self.look_for_sources(&planned).await?;
        self.foreign.get_or_init(|| self.read_foreign()).await;
        let state = tokio::select! {
            biased;
            state = self.go_through(&planned) => state?,
            failed = self.get_others(&planned.plan) => match failed? {},
        };
        let bills = self.bills(&state.layers).await?;
        self.bills.replace(bills);
        Ok(state)
    }

    /// Takes what steps of other builds made as its own, where the cache is to be brought elsewhere.
    fn take_uses(&self, others: &[Self]) {
        let mut used = self.used.borrow_mut();
        for other in others {
            used.append(&mut other.used.borrow_mut());
        }
    }

    /// Whether what is in the cache must not be used for a stage.
    pub(super) fn skips_cache(&self, stage: &PlannedStage) -> bool {
        let mut filter = self.request.no_cache_filter.iter();
        self.request.no_cache || filter.any(|name| name.eq_ignore_ascii_case(&stage.name))
    }

    /// Warns where something failed that the image does not depend on.
    fn warn_unless_done(&self, what: &str, done: std::io::Result<()>) {
        if let Err(error) = done {
            let text = format!("could not {what}: {error}");
            self.progress.event(BuildEvent::Warning(&text));
        }
    }

    /// Warns of files that were not what they had been when they were hashed.
    pub(super) fn warn_of_changes(&self, changed: &[PathBuf]) {
        for path in changed {
            let text = format!("`{}` changed while the build went on", path.display());
            self.progress.event(BuildEvent::Warning(&text));
        }
    }

    /// Keeps what is known of the files of contexts.
    fn save_indexes(&self) -> std::io::Result<()> {
        let save = |local: &Local| {
            local.index.save()?;
            if let Some(file) = local.index.file() {
                budget::note_use(file, self.request.started);
            }
            Ok(())
        };
        save(&self.context)?;
        let locals = self.locals.borrow();
        locals.values().try_for_each(|local| save(local))
    }

    /// Takes the right to do the step of a key, if nobody does it.
    pub(super) fn try_lock(&self, key: &FinishedKey) -> Result<Option<LayerLock>, StepFailure> {
        Ok(self.store().try_lock_step(&key.hex)?)
    }

    /// Notes what a step made, where the cache is to be brought elsewhere.
    pub(super) fn note_use(&self, key: &str, made: &Made) {
        if self.request.cache_to.is_empty() && !self.request.is_inline() {
            return;
        }
        let mut used = self.used.borrow_mut();
        if let Some(other) = self.cache.other_key(key) {
            used.insert(other, made.clone());
        }
        used.insert(key.to_owned(), made.clone());
    }

    /// Says why a step is not in the cache, where that was asked for.
    pub(super) fn tell_why(
        &self,
        place: (&PlannedStage, usize),
        label: StepLabel<'_>,
        key: &FinishedKey,
    ) -> Result<(), StepFailure> {
        if !self.request.explain {
            return Ok(());
        }
        let why = if self.skips_cache(place.0) {
            "the cache is not to be used".to_owned()
        } else {
            explain::explain(&self.reasons(place), key)?
        };
        self.progress.event(BuildEvent::Explained(label, &why));
        Ok(())
    }

    /// Returns where is remembered what a step of a stage was done with.
    pub(super) fn reasons(&self, (stage, number): (&PlannedStage, usize)) -> PathBuf {
        let place = StepPlace {
            context: &self.request.context,
            dockerfile: self.dockerfile,
            stage: &stage.name,
            number,
        };
        place.file(&self.cache.reasons())
    }

    /// Counts a step that was in the cache.
    pub(super) fn count_cached(&self) {
        self.cached.set(self.cached.get() + 1);
    }

    /// Counts a step that was done.
    pub(super) fn count_run(&self) {
        self.ran.set(self.ran.get() + 1);
    }

    /// Returns the time that new layers are dated with, RFC 3339.
    pub(super) fn now(&self) -> String {
        let time = self.epoch.unwrap_or_else(|| self.finished());
        time.to_string()
    }

    /// Returns the time.
    pub(super) fn finished(&self) -> jiff::Timestamp {
        let now = self.request.started.checked_add(self.started.elapsed());
        now.unwrap_or(self.request.started)
    }

    /// Returns the configuration of the image, and its layers.
    fn configured(&self, mut state: StageState) -> (ImageConfig, Vec<Digest>) {
        if let Some(epoch) = self.epoch {
            state.created = Some(epoch.to_string());
        }
        let (mut config, layers) = state.finish(&self.request.labels);
        config.rootfs.diff_ids.clone_from(&layers);
        self.add_inline(&mut config, &layers);
        (config, layers)
    }

    /// Writes the image, which nothing knows yet.
    fn make(&self, state: StageState) -> Result<Image, BuildError> {
        let (config, layers) = self.configured(state);
        let annotations = self.annotations(AnnotationPlace::Manifest);
        Ok(self.store().make_annotated(config, &layers, annotations)?)
    }

    /// Returns what is to be said at a place, of the image for this build's platform.
    pub(super) fn annotations(&self, place: AnnotationPlace) -> BTreeMap<String, String> {
        annotation::said(
            &self.request.annotations,
            place,
            Some(&self.request.platform),
        )
    }

    /// Writes the image, unless its first name has the very same one, and gives it its names.
    fn put(&self, state: StageState) -> Result<Image, BuildError> {
        if !self.request.is_stored {
            return self.make(state);
        }
        let (config, layers) = self.configured(state);
        let annotations = self.annotations(AnnotationPlace::Manifest);
        let (mut image, mut missing) = (None, Vec::new());
        for tag in &self.request.tags {
            match self.store().find_known(&tag.to_string())? {
                Some(known)
                    if known.members.is_empty()
                        && known.image.config == config
                        && known.image.layers == layers
                        && self.store().annotations(&known.image)? == annotations =>
                {
                    image.get_or_insert(known.image);
                }
                _ => missing.push(tag),
            }
        }
        Ok(match image {
            None => {
                let image = (config, layers.as_slice(), annotations);
                self.store().put_annotated(image, &missing)?
            }
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

    /// Returns who carries requests.
    pub(super) fn transport(&self) -> &dyn Transport {
        &self.images.http
    }

    /// Returns the store.
    pub(super) fn store(&self) -> &Store {
        self.images.store()
    }

    /// Says that an instruction failed.
    pub(super) fn failed(&self, span: Span, step: &str, source: StepFailure) -> BuildError {
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
    pub(super) fn faults(&self, faults: Vec<Fault>) -> BuildError {
        BuildError::Dockerfile(dockerfile_error(self.file, faults))
    }
}

/// Reads `SOURCE_DATE_EPOCH`, an argument or the default that the Dockerfile gives it (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn epoch_of(given: &Given) -> Result<Option<jiff::Timestamp>, BuildError> {
    let name = "SOURCE_DATE_EPOCH";
    let text = given
        .arguments
        .get(name)
        .or_else(|| given.globals.get(name));
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.parse().ok().filter(|seconds: &i64| *seconds >= 0);
    let epoch = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    epoch
        .map(Some)
        .ok_or_else(|| BuildError::Epoch(text.clone()))
}

/// Returns the `FROM` of a stage.
pub(super) fn from_of<'d>(file: &'d Dockerfile, stage: &PlannedStage) -> (Span, &'d str) {
    let from = file.stages.get(stage.index);
    from.map_or((Span::default(), ""), |from| (from.span, &from.text))
}
