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
//! a parent without an entry                   0755 root, and a note (Report::implied)
//! xattrs              security.capability, user.*, POSIX ACLs; overlay's own and all else are dropped
//! ```
//!
//! Both whiteout forms mean the same whatever comes first. Directories get their owner, mode and times when all is
//! there, so that neither a set-group-id bit nor later entries change what is made in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::error::UnpackError;
use super::reader::{Entry, Kind, TarReader};
use crate::sys::xattr;

/// Marks a directory that hides the layers below (kernel, `filesystems/overlayfs.rst`).
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a layer may ask for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Limits {
    /// Returns the limits for a directory: what its file system has left but a twentieth.
    pub fn of_directory(path: &Path) -> io::Result<Self> {
        let space = rustix::fs::statvfs(path)?;
        let available = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(Self {
            entries: 5_000_000,
            bytes: available - available / 20,
        })
    }
}

/// What came of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of its regular files.
    pub size_bytes: u64,
    /// Directories that no entry describes.
    pub implied: Vec<PathBuf>,
    /// Hard links into the layers below: (link, target).
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

/// Owner, mode, times and attributes that are set last.
#[derive(Debug, Clone)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
struct Extractor {
    root: OwnedFd,
    limits: Limits,
    entries: u64,
    report: Report,
    directories: BTreeMap<PathBuf, Attributes>,
    implied: BTreeSet<PathBuf>,
    /// The parent of the last entry, as most entries have the same.
    parent: Option<(PathBuf, OwnedFd)>,
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
            report: Report::default(),
            directories: BTreeMap::new(),
            implied: BTreeSet::new(),
            parent: None,
        })
    }

    fn put<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit {
                limit: self.limits.entries,
                unit: "entries",
            });
        }
        let path = clean(&entry.path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.put_root(entry);
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.put_whiteout(&path, parent, hidden);
        }
        self.open_parent(parent)?;
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
        match entry.kind {
            Kind::Directory => {
                self.directories.insert(PathBuf::new(), attributes(entry));
                Ok(())
            }
            _ => Err(UnpackError::Name {
                path: entry.display_path(),
            }),
        }
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
                if self.report.size_bytes + data.len() as u64 > self.limits.bytes {
                    return Err(UnpackError::Limit {
                        limit: self.limits.bytes,
                        unit: super::error::ROOM,
                    });
                }
                let written =
                    rustix::io::pwrite(&file, data, at).map_err(UnpackError::io("write", path))?;
                at += written as u64;
                self.report.size_bytes += written as u64;
                reader.consume(written);
            }
        }
        if entry.sparse.is_some() {
            rustix::fs::ftruncate(&file, entry.size).map_err(UnpackError::io("resize", path))?;
        }
        describe_fd(&file, path, &attributes(entry))
    }

    fn put_directory(&mut self, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
        self.make_directory(path)?;
        self.implied.remove(path);
        self.directories.insert(path.to_owned(), attributes(entry));
        Ok(())
    }

    /// Makes `path` a directory if it is none; its parent is open.
    fn make_directory(&mut self, path: &Path) -> Result<(), UnpackError> {
        let (parent, name) = self.open_place(path)?;
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(UnpackError::io("make the directory", path)(errno)),
        }
        let was = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(UnpackError::io("look at", path))?;
        if FileType::from_raw_mode(was.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.remove(path)?;
        let (parent, name) = self.open_place(path)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU)
            .map_err(UnpackError::io("make the directory", path))?;
        if is_whiteout(&was) {
            // What is below was to go, and is not to shine through the new directory.
            self.set_opaque(path)?;
        }
        Ok(())
    }

    fn put_hardlink(&mut self, path: &Path, target: &[u8]) -> Result<(), UnpackError> {
        let target = clean(target)?;
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(UnpackError::Name { path: target });
        };
        if target == path {
            return Ok(());
        }
        let missing = match self.open_in_root(directory) {
            Ok(source) => {
                // The name is unresolved: a link to a symbolic link links the symbolic link.
                match rustix::fs::statat(&source, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if is_whiteout(&stat) => true,
                    Ok(_) => {
                        return self.make(path, "make the hard link", |parent, new| {
                            rustix::fs::linkat(&source, name, parent, new, AtFlags::empty())
                        });
                    }
                    Err(Errno::NOENT) => true,
                    Err(errno) => return Err(UnpackError::io("look at", &target)(errno)),
                }
            }
            Err(Errno::NOENT) => true,
            Err(errno) => return Err(UnpackError::io("open", directory)(errno)),
        };
        if missing {
            self.remove(path)?;
            self.report.lower_links.push((path.to_owned(), target));
        }
        Ok(())
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
    ) -> Result<(), UnpackError> {
        if hidden == b".wh..opq" {
            self.open_parent(parent)?;
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
        self.open_parent(parent)?;
        let target = parent.join(OsStr::from_bytes(hidden));
        let (directory, name) = self.open_place(&target)?;
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.set_opaque(&target)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(UnpackError::io("make the whiteout", &target))
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
        match create(parent, name) {
            Ok(made) => return Ok(made),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(UnpackError::io(doing, path)(errno)),
        }
        self.remove(path)?;
        let (parent, name) = self.open_place(path)?;
        create(parent, name).map_err(UnpackError::io(doing, path))
    }

    /// Removes whatever is at `path`, never following it.
    fn remove(&mut self, path: &Path) -> Result<(), UnpackError> {
        let (parent, name) = self.open_place(path)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(UnpackError::io("remove", path)(errno)),
        }
        fs_err::remove_dir_all(proc_path(parent, name)).map_err(UnpackError::io("remove", path))?;
        self.parent = None;
        self.forget(path);
        Ok(())
    }

    /// Takes note that the directory `path` is gone with all in it. Paths in it stand together, right behind it: an archive
    /// that makes and replaces directories without end must not have all of them gone through each time.
    fn forget(&mut self, path: &Path) {
        let within = |known: &&PathBuf| known.starts_with(path);
        let described = self.directories.range(path.to_owned()..);
        let described: Vec<PathBuf> = described
            .map(|(known, _)| known)
            .take_while(within)
            .cloned()
            .collect();
        for known in described {
            self.directories.remove(&known);
        }
        let implied = self.implied.range(path.to_owned()..);
        let implied: Vec<PathBuf> = implied.take_while(within).cloned().collect();
        for known in implied {
            self.implied.remove(&known);
        }
    }

    /// Opens the parent of `path`, and returns it with the last component.
    fn open_place<'a>(&mut self, path: &'a Path) -> Result<(&OwnedFd, &'a OsStr), UnpackError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(UnpackError::Name {
                path: path.to_owned(),
            });
        };
        Ok((self.open_parent(parent)?, name))
    }

    /// Opens the directory `path` of the layer, made with its parents where missing.
    fn open_parent(&mut self, path: &Path) -> Result<&OwnedFd, UnpackError> {
        if self.parent.as_ref().is_none_or(|(known, _)| known != path) {
            let fd = match self.open_in_root(path) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path)?,
                Err(errno) => return Err(UnpackError::io("open", path)(errno)),
            };
            self.parent = Some((path.to_owned(), fd));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd),
            None => Ok(&self.root),
        }
    }

    fn open_in_root(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        in_root(&self.root, path, flags)
    }

    /// Makes `path` component by component. A file or a dangling link in its way is replaced.
    fn make_parents(&mut self, path: &Path) -> Result<OwnedFd, UnpackError> {
        let mut prefix = PathBuf::new();
        for component in path.components() {
            prefix.push(component);
            match self.open_in_root(&prefix) {
                Ok(_) => continue,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(UnpackError::io("open", &prefix)(errno)),
            }
            // Its own parent is a directory by now, so this recursion ends at once.
            self.make_directory(&prefix)?;
            self.implied.insert(prefix.clone());
        }
        self.open_in_root(path)
            .map_err(UnpackError::io("open", path))
    }

    fn set_opaque(&mut self, path: &Path) -> Result<(), UnpackError> {
        let fd = self
            .open_directory(path)
            .map_err(UnpackError::io("open", path))?;
        rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(UnpackError::io("make opaque", path))
    }

    /// Opens a directory for changing it; its last component is not followed.
    fn open_directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        in_root(&self.root, path, flags)
    }

    /// Sets owner, mode, times and attributes of what is neither a file nor a directory.
    fn describe(&mut self, path: &Path, entry: &Entry) -> Result<(), UnpackError> {
        let (parent, name) = self.open_place(path)?;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(UnpackError::io("set the owner of", path))?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            // Made new by us just now, so it is no link that could lead elsewhere.
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(UnpackError::io("set the mode of", path))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(UnpackError::io("set the time of", path))
    }

    /// Describes the directories, deepest first, and tells what the layer lacks.
    fn finish(self) -> Result<Report, UnpackError> {
        for (path, attributes) in self.directories.iter().rev() {
            let fd = match self.open_directory(path) {
                Ok(fd) => fd,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(UnpackError::io("open", path)(errno)),
            };
            describe_fd(&fd, path, attributes)?;
        }
        for path in &self.implied {
            match self.open_directory(path) {
                Ok(fd) => rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                    .map_err(UnpackError::io("set the mode of", path))?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(UnpackError::io("open", path)(errno)),
            }
        }
        let mut report = self.report;
        report.implied = self.implied.into_iter().collect();
        // A later entry of the same name has taken the link's place.
        let root = &self.root;
        report.lower_links.retain(|(link, _)| {
            in_root(
                root,
                link,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            )
            .is_err()
        });
        Ok(report)
    }
}

/// `openat2` within `root`, which symbolic links cannot leave; magic links are refused.
fn in_root(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename elsewhere on the system raced with `..` in a link (man 2 openat2).
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Cleans a path of an archive: relative, without `.` and `..`.
fn clean(bytes: &[u8]) -> Result<PathBuf, UnpackError> {
    let path = Path::new(OsStr::from_bytes(bytes));
    if bytes.contains(&0) || bytes.len() > 4096 {
        return Err(UnpackError::Name {
            path: path.to_owned(),
        });
    }
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                if !cleaned.pop() {
                    return Err(UnpackError::Escape {
                        path: path.to_owned(),
                    });
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(cleaned)
}

fn attributes(entry: &Entry) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    }
}

/// Describes an open file or directory. The order matters: a change of owner clears setuid and security.capability.
fn describe_fd(fd: &OwnedFd, path: &Path, attributes: &Attributes) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))
        .map_err(UnpackError::io("set the owner of", path))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
        .map_err(UnpackError::io("set the mode of", path))?;
    for (name, value) in &attributes.xattrs {
        if !xattr::is_kept(name) {
            continue;
        }
        match rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // The file system knows none; so do overlayfs and containers on it.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(UnpackError::io("set an extended attribute of", path)(errno)),
        }
    }
    rustix::fs::futimens(fd, &times(attributes.mtime))
        .map_err(UnpackError::io("set the time of", path))
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Names `name` in the open directory `parent` for calls that only take paths.
fn proc_path(parent: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(parent.as_fd().as_raw_fd().to_string())
        .join(name)
}
