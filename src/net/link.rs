//! Bridges, veth pairs, addresses and routes.
//!
//! On the host everything goes through one rtnetlink connection. Inside a container's namespace the same messages are sent
//! as one batch by a thread that has joined it, since links, `/proc/sys/net` and sockets are all those of the thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec,
    LinkVeth, RouteMessageBuilder,
};

use crate::net::error::NetError;
use crate::net::ipam;
use crate::net::record::NetworkRecord;
use crate::net::sysctl;
use crate::sys::netlink::{ACK, CREATE, EXCL, Family, REQUEST, Socket};
use crate::sys::netns;

/// What is used on the host already, and how large packets may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostNetwork {
    /// Ranges that a route leads to or an address lies in; default routes and halves of everything left out.
    pub(crate) taken: Vec<IpNetwork>,
    /// Smallest MTU of the links of default routes, in bytes.
    pub(crate) mtu: u32,
}

/// One link of a container to be made.
#[derive(Debug, Clone)]
pub(crate) struct LinkPlan {
    /// Name on the host.
    pub(crate) host_link: String,
    /// Name in the container.
    pub(crate) interface: String,
    /// The bridge.
    pub(crate) bridge: String,
    /// Link group.
    pub(crate) group: u32,
    /// MTU in bytes.
    pub(crate) mtu: u32,
    /// Hardware address in the container.
    pub(crate) mac: [u8; 6],
    /// Addresses in the container.
    pub(crate) addresses: Vec<IpNetwork>,
    /// Gateways of default routes through this link.
    pub(crate) default_routes: Vec<IpAddr>,
}

/// The connection to the host's network stack; belongs to the tokio runtime it was made on.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    handle: Handle,
}

impl Links {
    /// Connects in the network namespace of the calling thread.
    pub(crate) fn connect() -> Result<Self, NetError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| NetError::Link {
                attempt: "open a netlink socket".to_owned(),
                source,
            })?;
        // Ends with the last handle.
        drop(tokio::spawn(connection));
        Ok(Self { handle })
    }

    /// Reads routes, addresses and the MTU.
    pub(crate) async fn read_host(&self) -> Result<HostNetwork, NetError> {
        let failed = |error| failed("read routes and addresses of the host", error);
        let mut taken = Vec::new();
        let mut default_links = Vec::new();
        for request in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let mut routes = self.handle.route().get(request).execute();
            while let Some(route) = routes.try_next().await.map_err(failed)? {
                match destination(&route) {
                    Some(range) => taken.push(range),
                    None => default_links.extend(output_link(&route)),
                }
            }
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(address) = addresses.try_next().await.map_err(failed)? {
            taken.extend(range_of(&address));
        }
        let mut mtu = None;
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed)? {
            if default_links.contains(&link.header.index) {
                mtu = mtu.into_iter().chain(link_mtu(&link)).min();
            }
        }
        Ok(HostNetwork {
            taken,
            mtu: mtu.unwrap_or(1500),
        })
    }

    /// Makes sure that the network's bridge exists, is up and has its addresses.
    pub(crate) async fn ensure_bridge(&self, network: &NetworkRecord) -> Result<(), NetError> {
        let bridge = &network.bridge;
        let failed = |error| {
            failed(
                &format!(
                    "make bridge `{bridge}` of network `{}`",
                    network.config.name
                ),
                error,
            )
        };
        let first = network
            .subnets
            .first()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |s| s.gateway);
        // An address of its own: otherwise the bridge's changes with every port, and neighbours lose it.
        let message = LinkMessageBuilder::<LinkBridge>::new(bridge)
            .mtu(network.mtu)
            .link_group(network.group)
            .address(ipam::hardware_address(first).to_vec())
            .build();
        unless_exists(self.handle.link().add(message).execute().await).map_err(failed)?;
        self.configure_gateway(bridge, network).await
    }

    /// Gives a link on the host the addresses of a network's gateways, as far as it lacks them, and brings it up.
    async fn configure_gateway(&self, name: &str, network: &NetworkRecord) -> Result<(), NetError> {
        let failed = |error| {
            let network = &network.config.name;
            failed(
                &format!("bring up link `{name}` of network `{network}`"),
                error,
            )
        };
        let has_ipv6 = network.subnets.iter().any(|s| s.range.is_ipv6());
        sysctl::write(&sysctl::of_bridge(name, has_ipv6))?;
        let index = link_index(name)?;
        for subnet in &network.subnets {
            let (gateway, prefix) = (subnet.gateway, subnet.range.prefix());
            let mut request = self.handle.address().add(index, gateway, prefix);
            *request.message_mut() = address_message(index, gateway, prefix);
            unless_exists(request.execute().await).map_err(failed)?;
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        let changed = self.handle.link().change(up).execute().await;
        changed.map_err(failed)
    }

    /// Makes a veth pair with one end in `netns` and the other as a port of the bridge.
    pub(crate) async fn add_pair(
        &self,
        plan: &LinkPlan,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NetError> {
        let failed = |error| {
            failed(
                &format!("make link `{}` on bridge `{}`", plan.host_link, plan.bridge),
                error,
            )
        };
        let peer = LinkUnspec::new_with_name(&plan.interface)
            .setns_by_fd(netns.as_raw_fd())
            .mtu(plan.mtu)
            .address(plan.mac.to_vec())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(plan.host_link.clone())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(link_index(&plan.bridge)?)
            .link_group(plan.group)
            .mtu(plan.mtu)
            .up()
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(failed)?;
        // So that a container reaches its own published ports. Not possible in the same message: the port must exist.
        let port = LinkBridgePort::new(link_index(&plan.host_link)?)
            .hairpin(true)
            .build();
        self.handle
            .link()
            .set_port(port)
            .execute()
            .await
            .map_err(failed)
    }

    /// Makes a veth pair with one end in `netns`; the other, on the host, has the addresses of the network's gateways. What is left
    /// of an earlier one under its name, which goes with its namespace, is deleted first.
    pub(crate) async fn add_gateway_pair(
        &self,
        plan: &LinkPlan,
        network: &NetworkRecord,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NetError> {
        let name = plan.host_link.as_str();
        let failed = |error| failed(&format!("make link `{name}`"), error);
        let pair = || {
            let peer = LinkUnspec::new_with_name(&plan.interface)
                .setns_by_fd(netns.as_raw_fd())
                .mtu(plan.mtu)
                .address(plan.mac.to_vec())
                .build();
            LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
                .name(name.to_owned())
                .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                .link_group(plan.group)
                .mtu(plan.mtu)
                .build()
        };
        match self.handle.link().add(pair()).execute().await {
            Err(error) if raw_code(&error) == Some(libc::EEXIST) => {
                self.delete_group(plan.group).await?;
                self.handle
                    .link()
                    .add(pair())
                    .execute()
                    .await
                    .map_err(failed)?;
            }
            added => added.map_err(failed)?,
        }
        self.configure_gateway(name, network).await
    }

    /// Deletes all links of a group: a bridge and its ports, in one go.
    pub(crate) async fn delete_group(&self, group: u32) -> Result<(), NetError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        match self.handle.link().del_with_message(message).execute().await {
            Err(error) if raw_code(&error) == Some(libc::ENODEV) => Ok(()),
            result => {
                result.map_err(|error| failed(&format!("delete the links of group {group}"), error))
            }
        }
    }
}

/// Returns a namespace for [`configure`], which may outlive its caller.
pub(crate) fn keep(netns: BorrowedFd<'_>) -> Result<OwnedFd, NetError> {
    netns
        .try_clone_to_owned()
        .map_err(|source| NetError::Namespace {
            attempt: "keep the container's network namespace".to_owned(),
            source,
        })
}

/// Brings up `lo` and the links of a container, from a thread that joins `netns`.
pub(crate) async fn configure(netns: OwnedFd, plans: Vec<LinkPlan>) -> Result<(), NetError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new()
        .name("netns".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let entered = netns::enter(&netns).map_err(|source| NetError::Namespace {
                attempt: "enter the container's network namespace".to_owned(),
                source,
            });
            // Before the answer: nothing of the namespace is held once the future is done.
            drop(netns);
            let result = entered.and_then(|()| configure_here(&plans));
            // Nobody waits any more where the future was dropped.
            drop(sender.send(result));
        });
    let namespace = |source| NetError::Namespace {
        attempt: "start a thread for a network namespace".to_owned(),
        source,
    };
    spawned.map_err(namespace)?;
    receiver
        .await
        .map_err(|_| namespace(io::Error::other("the thread ended early")))?
}

/// Brings up `lo` and the links in the namespace of the calling thread.
fn configure_here(plans: &[LinkPlan]) -> Result<(), NetError> {
    sysctl::write(&sysctl::of_container())?;
    let mut requests = Requests::default();
    requests.add(
        "bring up `lo`".to_owned(),
        RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(link_index("lo")?).up().build()),
        0,
    );
    for plan in plans {
        let has_ipv6 = plan.addresses.iter().any(IpNetwork::is_ipv6);
        sysctl::write(&sysctl::of_container_link(&plan.interface, has_ipv6))?;
        let index = link_index(&plan.interface)?;
        for address in &plan.addresses {
            let message = address_message(index, address.ip(), address.prefix());
            let attempt = format!("add address {address} to `{}`", plan.interface);
            requests.add(
                attempt,
                RouteNetlinkMessage::NewAddress(message),
                CREATE | EXCL,
            );
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        requests.add(
            format!("bring up `{}`", plan.interface),
            RouteNetlinkMessage::SetLink(up),
            0,
        );
        for gateway in &plan.default_routes {
            let message = default_route(*gateway, index);
            requests.add(
                format!("add default route through {gateway}"),
                RouteNetlinkMessage::NewRoute(message),
                CREATE | EXCL,
            );
        }
    }
    requests.send()
}

/// Requests to be sent by one system call.
#[derive(Debug, Default)]
struct Requests {
    bytes: Vec<u8>,
    attempts: Vec<String>,
}

impl Requests {
    /// Adds one.
    fn add(&mut self, attempt: String, message: RouteNetlinkMessage, flags: u16) {
        self.attempts.push(attempt);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = REQUEST | ACK | flags;
        message.header.sequence_number = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + message.buffer_len(), 0);
        message.serialize(self.bytes.get_mut(start..).unwrap_or_default());
    }

    /// Sends all; the first refusal is the error.
    fn send(self) -> Result<(), NetError> {
        let socket = |source| NetError::Link {
            attempt: "configure links".to_owned(),
            source,
        };
        let refused = Socket::open(Family::Route)
            .and_then(|s| s.transact(&self.bytes))
            .map_err(socket)?;
        let Some(first) = refused.into_iter().next() else {
            return Ok(());
        };
        let attempt = self.attempts.get((first.sequence as usize).wrapping_sub(1));
        Err(NetError::Link {
            attempt: attempt.cloned().unwrap_or_default(),
            source: first.into(),
        })
    }
}

/// Returns the index of a link in the namespace of the calling thread.
pub(crate) fn link_index(name: &str) -> Result<u32, NetError> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    socket
        .and_then(|socket| rustix::net::netdevice::name_to_index(socket.as_fd(), name))
        .map_err(|errno| NetError::Link {
            attempt: format!("find link `{name}`"),
            source: errno.into(),
        })
}

/// Returns a message that adds `address`; IPv6 without duplicate detection, as addresses are leased.
fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    match address {
        IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address, prefix)
            .build(),
        IpAddr::V6(address) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(address, prefix)
                .build();
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    }
}

/// Returns a message that adds a default route.
fn default_route(gateway: IpAddr, index: u32) -> RouteMessage {
    match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .build(),
    }
}

/// Returns a route's destination; `None` for default routes, those in two halves included (as VPNs add them).
fn destination(route: &RouteMessage) -> Option<IpNetwork> {
    const SHORTEST: u8 = 7;
    let prefix = route.header.destination_prefix_length;
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
            _ => None,
        })?;
    IpNetwork::new(address, prefix)
        .ok()
        .filter(|range| range.prefix() > SHORTEST)
}

/// Returns the link a route leads through.
fn output_link(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

/// Returns the range that an address lies in.
fn range_of(message: &AddressMessage) -> Option<IpNetwork> {
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })?;
    IpNetwork::new(address, message.header.prefix_len).ok()
}

/// Returns a link's MTU in bytes.
fn link_mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
}

/// Takes "exists already" for done.
fn unless_exists(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if raw_code(&error) == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Returns the positive error number in the kernel's answer.
fn raw_code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().saturating_neg()),
        _ => None,
    }
}

/// Wraps an error of the library.
fn failed(attempt: &str, error: rtnetlink::Error) -> NetError {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    };
    NetError::Link {
        attempt: attempt.to_owned(),
        source,
    }
}
