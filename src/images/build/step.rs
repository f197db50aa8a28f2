//! A `RUN` step as whoever runs it gets it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;

/// Runs the command of a `RUN` step in a container of its own.
pub trait StepRunner {
    /// Runs `step` to its end and returns its exit code (128 + signal where a signal ended it), telling `hear` how it goes on. Dropped
    /// before that, it ends the step, and tells what it had written by then.
    ///
    /// The runner mounts an overlay of `step.layers` below `step.upper` (without `redirect_dir`, `metacopy` and `index`, so that
    /// the upper directory is a layer by itself), runs with stdin closed, and takes every mount down before it returns.
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        hear: &'a mut dyn FnMut(Heard<'_>),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>>;

    /// Finds the devices of a name of the Container Device Interface; none where there is none of it.
    fn find_devices(&self, _name: &str) -> Result<Vec<FoundDevice>, StepError> {
        Ok(Vec::new())
    }

    /// Hears that the build has run its last step: what is kept for the next one can go while the image is written.
    fn finish(&self) {}
}

/// What is heard of a step that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Its layers are mounted: it needs them no longer by their paths.
    Mounted,
    /// It wrote this to stdout or stderr: any piece, as it came.
    Output(&'a [u8]),
}

/// One `RUN` step, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Overlay lower directories, top first. The top one may hold mount points that the image lacks ([`run`]).
    pub layers: Vec<PathBuf>,
    /// Overlay upper directory, which becomes the layer: empty but for missing `/proc`, `/sys` and `/dev`.
    pub upper: PathBuf,
    /// Overlay work directory: empty, on the file system of `upper`.
    pub work: PathBuf,
    /// The program and its arguments; the program is looked up in `PATH` of `env`, inside the root.
    pub args: Vec<String>,
    /// `NAME=value`, in order, each name once. The runner adds `HOME` from `/etc/passwd` where it is missing.
    pub env: Vec<String>,
    /// The same of secrets, in any bytes but NUL.
    pub secret_env: Vec<OsString>,
    /// Absolute working directory inside the root.
    pub cwd: String,
    /// As `USER` gives it: name or number, with an optional `:group`; empty is root.
    pub user: String,
    /// What is mounted, parents before what is below them; of the same target the last is on top. Mount points are there.
    pub mounts: Vec<StepMount>,
    /// Its network.
    pub network: StepNetwork,
    /// With every capability and device, and without a system call filter.
    pub insecure: bool,
    /// Devices that it may use beyond those of every container; their nodes are among the mounts.
    pub devices: Vec<StepDevice>,
    /// Name of the machine that it sees.
    pub hostname: String,
    /// What else it is given.
    pub requirements: Requirements,
}

/// What every `RUN` of a build is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Lines of `/etc/hosts`: address and name. Without an address (`host-gateway`): the machine, as the step reaches it.
    pub hosts: Vec<(Option<IpAddr>, String)>,
    /// Bytes of `/dev/shm`; 64 MiB where unset.
    pub shm_bytes: Option<u64>,
    /// Limits of its processes.
    pub limits: Vec<Limit>,
    /// Bytes of memory that a step may use.
    pub memory_bytes: Option<u64>,
}

/// A resource limit (`man 2 setrlimit`); `u64::MAX` is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The network of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepNetwork {
    /// One that steps have for themselves, with a way out.
    #[default]
    Own,
    /// A loopback interface alone.
    None,
    /// The machine's.
    Host,
    /// A network of containers, by its name.
    Named(String),
}

impl std::fmt::Display for StepNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own => "default",
            Self::None => "none",
            Self::Host => "host",
            Self::Named(name) => name,
        })
    }
}

/// One mount of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMount {
    /// Absolute and clean.
    pub target: String,
    /// What.
    pub source: StepSource,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepSource {
    /// A file or directory of the machine.
    Host(PathBuf),
    /// A part of a directory that other steps write into meanwhile: whoever mounts it finds it without leaving `root`.
    Inside {
        /// The directory, which nobody else moves.
        root: PathBuf,
        /// Below it; exists.
        path: PathBuf,
        /// Whether it is one, and no file.
        is_directory: bool,
    },
    /// Parts of layers, top first, at least two; with upper and work directory it can be written.
    Layers {
        /// Lower directories.
        lowers: Vec<PathBuf>,
        /// Upper and work directory, empty.
        scratch: Option<(PathBuf, PathBuf)>,
    },
    /// Memory, so many bytes at most.
    Tmpfs(Option<u64>),
    /// A file that is nowhere on the disk.
    File(StepFile),
    /// The socket of an ssh agent, which only lists keys and signs.
    Agent {
        /// The agent's own.
        socket: PathBuf,
        /// Owner of the one that the step sees.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
}

/// A device that a step may use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepDevice {
    /// Whether it is a block device, and no character device.
    pub is_block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Of the letters `rwm`.
    pub permissions: String,
}

/// A device of the machine, and what it needs in a container (CDI specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// `vendor/class=name`.
    pub name: String,
    /// Whether any build may have it.
    pub is_free: bool,
    /// What it needs.
    pub edits: DeviceEdits,
    /// What it needs too and does not get, in words.
    pub left_out: Vec<String>,
}

/// What a device needs in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceEdits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub nodes: Vec<DeviceNode>,
    /// Files and directories of the machine.
    pub mounts: Vec<DeviceMount>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// In the container.
    pub path: String,
    /// On the machine.
    pub host_path: PathBuf,
    /// Whether it is a block device, and its numbers; those of the machine's node where unset.
    pub number: Option<(bool, u32, u32)>,
    /// Permission bits, where they are not to be the machine's.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Of the letters `rwm`.
    pub permissions: String,
}

/// A file or directory of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMount {
    /// On the machine.
    pub host_path: PathBuf,
    /// In the container.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// A file by its content.
#[derive(Clone, PartialEq, Eq)]
pub struct StepFile {
    /// All of it.
    pub content: Vec<u8>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for StepFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.content.len())
    }
}

/// Why a step could not be run at all; a command that fails is not an error but an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What was attempted, on what.
    pub message: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}
