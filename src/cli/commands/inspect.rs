//! `stack inspect`, and `stack image inspect`, which is the same for images alone.

use crate::cli::args::{InspectArgs, InspectType};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::document::{Value, render_inspected};
use crate::engine::{Engine, EngineError};

/// Shows the containers and images that there are.
pub(super) fn run(context: &Context, args: &InspectArgs) -> Result<(), CliError> {
    let asked = Asked {
        format: args.format.as_deref(),
        only: args.r#type,
        platform: None,
    };
    show(context, &args.names, asked)
}

/// How things are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) format: Option<&'a str>,
    pub(super) only: Option<InspectType>,
    /// Of images of several platforms.
    pub(super) platform: Option<&'a str>,
}

/// Shows what there is of `names`; of the others it says that there are none, and fails.
pub(super) fn show(context: &Context, names: &[String], asked: Asked<'_>) -> Result<(), CliError> {
    let engine = context.engine()?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match find(&engine, name, asked)? {
            Some(value) => found.push(value),
            None => missing.push(name),
        }
    }
    context.out(render_inspected(&found, asked.format)?)?;
    let what = match asked.only {
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
fn find(engine: &Engine, name: &str, asked: Asked<'_>) -> Result<Option<Value>, CliError> {
    let only = asked.only;
    if only != Some(InspectType::Image) {
        match engine.inspect_container(name) {
            Ok(container) => return Value::of(&container).map(Some),
            Err(EngineError::NoSuchContainer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if only != Some(InspectType::Container) {
        match engine.inspect_image(name, asked.platform) {
            Ok(image) => return Value::of(&image).map(Some),
            Err(error) if error.is_no_such_image() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
