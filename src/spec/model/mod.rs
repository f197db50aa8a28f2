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
