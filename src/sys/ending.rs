//! How processes ended, also those that are no children.

#![expect(
    unsafe_code,
    reason = "signals by number, and the ioctl for the end of a process that is not a child"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::process::{WaitId, WaitIdOptions};

use crate::sys::procfs;

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

/// Returns how a process that need not be a child ended, once its pidfd is readable: `pid`, which started at `started`.
///
/// Until its parent reaps it, field 52 of `/proc/<pid>/stat` tells (`man 5 proc_pid_stat`; root only); after that the kernel
/// does from 6.15 on. `None` where neither knows.
pub fn ended(pidfd: BorrowedFd<'_>, pid: i32, started: u64) -> Option<Ended> {
    exit_info(pidfd)
        .or_else(|| {
            let status = procfs::zombie_status(pid, started).ok().flatten();
            status.map(Ended::of_status)
        })
        // Reaped between the two.
        .or_else(|| exit_info(pidfd))
}

/// Asks the kernel about a process that has been reaped.
fn exit_info(pidfd: BorrowedFd<'_>) -> Option<Ended> {
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
    use crate::sys::poll::Poll;

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
            // A zombie, then nothing at all.
            assert_eq!(stranger(), Some(expected));
            assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(expected));
            assert_eq!(stranger(), Some(expected));
        }
    }
}
