//! Which links a container gets, and where its ports lead. Pure but for the names, which are random.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::net::error::NetError;
use crate::net::link::LinkPlan;
use crate::net::record::{Attachment, Leases, NetworkRecord};
use crate::net::{ipam, link_prefix, random_bytes};

/// Returns the links to make: `eth0`, `eth1`, … in the order of the endpoints; default routes, one for each family, through the
/// first network that is not internal.
pub(super) fn plan_links(
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
pub(super) fn ports_target(attachment: &Attachment) -> Vec<IpAddr> {
    let endpoint = attachment
        .endpoints
        .iter()
        .find(|endpoint| !endpoint.internal);
    endpoint.map_or_else(Vec::new, |e| {
        e.addresses.iter().map(IpNetwork::ip).collect()
    })
}
