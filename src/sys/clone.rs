//! `clone3` and `fork`: a child that goes on from here (`man 2 clone`).
#![expect(unsafe_code, reason = "system calls that no crate wraps")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, CLONE_PARENT,
};

/// `linux/sched.h`; wider than the C library's type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the call goes on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller.
    Parent {
        /// The child's id in the caller's pid namespace.
        pid: i32,
        /// The child itself.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` (`linux/sched.h`), version 2.
#[repr(C)]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The knowledge that this process has one thread, so that no other holds a lock (the allocator's) which a raw clone would
/// wait for without end.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Looks: /proc/self/task has a link for each thread beyond `.` and `..`. `None` if there are several.
    pub fn check() -> io::Result<Option<Self>> {
        let stat = rustix::fs::stat(c"/proc/self/task")?;
        Ok((stat.st_nlink == 3).then_some(Self(())))
    }
}

/// Which side of [`fork`] goes on.
#[derive(Debug)]
pub enum Forked {
    /// The new process, which has one thread.
    Child(SingleThreaded),
    /// The caller, with the child's id.
    Parent(i32),
}

/// Makes a child with the namespaces of `flags` (`CLONE_NEW*`, `CLONE_PARENT`), in the cgroup v2 directory `cgroup`.
pub fn clone3(
    _proof: &SingleThreaded,
    flags: i32,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut arguments = Arguments {
        flags: u64::from(flags.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        // The kernel refuses a signal of its own for a sibling: it gets the caller's.
        exit_signal: if flags & CLONE_PARENT == 0 {
            libc::SIGCHLD.cast_unsigned().into()
        } else {
            0
        },
        ..Arguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `arguments` is a `clone_args` of the size given and lives through the call; `pidfd` is writable; without
    // `CLONE_VM` the child runs on a copy of this stack; the process has one thread, so no lock is held by another.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<Arguments>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) if pid > 0 => Ok(Cloned::Parent {
            pid,
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a plain child, also from a process with threads: the C library makes its allocator usable in the child.
///
/// The child must not return to code that expects the other threads.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: `fork` has no preconditions; what the child may do is said above, and allocation is made safe by the C library.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child(SingleThreaded(()))),
        pid if pid > 0 => Ok(Forked::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`fork`], with the child in the pid namespace of the process `outer`, which is the caller's own or lies within it.
pub fn fork_within(outer: BorrowedFd<'_>) -> io::Result<Forked> {
    // What this thread forks is in that namespace from here on, and what it forks later must not be.
    let own = super::pidfd::open(i32::try_from(std::process::id()).map_err(io::Error::other)?)?;
    setns(outer, CLONE_NEWPID)?;
    let forked = fork();
    if matches!(forked, Ok(Forked::Child(_))) {
        return forked;
    }
    let returned = setns(own.as_fd(), CLONE_NEWPID);
    match (forked, returned) {
        (Ok(Forked::Parent(pid)), Err(error)) => {
            super::process::kill(pid, libc::SIGKILL)?;
            super::process::reap(pid)?;
            Err(error)
        }
        (forked, returned) => returned.and(forked),
    }
}

/// Makes new namespaces for the calling thread, other than user, pid and time.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: `unshare` has no memory preconditions; without CLONE_FILES and CLONE_FS no descriptor changes its meaning.
    let result = unsafe { libc::unshare(flags) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Enters the namespaces of `flags` of the process or namespace file behind `fd` (`man 2 setns`).
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: `setns` has no memory preconditions and `fd` is open.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
