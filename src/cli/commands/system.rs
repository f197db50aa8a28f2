//! `stack system`: `check`, `df`, `prune`.

use super::{confirm, filters};
use crate::cli::args::{SystemCheckArgs, SystemDfArgs, SystemPruneArgs};
use crate::cli::context::{Context, now};
use crate::cli::failure::CliError;
use crate::cli::render::system::{render_checked, render_each, render_kinds, render_pruned};
use crate::engine::prune::PruneOptions;
use crate::engine::store::Filter;

/// Says what is damaged; fails where something still is.
pub(super) fn check(context: &Context, args: &SystemCheckArgs) -> Result<(), CliError> {
    context.refuse_dry_run("system check")?;
    let checked = context.engine()?.check_images(args.repair)?;
    context.out(render_checked(&checked))?;
    if checked.findings.iter().all(|finding| finding.mended) {
        Ok(())
    } else {
        Err(CliError::Ended(1))
    }
}

/// Shows what is taken on disk.
pub(super) fn df(context: &Context, args: &SystemDfArgs) -> Result<(), CliError> {
    let usage = context.engine()?.disk_usage()?;
    if args.verbose {
        return context.out(render_each(&usage, now().as_second()));
    }
    context.out(render_kinds(&usage, args.format.as_deref())?)
}

/// Removes what nothing uses, after a question.
pub(super) async fn prune(context: &Context, args: SystemPruneArgs) -> Result<(), CliError> {
    context.refuse_dry_run("system prune")?;
    let asked = filters::parse(&args.filter, &["label", "label!", "until"])?;
    if args.volumes && asked.iter().any(|f| matches!(f, Filter::Until(_))) {
        return Err(CliError::usage(
            "the \"until\" filter is not supported with `--volumes`",
        ));
    }
    let mut warning = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        warning.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    warning.push_str(if args.all {
        "  - all images without at least one container associated to them\n  - all build cache\n"
    } else {
        "  - all dangling images\n  - unused build cache\n"
    });
    if !args.filter.is_empty() {
        warning.push_str("\n  Items to be pruned will be filtered with:\n");
        warning.extend(args.filter.iter().map(|filter| format!("  - {filter}\n")));
    }
    if !args.force && !confirm::ask(context, &warning)? {
        return Ok(());
    }
    let options = PruneOptions {
        all: args.all,
        volumes: args.volumes,
        filters: asked,
    };
    let engine = context.engine()?;
    let progress = context.show_pull(true);
    let pruned = engine.prune(&options, &progress).await;
    if pruned.images.busy {
        context.warn("a pull, import or build is running: the space of images is freed by the next `stack system prune`");
    }
    context.out(render_pruned(&pruned))?;
    context.fail_with(&pruned.failures)
}
