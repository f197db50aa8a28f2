//! Signals as something to read (`man 2 signalfd`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocked signals, to be read one by one.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals with these numbers in the calling thread, which must be the only one, and opens a descriptor for
    /// them. Children inherit the block: they undo it before they execute something else.
    pub fn block(numbers: &[i32]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in numbers {
            set.add(Signal::try_from(*number)?);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes the number of the next signal that has arrived.
    pub fn take(&self) -> io::Result<Option<i32>> {
        match self.fd.read_signal() {
            Ok(signal) => Ok(signal.and_then(|signal| i32::try_from(signal.ssi_signo).ok())),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
