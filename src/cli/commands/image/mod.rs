//! `stack image`: here `import` and `tag`; `transfer` has `pull` and `push`.

mod build;
pub(super) mod inspect;
pub(super) mod list;
pub(super) mod load;
pub(super) mod prune;
pub(super) mod remove;
pub(super) mod save;
pub(super) mod transfer;

use std::path::Path;

use crate::cli::args::{ImportArgs, TagArgs};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::engine::{ImportAsked, ImportSource};

pub(super) use build::{print as print_described, run as build};

/// Makes an image of a root file system and prints its ID.
pub(super) async fn import(context: &Context, args: &ImportArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image import")?;
    let url = args.file.to_str();
    let url = url.filter(|text| text.starts_with("http://") || text.starts_with("https://"));
    let source = if let Some(url) = url {
        ImportSource::Url(url.to_owned())
    } else if args.file == Path::new("-") {
        ImportSource::Stream(Box::new(std::io::stdin()))
    } else {
        let path = context.directory.join(&args.file);
        let file = std::fs::OpenOptions::new().read(true).open(&path);
        ImportSource::Stream(Box::new(file.map_err(|source| CliError::File {
            attempted: "read",
            path: args.file.clone(),
            source,
        })?))
    };
    let asked = ImportAsked {
        changes: args.change.clone(),
        message: args.message.clone(),
        platform: args.platform.clone(),
    };
    let engine = context.engine()?;
    let id = engine.import_image(source, args.reference.as_deref(), &asked);
    let id = id.await?;
    context.out(format!("{id}\n"))
}

/// Gives an image another name.
pub(super) fn tag(context: &Context, args: &TagArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image tag")?;
    Ok(context.engine()?.tag_image(&args.source, &args.target)?)
}

/// Returns the hexadecimal digits of a digest, as `-q` lists them.
pub(super) fn bare_id(id: &str) -> String {
    id.split_once(':')
        .map_or(id, |(_, digits)| digits)
        .to_owned()
}
