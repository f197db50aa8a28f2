//! The arguments of `stack image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    HistoryArgs, ImageBuildArgs, ImageInspectArgs, ImageListArgs, ImagePruneArgs, ImagePullArgs,
    ImagePushArgs, ImageRemoveArgs, LoadArgs, SaveArgs, TagArgs,
};

/// `stack image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<ImageBuildArgs>),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Make an image of a root file system in a tar archive
    Import(ImportArgs),
    /// Show all that is known of images, as JSON
    Inspect(ImageInspectArgs),
    /// Load the images of a tar archive of Docker's or an OCI layout's, also within gzip or zstd
    Load(LoadArgs),
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ImageListArgs),
    /// Remove images that nothing uses
    Prune(ImagePruneArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(ImageRemoveArgs),
    /// Write images to a tar archive that `docker load`, Podman and OCI tools read
    Save(SaveArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Fetch an image from its registry
    Pull(ImagePullArgs),
    /// Bring an image to its registry
    Push(ImagePushArgs),
}

/// `stack image import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Archive, also compressed; `-` is standard input
    #[arg(value_name = "FILE|URL|-")]
    pub(crate) file: PathBuf,
    /// Name to give it
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: Option<String>,
    /// Dockerfile instruction to apply, such as `CMD ["sh"]`; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Comment of the image [default: where it is from]
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// What the image runs on, such as `linux/arm64` [default: this machine]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}
