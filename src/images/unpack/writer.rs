//! Writes an overlay upper directory as a layer's tar: the reverse of [`super::extract`].
//!
//! ```text
//! in the directory                   in the tar
//! char device 0:0 `name`             empty file `.wh.name`
//! trusted.overlay.opaque=y on `x`    directory `x/`, then empty file `x/.wh..wh..opq`
//! second name of an inode            hard link to the first
//! socket                             nothing
//! `.wh.name`                         itself, as Docker does it: whoever reads the layer deletes `name` for it (image-spec
//!                                    `layer.md#whiteouts`), so that the first one is told
//! ```
//!
//! Entries come in the order of their names' bytes, directories before what is in them, so the same tree gives the same
//! bytes. ustar headers; PAX records only where those cannot say it (long names, great numbers, times before 1970, extended attributes).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, flistxattr, fstat, getxattr,
    listxattr, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::error::UnpackError;
use super::extract::OPAQUE_XATTR;
use super::reader::signed_number;
use crate::sys::descent::Descent;
use crate::sys::xattr;

/// The greatest number that a ustar field of eight bytes holds.
const MAX_USTAR_ID: u64 = 0o7_777_777;
/// The same of twelve bytes.
const MAX_USTAR_SIZE: u64 = 0o77_777_777_777;

/// What is written: a directory, or several that show as one. Whoever owns them may change them meanwhile, so they are gone
/// through directory by directory, and nothing in them is reached by a path.
pub(crate) trait Tree {
    /// Goes into a directory of the one where it is.
    fn enter(&mut self, name: &OsStr) -> io::Result<()>;

    /// Goes back.
    fn leave(&mut self) -> io::Result<()>;

    /// Returns what this directory has, in order.
    fn names(&self) -> io::Result<Vec<OsString>>;

    /// Returns the directory in which an entry of this one lies.
    fn directory_of(&self, name: &OsStr) -> io::Result<BorrowedFd<'_>>;

    /// Whether markers for the layers below are written.
    fn is_layer(&self) -> bool;
}

/// The beginning of a whiteout's name in an archive.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A directory.
struct Upper {
    walk: Descent,
    /// Whether it is an overlay's upper directory.
    is_layer: bool,
}

impl Upper {
    fn open(root: &Path, is_layer: bool) -> Result<Self, UnpackError> {
        let walk = Descent::new(root).map_err(UnpackError::io("open", root))?;
        Ok(Self { walk, is_layer })
    }
}

impl Tree for Upper {
    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        self.walk.enter(name)
    }

    fn leave(&mut self) -> io::Result<()> {
        self.walk.leave()
    }

    fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = self.walk.names()?;
        names.sort();
        Ok(names)
    }

    fn directory_of(&self, _: &OsStr) -> io::Result<BorrowedFd<'_>> {
        Ok(self.walk.here())
    }

    fn is_layer(&self) -> bool {
        self.is_layer
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the regular files.
    pub(crate) size_bytes: u64,
    /// The first path of a layer that whoever reads it takes for the deletion of another one.
    pub(crate) reserved: Option<PathBuf>,
}

/// Writes everything below `root` to `sink`. An entry for `root` itself is not written.
pub(crate) fn write_layer(root: &Path, sink: &mut impl Write) -> Result<Written, UnpackError> {
    write_tree(&mut Upper::open(root, true)?, sink)
}

/// Writes everything below `root` as it is: there are no layers below, so that nothing in it is a whiteout.
pub(crate) fn write_files(root: &Path, sink: &mut impl Write) -> Result<Written, UnpackError> {
    write_tree(&mut Upper::open(root, false)?, sink)
}

/// The same, where what no archive says of a layer is left out: how old its markers are, and the directories `implied`. Two
/// unpackings of one archive give the same bytes, whichever version of the unpacker did them.
pub(crate) fn write_settled(
    root: &Path,
    implied: &[PathBuf],
    sink: &mut impl Write,
) -> Result<Written, UnpackError> {
    let implied = implied.iter().map(PathBuf::as_path).collect();
    write_all(&mut Upper::open(root, true)?, Some(implied), sink)
}

/// As [`write_layer`], for any tree.
pub(crate) fn write_tree(
    tree: &mut impl Tree,
    sink: &mut impl Write,
) -> Result<Written, UnpackError> {
    write_all(tree, None, sink)
}

fn write_all(
    tree: &mut impl Tree,
    settled: Option<BTreeSet<&Path>>,
    sink: &mut impl Write,
) -> Result<Written, UnpackError> {
    let mut writer = Writer {
        sink,
        links: BTreeMap::new(),
        buffer: vec![0; 256 << 10],
        size_bytes: 0,
        reserved: None,
        settled,
    };
    writer.directory(tree)?;
    // The end: two zero blocks.
    writer.write(Path::new("/"), &[0; 1024])?;
    Ok(Written {
        size_bytes: writer.size_bytes,
        reserved: writer.reserved,
    })
}

struct Writer<'a, W> {
    sink: &'a mut W,
    /// Inodes with several names: (device, inode) to the first one written.
    links: BTreeMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
    size_bytes: u64,
    reserved: Option<PathBuf>,
    /// Directories whose times do not count, as those of markers do not then.
    settled: Option<BTreeSet<&'a Path>>,
}

/// An entry of a tree, as it was listed.
struct Listed<'a> {
    directory: BorrowedFd<'a>,
    name: &'a OsStr,
    /// In the tar.
    path: &'a Path,
    stat: Stat,
}

impl Listed<'_> {
    /// Opens it, if it is still the same.
    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.directory, self.name, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        let is = |stat: &Stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            (stat.st_dev, stat.st_ino, kind)
        };
        if is(&stat) != is(&self.stat) {
            return Err(io::Error::other(
                "it was exchanged for something else meanwhile",
            ));
        }
        Ok(fd)
    }
}

impl<W: Write> Writer<'_, W> {
    /// Writes what a tree has. A loop with a stack of its own: whoever made the tree chose how deep it is.
    fn directory(&mut self, tree: &mut impl Tree) -> Result<(), UnpackError> {
        let mut path = PathBuf::new();
        let names = |tree: &dyn Fn() -> io::Result<Vec<OsString>>, path: &Path| match tree() {
            Ok(names) => Ok(names.into_iter()),
            Err(error) => Err(UnpackError::io("list", path)(error)),
        };
        let mut open = vec![names(&|| tree.names(), &path)?];
        while let Some(left) = open.last_mut() {
            let Some(name) = left.next() else {
                open.pop();
                if !open.is_empty() {
                    tree.leave().map_err(UnpackError::io("leave", &path))?;
                    path.pop();
                }
                continue;
            };
            path.push(&name);
            if self.entry(tree, &path, &name)? {
                tree.enter(&name).map_err(UnpackError::io("open", &path))?;
                open.push(names(&|| tree.names(), &path)?);
            } else {
                path.pop();
            }
        }
        Ok(())
    }

    /// Writes one entry; returns whether it is a directory, whose own entries are to follow.
    fn entry(&mut self, tree: &impl Tree, path: &Path, name: &OsStr) -> Result<bool, UnpackError> {
        if tree.is_layer() && name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            self.reserved.get_or_insert_with(|| path.to_owned());
        }
        let look = tree.directory_of(name).and_then(|directory| {
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(Listed {
                directory,
                name,
                path,
                stat,
            })
        });
        let listed = look.map_err(UnpackError::io("look at", path))?;
        match FileType::from_raw_mode(listed.stat.st_mode) {
            FileType::Directory => {
                self.directory_entry(&listed, tree.is_layer())?;
                return Ok(true);
            }
            FileType::Socket => {}
            kind => self.other_entry(&listed, kind, tree.is_layer())?,
        }
        Ok(false)
    }

    /// Writes what is no directory and no socket.
    fn other_entry(
        &mut self,
        listed: &Listed<'_>,
        kind: FileType,
        is_layer: bool,
    ) -> Result<(), UnpackError> {
        let (path, stat) = (listed.path, &listed.stat);
        if is_layer && kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return self.marker(
                path.parent().unwrap_or(Path::new("")),
                &[WHITEOUT_PREFIX, listed.name.as_bytes()].concat(),
                stat,
            );
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode).cloned() {
                let header = header(EntryType::Link, stat);
                return self.header(header, path, Some(&first), &[]);
            }
            self.links.insert(inode, path.to_owned());
        }
        if kind == FileType::RegularFile {
            return self.file(listed);
        }
        let attributes = listed
            .open(OFlags::PATH)
            .and_then(|fd| read_xattrs_of_path(&fd));
        let xattrs = attributes
            .map_err(UnpackError::io("read the attributes of", path))?
            .0;
        if kind == FileType::Symlink {
            let target = readlinkat(listed.directory, listed.name, Vec::new())
                .map_err(UnpackError::io("read", path))?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            let header = header(EntryType::Symlink, stat);
            return self.header(header, path, Some(target), &xattrs);
        }
        let entry_type = match kind {
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            _ => EntryType::Block,
        };
        let mut header = header(entry_type, stat);
        let numbers = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        header
            .set_device_major(numbers.0)
            .and_then(|()| header.set_device_minor(numbers.1))
            .map_err(UnpackError::io("describe", path))?;
        self.header(header, path, None, &xattrs)
    }

    fn directory_entry(&mut self, listed: &Listed<'_>, is_layer: bool) -> Result<(), UnpackError> {
        let path = listed.path;
        let attributes = listed
            .open(OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|fd| read_xattrs_of(&fd));
        let (xattrs, opaque) =
            attributes.map_err(UnpackError::io("read the attributes of", path))?;
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        let mut header = header(EntryType::Directory, &listed.stat);
        if self.settled.as_ref().is_some_and(|s| s.contains(path)) {
            header.set_mtime(0);
        }
        self.header(header, Path::new(&name), None, &xattrs)?;
        if opaque && is_layer {
            self.marker(path, b".wh..wh..opq", &listed.stat)?;
        }
        Ok(())
    }

    /// An empty file that says something about the layers below, as old as what it stands for.
    fn marker(&mut self, parent: &Path, name: &[u8], stat: &Stat) -> Result<(), UnpackError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        // As Docker's overlay driver writes them.
        header.set_mode(0o600);
        let seconds = match self.settled {
            Some(_) => 0,
            None => stat.st_mtime,
        };
        set_time(&mut header, seconds);
        self.header(header, &parent.join(OsStr::from_bytes(name)), None, &[])
    }

    fn file(&mut self, listed: &Listed<'_>) -> Result<(), UnpackError> {
        let (path, stat) = (listed.path, &listed.stat);
        // What has taken its place may be a pipe that nobody writes to.
        let file = listed
            .open(OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(UnpackError::io("open", path))?;
        let xattrs = read_xattrs_of(&file)
            .map_err(UnpackError::io("read the attributes of", path))?
            .0;
        let size = size_of(stat);
        self.header(header(EntryType::Regular, stat), path, None, &xattrs)?;
        let stored = u64::try_from(stat.st_blocks)
            .unwrap_or(0)
            .saturating_mul(512);
        let mut at = 0;
        while at < size {
            let (data, hole) = if stored < size {
                piece(&file, at, size).map_err(UnpackError::io("read", path))?
            } else {
                (at, size)
            };
            self.zeros(path, data - at)?;
            self.data(path, &file, data, hole)?;
            at = hole;
        }
        self.size_bytes += size;
        let padding = usize::try_from((512 - size % 512) % 512).unwrap_or_default();
        self.write(path, [0; 512].get(..padding).unwrap_or_default())
    }

    /// Writes what a file has from `at` to `end`.
    fn data(
        &mut self,
        path: &Path,
        file: &OwnedFd,
        mut at: u64,
        end: u64,
    ) -> Result<(), UnpackError> {
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let want = self.buffer.len().min(want);
            let buffer = self.buffer.get_mut(..want).unwrap_or_default();
            let length =
                rustix::io::pread(file, buffer, at).map_err(UnpackError::io("read", path))?;
            if length == 0 {
                return Err(UnpackError::io("read", path)(io::Error::from(
                    io::ErrorKind::UnexpectedEof,
                )));
            }
            let bytes = self.buffer.get(..length).unwrap_or_default();
            self.sink
                .write_all(bytes)
                .map_err(UnpackError::io("pack", path))?;
            at += length as u64;
        }
        Ok(())
    }

    fn zeros(&mut self, path: &Path, mut count: u64) -> Result<(), UnpackError> {
        static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        while count > 0 {
            let length = usize::try_from(count).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..length).unwrap_or(&ZEROS);
            self.write(path, zeros)?;
            count -= zeros.len() as u64;
        }
        Ok(())
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
        if let Ok(seconds) = signed_number(&header.as_old().mtime)
            && !u64::try_from(seconds).is_ok_and(|seconds| seconds <= MAX_USTAR_SIZE)
        {
            record("mtime", seconds.to_string().as_bytes());
            header.set_mtime(0);
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

/// Returns the next bytes of a file with holes, from `at`: where they begin and end, both `size` where there are none.
pub(crate) fn piece(file: &OwnedFd, at: u64, size: u64) -> rustix::io::Result<(u64, u64)> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.clamp(at, size),
        Err(Errno::NXIO) => return Ok((size, size)),
        // A file system that does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((at, size)),
        Err(errno) => return Err(errno),
    };
    if data == size {
        return Ok((size, size));
    }
    let hole = seek(file, SeekFrom::Hole(data))?;
    Ok((data, hole.clamp(data + 1, size)))
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn header(entry_type: EntryType, stat: &Stat) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_size(if entry_type == EntryType::Regular {
        size_of(stat)
    } else {
        0
    });
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mode(stat.st_mode & 0o7777);
    set_time(&mut header, stat.st_mtime);
    header
}

/// Sets a time in seconds since 1970; one that the field cannot hold in octal digits, in base 256, for a PAX record to be made of it.
fn set_time(header: &mut Header, seconds: i64) {
    if let Ok(seconds) = u64::try_from(seconds) {
        header.set_mtime(seconds);
        return;
    }
    let field = &mut header.as_old_mut().mtime;
    field.fill(0xff);
    for (byte, digit) in field.iter_mut().rev().zip(seconds.to_le_bytes()) {
        *byte = digit;
    }
}

/// Name and value.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn read_xattrs_of(fd: &OwnedFd) -> io::Result<(Xattrs, bool)> {
    read_xattrs(
        |names| flistxattr(fd, names),
        |name, value| fgetxattr(fd, name, value),
    )
}

/// The same of what is open as a path only.
fn read_xattrs_of_path(fd: &OwnedFd) -> io::Result<(Xattrs, bool)> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    read_xattrs(
        |names| listxattr(&path, names),
        |name, value| getxattr(&path, name, value),
    )
}

/// Reads the attributes that belong into a layer, sorted, and whether overlayfs calls the directory opaque.
fn read_xattrs(
    list: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>,
    get: impl Fn(&OsStr, &mut Vec<u8>) -> rustix::io::Result<usize>,
) -> io::Result<(Xattrs, bool)> {
    let mut names = vec![0; 4096];
    let length = loop {
        match list(&mut names) {
            Ok(length) => break length,
            Err(Errno::OPNOTSUPP) => return Ok((Vec::new(), false)),
            Err(Errno::RANGE) => names.resize(names.len() * 2, 0),
            Err(errno) => return Err(errno.into()),
        }
    };
    let read = |name: &[u8]| -> io::Result<Vec<u8>> {
        let mut value = vec![0; 65536]; // XATTR_SIZE_MAX
        let length = get(OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        Ok(value)
    };
    let mut found = Vec::new();
    let mut opaque = false;
    for name in names.get(..length).unwrap_or_default().split(|&b| b == 0) {
        if name.is_empty() {
            continue;
        }
        if name == OPAQUE_XATTR.as_bytes() {
            opaque = read(name)? == b"y";
        } else if xattr::is_kept(name) {
            found.push((name.to_vec(), read(name)?));
        }
    }
    found.sort();
    Ok((found, opaque))
}
