//! A cache in a directory: an OCI layout that has others by other names.
//!
//! The directory may be anybody's. What writes has it locked (a `flock` on the directory itself), so that two builds that export into one
//! keep each other's caches; it holds `blobs/sha256` open, reached through no link, and goes by that: a link in the place of either would
//! have files written, or removed, where it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::super::manifest::{Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use super::super::super::reference::Digest;
use super::foreign::cache_manifest;
use super::{CacheError, json};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::Lock;
use crate::sys::{beneath, random};

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

/// Copies a blob out of a layout: a file, and no more of it than is described.
pub(super) fn take_blob(directory: &Path, blob: &Descriptor, to: &Path) -> Result<(), CacheError> {
    let from = blob_path(directory, &blob.digest);
    let source = open_file(&from).map_err(CacheError::file("read", &from))?;
    let mut target = fs_err::File::create(to).map_err(CacheError::file("write", to))?;
    let copied = io::copy(&mut source.take(blob.size.saturating_add(1)), &mut target);
    let copied = copied.map_err(CacheError::file("copy", &from))?;
    if copied == blob.size {
        return Ok(());
    }
    Err(CacheError::Wrong(format!(
        "`{}` is not of {} bytes, as it is said to be",
        from.display(),
        blob.size
    )))
}

/// Opens a file, and waits for nothing else.
fn open_file(path: &Path) -> io::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    options.options_mut().custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("it is no file"))
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
    index_at(&directory.join("index.json"))
}

/// Reads an index, if there is one.
fn index_at(path: &Path) -> Result<Option<Index>, CacheError> {
    match read_bounded(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(index) => Ok(Some(index)),
            Err(error) => Err(CacheError::file("read", path)(error.into())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CacheError::file("read", path)(error)),
    }
}

/// Reads a document: a file, and not for ever.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?
        .take(MAX_DOCUMENT_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Reads a document of a layout.
pub(super) fn read_blob(directory: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, CacheError> {
    let path = blob_path(directory, &descriptor.digest);
    let bytes = read_bounded(&path).map_err(CacheError::file("read", &path))?;
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

/// A layout that is written: locked, and by its descriptors. Paths lead through those.
struct Held {
    /// Where it is, for messages.
    shown: PathBuf,
    top: Lock,
    blobs: OwnedFd,
}

impl Held {
    /// Locks a layout, whose directories are made if missing; waits for who writes it.
    fn of(directory: &Path) -> Result<Self, CacheError> {
        fs_err::create_dir_all(directory).map_err(CacheError::file("make", directory))?;
        let top = Lock::directory(directory).map_err(CacheError::file("lock", directory))?;
        let mut opened = None;
        for below in ["blobs", "blobs/sha256"] {
            let shown = directory.join(below);
            let mode = Mode::from_raw_mode(0o755);
            match rustix::fs::mkdirat(top.file(), below, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(CacheError::file("make", &shown)(errno.into())),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let found = beneath::plainly(top.file().file().as_fd(), Path::new(below), flags);
            let found = found.map_err(|errno| match errno {
                Errno::LOOP => CacheError::Wrong(format!("`{}` is a link", shown.display())),
                errno => CacheError::file("open", &shown)(errno.into()),
            })?;
            opened = Some(found);
        }
        let blobs = opened.ok_or_else(|| CacheError::Wrong("no directory".to_owned()))?;
        let held = Self {
            shown: directory.to_owned(),
            top,
            blobs,
        };
        held.clear_parts()?;
        Ok(held)
    }

    /// Removes what writers left that were cut off: nobody else writes now.
    fn clear_parts(&self) -> Result<(), CacheError> {
        let shown = self.shown.join("blobs/sha256");
        let entries = fs_err::read_dir(self.blobs()).map_err(CacheError::file("read", &shown))?;
        for entry in entries {
            let path = entry.map_err(CacheError::file("read", &shown))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "part")
            {
                let name = path.file_name().unwrap_or_default();
                let removed = fs_err::remove_file(&path);
                removed.map_err(CacheError::file("remove", &shown.join(name)))?;
            }
        }
        Ok(())
    }

    /// The path of a file beside the index.
    fn top(&self, name: &str) -> PathBuf {
        through(self.top.file().file()).join(name)
    }

    /// The path of the blobs.
    fn blobs(&self) -> PathBuf {
        through(&self.blobs)
    }

    /// Replaces a file, told as `shown` below the layout.
    fn write(&self, path: &Path, shown: &str, bytes: &[u8]) -> Result<(), CacheError> {
        let written = atomic::write(path, bytes, 0o644, Durability::Cached);
        written.map_err(CacheError::file("write", &self.shown.join(shown)))
    }

    /// Writes a blob that is bytes.
    fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), CacheError> {
        let path = self.blobs().join(digest.hex());
        self.write(&path, &format!("blobs/sha256/{}", digest.hex()), bytes)
    }

    /// Copies a blob that is a file, by a name of its own.
    fn copy(&self, blob: &Descriptor, from: &Path) -> Result<(), CacheError> {
        let to = self.blobs().join(blob.digest.hex());
        let shown = blob_path(&self.shown, &blob.digest);
        let known = fs_err::symlink_metadata(&to);
        if known.is_ok_and(|known| known.is_file() && known.len() == blob.size) {
            return Ok(());
        }
        let failed = |error| CacheError::file("write", &shown)(error);
        let number = random::u32().map_err(failed)?;
        let part = self
            .blobs()
            .join(format!("{}.{number:08x}.part", blob.digest.hex()));
        let copied = copy_new(from, &part).and_then(|()| fs_err::rename(&part, &to));
        if copied.is_err() {
            let _removed = fs_err::remove_file(&part);
        }
        copied.map_err(failed)
    }

    /// Reads the index, if there is one. What a link in its place led to would be written for all to read.
    fn index(&self) -> Result<Index, CacheError> {
        let (name, flags) = (Path::new("index.json"), OFlags::RDONLY | OFlags::NONBLOCK);
        let shown = self.shown.join(name);
        match beneath::plainly(self.top.file().file().as_fd(), name, flags) {
            Ok(file) => Ok(index_at(&through(&file))?.unwrap_or_else(empty_index)),
            Err(Errno::NOENT) => Ok(empty_index()),
            Err(Errno::LOOP) => Err(CacheError::Wrong(format!(
                "`{}` is a link",
                shown.display()
            ))),
            Err(errno) => Err(CacheError::file("open", &shown)(errno.into())),
        }
    }

    fn write_index(&self, index: &Index) -> Result<(), CacheError> {
        self.write(&self.top("index.json"), "index.json", &json(index)?)
    }
}

/// Returns a path to an open directory.
fn through(directory: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Copies a file to a new one.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let source = fs_err::File::open(from)?;
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    options.options_mut().mode(0o644);
    let target = options.open(to)?;
    io::copy(&mut source.file(), &mut target.file())?;
    Ok(())
}

/// Takes everything out of a layout but the cache of that name.
pub(super) fn keep_only(directory: &Path, tag: &str) -> Result<(), CacheError> {
    let held = Held::of(directory)?;
    let mut index = held.index()?;
    index.manifests.retain(|entry| is_named(entry, tag));
    held.write_index(&index)?;
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
    let shown = directory.join("blobs/sha256");
    let entries = fs_err::read_dir(held.blobs()).map_err(CacheError::file("read", &shown))?;
    for entry in entries {
        let path = entry.map_err(CacheError::file("read", &shown))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !kept.contains(&*name) {
            let removed = fs_err::remove_file(&path);
            removed.map_err(CacheError::file("remove", &shown.join(&*name)))?;
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
    let held = Held::of(directory)?;
    let mut done = BTreeSet::new();
    for (blob, from) in blobs {
        if done.insert(&blob.digest) {
            held.copy(blob, from)?;
        }
    }
    let bytes = json(manifest)?;
    held.put(&manifest.config.digest, config)?;
    let digest = Digest::of(&bytes);
    held.put(&digest, &bytes)?;
    let mut index = held.index()?;
    index.manifests.retain(|entry| !is_named(entry, tag));
    let mut entry = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
    entry
        .annotations
        .insert(REF_NAME.to_owned(), tag.to_owned());
    index.manifests.push(entry);
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    held.write(&held.top("oci-layout"), "oci-layout", version)?;
    held.write_index(&index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a cache of one blob; returns whether that worked.
    fn export(directory: &Path, tag: &str, blob: &Path) -> Result<(), CacheError> {
        let bytes = fs_err::read(blob).unwrap();
        let layer = Descriptor::new(OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        let config = format!("{{\"of\":\"{tag}\"}}");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.buildkit.cacheconfig.v0",
                "digest": Digest::of(config.as_bytes()),
                "size": config.len(),
            },
            "layers": [layer],
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let blobs = [(layer, blob.to_owned())];
        write_layout(directory, tag, &manifest, config.as_bytes(), &blobs)
    }

    #[test]
    fn two_that_write_at_once_keep_each_other() {
        let temp = tempfile::tempdir().unwrap();
        let (directory, blob) = (temp.path().join("kept"), temp.path().join("blob"));
        fs_err::write(&blob, vec![7; 1 << 20]).unwrap();
        let export_all = &|writer: u32| {
            for number in 0..8 {
                export(&directory, &format!("t{writer}.{number}"), &blob).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || export_all(writer));
            }
        });
        let index = read_index(&directory).unwrap().unwrap();
        assert_eq!(index.manifests.len(), 32);
        for entry in &index.manifests {
            read_blob(&directory, entry).unwrap();
        }
        let names = fs_err::read_dir(directory.join("blobs/sha256")).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.all(|name| !name.contains('.')));
    }

    #[test]
    fn no_link_leads_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs_err::write(at("blob"), "blob").unwrap();
        fs_err::create_dir_all(at("elsewhere/sha256")).unwrap();
        fs_err::write(at("elsewhere/sha256/theirs"), "theirs").unwrap();
        for (link, to) in [("blobs", "elsewhere"), ("blobs/sha256", "elsewhere/sha256")] {
            let directory = at(&link.replace('/', "."));
            fs_err::create_dir_all(directory.join(link).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(at(to), directory.join(link)).unwrap();
            let expected = format!("`{}` is a link", directory.join(link).display());
            let written = export(&directory, "t", &at("blob")).unwrap_err();
            assert_eq!(written.to_string(), expected);
            let kept = keep_only(&directory, "t").unwrap_err();
            assert_eq!(kept.to_string(), expected);
        }
        assert_eq!(fs_err::read_dir(at("elsewhere/sha256")).unwrap().count(), 1);
        // A file that gives way.
        let directory = at("kept");
        fs_err::create_dir(&directory).unwrap();
        fs_err::write(at("layout"), "theirs").unwrap();
        std::os::unix::fs::symlink(at("layout"), directory.join("oci-layout")).unwrap();
        export(&directory, "t", &at("blob")).unwrap();
        assert_eq!(fs_err::read_to_string(at("layout")).unwrap(), "theirs");
    }

    #[test]
    fn an_index_that_never_ends_is_not_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("index.json");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        read_index(temp.path()).unwrap_err();
        fs_err::remove_file(&path).unwrap();
        let large = fs_err::File::create(&path).unwrap();
        large.set_len(MAX_DOCUMENT_BYTES + 1).unwrap();
        let error = read_index(temp.path()).unwrap_err();
        assert!(matches!(error, CacheError::File { .. }), "{error}");
    }
}
