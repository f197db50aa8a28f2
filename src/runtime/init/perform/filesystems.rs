//! Steps that put file systems and files in place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mknodat, openat, openat2};
use rustix::io::Errno;

use crate::runtime::init::perform::{Child, Fault, Opened, bad_descriptor};
use crate::runtime::init::steps::{Content, DeviceNode, Place};
use crate::sys::mount::{self, Attributes, Depth, Filesystem};
use crate::sys::paths::{self, Kind, PROC_MAGIC};

/// A directory of the host's that is covered, in the container's mount namespace alone, until the root is changed; nothing
/// is looked up in it meanwhile.
const OLD_ROOT_PLACE: &str = "/sys";

impl Child<'_> {
    /// Makes a file system and puts it in place.
    pub(super) fn mount(
        &mut self,
        kind: &str,
        options: &[(String, Option<String>)],
        attributes: Attributes,
        (target, place): (&str, Place),
    ) -> Result<(), Fault> {
        let filesystem = Filesystem::open(kind)?;
        for (key, value) in options {
            filesystem.set(key, value.as_deref())?;
        }
        let mounted = filesystem.mount(attributes)?;
        let onto = self.target(target, place, Kind::Directory)?;
        if place == Place::InRoot {
            refuse_procfs(&onto)?;
        }
        mount::attach(mounted.as_fd(), onto.as_fd())?;
        self.keep(place, mounted, kind);
        Ok(())
    }

    /// Opens or makes a target.
    fn target(&self, target: &str, place: Place, kind: Kind) -> Result<OwnedFd, Fault> {
        match place {
            Place::RealDirectory(name) => Ok(paths::real_directory(self.root()?, name)?),
            Place::InRoot => Ok(paths::open_or_create(
                self.root()?,
                Path::new(target),
                kind,
            )?),
        }
    }

    /// Keeps a mount that later steps work in.
    fn keep(&mut self, place: Place, mounted: OwnedFd, kind: &str) {
        match place {
            Place::RealDirectory("proc") => self.opened.proc = Some(mounted),
            Place::RealDirectory("sys") => self.opened.sys = Some(mounted),
            Place::RealDirectory("dev") => self.opened.dev = Some(mounted),
            Place::RealDirectory(_) | Place::InRoot => {
                if kind == "devpts" {
                    self.opened.terminals = Some(mounted);
                }
            }
        }
    }

    /// Makes a device, with the directories of its name.
    pub(super) fn make_node(&self, node: &DeviceNode) -> Result<(), Fault> {
        let dev = dev(&self.opened)?;
        if let Some((parent, _)) = node.name.rsplit_once('/') {
            paths::open_or_create(dev, Path::new(parent), Kind::Directory)?;
        }
        let kind = FileType::from_raw_mode(node.mode);
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        Ok(mknodat(dev, node.name.as_str(), kind, mode, node.device)?)
    }

    /// Opens our /dev/null and checks that it is what it says (CVE-2025-31133).
    pub(super) fn keep_null(&mut self) -> Result<(), Fault> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = openat(dev(&self.opened)?, "null", flags, Mode::empty())?;
        let stat = fstat(&null)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Fault::Refused("it is not the null device".to_owned()));
        }
        self.opened.null = Some(null);
        Ok(())
    }

    /// Puts a tree of the host in place.
    pub(super) fn bind(
        &mut self,
        tree: usize,
        target: &str,
        (propagation, over_proc): (libc::c_ulong, bool),
        place: Place,
    ) -> Result<(), Fault> {
        let tree = self.trees.get(tree).ok_or_else(bad_descriptor)?;
        let kind = match FileType::from_raw_mode(fstat(tree)?.st_mode) {
            FileType::Directory => Kind::Directory,
            _ => Kind::File,
        };
        let onto = self.target(target, place, kind)?;
        if !over_proc && mount::filesystem_magic(tree)? != PROC_MAGIC {
            refuse_procfs(&onto)?;
        }
        mount::attach(tree.as_fd(), onto.as_fd())?;
        let depth = if propagation & libc::MS_REC == 0 {
            Depth::One
        } else {
            Depth::Recursive
        };
        let change = propagation & !libc::MS_REC;
        mount::set_attributes(tree.as_fd(), Attributes::empty(), change, depth)?;
        if place != Place::InRoot {
            let kept = rustix::io::fcntl_dupfd_cloexec(tree, 3)?;
            self.keep(place, kept, "");
        }
        Ok(())
    }

    /// Writes a file into a tmpfs that the container does not see, and binds it read-only.
    pub(super) fn inject(
        &mut self,
        target: &str,
        content: &Content,
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<(), Fault> {
        let (files, number) = if let Some((files, number)) = self.opened.files.take() {
            (files, number + 1)
        } else {
            let tmpfs = Filesystem::open("tmpfs")?;
            tmpfs.set("mode", Some("700"))?;
            let files = tmpfs.mount(inert())?;
            // Before 6.15 only what is mounted somewhere can be bound; the old root goes when the new one takes its place.
            mount::attach_at(files.as_fd(), Path::new(OLD_ROOT_PLACE))?;
            (files, 0)
        };
        let name = number.to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&files, &name, flags, Mode::RUSR)?;
        let mut rest = content.0.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
        rustix::fs::fchown(
            &file,
            Some(rustix::fs::Uid::from_raw(uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
        )?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        let tree = mount::clone_tree(files.as_fd(), Path::new(&name), Depth::One)?;
        mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, 0, Depth::One)?;
        let onto = paths::open_or_create(self.root()?, Path::new(target), Kind::File)?;
        refuse_procfs(&onto)?;
        mount::attach(tree.as_fd(), onto.as_fd())?;
        self.opened.files = Some((files, number));
        Ok(())
    }

    /// Writes a kernel parameter through our own procfs.
    pub(super) fn set_sysctl(&self, path: &str, value: &str) -> Result<(), Fault> {
        let proc = self.opened.proc.as_ref().ok_or_else(bad_descriptor)?;
        let file = openat2(
            proc,
            format!("sys/{path}"),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
        )?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }

    /// Returns the kept mount that a path of the kernel's file systems is in, and the rest of the path.
    fn kernel_mount<'p>(&self, path: &'p str) -> Result<(BorrowedFd<'_>, &'p str), Fault> {
        let (mount, rest) = match path.strip_prefix("/proc/") {
            Some(rest) => (&self.opened.proc, rest),
            None => (&self.opened.sys, path.trim_start_matches("/sys/")),
        };
        Ok((mount.as_ref().ok_or_else(bad_descriptor)?.as_fd(), rest))
    }

    /// Hides a file behind our null device, a directory behind an empty one.
    pub(super) fn mask(&mut self, path: &str) -> Result<(), Fault> {
        let (mount, rest) = self.kernel_mount(path)?;
        let Some(target) = kernel_path(mount, rest)? else {
            return Ok(());
        };
        let cover = if FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory {
            if self.opened.empty.is_none() {
                let tmpfs = Filesystem::open("tmpfs")?;
                tmpfs.set("mode", Some("555"))?;
                let attributes = inert() | Attributes::MOUNT_ATTR_RDONLY;
                // The first one is mounted itself: before 6.15 only what is mounted somewhere can be bound elsewhere.
                let empty = tmpfs.mount(attributes)?;
                mount::attach(empty.as_fd(), target.as_fd())?;
                self.opened.empty = Some(empty);
                return Ok(());
            }
            &self.opened.empty
        } else {
            &self.opened.null
        };
        let cover = cover.as_ref().ok_or_else(bad_descriptor)?;
        let cover = mount::clone_tree(cover.as_fd(), Path::new(""), Depth::One)?;
        Ok(mount::attach(cover.as_fd(), target.as_fd())?)
    }

    /// Binds a path of the kernel's file systems over itself, read-only.
    pub(super) fn make_read_only(&self, path: &str) -> Result<(), Fault> {
        let (mount, rest) = self.kernel_mount(path)?;
        let Some(target) = kernel_path(mount, rest)? else {
            return Ok(());
        };
        let tree = mount::clone_tree(target.as_fd(), Path::new(""), Depth::Recursive)?;
        let depth = Depth::Recursive;
        mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, 0, depth)?;
        Ok(mount::attach(tree.as_fd(), target.as_fd())?)
    }
}

/// Our /dev.
pub(super) fn dev(opened: &Opened) -> Result<BorrowedFd<'_>, Fault> {
    Ok(opened.dev.as_ref().ok_or_else(bad_descriptor)?.as_fd())
}

/// `nosuid,nodev,noexec`.
fn inert() -> Attributes {
    Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC
}

/// Opens a path of procfs or sysfs, which has no links on the way; `None` if it is not there.
pub(super) fn kernel_path(mount: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Fault> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(mount, path, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps mounts off procfs (CVE-2019-16884, CVE-2023-28642).
fn refuse_procfs(target: &OwnedFd) -> Result<(), Fault> {
    if mount::filesystem_magic(target)? == PROC_MAGIC {
        return Err(Fault::Refused("the target is inside /proc".to_owned()));
    }
    Ok(())
}
