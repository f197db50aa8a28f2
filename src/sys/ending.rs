//! How processes ended that are no children of ours.

#![expect(unsafe_code, reason = "an ioctl that rustix and nix lack")]

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::pidfd::Exit;
use crate::sys::procfs;

/// `struct pidfd_info` of version 0 (linux/pidfd.h, 6.13).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`, since 6.15.
const INFO_EXIT: u64 = 1 << 3;

nix::ioctl_readwrite!(pidfd_get_info, 0xff, 11, PidfdInfo);

/// Returns how a process that need not be a child ended, once its pidfd is readable: `pid`, which started at `started`.
///
/// Until its parent reaps it, field 52 of `/proc/<pid>/stat` tells (`man 5 proc_pid_stat`; root only); after that the kernel
/// does from 6.15 on. `None` where neither knows.
pub fn ended(pidfd: BorrowedFd<'_>, pid: i32, started: u64) -> Option<Exit> {
    exit_info(pidfd)
        .or_else(|| unreaped(pid, started))
        // Reaped between the two.
        .or_else(|| exit_info(pidfd))
}

/// Returns how the process `pid`, which started at `started`, ended, if it has and nobody has reaped it yet (root only).
pub fn unreaped(pid: i32, started: u64) -> Option<Exit> {
    procfs::zombie_status(pid, started)
        .ok()
        .flatten()
        .map(of_status)
}

/// Asks the kernel about a process that has been reaped.
fn exit_info(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the descriptor is live, and the kernel writes at most the 64 bytes that the number of the ioctl names.
    let result = unsafe { pidfd_get_info(pidfd.as_raw_fd(), &raw mut info) };
    (result.is_ok() && info.mask & INFO_EXIT != 0).then(|| of_status(info.exit_code))
}

/// Reads a wait status (`man 2 wait`).
fn of_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;
    use crate::sys::pidfd;
    use crate::sys::poll::Poll;

    /// Whether this is Linux 6.15 or later; older ones are in the virtual machine of `make vm`.
    fn kernel_tells() -> bool {
        let release = fs_err::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|n| n.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(15))
    }

    #[test]
    fn the_end_of_a_stranger_is_seen_before_and_after_it_is_reaped() {
        let cases = [
            ("exit 42", Exit::Code(42)),
            ("kill -TERM $$", Exit::Signal(15)),
        ];
        for (script, expected) in cases {
            #[expect(clippy::disallowed_methods, reason = "a process to look at")]
            let mut command = std::process::Command::new("/bin/sh");
            #[expect(clippy::zombie_processes, reason = "reaped below, through its pidfd")]
            let mut child = command
                .arg("-c")
                .arg(format!("read line; {script}"))
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let started = procfs::start_time(pid).unwrap().unwrap();
            let process: OwnedFd = procfs::open_process(pid, started).unwrap().unwrap();
            let stranger = || ended(process.as_fd(), pid, started);
            assert_eq!(stranger(), None);
            drop(child.stdin.take());
            let poll = Poll::new().unwrap();
            poll.add(&process, 1).unwrap();
            poll.wait(&mut Vec::new()).unwrap();
            assert_eq!(stranger(), Some(expected));
            assert_eq!(pidfd::try_wait(process.as_fd()).unwrap(), Some(expected));
            assert_eq!(stranger(), kernel_tells().then_some(expected));
        }
    }
}
/// Ends the process at once: no destructors, no buffers flushed.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ends the process when dropped: the child's way out whatever happens on it, a panic included.
#[derive(Debug)]
pub struct ExitOnDrop(pub i32);
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
