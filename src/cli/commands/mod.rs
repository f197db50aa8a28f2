//! One file a command: load, ask the engine, show.

mod apply;
mod attached;
mod boot;
mod build;
mod config;
mod confirm;
mod down;
mod exec;
mod filters;
mod follow;
mod image;
mod images;
mod inspect;
mod login;
mod logs;
mod output;
mod ps;
mod pull;
mod push;
mod snapshot;
mod system;
mod up;
mod version;
mod watch;

use std::time::Duration;

use super::args::{Command, ImageCommand, SystemCommand};
use super::context::Context;
use super::failure::CliError;
use crate::plan::error::PlanError;
use crate::plan::graph::{Dependencies, Selection};
use crate::spec::model::Stack;
use crate::spec::{Diagnostic, Loaded, Phase};

/// Runs one command.
pub(crate) fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Up(args) => block_on(up::run(context, &args)),
        Command::Down(args) => block_on(down::run(context, args)),
        Command::Ps(args) => ps::run(context, &args),
        Command::Logs(args) => block_on(logs::run(context, args)),
        Command::Exec(args) => block_on(exec::run(context, args)),
        Command::Config(args) => config::run(context, &args),
        Command::Build(args) => block_on(build::run(context, args)),
        Command::Pull(args) => block_on(pull::run(context, args)),
        Command::Commit(args) => block_on(snapshot::commit(context, args)),
        Command::Inspect(args) => inspect::run(context, &args),
        Command::Export(args) => snapshot::export(context, &args),
        Command::Images(args) => images::run(context, &args),
        Command::Image(ImageCommand::Build(args)) => block_on(image::build(context, *args)),
        Command::Image(ImageCommand::Import(args)) => block_on(image::import(context, &args)),
        Command::Image(ImageCommand::Inspect(args)) => image::inspect::run(context, &args),
        Command::Image(ImageCommand::Load(args)) => block_on(image::load::run(context, &args)),
        Command::Image(ImageCommand::History(args)) => image::list::history(context, &args),
        Command::Image(ImageCommand::Ls(args)) => image::list::list(context, &args),
        Command::Image(ImageCommand::Prune(args)) => image::prune::run(context, &args),
        Command::Image(ImageCommand::Pull(args)) => block_on(image::transfer::pull(context, args)),
        Command::Image(ImageCommand::Push(args)) => block_on(image::transfer::push(context, args)),
        Command::Push(args) => block_on(push::run(context, args)),
        Command::Login(args) => block_on(login::login(context, args)),
        Command::Logout(args) => login::logout(context, &args),
        Command::Image(ImageCommand::Rm(args)) => image::remove::run(context, &args),
        Command::Image(ImageCommand::Save(args)) => image::save::run(context, &args),
        Command::Image(ImageCommand::Tag(args)) => image::tag(context, &args),
        Command::System(SystemCommand::Check(args)) => system::check(context, &args),
        Command::System(SystemCommand::Df(args)) => system::df(context, &args),
        Command::System(SystemCommand::Prune(args)) => block_on(system::prune(context, args)),
        Command::Watch(args) => block_on(watch::run(context, args)),
        Command::Apply(args) => block_on(apply::run(context, args)),
        Command::Boot => block_on(boot::run(context)),
        Command::Version(args) => version::run(context, &args),
    }
}

/// Makes the runtime, only for commands that wait for anything.
fn block_on(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::System {
            attempted: "start the event loop",
            source,
        })?;
    let done = runtime.block_on(work);
    // Who was interrupted while a thread waits for another command's lock does not wait for that thread.
    runtime.shutdown_background();
    done
}

/// Reads `-t SECONDS`; a negative number is no limit (Docker).
fn timeout(seconds: Option<i64>) -> Option<Duration> {
    let seconds = seconds?;
    Some(u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs))
}

/// Returns the services that `names` mean, patterns of names among them; fails where one means none.
fn named_services(stack: &Stack, names: &[String]) -> Result<Vec<String>, CliError> {
    let named = stack.named(names);
    check_services(stack, &named)?;
    Ok(named)
}

/// Fails where `names` has a service that the file does not.
fn check_services(stack: &Stack, names: &[String]) -> Result<(), CliError> {
    let missing = |name: &&String| {
        !stack.services.contains_key(name.as_str()) && !stack.disabled.contains_key(name.as_str())
    };
    match names.iter().find(missing) {
        None => Ok(()),
        Some(name) => Err(PlanError::NoSuchService { name: name.clone() }.into()),
    }
}

/// Checks that the named services, or all, and what they depend on can be built or run, and warns of what is ignored.
fn check_usable(
    context: &Context,
    loaded: &Loaded,
    names: &[String],
    dependencies: Dependencies,
    phase: Phase,
) -> Result<(), CliError> {
    let warnings = usable(loaded, names, dependencies, phase)?;
    context.warn_with(&warnings, &loaded.sources);
    Ok(())
}

/// As [`check_usable`], but returns what to warn of.
fn usable(
    loaded: &Loaded,
    names: &[String],
    dependencies: Dependencies,
    phase: Phase,
) -> Result<Vec<Diagnostic>, CliError> {
    let selection = Selection::new(&loaded.stack, names, dependencies)?;
    let services = selection.services.iter().map(|(name, _)| *name);
    let warnings = loaded.usable(services, phase);
    warnings.map_err(|failure| CliError::Load(Box::new(failure)))
}
