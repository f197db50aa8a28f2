//! Writing into containers, through the root that their processes see.
//!
//! A file comes under a temporary name beside its own and is renamed over it, so that no process sees half of one. It keeps
//! the host's permission bits and time. Its owner is that of the file it replaces, or else of the directory it comes into
//! (`COPY --chown=app . /app` thus goes on being the application's own); Docker Compose makes everything root's. Links in the
//! container are followed inside its root only, but for the last name of a path, which is replaced.
//!
//! What was deleted on the host is deleted, directories only once they are empty: what the container itself put there, or
//! what is ignored, stays.
//!
//! A container that does not run is written to through a mount of its own, which nobody else sees, with the same layers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::engine::watch::ledger::{Init, Key, Version};
use crate::runtime::init::RootFs;
use crate::runtime::init::mounts::mount_root;
use crate::sys::inside::{self, Inside};
use crate::sys::procfs;

/// Where to write.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Into a running container.
    Running(Init),
    /// Into the layers of one that does not run; not beneath these places, where something else is mounted when it does.
    Stopped {
        /// Its directories.
        layers: RootFs,
        /// Targets of its mounts.
        mounted: Vec<PathBuf>,
    },
}

/// One path to bring over.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// What it is crossed off as.
    pub(crate) key: Key,
    /// Which change it is.
    pub(crate) version: Version,
    /// Where it is on the host.
    pub(crate) source: PathBuf,
    /// Where it goes in the container.
    pub(crate) target: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// What is there now.
    pub(crate) given: BTreeMap<Key, Version>,
    /// What of that was not there before.
    pub(crate) written: Vec<Key>,
    /// What could not be written: target and reason.
    pub(crate) failed: Vec<(PathBuf, io::Error)>,
    /// The container was not there to be written to; it will be given everything when it is.
    pub(crate) absent: bool,
}

/// Brings everything over; goes on past errors.
pub(crate) fn push(place: &Place, mut items: Vec<Item>) -> Pushed {
    let mut pushed = Pushed::default();
    let root = match open(place) {
        Ok(Some(root)) => root,
        Ok(None) => {
            pushed.absent = true;
            return pushed;
        }
        Err(error) => {
            pushed.failed.push((PathBuf::from("/"), error));
            return pushed;
        }
    };
    if let Place::Stopped { mounted, .. } = place {
        items.retain(|item| !mounted.iter().any(|mount| item.target.starts_with(mount)));
    }
    // Children go before the directory they were in, and come after it.
    items.sort_by(|one, other| one.target.cmp(&other.target));
    let (gone, here): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| fs_err::symlink_metadata(&item.source).is_err());
    for item in gone.into_iter().rev().chain(here) {
        match bring(root.as_fd(), &item) {
            Ok(is_new) => {
                if is_new {
                    pushed.written.push(item.key.clone());
                }
                pushed.given.insert(item.key, item.version);
            }
            Err(error) => pushed.failed.push((item.target, error)),
        }
    }
    // Where it has ended meanwhile, what was written went nowhere or not far: it is all given again.
    if let Place::Running(init) = place
        && !procfs::is_alive(init.pid, init.started)
    {
        return Pushed {
            absent: true,
            ..Pushed::default()
        };
    }
    pushed
}

/// Opens the root; `None` where the container has ended.
fn open(place: &Place) -> io::Result<Option<OwnedFd>> {
    match place {
        Place::Running(init) => inside::open_root(init.pid, init.started),
        Place::Stopped { layers, .. } => mount_root(layers, None)
            .map(Some)
            .map_err(|error| io::Error::other(crate::engine::chain(&error))),
    }
}

/// Makes one path what it is on the host; returns whether it was anything else.
fn bring(root: BorrowedFd<'_>, item: &Item) -> io::Result<bool> {
    let name = item.target.file_name();
    let metadata = match fs_err::symlink_metadata(&item.source) {
        Ok(metadata) => Some(metadata),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    let parent = item.target.parent().unwrap_or(Path::new("/"));
    let Some(metadata) = metadata else {
        return match (name, Inside::existing(root, parent)?) {
            (Some(name), Some(directory)) => directory.remove(name),
            _ => Ok(false),
        };
    };
    // The root itself is there.
    let Some(name) = name else {
        return Ok(false);
    };
    let directory = Inside::made(root, parent)?;
    if metadata.is_dir() {
        return directory.make_directory(name, &metadata);
    }
    if metadata.is_symlink() {
        return directory.replace_link(name, &fs_err::read_link(&item.source)?);
    }
    bring_file(&directory, name, &item.source)
}

/// Makes one file what it is on the host.
fn bring_file(directory: &Inside, name: &OsStr, source: &Path) -> io::Result<bool> {
    let mut file = fs_err::File::open(source)?;
    let metadata = file.metadata()?;
    if let Some(mut there) = directory.open_file(name, &metadata)?
        && is_equal(&mut file, &mut there)?
    {
        return Ok(false);
    }
    io::Seek::rewind(&mut file)?;
    directory.replace_file(name, &mut file, &metadata)?;
    Ok(true)
}

/// Whether two files have the same bytes.
fn is_equal(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 15], vec![0; 1 << 15]);
    loop {
        let count = fill(one, &mut left)?;
        if fill(other, &mut right)? != count || left.get(..count) != right.get(..count) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
