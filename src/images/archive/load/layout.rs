//! One image of an OCI layout that is a directory (image-spec `image-layout.md`): of it, only what that image needs is read.

use std::path::{Path, PathBuf};

use super::super::super::manifest::{Descriptor, Document, Index, Platform, parse_document};
use super::super::super::reference::Digest;
use super::super::super::store::{Image, Store, StoreError};
use super::super::spool::Spool;
use super::super::{FULL_NAME, REF_NAME};
use super::{LoadError, MAX_DEPTH, check, choose, from_manifest, json, keep};

/// An image of a layout, as `oci-layout://PATH[:TAG][@DIGEST]` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImage {
    /// The layout's directory.
    pub path: PathBuf,
    /// Its name there; `latest` is taken, or the only one, where neither this nor a digest is given.
    pub tag: Option<String>,
    /// Of a manifest or index.
    pub digest: Option<Digest>,
}

impl LayoutImage {
    /// Reads what follows `oci-layout://`; a relative path starts from `directory` (docker/buildx `build/opt.go`).
    pub fn parse(text: &str, directory: &Path) -> Result<Self, LoadError> {
        let wrong = || LoadError::Layout {
            text: text.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() || tag.as_deref() == Some("") {
            return Err(wrong());
        }
        Ok(Self {
            path: directory.join(path),
            tag,
            digest,
        })
    }
}

/// Takes an image of a layout into the store.
pub(in crate::images) fn load_layout(
    store: &Store,
    layout: &LayoutImage,
    platform: &Platform,
) -> Result<Image, LoadError> {
    let staging = store.staging()?;
    let to = staging.directory().join("spool");
    fs_err::create_dir(&to).map_err(StoreError::io("make", &to))?;
    let mut taking = Taking {
        spool: Spool::default(),
        from: &layout.path,
        to: &to,
    };
    taking.take("index.json")?;
    let index: Index = json(&taking.spool, "index.json")?;
    let entry = entry_of(index, layout)?;
    taking.documents(&entry, 0)?;
    let chosen = choose(&taking.spool, std::slice::from_ref(&entry), Some(platform));
    let chosen = match chosen {
        // As with an image of the store, another platform serves where there is no choice.
        Err(LoadError::Platform { .. }) => choose(&taking.spool, &[entry], None)?,
        other => other?,
    };
    let [manifest] = chosen.as_slice() else {
        let platform = platform.clone();
        return Err(LoadError::Platform { platform });
    };
    if let Some(known) = store.load(&manifest.digest)? {
        return Ok(known);
    }
    for layer in from_manifest(&taking.spool, manifest)?.layers {
        taking.blob(&layer.0.digest)?;
    }
    let found = from_manifest(&taking.spool, manifest)?;
    check(&found)?;
    keep(store, found, &|_, _, _| {})?;
    let image = store.load(&manifest.digest)?;
    image.ok_or_else(|| {
        LoadError::Store(StoreError::NoBlob {
            digest: manifest.digest.clone(),
        })
    })
}

/// Finds the entry of the index that is meant.
fn entry_of(index: Index, layout: &LayoutImage) -> Result<Descriptor, LoadError> {
    let mut entries = index.manifests;
    let tag = layout.tag.as_deref().unwrap_or("latest");
    let named = |entry: &Descriptor| {
        let is = |key: &str, fits: &dyn Fn(&str) -> bool| {
            entry.annotations.get(key).is_some_and(|name| fits(name))
        };
        is(REF_NAME, &|name| name == tag)
            || is(FULL_NAME, &|name| {
                name.rsplit_once(':').is_some_and(|(_, found)| found == tag)
            })
    };
    let found = match &layout.digest {
        Some(digest) => entries.iter().position(|entry| entry.digest == *digest),
        None => entries.iter().position(named).or_else(|| {
            let is_only = entries.len() == 1 && layout.tag.is_none();
            is_only.then_some(0)
        }),
    };
    match found {
        Some(at) => Ok(entries.swap_remove(at)),
        None => Err(LoadError::NoImage {
            path: layout.path.clone(),
            image: layout
                .digest
                .as_ref()
                .map_or_else(|| tag.to_owned(), Digest::to_string),
        }),
    }
}

/// What is taken of a layout.
struct Taking<'a> {
    spool: Spool,
    from: &'a Path,
    to: &'a Path,
}

impl Taking<'_> {
    fn take(&mut self, name: &str) -> Result<bool, LoadError> {
        self.spool.take(self.from, name, self.to)
    }

    fn blob(&mut self, digest: &Digest) -> Result<bool, LoadError> {
        self.take(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// Takes a manifest and its configuration, or an index and all below it.
    fn documents(&mut self, entry: &Descriptor, depth: usize) -> Result<(), LoadError> {
        if !self.blob(&entry.digest)? {
            return Ok(());
        }
        let Some(file) = self.spool.blob(&entry.digest)? else {
            return Ok(());
        };
        // What cannot be read says so where it is chosen.
        match parse_document(&file.bytes()?, Some(&entry.media_type)) {
            Ok(Document::Index(index)) if depth < MAX_DEPTH => {
                for below in &index.manifests {
                    self.documents(below, depth + 1)?;
                }
            }
            Ok(Document::Manifest(manifest)) => {
                self.blob(&manifest.config.digest)?;
            }
            Ok(Document::Index(_)) | Err(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_named() {
        let digest = Digest::of(b"x");
        let with = format!("a/b@{digest}");
        let both = format!("/a:v1@{digest}");
        let image = |path: &str, tag: Option<&str>, digest: Option<&Digest>| {
            Ok(LayoutImage {
                path: path.into(),
                tag: tag.map(str::to_owned),
                digest: digest.cloned(),
            })
        };
        let wrong = |text: &str| {
            Err(format!(
                "`oci-layout://{text}` is not oci-layout://PATH[:TAG][@DIGEST]"
            ))
        };
        let table = [
            ("a/b", image("/w/a/b", None, None)),
            ("/a:v1", image("/a", Some("v1"), None)),
            ("a:x/b", image("/w/a:x/b", None, None)),
            (with.as_str(), image("/w/a/b", None, Some(&digest))),
            (both.as_str(), image("/a", Some("v1"), Some(&digest))),
            ("", wrong("")),
            ("a:", wrong("a:")),
            ("a@sha256:x", wrong("a@sha256:x")),
        ];
        for (text, expected) in table {
            let found = LayoutImage::parse(text, Path::new("/w"));
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{text}");
        }
    }
}
