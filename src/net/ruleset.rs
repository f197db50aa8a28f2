//! What the firewall table holds: a fixed set of rules over sets and maps, and the elements that networks and published
//! ports put into them. Pure: it only fills [`Batch`]es.
//!
//! ```text
//! table inet stack-<instance>
//!   set brs        ifname              our bridges
//!   set internal   ifname              those without a way out
//!   set same       ifname . ifname     each bridge with itself: traffic within a network
//!   set nets4, nets6   ranges          addresses of our networks
//!   map pub4, pub6     protocol . port           → container address . port     published on every address
//!   map pub4a, pub6a   address . protocol . port → container address . port     published on one address
//!   chain rawpre (prerouting, raw)     nobody reaches 127/8 or a container's address from outside
//!   chain prerouting, output → nat_dst published ports; [::1] cannot be redirected and is left to the proxy
//!   chain postrouting                  masquerade to the outside, and where an answer would go astray
//!   chain forward → user, to_ctr       within a network: yes; published: yes; the rest: no
//! ```

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::net::config::Protocol;
use crate::net::nft::{
    Batch, Compare, DataType, Element, Family, Hook, Meta, Side, Verdict, WORD, interface,
};
use crate::net::record::{NetworkRecord, Publication};

/// Changes whenever [`base`] does, so that an older version's table is replaced. Stored as the table's comment.
pub(crate) const VERSION: &str = "stack ruleset 1";
/// Number of rules that [`base`] makes.
pub(crate) const RULES: usize = 22;

/// A set or map, and its members.
pub(crate) type Elements = Vec<(&'static str, Vec<Element>)>;

/// Adds the table with its sets, chains and rules.
pub(crate) fn base(batch: &mut Batch, table: &str) {
    batch.add_table(table, VERSION);
    sets(batch, table);
    raw_prerouting(batch, table);
    redirection(batch, table);
    postrouting(batch, table);
    forward(batch, table);
}

/// Returns the elements of a network.
pub(crate) fn network_elements(network: &NetworkRecord) -> Elements {
    let bridge = interface(&network.bridge);
    let pair = [bridge.clone(), bridge.clone()].concat();
    let mut elements = vec![
        ("brs", vec![plain(bridge.clone())]),
        ("same", vec![plain(pair)]),
    ];
    if network.config.internal {
        elements.push(("internal", vec![plain(bridge)]));
    }
    for subnet in &network.subnets {
        let set = if subnet.range.is_ipv4() {
            "nets4"
        } else {
            "nets6"
        };
        elements.push((set, interval(subnet.range)));
    }
    elements
}

/// Returns the elements of a container's published ports. A port of the host's IPv6 addresses leads to a container without one
/// through the proxy, as does `[::1]`.
pub(crate) fn publication_elements(publication: &Publication) -> Elements {
    let elements = publication.ports.iter().filter_map(|port| {
        let target = match port.host.ip() {
            IpAddr::V4(_) => publication.ipv4.map(IpAddr::V4),
            IpAddr::V6(address) if address.is_loopback() => None,
            IpAddr::V6(_) => publication.ipv6.map(IpAddr::V6),
        }?;
        let value = [octets(target), port_word(port.container_port)].concat();
        let service = [protocol_word(port.protocol), port_word(port.host.port())].concat();
        let host = port.host.ip();
        let (map, key) = match (host, host.is_unspecified()) {
            (IpAddr::V4(_), true) => ("pub4", service),
            (IpAddr::V6(_), true) => ("pub6", service),
            (IpAddr::V4(_), false) => ("pub4a", [octets(host), service].concat()),
            (IpAddr::V6(_), false) => ("pub6a", [octets(host), service].concat()),
        };
        let element = Element {
            key,
            value: Some(value),
            interval_end: false,
        };
        Some((map, vec![element]))
    });
    elements.collect()
}

/// Adds sets and maps.
fn sets(batch: &mut Batch, table: &str) {
    const LINK: DataType = DataType::INTERFACE;
    const SERVICE: [DataType; 2] = [DataType::PROTOCOL, DataType::PORT];
    batch.add_set(table, "brs", &[LINK], None, false);
    batch.add_set(table, "internal", &[LINK], None, false);
    batch.add_set(table, "same", &[LINK, LINK], None, false);
    for (address, nets, every, one) in [
        (DataType::IPV4, "nets4", "pub4", "pub4a"),
        (DataType::IPV6, "nets6", "pub6", "pub6a"),
    ] {
        let target = [address, DataType::PORT];
        let [protocol, port] = SERVICE;
        batch.add_set(table, nets, &[address], None, true);
        batch.add_set(table, every, &SERVICE, Some(&target), false);
        batch.add_set(table, one, &[address, protocol, port], Some(&target), false);
    }
}

/// Nobody outside reaches loopback addresses through `route_localnet` (CVE-2020-8558) or a container's address directly.
fn raw_prerouting(batch: &mut Batch, table: &str) {
    const CHAIN: &str = "rawpre";
    let hook = Hook {
        kind: "filter",
        number: 0,
        priority: -300,
    };
    batch.add_chain(table, CHAIN, Some(hook));
    batch.add_rule(
        table,
        CHAIN,
        "iifname != lo ip daddr 127.0.0.0/8 drop",
        |m| {
            m.link(Meta::InputName, Compare::Different, "lo")
                .of_family(Family::Ip)
                .loopback_destination()
                .verdict(Verdict::Drop);
        },
    );
    for (family, nets) in [(Family::Ip, "nets4"), (Family::Ip6, "nets6")] {
        batch.add_rule(
            table,
            CHAIN,
            "iifname != lo iifname != @brs daddr @nets drop",
            |m| {
                m.link(Meta::InputName, Compare::Different, "lo")
                    .link_in(Meta::InputName, Compare::Different, "brs")
                    .address(family, Side::Destination, WORD)
                    .member(Compare::Equal, nets, WORD)
                    .verdict(Verdict::Drop);
            },
        );
    }
}

/// Published ports.
fn redirection(batch: &mut Batch, table: &str) {
    const TARGETS: &str = "nat_dst";
    batch.add_chain(table, TARGETS, None);
    for (family, one, every) in [
        (Family::Ip, "pub4a", "pub4"),
        (Family::Ip6, "pub6a", "pub6"),
    ] {
        let after_address = if family == Family::Ip6 {
            WORD + 4
        } else {
            WORD + 1
        };
        batch.add_rule(
            table,
            TARGETS,
            "dnat to daddr . meta l4proto . th dport map",
            |m| {
                m.address(family, Side::Destination, WORD)
                    .protocol_and_port(after_address)
                    .mapped(one)
                    .dnat(family);
            },
        );
        batch.add_rule(table, TARGETS, "dnat to meta l4proto . th dport map", |m| {
            m.of_family(family)
                .protocol_and_port(WORD)
                .mapped(every)
                .dnat(family);
        });
    }
    let hook = Hook {
        kind: "nat",
        number: 0,
        priority: -100,
    };
    batch.add_chain(table, "prerouting", Some(hook));
    batch.add_chain(table, "output", Some(Hook { number: 3, ..hook }));
    batch.add_rule(table, "output", "ip6 daddr ::1 accept", |m| {
        m.address(Family::Ip6, Side::Destination, 1)
            .compare(Compare::Equal, &std::net::Ipv6Addr::LOCALHOST.octets())
            .verdict(Verdict::Accept);
    });
    for chain in ["prerouting", "output"] {
        batch.add_rule(table, chain, "fib daddr type local jump nat_dst", |m| {
            m.is_local(Side::Destination)
                .verdict(Verdict::Jump(TARGETS));
        });
    }
}

/// Source addresses.
fn postrouting(batch: &mut Batch, table: &str) {
    const CHAIN: &str = "postrouting";
    let hook = Hook {
        kind: "nat",
        number: 4,
        priority: 100,
    };
    batch.add_chain(table, CHAIN, Some(hook));
    batch.add_rule(
        table,
        CHAIN,
        "iifname @brs oifname != @brs masquerade",
        |m| {
            m.link_in(Meta::InputName, Compare::Equal, "brs")
                .link_in(Meta::OutputName, Compare::Different, "brs")
                .masquerade();
        },
    );
    // From the host to a published port, 127.0.0.1 included: the container could not answer that address.
    batch.add_rule(
        table,
        CHAIN,
        "fib saddr type local oifname @brs ct status dnat masquerade",
        |m| {
            m.is_local(Side::Source)
                .link_in(Meta::OutputName, Compare::Equal, "brs")
                .was_redirected()
                .masquerade();
        },
    );
    // A container to a published port of its own network: by source address, as the input link is unset when bridged.
    for (family, nets) in [(Family::Ip, "nets4"), (Family::Ip6, "nets6")] {
        batch.add_rule(
            table,
            CHAIN,
            "oifname @brs ct status dnat saddr @nets masquerade",
            |m| {
                m.link_in(Meta::OutputName, Compare::Equal, "brs")
                    .was_redirected()
                    .address(family, Side::Source, WORD)
                    .member(Compare::Equal, nets, WORD)
                    .masquerade();
            },
        );
    }
}

/// Who may reach whom.
fn forward(batch: &mut Batch, table: &str) {
    const CHAIN: &str = "forward";
    const USER: &str = "user";
    const TO_CONTAINER: &str = "to_ctr";
    batch.add_chain(table, USER, None);
    batch.add_chain(table, TO_CONTAINER, None);
    let hook = Hook {
        kind: "filter",
        number: 2,
        priority: 0,
    };
    batch.add_chain(table, CHAIN, Some(hook));
    batch.add_rule(table, CHAIN, "jump user", |m| {
        m.verdict(Verdict::Jump(USER));
    });
    batch.add_rule(table, CHAIN, "ct state established,related accept", |m| {
        m.is_reply().verdict(Verdict::Accept);
    });
    batch.add_rule(table, CHAIN, "iifname . oifname @same accept", |m| {
        m.meta(Meta::InputName, WORD)
            .meta(Meta::OutputName, WORD + 4)
            .member(Compare::Equal, "same", WORD)
            .verdict(Verdict::Accept);
    });
    // Before the acceptance of published ports, or an internal container reaches those of other networks.
    for (key, syntax) in [
        (Meta::InputName, "iifname @internal drop"),
        (Meta::OutputName, "oifname @internal drop"),
    ] {
        batch.add_rule(table, CHAIN, syntax, |m| {
            m.link_in(key, Compare::Equal, "internal")
                .verdict(Verdict::Drop);
        });
    }
    batch.add_rule(table, CHAIN, "oifname @brs jump to_ctr", |m| {
        m.link_in(Meta::OutputName, Compare::Equal, "brs")
            .verdict(Verdict::Jump(TO_CONTAINER));
    });
    batch.add_rule(table, TO_CONTAINER, "ct status dnat accept", |m| {
        m.was_redirected().verdict(Verdict::Accept);
    });
    batch.add_rule(table, TO_CONTAINER, "drop", |m| {
        m.verdict(Verdict::Drop);
    });
}

/// Returns an element without a value.
fn plain(key: Vec<u8>) -> Element {
    Element {
        key,
        value: None,
        interval_end: false,
    }
}

/// Returns a range as the two elements of an interval set: its first address, and the first one after it where there is one.
fn interval(range: IpNetwork) -> Vec<Element> {
    let after = match range {
        IpNetwork::V4(range) => u32::from(range.broadcast())
            .checked_add(1)
            .map(|a| a.to_be_bytes().to_vec()),
        IpNetwork::V6(range) => u128::from(range.broadcast())
            .checked_add(1)
            .map(|a| a.to_be_bytes().to_vec()),
    };
    let mut elements = vec![plain(octets(range.network()))];
    elements.extend(after.map(|key| Element {
        key,
        value: None,
        interval_end: true,
    }));
    elements
}

/// Returns an address's bytes.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Returns a port, padded to a word.
fn port_word(port: u16) -> Vec<u8> {
    [port.to_be_bytes(), [0; 2]].concat()
}

/// Returns a protocol number, padded to a word.
fn protocol_word(protocol: Protocol) -> Vec<u8> {
    vec![protocol.number(), 0, 0, 0]
}
