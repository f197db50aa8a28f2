//! `RUN --device`: devices of the machine by their names in the Container Device Interface, `vendor/class=name`.
//!
//! Whoever runs the steps knows them ([`StepRunner::find_devices`](super::StepRunner::find_devices)); here is what a step may have of them
//! and what that changes: variables, mounts, device nodes. A node is the machine's own, bound; one whose owner or mode is to be another is
//! made for the step. The names are in the step's key, what they stand for is not.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, Uid};

use super::super::dockerfile::instruction::Run;
use super::builder::Build;
use super::error::StepFailure;
use super::mounts::Prepared;
use super::step::{DeviceEdits, DeviceNode, FoundDevice, StepDevice, StepMount, StepSource};
use super::{BuildEvent, Entitlement};

/// Which devices steps may ask for, beyond those that are allowed to all: `--allow device=NAME[,alias=ALIAS]`.
///
/// The name that a Dockerfile uses, and what it stands for.
pub type AllowedDevices = BTreeMap<String, String>;

impl Build<'_> {
    /// Finds the devices of a `RUN`, each once, and refuses those that it may not have.
    pub(super) fn devices(&self, run: &Run) -> Result<Vec<FoundDevice>, StepFailure> {
        let mut devices: Vec<FoundDevice> = Vec::new();
        for asked in &run.devices {
            let allowed = &self.request.allowed_devices;
            let name = allowed.get(&asked.name).unwrap_or(&asked.name);
            let found = self.runner.find_devices(name)?;
            if found.is_empty() && asked.required {
                return Err(StepFailure::NoDevice(name.clone()));
            }
            if found.is_empty() {
                let text =
                    format!("the device `{name}` is not registered: the step runs without it");
                self.progress.event(BuildEvent::Warning(&text));
            }
            let all = self.request.allowed.contains(&Entitlement::Device);
            for device in found {
                let is_allowed = all
                    || device.is_free
                    || allowed.contains_key(&asked.name)
                    || allowed.values().any(|name| *name == device.name);
                if !is_allowed {
                    return Err(StepFailure::DeviceNotAllowed(device.name));
                }
                for what in &device.left_out {
                    let text = format!("the device `{}`: {what}", device.name);
                    self.progress.event(BuildEvent::Warning(&text));
                }
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
        }
        Ok(devices)
    }
}

/// Adds devices to what a step is given; nodes that have to be made are made in `room`. Returns the rules of their use.
pub(super) fn add(
    devices: &[FoundDevice],
    prepared: &mut Prepared,
    room: &Path,
) -> Result<Vec<StepDevice>, StepFailure> {
    let mut rules = Vec::new();
    for device in devices {
        let DeviceEdits { env, nodes, mounts } = &device.edits;
        for line in env {
            let name = line.split('=').next().unwrap_or_default();
            let is_same = |other: &String| other.split('=').next() == Some(name);
            prepared.env.retain(|other| !is_same(other));
            prepared.env.push(line.clone());
        }
        for node in nodes {
            let failed = |source| StepFailure::Device {
                name: device.name.clone(),
                path: node.host_path.clone(),
                source,
            };
            let path = room.join(format!("device-{}", rules.len()));
            let (source, rule) = place(node, &path).map_err(failed)?;
            rules.push(rule);
            add_mount(prepared, &node.path, source, false);
        }
        for mount in mounts {
            add_mount(
                prepared,
                &mount.target,
                mount.host_path.clone(),
                mount.read_only,
            );
        }
    }
    Ok(rules)
}

/// Adds a mount unless it is there: several devices may have one in common.
fn add_mount(prepared: &mut Prepared, target: &str, path: PathBuf, read_only: bool) {
    let mount = StepMount {
        target: target.to_owned(),
        source: StepSource::Host(path),
        read_only,
    };
    let is_there = |other: &StepMount| other.target == mount.target;
    if !prepared.mounts.iter().any(is_there) {
        prepared.mounts.push(mount);
    }
}

/// Returns where the node of a device is, and the rule of its use; it is made at `room` where the machine's own does not serve.
fn place(node: &DeviceNode, room: &Path) -> io::Result<(PathBuf, StepDevice)> {
    let of_host = match fs_err::metadata(&node.host_path) {
        Ok(metadata) => Some(metadata),
        // What says its numbers needs no example.
        Err(_) if node.number.is_some() => None,
        Err(error) => return Err(error),
    };
    let (is_block, number, facts) = match (&of_host, node.number) {
        (_, Some((is_block, major, minor))) => (is_block, (major, minor), (0, 0, 0o600)),
        (Some(metadata), None) => {
            let kind = metadata.file_type();
            if !kind.is_block_device() && !kind.is_char_device() {
                return Err(io::Error::other("it is no device"));
            }
            let number = metadata.rdev();
            let number = (rustix::fs::major(number), rustix::fs::minor(number));
            let facts = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
            (kind.is_block_device(), number, facts)
        }
        (None, None) => return Err(io::ErrorKind::NotFound.into()),
    };
    let (major, minor) = number;
    let rule = StepDevice {
        is_block,
        major,
        minor,
        permissions: node.permissions.clone(),
    };
    let wanted = (
        node.uid.unwrap_or(facts.0),
        node.gid.unwrap_or(facts.1),
        node.mode.unwrap_or(facts.2),
    );
    if of_host.is_some() && node.number.is_none() && wanted == facts {
        return Ok((node.host_path.clone(), rule));
    }
    let kind = if is_block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, room, kind, Mode::empty(), number)?;
    let (uid, gid, mode) = wanted;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chown(room, owner.0, owner.1)?;
    rustix::fs::chmod(room, Mode::from_raw_mode(mode & 0o7777))?;
    Ok((room.to_owned(), rule))
}
