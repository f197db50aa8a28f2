//! Ending a container, and waiting for its end.
//!
//! The monitor does it: stop signal, grace, SIGKILL to the whole cgroup, exit record, release, and then it ends, which is
//! what the caller sees. Where the monitor is dead, or dies meanwhile, the caller does the same up to the exit record. There may
//! be several callers, and none but these needs hold the project's lock: what a monitor has left is finished under the
//! container's spawn lock, by one, while no monitor lives; the others find it ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::runtime::attach::{self, Request};
use crate::runtime::bundle::Layout;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::config::ContainerId;
use crate::runtime::monitor::journal::Journal;
use crate::runtime::monitor::keeper::Keeper;
use crate::runtime::monitor::streams::{self, Streams};
use crate::runtime::record::{
    self, Desired, Exit, Live, Phase, ProcessKey, Record, Timestamp, VERSION,
};
use crate::runtime::start::hold_spawns;
use crate::runtime::status::{self, Status};
use crate::runtime::{Runtime, RuntimeError, monitor_pid};
use crate::sys::atomic::Durability;
use crate::sys::packets::{self, Received};
use crate::sys::poll::Poll;
use crate::sys::timer::{Timer, since_boot};
use crate::sys::{ending, pidfd, procfs};

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// Time between the stop signal and SIGKILL; the container's own where `None`.
    pub timeout: Option<Duration>,
    /// Whether "stopped by hand" and the exit record reach the disk. [`Durability::Cached`] where the caller removes the
    /// container next.
    pub durability: Durability,
    /// Whether the monitor releases what the sandbox holds of the network. Where not, [`Ended::released`] is false and the
    /// caller does, for many containers at once: it costs the kernel 10 ms each time, however many there are.
    pub releases: bool,
}

/// A container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How; `None` where it had never been started, or was removed meanwhile.
    pub exit: Option<Exit>,
    /// Whether its monitor released what the sandbox held. Where not (the monitor was dead, or was told not to), the caller
    /// does.
    pub released: bool,
}

/// A container on its way to its end.
///
/// Its descriptor becomes readable when [`advance`](Self::advance) has something to do.
#[derive(Debug)]
pub struct Stopping {
    layout: Layout,
    id: ContainerId,
    durability: Durability,
    /// What its monitor is asked.
    request: Request,
    /// The stop signal and the time until SIGKILL; `None` for one who only waits.
    stop: Option<(i32, Duration)>,
    /// Whether a monitor was told to release what the sandbox holds.
    releases: bool,
    /// Contains whatever `by` waits for.
    poll: Poll,
    by: By,
}

/// Who brings it to its end.
#[derive(Debug)]
enum By {
    /// Its monitor: the connection closes when it is done.
    Monitor(OwnedFd),
    /// Its monitor, which lives and has closed the connection unheard: this is its pidfd.
    Deaf(OwnedFd),
    /// We: there is no monitor.
    Caller {
        init: OwnedFd,
        key: ProcessKey,
        kill: Timer,
        /// What the container writes until then.
        _pipes: [OwnedFd; 2],
    },
    /// Nobody need: it has ended.
    Nobody(Ended),
}

impl Runtime {
    /// Stops a container for good: notes that first (`stopped by hand`), then has the signal sent. One that does not run is
    /// only noted. On a full disk it is not noted, and stopped all the same: its monitor is told, and what fills the disk must be
    /// able to end.
    pub fn stop(&self, id: &ContainerId, options: StopOptions) -> Result<Stopping, RuntimeError> {
        let config = match self.mark_stopped(id, options.durability) {
            Err(error) if is_full_disk(&error) => self.record(id)?.config,
            marked => marked?,
        };
        let timeout = options.timeout.unwrap_or(config.stop_timeout);
        let request = Request::Stop {
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            synced: options.durability == Durability::Synced,
            releases: options.releases,
        };
        let stop = Some((config.stop_signal, timeout));
        let mut stopping = self.follow(id, &request, stop, options.durability)?;
        stopping.releases = options.releases;
        Ok(stopping)
    }

    /// Waits for the end of a container, without asking for it. A restart by policy is not an end.
    pub fn wait(&self, id: &ContainerId) -> Result<Stopping, RuntimeError> {
        self.follow(id, &Request::Watch, None, Durability::Synced)
    }

    /// Sends a signal to the init. SIGKILL and the stop signal count as stopping by hand, as Docker has it.
    pub fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), RuntimeError> {
        let container = self.get(id)?;
        let init = self.live(id)?.as_ref().and_then(Live::init);
        let (Status::Running { .. }, Some(key)) = (&container.status, init) else {
            return Err(RuntimeError::NotRunning(id.clone()));
        };
        if signal == libc::SIGKILL || signal == container.config().stop_signal {
            self.mark_stopped(id, Durability::Synced)?;
        }
        let wrap = |error| RuntimeError::Signal(id.clone(), error);
        let pidfd = procfs::open_process(key.pid, key.start_time)
            .map_err(wrap)?
            .ok_or_else(|| RuntimeError::NotRunning(id.clone()))?;
        pidfd::signal(pidfd.as_fd(), signal).map_err(wrap)
    }

    /// Notes that the container was stopped by hand. Many at once: call this for each with [`Durability::Cached`], then
    /// [`Runtime::sync`] once, then [`Runtime::stop`] for each.
    pub fn mark_stopped(
        &self,
        id: &ContainerId,
        durability: Durability,
    ) -> Result<crate::runtime::config::ContainerConfig, RuntimeError> {
        let _lock = self.lock_record(id)?;
        let mut record = self.record(id)?;
        if !record.stopped_by_hand && record.desired != Desired::Created {
            record.stopped_by_hand = true;
            record.desired = Desired::Stopped;
            record::write(&self.layout.record(id), &record, durability)?;
        }
        Ok(record.config)
    }

    /// Records that a container ended without a monitor. `code` is the kernel's word, where it still knows. The caller holds the
    /// spawn lock, and no monitor lives.
    pub(crate) fn record_unseen_end(
        &self,
        id: &ContainerId,
        code: Option<pidfd::Exit>,
    ) -> Result<Exit, RuntimeError> {
        record_unseen_end(&self.layout, id, code, Durability::Synced)
    }

    /// Sends `request` and returns what waits for the end of the container.
    fn follow(
        &self,
        id: &ContainerId,
        request: &Request,
        stop: Option<(i32, Duration)>,
        durability: Durability,
    ) -> Result<Stopping, RuntimeError> {
        let wrap = |error| RuntimeError::Control(id.clone(), error);
        let poll = Poll::new().map_err(wrap)?;
        let mut stopping = Stopping {
            layout: self.layout.clone(),
            id: id.clone(),
            durability,
            request: request.clone(),
            stop,
            releases: true,
            poll,
            by: By::Nobody(Ended {
                exit: None,
                released: true,
            }),
        };
        // A monitor that is on its way listens when it gives this up.
        let _spawns = hold_spawns(&self.layout, id)?;
        if !stopping.ask()? {
            stopping.take_over()?;
        }
        Ok(stopping)
    }
}

/// Whether an error comes from a file system, or a share of one, that has no room left.
fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Stopping {
    /// Goes on without waiting; returns the end once it has come.
    pub fn advance(&mut self) -> Result<Option<Ended>, RuntimeError> {
        let wrap = |id: &ContainerId| {
            let id = id.clone();
            move |error| RuntimeError::Control(id, error)
        };
        let mut ready = Vec::new();
        loop {
            if let By::Nobody(ended) = &self.by {
                let released = ended.released && self.releases;
                return Ok(Some(Ended { released, ..*ended }));
            }
            self.poll.check(&mut ready).map_err(wrap(&self.id))?;
            if ready.is_empty() {
                return Ok(None);
            }
            match &self.by {
                By::Monitor(socket) => {
                    let received = packets::receive(socket).map_err(wrap(&self.id))?;
                    if matches!(received, Received::End) {
                        self.poll.remove(socket).map_err(wrap(&self.id))?;
                        let asked = packets::listener_pid(socket).map_err(wrap(&self.id))?;
                        self.go_on_without(asked)?;
                    }
                }
                By::Deaf(monitor) => {
                    let asked = pidfd::pid_of(monitor.as_fd()).map_err(wrap(&self.id))?;
                    self.poll.remove(monitor).map_err(wrap(&self.id))?;
                    self.go_on_without(asked.unwrap_or(0))?;
                }
                By::Caller { .. } | By::Nobody(_) => self.advance_alone(&ready)?,
            }
        }
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Result<Ended, RuntimeError> {
        let mut ready = Vec::new();
        loop {
            if let Some(ended) = self.advance()? {
                return Ok(ended);
            }
            self.poll
                .wait(&mut ready)
                .map_err(|error| RuntimeError::Control(self.id.clone(), error))?;
        }
    }

    /// Sends the request to the monitor that listens, if one does.
    fn ask(&mut self) -> Result<bool, RuntimeError> {
        let Some(socket) = attach::ask(&self.layout, &self.id, &self.request)? else {
            return Ok(false);
        };
        self.poll
            .add(&socket, 0)
            .map_err(|error| RuntimeError::Control(self.id.clone(), error))?;
        self.by = By::Monitor(socket);
        Ok(true)
    }

    /// Goes on when the monitor `asked` has closed its connection, or has ended: with one that has taken its place, if any.
    fn go_on_without(&mut self, asked: i32) -> Result<(), RuntimeError> {
        let _spawns = hold_spawns(&self.layout, &self.id)?;
        let now = monitor_pid(&self.layout, &self.id)?;
        if now.is_some_and(|now| now != asked) && self.ask()? {
            return Ok(());
        }
        self.take_over()
    }

    /// Returns the monitor that lives.
    fn monitor(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        while let Some(pid) = monitor_pid(&self.layout, &self.id)? {
            match pidfd::open(pid) {
                // Not another process of that number.
                Ok(monitor) if monitor_pid(&self.layout, &self.id)? == Some(pid) => {
                    return Ok(Some(monitor));
                }
                // It has just ended.
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(RuntimeError::Control(self.id.clone(), error)),
            }
        }
        Ok(None)
    }

    /// Looks at what the monitor left: the end, or an init that goes on without it. The caller holds the spawn lock.
    fn take_over(&mut self) -> Result<(), RuntimeError> {
        if let Some(monitor) = self.monitor()? {
            // It has not heard what was asked; SIGTERM is the same with the container's own time until SIGKILL.
            let wrap = |error| RuntimeError::Control(self.id.clone(), error);
            if self.stop.is_some() {
                match pidfd::signal(monitor.as_fd(), libc::SIGTERM) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                        return Err(wrap(error));
                    }
                    _ => {}
                }
            }
            self.poll.add(&monitor, 0).map_err(wrap)?;
            self.by = By::Deaf(monitor);
            return Ok(());
        }
        let live: Option<Live> = record::read(&self.layout.live(&self.id))?;
        let live = live.filter(|live| procfs::boot_id().is_ok_and(|boot| boot == live.boot_id));
        let exit: Option<Exit> = record::read(&self.layout.exit(&self.id))?;
        let ended = |exit, released| By::Nobody(Ended { exit, released });
        self.by = match live.map(|live| live.phase) {
            None | Some(Phase::Failed { .. }) => ended(exit, true),
            Some(Phase::Ended { last }) => ended(Some(exit.unwrap_or(last)), true),
            Some(Phase::Restarting { last, .. }) => {
                let path = self.layout.exit(&self.id);
                record::write(&path, &last, self.durability)?;
                settle(&self.layout, &self.id, last)?;
                ended(Some(last), false)
            }
            Some(Phase::Running { init, .. }) => self.take_over_init(init)?,
        };
        Ok(())
    }

    /// Takes over an init that has no monitor.
    fn take_over_init(&self, key: ProcessKey) -> Result<By, RuntimeError> {
        let wrap = |error| RuntimeError::Signal(self.id.clone(), error);
        let Some(init) = procfs::open_process(key.pid, key.start_time).map_err(wrap)? else {
            let exit = record_unseen_end(&self.layout, &self.id, None, self.durability)?;
            return Ok(By::Nobody(Ended {
                exit: Some(exit),
                released: false,
            }));
        };
        let mut kill = Timer::new().map_err(wrap)?;
        if let Some((signal, timeout)) = self.stop {
            pidfd::signal(init.as_fd(), signal).map_err(wrap)?;
            kill.set(Some(since_boot().saturating_add(timeout)))
                .map_err(wrap)?;
        }
        self.poll.add(&init, INIT).map_err(wrap)?;
        self.poll.add(&kill, KILL).map_err(wrap)?;
        Ok(By::Caller {
            init,
            key,
            kill,
            _pipes: streams::hold(&self.layout.control(&self.id))?,
        })
    }

    /// Does what the monitor would have done.
    fn advance_alone(&mut self, ready: &[u64]) -> Result<(), RuntimeError> {
        let By::Caller {
            init, key, kill, ..
        } = &mut self.by
        else {
            return Ok(());
        };
        if ready.contains(&INIT) {
            let code = ending::ended(init.as_fd(), key.pid, key.start_time);
            let key = *key;
            return self.init_ended(key, code);
        }
        let wrap = |error| RuntimeError::Signal(self.id.clone(), error);
        kill.clear().map_err(wrap)?;
        match pidfd::signal(init.as_fd(), libc::SIGKILL) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(wrap(error)),
        }
    }
}

impl Stopping {
    /// Sees to the end of the init that was taken over, unless somebody else has, or is at it.
    fn init_ended(
        &mut self,
        key: ProcessKey,
        code: Option<pidfd::Exit>,
    ) -> Result<(), RuntimeError> {
        let _spawns = hold_spawns(&self.layout, &self.id)?;
        let live: Option<Live> = record::read(&self.layout.live(&self.id))?;
        let phase = live.map(|live| live.phase);
        let of_this = matches!(phase, Some(Phase::Running { init, .. }) if init == key);
        if of_this && let Some(monitor) = self.monitor()? {
            // It adopted the init meanwhile, and records and releases.
            let wrap = |error| RuntimeError::Control(self.id.clone(), error);
            self.poll.add(&monitor, 0).map_err(wrap)?;
            self.by = By::Deaf(monitor);
            return Ok(());
        }
        let exit = match phase {
            _ if of_this => {
                let exit = record_unseen_end(&self.layout, &self.id, code, self.durability)?;
                Some(exit)
            }
            Some(Phase::Ended { last } | Phase::Restarting { last, .. }) => Some(last),
            // Started again or removed since.
            Some(Phase::Running { .. } | Phase::Failed { .. }) | None => {
                record::read(&self.layout.exit(&self.id))?
            }
        };
        self.by = By::Nobody(Ended {
            exit,
            released: false,
        });
        Ok(())
    }
}

/// Number of the init's pidfd in the set.
const INIT: u64 = 1;
/// Number of the timer.
const KILL: u64 = 2;

impl AsFd for Stopping {
    /// Returns the set's descriptor. Of one that has ended already it never becomes readable: call
    /// [`advance`](Stopping::advance) first.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

/// Writes the exit record of a container that ended without a monitor, and ends what is left in its cgroup. The caller holds
/// the spawn lock, and no monitor lives.
fn record_unseen_end(
    layout: &Layout,
    id: &ContainerId,
    code: Option<pidfd::Exit>,
    durability: Durability,
) -> Result<Exit, RuntimeError> {
    let live: Option<Live> = record::read(&layout.live(id))?;
    let now = Timestamp::now();
    let restarts = live.as_ref().map_or(0, |live| live.restarts);
    // A start removes the one before: this is what a monitor wrote that was killed before it could say that all is done.
    let known = record::read(&layout.exit(id))?.filter(|exit: &Exit| !exit.unknown);
    let exit = match (live.map(|live| live.phase), known, code) {
        // Another caller has seen to it.
        (Some(Phase::Ended { last }), ..) => return Ok(last),
        (Some(Phase::Restarting { last, .. }), ..) => last,
        (Some(Phase::Running { .. }), Some(known), _) => known,
        (Some(Phase::Running { started, .. }), None, Some(code)) => Exit {
            version: VERSION,
            code: code.code(),
            signal: code.signal(),
            oom: false,
            unknown: false,
            started,
            at: now,
            restarts,
        },
        (Some(Phase::Running { started, .. }), None, None) => Exit {
            started,
            ..status::unseen(now, restarts)
        },
        (Some(Phase::Failed { .. }) | None, ..) => status::unseen(now, restarts),
    };
    let written = record::write(&layout.exit(id), &exit, durability)
        .map_err(RuntimeError::from)
        .and_then(|()| finish_log(layout, id))
        .and_then(|()| settle(layout, id, exit));
    match written {
        // Whoever looks next finds it ended all the same, with an unknown code; a removal must go on.
        Err(error) if is_full_disk(&error) => Ok(exit),
        written => written.map(|()| exit),
    }
}

/// Brings into the log what a monitor that was killed had taken out of the container's pipes.
fn finish_log(layout: &Layout, id: &ContainerId) -> Result<(), RuntimeError> {
    let directory = layout.control(id);
    let record: Option<Record> = record::read(&layout.record(id))?;
    if let Some(record) = record
        && Journal::exists(&directory)
    {
        let (mut streams, mut log, left) =
            Streams::resume(&directory, &layout.log(id), &record.config)?;
        left?;
        streams.drain(&mut log)?;
    }
    Ok(())
}

/// Says in the live state that the container has ended, and ends the keeper of its terminal and what is left in its cgroup.
fn settle(layout: &Layout, id: &ContainerId, exit: Exit) -> Result<(), RuntimeError> {
    let path = layout.live(id);
    if let Some(mut live) = record::read::<Live>(&path)? {
        live.phase = Phase::Ended { last: exit };
        // It ends with the init, but a little later.
        let keeper = live.keeper.take().map(Keeper::find).transpose();
        keeper
            .and_then(|keeper| keeper.flatten().map_or(Ok(()), Keeper::end))
            .map_err(|error| RuntimeError::Signal(id.clone(), error))?;
        record::write(&path, &live, Durability::Cached)?;
    }
    let wrap = |error| RuntimeError::Cgroup(id.clone(), io::Error::other(error));
    let cgroup = Cgroups::detect(&layout.instance)
        .map_err(wrap)?
        .existing(id.as_str());
    cgroup.kill_all().map_err(wrap)?;
    cgroup.remove().map_err(wrap)
}
