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
use std::os::unix::fs::{FileTypeExt as _, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timestamps, Uid};

use super::super::stop::Stop;
use super::context::{self, Entry, Selected};
use super::mode::ModeChange;
use super::tree::{Last, Tree};
use crate::sys::xattr::DEFAULT_ACL;
use files::{
    at, copy_attributes, copy_content, make_special, named, set_attribute, set_owner_and_mode,
};

mod files;
#[cfg(test)]
mod tests;
mod unpack;

pub use files::{attributes, open_regular};
pub(super) use files::{copy_into, times_of};

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
    /// Lists that directories get then too: the kernel would give them to whatever is made in them.
    default_acls: BTreeMap<PathBuf, Vec<u8>>,
    /// Files with several names that were copied: (device, inode) to where.
    linked: BTreeMap<(u64, u64), PathBuf>,
    /// Files that were no longer what they had been when they were chosen.
    pub unsteady: Vec<PathBuf>,
    /// Whether it is still wanted.
    stop: Stop,
    /// Whether it is no layer, so that no name in it means anything.
    is_plain: bool,
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
            default_acls: BTreeMap::new(),
            linked: BTreeMap::new(),
            unsteady: Vec::new(),
            stop: Stop::default(),
            is_plain: false,
        }
    }

    /// Starts on a directory that is no layer and does not become one.
    pub fn plain(directory: &Path) -> Self {
        Self {
            is_plain: true,
            ..Self::new(directory, &[])
        }
    }

    /// Ends with an error once `stop` asks for it.
    #[must_use]
    pub fn heeding(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
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
        // Names of one file are one file again only within a source, as with BuildKit.
        self.linked.clear();
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
            // It is made as a parent is, and not as its source: BuildKit gives it the time alone.
            self.times.insert(top.clone(), times_of(&first.metadata));
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

    /// Gives directories their times and default lists; to be called last.
    pub fn finish(&self) -> io::Result<()> {
        for (path, list) in &self.default_acls {
            set_attribute(&self.diff.join(path), OsStr::new(DEFAULT_ACL), list)?;
        }
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
            Some(true) => inside(&resolved.path, name)?,
            Some(false) if destination.is_directory => {
                return Err(not_a_directory(&destination.path));
            }
            None if destination.is_directory => inside(&resolved.path, name)?,
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
            let above = so_far.parent();
            let below = if above.is_some_and(|above| self.fresh.contains(above)) {
                // What the layers below have by that name is of something else, hidden by now.
                None
            } else {
                self.lower.resolve(&so_far, Last::Keep)?.node
            };
            match std::fs::create_dir(&host) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.staged.insert(so_far.clone());
                    continue;
                }
                Err(error) => return Err(at(&host, &error)),
            }
            match below {
                Some(node) if node.metadata.is_dir() => {
                    self.set_attributes(&so_far, attributes(&node.host))?;
                    let mode = node.metadata.mode();
                    set_owner_and_mode(&host, Owner::of(&node.metadata), Some(mode))?;
                    self.times.insert(so_far.clone(), times_of(&node.metadata));
                }
                Some(_) => return Err(not_a_directory(&so_far)),
                None => {
                    let owner = style.owner.unwrap_or(Owner::ROOT);
                    let mode = style.mode.as_ref().map_or(0o755, |m| m.apply(0o755, true));
                    // BuildKit makes them with `mkdir`, which knows no such bits (fsutil `copy/mkdir.go`).
                    let mode = mode & 0o777;
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
        self.stop.check()?;
        if entry.metadata.is_dir() {
            let existing = self.existing(target)?;
            if existing == Some(false) {
                return Err(not_a_directory(target));
            }
            self.directory(target, style)?;
            if !entry.leads || existing.is_none() {
                return self.describe_directory(entry, target, style);
            }
            let host = self.diff.join(target);
            let mode = entry.metadata.mode() & 0o7777;
            let mode = style.mode.as_ref().map_or(mode, |m| m.apply(mode, true));
            let mode = Mode::from_raw_mode(mode);
            return named(&host, rustix::fs::chmod(&host, mode));
        }
        // In a directory that only this layer has, nothing is in the way as a rule, so that asking first is not worth it.
        let fresh = target
            .parent()
            .is_some_and(|parent| self.fresh.contains(parent));
        let host = if fresh {
            self.diff.join(target)
        } else {
            self.clear(target)?
        };
        match self.put_file(entry, &host, style) {
            Err(error) if fresh && error.kind() == io::ErrorKind::AlreadyExists => {
                let host = self.clear(target)?;
                self.put_file(entry, &host, style)
            }
            result => result,
        }
    }

    /// Makes a copy of anything but a directory at `host`, where nothing is.
    fn put_file(&mut self, entry: &Entry, host: &Path, style: &Style) -> io::Result<()> {
        let metadata = &entry.metadata;
        let kind = metadata.file_type();
        let owner = style.owner.unwrap_or(Owner::of(metadata));
        let mode = metadata.mode() & 0o7777;
        let mode = style.mode.as_ref().map_or(mode, |m| m.apply(mode, false));
        let times = times_of(metadata);
        if kind.is_file() {
            let key = (metadata.dev(), metadata.ino());
            if metadata.nlink() > 1
                && let Some(first) = self.linked.get(&key)
            {
                return fs_err::hard_link(first, host);
            }
            let (file, changed) = copy_content(&entry.host, host, metadata, &self.stop)?;
            if changed {
                self.unsteady.push(entry.host.clone());
            }
            if metadata.nlink() > 1 {
                self.linked.insert(key, host.to_owned());
            }
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            named(host, rustix::fs::fchown(&file, Some(uid), Some(gid)))?;
            // After the owner, whose change takes a file's capabilities away; before the mode, which is the mask of a list.
            copy_attributes(&entry.host, host)?;
            return named(
                host,
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                    .and_then(|()| rustix::fs::futimens(&file, &times)),
            );
        }
        if kind.is_symlink() {
            fs_err::os::unix::fs::symlink(fs_err::read_link(&entry.host)?, host)?;
            if context::changed(metadata, &fs_err::symlink_metadata(&entry.host)?) {
                self.unsteady.push(entry.host.clone());
            }
        } else {
            if kind.is_char_device() {
                self.allow_device(&entry.host, metadata.rdev())?;
            }
            make_special(host, kind, metadata.rdev())?;
        }
        set_owner_and_mode(host, owner, (!kind.is_symlink()).then_some(mode))?;
        named(
            host,
            rustix::fs::utimensat(CWD, host, &times, AtFlags::SYMLINK_NOFOLLOW),
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
        self.set_attributes(target, attributes(&entry.host))?;
        let owner = style.owner.unwrap_or(Owner::of(&entry.metadata));
        let mode = entry.metadata.mode() & 0o7777;
        let mode = style.mode.as_ref().map_or(mode, |m| m.apply(mode, true));
        set_owner_and_mode(&host, owner, Some(mode))?;
        self.times
            .insert(target.to_owned(), times_of(&entry.metadata));
        Ok(())
    }

    /// Gives a directory of the layer attributes.
    fn set_attributes(
        &mut self,
        target: &Path,
        attributes: Vec<(OsString, Vec<u8>)>,
    ) -> io::Result<()> {
        let host = self.diff.join(target);
        for (name, value) in attributes {
            if name == DEFAULT_ACL {
                self.default_acls.insert(target.to_owned(), value);
            } else {
                set_attribute(&host, &name, &value)?;
            }
        }
        Ok(())
    }

    /// Whether there may be such a character device in a layer: overlayfs takes 0:0 for the news that a file is deleted.
    fn allow_device(&self, path: &Path, device: u64) -> io::Result<()> {
        if self.is_plain || device != 0 {
            return Ok(());
        }
        let text = format!(
            "`{}` cannot be in an image: in a layer a character device 0:0 says that a file is deleted",
            path.display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// Returns the place of a file to be written, after what the layer has there is gone; a directory is never replaced.
    fn clear(&self, target: &Path) -> io::Result<PathBuf> {
        if self.existing(target)? == Some(true) {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!(
                    "cannot replace to directory \"/{}\" with file",
                    target.display()
                ),
            ));
        }
        let host = self.diff.join(target);
        match std::fs::remove_file(&host) {
            Ok(()) => Ok(host),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(host),
            Err(error) => Err(at(&host, &error)),
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
                Err(error) => Err(at(&host, &error)),
            };
        }
        let node = self.merged.resolve(target, Last::Keep)?.node;
        Ok(node.map(|node| node.metadata.is_dir()))
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
        // As text, before any link is followed (BuildKit's `pathRelativeToWorkingDir`): `/link/..` is where `link` lies.
        Self {
            path: PathBuf::from(super::stage::absolute(working_directory, text)),
            is_directory,
        }
    }
}

/// Returns what is called `name` in a resolved directory; nothing that leads out of it is a name.
fn inside(directory: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(directory.join(name)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a file cannot be called `{}`", name.display()),
        )),
    }
}

/// Says that a path of the image is no directory.
fn not_a_directory(path: &Path) -> io::Error {
    let text: PathBuf = Path::new("/").join(path).components().collect();
    io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("cannot copy to non-directory: \"{}\"", text.display()),
    )
}
