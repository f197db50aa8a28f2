//! From a [`ContainerConfig`] to its running first process.
//!
//! ```text
//! caller (monitor, or the CLI for a build step)           child: pid 1 of the container
//!   steps::plan   pure: config -> Prepare, Vec<InitStep>
//!   prepare       overlay, host trees: detached mounts
//!   clone3 ────────────────────────────────────────────▶  waits
//!   v2 cgroup, id maps, oom_score_adj                       enters its v1 cgroups
//!   `Go` ──────────────────────────────────────────────▶  performs each InitStep, decides nothing
//!         ◀──────────────── `Terminal`, `Warning`* ──────
//!         ◀──────────────── `Ready` or `Failed` ─────────  execve: the socket closes
//! ```
//!
//! Where the caller has threads, or namespaces are to be joined, a short-lived process between the two does the joining and
//! clones the child as its sibling, so that the child is always the caller's own. This room must never look at who owns the
//! container. Files in reading order: `steps` (decisions), `facts` (what they need to know of the host), `launch` (the caller's
//! side), `handshake` (the socket), `perform` (the child's side), `mounts`, `etc`, `user`, `capabilities`, `seccomp`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::runtime::cgroup::{Cgroup, CgroupError};
use crate::runtime::config::{ContainerConfig, ContainerId, EtcFiles, Namespace, UserNamespace};
use crate::runtime::init::launch::Launch;
use crate::runtime::init::perform::Child;
use crate::sys::clone;

pub mod capabilities;
mod etc;
mod facts;
mod handshake;
pub(crate) mod launch;
pub(crate) mod mounts;
pub(crate) mod overlay;
pub(crate) mod perform;
pub(crate) mod seccomp;
pub(crate) mod steps;
#[cfg(test)]
mod tests;
mod user;

/// What [`spawn`] needs to start a container's first process.
#[derive(Debug)]
pub struct SpawnRequest<'a> {
    /// The container; every decision comes from here.
    pub config: &'a ContainerConfig,
    /// `NAME=value` that its first process is given too: in any bytes, and never recorded.
    pub secret_env: &'a [OsString],
    /// Directories of its root file system.
    pub root: RootFs,
    /// Content of /etc/hosts and /etc/resolv.conf; /etc/hostname comes from `config`.
    pub etc: &'a EtcFiles,
    /// Whether it gets an /etc/hostname; else that is the image's, and what is written there stays.
    pub hostname_file: bool,
    /// An existing directory that belongs to the container, in which `hosts`, `hostname` and `resolv.conf` are (re)written.
    pub etc_directory: &'a Path,
    /// The network namespace to enter. `None` with [`Namespace::Own`] makes an empty
    /// one with only `lo`.
    pub netns: Option<BorrowedFd<'a>>,
    /// The pidfd of a process in whose pid namespace the container's own is made, to end with that one at the latest.
    pub outer_pids: Option<BorrowedFd<'a>>,
    /// The pidfd of the first process of each container whose namespaces `config` shares.
    pub joined: &'a [(ContainerId, BorrowedFd<'a>)],
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// Its control group, limits already written.
    pub cgroup: &'a Cgroup,
}

/// The directories of an overlay root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// Lower directories, top-most first; at least one.
    pub lowers: Vec<PathBuf>,
    /// Upper directory, made by the caller.
    pub upper: PathBuf,
    /// Work directory, made by the caller on the file system of `upper`.
    pub work: PathBuf,
    /// Whether nothing that is written needs to be synced by `fsync` or at the end: somebody else does it, or throws all away
    /// (`volatile`, kernel overlayfs.rst). Unmounting any other overlay syncs the whole file system below it.
    pub is_volatile: bool,
}

/// Standard streams of a new process.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// These descriptors.
    Pipes {
        /// Standard output.
        out: BorrowedFd<'a>,
        /// Standard error.
        err: BorrowedFd<'a>,
        /// Standard input; the container's /dev/null where `None`.
        input: Option<BorrowedFd<'a>>,
    },
    /// A new pseudo-terminal of the container's own devpts; its master comes back.
    Terminal,
}

/// A process that has reached its `execve`.
#[derive(Debug)]
pub struct Spawned {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// The process itself; poll it for the end, `waitid` it for the code.
    pub pidfd: OwnedFd,
    /// Master end of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// What could not be had but was only a default.
    pub warnings: Vec<String>,
}

/// Why a process did not start. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `args[0]` is nowhere in `PATH`, or is a path to nothing.
    #[error("executable `{command}` not found{}", searched(.path_searched))]
    NotFound {
        /// As given.
        command: String,
        /// The `PATH` that was searched; empty where the command names a path.
        path_searched: String,
    },
    /// The file is there but its interpreter (`#!` line or dynamic loader) is not.
    #[error("interpreter of `{command}` not found")]
    NoInterpreter {
        /// The file.
        command: String,
    },
    /// The file is there but cannot be executed.
    #[error("execute `{command}`")]
    NotExecutable {
        /// As given.
        command: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The configuration asks for what cannot be, found before anything was made.
    #[error("{0}")]
    Config(String),
    /// A step failed, here or in the child.
    #[error("{step}")]
    Step {
        /// What was attempted, on what.
        step: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A step was refused for a reason of our own.
    #[error("{step}: {reason}")]
    Refused {
        /// What was attempted, on what.
        step: String,
        /// Why not.
        reason: String,
    },
    /// The child died before it reached `execve`.
    #[error("the new process died while it was set up{}", oom_hint(*.killed))]
    Died {
        /// Whether a SIGKILL ended it.
        killed: bool,
    },
    /// The process could not be put into its control group.
    #[error("enter the control group")]
    Cgroup(#[from] CgroupError),
}

impl StartError {
    /// Returns the exit code of a command that was to join a container: 127 not found, 126 any other failure (`docker exec`).
    pub fn exec_exit_code(&self) -> i32 {
        match self.exit_code() {
            127 => 127,
            _ => 126,
        }
    }

    /// Returns the exit code to record: 127 not found, 126 not executable, 128 any other failure (as Docker's).
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter { .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::Config(_)
            | Self::Step { .. }
            | Self::Refused { .. }
            | Self::Died { .. }
            | Self::Cgroup(_) => 128,
        }
    }
}

/// Renders where a command was looked for.
fn searched(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" in PATH={path}")
    }
}

/// Says what a SIGKILL during the set-up usually means.
fn oom_hint(killed: bool) -> &'static str {
    if killed {
        ": killed, perhaps because its memory limit is too low"
    } else {
        ""
    }
}

/// Starts the container's first process and returns when it has executed its command.
///
/// Blocks for as long as the set-up takes (about 2 ms, more where a volume is filled).
pub fn spawn(request: &SpawnRequest<'_>) -> Result<Spawned, StartError> {
    let facts = facts::gather(request)?;
    let plan = steps::plan(request.config, &facts).map_err(StartError::Config)?;
    let filter = seccomp::compile(&request.config.process).map_err(StartError::Config)?;
    etc::write(request)?;
    let userns = match &request.config.namespaces.user {
        UserNamespace::Host => None,
        UserNamespace::Mapped { uids, gids } => Some(launch::make_user_namespace(uids, gids)?),
    };
    let root = mounts::mount_root(&request.root, userns.as_ref())?;
    let userns = userns.as_ref().map(|mapping| mapping.namespace.as_fd());
    fill_volumes(request, &plan.fills, &root)?;
    let mut trees = Vec::with_capacity(plan.trees.len());
    for tree in &plan.trees {
        trees.push(match &tree.within {
            None => mounts::take_tree(tree, userns)?,
            Some(container) => {
                let taken = launch::take_tree_within(joined(request, container)?, tree)?;
                mounts::finish_tree(tree, &taken, userns)?;
                taken
            }
        });
    }
    let mut join = Vec::new();
    // A network namespace of the host's can only be entered before the user namespace is.
    let outer = matches!(
        request.config.namespaces.network,
        Namespace::Own | Namespace::Container(_)
    );
    if let (Some(_), Some(netns), true) = (userns, request.netns, outer) {
        join.push((netns, clone::CLONE_NEWNET));
    }
    for entry in &plan.join {
        join.push((joined(request, &entry.container)?, entry.flags));
    }
    let child = Child {
        socket: None,
        root: Some(root),
        trees,
        netns: request.netns,
        init: None,
        stdio: request.stdio,
        process: &request.config.process,
        secret_env: request.secret_env,
        filter: &filter,
        opened: perform::Opened::default(),
    };
    launch::launch(
        &Launch {
            clone_flags: plan.clone_flags,
            outer_pids: request.outer_pids,
            join,
            userns,
            cgroup: request.cgroup,
            steps: &plan.steps,
        },
        child,
    )
}

/// Fills the volumes that are empty, owners as in the image: from the layers themselves where the root shows mapped ones.
fn fill_volumes(
    request: &SpawnRequest<'_>,
    fills: &[steps::Fill],
    root: &OwnedFd,
) -> Result<(), StartError> {
    if fills.is_empty() {
        return Ok(());
    }
    let plain = match request.config.namespaces.user {
        UserNamespace::Host => None,
        UserNamespace::Mapped { .. } => Some(mounts::mount_lowers(&request.root)?),
    };
    let source = plain.as_ref().unwrap_or(root);
    fills
        .iter()
        .try_for_each(|fill| mounts::fill(source.as_fd(), fill))
}

/// Returns the pidfd of a container whose namespaces are shared.
fn joined<'a>(
    request: &SpawnRequest<'a>,
    container: &ContainerId,
) -> Result<BorrowedFd<'a>, StartError> {
    let known = request.joined.iter().find(|(id, _)| id == container);
    known.map(|(_, pidfd)| *pidfd).ok_or_else(|| {
        StartError::Config(format!(
            "container {} whose namespaces are to be shared is not running",
            container.short()
        ))
    })
}
