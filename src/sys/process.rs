//! What a new process does to itself between `clone` and `execve`.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

/// Ends the process at once: no destructors, no buffers flushed.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ends the process when dropped: the child's way out whatever happens on it, a panic included.
#[derive(Debug)]
pub struct ExitOnDrop(pub i32);

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        exit_now(self.0);
    }
}

/// Turns a C result into a Rust one.
fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives every signal its default action and blocks none.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; numbers that cannot be changed are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Blocks no signal.
pub fn unblock_signals() {
    // SAFETY: an all-zero `sigset_t` is the empty set on Linux.
    let mut empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `empty` is writable.
    unsafe { libc::sigemptyset(&raw mut empty) };
    // SAFETY: `empty` is initialised and the old set is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Blocks every signal, to take them one by one with [`next_signal`].
pub fn block_signals() {
    let all = full_set();
    // SAFETY: `all` is initialised and the old set is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
}

/// Waits for a blocked signal and returns its number.
pub fn next_signal() -> io::Result<i32> {
    let all = full_set();
    loop {
        // SAFETY: `all` is initialised and no information is asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const all, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Returns the set of all signals.
fn full_set() -> libc::sigset_t {
    // SAFETY: an all-zero `sigset_t` is a valid value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is writable.
    unsafe { libc::sigfillset(&raw mut all) };
    all
}

/// Reaps one ended child, any; `None` when none has ended, `ECHILD` when there are none.
pub fn reap_any() -> io::Result<Option<(i32, crate::sys::pidfd::Exit)>> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match pid {
        0 => Ok(None),
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid if libc::WIFSIGNALED(status) => Ok(Some((
            pid,
            crate::sys::pidfd::Exit::Signal(libc::WTERMSIG(status)),
        ))),
        pid => Ok(Some((
            pid,
            crate::sys::pidfd::Exit::Code(libc::WEXITSTATUS(status)),
        ))),
    }
}

/// Waits for the end of the child `pid` and reaps it.
pub fn reap(pid: i32) -> io::Result<()> {
    loop {
        // SAFETY: no status is asked for.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends a signal to an unreaped child by its id.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: `kill` touches no memory.
    checked(unsafe { libc::kill(pid, signal) }.into())
}

/// Makes the descriptor the process's standard input (0), output (1) or error (2).
pub fn set_stdio(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // dup2 onto itself would leave close-on-exec as it is.
        // SAFETY: F_SETFD takes a number.
        return checked(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into());
    }
    // SAFETY: `fd` is open; 0, 1 and 2 are owned by nothing in this process.
    checked(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())
}

/// Returns a copy of the descriptor with a number of at least 3, closed on exec.
pub fn above_stdio(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Closes every descriptor from 3 up but `keep`, which becomes number 3, closed on exec.
///
/// Whoever owned the others must not use or drop them any more: only for a process that soon executes or ends.
pub fn close_all_but(keep: OwnedFd) -> io::Result<OwnedFd> {
    let kept = keep.into_raw_fd();
    if kept != 3 {
        // SAFETY: `kept` is open; what 3 was is closed by this, as all others are below.
        checked(unsafe { libc::dup3(kept, 3, libc::O_CLOEXEC) }.into())?;
    }
    // SAFETY: the caller gives up all other descriptors, as said above.
    checked(unsafe { libc::syscall(libc::SYS_close_range, 4, u32::MAX, 0) })?;
    // SAFETY: 3 is open and the only owner was consumed.
    Ok(unsafe { OwnedFd::from_raw_fd(3) })
}

/// Marks every descriptor from 3 up to be closed on exec.
pub fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: only a flag of each descriptor changes.
    checked(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// Keeps other processes from tracing this one or reading its memory, until it executes.
pub fn forbid_tracing() -> io::Result<()> {
    // SAFETY: the call touches no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into())
}

/// Gives up gaining privileges by `execve`.
pub fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: the call touches no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Names the calling thread, as `ps` shows it; 15 bytes.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Begins a new, empty session keyring without a name.
pub fn join_session_keyring() -> io::Result<()> {
    // SAFETY: no name is allowed, and nothing else is passed.
    checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    })
}

/// Replaces the supplementary groups.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and length are of one slice.
    checked(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }.into())
}

/// Sets the real, effective and saved group id.
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: the call touches no memory.
    checked(unsafe { libc::setresgid(gid, gid, gid) }.into())
}

/// Sets the real, effective and saved user id.
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: the call touches no memory.
    checked(unsafe { libc::setresuid(uid, uid, uid) }.into())
}

/// Limits a resource, by the kernel's number (`RLIMIT_*`).
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` lives through the call and the old value is not asked for.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

/// Brings the loopback interface of the calling thread's network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`.
    checked(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into(),
    )
}

/// Strings in the form that `execve` takes.
#[derive(Debug)]
pub struct Strings {
    strings: Vec<CString>,
}

impl Strings {
    /// Takes them over; `None` if one contains a NUL.
    pub fn new<'a, S: AsRef<OsStr> + ?Sized + 'a>(
        strings: impl IntoIterator<Item = &'a S>,
    ) -> Option<Self> {
        let strings = strings.into_iter();
        let strings = strings.map(|string| CString::new(string.as_ref().as_bytes()));
        Some(Self {
            strings: strings.collect::<Result<_, _>>().ok()?,
        })
    }

    /// Returns the terminated array of pointers into `self`.
    fn pointers(&self) -> Vec<*const libc::c_char> {
        let pointers = self.strings.iter().map(|string| string.as_ptr());
        pointers.chain([std::ptr::null()]).collect()
    }
}

/// Executes the first of `paths` that is there and may be executed; returns only when there is none.
///
/// Errors: as `execvp` (`man 3 exec`): the last `EACCES` if one was seen, `ENOENT` if none is there, else the first other.
pub fn execute(paths: &[CString], arguments: &Strings, environment: &Strings) -> io::Error {
    let (arguments, environment) = (arguments.pointers(), environment.pointers());
    let mut denied = None;
    for path in paths {
        // SAFETY: all strings are terminated, both arrays end in null, and all live through the call.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some(error),
            _ => return error,
        }
    }
    denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}
