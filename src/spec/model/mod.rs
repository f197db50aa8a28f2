//! The typed model of a Compose project: what was asked, with every short form made long.
//!
//! No parsing here, and no defaults hidden: a field that the file did not set is `None` or empty. [`Service`] serialises
//! to the canonical form, which is also what fingerprints are taken of.

pub mod build;
pub mod network;
pub mod service;
pub mod volume;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::names::{NetworkKey, ProjectName, ServiceName, VolumeKey};
use super::obstacle::Obstacle;
use super::tree::Node;
use network::Network;
use service::Service;
use volume::{FileObject, Volume};

/// One loaded, validated project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stack {
    /// Project name.
    pub name: ProjectName,
    /// Absolute path that relative paths were resolved against.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The files it was loaded from, absolute, in the order given.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// Services that the active profiles enable.
    pub services: BTreeMap<ServiceName, Service>,
    /// Services that no active profile enables; known, so that `down` and a service named on the command line find them.
    #[serde(skip)]
    pub disabled: BTreeMap<ServiceName, Service>,
    /// Networks that the services use, `default` made explicit where it is used.
    pub networks: BTreeMap<NetworkKey, Network>,
    /// Named volumes.
    pub volumes: BTreeMap<VolumeKey, Volume>,
    /// Secrets by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileObject>,
    /// Configs by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileObject>,
    /// What stands in the way of building or running parts of it.
    #[serde(skip)]
    pub obstacles: Vec<Obstacle>,
    /// The canonical tree that all this was decoded from, of the enabled services; what `render` prints.
    #[serde(skip)]
    pub document: Node,
}

impl Stack {
    /// Returns the services that `names` mean: each its own, or the enabled ones that it is a pattern of
    /// ([`super::names::matches`]). What means none stays as it is, for whoever says so.
    pub fn named(&self, names: &[String]) -> Vec<String> {
        let is_service =
            |name: &str| self.services.contains_key(name) || self.disabled.contains_key(name);
        let mut all = Vec::with_capacity(names.len());
        for pattern in names {
            let matching = self.services.keys().map(ServiceName::as_str);
            let matching = matching.filter(|name| super::names::matches(pattern, name));
            let before = all.len();
            if !is_service(pattern) {
                all.extend(matching.map(str::to_owned));
            }
            if all.len() == before {
                all.push(pattern.clone());
            }
        }
        all
    }
}
