//! The arguments of `stack system`.

use clap::{Args, Subcommand};

/// `stack system`.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Look for damage in the image store
    Check(SystemCheckArgs),
    /// Show what is taken on disk
    Df(SystemDfArgs),
    /// Remove what nothing uses
    Prune(SystemPruneArgs),
}

/// `stack system check`.
#[derive(Debug, Args)]
pub(crate) struct SystemCheckArgs {
    /// Set aside what is damaged, and make it again of what is here
    #[arg(long)]
    pub(crate) repair: bool,
}

/// `stack system df`.
#[derive(Debug, Args)]
pub(crate) struct SystemDfArgs {
    /// Show each image, container and volume
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How to write it: `table`, `json`, or a Go template over each kind
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub(crate) format: Option<String>,
}

/// `stack system prune`.
#[derive(Debug, Args)]
pub(crate) struct SystemPruneArgs {
    /// All images that no container was made of, not only those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only what fits, such as `until=TIME`, `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Also anonymous volumes that no container mounts
    #[arg(long)]
    pub(crate) volumes: bool,
}
