//! A host of its own for each test: a thread in a fresh network namespace, with a temporary root. Nothing reaches the machine.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::net::config::{EndpointConfig, NetworkConfig, PortConfig, Protocol, SandboxConfig};
use crate::net::ports::Reserved;
use crate::net::record::{Attachment, PublishedPort};
use crate::net::{HostPaths, Net, ports};
use crate::sys::netns;

/// How long something may take that is expected not to happen.
pub(crate) const UNREACHABLE_AFTER: Duration = Duration::from_millis(400);
/// How long something may take that must happen.
pub(crate) const REACHABLE_WITHIN: Duration = Duration::from_secs(5);

/// The host of a test.
pub(crate) struct TestHost {
    pub(crate) net: Net,
    pub(crate) directory: Arc<tempfile::TempDir>,
    pub(crate) netns: OwnedFd,
}

/// Runs `test` in a fresh network namespace with `lo` up, on a runtime of its own.
pub(crate) fn on_host<F: Future<Output = ()>>(test: impl FnOnce(TestHost) -> F + Send + 'static) {
    run_on(netns::create().unwrap(), test);
}

/// Runs `test` in the machine's own network namespace.
pub(crate) fn on_this_machine<F: Future<Output = ()>>(
    test: impl FnOnce(TestHost) -> F + Send + 'static,
) {
    run_on(netns::current().unwrap(), test);
}

fn run_on<F: Future<Output = ()>>(
    netns: OwnedFd,
    test: impl FnOnce(TestHost) -> F + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        netns::enter(netns).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            change_link("lo", LinkMessageBuilder::up).await;
            // Held here too: an async block that names only the other fields drops this one before it is polled.
            let directory = Arc::new(tempfile::tempdir().unwrap());
            test(TestHost {
                net: open(&directory, "1a2b3c4d"),
                netns: netns::current().unwrap(),
                directory: Arc::clone(&directory),
            })
            .await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Opens a root named after its instance below `directory`.
pub(crate) fn open(directory: &tempfile::TempDir, instance: &str) -> Net {
    let base = directory.path();
    let host = HostPaths {
        lock: base.join("host.lock"),
        roots: base.join("roots"),
        resolv_conf: base.join("resolv.conf"),
    };
    Net::open_on(
        &base.join(instance).join("lib"),
        &base.join(instance).join("run"),
        instance,
        host,
    )
}

/// Returns a network that leaves everything to choose.
pub(crate) fn network(name: &str) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        labels: [].into(),
        internal: false,
        subnets: Vec::new(),
    }
}

/// Returns a range with its default gateway.
pub(crate) fn range(subnet: &str) -> crate::net::config::SubnetConfig {
    crate::net::config::SubnetConfig {
        subnet: subnet.parse().unwrap(),
        gateway: None,
    }
}

/// Returns a container in networks, with its name there.
pub(crate) fn sandbox(id: &str, networks: &[&str]) -> SandboxConfig {
    let endpoints = networks.iter().map(|network| EndpointConfig {
        network: (*network).to_owned(),
        names: vec![id.to_owned()],
        address: None,
    });
    SandboxConfig {
        id: id.to_owned(),
        endpoints: endpoints.collect(),
        ports: Vec::new(),
    }
}

/// Returns a port published on `host_ip`, on a port that the kernel chooses.
pub(crate) fn port(host_ip: Option<&str>, container_port: u16, protocol: Protocol) -> PortConfig {
    PortConfig {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_ports: None,
        container_port,
        protocol,
    }
}

/// A container: its namespace, and what became of its configuration.
pub(crate) struct Container {
    pub(crate) netns: OwnedFd,
    pub(crate) attachment: Attachment,
    pub(crate) reserved: Vec<Reserved>,
    pub(crate) config: SandboxConfig,
}

impl Container {
    /// Returns the first address of the family.
    pub(crate) fn address(&self, is_ipv4: bool) -> IpAddr {
        let all = self.attachment.endpoints.iter().flat_map(|e| &e.addresses);
        all.map(ipnetwork::IpNetwork::ip)
            .find(|a| a.is_ipv4() == is_ipv4)
            .unwrap()
    }

    /// Returns the published ports.
    pub(crate) fn ports(&self) -> Vec<PublishedPort> {
        self.reserved.iter().map(|r| r.port).collect()
    }
}

impl TestHost {
    /// Starts a container: all steps from leases to publication.
    pub(crate) async fn start(&self, config: SandboxConfig) -> Container {
        let netns = netns::create().unwrap();
        let leases = self
            .net
            .allocate(std::slice::from_ref(&config))
            .unwrap()
            .remove(0);
        let attachment = self
            .net
            .attach(netns.as_fd(), &config, &leases)
            .await
            .unwrap();
        let reserved = ports::reserve(&config.ports).unwrap();
        let container = Container {
            netns,
            attachment,
            reserved,
            config,
        };
        self.net
            .publish(&container.config, &container.attachment, &container.ports())
            .unwrap();
        container
    }
}

/// A neighbour of the host, linked by a veth pair: `192.168.77.1` and `fd77::1` here, `.2` and `::2` there.
pub(crate) async fn add_outside() -> OwnedFd {
    let netns = netns::create().unwrap();
    let peer = LinkUnspec::new_with_name("eth0")
        .setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&netns))
        .build();
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name("outside")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    handle.link().add(pair).execute().await.unwrap();
    configure_outside("outside", 1).await;
    let inside = netns.try_clone().unwrap();
    std::thread::spawn(move || {
        netns::enter(&inside).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            change_link("lo", LinkMessageBuilder::up).await;
            configure_outside("eth0", 2).await;
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway("192.168.77.1".parse().unwrap())
                .build();
            handle.route().add(v4).execute().await.unwrap();
            let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway("fd77::1".parse().unwrap())
                .build();
            handle.route().add(v6).execute().await.unwrap();
        });
    })
    .join()
    .unwrap();
    netns
}

/// Gives one end of the pair its addresses and brings it up.
async fn configure_outside(link: &str, host: u8) {
    fs_err::write(format!("/proc/sys/net/ipv6/conf/{link}/accept_dad"), "0").unwrap();
    let index = crate::net::link::link_index(link).unwrap();
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let v4 = Ipv4Addr::new(192, 168, 77, host).into();
    handle.address().add(index, v4, 24).execute().await.unwrap();
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into()).into();
    handle.address().add(index, v6, 64).execute().await.unwrap();
    change_link(link, LinkMessageBuilder::up).await;
}

/// Changes a link of the calling thread's namespace.
pub(crate) async fn change_link(
    name: &str,
    change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) {
    let index = crate::net::link::link_index(name).unwrap();
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
        .link()
        .change(change(LinkUnspec::new_with_index(index)).build())
        .execute()
        .await
        .unwrap();
}

/// A TCP server that tells every client the client's address; ends when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    netns: OwnedFd,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// Listens on every address of `netns`.
    pub(crate) fn start(netns: &impl AsFd, port: u16) -> Self {
        let netns = netns.as_fd().try_clone_to_owned().unwrap();
        let inside = netns.try_clone().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let (ready, started) = mpsc::channel();
        std::thread::spawn(move || {
            netns::enter(&inside).unwrap();
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((mut client, peer)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that gave up is its own test's matter.
                drop(client.write_all(peer.ip().to_canonical().to_string().as_bytes()));
            }
        });
        Self {
            address: started.recv().unwrap(),
            netns,
            stopping,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.address.port());
        // Wakes the thread up; one that is gone needs no waking.
        drop(netns::run_in(self.netns.as_fd(), || {
            TcpStream::connect(address)
        }));
    }
}

/// Connects from `netns` and returns what the server says, or `None` when there is no answer in time.
pub(crate) fn ask(netns: &impl AsFd, address: SocketAddr, within: Duration) -> Option<String> {
    netns::run_in(netns.as_fd(), || {
        let mut stream = TcpStream::connect_timeout(&address, within).ok()?;
        stream.set_read_timeout(Some(within)).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
    .unwrap()
}
