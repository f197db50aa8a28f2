//! What a step does: one operation on the machine each, its payload holding everything decided.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::StepId;
use super::fingerprint::Fields;
use super::observed::ContainerId;
use crate::spec::model::build::Build;
use crate::spec::model::network::Subnet;
use crate::spec::names::ServiceName;

/// One operation on the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Fetch an image from its registry.
    PullImage(PullImage),
    /// Build an image.
    BuildImage(Box<BuildImage>),
    /// Make a network.
    CreateNetwork(NetworkSpec),
    /// Remove a network that no container holds an address of.
    RemoveNetwork {
        /// Name on the machine.
        name: String,
    },
    /// Make a volume.
    CreateVolume(VolumeSpec),
    /// Remove a volume and its content.
    RemoveVolume {
        /// Name on the machine.
        name: String,
    },
    /// Make a container, not started.
    CreateContainer(Box<ContainerSpec>),
    /// Give a container another name.
    RenameContainer {
        /// Which.
        container: ContainerRef,
        /// Its name until then.
        from: String,
        /// The name it gets, which is free by then.
        to: String,
    },
    /// Make a stopped container give back every address it holds; its next start leases new ones.
    DisconnectContainer {
        /// Which.
        container: ContainerId,
        /// Its name.
        name: String,
    },
    /// Start a container that does not run; done once its main process runs.
    StartContainer {
        /// Which.
        container: ContainerRef,
        /// Its name.
        name: String,
    },
    /// Wait until a service's containers meet a condition.
    AwaitCondition(AwaitCondition),
    /// Ask a container to stop, kill it when its time is up; done once it has ended. It will not be restarted by its policy.
    StopContainer {
        /// Which.
        container: ContainerId,
        /// Its name.
        name: String,
        /// Grace instead of the container's own.
        timeout: Option<Duration>,
    },
    /// Remove a container that does not run, with all that is its own.
    RemoveContainer {
        /// Which.
        container: ContainerId,
        /// Its name.
        name: String,
        /// What becomes of its anonymous volumes.
        anonymous_volumes: AnonymousVolumes,
    },
}

/// An image to fetch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullImage {
    /// As the file has it.
    pub reference: String,
    /// The machine's where unset.
    pub platform: Option<String>,
}

/// An image to build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildImage {
    /// Reference it gets.
    pub image: String,
    /// The first service that asks for it.
    pub service: ServiceName,
    /// How.
    pub build: Build,
    /// The machine's where unset.
    pub platform: Option<String>,
}

/// A network to make.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    /// Name on the machine.
    pub name: String,
    /// Without a way out.
    pub internal: bool,
    /// Ranges asked for; a free one is chosen where empty.
    pub subnets: Vec<Subnet>,
    /// The file's labels and Compose's.
    pub labels: BTreeMap<String, String>,
}

/// A volume to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Name on the machine.
    pub name: String,
    /// The file's labels and Compose's.
    pub labels: BTreeMap<String, String>,
}

/// A container to make; what its service says is looked up in the stack by `service`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// Name it is made with.
    pub name: String,
    /// Name it has in the end: `name`, unless it takes another's place and is renamed.
    pub settled_name: String,
    /// Its service.
    pub service: ServiceName,
    /// Number among the service's containers, from 1.
    pub number: u32,
    /// Image as the file has it.
    pub image: String,
    /// `sha256:…` of the image's configuration.
    pub image_id: String,
    /// What was asked for, recorded so that the next plan can compare.
    pub asked: Fields,
    /// The file's labels and Compose's.
    pub labels: BTreeMap<String, String>,
    /// The container whose place it takes; recorded (label `com.docker.compose.replace`).
    pub replaces: Option<ContainerId>,
    /// Anonymous volumes it takes over: path in the container → volume name.
    pub inherits: BTreeMap<String, String>,
    /// The container whose network namespace it joins (`network_mode: service:`).
    pub network_of: Option<ContainerRef>,
}

/// Something to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitCondition {
    /// Whose containers.
    pub service: String,
    /// What must be so.
    pub condition: Awaited,
    /// The containers, with their names.
    pub containers: Vec<(ContainerRef, String)>,
    /// Longest wait.
    pub timeout: Option<Duration>,
    /// Whether failing is an error, or a warning only.
    pub required: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// Every container's health check passes; a container without a check, or one that ended, is a failure.
    Healthy,
    /// The first container that ends has exited with 0.
    Completed,
    /// Every container runs, and is healthy if it has a health check (`up --wait`).
    RunningOrHealthy,
}

/// A container that is there, or that an earlier step makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerRef {
    /// Observed.
    Existing(ContainerId),
    /// Made by this step.
    New(StepId),
}

/// What becomes of anonymous volumes when their container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousVolumes {
    /// They stay: another container has them, or nobody asked for their removal.
    Keep,
    /// Those that no other container has are removed.
    Remove,
}

/// A resource, for showing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// By its name on the machine.
    Network(String),
    /// By its name on the machine.
    Volume(String),
    /// By its reference.
    Image(String),
    /// By its reference.
    Build(String),
    /// By its name in the end.
    Container(String),
}

impl Action {
    /// Returns what the action is done to; every container that is waited for.
    pub fn resources(&self) -> Vec<Resource> {
        match self {
            Self::PullImage(pull) => vec![Resource::Image(pull.reference.clone())],
            Self::BuildImage(build) => vec![Resource::Build(build.image.clone())],
            Self::CreateNetwork(NetworkSpec { name, .. }) | Self::RemoveNetwork { name } => {
                vec![Resource::Network(name.clone())]
            }
            Self::CreateVolume(VolumeSpec { name, .. }) | Self::RemoveVolume { name } => {
                vec![Resource::Volume(name.clone())]
            }
            Self::CreateContainer(spec) => vec![Resource::Container(spec.settled_name.clone())],
            Self::RenameContainer { to: name, .. }
            | Self::DisconnectContainer { name, .. }
            | Self::StartContainer { name, .. }
            | Self::StopContainer { name, .. }
            | Self::RemoveContainer { name, .. } => vec![Resource::Container(name.clone())],
            Self::AwaitCondition(wait) => wait
                .containers
                .iter()
                .map(|(_, name)| Resource::Container(name.clone()))
                .collect(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullImage(pull) => write!(f, "pull image {}", pull.reference),
            Self::BuildImage(build) => write!(f, "build image {}", build.image),
            Self::CreateNetwork(network) => write!(f, "create network {}", network.name),
            Self::RemoveNetwork { name } => write!(f, "remove network {name}"),
            Self::CreateVolume(volume) => write!(f, "create volume {}", volume.name),
            Self::RemoveVolume { name } => write!(f, "remove volume {name}"),
            Self::CreateContainer(spec) => {
                write!(f, "create container {}", spec.settled_name)?;
                match &spec.replaces {
                    Some(old) => write!(f, " to replace {}", old.short()),
                    None => Ok(()),
                }
            }
            Self::RenameContainer { from, to, .. } => {
                write!(f, "rename container {from} to {to}")
            }
            Self::DisconnectContainer { name, .. } => write!(f, "disconnect container {name}"),
            Self::StartContainer { name, .. } => write!(f, "start container {name}"),
            Self::AwaitCondition(wait) => {
                f.write_str("wait for ")?;
                for (index, (_, name)) in wait.containers.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name}")?;
                }
                f.write_str(match wait.condition {
                    Awaited::Healthy => " to be healthy",
                    Awaited::Completed => " to complete",
                    Awaited::RunningOrHealthy => " to run",
                })
            }
            Self::StopContainer { name, .. } => write!(f, "stop container {name}"),
            Self::RemoveContainer { name, .. } => write!(f, "remove container {name}"),
        }
    }
}
