//! `stack inspect`, and `stack image inspect`, which is the same for images alone.

use crate::cli::args::{InspectArgs, InspectType};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::document::{Value, render_inspected};
use crate::engine::{Engine, EngineError};

/// Shows the containers and images that there are.
pub(super) fn run(context: &Context, args: &InspectArgs) -> Result<(), CliError> {
    show(context, &args.names, args.format.as_deref(), args.r#type)
}

/// Shows what there is of `names`; of the others it says that there are none, and fails.
pub(super) fn show(
    context: &Context,
    names: &[String],
    format: Option<&str>,
    only: Option<InspectType>,
) -> Result<(), CliError> {
    let engine = context.engine()?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match find(&engine, name, only)? {
            Some(value) => found.push(value),
            None => missing.push(name),
        }
    }
    context.out(render_inspected(&found, format)?)?;
    let what = match only {
        None => "object",
        Some(InspectType::Container) => "container",
        Some(InspectType::Image) => "image",
    };
    for name in &missing {
        context
            .printer
            .err(format!("Error: No such {what}: {name}\n"));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(CliError::Ended(1))
    }
}

/// Finds a container of that name or id, then an image.
fn find(engine: &Engine, name: &str, only: Option<InspectType>) -> Result<Option<Value>, CliError> {
    if only != Some(InspectType::Image) {
        match engine.inspect_container(name) {
            Ok(container) => return Value::of(&container).map(Some),
            Err(EngineError::NoSuchContainer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if only != Some(InspectType::Container) {
        match engine.inspect_image(name) {
            Ok(image) => return Value::of(&image).map(Some),
            Err(error) if error.is_no_such_image() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
