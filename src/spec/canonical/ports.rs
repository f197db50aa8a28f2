//! The short form of a published port (compose-spec 05-services.md#ports).
//!
//! ```text
//! [[HOST_IP:]PUBLISHED:]TARGET[/PROTOCOL]       PUBLISHED and TARGET are ports or ranges; an IPv6 address in brackets
//! ```

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortSpec {
    /// Address on the host.
    pub(crate) host_ip: Option<String>,
    /// Port or range on the host.
    pub(crate) published: Option<String>,
    /// Port in the container.
    pub(crate) target: u16,
    /// In lower case.
    pub(crate) protocol: String,
}

/// Reads the short form; ranges of one length are unrolled, several host ports for one target stay a range.
pub(crate) fn parse(text: &str) -> Result<Vec<PortSpec>, String> {
    let (ports, protocol) = match text.rsplit_once('/') {
        Some((ports, protocol)) if !protocol.is_empty() => (ports, protocol.to_ascii_lowercase()),
        Some((ports, _)) => (ports, "tcp".to_owned()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!(
            "invalid protocol `{protocol}`: it must be tcp, udp or sctp"
        ));
    }
    let (host, target) = match ports.rsplit_once(':') {
        Some((host, target)) => (Some(host), target),
        None => (None, ports),
    };
    if target.is_empty() {
        return Err("no container port is given".to_owned());
    }
    let (host_ip, published) = match host {
        None => (None, ""),
        Some(host) => match host.rsplit_once(':') {
            Some((ip, published)) => (Some(address(ip)?), published),
            None => (None, host),
        },
    };
    let host_ip = host_ip.filter(|ip| !ip.is_empty());
    let targets =
        range(target).ok_or_else(|| format!("invalid container port `{target}`: {RULE}"))?;
    if targets.0 == 0 {
        return Err(format!("invalid container port `{target}`: {RULE}"));
    }
    let count = targets.1 - targets.0;
    let spec = |index: u16, published: Option<String>| PortSpec {
        host_ip: host_ip.clone(),
        published,
        target: targets.0 + index,
        protocol: protocol.clone(),
    };
    if published.is_empty() {
        return Ok((0..=count).map(|index| spec(index, None)).collect());
    }
    let hosts =
        range(published).ok_or_else(|| format!("invalid host port `{published}`: {RULE}"))?;
    if count == 0 {
        let published = match hosts {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        return Ok(vec![spec(0, Some(published))]);
    }
    if hosts.1 - hosts.0 != count {
        return Err(format!(
            "the ranges `{published}` and `{target}` are not of the same length"
        ));
    }
    let published = |index: u16| Some((hosts.0 + index).to_string());
    Ok((0..=count)
        .map(|index| spec(index, published(index)))
        .collect())
}

const RULE: &str = "it must be a port up to 65535, or a range FIRST-LAST";

/// Reads `FIRST` or `FIRST-LAST`.
pub(crate) fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| -> Option<u16> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some((first, last))
}

/// Checks an address, taking the brackets off an IPv6 one, which must have them.
fn address(text: &str) -> Result<String, String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if inner.is_none() && text.contains(':') {
        return Err(format!("invalid ip address: {text}: put it in brackets"));
    }
    let bare = inner.unwrap_or(text);
    if bare.is_empty() || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    Err(format!("invalid ip address: {bare}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Err(error) => error,
            Ok(specs) => {
                let shown = specs.iter().map(|spec| {
                    format!(
                        "{}|{}|{}/{}",
                        spec.host_ip.as_deref().unwrap_or("-"),
                        spec.published.as_deref().unwrap_or("-"),
                        spec.target,
                        spec.protocol
                    )
                });
                shown.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn short_forms() {
        let rows = [
            ("80", "-|-|80/tcp"),
            ("8080:80", "-|8080|80/tcp"),
            ("8080:80/udp", "-|8080|80/udp"),
            ("8080:80/", "-|8080|80/tcp"),
            ("080:80", "-|80|80/tcp"),
            ("8080:80/UDP", "-|8080|80/udp"),
            (":80", "-|-|80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|-|80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("::80", "-|-|80/tcp"),
            ("80/", "-|-|80/tcp"),
            ("080:80", "-|80|80/tcp"),
            ("0:80", "-|0|80/tcp"),
            ("80:80/sctp", "-|80|80/sctp"),
            ("127.0.0.1:8000-8001:80", "127.0.0.1|8000-8001|80/tcp"),
            ("::1:8080:80", "invalid ip address: ::1: put it in brackets"),
            ("80:80:80", "invalid ip address: 80"),
            ("3000-3002", "-|-|3000/tcp -|-|3001/tcp -|-|3002/tcp"),
            ("9000-9001:80-81", "-|9000|80/tcp -|9001|81/tcp"),
            ("9000-9010:80", "-|9000-9010|80/tcp"),
            (
                "127.0.0.1:5000-5001:5000-5001/udp",
                "127.0.0.1|5000|5000/udp 127.0.0.1|5001|5001/udp",
            ),
            ("65535", "-|-|65535/tcp"),
            (
                "9000-9001:80-82",
                "the ranges `9000-9001` and `80-82` are not of the same length",
            ),
            ("", "no container port is given"),
            ("80:", "no container port is given"),
            (
                "0",
                "invalid container port `0`: it must be a port up to 65535, or a range FIRST-LAST",
            ),
            (
                "65536",
                "invalid container port `65536`: it must be a port up to 65535, or a range FIRST-LAST",
            ),
            (
                "81-80",
                "invalid container port `81-80`: it must be a port up to 65535, or a range FIRST-LAST",
            ),
            (
                "web:80",
                "invalid host port `web`: it must be a port up to 65535, or a range FIRST-LAST",
            ),
            (
                "80/icmp",
                "invalid protocol `icmp`: it must be tcp, udp or sctp",
            ),
            ("1.2.3:80:80", "invalid ip address: 1.2.3"),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
