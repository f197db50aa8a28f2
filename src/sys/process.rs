//! Processes by descriptor: signals, ends. What `sys::pidfd` of the start path does not need.

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
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
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

/// Names the calling process: at most 15 bytes of `name` (`man 2 PR_SET_NAME`).
pub fn set_name(name: &str) -> io::Result<()> {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    let name = std::ffi::CString::new(bytes)?;
    Ok(rustix::thread::set_name(&name)?)
}

/// Keeps other users' processes from looking into the calling one (`man 2 PR_SET_DUMPABLE`).
pub fn set_not_dumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        rustix::process::DumpableBehavior::NotDumpable,
    )?)
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
