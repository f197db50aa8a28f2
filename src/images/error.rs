//! What can go wrong with images.

use super::store::StoreError;

/// A failure of the room.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
