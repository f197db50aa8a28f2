//! Which range a network gets and which addresses its containers get. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

/// Returns the ranges that networks without a wish get, in order: those of Docker's default address pools
/// (172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in parts of /20).
pub(crate) fn default_ranges() -> impl Iterator<Item = IpNetwork> {
    let large = (17..=31).filter_map(|n| Ipv4Network::new(Ipv4Addr::new(172, n, 0, 0), 16).ok());
    let small =
        (0..16).filter_map(|n| Ipv4Network::new(Ipv4Addr::new(192, 168, n << 4, 0), 20).ok());
    large.chain(small).map(IpNetwork::V4)
}

/// Returns the first default range that overlaps none of `taken`.
pub(crate) fn choose_range<'a>(
    taken: impl Iterator<Item = &'a IpNetwork> + Clone,
) -> Option<IpNetwork> {
    default_ranges().find(|range| !taken.clone().any(|other| overlap(*range, *other)))
}

/// Returns whether two ranges have an address in common.
pub(crate) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

/// Returns why `address` cannot be a host's in `range`, or `None` if it can.
pub(crate) fn unusable(range: IpNetwork, address: IpAddr) -> Option<&'static str> {
    if !range.contains(address) {
        return Some("it is outside of the range");
    }
    let (first, last) = usable(range);
    if address < first {
        Some("it is the range's own address")
    } else if address > last {
        Some("it is the broadcast address")
    } else {
        None
    }
}

/// Returns the first and last address that a host can have: all but the range's own and the broadcast address, except in
/// ranges of one or two addresses (RFC 3021).
pub(crate) fn usable(range: IpNetwork) -> (IpAddr, IpAddr) {
    match range {
        IpNetwork::V4(v4) if v4.prefix() >= 31 => (v4.network().into(), v4.broadcast().into()),
        IpNetwork::V6(v6) if v6.prefix() >= 127 => (v6.network().into(), v6.broadcast().into()),
        IpNetwork::V4(v4) => (
            after(v4.network().into()).unwrap_or(range.network()),
            Ipv4Addr::from(u32::from(v4.broadcast()).saturating_sub(1)).into(),
        ),
        IpNetwork::V6(v6) => (
            after(v6.network().into()).unwrap_or(range.network()),
            v6.broadcast().into(),
        ),
    }
}

/// Returns the first usable address of `range` after `cursor` that is not in `taken`, going around at the end, so that an
/// address given back is not used again at once.
pub(crate) fn next_free(
    range: IpNetwork,
    taken: &BTreeSet<IpAddr>,
    cursor: Option<IpAddr>,
) -> Option<IpAddr> {
    let (first, last) = usable(range);
    let in_range = |address: &IpAddr| (first..=last).contains(address);
    let start = cursor.and_then(after).filter(in_range).unwrap_or(first);
    let from_start = std::iter::successors(Some(start), |a| after(*a)).take_while(in_range);
    let around = std::iter::successors(Some(first), |a| after(*a)).take_while(|a| *a < start);
    // Each miss is an address of `taken`, so the search is no longer than that set.
    from_start
        .chain(around)
        .find(|address| !taken.contains(address))
}

/// Returns the address after `address`.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => u32::from(a)
            .checked_add(1)
            .map(|a| Ipv4Addr::from(a).into()),
        IpAddr::V6(a) => u128::from(a)
            .checked_add(1)
            .map(|a| Ipv6Addr::from(a).into()),
    }
}

/// Returns the hardware address of the holder of `address`: made from it, so that no neighbour's cache is wrong when an
/// address gets a new holder. 02:42 is locally administered.
pub(crate) fn hardware_address(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [0x02, 0x43, a, b, c, d]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_default_range_without_an_overlap_is_chosen() {
        let check = |taken: &[&str], expected: Option<&str>| {
            let taken: Vec<_> = taken.iter().map(|t| range(t)).collect();
            assert_eq!(choose_range(taken.iter()), expected.map(range), "{taken:?}");
        };
        check(&[], Some("172.17.0.0/16"));
        check(&["172.17.0.0/16", "fd00::/8"], Some("172.18.0.0/16"));
        check(
            &["172.17.4.0/24", "172.18.255.255/32"],
            Some("172.19.0.0/16"),
        );
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(
            &["172.16.0.0/12", "192.168.16.7/32", "192.168.0.0/24"],
            Some("192.168.32.0/20"),
        );
        check(&["172.16.0.0/12", "192.168.0.0/16"], None);
    }

    #[test]
    fn addresses_rotate_and_skip_what_is_taken() {
        let check = |r: &str, taken: &[&str], cursor: Option<&str>, expected: Option<&str>| {
            let taken: BTreeSet<IpAddr> = taken.iter().map(|t| t.parse().unwrap()).collect();
            let cursor = cursor.map(|c| c.parse().unwrap());
            let found = next_free(range(r), &taken, cursor);
            assert_eq!(
                found,
                expected.map(|e| e.parse().unwrap()),
                "{r} {taken:?} {cursor:?}"
            );
        };
        check("10.0.0.0/24", &["10.0.0.1"], None, Some("10.0.0.2"));
        check(
            "10.0.0.0/24",
            &["10.0.0.1", "10.0.0.2"],
            None,
            Some("10.0.0.3"),
        );
        check(
            "10.0.0.0/24",
            &["10.0.0.1"],
            Some("10.0.0.7"),
            Some("10.0.0.8"),
        );
        check(
            "10.0.0.0/24",
            &["10.0.0.1"],
            Some("10.0.0.254"),
            Some("10.0.0.2"),
        );
        check(
            "10.0.0.0/24",
            &["10.0.0.1"],
            Some("10.9.0.254"),
            Some("10.0.0.2"),
        );
        check(
            "10.0.0.0/30",
            &["10.0.0.1", "10.0.0.2"],
            Some("10.0.0.2"),
            None,
        );
        check(
            "10.0.0.0/30",
            &["10.0.0.1"],
            Some("10.0.0.2"),
            Some("10.0.0.2"),
        );
        check("10.0.0.0/31", &["10.0.0.0"], None, Some("10.0.0.1"));
        check("10.0.0.0/32", &["10.0.0.0"], None, None);
        check(
            "255.255.255.0/24",
            &["255.255.255.1"],
            Some("255.255.255.254"),
            Some("255.255.255.2"),
        );
        check(
            "fd00::/64",
            &["fd00::1"],
            Some("fd00::ff"),
            Some("fd00::100"),
        );
        check("::/0", &[], None, Some("::1"));
    }

    #[test]
    fn only_addresses_a_host_can_have_are_usable() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(
                unusable(range("10.1.0.0/16"), address.parse().unwrap()),
                expected,
                "{address}"
            );
        };
        check("10.1.0.5", None);
        check("10.2.0.5", Some("it is outside of the range"));
        check("fd00::1", Some("it is outside of the range"));
        check("10.1.0.0", Some("it is the range's own address"));
        check("10.1.255.255", Some("it is the broadcast address"));
    }
}
