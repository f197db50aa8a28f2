//! `stack image pull` and `stack image push`: lines as Docker writes them, so that scripts find what they look for.

use crate::cli::args::{ImagePullArgs, ImagePushArgs, PackingArgs, PackingFormat};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::progress::Progress;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::registry::ImageName;
use crate::engine::{Engine, Packing};

/// Fetches an image, or all of a repository.
pub(crate) async fn pull(context: &Context, args: ImagePullArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image pull")?;
    let name = ImageName::parse(&args.reference)?;
    refuse_tag(&name, args.all_tags)?;
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    if !args.all_tags {
        if !name.has_tag && !name.has_digest && !args.quiet {
            context.out(format!("Using default tag: {}\n", name.tag_or_digest))?;
        }
        pull_one(context, &engine, &args, &args.reference, &mut interrupts).await?;
        return context.out(format!("{}\n", name.whole));
    }
    let cancel = Cancel::default();
    let progress = context.show_pull(args.quiet);
    let listing = engine.remote_tags(&args.reference, &cancel);
    let tags = drive(listing, &progress, &mut interrupts, &cancel).await?;
    for tag in tags {
        let reference = format!("{}:{tag}", args.reference);
        pull_one(context, &engine, &args, &reference, &mut interrupts).await?;
    }
    context.out(format!("{}\n", name.repository))
}

async fn pull_one(
    context: &Context,
    engine: &Engine,
    args: &ImagePullArgs,
    reference: &str,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let name = ImageName::parse(reference)?;
    if !args.quiet {
        context.out(format!(
            "{}: Pulling from {}\n",
            name.tag_or_digest, name.path
        ))?;
    }
    let cancel = Cancel::default();
    let progress = context.show_pull(args.quiet);
    let platform = args.platform.as_deref();
    let work = shown(&progress, &name, ("Pulling", "Pulled"), async {
        engine
            .pull_image(reference, platform, &progress, &cancel)
            .await
    });
    let pulled = drive(work, &progress, interrupts, &cancel).await?;
    if let Some(other) = &pulled.other_platform {
        context.warn(other);
    }
    if args.quiet {
        return Ok(());
    }
    let status = if pulled.is_new {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    context.out(format!(
        "Digest: {}\nStatus: {status} for {}\n",
        pulled.digest, name.familiar
    ))
}

/// Brings an image to its registry, or all tags of it.
pub(crate) async fn push(context: &Context, args: ImagePushArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image push")?;
    let packing = packing(args.packing)?;
    let name = ImageName::parse(&args.reference)?;
    refuse_tag(&name, args.all_tags)?;
    let platform = args.platform.as_deref();
    let engine = context.engine()?;
    let references = if args.all_tags {
        let tags = engine.local_tags(&args.reference)?;
        let tags = tags.iter().map(|tag| format!("{}:{tag}", args.reference));
        tags.collect()
    } else {
        vec![args.reference.clone()]
    };
    if !args.quiet {
        if !args.all_tags && !name.has_tag && !name.has_digest {
            context.out(format!("Using default tag: {}\n", name.tag_or_digest))?;
        }
        context.out(format!(
            "The push refers to repository [{}]\n",
            name.repository
        ))?;
    }
    let mut interrupts = Interrupts::listen()?;
    for reference in &references {
        let name = ImageName::parse(reference)?;
        let cancel = Cancel::default();
        let progress = context.show_push(args.quiet);
        let work = shown(&progress, &name, ("Pushing", "Pushed"), async {
            engine
                .push_image(reference, (packing, platform), &progress, &cancel)
                .await
        });
        let pushed = drive(work, &progress, &mut interrupts, &cancel).await?;
        context.out(if args.quiet {
            format!("{}\n", name.whole)
        } else {
            format!(
                "{}: digest: {} size: {}\n",
                name.tag_or_digest, pushed.digest, pushed.size_bytes
            )
        })?;
    }
    Ok(())
}

/// Does `work` and shows it as that of one image.
async fn shown<T>(
    progress: &Progress<'_>,
    name: &ImageName,
    (begun, ended): (&'static str, &'static str),
    work: impl Future<Output = Result<T, crate::engine::EngineError>>,
) -> Result<T, crate::engine::EngineError> {
    let emit = |kind| {
        progress.emit(Event {
            subject: Subject::Image(name.familiar.clone()),
            kind,
        });
    };
    emit(EventKind::Started(begun));
    let done = work.await;
    match &done {
        Ok(_) => emit(EventKind::Finished(ended)),
        Err(error) => emit(EventKind::Failed(crate::engine::chain(error))),
    }
    done
}

/// Reads how layers are to be compressed.
pub(crate) fn packing(args: PackingArgs) -> Result<Packing, CliError> {
    let algorithm = match args.compression_format {
        None | Some(PackingFormat::Gzip) => "gzip",
        Some(PackingFormat::Zstd) => "zstd",
    };
    Packing::new(algorithm, args.compression_level).ok_or_else(|| {
        CliError::usage(format!(
            "`{}` of `--compression-level` is no level of {algorithm}",
            args.compression_level.unwrap_or_default()
        ))
    })
}

fn refuse_tag(name: &ImageName, all_tags: bool) -> Result<(), CliError> {
    if all_tags && (name.has_tag || name.has_digest) {
        return Err(CliError::usage("tag can't be used with --all-tags/-a"));
    }
    Ok(())
}
