//! The arguments of the commands on the image store.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `stack image history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name or ID
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// How to write it: `table`, `json`, or a Go template over each step
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Sizes and dates for people; `--human=false` for machines
    #[arg(short = 'H', long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) human: bool,
    /// Show whole IDs and instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Of an image of several platforms, the one to show [default: this machine]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Show IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `stack image inspect`.
#[derive(Debug, Args)]
pub(crate) struct ImageInspectArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Go template to write each with instead of JSON, such as `{{.Config.Env}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Of an image of several platforms, the one to show [default: this machine]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `stack inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or IDs of containers and images
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Go template to write each with instead of JSON, such as `{{.State.Status}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Look only among these
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) r#type: Option<InspectType>,
}

/// `--type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectType {
    /// Containers
    Container,
    /// Images
    Image,
}

/// `stack image ls`.
#[derive(Debug, Args)]
pub(crate) struct ImageListArgs {
    /// Only images with names like this; `*` stands for any part
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
    /// Accepted for Docker's sake: there are no intermediate images
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show the digests that names stood for in their registry
    #[arg(long)]
    pub(crate) digests: bool,
    /// Only what fits, such as `dangling=true`, `label=KEY[=VALUE]`, `before=IMAGE`, `since=IMAGE`, `reference=PATTERN`,
    /// `until=TIME`; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// How to write it: `table`, `json`, or a Go template over each image
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `stack image prune`.
#[derive(Debug, Args)]
pub(crate) struct ImagePruneArgs {
    /// All images that no container was made of, not only those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only what fits, such as `until=TIME`, `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `stack image load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Archive to read instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Load only what is for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
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
    /// Save only what is for this platform; fail where an image has nothing for it
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
