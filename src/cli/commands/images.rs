//! `stack images`.

use std::collections::BTreeSet;

use crate::cli::args::{ImagesArgs, ListFormat};
use crate::cli::context::{Context, now};
use crate::cli::failure::CliError;
use crate::cli::render::images::{render_json, render_used};
use crate::cli::render::text::lines;

/// Lists the images that the project's containers use.
pub(super) fn run(context: &Context, args: &ImagesArgs) -> Result<(), CliError> {
    let target = context.target().map_err(|error| {
        let hint = "`stack image ls` lists all images, without a project";
        context.outside(error, hint)
    })?;
    let services = match &target.loaded {
        Some(loaded) => super::named_services(&loaded.stack, &args.services)?,
        None => args.services.clone(),
    };
    let engine = context.engine()?;
    let mut images = engine.project_images(&target.project)?;
    if !services.is_empty() {
        let containers = engine.containers(Some(&target.project), true)?;
        let wanted: BTreeSet<String> = containers
            .into_iter()
            .filter(|container| services.contains(&container.service))
            .map(|container| container.name)
            .collect();
        images.retain(|image| wanted.contains(&image.container));
    }
    if args.quiet {
        let ids: BTreeSet<String> = images
            .iter()
            .map(|image| super::image::bare_id(&image.id))
            .collect();
        return context.out(lines(ids));
    }
    context.out(match args.format {
        ListFormat::Table => render_used(&images, now().as_second()),
        ListFormat::Json => render_json(&images),
    })
}
