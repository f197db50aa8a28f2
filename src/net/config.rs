//! What networks and sandboxes are to be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A network to exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Unique among the networks of a root.
    pub name: String,
    /// Opaque to this room.
    pub labels: BTreeMap<String, String>,
    /// No way out and no published ports.
    pub internal: bool,
    /// Ranges asked for; a free one is chosen where empty.
    pub subnets: Vec<SubnetConfig>,
}

/// A range and its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    /// The range.
    pub subnet: IpNetwork,
    /// The bridge's address; the range's first where unset.
    pub gateway: Option<IpAddr>,
}

/// A container's network identity: lives as long as the container, across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The container's id: 64 hexadecimal digits.
    pub id: String,
    /// Networks it is attached to, `eth0` first; the first that is not internal gives the default route.
    pub endpoints: Vec<EndpointConfig>,
    /// Ports to publish.
    pub ports: Vec<PortConfig>,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// The network's name.
    pub network: String,
    /// Names that resolve to it in that network: service, container, aliases, short id. Shared ones answer with every holder.
    pub names: Vec<String>,
    /// A fixed address.
    pub address: Option<IpAddr>,
}

/// One port to publish.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortConfig {
    /// Address on the host; every address, IPv4 and IPv6, where unset.
    pub host_ip: Option<IpAddr>,
    /// Ports to choose from, lowest first; any free one where unset.
    pub host_ports: Option<(u16, u16)>,
    /// Port in the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Returns `tcp` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Returns the protocol's number in an IP header (`/etc/protocols`).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}
