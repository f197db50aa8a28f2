//! Archives into a layer.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timestamps};

use super::super::tree::Last;
use super::files::{copy_content, is_kept, named, set_attribute, set_owner_and_mode, timestamps};
use super::{Destination, Filling, Owner, Style, not_a_directory};

/// What a member of an archive says of itself, its extended header included.
struct Member {
    owner: Owner,
    mode: u32,
    times: Timestamps,
    attributes: Vec<(OsString, Vec<u8>)>,
}

impl Filling {
    /// Unpacks a tar archive into `destination`, which is made if missing. Whiteout names mean nothing in it.
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
        member: &mut tar::Entry<'_, impl Read>,
        top: &Path,
        name: &Path,
        style: &Style,
    ) -> io::Result<()> {
        let wanted = top.join(inside(name));
        let header = member.header().clone();
        let kind = header.entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let Member {
            owner,
            mode,
            times,
            attributes,
        } = Member::of(member, style)?;
        let implied = Style {
            owner: Some(Owner::ROOT),
            mode: None,
        };
        if kind.is_dir() {
            let target = self.directory_target(&wanted, top, &implied)?;
            self.directory(&target, &implied)?;
            let host = self.diff.join(&target);
            set_owner_and_mode(&host, owner, Some(mode))?;
            for (name, value) in &attributes {
                set_attribute(&host, name, value)?;
            }
            self.times.insert(target, times);
            return Ok(());
        }
        let (Some(parent), Some(file_name)) = (wanted.parent(), wanted.file_name()) else {
            return Err(io::Error::other("no file name"));
        };
        let parent = self.merged.resolve(parent, Last::Follow)?.path;
        self.directory(&parent, &implied)?;
        let host = self.make_way(&parent.join(file_name))?;
        if kind.is_hard_link() {
            return self.link_member(member, top, &host);
        }
        if kind.is_symlink() {
            let target = member.link_name_bytes().unwrap_or_default().into_owned();
            fs_err::os::unix::fs::symlink(OsString::from_vec(target), &host)?;
        } else if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() {
            let device = if kind.is_fifo() {
                0
            } else {
                let (major, minor) = (header.device_major()?, header.device_minor()?);
                rustix::fs::makedev(major.unwrap_or(0), minor.unwrap_or(0))
            };
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
        // After the owner: a change of that takes a file's capabilities away.
        for (name, value) in &attributes {
            set_attribute(&host, name, value)?;
        }
        named(
            &host,
            rustix::fs::utimensat(CWD, &host, &times, AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Returns the resolved place of a directory of an archive. As an archive is unpacked anywhere: what is there and no directory, a link to
    /// one included, gives way (moby `pkg/archive`).
    fn directory_target(
        &mut self,
        wanted: &Path,
        top: &Path,
        implied: &Style,
    ) -> io::Result<PathBuf> {
        if wanted == top {
            return Ok(top.to_owned());
        }
        let target = self.merged.resolve(wanted, Last::Keep)?;
        if target.node.is_some_and(|node| !node.metadata.is_dir()) {
            let parent = target.path.parent().unwrap_or(top);
            self.directory(parent, implied)?;
            let host = self.make_way(&target.path)?;
            fs_err::create_dir(&host)?;
            self.staged.insert(target.path.clone());
            self.fresh.insert(target.path.clone());
        }
        Ok(target.path)
    }

    /// Takes away what is at a resolved path, a directory with all that is in it; returns where it was.
    fn make_way(&mut self, target: &Path) -> io::Result<PathBuf> {
        if self.existing(target)? != Some(true) {
            return self.clear(target);
        }
        let host = self.diff.join(target);
        match fs_err::remove_dir_all(&host) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.staged.retain(|path| !path.starts_with(target));
        self.fresh.retain(|path| !path.starts_with(target));
        self.times.retain(|path, _| !path.starts_with(target));
        Ok(host)
    }

    /// Makes a hard link to an earlier member, or a copy of a file of the layers below.
    fn link_member(
        &mut self,
        member: &tar::Entry<'_, impl Read>,
        top: &Path,
        host: &Path,
    ) -> io::Result<()> {
        let target = member.link_name_bytes().unwrap_or_default().into_owned();
        let target = PathBuf::from(OsString::from_vec(target));
        let target = top.join(inside(&target));
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

impl Member {
    /// Reads it; an owner that is chosen stands above the archive's.
    fn of(member: &mut tar::Entry<'_, impl Read>, style: &Style) -> io::Result<Self> {
        let header = member.header().clone();
        let mut owner = Owner {
            uid: owner_number(&header.as_old().uid, header.uid())?,
            gid: owner_number(&header.as_old().gid, header.gid())?,
        };
        let mut times = timestamps(i64::try_from(header.mtime()?).unwrap_or_default(), 0);
        let mut attributes = Vec::new();
        if let Some(extensions) = member.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let value = extension.value_bytes();
                let text = std::str::from_utf8(value).unwrap_or_default();
                let number = || text.parse::<u32>().map_err(io::Error::other);
                match extension.key_bytes() {
                    b"uid" => owner.uid = number()?,
                    b"gid" => owner.gid = number()?,
                    b"mtime" => times = pax_time(text).unwrap_or(times),
                    key => {
                        let name = key.strip_prefix(b"SCHILY.xattr.").filter(|n| is_kept(n));
                        attributes.extend(
                            name.map(|name| (OsStr::from_bytes(name).to_owned(), value.to_vec())),
                        );
                    }
                }
            }
        }
        Ok(Self {
            owner: style.owner.unwrap_or(owner),
            mode: header.mode()? & 0o7777,
            times,
            attributes,
        })
    }
}

/// Parses seconds with a fraction.
fn pax_time(text: &str) -> Option<Timestamps> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.get(..fraction.len().min(9))?;
    let ns = match digits {
        "" => 0,
        digits => format!("{digits:0<9}").parse().ok()?,
    };
    Some(timestamps(seconds.parse().ok()?, ns))
}

/// Reads an owner's number of an archive; a field that was left blank means 0, as other readers of tar have it.
fn owner_number(field: &[u8], number: io::Result<u64>) -> io::Result<u32> {
    if field.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return Ok(0);
    }
    u32::try_from(number?).map_err(io::Error::other)
}
