//! Host ports, held from before anything starts until the container's end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, socket_with, sockopt};

use crate::net::config::{PortConfig, Protocol};
use crate::net::error::NetError;
use crate::net::record::PublishedPort;

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: i32,
    /// Its command line, or its name where that is empty.
    pub command: String,
}

impl Holder {
    /// Renders ` by process 7 (nginx -g …)`, or nothing for nobody.
    pub(crate) fn describe(holder: Option<&Self>) -> String {
        holder.map_or_else(String::new, |Self { pid, command }| {
            format!(" by process {pid} ({command})")
        })
    }
}

/// A bound (and for TCP listening) socket: one address family of one port.
#[derive(Debug)]
pub struct Reserved {
    /// Which port it is.
    pub port: PublishedPort,
    /// The socket, close-on-exec and non-blocking.
    pub socket: OwnedFd,
}

/// Binds every port of `ports`, all or none: one socket for each address family.
///
/// A TCP socket listens at once, so that a conflict shows here and no connection is refused before the container is up. IPv6 is
/// left out where the host has none. Errors: [`NetError::PortInUse`] names who holds the port.
pub fn reserve(ports: &[PortConfig]) -> Result<Vec<Reserved>, NetError> {
    let mut reserved = Vec::new();
    for port in ports {
        reserved.extend(reserve_one(port)?);
    }
    Ok(reserved)
}

/// Binds the first port of the range that is free on all its addresses.
fn reserve_one(config: &PortConfig) -> Result<Vec<Reserved>, NetError> {
    /// Tries for a port that the kernel chose for IPv4 and that is taken for IPv6.
    const EPHEMERAL_TRIES: usize = 64;
    let Some((first, last)) = config.host_ports else {
        let mut last_error = None;
        for _ in 0..EPHEMERAL_TRIES {
            match bind_all(config, 0) {
                Err(failure) if failure.is_conflict() => last_error = Some(failure),
                result => return result.map_err(|failure| failure.explain(config.protocol)),
            }
        }
        return last_error.map_or(Ok(Vec::new()), |failure| {
            Err(failure.explain(config.protocol))
        });
    };
    let mut first_error = None;
    for port in first..=last {
        match bind_all(config, port) {
            Err(failure) if failure.is_conflict() => {
                first_error.get_or_insert(failure);
            }
            result => return result.map_err(|failure| failure.explain(config.protocol)),
        }
    }
    first_error.map_or(Ok(Vec::new()), |failure| {
        Err(failure.explain(config.protocol))
    })
}

/// A socket that could not be bound.
#[derive(Debug)]
struct Failure {
    address: SocketAddr,
    errno: Errno,
}

impl Failure {
    /// Returns whether somebody else has the port.
    fn is_conflict(&self) -> bool {
        self.errno == Errno::ADDRINUSE
    }

    /// Looks for who has it.
    fn explain(self, protocol: Protocol) -> NetError {
        let Self { address, errno } = self;
        if errno == Errno::ADDRINUSE {
            return NetError::PortInUse {
                address,
                protocol,
                holder: find_holder(address, protocol),
            };
        }
        NetError::Bind {
            address,
            protocol,
            source: errno.into(),
        }
    }
}

/// Binds one port on all its addresses; 0: one that the kernel chooses for the first.
fn bind_all(config: &PortConfig, port: u16) -> Result<Vec<Reserved>, Failure> {
    let addresses: &[IpAddr] = match &config.host_ip {
        Some(address) => std::slice::from_ref(address),
        None => &[
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ],
    };
    let mut reserved: Vec<Reserved> = Vec::new();
    for address in addresses {
        let port = reserved
            .first()
            .map_or(port, |first| first.port.host.port());
        let address = SocketAddr::new(*address, port);
        let (socket, host) = match bind(address, config.protocol) {
            Ok(bound) => bound,
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                if address.is_ipv6() && config.host_ip.is_none() =>
            {
                continue;
            }
            Err(errno) => return Err(Failure { address, errno }),
        };
        let (container_port, protocol) = (config.container_port, config.protocol);
        reserved.push(Reserved {
            port: PublishedPort {
                host,
                container_port,
                protocol,
            },
            socket,
        });
    }
    Ok(reserved)
}

/// Binds one socket, and listens on it. Returns it with the address it got.
fn bind(address: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, SocketAddr), Errno> {
    const BACKLOG: i32 = 1024;
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier holder may still be in TIME_WAIT; two listeners conflict all the same. Never for UDP, where
        // two holders would both succeed.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let bound = getsockname(&socket)?;
    let bound = SocketAddr::try_from(bound)?;
    Ok((socket, bound))
}

/// Finds a process that holds `address`, through the kernel's tables of sockets and every process's descriptors.
fn find_holder(address: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let name = protocol.name();
    let tables = [name.to_owned(), format!("{name}6")].map(|name| {
        fs_err::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
    });
    let inodes: Vec<u64> = tables
        .iter()
        .flat_map(|table| holders_of(table, address.port(), protocol))
        .collect();
    let pids = fs_err::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| holds(*pid, &inodes))
        .map(|pid| Holder {
            pid,
            command: command_of(pid),
        })
        .next()
}

/// Returns the inodes of the sockets of a `/proc/net` table that occupy `port` (`man 5 proc_net`): for TCP those that listen.
fn holders_of(table: &str, port: u16, protocol: Protocol) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, hexadecimal) = fields.get(1)?.rsplit_once(':')?;
        let occupies = u16::from_str_radix(hexadecimal, 16) == Ok(port)
            && (protocol == Protocol::Udp || *fields.get(3)? == LISTENING);
        occupies.then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// Returns whether a process has one of the sockets open. One that is gone or not ours to look into has none.
fn holds(pid: i32, inodes: &[u64]) -> bool {
    let Ok(descriptors) = fs_err::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        let target = fs_err::read_link(descriptor.path()).unwrap_or_default();
        let target = target.to_str().unwrap_or_default();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inode
            .and_then(|inode| inode.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

/// Returns a process's command line with control characters replaced, or its name.
fn command_of(pid: i32) -> String {
    let read = |file: &str| fs_err::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let arguments = read("cmdline");
    let text = if arguments.is_empty() {
        read("comm")
    } else {
        arguments
    };
    let text = String::from_utf8_lossy(&text).replace(char::is_control, " ");
    text.trim().chars().take(120).collect()
}
