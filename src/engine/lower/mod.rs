//! Model → runtime and network configuration. Pure: whatever had to be read or made (image, volumes, profiles) comes in.
//!
//! One file a part: [`process`], [`health`], [`mounts`], [`network`], [`signals`].

pub mod health;
pub mod mounts;
pub mod network;
pub mod process;
pub mod signals;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::images::manifest::RunConfig;
use crate::runtime::config::{
    ContainerConfig, ImageUse, LogConfig, Namespace, Namespaces, Resources, RestartPolicy,
    UserNamespace,
};
use crate::spec::model::Stack;
use crate::spec::model::service::{NetworkMode, Restart, Service};

/// Size of /dev/shm where the file does not say, as Docker's.
const SHM_BYTES: u64 = 64 << 20;
/// Time between the stop signal and SIGKILL where the file does not say, as Docker's.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Log files: bounded by default, so that a chatty container cannot fill the disk.
const LOG: LogConfig = LogConfig {
    max_size_bytes: 100 << 20,
    max_files: 3,
};

/// Everything a container is lowered from.
#[derive(Debug)]
pub struct Input<'a> {
    /// The project.
    pub stack: &'a Stack,
    /// The service.
    pub service: &'a Service,
    /// The container's name on the machine.
    pub name: &'a str,
    /// Its host name where the file does not say: first 12 digits of its id, or the host's own in the host's network.
    pub hostname: &'a str,
    /// Its labels, complete.
    pub labels: BTreeMap<String, String>,
    /// Opaque to the runtime.
    pub annotations: serde_json::Value,
    /// The image and its layers.
    pub image: ImageUse,
    /// What the image says of the process.
    pub defaults: &'a RunConfig,
    /// Data directories of the volumes it mounts.
    pub volumes: &'a mounts::VolumePaths,
    /// Text of the files of secrets and configs that are given as copies, for an owner and a mode of their own.
    pub contents: &'a BTreeMap<std::path::PathBuf, String>,
    /// Text of the seccomp profile that `security_opt` names, where it names one.
    pub seccomp_profile: Option<String>,
    /// The container whose network namespace it shares, where it shares one.
    pub network_owner: Option<crate::runtime::config::ContainerId>,
    /// Variables that secrets and configs may come from.
    pub environment: &'a BTreeMap<String, String>,
}

/// What cannot be lowered; `field` is the dotted path within the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct LowerError {
    /// Such as `stop_signal`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl LowerError {
    /// Makes one.
    pub(crate) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Returns the whole configuration of one container.
pub fn container(input: Input<'_>) -> Result<ContainerConfig, LowerError> {
    let service = input.service;
    let hostname = service
        .hostname
        .clone()
        .unwrap_or_else(|| input.hostname.to_owned());
    let network = match (&service.network_mode, &input.network_owner) {
        (Some(NetworkMode::Host), _) => Namespace::Host,
        (Some(NetworkMode::Service(_)), Some(owner)) => Namespace::Container(owner.clone()),
        (Some(NetworkMode::Service(name)), None) => {
            return Err(LowerError::new(
                "network_mode",
                format!("service `{name}` has no container to share with"),
            ));
        }
        (Some(NetworkMode::None) | None, _) => Namespace::Own,
    };
    let stop_signal = service
        .stop_signal
        .as_deref()
        .unwrap_or(&input.defaults.stop_signal);
    let stop_signal = if stop_signal.is_empty() {
        "SIGTERM"
    } else {
        stop_signal
    };
    Ok(ContainerConfig {
        name: input.name.to_owned(),
        process: process::main(&input, &hostname)?,
        namespaces: Namespaces {
            network,
            pid: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            user: UserNamespace::Host,
        },
        hostname,
        domainname: service.domainname.clone(),
        mounts: mounts::mounts(service, input.defaults, input.volumes)?,
        files: mounts::files(&input)?,
        read_only: service.read_only,
        privileged: service.privileged,
        shm_bytes: service.shm_size.unwrap_or(SHM_BYTES),
        sysctls: service.sysctls.clone(),
        resources: resources(service)?,
        restart: restart(service.restart),
        health: health::check(service.healthcheck.as_ref(), input.defaults)?,
        stop_signal: signals::number(stop_signal).ok_or_else(|| {
            LowerError::new("stop_signal", format!("`{stop_signal}` is not a signal"))
        })?,
        stop_timeout: service.stop_grace_period.unwrap_or(STOP_TIMEOUT),
        log: LOG,
        labels: input.labels,
        annotations: input.annotations,
        image: input.image,
    })
}

/// Returns the cgroup limits.
fn resources(service: &Service) -> Result<Resources, LowerError> {
    let cpu_milli = match service.cpus {
        None | Some(0.0) => None,
        // A hundredth of a CPU is the least that the kernel's quota of 1 ms a 100 ms period can hold.
        Some(cpus) if (0.01..=1_000_000.0).contains(&cpus) => Some(milli(cpus)),
        Some(cpus) => {
            return Err(LowerError::new(
                "cpus",
                format!("{cpus} is out of range: 0.01 or more"),
            ));
        }
    };
    let memory_bytes = match service.mem_limit {
        None | Some(0) => None,
        Some(bytes) if bytes < 6 << 20 => {
            return Err(LowerError::new(
                "mem_limit",
                format!("{bytes} bytes is less than the minimum of 6 MiB"),
            ));
        }
        Some(bytes) => Some(bytes),
    };
    // Docker: 0 and -1 are no limit.
    let pids = service
        .pids_limit
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    Ok(Resources {
        memory_bytes,
        cpu_milli,
        pids,
    })
}

/// Rounds CPUs to thousandths; `cpus` is between 0.01 and a million.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller checked the range"
)]
fn milli(cpus: f64) -> u64 {
    (cpus * 1000.0).round() as u64
}

/// Returns the restart policy, `no` where unset.
fn restart(restart: Option<Restart>) -> RestartPolicy {
    match restart {
        None | Some(Restart::No) => RestartPolicy::No,
        Some(Restart::Always) => RestartPolicy::Always,
        Some(Restart::UnlessStopped) => RestartPolicy::UnlessStopped,
        Some(Restart::OnFailure { max_retries }) => RestartPolicy::OnFailure { max_retries },
    }
}
