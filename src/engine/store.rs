//! The image store for the commands: images beside the containers that were made of them.

use std::io::Write;

use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::images::{ImageError, ImageUser, Known, Platform, Reference, remove};
use crate::runtime::status::{Container, Status};

/// What removing an image did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, as people write it.
    Untagged(String),
    /// The image, or a layer that only it had (by chain id): `sha256:…`.
    Deleted(String),
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

    /// Removes the image that `asked` names, or only that name of it. What nothing needs any more is removed with it, unless a pull,
    /// import or build is running: then by a later command.
    pub fn remove_image(
        &self,
        asked: &str,
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, EngineError> {
        let known = self.images.find_known(asked)?;
        let users = self.users_of(&known)?;
        let mut removal =
            remove::decide(&known, asked, options.force, &users).map_err(ImageError::from)?;
        removal.forget &= !options.no_prune;
        let freed = self.images.remove(&known, &removal, true)?;
        let gone = removal.names.iter().chain(&removal.digests);
        let mut removed: Vec<Removed> = gone
            .map(|name| Removed::Untagged(name.familiar()))
            .collect();
        if removal.forget {
            removed.push(Removed::Deleted(known.image.id.to_string()));
            removed.extend(
                freed
                    .iter()
                    .map(|chain| Removed::Deleted(chain.to_string())),
            );
        }
        Ok(removed)
    }

    /// Returns the containers that were made of an image, those that run first.
    fn users_of(&self, known: &Known) -> Result<Vec<ImageUser>, EngineError> {
        let id = known.image.id.to_string();
        let containers = self.runtime.list()?;
        let mut users: Vec<ImageUser> = containers
            .iter()
            .filter(|container| container.config().image.id == id)
            .map(user)
            .collect();
        users.sort_by_key(|user| !user.running);
        Ok(users)
    }
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
