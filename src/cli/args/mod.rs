//! What may be typed. Doc comments are the help; [`super::later`] adds what Docker Compose has and this does not yet.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod build;
mod config;
mod docker_build;
mod image;
mod image_build;
mod look;
mod registry;
mod run;
mod snapshot;
mod store;
mod system;

pub(crate) use build::*;
pub(crate) use config::*;
pub(crate) use image::*;
pub(crate) use image_build::*;
pub(crate) use look::*;
pub(crate) use registry::*;
pub(crate) use run::*;
pub(crate) use snapshot::*;
pub(crate) use store::*;
pub(crate) use system::*;

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
    /// Of builds: `BuildKit`'s `SolveStatus`, one JSON object a change
    #[value(name = "rawjson")]
    RawJson,
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
    /// Push images
    Push(PushArgs),
    /// List the images that containers use
    Images(ImagesArgs),
    /// Make an image of a container's changes
    Commit(CommitArgs),
    /// Write a container's files as a tar archive
    Export(ExportArgs),
    /// Show all that is known of containers and images, as JSON
    Inspect(InspectArgs),
    /// Work with the image store
    #[command(subcommand)]
    Image(ImageCommand),
    /// Keep a name and password for a registry
    Login(LoginArgs),
    /// Forget what is kept for a registry
    Logout(LogoutArgs),
    /// Disk usage, clean-up and repair
    #[command(subcommand)]
    System(SystemCommand),
    /// Act on changes of source files as `develop.watch` says
    Watch(WatchArgs),
    /// Make what runs equal to a file, a directory or a repository, without questions
    Apply(ApplyArgs),
    /// Start again what should run, after the host has come up
    Boot,
    /// Show the version
    Version(VersionArgs),
}

impl Command {
    /// Whether it does nothing but build.
    pub(crate) fn is_build(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Image(ImageCommand::Build(_)))
    }
}

/// `--format` of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Table,
    /// For machines
    Json,
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
