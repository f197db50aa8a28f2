//! `stack image build`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::args::ImageBuildArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::progress::Shown;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::ImageBuild;
use crate::engine::cancel::Cancel;
use crate::sys::atomic::{self, Durability};

/// Builds an image; with `-q` its ID is all that is printed.
pub(in crate::cli::commands) async fn run(
    context: &Context,
    args: ImageBuildArgs,
) -> Result<(), CliError> {
    context.sealed()?;
    context.refuse_dry_run("image build")?;
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let labels: BTreeMap<String, Option<String>> = args.label.iter().map(pair).collect();
    let build = ImageBuild {
        context: context.directory.join(&args.context),
        dockerfile: args.file.map(|file| context.directory.join(file)),
        tags: args.tag,
        build_args: args.build_arg.iter().map(pair).collect(),
        target: args.target,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
        no_cache: args.no_cache,
        explain: args.explain,
        pull: args.pull,
        platform: args.platform,
    };
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let shown = Shown {
        title: "Building",
        builds: true,
        pulls: true,
    };
    let progress = context.show_unless(args.quiet, shown);
    let work = engine.build_image(&build, &progress, &cancel);
    let id = drive(work, &progress, &mut interrupts, &cancel).await?;
    if let Some(path) = &args.iidfile {
        write(context, path, &id)?;
    }
    if args.quiet {
        context.out(format!("{id}\n"))?;
    }
    Ok(())
}

/// Writes a file that was asked for, whole or not at all.
fn write(context: &Context, path: &Path, text: &str) -> Result<(), CliError> {
    let whole = context.directory.join(path);
    atomic::write(&whole, text.as_bytes(), 0o644, Durability::Cached).map_err(|source| {
        CliError::File {
            attempted: "write",
            path: path.to_owned(),
            source,
        }
    })
}
