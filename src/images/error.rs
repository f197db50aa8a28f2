//! What can go wrong with images.

use super::registry::RegistryError;
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
    /// A root file system that is to become an image.
    #[error("import the root file system")]
    Import(#[source] UnpackError),
}
