//! `stack down`.

use super::timeout;
use crate::cli::args::DownArgs;
use crate::cli::context::{Context, is_on};
use crate::cli::failure::CliError;
use crate::cli::render::progress::{Shown, render_plans};
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::plan::options::DownOptions;

/// Stops and removes what the project has.
pub(super) async fn run(context: &Context, args: DownArgs) -> Result<(), CliError> {
    let target = context.target()?;
    let stack = target.loaded.as_ref().map(|loaded| &loaded.stack);
    let environment = target
        .loaded
        .as_ref()
        .map_or(&context.settings, |loaded| &loaded.environment);
    let options = DownOptions {
        services: match stack {
            Some(stack) => stack.named(&args.services),
            None => args.services,
        },
        volumes: args.volumes,
        timeout: timeout(args.timeout),
        remove_orphans: args.remove_orphans || is_on(environment, "COMPOSE_REMOVE_ORPHANS"),
    };
    let engine = context.engine()?;
    if context.global.dry_run {
        let planned = engine.plan_down(&target.project, stack, &options).await?;
        planned
            .warnings()
            .iter()
            .for_each(|warning| context.warn(warning));
        return context.out(render_plans(&planned, context.progress));
    }
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show(Shown {
        title: "Running",
        builds: true,
        pulls: true,
    });
    let work = engine.down(&target.project, stack, &options, &progress, &cancel);
    drive(work, &progress, &mut interrupts, &cancel).await
}
