//! Carrying out what [`policy`](super::policy) decided. Nothing is decided here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::runtime::attach::Answer as ClientAnswer;
use crate::runtime::bundle::make_directory;
use crate::runtime::cgroup::{Cgroup, DeviceAccess};
use crate::runtime::config::{ContainerId, Namespace};
use crate::runtime::init::{self, RootFs, SpawnRequest, Spawned, Stdio};
use crate::runtime::monitor::policy::{Effect, Input, Phase, Settings};
use crate::runtime::monitor::{Init, Monitor, MonitorError, chain, token};
use crate::runtime::record::{
    self, Exit, Health, HealthStatus, Live, Phase as LivePhase, ProcessKey, Record, Timestamp,
    VERSION,
};
use crate::runtime::start::Answer;
use crate::runtime::status;
use crate::sys::atomic::Durability;
use crate::sys::timer::since_boot;
use crate::sys::{ending, pidfd, procfs};

impl Monitor<'_> {
    /// Carries out one effect and returns what came of it.
    pub(super) fn carry_out(&mut self, effect: &Effect) -> Result<Option<Input>, MonitorError> {
        match effect {
            Effect::StartInit => Ok(Some(self.start_init()?)),
            Effect::Signal(number) => {
                self.signal(*number);
                Ok(None)
            }
            Effect::KillAll => {
                self.kill_all();
                Ok(None)
            }
            Effect::StartProbe => Ok(self.start_probe()),
            Effect::KillProbe => {
                let why = self.init.is_some().then(|| self.exceeded());
                if let Err(error) = self.probes.kill(why.as_deref()) {
                    self.trouble(&format!("kill a health probe: {error}"));
                }
                Ok(None)
            }
            Effect::StartSidecar => Ok(Some(self.start_sidecar()?)),
            Effect::Publish => self.publish().map(|()| None),
            Effect::End => self.end().map(|()| None),
        }
    }

    /// Takes over the init that another monitor started.
    pub(super) fn adopt(&mut self) -> Result<(), MonitorError> {
        let id = self.record.id.clone();
        let live: Live = record::read(&self.layout.live(&id))?
            .ok_or_else(|| MonitorError::NotRunning(id.clone()))?;
        let LivePhase::Running { init: key, started } = live.phase else {
            return Err(MonitorError::NotRunning(id));
        };
        let wrap = |error| MonitorError::System("open the container's init", error);
        let pidfd = procfs::open_process(key.pid, key.start_time)
            .map_err(wrap)?
            .ok_or_else(|| MonitorError::NotRunning(id.clone()))?;
        if self.netns.is_none() && self.record.config.namespaces.network != Namespace::Host {
            let path = format!("/proc/{}/ns/net", key.pid);
            self.netns = match fs_err::File::open(path) {
                Ok(file) => Some(file.into_file().into()),
                // It ended this very moment; the pidfd tells.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(wrap(error)),
            };
        }
        self.cgroup = Some(self.cgroups.existing(id.as_str()));
        self.poll.add(&pidfd, token::INIT).map_err(wrap)?;
        self.init = Some(Init {
            pidfd,
            key,
            started,
        });
        if self.record.config.process.tty {
            self.fetch_terminal(live.keeper)?;
        }
        let health = live.health.as_ref().map(|health| health.status);
        self.probes
            .restore(live.health.map(|health| health.probes).unwrap_or_default());
        let age = Timestamp::now().since(started);
        self.feed(Input::Adopt {
            restarts: live.restarts,
            started: since_boot().saturating_sub(age),
            health: health.unwrap_or(HealthStatus::Starting),
        })
    }

    /// Starts an init of the current generation.
    fn start_init(&mut self) -> Result<Input, MonitorError> {
        if self.failure.is_some() {
            return Ok(Input::StartFailed); // the sidecar's
        }
        let id = self.record.id.clone();
        if let Some(record) = record::read::<Record>(&self.layout.record(&id))? {
            self.record = record;
        }
        let spawned = match self.spawn_init(&id) {
            Ok(spawned) => spawned,
            Err((code, why)) => {
                self.trouble(&why);
                let refused = ClientAnswer::Refused(why.clone());
                self.failure = (!self.state.ran).then_some((code, why));
                self.clients.answer_restarts(&refused);
                let now = Timestamp::now();
                self.last = Some(Exit {
                    code,
                    unknown: false,
                    ..status::unseen(now, self.state.restarts)
                });
                return Ok(Input::StartFailed);
            }
        };
        let started = Timestamp::now();
        let wrap = |error| MonitorError::System("watch the container's init", error);
        let start_time = procfs::start_time(spawned.pid).map_err(wrap)?.unwrap_or(0);
        self.poll.add(&spawned.pidfd, token::INIT).map_err(wrap)?;
        self.init = Some(Init {
            pidfd: spawned.pidfd,
            key: ProcessKey {
                pid: spawned.pid,
                start_time,
            },
            started,
        });
        if let Some(terminal) = spawned.terminal {
            self.take_terminal(terminal)?;
            self.keep_terminal();
        }
        self.warnings = spawned.warnings;
        self.probes.forget();
        Ok(Input::Started(Settings::of(&self.record.config)))
    }

    /// Makes the cgroup and the init in it. Error: exit code and chain of causes.
    fn spawn_init(&mut self, id: &ContainerId) -> Result<Spawned, (i32, String)> {
        let failed = |error: &dyn std::error::Error| (125, chain(error));
        let config = &self.record.config;
        // What a monitor that was killed between clone and record has left; and the group of the last init, because a group
        // that was once killed as a whole kills whatever is cloned into it (Linux 6.18, CLONE_INTO_CGROUP and cgroup.kill).
        let leftover = self.cgroups.existing(id.as_str());
        if self.state.ran || !leftover.pids().map_err(|error| failed(&error))?.is_empty() {
            leftover.kill_all().map_err(|error| failed(&error))?;
            leftover.remove().map_err(|error| failed(&error))?;
        }
        let devices = if config.privileged {
            DeviceAccess::All
        } else {
            DeviceAccess::Default
        };
        let cgroup = self
            .cgroups
            .create(id.as_str(), &config.resources, &devices)
            .map_err(|error| failed(&error))?;
        let joined = self.joined().map_err(|why| (125, why))?;
        let joined: Vec<_> = joined
            .iter()
            .map(|(id, fd)| (id.clone(), fd.as_fd()))
            .collect();
        let generation = self.layout.generation(id, self.record.generation);
        let etc_directory = self.layout.etc(id);
        make_directory(&etc_directory).map_err(|error| failed(&error))?;
        let ends = self
            .streams
            .container_ends()
            .map_err(|error| failed(&error))?;
        let stdio = if config.process.tty {
            Stdio::Terminal
        } else {
            Stdio::Pipes {
                out: ends.1.as_fd(),
                err: ends.2.as_fd(),
                input: ends.0.as_ref().map(OwnedFd::as_fd),
            }
        };
        let spawned = init::spawn(&SpawnRequest {
            config,
            secret_env: &[],
            root: RootFs {
                lowers: self.layout.lowers(config),
                upper: generation.join("upper"),
                work: generation.join("work"),
                is_volatile: false,
            },
            etc: &self.record.etc,
            etc_directory: &etc_directory,
            hostname_file: true,
            netns: self.netns.as_ref().map(OwnedFd::as_fd),
            outer_pids: None,
            joined: &joined,
            stdio,
            cgroup: &cgroup,
        });
        self.cgroup = Some(cgroup);
        spawned.map_err(|error| (error.exit_code(), chain(&error)))
    }

    /// Opens the inits of the containers whose namespaces are shared.
    fn joined(&self) -> Result<Vec<(ContainerId, OwnedFd)>, String> {
        let namespaces = &self.record.config.namespaces;
        let mut joined: Vec<(ContainerId, OwnedFd)> = Vec::new();
        for namespace in [
            &namespaces.network,
            &namespaces.pid,
            &namespaces.ipc,
            &namespaces.uts,
            &namespaces.cgroup,
        ] {
            let Namespace::Container(id) = namespace else {
                continue;
            };
            if joined.iter().any(|(known, _)| known == id) {
                continue;
            }
            let live: Option<Live> =
                record::read(&self.layout.live(id)).map_err(|error| chain(&error))?;
            let pidfd = live
                .and_then(|live| live.init())
                .map(|key| procfs::open_process(key.pid, key.start_time))
                .transpose()
                .map_err(|error| error.to_string())?
                .flatten()
                .ok_or_else(|| {
                    let short = id.short();
                    format!("join the namespaces of container {short}: it is not running")
                })?;
            joined.push((id.clone(), pidfd));
        }
        Ok(joined)
    }

    /// Sees to the end of the init.
    pub(super) fn init_ended(&mut self) -> Result<(), MonitorError> {
        let Some(init) = &self.init else {
            return Ok(());
        };
        // A child is reaped; one that was adopted has been, by another.
        let ended = match pidfd::try_wait(init.pidfd.as_fd()) {
            Ok(None) => return Ok(()),
            Ok(ended) => ended,
            Err(_) => ending::ended(init.pidfd.as_fd(), init.key.pid, init.key.start_time),
        };
        self.poll
            .remove(&init.pidfd)
            .map_err(|error| MonitorError::System("leave the container's init", error))?;
        let now = Timestamp::now();
        let unseen = status::unseen(now, self.state.restarts);
        let exit = match ended {
            Some(ended) => Exit {
                code: ended.code(),
                signal: ended.signal(),
                unknown: false,
                started: init.started,
                ..unseen
            },
            None => Exit {
                started: init.started,
                ..unseen
            },
        };
        self.init = None;
        self.last = Some(Exit {
            oom: self.oom(),
            version: VERSION,
            ..exit
        });
        self.drain();
        self.drop_terminal()?;
        self.end_keeper()?;
        let id = self.record.id.clone();
        let by_hand = record::read::<Record>(&self.layout.record(&id))?
            .is_none_or(|record| record.stopped_by_hand);
        self.feed(Input::InitEnded {
            code: exit.code,
            by_hand,
        })
    }

    /// Tells whether the kernel killed something in the cgroup for lack of memory.
    fn oom(&self) -> bool {
        match self.cgroup.as_ref().map(Cgroup::oom_kills) {
            Some(Ok(count)) => count > 0,
            Some(Err(error)) => {
                self.trouble(&chain(&error));
                false
            }
            None => false,
        }
    }

    /// Sees to the end of the sidecar.
    pub(super) fn sidecar_ended(&mut self) -> Result<(), MonitorError> {
        let Some(sidecar) = self.sidecar.take() else {
            return Ok(());
        };
        let wrap = |error| MonitorError::System("reap the sidecar", error);
        if pidfd::try_wait(sidecar.pidfd.as_fd())
            .map_err(wrap)?
            .is_none()
        {
            self.sidecar = Some(sidecar);
            return Ok(());
        }
        self.poll.remove(&sidecar.pidfd).map_err(wrap)?;
        self.feed(Input::SidecarEnded)
    }

    /// Has the engine's side start the sidecar.
    fn start_sidecar(&mut self) -> Result<Input, MonitorError> {
        let fds: io::Result<Vec<_>> = self.fds.iter().map(OwnedFd::try_clone).collect();
        let fds = fds.map_err(|error| MonitorError::System("duplicate a socket", error))?;
        let netns = self.netns.as_ref().map(OwnedFd::as_fd);
        match self.hooks.serve(&self.record.sandbox, netns, fds) {
            Ok(None) => Ok(Input::SidecarStarted(false)),
            Ok(Some(sidecar)) => {
                self.poll
                    .add(&sidecar.pidfd, token::SIDECAR)
                    .map_err(|error| MonitorError::System("watch the sidecar", error))?;
                self.sidecar = Some(sidecar);
                Ok(Input::SidecarStarted(true))
            }
            Err(error) => {
                let why = chain(error.as_ref());
                self.trouble(&why);
                if !self.state.ran {
                    self.failure = Some((125, why));
                }
                Ok(Input::SidecarEnded)
            }
        }
    }

    /// Signals the init; one that has ended needs none.
    fn signal(&self, number: i32) {
        let Some(init) = &self.init else {
            return;
        };
        match pidfd::signal(init.pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                self.trouble(&format!("send signal {number}: {error}"));
            }
            _ => {}
        }
    }

    /// Kills everything in the container.
    fn kill_all(&self) {
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.kill_all()
        {
            self.trouble(&chain(&error));
        }
        self.signal(libc::SIGKILL);
    }

    /// Starts a probe; says at once if that fails.
    fn start_probe(&mut self) -> Option<Input> {
        let (Some(init), Some(cgroup), Some(health)) =
            (&self.init, &self.cgroup, &self.record.config.health)
        else {
            return Some(Input::ProbeEnded { code: None });
        };
        let place: (BorrowedFd<'_>, _, &Cgroup) =
            (init.pidfd.as_fd(), &self.record.config.process, cgroup);
        let runs = self.probes.start(&health.test, place, &self.poll);
        (!runs).then_some(Input::ProbeEnded { code: None })
    }

    /// Says why a probe was killed (Docker's words).
    fn exceeded(&self) -> String {
        let timeout = self
            .record
            .config
            .health
            .as_ref()
            .map(|health| health.timeout);
        let timeout = timeout.unwrap_or(Duration::ZERO);
        format!("Health check exceeded timeout ({timeout:?})")
    }

    /// Writes the live state and answers whoever waits for it.
    pub(super) fn publish(&mut self) -> Result<(), MonitorError> {
        let phase = match (self.state.phase, &self.init, self.last) {
            (Phase::Waiting { until }, _, Some(last)) => {
                let delay = until.saturating_sub(since_boot());
                let delay = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
                LivePhase::Restarting {
                    last,
                    next: Timestamp(Timestamp::now().0.saturating_add(delay)),
                }
            }
            (_, Some(init), _) => LivePhase::Running {
                init: init.key,
                started: init.started,
            },
            (_, None, _) => return Ok(()),
        };
        self.write_live(phase)?;
        if let (Phase::Running { .. }, Some(init)) = (self.state.phase, &self.init) {
            let pid = init.key.pid;
            let warnings = std::mem::take(&mut self.warnings);
            self.answer_sync(&Answer::Started { pid, warnings });
            self.clients.answer_restarts(&ClientAnswer::Done(()));
        }
        Ok(())
    }

    /// Writes the live state.
    fn write_live(&self, phase: LivePhase) -> Result<(), MonitorError> {
        let wrap = |error| MonitorError::System("look at this process", error);
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let checked = self.record.config.health.is_some() && self.init.is_some();
        let live = Live {
            version: VERSION,
            boot_id: procfs::boot_id().map_err(wrap)?,
            monitor: ProcessKey {
                pid,
                start_time: procfs::start_time(pid).map_err(wrap)?.unwrap_or(0),
            },
            restarts: self.state.restarts,
            phase,
            keeper: self.keeper.as_ref().map(|keeper| keeper.key),
            health: checked.then(|| Health {
                status: self.state.health,
                failing_streak: self.state.failing_streak,
                probes: self.probes.results().to_vec(),
            }),
        };
        let path = self.layout.live(&self.record.id);
        Ok(record::write(&path, &live, Durability::Cached)?)
    }

    /// Copies what is left in the streams.
    fn drain(&mut self) {
        if let Err(error) = self.streams.drain(&mut self.log) {
            self.trouble(&chain(&error));
        }
    }

    /// Records, flushes, releases, tells, ends. Goes on past errors: each is noted.
    fn end(&mut self) -> Result<(), MonitorError> {
        self.done = true;
        self.drain();
        let id = self.record.id.clone();
        let exit = if self.state.ran { self.last } else { None };
        if let Some(exit) = exit
            && let Err(error) = record::write(&self.layout.exit(&id), &exit, self.durability)
        {
            self.trouble(&chain(&error));
        }
        if self.durability == Durability::Synced
            && let Err(error) = self.log.sync()
        {
            self.trouble(&chain(&error));
        }
        self.end_sidecar();
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove())
        {
            self.trouble(&chain(&error));
        }
        if self.releases
            && let Err(error) = self.hooks.released(&self.record.sandbox)
        {
            self.trouble(&chain(error.as_ref()));
        }
        let (code, message) = self
            .failure
            .clone()
            .unwrap_or((125, "stopped before it ran".to_owned()));
        let phase = match exit {
            Some(last) => LivePhase::Ended { last },
            None => LivePhase::Failed {
                code,
                message: message.clone(),
            },
        };
        let written = self.write_live(phase);
        self.answer_sync(&Answer::failed(code, message));
        written
    }

    /// Kills the sidecar and reaps it.
    fn end_sidecar(&mut self) {
        if let Some(sidecar) = self.sidecar.take() {
            let ended = pidfd::signal(sidecar.pidfd.as_fd(), libc::SIGKILL)
                .and_then(|()| pidfd::wait(sidecar.pidfd.as_fd()));
            if let Err(error) = ended {
                self.trouble(&format!("end the sidecar: {error}"));
            }
        }
    }
}
