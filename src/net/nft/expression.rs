//! The expressions of a rule: what is matched, and what is done with it.

use super::Family;
use super::attributes::Attributes;

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
            m.number(1, DESTINATION)
                .number(2, Family::Ip as u32)
                .number(5, FIRST);
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
        let code_and_chain = |m: &mut Attributes<'_>| {
            m.number(1, code.cast_unsigned());
            if let Some(chain) = chain {
                m.text(2, chain);
            }
        };
        self.expression("immediate", |m| {
            m.number(1, VERDICT_REGISTER).nested(2, |m| {
                m.nested(2, code_and_chain);
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
