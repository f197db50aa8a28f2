//! The names of a network, as files that any number of readers follow without being told.
//!
//! ```text
//! net/names/<network>/            0755: read through a descriptor opened before rights are given up
//! net/names/<network>/<id>        {"addresses":["172.18.0.2"],"names":["web","app-web-1"]}, replaced by rename
//! ```
//!
//! A rename changes the directory's time of modification; a reader compares it for each query and then reads the files whose
//! inode is new. Clocks of file systems tick in milliseconds, so a directory changed just now is looked at again next time.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use serde::{Deserialize, Serialize};

/// One container's names in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameEntry {
    /// Its addresses there.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its names there.
    pub(crate) names: Vec<String>,
}

/// Names and addresses of one network, ready to be looked up. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NameIndex {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    names: BTreeMap<IpAddr, String>,
}

impl NameIndex {
    /// Indexes entries, in the order given.
    pub(crate) fn new<'a>(entries: impl Iterator<Item = &'a NameEntry> + Clone) -> Self {
        let mut index = Self::default();
        for entry in entries.clone() {
            for name in &entry.names {
                let all = index.addresses.entry(name.to_ascii_lowercase()).or_default();
                let new = entry.addresses.iter().filter(|a| !all.contains(a)).copied().collect::<Vec<_>>();
                all.extend(new);
            }
        }
        for entry in entries {
            // A name that nobody else has says more than one that replicas share.
            let is_own = |name: &&String| {
                index.addresses.get(&name.to_ascii_lowercase()).is_some_and(|all| all.len() == entry.addresses.len())
            };
            let name = entry.names.iter().find(is_own).or(entry.names.first());
            let pairs = entry.addresses.iter().filter_map(|address| Some((*address, name?.clone())));
            index.names.extend(pairs);
        }
        index
    }
}

/// The networks of one container, in the order of its endpoints, each with its name.
pub(crate) type Networks<'a> = [(&'a str, &'a NameIndex)];

/// Returns the addresses of `name` (lower case, no final dot): as a whole in the first network that has it, else as
/// `name.network`. `None`: unknown.
pub(crate) fn resolve<'a>(networks: &Networks<'a>, name: &str) -> Option<&'a [IpAddr]> {
    let whole = networks.iter().find_map(|(_, index)| index.addresses.get(name));
    let qualified = || {
        networks.iter().find_map(|(network, index)| {
            let rest = name.strip_suffix(&network.to_ascii_lowercase())?.strip_suffix('.')?;
            index.addresses.get(rest)
        })
    };
    whole.or_else(qualified).map(Vec::as_slice)
}

/// Returns `name.network` of an address.
pub(crate) fn resolve_back(networks: &Networks<'_>, address: IpAddr) -> Option<String> {
    networks.iter().find_map(|(network, index)| Some(format!("{}.{network}", index.names.get(&address)?)))
}

/// What makes a file another one: inode and time of modification.
type Version = (u64, i64, u64);

/// A network's directory, followed.
#[derive(Debug)]
pub(crate) struct NameReader {
    network: String,
    directory: OwnedFd,
    seen: Option<Version>,
    files: BTreeMap<String, (Version, NameEntry)>,
    index: NameIndex,
}

impl NameReader {
    /// Opens the directory; nothing is read yet.
    pub(crate) fn open(network: &str, directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, directory, flags, Mode::empty())?;
        Ok(Self {
            network: network.to_owned(),
            directory,
            seen: None,
            files: BTreeMap::new(),
            index: NameIndex::default(),
        })
    }

    /// Returns the descriptor, which has to be kept.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.directory
    }

    /// Returns the network's name and its names as they are now.
    pub(crate) fn current(&mut self) -> io::Result<(&str, &NameIndex)> {
        let stat = fstat(&self.directory)?;
        let version = version(&stat);
        if self.seen != Some(version) {
            self.read()?;
            self.seen = (!is_recent(&stat)).then_some(version);
        }
        Ok((&self.network, &self.index))
    }

    /// Reads the files that are new and forgets those that are gone.
    fn read(&mut self) -> io::Result<()> {
        let mut files = BTreeMap::new();
        let mut is_changed = false;
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            // Names that begin with a dot are files being written.
            let Some(name) = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let stat = match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
                // Gone since, or none of ours.
                Ok(_) | Err(rustix::io::Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let version = version(&stat);
            let known = self.files.remove(name).filter(|(known, _)| *known == version);
            is_changed |= known.is_none();
            let read = || Some((version, read_entry(&self.directory, name)?));
            files.extend(known.or_else(read).map(|known| (name.to_owned(), known)));
        }
        is_changed |= !self.files.is_empty();
        self.files = files;
        if is_changed {
            self.index = NameIndex::new(self.files.values().map(|(_, entry)| entry));
        }
        Ok(())
    }
}

/// Reads one file; `None` where it is gone since, or is no entry.
fn read_entry(directory: &OwnedFd, name: &str) -> Option<NameEntry> {
    const LARGEST: u64 = 1 << 20;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    fs_err::File::from_parts(file.into(), name).take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the version of a file or directory.
fn version(stat: &rustix::fs::Stat) -> Version {
    (stat.st_ino, stat.st_mtime, stat.st_mtime_nsec)
}

/// Returns whether something changed so recently that another change could have the same time: within 20 ms, two ticks of a
/// kernel with 100 Hz.
fn is_recent(stat: &rustix::fs::Stat) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let changed = nanoseconds(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
    nanoseconds(now.tv_sec, now.tv_nsec) - changed < 20_000_000
}
