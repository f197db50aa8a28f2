//! The arguments of `stack image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ImageBuildArgs, ImageInspectArgs, ImageRemoveArgs, ListFormat, SaveArgs, TagArgs};

/// `stack image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<ImageBuildArgs>),
    /// Make an image of a root file system in a tar archive
    Import(ImportArgs),
    /// Show all that is known of images, as JSON
    Inspect(ImageInspectArgs),
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ImageListArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(ImageRemoveArgs),
    /// Write images to a tar archive that `docker load`, Podman and OCI tools read
    Save(SaveArgs),
    /// Give an image another name
    Tag(TagArgs),
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
