//! The firewall table in the kernel: changed element by element, verified, and made again from the records when somebody
//! has removed it.
//!
//! The order is always: record first, then elements (added), or record first, then elements (deleted). A replacement reads the
//! records and commits under an exclusive lock, so that whatever the order of events, the table ends up as the records say.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::net::coexist;
use crate::net::conntrack;
use crate::net::error::{NetError, Warning};
use crate::net::nft::{self, Batch, Family, Refused};
use crate::net::ruleset::{self, Elements};
use crate::net::store::Store;
use crate::sys::lock::{Lock, Mode};
use crate::sys::netlink::{self, Socket};

/// The table of one instance.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: String,
    store: Store,
    /// Kept open: closing a socket waits some 12 ms for what was deleted through it.
    socket: Mutex<Option<Socket>>,
}

impl Firewall {
    /// Returns the table `stack-<instance>` of the records in `store`.
    pub(crate) fn new(instance: &str, store: Store) -> Self {
        Self {
            table: format!("stack-{instance}"),
            store,
            socket: Mutex::new(None),
        }
    }

    /// Adds elements whose records have been written.
    pub(crate) fn add(&self, elements: &Elements) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let lock = self.store.lock_firewall(Mode::Shared)?;
        let mut batch = Batch::new(Family::Inet);
        for (set, members) in elements {
            batch.add_elements(&self.table, set, members);
        }
        match self.commit(batch)? {
            Ok(()) => Ok(()),
            // No table, or another target under the same key: what the records do not know has no right to be there.
            Err(refused)
                if [libc::ENOENT, libc::EEXIST, libc::ENOTEMPTY].contains(&refused.errno) =>
            {
                drop(lock);
                self.replace()
            }
            Err(refused) => Err(self.failed(refused)),
        }
    }

    /// Deletes elements whose records have been removed; those that are gone are passed over.
    pub(crate) fn delete(&self, elements: &Elements) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let _lock = self.lock(Mode::Shared)?;
        self.delete_locked(elements)
    }

    /// Holds the table: nobody replaces it while it is shared, nobody changes it while it is exclusive.
    pub(crate) fn lock(&self, mode: Mode) -> Result<Lock, NetError> {
        self.store.lock_firewall(mode)
    }

    /// As [`Firewall::delete`], for who holds the table.
    pub(crate) fn delete_locked(&self, elements: &Elements) -> Result<(), NetError> {
        let mut batch = Batch::new(Family::Inet);
        for (set, members) in elements {
            batch.delete_elements(&self.table, set, members);
        }
        match self.commit(batch)? {
            Err(refused) if refused.errno == libc::ENOENT => self.delete_each(elements),
            result => result.map_err(|refused| self.failed(refused)),
        }
    }

    /// Deletes elements in a transaction each, as one that is missing spoils a common one.
    fn delete_each(&self, elements: &Elements) -> Result<(), NetError> {
        for (set, members) in elements {
            let mut batch = Batch::new(Family::Inet);
            batch.delete_elements(&self.table, set, members);
            match self.commit(batch)? {
                Err(refused) if refused.errno == libc::ENOENT => {}
                result => result.map_err(|refused| self.failed(refused))?,
            }
        }
        Ok(())
    }

    /// Verifies the table: makes it if it is missing or its rules have been changed, else adds whatever the records have.
    pub(crate) fn repair(&self) -> Result<Option<Warning>, NetError> {
        let found = self.with_socket(|socket| nft::read_table(socket, &self.table))?;
        let found = found.map_err(|source| self.failed_to("read the table", source))?;
        let is_whole = found.as_ref().is_some_and(|table| {
            table.comment.as_deref() == Some(ruleset::VERSION) && table.rules == ruleset::RULES
        });
        if is_whole {
            return self.add(&self.wanted()?).map(|()| None);
        }
        self.replace()?;
        let known = !self.store.publications()?.is_empty() || found.is_some();
        Ok(known.then(|| Warning::TableRestored(self.table.clone())))
    }

    /// Puts the table as the records want it in place of what there is, in one transaction.
    pub(crate) fn replace(&self) -> Result<(), NetError> {
        let _lock = self.store.lock_firewall(Mode::Exclusive)?;
        let wanted = self.wanted()?;
        let mut batch = Batch::new(Family::Inet);
        batch.add_table(&self.table, "");
        batch.delete_table(&self.table);
        ruleset::base(&mut batch, &self.table);
        for (set, members) in &wanted {
            batch.add_elements(&self.table, set, members);
        }
        self.commit(batch)?.map_err(|refused| self.failed(refused))
    }

    /// Removes the table, and our rules from other tables, for who holds the table alone; closes the socket.
    pub(crate) fn remove_locked(&self) -> Vec<NetError> {
        let mut batch = Batch::new(Family::Inet);
        batch.delete_table(&self.table);
        let removed = self.commit(batch).and_then(|result| match result {
            Err(refused) if refused.errno == libc::ENOENT => Ok(()),
            result => result.map_err(|refused| self.failed(refused)),
        });
        let others = self.with_socket(|socket| coexist::withdraw(socket, &self.table));
        let others = others.and_then(|result| {
            result.map_err(|source| self.failed_to("remove our rules from DOCKER-USER", source))
        });
        // Here it costs nobody time: the links are deleted meanwhile.
        drop(self.socket.lock().map(|mut socket| socket.take()));
        removed.err().into_iter().chain(others.err()).collect()
    }

    /// Gets on with the host's other firewalls; `links` is the pattern of our links, as `s1a2b*`.
    pub(crate) fn coexist(&self, links: &str, has_ipv6: bool) -> Result<Vec<Warning>, NetError> {
        self.with_socket(|socket| coexist::arrange(socket, &self.table, links, has_ipv6))?
            .map_err(|source| self.failed_to("read the host's other tables", source))
    }

    /// Forgets that datagrams of clients were redirected to `addresses`; after their elements are deleted.
    pub(crate) fn forget_datagrams(&self, addresses: &[IpAddr]) -> Result<(), NetError> {
        if addresses.is_empty() {
            return Ok(());
        }
        self.with_socket(|socket| conntrack::forget_datagrams(socket, addresses))?
            .map_err(|source| self.failed_to("forget tracked datagrams", source))
    }

    /// Returns the elements that the records want, members of one set together.
    fn wanted(&self) -> Result<Elements, NetError> {
        let networks = self.store.networks()?;
        let publications = self.store.publications()?;
        let of_networks = networks.iter().flat_map(ruleset::network_elements);
        let of_ports = publications.iter().flat_map(ruleset::publication_elements);
        let mut wanted = Elements::new();
        for (set, members) in of_networks.chain(of_ports) {
            match wanted.iter_mut().find(|(name, _)| *name == set) {
                Some((_, all)) => all.extend(members),
                None => wanted.push((set, members)),
            }
        }
        Ok(wanted)
    }

    /// Commits through the open socket.
    fn commit(&self, batch: Batch) -> Result<Result<(), Refused>, NetError> {
        if batch.is_empty() {
            return Ok(Ok(()));
        }
        self.with_socket(|socket| batch.commit(socket))
    }

    /// Lends the socket, opening it first if need be.
    fn with_socket<T>(&self, action: impl FnOnce(&Socket) -> T) -> Result<T, NetError> {
        let mut guard = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match guard.take() {
            Some(socket) => socket,
            None => Socket::open(netlink::Family::Netfilter)
                .map_err(|source| self.failed_to("open a netlink socket", source))?,
        };
        Ok(action(guard.insert(socket)))
    }

    fn failed(&self, refused: Refused) -> NetError {
        NetError::Firewall {
            table: self.table.clone(),
            attempt: refused.attempt,
            source: refused.source,
        }
    }

    fn failed_to(&self, attempt: &str, source: std::io::Error) -> NetError {
        NetError::Firewall {
            table: self.table.clone(),
            attempt: attempt.to_owned(),
            source,
        }
    }
}
