//! What the older iptables does with forwarded packets. Pure.
//!
//! ```text
//! rule      addresses · input link 16 · output link 16 · masks 16+16 · protocol … target offset u16 · next offset u16 … target
//! target    size u16 · name 29 (empty: standard) · revision u8 · verdict i32
//! verdict   -1 drop   -2 accept   -5 return   from 0: offset of the first rule of a chain that is called
//! ```

use crate::sys::xtables::{Family, Table};

/// `FORWARD` among the hooks.
const FORWARD: usize = 2;
/// `-NF_DROP - 1` and its like.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
/// Calls within calls that are followed.
const DEPTH: u32 = 8;

/// Where the fields of a rule are.
struct Offsets {
    /// Addresses and their masks.
    addresses: usize,
    /// Protocol, flags and inversions.
    protocol: std::ops::Range<usize>,
    /// `target_offset`, which `next_offset` follows.
    target: usize,
    /// Whole length, after which conditions of modules follow.
    length: usize,
}

/// `struct ipt_entry`.
const V4: Offsets = Offsets {
    addresses: 16,
    protocol: 80..84,
    target: 88,
    length: 112,
};
/// `struct ip6t_entry`.
const V6: Offsets = Offsets {
    addresses: 64,
    protocol: 128..133,
    target: 140,
    length: 168,
};

/// Returns whether a `filter` table drops packets that come in or go out by links called `prefix` and something.
pub(crate) fn drops(table: &Table, family: Family, prefix: &str) -> bool {
    let offsets = match family {
        Family::V4 => V4,
        Family::V6 => V6,
    };
    let reader = Reader {
        rules: &table.rules,
        offsets,
        prefix: prefix.as_bytes(),
    };
    // The policy is the chain's last rule.
    let [first, policy] = [table.first, table.policy].map(|hooks| hooks[FORWARD] as usize);
    let policy_drops = reader
        .rule(policy)
        .is_some_and(|rule| rule.verdict == Some(DROP));
    let accepts = |side| reader.verdict(first, side, DEPTH) == Some(true);
    policy_drops && !(accepts(Side::Input) && accepts(Side::Output))
}

/// Which link of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

/// A rule, as far as it matters.
struct Rule {
    /// Links that it is about: pattern and mask.
    links: [([u8; 16], [u8; 16]); 2],
    /// Whether it has another condition.
    is_special: bool,
    /// `None` for a target of a module's.
    verdict: Option<i32>,
    /// Where the next one is.
    next: usize,
}

struct Reader<'a> {
    rules: &'a [u8],
    offsets: Offsets,
    prefix: &'a [u8],
}

impl Reader<'_> {
    /// Returns what the chain at `offset` decides about every packet of such a link: accepted or not; `None` if it does not.
    fn verdict(&self, mut offset: usize, side: Side, depth: u32) -> Option<bool> {
        while let Some(rule) = self.rule(offset) {
            offset = rule.next;
            if rule.is_special || !self.is_of(&rule, side) {
                continue;
            }
            match rule.verdict {
                Some(ACCEPT) => return Some(true),
                Some(DROP) => return Some(false),
                Some(RETURN) => return None,
                Some(chain) if depth > 0 => {
                    let called = usize::try_from(chain).ok();
                    let decided = called.and_then(|chain| self.verdict(chain, side, depth - 1));
                    if decided.is_some() {
                        return decided;
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whether the rule is for every packet that has one of our links on that side.
    fn is_of(&self, rule: &Rule, side: Side) -> bool {
        let [input, output] = &rule.links;
        let (own, other) = match side {
            Side::Input => (input, output),
            Side::Output => (output, input),
        };
        let covers = |(pattern, mask): &([u8; 16], [u8; 16])| {
            let count = mask.iter().filter(|byte| **byte != 0).count();
            count <= self.prefix.len() && pattern.get(..count) == self.prefix.get(..count)
        };
        covers(own) && other.1 == [0; 16]
    }

    /// Reads the rule at `offset`; `None` at the end, and where the table is not what it should be.
    fn rule(&self, offset: usize) -> Option<Rule> {
        let rule = self.rules.get(offset..)?;
        let head = rule.get(..self.offsets.length)?;
        let number = |at: usize| {
            let field = head.get(at..)?.first_chunk()?;
            Some(usize::from(u16::from_ne_bytes(*field)))
        };
        let (target, next) = (
            number(self.offsets.target)?,
            number(self.offsets.target + 2)?,
        );
        let field = |index: usize| {
            head.get(self.offsets.addresses + 16 * index..)?
                .first_chunk::<16>()
                .copied()
        };
        let addresses = head.get(..self.offsets.addresses)?;
        let protocol = head.get(self.offsets.protocol.clone())?;
        let name = rule.get(target.checked_add(2)?..)?.first()?;
        let verdict = rule.get(target.checked_add(32)?..)?.first_chunk()?;
        let is_plain = target == self.offsets.length
            && addresses.iter().chain(protocol).all(|byte| *byte == 0);
        (next > 0).then_some(Rule {
            links: [(field(0)?, field(2)?), (field(1)?, field(3)?)],
            is_special: !is_plain,
            verdict: (*name == 0).then(|| i32::from_ne_bytes(*verdict)),
            next: offset.checked_add(next)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::on_host;
    use crate::net::tests::run;
    use crate::sys::xtables;

    /// Needs a kernel with the older tables: the virtual machine of `make vm` has one.
    #[test]
    #[ignore = "the older iptables is not in every kernel: run by `make vm`"]
    fn policies_and_exceptions_of_the_older_iptables_are_seen() {
        on_host(|_host| async {
            for (family, program) in [
                (Family::V4, "iptables-legacy"),
                (Family::V6, "ip6tables-legacy"),
            ] {
                let found = || {
                    xtables::read(family, "filter")
                        .unwrap()
                        .map(|table| drops(&table, family, "s1a2b"))
                };
                assert_eq!(found(), None, "{program}");
                // Each line is a change, and what is found after it.
                for (change, expected) in [
                    ("-P FORWARD ACCEPT", false),
                    ("-P FORWARD DROP", true),
                    ("-A FORWARD -i s1a2b+ -j ACCEPT", true),
                    ("-A FORWARD -o s1a2b+ -j ACCEPT", false),
                    ("-I FORWARD -i s1+ -j DROP", true),
                    ("-R FORWARD 1 -i s1+ -p tcp -j DROP", false),
                    ("-F FORWARD", true),
                    ("-N MINE", true),
                    ("-A MINE -i s1a2b+ -j ACCEPT", true),
                    ("-A MINE -o s1+ -j ACCEPT", true),
                    ("-A FORWARD -j MINE", false),
                    ("-I MINE -j RETURN", true),
                    ("-A FORWARD -i other+ -j ACCEPT", true),
                    ("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", true),
                    ("-A FORWARD -j ACCEPT", false),
                ] {
                    run(program, &change.split(' ').collect::<Vec<_>>());
                    assert_eq!(found(), Some(expected), "{program} {change}");
                }
            }
        });
    }
}
