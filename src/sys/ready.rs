//! Waiting for a descriptor within tokio.

#![expect(
    unsafe_code,
    reason = "tokio leaves the lifetime of a registered descriptor to its caller"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A borrowed descriptor in the shape that [`AsyncFd`] takes.
struct Borrowed<'a>(BorrowedFd<'a>);

impl AsRawFd for Borrowed<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Returns when `fd` can be read without waiting, or its other end is gone. Needs a tokio runtime.
pub async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is borrowed for longer than the `AsyncFd` lives, so it stays open and the same.
    let watched = unsafe { AsyncFd::register_with_interest(Borrowed(fd), Interest::READABLE) }?;
    let _ready = watched.readable().await?;
    Ok(())
}
