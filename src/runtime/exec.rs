//! A further process in a running container: `exec`, health probes, hooks.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::Process;
use crate::runtime::init::{StartError, Stdio};

/// What [`run`] needs.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The pidfd of the container's first process.
    pub init: BorrowedFd<'a>,
    /// What to run, as whom; `init` is ignored.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// The container's control group.
    pub cgroup: &'a Cgroup,
}

/// A process that joined a container; a child of the caller.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// The process itself; readable when it has ended.
    pub pidfd: OwnedFd,
    /// Master end of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// What could not be had but was only a default.
    pub warnings: Vec<String>,
}

impl Child {
    /// Waits for the end and returns the exit code, 128 + N after signal N. Reaps it.
    pub fn wait(&self) -> io::Result<i32> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Returns the exit code if it has ended, without waiting. Reaps it.
    pub fn try_wait(&self) -> io::Result<Option<i32>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let _ = signal;
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Kills it and every process it started that is still in its session or descends from it.
    pub fn kill_tree(&self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// Starts a process in all namespaces of a running container and returns when it has executed its command.
pub fn run(request: &ExecRequest<'_>) -> Result<Child, StartError> {
    Err(StartError::Config(format!(
        "executing {:?} is not written yet",
        request.process.args
    )))
}
