//! What an archive has of an image of several platforms: all of it is loaded, where no platform is asked for.

use std::collections::BTreeSet;

use super::super::super::manifest::{
    Descriptor, DescriptorPlatform, Index, Platform, REFERENCE_DIGEST,
};
use super::super::super::reference::{Digest, Reference};
use super::super::super::store::{MAX_ATTESTED_BYTES, Named, Store, StoreError};
use super::super::spool::{Spool, Spooled};
use super::{Found, LoadError, Loaded, Told, check, check_names, flatten, from_manifest};

/// Several images under one name, or one and what is attested of it.
pub(super) struct Several {
    pub(super) names: Vec<Reference>,
    /// The index that lists them: the archive's own where it has one, byte for byte.
    index: Vec<u8>,
    images: Vec<Found>,
    /// Manifests of attestations, and what they name.
    attested: Vec<Spooled>,
}

impl Several {
    /// Reads what entries of `index.json` that have the same name stand for; `None` where that is one image and nothing else, or are images
    /// that have nothing to do with each other.
    pub(super) fn of(
        spool: &Spool,
        entries: &[Descriptor],
        name: Option<&Reference>,
    ) -> Result<Option<Self>, LoadError> {
        let mut images = Vec::new();
        flatten(spool, entries, 0, &mut BTreeSet::new(), &mut images)?;
        let platforms: BTreeSet<&Platform> = images.iter().map(|(_, platform)| platform).collect();
        let is_distinct = platforms.len() == images.len();
        let own = match entries {
            [entry] if entry.is_index() => own_index(spool, entry)?,
            _ => None,
        };
        let own = own.filter(|(index, _)| images.iter().all(|(e, _)| index.has(&e.digest)));
        let listed = own.as_ref().map_or(entries, |(index, _)| &index.manifests);
        let attestations = attestations(spool, listed, &images)?;
        if !is_distinct || images.len() + attestations.len() < 2 {
            return Ok(None);
        }
        let bytes = match own {
            Some((_, bytes)) => bytes,
            None => made(&images, &attestations)?,
        };
        let mut attested = Vec::new();
        for entry in &attestations {
            attested.extend(blobs_of(spool, entry)?);
        }
        let found = images.iter().map(|(entry, _)| from_manifest(spool, entry));
        Ok(Some(Self {
            names: name.into_iter().cloned().collect(),
            index: bytes,
            images: found.collect::<Result<_, _>>()?,
            attested,
        }))
    }

    /// Whether it is the same under another name.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.index == other.index
    }

    /// Checks what needs no unpacking.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        check_names(&self.names)?;
        self.images.iter().try_for_each(check)
    }

    /// Puts all into the store.
    pub(super) fn keep(self, store: &Store, told: Told<'_>) -> Result<Loaded, LoadError> {
        let id = Digest::of(&self.index);
        let shown = self.names.first().map(Reference::familiar);
        for image in self.images {
            super::take(store, image, shown.clone(), told)?;
        }
        for file in &self.attested {
            let bytes = fs_err::read(&file.path).map_err(StoreError::io("read", &file.path))?;
            store.put_blob(&bytes)?;
        }
        let replaced = super::replaced(store, &self.names, &id)?;
        let names: Vec<&Reference> = self.names.iter().collect();
        store.adopt_index(&self.index, &names)?;
        Ok(Loaded {
            id,
            names: self.names,
            replaced,
        })
    }
}

/// Reads the index that an entry points to, and its bytes.
fn own_index(spool: &Spool, entry: &Descriptor) -> Result<Option<(Index, Vec<u8>)>, LoadError> {
    let Some(file) = spool.described(entry)? else {
        return Ok(None);
    };
    let bytes = file.bytes()?;
    let index = serde_json::from_slice(&bytes).map_err(|source| LoadError::Json {
        path: format!("blobs/sha256/{}", entry.digest.hex()),
        source,
    })?;
    Ok(Some((index, bytes)))
}

/// Returns the entries for what is attested of `images` and is in the archive with all that it names.
fn attestations(
    spool: &Spool,
    listed: &[Descriptor],
    images: &[(Descriptor, Platform)],
) -> Result<Vec<Descriptor>, LoadError> {
    let mut found = Vec::new();
    for entry in listed.iter().filter(|entry| entry.is_attestation()) {
        let about = entry.annotations.get(REFERENCE_DIGEST);
        let is_of = |(image, _): &(Descriptor, Platform)| {
            about.is_some_and(|about| *about == image.digest.to_string())
        };
        if images.iter().any(is_of) && !blobs_of(spool, entry)?.is_empty() {
            found.push(entry.clone());
        }
    }
    Ok(found)
}

/// Returns a manifest and all that it names; nothing where a part of it is not in the archive.
fn blobs_of(spool: &Spool, entry: &Descriptor) -> Result<Vec<Spooled>, LoadError> {
    let Some(manifest) = spool.described(entry)? else {
        return Ok(Vec::new());
    };
    let mut files = vec![manifest.clone()];
    let named = Named::of(&manifest.bytes()?).map_err(|source| LoadError::Document {
        path: format!("blobs/sha256/{}", entry.digest.hex()),
        source,
    })?;
    for blob in named.blobs() {
        match spool.described(blob)? {
            // Larger ones would not be read from the store either.
            Some(file) if file.size <= MAX_ATTESTED_BYTES => files.push(file.clone()),
            Some(_) | None => return Ok(Vec::new()),
        }
    }
    Ok(files)
}

/// Makes an index of images that the archive lists one by one, or in indexes within indexes.
fn made(
    images: &[(Descriptor, Platform)],
    attestations: &[Descriptor],
) -> Result<Vec<u8>, LoadError> {
    let listed = images.iter().map(|(entry, platform)| Descriptor {
        annotations: std::collections::BTreeMap::new(),
        platform: Some(DescriptorPlatform::from(platform.clone())),
        ..entry.clone()
    });
    let index = Index::new(listed.chain(attestations.iter().cloned()).collect());
    serde_json::to_vec(&index).map_err(|source| {
        let what = "index";
        LoadError::Store(StoreError::Write { what, source })
    })
}
