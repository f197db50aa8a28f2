//! `stack commit` and `stack export`.

use std::io::{self, BufWriter, Write};

use super::output::{Access, Output, refuse_terminal};
use crate::cli::args::{CommitArgs, ExportArgs};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::snapshot::CommitRequest;
use crate::engine::{Engine, EngineError};

/// Makes an image of a container and prints its ID.
pub(super) async fn commit(context: &Context, args: CommitArgs) -> Result<(), CliError> {
    context.refuse_dry_run("commit")?;
    let request = CommitRequest {
        name: args.reference,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: args.pause,
    };
    let engine = context.engine()?;
    let container = find(context, &engine, &args.container, args.index)?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show_pull(true);
    let work = engine.commit(&container, &request, &cancel);
    let id = drive(work, &progress, &mut interrupts, &cancel).await?;
    context.out(format!("{id}\n"))
}

/// Writes a container's files to a file or to standard output.
pub(super) fn export(context: &Context, args: &ExportArgs) -> Result<(), CliError> {
    context.refuse_dry_run("export")?;
    let Some(path) = &args.output else {
        refuse_terminal(context, "save")?;
        let engine = context.engine()?;
        let container = find(context, &engine, &args.container, args.index)?;
        let mut sink = BufWriter::with_capacity(1 << 20, io::stdout());
        engine.export(&container, &mut sink)?;
        return sink.flush().map_err(CliError::Output);
    };
    let engine = context.engine()?;
    let container = find(context, &engine, &args.container, args.index)?;
    let mut output = Output::create(context, path, Access::Owner)?;
    engine.export(&container, output.writer())?;
    output.finish()
}

/// Finds a container by name, id, or as one of a service of the project.
pub(super) fn find(
    context: &Context,
    engine: &Engine,
    asked: &str,
    index: u32,
) -> Result<String, CliError> {
    let missing = match engine.container_id(asked) {
        Ok(id) => return Ok(id),
        Err(error @ EngineError::NoSuchContainer { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let Some(target) = context.target_if_any()? else {
        return Err(missing.into());
    };
    let containers = engine.containers(Some(&target.project), true)?;
    let mut containers = containers.into_iter();
    let found = containers.find(|c| c.service == asked && c.number == index);
    found.map(|c| c.id).ok_or_else(|| missing.into())
}
