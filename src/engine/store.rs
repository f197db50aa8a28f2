//! The image store for the commands: images beside the containers that were made of them.

use std::collections::BTreeMap;
use std::io::Write;

use crate::engine::error::EngineError;
use crate::engine::view::{HistoryView, StoredImageView};
use crate::engine::{Engine, chain};
pub use crate::images::filter::{Filter, FilterError};
use crate::images::{
    Collected, Digest, ImageError, ImageUser, Known, Platform, Reference, Removal, RemoveConflict,
    Removing, Reserved, remove,
};
use crate::runtime::status::{Container, Status};

/// Images that are looked at together when unused ones are removed: each has an open file meanwhile.
const PRUNED_AT_ONCE: usize = 64;

/// Images that are taken for removal: several indexes may have the same one.
type Reservations = BTreeMap<Digest, Reserved>;

/// What removing an image did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, as people write it.
    Untagged(String),
    /// The image, or a layer that only it had (by chain id): `sha256:…`.
    Deleted(String),
}

/// What a removal of everything unused did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// In order.
    pub removed: Vec<Removed>,
    /// Bytes that are free now.
    pub bytes: u64,
    /// A pull, import or build was running, so that no bytes are: a later command frees them.
    pub busy: bool,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

/// How images are removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also where a stopped container was made of it, or several repositories name it.
    pub force: bool,
    /// Leave nameless what would be removed with its last name, and leave its layers.
    pub no_prune: bool,
}

impl Engine {
    /// Gives an image one more name.
    pub fn tag_image(&self, source: &str, target: &str) -> Result<(), EngineError> {
        let target: Reference = target.parse()?;
        Ok(self.images.tag(source, &target)?)
    }

    /// Writes images into one tar.
    pub fn save_images(
        &self,
        asked: &[String],
        platform: Option<&str>,
        sink: impl Write,
    ) -> Result<(), EngineError> {
        let platform = platform.map(platform_option).transpose()?;
        Ok(self.images.save(asked, platform.as_ref(), sink)?)
    }

    /// Lists the images that fit `filters`, a row a name, newest first.
    pub fn stored_images(&self, filters: &[Filter]) -> Result<Vec<StoredImageView>, EngineError> {
        let images = self.images.select(filters)?;
        Ok(images.iter().flat_map(rows).collect())
    }

    /// Finds an image; of several the one for `platform`, where that is given, and fails where there is none for it.
    pub(crate) fn known_for(
        &self,
        asked: &str,
        platform: Option<&str>,
    ) -> Result<Known, EngineError> {
        let mut known = self.images.find_known(asked)?;
        if let Some(text) = platform {
            let platform = platform_option(text)?;
            let Some(image) = known.image_of(&platform).cloned() else {
                let text = asked.to_owned();
                return Err(ImageError::OtherPlatform { text, platform }.into());
            };
            known.image = image;
        }
        Ok(known)
    }

    /// Returns how an image came to be, the last step first.
    pub fn image_history(
        &self,
        asked: &str,
        platform: Option<&str>,
    ) -> Result<Vec<HistoryView>, EngineError> {
        let known = self.known_for(asked, platform)?;
        let steps = self.images.history(&known.image)?;
        let mut views: Vec<HistoryView> = steps
            .into_iter()
            .map(|step| HistoryView {
                id: "<missing>".to_owned(),
                created_s: step.created.as_deref().and_then(seconds),
                created_by: step.created_by,
                size_bytes: step.size_bytes,
                comment: step.comment,
                tags: Vec::new(),
            })
            .collect();
        if let Some(last) = views.first_mut() {
            last.id = known.id.to_string();
            last.tags = known.names.iter().map(Reference::familiar).collect();
        }
        Ok(views)
    }

    /// Removes images without a name, or with `all` those that no container was made of; of them those that fit `filters`.
    pub fn prune_images(&self, all: bool, filters: &[Filter]) -> Result<Pruned, EngineError> {
        let mut filters = filters.to_vec();
        let chosen = filters
            .iter()
            .any(|filter| matches!(filter, Filter::Dangling(_)));
        if !all && !chosen {
            filters.push(Filter::Dangling(true));
        }
        let mut pruned = Pruned::default();
        self.images.make_room()?;
        let removing = self.images.removing()?;
        for some in self.images.select(&filters)?.chunks(PRUNED_AT_ONCE) {
            if let Err(error) = self.prune_some(&removing, some, &mut pruned) {
                pruned.failures.push(chain(&error));
            }
        }
        match self.images.collect() {
            Ok(Collected::Busy) => pruned.busy = true,
            Ok(Collected::Removed { bytes, .. }) => pruned.bytes += bytes,
            Err(error) => pruned.failures.push(chain(&error)),
        }
        if !pruned.busy {
            match self.images.remove_partials() {
                Ok(bytes) => pruned.bytes += bytes,
                Err(error) => pruned.failures.push(chain(&error)),
            }
        }
        if let Err(error) = self.images.fill_reserve() {
            pruned.failures.push(chain(&error));
        }
        Ok(pruned)
    }

    /// Removes those of `images` that no container was made of, or is about to be.
    fn prune_some(
        &self,
        removing: &Removing,
        images: &[Known],
        pruned: &mut Pruned,
    ) -> Result<(), EngineError> {
        let mut reserved = Reservations::new();
        let mut alone = Vec::new();
        for known in images {
            if self.reserve(removing, known, &mut reserved)? {
                alone.push(known);
            }
        }
        // Not before: a container may have come meanwhile.
        let containers = self.runtime.list()?;
        for known in alone {
            if !users_among(&containers, known).is_empty() {
                continue;
            }
            let removal = Removal {
                names: known.names.clone(),
                digests: known.digests.clone(),
                forget: true,
            };
            match self.images.remove(known, &removal, false) {
                Ok(freed) => pruned.removed.extend(said(known, &removal, &freed)),
                Err(error) => pruned.failures.push(chain(&error)),
            }
        }
        Ok(())
    }

    /// Takes all that there is of an image for removal, but for what is `reserved` already; returns whether that is so, and not somebody about
    /// to make a container of it.
    fn reserve(
        &self,
        removing: &Removing,
        known: &Known,
        reserved: &mut Reservations,
    ) -> Result<bool, EngineError> {
        for image in known.images() {
            if reserved.contains_key(&image.id) {
                continue;
            }
            match self.images.try_reserve(removing, &image.id)? {
                Some(alone) => drop(reserved.insert(image.id.clone(), alone)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Removes the image that `asked` names, or only that name of it. What nothing needs any more is removed with it, unless a pull,
    /// import or build is running: then by a later command.
    pub fn remove_image(
        &self,
        asked: &str,
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, EngineError> {
        self.images.make_room()?;
        let removed = self.remove_named(asked, options);
        removed.and_then(|removed| {
            self.images.fill_reserve()?;
            Ok(removed)
        })
    }

    fn remove_named(
        &self,
        asked: &str,
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, EngineError> {
        let removing = self.images.removing()?;
        let known = self.images.find_known(asked)?;
        let mut reserved = Reservations::new();
        let is_alone = self.reserve(&removing, &known, &mut reserved)?;
        let users = users_among(&self.runtime.list()?, &known);
        let mut removal =
            remove::decide(&known, asked, options.force, &users).map_err(ImageError::from)?;
        removal.forget &= !options.no_prune;
        if removal.forget && !is_alone {
            let image = known.id.short().to_owned();
            return Err(ImageError::from(RemoveConflict::Wanted { image }).into());
        }
        let freed = self.images.remove(&known, &removal, true)?;
        Ok(said(&known, &removal, &freed))
    }
}

/// Returns those of `containers` that were made of an image, those that run first.
fn users_among(containers: &[Container], known: &Known) -> Vec<ImageUser> {
    let mut users: Vec<ImageUser> = containers
        .iter()
        .filter(|container| known.has_id(&container.config().image.id))
        .map(user)
        .collect();
    users.sort_by_key(|user| !user.running);
    users
}

/// Says what removing an image did.
fn said(known: &Known, removal: &Removal, freed: &[Digest]) -> Vec<Removed> {
    let gone = removal.names.iter().chain(&removal.digests);
    let mut removed: Vec<Removed> = gone
        .map(|name| Removed::Untagged(name.familiar()))
        .collect();
    if removal.forget {
        removed.push(Removed::Deleted(known.id.to_string()));
        removed.extend(
            freed
                .iter()
                .map(|chain| Removed::Deleted(chain.to_string())),
        );
    }
    removed
}

/// Returns the rows of an image: one a name, one a repository that has only digests, or one without a name.
pub(crate) fn rows(known: &Known) -> Vec<StoredImageView> {
    let none = || "<none>".to_owned();
    let platforms: Vec<String> = known.platforms().iter().map(ToString::to_string).collect();
    let row =
        |repository: Option<String>, tag: Option<&str>, digest: Option<&Digest>| StoredImageView {
            repository: repository.unwrap_or_else(none),
            tag: tag.map_or_else(none, str::to_owned),
            digest: digest.map_or_else(none, ToString::to_string),
            platform: platforms.join(", "),
            id: known.id.to_string(),
            size_bytes: known.size_bytes,
            created_s: known.image.config.created.as_deref().and_then(seconds),
        };
    let digest_of = |repository: &str| {
        let digests = known.digests.iter();
        let mut digests = digests.filter(|digest| digest.repository() == repository);
        digests.find_map(Reference::digest)
    };
    let named = known.names.iter().map(|name| {
        row(
            Some(name.familiar_repository()),
            name.tag(),
            digest_of(&name.repository()),
        )
    });
    let mut rows: Vec<StoredImageView> = named.collect();
    let is_named = |digest: &&Reference| {
        let repository = digest.repository();
        known
            .names
            .iter()
            .any(|name| name.repository() == repository)
    };
    let nameless = known.digests.iter().filter(|digest| !is_named(digest));
    rows.extend(
        nameless.map(|digest| row(Some(digest.familiar_repository()), None, digest.digest())),
    );
    if rows.is_empty() {
        rows.push(row(None, None, None));
    }
    rows
}

/// Returns the seconds since the epoch of an RFC 3339 time; what is not after it was never meant as a time.
fn seconds(text: &str) -> Option<i64> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_second()).filter(|seconds| *seconds > 0)
}

fn user(container: &Container) -> ImageUser {
    ImageUser {
        container: container.id().short().to_owned(),
        running: matches!(
            container.status,
            Status::Running { .. } | Status::Restarting { .. }
        ),
    }
}

/// Reads `--platform`.
pub(crate) fn platform_option(text: &str) -> Result<Platform, EngineError> {
    Platform::parse(text).map_err(|error| EngineError::System {
        attempted: "read --platform".to_owned(),
        source: std::io::Error::other(error),
    })
}
