//! The machine: [`Host`] over images, net and runtime. Glue; every decision is in the plan or in `lower`.
//!
//! ```text
//! create  anonymous volumes -> lower -> runtime record -> image lease
//! start   ports reserved -> addresses leased -> namespace + links -> names and ports in force -> monitor
//! remove  runtime -> image lease -> addresses -> anonymous volumes
//! ```

mod conditions;
mod create;
mod images;
mod start;

pub(crate) use images::{PullEvents, read_request, tell_layer};
pub(crate) use start::read_host_resolver;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::annotations::Annotations;
use crate::engine::build::check_secrets;
use crate::engine::error::EngineError;
use crate::engine::event::EventSink;
use crate::engine::host::{Host, HostError, HostResult};
use crate::engine::lower;
use crate::engine::project::ProjectLock;
use crate::engine::readable;
use crate::engine::using::UsedImages;
use crate::engine::{Engine, chain};
use crate::images::build::Session;
use crate::net::config::{NetworkConfig, SandboxConfig, SubnetConfig};
use crate::net::ports::Reserved;
use crate::plan::Plan;
use crate::plan::action::{
    AnonymousVolumes, AwaitCondition, BuildImage, ContainerSpec, NetworkSpec, PullImage, VolumeSpec,
};
use crate::plan::observed::ContainerId;
use crate::runtime::config as runtime;
use crate::runtime::{RuntimeError, StopOptions};
use crate::spec::model::Stack;
use crate::sys::atomic::Durability;

/// The machine, for the plans of one command.
pub(crate) struct LinuxHost<'a> {
    engine: &'a Engine,
    /// The project as loaded; absent where only containers that are there are touched.
    stack: Option<&'a Stack>,
    events: &'a dyn EventSink,
    lock: &'a ProjectLock,
    /// Ports taken before anything started, by container name in the end.
    reserved: RefCell<BTreeMap<String, Vec<Reserved>>>,
    /// Created, and without addresses yet: the first that starts leases for all, so that the table is written once.
    unleased: RefCell<Vec<SandboxConfig>>,
    /// Containers removed whose names, ports and addresses are given back together; absent where each does at once.
    deferred: Option<RefCell<Vec<String>>>,
    /// Builds that may not use the cache, and the like.
    build: crate::engine::BuildChoices,
    /// What the builds of this command share.
    session: Session,
    /// The images of the containers that are to be made.
    used: UsedImages,
}

impl<'a> LinuxHost<'a> {
    /// Makes one.
    pub(crate) fn new(
        engine: &'a Engine,
        stack: Option<&'a Stack>,
        events: &'a dyn EventSink,
        lock: &'a ProjectLock,
    ) -> Self {
        Self {
            engine,
            stack,
            events,
            lock,
            reserved: RefCell::default(),
            unleased: RefCell::default(),
            deferred: None,
            build: crate::engine::BuildChoices::default(),
            session: Session::default(),
            used: UsedImages::default(),
        }
    }

    /// Makes containers of these images.
    pub(crate) fn using(mut self, used: UsedImages) -> Self {
        self.used = used;
        self
    }

    /// Gives the network's things of all removed containers back together (`down`): [`LinuxHost::settle`] must follow.
    pub(crate) fn deferring(mut self) -> Self {
        self.deferred = Some(RefCell::default());
        self
    }

    /// Builds as `choices` say.
    pub(crate) fn with_build(mut self, choices: crate::engine::BuildChoices) -> Self {
        self.build = choices;
        self
    }

    /// Hands over ports that were reserved for containers by name.
    pub(crate) fn with_reserved(self, reserved: BTreeMap<String, Vec<Reserved>>) -> Self {
        *self.reserved.borrow_mut() = reserved;
        self
    }

    /// Fails where a build of a plan cannot succeed, before anything is built.
    pub(crate) fn check_builds(&self, plan: &Plan) -> Result<(), EngineError> {
        match self.stack {
            Some(stack) => check_secrets(stack, plan),
            None => Ok(()),
        }
    }

    /// Lets the builds that go on end.
    pub(crate) fn interrupt(&self) {
        self.session.interrupt();
    }

    /// Returns the loaded project.
    fn stack(&self) -> HostResult<&'a Stack> {
        self.stack
            .ok_or_else(|| HostError::from("the plan needs the project's file"))
    }
}

/// Turns a planner's id into the runtime's.
fn runtime_id(id: &ContainerId) -> HostResult<runtime::ContainerId> {
    runtime::ContainerId::new(id.as_str())
        .ok_or_else(|| format!("`{}` is not a container id", id.as_str()).into())
}

/// Joins several errors of a teardown into one.
fn all<E: std::fmt::Display>(errors: &[E]) -> HostError {
    let messages = errors.iter().map(ToString::to_string).collect();
    Box::new(EngineError::Several { messages })
}

impl Host for LinuxHost<'_> {
    async fn pull_image(&self, pull: &PullImage) -> HostResult<()> {
        // Not under the project's lock: a pull may take minutes.
        self.lock.wait(self.pull(pull)).await
    }

    async fn build_image(&self, build: &BuildImage) -> HostResult<()> {
        self.lock.wait(self.build(build)).await
    }

    fn end_builds(&self) {
        self.interrupt();
    }

    async fn create_network(&self, network: &NetworkSpec) -> HostResult<()> {
        let subnets = network.subnets.iter();
        let config = NetworkConfig {
            name: network.name.clone(),
            labels: network.labels.clone(),
            internal: network.internal,
            subnets: subnets
                .map(|s| SubnetConfig {
                    subnet: s.subnet,
                    gateway: s.gateway,
                })
                .collect(),
        };
        self.lock
            .change(self.engine.net.ensure_network(&config))
            .await??;
        // Other firewalls are asked to let it through once it is there, and before anything uses it.
        self.engine.repair_network(self.events)?;
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> HostResult<()> {
        self.settle()?;
        self.lock
            .change(self.engine.net.remove_network(name))
            .await?
            .map_err(|errors| all(&errors))
    }

    async fn create_volume(&self, volume: &VolumeSpec) -> HostResult<()> {
        let create = async {
            self.engine
                .runtime
                .volumes()
                .create(&volume.name, &volume.labels, Durability::Cached)
        };
        self.lock.change(create).await??;
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> HostResult<()> {
        let remove = async {
            self.engine
                .runtime
                .volumes()
                .remove(name, Durability::Cached)
        };
        Ok(self.lock.change(remove).await??)
    }

    async fn create_container(
        &self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
    ) -> HostResult<ContainerId> {
        let created = self
            .lock
            .change(async { self.create(spec, network_of) })
            .await??;
        Ok(ContainerId::new(created.as_str()))
    }

    async fn rename_container(&self, container: &ContainerId, to: &str) -> HostResult<()> {
        let id = runtime_id(container)?;
        let rename = async { self.engine.runtime.rename(&id, to, Durability::Cached) };
        Ok(self.lock.change(rename).await??)
    }

    async fn disconnect_container(&self, container: &ContainerId) -> HostResult<()> {
        let forget = async { self.engine.net.forget(&[container.as_str()]) };
        Ok(self.lock.change(forget).await??)
    }

    async fn start_container(&self, container: &ContainerId) -> HostResult<()> {
        let id = runtime_id(container)?;
        self.lock.change(self.start(&id)).await?
    }

    async fn await_condition(
        &self,
        wait: &AwaitCondition,
        containers: &[ContainerId],
    ) -> HostResult<()> {
        self.lock.wait(self.await_all(wait, containers)).await
    }

    async fn stop_container(
        &self,
        container: &ContainerId,
        timeout: Option<Duration>,
    ) -> HostResult<()> {
        let id = runtime_id(container)?;
        self.lock.change(self.stop(&id, timeout)).await?
    }

    async fn remove_container(
        &self,
        container: &ContainerId,
        anonymous: AnonymousVolumes,
    ) -> HostResult<()> {
        let id = runtime_id(container)?;
        self.lock
            .change(async { self.remove(&id, anonymous) })
            .await?
    }
}

impl LinuxHost<'_> {
    /// Stops a container; what its dead monitor could not give back is given back here.
    async fn stop(&self, id: &runtime::ContainerId, timeout: Option<Duration>) -> HostResult<()> {
        let options = StopOptions {
            timeout,
            durability: Durability::Cached,
            releases: self.deferred.is_none(),
        };
        let mut stopping = match self.engine.runtime.stop(id, options) {
            Ok(stopping) => stopping,
            // Removed, wholly or half, since it was observed: the removal that follows brings it to its end.
            Err(RuntimeError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let ended = loop {
            if let Some(ended) = stopping.advance()? {
                break ended;
            }
            readable(&stopping).await?;
        };
        if !ended.released && self.deferred.is_none() {
            self.engine
                .net
                .release(&[id.as_str()])
                .map_err(|errors| all(&errors))?;
        }
        Ok(())
    }

    /// Returns the anonymous volumes of all containers, by name.
    fn anonymous_volumes(&self) -> HostResult<BTreeSet<String>> {
        let containers = self.engine.runtime.list()?;
        let of = |container: &crate::runtime::status::Container| {
            Annotations::of(container.config())
                .unwrap_or_default()
                .anonymous_volumes
                .into_values()
        };
        Ok(containers.iter().flat_map(of).collect())
    }

    /// Gives back names, ports and addresses; returns what went wrong.
    fn give_back(&self, ids: &[&str]) -> Vec<String> {
        let mut errors = Vec::new();
        if let Err(several) = self.engine.net.release(ids) {
            errors.extend(several.iter().map(|error| chain(error)));
        }
        errors.extend(self.engine.net.forget(ids).err().map(|error| chain(&error)));
        errors
    }

    /// Gives back what removed containers held, all at once: before their networks go, and at the end.
    pub(crate) fn settle(&self) -> Result<(), EngineError> {
        let Some(deferred) = &self.deferred else {
            return Ok(());
        };
        let ids = deferred.take();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let messages = if ids.is_empty() {
            Vec::new()
        } else {
            self.give_back(&ids)
        };
        if messages.is_empty() {
            Ok(())
        } else {
            Err(EngineError::Several { messages })
        }
    }

    /// Removes a container and all that is its own; goes on past errors.
    fn remove(&self, id: &runtime::ContainerId, anonymous: AnonymousVolumes) -> HostResult<()> {
        let mut errors = Vec::new();
        let volumes = match self.engine.runtime.record(id) {
            Ok(record) => {
                Annotations::of(&record.config)
                    .unwrap_or_default()
                    .anonymous_volumes
            }
            Err(RuntimeError::NotFound(_)) => BTreeMap::new(),
            Err(error) => {
                errors.push(error.to_string());
                BTreeMap::new()
            }
        };
        if let Err(several) = self.engine.runtime.remove(id, true, Durability::Cached) {
            errors.extend(several.iter().map(ToString::to_string));
        }
        match &self.deferred {
            Some(deferred) => deferred.borrow_mut().push(id.as_str().to_owned()),
            None => errors.extend(self.give_back(&[id.as_str()])),
        }
        errors.extend(
            self.engine
                .images
                .release(id.as_str())
                .err()
                .map(|error| error.to_string()),
        );
        if anonymous == AnonymousVolumes::Remove && !volumes.is_empty() {
            let held = self.anonymous_volumes()?;
            for volume in volumes.values().filter(|volume| !held.contains(*volume)) {
                let removed = self
                    .engine
                    .runtime
                    .volumes()
                    .remove(volume, Durability::Cached);
                errors.extend(removed.err().map(|error| error.to_string()));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Box::new(EngineError::Several { messages: errors }))
        }
    }
}

/// Names the service in an error of lowering.
fn of_service(service: &crate::spec::names::ServiceName, source: lower::LowerError) -> HostError {
    Box::new(EngineError::Lower {
        service: service.to_string(),
        source,
    })
}
