//! Tables of the older iptables (`iptables-legacy`), which nftables does not show: read, never written.
#![expect(unsafe_code, reason = "socket options that no crate wraps")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// Length of `struct ipt_getinfo`: name 32, valid hooks 4, entries 20, underflows 20, number 4, size 4.
const INFO: usize = 84;
/// Where the rules begin in `struct ipt_get_entries`: name 32, size 4, padding.
const HEAD: usize = 40;

/// Whose tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

/// A table as the kernel gives it (`linux/netfilter_ipv4/ip_tables.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Offset of the first rule of each hook's chain.
    pub first: [u32; 5],
    /// Offset of each hook's policy, which is the last rule of its chain.
    pub policy: [u32; 5],
    /// `struct ipt_entry` or `struct ip6t_entry`, one after the other.
    pub rules: Vec<u8>,
}

/// Reads a table of this network namespace; `None` where it is not in use, and none is made by asking.
pub fn read(family: Family, table: &str) -> io::Result<Option<Table>> {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs_err::read_to_string(names) {
        Ok(names) if names.lines().any(|name| name == table) => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let protocol = Some(ipproto::RAW);
    let socket = socket_with(domain, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    loop {
        match read_once(&socket, family, table) {
            // Somebody has changed it between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result.map(Some),
        }
    }
}

/// Asks for the size, then for the rules.
fn read_once(socket: &OwnedFd, family: Family, table: &str) -> io::Result<Table> {
    let named = |length: usize| {
        let mut buffer = vec![0_u8; length];
        for (byte, character) in buffer.iter_mut().take(31).zip(table.bytes()) {
            *byte = character;
        }
        buffer
    };
    let mut info = named(INFO);
    ask(socket, family, GET_INFO, &mut info)?;
    let size = u32_at(&info, 80);
    let mut entries = named(HEAD + size as usize);
    if let Some(field) = entries.get_mut(32..36) {
        field.copy_from_slice(&size.to_ne_bytes());
    }
    ask(socket, family, GET_ENTRIES, &mut entries)?;
    Ok(Table {
        first: std::array::from_fn(|hook| u32_at(&info, 36 + 4 * hook)),
        policy: std::array::from_fn(|hook| u32_at(&info, 56 + 4 * hook)),
        rules: entries.split_off(HEAD),
    })
}

/// Reads a number of the host's byte order; 0 beyond the end.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_ne_bytes(*field))
}

/// Calls `getsockopt` with a request that the answer takes the place of.
fn ask(socket: &OwnedFd, family: Family, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let mut length =
        libc::socklen_t::try_from(buffer.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: the kernel reads and writes at most `length` bytes at the pointer, which is to a live buffer of that length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
