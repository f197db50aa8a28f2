//! What is written about networks and their containers: the types of the files drawn in [`crate::net`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::net::config::{NetworkConfig, Protocol};

/// A network that exists: `networks/<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// What was asked for.
    pub config: NetworkConfig,
    /// Ranges in use, with their gateways; exactly one IPv4 range unless only IPv4-less ones were asked for.
    pub subnets: Vec<Subnet>,
    /// Name of the bridge: `s<4 hex of the instance>b<8 hex>`; of a pair, of its end on the host.
    pub bridge: String,
    /// Whether it has no bridge, but one sandbox at a time, whose link's other end has the addresses ([`crate::net::pair`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_pair: bool,
    /// Link group of the bridge and its ports (`IFLA_GROUP`), so that all can be deleted by one request.
    pub group: u32,
    /// Bytes of a packet on its links.
    pub mtu: u32,
}

/// A range in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range, its address part being the network's.
    pub range: IpNetwork,
    /// The bridge's address.
    pub gateway: IpAddr,
}

/// Addresses of one container, kept for its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// The container's id.
    pub id: String,
    /// One for each endpoint, in its order.
    pub endpoints: Vec<Lease>,
}

/// Addresses of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: String,
    /// One address for each range of the network, with the range's prefix length.
    pub addresses: Vec<IpNetwork>,
}

/// A container's links, as made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The container's id.
    pub id: String,
    /// One for each endpoint, in its order.
    pub endpoints: Vec<AttachedEndpoint>,
}

/// One link of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedEndpoint {
    /// The network.
    pub network: String,
    /// Whether the network is internal.
    pub internal: bool,
    /// The link's name in the container: `eth0`, `eth1`, ….
    pub interface: String,
    /// The link's name on the host.
    pub host_link: String,
    /// Addresses, with prefix lengths.
    pub addresses: Vec<IpNetwork>,
    /// Gateways of the network's ranges; those of the first network that is not internal are default routes.
    pub gateways: Vec<IpAddr>,
    /// Hardware address, `02:42:…` made from the first address.
    pub mac: String,
}

/// One published port as it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address and port on the host.
    pub host: SocketAddr,
    /// Port in the container.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// Published ports of a container: `net/published/<id>.json` in the run directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The container's id.
    pub id: String,
    /// IPv4 address that published ports lead to.
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// IPv6 address that published ports lead to.
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// The ports.
    pub ports: Vec<PublishedPort>,
    /// Networks with a name file of this container.
    pub networks: Vec<String>,
}

/// Addresses given out in one network: `networks/leases/<name>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTable {
    /// Last address given out in each range, in the order of the record's ranges: the search for the next starts after it.
    pub cursors: Vec<IpAddr>,
    /// Container id → its addresses, one for each range.
    pub holders: BTreeMap<String, Vec<IpAddr>>,
}
