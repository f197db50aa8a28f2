//! Connection tracking of datagrams. A client that goes on sending from the same port stays redirected to the address of a
//! container that is gone, for as long as it sends: its entry has to be removed with the container's published ports.
//!
//! ```text
//! ctnetlink   family u8 · version u8 · resource u16, then attributes: 1 tuple of the first direction, 2 of the answers,
//!             18 zone; tuple { 1 addresses { 1, 3: IPv4, IPv6 source; 2, 4: destination }, 2 protocol { 1: number, … } }
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::config::Protocol;
use crate::sys::netlink::{ACK, DUMP, HEADER, Message, REQUEST, Socket, attributes};

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte, `IPCTNL_MSG_CT_GET` in the lower.
const GET: u16 = 1 << 8 | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_TUPLE_ORIG`.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`.
const REPLY: u16 = 2;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Removes the entries of datagrams that are answered by one of `addresses`.
pub(crate) fn forget_datagrams(socket: &Socket, addresses: &[IpAddr]) -> io::Result<()> {
    let mut requests = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).unwrap_or_default();
        if !addresses
            .iter()
            .any(|a| a.is_ipv4() == (i32::from(family) == libc::AF_INET))
        {
            continue;
        }
        for entry in socket.dump(&message(GET, DUMP, family, &[]))? {
            if is_answered_by(&entry, addresses) {
                requests.extend(message(DELETE, ACK, family, &identity(&entry)));
            }
        }
    }
    if requests.is_empty() {
        return Ok(());
    }
    let refused = socket.transact(&requests)?;
    // An entry may have ended since.
    match refused
        .into_iter()
        .find(|refusal| refusal.errno != libc::ENOENT)
    {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Returns whether an entry is of datagrams, and its answers come from one of `addresses`.
fn is_answered_by(entry: &Message, addresses: &[IpAddr]) -> bool {
    let tuple = field(body(entry), REPLY).unwrap_or_default();
    let protocol = field(tuple, 2).and_then(|protocol| field(protocol, 1));
    let source = field(tuple, 1).and_then(|ip| {
        let v4 = field(ip, 1)
            .and_then(|a| <[u8; 4]>::try_from(a).ok())
            .map(|a| Ipv4Addr::from(a).into());
        let v6 = || {
            field(ip, 3)
                .and_then(|a| <[u8; 16]>::try_from(a).ok())
                .map(|a| Ipv6Addr::from(a).into())
        };
        v4.or_else(v6)
    });
    protocol == Some(&[Protocol::Udp.number()])
        && source.is_some_and(|source| addresses.contains(&source))
}

/// Returns the attributes that name an entry.
fn identity(entry: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, flags) in [(ORIGINAL, NESTED), (ZONE, 0)] {
        if let Some(value) = field(body(entry), kind) {
            let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
            bytes.extend(length.to_ne_bytes());
            bytes.extend((kind | flags).to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

/// Encodes one message.
fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + 4 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Returns a message's attributes.
fn body(message: &Message) -> &[u8] {
    message.payload.get(4..).unwrap_or_default()
}

/// Returns one attribute.
fn field(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}
