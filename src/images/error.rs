//! What can go wrong with images.

use super::store::StoreError;
use super::unpack::UnpackError;

/// A failure of the room.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A root file system that is to become an image.
    #[error("import the root file system")]
    Import(#[source] UnpackError),
}
