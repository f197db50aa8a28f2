//! Reads the entries of a tar: ustar, PAX (POSIX.1-2001), GNU long names and all GNU sparse formats.
//!
//! ```text
//! block (512 bytes)*: [x: PAX records] [L: long name] [K: long link]  header  data, padded to 512   …   two zero blocks
//! ```
//!
//! Where formats disagree, Go's `archive/tar` decides, as it is what images are made with: PAX sizes win over the header's,
//! global PAX headers (`g`) are passed over, entries without content (links, directories, devices) have none whatever
//! their header says. Every length is bounded before memory is taken for it.

use std::ffi::OsString;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header};

use super::error::UnpackError;
use crate::sys::xattr;

const BLOCK: u64 = 512;
/// Of all that amends one entry: PAX headers and long names; of a sparse map, too.
const MAX_SPECIAL_BYTES: u64 = 1 << 20;
/// Special headers before one entry.
const MAX_SPECIALS: u32 = 16;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of this entry.
    Hardlink(Vec<u8>),
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As written.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification: seconds since 1970, nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of the file as it will be.
    pub size: u64,
    /// Where the stored bytes go, for a sparse file.
    pub sparse: Option<SparseMap>,
    /// Extended attributes: security.capability, user.*, POSIX ACLs. Overlayfs's own and all else are dropped.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Returns the path for messages.
    pub fn display_path(&self) -> PathBuf {
        OsString::from_vec(self.path.clone()).into()
    }
}

/// Where stored bytes go in a sparse file: (offset, length), ascending.
pub type SparseMap = Vec<(u64, u64)>;

/// Reads entries one after the other.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    /// Bytes of the current entry's stored data not read yet.
    remaining: u64,
    /// Padding after it.
    padding: u64,
}

/// Key and value.
type Record = (Vec<u8>, Vec<u8>);

/// Records that come before the header they amend.
#[derive(Debug, Default)]
struct Specials {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Specials {
    fn pax(&self, key: &str) -> Option<&[u8]> {
        let found = self.pax.iter().rev().find(|(k, _)| k == key.as_bytes());
        found.map(|(_, v)| v.as_slice()).filter(|v| !v.is_empty())
    }

    fn pax_number(&self, key: &str) -> Result<Option<u64>, UnpackError> {
        self.pax(key).map(decimal).transpose()
    }
}

impl<R: BufRead> TarReader<R> {
    /// Reads from `source`, which must stand at a header.
    pub fn new(source: R) -> Self {
        Self {
            source,
            remaining: 0,
            padding: 0,
        }
    }

    /// Goes to the next entry, passing over what is left of the current one; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        self.skip_data()?;
        let mut specials = Specials::default();
        let mut room = MAX_SPECIAL_BYTES;
        for _ in 0..MAX_SPECIALS {
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.special(header, &mut room)?;
                    specials.pax.extend(pax_records(&bytes)?);
                }
                EntryType::XGlobalHeader => {
                    self.special(header, &mut room)?;
                }
                EntryType::GNULongName => {
                    specials.long_name = Some(until_nul(self.special(header, &mut room)?));
                }
                EntryType::GNULongLink => {
                    specials.long_link = Some(until_nul(self.special(header, &mut room)?));
                }
                _ => return self.entry(header, &specials).map(Some),
            }
        }
        Err(UnpackError::Malformed("too many extended headers in a row"))
    }

    /// Returns the next bytes of the current entry's stored data; empty at its end. To be followed by
    /// [`TarReader::consume`].
    pub fn data(&mut self) -> Result<&[u8], UnpackError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let bytes = self.source.fill_buf().map_err(UnpackError::Read)?;
        if bytes.is_empty() {
            return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        let length = bytes
            .len()
            .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    /// Goes on by `length` of the bytes that [`TarReader::data`] returned.
    pub fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.remaining = self.remaining.saturating_sub(length as u64);
    }

    /// Reads on to the end of the stream, which a hash of the whole needs.
    pub fn drain(mut self) -> Result<(), UnpackError> {
        loop {
            let length = self.source.fill_buf().map_err(UnpackError::Read)?.len();
            if length == 0 {
                return Ok(());
            }
            self.source.consume(length);
        }
    }

    fn skip_data(&mut self) -> Result<(), UnpackError> {
        // An entry may say that it is as long as can be said.
        let padding = std::mem::take(&mut self.padding);
        self.remaining = self.remaining.saturating_add(padding);
        loop {
            let length = self.data()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    /// Reads one block; `None` at the end of the archive (two zero blocks, or the end of the stream between entries).
    fn header_block(&mut self) -> Result<Option<[u8; 512]>, UnpackError> {
        if self
            .source
            .fill_buf()
            .map_err(UnpackError::Read)?
            .is_empty()
        {
            return Ok(None);
        }
        let block = self.block()?;
        if block.iter().all(|&b| b == 0) {
            if self
                .source
                .fill_buf()
                .map_err(UnpackError::Read)?
                .is_empty()
            {
                return Ok(None);
            }
            return if self.block()?.iter().all(|&b| b == 0) {
                Ok(None)
            } else {
                Err(UnpackError::Malformed(
                    "an entry follows a single zero block",
                ))
            };
        }
        let declared = number(&Header::from_byte_slice(&block).as_old().cksum)?;
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, &b)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(b)
                }
            })
            .sum();
        if u64::from(sum) != declared {
            return Err(UnpackError::Malformed("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn block(&mut self) -> Result<[u8; 512], UnpackError> {
        let mut block = [0; 512];
        self.source
            .read_exact(&mut block)
            .map_err(UnpackError::Read)?;
        Ok(block)
    }

    /// Reads the whole content of a special header, for which there is so much room left.
    fn special(&mut self, header: &Header, room: &mut u64) -> Result<Vec<u8>, UnpackError> {
        let size = number(&header.as_old().size)?;
        let Some(left) = room.checked_sub(size) else {
            return Err(UnpackError::Limit {
                limit: MAX_SPECIAL_BYTES,
                unit: "bytes in an extended header",
            });
        };
        *room = left;
        self.begin_data(size);
        let mut bytes = Vec::new();
        loop {
            let part = self.data()?;
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(part);
            let length = part.len();
            self.consume(length);
        }
        self.skip_data()?;
        Ok(bytes)
    }

    fn begin_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn entry(&mut self, header: &Header, specials: &Specials) -> Result<Entry, UnpackError> {
        let path = match (&specials.long_name, specials.pax("path")) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_vec(),
            (None, None) => header.path_bytes().into_owned(),
        };
        let link = match (&specials.long_link, specials.pax("linkpath")) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_vec(),
            (None, None) => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let kind = kind_of(header, &path, link)?;
        let stored = match specials.pax_number("size")? {
            Some(size) => size,
            None => number(&header.as_old().size)?,
        };
        // A directory that only its slash marks may have content, which is passed over.
        let stored = if is_regular(header) { stored } else { 0 };
        self.begin_data(stored);
        let sparse = match kind {
            Kind::File => self.sparse(header, specials)?,
            _ => None,
        };
        let path = match specials.pax("GNU.sparse.name") {
            Some(name) if sparse.is_some() => name.to_vec(),
            _ => path,
        };
        let (size, sparse) = match sparse {
            Some((size, map)) => (size, Some(checked_map(map, size, self.remaining)?)),
            None => (stored, None),
        };
        Ok(Entry {
            path,
            kind,
            mode: mode(header)?,
            uid: identity(specials.pax_number("uid")?, &header.as_old().uid)?,
            gid: identity(specials.pax_number("gid")?, &header.as_old().gid)?,
            mtime: match specials.pax("mtime") {
                Some(text) => time(text)?,
                None => (signed_number(&header.as_old().mtime)?, 0),
            },
            size,
            sparse,
            xattrs: specials.pax.iter().filter_map(xattr).collect(),
        })
    }

    /// Finds out whether the file is sparse: its size and where its pieces go.
    fn sparse(
        &mut self,
        header: &Header,
        specials: &Specials,
    ) -> Result<Option<(u64, SparseMap)>, UnpackError> {
        if header.entry_type() == EntryType::GNUSparse {
            return self.gnu_sparse(header).map(Some);
        }
        let size = match specials.pax_number("GNU.sparse.realsize")? {
            Some(size) => Some(size),
            None => specials.pax_number("GNU.sparse.size")?,
        };
        let Some(size) = size else {
            return Ok(None);
        };
        if specials.pax_number("GNU.sparse.major")? == Some(1) {
            return Ok(Some((size, self.map_before_data()?)));
        }
        let numbers: Vec<u64> = if let Some(map) = specials.pax("GNU.sparse.map") {
            let numbers = map.split(|&b| b == b',').map(decimal);
            numbers.collect::<Result<_, _>>()?
        } else {
            let keys = [&b"GNU.sparse.offset"[..], b"GNU.sparse.numbytes"];
            let records = specials
                .pax
                .iter()
                .filter(|(k, _)| keys.contains(&k.as_slice()));
            records.map(|(_, v)| decimal(v)).collect::<Result<_, _>>()?
        };
        Ok(Some((size, pairs(&numbers))))
    }

    /// The old GNU format: four pieces in the header, more in blocks after it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(u64, SparseMap), UnpackError> {
        let gnu = header.as_gnu().ok_or(UnpackError::Malformed(
            "a sparse entry is not in GNU format",
        ))?;
        let mut map = sparse_pieces(&gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            if map.len() as u64 > MAX_SPECIAL_BYTES / 24 {
                return Err(UnpackError::Malformed("a sparse map is too long"));
            }
            let mut more = tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&self.block()?);
            map.extend(sparse_pieces(more.sparse())?);
            extended = more.is_extended();
        }
        Ok((number(&gnu.realsize)?, map))
    }

    /// PAX sparse format 1.0: decimal numbers, one a line, in the first blocks of the data.
    fn map_before_data(&mut self) -> Result<SparseMap, UnpackError> {
        let mut numbers = Vec::new();
        let mut text = Vec::new();
        let mut count: Option<u64> = None;
        let mut read = 0;
        loop {
            if self.remaining < BLOCK || read > MAX_SPECIAL_BYTES {
                return Err(UnpackError::Malformed("a sparse map is not whole"));
            }
            let block = self.block()?;
            self.remaining -= BLOCK;
            read += BLOCK;
            text.extend_from_slice(&block);
            while let Some(end) = text.iter().position(|&b| b == b'\n') {
                let rest = text.split_off(end + 1);
                text.pop();
                let value = decimal(&text)?;
                text = rest;
                match count {
                    None => count = Some(value.saturating_mul(2)),
                    Some(_) => numbers.push(value),
                }
                if count == Some(numbers.len() as u64) {
                    return Ok(pairs(&numbers));
                }
            }
        }
    }
}

/// The pieces of one block of the old GNU format.
fn sparse_pieces(pieces: &[tar::GnuSparseHeader]) -> Result<SparseMap, UnpackError> {
    let pieces = pieces.iter().filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| Ok((number(&piece.offset)?, number(&piece.numbytes)?)))
        .collect()
}

fn is_regular(header: &Header) -> bool {
    let regular = [
        EntryType::Regular,
        EntryType::Continuous,
        EntryType::GNUSparse,
    ];
    regular.contains(&header.entry_type())
}

/// Reads the type; a file whose name ends in a slash is a directory.
fn kind_of(header: &Header, path: &[u8], link: Vec<u8>) -> Result<Kind, UnpackError> {
    let device = || -> Result<(u32, u32), UnpackError> {
        let block = header.as_bytes();
        let part = |from: usize| {
            let value = number(block.get(from..from + 8).unwrap_or_default())?;
            u32::try_from(value)
                .map_err(|_| UnpackError::Malformed("a device's number is too great"))
        };
        // POSIX ustar: devmajor at 329, devminor at 337.
        Ok((part(329)?, part(337)?))
    };
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            if path.ends_with(b"/") {
                Kind::Directory
            } else {
                Kind::File
            }
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link),
        EntryType::Link => Kind::Hardlink(link),
        EntryType::Char => device().map(|(major, minor)| Kind::Character(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(UnpackError::Kind {
                path: OsString::from_vec(path.to_vec()).into(),
                kind: other.as_byte().escape_ascii().to_string(),
            });
        }
    })
}

/// Parses `length key=value\n` records; values are bytes, newlines among them.
fn pax_records(mut bytes: &[u8]) -> Result<Vec<Record>, UnpackError> {
    let malformed = || UnpackError::Malformed("a PAX record is not `length key=value`");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|&b| b == b' ')
            .ok_or_else(malformed)?;
        let length = bytes.get(..space).map(decimal).ok_or_else(malformed)??;
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let record = bytes.get(space + 1..length).ok_or_else(malformed)?;
        let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record
            .iter()
            .position(|&b| b == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = record.split_at(equals);
        records.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

/// Takes the extended attribute out of a PAX record, if an image may set it.
fn xattr((key, value): &(Vec<u8>, Vec<u8>)) -> Option<(Vec<u8>, Vec<u8>)> {
    let name = key.strip_prefix(b"SCHILY.xattr.")?;
    xattr::is_kept(name).then(|| (name.to_vec(), value.clone()))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads a numeric field: octal digits amid blanks and NULs (none at all is 0, as in Go), or base 256.
fn number(field: &[u8]) -> Result<u64, UnpackError> {
    let malformed = || UnpackError::Malformed("a header's field is not a number");
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // A negative one is nothing that a size, an owner or a time in here could be.
        let start = (first & 0x40 == 0).then_some(u64::from(first & 0x3f));
        return rest
            .iter()
            .try_fold(start.ok_or_else(malformed)?, |value, &byte| {
                let shifted = value.checked_mul(256).ok_or_else(malformed)?;
                Ok(shifted | u64::from(byte))
            });
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let digits = field
        .iter()
        .skip_while(|b| blank(b))
        .take_while(|b| !blank(b));
    digits.copied().try_fold(0_u64, |value, byte| {
        let digit = (b'0'..=b'7').contains(&byte).then_some(u64::from(byte & 7));
        let shifted = value.checked_mul(8).ok_or_else(malformed)?;
        Ok(shifted + digit.ok_or_else(malformed)?)
    })
}

/// Reads a numeric field that may be negative in base 256: two's complement behind the first bit.
pub(super) fn signed_number(field: &[u8]) -> Result<i64, UnpackError> {
    let malformed = || UnpackError::Malformed("a header's field is not a number");
    let Some((&first, rest)) = field
        .split_first()
        .filter(|(first, _)| *first & 0xc0 == 0xc0)
    else {
        return i64::try_from(number(field)?).map_err(|_| malformed());
    };
    // The complement is the positive number one less.
    let start = i64::from(!first & 0x3f);
    let complement = rest.iter().try_fold(start, |value, &byte| {
        let shifted = value.checked_mul(256).ok_or_else(malformed)?;
        Ok(shifted | i64::from(!byte))
    })?;
    Ok(-complement - 1)
}

/// The permission bits; a file type that old archives put beside them is dropped.
fn mode(header: &Header) -> Result<u32, UnpackError> {
    let mode = number(&header.as_old().mode)? & 0o7777;
    u32::try_from(mode).map_err(|_| UnpackError::Malformed("a header's field is not a number"))
}

fn decimal(text: &[u8]) -> Result<u64, UnpackError> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(UnpackError::Malformed("a number is not decimal"))
}

/// An owner: PAX wins; the number of nobody at all (`-1`) and greater ones are refused.
fn identity(pax: Option<u64>, header: &[u8]) -> Result<u32, UnpackError> {
    let value = match pax {
        Some(value) => value,
        None => number(header)?,
    };
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or(UnpackError::Malformed("an owner's number is too great"))
}

/// Parses `[-]seconds[.fraction]`.
fn time(text: &[u8]) -> Result<(i64, u32), UnpackError> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(point) => text.split_at(point),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(seconds)?)
        .map_err(|_| UnpackError::Malformed("a time is too great"))?;
    let digits = fraction.get(1..).unwrap_or_default();
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(UnpackError::Malformed("a number is not decimal"));
        }
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn pairs(numbers: &[u64]) -> SparseMap {
    let pairs = numbers.chunks_exact(2);
    pairs
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .collect()
}

/// Checks that pieces ascend, stay within the file and take exactly the stored bytes (CVE-2025-58183 and its like).
fn checked_map(map: SparseMap, size: u64, stored: u64) -> Result<SparseMap, UnpackError> {
    let mut end = 0_u64;
    let mut total = 0_u64;
    for &(offset, length) in &map {
        let next = offset.checked_add(length).filter(|&next| next <= size);
        match next {
            Some(next) if offset >= end => end = next,
            _ => return Err(UnpackError::Malformed("a sparse map is out of order")),
        }
        total = total.saturating_add(length);
    }
    if total != stored {
        return Err(UnpackError::Malformed(
            "a sparse map does not take the stored bytes",
        ));
    }
    Ok(map)
}
