//! How processes ended, also those that are no children.

#![expect(
    unsafe_code,
    reason = "signals by number, and the ioctl for the end of a process that is not a child"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::process::{WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit status, or 128 plus the number of the signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Ended {
    /// Reads a wait status as `waitpid` gives it (`man 2 wait`).
    fn of_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self {
                code: (status >> 8) & 0xff,
                signal: None,
            },
            signal => Self {
                code: 128 + signal,
                signal: Some(signal),
            },
        }
    }
}

/// Sends a signal by number to the process.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal(2) takes a live descriptor (borrowed), any number, a null siginfo and flags 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reaps a child that has ended; `None` while it runs.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the end of a child and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait_with(pidfd, WaitIdOptions::EXITED)
}

/// One `waitid`.
fn wait_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<Ended>> {
    let status = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)
    })?;
    Ok(status.map(
        |status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended { code, signal: None },
            (None, signal) => Ended {
                code: 128 + signal.unwrap_or(0),
                signal,
            },
        },
    ))
}

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

/// Returns how a process that need not be a child ended; `None` while it runs, and on kernels before 6.15.
pub fn ended(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the descriptor is live, and the kernel writes at most the 64 bytes that the number of the ioctl names.
    let result = unsafe { pidfd_get_info(pidfd.as_raw_fd(), &raw mut info) };
    (result.is_ok() && info.mask & INFO_EXIT != 0).then(|| Ended::of_status(info.exit_code))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sys::{poll::Poll, procfs};

    #[test]
    fn the_end_of_a_child_and_of_a_stranger_is_seen() {
        let cases = [
            (
                "exit 42",
                Ended {
                    code: 42,
                    signal: None,
                },
            ),
            (
                "kill -TERM $$",
                Ended {
                    code: 143,
                    signal: Some(15),
                },
            ),
        ];
        for (script, expected) in cases {
            #[expect(clippy::disallowed_methods, reason = "a process to look at")]
            let mut command = std::process::Command::new("/bin/sh");
            let mut child = command
                .arg("-c")
                .arg(format!("read line; {script}"))
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let started = procfs::start_time(pid).unwrap().unwrap();
            let pidfd: OwnedFd = procfs::open_process(pid, started).unwrap().unwrap();
            assert_eq!(
                (reap(pidfd.as_fd()).unwrap(), ended(pidfd.as_fd())),
                (None, None)
            );
            drop(child.stdin.take());
            let poll = Poll::new().unwrap();
            poll.add(&pidfd, 1).unwrap();
            poll.wait(&mut Vec::new()).unwrap();
            assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(expected));
            assert_eq!(ended(pidfd.as_fd()), Some(expected));
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
