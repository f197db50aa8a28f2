//! A new network: its name, its ranges, its record.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::net::config::{NetworkConfig, SubnetConfig};
use crate::net::error::NetError;
use crate::net::link::{HostNetwork, Links};
use crate::net::record::{NetworkRecord, Subnet};
use crate::net::{Net, ipam, link_prefix, random_bytes, store};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::Mode;

impl Net {
    /// Chooses ranges and writes the record of a new network, under the lock of the host.
    pub(super) async fn create_record(
        &self,
        links: &Links,
        config: &NetworkConfig,
        is_pair: bool,
    ) -> Result<NetworkRecord, NetError> {
        let _host = store::lock(&self.host.lock, Mode::Exclusive)?;
        let host = links.read_host().await?;
        let mut others: Vec<(IpNetwork, String)> = Vec::new();
        for root in self.roots()? {
            let records = store::networks_below(&root)?;
            others.extend(records.iter().flat_map(|record| {
                let by = format!("network `{}` in {}", record.config.name, root.display());
                record
                    .subnets
                    .iter()
                    .map(move |subnet| (subnet.range, by.clone()))
            }));
        }
        let subnets = choose_subnets(config, &host, &others)?;
        let random = random_bytes()?;
        let [a, b, c, d, rest @ ..] = random;
        let record = NetworkRecord {
            config: config.clone(),
            subnets,
            bridge: format!(
                "{}b{:08x}",
                link_prefix(&self.instance),
                u32::from_ne_bytes([a, b, c, d])
            ),
            is_pair,
            // High, to be no number that a person chose; never 0, which is every other link.
            group: u32::from_ne_bytes(rest) | 1 << 30,
            mtu: host.mtu,
        };
        let path = self.host.roots.join(&self.instance);
        let root = self.store.root().as_os_str().as_encoded_bytes();
        store::with_directory(&path, || {
            atomic::write(&path, root, 0o600, Durability::Cached)
        })
        .map_err(|source| NetError::File {
            action: "write",
            path: path.clone(),
            source,
        })?;
        self.store.write_network(&record)?;
        Ok(record)
    }

    /// Returns all roots of the host that have networks, and this one.
    fn roots(&self) -> Result<BTreeSet<PathBuf>, NetError> {
        let mut roots = BTreeSet::from([self.store.root().to_owned()]);
        for name in store::list(&self.host.roots)? {
            let path = self.host.roots.join(name);
            match fs_err::read_to_string(&path) {
                Ok(root) => roots.extend([PathBuf::from(root)]),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(NetError::File {
                        action: "read",
                        path,
                        source,
                    });
                }
            }
        }
        Ok(roots)
    }
}

/// Returns whether a name can name files and directories.
pub(super) fn check_name(name: &str) -> Result<(), NetError> {
    const LONGEST: usize = 200;
    let is_good = name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if is_good {
        Ok(())
    } else {
        Err(NetError::Name(name.to_owned()))
    }
}

/// Returns the record if it is what `config` wants; labels are only remembered.
pub(super) fn same(
    record: NetworkRecord,
    config: &NetworkConfig,
) -> Result<NetworkRecord, NetError> {
    let describe = |config: &NetworkConfig| {
        let ranges: Vec<String> = config
            .subnets
            .iter()
            .map(|s| match s.gateway {
                Some(gateway) => format!("{} (gateway {gateway})", s.subnet),
                None => s.subnet.to_string(),
            })
            .collect();
        let ranges = if ranges.is_empty() {
            "any range".to_owned()
        } else {
            ranges.join(", ")
        };
        format!(
            "{ranges}{}",
            if config.internal { ", internal" } else { "" }
        )
    };
    let (existing, wanted) = (describe(&record.config), describe(config));
    if existing == wanted {
        return Ok(record);
    }
    Err(NetError::Differs {
        network: config.name.clone(),
        existing,
        wanted,
    })
}

/// Returns the ranges of a new network: those asked for, and one of IPv4 where none of them is.
fn choose_subnets(
    config: &NetworkConfig,
    host: &HostNetwork,
    others: &[(IpNetwork, String)],
) -> Result<Vec<Subnet>, NetError> {
    let network = || config.name.clone();
    let mut subnets = Vec::new();
    for SubnetConfig { subnet, gateway } in &config.subnets {
        let range = IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(*subnet);
        let of_host = host
            .taken
            .iter()
            .map(|taken| (*taken, "a route or address of this host"));
        let of_others = others.iter().map(|(taken, by)| (*taken, by.as_str()));
        // Others first: their bridges' routes are the host's as well, but a name says more.
        if let Some((taken, by)) = of_others
            .chain(of_host)
            .find(|(taken, _)| ipam::overlap(*taken, range))
        {
            let by = by.to_owned();
            return Err(NetError::SubnetTaken {
                network: network(),
                subnet: range,
                taken,
                by,
            });
        }
        let gateway = gateway.unwrap_or(ipam::usable(range).0);
        if let Some(reason) = ipam::unusable(range, gateway) {
            let reason = format!("as gateway of {range}: {reason}");
            return Err(NetError::Address {
                network: network(),
                address: gateway,
                reason,
            });
        }
        subnets.push(Subnet { range, gateway });
    }
    if !subnets.iter().any(|s| s.range.is_ipv4()) {
        let asked = subnets.iter().map(|s| &s.range);
        let taken = host
            .taken
            .iter()
            .chain(others.iter().map(|(taken, _)| taken))
            .chain(asked);
        let range =
            ipam::choose_range(taken).ok_or_else(|| NetError::NoSubnet { network: network() })?;
        subnets.insert(
            0,
            Subnet {
                range,
                gateway: ipam::usable(range).0,
            },
        );
    }
    Ok(subnets)
}
