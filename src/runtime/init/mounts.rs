//! What the caller mounts before the clone, while it still sees the host: the overlay root, trees of the host, filled volumes.
//!
//! All of it stays detached: it is in no mount namespace until the child attaches it, and gone when the last descriptor closes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, StatVfsMountFlags, openat};
use rustix::io::Errno;

use crate::runtime::init::overlay::{self, Writable};
use crate::runtime::init::steps::{Fill, HostTree, Overlay};
use crate::runtime::init::{RootFs, StartError};
use crate::sys::mount::{self, Attributes, Depth};
use crate::sys::{paths, xattr};

/// The kernel's name for a file that is written while a volume is being filled, beside the volume.
const FILL_MARK: &str = ".filling";

/// Returns an error that names the step.
fn step<'a>(text: impl FnOnce() -> String + 'a) -> impl FnOnce(io::Error) -> StartError + 'a {
    move |source| StartError::Step {
        step: text(),
        source,
    }
}

/// Opens a path of the host as a place.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        rustix::fs::CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A user namespace and who its root is outside.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The namespace.
    pub(crate) namespace: OwnedFd,
    /// User id of its root.
    pub(crate) uid: u32,
    /// Group id of its root.
    pub(crate) gid: u32,
}

/// Mounts the overlay, detached; with `userns`, the image's layers are seen through its id maps (Linux 6.15, where overlays
/// take detached mounts).
pub(crate) fn mount_root(root: &RootFs, userns: Option<&Mapping>) -> Result<OwnedFd, StartError> {
    let layer = |path: &Path| -> Result<OwnedFd, StartError> {
        let plain =
            open_path(path).map_err(step(|| format!("open the layer `{}`", path.display())))?;
        let Some(userns) = userns else {
            return Ok(plain);
        };
        let mapped = mount::clone_tree(plain.as_fd(), Path::new(""), Depth::One).and_then(|tree| {
            mount::set_id_map(tree.as_fd(), userns.namespace.as_fd()).map(|()| tree)
        });
        mapped.map_err(step(|| format!("map the owners of `{}`", path.display())))
    };
    let lowers: Vec<OwnedFd> = root
        .lowers
        .iter()
        .map(|path| layer(path))
        .collect::<Result<_, _>>()?;
    let plain = |path: &Path| {
        open_path(path).map_err(step(|| format!("open the layer `{}`", path.display())))
    };
    let (upper, work) = (plain(&root.upper)?, plain(&root.work)?);
    if let Some(userns) = userns {
        // Overlayfs writes as whoever mounts it, who has no id in a mapped upper layer: that one holds the owners as they are
        // outside, from its root on.
        let (uid, gid) = (userns.uid, userns.gid);
        fs_err::os::unix::fs::chown(&root.upper, Some(uid), Some(gid)).map_err(step(|| {
            format!("give `{}` to {uid}:{gid}", root.upper.display())
        }))?;
    }
    let writable = Writable {
        upper: &upper,
        work: &work,
        is_volatile: root.is_volatile,
    };
    overlay::mount(&lowers, Some(writable))
        .and_then(|mounted| match rustix::fs::fstatvfs(&mounted)?.f_flag {
            // What the kernel makes of a work directory that it cannot fill, on a full disk as a rule.
            flags if flags.contains(StatVfsMountFlags::RDONLY) => Err(Errno::NOSPC.into()),
            _ => Ok(mounted),
        })
        .map_err(step(|| {
            format!("mount the root file system over `{}`", root.upper.display())
        }))
}

/// Shows only the lower directories, with their own owners.
pub(crate) fn mount_lowers(root: &RootFs) -> Result<OwnedFd, StartError> {
    let open = |path: &std::path::PathBuf| {
        open_path(path).map_err(step(|| format!("open the layer `{}`", path.display())))
    };
    let mut lowers = root
        .lowers
        .iter()
        .map(open)
        .collect::<Result<Vec<_>, _>>()?;
    if lowers.len() == 1 {
        // One directory is no overlay.
        return lowers
            .pop()
            .ok_or_else(|| StartError::Config("no layers".to_owned()));
    }
    overlay::mount(&lowers, None).map_err(step(|| "mount the layers".to_owned()))
}

/// Takes a detached copy of a tree of the caller's mount namespace.
pub(crate) fn take_tree(
    tree: &HostTree,
    userns: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, StartError> {
    let taken = match (&tree.overlay, &tree.inside) {
        (Some(overlay), _) => mount_overlay(&tree.path, overlay)?,
        (None, Some(inside)) => {
            clone_inside(&tree.path, inside, tree.depth).map_err(step(|| {
                format!("open `{}` in `{}`", inside.display(), tree.path.display())
            }))?
        }
        (None, None) => mount::clone_tree(rustix::fs::CWD, &tree.path, tree.depth)
            .map_err(step(|| format!("open `{}`", tree.path.display())))?,
    };
    finish_tree(tree, &taken, userns)?;
    Ok(taken)
}

/// Copies a part of a tree that containers write into: what they do to its names and links meanwhile leads nowhere else.
fn clone_inside(top: &Path, inside: &Path, depth: Depth) -> io::Result<OwnedFd> {
    let top = open_path(top)?;
    let found = paths::open(top.as_fd(), &Path::new("/").join(inside), OFlags::PATH)?;
    mount::clone_tree(found.as_fd(), Path::new(""), depth)
}

/// Mounts layers for one place in the container.
fn mount_overlay(top: &Path, overlay: &Overlay) -> Result<OwnedFd, StartError> {
    let open = |path: &Path| {
        open_path(path).map_err(step(|| format!("open the layer `{}`", path.display())))
    };
    let mut lowers = vec![open(top)?];
    for path in &overlay.below {
        lowers.push(open(path)?);
    }
    let scratch = match &overlay.scratch {
        Some((upper, work)) => Some((open(upper)?, open(work)?)),
        None => None,
    };
    let writable = scratch.as_ref().map(|(upper, work)| Writable {
        upper,
        work,
        is_volatile: true,
    });
    overlay::mount(&lowers, writable)
        .map_err(step(|| format!("mount layers over `{}`", top.display())))
}

/// Gives a taken tree its attributes.
pub(crate) fn finish_tree(
    tree: &HostTree,
    taken: &OwnedFd,
    userns: Option<BorrowedFd<'_>>,
) -> Result<(), StartError> {
    if let (true, Some(userns)) = (tree.id_mapped, userns) {
        mount::set_id_map(taken.as_fd(), userns).map_err(step(|| {
            format!("map the owners of `{}`", tree.path.display())
        }))?;
    }
    if tree.read_only {
        mount::set_attributes(taken.as_fd(), Attributes::MOUNT_ATTR_RDONLY, 0, tree.depth)
            .map_err(step(|| format!("make `{}` read-only", tree.path.display())))?;
    }
    Ok(())
}

/// Fills an empty volume with what the image has at its target, owners and modes included; once, also when it is interrupted.
///
/// A mark beside the volume (`.NAME.filling`) stands while it is filled: a fill that a crash cut short is taken up again, and
/// what is there already is kept. Holders of the volume's lock wait for each other.
pub(crate) fn fill(root: BorrowedFd<'_>, fill: &Fill) -> Result<(), StartError> {
    fill_volume(root, fill).map_err(step(|| {
        format!(
            "fill the volume `{}` from the image's `{}`",
            fill.volume.display(),
            fill.target
        )
    }))
}

/// Does it, with plain errors.
fn fill_volume(root: BorrowedFd<'_>, fill: &Fill) -> io::Result<()> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let source = match paths::open(root, Path::new(&fill.target), directory) {
        Ok(source) => source,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let volume = openat(
        rustix::fs::CWD,
        &fill.volume,
        directory | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&volume, FlockOperation::LockExclusive))?;
    let name = fill
        .volume
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let mark = fill.volume.with_file_name(format!(".{name}{FILL_MARK}"));
    if !fs_err::exists(&mark).unwrap_or(false) {
        let mut entries = rustix::fs::Dir::read_from(&volume)?;
        let occupied = entries.any(|entry| {
            entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
        });
        if occupied {
            return Ok(());
        }
        fs_err::File::create(&mark)?;
    }
    copy_directory(source.as_fd(), volume.as_fd(), 0)?;
    rustix::fs::syncfs(&volume)?;
    fs_err::remove_file(&mark)
}

/// Deepest directory that is copied.
const MAX_DEPTH: u32 = 128;

/// Copies the entries of one directory into another, then its own owner, mode and times.
fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind {
            FileType::Directory => {
                accept_existing(rustix::fs::mkdirat(to, name, Mode::RWXU))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(from, name, flags, Mode::empty())?;
                let made = openat(to, name, flags, Mode::empty())?;
                copy_directory(below.as_fd(), made.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => copy_file(from, to, name, &stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                accept_existing(rustix::fs::symlinkat(&target, to, name))?;
                give(to, name, &stat)?;
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice => {
                accept_existing(rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev))?;
                give(to, name, &stat)?;
            }
            FileType::Unknown => {}
        }
    }
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, owner(&stat).0, owner(&stat).1)?;
    copy_attributes(from, to)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(to, &times(&stat))?;
    Ok(())
}

/// Copies a regular file under a temporary name and renames it, so that one is there whole or not at all.
fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    stat: &rustix::fs::Stat,
) -> io::Result<()> {
    if rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let source = openat(
        from,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let temporary = c".stack-fill.tmp";
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(to, temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut reader = fs_err::File::from_parts(source.into(), "image file");
    let mut writer = fs_err::File::from_parts(copy.into(), "volume file");
    io::copy(&mut reader, &mut writer)?;
    rustix::fs::fchown(&writer, owner(stat).0, owner(stat).1)?;
    // After the owner, whose change clears capabilities and set-user-id bits.
    copy_attributes(reader.file().as_fd(), writer.file().as_fd())?;
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(&writer, &times(stat))?;
    rustix::fs::renameat(to, temporary, to, name)?;
    Ok(())
}

/// Copies extended attributes, other than those of overlayfs and of security modules' labels.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(length);
    for name in names.split(|byte| *byte == 0) {
        if !xattr::is_kept(name) {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        value.truncate(length);
        match rustix::fs::fsetxattr(to, name, &value, rustix::fs::XattrFlags::empty()) {
            // The volume's file system has no place for it.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Gives an entry that cannot be opened its owner and times.
fn give(to: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &rustix::fs::Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(
        to,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Owner of an entry.
fn owner(stat: &rustix::fs::Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
}

/// Times of an entry.
fn times(stat: &rustix::fs::Stat) -> rustix::fs::Timestamps {
    let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// An entry that is there already is one that an earlier, interrupted fill made.
fn accept_existing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
