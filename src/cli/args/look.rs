//! The arguments of what looks at containers, or into them.

use clap::{Args, ValueEnum};

use super::ListFormat;

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
