//! The one table of attributes: what each is called, what it may hold, how it merges, and whether it is supported.
//!
//! Every valid key of the Compose Specification stands here, so that a valid key is never called unknown; the ones that
//! nothing here acts on yet are marked [`Status::Later`].

/// One attribute of an object.
pub(crate) struct Attribute {
    /// Its key.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) shape: Shape,
    /// Whether it is acted on.
    pub(crate) status: Status,
    /// Whether it must be there once everything is merged.
    pub(crate) required: bool,
    /// Whether rendering shows it also when it is `false`, zero or empty.
    pub(crate) shows_zero: bool,
}

/// Whether an attribute is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is.
    Supported,
    /// Valid, but an error for now.
    Later,
}

/// What a value may be. Each has one canonical form, which is all that merging and decoding see.
pub(crate) enum Shape {
    /// Anything, kept as it is.
    Any,
    /// Text.
    Text,
    /// Text or a number; becomes text.
    TextOrNumber,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A truth value, or text for one.
    Boolean,
    /// A whole number in this range, or text for one.
    Integer(i64, i64),
    /// A number that is not negative, or text for one.
    Number,
    /// A size; becomes the number of bytes, as text.
    Bytes,
    /// A time; becomes Go's form of it, as text.
    Duration,
    /// A build context: a path, or a URL, which stays.
    Context,
    /// A path of the host; becomes absolute.
    Path,
    /// Permission bits; becomes octal digits after a zero, as text.
    Mode,
    /// A list of these.
    List(&'static Self, Unique),
    /// A list of text, or one text for a list of one.
    OneOrMany(Unique),
    /// `KEY=VALUE` as a list or a map; becomes a map of text or null.
    KeyValues(Bare),
    /// A map with keys of the user's.
    Map(&'static Self),
    /// A map with these keys.
    Object(&'static [Attribute]),
    /// Null, which means an object without attributes, or a map with these keys; null is kept.
    NullOrObject(&'static [Attribute]),
    /// A command line or a list of words; becomes a list, or stays null.
    Command,
    /// `build`: a context, or an object.
    Build,
    /// `depends_on`: a list or a map; becomes a map.
    DependsOn,
    /// `networks` of a service: a list or a map; becomes a map.
    ServiceNetworks,
    /// `ports`.
    Ports,
    /// `volumes` of a service.
    Mounts,
    /// `secrets` (true) or `configs` (false) of a service.
    Grants(bool),
    /// `env_file`.
    EnvFiles,
    /// `extra_hosts`; becomes a list of `host=address`.
    ExtraHosts,
    /// `ulimits`; each a number or an object.
    Ulimits,
    /// `healthcheck.test`; becomes a list.
    HealthTest,
    /// `external`: a truth value, or an object with a name.
    External,
    /// `extends`: a service, or an object.
    Extends,
}

/// What makes an item of a list replace an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unique {
    /// Nothing: lists are appended.
    Appended,
    /// The whole item.
    Whole,
    /// The text before `=`.
    BeforeEquals,
    /// The `target`.
    Target,
    /// The `path`.
    Path,
    /// The `subnet`.
    Subnet,
    /// `host_ip`, `published`, `target` and `protocol`.
    Port,
}

/// What a bare `KEY` of a list, or a null value of a map, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    /// The value of the environment, filled in at the end.
    FromEnvironment,
    /// The empty text.
    Empty,
}

const fn now(name: &'static str, shape: Shape) -> Attribute {
    Attribute {
        name,
        shape,
        status: Status::Supported,
        required: false,
        shows_zero: false,
    }
}

const fn shown(name: &'static str, shape: Shape) -> Attribute {
    Attribute {
        shows_zero: true,
        ..now(name, shape)
    }
}

const fn must(name: &'static str, shape: Shape) -> Attribute {
    Attribute {
        required: true,
        ..now(name, shape)
    }
}

const fn later(name: &'static str) -> Attribute {
    Attribute {
        status: Status::Later,
        shows_zero: true,
        ..now(name, Any)
    }
}

use Shape::{
    Any, Boolean, Build, Bytes, Command, Context, DependsOn, Duration, EnvFiles, Extends, External,
    ExtraHosts, Grants, HealthTest, Integer, KeyValues, List, Map, Mode, Mounts, NullOrObject,
    Number, Object, OneOrMany, Path, Ports, ServiceNetworks, Text, TextOrNumber, Ulimits, Word,
};

const COUNT: Shape = Integer(0, i64::MAX);

/// The top level.
pub(crate) static PROJECT: &[Attribute] = &[
    now("configs", Map(&Object(CONFIG))),
    now("include", Any),
    later("models"),
    now("name", Text),
    now("networks", Map(&NullOrObject(NETWORK))),
    now("secrets", Map(&Object(SECRET))),
    now("services", Map(&Object(SERVICE))),
    now("version", Any),
    now("volumes", Map(&NullOrObject(VOLUME))),
];

/// A service (compose-spec 05-services.md).
pub(crate) static SERVICE: &[Attribute] = &[
    later("annotations"),
    now("attach", Boolean),
    later("blkio_config"),
    now("build", Build),
    now("cap_add", List(&Text, Unique::Whole)),
    now("cap_drop", List(&Text, Unique::Whole)),
    later("cgroup"),
    later("cgroup_parent"),
    shown("command", Command),
    now("configs", Grants(false)),
    now("container_name", Text),
    later("cpu_count"),
    later("cpu_percent"),
    later("cpu_period"),
    later("cpu_quota"),
    later("cpu_rt_period"),
    later("cpu_rt_runtime"),
    later("cpu_shares"),
    now("cpus", Number),
    later("cpuset"),
    later("credential_spec"),
    now("depends_on", DependsOn),
    now("deploy", Object(DEPLOY)),
    now("develop", Object(DEVELOP)),
    later("device_cgroup_rules"),
    later("devices"),
    now("dns", OneOrMany(Unique::Whole)),
    now("dns_opt", List(&Text, Unique::Whole)),
    now("dns_search", OneOrMany(Unique::Whole)),
    now("domainname", Text),
    shown("entrypoint", Command),
    now("env_file", EnvFiles),
    now("environment", KeyValues(Bare::FromEnvironment)),
    now("expose", List(&TextOrNumber, Unique::Whole)),
    now("extends", Extends),
    later("external_links"),
    now("extra_hosts", ExtraHosts),
    later("gpus"),
    now("group_add", List(&TextOrNumber, Unique::Whole)),
    now("healthcheck", Object(HEALTHCHECK)),
    now("hostname", Text),
    now("image", Text),
    shown("init", Boolean),
    later("ipc"),
    later("isolation"),
    later("label_file"),
    now("labels", KeyValues(Bare::Empty)),
    later("links"),
    later("logging"),
    later("mac_address"),
    now("mem_limit", Bytes),
    later("mem_reservation"),
    later("mem_swappiness"),
    later("memswap_limit"),
    later("models"),
    now("network_mode", Text),
    now("networks", ServiceNetworks),
    later("oom_kill_disable"),
    later("oom_score_adj"),
    later("pid"),
    now("pids_limit", Integer(-1, i64::MAX)),
    now("platform", Text),
    now("ports", Ports),
    later("post_start"),
    later("pre_start"),
    later("pre_stop"),
    now("privileged", Boolean),
    now("profiles", List(&Text, Unique::Whole)),
    later("provider"),
    now("pull_policy", Text),
    later("pull_refresh_after"),
    now("read_only", Boolean),
    now("restart", Text),
    later("runtime"),
    shown("scale", Integer(0, i64::MAX)),
    now("secrets", Grants(true)),
    now("security_opt", List(&Text, Unique::Whole)),
    now("shm_size", Bytes),
    now("stdin_open", Boolean),
    now("stop_grace_period", Duration),
    now("stop_signal", Text),
    later("storage_opt"),
    now("sysctls", KeyValues(Bare::Empty)),
    now("tmpfs", OneOrMany(Unique::BeforeEquals)),
    now("tty", Boolean),
    now("ulimits", Ulimits),
    later("use_api_socket"),
    now("user", Text),
    later("userns_mode"),
    later("uts"),
    now("volumes", Mounts),
    later("volumes_from"),
    now("working_dir", Text),
];

/// `build` (compose-spec build.md).
pub(crate) static BUILD: &[Attribute] = &[
    later("additional_contexts"),
    now("args", KeyValues(Bare::FromEnvironment)),
    later("cache_from"),
    later("cache_to"),
    now("context", Context),
    now("dockerfile", Text),
    now("dockerfile_inline", Text),
    later("entitlements"),
    later("extra_hosts"),
    later("isolation"),
    later("labels"),
    later("network"),
    later("no_cache"),
    later("no_cache_filter"),
    later("platforms"),
    later("privileged"),
    later("provenance"),
    later("pull"),
    later("sbom"),
    later("secrets"),
    later("shm_size"),
    later("ssh"),
    later("tags"),
    now("target", Text),
    later("ulimits"),
];

/// An entry of `depends_on`.
pub(crate) static DEPENDENCY: &[Attribute] = &[
    must(
        "condition",
        Word(&[
            "service_started",
            "service_healthy",
            "service_completed_successfully",
        ]),
    ),
    shown("required", Boolean),
    now("restart", Boolean),
];

/// `deploy` (compose-spec deploy.md).
static DEPLOY: &[Attribute] = &[
    later("endpoint_mode"),
    later("labels"),
    later("mode"),
    later("placement"),
    shown("replicas", COUNT),
    now("resources", Object(RESOURCES)),
    later("restart_policy"),
    later("rollback_config"),
    later("update_config"),
];

static RESOURCES: &[Attribute] = &[now("limits", Object(LIMITS)), later("reservations")];

static LIMITS: &[Attribute] = &[
    now("cpus", Number),
    now("memory", Bytes),
    now("pids", Integer(-1, i64::MAX)),
];

static DEVELOP: &[Attribute] = &[now("watch", List(&Object(WATCH), Unique::Appended))];

/// An entry of `develop.watch` (compose-spec develop.md).
static WATCH: &[Attribute] = &[
    must(
        "action",
        Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]),
    ),
    later("exec"),
    now("ignore", OneOrMany(Unique::Whole)),
    now("include", OneOrMany(Unique::Whole)),
    now("initial_sync", Boolean),
    must("path", Path),
    now("target", Text),
];

static HEALTHCHECK: &[Attribute] = &[
    now("disable", Boolean),
    now("interval", Duration),
    shown("retries", COUNT),
    now("start_interval", Duration),
    now("start_period", Duration),
    shown("test", HealthTest),
    now("timeout", Duration),
];

/// An entry of a service's `networks`.
pub(crate) static ATTACHMENT: &[Attribute] = &[
    now("aliases", List(&Text, Unique::Whole)),
    later("driver_opts"),
    later("gw_priority"),
    later("interface_name"),
    now("ipv4_address", Text),
    later("ipv6_address"),
    later("link_local_ips"),
    later("mac_address"),
    now("priority", Integer(i32::MIN as i64, i32::MAX as i64)),
];

/// The long form of a port.
pub(crate) static PORT: &[Attribute] = &[
    now("app_protocol", Text),
    now("host_ip", Text),
    now("mode", Text),
    now("name", Text),
    now("protocol", Text),
    now("published", TextOrNumber),
    now("target", Integer(1, 65_535)),
];

/// The long form of a mount.
pub(crate) static MOUNT: &[Attribute] = &[
    now("bind", Object(BIND)),
    now("consistency", Text),
    later("image"),
    now("read_only", Boolean),
    now("source", Text),
    now("target", Text),
    now("tmpfs", Object(TMPFS)),
    now(
        "type",
        Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"]),
    ),
    now("volume", Object(MOUNTED_VOLUME)),
];

static BIND: &[Attribute] = &[
    shown("create_host_path", Boolean),
    now(
        "propagation",
        Word(&[
            "private", "rprivate", "shared", "rshared", "slave", "rslave",
        ]),
    ),
    later("recursive"),
    now("selinux", Word(&["z", "Z"])),
];

static MOUNTED_VOLUME: &[Attribute] = &[
    later("labels"),
    now("nocopy", Boolean),
    now("subpath", Text),
];

static TMPFS: &[Attribute] = &[now("mode", Mode), now("size", Bytes)];

/// The long form of a secret's or a config's use.
pub(crate) static GRANT: &[Attribute] = &[
    now("gid", TextOrNumber),
    shown("mode", Mode),
    now("source", Text),
    now("target", Text),
    now("uid", TextOrNumber),
];

/// The long form of an entry of `env_file`.
pub(crate) static ENV_FILE: &[Attribute] = &[
    now("format", Word(&["raw"])),
    now("path", Path),
    shown("required", Boolean),
];

/// The long form of a limit.
pub(crate) static ULIMIT: &[Attribute] = &[
    shown("hard", Integer(-1, i64::MAX)),
    shown("soft", Integer(-1, i64::MAX)),
];

/// The long form of `extends`.
pub(crate) static EXTENDS: &[Attribute] = &[now("file", Text), now("service", Text)];

/// The long form of an entry of `include`.
pub(crate) static INCLUDE: &[Attribute] = &[
    now("env_file", OneOrMany(Unique::Appended)),
    now("path", OneOrMany(Unique::Appended)),
    now("project_directory", Text),
];

/// A top-level network (compose-spec 06-networks.md).
pub(crate) static NETWORK: &[Attribute] = &[
    later("attachable"),
    now("driver", Text),
    later("driver_opts"),
    later("enable_ipv4"),
    later("enable_ipv6"),
    now("external", External),
    now("internal", Boolean),
    shown("ipam", Object(IPAM)),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
];

static IPAM: &[Attribute] = &[
    now("config", List(&Object(SUBNET), Unique::Subnet)),
    later("driver"),
    later("options"),
];

static SUBNET: &[Attribute] = &[
    later("aux_addresses"),
    now("gateway", Text),
    later("ip_range"),
    now("subnet", Text),
];

/// A top-level volume (compose-spec 07-volumes.md).
pub(crate) static VOLUME: &[Attribute] = &[
    now("driver", Text),
    later("driver_opts"),
    now("external", External),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
];

/// A top-level secret (compose-spec 09-secrets.md).
pub(crate) static SECRET: &[Attribute] = &[
    later("driver"),
    later("driver_opts"),
    now("environment", Text),
    later("external"),
    now("file", Path),
    later("labels"),
    now("name", Text),
    later("template_driver"),
];

/// A top-level config (compose-spec 08-configs.md).
pub(crate) static CONFIG: &[Attribute] = &[
    now("content", Text),
    now("environment", Text),
    later("external"),
    now("file", Path),
    later("labels"),
    now("name", Text),
    later("template_driver"),
];

/// Returns the attribute called `name`; tables are sorted by name.
pub(crate) fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    let index = attributes
        .binary_search_by(|attribute| attribute.name.cmp(name))
        .ok()?;
    attributes.get(index)
}

impl Shape {
    /// Returns the attributes of the objects that are the items of this list or the values of this map, in their
    /// canonical form.
    pub(crate) fn items(&self) -> Option<&'static [Attribute]> {
        Some(match self {
            Self::DependsOn => DEPENDENCY,
            Self::ServiceNetworks => ATTACHMENT,
            Self::Ports => PORT,
            Self::Mounts => MOUNT,
            Self::Grants(_) => GRANT,
            Self::EnvFiles => ENV_FILE,
            Self::Ulimits => ULIMIT,
            _ => return None,
        })
    }

    /// Returns what makes an item of this list replace an earlier one.
    pub(crate) fn unique(&self) -> Unique {
        match self {
            Self::List(_, unique) | Self::OneOrMany(unique) => *unique,
            Self::Ports => Unique::Port,
            Self::Mounts | Self::Grants(_) => Unique::Target,
            Self::EnvFiles => Unique::Path,
            Self::ExtraHosts => Unique::Whole,
            _ => Unique::Appended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        let tables = [
            PROJECT,
            SERVICE,
            BUILD,
            DEPENDENCY,
            DEPLOY,
            RESOURCES,
            LIMITS,
            DEVELOP,
            WATCH,
            HEALTHCHECK,
            ATTACHMENT,
            PORT,
            MOUNT,
            BIND,
            MOUNTED_VOLUME,
            TMPFS,
            GRANT,
            ENV_FILE,
            ULIMIT,
            EXTENDS,
            INCLUDE,
            NETWORK,
            IPAM,
            SUBNET,
            VOLUME,
            SECRET,
            CONFIG,
        ];
        for table in tables {
            let names: Vec<&str> = table.iter().map(|attribute| attribute.name).collect();
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
