//! Everything that can go wrong with networks, each with its subject.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::net::config::Protocol;
use crate::net::ports::Holder;

/// A network operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A record, lease or name file could not be read or written.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was attempted: `read`, `write`, `remove`, `list`, `lock`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record is not what this version writes.
    #[error("decode `{}`", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A network's name cannot name a file or is longer than 200 bytes.
    #[error("network name `{0}` is not [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 200 bytes")]
    Name(String),
    /// No network of that name has a record.
    #[error("network `{0}` does not exist")]
    NoNetwork(String),
    /// The network exists with other ranges or another `internal`.
    #[error("network `{network}` exists with {existing}, wanted {wanted}")]
    Differs {
        /// The network.
        network: String,
        /// What the record says.
        existing: String,
        /// What was asked for.
        wanted: String,
    },
    /// The network still has addresses leased to containers.
    #[error("network `{network}` is in use by {}", holders.join(", "))]
    InUse {
        /// The network.
        network: String,
        /// Ids of the containers that hold addresses in it.
        holders: Vec<String>,
    },
    /// Every default range collides with something on this host.
    #[error(
        "no free range for network `{network}`: all of 172.17.0.0/16 to 172.31.0.0/16 and 192.168.0.0/16 are in use on this host"
    )]
    NoSubnet {
        /// The network.
        network: String,
    },
    /// A range asked for overlaps one that is in use.
    #[error("range {subnet} of network `{network}` overlaps {taken} ({by})")]
    SubnetTaken {
        /// The network.
        network: String,
        /// The range asked for.
        subnet: IpNetwork,
        /// The range that is in use.
        taken: IpNetwork,
        /// Who uses it.
        by: String,
    },
    /// A gateway or fixed address is not usable in its range.
    #[error("address {address} cannot be used in network `{network}`: {reason}")]
    Address {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// Why it cannot be used.
        reason: String,
    },
    /// Every address of the range is leased.
    #[error("no free address in {subnet} of network `{network}`")]
    Full {
        /// The network.
        network: String,
        /// The range.
        subnet: IpNetwork,
    },
    /// A host port is taken.
    #[error("host port {address}/{} is in use{}", protocol.name(), Holder::describe(holder.as_ref()))]
    PortInUse {
        /// Address and port on the host.
        address: SocketAddr,
        /// Transport.
        protocol: Protocol,
        /// The process that holds it, where it could be found.
        holder: Option<Holder>,
    },
    /// A host port could not be bound for another reason.
    #[error("bind host port {address}/{}", protocol.name())]
    Bind {
        /// Address and port on the host.
        address: SocketAddr,
        /// Transport.
        protocol: Protocol,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A link, address or route request was refused.
    #[error("{attempt}")]
    Link {
        /// What was attempted on which link.
        attempt: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The firewall table could not be read or changed.
    #[error("firewall table `{table}`: {attempt}")]
    Firewall {
        /// The table.
        table: String,
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A kernel parameter could not be set.
    #[error("set `{key}` to {value}")]
    Sysctl {
        /// Path below `/proc/sys/net`.
        key: String,
        /// The value.
        value: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be made or entered.
    #[error("{attempt}")]
    Namespace {
        /// What was attempted.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The name server and proxy of a container could not be started or stopped serving.
    #[error("name server of container {id}: {attempt}")]
    Sidecar {
        /// The container.
        id: String,
        /// What was attempted.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Something that works, but not as well as the person may think; never an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A firewall of the host drops what it forwards and has no place for foreign rules.
    #[error(
        "{firewall} drops forwarded packets; containers cannot reach the outside until it lets `{links}` through: {remedy}"
    )]
    ForwardDropped {
        /// The table or tool that drops.
        firewall: String,
        /// Pattern of the links of this instance, as `s1a2b+`.
        links: String,
        /// A command that lets them through.
        remedy: String,
    },
    /// Forwarding was off and is on now.
    #[error(
        "turned on {0}: this host now forwards packets between all its networks unless a firewall forbids it"
    )]
    ForwardingEnabled(String),
    /// The table had been removed or changed by somebody and was made again.
    #[error("firewall table `{0}` was missing or changed and has been made again")]
    TableRestored(String),
}
