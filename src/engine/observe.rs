//! Facts of the rooms → [`Observed`]. Reads; changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Engine;
use crate::engine::annotations::Annotations;
use crate::engine::error::EngineError;
use crate::engine::store::platform_option;
use crate::plan::fingerprint;
use crate::plan::images::References;
use crate::plan::naming;
use crate::plan::observed::{
    ContainerId, Health, Observed, ObservedContainer, ObservedNetwork, ObservedVolume,
    PlatformAsked, State,
};
use crate::runtime::record::HealthStatus;
use crate::runtime::status::{Container, Status};
use crate::spec::names::ProjectName;

/// Label that says whose container it is.
fn project_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(naming::PROJECT).map(String::as_str)
}

/// See the fields of [`Observed`].
#[derive(Default)]
struct ImageIds {
    images: BTreeMap<String, String>,
    other_platforms: BTreeMap<PlatformAsked, String>,
    platform_images: BTreeMap<PlatformAsked, String>,
}

impl Engine {
    /// Takes the snapshot of `project`; `references` are the images that planning may ask about.
    pub(crate) fn observe(
        &self,
        project: &ProjectName,
        references: &References,
    ) -> Result<Observed, EngineError> {
        self.observe_of(&self.runtime.list()?, project, references)
    }

    /// As [`Engine::observe`], where all containers were just listed.
    pub(crate) fn observe_of(
        &self,
        all: &[Container],
        project: &ProjectName,
        references: &References,
    ) -> Result<Observed, EngineError> {
        let uses: Vec<Use> = all.iter().map(Use::of).collect();
        let mine = all
            .iter()
            .filter(|container| project_of(&container.config().labels) == Some(project.as_str()));
        let networks = self
            .net
            .networks()?
            .into_iter()
            .map(|record| observed_network(&record, &uses))
            .collect();
        let volumes = self
            .runtime
            .volumes()
            .list()
            .map_err(|error| crate::engine::volume_error(&error))?;
        let ImageIds {
            images,
            other_platforms,
            platform_images,
        } = self.image_ids(references)?;
        Ok(Observed {
            containers: mine.map(observed_container).collect(),
            networks,
            volumes: volumes
                .into_iter()
                .map(|volume| observed_volume(volume, &uses))
                .collect(),
            images,
            other_platforms,
            platform_images,
        })
    }

    /// Returns the image id of each reference that is in the store, and what there is for platforms that are asked for.
    fn image_ids(&self, references: &References) -> Result<ImageIds, EngineError> {
        let mut ids = ImageIds::default();
        for (text, asked) in references {
            // A name, an id, or the beginning of one.
            let Some(image) = self.images.find(text)? else {
                continue;
            };
            ids.images.insert(text.clone(), image.id.to_string());
            for asked in asked {
                let platform = platform_option(asked)?;
                let key = (text.clone(), asked.clone());
                match self.images.find_for(text, &platform)? {
                    Some(found) if found.id == image.id => {}
                    Some(found) => drop(ids.platform_images.insert(key, found.id.to_string())),
                    None => {
                        let other = image.config.platform().to_string();
                        ids.other_platforms.insert(key, other);
                    }
                }
            }
        }
        Ok(ids)
    }
}

/// What one container, of any project, holds on to.
struct Use {
    id: ContainerId,
    name: String,
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
}

impl Use {
    fn of(container: &Container) -> Self {
        let annotations = Annotations::of(container.config()).unwrap_or_default();
        Self {
            id: ContainerId::new(container.id().as_str()),
            name: container.config().name.clone(),
            networks: annotations
                .endpoints
                .into_iter()
                .map(|endpoint| endpoint.network)
                .collect(),
            volumes: annotations
                .named_volumes
                .into_iter()
                .chain(annotations.anonymous_volumes.into_values())
                .collect(),
        }
    }
}

/// Returns the users of a resource, by `holds`.
fn used_by(uses: &[Use], holds: impl Fn(&Use) -> bool) -> BTreeMap<ContainerId, String> {
    uses.iter()
        .filter(|user| holds(user))
        .map(|user| (user.id.clone(), user.name.clone()))
        .collect()
}

fn observed_network(record: &crate::net::record::NetworkRecord, uses: &[Use]) -> ObservedNetwork {
    let config = &record.config;
    ObservedNetwork {
        name: config.name.clone(),
        project: project_of(&config.labels).map(str::to_owned),
        asked: fingerprint::network(
            config.internal,
            config
                .subnets
                .iter()
                .map(|subnet| (subnet.subnet, subnet.gateway)),
            &config.labels,
        ),
        used_by: used_by(uses, |user| user.networks.contains(&config.name)),
    }
}

fn observed_volume(volume: crate::runtime::volumes::Volume, uses: &[Use]) -> ObservedVolume {
    ObservedVolume {
        project: project_of(&volume.labels).map(str::to_owned),
        asked: fingerprint::volume(&volume.labels),
        used_by: used_by(uses, |user| user.volumes.contains(&volume.name)),
        name: volume.name,
    }
}

fn observed_container(container: &Container) -> ObservedContainer {
    let config = container.config();
    let label = |name: &str| config.labels.get(name).cloned().unwrap_or_default();
    let annotations = Annotations::of(config);
    let readable = annotations.is_some();
    let annotations = annotations.unwrap_or_default();
    ObservedContainer {
        id: ContainerId::new(container.id().as_str()),
        name: config.name.clone(),
        service: label(naming::SERVICE),
        number: label(naming::NUMBER).parse().unwrap_or(1),
        oneoff: label(naming::ONEOFF) == "True",
        state: if readable {
            state(container)
        } else {
            State::Unknown
        },
        stopped_by_hand: container.record.stopped_by_hand,
        asked: annotations.asked,
        image_id: config.image.id.clone(),
        networks: annotations
            .endpoints
            .into_iter()
            .map(|endpoint| endpoint.network)
            .collect(),
        volumes: annotations.named_volumes,
        anonymous_volumes: annotations.anonymous_volumes,
        depends_on: naming::parse_depends_on(&label(naming::DEPENDS_ON)),
        replaces: config
            .labels
            .get(naming::REPLACE)
            .map(|id| ContainerId::new(id)),
        network_of: annotations.network_of.map(|id| ContainerId::new(&id)),
    }
}

/// Returns what a container does.
pub(crate) fn state(container: &Container) -> State {
    match &container.status {
        Status::Created { .. } => State::Created,
        Status::Running { .. } => State::Running(health(container)),
        Status::Restarting { .. } => State::Restarting,
        Status::Exited(exit) => State::Exited {
            code: (!exit.unknown).then_some(exit.code),
        },
        Status::Removing => State::Unknown,
    }
}

fn health(container: &Container) -> Health {
    if container.config().health.is_none() {
        return Health::Unchecked;
    }
    match container.health.as_ref().map(|health| health.status) {
        None | Some(HealthStatus::Starting) => Health::Starting,
        Some(HealthStatus::Healthy) => Health::Healthy,
        Some(HealthStatus::Unhealthy) => Health::Unhealthy,
    }
}
