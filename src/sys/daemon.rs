//! Becoming a process that outlives its caller.
#![expect(unsafe_code, reason = "close_range takes numbers, not owners")]

use std::io;
use std::os::fd::OwnedFd;

/// What the caller has handed over.
#[derive(Debug)]
pub struct Handed {
    /// Descriptor 0.
    pub input: OwnedFd,
    /// Descriptor 1.
    pub output: OwnedFd,
}

/// Leaves the caller's session and directory and takes the descriptors 0 and 1, which become `/dev/null`.
///
/// Closes every descriptor from 3 on: a program that calls this has opened none of its own yet.
pub fn detach() -> io::Result<Handed> {
    // SAFETY: close_range(2) takes numbers; no owner of one of them exists, as this function demands of its caller.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed < 0 {
        return Err(io::Error::last_os_error());
    }
    let handed = Handed {
        input: rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
        output: rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
    };
    let null = fs_err::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    match rustix::process::setsid() {
        // EPERM: it leads one already.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(handed)
}
