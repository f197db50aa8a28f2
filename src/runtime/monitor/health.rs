//! Running the health check: one probe at a time, and the last results.

use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

use crate::runtime::config::Process;
use crate::runtime::exec::{self, Child, ExecRequest};
use crate::runtime::init::Stdio;
use crate::runtime::monitor::policy::{PROBE_OUTPUT_BYTES, PROBES_KEPT};
use crate::runtime::monitor::{chain, token};
use crate::runtime::record::{Probe, Timestamp};
use crate::sys::poll::Poll;

/// The probe that runs, those that were killed and are not yet reaped, and the results.
#[derive(Debug, Default)]
pub(super) struct Probes {
    running: Option<Running>,
    killed: Vec<Child>,
    results: Vec<Probe>,
}

/// A probe that runs.
#[derive(Debug)]
struct Running {
    child: Child,
    start: Timestamp,
    output: OwnedFd,
    text: Vec<u8>,
}

impl Probes {
    /// Starts a probe. Returns whether it runs; if not, that is its result.
    pub(super) fn start(
        &mut self,
        test: &[String],
        (init, process, cgroup): (
            std::os::fd::BorrowedFd<'_>,
            &Process,
            &crate::runtime::cgroup::Cgroup,
        ),
        poll: &Poll,
    ) -> bool {
        let start = Timestamp::now();
        let process = Process {
            args: test.to_vec(),
            tty: false,
            stdin_open: false,
            init: false,
            ..process.clone()
        };
        let started = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|errno| errno.to_string())
            .and_then(|(ours, theirs)| {
                let flags = rustix::fs::OFlags::NONBLOCK;
                rustix::fs::fcntl_setfl(&ours, flags).map_err(|errno| errno.to_string())?;
                let stdio = Stdio::Pipes {
                    out: std::os::fd::AsFd::as_fd(&theirs),
                    err: std::os::fd::AsFd::as_fd(&theirs),
                    input: None,
                };
                let request = ExecRequest {
                    init,
                    process: &process,
                    stdio,
                    cgroup,
                };
                let child = exec::run(&request).map_err(|error| chain(&error))?;
                poll.add(&child.pidfd, token::PROBE)
                    .and_then(|()| poll.add(&ours, token::PROBE_OUTPUT))
                    .map_err(|error| error.to_string())?;
                Ok((child, ours))
            });
        match started {
            Ok((child, output)) => {
                self.running = Some(Running {
                    child,
                    start,
                    output,
                    text: Vec::new(),
                });
                true
            }
            Err(why) => {
                self.remember(start, -1, why.as_bytes());
                false
            }
        }
    }

    /// Takes the end of the probe that runs: its exit code, or `None` in it where that is not known.
    pub(super) fn take_end(&mut self) -> Option<Option<i32>> {
        self.killed
            .retain(|child| matches!(child.try_wait(), Ok(None)));
        let code = match self.running.as_ref()?.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(code)) => Some(code),
            Err(_) => None,
        };
        let mut running = self.running.take()?;
        running.read();
        self.remember(running.start, code.unwrap_or(-1), &running.text);
        Some(code)
    }

    /// Reads what the probe printed; all of it, so that it does not block, and remembers the beginning.
    pub(super) fn read_output(&mut self, poll: &Poll) {
        let ended = match &mut self.running {
            Some(running) => running.read(),
            None => false,
        };
        if ended && let Some(running) = &self.running {
            // At its end a pipe is always readable.
            let _removed: std::io::Result<()> = poll.remove(&running.output);
        }
    }

    /// Kills the probe that runs; `why` stands in its result, unless its container ended and nobody asks.
    pub(super) fn kill(&mut self, why: Option<&str>) -> std::io::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let killed = running.child.kill_tree();
        self.killed.push(running.child);
        if let Some(why) = why {
            self.remember(running.start, -1, why.as_bytes());
        }
        match killed {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Forgets the results of another init.
    pub(super) fn forget(&mut self) {
        self.results.clear();
    }

    /// Takes over what another monitor remembered.
    pub(super) fn restore(&mut self, results: Vec<Probe>) {
        self.results = results;
    }

    /// Returns the results, oldest first.
    pub(super) fn results(&self) -> &[Probe] {
        &self.results
    }

    /// Remembers a result, and no more than [`PROBES_KEPT`].
    fn remember(&mut self, start: Timestamp, code: i32, output: &[u8]) {
        if self.results.len() >= PROBES_KEPT {
            self.results.remove(0);
        }
        let output = output.get(..PROBE_OUTPUT_BYTES).unwrap_or(output);
        self.results.push(Probe {
            start,
            end: Timestamp::now(),
            code,
            output: String::from_utf8_lossy(output).into_owned(),
        });
    }
}

impl Running {
    /// Reads what is there; whether the pipe is at its end.
    fn read(&mut self) -> bool {
        let mut chunk = [0_u8; 4096];
        // Bounded: a probe that floods has its turn again after everyone else.
        for _ in 0..16 {
            match rustix::io::read(&self.output, &mut chunk) {
                Ok(0) => return true,
                Ok(count) => {
                    let room = PROBE_OUTPUT_BYTES.saturating_sub(self.text.len());
                    let bytes = chunk.get(..count.min(room)).unwrap_or_default();
                    self.text.extend_from_slice(bytes);
                }
                Err(_) => return false,
            }
        }
        false
    }
}
