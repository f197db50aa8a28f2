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
//! Files in reading order: `config`, `record`, `store`, `ipam`, `networks`, `leases`, `plan`, `link`, `pair`, `sysctl`, `ruleset`, `nft`, `firewall`, `coexist`,
//! `conntrack`, `ports`, `dns`, `poll`, `proxy`, `sidecar`.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnetwork::IpNetwork;

use crate::net::config::{NetworkConfig, Protocol, SandboxConfig};
use crate::net::dns::names::NameEntry;
use crate::net::error::{NetError, Warning};
use crate::net::firewall::Firewall;
use crate::net::link::{LinkPlan, Links};
use crate::net::networks::{check_name, same};
use crate::net::plan::{plan_links, ports_target};
use crate::net::record::{
    AttachedEndpoint, Attachment, Leases, NetworkRecord, Publication, PublishedPort,
};
use crate::net::sidecar::{ProxyTarget, SidecarConfig, SidecarNetwork};
use crate::net::store::Store;
use crate::sys::lock::{Lock, Mode};

mod coexist;
pub mod config;
mod conntrack;
mod dns;
pub mod error;
mod firewall;
mod ipam;
mod leases;
mod legacy;
mod link;
mod networks;
mod nft;
pub mod pair;
mod plan;
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
    firewall: Arc<Firewall>,
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
    /// Namespaces that are done with ([`Net::keep`]).
    kept: Mutex<Vec<OwnedFd>>,
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
            firewall: Arc::new(Firewall::new(instance, store.clone())),
            store,
            host,
            instance: instance.to_owned(),
            links: tokio::sync::OnceCell::new(),
            changing: tokio::sync::Mutex::new(()),
            leasing: Mutex::new(()),
            is_verified: AtomicBool::new(false),
            noticed: Mutex::new(Vec::new()),
            kept: Mutex::new(Vec::new()),
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
            None => self.create_record(links, config, false).await?,
        };
        if !record.is_pair {
            links.ensure_bridge(&record).await?;
        }
        self.put_into_force(&record)?;
        Ok(record)
    }

    /// Makes the directory of a network's names and its part of the firewall, whose table is verified by the first call.
    fn put_into_force(&self, record: &NetworkRecord) -> Result<(), NetError> {
        self.store.make_names_directory(&record.config.name)?;
        self.enable_forwarding(record.subnets.iter().any(|s| s.range.is_ipv6()))?;
        // The first call verifies the table as a whole, the others only add what is new.
        if self.is_verified.load(Ordering::Relaxed) {
            return self.firewall.add(&ruleset::network_elements(record));
        }
        let restored = self.firewall.repair()?;
        self.notice(restored);
        self.is_verified.store(true, Ordering::Relaxed);
        Ok(())
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
        let networks = self.store.networks().map_err(one)?;
        let is_last = networks.iter().all(|network| network.config.name == name);
        // The kernel lets both wait for all its readers: they do so side by side.
        let unfiltered = self.unfilter(&record, is_last);
        let mut errors = Vec::new();
        errors.extend(self.delete_links(&record).await.err());
        drop(std::mem::take(
            &mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner),
        ));
        // Until the record is gone nobody may put back what it says.
        let _table = match unfiltered.await {
            Ok((refused, table)) => {
                errors.extend(refused);
                table
            }
            Err(ended) => {
                errors.push(NetError::Namespace {
                    attempt: "wait for the thread that changes the firewall".to_owned(),
                    source: std::io::Error::other(ended),
                });
                None
            }
        };
        // Without its links a network is gone for everybody; with them the record must stay, or nobody would remove them.
        if errors.is_empty() {
            errors.extend(self.store.remove_network(name).err());
        }
        errors.extend(self.store.remove_names_directory(name).err());
        if is_last {
            errors.extend(store::remove(&self.host.roots.join(&self.instance)).err());
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
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
        let attachment = Attachment {
            id: sandbox.id.clone(),
            endpoints: attached(&records, &plans),
        };
        link::configure(link::keep(netns)?, plans).await?;
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
        self.get_on(has_ipv6)
    }

    /// Gets on with the host's other firewalls, and returns what was noticed.
    fn get_on(&self, has_ipv6: bool) -> Result<Vec<Warning>, NetError> {
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

    /// Begins to take a network out of the firewall, in a thread: with the last one the table and our rules in other tables.
    /// The table is held by whoever has the answer.
    fn unfilter(
        &self,
        record: &NetworkRecord,
        is_last: bool,
    ) -> tokio::task::JoinHandle<(Vec<NetError>, Option<Lock>)> {
        let firewall = Arc::clone(&self.firewall);
        let elements = ruleset::network_elements(record);
        tokio::task::spawn_blocking(move || match firewall.lock(Mode::Exclusive) {
            Ok(table) if is_last => (firewall.remove_locked(), Some(table)),
            Ok(table) => {
                let deleted = firewall.delete_locked(&elements);
                (deleted.err().into_iter().collect(), Some(table))
            }
            Err(error) => (vec![error], None),
        })
    }

    /// Keeps a network namespace open until a network is removed (or the process ends): with the last one who holds it the kernel
    /// would begin to delete its links, and who deletes their other ends would wait for that.
    pub fn keep(&self, netns: OwnedFd) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(netns);
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
}

/// Returns what was attached to whom.
fn attached(records: &[NetworkRecord], plans: &[LinkPlan]) -> Vec<AttachedEndpoint> {
    let both = records.iter().zip(plans);
    both.map(|(record, plan)| AttachedEndpoint {
        network: record.config.name.clone(),
        internal: record.config.internal,
        interface: plan.interface.clone(),
        host_link: plan.host_link.clone(),
        addresses: plan.addresses.clone(),
        gateways: record.subnets.iter().map(|s| s.gateway).collect(),
        mac: plan.mac.map(|byte| format!("{byte:02x}")).join(":"),
    })
    .collect()
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

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
