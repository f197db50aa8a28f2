//! The socket between a caller and the process it is starting.
//!
//! A `SOCK_SEQPACKET` pair, closed on exec at both ends; one message a packet:
//!
//! ```text
//! to the child    g                                        go on: control group, id maps and oom_score_adj are set
//! to the caller   p  (one descriptor by SCM_RIGHTS)        from the one between: the child, as a pidfd
//!                 t  (one descriptor by SCM_RIGHTS)        master of the terminal
//!                 w  text                                  a default that could not be had
//!                 x                                        everything is done but execve
//!                 f  kind: u8  errno: i32 LE  text         failed; text says what was attempted, or why not
//! ```
//!
//! The end of file after `x` means that the command runs; without `x`, that the child died.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest text of a message; longer ones are cut.
const MAX_TEXT: usize = 4000;

/// What comes to the caller.
#[derive(Debug)]
pub(crate) enum Message {
    /// The child as a pidfd, from the process between.
    Child(OwnedFd),
    /// The master end of its terminal.
    Terminal(OwnedFd),
    /// A default that could not be had.
    Warning(String),
    /// Everything is done but `execve`.
    Ready,
    /// It did not work.
    Failed(Failure),
}

/// Why the child gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which kind of error the caller makes of it.
    pub(crate) kind: FailureKind,
    /// The kernel's reason; 0 where there is none.
    pub(crate) errno: i32,
    /// What was attempted on what, or why it was refused.
    pub(crate) text: String,
}

/// Kinds of failure, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A system call failed.
    Step = 0,
    /// A rule of ours.
    Refused = 1,
    /// `execve` failed; `text` is empty.
    Execute = 2,
    /// `execve` found the file but not its interpreter; `text` is empty.
    Interpreter = 3,
}

impl FailureKind {
    /// Reads the byte of the wire.
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Step, Self::Refused, Self::Execute, Self::Interpreter]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct CallerEnd(OwnedFd);

/// The child's end, also held by the process between.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

/// Makes both ends.
pub(crate) fn pair() -> io::Result<(CallerEnd, ChildEnd)> {
    let (caller, child) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((CallerEnd(caller), ChildEnd(child)))
}

impl CallerEnd {
    /// Lets the child go on; one that has died is found by [`Self::receive`].
    pub(crate) fn go(&self) -> io::Result<()> {
        match send(self.0.as_fd(), b"g", None) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Waits for the next message; `None` when all holders of the other end have executed or died.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0_u8; MAX_TEXT + 16];
        let read = rustix::io::retry_on_intr(|| {
            recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let length = match read {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match bytes.get(..length) {
            None | Some([]) => Ok(None),
            Some(packet) => parse(packet, descriptor)
                .map(Some)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

impl ChildEnd {
    /// Takes over a descriptor that is known to be this end.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the descriptor up.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Waits for the caller; `false` if it is gone.
    pub(crate) fn wait_for_go(&self) -> io::Result<bool> {
        let mut byte = [0_u8; 1];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut byte))?;
        Ok(read == 1)
    }

    /// Sends the child. Its id would be one of the sender's pid namespace.
    pub(crate) fn send_child(&self, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        send(self.0.as_fd(), b"p", Some(pidfd))
    }

    /// Sends the master end of the terminal.
    pub(crate) fn send_terminal(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        send(self.0.as_fd(), b"t", Some(master))
    }

    /// Sends a warning.
    pub(crate) fn send_warning(&self, text: &str) -> io::Result<()> {
        send(self.0.as_fd(), &packet(b'w', &[], text), None)
    }

    /// Says that only `execve` is left.
    pub(crate) fn send_ready(&self) -> io::Result<()> {
        send(self.0.as_fd(), b"x", None)
    }

    /// Says why it did not work.
    pub(crate) fn send_failure(&self, failure: &Failure) -> io::Result<()> {
        let mut head = vec![failure.kind as u8];
        head.extend(failure.errno.to_le_bytes());
        send(self.0.as_fd(), &packet(b'f', &head, &failure.text), None)
    }
}

/// Puts a packet together.
fn packet(tag: u8, head: &[u8], text: &str) -> Vec<u8> {
    let mut packet = vec![tag];
    packet.extend(head);
    packet.extend(text.bytes().take(MAX_TEXT));
    packet
}

/// Sends a packet, with a descriptor where there is one.
fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let Some(descriptor) = descriptor else {
        // A filter of the user's may forbid `sendmsg` by now, but hardly `write`.
        rustix::io::retry_on_intr(|| rustix::io::write(socket, packet))?;
        return Ok(());
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(packet)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Reads a packet; `None` if it is none of ours.
fn parse(packet: &[u8], descriptor: Option<OwnedFd>) -> Option<Message> {
    let (tag, rest) = packet.split_first()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match tag {
        b'p' => Some(Message::Child(descriptor?)),
        b't' => Some(Message::Terminal(descriptor?)),
        b'w' => Some(Message::Warning(text(rest))),
        b'x' => Some(Message::Ready),
        b'f' => {
            let (kind, rest) = rest.split_first()?;
            let (errno, rest) = rest.split_first_chunk::<4>()?;
            Some(Message::Failed(Failure {
                kind: FailureKind::from_byte(*kind)?,
                errno: i32::from_le_bytes(*errno),
                text: text(rest),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (caller, child) = pair().unwrap();
        caller.go().unwrap();
        assert!(child.wait_for_go().unwrap());
        let failure = Failure {
            kind: FailureKind::Interpreter,
            errno: 2,
            text: "mount proc on /proc".to_owned(),
        };
        child.send_child(io::stdin().as_fd()).unwrap();
        child.send_terminal(io::stdin().as_fd()).unwrap();
        child.send_warning("nofile").unwrap();
        child.send_ready().unwrap();
        child.send_failure(&failure).unwrap();
        drop(child);
        assert!(matches!(caller.receive().unwrap(), Some(Message::Child(_))));
        assert!(matches!(
            caller.receive().unwrap(),
            Some(Message::Terminal(_))
        ));
        assert!(
            matches!(caller.receive().unwrap(), Some(Message::Warning(text)) if text == "nofile")
        );
        assert!(matches!(caller.receive().unwrap(), Some(Message::Ready)));
        assert!(
            matches!(caller.receive().unwrap(), Some(Message::Failed(found)) if found == failure)
        );
        assert!(caller.receive().unwrap().is_none());
    }
}
