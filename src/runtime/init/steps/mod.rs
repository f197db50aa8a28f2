//! Decides everything that is done to start a container: pure, a [`ContainerConfig`] in, a list of steps out.
//!
//! [`Plan::trees`] and [`Plan::fills`] are for the caller, who still sees the host; [`Plan::steps`] are for the child, in order.
//! Steps name trees by their index.
//!
//! This file says what there is to do, `plan` decides, `filesystems` decides what is mounted.

mod filesystems;
mod plan;

use std::fmt;
use std::path::PathBuf;

use crate::runtime::config::{ContainerId, Rlimit};
use crate::sys::mount::{Attributes, Depth};

pub(crate) use crate::runtime::init::steps::plan::{is_limit, plan, plan_exec};

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
    /// Whether `hostname` is one of them.
    pub(crate) hostname_file: bool,
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
    /// Where it is; of several layers the top-most.
    pub(crate) path: PathBuf,
    /// What of it is taken, found without leaving it; all of it where `None`.
    pub(crate) inside: Option<PathBuf>,
    /// The layers beneath it, and upper and work directory, where it is an overlay that is mounted for this alone.
    pub(crate) overlay: Option<Overlay>,
    /// In whose mount namespace; the caller's where `None`.
    pub(crate) within: Option<ContainerId>,
    /// With the mounts beneath or without.
    pub(crate) depth: Depth,
    /// Read-only in the container.
    pub(crate) read_only: bool,
    /// Its owners are shown through the container's id maps, where it has any.
    pub(crate) id_mapped: bool,
}

/// What an overlay is made of, beside its top-most layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// Lower directories beneath the top-most one.
    pub(crate) below: Vec<PathBuf>,
    /// Upper and work directory.
    pub(crate) scratch: Option<(PathBuf, PathBuf)>,
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
pub(crate) struct Content(pub(crate) Vec<u8>);

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
