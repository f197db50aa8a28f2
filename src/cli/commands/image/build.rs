//! `stack image build`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use crate::cli::args::ImageBuildArgs;
use crate::cli::commands::output::{self, Access};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::progress::Shown;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::{BuiltImage, ImageBuild};

/// Builds an image; with `-q` its ID is all that is printed.
pub(in crate::cli::commands) async fn run(
    context: &Context,
    args: ImageBuildArgs,
) -> Result<(), CliError> {
    context.sealed()?;
    context.refuse_dry_run("image build")?;
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let labels: BTreeMap<String, Option<String>> = args.label.iter().map(pair).collect();
    let from_stream = args.file.as_deref() == Some(Path::new("-"));
    if from_stream && args.context == "-" {
        let message = "standard input cannot be both the build context and the Dockerfile";
        return Err(CliError::usage(message));
    }
    let text = from_stream.then(|| std::io::read_to_string(std::io::stdin()));
    let text = text.transpose().map_err(|source| CliError::System {
        attempted: "read the Dockerfile from standard input",
        source,
    })?;
    let dockerfile = args.file.filter(|_| !from_stream);
    let build = ImageBuild {
        context: args.context,
        dockerfile,
        dockerfile_text: text,
        tags: args.tag,
        build_args: args.build_arg.iter().map(pair).collect(),
        target: args.target,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
        no_cache: args.no_cache,
        cache_from: args.cache_from,
        cache_to: args.cache_to,
        attestations: vec![("provenance", args.provenance), ("sbom", args.sbom)],
        explain: args.explain,
        no_cache_filter: args.no_cache_filter,
        directory: context.directory.clone(),
        secrets: args.secret,
        ssh: args.ssh,
        hosts: args.add_host,
        network: args.network,
        shm_size: args.shm_size,
        memory: args.memory,
        limits: args.ulimit,
        allow: args.allow,
        contexts: args.build_context,
        outputs: args.output,
        push: args.push,
        pull: args.pull,
        platform: args.platform,
    };
    let engine = context.engine()?;
    if let Some(path) = &args.iidfile {
        output::remove_stale(context, path)?;
    }
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let shown = Shown {
        title: "Building",
        builds: true,
        pulls: true,
    };
    let progress = context.show_unless(args.quiet, shown);
    let (mut stream, mut out) = (std::io::stdin(), std::io::stdout());
    let streams: (&mut dyn Read, &mut dyn Write) = (&mut stream, &mut out);
    let work = engine.build_image(&build, streams, &progress, &cancel);
    let built = Box::pin(drive(work, &progress, &mut interrupts, &cancel)).await?;
    if let Some(path) = &args.iidfile {
        output::write(context, path, &built.id, Access::Umask)?;
    }
    if let Some(path) = &args.metadata_file {
        let text = metadata(&built, &build.tags);
        output::write(context, path, &text, Access::Umask)?;
    }
    if args.quiet {
        context.out(format!("{}\n", built.id))?;
    }
    Ok(())
}

/// Renders what is known of an image, with the keys of docker/buildx.
fn metadata(built: &BuiltImage, names: &[String]) -> String {
    let object = serde_json::json!({
        "containerimage.config.digest": built.id,
        "containerimage.digest": built.digest,
        "image.name": names.join(","),
    });
    format!("{object:#}\n")
}
