//! Containers and images as the commands show them.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::view::{ContainerView, HealthView, ImageView, Publisher, StateView};
use crate::net::config::Protocol;
use crate::plan::naming;
use crate::runtime::config::MountSource;
use crate::runtime::record::{HealthStatus, Timestamp};
use crate::runtime::status::{Container, Status};
use crate::spec::names::ProjectName;

impl Engine {
    /// Returns the containers of a project, or of all; with `all` also those that do not run.
    pub fn containers(
        &self,
        project: Option<&ProjectName>,
        all: bool,
    ) -> Result<Vec<ContainerView>, EngineError> {
        let containers = match project {
            Some(project) => self.of_project(project)?,
            None => self.runtime.list()?,
        };
        let shown = |container: &&Container| {
            all || matches!(
                container.status,
                Status::Running { .. } | Status::Restarting { .. }
            )
        };
        let mut views = containers
            .iter()
            .filter(shown)
            .map(|c| self.container_view(c))
            .collect::<Result<Vec<_>, _>>()?;
        views.sort_by(|a, b| (&a.service, a.number, &a.name).cmp(&(&b.service, b.number, &b.name)));
        Ok(views)
    }

    fn container_view(&self, container: &Container) -> Result<ContainerView, EngineError> {
        let config = container.config();
        let label = |name: &str| config.labels.get(name).cloned().unwrap_or_default();
        let annotations = Annotations::of(config).unwrap_or_default();
        let id = container.id().as_str();
        let addresses = self.net.addresses(id)?;
        let networks = annotations.endpoints.iter().map(|endpoint| {
            (
                endpoint.network.clone(),
                addresses
                    .get(&endpoint.network)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            )
        });
        Ok(ContainerView {
            id: id.to_owned(),
            name: config.name.clone(),
            project: label(naming::PROJECT),
            service: label(naming::SERVICE),
            number: label(naming::NUMBER).parse().unwrap_or(1),
            image: config.image.reference.clone(),
            command: config.process.args.clone(),
            created_s: seconds(container.record.created),
            state: state(container),
            health: health(container),
            publishers: self.publishers(container, &annotations)?,
            networks: networks.collect(),
            mounts: mounts(container, &annotations),
            labels: config.labels.clone(),
        })
    }

    /// Returns the ports of a container: those in force, and those it would publish if it ran.
    fn publishers(
        &self,
        container: &Container,
        annotations: &Annotations,
    ) -> Result<Vec<Publisher>, EngineError> {
        if !matches!(
            container.status,
            Status::Running { .. } | Status::Restarting { .. }
        ) {
            return Ok(Vec::new());
        }
        let name = |protocol| {
            if protocol == Protocol::Tcp {
                "tcp"
            } else {
                "udp"
            }
        };
        let mut publishers: Vec<_> = self
            .net
            .published(container.id().as_str())?
            .iter()
            .map(|port| Publisher {
                url: port.host.ip().to_string(),
                target_port: port.container_port,
                published_port: port.host.port(),
                protocol: name(port.protocol),
            })
            .collect();
        if publishers.is_empty() {
            publishers.extend(annotations.ports.iter().map(|port| Publisher {
                url: String::new(),
                target_port: port.container_port,
                published_port: 0,
                protocol: name(port.protocol),
            }));
        }
        Ok(publishers)
    }

    /// Returns every image of the store.
    pub fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        let mut views = Vec::new();
        for image in self.images.list()? {
            let none = || "<none>".to_owned();
            views.push(ImageView {
                container: String::new(),
                repository: image.repository.unwrap_or_else(none),
                tag: image.tag.unwrap_or_else(none),
                platform: image.platform.to_string(),
                id: image.id.to_string(),
                size_bytes: image.size_bytes,
                created_s: image.created.as_deref().map_or(0, epoch),
            });
        }
        Ok(views)
    }

    /// Returns the images that a project's containers use.
    pub fn project_images(&self, project: &ProjectName) -> Result<Vec<ImageView>, EngineError> {
        let by_id: BTreeMap<_, _> = self
            .images()?
            .into_iter()
            .map(|image| (image.id.clone(), image))
            .collect();
        let mut views = Vec::new();
        for container in self.of_project(project)? {
            let config = container.config();
            let mut view = match by_id.get(&config.image.id) {
                Some(view) => view.clone(),
                None => unnamed(&config.image.id),
            };
            if let Ok(reference) = config.image.reference.parse::<crate::images::Reference>() {
                view.repository = reference.familiar_repository();
                reference
                    .tag()
                    .unwrap_or("<none>")
                    .clone_into(&mut view.tag);
            }
            view.container.clone_from(&config.name);
            views.push(view);
        }
        views.sort_by(|a, b| a.container.cmp(&b.container));
        Ok(views)
    }
}

/// Shows an image that the store no longer names.
fn unnamed(id: &str) -> ImageView {
    ImageView {
        container: String::new(),
        repository: "<none>".to_owned(),
        tag: "<none>".to_owned(),
        platform: String::new(),
        id: id.to_owned(),
        size_bytes: 0,
        created_s: 0,
    }
}

/// Returns whole seconds since the epoch.
fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000_000_000)
}

/// Returns the seconds since the epoch of an RFC 3339 time, 0 for anything else.
fn epoch(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>()
        .map_or(0, jiff::Timestamp::as_second)
}

fn state(container: &Container) -> StateView {
    match &container.status {
        Status::Created { .. } => StateView::Created,
        Status::Running { started, .. } => StateView::Running {
            since_s: seconds(*started),
        },
        Status::Restarting { last, .. } => StateView::Restarting { code: last.code },
        Status::Exited(exit) => StateView::Exited {
            code: (!exit.unknown).then_some(exit.code),
            at_s: seconds(exit.at),
        },
        Status::Removing => StateView::Unknown,
    }
}

fn health(container: &Container) -> Option<HealthView> {
    container.config().health.as_ref()?;
    if !matches!(container.status, Status::Running { .. }) {
        return None;
    }
    Some(
        match container.health.as_ref().map(|health| health.status) {
            None | Some(HealthStatus::Starting) => HealthView::Starting,
            Some(HealthStatus::Healthy) => HealthView::Healthy,
            Some(HealthStatus::Unhealthy) => HealthView::Unhealthy,
        },
    )
}

/// Returns the sources of the mounts: names of volumes, paths of the host.
fn mounts(container: &Container, annotations: &Annotations) -> Vec<String> {
    let binds = container
        .config()
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(path.display().to_string()),
            MountSource::Volume { .. } | MountSource::Layers { .. } | MountSource::Tmpfs { .. } => {
                None
            }
        });
    let volumes = annotations
        .named_volumes
        .iter()
        .chain(annotations.anonymous_volumes.values())
        .cloned();
    binds.chain(volumes).collect()
}
