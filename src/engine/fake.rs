//! A model of a machine, for tests: it holds networks, volumes and containers, refuses what a machine refuses, and can be
//! observed. It fails, or stops answering, at a step of the test's choice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::host::{Host, HostError, HostResult};
use crate::images::build::BuildError;
use crate::plan::action::{
    AnonymousVolumes, AwaitCondition, Awaited, BuildImage, ContainerSpec, NetworkSpec, PullImage,
    VolumeSpec,
};
use crate::plan::fingerprint::{self, Fields};
use crate::plan::naming;
use crate::plan::observed::{
    ContainerId, Health, Observed, ObservedContainer, ObservedNetwork, ObservedVolume, State,
};
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;

/// The machine.
#[derive(Default)]
pub(super) struct FakeHost {
    state: RefCell<Machine>,
    /// The file that the containers are lowered from.
    stack: RefCell<Option<Stack>>,
    /// Calls until the machine fails, and how.
    trouble: RefCell<Option<(usize, Trouble)>>,
    /// Whether who calls has been killed: nothing is done any more.
    killed: Cell<bool>,
    /// The call that never returns and does nothing.
    hangs: RefCell<Option<String>>,
    /// Wakes the builds that are to end.
    builds_ended: tokio::sync::Notify,
    /// What was done, in order.
    pub(super) log: RefCell<Vec<String>>,
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It fails and does nothing.
    Fails,
    /// It does what it should, and never returns: who called is killed.
    Killed,
    /// It does nothing, and never returns.
    KilledBefore,
}

#[derive(Default, Clone)]
struct Machine {
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, Volume>,
    containers: BTreeMap<ContainerId, Container>,
    images: BTreeMap<String, String>,
    unpullable: BTreeSet<String>,
    unbuildable: BTreeSet<String>,
    made: u32,
}

#[derive(Clone)]
struct Network {
    project: Option<String>,
    asked: Fields,
    used_by: BTreeSet<ContainerId>,
}

#[derive(Clone)]
struct Volume {
    project: Option<String>,
    asked: Fields,
}

#[derive(Clone)]
struct Container {
    name: String,
    labels: BTreeMap<String, String>,
    asked: Fields,
    image_id: String,
    state: State,
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
    anonymous: BTreeMap<String, String>,
    network_of: Option<ContainerId>,
    health: Health,
    ends_with: Option<i32>,
}

/// Label of a service that ends at once with this code.
pub(super) const ENDS: &str = "test.ends";

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn refuse<T>(why: String) -> HostResult<T> {
    Err(HostError::from(Refused(why)))
}

impl FakeHost {
    /// The file that is applied from now on.
    pub(super) fn use_stack(&self, stack: &Stack) {
        *self.stack.borrow_mut() = Some(stack.clone());
    }

    /// Lets this call never return.
    pub(super) fn hang(&self, what: &str) {
        *self.hangs.borrow_mut() = Some(what.to_owned());
    }

    /// Lets all be well again.
    pub(super) fn recover(&self) {
        *self.trouble.borrow_mut() = None;
        *self.hangs.borrow_mut() = None;
        self.killed.set(false);
    }

    /// Lets call number `call`, from 0, go wrong.
    pub(super) fn trouble(&self, call: usize, trouble: Trouble) {
        *self.trouble.borrow_mut() = Some((call, trouble));
    }

    /// Puts an image there.
    pub(super) fn image(&self, reference: &str, id: &str) {
        let mut state = self.state.borrow_mut();
        state.images.insert(reference.to_owned(), id.to_owned());
    }

    /// Makes builds of an image fail.
    pub(super) fn cannot_build(&self, reference: &str) {
        let mut state = self.state.borrow_mut();
        state.unbuildable.insert(reference.to_owned());
    }

    /// Makes pulls of an image fail.
    pub(super) fn cannot_pull(&self, reference: &str) {
        let mut state = self.state.borrow_mut();
        state.unpullable.insert(reference.to_owned());
    }

    /// Ends a container.
    pub(super) fn die(&self, name: &str, code: i32) {
        let mut state = self.state.borrow_mut();
        let mut all = state.containers.values_mut();
        all.find(|c| c.name == name).unwrap().state = State::Exited { code: Some(code) };
    }

    /// Observes a project.
    pub(super) fn observe(&self, project: &str) -> Observed {
        let state = self.state.borrow();
        let of_project =
            |c: &&Container| c.labels.get(naming::PROJECT).is_some_and(|p| p == project);
        let name_of = |id: &ContainerId| (id.clone(), state.containers[id].name.clone());
        Observed {
            containers: state
                .containers
                .iter()
                .filter(|(_, c)| of_project(c))
                .map(|(id, c)| c.observe(id))
                .collect(),
            networks: state
                .networks
                .iter()
                .map(|(name, network)| ObservedNetwork {
                    name: name.clone(),
                    project: network.project.clone(),
                    asked: network.asked.clone(),
                    used_by: network.used_by.iter().map(name_of).collect(),
                })
                .collect(),
            volumes: state
                .volumes
                .iter()
                .map(|(name, volume)| ObservedVolume {
                    name: name.clone(),
                    project: volume.project.clone(),
                    asked: volume.asked.clone(),
                    used_by: state
                        .containers
                        .iter()
                        .filter(|(_, c)| c.mounts(name))
                        .map(|(id, c)| (id.clone(), c.name.clone()))
                        .collect(),
                })
                .collect(),
            images: state.images.clone(),
            other_platforms: BTreeMap::new(),
            platform_images: BTreeMap::new(),
        }
    }

    /// Whether anything is left but images and volumes.
    pub(super) fn is_bare(&self) -> bool {
        let state = self.state.borrow();
        state.containers.is_empty() && state.networks.is_empty()
    }

    /// Names of all volumes.
    pub(super) fn volumes(&self) -> BTreeSet<String> {
        self.state.borrow().volumes.keys().cloned().collect()
    }

    /// Does `work`, unless there is trouble.
    async fn call<T>(
        &self,
        what: String,
        work: impl FnOnce(&mut Machine) -> HostResult<T>,
    ) -> HostResult<T> {
        if self.killed.get() || self.hangs.borrow().as_ref() == Some(&what) {
            std::future::pending::<()>().await;
        }
        let trouble = {
            let mut trouble = self.trouble.borrow_mut();
            match trouble.as_mut() {
                Some((0, kind)) => {
                    let kind = *kind;
                    *trouble = None;
                    Some(kind)
                }
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        match trouble {
            Some(Trouble::Fails) => return refuse(format!("{what}: as the test wants")),
            Some(Trouble::KilledBefore) => {
                self.killed.set(true);
                std::future::pending::<()>().await;
            }
            Some(Trouble::Killed) | None => {}
        }
        self.log.borrow_mut().push(what);
        let result = work(&mut self.state.borrow_mut());
        if trouble == Some(Trouble::Killed) {
            self.killed.set(true);
            std::future::pending::<()>().await;
        }
        result
    }

    fn service(&self, spec: &ContainerSpec) -> (Stack, Service) {
        let stack = self.stack.borrow().clone().unwrap();
        let service = stack.services.get(&spec.service);
        let service = service.or_else(|| stack.disabled.get(&spec.service));
        let service = service.unwrap().clone();
        (stack, service)
    }
}

impl Container {
    fn mounts(&self, volume: &str) -> bool {
        self.volumes.contains(volume) || self.anonymous.values().any(|name| name == volume)
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Restarting)
    }

    fn observe(&self, id: &ContainerId) -> ObservedContainer {
        let label = |name: &str| self.labels.get(name).cloned();
        ObservedContainer {
            id: id.clone(),
            name: self.name.clone(),
            service: label(naming::SERVICE).unwrap(),
            number: label(naming::NUMBER).unwrap().parse().unwrap(),
            oneoff: label(naming::ONEOFF).unwrap() == "True",
            state: self.state,
            stopped_by_hand: false,
            asked: self.asked.clone(),
            image_id: self.image_id.clone(),
            networks: self.networks.clone(),
            volumes: self.volumes.clone(),
            anonymous_volumes: self.anonymous.clone(),
            depends_on: naming::parse_depends_on(&label(naming::DEPENDS_ON).unwrap()),
            replaces: label(naming::REPLACE).map(|id| ContainerId::new(&id)),
            network_of: self.network_of.clone(),
        }
    }
}

impl Host for FakeHost {
    async fn pull_image(&self, pull: &PullImage) -> HostResult<()> {
        let reference = pull.reference.clone();
        self.call(format!("pull {reference}"), |machine| {
            if machine.unpullable.contains(&reference) {
                return refuse(format!("{reference}: no such image"));
            }
            let id = format!("sha256:{:0>12}{reference}", machine.images.len());
            machine.images.insert(reference, id);
            Ok(())
        })
        .await
    }

    async fn build_image(&self, build: &BuildImage) -> HostResult<()> {
        let image = build.image.clone();
        let built = self.call(format!("build {image}"), |machine| {
            if machine.unbuildable.contains(&image) {
                return refuse(format!("{image}: exit code: 1"));
            }
            machine.images.insert(image, "sha256:built".to_owned());
            Ok(())
        });
        tokio::select! {
            built = built => built,
            () = self.builds_ended.notified() => Err(BuildError::Interrupted.into()),
        }
    }

    fn end_builds(&self) {
        self.builds_ended.notify_waiters();
    }

    async fn create_network(&self, network: &NetworkSpec) -> HostResult<()> {
        let name = network.name.clone();
        self.call(format!("create network {name}"), |machine| {
            let made = Network {
                project: network.labels.get(naming::PROJECT).cloned(),
                asked: fingerprint::network(
                    network.internal,
                    network.subnets.iter().map(|s| (s.subnet, s.gateway)),
                    &network.labels,
                ),
                used_by: BTreeSet::new(),
            };
            machine.networks.entry(name).or_insert(made);
            Ok(())
        })
        .await
    }

    async fn remove_network(&self, name: &str) -> HostResult<()> {
        self.call(format!("remove network {name}"), |machine| {
            let network = machine.networks.get(name);
            if network.is_some_and(|network| !network.used_by.is_empty()) {
                return refuse(format!("network {name} is in use"));
            }
            machine.networks.remove(name);
            Ok(())
        })
        .await
    }

    async fn create_volume(&self, volume: &VolumeSpec) -> HostResult<()> {
        let name = volume.name.clone();
        self.call(format!("create volume {name}"), |machine| {
            let made = Volume {
                project: volume.labels.get(naming::PROJECT).cloned(),
                asked: fingerprint::volume(&volume.labels),
            };
            machine.volumes.entry(name).or_insert(made);
            Ok(())
        })
        .await
    }

    async fn remove_volume(&self, name: &str) -> HostResult<()> {
        self.call(format!("remove volume {name}"), |machine| {
            if machine.containers.values().any(|c| c.mounts(name)) {
                return refuse(format!("volume {name} is in use"));
            }
            machine.volumes.remove(name);
            Ok(())
        })
        .await
    }

    async fn create_container(
        &self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
    ) -> HostResult<ContainerId> {
        let (stack, service) = self.service(spec);
        self.call(format!("create {}", spec.name), |machine| {
            machine.create(spec, network_of, &stack, &service)
        })
        .await
    }

    async fn rename_container(&self, container: &ContainerId, to: &str) -> HostResult<()> {
        self.call(format!("rename to {to}"), |machine| {
            if machine.containers.values().any(|c| c.name == to) {
                return refuse(format!("name {to} is taken"));
            }
            machine.container(container)?.name = to.to_owned();
            Ok(())
        })
        .await
    }

    async fn disconnect_container(&self, container: &ContainerId) -> HostResult<()> {
        self.call(format!("disconnect {}", container.short()), |machine| {
            if machine.container(container)?.is_running() {
                return refuse("it runs".to_owned());
            }
            for network in machine.networks.values_mut() {
                network.used_by.remove(container);
            }
            Ok(())
        })
        .await
    }

    async fn start_container(&self, container: &ContainerId) -> HostResult<()> {
        self.call(format!("start {}", container.short()), |machine| {
            machine.start(container)
        })
        .await
    }

    async fn await_condition(
        &self,
        wait: &AwaitCondition,
        containers: &[ContainerId],
    ) -> HostResult<()> {
        self.call(format!("wait for {}", wait.service), |machine| {
            for id in containers {
                let container = machine.container(id)?;
                let met = match (wait.condition, container.state) {
                    (Awaited::Completed, State::Exited { code: Some(0) })
                    | (Awaited::Healthy, State::Running(Health::Healthy)) => true,
                    (Awaited::RunningOrHealthy, State::Running(health)) => {
                        matches!(health, Health::Unchecked | Health::Healthy)
                    }
                    _ => false,
                };
                if !met {
                    return refuse(format!("{} is {:?}", container.name, container.state));
                }
            }
            Ok(())
        })
        .await
    }

    async fn stop_container(
        &self,
        container: &ContainerId,
        _timeout: Option<Duration>,
    ) -> HostResult<()> {
        self.call(format!("stop {}", container.short()), |machine| {
            let container = machine.container(container)?;
            if container.is_running() {
                container.state = State::Exited { code: Some(143) };
            }
            Ok(())
        })
        .await
    }

    async fn remove_container(
        &self,
        container: &ContainerId,
        anonymous_volumes: AnonymousVolumes,
    ) -> HostResult<()> {
        self.call(format!("remove {}", container.short()), |machine| {
            if machine.container(container)?.is_running() {
                return refuse("it runs".to_owned());
            }
            for network in machine.networks.values_mut() {
                network.used_by.remove(container);
            }
            let removed = machine.containers.remove(container).unwrap();
            let mut volumes: Vec<String> = removed.anonymous.into_values().collect();
            volumes.retain(|volume| {
                let mut others = machine.containers.values();
                anonymous_volumes == AnonymousVolumes::Remove && !others.any(|c| c.mounts(volume))
            });
            for volume in volumes {
                machine.volumes.remove(&volume);
            }
            Ok(())
        })
        .await
    }
}

impl Machine {
    fn container(&mut self, id: &ContainerId) -> HostResult<&mut Container> {
        match self.containers.get_mut(id) {
            Some(container) => Ok(container),
            None => refuse(format!("no container {}", id.as_str())),
        }
    }

    fn create(
        &mut self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
        stack: &Stack,
        service: &Service,
    ) -> HostResult<ContainerId> {
        if self.containers.values().any(|c| c.name == spec.name) {
            return refuse(format!("name {} is taken", spec.name));
        }
        if self.images.get(&spec.image) != Some(&spec.image_id) {
            return refuse(format!("image {} is not there", spec.image));
        }
        if let Some(donor) = network_of {
            self.container(donor)?;
        }
        self.made += 1;
        let id = ContainerId::new(&format!("{:012x}", self.made));
        let mut anonymous = BTreeMap::new();
        let mut volumes = BTreeSet::new();
        for mount in &service.volumes {
            match &mount.source {
                MountSource::Volume {
                    source: Some(key), ..
                } => {
                    volumes.insert(stack.volumes[key].name.clone());
                }
                MountSource::Volume { source: None, .. } => {
                    let inherited = spec.inherits.get(&mount.target).cloned();
                    let name = inherited.unwrap_or_else(|| format!("anonymous-{}", id.as_str()));
                    self.volumes.entry(name.clone()).or_insert(Volume {
                        project: None,
                        asked: Fields::new(),
                    });
                    anonymous.insert(mount.target.clone(), name);
                }
                MountSource::Bind { .. } | MountSource::Tmpfs { .. } => {}
            }
        }
        for volume in &volumes {
            if !self.volumes.contains_key(volume) {
                return refuse(format!("volume {volume} is not there"));
            }
        }
        let container = Container {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            asked: spec.asked.clone(),
            image_id: spec.image_id.clone(),
            state: State::Created,
            networks: service
                .networks
                .keys()
                .map(|key| stack.networks[key].name.clone())
                .collect(),
            volumes,
            anonymous,
            network_of: network_of.cloned(),
            health: match service.healthcheck {
                Some(_) => Health::Healthy,
                None => Health::Unchecked,
            },
            ends_with: service.labels.get(ENDS).map(|code| code.parse().unwrap()),
        };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    fn start(&mut self, id: &ContainerId) -> HostResult<()> {
        let container = self.container(id)?.clone();
        if container.is_running() {
            return refuse(format!("{} runs already", container.name));
        }
        if let Some(donor) = &container.network_of
            && !self.container(donor)?.is_running()
        {
            return refuse(format!("{}: the donor does not run", container.name));
        }
        // Nobody may run on in a network namespace that is about to be replaced.
        let mut others = self.containers.values();
        if let Some(other) = others.find(|c| c.network_of.as_ref() == Some(id) && c.is_running()) {
            return refuse(format!("{} runs in a dead namespace", other.name));
        }
        for network in &container.networks {
            match self.networks.get_mut(network) {
                Some(network) => network.used_by.insert(id.clone()),
                None => return refuse(format!("network {network} is not there")),
            };
        }
        self.container(id)?.state = match container.ends_with {
            Some(code) => State::Exited { code: Some(code) },
            None => State::Running(container.health),
        };
        Ok(())
    }
}
