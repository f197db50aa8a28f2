//! What a monitor can be asked, over its control socket.
//!
//! ```text
//! <run>/c/<id12>/ctl   SOCK_SEQPACKET, in a directory of mode 0700; one JSON message each way
//!   {"request":"watch"}                          never answered: the connection ends with the monitor, and a monitor ends
//!                                                when its container has ended for good and all is recorded and released
//!   {"request":"stop","timeout_ms":N,"synced":B,"releases":B}   likewise
//!   {"request":"restart","timeout_ms":N}         answered when the new init runs or could not be started
//!   {"request":"resize","rows":R,"columns":C}    answered at once
//! answer: {"done":null} or {"refused":"why"}
//! ```
//!
//! The container's standard input, where it keeps one, is the named pipe `stdin` beside the socket; its output is read from
//! the log. A terminal's two directions are the monitor's: what is written to `stdin` reaches it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::bundle::Layout;
use crate::runtime::config::ContainerId;
use crate::runtime::{Runtime, RuntimeError};
use crate::sys::packets::{self, Received};

/// Name of the control socket.
pub(crate) const SOCKET: &str = "ctl";

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Keep the connection open.
    Watch,
    /// End the container for good.
    Stop {
        /// Time between the stop signal and SIGKILL.
        timeout_ms: u64,
        /// Whether the exit record must reach the disk.
        synced: bool,
        /// Whether the monitor releases what the sandbox holds of the network; else the asker does, for many at once.
        releases: bool,
    },
    /// Say whether the container is being ended for good: done, or refused.
    IsStopping,
    /// End the init and start another one.
    Restart {
        /// Time between the stop signal and SIGKILL.
        timeout_ms: u64,
    },
    /// Set the size of its terminal.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is so.
    Done(()),
    /// It is not.
    Refused(String),
}

/// A restart under way; its descriptor is readable when [`finish`](Self::finish) need not wait.
#[derive(Debug)]
pub struct Restarting {
    id: ContainerId,
    socket: OwnedFd,
}

impl Restarting {
    /// Waits until the new init runs.
    pub fn finish(self) -> Result<(), RuntimeError> {
        answer(&self.id, &self.socket)
    }
}

impl AsFd for Restarting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Runtime {
    /// Ends the init of a running container and starts another one in the same sandbox, of the record's current generation.
    ///
    /// Errors: [`RuntimeError::NotRunning`] where it has no monitor (start it, or adopt it first).
    pub fn restart(&self, id: &ContainerId, timeout: Duration) -> Result<Restarting, RuntimeError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Restart { timeout_ms };
        let socket = self
            .ask(id, &request)?
            .ok_or_else(|| RuntimeError::NotRunning(id.clone()))?;
        Ok(Restarting {
            id: id.clone(),
            socket,
        })
    }

    /// Tells whether a container is on its way to its end: a command that asked for that may have been killed since.
    pub fn is_stopping(&self, id: &ContainerId) -> Result<bool, RuntimeError> {
        let Some(socket) = self.ask(id, &Request::IsStopping)? else {
            return Ok(false);
        };
        let wrap = |error| RuntimeError::Control(id.clone(), error);
        match packets::receive(&socket).map_err(wrap)? {
            Received::Message(bytes, _) => match serde_json::from_slice(&bytes) {
                Ok(Answer::Done(())) => Ok(true),
                Ok(Answer::Refused(_)) => Ok(false),
                Err(error) => Err(wrap(error.into())),
            },
            // It has ended; or the monitor is of a version that does not know the question.
            Received::End | Received::Nothing => Ok(false),
        }
    }

    /// Sets the size of the container's terminal.
    pub fn resize(&self, id: &ContainerId, rows: u16, columns: u16) -> Result<(), RuntimeError> {
        let socket = self
            .ask(id, &Request::Resize { rows, columns })?
            .ok_or_else(|| RuntimeError::NotRunning(id.clone()))?;
        answer(id, &socket)
    }

    /// Opens the container's standard input for writing; writes do not wait (`EAGAIN` when the pipe is full).
    pub fn open_stdin(&self, id: &ContainerId) -> Result<OwnedFd, RuntimeError> {
        let path = self.layout.control(id).join("stdin");
        let mut options = fs_err::OpenOptions::new();
        options.write(true);
        options
            .options_mut()
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW);
        match options.open(&path) {
            Ok(file) => Ok(file.into_file().into()),
            Err(error) => Err(RuntimeError::Control(id.clone(), error)),
        }
    }

    /// Sends a request; `None` where no monitor listens.
    pub(crate) fn ask(
        &self,
        id: &ContainerId,
        request: &Request,
    ) -> Result<Option<OwnedFd>, RuntimeError> {
        ask(&self.layout, id, request)
    }
}

/// Sends a request to the monitor of `id`; `None` where none listens.
pub(crate) fn ask(
    layout: &Layout,
    id: &ContainerId,
    request: &Request,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let wrap = |error| RuntimeError::Control(id.clone(), error);
    let message = serde_json::to_vec(request).map_err(|error| wrap(error.into()))?;
    let Some(socket) = packets::connect(&layout.control(id), SOCKET).map_err(wrap)? else {
        return Ok(None);
    };
    match packets::send(&socket, &message) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(wrap(error)),
    }
}

/// Waits for the answer.
fn answer(id: &ContainerId, socket: &OwnedFd) -> Result<(), RuntimeError> {
    let wrap = |error| RuntimeError::Control(id.clone(), error);
    match packets::receive(socket).map_err(wrap)? {
        Received::Message(bytes, _) => match serde_json::from_slice(&bytes) {
            Ok(Answer::Done(())) => Ok(()),
            Ok(Answer::Refused(why)) => Err(wrap(io::Error::other(why))),
            Err(error) => Err(wrap(error.into())),
        },
        Received::End | Received::Nothing => Err(RuntimeError::NotRunning(id.clone())),
    }
}
