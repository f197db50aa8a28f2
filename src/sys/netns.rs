//! Network namespaces: made and entered in threads that end right after, so that no thread of the caller ever changes its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use crate::sys::thread;

/// Makes a network namespace (`man 7 network_namespaces`) and returns a descriptor that keeps it alive; `lo` is down in it.
///
/// Errors: not being privileged, or no memory for a thread or a namespace.
pub fn create() -> io::Result<OwnedFd> {
    thread::run("netns", || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        current()
    })?
}

/// Returns a descriptor of the network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    fs_err::File::open("/proc/thread-self/ns/net").map(|file| file.into_parts().0.into())
}

/// Runs `action` in a thread that has joined `netns`, and returns what it returns. Sockets it makes stay in `netns`, and
/// `/proc/sys/net` is that namespace's while it runs.
///
/// Errors: the thread cannot be made, the namespace cannot be joined, or `action` panicked.
pub fn run_in<T: Send>(netns: BorrowedFd<'_>, action: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::run("netns", move || {
        enter(netns)?;
        Ok(action())
    })?
}

/// Moves the calling thread into `netns` for good: for a process of one thread.
pub fn enter(netns: impl AsFd) -> io::Result<()> {
    Ok(setns(netns, CloneFlags::CLONE_NEWNET)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_has_nothing_but_lo_and_the_caller_stays_where_it_was() {
        let before = rustix::fs::fstat(current().unwrap()).unwrap().st_ino;
        let netns = create().unwrap();
        let made = rustix::fs::fstat(&netns).unwrap().st_ino;
        let (inside, links) = run_in(netns.as_fd(), || {
            let inside = rustix::fs::fstat(current().unwrap()).unwrap().st_ino;
            let links = fs_err::read_to_string("/proc/thread-self/net/dev").unwrap();
            (inside, (links.contains(" lo:"), links.contains(" eth0:")))
        })
        .unwrap();
        let after = rustix::fs::fstat(current().unwrap()).unwrap().st_ino;
        assert_eq!((inside, links, after), (made, (true, false), before));
        assert_ne!(made, before);
    }

    #[test]
    fn something_else_than_a_namespace_is_refused() {
        let file = fs_err::File::open("/dev/null").unwrap();
        let error = run_in(file.as_fd(), || ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
