//! `stack watch`, and what `stack up --watch` shows of it.

use super::{check_services, check_usable};
use crate::cli::args::WatchArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::diagnostic::chain;
use crate::cli::render::progress::{Progress, ProgressMode, Shown};
use crate::cli::render::watch::WatchPainter;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::watch::Watcher;
use crate::plan::graph::Dependencies;
use crate::plan::options::UpOptions;
use crate::spec::Phase;

/// Acts on changes of source files, the containers left running at the end.
pub(super) async fn run(context: &Context, args: WatchArgs) -> Result<(), CliError> {
    context.refuse_dry_run("watch")?;
    let loaded = context.load()?;
    let stack = &loaded.stack;
    check_services(stack, &args.services)?;
    check_usable(
        context,
        &loaded,
        &args.services,
        Dependencies::Follow,
        Phase::Run,
    )?;
    let engine = context.engine()?;
    let options = UpOptions {
        services: args.services.clone(),
        ..UpOptions::default()
    };
    // Before anything is built: what changes from now on is not lost.
    let watcher = engine.watcher(stack, &args.services, options.clone())?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    if !args.no_up {
        let progress = context.show(Shown {
            title: "Running",
            builds: !args.quiet,
            pulls: true,
        });
        let work = engine.up(stack, &options, &progress, &cancel);
        drive(work, &progress, &mut interrupts, &cancel).await?;
    }
    let progress = progress(context, args.quiet);
    let painter = WatchPainter::new(context);
    let work = watcher.run(&progress, &painter, &cancel);
    drive(work, &progress, &mut interrupts, &cancel).await
}

/// Watches beside what an attached `up` shows, until `cancel`; what ends it earlier is said, and ends nothing else.
pub(super) async fn beside(context: &Context, watcher: Watcher<'_>, quiet: bool, cancel: &Cancel) {
    let progress = progress(context, quiet);
    let painter = WatchPainter::new(context);
    if let Err(error) = watcher.run(&progress, &painter, cancel).await
        && !cancel.is_cancelled()
    {
        context.warn(&format!("not watching any more: {}", chain(&error)));
    }
}

/// Shows builds a line an event: a live region would be in the way of what else is shown.
fn progress(context: &Context, quiet: bool) -> Progress<'_> {
    let mode = match context.progress {
        ProgressMode::Tty => ProgressMode::Plain,
        mode => mode,
    };
    let shown = Shown {
        title: "Watching",
        builds: !quiet,
        pulls: false,
    };
    Progress::new(&context.printer, mode, shown)
}
