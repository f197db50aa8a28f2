//! Host ports, reserved before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::engine::Engine;
use crate::engine::annotations::Annotations;
use crate::engine::error::{EngineError, PortConflict, PortHolder};
use crate::engine::lower::network;
use crate::net::config::{PortConfig, Protocol};
use crate::net::error::NetError;
use crate::net::ports::{self, Reserved};
use crate::plan::action::{Action, ContainerRef};
use crate::plan::observed::Observed;
use crate::plan::{self, Plan, naming};
use crate::spec::model::Stack;

impl Engine {
    /// Reserves the host ports of every container that the plan starts, so that a port in use is said before anything is
    /// changed. Ports that a container of this project holds until the plan stops it are reserved at its successor's start.
    pub(super) fn reserve_ports(
        &self,
        stack: &Stack,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<BTreeMap<String, Vec<Reserved>>, EngineError> {
        let mut reserving = Reserving {
            engine: self,
            stopped: BTreeSet::new(),
            reserved: BTreeMap::new(),
            services: BTreeMap::new(),
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
            services: BTreeMap::new(),
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
}

/// Ports being reserved.
struct Reserving<'a> {
    engine: &'a Engine,
    /// Containers that the plan stops.
    stopped: BTreeSet<String>,
    /// By container.
    reserved: BTreeMap<String, Vec<Reserved>>,
    /// The services of those.
    services: BTreeMap<String, String>,
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
            let service = service.to_owned();
            self.services.insert(container.to_owned(), service);
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
                    same_service: self.services.get(container).is_some_and(|of| of == service),
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
