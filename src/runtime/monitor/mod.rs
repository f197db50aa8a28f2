//! skeleton
pub mod policy;
use crate::runtime::config::ContainerId;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A child that serves the sandbox, and its pidfd.
#[derive(Debug)]
pub struct Sidecar {
    /// In the monitor's pid namespace.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// A cause that the engine's side gives.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What the monitor needs of those who know networks; the engine implements it.
pub trait Sandbox {
    /// Forks the child that answers names and forwards ports, and returns when its sockets are bound; `None` where the
    /// sandbox needs none. Called before the init starts, and again whenever that child has died. The child must close what
    /// it does not use, take the signals' block away, and set `PR_SET_PDEATHSIG` to SIGKILL.
    fn serve(
        &mut self,
        sandbox: &serde_json::Value,
        netns: Option<BorrowedFd<'_>>,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Sidecar>, HookError>;

    /// Releases what the sandbox holds on the host: names and published ports. Called once, when it has ended for good.
    fn released(&mut self, sandbox: &serde_json::Value) -> Result<(), HookError>;
}

/// What the monitor is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorArgs {
    /// The container.
    pub id: ContainerId,
    /// Persistent root.
    pub root: PathBuf,
    /// Run root.
    pub run: PathBuf,
}

impl MonitorArgs {
    /// Reads `ID --root R --run N`, what follows the word `monitor`.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let arguments: Vec<_> = arguments.collect();
        let [id, root_flag, root, run_flag, run] = arguments.as_slice() else {
            return None;
        };
        (root_flag == "--root" && run_flag == "--run").then_some(())?;
        Some(Self {
            id: ContainerId::new(id.to_str()?)?,
            root: root.into(),
            run: run.into(),
        })
    }
}

/// Why a monitor ended without having done its work.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Not yet.
    #[error("not yet")]
    NotYet,
}

/// The body of the hidden command `stack monitor ID --root R --run N`, whose fd 0 is the sync socket ([`super::start`]).
pub fn run(_args: &MonitorArgs, _hooks: &mut dyn Sandbox) -> Result<(), MonitorError> {
    Err(MonitorError::NotYet)
}
