//! Networks: addresses, bridges, veth pairs, the firewall table, published ports, names.
//!
//! This room never says which larger application an endpoint belongs to: identity travels as opaque labels and names.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::net::config::{NetworkConfig, SandboxConfig};
use crate::net::error::{NetError, Warning};
use crate::net::record::{Attachment, Leases, NetworkRecord, PublishedPort};
use crate::net::sidecar::SidecarConfig;

pub mod config;
pub mod error;
pub mod ports;
pub mod record;
pub mod sidecar;

/// The networks of one root. Used from the threads of one network namespace and one tokio runtime; opening it touches nothing.
#[derive(Debug)]
pub struct Net {
    root: PathBuf,
}

impl Net {
    /// Returns the networks of the root directory `root` with run directory `run`; `instance` is 8 hexadecimal digits.
    pub fn open(root: &Path, _run: &Path, _instance: &str) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes sure that the network exists with its bridge, addresses and firewall elements: makes, or repairs, or does nothing.
    pub async fn ensure_network(&self, config: &NetworkConfig) -> Result<NetworkRecord, NetError> {
        Err(NetError::NoNetwork(config.name.clone()))
    }

    /// Returns every network, by name.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>, NetError> {
        Ok(Vec::new())
    }

    /// Removes the network: links, firewall elements, record; with the last one the table. Goes on past errors and returns all.
    pub async fn remove_network(&self, name: &str) -> Result<(), Vec<NetError>> {
        Err(vec![NetError::NoNetwork(name.to_owned())])
    }

    /// Returns the addresses of each sandbox, in order: those it has, or new ones. Kept until [`Net::forget`].
    pub fn allocate(&self, _sandboxes: &[SandboxConfig]) -> Result<Vec<Leases>, NetError> {
        Ok(Vec::new())
    }

    /// Gives back the addresses of each container.
    pub fn forget(&self, _ids: &[&str]) -> Result<(), NetError> {
        Ok(())
    }

    /// Makes the links of a sandbox in the fresh namespace `netns`, with addresses and routes.
    pub async fn attach(
        &self,
        _netns: BorrowedFd<'_>,
        sandbox: &SandboxConfig,
        _leases: &Leases,
    ) -> Result<Attachment, NetError> {
        Err(NetError::NoNetwork(sandbox.id.clone()))
    }

    /// Puts the sandbox's names and published ports into force.
    pub fn publish(
        &self,
        _sandbox: &SandboxConfig,
        _attachment: &Attachment,
        _ports: &[PublishedPort],
    ) -> Result<(), NetError> {
        Ok(())
    }

    /// Takes names and published ports of the containers out of force, as far as there are any; all errors come back.
    pub fn release(&self, _ids: &[&str]) -> Result<(), Vec<NetError>> {
        Ok(())
    }

    /// Checks what others may have changed (the table, the host's other firewalls) and repairs it; once for each `up`.
    pub fn repair(&self) -> Result<Vec<Warning>, NetError> {
        Ok(Vec::new())
    }

    /// Returns what the name server and proxy of a container need.
    pub fn sidecar(&self, attachment: &Attachment, _ports: &[PublishedPort]) -> SidecarConfig {
        SidecarConfig {
            id: attachment.id.clone(),
            networks: Vec::new(),
            forward: false,
            servers: Vec::new(),
            resolv_conf: self.root.clone(),
            proxies: Vec::new(),
        }
    }
}
