//! What can go wrong with a layer.

use std::io;
use std::path::PathBuf;

/// A layer that cannot be unpacked or packed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream ended or broke.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// Not gzip, zstd or a plain tar.
    #[error("unsupported compression `{0}`")]
    Compression(&'static str),
    /// Not a tar.
    #[error("the archive is malformed: {0}")]
    Malformed(&'static str),
    /// An entry that we do not unpack.
    #[error("entry `{}` has the unsupported type `{kind}`", path.display())]
    Kind {
        /// The entry.
        path: PathBuf,
        /// Its type, escaped.
        kind: String,
    },
    /// A path that leaves the layer.
    #[error("entry `{}` leaves the layer", path.display())]
    Escape {
        /// As written.
        path: PathBuf,
    },
    /// A path no file can have.
    #[error("entry `{}` has an invalid name", path.display())]
    Name {
        /// As written.
        path: PathBuf,
    },
    /// A file that an archive would say something else by.
    #[error("`{}` cannot be in a layer: a name that begins with `.wh.` says there that another file is deleted", path.display())]
    Reserved {
        /// Within the layer.
        path: PathBuf,
    },
    /// More than the machine should be asked for.
    #[error("the layer exceeds the limit of {limit} {unit}")]
    Limit {
        /// How many.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A small archive that unpacks to a huge one.
    #[error(
        "the layer looks like a decompression bomb: {packed_bytes} bytes unpack to more than {unpacked_bytes}"
    )]
    Bomb {
        /// Bytes read.
        packed_bytes: u64,
        /// Bytes made of them.
        unpacked_bytes: u64,
    },
    /// A system call.
    #[error("{doing} `{}`", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what, within the layer.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The other half of the pipeline failed first.
    #[error("stopped")]
    Stopped,
}

/// Of [`UnpackError::Limit`] where the file system sets it.
pub(crate) const ROOM: &str = "bytes, which is what the file system has left";

impl UnpackError {
    /// Whether there is no room for the layer, whatever is in it.
    pub(crate) fn is_lack_of_room(&self) -> bool {
        match self {
            Self::Limit { unit, .. } => *unit == ROOM,
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }

    /// Wraps an error of `doing` something to `path`.
    pub(crate) fn io<E: Into<io::Error>>(
        doing: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source: source.into(),
        }
    }
}

/// Whether a file system, or what its user may have of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
