//! The arguments of what makes and fetches the images of services.

use clap::{Args, ValueEnum};

/// `stack build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Services; all that are built where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Build argument; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Say why each step that is done was not in the cache
    #[arg(long)]
    pub(crate) explain: bool,
    /// Pull base images even if they are there
    #[arg(long)]
    pub(crate) pull: bool,
    /// Do not show the output of steps
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Push the images when they are built
    #[arg(long)]
    pub(crate) push: bool,
    /// Agent for `RUN --mount=type=ssh`, and as `default` for repositories by ssh: yours, that at a socket, or one made for key files;
    /// may be repeated
    #[arg(long, value_name = "ID[=SOCKET|KEY,…]", num_args = 0..=1, default_missing_value = "default")]
    pub(crate) ssh: Vec<String>,
    /// Memory that a `RUN` may use
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Build the services that the named ones depend on too
    #[arg(long)]
    pub(crate) with_dependencies: bool,
    /// Look for what is not wise in the Dockerfiles in place of building; exit code 1 if anything is
    #[arg(long)]
    pub(crate) check: bool,
    /// Print the builds as a file of `docker buildx bake` in place of building
    #[arg(long)]
    pub(crate) print: bool,
    /// Attest in the images where they are from: `true`, `false`, `mode=min` or `mode=max` [default: as the file says]
    #[arg(
        long,
        value_name = "ATTESTATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) provenance: Option<String>,
    /// Tell in the images what is in them, over the file's `sbom`
    #[arg(
        long,
        value_name = "BOOL|generator=IMAGE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) sbom: Option<String>,
    /// Taken for the sake of scripts: there is one builder
    #[arg(long, value_name = "BUILDER", hide = true)]
    pub(crate) builder: Option<String>,
    /// Taken for the sake of scripts: builds always go on at once
    #[arg(long, hide = true)]
    pub(crate) parallel: bool,
    /// Taken for the sake of scripts: the context is nowhere sent to
    #[arg(long, hide = true)]
    pub(crate) compress: bool,
    /// Taken for the sake of scripts: containers of steps are always removed
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Taken for the sake of scripts: containers of steps are always removed
    #[arg(long, hide = true)]
    pub(crate) no_rm: bool,
}

/// `stack pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Services; all where none is named
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Do not show progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Pull the images of dependencies too
    #[arg(long)]
    pub(crate) include_deps: bool,
    /// Go on where an image cannot be pulled
    #[arg(long)]
    pub(crate) ignore_pull_failures: bool,
    /// Leave out what can be built
    #[arg(long)]
    pub(crate) ignore_buildable: bool,
    /// When to pull
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<PullPolicyArg>,
}

/// `--policy` of `pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicyArg {
    /// What is not there
    Missing,
    /// Every image
    Always,
}
