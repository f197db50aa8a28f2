//! What is written about a container, and who writes it.
//!
//! ```text
//! containers/<id>/record.json   Record   mode 0600; the commands, under run/c/<id12>/record.lock
//! containers/<id>/exit.json     Exit     the monitor (or who finds it dead), when the container has ended for good
//! run/s/<id>.json               Live     the monitor; never synced, void after a boot (`boot_id`)
//! ```
//!
//! All are JSON, replaced by rename, and carry `version`. A record of another version is an error, never overwritten.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::runtime::config::{ContainerConfig, ContainerId, EtcFiles};
use crate::sys::atomic::{self, Durability};

/// Version of the three formats of this module.
pub const VERSION: u32 = 1;

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("read `{}`", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file cannot be written.
    #[error("write `{}`", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// The file is not what this version writes.
    #[error("understand `{}`", .0.display())]
    Parse(PathBuf, #[source] serde_json::Error),
    /// The file is of another version.
    #[error("`{}` has version {found}, this program writes {VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
}

/// A moment of the wall clock: nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads the clock.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self(
            time.tv_sec
                .saturating_mul(1_000_000_000)
                .saturating_add(time.tv_nsec),
        )
    }

    /// Returns the time from `earlier` to this, zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_nanos)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

/// What a person or a file wants of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Created, never yet started.
    Created,
    /// It should run, as its restart policy says.
    Running,
    /// It was stopped by hand; `unless-stopped` and `always` do not bring it back while the host is up.
    Stopped,
}

/// `record.json`: identity, configuration and wishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The container.
    pub id: ContainerId,
    /// When it was created.
    pub created: Timestamp,
    /// What is wanted of it.
    pub desired: Desired,
    /// Set, durably, before the signal of a stop is sent; cleared by a start.
    pub stopped_by_hand: bool,
    /// Number of the current generation, from 1: `gen/<n>`.
    pub generation: u32,
    /// Opaque to this room: what the engine's [`Sandbox`](crate::runtime::monitor::Sandbox) needs to serve it again.
    pub sandbox: serde_json::Value,
    /// Generated files, as of the last start.
    pub etc: EtcFiles,
    /// All that was asked for.
    pub config: ContainerConfig,
}

/// `exit.json`: how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// [`VERSION`].
    pub version: u32,
    /// Exit status, or 128 plus the number of the signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for lack of memory.
    pub oom: bool,
    /// Nobody saw the end; `code` is 255.
    pub unknown: bool,
    /// When its init was started.
    pub started: Timestamp,
    /// When it ended, or when that was noticed.
    pub at: Timestamp,
    /// How often it had been restarted.
    pub restarts: u32,
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Number in the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from boot to start.
    pub start_time: u64,
}

/// What the monitor is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The init runs.
    Running {
        /// The init.
        init: ProcessKey,
        /// When it was started.
        started: Timestamp,
    },
    /// It ended and will be started again.
    Restarting {
        /// The last end.
        last: Exit,
        /// When the next init starts.
        next: Timestamp,
    },
    /// It ended for good; `exit.json` says the same.
    Ended {
        /// The end.
        last: Exit,
    },
    /// It could not be started.
    Failed {
        /// Exit code of the command that asked for it: 125, 126 or 127 (`docker run`, exit status).
        code: i32,
        /// Why.
        message: String,
    },
}

/// `run/s/<id>.json`: what is true until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// [`VERSION`].
    pub version: u32,
    /// `/proc/sys/kernel/random/boot_id` at the time of writing.
    pub boot_id: String,
    /// The monitor.
    pub monitor: ProcessKey,
    /// Starts after the first.
    pub restarts: u32,
    /// What it is at.
    #[serde(flatten)]
    pub phase: Phase,
    /// Who holds the terminal beside the monitor, where the container has one
    /// ([`keeper`](crate::runtime::monitor)).
    #[serde(default)]
    pub keeper: Option<ProcessKey>,
    /// Health, where there is a check.
    pub health: Option<Health>,
}

impl Live {
    /// Returns the init, if one runs.
    pub fn init(&self) -> Option<ProcessKey> {
        match self.phase {
            Phase::Running { init, .. } => Some(init),
            Phase::Restarting { .. } | Phase::Ended { .. } | Phase::Failed { .. } => None,
        }
    }
}

/// Result of the health checks so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Verdict.
    pub status: HealthStatus,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last [`PROBES_KEPT`](crate::runtime::monitor::policy::PROBES_KEPT) probes, oldest first.
    pub probes: Vec<Probe>,
}

/// Verdict of the health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// No verdict yet.
    Starting,
    /// The last probe succeeded, or too few failed since one did.
    Healthy,
    /// `retries` probes failed in a row.
    Unhealthy,
}

/// One run of the health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When it started.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; -1 when it ran out of time or could not be run.
    pub code: i32,
    /// At most 4096 bytes of what it printed.
    pub output: String,
}

/// A format that says its version.
pub trait Versioned {
    /// Returns what the file says.
    fn version(&self) -> u32;
}

impl Versioned for Record {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Exit {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Live {
    fn version(&self) -> u32 {
        self.version
    }
}

/// What every version has, while the other fields may differ.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Whether a file holds nothing, or zeros: it was written and had not reached the disk when the machine lost its power.
pub fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Reads a record; `None` where there is none, or one that [was never written](is_unwritten).
pub fn read<T: DeserializeOwned + Versioned>(path: &Path) -> Result<Option<T>, RecordError> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecordError::Read(path.to_owned(), error)),
    };
    if is_unwritten(&bytes) {
        return Ok(None);
    }
    let parse = |error| RecordError::Parse(path.to_owned(), error);
    match serde_json::from_slice::<T>(&bytes) {
        Ok(value) if value.version() == VERSION => Ok(Some(value)),
        Ok(value) => Err(RecordError::Version {
            path: path.to_owned(),
            found: value.version(),
        }),
        Err(error) => match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.version != VERSION => Err(RecordError::Version {
                path: path.to_owned(),
                found: head.version,
            }),
            _ => Err(parse(error)),
        },
    }
}

/// Replaces a record.
pub fn write<T: Serialize>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<(), RecordError> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| RecordError::Parse(path.to_owned(), error))?;
    atomic::write(path, &bytes, 0o600, durability)
        .map_err(|error| RecordError::Write(path.to_owned(), error))
}
