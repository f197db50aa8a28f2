//! Overlay layers as the one tree that a container sees, without a mount: for `export`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::unpack::UnpackError;
use super::unpack::extract::OPAQUE_XATTR;
use super::unpack::writer::{Tree, write_tree};

/// Writes what an overlay of `layers`, top-most first, shows as a tar without whiteouts. They may change meanwhile: what is gone by
/// the time it is read is an error.
pub fn write_flat(layers: &[PathBuf], sink: &mut impl Write) -> Result<(), UnpackError> {
    let root = (PathBuf::new(), layers.to_vec());
    let merged = Merged {
        directories: RefCell::new(BTreeMap::from([root])),
    };
    write_tree(&merged, sink).map(drop)
}

/// Layers seen as one.
struct Merged {
    /// Directory to the directories that it is made of, top-most first; of those that were looked at.
    directories: RefCell<BTreeMap<PathBuf, Vec<PathBuf>>>,
}

impl Merged {
    /// Returns the directories that one of the tree is made of.
    fn parts(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        if let Some(known) = self.directories.borrow().get(directory) {
            return Ok(known.clone());
        }
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Ok(Vec::new());
        };
        let mut parts = Vec::new();
        for above in self.parts(parent)? {
            let path = above.join(name);
            let stat = match fs_err::symlink_metadata(&path) {
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // A whiteout or a file: what is below does not show.
            if !stat.is_dir() {
                break;
            }
            let is_opaque = is_opaque(&path)?;
            parts.push(path);
            if is_opaque {
                break;
            }
        }
        let mut known = self.directories.borrow_mut();
        known.insert(directory.to_owned(), parts.clone());
        Ok(parts)
    }
}

impl Tree for Merged {
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut seen = BTreeSet::new();
        let mut names = BTreeSet::new();
        for part in self.parts(directory)? {
            for entry in fs_err::read_dir(&part)? {
                let entry = entry?;
                let name = entry.file_name();
                if seen.insert(name.clone()) && !is_whiteout(&entry.path())? {
                    names.insert(name);
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn find(&self, path: &Path) -> PathBuf {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        let parts = self.directories.borrow();
        let parts = parts.get(parent).map(Vec::as_slice).unwrap_or_default();
        let mut paths = parts.iter().map(|part| part.join(name));
        let found = paths.find(|path| fs_err::symlink_metadata(path).is_ok());
        // What is gone by now is told by who reads it.
        found.unwrap_or_else(|| path.to_owned())
    }

    fn is_layer(&self) -> bool {
        false
    }
}

fn is_whiteout(path: &Path) -> io::Result<bool> {
    let stat = fs_err::symlink_metadata(path)?;
    Ok(stat.file_type().is_char_device() && stat.rdev() == 0)
}

fn is_opaque(path: &Path) -> io::Result<bool> {
    let mut value = [0; 2];
    match rustix::fs::lgetxattr(path, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y".as_slice())),
        Err(
            rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::RANGE,
        ) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_an_overlay_shows() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        let whiteout = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::empty(), 0).unwrap();
        };
        put("1/a/kept", "1");
        put("1/a/gone", "1");
        put("1/a/changed", "1");
        put("1/opaque/hidden", "1");
        put("1/was-directory/x", "1");
        put("1/was-file", "1");
        put("2/a/changed", "2");
        whiteout("2/a/gone");
        put("2/opaque/new", "2");
        rustix::fs::setxattr(
            root.path().join("2/opaque"),
            OPAQUE_XATTR,
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        put("3/was-directory", "3");
        put("3/was-file/x", "3");
        put("3/a/gone", "3");
        let layers = ["3", "2", "1"].map(|layer| root.path().join(layer));
        let mut bytes = Vec::new();
        write_flat(&layers, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let shown: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                io::Read::read_to_string(&mut entry, &mut text).unwrap();
                format!("{}={text}", entry.path().unwrap().display())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a/=",
                "a/changed=2",
                "a/gone=3",
                "a/kept=1",
                "opaque/=",
                "opaque/new=2",
                "was-directory=3",
                "was-file/=",
                "was-file/x=3"
            ]
        );
    }
}
