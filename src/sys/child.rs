//! A program that runs in a process group of its own, within tokio.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};

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
