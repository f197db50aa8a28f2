//! What stages begin with: images of the store, of registries, of named contexts. A plan needs to know them, for their triggers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;

use futures_util::future::try_join_all;

use super::super::archive::load::load_layout;
use super::super::dockerfile::instruction::Instruction;
use super::super::error::ImageError;
use super::super::manifest::Platform;
use super::super::progress::{BlobState, Progress};
use super::super::reference::{Digest, Reference};
use super::super::registry::error::chain;
use super::super::store::{Image, suits};
use super::builder::{Build, from_of};
use super::contexts::NamedContext;
use super::error::{BuildError, StepFailure};
use super::mounts::copy_into;
use super::pattern::IgnoreRules;
use super::plan::{self, Base, Inputs, Plan, PlannedStage};
use super::resolve::{self, Resolved};
use super::stage::StageState;
use super::{BuildEvent, BuildProgress};

/// A plan whose bases are known.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The steps of each stage.
    pub(super) resolved: Vec<Vec<Resolved>>,
}

impl Build<'_> {
    /// Plans; as long as that names base images that are not known yet, gets them and plans again with their triggers. Fails with
    /// everything that is wrong with a step and can be known now: what does not depend on an image, before that is pulled.
    pub(super) async fn plan(&self) -> Result<Planned, BuildError> {
        loop {
            let (mut triggers, mut known) = (BTreeMap::new(), Vec::new());
            for (base, image) in &*self.bases.borrow() {
                if let Some(image) = image.get() {
                    triggers.insert(base.clone(), image.config.config.on_build.clone());
                    known.push(base.clone());
                }
            }
            let inputs = Inputs {
                globals: &self.given.globals,
                target: self.request.target.as_deref(),
                triggers: &triggers,
                contexts: &self.context_names,
            };
            let plan = plan::plan(self.file, inputs).map_err(|error| self.unplanned(error))?;
            let base_of = |stage: &PlannedStage| self.known_base(stage);
            let resolved = resolve::resolve(&plan, self.file, &self.given, &base_of);
            let unknown: Vec<&PlannedStage> = plan
                .stages
                .iter()
                .filter(|stage| match &stage.base {
                    Base::Image(name) | Base::Context(name) => {
                        !known.contains(&(name.clone(), stage.platform.clone()))
                    }
                    Base::Scratch | Base::Stage(_) => false,
                })
                .collect();
            // With what is here already, everything that is wrong can be told at once.
            let needs_pull = || !unknown.iter().all(|stage| self.is_at_hand(stage));
            let resolved = match resolved {
                Err(faults) if unknown.is_empty() || needs_pull() => {
                    return Err(self.faults(faults));
                }
                resolved => resolved.unwrap_or_default(),
            };
            if unknown.is_empty() {
                return Ok(Planned { plan, resolved });
            }
            // All at once; the first that cannot be had ends the others.
            let gotten = unknown.into_iter().map(|stage| self.get_base(stage));
            try_join_all(gotten).await?;
        }
    }

    /// Returns the state that a stage starts from which is built on no other one; `None` where its image is not known yet.
    fn known_base(&self, stage: &PlannedStage) -> Option<StageState> {
        if stage.base == Base::Scratch {
            return Some(StageState::of_scratch(&self.request.platform));
        }
        let image = self.base_image(stage)?;
        Some(StageState::of_image(image.config, image.layers))
    }

    /// Whether the image that a stage begins with is had without a pull or a copy.
    fn is_at_hand(&self, stage: &PlannedStage) -> bool {
        let (Base::Image(name) | Base::Context(name)) = &stage.base else {
            return true;
        };
        let reference = match self.request.contexts.get(name) {
            None => Reference::parse(name).ok(),
            Some(NamedContext::Image(reference)) => Some(reference.clone()),
            Some(_) => None,
        };
        let platform = stage.platform.as_deref();
        let (Some(reference), Ok(wanted)) = (reference, self.wanted(platform)) else {
            return false;
        };
        let present = self.store().resolve_for(&reference, &wanted);
        let present = present.ok().flatten();
        !self.request.pull && present.is_some_and(|image| fits(&image, platform, &wanted))
    }

    /// Returns the platform that a base is to be for.
    fn wanted(&self, platform: Option<&str>) -> Result<Platform, StepFailure> {
        let Some(platform) = platform else {
            return Ok(self.request.platform.clone());
        };
        Platform::parse(platform).map_err(|_| {
            StepFailure::Invalid("the platform must be os/architecture[/variant], like linux/arm64")
        })
    }

    /// Gets the images that steps take files from and that are none's base, from the beginning on and not only when the step comes: what
    /// cannot be had is told while others still go on. Never ends where there is nothing to fail.
    pub(super) async fn get_others(&self, plan: &Plan) -> Result<Infallible, BuildError> {
        let mut wanted: BTreeMap<&str, &Instruction> = BTreeMap::new();
        for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
            for base in step.from.iter().chain(step.mounts.iter().flatten()) {
                if let Base::Image(name) = base {
                    wanted.entry(name).or_insert(&step.instruction);
                }
            }
        }
        let gotten = wanted.into_iter().map(|(name, instruction)| async move {
            let got = self.image(name, None).await;
            got.map(drop)
                .map_err(|source| self.failed(instruction.span, &instruction.text, source))
        });
        try_join_all(gotten).await?;
        std::future::pending().await
    }

    /// Gets the image that a stage begins with.
    async fn get_base(&self, stage: &PlannedStage) -> Result<(), BuildError> {
        let (Base::Image(name) | Base::Context(name)) = &stage.base else {
            return Ok(());
        };
        let (span, text) = from_of(self.file, stage);
        let got = self.image(name, stage.platform.as_deref()).await;
        got.map(drop)
            .map_err(|source| self.failed(span, text, source))
    }

    /// Returns the state a stage starts from that is built on no other one.
    pub(super) async fn base_of(
        &self,
        base: &Base,
        platform: Option<&str>,
    ) -> Result<StageState, StepFailure> {
        Ok(match base {
            Base::Scratch => StageState::of_scratch(&self.request.platform),
            Base::Stage(_) => return Err(StepFailure::Invalid("its base stage was not built")),
            Base::Image(name) | Base::Context(name) => {
                let image = self.image(name, platform).await?;
                StageState::of_image(image.config, image.layers)
            }
        })
    }

    /// Returns an image of the store, pulled if it is not there (or if the request says so); each once a build.
    pub(super) async fn image(
        &self,
        name: &str,
        platform: Option<&str>,
    ) -> Result<Image, StepFailure> {
        let key = (name.to_owned(), platform.map(str::to_owned));
        let cell = Rc::clone(self.bases.borrow_mut().entry(key).or_default());
        let image = cell
            .get_or_try_init(|| self.find_image(name, platform))
            .await?;
        Ok(image.clone())
    }

    /// Finds or pulls an image.
    async fn find_image(&self, name: &str, platform: Option<&str>) -> Result<Image, StepFailure> {
        let wanted = self.wanted(platform)?;
        let reference = match self.request.contexts.get(name) {
            Some(NamedContext::Image(reference)) => reference.clone(),
            Some(NamedContext::Directory(_) | NamedContext::Remote(_)) => {
                return self.image_of_directory(name).await;
            }
            Some(NamedContext::Layout(layout)) => {
                let (store, layout) = (self.images.shared_store(), layout.clone());
                let loaded = self
                    .aside
                    .run(move |_| load_layout(&store, &layout, &wanted));
                return Ok(loaded.await?.map_err(ImageError::from)?);
            }
            None => Reference::parse(name)?,
        };
        let present = self.store().resolve_for(&reference, &wanted)?;
        let fitting = present.as_ref();
        if let Some(image) = fitting.filter(|image| fits(image, platform, &wanted))
            && !self.request.pull
        {
            return Ok(image.clone());
        }
        let heard = PullProgress {
            image: name,
            progress: self.progress,
        };
        // What the name stands for on this machine stays.
        let pulled = if wanted == Platform::host() {
            self.images.pull(&reference, &wanted, &heard).await
        } else {
            self.images.pull_beside(&reference, &wanted, &heard).await
        };
        match (pulled, present) {
            // One of another platform serves unless this one is asked for by name, or the image is to be for another than this machine.
            (Err(error), Some(image)) if !self.request.pull && platform.is_none() => {
                let found = image.config.platform().to_string();
                if self.request.is_several() || wanted != Platform::host() {
                    return Err(StepFailure::OtherPlatform {
                        image: name.to_owned(),
                        found,
                        wanted: wanted.to_string(),
                        source: Box::new(error),
                    });
                }
                let text = format!(
                    "base image `{name}` is used as it is here, for {found}: it could not be pulled for {wanted}: {}",
                    chain(&error)
                );
                self.progress.event(BuildEvent::Warning(&text));
                Ok(image)
            }
            (pulled, _) => Ok(pulled?),
        }
    }

    /// Makes an image of a named context that is a directory: a layer, and nothing else.
    async fn image_of_directory(&self, name: &str) -> Result<Image, StepFailure> {
        let missing = StepFailure::Invalid("its context was not given");
        let local = self.directory_context(name).await?.ok_or(missing)?;
        let store = self.images.shared_store();
        let made = self.aside.run(move |stop| {
            let origin = local.origin(stop);
            let selected = origin.take_path(Path::new(""), &IgnoreRules::default())?;
            let staging = store.staging()?;
            let changed = copy_into(&selected, &staging.diff(), stop)?;
            // What was copied is what counts from here on: the layer's own digest.
            Ok::<_, StepFailure>((store.commit_layer(staging)?.diff_id, changed))
        });
        let (layer, changed) = made.await??;
        self.warn_of_changes(&changed);
        let config = StageState::of_scratch(&self.request.platform).config;
        Ok(self.store().put_image(config, &[layer])?)
    }

    /// Returns the image that a stage starts from, once it is known.
    pub(super) fn base_image(&self, stage: &PlannedStage) -> Option<Image> {
        let (Base::Image(name) | Base::Context(name)) = &stage.base else {
            return None;
        };
        let key = (name.clone(), stage.platform.clone());
        self.bases.borrow().get(&key)?.get().cloned()
    }
}

/// Whether an image of the store serves: one for the platform that is named, or one that runs on that of the build.
fn fits(image: &Image, named: Option<&str>, wanted: &Platform) -> bool {
    match named {
        Some(_) => image.config.platform() == *wanted,
        None => suits(image, wanted),
    }
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
