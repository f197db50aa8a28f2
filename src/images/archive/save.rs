//! Images to a tar: see the drawing in [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use tar::{EntryType, Header};

use super::super::manifest::{
    Descriptor, Document, Extra, Index, OCI_INDEX, Platform, parse_document,
};
use super::super::reference::{Digest, Reference};
use super::super::store::{Image, Known, Member, Named, Store, StoreError};
use super::{ArchivedImage, FULL_NAME, REF_NAME};

/// An archive that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none of that name.
    #[error("No such image: {text}")]
    NoSuchImage {
        /// As asked for.
        text: String,
    },
    /// It is for another machine.
    #[error(
        "image with reference {text} was found but does not provide the specified platform ({platform})"
    )]
    Platform {
        /// As asked for.
        text: String,
        /// As asked for.
        platform: Platform,
    },
    /// Where it goes to.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// An image that is to be written, with the names that the archive gives it.
#[derive(Debug, Clone, PartialEq)]
struct Chosen {
    image: Image,
    /// Of its manifest, or of the index that has it.
    descriptor: Descriptor,
    /// What else the index has; empty where there is none.
    members: Vec<Member>,
    names: Vec<Reference>,
}

impl Chosen {
    /// Chooses all that there is of an image, or what is for `platform`.
    fn of(
        known: Known,
        names: Vec<Reference>,
        (text, platform): (&str, Option<&Platform>),
    ) -> Result<Self, SaveError> {
        let Some(platform) = platform else {
            return Ok(Self {
                image: known.image,
                descriptor: known.descriptor,
                members: known.members,
                names,
            });
        };
        let missing = || SaveError::Platform {
            text: text.to_owned(),
            platform: platform.clone(),
        };
        let image = known.image_of(platform).ok_or_else(missing)?.clone();
        let mut members = known.members.into_iter();
        let member = members.find(|member| member.descriptor.digest == image.manifest);
        Ok(Self {
            descriptor: member.map_or(known.descriptor, |member| member.descriptor),
            image,
            members: Vec::new(),
            names,
        })
    }
}

/// Writes the images that `asked` names: by name and tag, all tags of a repository, or an id (then without a name).
pub(in crate::images) fn save(
    store: &Store,
    asked: &[String],
    platform: Option<&Platform>,
    sink: impl Write,
) -> Result<(), SaveError> {
    // What is removed meanwhile stays on disk until this is done.
    let _hold = store.hold()?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in asked {
        let found = choose(store, text)?;
        for (known, names) in found {
            let found = Chosen::of(known, names, (text, platform))?;
            let digest = &found.descriptor.digest;
            match chosen.iter_mut().find(|c| c.descriptor.digest == *digest) {
                Some(same) => same.names.extend(found.names),
                None => chosen.push(found),
            }
        }
    }
    for image in &mut chosen {
        let mut seen = BTreeSet::new();
        image.names.retain(|name| seen.insert(name.clone()));
    }
    write(store, &chosen, sink)
}

/// Writes one image, or all that its index has, under these names; it need not be known.
pub(in crate::images) fn save_built(
    store: &Store,
    (image, descriptor): (&Image, &Descriptor),
    names: &[Reference],
    sink: impl Write,
) -> Result<(), SaveError> {
    let members = if descriptor.is_index() {
        store.members(&descriptor.digest)?
    } else {
        Vec::new()
    };
    let chosen = Chosen {
        image: image.clone(),
        descriptor: descriptor.clone(),
        members,
        names: names.to_vec(),
    };
    write(store, &[chosen], sink)
}

/// Finds what one argument stands for.
fn choose(store: &Store, text: &str) -> Result<Vec<(Known, Vec<Reference>)>, SaveError> {
    let missing = || SaveError::NoSuchImage {
        text: text.to_owned(),
    };
    let parsed = Reference::parse(text).ok();
    if let Some(name) = parsed.as_ref().filter(|_| is_repository(text)) {
        let mut found = Vec::new();
        for known in store.known()? {
            let names = known
                .names
                .iter()
                .filter(|n| n.repository() == name.repository());
            for name in names {
                // Manifests of one image may differ by name.
                let known = store.find_known(&name.to_string())?;
                found.extend(known.map(|known| (known, vec![name.clone()])));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let known = store.find_known(text)?.ok_or_else(missing)?;
    let names = parsed.into_iter().filter(|name| known.names.contains(name));
    let names = names.collect();
    Ok(vec![(known, names)])
}

/// Whether a reference names a repository alone, neither tag nor digest.
pub(in crate::images) fn is_repository(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or_default();
    !text.contains('@') && !last.contains(':')
}

fn write(store: &Store, chosen: &[Chosen], sink: impl Write) -> Result<(), SaveError> {
    let mut tar = Archive::new(sink);
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    let mut index = Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        extra: Extra::new(),
    };
    let mut list = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in chosen {
        let layers = tar.image(store, &image.image)?;
        if !image.members.is_empty() {
            tar.several(store, image)?;
        }
        let top = layers.last().map(|layer| layer.digest.hex().to_owned());
        index.manifests.extend(entries(image));
        for name in &image.names {
            let tag = name.tag().map(str::to_owned);
            let tags = repositories.entry(name.familiar_repository()).or_default();
            tags.extend(tag.zip(top.clone()));
        }
        list.push(archived(image, &layers));
    }
    tar.json("index.json", &index)?;
    tar.json("manifest.json", &list)?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if !repositories.is_empty() {
        tar.json("repositories", &repositories)?;
    }
    tar.finish()
}

/// Returns the entries of `index.json` for an image: one a name, or one without.
fn entries(image: &Chosen) -> Vec<Descriptor> {
    let named = image.names.iter().map(|name| {
        let mut entry = image.descriptor.clone();
        let mut annotate =
            |key: &str, value: String| entry.annotations.insert(key.to_owned(), value);
        annotate(FULL_NAME, name.to_string());
        annotate(REF_NAME, name.tag().unwrap_or("latest").to_owned());
        entry
    });
    let named: Vec<Descriptor> = named.collect();
    if named.is_empty() {
        return vec![image.descriptor.clone()];
    }
    named
}

fn archived(image: &Chosen, layers: &[Descriptor]) -> ArchivedImage {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    let sources = image.image.layers.iter().zip(layers);
    ArchivedImage {
        config: path(&image.image.id),
        repo_tags: (!names.is_empty()).then_some(names),
        layers: Some(layers.iter().map(|layer| path(&layer.digest)).collect()),
        layer_sources: Some(
            sources
                .map(|(diff_id, layer)| (diff_id.to_string(), layer.clone()))
                .collect(),
        ),
    }
}

/// The tar under construction. Times are all zero, so that the same images give the same bytes.
struct Archive<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<W> {
    fn new(sink: W) -> Self {
        Self {
            tar: tar::Builder::new(sink),
            written: BTreeSet::new(),
        }
    }

    /// Writes all of an image's blobs; returns its layers', bottom first.
    fn image(&mut self, store: &Store, image: &Image) -> Result<Vec<Descriptor>, SaveError> {
        let gone = |digest: &Digest| StoreError::NoBlob {
            digest: digest.clone(),
        };
        let bytes = store.read_blob(&image.manifest)?;
        let bytes = bytes.ok_or_else(|| gone(&image.manifest))?;
        let document = parse_document(&bytes, None);
        let invalid = |source| StoreError::Document {
            image: image.manifest.clone(),
            source,
        };
        let manifest = match document.map_err(invalid)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return Err(gone(&image.manifest).into()),
        };
        self.document(store, &image.id)?;
        self.document(store, &image.manifest)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&image.layers) {
            store.layer_blob(diff_id, &layer.digest)?;
            if self.written.insert(layer.digest.clone()) {
                self.blob(store, &layer.digest)?;
            }
        }
        Ok(manifest.layers)
    }

    /// Writes an index, the rest of the images that it has here and what is attested of them.
    fn several(&mut self, store: &Store, chosen: &Chosen) -> Result<(), SaveError> {
        self.document(store, &chosen.descriptor.digest)?;
        for member in &chosen.members {
            if let Some(image) = &member.image {
                self.image(store, image)?;
            } else if member.is_here && member.descriptor.is_attestation() {
                self.attestation(store, &member.descriptor.digest)?;
            }
        }
        Ok(())
    }

    /// Writes what is attested of an image.
    fn attestation(&mut self, store: &Store, manifest: &Digest) -> Result<(), SaveError> {
        let bytes = self.document(store, manifest)?;
        let named = Named::of(&bytes).map_err(|source| StoreError::Document {
            image: manifest.clone(),
            source,
        })?;
        for blob in named.blobs() {
            let is_here = store.blob_path(&blob.digest).exists();
            if is_here && self.written.insert(blob.digest.clone()) {
                self.blob(store, &blob.digest)?;
            }
        }
        Ok(())
    }

    /// Writes a small blob, once; returns it.
    fn document(&mut self, store: &Store, digest: &Digest) -> Result<Vec<u8>, SaveError> {
        let gone = || StoreError::NoBlob {
            digest: digest.clone(),
        };
        let bytes = store.read_blob(digest)?.ok_or_else(gone)?;
        if self.written.insert(digest.clone()) {
            self.file(&format!("blobs/sha256/{}", digest.hex()), &bytes)?;
        }
        Ok(bytes)
    }

    /// Copies a blob of any size.
    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<(), SaveError> {
        let path = store.blob_path(digest);
        let file = fs_err::File::open(&path).map_err(StoreError::io("open", &path))?;
        let stat = file.metadata();
        let length = stat.map_err(StoreError::io("look at", &path))?.len();
        let name = format!("blobs/sha256/{}", digest.hex());
        let mut header = header(EntryType::Regular, length);
        self.tar
            .append_data(&mut header, name, file)
            .map_err(SaveError::Write)
    }

    fn json(&mut self, name: &str, document: &impl Serialize) -> Result<(), SaveError> {
        let bytes = serde_json::to_vec(document).map_err(|error| SaveError::Write(error.into()))?;
        self.file(name, &bytes)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
        let mut header = header(EntryType::Regular, bytes.len() as u64);
        let added = self.tar.append_data(&mut header, name, bytes);
        added.map_err(SaveError::Write)
    }

    fn directory(&mut self, name: &str) -> Result<(), SaveError> {
        let mut header = header(EntryType::Directory, 0);
        let added = self.tar.append_data(&mut header, name, io::empty());
        added.map_err(SaveError::Write)
    }

    fn finish(self) -> Result<(), SaveError> {
        let mut sink = self.tar.into_inner().map_err(SaveError::Write)?;
        sink.flush().map_err(SaveError::Write)
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
