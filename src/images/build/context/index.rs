//! A digest of what is taken, and the index that makes it cheap.
//!
//! # The file-hash index
//!
//! An unchanged file costs one `lstat`. `<root>/cache/files/<32 hex of the context's path>` remembers hashes:
//!
//! ```text
//! stack files 1\n
//! <sha256 hex> <size> <mtime ns> <ctime ns> <inode> <device> <path, relative to the context>\0     (repeated)
//! ```
//!
//! A line counts while size, times, inode and device are the file's. A hash is written down only if the file's times lie before
//! the moment of hashing by more than [`RACY_NS`], so that a later change in the same tick of the clock cannot go unseen
//! (git calls such entries racy). A file that cannot be read as this format is as good as none.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::super::super::stop::Stop;
use super::super::copy;
use super::{Entry, Selected};
use crate::sys::atomic::{self, Durability};

/// Nanoseconds: several ticks of the clock that stamps files.
pub const RACY_NS: i128 = 50_000_000;

/// First line of an index.
const HEADER: &[u8] = b"stack files 1\n";

/// Whether owners belong to a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The files become root's, whoever has them here.
    Ignored,
    /// They are kept.
    Counted,
}

/// Adds everything about `selected` that reaches the layer, but times, to `hash`.
pub fn hash_selected(
    hash: &mut Sha256,
    selected: &[Selected],
    owners: Owners,
    index: &FileIndex,
    stop: &Stop,
) -> io::Result<()> {
    for source in selected {
        hash_part(hash, source.name.as_bytes());
        for entry in &source.entries {
            let metadata = &entry.metadata;
            hash_part(hash, entry.path.as_os_str().as_bytes());
            hash.update(metadata.mode().to_le_bytes());
            if owners == Owners::Counted {
                hash.update(metadata.uid().to_le_bytes());
                hash.update(metadata.gid().to_le_bytes());
            }
            let kind = metadata.file_type();
            if kind.is_file() {
                hash.update(index.hash_of(entry, stop)?);
            } else if kind.is_symlink() {
                let target = fs_err::read_link(&entry.host)?;
                hash_part(hash, target.as_os_str().as_bytes());
            } else if kind.is_dir() && !entry.path.as_os_str().is_empty() {
                // Not of the source itself, which gives the destination its time alone. What begins them cannot be a path.
                for (name, value) in copy::attributes(&entry.host) {
                    hash_part(hash, b"\0attribute");
                    hash_part(hash, name.as_bytes());
                    hash_part(hash, &value);
                }
            } else if kind.is_block_device() || kind.is_char_device() {
                hash.update(metadata.rdev().to_le_bytes());
            }
        }
        // What ends the list cannot be a path.
        hash_part(hash, b"\0");
    }
    Ok(())
}

/// Adds bytes with their length, so that neighbours cannot be mistaken.
pub fn hash_part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// What says that a file is still the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
    device: u64,
}

impl Identity {
    /// Takes it from a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// Returns whether a file changed between two looks at it.
pub fn changed(before: &Metadata, after: &Metadata) -> bool {
    Identity::of(before) != Identity::of(after)
}

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hashes of the files of one context. Several threads may hash at once: it is locked for the look alone.
#[derive(Debug)]
pub struct FileIndex {
    /// Where it is kept; `None` for trees whose files are not remembered.
    file: Option<PathBuf>,
    /// The context.
    root: PathBuf,
    entries: Mutex<Entries>,
}

/// What an index has.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By the bytes of the path below the context: to compare paths by their components takes longer than to look at a file.
    pub(super) known: BTreeMap<Vec<u8>, (Identity, Hash)>,
    /// Whether `known` has something that the file has not.
    pub(super) changed: bool,
}

impl FileIndex {
    /// Returns an index that remembers nothing.
    pub fn none() -> Self {
        Self {
            file: None,
            root: PathBuf::new(),
            entries: Mutex::default(),
        }
    }

    /// Reads the index of the context `root` from the directory `cache/files`.
    pub fn open(directory: &Path, root: &Path) -> io::Result<Self> {
        let name = hex(&Sha256::digest(root.as_os_str().as_bytes()));
        let file = directory.join(name.get(..32).unwrap_or_default());
        let known = match fs_err::read(&file) {
            Ok(bytes) => parse_index(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file: Some(file),
            root: root.to_owned(),
            entries: Mutex::new(Entries {
                known,
                changed: false,
            }),
        })
    }

    /// Returns the hash of a regular file's content and extended attributes.
    pub(super) fn hash_of(&self, entry: &Entry, stop: &Stop) -> io::Result<Hash> {
        let identity = Identity::of(&entry.metadata);
        let below = below(&self.root, &entry.host);
        if let Some((known, hash)) = self.entries().known.get(below)
            && *known == identity
        {
            return Ok(*hash);
        }
        let now = coarse_now_ns();
        let hash = hash_file(&entry.host, stop)?;
        if self.file.is_some() {
            let mut entries = self.entries();
            if identity.ctime_ns.max(identity.mtime_ns) + RACY_NS < now {
                entries.known.insert(below.to_owned(), (identity, hash));
                entries.changed = true;
            } else {
                entries.changed |= entries.known.remove(below).is_some();
            }
        }
        Ok(hash)
    }

    /// Returns where it is kept.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns what it has; whole whatever happened to who had it before.
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the index if it has something new.
    pub fn save(&self) -> io::Result<()> {
        let entries = self.entries();
        let Some(file) = self.file.as_ref().filter(|_| entries.changed) else {
            return Ok(());
        };
        let mut bytes = HEADER.to_vec();
        for (path, (identity, hash)) in &entries.known {
            let Identity {
                size,
                mtime_ns,
                ctime_ns,
                inode,
                device,
            } = identity;
            let line = format!(
                "{} {size} {mtime_ns} {ctime_ns} {inode} {device} ",
                hex(hash)
            );
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        drop(entries);
        if let Some(directory) = file.parent() {
            fs_err::create_dir_all(directory)?;
        }
        atomic::write(file, &bytes, 0o600, Durability::Cached)
    }
}

/// Reads an index; `None` if it is not one.
fn parse_index(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, (Identity, Hash)>> {
    let mut known = Vec::new();
    let lines = bytes.strip_prefix(HEADER)?;
    for line in lines.split(|byte| *byte == 0).filter(|l| !l.is_empty()) {
        let mut parts = line.splitn(7, |byte| *byte == b' ');
        let hash = parse_hex(parts.next()?)?;
        let mut number = || parse_number(parts.next()?);
        let identity = Identity {
            size: number()?.try_into().ok()?,
            mtime_ns: number()?,
            ctime_ns: number()?,
            inode: number()?.try_into().ok()?,
            device: number()?.try_into().ok()?,
        };
        known.push((parts.next()?.to_vec(), (identity, hash)));
    }
    // In order, as they were written: they are put in place at once.
    Some(known.into_iter().collect())
}

/// Returns the path of a file below the context; the whole one where it is elsewhere.
fn below<'a>(root: &Path, path: &'a Path) -> &'a [u8] {
    let path = path.as_os_str().as_bytes();
    let rest = path.strip_prefix(root.as_os_str().as_bytes());
    rest.and_then(|rest| rest.strip_prefix(b"/"))
        .unwrap_or(path)
}

/// Parses a decimal number: 64 bits, which nearly every one has, by themselves.
fn parse_number(text: &[u8]) -> Option<i128> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let short = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    });
    let value = match short {
        Some(_) if digits.is_empty() => return None,
        Some(value) => i128::from(value),
        None => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    Some(if is_negative { -value } else { value })
}

/// Returns the time of the clock that stamps files.
fn coarse_now_ns() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Hashes a file's content, and its attributes if it has any.
fn hash_file(path: &Path, stop: &Stop) -> io::Result<Hash> {
    let mut file = copy::open_regular(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        stop.check()?;
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    for (name, value) in copy::attributes(path) {
        hash_part(&mut hash, name.as_bytes());
        hash_part(&mut hash, &value);
    }
    Ok(hash.finalize().into())
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(*DIGITS.get(usize::from(nibble)).unwrap_or(&b'0'));
    let pairs = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    pairs.collect()
}

/// Parses 64 hexadecimal digits.
fn parse_hex(text: &[u8]) -> Option<Hash> {
    let mut hash = [0_u8; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = parse_nibble(*high)? << 4 | parse_nibble(*low)?;
    }
    Some(hash)
}

/// Parses a lower-case hexadecimal digit.
fn parse_nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
