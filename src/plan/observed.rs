//! What is there: a plain snapshot of one project and of what it may touch.
//!
//! Planning reads nothing else, so it can be taken apart from deciding, and given by a test.

use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use super::action::Action;
use super::fingerprint::Fields;
use crate::spec::model::service::Dependency;

/// The snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Every container that carries the project's label, orphans and one-off ones among them.
    pub containers: Vec<ObservedContainer>,
    /// Every network of the machine's root, whosever.
    pub networks: Vec<ObservedNetwork>,
    /// Every volume of the machine's root, whosever.
    pub volumes: Vec<ObservedVolume>,
    /// References that are there, as the file writes them (see [`super::images::references`]) → `sha256:…` of the configuration.
    pub images: BTreeMap<String, String>,
    /// Of these, those that are not for a platform that a service asks for.
    pub other_platforms: BTreeMap<PlatformAsked, String>,
    /// Of those that stand for several images: the one for a platform that a service asks for, where that is another one than in `images`.
    pub platform_images: BTreeMap<PlatformAsked, String>,
}

/// A reference, and the platform that a service asks for with it; both as the file writes them.
pub type PlatformAsked = (String, String);

/// The id of a container, opaque here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// One container.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name now.
    pub name: String,
    /// Service label.
    pub service: String,
    /// Number among the service's containers, from 1.
    pub number: u32,
    /// Whether it was made by `run`.
    pub oneoff: bool,
    /// What it does now.
    pub state: State,
    /// Whether its owner stopped it.
    pub stopped_by_hand: bool,
    /// What was asked for when it was made.
    pub asked: Fields,
    /// `sha256:…` of its image's configuration.
    pub image_id: String,
    /// Networks it is attached to while it runs, by name.
    pub networks: BTreeSet<String>,
    /// Named volumes it mounts, by name.
    pub volumes: BTreeSet<String>,
    /// Anonymous volumes: path in the container → volume name.
    pub anonymous_volumes: BTreeMap<String, String>,
    /// What its service depended on when it was made (label `com.docker.compose.depends_on`, [`super::naming::parse_depends_on`]).
    pub depends_on: BTreeMap<String, Dependency>,
    /// The container whose place it was made to take (label `com.docker.compose.replace`).
    pub replaces: Option<ContainerId>,
    /// The container whose network namespace it joins.
    pub network_of: Option<ContainerId>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Its main process runs.
    Running(Health),
    /// Its restart policy is about to start it again.
    Restarting,
    /// Ended.
    Exited {
        /// `None` where it could not be learnt.
        code: Option<i32>,
    },
    /// Its record cannot be read.
    Unknown,
}

/// Health of a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has no health check.
    Unchecked,
    /// No verdict yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

/// One network.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNetwork {
    /// Name on the machine.
    pub name: String,
    /// Project label.
    pub project: Option<String>,
    /// What was asked for ([`super::fingerprint::network`]).
    pub asked: Fields,
    /// Containers that hold an address of it, of any project: id and name.
    pub used_by: BTreeMap<ContainerId, String>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedVolume {
    /// Name on the machine.
    pub name: String,
    /// Project label.
    pub project: Option<String>,
    /// What was asked for ([`super::fingerprint::volume`]).
    pub asked: Fields,
    /// Containers that mount it, of any project: id and name.
    pub used_by: BTreeMap<ContainerId, String>,
}

/// Stands for the id of an image that a dry run would pull or build.
pub const PENDING_IMAGE: &str = "not known yet";

impl Observed {
    /// Takes images that `plan` would pull or build and that are not there as there, so that a dry run can plan on.
    pub fn assume_images(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let reference = match &step.action {
                Action::PullImage(pull) => &pull.reference,
                Action::BuildImage(build) => &build.image,
                _ => continue,
            };
            let before = self.other_platforms.len();
            self.other_platforms
                .retain(|(other, _), _| other != reference);
            if self.other_platforms.len() != before {
                self.images.remove(reference);
            }
            self.images
                .entry(reference.clone())
                .or_insert_with(|| PENDING_IMAGE.to_owned());
        }
    }

    /// Returns the id of the image that a service gets by a reference, and the platform that it asks for.
    pub fn image(&self, reference: &str, asked: Option<&str>) -> Option<&String> {
        let asked = asked.map(|asked| (reference.to_owned(), asked.to_owned()));
        let of_platform = asked.and_then(|asked| self.platform_images.get(&asked));
        of_platform.or_else(|| self.images.get(reference))
    }

    /// Returns the platform of an image that is here, but not for the platform asked for.
    pub fn other_platform(&self, reference: &str, asked: Option<&str>) -> Option<&str> {
        let asked = (reference.to_owned(), asked?.to_owned());
        self.other_platforms.get(&asked).map(String::as_str)
    }
}

impl ContainerId {
    /// Wraps an id that the runtime gave.
    pub fn new(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// Returns it whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its first 12 characters, as people see it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl ObservedContainer {
    /// Whether it must be stopped before it can be removed.
    pub fn is_live(&self) -> bool {
        match self.state {
            // An unreadable record may hide a live process; stopping what does not run does nothing.
            State::Running(_) | State::Restarting | State::Unknown => true,
            State::Created | State::Exited { .. } => false,
        }
    }
}
