//! Builds stacks and snapshots for tests, without the loader.

use std::collections::{BTreeMap, BTreeSet};

use super::fingerprint;
use super::graph;
use super::naming;
use super::observed::{
    ContainerId, Health, Observed, ObservedContainer, ObservedNetwork, ObservedVolume, State,
};
use super::options::UpOptions;
use crate::spec::model::Stack;
use crate::spec::model::network::{Attachment, Network};
use crate::spec::model::service::{
    Condition, Dependency, HealthTest, Healthcheck, NetworkMode, Service,
};
use crate::spec::model::volume::{Mount, MountSource, Volume};
use crate::spec::names::{NetworkKey, ProjectName, ServiceName, VolumeKey};

/// The project of every test.
pub(crate) const PROJECT: &str = "demo";

/// Reads one service a line: `name word…`. A line whose name begins with `-` is disabled.
///
/// ```text
/// web image=app scale=2 env:LEVEL=debug depends:db=healthy?!  net=front  vol=data:/data  anon=/cache
///     share=db  name=fixed  check  ends=0  profile=debug  build  context=db
/// ```
///
/// `depends:db` takes `started` (default), `healthy`, `completed`; `!` restarts with it, `?` does without it. Without `net`
/// and `share` a service is on `default`. Lines `network KEY internal external` and `volume KEY external` add to those made
/// by use.
pub(crate) fn stack(text: &str) -> Stack {
    let mut stack = Stack {
        name: ProjectName::new(PROJECT).unwrap(),
        directory: "/src/demo".into(),
        files: vec!["/src/demo/compose.yaml".into()],
        services: BTreeMap::new(),
        disabled: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
        obstacles: Vec::new(),
        document: crate::spec::tree::Node::default(),
    };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else {
            continue;
        };
        match name {
            "network" => {
                let key = words.next().unwrap();
                let network = network(&mut stack, key);
                for word in words {
                    match word {
                        "internal" => network.internal = true,
                        "external" => network.external = true,
                        other => network.name = other.to_owned(),
                    }
                }
            }
            "volume" => {
                let key = words.next().unwrap();
                volume(&mut stack, key).external = words.next() == Some("external");
            }
            name => {
                let service = service(&mut stack, words);
                let (services, name) = match name.strip_prefix('-') {
                    Some(name) => (&mut stack.disabled, name),
                    None => (&mut stack.services, name),
                };
                services.insert(ServiceName::new(name).unwrap(), service);
            }
        }
    }
    stack
}

fn service<'a>(stack: &mut Stack, words: impl Iterator<Item = &'a str>) -> Service {
    let mut service = Service {
        image: Some("app".to_owned()),
        ..Service::default()
    };
    for word in words {
        let (word, value) = word.split_once('=').unwrap_or((word, ""));
        match word.split_once(':').unwrap_or((word, "")) {
            ("image", _) => service.image = Some(value.to_owned()),
            ("build", _) => {
                if value.is_empty() {
                    service.image = None;
                }
                service.build = Some(crate::spec::model::build::Build {
                    context: "/src/demo".into(),
                    dockerfile: "Dockerfile".into(),
                    dockerfile_inline: None,
                    args: BTreeMap::new(),
                    target: None,
                    more: Box::default(),
                });
            }
            ("context", _) => {
                let build = service.build.as_mut().unwrap();
                let contexts = &mut build.more.additional_contexts;
                contexts.insert(value.to_owned(), format!("service:{value}"));
            }
            ("scale", _) => service.scale = Some(value.parse().unwrap()),
            ("platform", _) => service.platform = Some(value.to_owned()),
            ("env", name) => {
                service
                    .environment
                    .insert(name.to_owned(), value.to_owned());
            }
            ("depends", name) => {
                service
                    .depends_on
                    .insert(ServiceName::new(name).unwrap(), dependency(value));
            }
            ("net", _) => {
                network(stack, value);
                let key = NetworkKey::new(value).unwrap();
                service.networks.insert(key, Attachment::default());
            }
            ("share", _) => {
                let donor = ServiceName::new(value).unwrap();
                service.network_mode = Some(NetworkMode::Service(donor));
            }
            ("vol", _) => {
                let (key, target) = value.split_once(':').unwrap();
                volume(stack, key);
                service.volumes.push(mount(Some(key), target));
            }
            ("anon", _) => service.volumes.push(mount(None, value)),
            ("name", _) => service.container_name = Some(value.to_owned()),
            ("check", _) => {
                service.healthcheck = Some(Healthcheck {
                    test: Some(HealthTest::Cmd(vec!["true".to_owned()])),
                    ..Healthcheck::default()
                });
            }
            ("ends", _) => {
                let label = "test.ends".to_owned();
                service.labels.insert(label, value.to_owned());
            }
            ("profile", _) => service.profiles.push(value.to_owned()),
            (other, _) => panic!("what is {other}?"),
        }
    }
    if service.networks.is_empty() && service.network_mode.is_none() {
        network(stack, "default");
        let key = NetworkKey::new("default").unwrap();
        service.networks.insert(key, Attachment::default());
    }
    service
}

fn dependency(text: &str) -> Dependency {
    Dependency {
        condition: match text.trim_end_matches(['!', '?']) {
            "" | "started" => Condition::ServiceStarted,
            "healthy" => Condition::ServiceHealthy,
            "completed" => Condition::ServiceCompletedSuccessfully,
            other => panic!("what is {other}?"),
        },
        restart: text.contains('!'),
        required: !text.contains('?'),
    }
}

fn mount(key: Option<&str>, target: &str) -> Mount {
    Mount {
        source: MountSource::Volume {
            source: key.map(|key| VolumeKey::new(key).unwrap()),
            copy: true,
            subpath: None,
        },
        target: target.to_owned(),
        read_only: false,
    }
}

fn network<'a>(stack: &'a mut Stack, key: &str) -> &'a mut Network {
    let name = NetworkKey::new(key).unwrap();
    stack.networks.entry(name).or_insert_with(|| Network {
        name: format!("{PROJECT}_{key}"),
        external: false,
        internal: false,
        subnets: Vec::new(),
        labels: BTreeMap::new(),
    })
}

fn volume<'a>(stack: &'a mut Stack, key: &str) -> &'a mut Volume {
    let name = VolumeKey::new(key).unwrap();
    stack.volumes.entry(name).or_insert_with(|| Volume {
        name: format!("{PROJECT}_{key}"),
        external: false,
        labels: BTreeMap::new(),
    })
}

/// What is there once `stack` is up: ids are `web1`, padded to twelve characters by zeros.
pub(crate) fn up(stack: &Stack) -> Observed {
    let mut observed = Observed::default();
    for (name, service) in &stack.services {
        let reference = naming::image_reference(stack, name, service);
        let image_id = format!("sha256:{reference}-1");
        observed.images.insert(reference, image_id.clone());
        for number in 1..=service.scale.unwrap_or(1) {
            observed.containers.push(ObservedContainer {
                id: id(name.as_str(), number),
                name: naming::container_name(stack, name, service, number),
                service: name.to_string(),
                number,
                oneoff: false,
                state: State::Running(match service.healthcheck {
                    Some(_) => Health::Healthy,
                    None => Health::Unchecked,
                }),
                stopped_by_hand: false,
                asked: fingerprint::service(stack, service, &UpOptions::default()),
                image_id: image_id.clone(),
                networks: service
                    .networks
                    .keys()
                    .map(|key| stack.networks[key].name.clone())
                    .collect(),
                volumes: super::volumes::used(service)
                    .map(|key| stack.volumes[key].name.clone())
                    .collect(),
                anonymous_volumes: service
                    .volumes
                    .iter()
                    .filter(|m| matches!(m.source, MountSource::Volume { source: None, .. }))
                    .map(|m| (m.target.clone(), format!("anonymous-{name}-{number}")))
                    .collect(),
                depends_on: graph::service_dependencies(service),
                replaces: None,
                network_of: match &service.network_mode {
                    Some(NetworkMode::Service(donor)) => Some(id(donor.as_str(), 1)),
                    _ => None,
                },
            });
        }
    }
    observed.networks = stack
        .networks
        .values()
        .map(|network| ObservedNetwork {
            name: network.name.clone(),
            project: (!network.external).then(|| PROJECT.to_owned()),
            asked: super::networks::asked(network),
            used_by: users(&observed, |c| &c.networks, &network.name),
        })
        .collect();
    observed.volumes = stack
        .volumes
        .values()
        .map(|volume| ObservedVolume {
            name: volume.name.clone(),
            project: (!volume.external).then(|| PROJECT.to_owned()),
            asked: fingerprint::volume(&volume.labels),
            used_by: users(&observed, |c| &c.volumes, &volume.name),
        })
        .collect();
    observed
}

fn users(
    observed: &Observed,
    of: impl Fn(&ObservedContainer) -> &BTreeSet<String>,
    name: &str,
) -> BTreeMap<ContainerId, String> {
    let containers = observed.containers.iter().filter(|c| of(c).contains(name));
    containers.map(|c| (c.id.clone(), c.name.clone())).collect()
}

/// The id that [`up`] gives.
pub(crate) fn id(service: &str, number: u32) -> ContainerId {
    ContainerId::new(&format!("{:0<12}", format!("{service}{number}")))
}

/// Nothing is there but the images.
pub(crate) fn bare(stack: &Stack) -> Observed {
    let services = stack.services.iter().chain(&stack.disabled);
    let references = services.map(|(name, service)| naming::image_reference(stack, name, service));
    Observed {
        images: references
            .map(|r| (r.clone(), format!("sha256:{r}-1")))
            .collect(),
        ..Observed::default()
    }
}
