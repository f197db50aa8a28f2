//! `stack apply`.

use crate::cli::args::ApplyArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Makes what runs equal to a source.
pub(super) async fn run(_context: &Context, args: ApplyArgs) -> Result<(), CliError> {
    drop(args);
    std::future::ready(Err(CliError::NotSupported("command `apply`".to_owned()))).await
}
