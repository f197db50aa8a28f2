//! Other firewalls of the host. In nftables an accept is only for its own base chain, a drop is for good: where another table
//! drops what is forwarded, ours cannot help. dockerd sets such a policy and has a chain for foreign rules, `DOCKER-USER`,
//! which gets two plain rules of ours; any other firewall is its owner's to change, and a warning says how. The same for
//! `iptables-legacy`, whose tables are beside nftables' and drop as finally.

use std::io;

use crate::net::error::Warning;
use crate::net::legacy;
use crate::net::nft::{self, Batch, ChainFound, Compare, Family, Meta, Verdict};
use crate::sys::netlink::Socket;
use crate::sys::xtables;

/// `forward` among the hooks.
const FORWARD: u32 = 2;
/// Table and chain that dockerd leaves to others, in the tables of iptables-nft.
const DOCKER: (&str, &str) = ("filter", "DOCKER-USER");
/// The families that iptables and ip6tables have tables of.
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// Lets `links` (`s1a2b*`) through dockerd's firewall, and tells of those that need the person's hand. Our rules carry
/// `comment`.
pub(crate) fn arrange(
    socket: &Socket,
    comment: &str,
    links: &str,
    has_ipv6: bool,
) -> io::Result<Vec<Warning>> {
    let chains = nft::read_chains(socket)?;
    for family in FAMILIES {
        if has_docker(&chains, family) {
            let ours = our_rules(socket, family, comment)?;
            if ours.len() != 2 {
                write_rules(socket, family, comment, links, &ours)?;
            }
        }
    }
    let mut warnings = warnings(&chains, links, has_ipv6);
    warnings.extend(legacy_warnings(links, has_ipv6)?);
    Ok(warnings)
}

/// Removes our rules.
pub(crate) fn withdraw(socket: &Socket, comment: &str) -> io::Result<()> {
    let (table, chain) = DOCKER;
    for family in FAMILIES {
        let mut batch = Batch::new(family);
        for handle in our_rules(socket, family, comment)? {
            batch.delete_rule(table, chain, handle);
        }
        if !batch.is_empty() {
            batch.commit(socket).map_err(|refused| refused.source)?;
        }
    }
    Ok(())
}

/// Returns the firewalls that drop what we want forwarded. Pure.
fn warnings(chains: &[ChainFound], links: &str, has_ipv6: bool) -> Vec<Warning> {
    let has_ufw = chains.iter().any(|chain| chain.name.starts_with("ufw-"));
    let pattern = links.replace('*', "+");
    let mut found: Vec<Warning> = Vec::new();
    for chain in chains.iter().filter(|chain| chain.hook == Some(FORWARD)) {
        let family = FAMILIES.into_iter().find(|f| *f as u8 == chain.family);
        let is_docker = chain.table == DOCKER.0 && family.is_some_and(|f| has_docker(chains, f));
        let concerns_us = has_ipv6 || chain.family != Family::Ip6 as u8;
        // firewalld's chain has policy accept and ends in a reject.
        let is_firewalld = chain.table == "firewalld";
        if is_docker
            || !concerns_us
            || !(chain.drops || is_firewalld)
            || chain.table.starts_with("stack-")
        {
            continue;
        }
        let (firewall, remedy) = if is_firewalld {
            (
                "firewalld".to_owned(),
                format!(
                    "firewall-cmd --permanent --zone=trusted --add-interface={pattern} && firewall-cmd --reload"
                ),
            )
        } else if has_ufw && chain.table == "filter" {
            (
                "ufw".to_owned(),
                format!("ufw route allow in on {pattern} && ufw route allow out on {pattern}"),
            )
        } else {
            let kind = match family {
                Some(Family::Ip) => "ip",
                Some(Family::Ip6) => "ip6",
                _ => "inet",
            };
            let place = format!("{kind} {} {}", chain.table, chain.name);
            let remedy = format!(
                "nft insert rule {place} iifname \"{links}\" accept && nft insert rule {place} oifname \"{links}\" accept"
            );
            (format!("chain `{place}`"), remedy)
        };
        let warning = Warning::ForwardDropped {
            firewall,
            links: pattern.clone(),
            remedy,
        };
        if !found.contains(&warning) {
            found.push(warning);
        }
    }
    found
}

/// Returns the same of the older iptables.
fn legacy_warnings(links: &str, has_ipv6: bool) -> io::Result<Vec<Warning>> {
    let families = [
        (xtables::Family::V4, "iptables-legacy"),
        (xtables::Family::V6, "ip6tables-legacy"),
    ];
    let concerned = families.into_iter().take(if has_ipv6 { 2 } else { 1 });
    let mut found = Vec::new();
    for (family, program) in concerned {
        let table = xtables::read(family, "filter")?;
        if table.is_some_and(|table| legacy::drops(&table, family, links.trim_end_matches('*'))) {
            let pattern = links.replace('*', "+");
            found.push(Warning::ForwardDropped {
                firewall: format!("chain `FORWARD` of {program}"),
                remedy: format!(
                    "{program} -I FORWARD -i {pattern} -j ACCEPT && {program} -I FORWARD -o {pattern} -j ACCEPT"
                ),
                links: pattern,
            });
        }
    }
    Ok(found)
}

/// Returns whether dockerd's chain is there.
fn has_docker(chains: &[ChainFound], family: Family) -> bool {
    chains.iter().any(|chain| {
        chain.family == family as u8 && (chain.table.as_str(), chain.name.as_str()) == DOCKER
    })
}

/// Returns the handles of our rules.
fn our_rules(socket: &Socket, family: Family, comment: &str) -> io::Result<Vec<u64>> {
    let (table, chain) = DOCKER;
    let rules = nft::read_rules(socket, family, table, Some(chain))?;
    Ok(rules
        .into_iter()
        .filter(|rule| rule.comment.as_deref() == Some(comment))
        .map(|rule| rule.handle)
        .collect())
}

/// Replaces what there is of our rules by both, in the form that iptables-nft writes and therefore can list.
fn write_rules(
    socket: &Socket,
    family: Family,
    comment: &str,
    links: &str,
    stale: &[u64],
) -> io::Result<()> {
    let (table, chain) = DOCKER;
    let mut batch = Batch::new(family);
    for handle in stale {
        batch.delete_rule(table, chain, *handle);
    }
    for key in [Meta::OutputName, Meta::InputName] {
        // # nft: iifname "s1a2b*" counter accept comment "stack-…"; iptables: -i s1a2b+ -j ACCEPT
        batch.insert_rule(DOCKER, comment, |m| {
            m.link(key, Compare::Equal, links)
                .counter()
                .verdict(Verdict::Accept);
        });
    }
    batch.commit(socket).map_err(|refused| refused.source)
}
