//! `stack image inspect`.

use crate::cli::args::{ImageInspectArgs, InspectType};
use crate::cli::commands::inspect::show;
use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Shows the images that there are.
pub(in crate::cli) fn run(context: &Context, args: &ImageInspectArgs) -> Result<(), CliError> {
    let only = Some(InspectType::Image);
    show(context, &args.images, args.format.as_deref(), only)
}
