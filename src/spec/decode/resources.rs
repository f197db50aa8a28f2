//! Networks, volumes, secrets and configs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decoder, boolean, entries, items, span_at, text, text_map};
use crate::spec::model::network::{Network, Subnet};
use crate::spec::model::volume::{FileObject, Volume};
use crate::spec::names::{NetworkKey, VolumeKey};
use crate::spec::obstacle::Subject;
use crate::spec::tree::{Entry, Mapping, Node};

impl Decoder<'_> {
    pub(super) fn networks(
        &mut self,
        networks: Option<&Mapping>,
        used: &BTreeSet<String>,
    ) -> BTreeMap<NetworkKey, Network> {
        let mut decoded = BTreeMap::new();
        for entry in entries(networks) {
            // The schema lets any key through that no service uses.
            if !used.contains(&*entry.key) && NetworkKey::new(&entry.key).is_err() {
                continue;
            }
            let key = self.named(entry.key_span, NetworkKey::new(&entry.key));
            self.subject = Subject::Network(entry.key.to_string());
            let network = self.network(entry);
            if let Some(key) = key.filter(|key| used.contains(key.as_str())) {
                decoded.insert(key, network);
            }
        }
        decoded
    }

    fn network(&mut self, entry: &Entry) -> Network {
        let node = &*entry.value;
        self.only_driver("networks", entry, &["bridge", "default"]);
        let mut subnets = Vec::new();
        if let Some(ipam) = node.get("ipam") {
            for config in items(ipam, "config") {
                subnets.extend(self.subnet(config, &entry.key));
            }
        }
        Network {
            name: text(node, "name").unwrap_or_default(),
            external: boolean(node, "external").unwrap_or_default(),
            internal: boolean(node, "internal").unwrap_or_default(),
            subnets,
            labels: text_map(node, "labels"),
        }
    }

    fn subnet(&mut self, config: &Node, key: &str) -> Option<Subnet> {
        let place = format!("networks.{key}.ipam.config");
        let Some(written) = config.get("subnet").and_then(Node::as_str) else {
            if config.get("subnet").is_none() {
                self.error(config.span, format!("{place}: missing property 'subnet'"));
            }
            return None;
        };
        let subnet = match written.parse() {
            Ok(subnet) if written.contains('/') => subnet,
            _ => {
                self.error(
                    span_at(config, "subnet"),
                    format!("{place}: invalid subnet {written}"),
                );
                return None;
            }
        };
        let gateway = self.address(config, "gateway", &place);
        if let Some(gateway) = gateway
            && !ipnetwork::IpNetwork::contains(&subnet, gateway)
        {
            self.error(
                span_at(config, "gateway"),
                format!("{place}: the gateway {gateway} is not in the subnet {subnet}"),
            );
        }
        Some(Subnet { subnet, gateway })
    }

    /// Reports a driver that is not built in.
    fn only_driver(&mut self, kind: &str, entry: &Entry, known: &[&str]) {
        if let Some(driver) = text(&entry.value, "driver").filter(|driver| !driver.is_empty())
            && !known.contains(&driver.as_str())
        {
            let what = format!("{kind}.{}.driver {driver}", entry.key);
            self.not_yet(span_at(&entry.value, "driver"), what);
        }
    }

    pub(super) fn volumes(
        &mut self,
        volumes: Option<&Mapping>,
        used: &BTreeSet<String>,
    ) -> BTreeMap<VolumeKey, Volume> {
        let mut decoded = BTreeMap::new();
        for entry in entries(volumes) {
            self.subject = Subject::Volume(entry.key.to_string());
            self.only_driver("volumes", entry, &["local"]);
            let key = self.named(entry.key_span, VolumeKey::new(&entry.key));
            let volume = Volume {
                name: text(&entry.value, "name").unwrap_or_default(),
                external: boolean(&entry.value, "external").unwrap_or_default(),
                labels: text_map(&entry.value, "labels"),
            };
            if let Some(key) = key.filter(|key| used.contains(key.as_str())) {
                decoded.insert(key, volume);
            }
        }
        decoded
    }

    pub(super) fn file_objects(objects: Option<&Mapping>) -> BTreeMap<String, FileObject> {
        let decoded = entries(objects).iter().filter_map(|entry| {
            let node = &*entry.value;
            let object = if let Some(path) = text(node, "file") {
                FileObject::File(path.into())
            } else if let Some(variable) = text(node, "environment") {
                FileObject::Environment(variable)
            } else {
                FileObject::Content(text(node, "content")?)
            };
            Some((entry.key.to_string(), object))
        });
        decoded.collect()
    }
}
