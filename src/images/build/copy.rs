//! Puts files into a layer that is being made: directly into its `diff` directory, which becomes the layer.
//!
//! A destination is resolved through the layer and all below it ([`Tree`]) before anything is written, so that a symbolic link
//! of the image (`/lib → usr/lib`, or a hostile `/app → /etc`) leads to its place inside the image and never out to the host.
//! After that the path has no links; parents that exist below are made again with the metadata they have there, others are
//! new: 0755.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};

use super::context::{Entry, Selected};
use super::mode::ModeChange;
use super::tree::{Last, Tree};

/// Numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// 0:0.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Takes a file's.
    fn of(metadata: &Metadata) -> Self {
        Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }
}

/// How things are put into a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// Who owns them; `None` keeps what they have.
    pub owner: Option<Owner>,
    /// What is done to their modes.
    pub mode: Option<ModeChange>,
}

/// A layer that is being filled.
#[derive(Debug)]
pub struct Filling {
    /// The upper directory.
    diff: PathBuf,
    /// What is below.
    lower: Tree,
    /// Both.
    merged: Tree,
    /// Directories that `diff` has.
    staged: BTreeSet<PathBuf>,
    /// Those of them that the layers below do not have, so that what they hold is in `diff` alone.
    fresh: BTreeSet<PathBuf>,
    /// Times that directories get once nothing is written into them any more.
    times: BTreeMap<PathBuf, Timestamps>,
    /// Files with several names that were copied: (device, inode) to where.
    linked: BTreeMap<(u64, u64), PathBuf>,
    /// Files that changed while they were copied.
    pub unsteady: Vec<PathBuf>,
}

impl Filling {
    /// Starts on an empty `diff` above `layers` (top first).
    pub fn new(diff: &Path, layers: &[PathBuf]) -> Self {
        let mut all = vec![diff.to_owned()];
        all.extend_from_slice(layers);
        Self {
            diff: diff.to_owned(),
            lower: Tree::layers(layers.to_vec()),
            merged: Tree::layers(all),
            staged: BTreeSet::new(),
            fresh: BTreeSet::new(),
            times: BTreeMap::new(),
            linked: BTreeMap::new(),
            unsteady: Vec::new(),
        }
    }

    /// Copies one source: a directory's content into `destination`, a file to it or into it.
    pub fn copy(
        &mut self,
        source: &Selected,
        destination: &Destination,
        style: &Style,
    ) -> io::Result<()> {
        let Some((first, rest)) = source.entries.split_first() else {
            return Ok(());
        };
        if !first.metadata.is_dir() {
            let target = self.file_target(&source.name, destination, style)?;
            return self.put(first, &target, style);
        }
        let resolved = self.merged.resolve(&destination.path, Last::Follow)?;
        let is_new = resolved.node.is_none();
        if resolved.node.is_some_and(|node| !node.metadata.is_dir()) {
            return Err(not_a_directory(&destination.path));
        }
        let top = resolved.path;
        self.directory(&top, style)?;
        if is_new {
            // Only a destination that this copy makes gets the source's metadata.
            self.describe_directory(first, &top, style)?;
        }
        for entry in rest {
            self.put(entry, &top.join(&entry.path), style)?;
        }
        Ok(())
    }

    /// Writes a file that is given as text.
    pub fn document(
        &mut self,
        name: &str,
        content: &str,
        destination: &Destination,
        style: &Style,
    ) -> io::Result<()> {
        let target = self.file_target(OsStr::new(name), destination, style)?;
        let host = self.clear(&target)?;
        let mut file = fs_err::File::create(&host)?;
        file.write_all(content.as_bytes())?;
        drop(file);
        let owner = style.owner.unwrap_or(Owner::ROOT);
        let mode = style.mode.as_ref().map_or(0o644, |m| m.apply(0o644, false));
        set_owner_and_mode(&host, owner, Some(mode))
    }

    /// Makes `path` and its parents; what exists stays as it is. Returns whether something was made.
    pub fn make_directory(&mut self, path: &Path, owner: Owner) -> io::Result<bool> {
        let resolved = self.merged.resolve(path, Last::Follow)?;
        match resolved.node {
            Some(node) if node.metadata.is_dir() => Ok(false),
            Some(_) => Err(not_a_directory(path)),
            None => {
                let style = Style {
                    owner: Some(owner),
                    mode: None,
                };
                self.directory(&resolved.path, &style)?;
                Ok(true)
            }
        }
    }

    /// Gives directories their times; to be called last.
    pub fn finish(&self) -> io::Result<()> {
        // Deeper ones first is not needed: setting times changes no parent.
        for (path, times) in &self.times {
            let host = self.diff.join(path);
            named(
                &host,
                rustix::fs::utimensat(CWD, &host, times, AtFlags::SYMLINK_NOFOLLOW),
            )?;
        }
        Ok(())
    }

    /// Returns where a file goes, its parent made.
    fn file_target(
        &mut self,
        name: &OsStr,
        destination: &Destination,
        style: &Style,
    ) -> io::Result<PathBuf> {
        let resolved = self.merged.resolve(&destination.path, Last::Follow)?;
        let is_directory = resolved.node.as_ref().map(|node| node.metadata.is_dir());
        let target = match is_directory {
            Some(true) => resolved.path.join(name),
            Some(false) if destination.is_directory => {
                return Err(not_a_directory(&destination.path));
            }
            None if destination.is_directory => resolved.path.join(name),
            Some(false) | None => resolved.path,
        };
        if let Some(parent) = target.parent() {
            self.directory(parent, style)?;
        }
        Ok(target)
    }

    /// Makes a resolved directory and its parents in the layer.
    fn directory(&mut self, path: &Path, style: &Style) -> io::Result<()> {
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            if self.staged.contains(&so_far) {
                continue;
            }
            let host = self.diff.join(&so_far);
            let below = self.lower.resolve(&so_far, Last::Keep)?.node;
            match std::fs::create_dir(&host) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.staged.insert(so_far.clone());
                    continue;
                }
                Err(error) => return Err(at(&host, error)),
            }
            match below {
                Some(node) if node.metadata.is_dir() => {
                    copy_attributes(&node.host, &host);
                    let mode = node.metadata.mode();
                    set_owner_and_mode(&host, Owner::of(&node.metadata), Some(mode))?;
                    self.times.insert(so_far.clone(), times_of(&node.metadata));
                }
                Some(_) => return Err(not_a_directory(&so_far)),
                None => {
                    let owner = style.owner.unwrap_or(Owner::ROOT);
                    let mode = style.mode.as_ref().map_or(0o755, |m| m.apply(0o755, true));
                    set_owner_and_mode(&host, owner, Some(mode))?;
                    self.fresh.insert(so_far.clone());
                }
            }
            self.staged.insert(so_far.clone());
        }
        Ok(())
    }

    /// Puts one entry to a resolved path whose parent is in the layer.
    fn put(&mut self, entry: &Entry, target: &Path, style: &Style) -> io::Result<()> {
        if entry.metadata.is_dir() {
            if self.existing(target)? == Some(false) {
                return Err(not_a_directory(target));
            }
            self.directory(target, style)?;
            return self.describe_directory(entry, target, style);
        }
        let host = self.clear(target)?;
        let key = (entry.metadata.dev(), entry.metadata.ino());
        let kind = entry.metadata.file_type();
        if kind.is_file() && entry.metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&key) {
                return fs_err::hard_link(first, &host);
            }
            self.linked.insert(key, host.clone());
        }
        if kind.is_file() {
            if copy_content(&entry.host, &host, &entry.metadata)? {
                self.unsteady.push(entry.host.clone());
            }
        } else if kind.is_symlink() {
            fs_err::os::unix::fs::symlink(fs_err::read_link(&entry.host)?, &host)?;
        } else {
            make_special(&host, kind, entry.metadata.rdev())?;
        }
        copy_attributes(&entry.host, &host);
        let owner = style.owner.unwrap_or(Owner::of(&entry.metadata));
        let mode = (!kind.is_symlink()).then(|| {
            let mode = entry.metadata.mode() & 0o7777;
            style.mode.as_ref().map_or(mode, |m| m.apply(mode, false))
        });
        set_owner_and_mode(&host, owner, mode)?;
        let times = times_of(&entry.metadata);
        named(
            &host,
            rustix::fs::utimensat(CWD, &host, &times, AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Gives a directory of the layer the metadata of its source.
    fn describe_directory(
        &mut self,
        entry: &Entry,
        target: &Path,
        style: &Style,
    ) -> io::Result<()> {
        let host = self.diff.join(target);
        copy_attributes(&entry.host, &host);
        let owner = style.owner.unwrap_or(Owner::of(&entry.metadata));
        let mode = entry.metadata.mode() & 0o7777;
        let mode = style.mode.as_ref().map_or(mode, |m| m.apply(mode, true));
        set_owner_and_mode(&host, owner, Some(mode))?;
        self.times
            .insert(target.to_owned(), times_of(&entry.metadata));
        Ok(())
    }

    /// Returns the place of a file to be written, after what the layer has there is gone; a directory is never replaced.
    fn clear(&self, target: &Path) -> io::Result<PathBuf> {
        if self.existing(target)? == Some(true) {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!(
                    "cannot replace the directory `/{}` with a file",
                    target.display()
                ),
            ));
        }
        let host = self.diff.join(target);
        match std::fs::remove_file(&host) {
            Ok(()) => Ok(host),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(host),
            Err(error) => Err(at(&host, error)),
        }
    }

    /// Returns whether a resolved path is a directory now; `None` where nothing is.
    fn existing(&self, target: &Path) -> io::Result<Option<bool>> {
        if target
            .parent()
            .is_some_and(|parent| self.fresh.contains(parent))
        {
            let host = self.diff.join(target);
            return match std::fs::symlink_metadata(&host) {
                Ok(metadata) => Ok(Some(metadata.is_dir())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(at(&host, error)),
            };
        }
        let node = self.merged.resolve(target, Last::Keep)?.node;
        Ok(node.map(|node| node.metadata.is_dir()))
    }

    /// Unpacks a tar archive into `destination`, which is made if missing. Whiteout names mean nothing in it.
    pub fn unpack(
        &mut self,
        archive: impl io::Read,
        destination: &Destination,
        owner: Option<Owner>,
    ) -> io::Result<()> {
        let style = Style { owner, mode: None };
        let resolved = self.merged.resolve(&destination.path, Last::Follow)?;
        if resolved.node.is_some_and(|node| !node.metadata.is_dir()) {
            return Err(not_a_directory(&destination.path));
        }
        let top = resolved.path;
        self.directory(&top, &style)?;
        let mut archive = tar::Archive::new(archive);
        for member in archive.entries()? {
            let mut member = member?;
            let name = PathBuf::from(OsString::from_vec(member.path_bytes().into_owned()));
            self.unpack_member(&mut member, &top, &name, &style)
                .map_err(|e| {
                    io::Error::new(e.kind(), format!("unpack `{}`: {e}", name.display()))
                })?;
        }
        Ok(())
    }

    /// Unpacks one member of an archive.
    fn unpack_member(
        &mut self,
        member: &mut tar::Entry<'_, impl io::Read>,
        top: &Path,
        name: &Path,
        style: &Style,
    ) -> io::Result<()> {
        let clean = super::pattern::clean(&name.to_string_lossy());
        let wanted = top.join(clean);
        let header = member.header().clone();
        let kind = header.entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let owner = match style.owner {
            Some(owner) => owner,
            None => Owner {
                uid: owner_number(&header.as_old().uid, header.uid())?,
                gid: owner_number(&header.as_old().gid, header.gid())?,
            },
        };
        let mode = header.mode()? & 0o7777;
        let seconds = i64::try_from(header.mtime()?).unwrap_or_default();
        let times = timestamps(seconds, 0);
        let implied = Style {
            owner: Some(Owner::ROOT),
            mode: None,
        };
        if kind.is_dir() {
            let target = self.merged.resolve(&wanted, Last::Follow)?;
            if target.node.is_some_and(|node| !node.metadata.is_dir()) {
                return Err(not_a_directory(&wanted));
            }
            self.directory(&target.path, &implied)?;
            set_owner_and_mode(&self.diff.join(&target.path), owner, Some(mode))?;
            self.times.insert(target.path, times);
            return Ok(());
        }
        let (Some(parent), Some(file_name)) = (wanted.parent(), wanted.file_name()) else {
            return Err(io::Error::other("no file name"));
        };
        let parent = self.merged.resolve(parent, Last::Follow)?.path;
        self.directory(&parent, &implied)?;
        let host = self.clear(&parent.join(file_name))?;
        if kind.is_hard_link() {
            return self.link_member(member, top, &host);
        }
        if kind.is_symlink() {
            let target = member.link_name_bytes().unwrap_or_default().into_owned();
            fs_err::os::unix::fs::symlink(OsString::from_vec(target), &host)?;
        } else if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() {
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            let device = rustix::fs::makedev(major.unwrap_or(0), minor.unwrap_or(0));
            let special = match kind {
                tar::EntryType::Fifo => FileType::Fifo,
                tar::EntryType::Char => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            named(
                &host,
                rustix::fs::mknodat(CWD, &host, special, Mode::empty(), device),
            )?;
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let mut file = fs_err::File::create(&host)?;
            io::copy(member, &mut file)?;
        } else {
            return Err(io::Error::other(format!("unknown type {kind:?}")));
        }
        set_owner_and_mode(&host, owner, (!kind.is_symlink()).then_some(mode))?;
        named(
            &host,
            rustix::fs::utimensat(CWD, &host, &times, AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Makes a hard link to an earlier member, or a copy of a file of the layers below.
    fn link_member(
        &mut self,
        member: &tar::Entry<'_, impl io::Read>,
        top: &Path,
        host: &Path,
    ) -> io::Result<()> {
        let target = member.link_name_bytes().unwrap_or_default().into_owned();
        let target = PathBuf::from(OsString::from_vec(target));
        let target = top.join(super::pattern::clean(&target.to_string_lossy()));
        let found = self.merged.resolve(&target, Last::Keep)?.node;
        let Some(node) = found.filter(|node| !node.metadata.is_dir()) else {
            return Err(io::Error::other(format!(
                "hard link to `/{}`, which is not a file of the archive",
                target.display()
            )));
        };
        if node.host.starts_with(&self.diff) {
            return fs_err::hard_link(&node.host, host);
        }
        copy_content(&node.host, host, &node.metadata)?;
        set_owner_and_mode(host, Owner::of(&node.metadata), Some(node.metadata.mode()))
    }
}

/// Where something is copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Absolute, inside the image; may go through links.
    pub path: PathBuf,
    /// Whether it was written as a directory: with a `/` or `/.` at its end.
    pub is_directory: bool,
}

impl Destination {
    /// Joins a destination as written to the working directory.
    pub fn parse(text: &str, working_directory: &str) -> Self {
        let is_directory =
            text.is_empty() || text == "." || text.ends_with('/') || text.ends_with("/.");
        Self {
            path: Path::new("/").join(working_directory).join(text),
            is_directory,
        }
    }
}

/// Copies a file's bytes; returns whether the source changed since `seen`.
fn copy_content(from: &Path, to: &Path, seen: &Metadata) -> io::Result<bool> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    std::os::unix::fs::OpenOptionsExt::custom_flags(options.options_mut(), libc::O_NOFOLLOW);
    let source = options.open(from)?;
    let target = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)?;
    // Shares the blocks where the file system can; else the kernel copies from cache to cache.
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source.file(), &mut target.file()).map_err(|error| at(from, error))?;
    }
    Ok(super::context::changed(seen, &source.metadata()?))
}

/// Reads an owner's number of an archive; a field that was left blank means 0, as other readers of tar have it.
fn owner_number(field: &[u8], number: io::Result<u64>) -> io::Result<u32> {
    if field.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return Ok(0);
    }
    u32::try_from(number?).map_err(io::Error::other)
}

/// Makes a pipe, a socket or a device.
fn make_special(host: &Path, kind: std::fs::FileType, device: u64) -> io::Result<()> {
    let special = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_socket() {
        FileType::Socket
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else {
        FileType::BlockDevice
    };
    named(
        host,
        rustix::fs::mknodat(CWD, host, special, Mode::empty(), device),
    )
}

/// Sets owner, then mode: a change of owner clears the set-user-id bit.
fn set_owner_and_mode(host: &Path, owner: Owner, mode: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    named(
        host,
        rustix::fs::chownat(CWD, host, Some(uid), Some(gid), flags),
    )?;
    match mode {
        Some(mode) => named(
            host,
            rustix::fs::chmod(host, Mode::from_raw_mode(mode & 0o7777)),
        ),
        None => Ok(()),
    }
}

/// Returns a file's times, as `utimensat` takes them.
fn times_of(metadata: &Metadata) -> Timestamps {
    timestamps(metadata.mtime(), metadata.mtime_nsec())
}

/// Returns one time for both.
fn timestamps(seconds: i64, ns: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: ns,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Returns a file's extended attributes but those of overlay file systems and labels of this machine; none where it has none.
pub fn attributes(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0_u8; 1024];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(0) => return Vec::new(),
        Ok(length) => length,
        Err(rustix::io::Errno::RANGE) => {
            names.resize(64 * 1024, 0);
            rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0)
        }
        // A file system without attributes.
        Err(_) => return Vec::new(),
    };
    names.truncate(length);
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|n| !n.is_empty()) {
        let kept = name.starts_with(b"user.") || name == b"security.capability";
        let mut value = vec![0_u8; 64 * 1024];
        if kept
            && let Ok(size) = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])
        {
            value.truncate(size);
            found.push((OsStr::from_bytes(name).to_owned(), value));
        }
    }
    found.sort();
    found
}

/// Copies attributes; a file system that takes none is no reason to fail (so does BuildKit).
fn copy_attributes(from: &Path, to: &Path) {
    for (name, value) in attributes(from) {
        let flags = rustix::fs::XattrFlags::empty();
        let set = rustix::fs::lsetxattr(to, &name, &value, flags);
        drop(set);
    }
}

/// Puts the path into an error.
fn named(path: &Path, result: Result<(), rustix::io::Errno>) -> io::Result<()> {
    result.map_err(|errno| at(path, errno.into()))
}

/// Puts the path into an error.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("write `{}`: {error}", path.display()))
}

/// Says that a path of the image is no directory.
fn not_a_directory(path: &Path) -> io::Error {
    let text = Path::new("/").join(path);
    io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("`{}` in the image is not a directory", text.display()),
    )
}
