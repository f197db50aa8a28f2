//! A program that runs in a process group of its own, within tokio.
#![expect(unsafe_code, reason = "what a child does before it executes")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::{pidfd, ready};

/// A program that runs; killed with its group when dropped before its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    kept_bytes: u64,
}

/// Has the kernel kill a program when the thread that starts it ends, however it does. The program gains no privileges by its set-id bits:
/// with those it would outlive its parent (`man 2 prctl`, `PR_SET_PDEATHSIG`).
pub fn end_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        super::process::set_no_new_privileges()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended in between.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: three system calls, which allocate nothing and take no lock.
    unsafe { command.pre_exec(prepare) };
}

/// How a program ended, and the beginning of what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Standard output, where that is a pipe.
    pub output: Vec<u8>,
    /// Standard error, where that is a pipe.
    pub complaint: Vec<u8>,
}

impl Running {
    /// Takes a program that was started with `process_group(0)`; of each pipe `kept_bytes` are kept.
    pub fn new(child: Child, kept_bytes: u64) -> Self {
        Self { child, kept_bytes }
    }

    /// Waits for its end. Needs a tokio runtime.
    pub async fn end(&mut self) -> io::Result<Ended> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        let ended = pidfd::open(pid)?;
        let output = self.child.stdout.take().map(OwnedFd::from);
        let complaint = self.child.stderr.take().map(OwnedFd::from);
        let (output, complaint) = tokio::try_join!(
            drain(output, self.kept_bytes),
            drain(complaint, self.kept_bytes)
        )?;
        ready::readable(ended.as_fd()).await?;
        Ok(Ended {
            status: self.child.wait()?,
            output,
            complaint,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It may end between the two; until it is waited for, its number is nobody else's.
            let _gone = kill_process_group(group, Signal::KILL);
            let _reaped = self.child.wait();
        }
    }
}

/// Reads a pipe to its end, and keeps its beginning.
async fn drain(pipe: Option<OwnedFd>, kept_bytes: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(pipe) = pipe else {
        return Ok(kept);
    };
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    (&mut pipe).take(kept_bytes).read_to_end(&mut kept).await?;
    let mut rest = vec![0; 8192];
    while pipe.read(&mut rest).await? > 0 {}
    Ok(kept)
}
