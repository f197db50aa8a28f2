//! An image with all that the store knows of it: its names, where it came from, what it takes.

use super::super::manifest::Descriptor;
use super::super::reference::{Digest, Reference};
use super::{Image, Store, StoreError, index};

/// An image, however many names it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The image; of several manifests with its configuration the first.
    pub image: Image,
    /// Points to its manifest, with the platform.
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
        let mut known = found.into_iter().find(|known| known.image.id == *id);
        if let Some(known) = &mut known {
            self.finish(known)?;
        }
        Ok(known)
    }

    /// Returns the image of a name, a digest or the first digits of an id, with all that is known of it.
    pub fn find_known(&self, text: &str) -> Result<Option<Known>, StoreError> {
        match self.find(text)? {
            Some(image) => self.known_of(&image.id),
            None => Ok(None),
        }
    }

    /// Takes up what an entry of the index says.
    fn learn(&self, entry: &Descriptor, found: &mut Vec<Known>) -> Result<(), StoreError> {
        let of =
            |id: &Digest, found: &[Known]| found.iter().position(|known| known.image.id == *id);
        let mut position = index::id_of(entry).and_then(|id| of(&id, found));
        let mut loaded = None;
        if position.is_none() {
            loaded = self.load(&entry.digest)?;
            // Entries that other tools wrote do not name it.
            position = loaded.as_ref().and_then(|image| of(&image.id, found));
        }
        let known = match (position, loaded) {
            (Some(position), _) => found.get_mut(position),
            (None, None) => None,
            (None, Some(image)) => {
                let mut descriptor = entry.clone();
                descriptor.annotations.clear();
                found.push(Known {
                    image,
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
        for diff_id in &known.image.layers {
            known.size_bytes += self.layer(diff_id)?.map_or(0, |layer| layer.size_bytes);
        }
        Ok(())
    }
}
