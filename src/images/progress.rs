//! What a pull tells about while it runs.

use super::reference::Digest;

/// Where one layer's blob stands, as Docker shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// Its turn has not come.
    Waiting,
    /// Bytes are coming, and are unpacked meanwhile.
    Downloading {
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes of the whole.
        total_bytes: u64,
    },
    /// All bytes are here; the last of them are being unpacked.
    Extracting,
    /// Pulled by this command.
    Done,
    /// Was there already.
    Exists,
}

/// Listens to a pull; called on the thread that runs it, often.
pub trait Progress {
    /// `blob`, a layer of the image, is in `state` now.
    fn blob(&self, blob: &Digest, state: BlobState);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn blob(&self, _: &Digest, _: BlobState) {}
}
