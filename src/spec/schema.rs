//! The one table of attributes: what each is called, what it may hold, how it merges, and whether it is supported.
//!
//! Every valid key of the Compose Specification stands here with its type, so that every valid file loads. What nothing acts
//! on yet is marked [`Status::Later`] and stops only the commands that would have to act on it (see [`super::obstacle`]);
//! what no Linux engine outside a swarm acts on is [`Status::Ignored`].

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
    /// Not yet: an error where it would be used.
    Later,
    /// Not yet, unless it holds one of these values, which say what is done anyway.
    LaterUnless(&'static [&'static str]),
    /// Never: it is for Windows or a swarm, and Docker Compose ignores it here too. A warning where it would be used,
    /// unless it holds one of these values.
    Ignored(&'static [&'static str]),
}

/// What a value may be. Each has one canonical form, which is all that merging and decoding see.
pub(crate) enum Shape {
    /// Anything, kept as it is.
    Any,
    /// Text.
    Text,
    /// Text or a number; becomes text.
    TextOrNumber,
    /// Text or a truth value; becomes text.
    TextOrBoolean,
    /// Text, or null, which means that there is none.
    TextOrNull,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A truth value, or text for one.
    Boolean,
    /// A whole number in this range, or text for one.
    Integer(i64, i64),
    /// A number whose whole part is in this range, or text for a whole one; what follows the point counts for nothing.
    Cut(i64, i64),
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
    /// The same for a mount in memory; becomes a number.
    NumericMode,
    /// A list of these.
    List(&'static Self, Unique),
    /// A list of text, or one text for a list of one.
    OneOrMany(Unique),
    /// A list of paths of the host, or one; they become absolute.
    Paths,
    /// `KEY=VALUE` as a list or a map; becomes a map of text or null.
    KeyValues(Bare),
    /// A map of text or numbers; becomes one of text.
    Options,
    /// A map of scalars or lists of them; becomes one of lists of text.
    MultiOptions,
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
    /// `secrets` of a build.
    BuildSecrets,
    /// `additional_contexts` of a build: a list or a map; becomes a map of paths, URLs and references.
    Contexts,
    /// `ssh` of a build: a list or a map; becomes a list of `id` or `id=path`.
    Ssh,
    /// `devices`: `host:container:permissions`, or objects.
    Devices,
    /// A list of device requests, or `all` (`gpus`).
    Gpus,
    /// How many devices: a number, or `all`, which becomes -1.
    DeviceCount,
    /// `models` of a service: a list or a map; becomes a map.
    ServiceModels,
    /// `logging`: an object that merges only with one of the same driver.
    Logging,
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
    /// The whole item, which one file must not repeat.
    Once,
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

const fn later(name: &'static str, shape: Shape) -> Attribute {
    with(Status::Later, now(name, shape))
}

const fn with(status: Status, attribute: Attribute) -> Attribute {
    Attribute {
        status,
        ..attribute
    }
}

/// What is for Windows or a swarm alone.
const fn ignored(name: &'static str, shape: Shape) -> Attribute {
    with(Status::Ignored(&[]), now(name, shape))
}

use Shape::{
    Any, Boolean, Build, BuildSecrets, Bytes, Command, Context, Contexts, Cut, DependsOn,
    DeviceCount, Devices, Duration, EnvFiles, Extends, External, ExtraHosts, Gpus, Grants,
    HealthTest, Integer, KeyValues, List, Logging, Map, Mode, Mounts, MultiOptions, NullOrObject,
    Number, NumericMode, Object, OneOrMany, Options, Path, Paths, Ports, ServiceModels,
    ServiceNetworks, Ssh, Text, TextOrBoolean, TextOrNull, TextOrNumber, Ulimits, Word,
};

const INTEGER: Shape = Integer(i64::MIN, i64::MAX);
const COUNT: Shape = Integer(0, i64::MAX);
/// What the schema calls a number and Docker Compose keeps as a whole one.
const CUT: Shape = Cut(i64::MIN, i64::MAX);

/// The top level.
pub(crate) static PROJECT: &[Attribute] = &[
    now("configs", Map(&Object(CONFIG))),
    now("include", Any),
    now("models", Map(&NullOrObject(MODEL))),
    now("name", Text),
    now("networks", Map(&NullOrObject(NETWORK))),
    now("secrets", Map(&Object(SECRET))),
    now("services", Map(&Object(SERVICE))),
    now("version", Text),
    now("volumes", Map(&NullOrObject(VOLUME))),
];

/// A service (compose-spec 05-services.md).
pub(crate) static SERVICE: &[Attribute] = &[
    later("annotations", KeyValues(Bare::Empty)),
    shown("attach", Boolean),
    later("blkio_config", Object(BLKIO)),
    now("build", Build),
    now("cap_add", List(&Text, Unique::Whole)),
    now("cap_drop", List(&Text, Unique::Whole)),
    with(
        Status::LaterUnless(&["private"]),
        now("cgroup", Word(&["host", "private"])),
    ),
    later("cgroup_parent", Text),
    shown("command", Command),
    now("configs", Grants(false)),
    now("container_name", Text),
    ignored("cpu_count", COUNT),
    ignored("cpu_percent", Integer(0, 100)),
    later("cpu_period", CUT),
    later("cpu_quota", CUT),
    later("cpu_rt_period", CUT),
    later("cpu_rt_runtime", CUT),
    later("cpu_shares", CUT),
    now("cpus", Number),
    later("cpuset", Text),
    ignored("credential_spec", Object(CREDENTIAL_SPEC)),
    now("depends_on", DependsOn),
    now("deploy", NullOrObject(DEPLOY)),
    now("develop", NullOrObject(DEVELOP)),
    later("device_cgroup_rules", List(&Text, Unique::Once)),
    later("devices", Devices),
    now("dns", OneOrMany(Unique::Whole)),
    now("dns_opt", List(&Text, Unique::Whole)),
    now("dns_search", OneOrMany(Unique::Whole)),
    now("domainname", Text),
    shown("entrypoint", Command),
    now("env_file", EnvFiles),
    now("environment", KeyValues(Bare::FromEnvironment)),
    now("expose", List(&TextOrNumber, Unique::Whole)),
    now("extends", Extends),
    later("external_links", List(&Text, Unique::Once)),
    now("extra_hosts", ExtraHosts),
    later("gpus", Gpus),
    now("group_add", List(&TextOrNumber, Unique::Once)),
    now("healthcheck", Object(HEALTHCHECK)),
    now("hostname", Text),
    now("image", Text),
    shown("init", Boolean),
    with(
        Status::LaterUnless(&["private", "shareable"]),
        now("ipc", Text),
    ),
    with(Status::Ignored(&["default"]), now("isolation", Text)),
    now("label_file", Paths),
    now("labels", KeyValues(Bare::Empty)),
    later("links", List(&Text, Unique::BeforeEquals)),
    now("logging", Logging),
    later("mac_address", Text),
    now("mem_limit", Bytes),
    later("mem_reservation", Bytes),
    later("mem_swappiness", Bytes),
    later("memswap_limit", Bytes),
    later("models", ServiceModels),
    now("network_mode", Text),
    now("networks", ServiceNetworks),
    later("oom_kill_disable", Boolean),
    later("oom_score_adj", Integer(-1000, 1000)),
    later("pid", TextOrNull),
    now("pids_limit", CUT),
    now("platform", Text),
    now("ports", Ports),
    later("post_start", List(&Object(HOOK), Unique::Appended)),
    later("pre_start", List(&Object(PRE_START), Unique::Appended)),
    later("pre_stop", List(&Object(HOOK), Unique::Appended)),
    now("privileged", Boolean),
    now("profiles", List(&Text, Unique::Whole)),
    later("provider", Object(PROVIDER)),
    now("pull_policy", Text),
    later("pull_refresh_after", Text),
    now("read_only", Boolean),
    now("restart", Text),
    with(Status::LaterUnless(&["runc"]), now("runtime", Text)),
    shown("scale", Integer(0, i64::MAX)),
    now("secrets", Grants(true)),
    now("security_opt", List(&Text, Unique::Once)),
    now("shm_size", Bytes),
    now("stdin_open", Boolean),
    shown("stop_grace_period", Duration),
    now("stop_signal", Text),
    later("storage_opt", Options),
    now("sysctls", KeyValues(Bare::Empty)),
    now("tmpfs", OneOrMany(Unique::BeforeEquals)),
    now("tty", Boolean),
    now("ulimits", Ulimits),
    later("use_api_socket", Boolean),
    now("user", Text),
    later("userns_mode", Text),
    later("uts", Text),
    now("volumes", Mounts),
    later("volumes_from", List(&Text, Unique::Once)),
    now("working_dir", Text),
];

/// `build` (compose-spec build.md).
pub(crate) static BUILD: &[Attribute] = &[
    now("additional_contexts", Contexts),
    now("args", KeyValues(Bare::FromEnvironment)),
    now("cache_from", List(&Text, Unique::Appended)),
    now("cache_to", List(&Text, Unique::Appended)),
    now("context", Context),
    now("dockerfile", Text),
    now("dockerfile_inline", Text),
    now("entitlements", List(&Text, Unique::Appended)),
    now("extra_hosts", ExtraHosts),
    with(Status::Ignored(&["default"]), now("isolation", Text)),
    now("labels", KeyValues(Bare::Empty)),
    now("network", Text),
    now("no_cache", Boolean),
    now("no_cache_filter", OneOrMany(Unique::Appended)),
    now("platforms", List(&Text, Unique::Appended)),
    now("privileged", Boolean),
    now("provenance", TextOrBoolean),
    now("pull", Boolean),
    now("sbom", TextOrBoolean),
    now("secrets", BuildSecrets),
    now("shm_size", Bytes),
    now("ssh", Ssh),
    now("tags", List(&Text, Unique::BeforeEquals)),
    now("target", Text),
    now("ulimits", Ulimits),
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
    with(Status::Ignored(&["vip"]), now("endpoint_mode", Text)),
    ignored("labels", KeyValues(Bare::Empty)),
    with(Status::Ignored(&["replicated"]), now("mode", Text)),
    ignored("placement", Object(PLACEMENT)),
    shown("replicas", COUNT),
    now("resources", Object(RESOURCES)),
    later("restart_policy", Object(RESTART_POLICY)),
    ignored("rollback_config", Object(UPDATE_CONFIG)),
    ignored("update_config", Object(UPDATE_CONFIG)),
];

static RESOURCES: &[Attribute] = &[
    now("limits", Object(LIMITS)),
    now("reservations", Object(RESERVATIONS)),
];

static LIMITS: &[Attribute] = &[
    now("cpus", Number),
    now("memory", Bytes),
    now("pids", INTEGER),
];

static DEVELOP: &[Attribute] = &[now("watch", List(&Object(WATCH), Unique::Appended))];

/// An entry of `develop.watch` (compose-spec develop.md).
static WATCH: &[Attribute] = &[
    must(
        "action",
        Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]),
    ),
    later("exec", Object(HOOK)),
    now("ignore", OneOrMany(Unique::Whole)),
    now("include", OneOrMany(Unique::Whole)),
    now("initial_sync", Boolean),
    must("path", Path),
    now("target", Text),
];

static HEALTHCHECK: &[Attribute] = &[
    now("disable", Boolean),
    shown("interval", Duration),
    shown("retries", Cut(0, i64::MAX)),
    shown("start_interval", Duration),
    shown("start_period", Duration),
    now("test", HealthTest),
    shown("timeout", Duration),
];

/// An entry of a service's `networks`.
pub(crate) static ATTACHMENT: &[Attribute] = &[
    now("aliases", List(&Text, Unique::Whole)),
    later("driver_opts", Options),
    later("gw_priority", CUT),
    later("interface_name", Text),
    now("ipv4_address", Text),
    later("ipv6_address", Text),
    later("link_local_ips", List(&Text, Unique::Whole)),
    later("mac_address", Text),
    now("priority", Cut(i32::MIN as i64, i32::MAX as i64)),
];

/// The long form of a port.
pub(crate) static PORT: &[Attribute] = &[
    now("app_protocol", Text),
    now("host_ip", Text),
    now("mode", Text),
    now("name", Text),
    now("protocol", Text),
    now("published", TextOrNumber),
    now("target", Integer(0, u32::MAX as i64)),
];

/// The long form of a mount.
pub(crate) static MOUNT: &[Attribute] = &[
    now("bind", Object(BIND)),
    now("consistency", Text),
    later("image", Object(IMAGE_MOUNT)),
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
    now("propagation", Text),
    with(
        Status::LaterUnless(&["enabled"]),
        now(
            "recursive",
            Word(&["enabled", "disabled", "writable", "readonly"]),
        ),
    ),
    now("selinux", Word(&["z", "Z"])),
];

static MOUNTED_VOLUME: &[Attribute] = &[
    later("labels", KeyValues(Bare::Empty)),
    now("nocopy", Boolean),
    now("subpath", Text),
];

static TMPFS: &[Attribute] = &[now("mode", NumericMode), now("size", Bytes)];

/// The long form of a secret's or a config's use.
pub(crate) static GRANT: &[Attribute] = &[
    now("gid", Text),
    shown("mode", Mode),
    now("source", Text),
    now("target", Text),
    now("uid", Text),
];

/// The long form of an entry of `env_file`.
pub(crate) static ENV_FILE: &[Attribute] = &[
    now("format", Text),
    now("path", Path),
    shown("required", Boolean),
];

/// The long form of a limit.
pub(crate) static ULIMIT: &[Attribute] = &[
    shown("hard", Integer(-1, i64::MAX)),
    shown("soft", Integer(-1, i64::MAX)),
];

/// The old form of `external`.
pub(crate) static EXTERNAL: &[Attribute] = &[now("name", Text)];

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
    ignored("attachable", Boolean),
    now("driver", Text),
    later("driver_opts", Options),
    with(
        Status::LaterUnless(&["true"]),
        shown("enable_ipv4", Boolean),
    ),
    with(
        Status::LaterUnless(&["false"]),
        shown("enable_ipv6", Boolean),
    ),
    now("external", External),
    now("internal", Boolean),
    shown("ipam", Object(IPAM)),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
];

/// `ipam` of a network.
pub(crate) static IPAM: &[Attribute] = &[
    now("config", List(&Object(SUBNET), Unique::Subnet)),
    with(Status::LaterUnless(&["default"]), now("driver", Text)),
    later("options", Map(&Text)),
];

/// An entry of `ipam.config`.
pub(crate) static SUBNET: &[Attribute] = &[
    later("aux_addresses", Map(&Text)),
    now("gateway", Text),
    later("ip_range", Text),
    now("subnet", Text),
];

/// A top-level volume (compose-spec 07-volumes.md).
pub(crate) static VOLUME: &[Attribute] = &[
    now("driver", Text),
    later("driver_opts", Options),
    now("external", External),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
];

/// A top-level secret (compose-spec 09-secrets.md).
pub(crate) static SECRET: &[Attribute] = &[
    later("driver", Text),
    later("driver_opts", Options),
    now("environment", Text),
    later("external", External),
    now("file", Path),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
    later("template_driver", Text),
];

/// A top-level config (compose-spec 08-configs.md).
pub(crate) static CONFIG: &[Attribute] = &[
    now("content", Text),
    now("environment", Text),
    later("external", External),
    now("file", Path),
    now("labels", KeyValues(Bare::Empty)),
    now("name", Text),
    later("template_driver", Text),
];

/// `blkio_config`.
static BLKIO: &[Attribute] = &[
    now("device_read_bps", List(&Object(RATE), Unique::Appended)),
    now("device_read_iops", List(&Object(RATE), Unique::Appended)),
    now("device_write_bps", List(&Object(RATE), Unique::Appended)),
    now("device_write_iops", List(&Object(RATE), Unique::Appended)),
    now("weight", Integer(0, 65_535)),
    now("weight_device", List(&Object(WEIGHT), Unique::Appended)),
];

/// A limit of one device.
pub(crate) static RATE: &[Attribute] = &[shown("path", Text), shown("rate", Bytes)];

/// The weight of one device.
pub(crate) static WEIGHT: &[Attribute] =
    &[shown("path", Text), shown("weight", Integer(0, 65_535))];

static CREDENTIAL_SPEC: &[Attribute] = &[
    now("config", Text),
    now("file", Text),
    now("registry", Text),
];

/// The long form of a device.
pub(crate) static DEVICE: &[Attribute] = &[
    now("permissions", Text),
    must("source", Text),
    now("target", Text),
];

/// An entry of `gpus`.
pub(crate) static GPU: &[Attribute] = &[
    now("capabilities", List(&Text, Unique::Whole)),
    now("count", DeviceCount),
    now("device_ids", List(&Text, Unique::Whole)),
    now("driver", Text),
    now("options", KeyValues(Bare::Empty)),
];

/// An entry of `deploy.resources.reservations.devices`.
pub(crate) static RESERVED_DEVICE: &[Attribute] = &[
    must("capabilities", List(&Text, Unique::Whole)),
    now("count", DeviceCount),
    now("device_ids", List(&Text, Unique::Whole)),
    now("driver", Text),
    now("options", KeyValues(Bare::Empty)),
];

/// A command run in a container at a point of its life (compose-spec 05-services.md#post_start).
static HOOK: &[Attribute] = &[
    must("command", Command),
    now("environment", KeyValues(Bare::FromEnvironment)),
    now("privileged", Boolean),
    now("user", Text),
    now("working_dir", Text),
];

/// A container run before the service's own.
static PRE_START: &[Attribute] = &[
    now("command", Command),
    now("environment", KeyValues(Bare::FromEnvironment)),
    now("image", Text),
    now("per_replica", Boolean),
    now("privileged", Boolean),
    now("user", Text),
    now("working_dir", Text),
];

/// `logging`.
pub(crate) static LOGGING: &[Attribute] = &[
    with(
        Status::LaterUnless(&["json-file", "local"]),
        now("driver", Text),
    ),
    later("options", Options),
];

static PROVIDER: &[Attribute] = &[now("options", MultiOptions), must("type", Text)];

/// An entry of a service's `models`.
pub(crate) static MODEL_USE: &[Attribute] = &[now("endpoint_var", Text), now("model_var", Text)];

/// A top-level model (compose-spec 14-models.md).
static MODEL: &[Attribute] = &[
    now("context_size", INTEGER),
    must("model", Text),
    now("name", Text),
    now("runtime_flags", List(&Text, Unique::Appended)),
];

static PLACEMENT: &[Attribute] = &[
    now("constraints", List(&Text, Unique::Appended)),
    now("max_replicas_per_node", COUNT),
    now("preferences", List(&Object(PREFERENCE), Unique::Appended)),
];

static PREFERENCE: &[Attribute] = &[now("spread", Text)];

static RESTART_POLICY: &[Attribute] = &[
    now("condition", Text),
    shown("delay", Duration),
    shown("max_attempts", COUNT),
    shown("window", Duration),
];

static UPDATE_CONFIG: &[Attribute] = &[
    now("delay", Duration),
    now("failure_action", Text),
    now("max_failure_ratio", Number),
    now("monitor", Duration),
    now("order", Word(&["start-first", "stop-first"])),
    shown("parallelism", COUNT),
];

static RESERVATIONS: &[Attribute] = &[
    ignored("cpus", Number),
    later("devices", List(&Object(RESERVED_DEVICE), Unique::Appended)),
    ignored(
        "generic_resources",
        List(&Object(GENERIC_RESOURCE), Unique::Appended),
    ),
    later("memory", Bytes),
];

static GENERIC_RESOURCE: &[Attribute] = &[now("discrete_resource_spec", Object(DISCRETE))];

static DISCRETE: &[Attribute] = &[shown("kind", Text), shown("value", CUT)];

static IMAGE_MOUNT: &[Attribute] = &[now("subpath", Text)];

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
            Self::Grants(_) | Self::BuildSecrets => GRANT,
            Self::EnvFiles => ENV_FILE,
            Self::Ulimits => ULIMIT,
            Self::Devices => DEVICE,
            Self::Gpus => GPU,
            Self::ServiceModels => MODEL_USE,
            _ => return None,
        })
    }

    /// Returns what makes an item of this list replace an earlier one.
    pub(crate) fn unique(&self) -> Unique {
        match self {
            Self::List(_, unique) | Self::OneOrMany(unique) => *unique,
            Self::Ports => Unique::Port,
            Self::Mounts | Self::Grants(_) | Self::Devices => Unique::Target,
            Self::EnvFiles => Unique::Path,
            Self::ExtraHosts => Unique::Whole,
            Self::Ssh => Unique::BeforeEquals,
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
            BLKIO,
            RATE,
            WEIGHT,
            CREDENTIAL_SPEC,
            DEVICE,
            GPU,
            RESERVED_DEVICE,
            HOOK,
            PRE_START,
            LOGGING,
            PROVIDER,
            MODEL_USE,
            MODEL,
            PLACEMENT,
            PREFERENCE,
            RESTART_POLICY,
            UPDATE_CONFIG,
            RESERVATIONS,
            GENERIC_RESOURCE,
            DISCRETE,
            IMAGE_MOUNT,
        ];
        for table in tables {
            let names: Vec<&str> = table.iter().map(|attribute| attribute.name).collect();
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
