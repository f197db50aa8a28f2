//! `stack image rm`.

use crate::cli::args::ImageRemoveArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::diagnostic::render_chain;
use crate::cli::render::images::render_removed;
use crate::engine::store::RemoveOptions;

/// Removes each; goes on past those that cannot be, and fails at the end.
pub(in crate::cli) fn run(context: &Context, args: &ImageRemoveArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image rm")?;
    let engine = context.engine()?;
    let options = RemoveOptions {
        force: args.force,
        no_prune: args.no_prune,
    };
    let mut failed = false;
    for asked in &args.images {
        match engine.remove_image(asked, options) {
            Ok(removed) => context.out(render_removed(&removed))?,
            Err(error) => {
                let colour = context.printer.err_look.colour;
                context
                    .printer
                    .err(render_chain(&error, &error.hints(), colour));
                failed = true;
            }
        }
    }
    if failed {
        Err(CliError::Ended(1))
    } else {
        Ok(())
    }
}
