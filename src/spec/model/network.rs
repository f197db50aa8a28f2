//! Networks, attachments and ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;

/// A top-level network (compose-spec 06-networks.md).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// Name on the machine: `project_key` unless the file names it.
    pub name: String,
    /// Made by somebody else: must exist, is never changed or removed.
    pub external: bool,
    /// Without a way out.
    pub internal: bool,
    /// Subnets asked for; one is chosen where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// The file's own labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One `ipam.config` entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subnet {
    /// The range.
    pub subnet: IpNetwork,
    /// The bridge's address; the first one where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// One service's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Attachment {
    /// Further names, beside the service's and the container's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Fixed IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<IpAddr>,
    /// Order of attachment, highest first; the first gives the default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// One published port: ranges are already unrolled (compose-spec 05-services.md#ports).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Address on the host; every address where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Port, or range of ports `first..=last` to choose one from; a free one is chosen where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<PortRange>,
    /// Port in the container, 1 to 65535.
    pub target: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Ports `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortRange {
    /// Lowest.
    pub first: u16,
    /// Highest; equal to `first` for a single port.
    pub last: u16,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
}
