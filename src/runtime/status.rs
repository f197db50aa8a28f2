//! What a container is doing, told from its records and from what is alive. Pure.

use crate::runtime::config::{ContainerConfig, ContainerId, RestartPolicy};
use crate::runtime::record::{Desired, Exit, Health, Live, Phase, Record, Timestamp};

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Made, and not running; `error` says why the last start failed.
    Created {
        /// Exit code and message of a start that failed.
        error: Option<(i32, String)>,
    },
    /// Its init runs.
    Running {
        /// The init, in the host's pid namespace.
        pid: i32,
        /// When it was started.
        started: Timestamp,
    },
    /// It ended; its monitor will start it again.
    Restarting {
        /// The last end.
        last: Exit,
        /// When.
        next: Timestamp,
    },
    /// It ended and stays so.
    Exited(Exit),
    /// A removal was interrupted; removing it again goes on.
    Removing,
}

/// Whether somebody watches over a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Its monitor lives.
    Alive {
        /// The monitor.
        pid: i32,
    },
    /// It needs one and has none: [`Runtime::adopt`](crate::runtime::Runtime::adopt).
    Missing,
    /// It needs none.
    NotNeeded,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Identity, configuration, wishes.
    pub record: Record,
    /// What it is doing.
    pub status: Status,
    /// Result of its health checks, where it has some and runs.
    pub health: Option<Health>,
    /// Starts after the first.
    pub restarts: u32,
    /// Whether its monitor lives.
    pub watch: Watch,
}

impl Container {
    /// Returns its id.
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// Returns what was asked for.
    pub fn config(&self) -> &ContainerConfig {
        &self.record.config
    }

    /// Returns the init's pid while it runs.
    pub fn pid(&self) -> Option<i32> {
        match self.status {
            Status::Running { pid, .. } => Some(pid),
            Status::Created { .. }
            | Status::Restarting { .. }
            | Status::Exited(_)
            | Status::Removing => None,
        }
    }
}

/// What was found beside the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The live state, if it is of this boot.
    pub live: Option<Live>,
    /// The exit record.
    pub exit: Option<Exit>,
    /// Whether the init that `live` names is alive.
    pub init_alive: bool,
    /// The living monitor.
    pub monitor: Option<i32>,
    /// The time, for an end that nobody saw.
    pub now: Timestamp,
}

/// Tells what a container is doing.
pub fn derive(record: Record, found: Found) -> Container {
    let restarts = found.live.as_ref().map_or(0, |live| live.restarts);
    let health = found.live.as_ref().and_then(|live| live.health.clone());
    let (status, needs_monitor) = match found.live.map(|live| live.phase) {
        Some(Phase::Running { init, started }) if found.init_alive || found.monitor.is_some() => (
            Status::Running {
                pid: init.pid,
                started,
            },
            true,
        ),
        Some(Phase::Running { started, .. }) => (
            Status::Exited(found.exit.unwrap_or(Exit {
                started,
                ..unseen(found.now, restarts)
            })),
            true,
        ),
        Some(Phase::Restarting { last, next }) if found.monitor.is_some() => {
            (Status::Restarting { last, next }, true)
        }
        Some(Phase::Restarting { last, .. }) => (Status::Exited(last), true),
        Some(Phase::Ended { last }) => (Status::Exited(last), false),
        Some(Phase::Failed { code, message }) => (
            Status::Created {
                error: Some((code, message)),
            },
            false,
        ),
        None => match (found.exit, record.desired) {
            (Some(exit), _) => (Status::Exited(exit), false),
            (None, Desired::Created) => (Status::Created { error: None }, false),
            // The host died under it, or its monitor before it had said anything.
            (None, Desired::Running | Desired::Stopped) => {
                (Status::Exited(unseen(found.now, 0)), false)
            }
        },
    };
    let watch = match (found.monitor, needs_monitor) {
        (Some(pid), _) => Watch::Alive { pid },
        (None, true) => Watch::Missing,
        (None, false) => Watch::NotNeeded,
    };
    let running = matches!(status, Status::Running { .. });
    Container {
        record,
        status,
        health: health.filter(|_| running),
        restarts,
        watch,
    }
}

impl Found {
    /// Nothing but a record.
    pub fn nothing() -> Self {
        Self {
            live: None,
            exit: None,
            init_alive: false,
            monitor: None,
            now: Timestamp::now(),
        }
    }
}

/// Tells whether the restart policy starts the container again after `exit`, `restarts` restarts after its first start.
///
/// Docker's rules (`docker run --restart`): a stop by hand ends every policy until the next start.
pub fn wants_restart(record: &Record, exit: Exit, restarts: u32) -> bool {
    match record.config.restart {
        _ if record.stopped_by_hand => false,
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            exit.code != 0 && max_retries.is_none_or(|max| restarts < max)
        }
    }
}

/// Tells whether a container that was up when the host went down is started at boot. `always` comes back even if it was
/// stopped by hand before (Docker's rule); `on-failure` and `no` only if they were running.
pub fn wants_boot(container: &Container) -> bool {
    let record = &container.record;
    let started = record.desired != Desired::Created;
    match (record.config.restart, &container.status) {
        (_, Status::Running { .. } | Status::Restarting { .. } | Status::Removing) => false,
        (RestartPolicy::Always, _) => started,
        (RestartPolicy::UnlessStopped, _) => started && !record.stopped_by_hand,
        (RestartPolicy::OnFailure { .. }, Status::Exited(exit)) => {
            started && !record.stopped_by_hand && exit.code != 0
        }
        (RestartPolicy::OnFailure { .. }, Status::Created { .. }) | (RestartPolicy::No, _) => false,
    }
}

/// Returns the record of an end that nobody saw.
pub fn unseen(now: Timestamp, restarts: u32) -> Exit {
    Exit {
        version: crate::runtime::record::VERSION,
        code: 255,
        signal: None,
        oom: false,
        unknown: true,
        started: now,
        at: now,
        restarts,
    }
}
