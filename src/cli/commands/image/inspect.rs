//! `stack image inspect`.

use crate::cli::args::{ImageInspectArgs, InspectType};
use crate::cli::commands::inspect::{Asked, show};
use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Shows the images that there are.
pub(in crate::cli) fn run(context: &Context, args: &ImageInspectArgs) -> Result<(), CliError> {
    let asked = Asked {
        format: args.format.as_deref(),
        only: Some(InspectType::Image),
        platform: args.platform.as_deref(),
    };
    show(context, &args.images, asked)
}
