//! What the engine wants to find again with a container: written into its configuration, opaque to the runtime.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::etc::Resolver;
use crate::net::config::{EndpointConfig, PortConfig, SandboxConfig};
use crate::plan::fingerprint::Fields;
use crate::runtime::config::ContainerConfig;

/// The engine's own part of a container's record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// What was asked for, field by field.
    pub asked: Fields,
    /// Its place in each network.
    pub endpoints: Vec<EndpointConfig>,
    /// Ports to publish.
    pub ports: Vec<PortConfig>,
    /// Name resolution.
    pub resolver: Resolver,
    /// Further lines of /etc/hosts.
    pub extra_hosts: Vec<(String, String)>,
    /// Anonymous volumes: path in the container → volume name.
    pub anonymous_volumes: BTreeMap<String, String>,
    /// Named volumes it mounts, by name.
    pub named_volumes: BTreeSet<String>,
    /// Id of the container whose network namespace it joins.
    pub network_of: Option<String>,
}

impl Annotations {
    /// Reads them from a container's configuration; `None` where another program, or another format, wrote them.
    pub fn of(config: &ContainerConfig) -> Option<Self> {
        serde_json::from_value(config.annotations.clone()).ok()
    }

    /// Returns the container's network identity.
    pub fn sandbox(&self, id: &str) -> SandboxConfig {
        SandboxConfig {
            id: id.to_owned(),
            endpoints: self.endpoints.clone(),
            ports: self.ports.clone(),
        }
    }
}
