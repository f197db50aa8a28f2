//! Starting a container: a monitor process, and what it is handed.
//!
//! The monitor is `<exe> monitor <id> --root R --run N`, executed by `posix_spawn` (no copy of the caller's memory) with an
//! empty environment. It inherits
//!
//! ```text
//! fd 0   one end of a SOCK_SEQPACKET pair, the sync socket
//! fd 1   `spawn.lock`, locked: flock belongs to the open file, so it stays locked if the command is killed, until the monitor
//!        listens at its control socket or dies
//! fd 2   /dev/null
//! ```
//!
//! and nothing else; all other descriptors come as `SCM_RIGHTS` over fd 0, so that their number has no bound:
//!
//! ```text
//! command -> monitor   {"adopt":false,"instance":"1f2e3d4c","netns":true,"fds":2}  + at most 200 descriptors, the network
//!                      namespace first if there is one, then `fds` of the caller's; then `+` messages with 200 more each
//! monitor -> command   {"started":{"pid":1234,"warnings":[]}} or {"failed":{"code":127,"message":"…"}}; then it closes its end
//! ```
//!
//! If the command dies before it has sent everything, the monitor ends without having started anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::runtime::bundle::{Layout, make_directory};
use crate::runtime::config::{ContainerId, EtcFiles};
use crate::runtime::record::{self, Desired, Exit, Live};
use crate::runtime::status::{self, Container, Status, Watch};
use crate::runtime::{Runtime, RuntimeError, remove};
use crate::sys::atomic::Durability;
use crate::sys::ending;
use crate::sys::lock::{Lock, Mode};
use crate::sys::packets::{self, Received};

/// What a start needs beyond the record.
#[derive(Debug)]
pub struct Launch {
    /// The network namespace; `None` for the host's.
    pub netns: Option<OwnedFd>,
    /// Generated files.
    pub etc: EtcFiles,
    /// Handed to [`Sandbox::serve`](crate::runtime::monitor::Sandbox::serve), kept in the record; opaque.
    pub sandbox: serde_json::Value,
    /// Handed to `serve` too: reserved ports' sockets.
    pub fds: Vec<OwnedFd>,
}

/// A container that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its monitor says why; `code` is 125, 126 (cannot be executed) or 127 (not found).
    #[error("{message}")]
    Failed {
        /// Exit code of the command that asked.
        code: i32,
        /// The chain of causes.
        message: String,
    },
    /// Its monitor was killed first.
    #[error("the monitor of container {} ended before the container ran", .0.short())]
    MonitorEnded(ContainerId),
    /// The answer is unreadable.
    #[error("hear from the monitor of container {}", .0.short())]
    Receive(ContainerId, #[source] io::Error),
}

/// A container that has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its init, in the host's pid namespace.
    pub pid: i32,
    /// What could not be had but was only a default.
    pub warnings: Vec<String>,
}

/// A start under way; its descriptor is readable when [`finish`](Self::finish) need not wait.
#[derive(Debug)]
pub struct Starting {
    id: ContainerId,
    socket: OwnedFd,
}

impl Starting {
    /// Waits until the container runs, or has failed to.
    pub fn finish(self) -> Result<Started, StartError> {
        let unreadable = |error| StartError::Receive(self.id.clone(), error);
        match packets::receive(&self.socket).map_err(unreadable)? {
            Received::Message(bytes, _) => match serde_json::from_slice(&bytes) {
                Ok(Answer::Started { pid, warnings }) => Ok(Started { pid, warnings }),
                Ok(Answer::Failed { code, message }) => Err(StartError::Failed { code, message }),
                Err(error) => Err(unreadable(error.into())),
            },
            Received::End | Received::Nothing => Err(StartError::MonitorEnded(self.id)),
        }
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A monitor that has been started and does not listen yet.
#[derive(Debug)]
pub struct Spawning {
    path: PathBuf,
}

impl Spawning {
    /// Waits until it listens, or has ended.
    pub fn finish(self) -> io::Result<()> {
        Lock::acquire(&self.path, Mode::Exclusive).map(drop)
    }
}

/// What became of a container without a monitor.
#[derive(Debug)]
pub enum Adoption {
    /// It needs none, or has one.
    NotNeeded,
    /// It runs; a new monitor takes it over.
    Adopting(Starting),
    /// It had ended unseen. That is recorded now. Its network resources were not released: the caller does that, and starts
    /// it again where its restart policy says so.
    Ended {
        /// The record.
        exit: Exit,
        /// Whether the restart policy wants it started again.
        restart: bool,
    },
}

/// First message of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Take over a living init instead of starting one.
    pub(crate) adopt: bool,
    /// Names the cgroup.
    pub(crate) instance: String,
    /// The first descriptor is the network namespace.
    pub(crate) netns: bool,
    /// How many others follow, over all messages.
    pub(crate) fds: usize,
}

/// The monitor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The container runs.
    Started {
        /// Its init.
        pid: i32,
        /// What could not be had but was only a default.
        warnings: Vec<String>,
    },
    /// It does not.
    Failed {
        /// Exit code.
        code: i32,
        /// Chain of causes.
        message: String,
    },
}

impl Answer {
    /// Says that it does not run, and why.
    pub(crate) fn failed(code: i32, message: String) -> Self {
        Self::Failed { code, message }
    }
}

impl Runtime {
    /// Returns the monitor of a container that is being started and of which is not yet known how that goes: where the command
    /// that started it was killed, nobody else waits for it.
    pub fn starting(&self, container: &Container) -> Result<Option<i32>, RuntimeError> {
        let id = container.id();
        match &container.status {
            // Its first word is not there yet.
            Status::Created { error: None } | Status::Exited(Exit { unknown: true, .. })
                if self.live(id)?.is_none() =>
            {
                self.monitor_pid(id)
            }
            _ => Ok(None),
        }
    }

    /// Starts a container that does not run: returns as soon as its monitor is on its way.
    ///
    /// Nothing is synced: the caller calls [`Runtime::sync`] once for all that it starts. After
    /// [`StartError::Failed`] the monitor has called [`released`](crate::runtime::monitor::Sandbox::released) too; after
    /// [`StartError::MonitorEnded`] nobody has.
    pub fn spawn(&self, id: &ContainerId, launch: Launch) -> Result<Starting, RuntimeError> {
        let lock = loop {
            let lock = self.lock_spawns(id)?;
            let container = self.get(id)?;
            if !matches!(container.watch, Watch::NotNeeded)
                || matches!(container.status, Status::Running { .. })
            {
                return Err(RuntimeError::Running(id.clone()));
            }
            if self.monitor_pid(id)?.is_none() {
                break lock;
            }
            // Another command has just started one.
            if self.starting(&container)?.is_some() {
                return Err(RuntimeError::Running(id.clone()));
            }
            // The last monitor has recorded the end but not yet ended itself.
            drop(lock);
            self.wait(id)?.finish()?;
        };
        {
            let _lock = self.lock_record(id)?;
            let mut record = self.record(id)?;
            record.desired = Desired::Running;
            record.stopped_by_hand = false;
            record.sandbox = launch.sandbox;
            record.etc = launch.etc;
            record::write(&self.layout.record(id), &record, Durability::Cached)?;
            let mut errors = Vec::new();
            remove::file(&self.layout.exit(id), &mut errors);
            remove::file(&self.layout.live(id), &mut errors);
            if let Some(error) = errors.pop() {
                return Err(RuntimeError::Spawn(id.clone(), io::Error::other(error)));
            }
        }
        self.start_monitor(id, false, (launch.netns.as_ref(), &launch.fds), lock)
    }

    /// Tells whether a monitor of `id` has been started and does not listen yet: where the command that started it was
    /// killed, nobody else waits for that.
    pub fn spawning(&self, id: &ContainerId) -> Result<Option<Spawning>, RuntimeError> {
        let path = self.layout.spawn_lock(id);
        match Lock::try_acquire(&path, Mode::Exclusive) {
            Ok(Some(_)) => Ok(None),
            Ok(None) => Ok(Some(Spawning { path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RuntimeError::Directory(path, error)),
        }
    }

    /// Like [`hold_spawns`], for one who starts a monitor.
    fn lock_spawns(&self, id: &ContainerId) -> Result<Lock, RuntimeError> {
        make_directory(&self.layout.control(id))?;
        let path = self.layout.spawn_lock(id);
        Lock::acquire(&path, Mode::Exclusive).map_err(|error| RuntimeError::Directory(path, error))
    }

    /// Gives a container whose monitor died a new one. `fds` as in [`Launch`]; the network namespace is found at the init.
    pub fn adopt(&self, id: &ContainerId, fds: &[OwnedFd]) -> Result<Adoption, RuntimeError> {
        let lock = self.lock_spawns(id)?;
        let container = self.get(id)?;
        if container.watch != Watch::Missing {
            return Ok(Adoption::NotNeeded);
        }
        if let Status::Running { .. } = container.status {
            let starting = self.start_monitor(id, true, (None, fds), lock)?;
            return Ok(Adoption::Adopting(starting));
        }
        let init = self.live(id)?.as_ref().and_then(Live::init);
        let code = init.and_then(|key| ending::unreaped(key.pid, key.start_time));
        let exit = self.record_unseen_end(id, code)?;
        Ok(Adoption::Ended {
            exit,
            restart: status::wants_restart(&container.record, exit, container.restarts),
        })
    }

    /// Executes a monitor and hands it its descriptors.
    fn start_monitor(
        &self,
        id: &ContainerId,
        adopt: bool,
        (netns, fds): (Option<&OwnedFd>, &[OwnedFd]),
        lock: Lock,
    ) -> Result<Starting, RuntimeError> {
        let wrap = |error| RuntimeError::Spawn(id.clone(), error);
        let (ours, theirs) = packets::pair().map_err(wrap)?;
        let child = self.execute_monitor(id, theirs, lock).map_err(wrap)?;
        self.remember_child(child);
        let hello = Hello {
            adopt,
            instance: self.layout.instance.clone(),
            netns: netns.is_some(),
            fds: fds.len(),
        };
        let descriptors: Vec<_> = netns.into_iter().chain(fds).map(OwnedFd::as_fd).collect();
        send_hello(&ours, &hello, &descriptors).map_err(wrap)?;
        Ok(Starting {
            id: id.clone(),
            socket: ours,
        })
    }

    /// Executes `<exe> monitor <id> --root R --run N`.
    fn execute_monitor(&self, id: &ContainerId, sync: OwnedFd, lock: Lock) -> io::Result<Child> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where a monitor starts"
        )]
        let mut command = Command::new(&self.exe);
        command
            .arg("monitor")
            .arg(id.as_str())
            .arg("--root")
            .arg(&self.layout.root)
            .arg("--run")
            .arg(&self.layout.run)
            .env_clear()
            .stdin(Stdio::from(sync))
            .stdout(Stdio::from(lock.into_file()))
            .stderr(Stdio::null())
            .spawn()
    }

    /// Remembers a monitor, and reaps those that have ended whenever their number has doubled: once each on average.
    fn remember_child(&self, child: Child) {
        let mut children = match self.children.lock() {
            Ok(children) => children,
            Err(poisoned) => poisoned.into_inner(),
        };
        if children.len() == children.capacity() {
            children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        }
        children.push(child);
    }
}

/// Waits until no monitor of `id` is on its way, and keeps others from starting one, and from doing the work of one that died.
/// `None` where there has been none.
pub(crate) fn hold_spawns(layout: &Layout, id: &ContainerId) -> Result<Option<Lock>, RuntimeError> {
    let path = layout.spawn_lock(id);
    match Lock::acquire(&path, Mode::Exclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RuntimeError::Directory(path, error)),
    }
}

/// Sends the first message and all descriptors.
fn send_hello(socket: &OwnedFd, hello: &Hello, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let message = serde_json::to_vec(hello)?;
    let mut chunks = descriptors.chunks(packets::DESCRIPTORS);
    packets::send_with(socket, &message, chunks.next().unwrap_or_default())?;
    for chunk in chunks {
        packets::send_with(socket, b"+", chunk)?;
    }
    Ok(())
}

/// Receives what [`send_hello`] sent; `None` if the command died first.
pub(crate) fn receive_hello(socket: &OwnedFd) -> io::Result<Option<(Hello, Vec<OwnedFd>)>> {
    let Received::Message(message, mut descriptors) = packets::receive(socket)? else {
        return Ok(None);
    };
    let hello: Hello = serde_json::from_slice(&message)?;
    while descriptors.len() < hello.fds + usize::from(hello.netns) {
        match packets::receive(socket)? {
            Received::Message(_, more) if !more.is_empty() => descriptors.extend(more),
            Received::Message(..) | Received::End | Received::Nothing => return Ok(None),
        }
    }
    Ok(Some((hello, descriptors)))
}
