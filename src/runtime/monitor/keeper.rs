//! The process that holds a container's terminal while there may be no monitor.
//!
//! The master end of a terminal cannot be opened a second time: when its last descriptor closes, the kernel hangs the
//! container's session up. So, for a container with a terminal, the monitor forks a *keeper*: it holds the master, does
//! nothing, and ends with the init. Whoever becomes the next monitor connects to its socket and is handed the master.
//!
//! ```text
//! <run>/c/<id12>/terminal   SOCK_SEQPACKET, in a directory of mode 0700
//! keeper -> who connects    `terminal` + one descriptor, the master; then the connection ends
//! ```
//!
//! It keeps open: the master, the init's pidfd, the listening socket, and the named pipes of a container with a terminal
//! (`stdin`, `stdout`), whose content would go with their last descriptor. It inherits the monitor's blocked signals, so that
//! only SIGKILL ends it early; the monitor then makes another one.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use crate::runtime::config::ContainerId;
use crate::runtime::record::ProcessKey;
use crate::sys::clone::{self, Cloned, SingleThreaded};
use crate::sys::packets::{self, Received};
use crate::sys::poll::Poll;
use crate::sys::{fds, pidfd, process, procfs};

/// Name of its socket.
const SOCKET: &str = "terminal";

/// Numbers in its set.
const INIT: u64 = 1;
const LISTENER: u64 = 2;

/// A living keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
    /// Which process it is.
    pub(crate) key: ProcessKey,
}

/// What a keeper holds.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    /// The terminal's master end.
    pub(crate) terminal: BorrowedFd<'a>,
    /// The init with which it ends.
    pub(crate) init: BorrowedFd<'a>,
    /// What else must not lose its last descriptor.
    pub(crate) pipes: Vec<BorrowedFd<'a>>,
}

impl Keeper {
    /// Forks one that listens in `directory`.
    pub(crate) fn fork(directory: &Path, id: &ContainerId, kept: &Kept<'_>) -> io::Result<Self> {
        let listener = packets::listen(directory, SOCKET)?;
        let name = std::ffi::CString::new(format!("stack-tty:{:.5}", id.as_str()))?;
        let alone = SingleThreaded::check()?
            .ok_or_else(|| io::Error::other("the monitor has several threads"))?;
        match clone::clone3(&alone, 0, None)? {
            Cloned::Child => {
                let _guard = process::ExitOnDrop(2);
                let never = process::set_name(&name).and_then(|()| keep(&listener, kept));
                match never {
                    Ok(never) => match never {},
                    Err(_) => process::exit_now(1),
                }
            }
            Cloned::Parent { pid, pidfd } => Ok(Self {
                pidfd,
                key: ProcessKey {
                    pid,
                    start_time: procfs::start_time(pid)?.unwrap_or(0),
                },
            }),
        }
    }

    /// Finds one that another monitor has made; `None` if it has ended.
    pub(crate) fn find(key: ProcessKey) -> io::Result<Option<Self>> {
        let pidfd = procfs::open_process(key.pid, key.start_time)?;
        Ok(pidfd.map(|pidfd| Self { pidfd, key }))
    }

    /// Tells, of one whose descriptor is readable, whether it was killed rather than ended by itself. Reaps a child.
    pub(crate) fn was_killed(&self) -> bool {
        // One that is no child of ours ends by itself only with the init, when nobody needs another.
        !matches!(
            pidfd::try_wait(self.pidfd.as_fd()),
            Ok(Some(pidfd::Exit::Code(_)))
        )
    }

    /// Kills it and returns when it has ended.
    pub(crate) fn end(self) -> io::Result<()> {
        match pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            _ => {}
        }
        match pidfd::wait(self.pidfd.as_fd()) {
            // Another monitor's child: somebody else reaps it.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                let poll = Poll::new()?;
                poll.add(&self.pidfd, INIT)?;
                let mut ready = Vec::new();
                while ready.is_empty() {
                    poll.wait(&mut ready)?;
                }
                Ok(())
            }
            ended => ended.map(drop),
        }
    }
}

/// Asks the keeper that listens in `directory` for the terminal; `None` where none does.
pub(crate) fn fetch(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let Some(socket) = packets::connect(directory, SOCKET)? else {
        return Ok(None);
    };
    match packets::receive(&socket)? {
        Received::Message(_, descriptors) => Ok(descriptors.into_iter().next()),
        Received::End | Received::Nothing => Ok(None),
    }
}

/// The keeper: hands the terminal to whoever connects, and ends the process when the init has.
fn keep(listener: &OwnedFd, kept: &Kept<'_>) -> io::Result<Infallible> {
    let poll = Poll::new()?;
    let own = [
        listener.as_raw_fd(),
        kept.terminal.as_raw_fd(),
        kept.init.as_raw_fd(),
        poll.as_fd().as_raw_fd(),
    ];
    let own: Vec<RawFd> = own
        .into_iter()
        .chain(kept.pipes.iter().map(AsRawFd::as_raw_fd))
        .collect();
    fds::close_all_but(&own)?;
    poll.add(kept.init, INIT)?;
    poll.add(listener, LISTENER)?;
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready)?;
        if ready.contains(&INIT) {
            process::exit_now(0);
        }
        if let Some(client) = packets::accept(listener)? {
            // One that has gone away again needs no answer.
            let _sent: io::Result<()> =
                packets::send_with(&client, SOCKET.as_bytes(), &[kept.terminal]);
        }
    }
}
