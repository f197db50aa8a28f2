//! The arguments of `stack commit` and `stack export`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// `stack commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Name of a container, the beginning of its ID, or a service of the project
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// Which of the service's containers, from 1
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub(crate) index: u32,
    /// Name to give the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
    /// Who makes it
    #[arg(short, long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// Why
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Hold the container still meanwhile; `--pause=false` does not
    #[arg(
        short,
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) pause: bool,
    /// Dockerfile instruction to apply, such as `CMD ["sh"]`; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
}

/// `stack export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Name of a container, the beginning of its ID, or a service of the project
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// Which of the service's containers, from 1
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub(crate) index: u32,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
