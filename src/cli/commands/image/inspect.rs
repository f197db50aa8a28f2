//! `stack image inspect`.

use crate::cli::args::ImageInspectArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::document::{Value, render_inspected};

/// Shows the images that there are; of the others it says that there are none, and fails.
pub(in crate::cli) fn run(context: &Context, args: &ImageInspectArgs) -> Result<(), CliError> {
    let engine = context.engine()?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for asked in &args.images {
        match engine.inspect_image(asked) {
            Ok(image) => found.push(Value::of(&image)?),
            Err(error) if error.is_no_such_image() => missing.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    context.out(render_inspected(&found, args.format.as_deref())?)?;
    for message in &missing {
        context.printer.err(format!("Error: {message}\n"));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(CliError::Ended(1))
    }
}
