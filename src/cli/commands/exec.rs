//! `stack exec`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::ExecArgs;
use crate::cli::context::Context;
use crate::cli::failure::{CliError, result_of};
use crate::cli::render::terminal::{RawMode, Relay, copy_size, size};
use crate::cli::signals::Interrupts;
use crate::engine::view::{ExecOptions, StateView};
use crate::engine::{Engine, ExecSession};
use crate::spec::names::ProjectName;

/// Runs a command in a running container; its exit code is the result.
pub(super) async fn run(context: &Context, args: ExecArgs) -> Result<(), CliError> {
    context.sealed()?;
    context.refuse_dry_run("exec")?;
    let target = context.target()?;
    if let Some(loaded) = &target.loaded {
        super::check_services(&loaded.stack, std::slice::from_ref(&args.service))?;
    }
    let engine = context.engine()?;
    let index = match args.index {
        Some(index) => index,
        None => first_running(&engine, &target.project, &args.service)?,
    };
    let both_terminals = io::stdin().is_terminal() && io::stdout().is_terminal();
    let with_terminal = both_terminals && !args.no_tty && !args.detach;
    let options = ExecOptions {
        index,
        args: args.command,
        env: env(&args.env, &context.environment),
        cwd: args.workdir,
        user: args.user,
        terminal: with_terminal.then(|| size(io::stdin()).unwrap_or((80, 24))),
        privileged: args.privileged,
        detach: args.detach,
    };
    let session = engine
        .exec(&target.project, &args.service, &options)
        .await?;
    session
        .warnings
        .iter()
        .for_each(|warning| context.warn(warning));
    let code = if with_terminal {
        wait_with_terminal(session).await?
    } else {
        wait(session).await?
    };
    result_of(code)
}

/// Returns the lowest number among the service's running containers; 1, which the engine will not find, where there
/// is none.
fn first_running(engine: &Engine, project: &ProjectName, service: &str) -> Result<u32, CliError> {
    let containers = engine.containers(Some(project), false)?;
    let running = containers.iter().filter(|container| {
        container.service == service && matches!(container.state, StateView::Running { .. })
    });
    Ok(running.map(|container| container.number).min().unwrap_or(1))
}

/// Makes `NAME=VALUE` of `-e`; a name alone takes its value from the environment, or is left out.
fn env(typed: &[String], environment: &BTreeMap<String, String>) -> Vec<String> {
    typed
        .iter()
        .filter_map(|text| {
            if text.contains('=') {
                Some(text.clone())
            } else {
                environment.get(text).map(|value| format!("{text}={value}"))
            }
        })
        .collect()
}

/// Waits for a command that shares this one's standard streams; a signal ends the wait.
async fn wait(session: ExecSession) -> Result<i32, CliError> {
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        code = session.wait() => Ok(code?),
        number = interrupts.next() => Ok(128 + number),
    }
}

/// Relays between the user's terminal and the command's until the command ends. The mode of the user's terminal is
/// given back however this ends.
async fn wait_with_terminal(mut session: ExecSession) -> Result<i32, CliError> {
    let failed = |attempted| move |source| CliError::System { attempted, source };
    let Some(master) = session.terminal.take() else {
        return wait(session).await;
    };
    let mut resized = signal(SignalKind::window_change())
        .map_err(failed("listen for changes of the terminal's size"))?;
    let mut interrupts = Interrupts::listen()?;
    let for_size = master
        .try_clone()
        .map_err(failed("open the command's terminal"))?;
    let raw = RawMode::enter().map_err(failed("put the terminal in raw mode"))?;
    let relay = Relay::start(master).map_err(failed("relay the terminal"))?;
    let result = {
        let mut ended = std::pin::pin!(session.wait());
        loop {
            tokio::select! {
                code = &mut ended => break code.map_err(CliError::from),
                number = interrupts.next() => break Ok(128 + number),
                _ = resized.recv() => {
                    if let Err(error) = copy_size(io::stdin(), for_size.as_fd()) {
                        break Err(failed("resize the command's terminal")(error));
                    }
                }
            }
        }
    };
    let relayed = relay.finish().map_err(failed("relay the terminal"));
    drop(raw);
    let code = result?;
    relayed.map(|()| code)
}
