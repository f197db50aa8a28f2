//! Which local files `ADD` unpacks: tar archives, plain or within gzip or zstd, told by their content and not by their name.

use std::io::{self, Read};
use std::path::Path;

/// What a file is to `ADD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not an archive: copied.
    Plain,
    /// A tar.
    Tar,
    /// A tar within gzip.
    Gzip,
    /// A tar within zstd.
    Zstd,
    /// A tar, by its name, within a compression that is not read yet.
    Unreadable(&'static str),
}

/// Looks at the start of a file.
pub fn kind_of(path: &Path) -> io::Result<Kind> {
    let start = read_start(fs_err::File::open(path)?)?;
    let name = path.to_string_lossy().to_ascii_lowercase();
    let named = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        let inner = read_start(flate2::read::MultiGzDecoder::new(fs_err::File::open(path)?));
        tar_or_plain(inner, Kind::Gzip)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let inner = zstd::Decoder::new(fs_err::File::open(path)?).and_then(read_start);
        tar_or_plain(inner, Kind::Zstd)
    } else if start.starts_with(b"BZh") && named(&[".tar.bz2", ".tbz2", ".tbz"]) {
        Kind::Unreadable("bzip2")
    } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']) && named(&[".tar.xz", ".txz"]) {
        Kind::Unreadable("xz")
    } else {
        tar_or_plain(Ok(start), Kind::Tar)
    })
}

/// Opens an archive for reading the tar in it; `None` for what is not one that can be read.
pub fn open(path: &Path, kind: Kind) -> io::Result<Option<Box<dyn Read>>> {
    let file = fs_err::File::open(path)?;
    Ok(match kind {
        Kind::Tar => Some(Box::new(io::BufReader::new(file))),
        Kind::Gzip => Some(Box::new(flate2::read::MultiGzDecoder::new(file))),
        Kind::Zstd => Some(Box::new(zstd::Decoder::new(file)?)),
        Kind::Plain | Kind::Unreadable(_) => None,
    })
}

/// Reads up to one block of tar.
fn read_start(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(512).read_to_end(&mut start)?;
    Ok(start)
}

/// Decides by the first block; what cannot even be decompressed is a plain file.
fn tar_or_plain(start: io::Result<Vec<u8>>, kind: Kind) -> Kind {
    match start {
        Ok(start) if is_header(&start) => kind,
        _ => Kind::Plain,
    }
}

/// Whether a block is a tar header: its checksum is right (the field itself counts as blanks).
fn is_header(block: &[u8]) -> bool {
    let (Some(field), 512) = (block.get(148..156), block.len()) else {
        return false;
    };
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = field.iter().map(|byte| u32::from(*byte)).sum();
    let digits: String = field
        .iter()
        .map(|byte| char::from(*byte))
        .filter(|c| !matches!(c, ' ' | '\0'))
        .collect();
    u32::from_str_radix(&digits, 8) == Ok(sum - own + 8 * 32)
}
