//! The process that stays with a container: the hidden command `stack monitor ID`.
//!
//! One thread, one `epoll` set over the init's pidfd, signals, one timer, the standard streams, the control socket, the
//! sidecar and the running probe. What to do is decided in [`policy`]; this file and its neighbours only carry it out. It
//! parses nothing that a container or the network sends.
//!
//! It has its own session, the directory `/`, `/dev/null` as standard streams, and the instance's cgroup for monitors, so
//! that neither a logout nor the end of a unit reaches it. SIGTERM, which a host that goes down sends, stops the container
//! without noting that it was by hand.
//!
//! At the end, in this order: exit record, log on the disk, [`Sandbox::released`], live state, then the process ends, which
//! closes the control connections and so tells everyone who waits.
//!
//! Files in reading order: `policy` (decisions), `carry` (what follows from them), `streams`, `journal`, `terminal`,
//! `keeper`, `health`, `clients`.

mod carry;
mod clients;
mod health;
pub(crate) mod journal;
pub(crate) mod keeper;
pub mod policy;
pub mod streams;
mod terminal;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::runtime::attach::{Answer as ClientAnswer, Request};
use crate::runtime::bundle::{BundleError, Layout, make_directory};
use crate::runtime::cgroup::{Cgroup, CgroupError, Cgroups};
use crate::runtime::config::ContainerId;
use crate::runtime::logs::{LogError, LogWriter};
use crate::runtime::monitor::clients::Clients;
use crate::runtime::monitor::health::Probes;
use crate::runtime::monitor::keeper::Keeper;
use crate::runtime::monitor::policy::{Input, Settings, State};
use crate::runtime::monitor::streams::{Source, StreamError, Streams};
use crate::runtime::record::{self, Exit, ProcessKey, Record, RecordError, Timestamp};
use crate::runtime::start::{self, Answer};
use crate::sys::atomic::Durability;
use crate::sys::poll::Poll;
use crate::sys::signals::Signals;
use crate::sys::timer::{Timer, since_boot};
use crate::sys::{daemon, packets, procfs};

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

    /// Releases what the sandbox holds on the host: names and published ports. Called once, when it has ended for good or
    /// could not be started. The sidecar is gone by then.
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
    /// Another one lives.
    #[error("container {} has a monitor", .0.short())]
    Taken(ContainerId),
    /// There is no such container.
    #[error("no container {}", .0.short())]
    NotFound(ContainerId),
    /// The init that was to be taken over is not known.
    #[error("container {} does not run", .0.short())]
    NotRunning(ContainerId),
    /// A call to the kernel.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    /// Its cgroup.
    #[error("leave the caller's control group")]
    Cgroup(#[from] CgroupError),
    /// A record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A directory.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A pipe.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Numbers in the set.
mod token {
    pub(super) const INIT: u64 = 1;
    pub(super) const SIGNAL: u64 = 2;
    pub(super) const TIMER: u64 = 3;
    pub(super) const OUT: u64 = 4;
    pub(super) const ERR: u64 = 5;
    pub(super) const TERMINAL: u64 = 6;
    pub(super) const INPUT: u64 = 7;
    pub(super) const CLIENT: u64 = 8;
    pub(super) const SIDECAR: u64 = 9;
    pub(super) const PROBE: u64 = 10;
    pub(super) const PROBE_OUTPUT: u64 = 11;
    pub(super) const KEEPER: u64 = 12;
}

/// Time after which a log that could not be written is tried again.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// The init that runs.
#[derive(Debug)]
struct Init {
    pidfd: OwnedFd,
    key: ProcessKey,
    started: Timestamp,
}

/// Everything the monitor holds.
struct Monitor<'h> {
    /// Lost with the process, or when this is dropped: first, so that it is free when a client sees its connection end.
    _lock: fs_err::File,
    layout: Layout,
    record: Record,
    hooks: &'h mut dyn Sandbox,
    netns: Option<OwnedFd>,
    fds: Vec<OwnedFd>,
    cgroups: Cgroups,
    cgroup: Option<Cgroup>,
    state: State,
    poll: Poll,
    timer: Timer,
    signals: Signals,
    streams: Streams,
    log: LogWriter,
    /// When a log that could not be written is tried again; the streams are out of the set until then.
    log_retry: Option<Duration>,
    clients: Clients,
    probes: Probes,
    init: Option<Init>,
    sidecar: Option<Sidecar>,
    /// Who else holds the terminal, where there is one.
    keeper: Option<Keeper>,
    last: Option<Exit>,
    /// Why the last start failed: exit code, chain of causes.
    failure: Option<(i32, String)>,
    /// Until the command has been answered.
    sync: Option<OwnedFd>,
    warnings: Vec<String>,
    durability: Durability,
    /// Whether the end gives back what the sandbox holds of the network.
    releases: bool,
    done: bool,
}

/// The body of the hidden command `stack monitor ID --root R --run N`, whose fd 0 is the sync socket and fd 1 a lock
/// ([`super::start`]).
///
/// Must be the first thing the process does: it closes every other descriptor. Returns when the container has ended for good.
pub fn run(arguments: &MonitorArgs, hooks: &mut dyn Sandbox) -> Result<(), MonitorError> {
    let daemon::Handed {
        input: sync,
        output: spawn_lock,
    } = daemon::detach().map_err(|error| MonitorError::System("detach", error))?;
    let hello = start::receive_hello(&sync)
        .map_err(|error| MonitorError::System("receive what to start", error))?;
    let Some((hello, mut fds)) = hello else {
        return Ok(()); // the command died before it had said what to start
    };
    let netns = hello.netns.then(|| fds.remove(0));
    let adopt = hello.adopt;
    let told = sync.try_clone();
    let layout = Layout {
        root: arguments.root.clone(),
        run: arguments.run.clone(),
        instance: hello.instance,
    };
    let mut monitor = match Monitor::prepare(layout, &arguments.id, (sync, netns, fds), hooks) {
        Ok(monitor) => monitor,
        Err(error) => {
            if let Ok(socket) = told {
                answer(&socket, &Answer::failed(125, chain(&error)));
            }
            return Err(error);
        }
    };
    drop(told);
    // From here on others see this monitor by its own lock, and it hears them.
    drop(spawn_lock);
    let ended = monitor.begin(adopt).and_then(|()| monitor.watch());
    if let Err(error) = &ended {
        monitor.trouble(&chain(error));
        monitor.answer_sync(&Answer::failed(125, chain(error)));
    }
    ended
}

impl<'h> Monitor<'h> {
    /// Takes the lock and opens everything.
    fn prepare(
        layout: Layout,
        id: &ContainerId,
        (sync, netns, fds): (OwnedFd, Option<OwnedFd>, Vec<OwnedFd>),
        hooks: &'h mut dyn Sandbox,
    ) -> Result<Self, MonitorError> {
        let system = |what| move |error| MonitorError::System(what, error);
        let control = layout.control(id);
        make_directory(&control)?;
        let lock = procfs::hold_lock(&layout.monitor_lock(id))
            .map_err(system("take the monitor's lock"))?
            .ok_or_else(|| MonitorError::Taken(id.clone()))?;
        let record: Record =
            record::read(&layout.record(id))?.ok_or_else(|| MonitorError::NotFound(id.clone()))?;
        become_monitor(id).map_err(system("set up the process"))?;
        let cgroups = Cgroups::detect(&layout.instance)?;
        cgroups.join_monitors()?;
        let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
            .map_err(system("block signals"))?;
        let (streams, log, left) = Streams::resume(&control, &layout.log(id), &record.config)?;
        let clients = Clients::listen(&control).map_err(system("listen on the control socket"))?;
        let monitor = Self {
            _lock: lock,
            state: policy::initial(Settings::of(&record.config)),
            poll: Poll::new().map_err(system("make an epoll set"))?,
            timer: Timer::new().map_err(system("make a timer"))?,
            layout,
            record,
            hooks,
            netns,
            fds,
            cgroups,
            cgroup: None,
            signals,
            streams,
            log,
            log_retry: left.as_ref().err().map(|_| next_retry()),
            clients,
            probes: Probes::default(),
            init: None,
            sidecar: None,
            keeper: None,
            last: None,
            failure: None,
            sync: Some(sync),
            warnings: Vec::new(),
            durability: Durability::Synced,
            releases: true,
            done: false,
        };
        if let Err(error) = left {
            monitor.trouble(&chain(&error));
        }
        monitor
            .watch_everything()
            .map_err(system("wait for events"))?;
        Ok(monitor)
    }

    /// Puts what is there from the first moment into the set.
    fn watch_everything(&self) -> io::Result<()> {
        self.poll.add(&self.signals, token::SIGNAL)?;
        self.poll.add(&self.timer, token::TIMER)?;
        self.poll.add(&self.clients, token::CLIENT)?;
        if self.log_retry.is_some() {
            return Ok(());
        }
        self.watch_streams()
    }

    /// Puts the streams into the set.
    fn watch_streams(&self) -> io::Result<()> {
        for (source, fd) in self.streams.sources() {
            self.poll.add(fd, stream_token(source))?;
        }
        Ok(())
    }

    /// Starts the first init, or takes over the one that runs.
    fn begin(&mut self, adopt: bool) -> Result<(), MonitorError> {
        if adopt {
            return self.adopt();
        }
        self.feed(Input::Begin)
    }

    /// The loop.
    fn watch(&mut self) -> Result<(), MonitorError> {
        let mut ready = Vec::new();
        while !self.done {
            let next = [policy::deadline(&self.state), self.log_retry];
            let next = next.into_iter().flatten().min();
            self.timer
                .set(next)
                .and_then(|()| self.poll.wait(&mut ready))
                .map_err(|error| MonitorError::System("wait for events", error))?;
            // The init's end comes last: what it wrote is copied before.
            ready.sort_unstable_by_key(|token| std::cmp::Reverse(*token));
            for token in &ready {
                if !self.done {
                    self.dispatch(*token)?;
                }
            }
        }
        Ok(())
    }

    /// Sees to one thing that is ready.
    fn dispatch(&mut self, token: u64) -> Result<(), MonitorError> {
        let system = |what| move |error| MonitorError::System(what, error);
        match token {
            token::INIT => self.init_ended(),
            token::SIGNAL => self.take_signals(),
            token::TIMER => {
                self.timer.clear().map_err(system("read the timer"))?;
                self.retry_log()?;
                self.feed(Input::Tick)
            }
            token::OUT => self.copy(Source::Out),
            token::ERR => self.copy(Source::Err),
            token::TERMINAL => self.copy(Source::Terminal),
            token::INPUT => {
                if let Err(error) = self.streams.copy_input() {
                    self.trouble(&format!("write to the terminal: {error}"));
                }
                Ok(())
            }
            token::CLIENT => self
                .clients
                .accept(&self.poll)
                .map_err(system("accept a connection")),
            token::SIDECAR => self.sidecar_ended(),
            token::KEEPER => self.keeper_ended(),
            token::PROBE => match self.probes.take_end() {
                Some(code) => self.feed(Input::ProbeEnded { code: Some(code) }),
                None => Ok(()),
            },
            token::PROBE_OUTPUT => {
                self.probes.read_output(&self.poll);
                Ok(())
            }
            client => match self.clients.take(client) {
                Some(request) => self.obey(client, &request),
                None => Ok(()),
            },
        }
    }

    /// Does what a client asks.
    fn obey(&mut self, client: u64, request: &Request) -> Result<(), MonitorError> {
        match *request {
            Request::Watch => Ok(()),
            Request::Stop {
                timeout_ms,
                synced,
                releases,
            } => {
                if !synced {
                    self.durability = Durability::Cached;
                }
                self.releases = releases;
                let timeout = Duration::from_millis(timeout_ms);
                self.feed(Input::Stop { timeout })
            }
            Request::IsStopping => {
                let answer = if self.state.is_stopping() {
                    ClientAnswer::Done(())
                } else {
                    ClientAnswer::Refused("it is not stopping".to_owned())
                };
                self.clients.answer(client, &answer);
                Ok(())
            }
            Request::Restart { timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                self.feed(Input::Restart { timeout })
            }
            Request::Resize { rows, columns } => {
                let answer = match self.streams.resize(rows, columns) {
                    Ok(()) => ClientAnswer::Done(()),
                    Err(error) => ClientAnswer::Refused(error.to_string()),
                };
                self.clients.answer(client, &answer);
                Ok(())
            }
        }
    }

    /// Takes the signals that have arrived: the host goes down, or somebody ends the monitor by hand.
    fn take_signals(&mut self) -> Result<(), MonitorError> {
        let wrap = |error| MonitorError::System("read a signal", error);
        while let Some(signal) = self.signals.take().map_err(wrap)? {
            if signal != libc::SIGHUP {
                self.feed(Input::Shutdown)?;
            }
        }
        Ok(())
    }

    /// Copies from a stream to the log; stops reading all of them while the log cannot be written.
    fn copy(&mut self, source: Source) -> Result<(), MonitorError> {
        if self.log_retry.is_some() {
            return Ok(());
        }
        if let Err(error) = self.streams.copy(source, &mut self.log) {
            self.trouble(&chain(&error));
            for (_, fd) in self.streams.sources() {
                self.poll
                    .remove(fd)
                    .map_err(|error| MonitorError::System("stop reading", error))?;
            }
            self.log_retry = Some(next_retry());
        } else if source == Source::Terminal && self.streams.terminal_ended() {
            self.drop_terminal()?;
        }
        Ok(())
    }

    /// Tries again to write what was read; reads on if that is done.
    fn retry_log(&mut self) -> Result<(), MonitorError> {
        if self.log_retry.is_none_or(|at| at > since_boot()) {
            return Ok(());
        }
        if self.streams.retry(&mut self.log).is_err() {
            self.log_retry = Some(next_retry());
            return Ok(());
        }
        self.log_retry = None;
        self.watch_streams()
            .map_err(|error| MonitorError::System("read on", error))
    }

    /// Decides, carries out, and goes on until nothing more follows.
    fn feed(&mut self, input: Input) -> Result<(), MonitorError> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (state, effects) = policy::step(self.state.clone(), since_boot(), input);
            self.state = state;
            for effect in effects {
                inputs.extend(self.carry_out(&effect)?);
            }
        }
        Ok(())
    }

    /// Tells the command how its start went, once.
    fn answer_sync(&mut self, what: &Answer) {
        if let Some(socket) = self.sync.take() {
            answer(&socket, what);
        }
    }

    /// Notes what could not be done and stops nothing.
    fn trouble(&self, what: &str) {
        let path = self.layout.control(&self.record.id).join("trouble");
        let mut options = fs_err::OpenOptions::new();
        options.append(true).create(true);
        let line = format!("{} {what}\n", Timestamp::now());
        // Where not even this can be written there is nobody left to tell.
        let _written: io::Result<()> = options
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Sends an answer to the command. One that has gone needs none.
fn answer(socket: &OwnedFd, answer: &Answer) {
    if let Ok(message) = serde_json::to_vec(answer) {
        let _sent: io::Result<()> = packets::send(socket.as_fd(), &message);
    }
}

/// Returns the number of a stream in the set.
fn stream_token(source: Source) -> u64 {
    match source {
        Source::Out => token::OUT,
        Source::Err => token::ERR,
        Source::Terminal => token::TERMINAL,
    }
}

/// Returns when a log that could not be written is tried again.
fn next_retry() -> Duration {
    since_boot().saturating_add(LOG_RETRY)
}

/// Gives the process its name and keeps others from looking into it.
fn become_monitor(id: &ContainerId) -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let name = std::ffi::CString::new(format!("stack:{}", id.as_str().get(..9).unwrap_or("")))?;
    rustix::thread::set_name(&name)?;
    // For a user who is not root, /proc/<child>/uid_map would become root's.
    if rustix::process::geteuid().is_root() {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

/// Renders an error and its causes: `a: b: c`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
