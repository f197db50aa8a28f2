//! The child that answers names and carries what the firewall cannot: what it is given, and how it gives up its rights.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::net::config::Protocol;
use crate::net::dns::names::NameReader;
use crate::net::dns::server::Server;
use crate::net::dns::servers::Servers;
use crate::net::error::NetError;
use crate::net::nft::{self, Batch, Compare, Hook, Meta, Side};
use crate::net::poll::Poll;
use crate::net::proxy::{self, Proxy};
use crate::sys::netlink::{Family, Socket};
use crate::sys::{fds, netns};

/// All that the child needs to know; made by `Net::sidecar`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarConfig {
    /// The container's id.
    pub id: String,
    /// Directories of names, one for each network of the container, in the order of its endpoints.
    pub networks: Vec<SidecarNetwork>,
    /// Whether unknown names are forwarded: not where all networks are internal.
    pub forward: bool,
    /// Name servers to forward to instead of those of `resolv_conf`.
    pub servers: Vec<IpAddr>,
    /// The host's resolver configuration, read again when it changed.
    pub resolv_conf: PathBuf,
    /// Where each reserved socket leads, in the order of the sockets; `None` holds the port and serves nothing.
    pub proxies: Vec<Option<ProxyTarget>>,
}

/// One network to answer names of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarNetwork {
    /// The network's name.
    pub name: String,
    /// Directory of its name files.
    pub directory: PathBuf,
}

/// Where a reserved socket leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTarget {
    /// Transport of both sides.
    pub protocol: Protocol,
    /// The container's address and port.
    pub address: SocketAddr,
}

/// Serves until something fails; the body of a freshly forked process of one thread, child of `parent`.
///
/// It opens its sockets in `netns` and calls `ready`: from then on no query is lost. Then it closes every descriptor but its own,
/// gives up every capability, becomes uid and gid 65534, dies with its parent, and returns only an error. `reserved` are the
/// sockets of the published ports in the order of `proxies`.
pub fn serve(
    config: &SidecarConfig,
    netns: BorrowedFd<'_>,
    reserved: Vec<OwnedFd>,
    parent: i32,
    ready: impl FnOnce(),
) -> NetError {
    let failed = |attempt: &'static str| {
        move |source| NetError::Sidecar { id: config.id.clone(), attempt: attempt.to_owned(), source }
    };
    let served = Sidecar::open(config, netns, reserved).and_then(|sidecar| {
        ready();
        sidecar.keep_only_own_descriptors().map_err(failed("close descriptors"))?;
        give_up_rights().map_err(failed("give up its rights"))?;
        // After the change of uid, which clears it.
        die_with(parent).map_err(failed("follow its parent"))?;
        sidecar.run().map_err(failed("wait for queries"))
    });
    match served {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// The open sockets of a name server and proxy.
#[derive(Debug)]
pub(crate) struct Sidecar {
    poll: Poll,
    server: Server,
    proxy: Proxy,
    /// Descriptors besides the standard ones that must stay open.
    own: Vec<RawFd>,
    /// Ports that are held and serve nothing.
    _idle: Vec<OwnedFd>,
}

impl Sidecar {
    /// Opens the sockets; the calling thread visits `netns` and comes back.
    pub(crate) fn open(
        config: &SidecarConfig,
        netns: BorrowedFd<'_>,
        reserved: Vec<OwnedFd>,
    ) -> Result<Self, NetError> {
        let failed = |attempt: &'static str| {
            move |source| NetError::Sidecar { id: config.id.clone(), attempt: attempt.to_owned(), source }
        };
        let home = netns::current().map_err(failed("find its own network namespace"))?;
        netns::enter(netns).map_err(failed("enter the container's network namespace"))?;
        let sockets = open_name_sockets();
        // Back in any case: the rest of the process must not go on in the container's namespace.
        netns::enter(&home).map_err(failed("return to the host's network namespace"))?;
        let (udp, tcp) = sockets.map_err(failed("open 127.0.0.11"))?;
        let poll = Poll::new().map_err(failed("make an epoll instance"))?;
        let mut own = vec![udp.as_raw_fd(), tcp.as_raw_fd(), poll.as_fd().as_raw_fd()];
        let mut names = Vec::new();
        for network in &config.networks {
            let reader = NameReader::open(&network.name, &network.directory)
                .map_err(|source| NetError::File { action: "open", path: network.directory.clone(), source })?;
            own.push(reader.descriptor().as_raw_fd());
            names.push(reader);
        }
        let forward = config.forward.then(|| Servers::new(&config.servers, config.resolv_conf.clone()));
        let server = Server::new(names, forward, (udp, tcp), &poll).map_err(failed("wait for queries"))?;
        own.extend(reserved.iter().map(AsRawFd::as_raw_fd));
        let (mut proxy, mut idle) = (Proxy::default(), Vec::new());
        let targets = config.proxies.iter().copied().chain(std::iter::repeat(None));
        for (socket, target) in reserved.into_iter().zip(targets) {
            match target {
                Some(target) => proxy.add(socket, target, &poll).map_err(failed("wait at a published port"))?,
                None => idle.push(socket),
            }
        }
        Ok(Self { poll, server, proxy, own, _idle: idle })
    }

    /// Serves; returns only an error of the waiting itself.
    pub(crate) fn run(mut self) -> io::Result<std::convert::Infallible> {
        loop {
            self.turn(None)?;
        }
    }

    /// Waits once, until `limit` at most, and works off what is ready.
    fn turn(&mut self, limit: Option<Instant>) -> io::Result<()> {
        let deadlines = [self.server.deadline(), self.proxy.deadline(), limit];
        let deadline = deadlines.into_iter().flatten().min();
        for token in self.poll.wait(deadline)? {
            if token & proxy::TOKENS == 0 {
                self.server.ready(token, &self.poll);
            } else {
                self.proxy.ready(token, &self.poll);
            }
        }
        if deadline.is_some() {
            let now = Instant::now();
            self.server.expire(now, &self.poll);
            self.proxy.expire(now);
        }
        Ok(())
    }

    /// Closes what the process inherited.
    fn keep_only_own_descriptors(&self) -> io::Result<()> {
        fds::close_all_but(&self.own)
    }
}

/// Opens the sockets of the name server in the namespace of the calling thread, on ports that the kernel chooses, and redirects
/// port 53 of 127.0.0.11 to them, so that the container can use its port 53 itself.
fn open_name_sockets() -> io::Result<(UdpSocket, TcpListener)> {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
    const TABLE: &str = "stack-dns";
    const CHAIN: &str = "output";
    let udp = UdpSocket::bind((ADDRESS, 0))?;
    let tcp = TcpListener::bind((ADDRESS, 0))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let socket = Socket::open(Family::Netfilter)?;
    let mut batch = Batch::new(nft::Family::Inet);
    if nft::read_table(&socket, TABLE)?.is_some() {
        // Of a server that died: its ports are gone.
        batch.delete_table(TABLE);
    }
    batch.add_table(TABLE, "names of the container's networks");
    batch.add_chain(TABLE, CHAIN, Some(Hook { kind: "nat", number: 3, priority: -100 }));
    for (protocol, port) in [
        (Protocol::Udp, udp.local_addr()?.port()),
        (Protocol::Tcp, tcp.local_addr()?.port()),
    ] {
        batch.add_rule(TABLE, CHAIN, "ip daddr 127.0.0.11 meta l4proto . th dport . 53 dnat to :port", |m| {
            m.address(nft::Family::Ip, Side::Destination, 1)
                .compare(Compare::Equal, &ADDRESS.octets())
                .meta(Meta::Protocol, 1)
                .compare(Compare::Equal, &[protocol.number()])
                .destination_port()
                .compare(Compare::Equal, &53_u16.to_be_bytes())
                .dnat_to_port(port);
        });
    }
    batch.commit(&socket).map_err(|refused| refused.source)?;
    Ok((udp, tcp))
}

/// Becomes nobody, for good: no groups, no capabilities, none to be had by any exec.
pub(crate) fn give_up_rights() -> io::Result<()> {
    const NOBODY: u32 = 65534;
    for capability in CapabilitySet::all().iter() {
        match thread::remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    thread::set_thread_groups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    thread::set_thread_res_gid(gid, gid, gid)?;
    // Clears permitted, effective and ambient capabilities as well (`man 7 capabilities`).
    thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    thread::set_no_new_privs(true)?;
    Ok(())
}

/// Has the kernel kill this process with its parent; an error if that is not `parent` any more.
fn die_with(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if now == parent { Ok(()) } else { Err(io::Error::other("the parent is gone")) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;
    use crate::net::config::EndpointConfig;
    use crate::net::testing::{
        Container, REACHABLE_WITHIN, Server as TestServer, TestHost, ask, network, on_host, port, range, sandbox,
    };

    /// A thread that ends when dropped.
    struct Running {
        stop: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Running {
        /// Runs `turn` in `netns` until dropped.
        fn start(netns: &OwnedFd, mut turn: impl FnMut() + Send + 'static) -> Self {
            let stop = Arc::new(AtomicBool::new(false));
            let (netns, stopped) = (netns.try_clone().unwrap(), Arc::clone(&stop));
            let thread = std::thread::spawn(move || {
                netns::enter(&netns).unwrap();
                while !stopped.load(Ordering::SeqCst) {
                    turn();
                }
            });
            Self { stop, thread: Some(thread) }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::SeqCst);
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    const TICK: Duration = Duration::from_millis(20);

    /// Starts the sidecar of a container in a thread of the host.
    fn start(host: &TestHost, container: &mut Container) -> Running {
        let config = host.net.sidecar(&container.attachment, &container.ports(), &[]);
        let reserved = container.reserved.drain(..).map(|r| r.socket).collect();
        let mut sidecar = Sidecar::open(&config, container.netns.as_fd(), reserved).unwrap();
        Running::start(&host.netns, move || sidecar.turn(Some(Instant::now() + TICK)).unwrap())
    }

    /// Answers every query for A with one address, at 127.0.0.`last` port 53 of `netns`, over UDP and TCP.
    fn start_upstream(netns: &OwnedFd, last: u8, answer: &'static str) -> [Running; 2] {
        let sockets = netns::run_in(netns.as_fd(), || {
            let address = (Ipv4Addr::new(127, 0, 0, last), 53);
            (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap())
        });
        let (udp, tcp) = sockets.unwrap();
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let respond = move |query: &[u8]| {
            let query = Message::from_vec(query).unwrap();
            let mut message = Message::response(query.metadata.id, query.metadata.op_code);
            let name = query.queries[0].name().clone();
            message.add_queries(query.queries);
            message.add_answer(Record::from_rdata(name, 60, RData::A(A(answer.parse().unwrap()))));
            message.to_vec().unwrap()
        };
        let datagrams = Running::start(netns, move || {
            let mut buffer = [0; 2048];
            if let Ok((length, client)) = udp.recv_from(&mut buffer) {
                udp.send_to(&respond(&buffer[..length]), client).unwrap();
            }
        });
        let streams = Running::start(netns, move || {
            if let Ok((mut client, _)) = tcp.accept() {
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
                let answer = respond(&read_framed(&mut client));
                client.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                client.write_all(&answer).unwrap();
            } else {
                std::thread::park_timeout(TICK);
            }
        });
        [datagrams, streams]
    }

    fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message).unwrap();
        message
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    /// Asks 127.0.0.11 in the container's namespace, over UDP or TCP, and renders the answer.
    fn look_up(container: &Container, name: &str, kind: RecordType, is_tcp: bool) -> String {
        let query = query(name, kind);
        let answer = netns::run_in(container.netns.as_fd(), || {
            let server = (Ipv4Addr::new(127, 0, 0, 11), 53);
            if is_tcp {
                let mut stream = TcpStream::connect(server).unwrap();
                stream.set_read_timeout(Some(REACHABLE_WITHIN * 2)).unwrap();
                stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&query).unwrap();
                return read_framed(&mut stream);
            }
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(REACHABLE_WITHIN * 2)).unwrap();
            socket.send(&query).unwrap();
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        });
        let message = Message::from_vec(&answer.unwrap()).unwrap();
        assert_eq!(message.metadata.id, u16::from_be_bytes([query[0], query[1]]));
        let data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
        format!("{:?} {}", message.metadata.response_code, data.join(" "))
    }

    fn named(id: &str, network: &str, names: &[&str]) -> crate::net::config::SandboxConfig {
        let mut config = sandbox(id, &[]);
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        config.endpoints = vec![EndpointConfig { network: network.to_owned(), names, address: None }];
        config
    }

    fn write_resolv_conf(host: &TestHost, text: &str) {
        let path = host.directory.path().join("resolv.conf");
        crate::sys::atomic::write(&path, text.as_bytes(), 0o644, crate::sys::atomic::Durability::Cached).unwrap();
    }

    #[test]
    fn names_are_answered_followed_and_forwarded() {
        on_host(|host| async move {
            let mut front = network("app_front");
            front.subnets = vec![range("10.4.0.0/24"), range("fd04::/64")];
            host.net.ensure_network(&front).await.unwrap();
            let _upstream = start_upstream(&host.netns, 53, "192.0.2.7");
            write_resolv_conf(&host, "nameserver 127.0.0.53\n");
            let mut asker = host.start(named("asker", "app_front", &["asker"])).await;
            let _sidecar = start(&host, &mut asker);
            // The container's own port 53 is free.
            netns::run_in(asker.netns.as_fd(), || {
                TcpListener::bind("0.0.0.0:53").unwrap();
                UdpSocket::bind("0.0.0.0:53").unwrap();
            })
            .unwrap();
            let a = RecordType::A;
            assert_eq!(look_up(&asker, "web", a, false), "NoError 192.0.2.7");
            let _one = host.start(named("one", "app_front", &["web", "app-web-1"])).await;
            let _two = host.start(named("two", "app_front", &["web", "app-web-2"])).await;
            let mut both = [look_up(&asker, "web", a, false), look_up(&asker, "WEB", a, true)];
            both.sort();
            assert_eq!(both, ["NoError 10.4.0.3 10.4.0.4", "NoError 10.4.0.4 10.4.0.3"]);
            assert_eq!(look_up(&asker, "app-web-2", RecordType::AAAA, false), "NoError fd04::4");
            assert_eq!(look_up(&asker, "app-web-2.app_front", a, false), "NoError 10.4.0.4");
            let reverse = look_up(&asker, "4.0.4.10.in-addr.arpa", RecordType::PTR, false);
            assert_eq!(reverse, "NoError app-web-2.app_front.");
            assert_eq!(look_up(&asker, "example.com", a, false), "NoError 192.0.2.7");
            assert_eq!(look_up(&asker, "example.com", a, true), "NoError 192.0.2.7");
            host.net.release(&["one"]).unwrap();
            assert_eq!(look_up(&asker, "web", a, false), "NoError 10.4.0.4");
            // The first server is dead now: refused at once, and the next one is asked.
            let _other = start_upstream(&host.netns, 54, "192.0.2.8");
            write_resolv_conf(&host, "nameserver 127.0.0.99\nnameserver 127.0.0.54\n");
            assert_eq!(look_up(&asker, "example.com", a, false), "NoError 192.0.2.8");
            assert_eq!(look_up(&asker, "example.com", a, true), "NoError 192.0.2.8");
        });
    }

    #[test]
    fn nothing_is_forwarded_from_internal_networks() {
        on_host(|host| async move {
            let mut internal = network("internal");
            internal.internal = true;
            host.net.ensure_network(&internal).await.unwrap();
            let _upstream = start_upstream(&host.netns, 53, "192.0.2.7");
            write_resolv_conf(&host, "nameserver 127.0.0.53\n");
            let mut asker = host.start(named("asker", "internal", &["asker"])).await;
            let _sidecar = start(&host, &mut asker);
            assert_eq!(look_up(&asker, "asker", RecordType::A, false), "NoError 172.17.0.2");
            assert_eq!(look_up(&asker, "secret.example", RecordType::A, false), "ServFail ");
            assert_eq!(look_up(&asker, "secret.example", RecordType::TXT, true), "ServFail ");
        });
    }

    #[test]
    fn a_restarted_server_takes_over_and_slow_clients_starve_nobody() {
        on_host(|host| async move {
            host.net.ensure_network(&network("one")).await.unwrap();
            let mut asker = host.start(named("asker", "one", &["asker"])).await;
            drop(start(&host, &mut asker));
            let _sidecar = start(&host, &mut asker);
            let _half_open: Vec<TcpStream> = netns::run_in(asker.netns.as_fd(), || {
                let connect = |n: u8| {
                    let mut stream = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 11), 53)).unwrap();
                    // Lengths that promise more than comes, and messages that are none.
                    stream.write_all(&[0, 40, n, n][..usize::from(n % 5)]).unwrap();
                    stream
                };
                (0..100).map(connect).collect()
            })
            .unwrap();
            for is_tcp in [false, true] {
                assert_eq!(look_up(&asker, "asker", RecordType::A, is_tcp), "NoError 172.17.0.2");
            }
        });
    }

    /// Answers every datagram at port 9 of `netns` with its text in capitals.
    fn start_echo(netns: &OwnedFd) -> Running {
        let socket = netns::run_in(netns.as_fd(), || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 9)).unwrap()).unwrap();
        socket.set_read_timeout(Some(TICK)).unwrap();
        Running::start(netns, move || {
            let mut buffer = [0; 2048];
            if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                buffer[..length].make_ascii_uppercase();
                socket.send_to(&buffer[..length], client).unwrap();
            }
        })
    }

    /// Sends a datagram from the host and returns what comes back from that very address.
    fn echo(host: &TestHost, to: SocketAddr) -> Option<String> {
        netns::run_in(host.netns.as_fd(), || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .unwrap()
    }

    #[test]
    fn what_the_firewall_cannot_redirect_is_carried() {
        on_host(|host| async move {
            let _outside = crate::net::testing::add_outside().await;
            host.net.ensure_network(&network("one")).await.unwrap();
            let mut config = named("web", "one", &["web"]);
            config.ports = vec![port(None, 80, Protocol::Tcp), port(None, 9, Protocol::Udp)];
            let mut web = host.start(config).await;
            let ports = web.ports();
            let (tcp, udp) = (ports[0].host.port(), ports[2].host.port());
            let _sidecar = start(&host, &mut web);
            let _server = TestServer::start(&web.netns, 80);
            let _echo = start_echo(&web.netns);
            let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
            for ip in ["127.0.0.1", "::1", "192.168.77.1", "fd77::1"] {
                let found = (ip, ask(&host.netns, at(ip, tcp), REACHABLE_WITHIN), echo(&host, at(ip, udp)));
                assert_eq!(found, (ip, Some("172.17.0.1".to_owned()), Some("HELLO".to_owned())));
            }
        });
    }

    #[test]
    fn a_carried_connection_passes_on_any_amount_and_its_end() {
        on_host(|host| async move {
            host.net.ensure_network(&network("one")).await.unwrap();
            let mut config = named("web", "one", &["web"]);
            config.ports = vec![port(None, 81, Protocol::Tcp)];
            let mut web = host.start(config).await;
            let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), web.ports()[1].host.port());
            let _sidecar = start(&host, &mut web);
            let listener = netns::run_in(web.netns.as_fd(), || TcpListener::bind("0.0.0.0:81").unwrap()).unwrap();
            // Answers with all it got, once it has got all: more than any buffer on the way holds.
            let server = std::thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                client.write_all(&all).unwrap();
            });
            let sent: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
            let mut client = netns::run_in(host.netns.as_fd(), || TcpStream::connect(address).unwrap()).unwrap();
            client.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
            client.write_all(&sent).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            server.join().unwrap();
            assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
        });
    }

    #[test]
    fn rights_are_given_up_for_good() {
        let status = std::thread::spawn(|| {
            give_up_rights().unwrap();
            fs_err::read_to_string("/proc/thread-self/status").unwrap()
        })
        .join()
        .unwrap();
        let lines: Vec<&str> = status
            .lines()
            .filter(|l| ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"].iter().any(|start| l.starts_with(start)))
            .collect();
        let none = "0000000000000000";
        let expected = [
            "Uid:\t65534\t65534\t65534\t65534".to_owned(),
            "Gid:\t65534\t65534\t65534\t65534".to_owned(),
            "Groups:\t ".to_owned(),
            format!("CapInh:\t{none}"),
            format!("CapPrm:\t{none}"),
            format!("CapEff:\t{none}"),
            format!("CapBnd:\t{none}"),
            format!("CapAmb:\t{none}"),
            "NoNewPrivs:\t1".to_owned(),
        ];
        assert_eq!(lines, expected);
    }
}
