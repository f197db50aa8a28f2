//! What a service is to its networks: names, ports, addresses.

use std::collections::BTreeMap;

use super::{Decoder, entries, items, mapping, span_at, text, texts, unsigned};
use crate::spec::canonical::ports;
use crate::spec::diagnostic::Diagnostic;
use crate::spec::model::network::{Attachment, Port, PortRange, Protocol};
use crate::spec::model::service::NetworkMode;
use crate::spec::names::{NetworkKey, ServiceName};
use crate::spec::tree::Node;

impl Decoder<'_> {
    /// Reads the host name. Docker Compose takes any that Linux does, which is what stands in the way of a container; one
    /// that no other machine would take for a name is warned of.
    pub(super) fn hostname(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = text(node, "hostname")?;
        let span = span_at(node, "hostname");
        if name.len() > 64 {
            let message = format!("{place}.hostname is longer than 64 bytes, the most Linux takes");
            self.error(span, message);
        } else if name.contains(char::is_control) {
            let message =
                format!("{place}.hostname must not have a line break or a control character");
            self.error(span, message);
        } else if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        {
            self.obstacle(
                Diagnostic::warning(
                    span,
                    format!("{place}.hostname: `{name}` is no valid host name (RFC 1123)"),
                )
                .hint("use letters, digits and hyphens"),
            );
        }
        Some(name)
    }

    pub(super) fn ports(&mut self, node: &Node, place: &str) -> Vec<Port> {
        let mut decoded = Vec::new();
        for port in items(node, "ports") {
            let protocol = match text(port, "protocol")
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => {
                    self.not_yet(port.span, format!("{place}.ports: protocol {other}"));
                    continue;
                }
            };
            let written = text(port, "published").filter(|text| !text.is_empty());
            let published = written.as_deref().and_then(ports::range);
            if let (Some(written), None) = (&written, published) {
                self.error(
                    span_at(port, "published"),
                    format!("{place}.ports: invalid host port `{written}`"),
                );
            }
            let target = unsigned::<u16>(port, "target").filter(|target| *target > 0);
            if target.is_none() && port.get("target").is_some() {
                self.error(
                    span_at(port, "target"),
                    format!("{place}.ports: invalid container port: it must be 1 to 65535"),
                );
            }
            decoded.extend(target.map(|target| {
                Port {
                    host_ip: text(port, "host_ip").and_then(|address| address.parse().ok()),
                    // Port 0 lets the host choose, as does none.
                    published: published
                        .filter(|range| *range != (0, 0))
                        .map(|(first, last)| PortRange { first, last }),
                    target,
                    protocol,
                }
            }));
        }
        decoded
    }

    pub(super) fn expose(&mut self, node: &Node, place: &str) -> Vec<String> {
        for port in items(node, "expose") {
            let text = port.as_str().unwrap_or_default();
            let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            if ports::range(range).is_none() || !matches!(protocol, "tcp" | "udp" | "sctp") {
                self.error(
                    port.span,
                    format!("{place}.expose: `{text}` is no port, nor a range of ports"),
                );
            }
        }
        texts(node, "expose")
    }

    pub(super) fn network_mode(&mut self, node: &Node, place: &str) -> Option<NetworkMode> {
        let mode = text(node, "network_mode").filter(|mode| !mode.is_empty())?;
        let span = span_at(node, "network_mode");
        match mode.as_str() {
            "none" => Some(NetworkMode::None),
            "host" => Some(NetworkMode::Host),
            other => {
                let Some(service) = other.strip_prefix("service:") else {
                    self.not_yet(span, format!("{place}.network_mode {mode}"));
                    return None;
                };
                let name = self.named(span, ServiceName::new(service));
                name.map(NetworkMode::Service)
            }
        }
    }

    pub(super) fn attachments(
        &mut self,
        node: &Node,
        place: &str,
    ) -> BTreeMap<NetworkKey, Attachment> {
        let mut decoded = BTreeMap::new();
        for entry in entries(mapping(node, "networks")) {
            let attachment = Attachment {
                aliases: texts(&entry.value, "aliases"),
                ipv4_address: self.address(
                    &entry.value,
                    "ipv4_address",
                    &format!("{place}.networks.{}", entry.key),
                ),
                priority: unsigned(&entry.value, "priority"),
            };
            // A key that breaks its rule is reported where the network is defined, or as undefined.
            if let Ok(key) = NetworkKey::new(&entry.key) {
                decoded.insert(key, attachment);
            }
        }
        decoded
    }

    pub(super) fn extra_hosts(&mut self, node: &Node, place: &str) -> Vec<(String, String)> {
        let mut hosts = Vec::new();
        for line in items(node, "extra_hosts") {
            let Some((host, address)) = line.as_str().and_then(|text| text.split_once('=')) else {
                continue;
            };
            if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
                self.error(
                    line.span,
                    format!("{place}.extra_hosts: invalid additional host, bad IP: {address}"),
                );
            }
            hosts.push((host.to_owned(), address.to_owned()));
        }
        hosts
    }

    pub(super) fn name_servers(&mut self, node: &Node, place: &str) -> Vec<String> {
        let mut servers = Vec::new();
        for server in items(node, "dns") {
            match server.as_str() {
                Some("") | None => {}
                Some(text) if text.parse::<std::net::IpAddr>().is_ok() => {
                    servers.push(text.to_owned());
                }
                Some(text) => self.error(
                    server.span,
                    format!("{place}.dns: invalid DNS address: {text}"),
                ),
            }
        }
        servers
    }
}
