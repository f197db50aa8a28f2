//! `up`, `down`, `build`, `pull`, `stop`, `kill`: observe, plan, apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::annotations::Annotations;
use crate::engine::apply::apply_within;
use crate::engine::cancel::Cancel;
use crate::engine::digests::with_digests;
use crate::engine::error::{EngineError, PortConflict, PortHolder};
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::LinuxHost;
use crate::engine::lower::network;
use crate::engine::step;

use crate::engine::{BuildChoices, Engine, INSTANCE_LOCK, chain, readable};
use crate::images::Platform;
use crate::net::config::{PortConfig, Protocol};
use crate::net::error::NetError;
use crate::net::ports::{self, Reserved};
use crate::plan::action::{Action, ContainerRef, Resource};
use crate::plan::observed::Observed;
use crate::plan::options::{DownOptions, ImageOptions, LifecycleOptions, UpOptions};
use crate::plan::{self, Plan, naming};
use crate::runtime::Adoption;
use crate::runtime::record::Exit;
use crate::runtime::status::{Container, Status, Watch};
use crate::spec::model::Stack;
use crate::spec::names::ProjectName;
use crate::sys::lock::{Lock, Mode};

/// `build`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// Build arguments over the file's; without a value they come from the environment.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Also what the services depend on.
    pub with_dependencies: bool,
}

/// `pull`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Also what the services depend on.
    pub include_deps: bool,
    /// Go on past images that cannot be pulled, and succeed.
    pub ignore_failures: bool,
    /// Leave out what can be built.
    pub ignore_buildable: bool,
    /// Leave out what is there.
    pub missing_only: bool,
}

/// Plans that were not applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    /// In the order they would be applied.
    pub plans: Vec<Plan>,
}

impl Planned {
    /// Returns what the user should know.
    pub fn warnings(&self) -> Vec<String> {
        self.plans
            .iter()
            .flat_map(|plan| plan.warnings.iter().map(ToString::to_string))
            .collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(Plan::is_empty)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plans.iter().try_for_each(|plan| write!(f, "{plan}"))
    }
}

impl Engine {
    /// Plans `up`, changes nothing (`--dry-run`).
    pub async fn plan_up(
        &self,
        stack: &Stack,
        options: &UpOptions,
    ) -> Result<Planned, EngineError> {
        let _lock = self.lock_project(&stack.name).await?;
        let options = with_digests(stack, &self.environment, options)?;
        let mut observed = self.observe(&stack.name, &plan::images::references(stack))?;
        let images = plan::images::images(stack, &observed, &options)?;
        observed.assume_images(&images);
        let mut containers = plan::containers::containers(stack, &observed, &options)?;
        if options.prune_networks {
            plan::prune::networks(&mut containers, stack, &observed);
        }
        Ok(Planned {
            plans: vec![images.followed_by(containers)],
        })
    }

    /// Brings the project to what its file says. Where that fails before there is any container, nothing else is left either.
    pub async fn up(
        &self,
        stack: &Stack,
        options: &UpOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let done = self.bring_up(stack, options, events, cancel).await;
        if done.is_err() {
            // The first failure is the one to tell.
            let _cleaned = self.clean_up().await;
        }
        done
    }

    async fn bring_up(
        &self,
        stack: &Stack,
        options: &UpOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.lock_project(&stack.name).await?;
        self.recover(&stack.name, events).await?;
        let options = with_digests(stack, &self.environment, options)?;
        let references = plan::images::references(stack);
        let mut observed = self.observe(&stack.name, &references)?;
        let images = plan::images::images(stack, &observed, &options)?;
        if !images.is_empty() {
            self.run(
                &images,
                &LinuxHost::new(self, Some(stack), events, &lock),
                events,
                cancel,
            )
            .await?;
            let before = std::mem::take(&mut observed.images);
            observed = self.observe(&stack.name, &references)?;
            let after = observed.images.iter();
            let changed = after.filter(|(reference, id)| before.get(*reference) != Some(*id));
            events.images(&changed.map(|(reference, _)| reference.clone()).collect());
        }
        let mut containers = plan::containers::containers(stack, &observed, &options)?;
        if options.prune_networks {
            plan::prune::networks(&mut containers, stack, &observed);
        }
        warn(&stack.name, &containers, events);
        events.begins(&containers);
        for container in left_alone(&containers, &observed) {
            events.runs(container);
        }
        if containers.is_empty() {
            self.record_up(stack)?;
            self.repair_network(events)?;
            return self
                .run(
                    &containers,
                    &LinuxHost::new(self, Some(stack), events, &lock),
                    events,
                    cancel,
                )
                .await;
        }
        let reserved = self.reserve_ports(stack, &containers, &observed)?;
        self.record_up(stack)?;
        // After a boot, or where somebody took a bridge away, there is a record and no link.
        let named = |name: &str| stack.networks.values().any(|network| network.name == name);
        for network in self.net.networks()? {
            if named(&network.config.name) {
                self.net.ensure_network(&network.config).await?;
            }
        }
        self.repair_network(events)?;
        let host = LinuxHost::new(self, Some(stack), events, &lock).with_reserved(reserved);
        let starting = self.lock_instance(Mode::Shared)?;
        let applied = self.run(&containers, &host, events, cancel).await;
        drop(starting);
        if containers
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::RemoveContainer { .. }))
        {
            self.prune_logs(&stack.name, events);
        }
        let synced = self.runtime.sync().map_err(EngineError::from);
        if let (Err(_), Err(error)) = (&applied, &synced) {
            // The first failure is the one to return.
            events.emit(Event {
                subject: Subject::Project(stack.name.to_string()),
                kind: EventKind::Warning(chain(error)),
            });
        }
        applied.and(synced)
    }

    /// Plans `down`, changes nothing.
    pub async fn plan_down(
        &self,
        project: &ProjectName,
        stack: Option<&Stack>,
        options: &DownOptions,
    ) -> Result<Planned, EngineError> {
        let _lock = self.lock_project(project).await?;
        let observed = self.observe(project, &BTreeSet::new())?;
        Ok(Planned {
            plans: vec![plan::teardown::teardown(
                project, stack, &observed, options,
            )?],
        })
    }

    /// Takes the project down.
    pub async fn down(
        &self,
        project: &ProjectName,
        stack: Option<&Stack>,
        options: &DownOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.lock_project(project).await?;
        let released = self.release_gone();
        let observed = self.observe(project, &BTreeSet::new())?;
        let plan = plan::teardown::teardown(project, stack, &observed, options)?;
        warn(project, &plan, events);
        let host = LinuxHost::new(self, stack, events, &lock).deferring();
        let applied = self
            .run(&plan, &host, events, cancel)
            .await
            .and(host.settle());
        let (mut recorded, mut swept) = (Ok(()), Ok(()));
        if options.services.is_empty() {
            recorded = self.record_down(project);
            swept = self.sweep_sources();
        }
        let cleaned = self.clean_up().await;
        self.prune_logs(project, events);
        let synced = self.runtime.sync().map_err(EngineError::from);
        // The first failure is the one to tell; none keeps the rest from being done.
        let removed = applied.and(released).and(recorded);
        removed.and(cleaned).and(swept).and(synced)
    }

    /// Removes logs of containers that are gone beyond what is kept of them. What cannot be is a warning: all that was asked
    /// for is done.
    fn prune_logs(&self, project: &ProjectName, events: &dyn EventSink) {
        if let Err(error) = self.runtime.prune_logs() {
            events.emit(Event {
                subject: Subject::Project(project.to_string()),
                kind: EventKind::Warning(format!("old logs were not removed: {}", chain(&error))),
            });
        }
    }

    /// Stops services, dependents first.
    pub async fn stop(
        &self,
        project: &ProjectName,
        services: &[String],
        timeout: Option<Duration>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.lock_project(project).await?;
        let observed = self.observe(project, &BTreeSet::new())?;
        let options = LifecycleOptions {
            services: services.to_vec(),
            timeout,
            ..LifecycleOptions::default()
        };
        let plan = plan::lifecycle::stop(None, &observed, &options)?;
        self.run(
            &plan,
            &LinuxHost::new(self, None, events, &lock),
            events,
            cancel,
        )
        .await
    }

    /// Signals every running container of the services.
    pub async fn kill(
        &self,
        project: &ProjectName,
        services: &[String],
        signal: i32,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let mut errors = Vec::new();
        for container in self.of_project(project)? {
            let service = container.config().labels.get(naming::SERVICE);
            let wanted = services.is_empty() || service.is_some_and(|name| services.contains(name));
            if !wanted || !matches!(container.status, Status::Running { .. }) {
                continue;
            }
            let subject = Subject::Container(container.config().name.clone());
            events.emit(Event {
                subject: subject.clone(),
                kind: EventKind::Started("Killing"),
            });
            let kind = match self.end(&container, signal).await {
                Ok(()) => EventKind::Finished("Killed"),
                Err(error) => {
                    errors.push(chain(&error));
                    EventKind::Failed(chain(&error))
                }
            };
            events.emit(Event { subject, kind });
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(EngineError::Several { messages: errors })
        }
    }

    /// Signals one container; after SIGKILL, returns when it has ended.
    async fn end(&self, container: &Container, signal: i32) -> Result<(), EngineError> {
        self.runtime.kill(container.id(), signal)?;
        if signal != libc::SIGKILL {
            return Ok(());
        }
        let mut waiting = self.runtime.wait(container.id())?;
        while waiting.advance()?.is_none() {
            let failed = |source| EngineError::System {
                attempted: "wait for a container".to_owned(),
                source,
            };
            readable(&waiting).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Builds the services' images.
    pub async fn build(
        &self,
        stack: &Stack,
        options: &BuildOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.with_dependencies,
            ..ImageOptions::default()
        };
        let plan = plan::images::build(stack, &chosen)?;
        let lock = self.lock_project(&stack.name).await?;
        let args = options.build_args.iter().map(|(name, value)| {
            let value = value
                .clone()
                .or_else(|| self.environment.get(name).cloned());
            (name.clone(), value)
        });
        let choices = BuildChoices {
            no_cache: options.no_cache,
            pull: options.pull,
            args: args.collect(),
        };
        let host = LinuxHost::new(self, Some(stack), events, &lock).with_build(choices);
        let applied = self.run(&plan, &host, events, cancel).await;
        let cleaned = self.clean_up().await;
        applied.and(cleaned)
    }

    /// Pulls the services' images.
    pub async fn pull(
        &self,
        stack: &Stack,
        options: &PullOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.include_deps,
            missing_only: options.missing_only,
            ignore_buildable: options.ignore_buildable,
        };
        let lock = self.lock_project(&stack.name).await?;
        let observed = self.observe(&stack.name, &plan::images::references(stack))?;
        let plan = plan::images::pull(stack, &observed, &chosen)?;
        let host = LinuxHost::new(self, Some(stack), events, &lock);
        match self.run(&plan, &host, events, cancel).await {
            Err(EngineError::Apply(crate::engine::apply::ApplyError::Failed { .. }))
                if options.ignore_failures =>
            {
                Ok(())
            }
            applied => applied,
        }
    }

    /// Pulls one image by its name.
    pub async fn pull_image(
        &self,
        reference: &str,
        platform: Option<&str>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<String, EngineError> {
        let parsed: crate::images::Reference = reference.parse()?;
        let platform = match platform {
            Some(text) => Platform::parse(text).map_err(|error| EngineError::System {
                attempted: "read --platform".to_owned(),
                source: std::io::Error::other(error),
            })?,
            None => Platform::host(),
        };
        let progress = crate::engine::linux::PullEvents::new(reference, events);
        tokio::select! {
            pulled = self.images.pull(&parsed, &platform, &progress) => Ok(pulled?.id.to_string()),
            () = cancel.cancelled() => Err(EngineError::Interrupted),
        }
    }

    /// Makes an image of a root file system tar; returns its id.
    pub fn import_image(
        &self,
        reader: Box<dyn std::io::Read + Send>,
        reference: Option<&str>,
        changes: &[String],
    ) -> Result<String, EngineError> {
        let reference = reference.map(str::parse).transpose()?;
        let changes = changes
            .iter()
            .map(|text| crate::images::Change::parse(text))
            .collect::<Result<Vec<_>, _>>();
        let changes = changes.map_err(|error| EngineError::System {
            attempted: "read --change".to_owned(),
            source: std::io::Error::other(error),
        })?;
        Ok(self
            .images
            .import(reader, reference.as_ref(), &changes)?
            .id
            .to_string())
    }

    /// Applies one plan.
    pub(crate) async fn run(
        &self,
        plan: &Plan,
        host: &LinuxHost<'_>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        Ok(apply_within(self.parallel, plan, host, events, cancel.cancelled()).await?)
    }

    /// Reserves the host ports of every container that the plan starts, so that a port in use is said before anything is
    /// changed. Ports that a container of this project holds until the plan stops it are reserved at its successor's start.
    fn reserve_ports(
        &self,
        stack: &Stack,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<BTreeMap<String, Vec<Reserved>>, EngineError> {
        let mut reserving = Reserving {
            engine: self,
            stopped: BTreeSet::new(),
            reserved: BTreeMap::new(),
            conflicts: Vec::new(),
        };
        let mut created = BTreeMap::new();
        for step in &plan.steps {
            match &step.action {
                Action::CreateContainer(spec) => {
                    created.insert(step.id, spec);
                }
                Action::StopContainer { container, .. } => {
                    reserving.stopped.insert(container.as_str().to_owned());
                }
                _ => {}
            }
        }
        let replaced: Vec<_> = created
            .values()
            .filter_map(|spec| spec.replaces.as_ref())
            .collect();
        for step in &plan.steps {
            let Action::StartContainer { container, .. } = &step.action else {
                continue;
            };
            match container {
                ContainerRef::New(id) => {
                    if let Some(spec) = created.get(id).filter(|spec| spec.replaces.is_none()) {
                        let service = stack.services.get(&spec.service);
                        let ports = service.map(network::ports).unwrap_or_default();
                        reserving.take(&spec.name, spec.service.as_str(), &ports)?;
                    }
                }
                ContainerRef::Existing(id) => {
                    let mut containers = observed.containers.iter();
                    // One that runs now is stopped first: it holds its own ports until then.
                    if let Some(found) = containers.find(|container| container.id == *id)
                        && !found.is_live()
                        && !replaced.contains(&id)
                    {
                        let ports = self.recorded_ports(id)?;
                        reserving.take(&found.name, &found.service, &ports)?;
                    }
                }
            }
        }
        if reserving.conflicts.is_empty() {
            Ok(reserving.reserved)
        } else {
            Err(EngineError::Ports {
                conflicts: reserving.conflicts,
            })
        }
    }

    /// Finds the container that publishes a host port now: its id, name and project.
    fn publisher(
        &self,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<Option<(String, PortHolder)>, EngineError> {
        for container in self.runtime.list()? {
            let published = self.net.published(container.id().as_str())?;
            let mut published = published.iter();
            if published.any(|port| port.protocol == protocol && overlap(port.host, address)) {
                let config = container.config();
                let holder = PortHolder::Container {
                    container: config.name.clone(),
                    project: config
                        .labels
                        .get(naming::PROJECT)
                        .cloned()
                        .unwrap_or_default(),
                };
                return Ok(Some((container.id().to_string(), holder)));
            }
        }
        Ok(None)
    }

    /// Reserves the ports of one container, at its start.
    pub(crate) fn reserve_for(
        &self,
        container: &str,
        service: &str,
        ports: &[PortConfig],
    ) -> Result<Vec<Reserved>, EngineError> {
        let mut reserving = Reserving {
            engine: self,
            stopped: BTreeSet::new(),
            reserved: BTreeMap::new(),
            conflicts: Vec::new(),
        };
        reserving.take(container, service, ports)?;
        if reserving.conflicts.is_empty() {
            Ok(reserving.reserved.remove(container).unwrap_or_default())
        } else {
            Err(EngineError::Ports {
                conflicts: reserving.conflicts,
            })
        }
    }

    /// Returns the ports of a container that is there.
    fn recorded_ports(
        &self,
        id: &plan::observed::ContainerId,
    ) -> Result<Vec<PortConfig>, EngineError> {
        let Some(id) = crate::runtime::config::ContainerId::new(id.as_str()) else {
            return Ok(Vec::new());
        };
        let record = self.runtime.record(&id)?;
        Ok(Annotations::of(&record.config).unwrap_or_default().ports)
    }

    /// Returns the containers of a project.
    pub(crate) fn of_project(&self, project: &ProjectName) -> Result<Vec<Container>, EngineError> {
        let mut containers = self.runtime.list()?;
        containers.retain(|container| {
            container
                .config()
                .labels
                .get(naming::PROJECT)
                .is_some_and(|name| name == project.as_str())
        });
        Ok(containers)
    }

    /// Puts right what others did to the firewall since, and tells what only the user can.
    pub(crate) fn repair_network(&self, events: &dyn EventSink) -> Result<(), EngineError> {
        for warning in self.net.repair()? {
            events.emit(Event {
                subject: Subject::Project("network".to_owned()),
                kind: EventKind::Warning(warning.to_string()),
            });
        }
        Ok(())
    }

    /// Puts right what a killed process left: adopts containers without a monitor, takes names and ports of ended ones
    /// out of force.
    pub(crate) async fn recover(
        &self,
        project: &ProjectName,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        self.release_gone()?;
        for container in self.of_project(project)? {
            let container = self.await_monitor(container).await?;
            self.await_start(&container).await?;
            let name = &container.config().name;
            let kind = match self.adopt(&container).await? {
                Adopted::NotNeeded => continue,
                Adopted::Runs => EventKind::Finished("Adopted"),
                Adopted::HadEnded(exit) => EventKind::Warning(had_ended(name, exit)),
            };
            let subject = Subject::Container(name.clone());
            events.emit(Event { subject, kind });
        }
        Ok(())
    }

    /// Gives back the names, ports and addresses of containers whose removal was killed before it came to them.
    fn release_gone(&self) -> Result<(), EngineError> {
        // In this order: whatever holds something was a container before, so that one that is new is not taken for gone.
        let holders = self.net.holders(step::BUILD_NETWORK)?;
        let known = self.runtime.list()?;
        let gone: Vec<&str> = holders
            .iter()
            .map(String::as_str)
            .filter(|id| known.iter().all(|container| container.id().as_str() != *id))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let released = self.net.release(&gone);
        self.net.forget(&gone)?;
        released.map_err(|errors| EngineError::Several {
            messages: errors.iter().map(|error| chain(error)).collect(),
        })
    }

    /// Returns the container when no monitor of it is on its way that a killed command has started.
    async fn await_monitor(&self, container: Container) -> Result<Container, EngineError> {
        if matches!(container.watch, Watch::Alive { .. }) {
            return Ok(container);
        }
        let Some(spawning) = self.runtime.spawning(container.id())? else {
            return Ok(container);
        };
        let waited = tokio::task::spawn_blocking(|| spawning.finish()).await;
        waited
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| EngineError::System {
                attempted: format!("wait for the monitor of {}", container.id().short()),
                source,
            })?;
        Ok(self.runtime.get(container.id())?)
    }

    /// Returns when a start that a killed command began has gone well or not, so that it is not planned once more.
    async fn await_start(&self, container: &Container) -> Result<(), EngineError> {
        let failed = |source| EngineError::System {
            attempted: format!("wait for the start of container {}", container.id().short()),
            source,
        };
        let Some(monitor) = self.runtime.starting(container)? else {
            return Ok(());
        };
        // Watched before it is looked at: a change in between is then not missed.
        let mut changes = self.runtime.changes()?;
        let monitor = match crate::sys::pidfd::open(monitor) {
            Ok(monitor) => monitor,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        while self
            .runtime
            .starting(&self.runtime.get(container.id())?)?
            .is_some()
        {
            tokio::select! {
                changed = readable(&changes) => {
                    changed.map_err(failed)?;
                    changes.take().map_err(failed)?;
                }
                ended = readable(&monitor) => return ended.map_err(failed),
            }
        }
        Ok(())
    }

    /// Gives a container whose monitor died a new one; does nothing for any other.
    pub(crate) async fn adopt(&self, container: &Container) -> Result<Adopted, EngineError> {
        if container.watch != Watch::Missing {
            return Ok(Adopted::NotNeeded);
        }
        let id = container.id();
        // Its ports were held by the dead monitor and its child; the same ones are taken again.
        let published = self.net.published(id.as_str())?;
        let sockets: Vec<_> = match crate::net::query::reserve_again(&published) {
            Ok(reserved) => reserved
                .into_iter()
                .map(|reserved| reserved.socket)
                .collect(),
            Err(error) if matches!(container.status, Status::Running { .. }) => {
                return Err(error.into());
            }
            Err(_) => Vec::new(),
        };
        let failed = |source| EngineError::System {
            attempted: format!("adopt container {}", id.short()),
            source,
        };
        let mut adoption = self.runtime.adopt(id, &sockets)?;
        if let Adoption::Adopting(starting) = adoption {
            readable(&starting).await.map_err(failed)?;
            adoption = match starting.finish() {
                Ok(_) => return Ok(Adopted::Runs),
                // It ended after it was looked at: then there is nothing left to adopt.
                Err(_) if self.runtime.get(id)?.pid().is_none() => self.runtime.adopt(id, &[])?,
                Err(error) => return Err(failed(std::io::Error::other(chain(&error)))),
            };
        }
        match adoption {
            // What the plan does about its end is the plan's.
            Adoption::Ended { exit, .. } => {
                self.release(id)?;
                Ok(Adopted::HadEnded(exit))
            }
            Adoption::NotNeeded | Adoption::Adopting(_) => Ok(Adopted::NotNeeded),
        }
    }

    /// Takes names and ports of a container that has ended out of force.
    fn release(&self, id: &crate::runtime::config::ContainerId) -> Result<(), EngineError> {
        self.net
            .release(&[id.as_str()])
            .map_err(|errors| EngineError::Several {
                messages: errors.iter().map(|error| chain(error)).collect(),
            })
    }

    /// Holds the instance: shared while containers start, alone while its last traces are removed.
    pub(crate) fn lock_instance(&self, mode: Mode) -> Result<Lock, EngineError> {
        let path = self.roots.root.join(INSTANCE_LOCK);
        Lock::acquire(&path, mode).map_err(|source| EngineError::file("lock", &path, source))
    }

    /// With the last container, removes what the instance put on the machine: cgroups, the sealed program, and the network
    /// that build steps used.
    pub async fn clean_up(&self) -> Result<(), EngineError> {
        let path = self.roots.root.join(INSTANCE_LOCK);
        let taken = Lock::try_acquire(&path, Mode::Exclusive);
        let taken = taken.map_err(|source| EngineError::file("lock", &path, source))?;
        // Somebody is starting containers: then this is not the last one.
        let Some(_lock) = taken else { return Ok(()) };
        let mut messages = step::sweep(self);
        if !self.runtime.list()?.is_empty() {
            return several(messages);
        }
        self.runtime.finish_removals()?;
        // Of containers whose removal was killed: nobody makes one while the instance is ours.
        for holder in self.images.holders()? {
            self.images.release(&holder)?;
        }
        let mut removed = self.net.remove_network(step::BUILD_NETWORK).await;
        if let Err(errors) = &removed
            && let Some(NetError::InUse { holders, .. }) = errors.first()
        {
            // Steps that nobody runs any more: whoever runs one holds the instance.
            let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
            self.net.forget(&holders)?;
            removed = self.net.remove_network(step::BUILD_NETWORK).await;
        }
        if let Err(errors) = removed {
            messages.extend(errors.iter().map(|error| chain(error)));
        }
        let cgroups = crate::runtime::cgroup::Cgroups::detect(self.instance.as_str());
        messages.extend(
            cgroups
                .and_then(|cgroups| cgroups.remove_instance())
                .err()
                .map(|error| chain(&error)),
        );
        messages.extend(
            crate::runtime::seal::unseal(&self.roots.run)
                .err()
                .map(|error| chain(&error)),
        );
        several(messages)
    }
}

/// What became of a container whose monitor may have died.
#[derive(Debug)]
pub(crate) enum Adopted {
    /// It has a monitor, or needs none.
    NotNeeded,
    /// It runs and has a new one.
    Runs,
    /// It had ended, which nobody saw.
    HadEnded(Exit),
}

/// Says that a container has ended without anybody seeing it.
fn had_ended(name: &str, exit: Exit) -> String {
    let code = if exit.unknown {
        "its exit code is unknown".to_owned()
    } else {
        format!("exit code {}", exit.code)
    };
    format!("container {name} had ended after its monitor was killed; {code}")
}

/// Ports being reserved.
struct Reserving<'a> {
    engine: &'a Engine,
    /// Containers that the plan stops.
    stopped: BTreeSet<String>,
    /// By container.
    reserved: BTreeMap<String, Vec<Reserved>>,
    conflicts: Vec<PortConflict>,
}

impl Reserving<'_> {
    /// Reserves the ports of one container; conflicts are noted.
    fn take(
        &mut self,
        container: &str,
        service: &str,
        ports: &[PortConfig],
    ) -> Result<(), EngineError> {
        let mut held: Vec<Reserved> = Vec::new();
        let mut is_awaited = false;
        for (index, port) in ports.iter().enumerate() {
            let (address, protocol, holder) = match ports::reserve(std::slice::from_ref(port)) {
                Ok(more) => {
                    held.extend(more);
                    continue;
                }
                Err(NetError::PortInUse {
                    address,
                    protocol,
                    holder,
                }) => match self.holder(service, address, protocol)? {
                    Some((id, _)) if self.stopped.contains(&id) => {
                        is_awaited = true;
                        continue;
                    }
                    Some((_, holder)) => (address, protocol, holder),
                    None => {
                        let holder = holder.map_or(PortHolder::Unknown, PortHolder::Process);
                        (address, protocol, holder)
                    }
                },
                Err(NetError::Bind {
                    address,
                    protocol,
                    source,
                }) => (address, protocol, PortHolder::Refused(source.to_string())),
                Err(error) => return Err(error.into()),
            };
            self.conflicts.push(PortConflict {
                service: service.to_owned(),
                index,
                container: container.to_owned(),
                address,
                protocol,
                holder,
            });
        }
        // All or none: with one port to come free first, all are reserved at the start.
        if !held.is_empty() && !is_awaited {
            self.reserved.insert(container.to_owned(), held);
        }
        Ok(())
    }

    /// Finds the container that has a port or is to have it; its id is empty where there is none yet.
    fn holder(
        &self,
        service: &str,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<Option<(String, PortHolder)>, EngineError> {
        let taken = self.reserved.iter().find(|(_, ports)| {
            let mut ports = ports.iter().map(|reserved| &reserved.port);
            ports.any(|port| port.protocol == protocol && overlap(port.host, address))
        });
        match taken {
            Some((container, _)) => {
                let holder = PortHolder::Planned {
                    container: container.clone(),
                    same_service: container.contains(&format!("-{service}-")),
                };
                Ok(Some((String::new(), holder)))
            }
            None => self.engine.publisher(address, protocol),
        }
    }
}

/// Whether two addresses of the host cannot be bound both: a wildcard takes in every address of its family.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// An error of all these, if there are any.
fn several(messages: Vec<String>) -> Result<(), EngineError> {
    if messages.is_empty() {
        Ok(())
    } else {
        Err(EngineError::Several { messages })
    }
}

/// Returns the containers that a plan leaves as they are, running.
fn left_alone<'a>(
    plan: &'a Plan,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a plan::observed::ContainerId> {
    let names: BTreeSet<&str> = plan
        .unchanged
        .iter()
        .filter_map(|resource| match resource {
            Resource::Container(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let containers = observed.containers.iter();
    containers
        .filter(move |container| names.contains(container.name.as_str()))
        .map(|container| &container.id)
}

/// Passes a plan's warnings on.
pub(crate) fn warn(project: &ProjectName, plan: &Plan, events: &dyn EventSink) {
    for warning in &plan.warnings {
        let kind = EventKind::Warning(warning.to_string());
        events.emit(Event {
            subject: Subject::Project(project.to_string()),
            kind,
        });
    }
}
