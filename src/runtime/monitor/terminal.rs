//! The terminal of a container that has one: read by the monitor, held by the [`keeper`] too.

use std::os::fd::{AsFd, OwnedFd};

use crate::runtime::monitor::keeper::{self, Keeper, Kept};
use crate::runtime::monitor::{Monitor, MonitorError, token};
use crate::runtime::record::ProcessKey;

impl Monitor<'_> {
    /// Reads from a new terminal, and writes to it what arrives at `stdin`.
    pub(super) fn take_terminal(&mut self, terminal: OwnedFd) -> Result<(), MonitorError> {
        let wrap = |error| MonitorError::System("read the container's terminal", error);
        // While the log cannot be written nothing is read: `retry_log` adds it.
        if self.log_retry.is_none() {
            self.poll.add(&terminal, token::TERMINAL).map_err(wrap)?;
        }
        if let Some(input) = &self.streams.input {
            self.poll.add(input, token::INPUT).map_err(wrap)?;
        }
        self.streams.take_terminal(terminal).map_err(wrap)
    }

    /// Forgets the terminal of an init that has ended.
    pub(super) fn drop_terminal(&mut self) -> Result<(), MonitorError> {
        let wrap = |error| MonitorError::System("leave the container's terminal", error);
        if let Some(terminal) = self.streams.terminal.take() {
            if self.log_retry.is_none() {
                self.poll.remove(&terminal).map_err(wrap)?;
            }
            if let Some(input) = &self.streams.input {
                self.poll.remove(input).map_err(wrap)?;
            }
        }
        Ok(())
    }

    /// Has a process hold the terminal that outlives this one. Where that cannot be, the container has a terminal all the
    /// same, and it is noted that nobody else holds it.
    pub(super) fn keep_terminal(&mut self) {
        let (Some(terminal), Some(init)) = (&self.streams.terminal, &self.init) else {
            return;
        };
        let mut pipes = vec![self.streams.out.as_fd()];
        pipes.extend(self.streams.input.as_ref().map(AsFd::as_fd));
        let kept = Kept {
            terminal: terminal.as_fd(),
            init: init.pidfd.as_fd(),
            pipes,
        };
        let directory = self.layout.control(&self.record.id);
        let made = Keeper::fork(&directory, &self.record.id, &kept).and_then(|keeper| {
            self.poll.add(&keeper.pidfd, token::KEEPER)?;
            Ok(keeper)
        });
        match made {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => self.trouble(&format!("fork the keeper of the terminal: {error}")),
        }
    }

    /// Takes the terminal of an init that another monitor started from who kept it.
    pub(super) fn fetch_terminal(&mut self, known: Option<ProcessKey>) -> Result<(), MonitorError> {
        let wrap = |error| MonitorError::System("take the container's terminal over", error);
        let directory = self.layout.control(&self.record.id);
        let Some(terminal) = keeper::fetch(&directory).map_err(wrap)? else {
            self.trouble("the container's terminal is gone: its monitor and its keeper have died");
            return Ok(());
        };
        self.take_terminal(terminal)?;
        let known = known.map(Keeper::find).transpose().map_err(wrap)?;
        match known.flatten() {
            Some(keeper) => {
                self.poll.add(&keeper.pidfd, token::KEEPER).map_err(wrap)?;
                self.keeper = Some(keeper);
            }
            // The one that answered was made by a monitor that died before it could say so.
            None => self.keep_terminal(),
        }
        Ok(())
    }

    /// Sees to the end of the keeper: one that was killed is replaced.
    pub(super) fn keeper_ended(&mut self) -> Result<(), MonitorError> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(());
        };
        let wrap = |error| MonitorError::System("leave the keeper of the terminal", error);
        self.poll.remove(&keeper.pidfd).map_err(wrap)?;
        if keeper.was_killed() {
            self.keep_terminal();
        }
        self.publish()
    }

    /// Ends the keeper, whose init has ended.
    pub(super) fn end_keeper(&mut self) -> Result<(), MonitorError> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(());
        };
        let wrap = |error| MonitorError::System("leave the keeper of the terminal", error);
        self.poll.remove(&keeper.pidfd).map_err(wrap)?;
        if let Err(error) = keeper.end() {
            self.trouble(&format!("end the keeper of the terminal: {error}"));
        }
        Ok(())
    }
}
