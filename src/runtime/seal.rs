//! The sealed executable: the running program seen through a mount that nobody can write through (CVE-2019-5736).
//!
//! ```text
//! <run>/exe/.empty/                        second lower directory, always empty; a tmpfs where the program's directory holds <run>,
//!                                          as one lower directory must not be beneath another
//! <run>/exe/<device>-<inode>-<mtime ns>/   read-only overlay of the executable's directory, one for each build of the program
//! ```
//!
//! A process of a container may reach the program that set it up through `/proc/PID/exe`, or by `#!/proc/self/exe`. Opening it for
//! writing fails with EROFS, and the writable file beneath cannot be named through an overlay. It is mounted once per boot and
//! costs nothing per container. Where overlays cannot be mounted, a sealed copy in memory does the same.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::UnmountFlags;

use crate::runtime::init::overlay;
use crate::sys::lock::{self, Lock};
use crate::sys::mount::{self, Attributes, Filesystem};

/// `OVERLAYFS_SUPER_MAGIC` (`linux/magic.h`).
const OVERLAY_MAGIC: i64 = 0x794c_7630;

/// Why the executable could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A step failed.
    #[error("{action} `{}`", path.display())]
    Step {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

impl SealError {
    /// Whether another command, with the last container, took away what this one was about to use: sealing again helps.
    pub fn is_gone(&self) -> bool {
        let Self::Step { source, .. } = self;
        source.kind() == io::ErrorKind::NotFound
    }
}

/// A program that can be executed and not be written to.
#[derive(Debug)]
pub struct Sealed {
    path: PathBuf,
    /// Holds the copy in memory, which has no other name.
    memory: Option<OwnedFd>,
}

impl Sealed {
    /// Returns the path to execute, valid in this process and its children for as long as `self` is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a copy in memory, which needs `self` to live until it is executed.
    pub fn in_memory(&self) -> bool {
        self.memory.is_some()
    }
}

/// Names a failed step.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError + use<> {
    let path = path.to_owned();
    move |source| SealError::Step {
        action,
        path,
        source,
    }
}

/// Returns the running program, which must be sealed, whether or not any path still leads to it. Valid in this process and its
/// children until they execute something else.
pub fn running() -> Sealed {
    Sealed {
        path: PathBuf::from("/proc/self/exe"),
        memory: None,
    }
}

/// Returns `executable` as seen through a sealed mount under `<run>/exe`, which is made if it is not there yet.
pub fn seal(run: &Path, executable: &Path) -> Result<Sealed, SealError> {
    let stat = rustix::fs::stat(executable)
        .map_err(io::Error::from)
        .map_err(failed("look at", executable))?;
    let (Some(directory), Some(name)) = (executable.parent(), executable.file_name()) else {
        return Err(failed("seal", executable)(
            io::ErrorKind::InvalidInput.into(),
        ));
    };
    let top = run.join("exe");
    let key = format!(
        "{:x}-{:x}-{:x}{:09}",
        stat.st_dev, stat.st_ino, stat.st_mtime, stat.st_mtime_nsec
    );
    let place = top.join(key);
    // The program may run from there: what is sealed needs no second seal.
    if executable.starts_with(&top) && executable.parent().is_some_and(is_overlay) {
        return Ok(Sealed {
            path: executable.to_owned(),
            memory: None,
        });
    }
    // The usual case, without a lock: a mount is complete from the moment it is there.
    if is_overlay(&place) {
        return Ok(Sealed {
            path: place.join(name),
            memory: None,
        });
    }
    match seal_by_mount(&top, &place, directory, name) {
        Err(SealError::Step { source, .. }) if cannot_mount(&source) => seal_in_memory(executable),
        result => result,
    }
}

/// Whether this host or file system has no overlays.
fn cannot_mount(error: &io::Error) -> bool {
    let known = [
        libc::EINVAL,
        libc::ENODEV,
        libc::ENOSYS,
        libc::EPERM,
        libc::EOPNOTSUPP,
        libc::ELOOP,
    ];
    error
        .raw_os_error()
        .is_none_or(|errno| known.contains(&errno))
}

/// Whether something is mounted there by [`seal`].
fn is_overlay(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|found| found.f_type == OVERLAY_MAGIC)
}

/// Mounts, once, under a lock.
fn seal_by_mount(
    top: &Path,
    place: &Path,
    directory: &Path,
    name: &OsStr,
) -> Result<Sealed, SealError> {
    let empty = top.join(".empty");
    for made in [empty.as_path(), place] {
        fs_err::create_dir_all(made).map_err(failed("make", made))?;
    }
    let lock_path = top.join(".lock");
    let lock =
        Lock::acquire(&lock_path, lock::Mode::Exclusive).map_err(failed("lock", &lock_path))?;
    if !is_overlay(place) {
        let attributes = Attributes::MOUNT_ATTR_RDONLY
            | Attributes::MOUNT_ATTR_NODEV
            | Attributes::MOUNT_ATTR_NOSUID;
        let mounted = match overlay_of(directory, &empty)? {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                mount_empty(&empty).map_err(failed("mount a tmpfs on", &empty))?;
                overlay_of(directory, &empty)?
            }
            mounted => mounted,
        };
        let mounted = mounted.map_err(failed("mount an overlay of", directory))?;
        mount::set_attributes(mounted.as_fd(), attributes, 0, mount::Depth::One)
            .and_then(|()| mount::attach_at(mounted.as_fd(), place))
            .map_err(failed("mount on", place))?;
    }
    drop(lock);
    Ok(Sealed {
        path: place.join(name),
        memory: None,
    })
}

/// Makes an overlay of two directories, not mounted anywhere yet; the kernel's answer where it makes none.
fn overlay_of(directory: &Path, empty: &Path) -> Result<io::Result<OwnedFd>, SealError> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed("open", path))
    };
    let lowers = [open(directory)?, open(empty)?];
    Ok(overlay::mount(&lowers, None))
}

/// Mounts a file system of its own, which nothing can be written to, on an empty directory.
fn mount_empty(empty: &Path) -> io::Result<()> {
    let tmpfs = Filesystem::open("tmpfs")?;
    tmpfs.set("size", Some("4k"))?;
    let attributes = Attributes::MOUNT_ATTR_RDONLY
        | Attributes::MOUNT_ATTR_NODEV
        | Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NOEXEC;
    mount::attach_at(tmpfs.mount(attributes)?.as_fd(), empty)
}

/// Whether something is mounted on a path.
fn is_mount(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        flags,
        rustix::fs::StatxFlags::empty(),
    )?;
    Ok(found
        .stx_attributes
        .contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Copies the program into memory and forbids every change.
fn seal_in_memory(executable: &Path) -> Result<Sealed, SealError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copied = rustix::fs::memfd_create("stack", flags)
        .map_err(io::Error::from)
        .and_then(|memory| {
            let copy = memory.try_clone()?;
            let mut source = fs_err::File::open(executable)?;
            io::copy(
                &mut source,
                &mut fs_err::File::from_parts(copy.into(), "memory"),
            )?;
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(&memory, seals)?;
            Ok(memory)
        });
    let memory = copied.map_err(failed("copy into memory", executable))?;
    Ok(Sealed {
        path: format!("/proc/self/fd/{}", memory.as_raw_fd()).into(),
        memory: Some(memory),
    })
}

/// Whether the running program is one that cannot be written to.
///
/// What starts or joins containers must be: the engine executes `seal`'s path where this says no.
pub fn is_sealed() -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
    if mount::filesystem_magic(&own)? == OVERLAY_MAGIC {
        let mounted = rustix::fs::fstatvfs(&own)?;
        return Ok(mounted
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::RDONLY));
    }
    // Only files in memory know seals.
    Ok(rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Removes every sealed mount under `<run>/exe`; called with the last container. Programs that still run from one go on.
pub fn unseal(run: &Path) -> Result<(), SealError> {
    let top = run.join("exe");
    let entries = match fs_err::read_dir(&top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", &top)(error)),
    };
    let lock_path = top.join(".lock");
    let lock =
        Lock::acquire(&lock_path, lock::Mode::Exclusive).map_err(failed("lock", &lock_path))?;
    for entry in entries {
        let place = entry.map_err(failed("read", &top))?.path();
        if !place.is_dir() {
            continue;
        }
        while is_mount(&place).map_err(failed("look at", &place))? {
            rustix::mount::unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .map_err(io::Error::from)
                .map_err(failed("unmount", &place))?;
        }
        fs_err::remove_dir(&place).map_err(failed("remove", &place))?;
    }
    fs_err::remove_file(&lock_path).map_err(failed("remove", &lock_path))?;
    drop(lock);
    match fs_err::remove_dir(&top) {
        // Another command has begun to seal its program anew.
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
            Err(failed("remove", &top)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::testing::in_private_mounts;

    /// What writing to it fails with.
    fn write_error(path: &Path) -> Option<rustix::io::Errno> {
        let opened = rustix::fs::open(path, OFlags::WRONLY, Mode::empty());
        opened.and_then(|file| rustix::io::write(&file, b"x")).err()
    }

    #[test]
    fn the_program_is_mounted_once_and_cannot_be_written() {
        in_private_mounts(|| {
            let run = tempfile::tempdir().unwrap();
            let own = PathBuf::from("/bin/busybox");
            let first = seal(run.path(), &own).unwrap();
            let again = seal(run.path(), &own).unwrap();
            assert_eq!((first.path(), first.in_memory()), (again.path(), false));
            assert_eq!(
                fs_err::read(first.path()).unwrap(),
                fs_err::read(&own).unwrap()
            );
            assert_eq!(write_error(first.path()), Some(rustix::io::Errno::ROFS));
            unseal(run.path()).unwrap();
            assert_eq!(fs_err::read_dir(run.path()).unwrap().count(), 0);
            unseal(run.path()).unwrap();
        });
    }

    #[test]
    fn the_program_may_lie_above_the_run_directory() {
        in_private_mounts(|| {
            let top = tempfile::tempdir().unwrap();
            let (own, run) = (top.path().join("program"), top.path().join("root/run"));
            fs_err::copy("/bin/busybox", &own).unwrap();
            fs_err::create_dir_all(&run).unwrap();
            let sealed = seal(&run, &own).unwrap();
            assert!(!sealed.in_memory());
            assert_eq!(write_error(sealed.path()), Some(rustix::io::Errno::ROFS));
            assert_eq!(seal(&run, &own).unwrap().path(), sealed.path());
            unseal(&run).unwrap();
            assert_eq!(fs_err::read_dir(&run).unwrap().count(), 0);
        });
    }

    #[test]
    fn a_copy_in_memory_is_as_good() {
        let sealed = seal_in_memory(Path::new("/bin/busybox")).unwrap();
        assert!(sealed.in_memory());
        assert_eq!(write_error(sealed.path()), Some(rustix::io::Errno::PERM));
        assert!(!is_sealed().unwrap(), "the tests run from a plain file");
    }
}
