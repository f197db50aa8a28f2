//! `index.json`: which names there are.

use std::collections::{BTreeMap, BTreeSet};

use super::super::manifest::{Descriptor, Index};
use super::super::reference::{Digest, Reference};
use super::{Image, Store, StoreError, document_bytes};

/// OCI image-spec, `annotations.md`.
const NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_ID: &str = "stack.image.id";
const SOURCE: &str = "stack.source.digest";
const SOURCE_REPOSITORY: &str = "stack.source.repository";
const TAGGED: &str = "stack.tagged";

/// Finds the entry of a name or digest. Content is the same under any name, so a digest finds it under each.
pub(super) fn entry_of<'a>(index: &'a Index, reference: &Reference) -> Option<&'a Descriptor> {
    index
        .manifests
        .iter()
        .find(|entry| match reference.digest() {
            Some(digest) => entry.digest == *digest || source_of(entry).as_ref() == Some(digest),
            None => entry.annotations.get(NAME) == Some(&reference.to_string()),
        })
}

/// Finds the one entry whose image id (or whole manifest digest) begins with `text`.
pub(super) fn entry_of_id<'a>(
    index: &'a Index,
    text: &str,
) -> Result<Option<&'a Descriptor>, StoreError> {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if !is_digits(prefix) {
        return Ok(None);
    }
    let mut found: BTreeMap<&str, &Descriptor> = BTreeMap::new();
    for entry in &index.manifests {
        let id = entry.annotations.get(IMAGE_ID).map_or("", String::as_str);
        if id
            .strip_prefix("sha256:")
            .is_some_and(|id| id.starts_with(prefix))
        {
            found.insert(id, entry);
        }
    }
    if found.len() > 1 {
        return Err(StoreError::Ambiguous {
            prefix: text.to_owned(),
        });
    }
    let by_manifest = index.manifests.iter().find(|e| e.digest.hex() == prefix);
    Ok(found.into_values().next().or(by_manifest))
}

/// Whether something reads like the first digits of an id.
pub(super) fn is_digits(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    !text.is_empty() && text.bytes().all(hex)
}

/// Returns the name of an entry.
pub(super) fn reference_of(entry: &Descriptor) -> Option<Reference> {
    let name = entry.annotations.get(NAME)?;
    // A name that is not ours to read (other tools write here too) counts as none.
    Reference::parse(name).ok()
}

/// Returns what the registry's name stood for.
pub(super) fn source_of(entry: &Descriptor) -> Option<Digest> {
    let digest = entry.annotations.get(SOURCE)?;
    Digest::parse(digest).ok()
}

/// Returns the repository and the digest that an entry came under.
pub(super) fn origin_of(entry: &Descriptor) -> Option<(String, Digest)> {
    let digest = source_of(entry)?;
    let repository = entry.annotations.get(SOURCE_REPOSITORY).cloned();
    // Entries of before had the name's own.
    let repository = repository.or_else(|| Some(reference_of(entry)?.repository()))?;
    Some((repository, digest))
}

/// Whether one of `digests` (`repository@digest`) is that origin.
fn names_origin(digests: &[Reference], (repository, digest): &(String, Digest)) -> bool {
    let mut digests = digests.iter();
    digests.any(|name| name.digest() == Some(digest) && name.repository() == *repository)
}

/// Returns when the entry got its name by hand, RFC 3339.
pub(super) fn tagged_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(TAGGED).map(String::as_str)
}

/// Returns the image id that an entry names.
pub(super) fn id_of(entry: &Descriptor) -> Option<Digest> {
    Digest::parse(entry.annotations.get(IMAGE_ID)?).ok()
}

impl Store {
    pub(super) fn read_index(&self) -> Result<Index, StoreError> {
        let path = self.path("images/index.json");
        let bytes = fs_err::read(&path).map_err(StoreError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Record { path, source })
    }

    /// Returns what the registry's name of `reference` stood for when it was pulled or pushed.
    pub(crate) fn source(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        let index = self.read_index()?;
        Ok(entry_of(&index, reference).and_then(source_of))
    }

    /// Returns the tags that a repository has here, each once.
    pub(crate) fn tags_of(&self, repository: &str) -> Result<Vec<String>, StoreError> {
        let index = self.read_index()?;
        let names = index.manifests.iter().filter_map(reference_of);
        let names = names.filter(|name| name.repository() == repository);
        let tags: BTreeSet<String> = names
            .filter_map(|name| name.tag().map(str::to_owned))
            .collect();
        Ok(tags.into_iter().collect())
    }

    /// Returns the repositories of a registry that images of this store came from or went to, with the layers of those.
    pub(crate) fn repositories_at(
        &self,
        domain: &str,
    ) -> Result<Vec<(String, Vec<Digest>)>, StoreError> {
        let mut found = Vec::new();
        for entry in &self.read_index()?.manifests {
            let origin = origin_of(entry).and_then(|(repository, _)| {
                let path = repository.strip_prefix(domain)?.strip_prefix('/')?;
                Some(path.to_owned())
            });
            let Some(path) = origin else { continue };
            for manifest in self.manifests_of(&entry.digest)? {
                if let Some(image) = self.load(&manifest)? {
                    found.push((path.clone(), image.layers));
                }
            }
        }
        Ok(found)
    }

    /// Makes `image` known, under `names` if there are any, and synced.
    pub(super) fn name(
        &self,
        image: &Image,
        names: &[&Reference],
        source: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.name_entry(self.descriptor(image)?, &image.id, names, source)
    }

    /// Makes known what `entry` points to, an image or an index of that id, under `names` if there are any, and synced.
    pub(super) fn name_entry(
        &self,
        mut entry: Descriptor,
        id: &Digest,
        names: &[&Reference],
        source: Option<&Digest>,
    ) -> Result<(), StoreError> {
        entry
            .annotations
            .insert(IMAGE_ID.to_owned(), id.to_string());
        let now = jiff::Timestamp::now().to_string();
        let joint = self.joint(&entry, source)?;
        self.change_index(|index| {
            let of_entry = |e: &&Descriptor| e.digest == entry.digest;
            let known = index.manifests.iter().find(of_entry).cloned();
            let named_by = names.first().map(|name| name.repository());
            let origin = match (source, named_by) {
                (Some(source), Some(repository)) => Some((repository, source.clone())),
                _ => known.as_ref().and_then(origin_of),
            };
            if let Some((repository, source)) = origin {
                let source = source.to_string();
                entry.annotations.insert(SOURCE.to_owned(), source);
                let key = SOURCE_REPOSITORY.to_owned();
                entry.annotations.insert(key, repository);
            }
            if names.is_empty() && known.is_none() {
                index.manifests.push(entry.clone());
            }
            for name in names.iter().map(|name| reference_name(name)) {
                if let Some(joint) = joint.as_ref().filter(|joint| joint.takes(index, &name)) {
                    joint.take(index, &name);
                    continue;
                }
                let mut entry = entry.clone();
                let before = index.manifests.iter();
                let before = before.filter(|e| e.digest == entry.digest);
                let before = before.filter(|e| e.annotations.get(NAME) == Some(&name));
                let tagged = match source {
                    None => Some(now.clone()),
                    // Fetched once more, which is no tagging.
                    Some(_) => before.filter_map(tagged_of).map(str::to_owned).next(),
                };
                if let Some(tagged) = tagged {
                    entry.annotations.insert(TAGGED.to_owned(), tagged);
                }
                point(index, entry, &name);
            }
        })
    }

    /// Whether an image that came by `source` would take the name `reference` from something else.
    pub(crate) fn displaces(
        &self,
        image: &Image,
        reference: &Reference,
        source: &Digest,
    ) -> Result<bool, StoreError> {
        let index = self.read_index()?;
        let Some(named) = entry_of(&index, reference) else {
            return Ok(false);
        };
        let joint = self.joint(&self.descriptor(image)?, Some(source))?;
        let name = reference_name(reference);
        let is_joint = joint.is_some_and(|joint| joint.takes(&index, &name));
        Ok(named.digest != image.manifest && !is_joint)
    }

    /// Returns the index that an image came by, where a name may come to stand for both it and another one of that index.
    fn joint(
        &self,
        entry: &Descriptor,
        source: Option<&Digest>,
    ) -> Result<Option<Joint>, StoreError> {
        let Some(source) = source.filter(|source| **source != entry.digest) else {
            return Ok(None);
        };
        let Some(index) = self.index_of(source)?.filter(|i| i.has(&entry.digest)) else {
            return Ok(None);
        };
        let mut joint = self.describe_index(source)?;
        for key in [IMAGE_ID, SOURCE] {
            joint.annotations.insert(key.to_owned(), source.to_string());
        }
        let all = index.manifests.into_iter().map(|member| member.digest);
        Ok(Some(Joint {
            entry: joint,
            others: all.filter(|digest| *digest != entry.digest).collect(),
        }))
    }

    /// Notes that the manifest or index `target` is `source` in the registry, where the name `reference` still is its own: an upload takes minutes, and
    /// somebody may have given the name to another image meanwhile.
    pub(crate) fn note_source(
        &self,
        target: &Digest,
        reference: &Reference,
        source: &Digest,
    ) -> Result<(), StoreError> {
        // A manifest that was written for the push is on disk before it is named.
        self.sync()?;
        let name = reference_name(reference);
        self.change_index(|index| {
            let mine =
                |e: &&mut Descriptor| e.digest == *target && e.annotations.get(NAME) == Some(&name);
            for entry in index.manifests.iter_mut().filter(mine) {
                let annotations = &mut entry.annotations;
                annotations.insert(SOURCE.to_owned(), source.to_string());
                annotations.insert(SOURCE_REPOSITORY.to_owned(), reference.repository());
            }
        })
    }

    /// Takes `names` and `digests` (`repository@digest`) from the image `id`, where they are still its own. Without a name it
    /// stays, unless `forget`: then it is removed from the index, if nobody has given it another name meanwhile. What it alone
    /// used is left to [`Store::collect`].
    pub(crate) fn unname(
        &self,
        id: &Digest,
        names: &[Reference],
        digests: &[Reference],
        forget: bool,
    ) -> Result<(), StoreError> {
        let change = |index: &mut Index| {
            for name in names.iter().chain(digests).map(reference_name) {
                let named = |e: &&Descriptor| {
                    e.annotations.get(NAME) == Some(&name) && id_of(e).as_ref() == Some(id)
                };
                if let Some(entry) = index.manifests.iter().find(named).cloned() {
                    take_name(index, &entry, &name);
                }
            }
            let is_gone = |entry: &Descriptor| {
                let origin = origin_of(entry).filter(|_| id_of(entry).as_ref() == Some(id));
                origin.is_some_and(|origin| names_origin(digests, &origin))
            };
            for entry in index.manifests.iter_mut().filter(|e| is_gone(e)) {
                entry.annotations.remove(SOURCE);
                entry.annotations.remove(SOURCE_REPOSITORY);
            }
            let mine = |e: &Descriptor| id_of(e).as_ref() == Some(id);
            let is_named = |e: &Descriptor| mine(e) && e.annotations.contains_key(NAME);
            if forget && !index.manifests.iter().any(is_named) {
                index.manifests.retain(|e| !mine(e));
            }
        };
        match self.change_index(change) {
            Err(error) if error.is_lack_of_room() && self.spend_reserve()? => {
                self.change_index(change)
            }
            changed => changed,
        }
    }

    pub(super) fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<(), StoreError> {
        let _locked = self.lock()?;
        let before = self.read_index()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let bytes = document_bytes("index", &after)?;
        let path = self.path("images/index.json");
        let temporary = self.scratch()?.next_path();
        let durability = crate::sys::atomic::Durability::Synced;
        crate::sys::atomic::write(&temporary, &bytes, 0o600, durability)
            .map_err(StoreError::io("write", &temporary))?;
        fs_err::rename(&temporary, &path).map_err(StoreError::io("write", &path))?;
        let directory = self.path("images");
        crate::sys::atomic::sync_directory(&directory).map_err(StoreError::io("sync", &directory))
    }
}

/// An index that takes the place of one of its images, where a name comes to stand for another one too.
struct Joint {
    entry: Descriptor,
    /// Of the index, but for the one that came last.
    others: BTreeSet<Digest>,
}

impl Joint {
    /// Whether a name has the index, or another image of it that came by it.
    fn takes(&self, index: &Index, name: &str) -> bool {
        let named = |e: &&Descriptor| e.annotations.get(NAME).is_some_and(|n| n == name);
        index.manifests.iter().find(named).is_some_and(|named| {
            let came_by = source_of(named).as_ref() == Some(&self.entry.digest);
            named.digest == self.entry.digest || (came_by && self.others.contains(&named.digest))
        })
    }

    /// Lets a name stand for the index.
    fn take(&self, index: &mut Index, name: &str) {
        let mut entry = self.entry.clone();
        let named = |e: &&Descriptor| e.annotations.get(NAME).is_some_and(|n| n == name);
        if let Some(old) = index.manifests.iter().find(named) {
            for key in [SOURCE_REPOSITORY, TAGGED] {
                let value = old.annotations.get(key).cloned();
                entry
                    .annotations
                    .extend(value.map(|value| (key.to_owned(), value)));
            }
        }
        point(index, entry, name);
        // The index has them.
        let is_other =
            |e: &Descriptor| !e.annotations.contains_key(NAME) && self.others.contains(&e.digest);
        index.manifests.retain(|e| !is_other(e));
    }
}

/// With a digest the tag says nothing (it may have moved since).
fn reference_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.repository()),
        None => reference.to_string(),
    }
}

/// Lets `name` point to `entry` and to nothing else.
fn point(index: &mut Index, mut entry: Descriptor, name: &str) {
    let old = index
        .manifests
        .iter()
        .find(|e| e.annotations.get(NAME).is_some_and(|n| n == name))
        .cloned();
    if let Some(old) = old {
        take_name(index, &old, name);
    }
    let nameless = |e: &Descriptor| e.digest == entry.digest && !e.annotations.contains_key(NAME);
    index.manifests.retain(|e| !nameless(e));
    entry.annotations.insert(NAME.to_owned(), name.to_owned());
    index.manifests.push(entry);
}

/// Removes the entry of `name`; its image keeps an entry.
fn take_name(index: &mut Index, old: &Descriptor, name: &str) {
    let named = |e: &Descriptor| e.annotations.get(NAME).is_some_and(|n| n == name);
    index.manifests.retain(|e| !named(e));
    if index.manifests.iter().all(|e| e.digest != old.digest) {
        let mut nameless = old.clone();
        nameless.annotations.remove(NAME);
        nameless.annotations.remove(TAGGED);
        index.manifests.push(nameless);
    }
}
