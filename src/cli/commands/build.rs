//! `stack build`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::args::BuildArgs;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::progress::Shown;
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::engine::registry::PushOptions;
use crate::engine::{BuildOptions, Described};
use crate::plan::bake::{self, BakeOptions};
use crate::plan::graph::Dependencies;
use crate::plan::images;
use crate::plan::options::ImageOptions;
use crate::spec::Phase;

/// Builds the images of services.
pub(super) async fn run(context: &Context, args: BuildArgs) -> Result<(), CliError> {
    context.sealed()?;
    context.refuse_dry_run("build")?;
    let loaded = context.load_without_environment(&args.services)?;
    let services = super::named_services(&loaded.stack, &args.services)?;
    let dependencies = if args.with_dependencies {
        Dependencies::Follow
    } else {
        Dependencies::Leave
    };
    super::check_usable(context, &loaded, &services, dependencies, Phase::Build)?;
    let build_args = build_args(&args.build_arg, &loaded.environment);
    let chosen = ImageOptions {
        services: services.clone(),
        with_dependencies: args.with_dependencies,
        ..ImageOptions::default()
    };
    let built = images::built(&loaded.stack, &chosen)?;
    if built.is_empty() {
        // Docker Compose's words, which scripts look for.
        context.warn("No services to build");
        return Ok(());
    }
    if args.print {
        let options = BakeOptions {
            args: build_args,
            environment: loaded.environment.clone(),
            ssh: args.ssh,
            no_cache: args.no_cache,
            pull: args.pull,
            push: args.push,
            check: args.check,
        };
        return print(context, bake::file(&loaded.stack, &built, &options));
    }
    let attestations = [("provenance", args.provenance), ("sbom", args.sbom)];
    let options = BuildOptions {
        services: services.clone(),
        no_cache: args.no_cache,
        explain: args.explain,
        pull: args.pull,
        build_args,
        with_dependencies: args.with_dependencies,
        ssh: args.ssh,
        memory: args.memory,
        attestations: attestations
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
    };
    let engine = context.engine()?;
    let mut interrupts = Interrupts::listen()?;
    let cancel = Cancel::default();
    let progress = context.show(Shown {
        title: "Building",
        builds: !args.quiet,
        pulls: true,
    });
    if args.check {
        let work = engine.check_stack(&loaded.stack, &options, &progress, &cancel);
        let found = drive(work, &progress, &mut interrupts, &cancel).await;
        let found = found.map_err(|error| error.at(&loaded))?;
        return super::image::print_described(context, &Described::Check(found), false);
    }
    let work = engine.build(&loaded.stack, &options, &progress, &cancel);
    let done = drive(work, &progress, &mut interrupts, &cancel).await;
    done.map_err(|error| error.at(&loaded))?;
    if !args.push {
        return Ok(());
    }
    let options = PushOptions {
        services,
        include_deps: args.with_dependencies,
        ..PushOptions::default()
    };
    let work = engine.push(&loaded.stack, &options, &progress, &cancel);
    let done = drive(work, &progress, &mut interrupts, &cancel).await;
    done.map_err(|error| error.at(&loaded))
}

/// Prints a file of bake, and what it could not say.
fn print(context: &Context, (file, warnings): (Value, Vec<String>)) -> Result<(), CliError> {
    for warning in warnings {
        context.warn(&warning);
    }
    context.out(format!("{file:#}\n"))
}

/// Reads `NAME=VALUE`; a name alone takes its value from the environment, or has none.
fn build_args(
    typed: &[String],
    environment: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    typed
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), environment.get(text).cloned()),
        })
        .collect()
}
