//! Networks, attachments and published ports.

use crate::net::config::{EndpointConfig, NetworkConfig, PortConfig, Protocol, SubnetConfig};
use crate::spec::model::Stack;
use crate::spec::model::network::{self, Network};
use crate::spec::model::service::Service;
use crate::spec::names::ServiceName;

/// Returns a network's configuration.
pub fn network(
    network: &Network,
    labels: std::collections::BTreeMap<String, String>,
) -> NetworkConfig {
    NetworkConfig {
        name: network.name.clone(),
        labels,
        internal: network.internal,
        subnets: network
            .subnets
            .iter()
            .map(|subnet| SubnetConfig {
                subnet: subnet.subnet,
                gateway: subnet.gateway,
            })
            .collect(),
    }
}

/// Returns the attachments of a container: the highest priority first, then by name of the network.
///
/// Its names in each network: the service's, the container's, the aliases, the short id.
pub fn endpoints(
    stack: &Stack,
    name: &ServiceName,
    service: &Service,
    container: &str,
    short_id: &str,
) -> Vec<EndpointConfig> {
    let mut attachments: Vec<_> = service.networks.iter().collect();
    attachments.sort_by_key(|(key, attachment)| {
        (
            -i64::from(attachment.priority.unwrap_or(0)),
            key.as_str().to_owned(),
        )
    });
    let endpoint = |(key, attachment): (&crate::spec::names::NetworkKey, &network::Attachment)| {
        let network = stack.networks.get(key)?;
        let mut names: Vec<String> =
            vec![name.to_string(), container.to_owned(), short_id.to_owned()];
        names.extend(attachment.aliases.iter().cloned());
        names.dedup();
        Some(EndpointConfig {
            network: network.name.clone(),
            names,
            address: attachment.ipv4_address,
        })
    };
    attachments.into_iter().filter_map(endpoint).collect()
}

/// Returns the ports to publish.
pub fn ports(service: &Service) -> Vec<PortConfig> {
    service
        .ports
        .iter()
        .map(|port| PortConfig {
            host_ip: port.host_ip,
            host_ports: port.published.map(|range| (range.first, range.last)),
            container_port: port.target,
            protocol: match port.protocol {
                network::Protocol::Tcp => Protocol::Tcp,
                network::Protocol::Udp => Protocol::Udp,
            },
        })
        .collect()
}
