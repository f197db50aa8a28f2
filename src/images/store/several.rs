//! Names that stand for several images at once: one a platform, and what is attested of them.
//!
//! Such a name points to an index. Of a pulled or loaded one some manifests may not be here: those that are count. Its id is
//! the digest of the index; which of its images a container gets, [`Store::load_for`] decides.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::manifest::{
    Descriptor, Document, Index, ManifestError, OCI_INDEX, Platform, parse_document,
};
use super::super::reference::{Digest, Reference};
use super::{Image, Store, StoreError, check_tag, document_bytes, index};

/// Statements above this size are refused (BuildKit bounds them to 40 MiB).
pub const MAX_ATTESTED_BYTES: u64 = 64 << 20;

/// One entry of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// As the index has it.
    pub descriptor: Descriptor,
    /// The image that it is, where it is one and is here with all of its layers.
    pub image: Option<Image>,
    /// Whether its manifest is here.
    pub is_here: bool,
}

/// What any manifest names, an image's or not.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl Named {
    /// Reads a manifest.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(bytes).map_err(|source| ManifestError::Shape {
            what: "manifest",
            source,
        })
    }

    /// Returns every blob that it names.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }
}

impl Store {
    /// Reads an index; `None` where it is not here, or something else.
    pub(crate) fn index_of(&self, digest: &Digest) -> Result<Option<Index>, StoreError> {
        let Some(bytes) = self.read_blob(digest)? else {
            return Ok(None);
        };
        Ok(match parse_document(&bytes, None) {
            Ok(Document::Index(index)) => Some(index),
            Ok(Document::Manifest(_)) | Err(_) => None,
        })
    }

    /// Returns the entries of an index, each once; none where it is not here.
    pub(crate) fn members(&self, digest: &Digest) -> Result<Vec<Member>, StoreError> {
        let Some(index) = self.index_of(digest)? else {
            return Ok(Vec::new());
        };
        let mut members = Vec::new();
        let mut seen = BTreeSet::new();
        for descriptor in index.manifests {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            let is_here = self.blob_path(&descriptor.digest).exists();
            let is_image = is_here && !descriptor.is_attestation() && !descriptor.is_index();
            let image = match is_image.then(|| self.load_manifest(&descriptor.digest)) {
                Some(Err(error)) if error.is_no_image() => None,
                Some(loaded) => loaded?,
                None => None,
            };
            members.push(Member {
                descriptor,
                image,
                is_here,
            });
        }
        Ok(members)
    }

    /// Returns the manifests of images that something stands for: itself, or those of an index that are here.
    pub(super) fn manifests_of(&self, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let Some(index) = self.index_of(digest)? else {
            return Ok(vec![digest.clone()]);
        };
        let entries = index.manifests.into_iter();
        let images = entries.filter(|entry| !entry.is_attestation() && !entry.is_index());
        let digests = images.map(|entry| entry.digest);
        Ok(digests
            .filter(|digest| self.blob_path(digest).exists())
            .collect())
    }

    /// Reads the image of a manifest, whatever it is for; of an index the one that suits `platform` best, or else the first that is
    /// here.
    pub(crate) fn load_for(
        &self,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<Image>, StoreError> {
        if self.index_of(digest)?.is_none() {
            return self.load_manifest(digest);
        }
        let members = self.members(digest)?;
        let images = members.into_iter().filter_map(|member| member.image);
        Ok(best(images.collect(), platform))
    }

    /// Makes an index of manifests that are here known, synced and named.
    pub(crate) fn put_index(
        &self,
        index: &Index,
        names: &[&Reference],
    ) -> Result<Descriptor, StoreError> {
        for name in names {
            check_tag(name)?;
        }
        self.adopt_index(&document_bytes("index", index)?, names)
    }

    /// As [`Store::put_index`], but neither known nor synced.
    pub(crate) fn make_index(&self, index: &Index) -> Result<Descriptor, StoreError> {
        let digest = self.put_blob(&document_bytes("index", index)?)?;
        self.describe_index(&digest)
    }

    /// As [`Store::put_index`], of the bytes of one.
    pub(crate) fn adopt_index(
        &self,
        bytes: &[u8],
        names: &[&Reference],
    ) -> Result<Descriptor, StoreError> {
        let digest = self.put_blob(bytes)?;
        for member in self.members(&digest)? {
            if let Some(image) = member.image {
                self.stand(&image.layers)?;
                self.seal(&image.layers)?;
            }
        }
        self.sync()?;
        let descriptor = self.describe_index(&digest)?;
        self.name_entry(descriptor.clone(), &digest, names, None)?;
        Ok(descriptor)
    }

    /// Reads what is attested of an image, which may be larger than other documents; `None` where it is not here.
    pub(crate) fn read_attested(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_blob_within(digest, MAX_ATTESTED_BYTES)
    }

    /// Returns the digest that an index has or would have.
    pub(crate) fn digest_of_index(index: &Index) -> Result<Digest, StoreError> {
        Ok(Digest::of(&document_bytes("index", index)?))
    }

    /// Describes an index that is here.
    pub(crate) fn describe_index(&self, digest: &Digest) -> Result<Descriptor, StoreError> {
        let gone = || StoreError::NoBlob {
            digest: digest.clone(),
        };
        let bytes = self.read_blob(digest)?.ok_or_else(gone)?;
        let index = self.index_of(digest)?.ok_or_else(gone)?;
        let media_type = index.media_type.as_deref().unwrap_or(OCI_INDEX);
        let length = bytes.len() as u64;
        Ok(Descriptor::new(media_type, digest.clone(), length))
    }

    /// Finds an image that is one of several under its name, with the entry of that name.
    pub(super) fn find_member(
        &self,
        entries: &[Descriptor],
        fits: impl Fn(&Image) -> bool,
    ) -> Result<Option<(Descriptor, Image)>, StoreError> {
        for entry in entries.iter().filter(|entry| entry.is_index()) {
            for member in self.members(&entry.digest)? {
                if let Some(image) = member.image.filter(&fits) {
                    return Ok(Some((entry.clone(), image)));
                }
            }
        }
        Ok(None)
    }

    /// Finds what suits a platform under a name, a digest or the first digits of an id; `None` where nothing does.
    pub fn find_for(&self, text: &str, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let found = match self.find_entry(text)? {
            None => None,
            Some((_, Some(image))) => Some(image),
            Some((entry, None)) => self.load_for(&entry.digest, platform)?,
        };
        Ok(found.filter(|image| suits(image, platform)))
    }

    /// As [`Store::resolve`], of an index the image that suits `platform` best.
    pub(crate) fn resolve_for(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        match index::entry_of(&index, reference) {
            Some(entry) => self.load_for(&entry.digest, platform),
            None => self.resolve(reference),
        }
    }
}

/// Whether an image runs where `platform` is asked for; one that does not say what it is for fits everywhere.
pub(crate) fn suits(image: &Image, platform: &Platform) -> bool {
    let found = image.config.platform();
    found.architecture.is_empty() || platform.preferences().contains(&found)
}

/// Chooses an image for a platform; where none suits it the first.
fn best(mut images: Vec<Image>, platform: &Platform) -> Option<Image> {
    let wanted = platform.preferences();
    let place = |image: &Image| {
        let found = image.config.platform();
        let place = wanted.iter().position(|wanted| *wanted == found);
        place.unwrap_or(wanted.len())
    };
    // Of equals the first stays first.
    images.sort_by_key(place);
    images.into_iter().next()
}
