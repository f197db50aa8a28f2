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

use std::io;

use crate::sys::netlink::{
    ACK, APPEND, CREATE, DUMP, HEADER, Message, REQUEST, Socket, attributes,
};

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
        let id = self.attempts.len() as u32 + 1;
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
            self.message(kind, flags, format!("{verb} elements of {set}"), |m| {
                m.text(1, table).text(2, set).nested(3, |m| {
                    for element in part {
                        m.nested(1, |m| {
                            m.element(element);
                        });
                    }
                });
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
        let start = self.header(SUBSYSTEM | kind, flags | ACK, self.attempts.len() as u32);
        body(&mut Attributes {
            bytes: &mut self.bytes,
        });
        let length = (self.bytes.len() - start) as u32;
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

/// Writes a netlink header for a message with nothing but a netfilter header.
fn write_header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) {
    bytes.extend((HEADER as u32 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
}

/// Overwrites bytes at `offset`, which have been written before.
fn patch(bytes: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
        place.copy_from_slice(field);
    }
}

/// User data that `nft` and `iptables` show as a comment: type u8 (0) · length u8 · text with a final NUL.
fn comment_data(comment: &str) -> Vec<u8> {
    let text = comment
        .as_bytes()
        .get(..comment.len().min(120))
        .unwrap_or_default();
    let mut data = vec![0, text.len() as u8 + 1];
    data.extend(text);
    data.push(0);
    data
}

/// Returns the text of [`comment_data`].
fn comment_text(data: &[u8]) -> Option<&str> {
    let (&[0, length], rest) = data.split_first_chunk::<2>()? else {
        return None;
    };
    std::str::from_utf8(rest.get(..usize::from(length).checked_sub(1)?)?).ok()
}

/// A writer of attributes at the end of a message.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// Writes raw bytes.
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    /// Writes a number, big endian.
    fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Writes a string with its final NUL.
    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes.extend((value.len() as u16 + 5).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.pad();
        self
    }

    /// Writes what `content` writes, as one attribute.
    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        content(&mut Attributes { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        patch(self.bytes, start, &length.to_ne_bytes());
        self
    }

    /// Writes one element: key { value }, data { value }, flags.
    fn element(&mut self, element: &Element) -> &mut Self {
        const INTERVAL_END: u32 = 1;
        self.nested(1, |m| {
            m.bytes(1, &element.key);
        });
        if let Some(value) = &element.value {
            self.nested(2, |m| {
                m.bytes(1, value);
            });
        }
        if element.interval_end {
            self.number(3, INTERVAL_END);
        }
        self
    }

    /// Pads to 4 bytes.
    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

/// A key of `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    /// `iifname`.
    InputName = 6,
    /// `oifname`.
    OutputName = 7,
    /// `nfproto`.
    Family = 15,
    /// `l4proto`.
    Protocol = 16,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Leave this base chain.
    Accept,
    /// Gone.
    Drop,
    /// Go on in another chain, and return.
    Jump(&'a str),
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// The expressions of a rule. Words of registers are numbered from [`WORD`].
impl Attributes<'_> {
    /// Compares `iifname` or `oifname` with a name, or its beginning where `name` ends in `*`.
    pub(crate) fn link(&mut self, key: Meta, compare: Compare, name: &str) -> &mut Self {
        let value = match name.strip_suffix('*') {
            Some(prefix) => prefix.as_bytes().to_vec(),
            None => interface(name),
        };
        self.meta(key, FIRST).compare(compare, &value)
    }

    /// Compares `iifname` or `oifname` with the members of a set.
    pub(crate) fn link_in(&mut self, key: Meta, compare: Compare, set: &str) -> &mut Self {
        self.meta(key, FIRST).member(compare, set, FIRST)
    }

    /// `ip saddr`, `ip daddr`, `ip6 saddr`, `ip6 daddr` into the words from `word` on, of packets of that family only.
    pub(crate) fn address(&mut self, family: Family, side: Side, word: u32) -> &mut Self {
        const NETWORK_HEADER: u32 = 1;
        let (offset, length) = match (family, side) {
            (Family::Ip6, Side::Source) => (8, 16),
            (Family::Ip6, Side::Destination) => (24, 16),
            (_, Side::Source) => (12, 4),
            (_, Side::Destination) => (16, 4),
        };
        self.of_family(family)
            .payload(NETWORK_HEADER, (offset, length), word)
    }

    /// `ip daddr 127.0.0.0/8`, after [`Self::of_family`].
    pub(crate) fn loopback_destination(&mut self) -> &mut Self {
        const NETWORK_HEADER: u32 = 1;
        self.payload(NETWORK_HEADER, (16, 1), FIRST)
            .compare(Compare::Equal, &[127])
    }

    /// `meta nfproto ipv4` or `ipv6`: what `inet` tables need before a look at addresses.
    pub(crate) fn of_family(&mut self, family: Family) -> &mut Self {
        self.meta(Meta::Family, FIRST)
            .compare(Compare::Equal, &[family as u8])
    }

    /// `meta l4proto` into `word` and `th dport` into the word after it.
    pub(crate) fn protocol_and_port(&mut self, word: u32) -> &mut Self {
        const TRANSPORT_HEADER: u32 = 2;
        self.meta(Meta::Protocol, word)
            .payload(TRANSPORT_HEADER, (2, 2), word + 1)
    }

    /// Goes on where what is read from `word` on is (or is not) a member of `set`.
    pub(crate) fn member(&mut self, compare: Compare, set: &str, word: u32) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(1, set).number(2, word).number(5, compare as u32);
        })
    }

    /// Replaces what is read from [`WORD`] on by its value in `map`, or ends the rule.
    pub(crate) fn mapped(&mut self, map: &str) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(1, map).number(2, WORD).number(3, WORD);
        })
    }

    /// `dnat` to the address of `family` from [`WORD`] on and the port after it.
    pub(crate) fn dnat(&mut self, family: Family) -> &mut Self {
        const DESTINATION: u32 = 1;
        let words = if family == Family::Ip6 { 4 } else { 1 };
        self.expression("nat", |m| {
            m.number(1, DESTINATION)
                .number(2, family as u32)
                .number(3, WORD)
                .number(5, WORD + words);
        })
    }

    /// `th dport` into register 1.
    pub(crate) fn destination_port(&mut self) -> &mut Self {
        const TRANSPORT_HEADER: u32 = 2;
        self.payload(TRANSPORT_HEADER, (2, 2), FIRST)
    }

    /// `dnat to :port`: the address stays.
    pub(crate) fn dnat_to_port(&mut self, port: u16) -> &mut Self {
        const DESTINATION: u32 = 1;
        self.expression("immediate", |m| {
            m.number(1, FIRST).nested(2, |m| {
                m.bytes(1, &port.to_be_bytes());
            });
        })
        .expression("nat", |m| {
            m.number(1, DESTINATION).number(2, Family::Ip as u32).number(5, FIRST);
        })
    }

    /// `masquerade`.
    pub(crate) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    /// `fib saddr type local` or `fib daddr type local`.
    pub(crate) fn is_local(&mut self, side: Side) -> &mut Self {
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        let flag = match side {
            Side::Source => 1,
            Side::Destination => 2,
        };
        self.expression("fib", |m| {
            m.number(1, FIRST).number(2, ADDRESS_TYPE).number(3, flag);
        })
        .compare(Compare::Equal, &LOCAL.to_ne_bytes())
    }

    /// `ct state established,related`.
    pub(crate) fn is_reply(&mut self) -> &mut Self {
        const STATE: u32 = 0;
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        self.connection(STATE, ESTABLISHED_OR_RELATED)
    }

    /// `ct status dnat`.
    pub(crate) fn was_redirected(&mut self) -> &mut Self {
        const STATUS: u32 = 2;
        const DESTINATION_CHANGED: u32 = 32;
        self.connection(STATUS, DESTINATION_CHANGED)
    }

    /// `counter`.
    pub(crate) fn counter(&mut self) -> &mut Self {
        self.expression("counter", |_| {})
    }

    /// Ends the rule.
    pub(crate) fn verdict(&mut self, verdict: Verdict<'_>) -> &mut Self {
        const VERDICT_REGISTER: u32 = 0;
        let (code, chain) = match verdict {
            Verdict::Accept => (1, None),
            Verdict::Drop => (0, None),
            Verdict::Jump(chain) => (-3_i32, Some(chain)),
        };
        self.expression("immediate", |m| {
            m.number(1, VERDICT_REGISTER).nested(2, |m| {
                m.nested(2, |m| {
                    m.number(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        m.text(2, chain);
                    }
                });
            });
        })
    }

    /// Puts what `key` names into `word`.
    pub(crate) fn meta(&mut self, key: Meta, word: u32) -> &mut Self {
        self.expression("meta", |m| {
            m.number(1, word).number(2, key as u32);
        })
    }

    /// Goes on where register 1 is (or is not) `value`.
    pub(crate) fn compare(&mut self, compare: Compare, value: &[u8]) -> &mut Self {
        self.expression("cmp", |m| {
            m.number(1, FIRST).number(2, compare as u32).nested(3, |m| {
                m.bytes(1, value);
            });
        })
    }

    /// Goes on where a connection's `key` has one of the bits of `mask`.
    fn connection(&mut self, key: u32, mask: u32) -> &mut Self {
        self.expression("ct", |m| {
            m.number(1, FIRST).number(2, key);
        })
        .expression("bitwise", |m| {
            m.number(1, FIRST)
                .number(2, FIRST)
                .number(3, 4)
                .nested(4, |m| {
                    m.bytes(1, &mask.to_ne_bytes());
                })
                .nested(5, |m| {
                    m.bytes(1, &[0; 4]);
                });
        })
        .compare(Compare::Different, &[0; 4])
    }

    /// Puts `(offset, length)` bytes of a header into `word` and the following.
    fn payload(&mut self, base: u32, (offset, length): (u32, u32), word: u32) -> &mut Self {
        self.expression("payload", |m| {
            m.number(1, word)
                .number(2, base)
                .number(3, offset)
                .number(4, length);
        })
    }

    /// Writes one expression.
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.nested(1, |m| {
            m.text(1, name).nested(2, data);
        })
    }
}

/// First word register; the words 8 to 11 are register 1.
pub(crate) const WORD: u32 = 8;
/// The first register as a whole.
const FIRST: u32 = 1;

/// How a register is compared; the numbers of `cmp`, and of `lookup`'s flag to invert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Equal, or a member.
    Equal = 0,
    /// Different, or not a member.
    Different = 1,
}

/// Returns a link's name as keys of type `ifname` have it: 16 bytes, padded with NULs.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// A table that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFound {
    /// Its comment.
    pub(crate) comment: Option<String>,
    /// Number of rules in its chains.
    pub(crate) rules: usize,
}

/// A base chain that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainFound {
    /// Address family of its table: 1 inet, 2 ip, 10 ip6.
    pub(crate) family: u8,
    /// Its table.
    pub(crate) table: String,
    /// Its name.
    pub(crate) name: String,
    /// Hook number where it is a base chain: 2 for forward.
    pub(crate) hook: Option<u32>,
    /// Whether its policy is drop.
    pub(crate) drops: bool,
}

/// A rule that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleFound {
    /// The kernel's number for it.
    pub(crate) handle: u64,
    /// Its comment.
    pub(crate) comment: Option<String>,
}

/// Returns the inet table, or `None` where there is none.
pub(crate) fn read_table(socket: &Socket, table: &str) -> io::Result<Option<TableFound>> {
    let request = request(message::GETTABLE, ACK, Family::Inet as u8, |m| {
        m.text(1, table);
    });
    let answers = match socket.dump(&request) {
        Ok(answers) => answers,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let comment = answers.iter().find_map(|m| comment_of(m, 6));
    let rules = read_rules(socket, Family::Inet, table, None)?.len();
    Ok(Some(TableFound { comment, rules }))
}

/// Returns the rules of a table, or of one chain of it; none where there is no such table or chain.
pub(crate) fn read_rules(
    socket: &Socket,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> io::Result<Vec<RuleFound>> {
    let request = request(message::GETRULE, DUMP, family as u8, |m| {
        m.text(1, table);
        if let Some(chain) = chain {
            m.text(2, chain);
        }
    });
    let answers = match socket.dump(&request) {
        Ok(answers) => answers,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // Kernels without the filter return every table's rules.
    let of_table = |m: &&Message| {
        text_of(m, 1).as_deref() == Some(table)
            && chain.is_none_or(|c| text_of(m, 2).as_deref() == Some(c))
    };
    let found = answers.iter().filter(of_table).map(|m| RuleFound {
        handle: value_of(m, 3)
            .and_then(|v| v.try_into().ok())
            .map_or(0, u64::from_be_bytes),
        comment: comment_of(m, 7),
    });
    Ok(found.collect())
}

/// Returns every chain of every table.
pub(crate) fn read_chains(socket: &Socket) -> io::Result<Vec<ChainFound>> {
    let answers = socket.dump(&request(message::GETCHAIN, DUMP, 0, |_| {}))?;
    let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
    let chains = answers.iter().map(|m| ChainFound {
        family: m.payload.first().copied().unwrap_or_default(),
        table: text_of(m, 1).unwrap_or_default(),
        name: text_of(m, 3).unwrap_or_default(),
        hook: value_of(m, 4).and_then(|hook| {
            attributes(hook)
                .find(|(kind, _)| *kind == 1)
                .and_then(|(_, v)| number(v))
        }),
        drops: value_of(m, 5).and_then(number) == Some(0),
    });
    Ok(chains.collect())
}

/// Encodes a request outside of a transaction.
fn request(kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&mut bytes, SUBSYSTEM | kind, flags, 1);
    bytes.extend([family, 0, 0, 0]);
    body(&mut Attributes { bytes: &mut bytes });
    let length = bytes.len() as u32;
    patch(&mut bytes, 0, &length.to_ne_bytes());
    bytes
}

/// Returns whether `error` says that there is no such table, chain, set or element.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Returns the attribute of a message after its family header.
fn value_of(message: &Message, kind: u16) -> Option<&[u8]> {
    attributes(message.payload.get(4..)?)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// Returns a string attribute.
fn text_of(message: &Message, kind: u16) -> Option<String> {
    value_of(message, kind).map(|v| String::from_utf8_lossy(v).trim_end_matches('\0').to_owned())
}

/// Returns the comment in the user data attribute `kind`.
fn comment_of(message: &Message, kind: u16) -> Option<String> {
    value_of(message, kind)
        .and_then(comment_text)
        .map(str::to_owned)
}
