//! The arguments of `stack config`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `stack config`.
#[derive(Debug, Clone, Args)]
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
