//! What can go wrong with images.

use super::archive::load::LoadError;
use super::archive::save::SaveError;
use super::build::remote::RemoteError;
use super::manifest::Platform;
use super::registry::RegistryError;
use super::registry::auth::CredentialsError;
use super::remove::RemoveConflict;
use super::store::StoreError;
use super::unpack::UnpackError;

/// A failure of the room.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image that cannot be had.
    #[error("pull image `{reference}`")]
    Pull {
        /// As people write it.
        reference: String,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// An image whose registry does not say what it has under the name.
    #[error("find the digest of image `{reference}`")]
    Digest {
        /// As people write it.
        reference: String,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// An image that cannot be brought to its registry.
    #[error("push image `{reference}`")]
    Push {
        /// As people write it.
        reference: String,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// A name that no image here has.
    #[error("an image does not exist locally with the tag: {reference}")]
    NotHere {
        /// As people write it.
        reference: String,
    },
    /// Only tags are pushed.
    #[error("cannot push a digest reference: `{reference}`")]
    PushDigest {
        /// As people write it.
        reference: String,
    },
    /// It is here, but not for that platform.
    #[error(
        "image with reference {text} was found but does not provide the specified platform ({platform})"
    )]
    OtherPlatform {
        /// As asked for.
        text: String,
        /// As asked for.
        platform: Platform,
    },
    /// A registry that does not let us in.
    #[error(transparent)]
    Login(Box<RegistryError>),
    /// Credentials that cannot be forgotten.
    #[error(transparent)]
    Logout(Box<CredentialsError>),
    /// A repository whose tags cannot be listed.
    #[error("list the tags of `{repository}`")]
    Tags {
        /// As people write it.
        repository: String,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// There is none of that name.
    #[error("No such image: {text}")]
    NoSuchImage {
        /// As asked for.
        text: String,
    },
    /// Images that cannot be written to an archive.
    #[error(transparent)]
    Save(Box<SaveError>),
    /// An archive that cannot be loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// An image that is in use.
    #[error(transparent)]
    InUse(Box<RemoveConflict>),
    /// A root file system that is to become an image.
    #[error("import the root file system")]
    Import(#[source] UnpackError),
    /// One that lies elsewhere.
    #[error("import the root file system")]
    ImportUrl(#[source] Box<RemoteError>),
}

impl From<SaveError> for ImageError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Store(error) => Self::Store(error),
            error => Self::Save(Box::new(error)),
        }
    }
}

impl From<RemoveConflict> for ImageError {
    fn from(conflict: RemoveConflict) -> Self {
        Self::InUse(Box::new(conflict))
    }
}

impl From<LoadError> for ImageError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            error => Self::Load(Box::new(error)),
        }
    }
}
