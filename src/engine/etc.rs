//! The files that a sandbox brings along: /etc/resolv.conf and /etc/hosts. Pure.

use std::net::IpAddr;

/// Where the embedded name server answers in every container.
const EMBEDDED: &str = "127.0.0.11";

/// What a service says of name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resolver {
    /// Servers to forward to instead of the host's.
    pub servers: Vec<String>,
    /// Search domains instead of the host's.
    pub search: Vec<String>,
    /// Options beside `ndots:0`.
    pub options: Vec<String>,
}

/// Returns /etc/resolv.conf of a container that asks the embedded server, from the host's own.
pub fn resolv_conf(host: &str, resolver: &Resolver) -> String {
    let mut search = resolver.search.clone();
    if search.is_empty() {
        search = words_of(host, "search");
    }
    let mut options = resolver.options.clone();
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        // Docker's: a name without a dot is tried as it is first, which is what service names are.
        options.push("ndots:0".to_owned());
    }
    let mut text = format!("nameserver {EMBEDDED}\n");
    // `search .` stands for none at all.
    if !search.is_empty() && search != ["."] {
        text += &["search ", &search.join(" "), "\n"].concat();
    }
    text += &["options ", &options.join(" "), "\n"].concat();
    text
}

/// Returns the servers that the file asks for; the host's are used where there are none.
pub fn servers(resolver: &Resolver) -> Result<Vec<IpAddr>, String> {
    let parse = |server: &String| {
        server
            .parse()
            .map_err(|_| format!("dns: `{server}` is not an address"))
    };
    resolver.servers.iter().map(parse).collect()
}

/// Returns the words after `keyword` in the last line that has it (`man 5 resolv.conf`, `search`).
fn words_of(text: &str, keyword: &str) -> Vec<String> {
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
    });
    if keyword == "search" {
        lines.next_back().unwrap_or_default()
    } else {
        lines.flatten().collect()
    }
}

/// Returns the addresses and names of a hosts file (`man 5 hosts`), without those that every such file has.
pub fn entries(text: &str) -> Vec<(IpAddr, String)> {
    let entry = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let names: Vec<&str> = words
            .filter(|name| *name != "localhost" && !name.starts_with("ip6-"))
            .collect();
        (!names.is_empty()).then(|| (address, names.join(" ")))
    };
    text.lines().filter_map(entry).collect()
}

/// Returns the lines of /etc/hosts after `localhost`: the container's own addresses, then `extra_hosts`, whose
/// `host-gateway` stands for the host as the container reaches it.
pub fn hosts(
    addresses: &[IpAddr],
    hostname: &str,
    domainname: Option<&str>,
    extra: &[(String, String)],
    gateway: Option<IpAddr>,
) -> Result<Vec<(IpAddr, String)>, String> {
    let own = domainname.map_or_else(
        || hostname.to_owned(),
        |domain| format!("{hostname}.{domain} {hostname}"),
    );
    let mut lines: Vec<_> = addresses
        .iter()
        .map(|address| (*address, own.clone()))
        .collect();
    for (name, address) in extra {
        let address = if address == "host-gateway" {
            gateway
                .ok_or_else(|| format!("`{name}: host-gateway` needs a network with a gateway"))?
        } else {
            address
                .parse()
                .map_err(|_| format!("`{name}: {address}` is not an address"))?
        };
        lines.push((address, name.clone()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nsearch old.example\nnameserver 192.0.2.53\nsearch a.example b.example\n\
                        nameserver fd00::53\noptions edns0\n";

    #[test]
    fn the_embedded_server_stands_in_for_the_hosts() {
        let own = Resolver {
            servers: vec!["198.51.100.1".into()],
            search: vec![".".into()],
            options: vec!["ndots:2".into()],
        };
        assert_eq!(
            [
                resolv_conf(HOST, &Resolver::default()),
                resolv_conf(HOST, &own)
            ],
            [
                "nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:0\n",
                "nameserver 127.0.0.11\noptions ndots:2\n"
            ]
        );
        assert_eq!(servers(&own), Ok(vec!["198.51.100.1".parse().unwrap()]));
        let wrong = Resolver {
            servers: vec!["dns.example".into()],
            ..Resolver::default()
        };
        assert_eq!(
            servers(&wrong),
            Err("dns: `dns.example` is not an address".to_owned())
        );
    }

    #[test]
    fn entries_of_a_hosts_file_are_its_own_names() {
        let text = "127.0.0.1 localhost\n::1\tip6-localhost ip6-loopback\n10.0.0.7 db db.example # the old one\n# 10.0.0.8 no\nx y\n";
        let expected = [("10.0.0.7".parse().unwrap(), "db db.example".to_owned())];
        assert_eq!(entries(text), expected);
    }

    #[test]
    fn hosts_lists_own_addresses_then_extra_ones() {
        let own: IpAddr = "172.20.0.2".parse().unwrap();
        let gateway: IpAddr = "172.20.0.1".parse().unwrap();
        let extra = [
            ("host".to_owned(), "host-gateway".to_owned()),
            ("other".to_owned(), "192.0.2.9".to_owned()),
        ];
        let found = hosts(&[own], "web", Some("example.org"), &extra, Some(gateway)).unwrap();
        let expected = [
            (own, "web.example.org web".to_owned()),
            (gateway, "host".to_owned()),
            ("192.0.2.9".parse().unwrap(), "other".to_owned()),
        ];
        assert_eq!(found, expected);
        hosts(&[], "web", None, &extra, None).unwrap_err();
    }
}
