//! What the command line asks for beyond the file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::spec::model::service::PullPolicy;

/// `up` and `create`. The default is `up -d` without a flag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpOptions {
    /// Only these services, and what they depend on; all where empty.
    pub services: Vec<String>,
    /// Whether dependencies of named services are left alone (`--no-deps`).
    pub no_deps: bool,
    /// Which containers are recreated.
    pub recreate: Recreate,
    /// Recreate containers of services that are here only as dependencies.
    pub always_recreate_deps: bool,
    /// Remove containers whose service the file does not have.
    pub remove_orphans: bool,
    /// Say nothing of containers whose service the file does not have.
    pub ignore_orphans: bool,
    /// Remove the project's networks that the file does not have (`apply`).
    pub prune_networks: bool,
    /// Leave alone what has done its work: containers without a restart policy for it that ended with 0 (`apply`).
    pub leave_completed: bool,
    /// Recreate, and do not take anonymous volumes over.
    pub renew_anonymous_volumes: bool,
    /// Number of containers by service, instead of the file's.
    pub scale: BTreeMap<String, u32>,
    /// Instead of every service's `pull_policy`.
    pub pull: Option<PullPolicy>,
    /// Which images are built.
    pub build: BuildImages,
    /// Create, do not start (`create`, `up --no-start`).
    pub no_start: bool,
    /// Wait until all run, or are healthy.
    pub wait: bool,
    /// Longest wait, for a dependency too.
    pub wait_timeout: Option<Duration>,
    /// Grace of containers that are replaced or removed, instead of their own.
    pub stop_timeout: Option<Duration>,
    /// Digest of each secret's content, by key of the top-level `secrets`.
    pub secret_digests: BTreeMap<String, String>,
    /// Digest of each config's content, by key of the top-level `configs`.
    pub config_digests: BTreeMap<String, String>,
}

/// Which containers are recreated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recreate {
    /// Those that differ from what is asked for.
    #[default]
    Changed,
    /// All of the named services (`--force-recreate`).
    Always,
    /// None of the named services (`--no-recreate`).
    Never,
}

/// Which images are built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildImages {
    /// Those that are not there.
    #[default]
    Missing,
    /// All that have `build` (`--build`); what is cached is not built again.
    Always,
    /// None (`--no-build`).
    Never,
}

/// `down`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Remove named volumes declared in the file, and anonymous ones.
    pub volumes: bool,
    /// Grace instead of each container's own.
    pub timeout: Option<Duration>,
    /// Also containers of services that the file does not have, and one-off ones.
    pub remove_orphans: bool,
}

/// `stop`, `start` and `restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LifecycleOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// `restart`: leave dependents alone.
    pub no_deps: bool,
    /// Grace instead of each container's own.
    pub timeout: Option<Duration>,
    /// `start`: wait until all run, or are healthy.
    pub wait: bool,
    /// Longest wait.
    pub wait_timeout: Option<Duration>,
}

/// `pull` and `build`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Also what they depend on.
    pub with_dependencies: bool,
    /// `pull --policy missing`: not those that are there.
    pub missing_only: bool,
    /// `pull`: leave out what can be built (`--ignore-buildable`).
    pub ignore_buildable: bool,
}
