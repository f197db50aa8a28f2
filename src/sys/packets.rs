//! Sockets that carry whole messages (`SOCK_SEQPACKET`), and descriptors inside them (`man 7 unix`, `SCM_RIGHTS`).
//!
//! Sockets with a name are reached through `/proc/self/fd/<directory>/<name>`, so that the 108 bytes of a socket address
//! suffice however deep the directory lies.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Most descriptors in one message; the kernel's bound is 253.
pub const DESCRIPTORS: usize = 200;

/// Longest message.
pub const MESSAGE_BYTES: usize = 64 * 1024;

/// Makes two connected sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Listens at `directory/name`, replacing what a dead process left there. Accepting does not wait.
pub fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let directory = fs_err::File::open(directory)?;
    match rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::bind(&socket, &address(directory.as_fd(), name)?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Connects to `directory/name`; `None` where nobody listens.
pub fn connect(directory: &Path, name: &str) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    let directory = match fs_err::File::open(directory) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let socket = socket(SocketFlags::CLOEXEC)?;
    match rustix::net::connect(&socket, &address(directory.as_fd(), name)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::CONNRESET) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the process that listens where `socket` has connected to, as of when it began to.
pub fn listener_pid(socket: impl AsFd) -> io::Result<i32> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(peer.pid.as_raw_nonzero().get())
}

/// Accepts a connection, whose reads do not wait; `None` where there is none.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends one message. Errors: the other end is closed (`EPIPE`), or the message is too long.
pub fn send(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::net::send(&socket, message, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Sends one message with at most [`DESCRIPTORS`] descriptors.
pub fn send_with(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if descriptors.is_empty() {
        return send(socket, message);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(message)];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// A message and the descriptors in it.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// The other end is closed.
    End,
    /// Nothing yet; only on a socket that does not wait.
    Nothing,
}

/// Receives one message, at most [`MESSAGE_BYTES`] long.
pub fn receive(socket: impl AsFd) -> io::Result<Received> {
    use rustix::io::Errno;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // MSG_PEEK|MSG_TRUNC tells the length first: a small message costs small memory.
    let mut none = [0_u8; 0];
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    let length = match rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut none, flags)) {
        Ok((_, length)) => length,
        Err(Errno::AGAIN) => return Ok(Received::Nothing),
        Err(Errno::CONNRESET) => return Ok(Received::End),
        Err(errno) => return Err(errno.into()),
    };
    let mut bytes = vec![0_u8; length.min(MESSAGE_BYTES)];
    let received = rustix::net::recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(Received::End);
    }
    bytes.truncate(received.bytes);
    Ok(Received::Message(bytes, descriptors))
}

/// Makes a socket.
fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Returns the address of `name` in `directory`.
fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_whole_however_long_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        fs_err::create_dir(&deep).unwrap();
        assert!(connect(&deep, "ctl").unwrap().is_none());
        let listener = listen(&deep, "ctl").unwrap();
        let client = connect(&deep, "ctl").unwrap().unwrap();
        let server = accept(&listener).unwrap().unwrap();
        assert!(matches!(receive(&server).unwrap(), Received::Nothing));
        let handed = vec![listener.as_fd(); 150];
        send_with(&client, b"hello", &handed).unwrap();
        send(&client, &[7; 3000]).unwrap();
        let Received::Message(text, descriptors) = receive(&server).unwrap() else {
            panic!("no message");
        };
        assert_eq!((text.as_slice(), descriptors.len()), (&b"hello"[..], 150));
        let Received::Message(text, _) = receive(&server).unwrap() else {
            panic!("no message");
        };
        assert_eq!(text.len(), 3000);
        drop(client);
        assert!(matches!(receive(&server).unwrap(), Received::End));
        drop(listener);
        drop(descriptors);
        assert!(connect(&deep, "ctl").unwrap().is_none());
    }
}
