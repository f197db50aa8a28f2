//! The images of containers that are about to be made: fetched, kept from removal, and looked at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Engine;
use crate::engine::cancel::Cancel;
use crate::engine::commands::warn;
use crate::engine::error::EngineError;
use crate::engine::event::EventSink;
use crate::engine::linux::LinuxHost;
use crate::engine::project::ProjectLock;
use crate::images::{BegunUse, Digest, Image};
use crate::plan::action::Action;
use crate::plan::error::PlanError;
use crate::plan::observed::Observed;
use crate::plan::options::UpOptions;
use crate::plan::{self, Plan};
use crate::runtime::status::Container;
use crate::spec::model::Stack;

/// How often an `up` begins again because what it was to use was removed meanwhile.
const RETRIES: u32 = 5;

/// The images of a plan, by id. Until this is dropped nobody removes them.
#[derive(Debug, Default)]
pub(crate) struct UsedImages {
    images: BTreeMap<String, Image>,
    kept: Vec<BegunUse>,
}

impl UsedImages {
    /// Returns the image of that id.
    pub(crate) fn get(&self, id: &str) -> Option<&Image> {
        self.images.get(id)
    }
}

/// What an `up` is to do once its images are there.
pub(super) struct Wanted {
    pub(super) observed: Observed,
    pub(super) containers: Plan,
    pub(super) used: UsedImages,
}

impl Engine {
    /// Fetches what images are missing and plans the containers. Where an image is removed before it can be kept, all over.
    /// `known` are all containers, where they were just listed.
    pub(super) async fn plan_with_images(
        &self,
        stack: &Stack,
        mut known: Option<Vec<Container>>,
        options: &UpOptions,
        (lock, events): (&ProjectLock, &dyn EventSink),
        cancel: &Cancel,
    ) -> Result<Wanted, EngineError> {
        let references = plan::images::references(stack);
        let mut retries = RETRIES;
        loop {
            let mut observed = match known.take() {
                Some(known) => self.observe_of(&known, &stack.name, &references)?,
                None => self.observe(&stack.name, &references)?,
            };
            let images = plan::images::images(stack, &observed, options)?;
            if !images.is_empty() {
                warn(&stack.name, &images, events);
                let host = LinuxHost::new(self, Some(stack), events, lock);
                self.run(&images, &host, events, cancel).await?;
                let before = std::mem::take(&mut observed.images);
                observed = self.observe(&stack.name, &references)?;
                let after = observed.images.iter();
                let changed = after.filter(|(reference, id)| before.get(*reference) != Some(*id));
                events.images(&changed.map(|(reference, _)| reference.clone()).collect());
            }
            let planned = plan::containers::containers(stack, &observed, options);
            let mut containers = match planned {
                // It was here a moment ago.
                Err(PlanError::Image { .. }) if retries > 0 && !images.is_empty() => {
                    retries -= 1;
                    continue;
                }
                planned => planned?,
            };
            if options.prune_networks {
                plan::prune::networks(&mut containers, stack, &observed);
            }
            match self.use_images(&containers)? {
                Some(used) => {
                    return Ok(Wanted {
                        observed,
                        containers,
                        used,
                    });
                }
                None if retries > 0 => retries -= 1,
                None => return Err(EngineError::ImagesGone),
            }
        }
    }

    /// Keeps the images of which `plan` makes containers from removal; `None` where one is gone already, so that the plan is
    /// no longer right. Held until the containers are recorded, which then keep them.
    fn use_images(&self, plan: &Plan) -> Result<Option<UsedImages>, EngineError> {
        let ids: BTreeSet<&str> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::CreateContainer(spec) => Some(spec.image_id.as_str()),
                _ => None,
            })
            .collect();
        let mut used = UsedImages::default();
        for id in ids {
            // In order, though nobody who removes images would wait.
            if let Ok(digest) = Digest::parse(id) {
                used.kept.push(self.images.begin_use(&digest)?);
            }
            let Some(image) = self.images.find_id(id)? else {
                return Ok(None);
            };
            used.images.insert(id.to_owned(), image);
        }
        Ok(Some(used))
    }
}
