//! Paths inside a directory that somebody else controls: no symbolic link, `..` or exchange of names leads out of it.
//!
//! What exists is opened by one `openat2` (`RESOLVE_IN_ROOT`, no magic links). What may have to be made is walked component by
//! component, each opened without following; links are read as text and resolved from the root, `..` goes back along the
//! descriptors that the walk itself opened.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use crate::sys::beneath::in_root;
use crate::sys::mount::filesystem_magic;

/// As many links as the kernel follows (`man 7 path_resolution`).
const MAX_LINKS: usize = 40;

/// `PROC_SUPER_MAGIC` (`linux/magic.h`).
pub const PROC_MAGIC: i64 = 0x9fa0;

/// Links of procfs that are paths and nothing else.
const PLAIN_PROC_LINKS: [&str; 4] = ["self", "thread-self", "mounts", "net"];

/// What a path is to be when it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644, in directories made as needed.
    File,
}

/// Opens an existing path in `root`, with `flags` (`O_CLOEXEC` is added).
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(in_root(root, path, flags)?)
}

/// Opens `path` in `root` as a place to mount on (`O_PATH`), made as `kind` with its directories if missing.
///
/// Errors: `ELOOP` for too many links; what `mkdirat` and `openat` return.
pub fn open_or_create(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => walk(root, path, kind),
        result => result,
    }
}

/// Opens the entry `name` of `directory`, which must be a directory itself and no link; made if missing.
pub fn real_directory(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(directory, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// Walks and makes what is missing.
fn walk(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let mut rest: VecDeque<OsString> = components(path).collect();
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            drop(stack.pop());
            continue;
        }
        let here = stack.last().map_or(root, AsFd::as_fd);
        let wanted = if rest.is_empty() {
            kind
        } else {
            Kind::Directory
        };
        let next = open_entry(here, &name, wanted)?;
        if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
            stack.push(next);
            continue;
        }
        links += 1;
        // A magic link of procfs reads as a path but means an open file, perhaps one of ours.
        let magic = filesystem_magic(&next)? == PROC_MAGIC
            && !PLAIN_PROC_LINKS.iter().any(|plain| name == *plain);
        if magic || links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(&next, "", Vec::new())?.into_bytes();
        let target = OsString::from_vec(target);
        if target.as_bytes().first() == Some(&b'/') {
            stack.clear();
        }
        for component in components(Path::new(&target))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            rest.push_front(component);
        }
    }
    match stack.pop() {
        Some(found) => Ok(found),
        None => Ok(root.try_clone_to_owned()?),
    }
}

/// Opens one entry without following it, made as `wanted` if missing.
fn open_entry(directory: BorrowedFd<'_>, name: &OsStr, wanted: Kind) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        let made = match wanted {
            Kind::Directory => mkdirat(directory, name, Mode::from_raw_mode(0o755)),
            Kind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Returns the names and `..`s of a path.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// Makes `path` in a root with hostile links and returns where it came to be, relative to the directory above the root.
    fn check(path: &str, expected: Result<&str, Errno>) {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("root");
        fs_err::create_dir_all(root.join("dir")).unwrap();
        for (link, target) in [
            ("out", "../../.."),
            ("absolute", "/made/here"),
            ("relative", "dir/below"),
            ("loop", "loop"),
            ("up", "/../.."),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let fd = fs_err::File::open(&root).unwrap();
        let found = open_or_create(fd.as_fd(), Path::new(path), Kind::Directory);
        let shown = found.map(|fd| {
            let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            let real: PathBuf = fs_err::read_link(proc).unwrap();
            let base = fs_err::canonicalize(above.path()).unwrap();
            real.strip_prefix(base)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        });
        let shown = shown.map_err(|error| Errno::from_io_error(&error).unwrap());
        assert_eq!(shown, expected.map(str::to_owned), "{path}");
        let beside: Vec<_> = fs_err::read_dir(above.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(beside, ["root"], "{path} made something outside");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        check("/dir", Ok("root/dir"));
        check("/new/below", Ok("root/new/below"));
        check("out/x", Ok("root/x"));
        check("/absolute/x", Ok("root/made/here/x"));
        check("relative/x", Ok("root/dir/below/x"));
        check("up/up/x", Ok("root/x"));
        check("../../x/../y", Ok("root/y"));
        check("/", Ok("root"));
        check("loop/x", Err(Errno::LOOP));
    }

    #[test]
    fn a_link_is_no_real_directory() {
        let root = tempfile::tempdir().unwrap();
        symlink("/", root.path().join("dev")).unwrap();
        let fd = fs_err::File::open(root.path()).unwrap();
        let error = real_directory(fd.as_fd(), "dev").unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NOTDIR));
        real_directory(fd.as_fd(), "proc").unwrap();
    }
}
