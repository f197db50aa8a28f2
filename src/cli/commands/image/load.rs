//! `stack image load`.

use std::io::{IsTerminal, Read};

use crate::cli::args::LoadArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::images::render_loaded;

/// Loads an archive and says which images there are now.
pub(in crate::cli) fn run(context: &Context, args: &LoadArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image load")?;
    let source: Box<dyn Read + Send> = match &args.input {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).open(context.directory.join(path));
            Box::new(file.map_err(|source| CliError::File {
                attempted: "read",
                path: path.clone(),
                source,
            })?)
        }
        None if std::io::stdin().is_terminal() => {
            let message = "requested load from stdin, but stdin is empty";
            return Err(CliError::Refused(message.to_owned()));
        }
        None => Box::new(std::io::stdin()),
    };
    let loaded = context
        .engine()?
        .load_images(source, args.platform.as_deref())?;
    context.out(render_loaded(&loaded))
}
