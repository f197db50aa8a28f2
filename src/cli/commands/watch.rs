//! `stack watch`.

use crate::cli::args::WatchArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Acts on changes of source files.
pub(super) async fn run(context: &Context, args: WatchArgs) -> Result<(), CliError> {
    context.refuse_dry_run("watch")?;
    drop(args);
    std::future::ready(Err(CliError::NotSupported("command `watch`".to_owned()))).await
}
