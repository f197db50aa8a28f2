//! `stack image prune`.

use crate::cli::args::ImagePruneArgs;
use crate::cli::commands::{confirm, filters};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::images::render_pruned;

/// What `--filter` knows here.
const FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

/// Removes what nothing uses, after a question.
pub(in crate::cli) fn run(context: &Context, args: &ImagePruneArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image prune")?;
    let asked = filters::parse(&args.filter, FILTERS)?;
    let warning = if args.all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !args.force && !confirm::ask(context, warning)? {
        return context.out("Total reclaimed space: 0B\n");
    }
    let pruned = context.engine()?.prune_images(args.all, &asked)?;
    if pruned.busy {
        context.warn("a pull, import or build is running: the space is freed by the next `stack image prune`");
    }
    context.out(render_pruned(&pruned))?;
    context.fail_with(&pruned.failures)
}
