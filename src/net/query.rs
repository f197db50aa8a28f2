//! What is in force for one container, read back from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::Net;
use crate::net::config::PortConfig;
use crate::net::error::NetError;
use crate::net::ports::{self, Reserved};
use crate::net::record::PublishedPort;

impl Net {
    /// Returns the published ports of a container; none where it does not run.
    pub fn published(&self, id: &str) -> Result<Vec<PublishedPort>, NetError> {
        Ok(self
            .store
            .publication(id)?
            .map(|publication| publication.ports)
            .unwrap_or_default())
    }

    /// Returns the ids that hold an address in a network that is none of `except`, or have ports or names in force.
    pub fn holders(&self, except: &[&str]) -> Result<BTreeSet<String>, NetError> {
        let publications = self.store.publications()?;
        let mut found: BTreeSet<String> = publications.into_iter().map(|one| one.id).collect();
        for record in self.store.networks()? {
            if !except.contains(&record.config.name.as_str()) {
                found.extend(self.store.leases(&record.config.name)?.holders.into_keys());
            }
        }
        Ok(found)
    }

    /// Returns the container's first address in each network that it holds one of.
    pub fn addresses(&self, id: &str) -> Result<BTreeMap<String, IpAddr>, NetError> {
        let mut found = BTreeMap::new();
        for record in self.store.networks()? {
            let name = record.config.name;
            let table = self.store.leases(&name)?;
            if let Some(address) = table
                .holders
                .get(id)
                .and_then(|addresses| addresses.first())
            {
                found.insert(name, *address);
            }
        }
        Ok(found)
    }
}

/// Binds ports that were published before and whose holder died: the same addresses and numbers, in the same order.
pub fn reserve_again(published: &[PublishedPort]) -> Result<Vec<Reserved>, NetError> {
    let configs: Vec<_> = published
        .iter()
        .map(|port| PortConfig {
            host_ip: Some(port.host.ip()),
            host_ports: Some((port.host.port(), port.host.port())),
            container_port: port.container_port,
            protocol: port.protocol,
        })
        .collect();
    ports::reserve(&configs)
}
