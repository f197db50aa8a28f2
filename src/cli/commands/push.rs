//! `stack push`.

use crate::cli::args::PushArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::registry::PushOptions;

/// Pushes the images of services.
pub(super) async fn run(context: &Context, args: PushArgs) -> Result<(), CliError> {
    context.refuse_dry_run("push")?;
    let packing = super::image::transfer::packing(args.packing)?;
    let loaded = context.load_without_environment(&args.services);
    let loaded = loaded.map_err(|error| {
        let hint = "`stack image push NAME` pushes an image by its name, without a project";
        context.outside(error, hint)
    })?;
    let services = super::named_services(&loaded.stack, &args.services)?;
    let options = PushOptions {
        services,
        include_deps: args.include_deps,
        ignore_failures: args.ignore_push_failures,
        packing,
    };
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show_push(args.quiet);
    let work = engine.push(&loaded.stack, &options, &progress, &cancel);
    let done = drive(work, &progress, &mut interrupts, &cancel).await;
    done.map_err(|error| error.at(&loaded))
}
