//! What was asked for, as flat fields, so that two askings can be compared field by field.
//!
//! ```text
//! command                       ["serve", "--port=80"]      lists of plain values are one value
//! environment.LOG_LEVEL         "debug"                     maps and structures are dotted paths
//! healthcheck.interval          "10s"
//! ports                         ["8080:80/tcp"]             in the short form
//! volumes./data.source          "files"                     mounts, secrets and configs by their target
//! networks.front.name           "demo_front"                the name on the machine beside the key
//! secrets./run/secrets/t.content "sha256:…"                 the content beside the reference
//! ```
//!
//! Taken of the model's serialised form, so that a key added to the model is compared without a line here. Recorded with the
//! container, hence on-disk format: a path that changes its spelling recreates every container that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::naming;
use super::options::UpOptions;
use crate::spec::model::Stack;
use crate::spec::model::network::{Port, Protocol};
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;

/// Dotted path → value; never a map, and lists of plain values only.
pub type Fields = BTreeMap<String, Value>;

/// One field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Dotted path.
    pub path: String,
    /// `None` where it was not set.
    pub old: Option<Value>,
    /// `None` where it is no longer set.
    pub new: Option<Value>,
}

/// Fields of a service that leave its containers as they are.
const IGNORED: &[&str] = &[
    "build",       // what it builds is: the image's id decides
    "depends_on",  // order of commands, nothing of the container
    "profiles",    // whether, not what
    "pull_policy", // when images come; their id decides
    "scale",       // how many
    "watch",       // what `stack watch` does; no container knows it
];

/// Returns the fields that differ, in order of path.
pub fn compare(old: &Fields, new: &Fields) -> Vec<Change> {
    let mut changes: Vec<Change> = old
        .iter()
        .filter(|(path, value)| new.get(*path) != Some(value))
        .map(|(path, value)| Change {
            path: path.clone(),
            old: Some(value.clone()),
            new: new.get(path).cloned(),
        })
        .collect();
    let added = new.iter().filter(|(path, _)| !old.contains_key(*path));
    changes.extend(added.map(|(path, value)| Change {
        path: path.clone(),
        old: None,
        new: Some(value.clone()),
    }));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// Returns what `service` asks of each of its containers.
///
/// Of networks and volumes it has their names only: a network that is made anew is a reason by itself.
pub fn service(stack: &Stack, service: &Service, options: &UpOptions) -> Fields {
    let mut fields = Fields::new();
    // Serialising a tree of plain values cannot fail; if it did, nothing would be compared and nothing recreated wrongly.
    let value = serde_json::to_value(service).unwrap_or_default();
    if let Value::Object(map) = value {
        for (key, value) in map {
            match (key.as_str(), &value) {
                (key, _) if IGNORED.contains(&key) => {}
                // As good as not set. Left out, so that a flag the model gains later recreates nothing.
                (_, Value::Bool(false) | Value::Null) => {}
                ("ports", Value::Array(_)) => {
                    fields.insert(key, service.ports.iter().map(short_port).collect());
                }
                _ => flatten(&key, value, &mut fields),
            }
        }
    }
    add_names(stack, service, &mut fields);
    add_contents("secrets", service, &options.secret_digests, &mut fields);
    add_contents("configs", service, &options.config_digests, &mut fields);
    fields
}

/// Returns what a network asks for; labels of Compose's own are left out.
pub fn network(
    internal: bool,
    subnets: impl Iterator<Item = (IpNetwork, Option<IpAddr>)>,
    labels: &BTreeMap<String, String>,
) -> Fields {
    let mut fields = volume(labels);
    fields.insert("internal".to_owned(), Value::Bool(internal));
    let subnets: Vec<Value> = subnets
        .map(|(subnet, gateway)| match gateway {
            Some(gateway) => format!("{subnet} via {gateway}").into(),
            None => subnet.to_string().into(),
        })
        .collect();
    if !subnets.is_empty() {
        fields.insert("subnets".to_owned(), subnets.into());
    }
    fields
}

/// Returns what a volume asks for; labels of Compose's own are left out.
pub fn volume(labels: &BTreeMap<String, String>) -> Fields {
    labels
        .iter()
        .filter(|(name, _)| !name.starts_with(naming::LABEL_PREFIX))
        .map(|(name, value)| (format!("labels.{name}"), Value::from(value.as_str())))
        .collect()
}

/// Adds the names on the machine of the networks and volumes that `service` names by key.
fn add_names(stack: &Stack, service: &Service, fields: &mut Fields) {
    for key in service.networks.keys() {
        let name = stack.networks.get(key).map(|network| network.name.as_str());
        let path = format!("networks.{key}.name");
        fields.insert(path, name.unwrap_or(key.as_str()).into());
    }
    for mount in &service.volumes {
        if let MountSource::Volume {
            source: Some(key), ..
        } = &mount.source
        {
            let name = stack.volumes.get(key).map(|volume| volume.name.as_str());
            let path = format!("volumes.{}.name", mount.target);
            fields.insert(path, name.unwrap_or(key.as_str()).into());
        }
    }
}

/// Adds the digest of each secret's or config's content.
fn add_contents(
    kind: &str,
    service: &Service,
    digests: &BTreeMap<String, String>,
    fields: &mut Fields,
) {
    let grants = match kind {
        "secrets" => &service.secrets,
        _ => &service.configs,
    };
    for grant in grants {
        if let Some(digest) = digests.get(&grant.source) {
            let path = format!("{kind}.{}.content", grant.target);
            fields.insert(path, digest.as_str().into());
        }
    }
}

/// Adds `value` at `path`, taken apart.
fn flatten(path: &str, value: Value, fields: &mut Fields) {
    match value {
        Value::Object(map) => match duration(&map) {
            Some(text) => {
                fields.insert(path.to_owned(), text.into());
            }
            None => {
                for (key, value) in map {
                    flatten(&format!("{path}.{key}"), value, fields);
                }
            }
        },
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.into_iter().enumerate() {
                let target = item.get("target").and_then(Value::as_str);
                let mut key = format!("{path}.{}", target.unwrap_or(&index.to_string()));
                // Two mounts on one target: keep both.
                let taken = format!("{key}.target");
                if fields.contains_key(&taken) {
                    key = format!("{key}#{index}");
                }
                flatten(&key, item, fields);
            }
        }
        plain => {
            fields.insert(path.to_owned(), plain);
        }
    }
}

/// Reads serde's form of a [`Duration`], `{secs, nanos}`, as text.
fn duration(map: &Map<String, Value>) -> Option<String> {
    let secs = map.get("secs")?.as_u64()?;
    let nanos = map.get("nanos")?.as_u64()?;
    if map.len() != 2 {
        return None;
    }
    let duration = Duration::new(secs, u32::try_from(nanos).ok()?);
    Some(format!("{duration:?}"))
}

/// Returns the host ports that a service asks for by number, `8080/tcp`, whatever their address; a range is left out, since another
/// of its ports will do.
pub fn host_ports(asked: &Fields) -> BTreeSet<String> {
    let ports = asked.get("ports").and_then(Value::as_array);
    let ports = ports.into_iter().flatten().filter_map(Value::as_str);
    let host = ports.filter_map(|port| {
        let (host, target) = port.rsplit_once(':')?;
        let number = host.rsplit(':').next()?;
        let (_, protocol) = target.split_once('/')?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| format!("{number}/{protocol}"))
    });
    host.collect()
}

/// Renders a port as `[host_ip:][published:]target/protocol`.
fn short_port(port: &Port) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let host = match port.host_ip {
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
        Some(IpAddr::V4(address)) => format!("{address}:"),
        None => String::new(),
    };
    let published = match port.published {
        Some(range) if range.first == range.last => format!("{}:", range.first),
        Some(range) => format!("{}-{}:", range.first, range.last),
        None => String::new(),
    };
    format!("{host}{published}{}/{protocol}", port.target).into()
}
