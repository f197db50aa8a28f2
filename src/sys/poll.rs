//! Waiting for several descriptors at once: `epoll`, level-triggered. Its own descriptor is readable when one of them is,
//! so that a caller can wait on the whole set by one descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A set of descriptors, each with a number chosen by the caller.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// Makes an empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Adds a descriptor to be waited on until it is readable, at its end, or in error.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token),
            EventFlags::IN,
        )?)
    }

    /// Takes a descriptor out; needed before it is closed while a duplicate of it lives.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready and puts the numbers of what is into `ready`; leaves it empty when a signal handler ran.
    pub fn wait(&self, ready: &mut Vec<u64>) -> io::Result<()> {
        self.wait_for(ready, None)
    }

    /// Like [`wait`](Self::wait), without waiting.
    pub fn check(&self, ready: &mut Vec<u64>) -> io::Result<()> {
        let zero = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.wait_for(ready, Some(&zero))
    }

    /// Waits at most `timeout`.
    fn wait_for(
        &self,
        ready: &mut Vec<u64>,
        timeout: Option<&rustix::time::Timespec>,
    ) -> io::Result<()> {
        ready.clear();
        let empty = epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        let mut events = [empty; 16];
        let count = match epoll::wait(&self.epoll, events.as_mut_slice(), timeout) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        ready.extend(events.iter().take(count).map(|event| event.data.u64()));
        Ok(())
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
