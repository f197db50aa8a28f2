//! An image with all that the store knows of it: its names, where it came from, what it takes.

use std::collections::BTreeSet;

use super::super::manifest::{Descriptor, Platform};
use super::super::reference::{Digest, Reference};
use super::{Image, Member, Store, StoreError, index};

/// An image, however many names it has, or an index of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The digest of its configuration, or of the index.
    pub id: Digest,
    /// The image; of several manifests with its configuration the first, of an index the one for this machine or that was asked for.
    pub image: Image,
    /// What the index has; empty where there is none.
    pub members: Vec<Member>,
    /// Points to its manifest, with the platform, or to the index.
    pub descriptor: Descriptor,
    /// Its names, each with a tag, in order.
    pub names: Vec<Reference>,
    /// `repository@digest` that it was pulled as.
    pub digests: Vec<Reference>,
    /// Bytes of the unpacked layers.
    pub size_bytes: u64,
    /// When it last got a name here, RFC 3339.
    pub tagged: Option<String>,
}

impl Known {
    /// Returns its image, or all of an index that are here.
    pub fn images(&self) -> Vec<&Image> {
        if self.members.is_empty() {
            return vec![&self.image];
        }
        let images = self.members.iter();
        images.filter_map(|member| member.image.as_ref()).collect()
    }

    /// Returns the diff ids of the layers of all its images, each once.
    pub fn layers(&self) -> BTreeSet<&Digest> {
        let images = self.images().into_iter();
        images.flat_map(|image| &image.layers).collect()
    }

    /// Whether that is its id or, of an index, the id of one of its images.
    pub fn has_id(&self, id: &str) -> bool {
        let mut ids = self.images().into_iter().map(|image| &image.id);
        self.id.to_string() == id || ids.any(|own| own.to_string() == id)
    }

    /// Returns the image that is for exactly this platform.
    pub fn image_of(&self, platform: &Platform) -> Option<&Image> {
        let mut images = self.images().into_iter();
        images.find(|image| image.config.platform() == *platform)
    }

    /// Returns what its images are for.
    pub fn platforms(&self) -> Vec<Platform> {
        let images = self.images().into_iter();
        images.map(|image| image.config.platform()).collect()
    }
}

impl Store {
    /// Returns every image, newest first.
    pub fn known(&self) -> Result<Vec<Known>, StoreError> {
        let index = self.read_index()?;
        let mut found: Vec<Known> = Vec::new();
        for entry in &index.manifests {
            self.learn(entry, &mut found)?;
        }
        for known in &mut found {
            self.finish(known)?;
        }
        found.sort_by(|a, b| {
            let newest_first = b.image.config.created.cmp(&a.image.config.created);
            newest_first.then_with(|| a.names.cmp(&b.names))
        });
        Ok(found)
    }

    /// Returns the image of this id.
    pub fn known_of(&self, id: &Digest) -> Result<Option<Known>, StoreError> {
        let index = self.read_index()?;
        let mut found = Vec::new();
        for entry in &index.manifests {
            if index::id_of(entry).is_none_or(|of_entry| of_entry == *id) {
                self.learn(entry, &mut found)?;
            }
        }
        let mut known = found.into_iter().find(|known| known.id == *id);
        if let Some(known) = &mut known {
            self.finish(known)?;
        }
        Ok(known)
    }

    /// Returns the image of a name, a digest or the first digits of an id, with all that is known of it.
    pub fn find_known(&self, text: &str) -> Result<Option<Known>, StoreError> {
        let Some((entry, meant)) = self.find_entry(text)? else {
            return Ok(None);
        };
        let id = match index::id_of(&entry) {
            Some(id) => id,
            None if entry.is_index() => entry.digest.clone(),
            None => match self.load(&entry.digest)? {
                Some(image) => image.id,
                None => return Ok(None),
            },
        };
        let mut known = self.known_of(&id)?;
        if let Some(known) = &mut known
            && known.descriptor.digest != entry.digest
            && let Some(image) = self.load(&entry.digest)?
        {
            // Several manifests may be of one image, with other annotations or layers packed otherwise.
            known.image = image;
            known.descriptor = entry;
            known.descriptor.annotations.clear();
        }
        if let (Some(known), Some(meant)) = (&mut known, meant) {
            known.image = meant;
        }
        Ok(known)
    }

    /// Takes up what an entry of the index says.
    fn learn(&self, entry: &Descriptor, found: &mut Vec<Known>) -> Result<(), StoreError> {
        let of = |id: &Digest, found: &[Known]| found.iter().position(|known| known.id == *id);
        let id_of = |image: &Image| {
            if entry.is_index() {
                entry.digest.clone()
            } else {
                image.id.clone()
            }
        };
        let mut position = index::id_of(entry).and_then(|id| of(&id, found));
        let mut loaded = None;
        if position.is_none() {
            loaded = self.load(&entry.digest)?;
            // Entries that other tools wrote do not name it.
            position = loaded.as_ref().and_then(|image| of(&id_of(image), found));
        }
        let known = match (position, loaded) {
            (Some(position), _) => found.get_mut(position),
            (None, None) => None,
            (None, Some(image)) => {
                let mut descriptor = entry.clone();
                descriptor.annotations.clear();
                found.push(Known {
                    id: id_of(&image),
                    image,
                    members: self.members(&entry.digest)?,
                    descriptor,
                    names: Vec::new(),
                    digests: Vec::new(),
                    size_bytes: 0,
                    tagged: None,
                });
                found.last_mut()
            }
        };
        let Some(known) = known else { return Ok(()) };
        if let Some(name) = index::reference_of(entry) {
            match name.digest() {
                Some(_) => known.digests.push(name),
                None => known.names.push(name),
            }
        }
        if let Some((repository, digest)) = index::origin_of(entry)
            && let Ok(digest) = Reference::parse(&format!("{repository}@{digest}"))
        {
            known.digests.push(digest);
        }
        let tagged = index::tagged_of(entry).map(str::to_owned);
        known.tagged = known.tagged.take().max(tagged);
        Ok(())
    }

    /// Sorts, and adds what the layers say.
    fn finish(&self, known: &mut Known) -> Result<(), StoreError> {
        known.names.sort();
        known.names.dedup();
        known.digests.sort();
        known.digests.dedup();
        let mut size_bytes = 0;
        for image in known.images() {
            // A layer that an image has twice counts twice, as its history has it.
            for diff_id in &image.layers {
                size_bytes += self.layer(diff_id)?.map_or(0, |layer| layer.size_bytes);
            }
        }
        known.size_bytes = size_bytes;
        Ok(())
    }
}
