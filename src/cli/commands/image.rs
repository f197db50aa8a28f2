//! `stack image import` and `stack image ls`.

use std::io::Read;
use std::path::Path;

use crate::cli::args::{ImageListArgs, ImportArgs, ListFormat};
use crate::cli::context::{Context, now};
use crate::cli::failure::CliError;
use crate::cli::render::images::{render_json, render_store};

/// Makes an image of a root file system and prints its ID.
pub(super) fn import(context: &Context, args: &ImportArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image import")?;
    let reader: Box<dyn Read + Send> = if args.file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let path = context.directory.join(&args.file);
        let file = std::fs::OpenOptions::new().read(true).open(&path);
        Box::new(file.map_err(|source| CliError::File {
            attempted: "read",
            path: args.file.clone(),
            source,
        })?)
    };
    let engine = context.engine()?;
    let id = engine.import_image(reader, args.reference.as_deref(), &args.change)?;
    context.out(format!("{id}\n"))
}

/// Lists every image of the store.
pub(super) fn list(context: &Context, args: &ImageListArgs) -> Result<(), CliError> {
    let images = context.engine()?.images()?;
    if args.quiet {
        return context.out(
            images
                .iter()
                .map(|image| format!("{}\n", bare_id(&image.id)))
                .collect::<String>(),
        );
    }
    context.out(match args.format {
        ListFormat::Table => render_store(&images, now().as_second()),
        ListFormat::Json => render_json(&images),
    })
}

/// Returns the hexadecimal digits of a digest, as `-q` lists them.
pub(super) fn bare_id(id: &str) -> String {
    id.split_once(':')
        .map_or(id, |(_, digits)| digits)
        .to_owned()
}
