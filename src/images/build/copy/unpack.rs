//! Archives into a layer.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};

use super::super::super::stop::Heeding;
use super::super::super::unpack::UnpackError;
use super::super::super::unpack::reader::{Entry, Kind, TarReader};
use super::super::tree::{Last, Node};
use super::files::{
    at, copy_attributes, copy_content, named, set_attribute, set_owner_and_mode, timestamps,
};
use super::{Destination, Filling, Owner, Style, not_a_directory};
use crate::sys::{remove, xattr};

impl Filling {
    /// Unpacks a tar archive into `destination`, which is made if missing. Whiteout names mean nothing in it.
    ///
    /// The destination is the root of whatever the archive says, and of the symbolic links that its paths lead through: `/x` is in it, and
    /// so is `../../x` (BuildKit `solver/llbsolver/file`; Docker changes its root to it).
    ///
    /// What is there gives way to a member of another kind (moby `pkg/archive`, `Unpack`): a directory with all that is in it to a
    /// file, a link to a directory.
    pub fn unpack(
        &mut self,
        archive: impl Read,
        destination: &Destination,
        owner: Option<Owner>,
    ) -> io::Result<()> {
        let style = Style { owner, mode: None };
        let resolved = self.merged.resolve(&destination.path, Last::Follow)?;
        if resolved.node.is_some_and(|node| !node.metadata.is_dir()) {
            return Err(not_a_directory(&destination.path));
        }
        let path = resolved.path;
        self.directory(&path, &style)?;
        let node = self.merged.resolve(&path, Last::Keep)?.node;
        let node = node.ok_or_else(|| not_a_directory(&path))?;
        let top = Top { path, node };
        let archive = Heeding::new(archive, &self.stop);
        let mut archive = TarReader::new(io::BufReader::with_capacity(1 << 16, archive));
        while let Some(entry) = archive.next_entry().map_err(broken)? {
            self.stop.check()?;
            self.unpack_entry(&mut archive, &entry, &top, owner)
                .map_err(|error| {
                    let name = entry.display_path();
                    io::Error::new(
                        error.kind(),
                        format!("unpack `{}`: {error}", name.display()),
                    )
                })?;
        }
        Ok(())
    }

    /// Unpacks one member of an archive.
    fn unpack_entry(
        &mut self,
        archive: &mut TarReader<impl BufRead>,
        entry: &Entry,
        top: &Top,
        owner: Option<Owner>,
    ) -> io::Result<()> {
        let name = inside(&entry.display_path());
        let Some(file_name) = name.file_name() else {
            return match entry.kind {
                // As moby's `pkg/archive`, to which `.` is where it is unpacked, and `/` a member like any other.
                Kind::Directory if entry.display_path().is_absolute() => {
                    self.describe(entry, &top.path, owner)
                }
                Kind::Directory => Ok(()),
                _ => Err(io::Error::other("no file name")),
            };
        };
        let parent = name.parent().unwrap_or(Path::new(""));
        let parent = self.merged.resolve_in(&top.node, parent, Last::Follow)?;
        let parent = top.path.join(parent.path);
        self.directory(&parent, &implied())?;
        let target = parent.join(file_name);
        if entry.kind == Kind::Directory {
            self.unpack_directory(&target)?;
        } else {
            self.make_way(&target)?;
        }
        let host = self.diff.join(&target);
        match &entry.kind {
            Kind::Directory => {}
            Kind::File => write_content(archive, entry, &host)?,
            Kind::Hardlink(link) => return self.link(link, top, &host),
            Kind::Symlink(link) => {
                fs_err::os::unix::fs::symlink(OsStr::from_bytes(link), &host)?;
            }
            Kind::Fifo => make_node(&host, FileType::Fifo, (0, 0))?,
            Kind::Character(major, minor) => {
                self.allow_device(&target, rustix::fs::makedev(*major, *minor))?;
                make_node(&host, FileType::CharacterDevice, (*major, *minor))?;
            }
            Kind::Block(major, minor) => {
                make_node(&host, FileType::BlockDevice, (*major, *minor))?;
            }
        }
        self.describe(entry, &target, owner)
    }

    /// Gives what was made the owner, the mode, the attributes and the times that a member has.
    fn describe(&mut self, entry: &Entry, target: &Path, owner: Option<Owner>) -> io::Result<()> {
        let host = self.diff.join(target);
        let owner = owner.unwrap_or(Owner {
            uid: entry.uid,
            gid: entry.gid,
        });
        let is_link = matches!(entry.kind, Kind::Symlink(_));
        set_owner_and_mode(&host, owner, (!is_link).then_some(entry.mode))?;
        let attributes = entry.xattrs.iter();
        let attributes = attributes
            .filter(|(name, _)| xattr::is_kept(name))
            .map(|(name, value)| (OsString::from_vec(name.clone()), value.clone()));
        let times = timestamps(entry.mtime.0, entry.mtime.1.into());
        if entry.kind == Kind::Directory {
            self.set_attributes(target, attributes.collect())?;
            self.times.insert(target.to_owned(), times);
            return Ok(());
        }
        // After the owner: a change of that takes a file's capabilities away.
        for (name, value) in attributes {
            set_attribute(&host, &name, &value)?;
        }
        named(
            &host,
            rustix::fs::utimensat(CWD, &host, &times, AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Makes a directory that stays where there is one, and takes the place of anything else.
    fn unpack_directory(&mut self, target: &Path) -> io::Result<()> {
        if self.existing(target)? != Some(false) {
            return self.directory(target, &implied());
        }
        let host = self.make_way(target)?;
        std::fs::create_dir(&host).map_err(|error| at(&host, &error))?;
        // A directory of the layers below that something else took the place of does not come back with what is in it.
        let below = self.lower.resolve(target, Last::Keep)?.node;
        if below.is_some_and(|node| node.metadata.is_dir()) {
            let flags = XattrFlags::empty();
            named(
                &host,
                rustix::fs::lsetxattr(&host, "trusted.overlay.opaque", b"y", flags),
            )?;
        }
        self.staged.insert(target.to_owned());
        self.fresh.insert(target.to_owned());
        Ok(())
    }

    /// Removes what the layer has at a resolved path, a directory with all that is in it; returns where that is. What is put there
    /// hides what the layers below have.
    fn make_way(&mut self, target: &Path) -> io::Result<PathBuf> {
        let host = self.diff.join(target);
        match std::fs::symlink_metadata(&host) {
            Ok(metadata) if metadata.is_dir() => {
                remove::tree(&host)?;
                let is_other = |path: &PathBuf| !path.starts_with(target);
                self.staged.retain(is_other);
                self.fresh.retain(is_other);
                self.times.retain(|path, _| is_other(path));
                self.default_acls.retain(|path, _| is_other(path));
            }
            Ok(_) => fs_err::remove_file(&host)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&host, &error)),
        }
        Ok(host)
    }

    /// Makes a hard link to an earlier member, or a copy of a file of the layers below.
    fn link(&mut self, link: &[u8], top: &Top, host: &Path) -> io::Result<()> {
        let target = inside(Path::new(OsStr::from_bytes(link)));
        let found = self.merged.resolve_in(&top.node, &target, Last::Keep)?;
        let (target, found) = (top.path.join(target), found.node);
        let Some(node) = found.filter(|node| !node.metadata.is_dir()) else {
            return Err(io::Error::other(format!(
                "hard link to `/{}`, which is not a file of the archive",
                target.display()
            )));
        };
        if node.host.starts_with(&self.diff) {
            return fs_err::hard_link(&node.host, host);
        }
        if !node.metadata.is_file() {
            return Err(io::Error::other(format!(
                "hard link to `/{}`, which the layers below have and is no file",
                target.display()
            )));
        }
        copy_content(&node.host, host, &node.metadata, &self.stop)?;
        set_owner_and_mode(host, Owner::of(&node.metadata), Some(node.metadata.mode()))?;
        copy_attributes(&node.host, host)
    }
}

/// Where an archive is unpacked.
struct Top {
    /// In the image, without links.
    path: PathBuf,
    node: Node,
}

/// How directories are made that an archive only implies.
fn implied() -> Style {
    Style {
        owner: Some(Owner::ROOT),
        mode: None,
    }
}

/// Writes a file's content, with the holes that a sparse one has.
fn write_content(
    archive: &mut TarReader<impl BufRead>,
    entry: &Entry,
    host: &Path,
) -> io::Result<()> {
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(host)?;
    let whole = [(0, entry.size)];
    for (offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
        file.seek(SeekFrom::Start(*offset))?;
        let mut left = *length;
        while left > 0 {
            let data = archive.data().map_err(broken)?;
            let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(data.get(..count).unwrap_or_default())?;
            archive.consume(count);
            left -= count as u64;
        }
    }
    if entry.sparse.is_some() {
        file.file().set_len(entry.size)?;
    }
    Ok(())
}

/// Makes a pipe or a device.
fn make_node(host: &Path, kind: FileType, (major, minor): (u32, u32)) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    named(
        host,
        rustix::fs::mknodat(CWD, host, kind, Mode::empty(), device),
    )
}

/// Hands on what is wrong with an archive.
fn broken(error: UnpackError) -> io::Error {
    io::Error::other(error)
}

/// Returns a path without what would lead out of where it begins.
fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}
