//! Puts the entries of one layer into a directory, and nothing anywhere else.
//!
//! Every path is cleaned as text (an archive whose `..` leaves the layer is refused) and then resolved with `openat2` and
//! `RESOLVE_IN_ROOT`: symbolic links made by earlier entries are followed as a container would follow them, within the layer.
//! The last component is never followed. Things are made new (`O_EXCL`, `mkdirat`, `linkat`); what is in the way is removed first.
//!
//! ```text
//! entry               becomes
//! x/.wh.name          char device 0:0 `x/name`, unless the layer itself has `x/name`; a directory `x/name` becomes opaque instead
//! x/.wh..wh..opq      trusted.overlay.opaque=y on `x`
//! x/.wh..wh.*         nothing (aufs's own)
//! hard link to a path that the layer lacks    a note: the layers below have it (Report::lower_links)
//! a parent without an entry                   0755 root, of 1970, and a note (Report::implied)
//! xattrs              those that `reader` keeps
//! ```
//!
//! Both whiteout forms mean the same whatever comes first. A directory is described at once and keeps its times whatever is made
//! in it: they are set again when the next entry is elsewhere. Only a default ACL, which would be inherited, waits for the end.
//! So what is remembered does not grow with the archive, but for the notes, which are bounded ([`notes`]).

mod describe;
mod notes;
mod place;

use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags, futimens, utimensat};
use rustix::io::Errno;

use self::describe::{DEFAULT_ACL, describe_at, describe_fd, describe_implied, set_xattr, times};
use self::notes::Notes;
use self::place::{Place, clean};
use super::error::UnpackError;
use super::reader::{Entry, Kind, TarReader};
use crate::sys::beneath::plainly;

/// Marks a directory that hides the layers below (kernel, `filesystems/overlayfs.rst`).
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a directory takes on a disk, whatever is in it.
const DIRECTORY_BYTES: u64 = 4096;
/// Holes of files are free up to this, and beyond it as [`HOLES_RATIO`] says: who reads the file, or packs it, reads them all.
const HOLES_FREE_BYTES: u64 = 4 << 30;
/// Size of all files to the bytes that they store.
const HOLES_RATIO: u64 = 500;

/// What a layer may ask for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries, with the directories that they need and that have none.
    pub entries: u64,
    /// Bytes of all files, and of the directories themselves.
    pub bytes: u64,
    /// Size of all files, with their holes.
    pub apparent_bytes: u64,
}

impl Limits {
    /// Returns the limits for a directory: what its file system has left but a twentieth, and files as large as all of it.
    pub fn of_directory(path: &Path) -> io::Result<Self> {
        const MOST_ENTRIES: u64 = 5_000_000;
        let space = rustix::fs::statvfs(path)?;
        let but_a_twentieth = |left: u64| left - left / 20;
        // Some file systems count no inodes.
        let entries = match space.f_files {
            0 => MOST_ENTRIES,
            _ => but_a_twentieth(space.f_favail).min(MOST_ENTRIES),
        };
        Ok(Self {
            entries,
            bytes: but_a_twentieth(space.f_bavail.saturating_mul(space.f_frsize)),
            apparent_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

/// What came of a layer. All paths are true ones: no component is a symbolic link of the layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of its regular files.
    pub size_bytes: u64,
    /// Directories that no entry describes.
    pub implied: Vec<PathBuf>,
    /// Hard links into the layers below: (link, target as the archive says it).
    pub lower_links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks all of `archive` into `root`, an empty directory.
pub fn unpack<R: BufRead>(archive: R, root: &Path, limits: Limits) -> Result<Report, UnpackError> {
    let mut reader = TarReader::new(archive);
    let mut extractor = Extractor::new(root, limits)?;
    while let Some(entry) = reader.next_entry()? {
        extractor.put(&entry, &mut reader)?;
    }
    reader.drain()?;
    extractor.finish()
}

#[derive(Debug)]
struct Extractor {
    root: OwnedFd,
    limits: Limits,
    entries: u64,
    /// Bytes of regular files.
    size_bytes: u64,
    /// Of directories.
    directory_bytes: u64,
    /// Of regular files with their holes.
    apparent_bytes: u64,
    notes: Notes,
    /// The parent of the last entry, as most entries have the same.
    parent: Option<Place>,
}

impl Extractor {
    fn new(root: &Path, limits: Limits) -> Result<Self, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(root, flags, Mode::empty()).map_err(UnpackError::io("open", root))?;
        Ok(Self {
            root: fd,
            limits,
            entries: 0,
            size_bytes: 0,
            directory_bytes: 0,
            apparent_bytes: 0,
            notes: Notes::default(),
            parent: None,
        })
    }

    fn put<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        self.count_entry()?;
        let path = clean(&entry.path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.put_root(entry);
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.put_whiteout(&path, parent, hidden, entry.mtime);
        }
        match &entry.kind {
            Kind::File => self.put_file(&path, entry, reader),
            Kind::Directory => self.put_directory(&path, entry),
            Kind::Hardlink(target) => self.put_hardlink(&path, target),
            Kind::Symlink(target) => {
                self.make(&path, "make the symbolic link", |parent, name| {
                    rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)
                })?;
                self.describe(&path, entry)
            }
            Kind::Fifo => self.put_node(&path, entry, FileType::Fifo, (0, 0)),
            Kind::Character(major, minor) => {
                self.put_node(&path, entry, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::Block(major, minor) => {
                self.put_node(&path, entry, FileType::BlockDevice, (*major, *minor))
            }
        }
    }

    /// An entry for the layer's root itself (`./`).
    fn put_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::Name {
                path: entry.display_path(),
            });
        }
        self.leave()?;
        self.describe_directory(Path::new(""), entry)
    }

    fn put_file<R: BufRead>(
        &mut self,
        path: &Path,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(path, "create", |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let whole = [(0, entry.size)];
        for &(offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
            let mut at = offset;
            let end = offset + length;
            while at < end {
                let data = reader.data()?;
                let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
                let data = data.get(..rest).unwrap_or(data);
                self.room_for(data.len() as u64)?;
                let written =
                    rustix::io::pwrite(&file, data, at).map_err(UnpackError::io("write", path))?;
                at += written as u64;
                self.size_bytes += written as u64;
                reader.consume(written);
            }
        }
        if entry.sparse.is_some() {
            self.count_apparent(entry.size)?;
            rustix::fs::ftruncate(&file, entry.size).map_err(UnpackError::io("resize", path))?;
        }
        describe_fd(&file, path, entry)
    }

    fn put_directory(&mut self, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
        let path = self.make_directory(path)?;
        self.notes.described(&path);
        self.describe_directory(&path, entry)
    }

    /// Describes the directory at a true path.
    fn describe_directory(&mut self, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
        let fd = self.open_directory(path)?;
        describe_fd(&fd, path, entry)?;
        match entry.xattrs.iter().find(|(name, _)| name == DEFAULT_ACL) {
            Some((_, acl)) => self.notes.acl(path, acl),
            None => Ok(()),
        }
    }

    /// Makes `path` a directory if it is none; returns its true path.
    fn make_directory(&mut self, path: &Path) -> Result<PathBuf, UnpackError> {
        let (parent, name) = self.open_place(path)?;
        let at = parent.entry(name)?;
        match rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let was = rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(UnpackError::io("look at", path))?;
                if FileType::from_raw_mode(was.st_mode) == FileType::Directory {
                    return Ok(at);
                }
                self.remove(path)?;
                let (parent, name) = self.open_place(path)?;
                rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU)
                    .map_err(UnpackError::io("make the directory", path))?;
                if is_whiteout(&was) {
                    // What is below was to go, and is not to shine through the new directory.
                    self.set_opaque(&at)?;
                }
            }
            Err(errno) => return Err(UnpackError::io("make the directory", path)(errno)),
        }
        self.notes.made(&at);
        self.room_for(DIRECTORY_BYTES)?;
        self.directory_bytes += DIRECTORY_BYTES;
        Ok(at)
    }

    fn put_hardlink(&mut self, path: &Path, target: &[u8]) -> Result<(), UnpackError> {
        let target = clean(target)?;
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(UnpackError::Name { path: target });
        };
        if target == path {
            return Ok(());
        }
        let mut below = None;
        match Place::open(&self.root, directory) {
            Ok(source) => {
                // The name is unresolved: a link to a symbolic link links the symbolic link.
                match rustix::fs::statat(&source.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if is_whiteout(&stat) => {}
                    Ok(_) => {
                        return self.make(path, "make the hard link", |parent, new| {
                            let itself = AtFlags::empty();
                            rustix::fs::linkat(&source.fd, name, parent, new, itself)
                        });
                    }
                    // What is a link to below itself stands for what that one links to.
                    Err(Errno::NOENT) => {
                        below = self.notes.target_of(&source.entry(name)?).cloned();
                    }
                    Err(errno) => return Err(UnpackError::io("look at", &target)(errno)),
                }
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(UnpackError::io("open", directory)(errno)),
        }
        self.remove(path)?;
        let (parent, name) = self.open_place(path)?;
        let link = parent.entry(name)?;
        self.notes.link(link, below.unwrap_or(target))
    }

    fn put_node(
        &mut self,
        path: &Path,
        entry: &Entry,
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), UnpackError> {
        let device = rustix::fs::makedev(major, minor);
        self.make(path, "make the device", |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
        })?;
        self.describe(path, entry)
    }

    fn put_whiteout(
        &mut self,
        path: &Path,
        parent: &Path,
        hidden: &[u8],
        mtime: (i64, u32),
    ) -> Result<(), UnpackError> {
        if hidden == b".wh..opq" {
            // A link as the last component is not followed: what it leads to is not hidden through it.
            if let (Some(above), Some(name)) = (parent.parent(), parent.file_name()) {
                self.open_parent(parent)?;
                let at = self.open_parent(above)?.entry(name)?;
                return self.set_opaque(&at);
            }
            return self.set_opaque(parent);
        }
        if hidden.starts_with(b".wh.") {
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(UnpackError::Name {
                path: path.to_owned(),
            });
        }
        let name = OsStr::from_bytes(hidden);
        let directory = self.open_parent(parent)?;
        let target = directory.entry(name)?;
        match rustix::fs::statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.set_opaque(&target)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) if self.notes.is_link(&target) => Ok(()),
            Err(Errno::NOENT) => {
                let directory = self.open_parent(parent)?;
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(&directory.fd, name, kind, Mode::empty(), 0)
                    .map_err(UnpackError::io("make the whiteout", &target))?;
                // As old as the entry says: packed again, it is the same entry.
                let itself = AtFlags::SYMLINK_NOFOLLOW;
                utimensat(&directory.fd, name, &times(mtime), itself)
                    .map_err(UnpackError::io("set the time of", &target))
            }
            Err(errno) => Err(UnpackError::io("look at", &target)(errno)),
        }
    }

    /// Makes `path` with `create`, once more after what is in its way has been removed.
    fn make<T>(
        &mut self,
        path: &Path,
        doing: &'static str,
        create: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        let (parent, name) = self.open_place(path)?;
        let at = parent.entry(name)?;
        let made = match create(&parent.fd, name) {
            Err(Errno::EXIST) => {
                self.remove(path)?;
                let (parent, name) = self.open_place(path)?;
                create(&parent.fd, name)
            }
            made => made,
        };
        let made = made.map_err(UnpackError::io(doing, path))?;
        self.notes.made(&at);
        Ok(made)
    }

    /// Removes whatever is at `path`, never following it.
    fn remove(&mut self, path: &Path) -> Result<(), UnpackError> {
        let (parent, name) = self.open_place(path)?;
        match rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(UnpackError::io("remove", path)(errno)),
        }
        crate::sys::remove::entry(parent.fd.as_fd(), name)
            .map_err(UnpackError::io("remove", path))?;
        let gone = parent.entry(name)?;
        self.notes.gone(&gone);
        Ok(())
    }

    /// Opens the parent of `path`, and returns it with the last component.
    fn open_place<'a>(&mut self, path: &'a Path) -> Result<(&Place, &'a OsStr), UnpackError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(UnpackError::Name {
                path: path.to_owned(),
            });
        };
        Ok((self.open_parent(parent)?, name))
    }

    /// Opens the directory `path` of the layer, made with its parents where missing.
    fn open_parent(&mut self, path: &Path) -> Result<&Place, UnpackError> {
        let known = self.parent.take_if(|known| known.asked == path);
        let place = if let Some(known) = known {
            known
        } else {
            self.leave()?;
            match Place::open(&self.root, path) {
                Ok(place) => place,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path)?,
                Err(errno) => return Err(UnpackError::io("open", path)(errno)),
            }
        };
        Ok(self.parent.insert(place))
    }

    /// Gives the directory that was worked in the times that it had.
    fn leave(&mut self) -> Result<(), UnpackError> {
        match self.parent.take() {
            Some(place) => futimens(&place.fd, &place.times)
                .map_err(UnpackError::io("set the time of", &place.path)),
            None => Ok(()),
        }
    }

    /// Makes `path` component by component. A file or a dangling link in its way is replaced.
    fn make_parents(&mut self, path: &Path) -> Result<Place, UnpackError> {
        let mut prefix = PathBuf::new();
        for component in path.components() {
            prefix.push(component);
            match Place::open(&self.root, &prefix) {
                Ok(_) => continue,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(UnpackError::io("open", &prefix)(errno)),
            }
            self.count_entry()?;
            // Its own parent is a directory by now, so this recursion ends at once.
            let made = self.make_directory(&prefix)?;
            describe_implied(&self.open_directory(&made)?, &made)?;
            self.notes.implied(made)?;
        }
        self.leave()?;
        Place::open(&self.root, path).map_err(UnpackError::io("open", path))
    }

    fn set_opaque(&mut self, path: &Path) -> Result<(), UnpackError> {
        let fd = self.open_directory(path)?;
        rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(UnpackError::io("make opaque", path))
    }

    /// Opens the directory at a true path for changing it.
    fn open_directory(&self, path: &Path) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        plainly(self.root.as_fd(), path, flags).map_err(UnpackError::io("open", path))
    }

    /// Describes what is neither a file nor a directory.
    fn describe(&mut self, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
        let (parent, name) = self.open_place(path)?;
        describe_at(&parent.fd, name, path, entry)
    }

    fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit {
                limit: self.limits.entries,
                unit: "entries",
            });
        }
        Ok(())
    }

    /// Whether so many more bytes may be used.
    fn room_for(&self, bytes: u64) -> Result<(), UnpackError> {
        if self.size_bytes + self.directory_bytes + bytes > self.limits.bytes {
            return Err(UnpackError::Limit {
                limit: self.limits.bytes,
                unit: super::error::ROOM,
            });
        }
        Ok(())
    }

    /// Counts a file that has holes.
    fn count_apparent(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.apparent_bytes = self.apparent_bytes.saturating_add(bytes);
        if self.apparent_bytes > self.limits.apparent_bytes {
            return Err(UnpackError::Limit {
                limit: self.limits.apparent_bytes,
                unit: "bytes in sparse files, which is the size of the file system",
            });
        }
        let ratio = self.apparent_bytes / self.size_bytes.max(1);
        if self.apparent_bytes > HOLES_FREE_BYTES && ratio > HOLES_RATIO {
            return Err(UnpackError::Bomb {
                packed_bytes: self.size_bytes,
                unpacked_bytes: self.apparent_bytes,
            });
        }
        Ok(())
    }

    /// Sets what had to wait, and tells what the layer lacks.
    fn finish(mut self) -> Result<Report, UnpackError> {
        self.leave()?;
        for (path, acl) in self.notes.acls() {
            let fd = self.open_directory(path)?;
            set_xattr(&fd, path, DEFAULT_ACL, acl)?;
        }
        let (implied, lower_links) = self.notes.into_parts();
        Ok(Report {
            size_bytes: self.size_bytes,
            implied,
            lower_links,
        })
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
