//! Mounts by descriptor: file systems and trees are made detached and put in place by `move_mount`, so that no path which
//! someone else may change is ever given to the kernel (`man 2 fsopen`, `open_tree`, `move_mount`, `mount_setattr`).
#![expect(unsafe_code, reason = "mount_setattr is wrapped by no crate")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

use crate::sys::{clone, thread};

pub use rustix::mount::MountAttrFlags as Attributes;

/// A file system that is being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
}

impl Filesystem {
    /// Begins one of that type.
    pub fn open(kind: &str) -> io::Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        Ok(Self { context })
    }

    /// Sets an option with a value, or a flag without.
    pub fn set(&self, key: &str, value: Option<&str>) -> io::Result<()> {
        let result = match value {
            Some(value) => fsconfig_set_string(&self.context, key, value),
            None => fsconfig_set_flag(&self.context, key),
        };
        result.map_err(|errno| self.explained(errno))
    }

    /// Sets an option to an open file; `EINVAL` where the kernel knows it only as text.
    pub fn set_fd(&self, key: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(fsconfig_set_fd(&self.context, key, fd)?)
    }

    /// Makes the file system and returns a detached mount of it.
    pub fn mount(self, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        fsconfig_create(&self.context).map_err(|errno| self.explained(errno))?;
        Ok(fsmount(
            &self.context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    }

    /// Adds what the kernel says about the failure: one message a read, `e …` for an error.
    fn explained(&self, errno: rustix::io::Errno) -> io::Error {
        let mut buffer = [0_u8; 256];
        let mut words = Vec::new();
        while let Ok(read) = rustix::io::read(&self.context, &mut buffer) {
            let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or(&[])).into_owned();
            words.push(text.trim_start_matches("e ").trim_end().to_owned());
        }
        let plain = io::Error::from(errno);
        if words.is_empty() {
            return plain;
        }
        io::Error::new(plain.kind(), format!("{plain} ({})", words.join("; ")))
    }
}

/// Mounts a file system by the old call and returns the mount, detached. Its options are one string of up to a page, where
/// [`Filesystem::set`] takes 255 bytes; `options` is given short paths of `directories`, in their order.
///
/// The root of a detached mount, which has no path, is mounted beside it: the old call takes only what is mounted.
///
/// Errors: a directory that has another path than when it was opened.
pub fn mount_at_once(
    kind: &str,
    directories: &[BorrowedFd<'_>],
    options: impl FnOnce(&[String]) -> String + Send,
) -> io::Result<OwnedFd> {
    /// Any directory that every host has.
    const PLACE: &str = "/proc";
    /// Another one, where detached mounts are put.
    const BESIDE: &str = "/sys";
    thread::run("mount", || {
        let paths = directories.iter().copied().map(path_of);
        let paths = paths.collect::<io::Result<Vec<_>>>()?;
        // What is mounted here is seen nowhere else, and gone with the thread but for the copy.
        clone::unshare(clone::CLONE_NEWNS)?;
        make_all_slaves()?;
        // The same directories, as mounted in this namespace: first those with a path, which what is put beside may hide.
        let both = directories.iter().copied().zip(&paths);
        let found = both.map(|(old, path)| open_again(old, path));
        let found = found.collect::<io::Result<Vec<_>>>()?;
        if found.iter().any(Option::is_none) {
            let beside = Filesystem::open("tmpfs")?.mount(MountAttrFlags::empty())?;
            attach_at(beside.as_fd(), Path::new(BESIDE))?;
        }
        let numbered = directories.iter().zip(found).enumerate();
        let opened = numbered.map(|(number, (old, found))| match found {
            Some(found) => Ok(found),
            None => put_at(*old, &Path::new(BESIDE).join(number.to_string())),
        });
        let opened = opened.collect::<io::Result<Vec<_>>>()?;
        let names: Vec<String> = opened.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        rustix::process::chdir("/proc/self/fd")?;
        let options = CString::new(options(&names))?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(kind, PLACE, kind, flags, Some(options.as_c_str()))?;
        clone_tree(rustix::fs::CWD, Path::new(PLACE), Depth::One)
    })?
}

/// Returns the path of an open directory.
fn path_of(directory: BorrowedFd<'_>) -> io::Result<PathBuf> {
    fs_err::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Opens the path that `old` has; `None` where it has none, being the root of a detached mount.
fn open_again(old: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    let opened = open_directory(path)?;
    let (old, new) = (rustix::fs::fstat(old)?, rustix::fs::fstat(&opened)?);
    if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
        return Ok(Some(opened));
    }
    if path == Path::new("/") {
        return Ok(None);
    }
    let error = format!("`{}` is another directory now", path.display());
    Err(io::Error::other(error))
}

/// Mounts a detached tree on a new directory, and opens that.
fn put_at(tree: BorrowedFd<'_>, place: &Path) -> io::Result<OwnedFd> {
    fs_err::create_dir(place)?;
    attach_at(tree, place)?;
    open_directory(place)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Whether a call concerns one mount or also those beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One mount.
    One,
    /// It and all beneath.
    Recursive,
}

/// Returns a detached copy of the mount at `path`, resolved from `directory`; the copy's root is `path`.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// Puts a detached mount onto the open directory or file `target`.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_mount(
        tree,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )?)
}

/// Puts a detached mount onto a path, for places that are ours alone.
pub fn attach_at(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    Ok(move_mount(
        tree,
        "",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// `struct mount_attr` (`linux/mount.h`).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes attributes and, where not 0, the propagation (`MS_PRIVATE`, …) of the mount whose root is `tree`.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    propagation: libc::c_ulong,
    depth: Depth,
) -> io::Result<()> {
    let change = MountAttr {
        attr_set: attributes.bits().into(),
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    mount_setattr(tree, &change, depth)
}

/// Shows the owners of a detached tree through the id maps of the user namespace `userns` (Linux 5.12; overlay layers 5.19).
pub fn set_id_map(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let change = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd().cast_unsigned().into(),
    };
    mount_setattr(tree, &change, Depth::One)
}

/// The system call, by descriptor.
fn mount_setattr(tree: BorrowedFd<'_>, change: &MountAttr, depth: Depth) -> io::Result<()> {
    let empty: &CStr = c"";
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `tree` is open, `empty` is terminated, `change` is a `mount_attr` of the size given; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            flags,
            &raw const *change,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes every mount of this namespace a slave: mounts of the host go on arriving, none goes back.
pub fn make_all_slaves() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    Ok(mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?)
}

/// Makes the open directory the root of this mount namespace and lets go of the old one (`man 2 pivot_root`, `(".", ".")`).
pub fn pivot_into(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root is now mounted over the new one, and "." names the topmost.
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Returns the magic number of the file system of an open file (`man 2 statfs`).
pub fn filesystem_magic(fd: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type)
}
