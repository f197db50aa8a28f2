//! `stack image build`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use clap::ValueEnum;

use crate::cli::args::{ImageBuildArgs, ProgressArg};
use crate::cli::commands::output::{self, Access};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::described::{render, render_json};
use crate::cli::render::diagnostic::Drawing;
use crate::cli::render::progress::{ProgressMode, Shown};
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::{BuiltDescriptor, BuiltImage, Call, Described, EngineError, ImageBuild};

/// Builds an image; with `-q` its ID is all that is printed.
pub(in crate::cli::commands) async fn run(
    context: &Context,
    args: ImageBuildArgs,
) -> Result<(), CliError> {
    context.sealed()?;
    context.refuse_dry_run("image build")?;
    if let Some(refused) = args.docker.refused() {
        return Err(CliError::Refused(refused));
    }
    let is_quiet = is_quiet(context, args.quiet)?;
    for warning in args.docker.warnings() {
        context.warn(&warning);
    }
    if args.context.is_empty() {
        // An unset variable of a script, more likely than not.
        let message = "no build context was given: write . for this directory";
        return Err(CliError::usage(message.to_owned()));
    }
    let text = dockerfile_of_stream(&args)?;
    let asked = parse_call(if args.check { "check" } else { &args.call })?;
    let files = (args.iidfile.clone(), args.metadata_file.clone());
    let build = read(context, args, text);
    let is_terminal = context.printer.out_look.terminal;
    let checked = build.check_outputs(files.0.is_some(), is_terminal);
    checked.map_err(EngineError::from)?;
    let engine = context.engine()?;
    if let Some(path) = &files.0 {
        output::remove_stale(context, path)?;
    }
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let shown = Shown {
        title: "Building",
        builds: true,
        pulls: true,
    };
    let progress = context.show_unless(is_quiet, shown);
    let (stream, mut out) = (Box::new(std::io::stdin()), std::io::stdout());
    if let Some(call) = asked.call {
        let work = engine.describe_image(&build, call, stream, &progress, &cancel);
        let described = Box::pin(drive(work, &progress, &mut interrupts, &cancel)).await?;
        return match print(context, &described, asked.is_json) {
            Err(CliError::Ended(_)) if asked.ignores_status => Ok(()),
            printed => printed,
        };
    }
    let streams: (Box<dyn Read + Send>, &mut dyn Write) = (stream, &mut out);
    let work = engine.build_image(&build, streams, &progress, &cancel);
    let built = Box::pin(drive(work, &progress, &mut interrupts, &cancel)).await?;
    let (iidfile, metadata_file) = files;
    if let Some(path) = iidfile {
        output::write(context, &path, &built.id, Access::Umask)?;
    }
    if let Some(path) = metadata_file {
        let text = metadata(&built, &build.tags);
        output::write(context, &path, &text, Access::Umask)?;
    }
    if is_quiet && built.is_image {
        context.out(format!("{}\n", built.id))?;
    }
    Ok(())
}

/// Returns what is to be built; `text` is that of a Dockerfile on standard input.
fn read(context: &Context, args: ImageBuildArgs, text: Option<String>) -> ImageBuild {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let labels: BTreeMap<String, Option<String>> = args.label.iter().map(pair).collect();
    let mut attestations = vec![("provenance", args.provenance), ("sbom", args.sbom)];
    attestations.extend(args.attest.into_iter().map(|text| ("attest", text)));
    ImageBuild {
        context: args.context,
        dockerfile: args.file.filter(|_| text.is_none()),
        dockerfile_text: text,
        tags: args.tag,
        build_args: args.build_arg.iter().map(pair).collect(),
        target: args.target,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
        no_cache: args.no_cache,
        cache_from: given(args.cache_from),
        cache_to: given(args.cache_to),
        attestations,
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
        outputs: given(args.output),
        push: args.push,
        load: args.load,
        annotations: args.annotation,
        pull: args.pull,
        platforms: args.platform,
    }
}

/// Leaves out what is empty, as docker/buildx does: an unset variable of a script asks for nothing.
fn given(mut values: Vec<String>) -> Vec<String> {
    values.retain(|value| !value.is_empty());
    values
}

/// Whether the ID is all that is to be seen; fails where something else was asked for too (docker/buildx).
fn is_quiet(context: &Context, quiet: bool) -> Result<bool, CliError> {
    match context.global.progress {
        Some(ProgressArg::Auto | ProgressArg::Quiet) | None => {
            Ok(quiet || context.progress == ProgressMode::Quiet)
        }
        Some(_) if !quiet => Ok(false),
        Some(progress) => {
            let name = progress.to_possible_value();
            let name = name.map_or_else(String::new, |value| value.get_name().to_owned());
            let message = format!("progress={name} and quiet cannot be used together");
            Err(CliError::usage(message))
        }
    }
}

/// Reads the Dockerfile where it comes from standard input.
fn dockerfile_of_stream(args: &ImageBuildArgs) -> Result<Option<String>, CliError> {
    let from_stream = args.file.as_deref() == Some(Path::new("-"));
    if from_stream && args.context == "-" {
        let message = "standard input cannot be both the build context and the Dockerfile";
        return Err(CliError::usage(message));
    }
    let text = from_stream.then(|| std::io::read_to_string(std::io::stdin()));
    text.transpose().map_err(|source| CliError::System {
        attempted: "read the Dockerfile from standard input",
        source,
    })
}

/// `--call`.
struct Asked {
    /// What is asked; `None` for a build.
    call: Option<Call>,
    is_json: bool,
    /// A check succeeds whatever it finds.
    ignores_status: bool,
}

/// Reads `--call METHOD[,format=json|text][,ignorestatus[=BOOL]]` (docker/buildx `util/buildflags/call.go`).
fn parse_call(text: &str) -> Result<Asked, CliError> {
    let wrong = |why: &str| CliError::usage(format!("`{text}` of `--call`: {why}"));
    let (mut method, mut is_json, mut ignores_status) = ("", false, false);
    for field in text.split(',') {
        match field.split_once('=') {
            None if field == "ignorestatus" => ignores_status = true,
            None => method = field,
            Some(("format", "json")) => is_json = true,
            Some(("format", "text" | "")) => is_json = false,
            Some(("ignorestatus", "true" | "1")) => ignores_status = true,
            Some(("ignorestatus", "false" | "0")) => ignores_status = false,
            Some(_) => {
                let why = "unknown option: it may be `format=json` or `ignorestatus`";
                return Err(wrong(why));
            }
        }
    }
    let call = match method {
        "build" | "" => None,
        "check" | "lint" => Some(Call::Check),
        "outline" => Some(Call::Outline),
        "targets" => Some(Call::Targets),
        _ => return Err(wrong("it must be check, outline, targets or build")),
    };
    Ok(Asked {
        call,
        is_json,
        ignores_status,
    })
}

/// Prints what a Dockerfile says; a check that finds something does not succeed.
pub(in crate::cli::commands) fn print(
    context: &Context,
    described: &Described,
    is_json: bool,
) -> Result<(), CliError> {
    context.out(if is_json {
        render_json(described)
    } else {
        render(described, Drawing::on(&context.printer))
    })?;
    match described {
        Described::Check(found) if !found.is_empty() => Err(CliError::Ended(1)),
        _ => Ok(()),
    }
}

/// Renders what is known of an image, with the keys of docker/buildx: nothing of files alone.
fn metadata(built: &BuiltImage, names: &[String]) -> String {
    if !built.is_image {
        return "{}\n".to_owned();
    }
    let BuiltDescriptor {
        media_type,
        digest,
        size_bytes,
    } = &built.descriptor;
    let mut object = serde_json::json!({
        "containerimage.descriptor": {
            "mediaType": media_type,
            "digest": digest,
            "size": size_bytes,
        },
        "containerimage.digest": digest,
        "image.name": names.join(","),
    });
    if let (Some(config), Some(object)) = (&built.config, object.as_object_mut()) {
        let key = "containerimage.config.digest".to_owned();
        object.insert(key, config.clone().into());
    }
    format!("{object:#}\n")
}
