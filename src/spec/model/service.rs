//! A service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::build::{Build, WatchRule};
use super::network::{Attachment, Port};
use super::volume::{FileGrant, Mount};
use crate::spec::names::{NetworkKey, ServiceName};
use crate::spec::source::Span;

/// One service, defaults not filled in (compose-spec 05-services.md).
///
/// Serialises to its canonical form, which fingerprints are taken of.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Service {
    /// Where its key stands.
    #[serde(skip)]
    pub span: Span,
    /// Places of fields whose failure shows only when they are used, by dotted path (`image`, `ports.0`, `build.context`).
    #[serde(skip)]
    pub places: BTreeMap<String, Span>,
    /// Image reference; `project-service` is built where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How to build it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// When to pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Platform, such as `linux/arm64/v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Fixed container name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Replaces the image's command; an empty list clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the image's entrypoint and clears its command; an empty list clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `env_file` and `environment`, resolved; a variable without a value anywhere is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `uid`, `uid:gid`, `name`, `name:group`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups, names or numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Host name; the container's short id where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Run an init that reaps and forwards signals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Allocate a pseudo-terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin_open: bool,
    /// The file's own labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Ports named without publishing them, `port[/protocol]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Mounts, `tmpfs` entries among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// Namespace of the network; networks where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// Networks; empty only with `network_mode`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkKey, Attachment>,
    /// `host` lines for /etc/hosts: name and address, or `host-gateway`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<(String, String)>,
    /// Name servers instead of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Search domains instead of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// What must be so before this service starts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// Health check; the image's where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Restart policy; `no` where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Signal that asks it to stop; the image's or SIGTERM where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time between that signal and SIGKILL; 10 s where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<Duration>,
    /// Memory limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_limit: Option<u64>,
    /// CPUs, such as 1.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Number of processes; -1 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// Size of /dev/shm in bytes; 64 MiB where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Resource limits by name: soft and hard, -1 for none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities beyond the default, without `CAP_`, upper case; `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Every capability, every device, no filter.
    pub privileged: bool,
    /// Read-only root file system.
    pub read_only: bool,
    /// `no-new-privileges[:true|false]`, `seccomp=unconfined`, `seccomp=PROFILE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Secrets it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileGrant>,
    /// Configs it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileGrant>,
    /// Number of containers: `scale` or `deploy.replicas`; 1 where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Whether `up` and `logs` show its output where it is not named; they do where unset. It is about commands, not containers.
    #[serde(skip)]
    pub attach: Option<bool>,
    /// Profiles that enable it; always enabled where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// `develop.watch`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<WatchRule>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// At every `up`.
    Always,
    /// Never; it must be there.
    Never,
    /// When it is not there (`missing`, `if_not_present`); the default.
    Missing,
    /// Built, even if it could be pulled.
    Build,
}

/// Whose network namespace it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Its own, with a loopback link only.
    None,
    /// The host's.
    Host,
    /// Another service's of this project.
    Service(ServiceName),
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// What must be so.
    pub condition: Condition,
    /// Restart this service when the dependency is recreated.
    pub restart: bool,
    /// Whether the dependency's absence is an error.
    pub required: bool,
}

/// What `depends_on` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It has started.
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It has exited with 0.
    ServiceCompletedSuccessfully,
}

/// `healthcheck` (compose-spec 05-services.md#healthcheck); unset fields come from the image, then from Docker's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Healthcheck {
    /// The probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<HealthTest>,
    /// Between probes; 30 s where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Longest run of a probe; 30 s where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy; 3 where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Time during which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// Between probes during the start period; 5 s where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
}

/// The probe of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum HealthTest {
    /// `NONE` or `disable: true`: no check, not even the image's.
    None,
    /// An argument vector.
    Cmd(Vec<String>),
    /// A line for the image's shell.
    Shell(String),
}

/// `restart` (compose-spec 05-services.md#restart).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// Always.
    Always,
    /// Always, unless stopped by hand before a boot.
    UnlessStopped,
    /// After an exit code other than 0, at most so many times in a row.
    OnFailure {
        /// No bound where unset.
        max_retries: Option<u32>,
    },
}

/// A resource limit; -1 stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}
