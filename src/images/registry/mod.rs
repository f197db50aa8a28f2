//! Registries: the OCI distribution protocol 1.1, client side.
//!
//! ```text
//! GET /v2/<repository>/manifests/<tag|digest>    GET /v2/<repository>/blobs/<digest>  (Range: bytes=N-  after a break)
//! ```
//!
//! Nothing is believed before its digest is checked. Credentials go to the host they are for, and to the token server that
//! this host names; never along a redirect to another origin. 408, 429, 5xx and broken connections are repeated with growing
//! waits; a refused connection is not.
//!
//! Files: `config` (where to ask), `auth` (as whom), `transport` (HTTP), `client` (all together).

use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod auth;
pub mod client;
pub mod config;
pub mod error;
pub mod transport;

pub use client::Client;
pub use error::RegistryError;

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

impl Retry {
    /// Returns the wait before repetition `number` (from 1); `asked` is what the server wants.
    pub fn wait(&self, number: u32, asked: Option<Duration>) -> Duration {
        let doublings = number.saturating_sub(1).min(16);
        let own = self.first_wait.saturating_mul(1 << doublings);
        asked.unwrap_or(own).min(self.longest_wait)
    }
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
