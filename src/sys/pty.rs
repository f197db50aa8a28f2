//! Pseudo-terminals of a given devpts instance, without a path that others could redirect (`man 7 pty`, `ioctl_tty`).
#![expect(unsafe_code, reason = "ioctl numbers that no crate wraps")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::Winsize;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that reads what the process writes.
    pub master: OwnedFd,
    /// The process's end.
    pub slave: OwnedFd,
}

/// Opens a new pair from the devpts mounted at the open directory `devpts`.
///
/// Errors: `ENOTTY` if `ptmx` there is not the multiplexer (5:2).
pub fn open_in(devpts: BorrowedFd<'_>) -> io::Result<Pty> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = openat(devpts, "ptmx", flags, Mode::empty())?;
    let stat = fstat(&master)?;
    let multiplexer = rustix::fs::makedev(5, 2);
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || stat.st_rdev != multiplexer
    {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Pty { master, slave })
}

/// Makes the terminal the controlling one of the calling session leader.
pub fn take_control(slave: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}

/// Sets the size in character cells; the foreground process group gets SIGWINCH.
pub fn set_size(master: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// Makes the calling process's group the foreground one of its controlling terminal, without being stopped for it.
pub fn take_foreground(slave: BorrowedFd<'_>) -> io::Result<()> {
    // A background group that calls tcsetpgrp gets SIGTTOU unless it is blocked or ignored.
    // SAFETY: SIG_IGN is a valid disposition and no handler of ours is replaced in a new process.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    // SAFETY: the call has no preconditions.
    let group = unsafe { libc::getpgrp() };
    // SAFETY: `slave` is open; the call touches no memory of ours.
    let result = unsafe { libc::tcsetpgrp(slave.as_raw_fd(), group) };
    let error = io::Error::last_os_error();
    // SAFETY: as above; the default is what the new program expects.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_DFL) };
    if result < 0 { Err(error) } else { Ok(()) }
}
