//! `stack image load`.

use std::io::IsTerminal;

use crate::cli::args::LoadArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::images::render_loaded;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::load::Archive;

/// Loads an archive and says which images there are now.
pub(in crate::cli) async fn run(context: &Context, args: &LoadArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image load")?;
    let archive = match &args.input {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).open(context.directory.join(path));
            let failed = |source| CliError::File {
                attempted: "read",
                path: path.clone(),
                source,
            };
            let file = file.map_err(failed)?;
            let stat = file.metadata().map_err(failed)?;
            Archive {
                name: path.display().to_string(),
                source: Box::new(file),
                size_bytes: stat.is_file().then_some(stat.len()),
            }
        }
        None if std::io::stdin().is_terminal() => {
            let message = "requested load from stdin, but stdin is empty";
            return Err(CliError::Refused(message.to_owned()));
        }
        None => Archive {
            name: "from standard input".to_owned(),
            source: Box::new(std::io::stdin()),
            size_bytes: None,
        },
    };
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show_load(args.quiet);
    let work = engine.load_images(archive, args.platform.as_deref(), &progress, &cancel);
    let loaded = drive(work, &progress, &mut interrupts, &cancel).await?;
    context.out(render_loaded(&loaded))
}
