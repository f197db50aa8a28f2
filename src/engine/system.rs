//! What the instance takes on disk, and what of it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::store::rows;
use crate::engine::view::{ContainerView, StoredImageView};
use crate::engine::{Engine, volume_error};
use crate::images::Known;
pub use crate::images::{Checked, Finding};
use crate::runtime::status::{Container, Status};

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
    /// Layers that only the build cache has, cache mounts, and what else it remembers; active is what a build uses now, as with Docker.
    pub cache: Usage,
    /// What was set aside of images and containers, which nothing removes by itself.
    pub damaged: Usage,
    /// Every image.
    pub image_list: Vec<ImageUsage>,
    /// Every container, with the bytes of its writable layer.
    pub container_list: Vec<(ContainerView, u64)>,
    /// Every volume.
    pub volume_list: Vec<VolumeUsage>,
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
        let aside = self.roots.root.join("damaged");
        usage.damaged = Usage {
            total: entries(&aside.join("containers"), "") + entries(&aside, "containers"),
            size_bytes: tree_bytes(&aside),
            ..Usage::default()
        };
        let volumes = self.runtime.volumes();
        for volume in volumes.list().map_err(|error| volume_error(&error))? {
            let users = containers
                .iter()
                .filter(|container| mounts(container, &volume.name));
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
        let users = |known: &Known| {
            containers
                .iter()
                .filter(|container| known.has_id(&container.config().image.id))
                .count() as u64
        };
        let mut needed = BTreeSet::new();
        let mut images_of: BTreeMap<_, u64> = BTreeMap::new();
        for known in &sizes.images {
            let layers: BTreeSet<_> = known.layers().into_iter().cloned().collect();
            for layer in &layers {
                *images_of.entry(layer.clone()).or_default() += 1;
            }
            usage.images.total += 1;
            if users(known) > 0 {
                usage.images.active += 1;
                needed.extend(layers);
            }
        }
        let packed = |layer| sizes.packed.get(layer).copied().unwrap_or_default();
        for (layer, bytes) in &sizes.layers {
            let bytes = bytes + packed(layer);
            usage.images.size_bytes += bytes;
            if !needed.contains(layer) {
                usage.images.reclaimable_bytes += bytes;
            }
        }
        for known in &sizes.images {
            let layers = known.layers();
            let bytes = |shared: bool| {
                let of_kind = layers
                    .iter()
                    .filter(|layer| (images_of.get(**layer) > Some(&1)) == shared);
                of_kind.filter_map(|layer| sizes.layers.get(*layer)).sum()
            };
            let containers = users(known);
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
            let bytes = if is_used { 0 } else { bytes + packed(layer) };
            usage.cache.add(bytes, false);
        }
        for (mount, is_used) in &sizes.mounts {
            usage.cache.add(mount.bytes, *is_used);
        }
        usage.cache.size_bytes += sizes.notes;
        usage.cache.reclaimable_bytes += sizes.notes;
        Ok(())
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

/// Counts what a directory has but `other`.
fn entries(directory: &Path, other: &str) -> u64 {
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name() != other).count() as u64
}

/// Whether a container has processes, or is about to.
pub(super) fn runs(container: &Container) -> bool {
    matches!(
        container.status,
        Status::Running { .. } | Status::Restarting { .. }
    )
}

fn mounts(container: &Container, volume: &str) -> bool {
    let annotations = Annotations::of(container.config());
    annotations.is_some_and(|annotations| volumes_of(annotations).contains(volume))
}

/// Returns the names of the volumes that a container mounts.
pub(super) fn volumes_of(annotations: Annotations) -> BTreeSet<String> {
    let anonymous = annotations.anonymous_volumes.into_values();
    annotations
        .named_volumes
        .into_iter()
        .chain(anonymous)
        .collect()
}

/// Adds up the regular files below a directory, each once however many names it has. What is gone meanwhile counts nothing.
pub(super) fn tree_bytes(directory: &Path) -> u64 {
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
