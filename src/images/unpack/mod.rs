//! Layers: tar to files and back.

/// A layer that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct UnpackError;
