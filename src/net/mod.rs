//! Networks: addresses, bridges, veth pairs, the firewall table, published ports, names.
//!
//! This room never says which larger application an endpoint belongs to: identity travels as opaque labels and names.
//!
//! # On disk
//!
//! ```text
//! <root>/networks/.lock               flock: one change of networks or leases at a time
//! <root>/networks/<name>.json         NetworkRecord: what was asked for, ranges, bridge, link group, MTU   (synced)
//! <root>/networks/leases/<name>.json  LeaseTable: a cursor for each range, container id → addresses
//! <run>/net/firewall.lock             flock: shared to change elements of the table, exclusive to replace it
//! <run>/net/published/<id>.json       Publication: what a running container has in the firewall and among the names
//! <run>/net/names/<network>/<id>      NameEntry: a running container's names and addresses (0644, its directory 0755)
//! /run/lock/stack-host.lock           flock over the choice of a range, for all roots of the host
//! /var/lib/stack-host/roots/<instance>  path of a root that has networks, so that others keep off its ranges
//! ```
//!
//! What is in the kernel follows from these files alone: bridges from the network records, the table `stack-<instance>` from
//! network records and publications. After a boot the run directory is empty and [`Net::ensure_network`] makes the rest again.
//!
//! # Life of a container's network
//!
//! ```text
//! allocate ─> attach (namespace, veth, addresses) ─> publish (firewall elements, names) ─> … ─> release ─> forget
//!  leases      before its monitor                     when it is about to run                   it ended   it is removed
//! ```
//!
//! `release` of many containers belongs into one call before their monitors end: a process that deletes elements waits some 12 ms
//! for the kernel when it closes its socket, one process after the other. A monitor finds nothing left to release then.
//!
//! # Who holds what
//!
//! ```text
//! the command     the namespace's descriptor until the monitor has it; sockets of `ports::reserve` likewise
//! the monitor     both, for its life: links live as long as the namespace, ports are taken as long as the sockets are open
//! the sidecar     127.0.0.11 UDP and TCP in the container's namespace, the ports' sockets, one descriptor for each network's
//!                 directory of names, an epoll instance; no rights, no other descriptor
//! ```
//!
//! Files in reading order: `config`, `record`, `store`, `ipam`, `link`, `sysctl`, `ruleset`, `nft`, `firewall`, `coexist`,
//! `conntrack`, `ports`, `dns`, `poll`, `proxy`, `sidecar`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ipnetwork::IpNetwork;

use crate::net::config::{EndpointConfig, NetworkConfig, Protocol, SandboxConfig, SubnetConfig};
use crate::net::dns::names::NameEntry;
use crate::net::error::{NetError, Warning};
use crate::net::firewall::Firewall;
use crate::net::link::{HostNetwork, LinkPlan, Links};
use crate::net::record::{
    AttachedEndpoint, Attachment, Lease, LeaseTable, Leases, NetworkRecord, Publication,
    PublishedPort, Subnet,
};
use crate::net::sidecar::{ProxyTarget, SidecarConfig, SidecarNetwork};
use crate::net::store::Store;
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::Mode;

mod coexist;
pub mod config;
mod conntrack;
mod dns;
pub mod error;
mod firewall;
mod ipam;
mod legacy;
mod link;
mod nft;
mod poll;
pub mod ports;
mod proxy;
pub mod query;
pub mod record;
mod ruleset;
pub mod sidecar;
mod store;
mod sysctl;

/// Files that all roots of a host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPaths {
    /// Lock over the choice of a range.
    pub lock: PathBuf,
    /// Directory with a file for each root that has networks.
    pub roots: PathBuf,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self {
            lock: "/run/lock/stack-host.lock".into(),
            roots: "/var/lib/stack-host/roots".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// The networks of one root. Used from threads of one network namespace and, for what is async, of one tokio runtime; opening
/// it touches nothing.
#[derive(Debug)]
pub struct Net {
    store: Store,
    firewall: Firewall,
    host: HostPaths,
    instance: String,
    links: tokio::sync::OnceCell<Links>,
    /// One change of networks at a time within this process: they wait for the kernel in between, where another task runs on.
    changing: tokio::sync::Mutex<()>,
    /// One change of leases at a time within this process.
    leasing: Mutex<()>,
    /// Whether this process has verified the table as a whole.
    is_verified: AtomicBool,
    /// What was noticed on the way, for the next [`Net::repair`] to tell.
    noticed: Mutex<Vec<Warning>>,
}

impl Net {
    /// Returns the networks of the root directory `root` with run directory `run`; `instance` is 8 hexadecimal digits.
    pub fn open(root: &Path, run: &Path, instance: &str) -> Self {
        Self::open_on(root, run, instance, HostPaths::default())
    }

    /// As [`Net::open`], with the files shared by all roots elsewhere.
    pub fn open_on(root: &Path, run: &Path, instance: &str, host: HostPaths) -> Self {
        let store = Store::new(root, run);
        Self {
            firewall: Firewall::new(instance, store.clone()),
            store,
            host,
            instance: instance.to_owned(),
            links: tokio::sync::OnceCell::new(),
            changing: tokio::sync::Mutex::new(()),
            leasing: Mutex::new(()),
            is_verified: AtomicBool::new(false),
            noticed: Mutex::new(Vec::new()),
        }
    }

    /// Makes sure that the network exists with its bridge, addresses and firewall elements: makes, repairs, or does nothing.
    ///
    /// Errors: [`NetError::Differs`] where it exists with other ranges or another `internal`; then it must be removed first.
    pub async fn ensure_network(&self, config: &NetworkConfig) -> Result<NetworkRecord, NetError> {
        check_name(&config.name)?;
        let links = self.links().await?;
        let _alone = self.changing.lock().await;
        let _lock = self.store.lock_networks()?;
        let record = match self.store.network(&config.name)? {
            Some(record) => same(record, config)?,
            None => self.create_record(links, config).await?,
        };
        links.ensure_bridge(&record).await?;
        self.store.make_names_directory(&config.name)?;
        self.enable_forwarding(record.subnets.iter().any(|s| s.range.is_ipv6()))?;
        // The first call verifies the table as a whole, the others only add what is new.
        if self.is_verified.load(Ordering::Relaxed) {
            self.firewall.add(&ruleset::network_elements(&record))?;
        } else {
            let restored = self.firewall.repair()?;
            self.notice(restored);
            self.is_verified.store(true, Ordering::Relaxed);
        }
        Ok(record)
    }

    /// Returns every network, by name.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>, NetError> {
        self.store.networks()
    }

    /// Removes the network: firewall elements, links, names, record; with the last one the table. Goes on past errors and
    /// returns all. What does not exist is no error.
    pub async fn remove_network(&self, name: &str) -> Result<(), Vec<NetError>> {
        let one = |error| vec![error];
        check_name(name).map_err(one)?;
        let _alone = self.changing.lock().await;
        let _lock = self.store.lock_networks().map_err(one)?;
        let Some(record) = self.store.network(name).map_err(one)? else {
            return Ok(());
        };
        let holders: Vec<String> = self
            .store
            .leases(name)
            .map_err(one)?
            .holders
            .into_keys()
            .collect();
        if !holders.is_empty() {
            return Err(vec![NetError::InUse {
                network: name.to_owned(),
                holders,
            }]);
        }
        let mut errors = Vec::new();
        errors.extend(self.delete_links(&record).await.err());
        // Without its links a network is gone for everybody; with them the record must stay, or nobody would remove them.
        if errors.is_empty() {
            errors.extend(self.store.remove_network(name).err());
        }
        errors.extend(self.store.remove_names_directory(name).err());
        match self.store.networks() {
            Ok(left) if left.is_empty() => errors.extend(self.purge()),
            Ok(_) => errors.extend(
                self.firewall
                    .delete(&ruleset::network_elements(&record))
                    .err(),
            ),
            Err(error) => errors.push(error),
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

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

    /// Makes the links of a sandbox in the fresh namespace `netns`, with addresses and routes; `lo` is brought up also where
    /// there is no endpoint. The links go with the namespace.
    pub async fn attach(
        &self,
        netns: BorrowedFd<'_>,
        sandbox: &SandboxConfig,
        leases: &Leases,
    ) -> Result<Attachment, NetError> {
        let mut records = Vec::new();
        for endpoint in &sandbox.endpoints {
            records.push(self.record(&endpoint.network)?);
        }
        let plans = plan_links(&self.instance, &records, leases)?;
        if !plans.is_empty() {
            let links = self.links().await?;
            for plan in &plans {
                links.add_pair(plan, netns).await?;
            }
        }
        let attached = records
            .iter()
            .zip(&plans)
            .map(|(record, plan)| AttachedEndpoint {
                network: record.config.name.clone(),
                internal: record.config.internal,
                interface: plan.interface.clone(),
                host_link: plan.host_link.clone(),
                addresses: plan.addresses.clone(),
                gateways: record.subnets.iter().map(|s| s.gateway).collect(),
                mac: plan.mac.map(|byte| format!("{byte:02x}")).join(":"),
            });
        let attachment = Attachment {
            id: sandbox.id.clone(),
            endpoints: attached.collect(),
        };
        let netns = netns
            .try_clone_to_owned()
            .map_err(|source| NetError::Namespace {
                attempt: "keep the container's network namespace".to_owned(),
                source,
            })?;
        link::configure(netns, plans).await?;
        Ok(attachment)
    }

    /// Puts the sandbox's names and published ports into force. Doing it again changes nothing.
    ///
    /// Ports lead to the first network that is not internal; where there is none they are reserved and lead nowhere.
    pub fn publish(
        &self,
        sandbox: &SandboxConfig,
        attachment: &Attachment,
        ports: &[PublishedPort],
    ) -> Result<(), NetError> {
        let target = ports_target(attachment);
        let publication = Publication {
            id: sandbox.id.clone(),
            ipv4: target.iter().find_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            }),
            ipv6: target.iter().find_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            }),
            ports: ports.to_vec(),
            networks: attachment
                .endpoints
                .iter()
                .map(|e| e.network.clone())
                .collect(),
        };
        self.store.write_publication(&publication)?;
        self.firewall
            .add(&ruleset::publication_elements(&publication))?;
        for (endpoint, attached) in sandbox.endpoints.iter().zip(&attachment.endpoints) {
            let entry = NameEntry {
                addresses: attached.addresses.iter().map(IpNetwork::ip).collect(),
                names: endpoint.names.clone(),
            };
            self.store.make_names_directory(&endpoint.network)?;
            self.store
                .write_names(&endpoint.network, &sandbox.id, &entry)?;
        }
        Ok(())
    }

    /// Takes names and published ports of the containers out of force, as far as there are any, in one transaction; goes on
    /// past errors and returns all. Needs no tokio.
    pub fn release(&self, ids: &[&str]) -> Result<(), Vec<NetError>> {
        let mut errors = Vec::new();
        let mut elements = ruleset::Elements::new();
        let mut datagram_targets: Vec<IpAddr> = Vec::new();
        for id in ids {
            let publication = match self.store.publication(id) {
                Ok(Some(publication)) => publication,
                Ok(None) => continue,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let networks = publication.networks.iter();
            errors
                .extend(networks.filter_map(|network| self.store.remove_names(network, id).err()));
            errors.extend(self.store.remove_publication(id).err());
            elements.extend(ruleset::publication_elements(&publication));
            if publication
                .ports
                .iter()
                .any(|port| port.protocol == Protocol::Udp)
            {
                datagram_targets.extend(publication.ipv4.map(IpAddr::V4));
                datagram_targets.extend(publication.ipv6.map(IpAddr::V6));
            }
        }
        errors.extend(self.firewall.delete(&elements).err());
        errors.extend(self.firewall.forget_datagrams(&datagram_targets).err());
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Checks what others may have changed (the table, forwarding, the host's other firewalls) and repairs what is ours; once for
    /// each `up`, after its networks are ensured, whether or not it has anything to do. Does nothing where there is no network.
    /// Returns what the person should know, [`Net::ensure_network`]'s share included.
    pub fn repair(&self) -> Result<Vec<Warning>, NetError> {
        let networks = self.store.networks()?;
        if networks.is_empty() {
            return Ok(Vec::new());
        }
        let has_ipv6 = networks
            .iter()
            .any(|n| n.subnets.iter().any(|s| s.range.is_ipv6()));
        let restored = self.firewall.repair()?;
        self.notice(restored);
        let pattern = format!("{}*", link_prefix(&self.instance));
        self.notice(self.firewall.coexist(&pattern, has_ipv6)?);
        self.enable_forwarding(has_ipv6)?;
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *noticed))
    }

    /// Lets the host forward packets, which containers need to get out.
    fn enable_forwarding(&self, has_ipv6: bool) -> Result<(), NetError> {
        let keys = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
        for key in keys.into_iter().take(if has_ipv6 { 2 } else { 1 }) {
            if sysctl::turn_on(key)? {
                self.notice([Warning::ForwardingEnabled(format!("/proc/sys/net/{key}"))]);
            }
        }
        Ok(())
    }

    /// Keeps warnings for the next [`Net::repair`].
    fn notice(&self, warnings: impl IntoIterator<Item = Warning>) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.extend(warnings);
    }

    /// Removes the table, our rules in other tables, and this root's entry among those of the host.
    fn purge(&self) -> Vec<NetError> {
        let mut errors = self.firewall.remove();
        errors.extend(store::remove(&self.host.roots.join(&self.instance)).err());
        errors
    }

    /// Returns what the name server and proxy of a container need; `servers` are asked instead of the host's where given.
    pub fn sidecar(
        &self,
        attachment: &Attachment,
        ports: &[PublishedPort],
        servers: &[IpAddr],
    ) -> SidecarConfig {
        let target = ports_target(attachment);
        let proxies = ports.iter().map(|port| {
            let same_family = target.iter().find(|a| a.is_ipv4() == port.host.is_ipv4());
            let address = same_family.or(target.first())?;
            let address = std::net::SocketAddr::new(*address, port.container_port);
            Some(ProxyTarget {
                protocol: port.protocol,
                address,
            })
        });
        let networks = attachment.endpoints.iter().map(|endpoint| SidecarNetwork {
            name: endpoint.network.clone(),
            directory: self.store.names_directory(&endpoint.network),
        });
        SidecarConfig {
            id: attachment.id.clone(),
            networks: networks.collect(),
            forward: attachment.endpoints.iter().any(|e| !e.internal),
            servers: servers.to_vec(),
            resolv_conf: self.host.resolv_conf.clone(),
            proxies: proxies.collect(),
        }
    }

    /// Returns the connection, made on first use.
    async fn links(&self) -> Result<&Links, NetError> {
        self.links.get_or_try_init(async || Links::connect()).await
    }

    /// Returns a network that must exist.
    fn record(&self, name: &str) -> Result<NetworkRecord, NetError> {
        check_name(name)?;
        self.store
            .network(name)?
            .ok_or_else(|| NetError::NoNetwork(name.to_owned()))
    }

    /// Deletes the links of a network.
    async fn delete_links(&self, record: &NetworkRecord) -> Result<(), NetError> {
        self.links().await?.delete_group(record.group).await
    }

    /// Chooses ranges and writes the record of a new network, under the lock of the host.
    async fn create_record(
        &self,
        links: &Links,
        config: &NetworkConfig,
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

/// Returns the beginning of the names of all links of an instance.
fn link_prefix(instance: &str) -> String {
    format!("s{}", instance.get(..4).unwrap_or(instance))
}

/// Returns unpredictable bytes.
fn random_bytes() -> Result<[u8; 8], NetError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
        |errno| NetError::Link {
            attempt: "choose a name for a link".to_owned(),
            source: errno.into(),
        },
    )?;
    Ok(bytes)
}

/// Returns whether a name can name files and directories.
fn check_name(name: &str) -> Result<(), NetError> {
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
fn same(record: NetworkRecord, config: &NetworkConfig) -> Result<NetworkRecord, NetError> {
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

/// Returns the links to make: `eth0`, `eth1`, … in the order of the endpoints; default routes, one for each family, through the
/// first network that is not internal.
fn plan_links(
    instance: &str,
    records: &[NetworkRecord],
    leases: &Leases,
) -> Result<Vec<LinkPlan>, NetError> {
    let mut plans: Vec<LinkPlan> = Vec::new();
    for (index, (record, lease)) in records.iter().zip(&leases.endpoints).enumerate() {
        let [a, b, c, d, ..] = random_bytes()?;
        let mut default_routes: Vec<IpAddr> = Vec::new();
        for gateway in record
            .subnets
            .iter()
            .map(|s| s.gateway)
            .filter(|_| !record.config.internal)
        {
            let mut routed = plans
                .iter()
                .flat_map(|p| &p.default_routes)
                .chain(&default_routes);
            if !routed.any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                default_routes.push(gateway);
            }
        }
        let first = lease.addresses.first().map(IpNetwork::ip);
        plans.push(LinkPlan {
            host_link: format!(
                "{}v{:08x}",
                link_prefix(instance),
                u32::from_ne_bytes([a, b, c, d])
            ),
            interface: format!("eth{index}"),
            bridge: record.bridge.clone(),
            group: record.group,
            mtu: record.mtu,
            mac: ipam::hardware_address(
                first.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
            ),
            addresses: lease.addresses.clone(),
            default_routes,
        });
    }
    Ok(plans)
}

/// Returns the addresses that published ports lead to: those in the first network that is not internal.
fn ports_target(attachment: &Attachment) -> Vec<IpAddr> {
    let endpoint = attachment
        .endpoints
        .iter()
        .find(|endpoint| !endpoint.internal);
    endpoint.map_or_else(Vec::new, |e| {
        e.addresses.iter().map(IpNetwork::ip).collect()
    })
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
