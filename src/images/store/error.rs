//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use super::super::manifest::ManifestError;
use super::super::reference::Digest;
use super::super::unpack::UnpackError;
use super::super::unpack::error::is_full;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody knows what it held.
    #[error(
        "the lease of container {holder} did not reach the disk before the machine went down: starting the container writes it again, removing it removes it"
    )]
    LostLease {
        /// Whose.
        holder: String,
    },
    /// A system call on a path of the store.
    #[error("{doing} `{}`", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record that is not ours or was damaged.
    #[error("read `{}`", path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error("the image store `{}` has version `{found}`, this program knows only {}", path.display(), super::VERSION)]
    Version {
        /// Of `VERSION`.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Bytes that are not what their name says.
    #[error("blob {expected} is damaged: its content is {found}")]
    Damaged {
        /// Its name.
        expected: Digest,
        /// Its content.
        found: Digest,
    },
    /// An image needs a layer that is not here.
    #[error("layer {diff_id} is not in the store")]
    NoLayer {
        /// Which.
        diff_id: Digest,
    },
    /// An image needs a blob that is not here.
    #[error("blob {digest} is not in the store")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// The first digits of more than one id.
    #[error("multiple images found with the id prefix `{prefix}`")]
    Ambiguous {
        /// As given.
        prefix: String,
    },
    /// A name of a lease that is not a file name.
    #[error("invalid lease holder `{holder}`")]
    Holder {
        /// As given.
        holder: String,
    },
    /// A tag cannot be a digest.
    #[error("refusing to create a tag with a digest reference: `{reference}`")]
    TagDigest {
        /// As given.
        reference: String,
    },
    /// A name that reads like an id.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    TagAlgorithm,
    /// A document of an image.
    #[error("read the image {image}")]
    Document {
        /// Its digest.
        image: Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A layer's content.
    #[error("unpack layer {layer}")]
    Unpack {
        /// Its digest.
        layer: String,
        /// What is wrong.
        #[source]
        source: UnpackError,
    },
    /// A tree that cannot be made a tar.
    #[error("pack `{}`", path.display())]
    Pack {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: UnpackError,
    },
    /// A document that cannot be written as JSON.
    #[error("write the {what}")]
    Write {
        /// Which document.
        what: &'static str,
        /// What the writer says.
        #[source]
        source: serde_json::Error,
    },
    /// A document no image has.
    #[error("blob {digest} is too large for a document")]
    TooLarge {
        /// Which.
        digest: Digest,
    },
    /// A hard link to nothing.
    #[error("layer {layer} links `{}` to `{}`, which no layer below has", link.display(), target.display())]
    LowerLink {
        /// Its diff id.
        layer: Digest,
        /// The new name.
        link: PathBuf,
        /// The file.
        target: PathBuf,
    },
}

impl StoreError {
    /// Whether a manifest is sound, and not that of an image.
    pub(crate) fn is_no_image(&self) -> bool {
        matches!(
            self,
            Self::Document {
                source: ManifestError::MediaType { .. },
                ..
            }
        )
    }

    /// Whether the file system was too full: no word on what was looked at.
    pub(crate) fn is_lack_of_room(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Unpack { source, .. } | Self::Pack { source, .. } => source.is_lack_of_room(),
            _ => false,
        }
    }

    /// Wraps an error of `doing` something to `path`.
    pub(crate) fn io<E: Into<io::Error>>(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_damage() {
        let io = |errno| io::Error::from_raw_os_error(errno);
        let path = Path::new("f");
        let unpack = |source| StoreError::Unpack {
            layer: "l".to_owned(),
            source,
        };
        let limit = |unit| UnpackError::Limit { limit: 0, unit };
        for (error, expected) in [
            (StoreError::io("write", path)(io(libc::ENOSPC)), true),
            (StoreError::io("write", path)(io(libc::EDQUOT)), true),
            (StoreError::io("write", path)(io(libc::EIO)), false),
            (
                unpack(UnpackError::io("write", path)(io(libc::ENOSPC))),
                true,
            ),
            (unpack(UnpackError::io("write", path)(io(libc::EIO))), false),
            (
                unpack(limit(super::super::super::unpack::error::ROOM)),
                true,
            ),
            (unpack(limit("entries")), false),
        ] {
            assert_eq!(error.is_lack_of_room(), expected, "{error:?}");
        }
    }
}
