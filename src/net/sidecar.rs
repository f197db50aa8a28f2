//! The child that answers names and carries what the firewall cannot: what it is given, and how it gives up its rights.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::net::config::Protocol;
use crate::net::error::NetError;

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

/// Serves until something fails; the body of a freshly forked process of one thread.
///
/// It opens its sockets in `netns`, calls `ready`, gives up every capability, becomes uid and gid 65534, closes every other
/// descriptor, dies with its parent, and returns only an error.
pub fn serve(
    _config: &SidecarConfig,
    _netns: BorrowedFd<'_>,
    _reserved: Vec<OwnedFd>,
    _ready: impl FnOnce(),
) -> NetError {
    NetError::NoNetwork(String::new())
}
