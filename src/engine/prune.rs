//! What of an instance nothing needs, and its removal: `system prune`.
//!
//! ```text
//! containers, networks   under the lock of their project
//! volumes                with the instance alone: nobody makes a container meanwhile
//! build cache            while no layer is made
//! images                 each alone: see [`crate::engine::using`]
//! ```
//!
//! Everything is tried: what fails is told at the end, with all that was removed.

use std::collections::BTreeSet;

use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::event::EventSink;
use crate::engine::host::Host;
use crate::engine::linux::LinuxHost;
use crate::engine::store::Pruned;
use crate::engine::system::{runs, tree_bytes, volumes_of};
use crate::engine::{Engine, INSTANCE_LOCK, chain, volume_error};
use crate::images::filter::{Filter, label_fits};
use crate::plan::action::AnonymousVolumes;
use crate::plan::naming;
use crate::plan::observed::ContainerId;
use crate::runtime::status::Container;
use crate::spec::names::ProjectName;
use crate::sys::atomic::Durability;
use crate::sys::lock::{Lock, Mode};

/// Label of a volume that nobody named, as Docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What a `system prune` is to remove beside stopped containers, unused networks and the build cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneOptions {
    /// All images that no container was made of, not only those without a name.
    pub all: bool,
    /// Anonymous volumes that no container mounts.
    pub volumes: bool,
    /// Of everything only what fits all of these; what a filter cannot be asked of stays.
    pub filters: Vec<Filter>,
}

/// What a `system prune` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemPruned {
    /// Ids.
    pub containers: Vec<String>,
    /// Names.
    pub networks: Vec<String>,
    /// Names.
    pub volumes: Vec<String>,
    /// Images, and the bytes of all.
    pub images: Pruned,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

impl SystemPruned {
    /// Takes the value of what went well; notes why something did not.
    fn note<T, E: std::error::Error>(&mut self, done: Result<T, E>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                self.failures.push(chain(&error));
                None
            }
        }
    }
}

impl Engine {
    /// Removes what nothing needs: containers that do not run, networks without containers, images, the build cache, and with
    /// `volumes` anonymous volumes. Goes on past what cannot be removed and tells it.
    pub async fn prune(&self, options: &PruneOptions, events: &dyn EventSink) -> SystemPruned {
        let mut pruned = SystemPruned::default();
        let mut bytes = 0;
        pruned.note(self.images.make_room());
        let projects = pruned.note(self.projects_there());
        for project in projects.into_iter().flatten() {
            let done = self.prune_project(&project, options, events, &mut pruned, &mut bytes);
            let done = done.await;
            pruned.note(done);
        }
        if options.volumes {
            let done = self.prune_volumes(&options.filters, &mut pruned, &mut bytes);
            pruned.note(done);
        }
        let cleared = match cache_limit(&options.filters) {
            Some(limit_ns) => self.images.clear_cache(limit_ns),
            None => Ok(0),
        };
        bytes += pruned.note(cleared).unwrap_or(0);
        let images = self.prune_images(options.all, &options.filters);
        if let Some(mut images) = pruned.note(images) {
            pruned.failures.append(&mut images.failures);
            pruned.images = images;
        }
        pruned.images.bytes += bytes;
        let cleaned = self.clean_up().await;
        pruned.note(cleaned);
        pruned.note(self.runtime.sync());
        pruned
    }

    /// Returns the projects that have containers or networks.
    fn projects_there(&self) -> Result<BTreeSet<ProjectName>, EngineError> {
        let containers = self.runtime.list()?;
        let networks = self.net.networks()?;
        let of_containers = containers
            .iter()
            .map(|container| &container.config().labels);
        let of_networks = networks.iter().map(|network| &network.config.labels);
        let names = of_containers
            .chain(of_networks)
            .filter_map(|labels| labels.get(naming::PROJECT));
        Ok(names
            .filter_map(|name| ProjectName::new(name).ok())
            .collect())
    }

    async fn prune_project(
        &self,
        project: &ProjectName,
        options: &PruneOptions,
        events: &dyn EventSink,
        pruned: &mut SystemPruned,
        bytes: &mut u64,
    ) -> Result<(), EngineError> {
        let lock = self.lock_project(project).await?;
        let host = LinuxHost::new(self, None, events, &lock);
        let containers = self.of_project(project)?;
        let idle = containers
            .iter()
            .filter(|c| !runs(c) && fits(c, &options.filters));
        for container in idle {
            let size = tree_bytes(&self.upper(container));
            let id = ContainerId::new(container.id().as_str());
            match host.remove_container(&id, AnonymousVolumes::Keep).await {
                Ok(()) => {
                    *bytes += size;
                    pruned.containers.push(id.as_str().to_owned());
                }
                Err(error) => pruned.failures.push(chain(&*error)),
            }
        }
        let left = self.of_project(project)?;
        let used: BTreeSet<String> = left
            .iter()
            .filter_map(|container| Annotations::of(container.config()))
            .flat_map(|annotations| annotations.endpoints)
            .map(|endpoint| endpoint.network)
            .collect();
        for network in self.net.networks()? {
            let labels = &network.config.labels;
            let is_ours = labels
                .get(naming::PROJECT)
                .is_some_and(|name| name == project.as_str());
            // When a network was made is recorded nowhere.
            let fits = options
                .filters
                .iter()
                .all(|filter| label_fits(labels, filter) == Some(true));
            if !is_ours || !fits || used.contains(&network.config.name) {
                continue;
            }
            match host.remove_network(&network.config.name).await {
                Ok(()) => pruned.networks.push(network.config.name),
                Err(error) => pruned.failures.push(chain(&*error)),
            }
        }
        Ok(())
    }

    fn prune_volumes(
        &self,
        filters: &[Filter],
        pruned: &mut SystemPruned,
        bytes: &mut u64,
    ) -> Result<(), EngineError> {
        let path = self.roots.root.join(INSTANCE_LOCK);
        let alone = Lock::try_acquire(&path, Mode::Exclusive);
        let alone = alone.map_err(|source| EngineError::file("lock", &path, source))?;
        // A volume is there before the record of the container that it is for.
        let Some(_alone) = alone else {
            pruned.failures.push(
                "no volume was removed: containers are being started, or an image is being built"
                    .to_owned(),
            );
            return Ok(());
        };
        let mut used: BTreeSet<String> = BTreeSet::new();
        for container in self.runtime.list()? {
            let Some(annotations) = Annotations::of(container.config()) else {
                let name = &container.config().name;
                pruned.failures.push(format!(
                    "no volume was removed: which ones container {name} uses cannot be read from its record"
                ));
                return Ok(());
            };
            used.extend(volumes_of(annotations));
        }
        let volumes = self.runtime.volumes();
        for volume in volumes.list().map_err(|error| volume_error(&error))? {
            let fits = filters
                .iter()
                .all(|filter| label_fits(&volume.labels, filter) == Some(true));
            if !fits || used.contains(&volume.name) || !volume.labels.contains_key(ANONYMOUS) {
                continue;
            }
            let size = tree_bytes(&volumes.data(&volume.name));
            match volumes.remove(&volume.name, Durability::Cached) {
                Ok(()) => {
                    *bytes += size;
                    pruned.volumes.push(volume.name);
                }
                Err(error) => pruned.failures.push(chain(&error)),
            }
        }
        Ok(())
    }
}

/// Whether a container fits the filters that are about containers.
fn fits(container: &Container, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Until(limit) => i128::from(container.record.created.0) < *limit,
        other => label_fits(&container.config().labels, other).unwrap_or(true),
    })
}

/// Returns before when, in nanoseconds since 1970, entries of the build cache must be used to go: `i128::MAX` for all, `None` where
/// none does: nothing of it has labels.
fn cache_limit(filters: &[Filter]) -> Option<i128> {
    filters
        .iter()
        .try_fold(i128::MAX, |limit_ns, filter| match filter {
            Filter::Until(until_ns) => Some(limit_ns.min(*until_ns)),
            Filter::Label { .. }
            | Filter::Dangling(_)
            | Filter::Before(_)
            | Filter::Since(_)
            | Filter::Reference(_) => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_cache_goes_where_no_filter_speaks_for_it() {
        let label = |not| Filter::Label {
            key: "a".to_owned(),
            value: None,
            not,
        };
        for (filters, expected) in [
            (vec![], Some(i128::MAX)),
            (vec![Filter::Until(5), Filter::Until(3)], Some(3)),
            (vec![label(false)], None),
            (vec![label(true)], None),
            (vec![Filter::Until(5), label(true)], None),
        ] {
            assert_eq!(cache_limit(&filters), expected, "{filters:?}");
        }
    }
}
