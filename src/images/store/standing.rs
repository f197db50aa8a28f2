//! Layers that cannot stand alone: what they take from the layers below is put into a tree of their own.
//!
//! Paths in here were chosen by who made the image. Each is resolved within a tree, by `openat2` from the tree's own root, and what is
//! made is made new: a symbolic link of a layer leads nowhere else, whatever the record of the layer says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens,
    linkat, mkdirat, openat, seek, sendfile, statat,
};
use rustix::io::Errno;

use super::super::reference::Digest;
use super::super::unpack::extract::OPAQUE_XATTR;
use super::super::unpack::writer::piece;
use super::layers::{LayerRecord, chain_ids};
use super::{Store, StoreError};
use crate::sys::beneath::{in_root, plainly};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Store {
    /// Makes trees by chain id for those of `layers` that cannot stand alone above these layers.
    pub(super) fn stand(&self, layers: &[Digest]) -> Result<(), StoreError> {
        for (position, chain) in chain_ids(layers).iter().enumerate() {
            let Some(diff_id) = layers.get(position) else {
                continue;
            };
            let record = self.layer(diff_id)?.ok_or_else(|| StoreError::NoLayer {
                diff_id: diff_id.clone(),
            })?;
            let alone = record.implied.is_empty() && record.lower_links.is_empty();
            // The first chain id is the layer's own.
            if alone || (position > 0 && self.layer(chain)?.is_some()) {
                continue;
            }
            let below = self.layer_directories(layers.get(..position).unwrap_or_default());
            let fixes = Fixes::find(&record, &below)?;
            if !fixes.is_empty() {
                self.make_standing(&record, chain, &fixes)?;
            }
        }
        Ok(())
    }

    fn make_standing(
        &self,
        record: &LayerRecord,
        chain: &Digest,
        fixes: &Fixes,
    ) -> Result<(), StoreError> {
        let staging = self.staging()?;
        let tree = staging.directory().join("layer");
        let diff = tree.join("diff");
        fs_err::create_dir(&tree).map_err(StoreError::io("make", &tree))?;
        fs_err::create_dir(&diff).map_err(StoreError::io("make", &diff))?;
        let own = self.layer_path(&record.diff_id).join("diff");
        let root = open_root(&diff)?;
        link_tree(open_root(&own)?, root.as_fd()).map_err(StoreError::io("link", &own))?;
        for (link, found) in &fixes.links {
            let path = diff.join(link);
            copy_entry(found, root.as_fd(), link).map_err(StoreError::io("copy to", &path))?;
        }
        for (path, found) in &fixes.directories {
            let made = found.open().and_then(|from| {
                // What an older record says may lead through links: they are followed within the tree.
                let to = in_root(root.as_fd(), path, DIRECTORY)?;
                // Whether a layer hides what is below is its own matter.
                Ok(copy_attributes(&from, &to, |name| {
                    !name.starts_with(b"trusted.overlay.")
                })?)
            });
            made.map_err(StoreError::io("describe", &diff.join(path)))?;
        }
        let mut standing = record.clone();
        standing.boot = Some(self.boot.clone());
        let _locked = self.lock()?;
        match self.layer(chain)? {
            Some(_) => Ok(()),
            None => self.place_tree(&tree, chain, &standing),
        }
    }
}

/// Something that a layer below has: `path` has no links, within the tree `layer`.
#[derive(Debug, Clone)]
struct Found {
    layer: PathBuf,
    path: PathBuf,
    is_directory: bool,
}

impl Found {
    /// Opens the directory.
    fn open(&self) -> io::Result<OwnedFd> {
        let root = open(&self.layer)?;
        Ok(plainly(root.as_fd(), &self.path, DIRECTORY)?)
    }
}

/// What a layer takes from those below.
#[derive(Debug, Default)]
struct Fixes {
    /// Directory of the layer, and the one below that it looks like.
    directories: Vec<(PathBuf, Found)>,
    /// New name in the layer, and the file below.
    links: BTreeMap<PathBuf, Found>,
}

impl Fixes {
    fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.links.is_empty()
    }

    /// Looks through the directories `below`, top-most first.
    fn find(record: &LayerRecord, below: &[PathBuf]) -> Result<Self, StoreError> {
        let mut fixes = Self::default();
        for path in &record.implied {
            let looked = find_below(below, path).and_then(|found| match found {
                Some(found) if found.is_directory && !is_plain(&found.open()?)? => Ok(Some(found)),
                _ => Ok(None),
            });
            let found = looked.map_err(StoreError::io("look below at", path))?;
            fixes
                .directories
                .extend(found.map(|found| (path.clone(), found)));
        }
        for (link, target) in &record.lower_links {
            let found =
                find_below(below, target).map_err(StoreError::io("look below at", target))?;
            let found = found.ok_or_else(|| StoreError::LowerLink {
                layer: record.diff_id.clone(),
                link: link.clone(),
                target: target.clone(),
            })?;
            fixes.links.insert(link.clone(), found);
        }
        Ok(fixes)
    }
}

/// Whether a directory is as one that no entry describes.
fn is_plain(fd: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = fstat(fd)?;
    let own = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o755, 0, 0);
    let names = list_xattrs(fd)?;
    Ok(own
        && names
            .iter()
            .all(|name| name.as_bytes() == OPAQUE_XATTR.as_bytes()))
}

/// Finds what an overlay of `below` shows at `path`, without following links.
fn find_below(below: &[PathBuf], path: &Path) -> io::Result<Option<Found>> {
    for layer in below {
        match find_in(layer, path)? {
            Look::Found(found) => return Ok(Some(found)),
            Look::Hidden => return Ok(None),
            Look::Further => {}
        }
    }
    Ok(None)
}

/// What one layer says of a path.
enum Look {
    Found(Found),
    /// It has nothing there, and hides what is below.
    Hidden,
    /// It has nothing there.
    Further,
}

fn find_in(layer: &Path, path: &Path) -> io::Result<Look> {
    let mut here = open(layer)?;
    let mut hides = false;
    let mut components = path.components().peekable();
    let found = |is_directory| {
        Look::Found(Found {
            layer: layer.to_owned(),
            path: path.to_owned(),
            is_directory,
        })
    };
    while let Some(component) = components.next() {
        let name = component.as_os_str();
        hides |= is_opaque(&here)?;
        let stat = match statat(&here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if hides => return Ok(Look::Hidden),
            Err(Errno::NOENT) => return Ok(Look::Further),
            Err(errno) => return Err(errno.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(Look::Hidden);
        }
        if kind == FileType::Directory {
            here = openat(&here, name, DIRECTORY, Mode::empty())?;
        } else if components.peek().is_none() {
            return Ok(found(false));
        } else {
            return Ok(Look::Hidden);
        }
    }
    Ok(found(true))
}

fn is_opaque(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(list_xattrs(fd)?
        .iter()
        .any(|name| name.as_bytes() == OPAQUE_XATTR.as_bytes()))
}

/// Opens the root of a tree of the store.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

fn open_root(path: &Path) -> Result<OwnedFd, StoreError> {
    open(path).map_err(StoreError::io("open", path))
}

fn list_xattrs(fd: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = vec![0; 65536]; // XATTR_LIST_MAX
    let length = match flistxattr(fd, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names.get(..length).unwrap_or_default().split(|&b| b == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect())
}

/// Fills the empty directory `to` with the entries of `from`: files are the same files.
///
/// Both trees are the store's, and nobody changes them meanwhile; the way back is `..`, so that a deep tree does not take many
/// descriptors.
fn link_tree(from: OwnedFd, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut to = to.try_clone_to_owned()?;
    let mut from = from;
    let mut levels = vec![link_files(&from, &to)?];
    while let Some(directories) = levels.last_mut() {
        if let Some(name) = directories.pop() {
            mkdirat(&to, &name, Mode::RWXU)?;
            from = openat(&from, &name, DIRECTORY, Mode::empty())?;
            to = openat(&to, &name, DIRECTORY, Mode::empty())?;
            levels.push(link_files(&from, &to)?);
            continue;
        }
        copy_attributes(&from, &to, |_| true)?;
        levels.pop();
        if !levels.is_empty() {
            from = openat(&from, "..", DIRECTORY, Mode::empty())?;
            to = openat(&to, "..", DIRECTORY, Mode::empty())?;
        }
    }
    Ok(())
}

/// Links the files of a directory, and returns its directories.
fn link_files(from: &OwnedFd, to: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            directories.push(name.to_owned());
        } else {
            linkat(from, name, to, name, AtFlags::empty())?;
        }
    }
    Ok(directories)
}

/// Copies one file (or link, or device) that a lower layer has to `link` in `root`, where nothing is.
fn copy_entry(found: &Found, root: BorrowedFd<'_>, link: &Path) -> io::Result<()> {
    let (from_parent, from_name) = split(&found.path)?;
    let (to_parent, to_name) = split(link)?;
    let source = plainly(open(&found.layer)?.as_fd(), from_parent, DIRECTORY)?;
    // What an older record says may lead through links: they are followed within the tree.
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = in_root(root, to_parent, directory)?;
    let before = fstat(&target)?;
    let stat = statat(&source, from_name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        copy_file(&source, from_name, &target, to_name)?;
    } else {
        // These have no content that a later write could change in the layer below.
        linkat(&source, from_name, &target, to_name, AtFlags::empty())?;
    }
    Ok(futimens(&target, &times(&before))?)
}

fn copy_file(
    source: &OwnedFd,
    from_name: &OsStr,
    target: &OwnedFd,
    to_name: &OsStr,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = openat(source, from_name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(target, to_name, flags, Mode::RUSR | Mode::WUSR)?;
    copy_content(&from, &to)?;
    Ok(copy_attributes(&from, &to, |_| true)?)
}

/// Copies what a file holds into an empty one; holes stay holes.
fn copy_content(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let size = u64::try_from(fstat(from)?.st_size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        let (data, hole) = piece(from, at, size)?;
        seek(to, SeekFrom::Start(data))?;
        let mut offset = data;
        while offset < hole {
            let count = usize::try_from(hole - offset).unwrap_or(usize::MAX);
            if sendfile(to, from, Some(&mut offset), count)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = hole;
    }
    Ok(ftruncate(to, size)?)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Gives `to` the owner, mode, times and `kept` extended attributes of `from`. A change of owner clears setuid and capabilities, so
/// that comes first.
fn copy_attributes(
    from: &OwnedFd,
    to: &OwnedFd,
    kept: impl Fn(&[u8]) -> bool,
) -> rustix::io::Result<()> {
    let stat = fstat(from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(uid), Some(gid))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in list_xattrs(from)? {
        if !kept(name.as_bytes()) {
            continue;
        }
        let mut value = vec![0; 65536]; // XATTR_SIZE_MAX
        let length = fgetxattr(from, &name, &mut value)?;
        fsetxattr(
            to,
            &name,
            value.get(..length).unwrap_or_default(),
            XattrFlags::empty(),
        )?;
    }
    futimens(to, &times(&stat))
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
