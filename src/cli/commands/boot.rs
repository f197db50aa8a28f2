//! `stack boot`.

use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::progress::Shown;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;

/// Starts again what should run.
pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let engine = context.engine()?;
    if context.global.dry_run {
        return context.out(engine.plan_boot().await?.to_string());
    }
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show(Shown {
        title: "Booting",
        builds: true,
        pulls: true,
    });
    let work = engine.boot(&progress, &cancel);
    drive(work, &progress, &mut interrupts, &cancel).await
}
