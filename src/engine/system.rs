//! What the instance takes on disk, and what of it nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::event::EventSink;
use crate::engine::host::Host;
use crate::engine::linux::LinuxHost;
use crate::engine::store::{Pruned, rows};
use crate::engine::view::{ContainerView, StoredImageView};
use crate::engine::{Engine, chain, volume_error};
use crate::images::filter::Filter;
pub use crate::images::{Checked, Finding};
use crate::plan::action::AnonymousVolumes;
use crate::plan::naming;
use crate::plan::observed::ContainerId;
use crate::runtime::status::{Container, Status};
use crate::spec::names::ProjectName;
use crate::sys::atomic::Durability;

/// Label of a volume that nobody named, as Docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// One kind of thing on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub total: u64,
    /// How many of them are in use.
    pub active: u64,
    /// Bytes of all.
    pub size_bytes: u64,
    /// Bytes that would be free without those that are not in use.
    pub reclaimable_bytes: u64,
}

/// An image with what it shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// One of its names.
    pub row: StoredImageView,
    /// Bytes of layers that other images have too.
    pub shared_bytes: u64,
    /// Bytes of layers that only it has.
    pub unique_bytes: u64,
    /// Containers that were made of it.
    pub containers: u64,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Containers that mount it.
    pub links: u64,
    /// Bytes of the files in it.
    pub size_bytes: u64,
}

/// `system df`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images.
    pub images: Usage,
    /// Writable layers.
    pub containers: Usage,
    /// Named and anonymous volumes.
    pub volumes: Usage,
    /// Layers that only the build cache has.
    pub cache: Usage,
    /// Every image.
    pub image_list: Vec<ImageUsage>,
    /// Every container, with the bytes of its writable layer.
    pub container_list: Vec<(ContainerView, u64)>,
    /// Every volume.
    pub volume_list: Vec<VolumeUsage>,
}

/// What a `system prune` is to remove beside stopped containers, unused networks and the build cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneOptions {
    /// All images that no container was made of, not only those without a name.
    pub all: bool,
    /// Anonymous volumes that no container mounts.
    pub volumes: bool,
    /// Of containers and images only what fits.
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

impl Engine {
    /// Looks for damage in the image store; with `repair` mends what can be mended from what is here.
    pub fn check_images(&self, repair: bool) -> Result<Checked, EngineError> {
        Ok(self.images.check(repair)?)
    }

    /// Adds up what the instance takes on disk.
    pub fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let containers = self.runtime.list()?;
        let mut usage = DiskUsage::default();
        self.use_of_images(&containers, &mut usage)?;
        for view in self.containers(None, true)? {
            let container = containers
                .iter()
                .find(|container| container.id().as_str() == view.id);
            let Some(container) = container else { continue };
            let bytes = tree_bytes(&self.upper(container));
            usage.containers.add(bytes, runs(container));
            usage.container_list.push((view, bytes));
        }
        let volumes = self.runtime.volumes();
        for volume in volumes.list().map_err(|error| volume_error(&error))? {
            let users = containers
                .iter()
                .filter(|container| volumes_of(container).contains(&volume.name));
            let links = users.count() as u64;
            let size_bytes = tree_bytes(&volumes.data(&volume.name));
            usage.volumes.add(size_bytes, links > 0);
            usage.volume_list.push(VolumeUsage {
                name: volume.name,
                links,
                size_bytes,
            });
        }
        Ok(usage)
    }

    fn use_of_images(
        &self,
        containers: &[Container],
        usage: &mut DiskUsage,
    ) -> Result<(), EngineError> {
        let sizes = self.images.sizes()?;
        let users = |id: String| {
            containers
                .iter()
                .filter(|container| container.config().image.id == id)
                .count() as u64
        };
        let mut needed = BTreeSet::new();
        let mut images_of: BTreeMap<_, u64> = BTreeMap::new();
        for known in &sizes.images {
            let layers: BTreeSet<_> = known.image.layers.iter().cloned().collect();
            for layer in &layers {
                *images_of.entry(layer.clone()).or_default() += 1;
            }
            usage.images.total += 1;
            if users(known.image.id.to_string()) > 0 {
                usage.images.active += 1;
                needed.extend(layers);
            }
        }
        usage.images.size_bytes = sizes.layers.values().sum();
        let idle = sizes
            .layers
            .iter()
            .filter(|(layer, _)| !needed.contains(*layer));
        usage.images.reclaimable_bytes = idle.map(|(_, bytes)| bytes).sum();
        for known in &sizes.images {
            let layers: BTreeSet<_> = known.image.layers.iter().collect();
            let bytes = |shared: bool| {
                let of_kind = layers
                    .iter()
                    .filter(|layer| (images_of.get(**layer) > Some(&1)) == shared);
                of_kind.filter_map(|layer| sizes.layers.get(*layer)).sum()
            };
            let containers = users(known.image.id.to_string());
            usage
                .image_list
                .extend(rows(known).into_iter().map(|row| ImageUsage {
                    row,
                    shared_bytes: bytes(true),
                    unique_bytes: bytes(false),
                    containers,
                }));
        }
        for (layer, bytes) in &sizes.cached {
            let is_used = sizes.layers.contains_key(layer);
            // What an image has too takes no room of its own.
            usage.cache.add(if is_used { 0 } else { *bytes }, is_used);
        }
        Ok(())
    }

    /// Removes what nothing needs: containers that do not run, networks without containers, images, the build cache, and with
    /// `volumes` anonymous volumes. Goes on past what cannot be removed and tells it.
    pub async fn prune(
        &self,
        options: &PruneOptions,
        events: &dyn EventSink,
    ) -> Result<SystemPruned, EngineError> {
        let mut pruned = SystemPruned::default();
        let mut bytes = 0;
        for project in self.projects_there()? {
            bytes += self
                .prune_project(&project, options, events, &mut pruned)
                .await?;
        }
        if options.volumes {
            bytes += self.prune_volumes(&mut pruned)?;
        }
        self.images.clear_cache()?;
        let filters: Vec<Filter> = options.filters.clone();
        pruned.images = self.prune_images(options.all, &filters)?;
        pruned.images.bytes += bytes;
        self.clean_up().await?;
        self.runtime.sync()?;
        Ok(pruned)
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
    ) -> Result<u64, EngineError> {
        let lock = self.lock_project(project).await?;
        let host = LinuxHost::new(self, None, events, &lock);
        let mut bytes = 0;
        let containers = self.of_project(project)?;
        let idle = containers
            .iter()
            .filter(|c| !runs(c) && fits(c, &options.filters));
        for container in idle {
            let size = tree_bytes(&self.upper(container));
            let id = ContainerId::new(container.id().as_str());
            match host.remove_container(&id, AnonymousVolumes::Keep).await {
                Ok(()) => {
                    bytes += size;
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
            let is_ours = network
                .config
                .labels
                .get(naming::PROJECT)
                .is_some_and(|name| name == project.as_str());
            if !is_ours || used.contains(&network.config.name) || !options.filters.is_empty() {
                continue;
            }
            match host.remove_network(&network.config.name).await {
                Ok(()) => pruned.networks.push(network.config.name),
                Err(error) => pruned.failures.push(chain(&*error)),
            }
        }
        Ok(bytes)
    }

    fn prune_volumes(&self, pruned: &mut SystemPruned) -> Result<u64, EngineError> {
        let containers = self.runtime.list()?;
        let used: BTreeSet<String> = containers.iter().flat_map(volumes_of).collect();
        let volumes = self.runtime.volumes();
        let mut bytes = 0;
        for volume in volumes.list().map_err(|error| volume_error(&error))? {
            if used.contains(&volume.name) || !volume.labels.contains_key(ANONYMOUS) {
                continue;
            }
            let size = tree_bytes(&volumes.data(&volume.name));
            match volumes.remove(&volume.name, Durability::Cached) {
                Ok(()) => {
                    bytes += size;
                    pruned.volumes.push(volume.name);
                }
                Err(error) => pruned.failures.push(chain(&error)),
            }
        }
        Ok(bytes)
    }
}

impl Usage {
    fn add(&mut self, bytes: u64, is_active: bool) {
        self.total += 1;
        self.size_bytes += bytes;
        if is_active {
            self.active += 1;
        } else {
            self.reclaimable_bytes += bytes;
        }
    }
}

fn runs(container: &Container) -> bool {
    matches!(
        container.status,
        Status::Running { .. } | Status::Restarting { .. }
    )
}

/// Whether a container fits the filters that are about containers.
fn fits(container: &Container, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Until(limit) => i128::from(container.record.created.0) < *limit,
        Filter::Label { key, value, not } => {
            let found = container.config().labels.get(key);
            let has = found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
            has != *not
        }
        Filter::Dangling(_) | Filter::Before(_) | Filter::Since(_) | Filter::Reference(_) => true,
    })
}

/// Returns the names of the volumes that a container mounts.
fn volumes_of(container: &Container) -> BTreeSet<String> {
    let annotations = Annotations::of(container.config()).unwrap_or_default();
    let anonymous = annotations.anonymous_volumes.into_values();
    annotations
        .named_volumes
        .into_iter()
        .chain(anonymous)
        .collect()
}

/// Adds up the regular files below a directory, each once however many names it has. What is gone meanwhile counts nothing.
fn tree_bytes(directory: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs_err::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            match fs_err::symlink_metadata(entry.path()) {
                Ok(stat) if stat.is_dir() => waiting.push(entry.path()),
                Ok(stat)
                    if stat.is_file()
                        && (stat.nlink() == 1 || seen.insert((stat.dev(), stat.ino()))) =>
                {
                    bytes += stat.len();
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    bytes
}
