//! What steps resolve names with.
//!
//! ```text
//! host's name servers            what a step asks
//! some are not on loopback       those
//! systemd-resolved's 127.0.0.53  those behind it (/run/systemd/resolve/resolv.conf), as with Docker
//! only loopback ones             127.0.0.11: a child of this process that asks them, as containers have (`net::sidecar`)
//! ```

use crate::images::build::StepNetwork;

/// What steps resolve names with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolver {
    /// Of `/etc/resolv.conf`.
    pub(super) text: String,
    /// Whether that names a child of this process, as all of the host's servers are on its loopback.
    pub(super) is_forwarded: bool,
    /// The host's own, for steps in its network.
    pub(super) of_host: String,
}

impl Resolver {
    /// Returns `/etc/resolv.conf` of a step in a network.
    pub(super) fn text_in(&self, network: &StepNetwork) -> String {
        match network {
            StepNetwork::Own => self.text.clone(),
            StepNetwork::Host => self.of_host.clone(),
            StepNetwork::None => String::new(),
            // Containers' names are known there too.
            StepNetwork::Named(_) => "nameserver 127.0.0.11\n".to_owned(),
        }
    }
}

/// Chooses what steps resolve names with, by the host's resolver configuration and the one behind systemd-resolved.
pub(super) fn resolver(host: &str, behind: &str) -> Resolver {
    let usable = [host, behind].into_iter().find(|text| reachable(text));
    match usable {
        Some(text) => Resolver {
            text: without_loopback(text),
            is_forwarded: false,
            of_host: host.to_owned(),
        },
        None => Resolver {
            text: format!("nameserver 127.0.0.11\n{}", without_loopback(host)),
            is_forwarded: true,
            of_host: host.to_owned(),
        },
    }
}

/// Whether a resolver configuration names a server that a container can reach.
fn reachable(text: &str) -> bool {
    without_loopback(text)
        .lines()
        .any(|line| line.starts_with("nameserver"))
}

/// Returns the configuration without servers on the host's loopback, which a container does not share.
fn without_loopback(text: &str) -> String {
    let loopback = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .and_then(|server| server.parse::<std::net::IpAddr>().ok())
                .is_some_and(|ip| ip.is_loopback())
    };
    text.lines()
        .filter(|line| !loopback(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_never_need_the_hosts_loopback() {
        let table = [
            ("nameserver 10.0.0.2\n", "", "nameserver 10.0.0.2\n", false),
            (
                "nameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch a b\n",
                "",
                "nameserver 10.0.0.2\nsearch a b\n",
                false,
            ),
            (
                "nameserver 127.0.0.53\noptions edns0\n",
                "nameserver 10.0.0.3\nsearch lan\n",
                "nameserver 10.0.0.3\nsearch lan\n",
                false,
            ),
            (
                "search lan\nnameserver ::1\n",
                "nameserver 127.0.0.1\n",
                "nameserver 127.0.0.11\nsearch lan\n",
                true,
            ),
            ("", "", "nameserver 127.0.0.11\n", true),
        ];
        for (host, behind, text, is_forwarded) in table {
            let expected = Resolver {
                text: text.to_owned(),
                is_forwarded,
                of_host: host.to_owned(),
            };
            assert_eq!(resolver(host, behind), expected, "{host:?} {behind:?}");
        }
    }
}
