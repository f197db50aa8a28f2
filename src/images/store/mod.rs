//! The image store on disk: the layout is the specification.
//!
//! ```text
//! <root>/images/            an OCI image layout (image-spec 1.1, image-layout.md); `skopeo … oci:<root>/images:<ref.name>` reads it
//!        ├─ VERSION         `1`; another number is refused
//!        ├─ lock            flock: held while index.json, a layer's record or a lease changes; never across a download
//!        ├─ oci-layout      {"imageLayoutVersion":"1.0.0"}
//!        ├─ index.json      one entry a name (and one for each image without a name), pointing to a platform's manifest:
//!        │                  org.opencontainers.image.ref.name  docker.io/library/busybox:latest
//!        │                  stack.source.digest                what the registry's name pointed to: the index, or the manifest
//!        └─ blobs/sha256/<hex>   manifests, indexes, configurations, layers as they came (verbatim, never changed)
//! <root>/layers/<diffID hex>/
//!        ├─ diff/           unpacked, an overlay lower directory: whiteouts are char 0:0, opaque is trusted.overlay.opaque=y
//!        └─ layer.json      LayerRecord: its size, its blobs, what it lacks to stand alone, and the boot that it is not synced since
//! <root>/layers/<chain hex>/     the same tree (hard links) for a layer that cannot stand alone, above one chain of lower layers
//! <root>/leases/<holder>.json    which image a container holds (for garbage collection)
//! <root>/leases/working     flock, shared: held by whoever makes layers that no image names yet; garbage collection needs it alone
//! <root>/tmp/<pid>.<n>/     flocked directory of a running pull, import or build; unlocked ones are removed by the next command
//! <root>/tmp/lock           flock, shared: held while such a directory is made
//! <root>/tmp/layer-<hex>    flock: who makes that layer
//! ```
//!
//! A layer counts only with a readable `layer.json`. That one names the current boot until the file system has been synced
//! (once a pull, import or build); after a crash of the machine such a layer is of an earlier boot and no longer counts, so a half-written one
//! is never used. Order: data → rename into `layers/` → `syncfs` → `layer.json` without boot → `index.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Descriptor, ImageConfig};
use super::reference::{Digest, Reference};

mod error;

pub use error::StoreError;

/// An image of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The diff ids of its layers, bottom first.
    pub layers: Vec<Digest>,
}

/// A row of `stack images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSummary {
    /// As people write it; `None` for an image without a name.
    pub repository: Option<String>,
    /// `None` for an image without one.
    pub tag: Option<String>,
    /// The image's id.
    pub id: Digest,
    /// What the registry's name pointed to, for an image that was pulled.
    pub source: Option<Digest>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Bytes of the unpacked layers.
    pub size_bytes: u64,
}

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the regular files in it.
    pub size_bytes: u64,
    /// The blobs that unpack to it, all present in the store.
    pub blobs: Vec<Descriptor>,
    /// Directories it has without saying what they are: they take their owner and mode from the layers below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<PathBuf>,
    /// Hard links to files of the layers below: (link, target).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower_links: Vec<(PathBuf, PathBuf)>,
    /// The boot since which it has not been synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// A directory of a running pull, import or build, on the store's file system. Dropped, it is removed.
#[derive(Debug)]
pub struct Staging {
    directory: PathBuf,
}

impl Staging {
    /// Returns the directory that becomes the layer: an overlay upper directory.
    pub fn diff(&self) -> PathBuf {
        self.directory.join("diff")
    }

    /// Returns the overlay work directory that goes with it.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Returns the directory of both, where more may be put.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Keeps garbage collection away while layers are made that no image names yet.
#[derive(Debug)]
pub struct Hold {
    #[expect(dead_code, reason = "held, not read")]
    lock: crate::sys::lock::Lock,
}

/// The format that this program writes.
pub const VERSION: &str = "1";

/// The store below one root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store below `root`, made if missing, and removes what killed commands left.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Returns the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps garbage collection away; a build holds it from its first layer until its image is put.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        Err(StoreError::NotYet)
    }

    /// Makes a directory with empty `diff` (0755) and `work`.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        Err(StoreError::NotYet)
    }

    /// Makes a layer of an overlay upper directory: its tar is hashed and kept as an uncompressed blob, and the directory
    /// itself becomes the layer. Not synced before [`Store::put_image`].
    pub fn commit_layer(&self, staging: Staging) -> Result<LayerRecord, StoreError> {
        drop(staging);
        Err(StoreError::NotYet)
    }

    /// Returns the layer if it is here whole.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        let _ = diff_id;
        Err(StoreError::NotYet)
    }

    /// Keeps bytes under their digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let _ = bytes;
        Err(StoreError::NotYet)
    }

    /// Reads a small blob and checks it; `None` if it is not here.
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = digest;
        Err(StoreError::NotYet)
    }

    /// Makes an image without a name: `config.rootfs` is set to `layers` (diff ids of layers that are here, bottom first),
    /// configuration and manifest are written, and everything is synced.
    pub fn put_image(&self, config: ImageConfig, layers: &[Digest]) -> Result<Image, StoreError> {
        let _ = (config, layers);
        Err(StoreError::NotYet)
    }

    /// Points `reference` to `image`; the image it pointed to before stays, without that name.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<(), StoreError> {
        let _ = (image, reference);
        Err(StoreError::NotYet)
    }

    /// Finds the image of a name or of a digest (of its manifest, or of what its registry's name pointed to).
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        let _ = reference;
        Err(StoreError::NotYet)
    }

    /// Finds the image of a name, a digest or the first digits of an id, in this order.
    pub fn find(&self, text: &str) -> Result<Option<Image>, StoreError> {
        let _ = text;
        Err(StoreError::NotYet)
    }

    /// Lists every name, and every image without one, newest first.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        Err(StoreError::NotYet)
    }

    /// Returns the overlay lower directories of `layers` (diff ids, bottom first), top-most first.
    pub fn layer_directories(&self, layers: &[Digest]) -> Vec<PathBuf> {
        let _ = layers;
        Vec::new()
    }

    /// Keeps `image` from garbage collection for `holder` (`[A-Za-z0-9._-]+`), replacing what it held.
    pub fn lease(&self, holder: &str, image: &Image) -> Result<(), StoreError> {
        let _ = (holder, image);
        Err(StoreError::NotYet)
    }

    /// Ends a lease, if there is one.
    pub fn release(&self, holder: &str) -> Result<(), StoreError> {
        let _ = holder;
        Err(StoreError::NotYet)
    }
}
