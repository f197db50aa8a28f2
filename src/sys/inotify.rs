//! Being told of changes to files (`man 7 inotify`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// A descriptor that becomes readable when a watched file or directory changes.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What [`Inotify::watch_renames`] or [`Inotify::watch_file`] returned; -1 for an overflow.
    pub watch: i32,
    /// The entry of the directory; empty for a watched file.
    pub name: String,
    /// The kernel dropped events: anything may have changed.
    pub overflow: bool,
}

impl Inotify {
    /// Makes a descriptor without watches.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
        })
    }

    /// Watches for files that are renamed into, or leave, `directory`.
    pub fn watch_renames(&self, directory: &Path) -> io::Result<i32> {
        let flags = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.fd, directory, flags)?)
    }

    /// Watches the file at `path` (the file itself, whatever its name becomes) for growth and for the loss of a name. Links are
    /// followed: `/proc/self/fd/N` is how an open file is watched.
    pub fn watch_file(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        Ok(inotify::add_watch(&self.fd, path, flags)?)
    }

    /// Ends a watch; one that the kernel has ended already is no error.
    pub fn unwatch(&self, watch: i32) -> io::Result<()> {
        match inotify::remove_watch(&self.fd, watch) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the changes since the last call, without waiting.
    pub fn take(&mut self) -> io::Result<Vec<Change>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut changes = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(event) => changes.push(Change {
                    watch: event.wd(),
                    name: event
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                    overflow: event.events().contains(ReadFlags::QUEUE_OVERFLOW),
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(changes),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
