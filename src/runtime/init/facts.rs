//! Gathers what decisions need to know of the host.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::runtime::cgroup::{Hierarchy, Version};
use crate::runtime::init::steps::{CgroupMount, DeviceNode, Facts};
use crate::runtime::init::{SpawnRequest, StartError};

/// Entries of /dev that containers have their own of.
const OWN: [&str; 11] = [
    "console", "core", "fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout", ".lxc",
];

/// Looks at the host.
pub(crate) fn gather(request: &SpawnRequest<'_>) -> Result<Facts, StartError> {
    let mut devices = Vec::new();
    if request.config.privileged {
        collect_devices(Path::new("/dev"), "", &mut devices).map_err(|source| {
            StartError::Step {
                step: "list the devices of `/dev`".to_owned(),
                source,
            }
        })?;
    }
    let hierarchies: Vec<&Hierarchy> = request.cgroup.hierarchies().collect();
    Ok(Facts {
        devices,
        cgroup: cgroup_mounts(&hierarchies),
        masked: throttle_files(),
        netns: request.netns.is_some(),
        etc_directory: request.etc_directory.to_owned(),
        hostname_file: request.hostname_file,
    })
}

/// Collects the device nodes of a directory of /dev, sorted.
fn collect_devices(directory: &Path, prefix: &str, found: &mut Vec<DeviceNode>) -> io::Result<()> {
    let mut entries = fs_err::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        // A name that is no text cannot be told to a container.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if prefix.is_empty() && OWN.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect_devices(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let metadata = entry.metadata()?;
            found.push(DeviceNode {
                name: path,
                mode: metadata.mode(),
                device: metadata.rdev(),
            });
        }
    }
    Ok(())
}

/// Decides what is mounted under /sys/fs/cgroup: the unified hierarchy alone, or each v1 hierarchy in its directory.
fn cgroup_mounts(hierarchies: &[&Hierarchy]) -> Vec<CgroupMount> {
    let legacy: Vec<CgroupMount> = hierarchies
        .iter()
        .filter(|hierarchy| hierarchy.version == Version::V1)
        .map(|hierarchy| CgroupMount {
            directory: hierarchy.controllers.join(","),
            kind: "cgroup",
            options: hierarchy
                .controllers
                .iter()
                .map(|name| (name.clone(), None))
                .collect(),
        })
        .collect();
    if legacy.is_empty() && !hierarchies.is_empty() {
        return vec![CgroupMount {
            directory: String::new(),
            kind: "cgroup2",
            options: Vec::new(),
        }];
    }
    legacy
}

/// Returns what each CPU tells about heat, which depends on what other tenants do; virtual machines have none.
fn throttle_files() -> Vec<String> {
    let path = |cpu: usize| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    // More CPUs than any machine has.
    (0..8192)
        .map(path)
        .take_while(|path| rustix::fs::access(path.as_str(), rustix::fs::Access::EXISTS).is_ok())
        .collect()
}
