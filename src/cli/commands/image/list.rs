//! `stack image ls` and `stack image history`.

use crate::cli::args::{HistoryArgs, ImageListArgs};
use crate::cli::commands::filters;
use crate::cli::context::{Context, now};
use crate::cli::failure::CliError;
use crate::cli::render::images::{HistoryLook, ListLook, render_history, render_stored};
use crate::cli::render::text::lines;
use crate::engine::store::Filter;

/// What `--filter` knows here.
const FILTERS: &[&str] = &["dangling", "label", "before", "since", "reference", "until"];

/// Lists the images of the store.
pub(in crate::cli) fn list(context: &Context, args: &ImageListArgs) -> Result<(), CliError> {
    let mut asked = filters::parse(&args.filter, FILTERS)?;
    if let Some(pattern) = &args.reference {
        let filter = Filter::reference(pattern);
        asked.push(filter.ok_or_else(|| CliError::usage(format!("`{pattern}` is no pattern")))?);
    }
    let images = context.engine()?.stored_images(&asked)?;
    let look = ListLook {
        whole: args.no_trunc,
        digests: args.digests,
        now_s: now().as_second(),
    };
    if args.quiet {
        return context.out(lines(images.iter().map(|image| look.id(&image.id))));
    }
    context.out(render_stored(&images, args.format.as_deref(), look)?)
}

/// Shows how an image came to be.
pub(in crate::cli) fn history(context: &Context, args: &HistoryArgs) -> Result<(), CliError> {
    let steps = context
        .engine()?
        .image_history(&args.image, args.platform.as_deref())?;
    let look = HistoryLook {
        whole: args.no_trunc,
        human: args.human,
        now_s: now().as_second(),
    };
    if args.quiet {
        return context.out(lines(steps.iter().map(|step| look.id(&step.id))));
    }
    context.out(render_history(&steps, args.format.as_deref(), look)?)
}
