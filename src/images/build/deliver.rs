//! Files put into a directory in which others may write meanwhile (`--output type=local`).
//!
//! Whoever owns the directory must not be able to lead elsewhere what root writes. So every directory is held open, each name is looked
//! up in the one that is held, and no link is ever followed: one that is there by the name of a file gives way to it, one by the name
//! of a directory is an error. A file is made by a name of its own, described while it is open, and renamed; what is no file is looked at
//! again by the descriptor that describes it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags, chmod, chownat,
    fchmod, fchown, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, renameat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::context::Entry;
use super::copy::{attributes, copy_into, times_of};
use crate::sys::beneath;
use crate::sys::random;
use crate::sys::xattr::DEFAULT_ACL;

/// Opens a directory by a name in one that is held.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory that files are put into, entry by entry, parents before what is in them.
#[derive(Debug)]
pub(super) struct Delivery {
    top: OwnedFd,
    /// Where it is, for messages.
    shown: PathBuf,
    /// From the top to where the last entry went.
    open: Vec<Level>,
    /// Files with several names that were put: (device, inode) of the source.
    linked: BTreeMap<(u64, u64), Put>,
}

/// A directory that is being filled.
#[derive(Debug)]
struct Level {
    fd: OwnedFd,
    /// Below the top.
    path: PathBuf,
    /// What it gets once nothing is put into it any more.
    times: Timestamps,
    default_acl: Option<Vec<u8>>,
}

/// A file that was put.
#[derive(Debug)]
struct Put {
    path: PathBuf,
    /// Device and inode.
    is: (u64, u64),
}

impl Delivery {
    /// Opens `directory`, a path of the user's own, and `below` in it, which is made if missing.
    pub(super) fn into(directory: &Path, below: &str) -> io::Result<Self> {
        fs_err::create_dir_all(directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty());
        let mut top = opened.map_err(|errno| failed("open", directory, errno))?;
        let shown = directory.join(below);
        if !below.is_empty() {
            top = make_directory(top.as_fd(), OsStr::new(below), &shown)?;
        }
        Ok(Self {
            top,
            shown,
            open: Vec::new(),
            linked: BTreeMap::new(),
        })
    }

    /// Puts one entry. Its parent is the last one that was put, or one above that.
    pub(super) fn put(&mut self, entry: &Entry) -> io::Result<()> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            return Ok(());
        };
        self.leave_to(parent)?;
        if entry.metadata.is_dir() {
            return self.enter(entry, name);
        }
        let shown = self.shown.join(&entry.path);
        let temporary = self.make(entry, &shown)?;
        let here = self.here();
        let renamed = renameat(here, &temporary, here, name);
        if renamed.is_err() {
            let _removed = unlinkat(here, &temporary, AtFlags::empty());
        }
        match renamed {
            Err(Errno::ISDIR) => Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!(
                    "`{}` is a directory, and a file is to take its place",
                    shown.display()
                ),
            )),
            renamed => renamed.map_err(|errno| failed("write", &shown, errno)),
        }
    }

    /// Describes the directories that are still open.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.leave_to(Path::new(""))
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open
            .last()
            .map_or(&self.top, |level| &level.fd)
            .as_fd()
    }

    /// Leaves directories up to `path`, each with the times that it is to have.
    fn leave_to(&mut self, path: &Path) -> io::Result<()> {
        while let Some(level) = self.open.pop_if(|level| level.path != path) {
            let shown = self.shown.join(&level.path);
            if let Some(list) = &level.default_acl {
                set_attribute(&level.fd, OsStr::new(DEFAULT_ACL), list, &shown)?;
            }
            futimens(&level.fd, &level.times)
                .map_err(|errno| failed("set the time of", &shown, errno))?;
        }
        if self.open.is_empty() && !path.as_os_str().is_empty() {
            let text = format!("`{}` comes before its directory", path.display());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    /// Makes a directory, or takes the one that is there.
    fn enter(&mut self, entry: &Entry, name: &OsStr) -> io::Result<()> {
        let shown = self.shown.join(&entry.path);
        let fd = make_directory(self.here(), name, &shown)?;
        let mut default_acl = None;
        for (name, value) in attributes(&entry.host) {
            if name == DEFAULT_ACL {
                default_acl = Some(value);
            } else {
                set_attribute(&fd, &name, &value, &shown)?;
            }
        }
        let (uid, gid, mode) = owner_and_mode(&entry.metadata);
        fchown(&fd, uid, gid)
            .and_then(|()| fchmod(&fd, mode))
            .map_err(|errno| failed("describe", &shown, errno))?;
        self.open.push(Level {
            fd,
            path: entry.path.clone(),
            times: times_of(&entry.metadata),
            default_acl,
        });
        Ok(())
    }

    /// Makes what is no directory, described, by a name of its own; returns that.
    fn make(&mut self, entry: &Entry, shown: &Path) -> io::Result<OsString> {
        let temporary = temporary()?;
        let made = if entry.metadata.is_file() {
            self.make_file(entry, &temporary, shown)
        } else {
            self.make_special(entry, &temporary, shown)
        };
        if made.is_err() {
            let _removed = unlinkat(self.here(), &temporary, AtFlags::empty());
        }
        made.map(|()| temporary)
    }

    fn make_file(&mut self, entry: &Entry, temporary: &OsStr, shown: &Path) -> io::Result<()> {
        let metadata = &entry.metadata;
        let source = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 && self.link(source, temporary) {
            return Ok(());
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.here(), temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("make", shown, errno))?;
        let mut file = fs_err::File::from_parts(fd.into(), shown);
        copy_into(&entry.host, &mut file, metadata)?;
        let (uid, gid, mode) = owner_and_mode(metadata);
        // After the owner, whose change takes a file's capabilities away; before the mode, which is the mask of a list.
        fchown(&file, uid, gid).map_err(|errno| failed("describe", shown, errno))?;
        for (name, value) in attributes(&entry.host) {
            set_attribute(&file, &name, &value, shown)?;
        }
        let described = fchmod(&file, mode).and_then(|()| futimens(&file, &times_of(metadata)));
        described.map_err(|errno| failed("describe", shown, errno))?;
        if metadata.nlink() > 1 {
            let found = file.metadata()?;
            self.linked.insert(
                source,
                Put {
                    path: entry.path.clone(),
                    is: (found.dev(), found.ino()),
                },
            );
        }
        Ok(())
    }

    /// Makes another name of a file that was put; `false` where it is no longer where it was put.
    fn link(&self, source: (u64, u64), temporary: &OsStr) -> bool {
        let Some(put) = self.linked.get(&source) else {
            return false;
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(first) = beneath::plainly(self.top.as_fd(), &put.path, flags) else {
            return false;
        };
        let is_it = fstat(&first).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == put.is);
        is_it
            && linkat(
                CWD,
                through(&first),
                self.here(),
                temporary,
                AtFlags::SYMLINK_FOLLOW,
            )
            .is_ok()
    }

    /// Makes a link, a pipe, a socket or a device.
    fn make_special(&self, entry: &Entry, temporary: &OsStr, shown: &Path) -> io::Result<()> {
        let (here, metadata) = (self.here(), &entry.metadata);
        let kind = metadata.file_type();
        let (special, device) = if kind.is_symlink() {
            (FileType::Symlink, 0)
        } else if kind.is_fifo() {
            (FileType::Fifo, 0)
        } else if kind.is_socket() {
            (FileType::Socket, 0)
        } else if kind.is_char_device() {
            (FileType::CharacterDevice, metadata.rdev())
        } else {
            (FileType::BlockDevice, metadata.rdev())
        };
        let made = if special == FileType::Symlink {
            symlinkat(fs_err::read_link(&entry.host)?, here, temporary)
        } else {
            mknodat(here, temporary, special, Mode::empty(), device)
        };
        made.map_err(|errno| failed("make", shown, errno))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(here, temporary, flags, Mode::empty())
            .map_err(|errno| failed("open", shown, errno))?;
        let is_it = |stat: &Stat| {
            FileType::from_raw_mode(stat.st_mode) == special
                && stat.st_nlink == 1
                && (device == 0 || stat.st_rdev == device)
        };
        if !fstat(&fd).is_ok_and(|stat| is_it(&stat)) {
            let text = format!("`{}` was exchanged while it was written", shown.display());
            return Err(io::Error::other(text));
        }
        let (uid, gid, mode) = owner_and_mode(metadata);
        let described = chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH)
            .and_then(|()| match special {
                FileType::Symlink => Ok(()),
                _ => chmod(through(&fd), mode),
            })
            .and_then(|()| utimensat(&fd, "", &times_of(metadata), AtFlags::EMPTY_PATH));
        described.map_err(|errno| failed("describe", shown, errno))
    }
}

/// Makes a directory by that name in one that is held, or opens the one that is there.
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("make", shown, errno)),
    }
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!(
                "`{}` is there and is no directory; a link is not followed",
                shown.display()
            ),
        )),
        Err(errno) => Err(failed("open", shown, errno)),
    }
}

/// Returns a name that nobody can have taken.
fn temporary() -> io::Result<OsString> {
    let number = u64::from_ne_bytes(random::bytes::<8>()?);
    Ok(format!(".stack.{number:016x}.tmp").into())
}

/// Returns a path to what is open, whatever that is.
fn through(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn owner_and_mode(metadata: &Metadata) -> (Option<Uid>, Option<Gid>, Mode) {
    (
        Some(Uid::from_raw(metadata.uid())),
        Some(Gid::from_raw(metadata.gid())),
        Mode::from_raw_mode(metadata.mode() & 0o7777),
    )
}

/// Sets an attribute, where the file system takes any.
fn set_attribute(
    fd: impl std::os::fd::AsFd,
    name: &OsStr,
    value: &[u8],
    shown: &Path,
) -> io::Result<()> {
    match fsetxattr(fd, name, value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => Err(failed("set an extended attribute of", shown, errno)),
    }
}

/// Puts into an error what was attempted on what.
fn failed(attempted: &str, path: &Path, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(
        error.kind(),
        format!("{attempted} `{}`: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::context::Selected;
    use super::super::pattern::IgnoreRules;
    use super::super::tree::Tree;
    use super::*;

    /// Returns the entries of an image with `d/{f,link,pipe}`, where `f` has a second name `g` at the top.
    fn entries(image: &Path) -> Vec<Entry> {
        fs_err::create_dir(image.join("d")).unwrap();
        fs_err::write(image.join("d/f"), "new").unwrap();
        fs_err::set_permissions(image.join("d/f"), PermissionsExt::from_mode(0o4755)).unwrap();
        fs_err::hard_link(image.join("d/f"), image.join("g")).unwrap();
        symlink("/etc/passwd", image.join("d/link")).unwrap();
        let mode = Mode::empty();
        mknodat(CWD, image.join("d/pipe"), FileType::Fifo, mode, 0).unwrap();
        let tree = Tree::layers(vec![image.to_owned()]);
        let origin = super::super::context::Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: "the image",
            stop: &super::super::super::stop::Stop::default(),
        };
        let mut selected = origin.select(".", &IgnoreRules::default()).unwrap();
        let Selected { entries, .. } = selected.remove(0);
        entries
    }

    fn text(path: &Path) -> String {
        fs_err::read_to_string(path).unwrap()
    }

    #[test]
    fn no_link_leads_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        for directory in ["image", "out", "elsewhere"] {
            fs_err::create_dir(at(directory)).unwrap();
        }
        fs_err::write(at("elsewhere/g"), "theirs").unwrap();
        let entries = entries(&at("image"));
        // By the name of a file.
        symlink(at("elsewhere/g"), at("out/g")).unwrap();
        let mut delivery = Delivery::into(&at("out"), "").unwrap();
        for entry in &entries {
            delivery.put(entry).unwrap();
            // Exchanged as soon as it is there.
            if entry.path == Path::new("d") {
                fs_err::rename(at("out/d"), at("moved")).unwrap();
                symlink(at("elsewhere"), at("out/d")).unwrap();
            }
        }
        delivery.finish().unwrap();
        let names = |path: &str| {
            let entries = fs_err::read_dir(at(path)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("elsewhere"), ["g"]);
        assert_eq!(text(&at("elsewhere/g")), "theirs");
        assert_eq!(names("moved"), ["f", "link", "pipe"]);
        assert_eq!(names("out"), ["d", "g"]);
        assert!(fs_err::symlink_metadata(at("out/g")).unwrap().is_file());
        assert_eq!(text(&at("out/g")), "new");
        // By the name of a directory.
        let mut delivery = Delivery::into(&at("out"), "").unwrap();
        let put = entries.iter().try_for_each(|entry| delivery.put(entry));
        assert_eq!(
            put.unwrap_err().to_string(),
            format!(
                "`{}` is there and is no directory; a link is not followed",
                at("out/d").display()
            )
        );
        Delivery::into(&at("out"), "d").unwrap_err();
        assert_eq!(names("elsewhere"), ["g"]);
    }

    #[test]
    fn files_are_as_the_image_has_them() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs_err::create_dir(at("image")).unwrap();
        let entries = entries(&at("image"));
        for _again in 0..2 {
            let mut delivery = Delivery::into(&at("out"), "linux_amd64").unwrap();
            for entry in &entries {
                delivery.put(entry).unwrap();
            }
            delivery.finish().unwrap();
        }
        let facts = |path: &str| {
            let stat = fs_err::symlink_metadata(at(path)).unwrap();
            (stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec())
        };
        for path in ["d", "d/f", "d/link", "d/pipe", "g"] {
            let found = facts(&format!("out/linux_amd64/{path}"));
            assert_eq!(found, facts(&format!("image/{path}")), "{path}");
        }
        let inode = |path: &str| fs_err::metadata(at(path)).unwrap().ino();
        assert_eq!(inode("out/linux_amd64/g"), inode("out/linux_amd64/d/f"));
        assert_eq!(text(&at("out/linux_amd64/g")), "new");
        let left = fs_err::read_dir(at("out/linux_amd64")).unwrap().count();
        assert_eq!(left, 2);
        // What is in the way of a file is not taken away with all that is in it.
        fs_err::remove_file(at("out/linux_amd64/g")).unwrap();
        fs_err::create_dir(at("out/linux_amd64/g")).unwrap();
        let mut delivery = Delivery::into(&at("out"), "linux_amd64").unwrap();
        let put = entries.iter().try_for_each(|entry| delivery.put(entry));
        let shown = at("out/linux_amd64/g");
        assert_eq!(
            put.unwrap_err().to_string(),
            format!(
                "`{}` is a directory, and a file is to take its place",
                shown.display()
            )
        );
        assert_eq!(fs_err::read_dir(at("out/linux_amd64")).unwrap().count(), 2);
    }
}
