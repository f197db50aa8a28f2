//! Devices by their names in the Container Device Interface (CDI specification 0.8): `vendor/class=name`.
//!
//! ```text
//! /etc/cdi/*.{json,yaml}      what the administrator says
//! /var/run/cdi/*.{…}          what drivers say; of one name it counts over the former
//! ```
//!
//! `STACK_CDI_DIRS` names other directories, separated by colons, the last of the highest rank. A file counts if it is root's and nobody
//! else can write it, for what it says is mounted. Variables, device nodes and mounts are done; hooks, which are programs that would run
//! as root, are not, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;

use crate::images::boolean::parse_bool;
use crate::images::build::{DeviceEdits, DeviceMount, DeviceNode, FoundDevice};
use crate::spec::diagnostic::Diagnostics;
use crate::spec::source::SourceId;
use crate::spec::tree::{Node, Value};
use crate::spec::yaml::parse;

/// Where specifications are, the last of the highest rank.
const DIRECTORIES: &str = "/etc/cdi:/var/run/cdi";
/// The variable that says it otherwise.
const VARIABLE: &str = "STACK_CDI_DIRS";
/// BuildKit's annotations: devices of a class, and devices that any build may have.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
const FREE: &str = "org.mobyproject.buildkit.device.autoallow";
/// Options of mounts that are as ours are, or are done.
const BIND: [&str; 6] = ["bind", "rbind", "private", "rprivate", "ro", "rw"];
/// Bytes of the largest specification that is read.
const MAX_BYTES: u64 = 4 << 20;

/// What the machine says about devices.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By full name.
    devices: BTreeMap<String, (FoundDevice, Option<String>)>,
}

/// Why devices cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("read the devices of `{}`: {why}", path.display())]
pub(crate) struct CdiError {
    path: PathBuf,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<NodeSpec>,
    mounts: Vec<MountSpec>,
    hooks: Vec<Json>,
    intel_rdt: Option<Json>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSpec {
    path: String,
    host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MountSpec {
    host_path: PathBuf,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

impl Registry {
    /// Reads what the directories of the machine say.
    pub(crate) fn read(environment: &BTreeMap<String, String>) -> Result<Self, CdiError> {
        let directories = environment.get(VARIABLE).filter(|text| !text.is_empty());
        let directories = directories.map_or(DIRECTORIES, String::as_str);
        let mut registry = Self::default();
        for directory in directories.split(':').map(Path::new) {
            let mut paths = Vec::new();
            match fs_err::read_dir(directory) {
                Ok(entries) => {
                    for entry in entries {
                        paths.push(entry.map_err(|e| wrong(directory, e.to_string()))?.path());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(directory, error.to_string())),
            }
            paths.sort();
            for path in paths {
                let extension = path.extension().unwrap_or_default().to_owned();
                if extension == "json" || extension == "yaml" || extension == "yml" {
                    registry.add(&path)?;
                }
            }
        }
        Ok(registry)
    }

    /// Adds what one file says.
    fn add(&mut self, path: &Path) -> Result<(), CdiError> {
        let failed = |error: std::io::Error| wrong(path, error.to_string());
        let metadata = fs_err::metadata(path).map_err(failed)?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Err(wrong(path, "others than root can write it".to_owned()));
        }
        if !metadata.is_file() {
            return Err(wrong(path, "it is not a regular file".to_owned()));
        }
        if metadata.len() > MAX_BYTES {
            return Err(wrong(path, "it is too large".to_owned()));
        }
        let text = fs_err::read_to_string(path).map_err(failed)?;
        let spec = parse_spec(&text).map_err(|why| wrong(path, why))?;
        for device in spec.devices {
            let name = format!("{}={}", spec.kind, device.name);
            let annotation = |key: &str| {
                let own = device.annotations.get(key);
                own.or_else(|| spec.annotations.get(key)).cloned()
            };
            let is_free = annotation(FREE).and_then(|text| parse_bool(&text)) == Some(true);
            let (mut edits, mut left_out) = (DeviceEdits::default(), Vec::new());
            for part in [&device.container_edits, &spec.container_edits] {
                take(part, &mut edits, &mut left_out);
            }
            let found = FoundDevice {
                name: name.clone(),
                is_free,
                edits,
                left_out,
            };
            self.devices.insert(name, (found, annotation(CLASS)));
        }
        Ok(())
    }

    /// Finds the devices of a name: one, with `*` all of a kind, without a name the first, with the name of a class all of that.
    pub(crate) fn find(&self, asked: &str) -> Result<Vec<FoundDevice>, String> {
        let (kind, name) = asked.split_once('=').unwrap_or((asked, ""));
        let is_word = |text: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_part)
        };
        match kind.split_once('/') {
            Some((vendor, class)) if is_word(vendor) && is_word(class) => {}
            _ => {
                return Err(format!(
                    "invalid device {asked:?}: it must be VENDOR/CLASS[=NAME]"
                ));
            }
        }
        let prefix = format!("{kind}=");
        let mut of_kind = self
            .devices
            .iter()
            .filter(|(full, _)| full.starts_with(&prefix));
        let found: Vec<&FoundDevice> = match name {
            "" => of_kind
                .next()
                .map(|(_, (device, _))| device)
                .into_iter()
                .collect(),
            "*" => of_kind.map(|(_, (device, _))| device).collect(),
            name => match self.devices.get(asked) {
                Some((device, _)) => vec![device],
                None => of_kind
                    .filter(|(_, (_, class))| class.as_deref() == Some(name))
                    .map(|(_, (device, _))| device)
                    .collect(),
            },
        };
        Ok(found.into_iter().cloned().collect())
    }
}

fn wrong(path: &Path, why: String) -> CdiError {
    CdiError {
        path: path.to_owned(),
        why,
    }
}

/// Reads a specification, JSON or YAML, of which the former is a part.
fn parse_spec(text: &str) -> Result<Spec, String> {
    let json = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) if text.trim_start().starts_with('{') => return Err(error.to_string()),
        Err(_) => {
            let mut diagnostics = Diagnostics::default();
            let documents = parse::parse(text, SourceId::default(), &mut diagnostics);
            match documents.as_deref() {
                Some([document]) => json_of(document),
                _ => return Err("it is no YAML document".to_owned()),
            }
        }
    };
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// Turns a tree into what serde reads.
fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Invalid => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Unsigned(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::String(value) => Json::from(&**value),
        Value::Sequence(items) => items.iter().map(|item| json_of(item)).collect(),
        Value::Mapping(mapping) => {
            let entries = mapping.entries().iter();
            entries
                .map(|entry| (entry.key.to_string(), json_of(&entry.value)))
                .collect()
        }
    }
}

/// Adds edits, and says which are left out.
fn take(part: &Edits, edits: &mut DeviceEdits, left_out: &mut Vec<String>) {
    edits.env.extend(part.env.iter().cloned());
    for node in &part.device_nodes {
        let is_block = match node.kind.as_deref() {
            None | Some("") => None,
            Some("b") => Some(true),
            Some("c" | "u") => Some(false),
            Some(other) => {
                left_out.push(format!(
                    "the node {} of type `{other}` is left out",
                    node.path
                ));
                continue;
            }
        };
        let number = is_block.zip(node.major.filter(|major| *major > 0));
        edits.nodes.push(DeviceNode {
            path: node.path.clone(),
            host_path: node
                .host_path
                .clone()
                .unwrap_or_else(|| node.path.clone().into()),
            number: number.map(|(is_block, major)| (is_block, major, node.minor.unwrap_or(0))),
            mode: node.file_mode,
            uid: node.uid,
            gid: node.gid,
            permissions: node.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
        });
    }
    for mount in &part.mounts {
        edits.mounts.push(DeviceMount {
            host_path: mount.host_path.clone(),
            target: mount.container_path.clone(),
            read_only: mount.options.iter().any(|option| option == "ro"),
        });
    }
    let options = part.mounts.iter().flat_map(|mount| &mount.options);
    let options: BTreeSet<&str> = options
        .map(String::as_str)
        .filter(|option| !BIND.contains(option))
        .collect();
    if !options.is_empty() {
        let options: Vec<&str> = options.into_iter().collect();
        left_out.push(format!(
            "the options {} of its mounts are left out",
            options.join(", ")
        ));
    }
    for (is_there, what) in [
        (!part.hooks.is_empty(), "its hooks are not run"),
        (
            part.intel_rdt.is_some(),
            "its Intel RDT settings are left out",
        ),
        (
            !part.additional_gids.is_empty(),
            "its additional groups are left out",
        ),
    ] {
        if is_there {
            left_out.push(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
cdiVersion: '0.6.0'
kind: vendor.com/thing
annotations: {org.mobyproject.buildkit.device.autoallow: 'true'}
devices:
  - name: one
    annotations: {org.mobyproject.buildkit.device.class: fast}
    containerEdits:
      env: [ONE=1]
      deviceNodes: [{path: /dev/one, hostPath: /dev/null, fileMode: 0o660, permissions: rw}]
      hooks: [{hookName: createContainer, path: /bin/x}]
  - name: two
    containerEdits:
      deviceNodes: [{path: /dev/two, type: c, major: 1, minor: 5}]
containerEdits:
  mounts: [{hostPath: /etc/hostname, containerPath: /h, options: [ro, bind, nosuid]}]
";

    fn registry(files: &[(&str, &str)]) -> Result<Registry, String> {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = temp.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs_err::set_permissions(&path, mode).unwrap();
        }
        let top = temp.path().display();
        let directories = format!("{top}/a:{top}/b:{top}/none");
        let environment = BTreeMap::from([(VARIABLE.to_owned(), directories)]);
        Registry::read(&environment).map_err(|error| error.why)
    }

    #[test]
    fn devices_are_found_by_name_kind_and_class() {
        let json = r#"{"kind": "vendor.com/thing", "devices": [{"name": "two", "containerEdits": {"env": ["TWO=json"]}}]}"#;
        let registry = registry(&[("a/v.yaml", YAML), ("b/v.json", json), ("a/readme", "x")]);
        let registry = registry.unwrap();
        let table = [
            ("vendor.com/thing=one", "one"),
            ("vendor.com/thing", "one"),
            ("vendor.com/thing=*", "one two"),
            ("vendor.com/thing=fast", "one"),
            ("vendor.com/thing=none", ""),
            ("vendor.com/other", ""),
        ];
        for (asked, expected) in table {
            let found = registry.find(asked).unwrap();
            let names = found
                .iter()
                .map(|device| device.name.split('=').next_back());
            let names: Vec<&str> = names.flatten().collect();
            assert_eq!(names.join(" "), expected, "{asked}");
        }
        for bad in ["thing=x", "vendor.com/=x", "/dev/null"] {
            assert!(
                registry.find(bad).unwrap_err().contains("invalid device"),
                "{bad}"
            );
        }
        let one = registry.find("vendor.com/thing=one").unwrap();
        let expected = FoundDevice {
            name: "vendor.com/thing=one".to_owned(),
            is_free: true,
            edits: DeviceEdits {
                env: vec!["ONE=1".to_owned()],
                nodes: vec![DeviceNode {
                    path: "/dev/one".to_owned(),
                    host_path: "/dev/null".into(),
                    number: None,
                    mode: Some(0o660),
                    uid: None,
                    gid: None,
                    permissions: "rw".to_owned(),
                }],
                mounts: vec![DeviceMount {
                    host_path: "/etc/hostname".into(),
                    target: "/h".to_owned(),
                    read_only: true,
                }],
            },
            left_out: vec![
                "its hooks are not run".to_owned(),
                "the options nosuid of its mounts are left out".to_owned(),
            ],
        };
        assert_eq!(one, [expected]);
        // What a driver says counts over what the administrator says.
        let two = registry.find("vendor.com/thing=two").unwrap();
        assert_eq!(two[0].edits.env, ["TWO=json"]);
        assert!(!two[0].is_free);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, expected) in [
            ("{", "EOF while parsing"),
            ("devices: []", "missing field `kind`"),
            ("a: [", "it is no YAML document"),
            ("kind: 1", "invalid type"),
        ] {
            let why = registry(&[("a/x.yaml", text)]).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
