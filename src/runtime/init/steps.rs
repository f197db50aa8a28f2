//! Decides everything that is done to start a container: pure, a [`ContainerConfig`] in, a list of steps out.
//!
//! [`Plan::trees`] and [`Plan::fills`] are for the caller, who still sees the host; [`Plan::steps`] are for the child, in order.
//! Steps name trees by their index.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::runtime::config::{
    ContainerConfig, ContainerId, FileOrigin, MountSource, Namespace, Process, Rlimit,
    UserNamespace,
};
use crate::sys::clone;
use crate::sys::mount::{Attributes, Depth};

/// Facts about the host that decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Nodes under /dev, for privileged containers; names relative to it.
    pub(crate) devices: Vec<DeviceNode>,
    /// What is mounted under /sys/fs/cgroup.
    pub(crate) cgroup: Vec<CgroupMount>,
    /// Paths to mask that depend on the machine: `/sys/devices/system/cpu/cpuN/thermal_throttle`.
    pub(crate) masked: Vec<String>,
    /// Whether the caller gives a network namespace.
    pub(crate) netns: bool,
    /// Where the generated files for /etc are.
    pub(crate) etc_directory: PathBuf,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Path relative to /dev.
    pub(crate) name: String,
    /// File type and permission bits.
    pub(crate) mode: u32,
    /// Device number.
    pub(crate) device: u64,
}

/// A mount under /sys/fs/cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// Directory beneath /sys/fs/cgroup; empty for a unified hierarchy in its place.
    pub(crate) directory: String,
    /// File system type: `cgroup` or `cgroup2`.
    pub(crate) kind: &'static str,
    /// Its options: the controllers of a v1 hierarchy.
    pub(crate) options: Vec<(String, Option<String>)>,
}

/// What is done, by whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// `CLONE_NEW*` for the child.
    pub(crate) clone_flags: i32,
    /// Namespaces that the process between enters first.
    pub(crate) join: Vec<Join>,
    /// Trees of the host, detached by the caller before the clone.
    pub(crate) trees: Vec<HostTree>,
    /// Volumes to fill from the image before their trees are taken.
    pub(crate) fills: Vec<Fill>,
    /// What the child does.
    pub(crate) steps: Vec<InitStep>,
}

/// Namespaces of another container to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    /// Whose.
    pub(crate) container: ContainerId,
    /// `CLONE_NEW*`.
    pub(crate) flags: i32,
}

/// A tree of the host that the container will see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostTree {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// In whose mount namespace; the caller's where `None`.
    pub(crate) within: Option<ContainerId>,
    /// With the mounts beneath or without.
    pub(crate) depth: Depth,
    /// Read-only in the container.
    pub(crate) read_only: bool,
    /// Its owners are shown through the container's id maps, where it has any.
    pub(crate) id_mapped: bool,
}

/// A volume to fill from the image's content, if it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The volume's data directory.
    pub(crate) volume: PathBuf,
    /// Where it will be mounted.
    pub(crate) target: String,
}

/// Where a file system is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory directly in the root, which must be a real one: `proc`, `sys`, `dev`. Its mount is kept open.
    RealDirectory(&'static str),
    /// Anywhere in the root.
    InRoot,
}

/// One action of the child.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InitStep {
    /// `setns` into the network namespace that the caller gave.
    EnterNetwork,
    /// `lo` up, in a namespace of its own.
    LoopbackUp,
    /// A cgroup namespace whose root is the container's group.
    NewCgroupNamespace,
    /// The cgroup namespace of the container that is joined.
    JoinCgroupNamespace,
    /// Mounts no longer reach the host.
    IsolateMounts,
    /// The root file system into the mount namespace.
    AttachRoot,
    /// A new file system.
    Mount {
        /// Type.
        kind: &'static str,
        /// Options of the file system.
        options: Vec<(String, Option<String>)>,
        /// Options of the mount.
        attributes: Attributes,
        /// Path in the container.
        target: String,
        /// How the target is found.
        place: Place,
    },
    /// A device in our /dev.
    MakeNode(DeviceNode),
    /// A symbolic link in our /dev.
    MakeLink {
        /// Path relative to /dev.
        name: &'static str,
        /// What it says.
        target: &'static str,
    },
    /// A symbolic link beside the cgroup hierarchies.
    LinkCgroup {
        /// Directory beneath /sys/fs/cgroup.
        directory: String,
        /// Each controller mounted there.
        controllers: Vec<String>,
    },
    /// The directory of the hierarchies read-only.
    SealCgroups,
    /// Keep our /dev/null open, checked to be device 1:3.
    KeepNull,
    /// A tree of the host.
    Bind {
        /// Index of [`Plan::trees`].
        tree: usize,
        /// Path in the container, made if missing.
        target: String,
        /// `MS_PRIVATE` and so on; recursive where set with `MS_REC`.
        propagation: libc::c_ulong,
        /// Whether the target may be in procfs.
        over_proc: bool,
        /// How the target is found.
        place: Place,
    },
    /// A small file of our own content, read-only, in memory.
    Inject {
        /// Path in the container.
        target: String,
        /// What it holds.
        content: Content,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A kernel parameter.
    SetSysctl {
        /// Path below /proc/sys.
        path: String,
        /// Value.
        value: String,
    },
    /// Hide a path of the kernel's file systems, if there.
    Mask(String),
    /// Make a path of the kernel's file systems read-only, if there.
    MakeReadOnly(&'static str),
    /// `sethostname`.
    SetHostname(String),
    /// `setdomainname`.
    SetDomainname(String),
    /// A terminal of our devpts, its master to the caller.
    OpenTerminal,
    /// The working directory, while the root file system can still be written.
    MakeDirectory(String),
    /// No writes to the root file system.
    MakeRootReadOnly,
    /// Leave the host's tree.
    Pivot,
    /// Standard streams in place, every other descriptor closed.
    ConnectStdio,
    /// A session keyring of its own, where the kernel gives one.
    JoinKeyring,
    /// `setrlimit`.
    SetLimit {
        /// The kernel's number.
        resource: u32,
        /// What is asked for.
        limit: Rlimit,
    },
    /// Look up the user and give it the standard streams.
    FindUser {
        /// As configured.
        user: String,
        /// Additional groups.
        groups: Vec<String>,
    },
    /// The working directory.
    EnterDirectory {
        /// Absolute path.
        path: String,
        /// Make it if missing.
        make: bool,
    },
    /// User, groups, capabilities, filter.
    DropPrivileges {
        /// Bounding set.
        capabilities: u64,
        /// `PR_SET_NO_NEW_PRIVS`.
        no_new_privileges: bool,
    },
    /// Stay as pid 1 and let a child go on.
    BecomeReaper,
}

/// Bytes that are not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) String);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl fmt::Display for InitStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnterNetwork => write!(f, "enter the network namespace"),
            Self::LoopbackUp => write!(f, "bring `lo` up"),
            Self::NewCgroupNamespace => write!(f, "make a cgroup namespace"),
            Self::JoinCgroupNamespace => write!(f, "join the cgroup namespace"),
            Self::IsolateMounts => write!(f, "make all mounts slaves"),
            Self::AttachRoot => write!(f, "attach the root file system"),
            Self::Mount { kind, target, .. } => write!(f, "mount {kind} on `{target}`"),
            Self::MakeNode(node) => write!(f, "make the device `/dev/{}`", node.name),
            Self::MakeLink { name, .. } => write!(f, "make the link `/dev/{name}`"),
            Self::LinkCgroup { directory, .. } => {
                write!(f, "link the controllers of `/sys/fs/cgroup/{directory}`")
            }
            Self::SealCgroups => write!(f, "make `/sys/fs/cgroup` read-only"),
            Self::KeepNull => write!(f, "open `/dev/null`"),
            Self::Bind { target, .. } => write!(f, "mount on `{target}`"),
            Self::Inject { target, .. } => write!(f, "place the file `{target}`"),
            Self::SetSysctl { path, value } => {
                write!(f, "set sysctl `{}` to `{value}`", path.replace('/', "."))
            }
            Self::Mask(path) => write!(f, "mask `{path}`"),
            Self::MakeReadOnly(path) => write!(f, "make `{path}` read-only"),
            Self::SetHostname(name) => write!(f, "set the host name to `{name}`"),
            Self::SetDomainname(name) => write!(f, "set the domain name to `{name}`"),
            Self::OpenTerminal => write!(f, "open a terminal"),
            Self::MakeDirectory(path) => write!(f, "make the working directory `{path}`"),
            Self::MakeRootReadOnly => write!(f, "make the root file system read-only"),
            Self::Pivot => write!(f, "change the root"),
            Self::ConnectStdio => write!(f, "connect the standard streams"),
            Self::JoinKeyring => write!(f, "join a session keyring"),
            Self::SetLimit { limit, .. } => write!(f, "set the limit `{}`", limit.name),
            Self::FindUser { user, .. } if user.is_empty() => write!(f, "find the user `root`"),
            Self::FindUser { user, .. } => write!(f, "find the user `{user}`"),
            Self::EnterDirectory { path, .. } => write!(f, "enter the working directory `{path}`"),
            Self::DropPrivileges { .. } => write!(f, "drop privileges"),
            Self::BecomeReaper => write!(f, "become the init process"),
        }
    }
}

/// Hidden from containers: what the kernel tells about the host or lets root change for all (Docker's list).
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Not writable in containers (Docker's list).
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

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

/// Decides how to start `config`.
///
/// Errors: a sentence on what cannot be, such as a sysctl that would change the host.
pub(crate) fn plan(config: &ContainerConfig, facts: &Facts) -> Result<Plan, String> {
    let mut plan = Plan {
        clone_flags: clone::CLONE_NEWNS,
        join: Vec::new(),
        trees: Vec::new(),
        fills: Vec::new(),
        steps: Vec::new(),
    };
    namespaces(config, facts, &mut plan);
    plan.steps
        .extend([InitStep::IsolateMounts, InitStep::AttachRoot]);
    kernel_filesystems(config, &mut plan);
    devices(config, facts, &mut plan);
    cgroup_filesystems(config, facts, &mut plan);
    for (name, value) in &config.sysctls {
        plan.steps.push(sysctl(config, name, value)?);
    }
    mounts(config, &mut plan)?;
    etc_files(config, facts, &mut plan);
    files(config, &mut plan);
    if config.namespaces.uts == Namespace::Own {
        plan.steps
            .push(InitStep::SetHostname(config.hostname.clone()));
        if let Some(name) = &config.domainname {
            plan.steps.push(InitStep::SetDomainname(name.clone()));
        }
    }
    if !config.privileged {
        let masked = MASKED.iter().map(|&path| path.to_owned());
        let masked = masked.chain(facts.masked.iter().cloned());
        plan.steps.extend(masked.map(InitStep::Mask));
        plan.steps.extend(READ_ONLY.map(InitStep::MakeReadOnly));
    }
    if config.process.tty {
        plan.steps.push(InitStep::OpenTerminal);
    }
    if config.read_only {
        plan.steps
            .push(InitStep::MakeDirectory(config.process.cwd.clone()));
        plan.steps.push(InitStep::MakeRootReadOnly);
    }
    plan.steps.extend([InitStep::Pivot, InitStep::ConnectStdio]);
    process(&config.process, true, &mut plan.steps)?;
    if config.process.init {
        plan.steps.push(InitStep::BecomeReaper);
    }
    Ok(plan)
}

/// Decides what a process that joins a container does.
pub(crate) fn plan_exec(process_config: &Process) -> Result<Vec<InitStep>, String> {
    let mut steps = vec![InitStep::JoinCgroupNamespace];
    if process_config.tty {
        steps.push(InitStep::OpenTerminal);
    }
    steps.push(InitStep::ConnectStdio);
    process(process_config, false, &mut steps)?;
    Ok(steps)
}

/// The steps that every process takes, at the end.
fn process(
    process: &Process,
    make_directory: bool,
    steps: &mut Vec<InitStep>,
) -> Result<(), String> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err("the command is empty".to_owned());
    }
    if !process.cwd.starts_with('/') {
        return Err(format!(
            "the working directory `{}` is not an absolute path",
            process.cwd
        ));
    }
    steps.push(InitStep::JoinKeyring);
    for limit in &process.rlimits {
        let resource = limit_number(&limit.name)
            .ok_or_else(|| format!("limit `{}` is not known", limit.name))?;
        steps.push(InitStep::SetLimit {
            resource,
            limit: limit.clone(),
        });
    }
    steps.push(InitStep::FindUser {
        user: process.user.clone(),
        groups: process.groups.clone(),
    });
    steps.push(InitStep::EnterDirectory {
        path: process.cwd.clone(),
        make: make_directory,
    });
    steps.push(InitStep::DropPrivileges {
        capabilities: process.capabilities,
        no_new_privileges: process.no_new_privileges,
    });
    Ok(())
}

/// The kernel's number of a limit (`man 2 setrlimit`).
fn limit_number(name: &str) -> Option<u32> {
    let names = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    let number = names.iter().position(|known| *known == name)?;
    u32::try_from(number).ok()
}

/// Namespaces: which are new, which are joined.
fn namespaces(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    let namespaces = &config.namespaces;
    let mapped = namespaces.user != UserNamespace::Host;
    for (namespace, flag) in [
        (&namespaces.pid, clone::CLONE_NEWPID),
        (&namespaces.ipc, clone::CLONE_NEWIPC),
        (&namespaces.uts, clone::CLONE_NEWUTS),
    ] {
        match namespace {
            Namespace::Own => plan.clone_flags |= flag,
            Namespace::Host => {}
            Namespace::Container(container) => join(plan, container, flag),
        }
    }
    match (&namespaces.network, facts.netns) {
        // With a user namespace, who enters must still own the network namespace: the process between does.
        (Namespace::Own | Namespace::Container(_), true) if mapped => {}
        (Namespace::Own | Namespace::Container(_), true) => plan.steps.push(InitStep::EnterNetwork),
        (Namespace::Own, false) => {
            plan.clone_flags |= clone::CLONE_NEWNET;
            plan.steps.push(InitStep::LoopbackUp);
        }
        (Namespace::Host, _) => {}
        (Namespace::Container(container), false) => join(plan, container, clone::CLONE_NEWNET),
    }
    match &namespaces.cgroup {
        Namespace::Own => plan.steps.push(InitStep::NewCgroupNamespace),
        Namespace::Host => {}
        Namespace::Container(container) => join(plan, container, clone::CLONE_NEWCGROUP),
    }
}

/// Adds a namespace to enter; those of one container in one call.
fn join(plan: &mut Plan, container: &ContainerId, flag: i32) {
    match plan
        .join
        .iter_mut()
        .find(|join| join.container == *container)
    {
        Some(join) => join.flags |= flag,
        None => plan.join.push(Join {
            container: container.clone(),
            flags: flag,
        }),
    }
}

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
fn kernel_filesystems(config: &ContainerConfig, plan: &mut Plan) {
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
fn devices(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
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
fn cgroup_filesystems(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
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

/// A sysctl that belongs to a namespace of the container's own.
fn sysctl(config: &ContainerConfig, name: &str, value: &str) -> Result<InitStep, String> {
    // Both spellings are in use; with slashes, dots are part of a name (`net/ipv4/conf/eth0.1/…`).
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    let ipc = ["kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/"];
    let owner = if path.starts_with("net/") {
        ("network", &config.namespaces.network)
    } else if ipc.iter().any(|prefix| path.starts_with(prefix)) {
        ("ipc", &config.namespaces.ipc)
    } else {
        return Err(format!(
            "sysctl `{name}` is not one that a container has for itself"
        ));
    };
    if *owner.1 != Namespace::Own {
        return Err(format!(
            "sysctl `{name}` needs a {} namespace of the container's own",
            owner.0
        ));
    }
    let unsafe_part = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(unsafe_part) {
        return Err(format!("sysctl `{name}` is not a valid name"));
    }
    Ok(InitStep::SetSysctl {
        path,
        value: value.to_owned(),
    })
}

/// Binds, volumes and tmpfs, in the order of the configuration.
fn mounts(config: &ContainerConfig, plan: &mut Plan) -> Result<(), String> {
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
                    within: None,
                    depth: Depth::Recursive,
                    read_only: entry.read_only,
                    id_mapped: false,
                });
                bind_last(plan, &entry.target, parse_propagation(propagation)?);
            }
            MountSource::Volume { path, copy_up } => {
                if *copy_up {
                    plan.fills.push(Fill {
                        volume: path.clone(),
                        target: entry.target.clone(),
                    });
                }
                plan.trees.push(HostTree {
                    path: path.clone(),
                    within: None,
                    depth: Depth::One,
                    read_only: entry.read_only,
                    id_mapped: true,
                });
                bind_last(plan, &entry.target, libc::MS_PRIVATE | libc::MS_REC);
            }
            MountSource::Tmpfs { size_bytes, mode } => {
                let mode = format!("{:o}", mode.unwrap_or(0o1777));
                let size = size_bytes.map(|bytes| bytes.to_string());
                let mut options = vec![("mode", mode.as_str())];
                options.extend(size.as_deref().map(|size| ("size", size)));
                let mut attributes = inert();
                if entry.read_only {
                    attributes |= Attributes::MOUNT_ATTR_RDONLY;
                }
                let mut step = mount("tmpfs", &options, attributes, &entry.target);
                if let InitStep::Mount { place, .. } = &mut step {
                    *place = Place::InRoot;
                }
                plan.steps.push(step);
            }
        }
    }
    Ok(())
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
fn etc_files(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let taken = config.mounts.iter().any(|mount| mount.target == target)
            || config.files.iter().any(|file| file.target == target);
        if taken {
            continue;
        }
        plan.trees.push(HostTree {
            path: facts.etc_directory.join(name),
            within: None,
            depth: Depth::One,
            read_only: config.read_only,
            id_mapped: true,
        });
        bind_last(plan, &target, libc::MS_PRIVATE);
    }
}

/// Secrets and configs.
fn files(config: &ContainerConfig, plan: &mut Plan) {
    for file in &config.files {
        match &file.origin {
            FileOrigin::HostFile(path) => {
                plan.trees.push(HostTree {
                    path: path.clone(),
                    within: None,
                    depth: Depth::One,
                    read_only: true,
                    id_mapped: false,
                });
                bind_last(plan, &file.target, libc::MS_PRIVATE);
            }
            FileOrigin::Content(content) => plan.steps.push(InitStep::Inject {
                target: file.target.clone(),
                content: Content(content.clone()),
                uid: file.uid,
                gid: file.gid,
                mode: file.mode,
            }),
        }
    }
}
