//! The arguments of what changes what runs.

use clap::{Args, ValueEnum};

use super::LogLook;

/// `stack up`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct UpArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Run in the background
    #[arg(short, long, conflicts_with_all = ["abort_on_container_exit", "abort_on_container_failure", "exit_code_from", "attach", "no_attach", "attach_dependencies", "watch"])]
    pub(crate) detach: bool,
    /// Build images before starting
    #[arg(long, conflicts_with = "no_build")]
    pub(crate) build: bool,
    /// Do not build, even if an image is missing
    #[arg(long, conflicts_with = "watch")]
    pub(crate) no_build: bool,
    /// When to pull, for every service
    #[arg(long, value_name = "POLICY")]
    pub(crate) pull: Option<PullArg>,
    /// Do not show the progress of pulls
    #[arg(long)]
    pub(crate) quiet_pull: bool,
    /// Do not show the output of builds
    #[arg(long)]
    pub(crate) quiet_build: bool,
    /// Recreate containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub(crate) no_recreate: bool,
    /// Recreate dependencies too
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) always_recreate_deps: bool,
    /// Give recreated containers new anonymous volumes
    #[arg(short = 'V', long, conflicts_with = "no_recreate")]
    pub(crate) renew_anon_volumes: bool,
    /// Leave out the services that the named ones depend on
    #[arg(long)]
    pub(crate) no_deps: bool,
    /// Create containers without starting them
    #[arg(long, conflicts_with_all = ["watch", "wait"])]
    pub(crate) no_start: bool,
    /// Remove containers of services that the file does not have
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// Number of containers of a service; may be repeated
    #[arg(long, value_name = "SERVICE=N", value_parser = scale)]
    pub(crate) scale: Vec<(String, u32)>,
    /// Seconds that a container has to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
    /// Wait until services run or are healthy; implies --detach
    #[arg(long, conflicts_with_all = ["abort_on_container_exit", "abort_on_container_failure", "exit_code_from", "attach", "no_attach", "attach_dependencies", "watch"])]
    pub(crate) wait: bool,
    /// Seconds that --wait waits
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_timeout: Option<u64>,
    /// Stop all as soon as one container ends; its exit code is the result
    #[arg(long, conflicts_with = "abort_on_container_failure")]
    pub(crate) abort_on_container_exit: bool,
    /// Stop all as soon as one container fails; its exit code is the result
    #[arg(long)]
    pub(crate) abort_on_container_failure: bool,
    /// The exit code of this service is the result; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE")]
    pub(crate) exit_code_from: Option<String>,
    /// Show the output of these services only; may be repeated
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub(crate) attach: Vec<String>,
    /// Do not show the output of these services; may be repeated
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub(crate) no_attach: Vec<String>,
    /// Show the output of dependencies of the named services too
    #[arg(long)]
    pub(crate) attach_dependencies: bool,
    #[command(flatten)]
    pub(crate) look: LogLook,
    /// Show times
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Watch source files and act on changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Answer every question with yes
    #[arg(short = 'y', long = "yes")]
    pub(crate) yes: bool,
}

/// `--pull` of `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullArg {
    /// Every image
    Always,
    /// What is not there
    Missing,
    /// Nothing
    Never,
    /// Build instead, where the file says how
    Build,
}

/// `stack down`.
#[derive(Debug, Default, Args)]
pub(crate) struct DownArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Remove the named volumes of the file and anonymous volumes too
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Seconds that a container has to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
    /// Remove containers of services that the file does not have
    #[arg(long)]
    pub(crate) remove_orphans: bool,
}

/// `stack watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Do not build and start services first
    #[arg(long)]
    pub(crate) no_up: bool,
    /// Do not show the output of builds
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// `stack apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Compose file, directory, or repository as `URL[#ref[:directory]]` [default: as for `up`]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Go on following the source, looking this often: `30s`, `5m`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) interval: Option<std::time::Duration>,
    /// Write one JSON object for each change [default: unless standard output is a terminal or with --dry-run]
    #[arg(long, value_name = "BOOL", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(crate) json: Option<bool>,
    /// Exit with 4 where something was changed or, with --dry-run, would be
    #[arg(long, conflicts_with = "interval")]
    pub(crate) detailed_exitcode: bool,
    /// Build images even if they are there [default: those of a revision not applied before]
    #[arg(long)]
    pub(crate) build: bool,
    /// Wait until services run or are healthy
    #[arg(long)]
    pub(crate) wait: bool,
    /// Seconds that --wait waits
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub(crate) wait_timeout: Option<u64>,
}

/// Reads `SERVICE=N`.
fn scale(text: &str) -> Result<(String, u32), String> {
    let (service, number) = text
        .split_once('=')
        .ok_or("it must be SERVICE=N, such as `web=3`")?;
    let number = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number of containers"))?;
    Ok((service.to_owned(), number))
}

/// Reads a time span such as `1h30m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::cli::time::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it must be a time span such as `30s` or `1h30m`".to_owned())
}
