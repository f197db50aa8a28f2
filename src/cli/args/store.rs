//! The arguments of the commands on the image store.

use std::path::PathBuf;

use clap::Args;

/// `stack image inspect`.
#[derive(Debug, Args)]
pub(crate) struct ImageInspectArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `stack image rm`.
#[derive(Debug, Args)]
pub(crate) struct ImageRemoveArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Also where stopped containers were made of it, or several repositories name it
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep the image itself where its last name goes
    #[arg(long)]
    pub(crate) no_prune: bool,
}

/// `stack image save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names or IDs; a name without a tag is all its tags
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Fail unless the images are for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `stack image tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or ID of the image
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Its new name
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
}
