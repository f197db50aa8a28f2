//! What a pull or push tells about while it runs.

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
    /// It is being compressed.
    Preparing,
    /// Bytes are going.
    Uploading {
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes of the whole.
        total_bytes: u64,
    },
    /// Sent by this command.
    Pushed,
    /// The registry had it in another repository.
    Mounted,
    /// It is no layer that may be sent.
    Skipped,
    /// It comes out of an archive.
    Loading {
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes of the whole.
        total_bytes: u64,
    },
    /// Loaded by this command.
    Loaded,
}

/// Listens to a pull or push; called on the thread that runs it, often.
pub trait Progress {
    /// `blob`, a layer of the image, is in `state` now.
    fn blob(&self, blob: &Digest, state: BlobState);

    /// A registry says something that people should know.
    fn warning(&self, _text: &str) {}
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn blob(&self, _: &Digest, _: BlobState) {}
}
