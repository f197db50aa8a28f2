//! Netlink sockets (`man 7 netlink`) for requests that the kernel answers before `sendmsg` returns, and for dumps.
//!
//! ```text
//! message     length u32 · type u16 · flags u16 · sequence u32 · port u32 · payload, padded to 4 bytes
//! NLMSG_ERROR payload: error i32 (0: done, else -errno) · header of the request · attributes (1: text for people)
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// Length of a message's header in bytes.
pub const HEADER: usize = 16;
/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`.
const TYPE_ERROR: u16 = 2;
/// `NLMSG_DONE`.
const TYPE_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
const ATTRIBUTE_TEXT: u16 = 1;
/// Room for one read: the kernel makes dumps no larger than this.
const READ_BYTES: usize = 64 << 10;

/// A subsystem of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes (`man 7 rtnetlink`).
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// A socket of one family, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
}

/// A received message without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type.
    pub kind: u16,
    /// Family header and attributes.
    pub payload: Vec<u8>,
}

/// One request that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The request's sequence number.
    pub sequence: u32,
    /// Positive error number.
    pub errno: i32,
    /// The kernel's explanation, often empty.
    pub text: String,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let error = Self::from_raw_os_error(refusal.errno);
        if refusal.text.is_empty() {
            return error;
        }
        Self::new(error.kind(), format!("{error}: {}", refusal.text))
    }
}

impl Socket {
    /// Opens a socket with extended error reports.
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            // NETLINK_ROUTE is protocol 0, which rustix has no name for.
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        // Texts are a comfort; sockets without them (before Linux 4.12) work as well. Cap: no copy of the request in answers.
        enable(&socket, libc::NETLINK_EXT_ACK)?;
        enable(&socket, libc::NETLINK_CAP_ACK)?;
        Ok(Self { socket })
    }

    /// Sends `requests`, one or more whole messages, and returns what was refused; empty when all was done.
    ///
    /// Only for families and messages that are worked off within the system call, as all changes of nftables, links,
    /// addresses and routes are. At least one message must ask for an acknowledgement.
    pub fn transact(&self, requests: &[u8]) -> io::Result<Vec<Refusal>> {
        self.send(requests)?;
        let mut refusals = Vec::new();
        let mut answered = false;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) if answered => return Ok(refusals),
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(io::Error::other("netlink request without an answer"));
                }
                Err(errno) => return Err(errno.into()),
            };
            answered = true;
            let received = buffer.get(..length).unwrap_or_default();
            for (header, payload) in messages(received) {
                if header.kind == TYPE_ERROR {
                    refusals.extend(refusal(header, payload));
                }
            }
        }
    }

    /// Sends one request with [`DUMP`] (or one that is answered by one message and an acknowledgement) and returns the answers.
    pub fn dump(&self, request: &[u8]) -> io::Result<Vec<Message>> {
        self.send(request)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for (header, payload) in messages(buffer.get(..length).unwrap_or_default()) {
                match header.kind {
                    TYPE_DONE => return Ok(answers),
                    TYPE_ERROR => {
                        return refusal(header, payload).map_or(Ok(answers), |r| Err(r.into()));
                    }
                    kind => answers.push(Message {
                        kind,
                        payload: payload.to_vec(),
                    }),
                }
            }
        }
    }

    /// Sends to the kernel, making room for a message of any size.
    fn send(&self, requests: &[u8]) -> io::Result<()> {
        if requests.len() > 64 << 10 {
            // The kernel refuses a message larger than the send buffer (net.core.wmem_default, 208 KiB) minus its overhead.
            rustix::net::sockopt::set_socket_send_buffer_size_force(
                &self.socket,
                requests.len() * 2,
            )?;
        }
        loop {
            match sendto(
                &self.socket,
                requests,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            ) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Turns on a netlink socket option.
#[expect(unsafe_code, reason = "no crate wraps the options of netlink sockets")]
fn enable(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: setsockopt(2) reads `size_of(c_int)` bytes at the pointer, which is to a live c_int; the descriptor is owned by
    // `socket`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fields of a header that matter to a reader.
#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u16,
    flags: u16,
}

/// Splits what one read returned into messages; stops at the first one that is cut short.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let message = bytes.get(HEADER..length)?;
        let header = Header {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, message))
    })
}

/// Decodes the payload of an `NLMSG_ERROR`; `None` for an acknowledgement.
fn refusal(header: Header, payload: &[u8]) -> Option<Refusal> {
    const TEXTS_FOLLOW: u16 = 0x200;
    let error = u32_at(payload, 0)?.cast_signed();
    if error == 0 {
        return None;
    }
    let text = (header.flags & TEXTS_FOLLOW != 0)
        .then(|| attributes(payload.get(4 + HEADER..).unwrap_or_default()))
        .into_iter()
        .flatten()
        .find(|(kind, _)| *kind == ATTRIBUTE_TEXT)
        .map(|(_, text)| {
            String::from_utf8_lossy(text)
                .trim_end_matches('\0')
                .to_owned()
        });
    Some(Refusal {
        sequence: u32_at(payload, 4 + 8).unwrap_or_default(),
        errno: error.saturating_neg(),
        text: text.unwrap_or_default(),
    })
}

/// Splits attributes (length u16 · type u16 · value, padded to 4 bytes) into type without flags, and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Returns the number of the host's byte order at `offset`.
fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_ne_bytes(field.try_into().ok()?))
}

/// Returns the number of the host's byte order at `offset`.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}
