//! nftables messages, encoded here because no kept library has what is needed (NAT, fib, concatenations).
//!
//! A batch is one transaction: all of it happens or nothing. On the wire, each message being a netlink message
//! (`crate::sys::netlink`) whose payload starts with family u8 · version u8 · resource id u16 (big endian):
//!
//! ```text
//! BATCH_BEGIN(subsystem) · (subsystem<<8 | NEWTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, DEL…)* · BATCH_END
//! attribute   length u16 · type u16 (0x8000: nested) · value, padded to 4; numbers are big endian
//! rule        table · chain · expressions [ { name, data [ … ] }, … ] worked off left to right over registers
//! ```
//!
//! Registers: 1 to 4 are 16 bytes each; 8 to 23 are the same memory in words of 4 bytes. A concatenation is laid out in
//! consecutive words. Numbers are those of `linux/netfilter/nf_tables.h`.

mod attributes;
mod expression;
mod query;

use std::io;

pub(crate) use attributes::Attributes;
pub(crate) use expression::{Compare, Meta, Side, Verdict, WORD, interface};
#[cfg(test)]
pub(crate) use query::TableFound;
pub(crate) use query::{ChainFound, read_chains, read_rules, read_table};

use attributes::{comment_data, patch, size32, write_header};

use crate::sys::netlink::{ACK, APPEND, CREATE, Socket};

/// `NFNL_SUBSYS_NFTABLES` in the upper byte of a message type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 0x11;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NFNL_MSG…` numbers.
mod message {
    pub(super) const NEWTABLE: u16 = 0;
    pub(super) const GETTABLE: u16 = 1;
    pub(super) const DELTABLE: u16 = 2;
    pub(super) const NEWCHAIN: u16 = 3;
    pub(super) const GETCHAIN: u16 = 4;
    pub(super) const NEWRULE: u16 = 6;
    pub(super) const GETRULE: u16 = 7;
    pub(super) const DELRULE: u16 = 8;
    pub(super) const NEWSET: u16 = 9;
    pub(super) const NEWSETELEM: u16 = 12;
    pub(super) const DELSETELEM: u16 = 14;
}

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 and IPv6 together.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// A data type, as `nft` numbers them, and its length in bytes when it stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataType(u32, u32);

impl DataType {
    /// `ipv4_addr`.
    pub(crate) const IPV4: Self = Self(7, 4);
    /// `ipv6_addr`.
    pub(crate) const IPV6: Self = Self(8, 16);
    /// `inet_proto`.
    pub(crate) const PROTOCOL: Self = Self(12, 1);
    /// `inet_service`.
    pub(crate) const PORT: Self = Self(13, 2);
    /// `ifname`.
    pub(crate) const INTERFACE: Self = Self(41, 16);

    /// Returns type number (6 bits a component) and length (each component padded to 4 bytes) of a concatenation.
    fn concatenated(parts: &[Self]) -> (u32, u32) {
        match parts {
            [Self(kind, length)] => (*kind, *length),
            _ => parts.iter().fold((0, 0), |(kinds, length), part| {
                (kinds << 6 | part.0, length + part.1.next_multiple_of(4))
            }),
        }
    }
}

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub(crate) number: u32,
    /// Lower runs earlier.
    pub(crate) priority: i32,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Concatenated key, each component padded to 4 bytes.
    pub(crate) key: Vec<u8>,
    /// Concatenated value, in a map.
    pub(crate) value: Option<Vec<u8>>,
    /// First address after an interval, not one of it.
    pub(crate) interval_end: bool,
}

/// One transaction under construction.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    family: Family,
    /// What each message does, for error reports; the sequence number of message `n` is `n + 1`.
    attempts: Vec<String>,
}

/// A transaction that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The first refused message's purpose.
    pub(crate) attempt: String,
    /// The kernel's answer; `raw_os_error` of `errno`.
    pub(crate) errno: i32,
    /// As an error.
    pub(crate) source: io::Error,
}

impl Batch {
    /// Starts a transaction on tables of `family`.
    pub(crate) fn new(family: Family) -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(4096),
            family,
            attempts: Vec::new(),
        };
        batch.header(BATCH_BEGIN, 0, 0);
        batch
    }

    /// Returns whether nothing has been added.
    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Sends the transaction.
    pub(crate) fn commit(mut self, socket: &Socket) -> Result<(), Refused> {
        self.header(BATCH_END, 0, 0);
        let refused = socket.transact(&self.bytes).map_err(|source| Refused {
            attempt: "send a transaction".to_owned(),
            errno: source.raw_os_error().unwrap_or_default(),
            source,
        })?;
        let Some(first) = refused.into_iter().next() else {
            return Ok(());
        };
        let index = (first.sequence as usize).wrapping_sub(1);
        Err(Refused {
            attempt: self
                .attempts
                .get(index)
                .cloned()
                .unwrap_or_else(|| "commit a transaction".to_owned()),
            errno: first.errno,
            source: first.into(),
        })
    }

    /// Adds a table; it may exist. `comment` is shown by `nft list`.
    pub(crate) fn add_table(&mut self, table: &str, comment: &str) {
        self.message(
            message::NEWTABLE,
            CREATE,
            format!("add table {table}"),
            |m| {
                m.text(1, table)
                    .number(2, 0)
                    .bytes(6, &comment_data(comment));
            },
        );
    }

    /// Removes a table with all that is in it.
    pub(crate) fn delete_table(&mut self, table: &str) {
        self.message(message::DELTABLE, 0, format!("delete table {table}"), |m| {
            m.text(1, table);
        });
    }

    /// Adds a chain; with a hook it is a base chain with policy accept.
    pub(crate) fn add_chain(&mut self, table: &str, chain: &str, hook: Option<Hook>) {
        self.message(
            message::NEWCHAIN,
            CREATE,
            format!("add chain {chain}"),
            |m| {
                m.text(1, table).text(3, chain);
                if let Some(hook) = hook {
                    m.nested(4, |m| {
                        m.number(1, hook.number)
                            .number(2, hook.priority.cast_unsigned());
                    })
                    .number(5, 1)
                    .text(7, hook.kind);
                }
            },
        );
    }

    /// Adds a set with keys of type `key`, or a map to `value`; `interval`: of ranges of addresses.
    pub(crate) fn add_set(
        &mut self,
        table: &str,
        name: &str,
        key: &[DataType],
        value: Option<&[DataType]>,
        interval: bool,
    ) {
        const HOST_ENDIAN: u32 = 1;
        const INTERVAL: u32 = 0x4;
        const MAP: u32 = 0x8;
        let id = size32(self.attempts.len()) + 1;
        let flags = if interval { INTERVAL } else { 0 } | if value.is_some() { MAP } else { 0 };
        let (key_type, key_length) = DataType::concatenated(key);
        self.message(message::NEWSET, CREATE, format!("add set {name}"), |m| {
            m.text(1, table)
                .text(2, name)
                .number(3, flags)
                .number(4, key_type)
                .number(5, key_length);
            if let Some((kind, length)) = value.map(DataType::concatenated) {
                m.number(6, kind).number(7, length);
            }
            m.number(10, id);
            if key == [DataType::INTERFACE] {
                // For `nft list` alone: names are in the host's byte order (libnftnl: NFTNL_UDATA_SET_KEYBYTEORDER).
                let [a, b, c, d] = HOST_ENDIAN.to_ne_bytes();
                m.bytes(13, &[0, 4, a, b, c, d]);
            }
        });
    }

    /// Adds elements; those that exist with the same value stay.
    pub(crate) fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(message::NEWSETELEM, CREATE, "add", (table, set), elements);
    }

    /// Deletes elements; all of them must exist.
    pub(crate) fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(message::DELSETELEM, 0, "delete", (table, set), elements);
    }

    /// Encodes elements, in messages whose nested list fits the 16 bits of its length.
    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        verb: &str,
        place: (&str, &str),
        elements: &[Element],
    ) {
        const IN_ONE_MESSAGE: usize = 400;
        let (table, set) = place;
        for part in elements.chunks(IN_ONE_MESSAGE) {
            let list = |m: &mut Attributes<'_>| part.iter().for_each(|element| m.element(element));
            self.message(kind, flags, format!("{verb} elements of {set}"), |m| {
                m.text(1, table).text(2, set).nested(3, list);
            });
        }
    }

    /// Appends a rule made by `expressions`; `syntax` is the rule as `nft` writes it, for error reports.
    pub(crate) fn add_rule(
        &mut self,
        table: &str,
        chain: &str,
        syntax: &str,
        expressions: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.message(
            message::NEWRULE,
            CREATE | APPEND,
            format!("add rule {chain}: {syntax}"),
            |m| {
                m.text(1, table).text(2, chain).nested(4, expressions);
            },
        );
    }

    /// Puts a rule with a comment before all others of the chain.
    pub(crate) fn insert_rule(
        &mut self,
        (table, chain): (&str, &str),
        comment: &str,
        expressions: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.message(
            message::NEWRULE,
            CREATE,
            format!("insert rule into {chain}"),
            |m| {
                m.text(1, table)
                    .text(2, chain)
                    .nested(4, expressions)
                    .bytes(7, &comment_data(comment));
            },
        );
    }

    /// Deletes the rule with `handle`.
    pub(crate) fn delete_rule(&mut self, table: &str, chain: &str, handle: u64) {
        self.message(
            message::DELRULE,
            0,
            format!("delete rule {handle} of {chain}"),
            |m| {
                m.text(1, table)
                    .text(2, chain)
                    .bytes(3, &handle.to_be_bytes());
            },
        );
    }

    /// Adds one message; every one asks for an acknowledgement, so that each refusal is told.
    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        attempt: String,
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.attempts.push(attempt);
        let start = self.header(SUBSYSTEM | kind, flags | ACK, size32(self.attempts.len()));
        body(&mut Attributes::new(&mut self.bytes));
        let length = size32(self.bytes.len() - start);
        patch(&mut self.bytes, start, &length.to_ne_bytes());
    }

    /// Writes a header whose length is that of the header alone and returns its offset.
    fn header(&mut self, kind: u16, flags: u16, sequence: u32) -> usize {
        let start = self.bytes.len();
        let is_bound = kind == BATCH_BEGIN || kind == BATCH_END;
        let (family, resource) = if is_bound {
            (0, SUBSYSTEM >> 8)
        } else {
            (self.family as u8, 0)
        };
        write_header(&mut self.bytes, kind, flags, sequence);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        start
    }
}
