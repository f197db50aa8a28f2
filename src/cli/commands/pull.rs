//! `stack pull`.

use crate::cli::args::{PullArgs, PullPolicyArg};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::PullOptions;
use crate::engine::cancel::Cancel;

/// Pulls the images of services.
pub(super) async fn run(context: &Context, args: PullArgs) -> Result<(), CliError> {
    context.refuse_dry_run("pull")?;
    let loaded = context.load_without_environment(&args.services);
    let loaded = loaded.map_err(|error| {
        let hint = "`stack image pull NAME` pulls an image by its name, without a project";
        context.outside(error, hint)
    })?;
    let services = super::named_services(&loaded.stack, &args.services)?;
    let options = PullOptions {
        services,
        include_deps: args.include_deps,
        ignore_failures: args.ignore_pull_failures,
        ignore_buildable: args.ignore_buildable,
        missing_only: args.policy == Some(PullPolicyArg::Missing),
    };
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show_pull(args.quiet);
    let work = engine.pull(&loaded.stack, &options, &progress, &cancel);
    let done = drive(work, &progress, &mut interrupts, &cancel).await;
    done.map_err(|error| error.at(&loaded))
}
