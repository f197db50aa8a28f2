//! Registries: the OCI distribution protocol 1.1, client side.
//!
//! ```text
//! GET  /v2/<repository>/manifests/<tag|digest>    GET /v2/<repository>/blobs/<digest>  (Range: bytes=N-  after a break)
//! GET  /v2/<repository>/tags/list                 HEAD on manifests and blobs
//! POST /v2/<repository>/blobs/uploads/[?mount=<digest>&from=<repository>] ─201─> mounted
//!                                                 └─202 Location─> PUT <location>?digest=<digest> ─> PUT …/manifests/<tag>
//! ```
//!
//! Nothing is believed before its digest is checked. Credentials go to the host they are for, and to the token server that
//! this host itself names; never along a redirect to another origin, nor to whom an answer from there names. 408, 429, 5xx and broken
//! connections are repeated with growing, partly random waits, or after the time that the server asks for; so is a connection that
//! cannot be made, but to a host that has not answered yet.
//!
//! Files: `config` and `hosts` (where to ask), `auth` and `helper` (as whom), `docker_config` and `login` (who we are from now
//! on), `transport` (HTTP), `client` (requests), `token` (authorization), `fetch` and `upload` (what they are for).

use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod auth;
pub mod client;
pub mod config;
mod docker_config;
pub mod error;
pub mod fetch;
pub mod helper;
mod hosts;
pub mod login;
mod token;
pub mod transport;
pub mod upload;

pub use client::Client;
pub use error::RegistryError;

/// Where the client finds its configuration, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEnvironment {
    /// Docker's `config.json` with its `auths`; `None` pulls anonymously.
    pub docker_config: Option<PathBuf>,
    /// The value of `DOCKER_AUTH_CONFIG`.
    pub docker_auth_config: Option<String>,
    /// Podman's `auth.json`.
    pub containers_auth: Option<PathBuf>,
    /// Docker's `daemon.json`.
    pub daemon_json: PathBuf,
    /// containers' `registries.conf`.
    pub registries_conf: PathBuf,
    /// Its drop-ins (`*.conf`).
    pub registries_conf_directory: PathBuf,
    /// With a directory a host, and `hosts.toml` in it.
    pub hosts_directories: Vec<PathBuf>,
    /// With a directory a host, and certificates in it.
    pub certs_directories: Vec<PathBuf>,
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
    /// How long nothing may come before the connection is given up.
    pub stall: Duration,
    /// The longest wait, also of those that a server asks for: who asks for more is told of at once.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            stall: Duration::from_mins(1),
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// Returns the wait after request `number` (from 1) has failed, or `None` if that was the last one. `asked` is what the server
    /// wants; `random` spreads our own waits over their second half, so that many clients do not come back together.
    pub fn wait(&self, number: u32, asked: Option<Duration>, random: u32) -> Option<Duration> {
        if number >= self.attempts || asked.is_some_and(|asked| asked > self.longest_wait) {
            return None;
        }
        let doublings = number.saturating_sub(1).min(16);
        let own = self.first_wait.saturating_mul(1 << doublings);
        let own = own.min(self.longest_wait);
        let spread = own / 2 * (random >> 16) / (1 << 16);
        Some(asked.unwrap_or(own / 2 + spread))
    }

    /// Waits as [`Retry::wait`] says; `false`: that was the last one.
    pub(crate) async fn pause(&self, number: u32, asked: Option<Duration>) -> bool {
        // Without randomness the waits are merely even.
        let random = crate::sys::random::u32().unwrap_or(u32::MAX);
        match self.wait(number, asked, random) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                true
            }
            None => false,
        }
    }
}

impl ClientEnvironment {
    /// Returns the usual places. `docker_config` is the directory that `DOCKER_CONFIG` names, or `~/.docker`.
    pub fn system(docker_config: Option<&Path>) -> Self {
        let own = docker_config.map(|directory| directory.join("certs.d"));
        let mut certs: Vec<PathBuf> = own.into_iter().collect();
        certs.push("/etc/docker/certs.d".into());
        Self {
            docker_config: docker_config.map(|directory| directory.join("config.json")),
            docker_auth_config: None,
            containers_auth: None,
            daemon_json: "/etc/docker/daemon.json".into(),
            registries_conf: "/etc/containers/registries.conf".into(),
            registries_conf_directory: "/etc/containers/registries.conf.d".into(),
            hosts_directories: vec![
                "/etc/containerd/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            certs_directories: certs,
            retry: Retry::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_servers_are_heard() {
        let retry = Retry {
            stall: Duration::from_mins(1),
            attempts: 5,
            first_wait: Duration::from_secs(8),
            longest_wait: Duration::from_secs(30),
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (number, asked, random, expected) in [
            (1, None, 0, seconds(4)),
            (1, None, 1 << 31, seconds(6)),
            (2, None, 0, seconds(8)),
            (3, None, 0, seconds(15)),
            (4, None, 0, seconds(15)),
            (5, None, 0, None),
            (1, seconds(0), 7, seconds(0)),
            (1, seconds(30), 7, seconds(30)),
            (1, seconds(31), 7, None),
        ] {
            assert_eq!(
                retry.wait(number, asked, random),
                expected,
                "{number} {asked:?}"
            );
        }
        assert!(retry.wait(1, None, u32::MAX) < seconds(8));
    }
}
