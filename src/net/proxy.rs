//! Carries what the firewall cannot redirect from a published port to the container: connections to `[::1]`, and from IPv6 to a
//! container that has only IPv4. Everything else never reaches these sockets.
//!
//! TCP: a pair of connections with a buffer for each direction; an end of one side is passed on as such. UDP: a socket for each
//! client, which goes after a minute without a datagram; answers leave from the address that was asked.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::net::config::Protocol;
use crate::net::dns::server::begin_connecting;
use crate::net::poll::{Interest, Poll};
use crate::net::sidecar::ProxyTarget;

/// Set in all tokens of the proxy; the other ones are the name server's.
pub(crate) const TOKENS: u64 = 1 << 63;
/// Connections at a time, and datagram clients at a time.
const MOST: usize = 1024;
/// What is read ahead of a slow reader, in bytes, for each direction.
const BUFFER: usize = 64 << 10;
/// How long a connection to the container may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a datagram client is remembered.
const DATAGRAM_TIMEOUT: Duration = Duration::from_mins(1);

/// All proxied ports of one container.
#[derive(Debug, Default)]
pub(crate) struct Proxy {
    ports: BTreeMap<u64, Port>,
    /// Keyed by the client side's token; the container's side has the token after it.
    pairs: BTreeMap<u64, Pair>,
    flows: BTreeMap<u64, Flow>,
    next_token: u64,
}

/// A published port.
#[derive(Debug)]
enum Port {
    Tcp(TcpListener, SocketAddr),
    Udp(UdpSocket, SocketAddr),
}

/// Two connections that belong together.
#[derive(Debug)]
struct Pair {
    client: Side,
    container: Side,
    /// Until the connection to the container is made.
    deadline: Option<Instant>,
}

/// One of them, with what is to be written to it.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    output: Vec<u8>,
    /// Nothing more can be read.
    has_ended: bool,
    /// The other side's end has been passed on.
    is_shut: bool,
}

/// A datagram client.
#[derive(Debug)]
struct Flow {
    port: u64,
    client: SocketAddr,
    /// The address that the client sent to.
    local: Option<IpAddr>,
    socket: UdpSocket,
    deadline: Instant,
}

impl Proxy {
    /// Starts waiting for what arrives at a reserved socket.
    pub(crate) fn add(&mut self, socket: OwnedFd, target: ProxyTarget, poll: &Poll) -> io::Result<()> {
        let token = self.token();
        let port = match target.protocol {
            Protocol::Tcp => Port::Tcp(socket.into(), target.address),
            Protocol::Udp => {
                let socket = UdpSocket::from(socket);
                // The address a client sent to is the one that its answer must come from.
                if socket.local_addr()?.is_ipv4() {
                    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
                } else {
                    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                }
                Port::Udp(socket, target.address)
            }
        };
        match &port {
            Port::Tcp(listener, _) => poll.add(listener, token, Interest::READ)?,
            Port::Udp(socket, _) => poll.add(socket, token, Interest::READ)?,
        }
        self.ports.insert(token, port);
        Ok(())
    }

    /// Returns when [`Self::expire`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pairs = self.pairs.values().filter_map(|pair| pair.deadline);
        self.flows.values().map(|flow| flow.deadline).chain(pairs).min()
    }

    /// Ends connections that could not be made in time and forgets clients that are silent.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.pairs.retain(|_, pair| pair.deadline.is_none_or(|deadline| deadline > now));
        self.flows.retain(|_, flow| flow.deadline > now);
    }

    /// Works off a socket that is ready. Errors of a connection end that connection.
    pub(crate) fn ready(&mut self, token: u64, poll: &Poll) {
        if self.ports.contains_key(&token) {
            return self.serve_port(token, poll);
        }
        if let Some(flow) = self.flows.get_mut(&token) {
            if let Some(Port::Udp(socket, _)) = self.ports.get(&flow.port) {
                flow.answer(socket);
            }
            return;
        }
        let first = [token, token - 1].into_iter().find(|token| self.pairs.contains_key(token));
        if let Some((token, mut pair)) = first.and_then(|token| self.pairs.remove_entry(&token))
            && pair.progress(token, poll).unwrap_or(false)
        {
            self.pairs.insert(token, pair);
        }
    }

    /// Takes the connections or datagrams that have come to a port, a few at a time.
    fn serve_port(&mut self, token: u64, poll: &Poll) {
        const AT_A_TIME: usize = 32;
        for _ in 0..AT_A_TIME {
            let taken = match self.ports.get(&token) {
                Some(Port::Tcp(listener, target)) => {
                    let accepted = listener.accept().and_then(|(client, _)| Ok((client, begin_connecting(*target))));
                    accepted.map(|(client, container)| {
                        // A container that refuses at once: its client sees the connection end.
                        container.and_then(|container| self.add_pair(client, container, poll))
                    })
                }
                Some(Port::Udp(socket, target)) => {
                    let target = *target;
                    receive(socket).map(|datagram| self.pass_on(token, target, &datagram, poll))
                }
                None => return,
            };
            // The inner error is one client's; the outer one says that nothing more is there.
            if taken.is_err() {
                return;
            }
        }
    }

    /// Adds two connections, the second of which is being made.
    fn add_pair(&mut self, client: TcpStream, container: TcpStream, poll: &Poll) -> io::Result<()> {
        if self.pairs.len() >= MOST {
            return Ok(());
        }
        client.set_nonblocking(true)?;
        let (token, second) = (self.token(), self.token());
        // Nothing is read from the client before there is somebody to give it to.
        poll.add(&client, token, Interest { read: false, write: false })?;
        poll.add(&container, second, Interest::WRITE)?;
        let side = |stream| Side { stream, output: Vec::new(), has_ended: false, is_shut: false };
        let deadline = Some(Instant::now() + CONNECT_TIMEOUT);
        self.pairs.insert(token, Pair { client: side(client), container: side(container), deadline });
        Ok(())
    }

    /// Sends a client's datagram to the container, through the client's own socket.
    fn pass_on(&mut self, port: u64, target: SocketAddr, datagram: &Datagram, poll: &Poll) -> io::Result<()> {
        let Datagram { client, local, bytes } = datagram;
        let deadline = Instant::now() + DATAGRAM_TIMEOUT;
        let known = self.flows.values_mut().find(|f| f.port == port && f.client == *client && f.local == *local);
        if let Some(flow) = known {
            flow.deadline = deadline;
            return flow.socket.send(bytes).map(drop);
        }
        if self.flows.len() >= MOST {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.deadline).map(|(token, _)| *token);
            oldest.and_then(|token| self.flows.remove(&token));
        }
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let token = self.token();
        poll.add(&socket, token, Interest::READ)?;
        socket.send(bytes)?;
        self.flows.insert(token, Flow { port, client: *client, local: *local, socket, deadline });
        Ok(())
    }

    /// Returns a token that was never used.
    fn token(&mut self) -> u64 {
        self.next_token += 1;
        TOKENS | self.next_token
    }
}

impl Pair {
    /// Carries what can be carried both ways; false when both have ended.
    fn progress(&mut self, token: u64, poll: &Poll) -> io::Result<bool> {
        if self.deadline.is_some() {
            match rustix::net::sockopt::socket_error(&self.container.stream)? {
                Ok(()) if self.container.stream.peer_addr().is_ok() => self.deadline = None,
                // Woken up for the client, which went away.
                Ok(()) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
        carry(&mut self.client, &mut self.container)?;
        carry(&mut self.container, &mut self.client)?;
        poll.change(&self.client.stream, token, self.client.interest(&self.container))?;
        poll.change(&self.container.stream, token + 1, self.container.interest(&self.client))?;
        Ok(!(self.client.is_shut && self.container.is_shut))
    }
}

impl Side {
    /// Returns what to wait for: room for what is to be written, and something to read where the other side has room.
    fn interest(&self, other: &Self) -> Interest {
        Interest { read: !self.has_ended && other.output.len() < BUFFER, write: !self.output.is_empty() }
    }
}

/// Reads from one side and writes to the other, as far as both allow.
fn carry(from: &mut Side, to: &mut Side) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        while !to.output.is_empty() {
            match to.stream.write(&to.output) {
                Ok(length) => drop(to.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if from.has_ended || to.output.len() >= BUFFER {
            break;
        }
        match from.stream.read(&mut buffer) {
            Ok(0) => from.has_ended = true,
            Ok(length) => to.output.extend(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if from.has_ended && to.output.is_empty() && !to.is_shut {
        to.is_shut = true;
        match to.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Flow {
    /// Sends the container's datagrams to the client. One that cannot be sent is lost, as datagrams are.
    fn answer(&mut self, port: &UdpSocket) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.deadline = Instant::now() + DATAGRAM_TIMEOUT;
            drop(send_from(port, self.local, self.client, buffer.get(..length).unwrap_or_default()));
        }
    }
}

/// A datagram of a client.
struct Datagram {
    client: SocketAddr,
    local: Option<IpAddr>,
    bytes: Vec<u8>,
}

/// Receives one datagram with the address it was sent to.
fn receive(socket: &UdpSocket) -> io::Result<Datagram> {
    let mut bytes = vec![0; 64 << 10];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let (length, client, local) = {
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let local = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(packet) => {
                Some(IpAddr::V4(Ipv4Addr::from(packet.ipi_spec_dst.s_addr.to_ne_bytes())))
            }
            ControlMessageOwned::Ipv6PacketInfo(packet) => Some(IpAddr::V6(Ipv6Addr::from(packet.ipi6_addr.s6_addr))),
            _ => None,
        });
        (message.bytes, message.address.and_then(|address| to_socket_address(&address)), local)
    };
    bytes.truncate(length);
    let client = client.ok_or_else(|| io::Error::other("datagram without a source"))?;
    Ok(Datagram { client, local, bytes })
}

/// Sends one datagram from a certain address of the host.
fn send_from(socket: &UdpSocket, local: Option<IpAddr>, client: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let parts = [io::IoSlice::new(bytes)];
    let to = SockaddrStorage::from(client);
    let (v4, v6);
    let control = match local {
        Some(IpAddr::V4(address)) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(address)) => {
            v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
        None => None,
    };
    sendmsg(socket.as_raw_fd(), &parts, control.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}

/// Converts nix's address.
fn to_socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}
