//! Registries: the OCI distribution protocol 1.1, client side.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the client finds its configuration, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEnvironment {
    /// Docker's `config.json` with its `auths`; `None` pulls anonymously.
    pub docker_config: Option<PathBuf>,
    /// Docker's `daemon.json`.
    pub daemon_json: PathBuf,
    /// containers' `registries.conf`.
    pub registries_conf: PathBuf,
    /// Its drop-ins (`*.conf`).
    pub registries_conf_directory: PathBuf,
    /// Repetitions of what may pass.
    pub retry: Retry,
}

/// How often and after what waits a request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Requests in all.
    pub attempts: u32,
    /// Before the first repetition; doubled each time.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl ClientEnvironment {
    /// Returns the usual places. `docker_config` is the directory that `DOCKER_CONFIG` names, or `~/.docker`.
    pub fn system(docker_config: Option<&Path>) -> Self {
        Self {
            docker_config: docker_config.map(|directory| directory.join("config.json")),
            daemon_json: "/etc/docker/daemon.json".into(),
            registries_conf: "/etc/containers/registries.conf".into(),
            registries_conf_directory: "/etc/containers/registries.conf.d".into(),
            retry: Retry {
                attempts: 5,
                first_wait: Duration::from_millis(500),
                longest_wait: Duration::from_secs(30),
            },
        }
    }
}
