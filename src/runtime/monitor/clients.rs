//! The monitor's end of the control socket ([`crate::runtime::attach`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::runtime::attach::{Answer, Request, SOCKET};
use crate::sys::packets::{self, Received};
use crate::sys::poll::Poll;

/// Most connections at a time; more are closed at once.
const MOST: usize = 64;

/// First number of a connection in the set.
pub(crate) const FIRST: u64 = 1000;

/// Everyone who is connected.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: OwnedFd,
    connected: Vec<Client>,
    next: u64,
}

/// One connection.
#[derive(Debug)]
struct Client {
    number: u64,
    socket: OwnedFd,
    /// Waits for the new init.
    waits_for_restart: bool,
}

impl Clients {
    /// Listens in `directory`.
    pub(crate) fn listen(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            listener: packets::listen(directory, SOCKET)?,
            connected: Vec::new(),
            next: FIRST,
        })
    }

    /// Accepts one connection.
    pub(crate) fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        let Some(socket) = packets::accept(&self.listener)? else {
            return Ok(());
        };
        if self.connected.len() < MOST {
            let number = self.next;
            self.next = number.wrapping_add(1).max(FIRST);
            poll.add(&socket, number)?;
            self.connected.push(Client {
                number,
                socket,
                waits_for_restart: false,
            });
        }
        Ok(())
    }

    /// Takes the next request of connection `number`; closes it at its end, or when what it says makes no sense.
    pub(crate) fn take(&mut self, number: u64) -> Option<Request> {
        let index = self.connected.iter().position(|c| c.number == number)?;
        let client = self.connected.get_mut(index)?;
        let request: Option<Request> = match packets::receive(&client.socket) {
            Ok(Received::Nothing) => return None,
            Ok(Received::Message(bytes, _)) => serde_json::from_slice(&bytes).ok(),
            Ok(Received::End) | Err(_) => None,
        };
        match &request {
            Some(Request::Restart { .. }) => client.waits_for_restart = true,
            Some(
                Request::Watch
                | Request::Stop { .. }
                | Request::IsStopping
                | Request::Resize { .. },
            ) => {}
            None => {
                self.connected.swap_remove(index);
            }
        }
        request
    }

    /// Answers connection `number`.
    pub(crate) fn answer(&mut self, number: u64, answer: &Answer) {
        self.answer_all(|client| client.number == number, answer);
    }

    /// Answers everyone who waits for a restart.
    pub(crate) fn answer_restarts(&mut self, answer: &Answer) {
        self.answer_all(|client| client.waits_for_restart, answer);
    }

    /// Answers those whom `which` names; whoever cannot take it is closed.
    fn answer_all(&mut self, which: impl Fn(&Client) -> bool, answer: &Answer) {
        let Ok(message) = serde_json::to_vec(answer) else {
            return;
        };
        self.connected.retain_mut(|client| {
            let chosen = which(client);
            client.waits_for_restart &= !chosen;
            !chosen || packets::send(&client.socket, &message).is_ok()
        });
    }
}

impl AsFd for Clients {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
