//! What of a stranger's tar is kept while it is read: its regular files under numbers, and what names say which.
//!
//! Names in the archive are keys of a map and never paths of ours. A stream cannot be read twice, and its manifest may come last.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest as _;

use super::super::manifest::Descriptor;
use super::super::reference::Digest;
use super::super::store::{MAX_DOCUMENT_BYTES, StoreError};
use super::super::unpack::UnpackError;
use super::super::unpack::reader::{Kind, TarReader};
use super::load::LoadError;

/// More files no archive of images has.
const MAX_FILES: usize = 100_000;
/// Of one name or link, `PATH_MAX`.
const MAX_NAME_BYTES: usize = 4096;
/// Of all names and links.
const MAX_NAMES_BYTES: usize = 16 << 20;
/// Links that lead to links.
const MAX_LINKS: usize = 16;
/// Below this, any ratio is fine.
const BOMB_FLOOR_BYTES: u64 = 4 << 30;
/// Unpacked to packed: layers within are seldom packed better, and archives in archives not at all.
const BOMB_RATIO: u64 = 500;

/// A regular file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spooled {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Of its content.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// The archive's files by name.
#[derive(Debug, Default)]
pub(super) struct Spool {
    files: BTreeMap<String, Spooled>,
    /// Name to the name that it stands for.
    links: BTreeMap<String, String>,
}

impl Spool {
    /// Reads a tar, plain or within gzip or zstd, keeping its files in the empty directory `directory`.
    pub(super) fn read(
        source: impl Read + Send + 'static,
        directory: &Path,
    ) -> Result<Self, LoadError> {
        let mut spool = Self::default();
        let mut reader = TarReader::new(decompress(source)?);
        let mut names_bytes = 0;
        while let Some(entry) = reader.next_entry().map_err(LoadError::Read)? {
            let target = match &entry.kind {
                Kind::Symlink(target) | Kind::Hardlink(target) => target.len(),
                _ => 0,
            };
            if entry.path.len().max(target) > MAX_NAME_BYTES {
                return Err(LoadError::Read(UnpackError::Limit {
                    limit: MAX_NAME_BYTES as u64,
                    unit: "bytes in a name",
                }));
            }
            names_bytes += entry.path.len() + target;
            if names_bytes > MAX_NAMES_BYTES {
                return Err(LoadError::Read(UnpackError::Limit {
                    limit: MAX_NAMES_BYTES as u64,
                    unit: "bytes of names",
                }));
            }
            let name = normalize(&String::from_utf8_lossy(&entry.path));
            if spool.files.len() + spool.links.len() >= MAX_FILES {
                return Err(LoadError::Read(UnpackError::Limit {
                    limit: MAX_FILES as u64,
                    unit: "files",
                }));
            }
            match entry.kind {
                // Not even GNU tar makes sparse ones of images.
                Kind::File if entry.sparse.is_none() => {
                    let path = directory.join(spool.files.len().to_string());
                    let path = spool
                        .files
                        .get(&name)
                        .map_or(path, |before| before.path.clone());
                    let spooled = keep(&mut reader, path)?;
                    spool.links.remove(&name);
                    spool.files.insert(name, spooled);
                }
                Kind::Symlink(target) => {
                    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let target = format!("{parent}/{}", String::from_utf8_lossy(&target));
                    spool.links.insert(name, normalize(&target));
                }
                Kind::Hardlink(target) => {
                    spool
                        .links
                        .insert(name, normalize(&String::from_utf8_lossy(&target)));
                }
                Kind::File
                | Kind::Directory
                | Kind::Character(..)
                | Kind::Block(..)
                | Kind::Fifo => {}
            }
        }
        // To the end of the stream: the outer compression has a checksum there, and who writes to a pipe is not cut off.
        reader.drain().map_err(LoadError::Read)?;
        Ok(spool)
    }

    /// Takes a file of a directory that is laid out like an archive into the directory `to`; returns whether it is there.
    pub(super) fn take(&mut self, from: &Path, name: &str, to: &Path) -> Result<bool, LoadError> {
        if self.files.contains_key(name) {
            return Ok(true);
        }
        let source = from.join(name);
        match fs_err::metadata(&source) {
            Ok(metadata) if metadata.is_file() => {}
            // What is no file has no content, and might never end.
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("read", &source)(error).into()),
        }
        let file = fs_err::File::open(&source).map_err(StoreError::io("open", &source))?;
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let path = to.join(self.files.len().to_string());
        let mut copy = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
        let (mut hash, mut size) = (sha2::Sha256::new(), 0);
        loop {
            let bytes = reader.fill_buf().map_err(StoreError::io("read", &source))?;
            let length = bytes.len();
            if length == 0 {
                break;
            }
            hash.update(bytes);
            copy.write_all(bytes)
                .map_err(StoreError::io("write", &path))?;
            size += length as u64;
            reader.consume(length);
        }
        let digest = Digest::from_hash(&hash.finalize());
        self.files
            .insert(name.to_owned(), Spooled { path, digest, size });
        Ok(true)
    }

    /// Finds a file, through links.
    pub(super) fn get(&self, name: &str) -> Option<&Spooled> {
        let mut name = normalize(name);
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return self.files.get(&name),
            }
        }
        None
    }

    /// Finds what a descriptor of an OCI layout describes and checks that it is that, and no shorter or longer.
    pub(super) fn described(&self, entry: &Descriptor) -> Result<Option<&Spooled>, LoadError> {
        let found = self.blob(&entry.digest)?;
        match found {
            Some(file) if file.size != entry.size => Err(LoadError::Size {
                path: format!("blobs/sha256/{}", entry.digest.hex()),
                expected: entry.size,
                found: file.size,
            }),
            found => Ok(found),
        }
    }

    /// Finds the blob of an OCI layout and checks that it is what its name says.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<&Spooled>, LoadError> {
        let Some(file) = self.get(&format!("blobs/sha256/{}", digest.hex())) else {
            return Ok(None);
        };
        if file.digest != *digest {
            return Err(LoadError::Store(StoreError::Damaged {
                expected: digest.clone(),
                found: file.digest.clone(),
            }));
        }
        Ok(Some(file))
    }
}

impl Spooled {
    /// Reads a document.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, LoadError> {
        if self.size > MAX_DOCUMENT_BYTES {
            let digest = self.digest.clone();
            return Err(LoadError::Store(StoreError::TooLarge { digest }));
        }
        let read = fs_err::read(&self.path).map_err(StoreError::io("read", &self.path));
        Ok(read?)
    }
}

/// Writes the content of the current entry to `path`.
fn keep(reader: &mut TarReader<impl BufRead>, path: PathBuf) -> Result<Spooled, LoadError> {
    let mut file = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    loop {
        let bytes = reader.data().map_err(LoadError::Read)?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        hash.update(bytes);
        file.write_all(bytes)
            .map_err(StoreError::io("write", &path))?;
        size += length as u64;
        reader.consume(length);
    }
    Ok(Spooled {
        path,
        digest: Digest::from_hash(&hash.finalize()),
        size,
    })
}

/// Returns a name without `.`, `..` and empty parts.
fn normalize(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Takes the outer compression off.
fn decompress(source: impl Read + Send + 'static) -> Result<Box<dyn BufRead>, LoadError> {
    let broken = |error| LoadError::Read(UnpackError::Read(error));
    let packed = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        source,
        count: Arc::clone(&packed),
    };
    let mut source = BufReader::with_capacity(256 << 10, counted);
    let start = source.fill_buf().map_err(broken)?;
    let reader: Box<dyn Read> = match start {
        [0x1f, 0x8b, 0x08, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(source).map_err(broken)?)
        }
        [b'B', b'Z', b'h', ..] => return Err(LoadError::Compression("bzip2", "bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(LoadError::Compression("xz", "xz")),
        _ => return Ok(Box::new(source)),
    };
    let guarded = Guarded {
        source: reader,
        packed,
        unpacked: 0,
    };
    Ok(Box::new(BufReader::with_capacity(256 << 10, guarded)))
}

/// Counts what passes.
struct Counted<R> {
    source: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Ends a decompression that gives far more than it takes.
struct Guarded {
    source: Box<dyn Read>,
    packed: Arc<AtomicU64>,
    unpacked: u64,
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.unpacked += length as u64;
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        if self.unpacked > BOMB_FLOOR_BYTES && self.unpacked / packed > BOMB_RATIO {
            return Err(io::Error::other(format!(
                "it looks like a decompression bomb: {packed} bytes unpack to more than {}",
                self.unpacked
            )));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within() {
        for (name, expected) in [
            ("./a//b/./c", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("../../x", "x"),
            ("a/../b", "b"),
            ("", ""),
        ] {
            assert_eq!(normalize(name), expected);
        }
    }
}
