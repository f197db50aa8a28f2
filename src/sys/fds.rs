//! Descriptors of a process as a whole.

use std::io;
use std::os::fd::RawFd;

/// Closes every descriptor above 2 that is not in `keep`: for a freshly forked process that never returns to the code that
/// owns the others.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

/// `close_range(2)`, since Linux 5.9.
#[expect(unsafe_code, reason = "neither rustix nor nix wraps close_range")]
fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range(2) takes no pointers. Owners of the closed descriptors never run again, as the caller of
    // `close_all_but` promises.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
