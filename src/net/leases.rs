//! Addresses given out and given back: [`LeaseTable`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::PoisonError;

use ipnetwork::IpNetwork;

use crate::net::config::{EndpointConfig, SandboxConfig};
use crate::net::error::NetError;
use crate::net::record::{Lease, LeaseTable, Leases, NetworkRecord, Subnet};
use crate::net::{Net, ipam};

impl Net {
    /// Returns the addresses of each sandbox, in order: those it has, or new ones. Kept until [`Net::forget`].
    ///
    /// All or none; each network's leases are read and written once.
    pub fn allocate(&self, sandboxes: &[SandboxConfig]) -> Result<Vec<Leases>, NetError> {
        let _lock = self.store.lock_networks()?;
        let _alone = self.leasing.lock().unwrap_or_else(PoisonError::into_inner);
        let names: BTreeSet<&str> = sandboxes
            .iter()
            .flat_map(|s| s.endpoints.iter().map(|e| e.network.as_str()))
            .collect();
        let mut pools = BTreeMap::new();
        for name in names {
            let record = self.record(name)?;
            pools.insert(name, Pool::new(record, self.store.leases(name)?));
        }
        // Fixed addresses first, so that no other container of the same call gets one of them.
        for wants_fixed in [true, false] {
            for sandbox in sandboxes {
                let endpoints = sandbox
                    .endpoints
                    .iter()
                    .filter(|e| e.address.is_some() == wants_fixed);
                for endpoint in endpoints {
                    let pool = pools.get_mut(endpoint.network.as_str());
                    pool.map_or(Ok(()), |pool| pool.lease(&sandbox.id, endpoint))?;
                }
            }
        }
        for pool in pools.values().filter(|pool| pool.is_changed) {
            self.store
                .write_leases(&pool.record.config.name, &pool.table)?;
        }
        let leases = sandboxes.iter().map(|sandbox| Leases {
            id: sandbox.id.clone(),
            endpoints: sandbox
                .endpoints
                .iter()
                .filter_map(|e| Some(pools.get(e.network.as_str())?.leased(&sandbox.id)))
                .collect(),
        });
        Ok(leases.collect())
    }

    /// Gives back the addresses of the containers, as far as they have any.
    pub fn forget(&self, ids: &[&str]) -> Result<(), NetError> {
        let _lock = self.store.lock_networks()?;
        let _alone = self.leasing.lock().unwrap_or_else(PoisonError::into_inner);
        for network in self.store.networks()? {
            let name = &network.config.name;
            let mut table = self.store.leases(name)?;
            let before = table.holders.len();
            table.holders.retain(|id, _| !ids.contains(&id.as_str()));
            if table.holders.len() != before {
                self.store.write_leases(name, &table)?;
            }
        }
        Ok(())
    }
}

/// A network's leases while addresses are given out.
struct Pool {
    record: NetworkRecord,
    table: LeaseTable,
    taken: BTreeSet<IpAddr>,
    is_changed: bool,
}

impl Pool {
    fn new(record: NetworkRecord, table: LeaseTable) -> Self {
        let gateways = record.subnets.iter().map(|s| s.gateway);
        let taken = gateways
            .chain(table.holders.values().flatten().copied())
            .collect();
        Self {
            record,
            table,
            taken,
            is_changed: false,
        }
    }

    /// Leases an address of each range to `id`, unless it has them.
    fn lease(&mut self, id: &str, endpoint: &EndpointConfig) -> Result<(), NetError> {
        if self.table.holders.contains_key(id) {
            return Ok(());
        }
        let network = || endpoint.network.clone();
        let subnets = self.record.subnets.clone();
        if let Some(address) = endpoint.address
            && !subnets.iter().any(|s| s.range.contains(address))
        {
            let ranges: Vec<String> = subnets.iter().map(|s| s.range.to_string()).collect();
            let reason = format!("it is outside of {}", ranges.join(" and "));
            return Err(NetError::Address {
                network: network(),
                address,
                reason,
            });
        }
        let mut addresses = Vec::new();
        for (index, subnet) in subnets.iter().enumerate() {
            let fixed = endpoint.address.filter(|a| subnet.range.contains(*a));
            let address = if let Some(address) = fixed {
                self.check_fixed(*subnet, address)?;
                address
            } else {
                self.next(index, *subnet)?
            };
            self.taken.insert(address);
            addresses.push(address);
        }
        self.table.holders.insert(id.to_owned(), addresses);
        self.is_changed = true;
        Ok(())
    }

    /// Returns the next free address of the range number `index`, and moves its cursor there.
    fn next(&mut self, index: usize, subnet: Subnet) -> Result<IpAddr, NetError> {
        let cursor = self.table.cursors.get(index).copied();
        let address =
            ipam::next_free(subnet.range, &self.taken, cursor).ok_or_else(|| NetError::Full {
                network: self.record.config.name.clone(),
                subnet: subnet.range,
            })?;
        let ranges = self.record.subnets.iter().map(|s| s.range.network());
        let known = self.table.cursors.len();
        self.table.cursors.extend(ranges.skip(known));
        if let Some(cursor) = self.table.cursors.get_mut(index) {
            *cursor = address;
        }
        Ok(address)
    }

    /// Returns an error if a fixed address cannot be leased.
    fn check_fixed(&self, subnet: Subnet, address: IpAddr) -> Result<(), NetError> {
        let holder = self
            .table
            .holders
            .iter()
            .find(|(_, addresses)| addresses.contains(&address));
        let reason = match (ipam::unusable(subnet.range, address), holder) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some((id, _))) => format!("container {id} has it"),
            (None, None) if address == subnet.gateway => "it is the gateway".to_owned(),
            (None, None) => return Ok(()),
        };
        Err(NetError::Address {
            network: self.record.config.name.clone(),
            address,
            reason,
        })
    }

    /// Returns the lease of `id`.
    fn leased(&self, id: &str) -> Lease {
        let addresses = self.table.holders.get(id).into_iter().flatten();
        let with_prefix = addresses
            .zip(&self.record.subnets)
            .filter_map(|(address, subnet)| IpNetwork::new(*address, subnet.range.prefix()).ok());
        Lease {
            network: self.record.config.name.clone(),
            addresses: with_prefix.collect(),
        }
    }
}
