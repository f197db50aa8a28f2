//! The arguments of `stack image build`.

use std::path::PathBuf;

use clap::Args;

/// `stack image build`.
#[derive(Debug, Args)]
pub(crate) struct ImageBuildArgs {
    /// Directory that the Dockerfile's `COPY` and `ADD` take from
    #[arg(value_name = "PATH")]
    pub(crate) context: String,
    /// Dockerfile [default: `Dockerfile` in PATH]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name to give the image; may be repeated
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Build argument; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Say why each step that is done was not in the cache
    #[arg(long)]
    pub(crate) explain: bool,
    /// Label of the image; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Pull base images even if they are there
    #[arg(long)]
    pub(crate) pull: bool,
    /// What the image is to run on, such as `linux/arm64`; this machine where not said
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Print the image's ID alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
