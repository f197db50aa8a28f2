//! `stack up`.

use std::time::Duration;

use super::attached::{self, Attached};
use super::{check_services, check_usable, named_services, timeout};
use crate::cli::args::{PullArg, UpArgs};
use crate::cli::context::{Context, is_on};
use crate::cli::failure::CliError;
use crate::cli::render::progress::{Shown, render_plans};
use crate::cli::signals::{Interrupts, drive};
use crate::engine::cancel::Cancel;
use crate::plan::graph::Dependencies;
use crate::plan::options::{BuildImages, Recreate, UpOptions};
use crate::spec::model::service::PullPolicy;
use crate::spec::{Loaded, Phase};

/// Creates and starts containers, and stays with them unless told otherwise.
pub(super) async fn run(context: &Context, args: &UpArgs) -> Result<(), CliError> {
    context.sealed()?;
    let loaded = context.load_with(&args.services)?;
    let stack = &loaded.stack;
    let args = &UpArgs {
        services: named_services(stack, &args.services)?,
        ..args.clone()
    };
    check_services(stack, &args.attach)?;
    check_services(stack, &args.no_attach)?;
    check_services(stack, args.exit_code_from.as_slice())?;
    let dependencies = if args.no_deps {
        Dependencies::Leave
    } else {
        Dependencies::Follow
    };
    check_usable(context, &loaded, &args.services, dependencies, Phase::Run)?;
    let options = options(args, &loaded);
    if options.remove_orphans && options.ignore_orphans {
        return Err(CliError::usage(
            "COMPOSE_IGNORE_ORPHANS and `--remove-orphans` (COMPOSE_REMOVE_ORPHANS) exclude each other",
        ));
    }
    let engine = context.engine()?;
    if context.global.dry_run {
        let planned = engine.plan_up(stack, &options).await;
        let planned = planned.map_err(|error| CliError::from(error).at(&loaded))?;
        planned
            .warnings()
            .iter()
            .for_each(|warning| context.warn(warning));
        return context.out(render_plans(&planned, context.progress));
    }
    // Before anything is built: what changes from now on is not lost.
    let watcher = if args.watch {
        Some(engine.watcher(stack, &args.services, options.clone())?)
    } else {
        None
    };
    let mut interrupts = Interrupts::listen()?;
    if args.detach || args.no_start || options.wait {
        let cancel = Cancel::default();
        let progress = context.show(Shown {
            title: "Running",
            builds: !args.quiet_build,
            pulls: !args.quiet_pull,
        });
        let work = engine.up(stack, &options, &progress, &cancel);
        let done = drive(work, &progress, &mut interrupts, &cancel).await;
        return done.map_err(|error| error.at(&loaded));
    }
    let attached = Attached {
        context,
        engine: &engine,
        stack,
        args,
        options: &options,
        watching: Cancel::default(),
    };
    let done = attached::run(&attached, watcher, &mut interrupts).await;
    done.map_err(|error| error.at(&loaded))
}

fn options(args: &UpArgs, loaded: &Loaded) -> UpOptions {
    UpOptions {
        services: args.services.clone(),
        no_deps: args.no_deps,
        recreate: match (
            args.force_recreate || args.renew_anon_volumes,
            args.no_recreate,
        ) {
            (true, _) => Recreate::Always,
            (false, true) => Recreate::Never,
            (false, false) => Recreate::Changed,
        },
        always_recreate_deps: args.always_recreate_deps,
        remove_orphans: args.remove_orphans || is_on(&loaded.environment, "COMPOSE_REMOVE_ORPHANS"),
        ignore_orphans: is_on(&loaded.environment, "COMPOSE_IGNORE_ORPHANS"),
        renew_anonymous_volumes: args.renew_anon_volumes,
        scale: args.scale.iter().cloned().collect(),
        pull: args.pull.map(|pull| match pull {
            PullArg::Always => PullPolicy::Always,
            PullArg::Missing => PullPolicy::Missing,
            PullArg::Never => PullPolicy::Never,
            PullArg::Build => PullPolicy::Build,
        }),
        build: match (args.build, args.no_build) {
            (true, _) => BuildImages::Always,
            (false, true) => BuildImages::Never,
            (false, false) => BuildImages::Missing,
        },
        no_start: args.no_start,
        wait: args.wait || args.wait_timeout.is_some(),
        wait_timeout: args.wait_timeout.map(Duration::from_secs),
        stop_timeout: timeout(args.timeout),
        ..UpOptions::default()
    }
}
