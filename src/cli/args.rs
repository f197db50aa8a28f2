//! What may be typed. Doc comments are the help; [`super::later`] adds what Docker Compose has and this does not yet.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Run multi-container applications from Compose files.
#[derive(Debug, Parser)]
#[command(
    name = "stack",
    bin_name = "stack",
    version = concat!("version ", env!("CARGO_PKG_VERSION")),
    disable_version_flag = true,
    disable_help_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options before the command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Compose file; may be repeated, `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project_name: Option<String>,
    /// Profile to enable; may be repeated, `*` is all
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
    /// File of variables instead of `.env`; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Directory that relative paths start from [default: that of the first Compose file]
    #[arg(long, value_name = "DIR")]
    pub(crate) project_directory: Option<PathBuf>,
    /// Keep everything beneath this directory: a stack of its own [default: /var/lib/stack and /run/stack]
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub(crate) root: Option<PathBuf>,
    /// How progress is shown [default: auto]
    #[arg(
        long,
        value_name = "HOW",
        global = true,
        help_heading = "Global options"
    )]
    pub(crate) progress: Option<ProgressArg>,
    /// When control characters and colours are written [default: auto]
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        help_heading = "Global options"
    )]
    pub(crate) ansi: Option<AnsiArg>,
    /// Most operations at once; -1 is no limit [default: no limit, but for pulls and builds]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) parallel: Option<i64>,
    /// Show what would be done, and do nothing
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) dry_run: bool,
    /// Show help
    #[arg(short, long, global = true, help_heading = "Global options", action = clap::ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
    /// Show the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// One live line a resource
    Tty,
    /// One line an event
    Plain,
    /// One JSON object an event
    Json,
    /// Nothing but warnings and errors
    Quiet,
}

/// `--ansi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnsiArg {
    /// Never
    Never,
    /// Also where the output is not a terminal
    Always,
    /// On a terminal
    Auto,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and start containers
    Up(Box<UpArgs>),
    /// Stop and remove containers and networks
    Down(DownArgs),
    /// List containers
    Ps(PsArgs),
    /// Show what containers wrote
    Logs(LogsArgs),
    /// Run a command in a running container
    Exec(ExecArgs),
    /// Check and show the Compose file, resolved
    #[command(visible_alias = "convert")]
    Config(ConfigArgs),
    /// Build images
    Build(BuildArgs),
    /// Pull images
    Pull(PullArgs),
    /// List the images that containers use
    Images(ImagesArgs),
    /// Work with the image store
    #[command(subcommand)]
    Image(ImageCommand),
    /// Act on changes of source files as `develop.watch` says
    Watch(WatchArgs),
    /// Make what runs equal to a file, a directory or a repository, without questions
    Apply(ApplyArgs),
    /// Start again what should run, after the host has come up
    Boot,
    /// Show the version
    Version(VersionArgs),
}

/// `stack up`.
#[derive(Debug, Default, Args)]
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

/// How lines of output are shown, for `up` and `logs`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct LogLook {
    /// Without colours
    #[arg(long)]
    pub(crate) no_color: bool,
    /// Without the container's name before each line
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
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

/// `stack ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Show containers that do not run too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Show service names only
    #[arg(long = "services")]
    pub(crate) names: bool,
    /// Show containers in this state only; may be repeated
    #[arg(long, value_name = "STATE")]
    pub(crate) status: Vec<StateArg>,
    /// Show containers with this property only
    #[arg(long, value_name = "status=STATE", value_parser = filter)]
    pub(crate) filter: Vec<StateArg>,
    /// Show containers of services that the file does not have
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) orphans: bool,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// `table` or `json`
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: String,
}

/// A state to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    Created,
    Running,
    Restarting,
    Paused,
    Removing,
    Exited,
    Dead,
}

/// `stack logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines to show from the end of each container's log, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "all", hide_default_value = true, value_parser = tail)]
    pub(crate) tail: Tail,
    /// From this time on: RFC 3339, seconds since 1970, or back from now (`42m`)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Show times
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) look: LogLook,
}

/// `--tail`: `None` is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<usize>);

/// `stack exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Do not wait for the command
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Variable; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Which of the service's containers, from 1 [default: the first that runs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) index: Option<u32>,
    /// Give the command every capability
    #[arg(long)]
    pub(crate) privileged: bool,
    /// User, or user:group
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Without a terminal [default: with one where this command has one]
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    pub(crate) no_tty: bool,
    /// Accepted for Docker Compose: input is always passed on
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
    /// Accepted for Docker Compose: the default
    #[arg(short, long, hide = true)]
    pub(crate) tty: bool,
    /// Service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// Command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// `stack config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Services with their dependencies; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) names: Vec<String>,
    /// How to write it: YAML where not given, and a table with `--variables`
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: Option<ConfigFormat>,
    /// Only check
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Say beside each value where it came from
    #[arg(long, group = "listing", conflicts_with_all = ["no_interpolate", "lock_image_digests"])]
    pub(crate) origin: bool,
    /// Leave variables as they are
    #[arg(long)]
    pub(crate) no_interpolate: bool,
    /// Leave out what the files only imply, such as names and the default network
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// Leave relative paths as they are
    #[arg(long)]
    pub(crate) no_path_resolution: bool,
    /// Do not check that names refer to something and that nothing contradicts
    #[arg(long)]
    pub(crate) no_consistency: bool,
    /// Do not read the env files of services
    #[arg(long)]
    pub(crate) no_env_resolution: bool,
    /// Pin images to the digests that their registries have now
    #[arg(long)]
    pub(crate) resolve_image_digests: bool,
    /// Write an override file with the pinned images alone
    #[arg(long)]
    pub(crate) lock_image_digests: bool,
    /// List the services, dependencies first
    #[arg(long, group = "listing")]
    pub(crate) services: bool,
    /// List the volumes
    #[arg(long, group = "listing")]
    pub(crate) volumes: bool,
    /// List the networks
    #[arg(long, group = "listing")]
    pub(crate) networks: bool,
    /// List the models
    #[arg(long, group = "listing")]
    pub(crate) models: bool,
    /// List the profiles
    #[arg(long, group = "listing")]
    pub(crate) profiles: bool,
    /// List the images
    #[arg(long, group = "listing")]
    pub(crate) images: bool,
    /// List services, separated by commas, with the hash that their containers are labelled with; `*` for all
    #[arg(long, group = "listing", value_name = "SERVICE")]
    pub(crate) hash: Option<String>,
    /// List the variables that the files name
    #[arg(long, group = "listing")]
    pub(crate) variables: bool,
    /// List the variables that interpolation sees
    #[arg(long, group = "listing")]
    pub(crate) environment: bool,
    /// Print the JSON schema of what is accepted, for editors
    #[arg(long, group = "listing")]
    pub(crate) schema: bool,
}

/// `--format` of `config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFormat {
    /// As a Compose file
    Yaml,
    /// As JSON
    Json,
}

/// `stack build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Services; all that are built where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Build argument; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Pull base images even if they are there
    #[arg(long)]
    pub(crate) pull: bool,
    /// Do not show the output of steps
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Build the services that the named ones depend on too
    #[arg(long)]
    pub(crate) with_dependencies: bool,
}

/// `stack pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Do not show progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Pull the images of dependencies too
    #[arg(long)]
    pub(crate) include_deps: bool,
    /// Go on where an image cannot be pulled
    #[arg(long)]
    pub(crate) ignore_pull_failures: bool,
    /// Leave out what can be built
    #[arg(long)]
    pub(crate) ignore_buildable: bool,
    /// When to pull
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<PullPolicyArg>,
}

/// `--policy` of `pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicyArg {
    /// What is not there
    Missing,
    /// Every image
    Always,
}

/// `stack images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Show IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to write it
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: ListFormat,
}

/// `--format` of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Table,
    /// For machines
    Json,
}

/// `stack image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make an image of a root file system in a tar archive
    Import(ImportArgs),
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ImageListArgs),
    /// Fetch one image from its registry
    Pull(ImagePullArgs),
}

/// `stack image import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Archive, also compressed; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Name to give it
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: Option<String>,
    /// Dockerfile instruction to apply, such as `CMD ["sh"]`; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
}

/// `stack image pull`.
#[derive(Debug, Args)]
pub(crate) struct ImagePullArgs {
    /// Name of the image
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: String,
    /// What it is to run on, such as `linux/arm64`; this machine where not said
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Do not show progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `stack image ls`.
#[derive(Debug, Args)]
pub(crate) struct ImageListArgs {
    /// Only images of this repository, with this tag where it has one
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
    /// Show IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to write it
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: ListFormat,
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

/// `stack version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// How to write it
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "pretty",
        hide_default_value = true
    )]
    pub(crate) format: VersionFormat,
    /// The number only
    #[arg(long)]
    pub(crate) short: bool,
}

/// `--format` of `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionFormat {
    /// For people
    Pretty,
    /// For machines
    Json,
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

/// Reads `status=STATE`.
fn filter(text: &str) -> Result<StateArg, String> {
    match text.split_once('=') {
        Some(("status", state)) => StateArg::from_str(state, false),
        _ => Err("only `status=STATE` can be filtered for".to_owned()),
    }
}

/// Reads `--tail`: `all`, a number, or any negative one for all (Docker Compose).
fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        _ if text == "all" => Ok(Tail(None)),
        Ok(number) => Ok(Tail(usize::try_from(number).ok())),
        Err(_) => Err("it must be a number or `all`".to_owned()),
    }
}

/// Reads a time span such as `1h30m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    super::time::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it must be a time span such as `30s` or `1h30m`".to_owned())
}
