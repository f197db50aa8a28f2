//! What a container is to be: everything decided, nothing looked up later.
//!
//! A [`ContainerConfig`] is written whole into `containers/<id>/record.json` (mode 0600) when the container is created. The
//! OCI `config.json` of each generation is rendered from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// 64 hexadecimal digits, random.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks that `text` is 64 lower-case hexadecimal digits.
    pub fn new(text: &str) -> Option<Self> {
        let hex = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (text.len() == 64 && hex).then(|| Self(text.to_owned()))
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, as people see them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One container, fully lowered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique among the containers of a root.
    pub name: String,
    /// Opaque to this room.
    pub labels: BTreeMap<String, String>,
    /// Opaque to this room: what the engine wants to find again (what was asked for, attachments, ports).
    pub annotations: serde_json::Value,
    /// The image as asked for and the digest of its configuration.
    pub image: ImageUse,
    /// The main process.
    pub process: Process,
    /// Namespaces, each its own unless said otherwise.
    pub namespaces: Namespaces,
    /// Name in its UTS namespace.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Mounts beyond the standard ones, in the order they are made.
    pub mounts: Vec<Mount>,
    /// Small files placed in the container: secrets and configs. On a tmpfs that belongs to the sandbox.
    pub files: Vec<InjectedFile>,
    /// Read-only root file system.
    pub read_only: bool,
    /// Every device and no masks.
    pub privileged: bool,
    /// Size of /dev/shm in bytes.
    pub shm_bytes: u64,
    /// Kernel parameters, dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Cgroup limits.
    pub resources: Resources,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Health check, defaults filled in.
    pub health: Option<HealthCheck>,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Time between that signal and SIGKILL.
    pub stop_timeout: Duration,
    /// Log rotation.
    pub log: LogConfig,
}

/// Which image a container's root comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// As asked for: `busybox`.
    pub reference: String,
    /// `sha256:…` of the image configuration.
    pub id: String,
    /// Overlay lower directories, top-most first.
    pub layers: Vec<PathBuf>,
}

/// A process of a container: the main one, or one that joins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Argument vector, never empty; `args[0]` is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`, `PATH` and `HOME` among them where known.
    pub env: Vec<String>,
    /// Absolute working directory; made if missing.
    pub cwd: String,
    /// `""`, `uid[:gid]`, `name[:group]`; looked up in the container's own files.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
    /// Give it a pseudo-terminal.
    pub tty: bool,
    /// Keep its standard input open (else it is /dev/null).
    pub stdin_open: bool,
    /// Run our own init as pid 1, which reaps and forwards signals.
    pub init: bool,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// Capabilities of the bounding set, by number (`man 7 capabilities`): bit N is capability N.
    pub capabilities: u64,
    /// `setrlimit` before the privileges are dropped.
    pub rlimits: Vec<Rlimit>,
    /// Written to `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// System call filter.
    pub seccomp: Seccomp,
}

/// A resource limit (`man 2 setrlimit`); `u64::MAX` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Without `RLIMIT_`, lower case: `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
    /// Whether failing to raise it is an error (it was asked for) or a warning (it is a default).
    pub required: bool,
}

/// System call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile for the process's capabilities.
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

/// Which namespaces are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network.
    pub network: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Cgroup root.
    pub cgroup: Namespace,
    /// User ids.
    pub user: UserNamespace,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    Own,
    /// The host's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// User namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// The host's: ids are the same inside and outside.
    Host,
    /// A new one with these maps, for users and for groups.
    Mapped {
        /// User ids.
        uids: Vec<IdMap>,
        /// Group ids.
        gids: Vec<IdMap>,
    },
}

/// One line of `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; made if missing.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Mounted read-only.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host, which exists by the time of the start.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// `rprivate`, `rslave`, …
        propagation: String,
    },
    /// A volume's data directory.
    Volume {
        /// Absolute path of its `_data`.
        path: PathBuf,
        /// What of it is mounted; all of it where unset. Whoever writes into the volume may put links there: none leads out of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<PathBuf>,
        /// Fill it from the image's content at `target` when it is empty at the first start.
        copy_up: bool,
    },
    /// Directories of layers, one above the other.
    Layers {
        /// Top-most first, at least two.
        lowers: Vec<PathBuf>,
        /// Upper and work directory, which take what is written; nothing can be without them.
        scratch: Option<(PathBuf, PathBuf)>,
    },
    /// Memory.
    Tmpfs {
        /// Limit; the kernel's default where unset.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Programs and devices in it work; set-user-id bits never do.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
    },
}

/// A small file placed in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFile {
    /// Absolute path in the container.
    pub target: String,
    /// Its content's origin.
    pub origin: FileOrigin,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Where an injected file's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileOrigin {
    /// A file of the host, bound read-only.
    HostFile(PathBuf),
    /// This text.
    Content(String),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Cgroup limits; unset is no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time per wall time, in thousandths of a CPU.
    pub cpu_milli: Option<u64>,
    /// Number of processes.
    pub pids: Option<u64>,
}

/// What follows the end of the main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Nothing.
    No,
    /// Start again.
    Always,
    /// Start again, unless it was stopped by hand.
    UnlessStopped,
    /// Start again after a code other than 0.
    OnFailure {
        /// Bound on restarts in a row.
        max_retries: Option<u32>,
    },
}

/// A probe and its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Argument vector; a shell line is already `["/bin/sh", "-c", line]`.
    pub test: Vec<String>,
    /// Between probes.
    pub interval: Duration,
    /// Longest run of a probe.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures during this time do not count.
    pub start_period: Duration,
    /// Between probes during the start period.
    pub start_interval: Duration,
}

/// Log files and their rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// A file is closed when it reaches this size.
    pub max_size_bytes: u64,
    /// How many files are kept.
    pub max_files: u32,
}

/// Files that the sandbox generates; bound over the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFiles {
    /// Lines of /etc/hosts after `127.0.0.1 localhost`.
    pub hosts: Vec<(IpAddr, String)>,
    /// The whole of /etc/resolv.conf.
    pub resolv_conf: String,
}
