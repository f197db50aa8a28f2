//! A cache in a directory: an OCI layout that has others by other names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::super::manifest::{Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use super::super::super::reference::Digest;
use super::foreign::cache_manifest;
use super::{CacheError, json};
use crate::sys::atomic::{self, Durability};

/// The name of an entry in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Documents of a layout that are larger are not read.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Returns where a blob of a layout is.
pub(super) fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// Whether an entry has that name.
pub(super) fn is_named(entry: &Descriptor, tag: &str) -> bool {
    entry
        .annotations
        .get(REF_NAME)
        .is_some_and(|name| name == tag)
}

/// Returns the index of a new layout.
pub(super) fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    }
}

/// Reads the index of a layout, if there is one.
pub(super) fn read_index(directory: &Path) -> Result<Option<Index>, CacheError> {
    let path = directory.join("index.json");
    match fs_err::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(index) => Ok(Some(index)),
            Err(error) => Err(CacheError::file("read", &path)(error.into())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CacheError::file("read", &path)(error)),
    }
}

/// Reads a document of a layout.
pub(super) fn read_blob(directory: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, CacheError> {
    let path = blob_path(directory, &descriptor.digest);
    let there = fs_err::metadata(&path).map_err(CacheError::file("read", &path))?;
    if descriptor.size.max(there.len()) > MAX_DOCUMENT_BYTES {
        return Err(CacheError::Wrong(format!(
            "`{}` is too large",
            path.display()
        )));
    }
    let bytes = fs_err::read(&path).map_err(CacheError::file("read", &path))?;
    let found = Digest::of(&bytes);
    if found == descriptor.digest {
        Ok(bytes)
    } else {
        Err(CacheError::Wrong(format!(
            "`{}` is {found}",
            path.display()
        )))
    }
}

/// Takes everything out of a layout but the cache of that name.
pub(super) fn keep_only(directory: &Path, tag: &str) -> Result<(), CacheError> {
    let mut index = read_index(directory)?.unwrap_or_else(empty_index);
    index.manifests.retain(|entry| is_named(entry, tag));
    let path = directory.join("index.json");
    let written = atomic::write(&path, &json(&index)?, 0o644, Durability::Cached);
    written.map_err(CacheError::file("write", &path))?;
    let mut kept = BTreeSet::new();
    for entry in &index.manifests {
        kept.insert(entry.digest.hex().to_owned());
        let manifest = cache_manifest(&read_blob(directory, entry)?)?;
        kept.insert(manifest.config.digest.hex().to_owned());
        kept.extend(
            manifest
                .layers
                .iter()
                .map(|blob| blob.digest.hex().to_owned()),
        );
    }
    let below = directory.join("blobs/sha256");
    let entries = fs_err::read_dir(&below).map_err(CacheError::file("read", &below))?;
    for entry in entries {
        let path = entry.map_err(CacheError::file("read", &below))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !kept.contains(&*name) {
            fs_err::remove_file(&path).map_err(CacheError::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Writes a cache into a layout, which keeps what it has by other names.
pub(super) fn write_layout(
    directory: &Path,
    tag: &str,
    manifest: &Manifest,
    config: &[u8],
    blobs: &[(Descriptor, PathBuf)],
) -> Result<(), CacheError> {
    let below = directory.join("blobs/sha256");
    fs_err::create_dir_all(&below).map_err(CacheError::file("make", &below))?;
    let write = |path: &Path, bytes: &[u8]| {
        atomic::write(path, bytes, 0o644, Durability::Cached)
            .map_err(CacheError::file("write", path))
    };
    let mut done = BTreeSet::new();
    for (blob, from) in blobs {
        let to = blob_path(directory, &blob.digest);
        let size = fs_err::metadata(&to).map(|metadata| metadata.len());
        if size.is_ok_and(|size| size == blob.size) || !done.insert(&blob.digest) {
            continue;
        }
        let part = to.with_extension("part");
        fs_err::copy(from, &part).map_err(CacheError::file("write", &part))?;
        fs_err::rename(&part, &to).map_err(CacheError::file("write", &to))?;
    }
    let bytes = json(manifest)?;
    write(&blob_path(directory, &manifest.config.digest), config)?;
    let digest = Digest::of(&bytes);
    write(&blob_path(directory, &digest), &bytes)?;
    let mut index = read_index(directory)?.unwrap_or_else(empty_index);
    index.manifests.retain(|entry| !is_named(entry, tag));
    let mut entry = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
    entry
        .annotations
        .insert(REF_NAME.to_owned(), tag.to_owned());
    index.manifests.push(entry);
    write(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    write(&directory.join("index.json"), &json(&index)?)
}
