//! What the commands show: plain values, already decided.

use std::collections::BTreeMap;

/// One container as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// 64 hexadecimal digits.
    pub id: String,
    /// `project-service-1`.
    pub name: String,
    /// Project label.
    pub project: String,
    /// Service label.
    pub service: String,
    /// Number among the service's containers, from 1.
    pub number: u32,
    /// Image as asked for.
    pub image: String,
    /// Argument vector.
    pub command: Vec<String>,
    /// Seconds since the epoch.
    pub created_s: i64,
    /// What it does now.
    pub state: StateView,
    /// Health, where it has a check.
    pub health: Option<HealthView>,
    /// Published ports.
    pub publishers: Vec<Publisher>,
    /// Networks by name, with its address in each.
    pub networks: BTreeMap<String, String>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Mount sources (volume names or host paths).
    pub mounts: Vec<String>,
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateView {
    /// Made, never started.
    Created,
    /// Its main process runs.
    Running {
        /// Seconds since the epoch.
        since_s: i64,
    },
    /// Waiting to be started again.
    Restarting {
        /// Last exit code.
        code: i32,
    },
    /// Ended.
    Exited {
        /// `None` where it could not be learnt.
        code: Option<i32>,
        /// Seconds since the epoch.
        at_s: i64,
    },
    /// Its record cannot be read.
    Unknown,
}

/// Health of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthView {
    /// No verdict yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

/// One published port as Docker Compose's JSON has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Address on the host: `0.0.0.0`, `::`, `127.0.0.1`.
    pub url: String,
    /// Port in the container.
    pub target_port: u16,
    /// Port on the host; 0 while it is not published.
    pub published_port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

/// One image as `images` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// Container that uses it (`stack images` of a project); empty in the list of the whole store.
    pub container: String,
    /// `busybox`; `<none>` where it has no name.
    pub repository: String,
    /// `latest`; `<none>` where it has no name.
    pub tag: String,
    /// `linux/amd64`.
    pub platform: String,
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Bytes of its unpacked layers.
    pub size_bytes: u64,
    /// Seconds since the epoch.
    pub created_s: i64,
}

/// A row of `image ls`: an image under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImageView {
    /// `busybox`; `<none>` where it has no name.
    pub repository: String,
    /// `latest`; `<none>` where it has none.
    pub tag: String,
    /// `sha256:…` that the repository's name stood for; `<none>` where it came from no registry.
    pub digest: String,
    /// `linux/amd64`.
    pub platform: String,
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Bytes of its unpacked layers.
    pub size_bytes: u64,
    /// Seconds since the epoch, where it is known.
    pub created_s: Option<i64>,
}

/// A step that made an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryView {
    /// `sha256:…`; `<missing>` where the step made no image that is here.
    pub id: String,
    /// Seconds since the epoch, where it is known.
    pub created_s: Option<i64>,
    /// The instruction.
    pub created_by: String,
    /// Bytes of its layer.
    pub size_bytes: u64,
    /// Free text.
    pub comment: String,
    /// Names of the image that it made.
    pub tags: Vec<String>,
}

/// One line of a container's log, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Container name.
    pub container: String,
    /// Service label.
    pub service: String,
    /// Number among the service's containers.
    pub number: u32,
    /// What was written, or how it ended.
    pub kind: LogKind,
}

/// What a [`LogLine`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogKind {
    /// A line, without its end.
    Text {
        /// RFC 3339 with nanoseconds, UTC.
        time: String,
        /// Whether it came from standard error.
        stderr: bool,
        /// Bytes as written.
        text: Vec<u8>,
    },
    /// The main process ended (following only).
    Exited {
        /// `None` where it could not be learnt.
        code: Option<i32>,
        /// Whether the restart policy starts it again.
        restarting: bool,
    },
}

/// Which log lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Services; all where empty.
    pub services: Vec<String>,
    /// Go on with what comes, until every container has ended.
    pub follow: bool,
    /// With `follow`: until every container of these services has ended; of all of them where empty.
    pub until: Vec<String>,
    /// Only the last so many lines of each container.
    pub tail: Option<usize>,
    /// Only from this time on, nanoseconds since the epoch.
    pub since_ns: Option<i128>,
    /// Only up to this time, nanoseconds since the epoch.
    pub until_ns: Option<i128>,
    /// With `follow`: also tell the ends from before it began (attached `up`).
    pub past_ends: bool,
}

/// A process to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOptions {
    /// Which of the service's containers, from 1.
    pub index: u32,
    /// Argument vector.
    pub args: Vec<String>,
    /// `NAME=value`, beyond the container's.
    pub env: Vec<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// With a pseudo-terminal: columns and rows.
    pub terminal: Option<(u16, u16)>,
    /// Every capability.
    pub privileged: bool,
    /// Do not wait for it.
    pub detach: bool,
}
