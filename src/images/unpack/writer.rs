//! Writes an overlay upper directory as a layer's tar: the reverse of [`super::extract`].
//!
//! ```text
//! in the directory                   in the tar
//! char device 0:0 `name`             empty file `.wh.name`
//! trusted.overlay.opaque=y on `x`    directory `x/`, then empty file `x/.wh..wh..opq`
//! second name of an inode            hard link to the first
//! socket                             nothing
//! ```
//!
//! Entries come in the order of their names' bytes, directories before what is in them, so the same tree gives the same
//! bytes. ustar headers; PAX records only where those cannot say it (long names, great numbers, extended attributes).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tar::{EntryType, Header};

use super::error::UnpackError;
use super::extract::OPAQUE_XATTR;
use crate::sys::xattr;

/// The greatest number that a ustar field of eight bytes holds.
const MAX_USTAR_ID: u64 = 0o7_777_777;
/// The same of twelve bytes.
const MAX_USTAR_SIZE: u64 = 0o77_777_777_777;

/// What is written: a directory, or several that show as one.
pub(crate) trait Tree {
    /// Returns what a directory of it has, in order.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Returns where something of it lies.
    fn find(&self, path: &Path) -> PathBuf;

    /// Whether markers for the layers below are written.
    fn is_layer(&self) -> bool;
}

/// An overlay upper directory.
struct Upper<'a>(&'a Path);

impl Tree for Upper<'_> {
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let entries = fs_err::read_dir(self.0.join(directory))?;
        let names: io::Result<Vec<_>> = entries.map(|e| e.map(|e| e.file_name())).collect();
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    fn find(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    fn is_layer(&self) -> bool {
        true
    }
}

/// Writes everything below `root` to `sink`, and returns the bytes of its regular files. An entry for `root` itself is not written.
pub fn write_layer(root: &Path, sink: &mut impl Write) -> Result<u64, UnpackError> {
    write_tree(&Upper(root), sink)
}

/// As [`write_layer`], for any tree.
pub(crate) fn write_tree(tree: &impl Tree, sink: &mut impl Write) -> Result<u64, UnpackError> {
    let mut writer = Writer {
        sink,
        links: BTreeMap::new(),
        buffer: vec![0; 256 << 10],
        size_bytes: 0,
    };
    writer.directory(tree, Path::new(""))?;
    // The end: two zero blocks.
    writer.write(Path::new("/"), &[0; 1024])?;
    Ok(writer.size_bytes)
}

struct Writer<'a, W> {
    sink: &'a mut W,
    /// Inodes with several names: (device, inode) to the first one written.
    links: BTreeMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
    size_bytes: u64,
}

impl<W: Write> Writer<'_, W> {
    /// Writes what a directory has. A loop with a stack of its own: whoever made the tree chose how deep it is.
    fn directory(&mut self, tree: &impl Tree, path: &Path) -> Result<(), UnpackError> {
        let list = |path: PathBuf| match tree.names(&path) {
            Ok(names) => Ok((path, names.into_iter())),
            Err(error) => Err(UnpackError::io("list", &path)(error)),
        };
        let mut open = vec![list(path.to_owned())?];
        while let Some((directory, names)) = open.last_mut() {
            let Some(name) = names.next() else {
                open.pop();
                continue;
            };
            let path = directory.join(name);
            if self.entry(tree, &path)? {
                open.push(list(path)?);
            }
        }
        Ok(())
    }

    /// Writes one entry; returns whether it is a directory, whose own entries are to follow.
    fn entry(&mut self, tree: &impl Tree, path: &Path) -> Result<bool, UnpackError> {
        let full = tree.find(path);
        let stat = fs_err::symlink_metadata(&full).map_err(UnpackError::io("look at", path))?;
        let kind = stat.file_type();
        if kind.is_dir() {
            self.directory_entry(tree, &full, path, &stat)?;
            return Ok(true);
        }
        if !kind.is_socket() {
            self.other_entry(&full, path, &stat)?;
        }
        Ok(false)
    }

    /// Writes what is no directory and no socket.
    fn other_entry(
        &mut self,
        full: &Path,
        path: &Path,
        stat: &std::fs::Metadata,
    ) -> Result<(), UnpackError> {
        let kind = stat.file_type();
        if kind.is_char_device() && stat.rdev() == 0 {
            let name = path.file_name().unwrap_or_default();
            return self.marker(
                path.parent().unwrap_or(Path::new("")),
                &[b".wh.", name.as_bytes()].concat(),
                stat,
            );
        }
        if stat.nlink() > 1 {
            let inode = (stat.dev(), stat.ino());
            if let Some(first) = self.links.get(&inode).cloned() {
                let mut header = header(EntryType::Link, stat);
                header.set_size(0);
                return self.header(header, path, Some(&first), &[]);
            }
            self.links.insert(inode, path.to_owned());
        }
        let xattrs = read_xattrs(full)
            .map_err(UnpackError::io("read the attributes of", path))?
            .0;
        if kind.is_symlink() {
            let target = fs_err::read_link(full).map_err(UnpackError::io("read", path))?;
            return self.header(
                header(EntryType::Symlink, stat),
                path,
                Some(&target),
                &xattrs,
            );
        }
        if kind.is_file() {
            return self.file(full, path, stat, &xattrs);
        }
        let entry_type = match (kind.is_fifo(), kind.is_char_device()) {
            (true, _) => EntryType::Fifo,
            (_, true) => EntryType::Char,
            _ => EntryType::Block,
        };
        let mut header = header(entry_type, stat);
        let numbers = (
            rustix::fs::major(stat.rdev()),
            rustix::fs::minor(stat.rdev()),
        );
        header
            .set_device_major(numbers.0)
            .and_then(|()| header.set_device_minor(numbers.1))
            .map_err(UnpackError::io("describe", path))?;
        self.header(header, path, None, &xattrs)
    }

    fn directory_entry(
        &mut self,
        tree: &impl Tree,
        full: &Path,
        path: &Path,
        stat: &std::fs::Metadata,
    ) -> Result<(), UnpackError> {
        let (xattrs, opaque) =
            read_xattrs(full).map_err(UnpackError::io("read the attributes of", path))?;
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        self.header(
            header(EntryType::Directory, stat),
            Path::new(&name),
            None,
            &xattrs,
        )?;
        if opaque && tree.is_layer() {
            self.marker(path, b".wh..wh..opq", stat)?;
        }
        Ok(())
    }

    /// An empty file that says something about the layers below, as old as what it stands for.
    fn marker(
        &mut self,
        parent: &Path,
        name: &[u8],
        stat: &std::fs::Metadata,
    ) -> Result<(), UnpackError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        // As Docker's overlay driver writes them.
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(stat.mtime()).unwrap_or(0));
        self.header(header, &parent.join(OsStr::from_bytes(name)), None, &[])
    }

    fn file(
        &mut self,
        full: &Path,
        path: &Path,
        stat: &std::fs::Metadata,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), UnpackError> {
        let mut file = fs_err::File::open(full).map_err(UnpackError::io("open", path))?;
        let size = stat.size();
        self.header(header(EntryType::Regular, stat), path, None, xattrs)?;
        let mut left = size;
        while left > 0 {
            let want = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let buffer = self.buffer.get_mut(..want).unwrap_or_default();
            let length = file.read(buffer).map_err(UnpackError::io("read", path))?;
            if length == 0 {
                return Err(UnpackError::io("read", path)(io::Error::from(
                    io::ErrorKind::UnexpectedEof,
                )));
            }
            let bytes = self.buffer.get(..length).unwrap_or_default();
            self.sink
                .write_all(bytes)
                .map_err(UnpackError::io("pack", path))?;
            left -= length as u64;
        }
        self.size_bytes += size;
        let padding = usize::try_from((512 - size % 512) % 512).unwrap_or_default();
        self.write(path, [0; 512].get(..padding).unwrap_or_default())
    }

    /// Writes a header, with a PAX header before it where the plain one cannot say everything.
    fn header(
        &mut self,
        mut header: Header,
        path: &Path,
        link: Option<&Path>,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), UnpackError> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut record = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
        if header.set_path(path).is_err() {
            record("path", path.as_os_str().as_bytes());
            let name = path.file_name().unwrap_or_default().as_bytes();
            let short = name.get(..name.len().min(90)).unwrap_or_default();
            header
                .set_path(OsStr::from_bytes(short))
                .map_err(UnpackError::io("name", path))?;
        }
        if let Some(link) = link.map(|link| link.as_os_str().as_bytes())
            && header.set_link_name_literal(link).is_err()
        {
            record("linkpath", link);
        }
        for (key, field) in [("uid", header.uid()), ("gid", header.gid())] {
            if let Ok(id) = field
                && id > MAX_USTAR_ID
            {
                record(key, id.to_string().as_bytes());
            }
        }
        if let Ok(size) = header.entry_size()
            && size > MAX_USTAR_SIZE
        {
            record("size", size.to_string().as_bytes());
        }
        for (name, value) in xattrs {
            records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
        }
        if !records.is_empty() {
            self.pax(path, &records)?;
        }
        header.set_cksum();
        self.write(path, header.as_bytes())
    }

    fn pax(&mut self, path: &Path, records: &[(Vec<u8>, Vec<u8>)]) -> Result<(), UnpackError> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend_from_slice(length.to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(key);
            bytes.push(b'=');
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_mtime(0);
        header
            .set_path("PaxHeaders.0")
            .map_err(UnpackError::io("name", path))?;
        header.set_cksum();
        self.write(path, header.as_bytes())?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        self.write(path, &bytes)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), UnpackError> {
        self.sink
            .write_all(bytes)
            .map_err(UnpackError::io("pack", path))
    }
}

fn header(entry_type: EntryType, stat: &std::fs::Metadata) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_size(if entry_type == EntryType::Regular {
        stat.size()
    } else {
        0
    });
    header.set_uid(stat.uid().into());
    header.set_gid(stat.gid().into());
    header.set_mode(stat.mode() & 0o7777);
    header.set_mtime(u64::try_from(stat.mtime()).unwrap_or(0));
    header
}

/// Name and value.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads the attributes that belong into a layer, sorted, and whether overlayfs calls the directory opaque.
fn read_xattrs(path: &Path) -> io::Result<(Xattrs, bool)> {
    let mut names = vec![0; 4096];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut names) {
            Ok(length) => break length,
            Err(Errno::OPNOTSUPP) => return Ok((Vec::new(), false)),
            Err(Errno::RANGE) => names.resize(names.len() * 2, 0),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut found = Vec::new();
    let mut opaque = false;
    for name in names.get(..length).unwrap_or_default().split(|&b| b == 0) {
        if name.is_empty() {
            continue;
        }
        if name == OPAQUE_XATTR.as_bytes() {
            opaque = read_xattr(path, name)? == b"y";
        } else if xattr::is_kept(name) {
            found.push((name.to_vec(), read_xattr(path, name)?));
        }
    }
    found.sort();
    Ok((found, opaque))
}

fn read_xattr(path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 65536]; // XATTR_SIZE_MAX
    let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
    value.truncate(length);
    Ok(value)
}
