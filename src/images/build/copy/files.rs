//! Single files of a layer: bytes, owners, modes, times, attributes.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::super::super::stop::Stop;
use super::super::context;
use super::Owner;
use crate::sys::{beneath, xattr};

/// Bytes up to which a file is copied through a buffer: two calls, where asking the kernel to copy takes four.
const SMALL: u64 = 128 << 10;

/// Bytes of a larger file between two looks at whether it is still wanted.
const PIECE: u64 = 256 << 10;

/// How often a file is copied again that changes meanwhile.
const ATTEMPTS: usize = 3;

/// Opens a regular file and nothing else: neither through a link, nor a pipe that would never end.
pub fn open_regular(path: &Path) -> io::Result<fs_err::File> {
    let file = open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let text = format!("`{}` is no longer a file", path.display());
    Err(io::Error::other(text))
}

/// Opens what should be a regular file, without waiting for whatever it is. The path was resolved before: a directory of it that is a
/// link by now was exchanged by somebody who may write there, and leads where the build was not asked to look.
fn open(path: &Path) -> io::Result<fs_err::File> {
    let opened = beneath::absolute(path, OFlags::RDONLY | OFlags::NONBLOCK);
    match opened {
        Ok(file) => Ok(fs_err::File::from_parts(file.into(), path)),
        Err(Errno::LOOP) => {
            let text = format!("`{}` is a link by now, or lies behind one", path.display());
            Err(io::Error::other(text))
        }
        Err(errno) => {
            let text = format!("failed to open file `{}`: {errno}", path.display());
            Err(io::Error::new(io::Error::from(errno).kind(), text))
        }
    }
}

/// Copies a file's bytes to a new file; returns that, and whether the source was another than `seen`. A source that will not hold
/// still is an error: what came of it would be no state that it ever had.
pub(super) fn copy_content(
    from: &Path,
    to: &Path,
    seen: &Metadata,
    stop: &Stop,
) -> io::Result<(fs_err::File, bool)> {
    let mut target = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)?;
    let changed = copy_all(from, &mut target, seen, stop)?;
    Ok((target, changed))
}

/// Copies the bytes of a file that holds still, since it is the store's, to an empty one.
pub(in super::super) fn copy_into(
    from: &Path,
    target: &mut fs_err::File,
    seen: &Metadata,
) -> io::Result<()> {
    copy_all(from, target, seen, &Stop::default()).map(drop)
}

/// Copies a file's bytes to an empty one; returns whether the source was another than `seen`.
fn copy_all(
    from: &Path,
    target: &mut fs_err::File,
    seen: &Metadata,
    stop: &Stop,
) -> io::Result<bool> {
    let mut source = open(from)?;
    let mut expected = seen.clone();
    for attempt in 0..ATTEMPTS {
        copy_bytes(&mut source, target, expected.len(), stop).map_err(|error| {
            // Either end may be the one that fails: a full disk is that of the layer.
            let text = format!("copy `{}` to the layer: {}", from.display(), reason(&error));
            io::Error::new(error.kind(), text)
        })?;
        let found = source.metadata()?;
        if !context::changed(&expected, &found) {
            return Ok(attempt > 0);
        }
        source = open_regular(from)?;
        expected = source.metadata()?;
        target.file().set_len(0)?;
        target.seek(SeekFrom::Start(0))?;
    }
    let text = format!("`{}` changes while it is copied", from.display());
    Err(io::Error::other(text))
}

/// Copies as many bytes as a file should have, and one more if it has grown.
fn copy_bytes(
    source: &mut fs_err::File,
    target: &mut fs_err::File,
    size: u64,
    stop: &Stop,
) -> io::Result<()> {
    if size <= SMALL {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        source.take(size + 1).read_to_end(&mut bytes)?;
        return target.write_all(&bytes);
    }
    // Shares the blocks where the file system can; else the kernel copies from cache to cache.
    if rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(());
    }
    let mut left = size + 1;
    while left > 0 {
        stop.check()?;
        let copied = io::copy(&mut source.file().take(left.min(PIECE)), &mut target.file())?;
        if copied == 0 {
            break;
        }
        left = left.saturating_sub(copied);
    }
    Ok(())
}

/// Makes a pipe, a socket or a device.
pub(super) fn make_special(host: &Path, kind: std::fs::FileType, device: u64) -> io::Result<()> {
    let special = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_socket() {
        FileType::Socket
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else {
        FileType::BlockDevice
    };
    named(
        host,
        rustix::fs::mknodat(CWD, host, special, Mode::empty(), device),
    )
}

/// Sets owner, then mode: a change of owner clears the set-user-id bit.
pub(super) fn set_owner_and_mode(host: &Path, owner: Owner, mode: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    named(
        host,
        rustix::fs::chownat(CWD, host, Some(uid), Some(gid), flags),
    )?;
    match mode {
        Some(mode) => named(
            host,
            rustix::fs::chmod(host, Mode::from_raw_mode(mode & 0o7777)),
        ),
        None => Ok(()),
    }
}

/// Returns a file's times, as `utimensat` takes them.
pub(in super::super) fn times_of(metadata: &Metadata) -> Timestamps {
    timestamps(metadata.mtime(), metadata.mtime_nsec())
}

/// Returns one time for both.
pub(super) fn timestamps(seconds: i64, ns: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: ns,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Returns a file's extended attributes but those of overlay file systems and labels of this machine; none where it has none.
pub fn attributes(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0_u8; 1024];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(0) => return Vec::new(),
        Ok(length) => length,
        Err(Errno::RANGE) => {
            names.resize(64 * 1024, 0);
            rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0)
        }
        // A file system without attributes.
        Err(_) => return Vec::new(),
    };
    names.truncate(length);
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|n| !n.is_empty()) {
        let kept = xattr::is_kept(name);
        let mut value = vec![0_u8; 64 * 1024];
        if kept
            && let Ok(size) = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])
        {
            value.truncate(size);
            found.push((OsStr::from_bytes(name).to_owned(), value));
        }
    }
    found.sort();
    found
}

/// Copies attributes; a file system that takes none is no reason to fail (so does BuildKit).
pub(super) fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    for (name, value) in attributes(from) {
        set_attribute(to, &name, &value)?;
    }
    Ok(())
}

/// Sets an attribute, where the file system takes any.
pub(super) fn set_attribute(to: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::lsetxattr(to, name, value, flags) {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => named(to, Err(errno)),
    }
}

/// Returns the system's words for an error, without the path that `fs_err` puts before them.
fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    match words.rsplit_once("`: ") {
        Some((_, reason)) => reason.to_owned(),
        None => words,
    }
}

/// Puts the path into an error.
pub(super) fn named(path: &Path, result: Result<(), Errno>) -> io::Result<()> {
    result.map_err(|errno| at(path, &errno.into()))
}

/// Puts the path into an error.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("write `{}`: {error}", path.display()))
}
