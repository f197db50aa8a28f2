//! Which files `ADD` unpacks: tar archives, plain or within gzip, bzip2, xz or zstd, told by their content and not by their name.

use std::io::{self, Read};
use std::path::Path;

use super::copy::open_regular;

/// What a file is to `ADD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not an archive: copied.
    Plain,
    /// A tar.
    Tar,
    /// A tar within something.
    Compressed(Compression),
}

/// What a tar may be within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// `BZh…`
    Bzip2,
    /// The xz container.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Tells a compression by its first bytes.
    fn of(start: &[u8]) -> Option<Self> {
        const SIGNATURES: [(&[u8], Compression); 4] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (b"BZh", Compression::Bzip2),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        ];
        let mut known = SIGNATURES.into_iter();
        known
            .find(|(signature, _)| start.starts_with(signature))
            .map(|(_, compression)| compression)
    }

    /// Reads what is within.
    fn read(self, file: fs_err::File) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(file)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new(io::BufReader::new(file), true)),
            Self::Zstd => Box::new(zstd::Decoder::new(file)?),
        })
    }
}

/// Looks at the start of a file.
pub fn kind_of(path: &Path) -> io::Result<Kind> {
    let start = read_start(open_regular(path)?)?;
    let Some(compression) = Compression::of(&start) else {
        return Ok(if is_header(&start) {
            Kind::Tar
        } else {
            Kind::Plain
        });
    };
    // What cannot even be decompressed is a plain file.
    let inner = compression.read(open_regular(path)?).and_then(read_start);
    Ok(match inner {
        Ok(inner) if is_header(&inner) => Kind::Compressed(compression),
        _ => Kind::Plain,
    })
}

/// Opens an archive for reading the tar in it; `None` for what is not one.
pub fn open(path: &Path, kind: Kind) -> io::Result<Option<Box<dyn Read>>> {
    let file = || open_regular(path);
    Ok(match kind {
        Kind::Plain => None,
        Kind::Tar => Some(Box::new(io::BufReader::new(file()?))),
        Kind::Compressed(compression) => Some(compression.read(file()?)?),
    })
}

/// Reads up to one block of tar.
fn read_start(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(512).read_to_end(&mut start)?;
    Ok(start)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn archives_are_told_by_their_content() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        archive.append_data(&mut header, "f", &b"hi"[..]).unwrap();
        let tar = archive.into_inner().unwrap();
        let gzip = |bytes: &[u8]| {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let bzip2 = |bytes: &[u8]| {
            let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let xz = |bytes: &[u8]| {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let within = Kind::Compressed;
        let table = [
            (tar.clone(), Kind::Tar),
            (gzip(&tar), within(Compression::Gzip)),
            (bzip2(&tar), within(Compression::Bzip2)),
            (xz(&tar), within(Compression::Xz)),
            (
                zstd::encode_all(tar.as_slice(), 1).unwrap(),
                within(Compression::Zstd),
            ),
            (gzip(b"no tar"), Kind::Plain),
            (bzip2(b"no tar"), Kind::Plain),
            (b"BZh9 but not bzip2".to_vec(), Kind::Plain),
            (b"\xfd7zXZ\0garbage".to_vec(), Kind::Plain),
            (b"text".to_vec(), Kind::Plain),
            (Vec::new(), Kind::Plain),
        ];
        for (bytes, expected) in table {
            fs_err::File::create(&path)
                .unwrap()
                .write_all(&bytes)
                .unwrap();
            let kind = kind_of(&path).unwrap();
            assert_eq!(kind, expected);
            let mut found = Vec::new();
            if let Some(mut reader) = open(&path, kind).unwrap() {
                reader.read_to_end(&mut found).unwrap();
                assert_eq!(found, tar, "{kind:?}");
            }
        }
    }
}
