//! The arguments of what talks to registries.

use clap::{Args, ValueEnum};

/// `stack image pull`.
#[derive(Debug, Args)]
pub(crate) struct ImagePullArgs {
    /// Name of the image, with a tag or digest
    #[arg(value_name = "NAME")]
    pub(crate) reference: String,
    /// Every tag of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// What it is to run on, such as `linux/arm64`; this machine where not said
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Show the name only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How layers that are made here are compressed for a push.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PackingArgs {
    /// Compression of layers that were made here; layers that came from a registry stay as they are [default: gzip]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) compression_format: Option<PackingFormat>,
    /// How hard to compress: 1 to 9 for gzip [default: 6], 1 to 19 for zstd [default: 3]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<u32>,
}

/// `--compression-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackingFormat {
    /// What every tool reads
    Gzip,
    /// Faster and smaller
    Zstd,
}

/// `stack image push`.
#[derive(Debug, Args)]
pub(crate) struct ImagePushArgs {
    /// Name of the image
    #[arg(value_name = "NAME")]
    pub(crate) reference: String,
    /// Every tag that the repository has here
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Of an image of several platforms, only what is for this one
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Show the name only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) packing: PackingArgs,
}

/// `stack push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Services; all that have an image and a build where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Push the images of dependencies too
    #[arg(long)]
    pub(crate) include_deps: bool,
    /// Go on where an image cannot be pushed
    #[arg(long)]
    pub(crate) ignore_push_failures: bool,
    /// Do not show progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) packing: PackingArgs,
}

/// `stack login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Registry; Docker Hub where not said
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password or token
    #[arg(short, long, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// `stack logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Registry; Docker Hub where not said
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}
