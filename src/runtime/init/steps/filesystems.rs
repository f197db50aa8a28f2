//! What a container sees mounted: the kernel's file systems, devices, volumes, files.

use std::path::Path;

use crate::runtime::config::{
    ContainerConfig, FileOrigin, InjectedFile, MountSource, Namespace, UserNamespace,
};
use crate::runtime::init::steps::{
    Content, DeviceNode, Facts, Fill, HostTree, InitStep, Overlay, Place, Plan,
};
use crate::sys::mount::{Attributes, Depth};

/// Devices that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that every container has in /dev.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Files of procfs that others may lie over: what lxcfs offers.
const OVER_PROC: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/net/dev",
];

/// `nosuid,nodev,noexec`.
fn inert() -> Attributes {
    Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC
}

/// A mount step.
fn mount(
    kind: &'static str,
    options: &[(&str, &str)],
    attributes: Attributes,
    target: &str,
) -> InitStep {
    let options = options
        .iter()
        .map(|&(key, value)| (key.to_owned(), Some(value.to_owned())));
    InitStep::Mount {
        kind,
        options: options.collect(),
        attributes,
        target: target.to_owned(),
        place: place_of(target),
    }
}

/// How one of the standard targets is found.
fn place_of(target: &str) -> Place {
    match target {
        "/proc" => Place::RealDirectory("proc"),
        "/sys" => Place::RealDirectory("sys"),
        "/dev" => Place::RealDirectory("dev"),
        _ => Place::InRoot,
    }
}

/// /proc and /sys.
pub(super) fn kernel_filesystems(config: &ContainerConfig, plan: &mut Plan) {
    plan.steps.push(mount("proc", &[], inert(), "/proc"));
    let read_only = if config.privileged {
        Attributes::empty()
    } else {
        Attributes::MOUNT_ATTR_RDONLY
    };
    // sysfs can be mounted only by who owns the network namespace; with id maps that is the host.
    if config.namespaces.user == UserNamespace::Host {
        plan.steps
            .push(mount("sysfs", &[], inert() | read_only, "/sys"));
    } else {
        bind(plan, "/sys", "/sys", Depth::Recursive, true);
    }
}

/// /dev and what is in it.
pub(super) fn devices(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    plan.steps.push(mount(
        "tmpfs",
        &[("mode", "755"), ("size", "65536k")],
        Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_STRICTATIME,
        "/dev",
    ));
    for (name, major, minor) in DEVICES {
        if config.namespaces.user == UserNamespace::Host {
            plan.steps.push(InitStep::MakeNode(DeviceNode {
                name: name.to_owned(),
                mode: libc::S_IFCHR | 0o666,
                device: rustix::fs::makedev(major, minor),
            }));
        } else {
            // Nobody may make devices in a user namespace.
            let path = format!("/dev/{name}");
            bind(plan, &path, &path, Depth::One, false);
        }
    }
    if config.privileged && config.namespaces.user == UserNamespace::Host {
        let standard = |node: &&DeviceNode| DEVICES.iter().all(|(name, ..)| *name != node.name);
        let nodes = facts.devices.iter().filter(standard).cloned();
        plan.steps.extend(nodes.map(InitStep::MakeNode));
    }
    for (name, target) in LINKS {
        plan.steps.push(InitStep::MakeLink { name, target });
    }
    plan.steps.push(InitStep::KeepNull);
    let terminals = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    plan.steps
        .push(mount("devpts", &options, terminals, "/dev/pts"));
    shared_memory(config, plan);
    plan.steps
        .push(mount("mqueue", &[], inert(), "/dev/mqueue"));
}

/// /dev/shm goes with the IPC namespace.
fn shared_memory(config: &ContainerConfig, plan: &mut Plan) {
    match &config.namespaces.ipc {
        Namespace::Own => {
            let size = config.shm_bytes.to_string();
            let options = [("mode", "1777"), ("size", size.as_str())];
            plan.steps
                .push(mount("tmpfs", &options, inert(), "/dev/shm"));
        }
        Namespace::Host => bind(plan, "/dev/shm", "/dev/shm", Depth::One, false),
        Namespace::Container(container) => {
            bind(plan, "/dev/shm", "/dev/shm", Depth::One, false);
            if let Some(tree) = plan.trees.last_mut() {
                tree.within = Some(container.clone());
            }
        }
    }
}

/// A bind of a path of the host as it is.
fn bind(plan: &mut Plan, path: &str, target: &str, depth: Depth, read_only: bool) {
    plan.trees.push(HostTree {
        path: path.into(),
        inside: None,
        overlay: None,
        within: None,
        depth,
        read_only,
        id_mapped: false,
    });
    plan.steps.push(InitStep::Bind {
        tree: plan.trees.len() - 1,
        target: target.to_owned(),
        propagation: libc::MS_PRIVATE | libc::MS_REC,
        over_proc: false,
        place: place_of(target),
    });
}

/// /sys/fs/cgroup, read-only (CVE-2022-0492, CVE-2023-25809).
pub(super) fn cgroup_filesystems(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    // The bind of the host's /sys has brought the host's hierarchies.
    if config.namespaces.user != UserNamespace::Host {
        return;
    }
    let read_only = if config.privileged {
        Attributes::empty()
    } else {
        Attributes::MOUNT_ATTR_RDONLY
    };
    let split = facts.cgroup.iter().any(|mount| !mount.directory.is_empty());
    if split {
        let options = [("mode", "755"), ("size", "64k")];
        plan.steps
            .push(mount("tmpfs", &options, inert(), "/sys/fs/cgroup"));
    }
    for hierarchy in &facts.cgroup {
        let separator = if hierarchy.directory.is_empty() {
            ""
        } else {
            "/"
        };
        plan.steps.push(InitStep::Mount {
            kind: hierarchy.kind,
            options: hierarchy.options.clone(),
            attributes: inert() | read_only,
            target: format!("/sys/fs/cgroup{separator}{}", hierarchy.directory),
            place: Place::InRoot,
        });
        if hierarchy.directory.contains(',') {
            plan.steps.push(InitStep::LinkCgroup {
                directory: hierarchy.directory.clone(),
                controllers: hierarchy.directory.split(',').map(str::to_owned).collect(),
            });
        }
    }
    if split && !config.privileged {
        plan.steps.push(InitStep::SealCgroups);
    }
}

/// Binds, volumes and tmpfs, in the order of the configuration.
pub(super) fn mounts(config: &ContainerConfig, plan: &mut Plan) -> Result<(), String> {
    for entry in &config.mounts {
        if !entry.target.starts_with('/') || Path::new(&entry.target) == Path::new("/") {
            return Err(format!(
                "mount target `{}` is not an absolute path below `/`",
                entry.target
            ));
        }
        match &entry.source {
            MountSource::Bind { path, propagation } => {
                plan.trees.push(HostTree {
                    path: path.clone(),
                    inside: None,
                    overlay: None,
                    within: None,
                    depth: Depth::Recursive,
                    read_only: entry.read_only,
                    id_mapped: false,
                });
                bind_last(plan, &entry.target, parse_propagation(propagation)?);
            }
            MountSource::Volume {
                path,
                subpath,
                copy_up,
            } => {
                if *copy_up {
                    plan.fills.push(Fill {
                        volume: path.clone(),
                        target: entry.target.clone(),
                    });
                }
                plan.trees.push(HostTree {
                    path: path.clone(),
                    inside: subpath.clone(),
                    overlay: None,
                    within: None,
                    depth: Depth::One,
                    read_only: entry.read_only,
                    id_mapped: true,
                });
                bind_last(plan, &entry.target, libc::MS_PRIVATE | libc::MS_REC);
            }
            MountSource::Layers { lowers, scratch } => {
                let (path, below) = lowers.split_first().ok_or("a mount of no layers")?;
                plan.trees.push(HostTree {
                    path: path.clone(),
                    inside: None,
                    overlay: Some(Overlay {
                        below: below.to_vec(),
                        scratch: scratch.clone(),
                    }),
                    within: None,
                    depth: Depth::One,
                    read_only: entry.read_only,
                    id_mapped: true,
                });
                bind_last(plan, &entry.target, libc::MS_PRIVATE);
            }
            MountSource::Tmpfs {
                size_bytes,
                mode,
                executable,
            } => {
                let mut attributes = if *executable {
                    Attributes::MOUNT_ATTR_NOSUID
                } else {
                    inert()
                };
                if entry.read_only {
                    attributes |= Attributes::MOUNT_ATTR_RDONLY;
                }
                plan.steps
                    .push(memory(*size_bytes, *mode, attributes, &entry.target));
            }
        }
    }
    Ok(())
}

/// A tmpfs that somebody asked for.
fn memory(
    size_bytes: Option<u64>,
    mode: Option<u32>,
    attributes: Attributes,
    target: &str,
) -> InitStep {
    let mode = format!("{:o}", mode.unwrap_or(0o1777));
    let size = size_bytes.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let mut step = mount("tmpfs", &options, attributes, target);
    if let InitStep::Mount { place, .. } = &mut step {
        *place = Place::InRoot;
    }
    step
}

/// Binds the tree that was added last.
fn bind_last(plan: &mut Plan, target: &str, propagation: libc::c_ulong) {
    plan.steps.push(InitStep::Bind {
        tree: plan.trees.len().saturating_sub(1),
        target: target.to_owned(),
        propagation,
        over_proc: OVER_PROC.contains(&target),
        place: Place::InRoot,
    });
}

/// Reads `rprivate`, `shared` and so on.
fn parse_propagation(text: &str) -> Result<libc::c_ulong, String> {
    let (recursive, plain) = match text.strip_prefix('r') {
        Some(plain) => (libc::MS_REC, plain),
        None => (0, text),
    };
    match plain {
        "" if recursive == 0 => Ok(libc::MS_PRIVATE | libc::MS_REC),
        "private" => Ok(libc::MS_PRIVATE | recursive),
        "slave" => Ok(libc::MS_SLAVE | recursive),
        "shared" => Ok(libc::MS_SHARED | recursive),
        _ => Err(format!("bind propagation `{text}` is not known")),
    }
}

/// /etc/hosts, /etc/hostname and /etc/resolv.conf, unless the user mounts his own there.
pub(super) fn etc_files(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let taken = config.mounts.iter().any(|mount| mount.target == target)
            || config.files.iter().any(|file| file.target == target);
        if taken || (name == "hostname" && !facts.hostname_file) {
            continue;
        }
        plan.trees.push(HostTree {
            path: facts.etc_directory.join(name),
            inside: None,
            overlay: None,
            within: None,
            depth: Depth::One,
            read_only: config.read_only,
            id_mapped: true,
        });
        bind_last(plan, &target, libc::MS_PRIVATE);
    }
}

/// Secrets and configs.
pub(super) fn files(config: &ContainerConfig, plan: &mut Plan) {
    for file in &config.files {
        match &file.origin {
            FileOrigin::HostFile(path) => {
                plan.trees.push(HostTree {
                    path: path.clone(),
                    inside: None,
                    overlay: None,
                    within: None,
                    depth: Depth::One,
                    read_only: true,
                    id_mapped: false,
                });
                bind_last(plan, &file.target, libc::MS_PRIVATE);
            }
            FileOrigin::Content(content) => {
                plan.steps.push(inject(file, content.as_bytes()));
            }
            FileOrigin::Bytes(content) => plan.steps.push(inject(file, content)),
        }
    }
}

/// Places a file by its content.
fn inject(file: &InjectedFile, content: &[u8]) -> InitStep {
    InitStep::Inject {
        target: file.target.clone(),
        content: Content(content.to_vec()),
        uid: file.uid,
        gid: file.gid,
        mode: file.mode,
    }
}
