//! Containers: their records, processes, resources, logs.
//!
//! This room never says which larger application a container belongs to: identity travels as opaque labels.
//!
//! ## Sandbox and generations
//!
//! A container is a *sandbox* (identity, network namespace, addresses, ports, name, logs, standard streams) and a row of
//! *generations* (root file system, configuration). A restart is a new init in the same sandbox and generation; a swap is a
//! new generation in the same sandbox; a replacement is a new sandbox.
//!
//! ## On disk
//!
//! ```text
//! <root>/containers/<id>/record.json        what it is and what is wanted of it (record.rs)
//! <root>/containers/<id>/exit.json          how it ended (record.rs)
//! <root>/containers/<id>/gen/<n>/config.json  the generation as an OCI runtime configuration (oci.rs)
//! <root>/containers/<id>/gen/<n>/upper, work  the writable overlay layer
//! <root>/mount-points/{proc,sys,dev,etc/…}  the lowest layer of every root file system: empty, mounted on
//! <root>/containers/.new-<id>, .gone-<id>   being made, being removed; swept by the next creation or removal
//! <root>/names/<name> -> <id>               a symbolic link; makes names unique
//! <root>/logs/<id>.log, .log.1, …           one line a record, newest in .log (logs.rs)
//! <root>/logs/<id>.json                     name, labels and times of the container that wrote them; outlives it
//! <root>/volumes/<name>/_data, volume.json  volumes.rs
//! <root>/containers.lock                    flock: creation and removal, a millisecond each
//! <run>/s/<id>.json                         live state, written by the monitor (record.rs); one directory, so that one
//!                                           inotify watch sees every change
//! <run>/c/<id12>/monitor.lock               a POSIX record lock held by the living monitor (not inherited by its children)
//! <run>/c/<id12>/spawn.lock                 flock: who starts a monitor, and then that monitor until it listens at `ctl`
//! <run>/c/<id12>/record.lock                flock: who reads, changes and replaces record.json
//! <run>/c/<id12>/etc/                       the sandbox's hosts, hostname, resolv.conf; written anew by each start
//! <run>/c/<id12>/ctl                        SOCK_SEQPACKET: stop, restart, window size (attach.rs)
//! <run>/c/<id12>/terminal                  SOCK_SEQPACKET of the keeper of its terminal, where it has one (monitor/keeper.rs)
//! <run>/c/<id12>/trouble                    what the monitor could not do and nobody was there to be told; one line each
//! <run>/c/<id12>/{stdout.part,stderr.part,copied}   output on its way from the pipes to the log (monitor/journal.rs)
//! <run>/c/<id12>/{stdin,stdout,stderr}      named pipes: the container's standard streams, opened read-write by both ends
//! ```
//!
//! Synced: `record.json` when created and when stopped by hand, `exit.json`, and the removal of a container, each unless the
//! caller says [`Durability::Cached`](crate::sys::atomic::Durability::Cached) because it calls [`Runtime::sync`] once for
//! many or removes them next. Nothing under `<run>` is synced.
//!
//! ## Processes and who holds which descriptor
//!
//! ```text
//! command ──exec──> monitor ──clone3──> init (pid 1 of the container)
//!    │                 ├──────fork────> keeper of the terminal, only where there is one; ends with the init
//!    │                 ├──────fork────> sidecar: names and forwarded ports (the engine's; no capabilities)
//!    │                 └──────clone3──> health probe
//!    └ sync socket (fd 0 of the monitor until it has answered)
//! ```
//!
//! The monitor holds: its lock, the network namespace, the reserved ports' sockets, both ends of the standard streams'
//! pipes, the open log file, a pidfd of each child, the control socket. The container's init holds the pipes read-write, so
//! that the death of the monitor blocks its writers instead of killing them, and what is in the pipe waits for the next
//! monitor. Of a container with a terminal the monitor and the keeper both hold the master end: either may be killed, and
//! nobody is hung up. A new keeper is made by the monitor, a new monitor is handed the master by the keeper.

pub mod attach;
pub mod bundle;
pub mod cgroup;
pub mod config;
mod create;
pub mod exec;
pub mod init;
pub mod logs;
pub mod monitor;
pub mod oci;
pub mod record;
mod remove;
mod rename;
pub mod seal;
mod start;
pub mod status;
mod stop;
#[cfg(test)]
mod testing;
pub mod volumes;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

pub use crate::runtime::attach::Restarting;
pub use crate::runtime::create::random_id;
pub use crate::runtime::remove::RemoveError;
pub use crate::runtime::start::{Adoption, Launch, Spawning, StartError, Started, Starting};
pub use crate::runtime::stop::{Ended, StopOptions, Stopping};

use crate::runtime::bundle::{BundleError, Layout};
use crate::runtime::config::ContainerId;
use crate::runtime::logs::{LogError, Logs};
use crate::runtime::monitor::streams::StreamError;
use crate::runtime::record::{Live, Record, RecordError, Timestamp};
use crate::runtime::status::{Container, Found, Status};
use crate::runtime::volumes::Volumes;
use crate::sys::inotify::Inotify;
use crate::sys::procfs;

/// Where an instance keeps its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRoots {
    /// Persistent: `/var/lib/stack`.
    pub root: PathBuf,
    /// Gone at boot: `/run/stack`.
    pub run: PathBuf,
    /// 8 hexadecimal digits; names the cgroup.
    pub instance: String,
    /// The executable whose hidden command `monitor` is this room's [`monitor::run`].
    pub exe: PathBuf,
}

/// What this room could not do.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A directory of the instance cannot be made or read.
    #[error("prepare `{}`", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// A record is unreadable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Files of a container.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is on its way there.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The name is in use.
    #[error("the name `{name}` is in use by container {}", .holder.short())]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        holder: ContainerId,
    },
    /// The name cannot be a file name, or is longer than 200 bytes.
    #[error("`{0}` is not a container name")]
    BadName(String),
    /// No such container.
    #[error("no container `{0}`")]
    NotFound(String),
    /// The beginning of an id fits several containers.
    #[error("`{0}` fits several containers")]
    Ambiguous(String),
    /// It runs and must not.
    #[error("container {} is running", .0.short())]
    Running(ContainerId),
    /// It must run and does not.
    #[error("container {} is not running", .0.short())]
    NotRunning(ContainerId),
    /// A signal could not be sent.
    #[error("signal container {}", .0.short())]
    Signal(ContainerId, #[source] io::Error),
    /// The monitor cannot be reached or refuses.
    #[error("ask the monitor of container {}", .0.short())]
    Control(ContainerId, #[source] io::Error),
    /// The monitor cannot be started.
    #[error("start the monitor of container {}", .0.short())]
    Spawn(ContainerId, #[source] io::Error),
    /// Watching for changes.
    #[error("watch `{}`", .0.display())]
    Watch(PathBuf, #[source] io::Error),
    /// Resources of a container.
    #[error("cgroup of container {}", .0.short())]
    Cgroup(ContainerId, #[source] io::Error),
    /// Reaching the disk.
    #[error("sync `{}`", .0.display())]
    Sync(PathBuf, #[source] io::Error),
}

/// The containers of one instance.
#[derive(Debug)]
pub struct Runtime {
    layout: Layout,
    exe: PathBuf,
    /// Monitors started by this process, to be reaped by it.
    children: Mutex<Vec<std::process::Child>>,
    swept: AtomicBool,
    /// Set aside, and not told yet.
    lost: Mutex<Vec<(ContainerId, PathBuf)>>,
}

impl Runtime {
    /// Opens an instance; makes its directories (mode 0700) if missing.
    pub fn open(roots: RuntimeRoots) -> Result<Self, RuntimeError> {
        let layout = Layout {
            root: roots.root,
            run: roots.run,
            instance: roots.instance,
        };
        layout.prepare()?;
        Ok(Self {
            layout,
            exe: roots.exe,
            children: Mutex::new(Vec::new()),
            swept: AtomicBool::new(false),
            lost: Mutex::default(),
        })
    }

    /// Returns where things are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns every container, oldest first.
    pub fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let mut containers = Vec::new();
        for id in self.layout.ids()? {
            match self.get(&id) {
                Ok(container) => containers.push(container),
                Err(RuntimeError::NotFound(_)) => {} // removed since
                Err(error) => return Err(error),
            }
        }
        for record in self.layout.half_removed()? {
            let mut container = status::derive(record, Found::nothing());
            container.status = Status::Removing;
            containers.push(container);
        }
        containers.sort_by(|a, b| {
            (a.record.created, &a.record.id).cmp(&(b.record.created, &b.record.id))
        });
        Ok(containers)
    }

    /// Returns one container.
    pub fn get(&self, id: &ContainerId) -> Result<Container, RuntimeError> {
        let record = self.record(id)?;
        let live = self.live(id)?;
        let init_alive = match live.as_ref().and_then(Live::init) {
            Some(key) => procfs::is_alive(key.pid, key.start_time),
            None => false,
        };
        Ok(status::derive(
            record,
            Found {
                init_alive,
                live,
                exit: record::read(&self.layout.exit(id))?,
                monitor: self.monitor_pid(id)?,
                now: Timestamp::now(),
            },
        ))
    }

    /// Returns the container whose name is `key`, or whose id is or alone begins with it.
    pub fn find(&self, key: &str) -> Result<Container, RuntimeError> {
        if let Some(id) = self.layout.named(key)? {
            return self.get(&id);
        }
        let mut fitting = self.layout.ids()?;
        fitting.retain(|id| !key.is_empty() && id.as_str().starts_with(key));
        match fitting.as_slice() {
            [] => Err(RuntimeError::NotFound(key.to_owned())),
            [id] => self.get(id),
            _ => Err(RuntimeError::Ambiguous(key.to_owned())),
        }
    }

    /// Reads the record of `id`.
    pub fn record(&self, id: &ContainerId) -> Result<Record, RuntimeError> {
        record::read(&self.layout.record(id))?
            .ok_or_else(|| RuntimeError::NotFound(id.short().to_owned()))
    }

    /// Returns a descriptor that becomes readable whenever a container of this instance starts, ends, turns healthy or not.
    pub fn changes(&self) -> Result<Changes, RuntimeError> {
        let directory = self.layout.states();
        Inotify::new()
            .and_then(|inotify| {
                inotify.watch_renames(&directory)?;
                Ok(Changes { inotify })
            })
            .map_err(|error| RuntimeError::Watch(directory, error))
    }

    /// Returns the named volumes.
    pub fn volumes(&self) -> Volumes {
        Volumes::new(self.layout.root.join("volumes"))
    }

    /// Returns the logs, also of containers that are gone.
    pub fn logs(&self) -> Logs {
        Logs::new(self.layout.root.join("logs"))
    }

    /// Removes logs of containers that are gone, beyond what is kept of them ([`Logs::prune`]).
    pub fn prune_logs(&self) -> Result<(), RuntimeError> {
        // Nobody begins or forgets one meanwhile.
        let _lock = self.lock_containers()?;
        let ids = self.layout.ids()?;
        Ok(self.logs().prune(&|id| ids.binary_search(id).is_ok())?)
    }

    /// Brings everything that was written to the disk: one `syncfs`.
    pub fn sync(&self) -> Result<(), RuntimeError> {
        let root = &self.layout.root;
        fs_err::File::open(root)
            .and_then(|file| Ok(rustix::fs::syncfs(&file)?))
            .map_err(|error| RuntimeError::Sync(root.clone(), error))
    }

    /// Reads the live state, if it is of this boot.
    fn live(&self, id: &ContainerId) -> Result<Option<Live>, RuntimeError> {
        let live: Option<Live> = record::read(&self.layout.live(id))?;
        Ok(live.filter(|live| procfs::boot_id().is_ok_and(|boot| boot == live.boot_id)))
    }

    /// Returns the pid of the living monitor.
    fn monitor_pid(&self, id: &ContainerId) -> Result<Option<i32>, RuntimeError> {
        monitor_pid(&self.layout, id)
    }
}

/// Returns the pid of the living monitor of `id`.
fn monitor_pid(layout: &Layout, id: &ContainerId) -> Result<Option<i32>, RuntimeError> {
    let path = layout.monitor_lock(id);
    procfs::lock_holder(&path).map_err(|error| RuntimeError::Directory(path, error))
}

/// Tells that something changed; see [`Runtime::changes`].
#[derive(Debug)]
pub struct Changes {
    inotify: Inotify,
}

impl Changes {
    /// Takes what has happened since the last call, without waiting: the containers whose state changed, or `None` when so
    /// much happened that the kernel forgot some of it.
    pub fn take(&mut self) -> io::Result<Option<Vec<ContainerId>>> {
        let events = self.inotify.take()?;
        if events.iter().any(|event| event.overflow) {
            return Ok(None);
        }
        let mut ids: Vec<_> = events
            .iter()
            .filter_map(|event| event.name.strip_suffix(".json"))
            .filter_map(ContainerId::new)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(Some(ids))
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
