//! What a build for one platform or several becomes in the store: an image, or an index of images and what is attested of them.

use super::super::manifest::{Descriptor, DescriptorPlatform, Index, Platform};
use super::super::reference::Reference;
use super::super::store::{Image, Store};
use super::annotation::{self, AnnotationPlace};
use super::attest::{self, Attestation};
use super::builder::Build;
use super::error::BuildError;

/// What was made for one platform.
pub(super) struct Part {
    pub(super) platform: Platform,
    pub(super) image: Image,
    /// What is attested of it.
    pub(super) attestations: Vec<Attestation>,
}

/// Returns what was made for this machine, or else the first.
pub(super) fn own(parts: &[Part]) -> Option<&Part> {
    let of = |wanted: &Platform| parts.iter().find(|part| part.platform == *wanted);
    let preferences = Platform::host().preferences();
    preferences.iter().find_map(of).or(parts.first())
}

impl Build<'_> {
    /// Makes an index of what was built, known under the names of the request, unless it is so already.
    pub(super) fn put_index(&self, parts: &[Part]) -> Result<Descriptor, BuildError> {
        let store = self.store();
        let mut images = Vec::new();
        let mut attested = Vec::new();
        for part in parts {
            let mut entry = store.descriptor(&part.image)?;
            entry.platform = Some(DescriptorPlatform::from(part.platform.clone()));
            entry.annotations.extend(annotation::said(
                &self.request.annotations,
                AnnotationPlace::ManifestDescriptor,
                Some(&part.platform),
            ));
            if !part.attestations.is_empty() {
                let of = (&entry, self.request.tags.as_slice());
                attested.push(attest::keep(store, &part.attestations, of)?);
            }
            images.push(entry);
        }
        images.extend(attested);
        let mut index = Index::new(images);
        index.annotations =
            annotation::said(&self.request.annotations, AnnotationPlace::Index, None);
        if !self.request.is_stored {
            return Ok(store.make_index(&index)?);
        }
        let digest = Store::digest_of_index(&index)?;
        let mut missing: Vec<&Reference> = Vec::new();
        for tag in &self.request.tags {
            let known = store.find_known(&tag.to_string())?;
            if known.is_none_or(|known| known.descriptor.digest != digest) {
                missing.push(tag);
            }
        }
        if missing.is_empty() && !self.request.tags.is_empty() {
            return Ok(store.describe_index(&digest)?);
        }
        Ok(store.put_index(&index, &missing)?)
    }
}
