//! The child that answers names and carries what the firewall cannot: what it is given, and how it gives up its rights.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Gid, Resource, Uid};
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
/// gives up every capability, becomes uid and gid 65534, dies with its parent, and returns only an error: then the process has to
/// end at once (`_exit`), as the owners of the closed descriptors must not be dropped. `reserved` are the sockets of the published
/// ports in the order of `proxies`.
pub fn serve(
    config: &SidecarConfig,
    netns: BorrowedFd<'_>,
    reserved: Vec<OwnedFd>,
    parent: i32,
    ready: impl FnOnce(),
) -> NetError {
    let failed = |attempt: &'static str| {
        move |source| NetError::Sidecar {
            id: config.id.clone(),
            attempt: attempt.to_owned(),
            source,
        }
    };
    let served = Sidecar::open(config, netns, reserved).and_then(|sidecar| {
        ready();
        sidecar
            .keep_only_own_descriptors()
            .map_err(failed("close descriptors"))?;
        allow_many_descriptors().map_err(failed("raise its limit of descriptors"))?;
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
            move |source| NetError::Sidecar {
                id: config.id.clone(),
                attempt: attempt.to_owned(),
                source,
            }
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
            let reader = NameReader::open(&network.name, &network.directory).map_err(|source| {
                NetError::File {
                    action: "open",
                    path: network.directory.clone(),
                    source,
                }
            })?;
            own.push(reader.descriptor().as_raw_fd());
            names.push(reader);
        }
        let forward = config
            .forward
            .then(|| Servers::new(&config.servers, config.resolv_conf.clone()));
        let server =
            Server::new(names, forward, (udp, tcp), &poll).map_err(failed("wait for queries"))?;
        own.extend(reserved.iter().map(AsRawFd::as_raw_fd));
        let (mut proxy, mut idle) = (Proxy::default(), Vec::new());
        let targets = config
            .proxies
            .iter()
            .copied()
            .chain(std::iter::repeat(None));
        for (socket, target) in reserved.into_iter().zip(targets) {
            match target {
                Some(target) => proxy
                    .add(socket, target, &poll)
                    .map_err(failed("wait at a published port"))?,
                None => idle.push(socket),
            }
        }
        Ok(Self {
            poll,
            server,
            proxy,
            own,
            _idle: idle,
        })
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
    batch.add_chain(
        TABLE,
        CHAIN,
        Some(Hook {
            kind: "nat",
            number: 3,
            priority: -100,
        }),
    );
    for (protocol, port) in [
        (Protocol::Udp, udp.local_addr()?.port()),
        (Protocol::Tcp, tcp.local_addr()?.port()),
    ] {
        batch.add_rule(
            TABLE,
            CHAIN,
            "ip daddr 127.0.0.11 meta l4proto . th dport . 53 dnat to :port",
            |m| {
                m.address(nft::Family::Ip, Side::Destination, 1)
                    .compare(Compare::Equal, &ADDRESS.octets())
                    .meta(Meta::Protocol, 1)
                    .compare(Compare::Equal, &[protocol.number()])
                    .destination_port()
                    .compare(Compare::Equal, &53_u16.to_be_bytes())
                    .dnat_to_port(port);
            },
        );
    }
    batch.commit(&socket).map_err(|refused| refused.source)?;
    Ok((udp, tcp))
}

/// Allows as many descriptors as its connections need, as far as the hard limit goes.
fn allow_many_descriptors() -> io::Result<()> {
    const ENOUGH: u64 = 8192;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        rustix::process::setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
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
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    thread::set_no_new_privs(true)?;
    Ok(())
}

/// Has the kernel kill this process with its parent; an error if that is not `parent` any more.
fn die_with(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if now == parent {
        Ok(())
    } else {
        Err(io::Error::other("the parent is gone"))
    }
}

#[cfg(test)]
mod tests;
