//! The image store on disk: the layout is the specification.
//!
//! ```text
//! <root>/images/            an OCI image layout (image-spec 1.1, image-layout.md); `skopeo inspect oci:<root>/images:<ref.name>` reads it
//!        ├─ VERSION         `1`; another number is refused
//!        ├─ lock            flock: held while index.json, a layer's record or a lease changes; never across a download
//!        ├─ oci-layout      {"imageLayoutVersion":"1.0.0"}
//!        ├─ reserve         zeros that a removal takes away where there is no room for what it has to write
//!        ├─ index.json      one entry a name (and one for each image without a name), pointing to a platform's manifest, or to an
//!        │                  index of several and what is attested of them:
//!        │                  org.opencontainers.image.ref.name  docker.io/library/busybox:latest
//!        │                  stack.image.id                     the digest of the configuration; of an index its own
//!        │                  stack.source.digest                what the registry's name pointed to: the index, or the manifest
//!        │                  stack.source.repository            the repository of that name
//!        │                  stack.tagged                       when it got the name here, RFC 3339; not where it was pulled
//!        ├─ partial/<hex>   the first bytes of a blob whose download broke off; flocked by who goes on with it
//!        └─ blobs/sha256/<hex>   manifests, indexes, configurations, layers as they came (verbatim, never changed), tars that were asked for
//! <root>/layers/<diffID hex>/
//!        ├─ diff/           unpacked, an overlay lower directory: whiteouts are char 0:0, opaque is trusted.overlay.opaque=y
//!        └─ layer.json      LayerRecord: its size, its blobs, what it lacks to stand alone, and the boot that it is not synced since
//! <root>/layers/<chain hex>/     the same tree (hard links) for a layer that cannot stand alone, above one chain of lower layers
//! <root>/leases/<holder>.json    which image a container holds (for garbage collection)
//! <root>/leases/<id hex>.using   flock: shared by who makes containers of that image, alone by who removes it
//! <root>/leases/removing    flock: who removes images, one at a time
//! <root>/leases/working     flock, shared: held by whoever makes layers that no image names yet; garbage collection needs it alone
//! <root>/damaged/<hex>.<ns>       what a check set aside
//! <root>/tmp/<pid>.<n>/     flocked directory of a running pull, import or build; unlocked ones are removed by the next command
//! <root>/tmp/lock           flock, shared: held while such a directory is made
//! <root>/tmp/layer-<hex>    flock: who downloads that layer; others wait for it instead of doing the same
//! <root>/tmp/step-<key>     flock: who does that build step, the same
//! ```
//!
//! A layer that was built here has no blob: its directory is the layer. Index, manifest and configuration are complete and name its
//! uncompressed tar by digest and size, which is all that `skopeo inspect` reads; what copies an image out asks [`Store::layer_blob`]
//! for each layer first, which writes the very tar of that digest (`unpack::writer` gives the same bytes for the same tree) and keeps
//! it among the blobs.
//!
//! A layer counts only with a readable `layer.json`. That one names the current boot until the file system has been synced
//! (once a pull, import or build); after a crash of the machine such a layer is of an earlier boot and no longer counts, so a half-written one
//! is never used. Order: data → rename into `layers/` → `syncfs` → `layer.json` without boot → `index.json`.
//!
//! Everything is written below `tmp/` and renamed, so a killed command leaves nothing but an unlocked directory there.
//!
//! Files: this one (opening, small writes, images and their names), [`layers`], [`staging`], `index`, `known`, `leases`, `reserve`,
//! `using`, `several` (indexes), `partial` (downloads that go on), `packed` (layers as they are pushed), `check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

use super::manifest::{
    Descriptor, DescriptorPlatform, Document, Extra, ImageConfig, Manifest, ManifestError,
    OCI_CONFIG, OCI_MANIFEST, Platform, parse_config, parse_document,
};
use super::reference::{Digest, Reference};
use crate::sys::atomic::Durability;
use crate::sys::lock::{Lock, Mode};

mod check;
mod error;
mod hashing;
mod index;
mod known;
pub mod layers;
mod leases;
pub(crate) mod packed;
pub(crate) mod partial;
mod reserve;
mod several;
pub mod staging;
mod standing;
mod using;

pub use check::{Checked, Finding};
pub use error::StoreError;
pub use known::Known;
pub use layers::LayerRecord;
pub use leases::{Collected, Hold};
pub use packed::{Packed, Packing};
pub(crate) use partial::Partial;
pub use several::{MAX_ATTESTED_BYTES, Member};
pub(crate) use several::{Named, suits};
pub(crate) use staging::LayerLock;
pub use staging::Staging;
pub use using::{BegunUse, Removing, Reserved};

/// The format that this program writes.
pub const VERSION: &str = "1";

/// Documents above this size are refused (registries bound manifests to 4 MiB).
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

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
    /// What it runs on.
    pub platform: Platform,
    /// The image's id.
    pub id: Digest,
    /// What the registry's name pointed to, for an image that was pulled.
    pub source: Option<Digest>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Bytes of the unpacked layers.
    pub size_bytes: u64,
}

/// The store below one root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    boot: String,
    scratch: OnceLock<Staging>,
}

impl Store {
    /// Opens the store below `root`, made if missing, and removes what killed commands left.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs_err::read_to_string(boot).map_err(StoreError::io("read", boot))?;
        let store = Self {
            root: root.to_owned(),
            boot: boot.trim().to_owned(),
            scratch: OnceLock::new(),
        };
        let version = store.path("images/VERSION");
        match fs_err::read_to_string(&version) {
            Ok(found) if found.trim() == VERSION => {}
            Ok(found) => {
                return Err(StoreError::Version {
                    path: store.path("images"),
                    found: found.trim().to_owned(),
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => store.create()?,
            Err(error) => return Err(StoreError::io("read", &version)(error)),
        }
        // What an earlier command left hinders nobody; `check` tells of what cannot be removed.
        match store.sweep() {
            Ok(_) | Err(_) => {}
        }
        Ok(store)
    }

    /// Returns the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a path below the root.
    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Returns where a blob is kept, if it is.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("images/blobs/sha256").join(digest.hex())
    }

    /// Makes the empty store; several commands may do so at once. `VERSION` comes last and says that all is there.
    fn create(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        for below in ["images/blobs/sha256", "layers", "leases", "tmp"] {
            let path = self.path(below);
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder
                .create(&path)
                .map_err(StoreError::io("make", &path))?;
        }
        let _locked = self.lock()?;
        self.begin_index()?;
        self.fill_reserve()?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.replace(&self.path("images/oci-layout"), layout)?;
        self.replace(
            &self.path("images/VERSION"),
            format!("{VERSION}\n").as_bytes(),
        )
    }

    /// Takes the lock of the store, for short changes only.
    fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path("images/lock");
        Lock::acquire(&path, Mode::Exclusive).map_err(StoreError::io("lock", &path))
    }

    /// Writes a small file whole or not at all; not synced.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace_with(path, bytes, Durability::Cached)
    }

    /// Writes an index without images where there is none. To be called locked.
    fn begin_index(&self) -> Result<(), StoreError> {
        let path = self.path("images/index.json");
        if path.exists() {
            return Ok(());
        }
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        self.replace(&path, index)
    }

    /// Writes a small file whole or not at all; [`Durability::Synced`]: also after a crash of the machine, which may leave the
    /// one that was there.
    fn replace_with(
        &self,
        path: &Path,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let temporary = self.scratch()?.next_path();
        crate::sys::atomic::write(&temporary, bytes, 0o600, durability)
            .map_err(StoreError::io("write", &temporary))?;
        fs_err::rename(&temporary, path).map_err(StoreError::io("write", path))
    }

    /// Syncs the file system of the store.
    fn sync(&self) -> Result<(), StoreError> {
        let path = self.path("images");
        let directory = fs_err::File::open(&path).map_err(StoreError::io("open", &path))?;
        rustix::fs::syncfs(&directory).map_err(StoreError::io("sync", &path))
    }

    /// Keeps bytes under their digest. Not synced before [`Store::put_image`]; what is here already is left as it is, for it may
    /// be synced.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        let is_here = matches!(self.read_blob(&digest), Ok(Some(_)));
        if !is_here {
            self.replace(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Reads a small blob and checks it; `None` if it is not here.
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_blob_within(digest, MAX_DOCUMENT_BYTES)
    }

    fn read_blob_within(
        &self,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = match fs_err::metadata(&path) {
            Ok(stat) if stat.len() > max_bytes => {
                return Err(StoreError::TooLarge {
                    digest: digest.clone(),
                });
            }
            Ok(_) => fs_err::read(&path).map_err(StoreError::io("read", &path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Damaged {
                expected: digest.clone(),
                found,
            });
        }
        Ok(Some(bytes))
    }

    /// Makes an image without a name: as [`Store::put_named`] with none.
    pub fn put_image(&self, config: ImageConfig, layers: &[Digest]) -> Result<Image, StoreError> {
        self.put_named(config, layers, &[])
    }

    /// Makes an image: `config.rootfs` is set to `layers` (diff ids of layers that are here, bottom first), configuration and
    /// manifest are written, everything is synced, and `names` point to it.
    pub fn put_named(
        &self,
        config: ImageConfig,
        layers: &[Digest],
        names: &[&Reference],
    ) -> Result<Image, StoreError> {
        self.put_annotated((config, layers, BTreeMap::new()), names)
    }

    /// As [`Store::put_named`], with annotations of the manifest.
    pub(crate) fn put_annotated(
        &self,
        (config, layers, annotations): (ImageConfig, &[Digest], BTreeMap<String, String>),
        names: &[&Reference],
    ) -> Result<Image, StoreError> {
        for name in names {
            check_tag(name)?;
        }
        let image = self.make_annotated(config, layers, annotations)?;
        self.adopt(&image, names, None)?;
        Ok(image)
    }

    /// As [`Store::put_annotated`], but neither known nor synced before [`Store::adopt`] or [`Store::put_index`].
    pub(crate) fn make_annotated(
        &self,
        mut config: ImageConfig,
        layers: &[Digest],
        annotations: BTreeMap<String, String>,
    ) -> Result<Image, StoreError> {
        config.rootfs.diff_ids = layers.to_vec();
        "layers".clone_into(&mut config.rootfs.kind);
        let bytes = document_bytes("image configuration", &config)?;
        let mut blobs = Vec::new();
        for diff_id in layers {
            let missing = || StoreError::NoLayer {
                diff_id: diff_id.clone(),
            };
            let record = self.layer(diff_id)?.ok_or_else(missing)?;
            blobs.push(record.descriptor().ok_or_else(missing)?);
        }
        let manifest = manifest_of(&bytes, blobs.clone(), annotations)?;
        self.put_documents(&bytes, config, Some(&manifest), blobs)
    }

    /// Returns what the manifest of an image says of it.
    pub(crate) fn annotations(
        &self,
        image: &Image,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let gone = || StoreError::NoBlob {
            digest: image.manifest.clone(),
        };
        let bytes = self.read_blob(&image.manifest)?.ok_or_else(gone)?;
        let document = parse_document(&bytes, None).map_err(|source| StoreError::Document {
            image: image.manifest.clone(),
            source,
        })?;
        Ok(match document {
            Document::Manifest(manifest) => manifest.annotations,
            Document::Index(_) => BTreeMap::new(),
        })
    }

    /// Keeps a configuration, verbatim, and its manifest, which is made of `layers` where there is none. Neither known nor synced
    /// before [`Store::adopt`].
    pub(crate) fn put_documents(
        &self,
        config_bytes: &[u8],
        config: ImageConfig,
        manifest: Option<&[u8]>,
        layers: Vec<Descriptor>,
    ) -> Result<Image, StoreError> {
        let id = self.put_blob(config_bytes)?;
        let made;
        let manifest = if let Some(manifest) = manifest {
            manifest
        } else {
            made = manifest_of(config_bytes, layers, BTreeMap::new())?;
            &made
        };
        Ok(Image {
            id,
            manifest: self.put_blob(manifest)?,
            layers: config.rootfs.diff_ids.clone(),
            config,
        })
    }

    /// Makes an image whose blobs and layers are all here known, synced and named. `source` is the digest that the
    /// registry's name stood for: the one digest that a name may have.
    pub(crate) fn adopt(
        &self,
        image: &Image,
        names: &[&Reference],
        source: Option<&Digest>,
    ) -> Result<(), StoreError> {
        for name in names {
            if source.is_none() || name.digest() != source {
                check_tag(name)?;
            }
            check_repository(name)?;
        }
        self.stand(&image.layers)?;
        self.seal(&image.layers)?;
        self.name(image, names, source)
    }

    /// Points `reference` to all that is known under another name.
    pub(crate) fn tag_known(&self, known: &Known, reference: &Reference) -> Result<(), StoreError> {
        check_tag(reference)?;
        self.name_entry(known.descriptor.clone(), &known.id, &[reference], None)
    }

    /// Points `reference` to `image`; the image it pointed to before stays, without that name.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<(), StoreError> {
        check_tag(reference)?;
        self.name(image, &[reference], None)
    }

    /// Finds the image of a name or of a digest (of its manifest, or of what its registry's name pointed to).
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        if let Some(entry) = index::entry_of(&index, reference) {
            return self.load(&entry.digest);
        }
        let Some(digest) = reference.digest() else {
            return Ok(None);
        };
        let member = self.find_member(&index.manifests, |image| image.manifest == *digest)?;
        Ok(member.map(|(_, image)| image))
    }

    /// Finds the image of exactly this id; no name is ever taken for it.
    pub(crate) fn image_of(&self, id: &Digest) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        // Entries that other tools wrote do not name the id.
        let (own, others): (Vec<_>, Vec<_>) = index
            .manifests
            .iter()
            .filter(|entry| index::id_of(entry).is_none_or(|found| found == *id))
            .partition(|entry| index::id_of(entry).is_some());
        for entry in own.into_iter().chain(others) {
            if let Some(image) = self.load(&entry.digest)?
                && image.id == *id
            {
                return Ok(Some(image));
            }
        }
        let member = self.find_member(&index.manifests, |image| image.id == *id)?;
        Ok(member.map(|(_, image)| image))
    }

    /// Finds the image of a name, a digest or the first digits of an id, in this order. What reads like a digest, or the beginning
    /// of one, is never a name (`ParseAnyReference` of distribution/reference), so that no name takes the place of an id. Of an index
    /// it is the image for this machine.
    pub fn find(&self, text: &str) -> Result<Option<Image>, StoreError> {
        match self.find_entry(text)? {
            Some((_, Some(image))) => Ok(Some(image)),
            Some((entry, None)) => self.load(&entry.digest),
            None => Ok(None),
        }
    }

    /// Finds the entry of the index for [`Store::find`], and the image that was meant where that is one of several.
    fn find_entry(&self, text: &str) -> Result<Option<(Descriptor, Option<Image>)>, StoreError> {
        let index = self.read_index()?;
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let whole = Digest::from_hex(digits).is_some();
        if !whole
            && !text.starts_with("sha256:")
            && let Ok(reference) = Reference::parse(text)
        {
            if let Some(entry) = index::entry_of(&index, &reference)
                && self.load(&entry.digest)?.is_some()
            {
                return Ok(Some((entry.clone(), None)));
            }
            if let Some(digest) = reference.digest() {
                let of_digest = |image: &Image| image.manifest == *digest;
                if let Some((entry, image)) = self.find_member(&index.manifests, of_digest)? {
                    return Ok(Some((entry, Some(image))));
                }
            }
        }
        if let Some(entry) = index::entry_of_id(&index, text)? {
            return Ok(Some((entry.clone(), None)));
        }
        if !index::is_digits(digits) {
            return Ok(None);
        }
        let fits =
            |image: &Image| image.id.hex().starts_with(digits) || image.manifest.hex() == digits;
        let member = self.find_member(&index.manifests, fits)?;
        Ok(member.map(|(entry, image)| (entry, Some(image))))
    }

    /// Reads the image of a manifest, or that of an index for this machine (if there is none, the first); `None` where a document or
    /// a layer of it does not count any more.
    pub(crate) fn load(&self, digest: &Digest) -> Result<Option<Image>, StoreError> {
        self.load_for(digest, &Platform::host())
    }

    /// Reads the image of a manifest; `None` where a document or a layer of it does not count any more.
    fn load_manifest(&self, manifest: &Digest) -> Result<Option<Image>, StoreError> {
        let invalid = |source: ManifestError| StoreError::Document {
            image: manifest.clone(),
            source,
        };
        let Some(bytes) = self.read_blob(manifest)? else {
            return Ok(None);
        };
        let document = match parse_document(&bytes, None).map_err(invalid)? {
            Document::Manifest(document) => document,
            Document::Index(_) => return Ok(None),
        };
        let Some(bytes) = self.read_blob(&document.config.digest)? else {
            return Ok(None);
        };
        let config = parse_config(&bytes).map_err(invalid)?;
        let layers = config.rootfs.diff_ids.clone();
        for diff_id in &layers {
            if self.layer(diff_id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Image {
            id: document.config.digest,
            manifest: manifest.clone(),
            config,
            layers,
        }))
    }

    /// Lists every name, and every image without one, newest first; an index has a row for each of its images.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let mut rows = Vec::new();
        for entry in &self.read_index()?.manifests {
            let reference = index::reference_of(entry);
            for manifest in self.manifests_of(&entry.digest)? {
                let Some(image) = self.load(&manifest)? else {
                    continue;
                };
                let mut size_bytes = 0;
                for diff_id in &image.layers {
                    size_bytes += self.layer(diff_id)?.map_or(0, |layer| layer.size_bytes);
                }
                let tag = reference.as_ref().and_then(Reference::tag);
                rows.push(ImageSummary {
                    repository: reference.as_ref().map(Reference::familiar_repository),
                    tag: tag.map(str::to_owned),
                    platform: image.config.platform(),
                    id: image.id,
                    source: index::source_of(entry),
                    created: image.config.created,
                    size_bytes,
                });
            }
        }
        rows.sort_by(|a, b| {
            let newest_first = b.created.cmp(&a.created);
            newest_first.then_with(|| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)))
        });
        Ok(rows)
    }

    /// Describes the manifest of `image` for the index.
    pub(crate) fn descriptor(&self, image: &Image) -> Result<Descriptor, StoreError> {
        let path = self.blob_path(&image.manifest);
        let bytes = self
            .read_blob(&image.manifest)?
            .ok_or_else(|| StoreError::NoBlob {
                digest: image.manifest.clone(),
            })?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|source| StoreError::Record { path, source })?;
        let media_type = value.get("mediaType").and_then(serde_json::Value::as_str);
        let media_type = media_type.unwrap_or(OCI_MANIFEST);
        let mut descriptor =
            Descriptor::new(media_type, image.manifest.clone(), bytes.len() as u64);
        descriptor.platform = Some(DescriptorPlatform::from(image.config.platform()));
        Ok(descriptor)
    }
}

/// Writes the manifest of an image that is made here.
fn manifest_of(
    config: &[u8],
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<Vec<u8>, StoreError> {
    let length = config.len() as u64;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(OCI_CONFIG, Digest::of(config), length),
        layers,
        annotations,
        extra: Extra::new(),
    };
    document_bytes("manifest", &manifest)
}

/// Refuses a name that reads like an id.
pub(super) fn check_repository(name: &Reference) -> Result<(), StoreError> {
    if name.familiar_repository() == "sha256" {
        return Err(StoreError::TagAlgorithm);
    }
    Ok(())
}

/// Refuses a digest as a name: it says what it is already.
pub(super) fn check_tag(name: &Reference) -> Result<(), StoreError> {
    check_repository(name)?;
    match name.digest() {
        None => Ok(()),
        Some(_) => Err(StoreError::TagDigest {
            reference: name.familiar(),
        }),
    }
}

fn document_bytes<T: Serialize>(what: &'static str, document: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(document).map_err(|source| StoreError::Write { what, source })
}

#[cfg(test)]
mod tests;
