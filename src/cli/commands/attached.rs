//! `stack up` after everything has started: showing output until all containers have ended, one of them ends everything,
//! or the user interrupts.
//!
//! ```text
//! follow ── all ended ──────────────────────────────────────────> 0
//!   ├── one ended, --abort-on-container-… ──> stop ─> follow on ─> its exit code, or that of --exit-code-from
//!   ├── first interrupt ───────> stop ─┬────────────> follow on ─> 130
//!   └── the reader went away ──> stop  └ second one ─> kill ─────> 130
//! ```

use std::collections::BTreeSet;
use std::pin::{Pin, pin};

use super::follow::{Ends, EndsOn, Follow, painter};
use super::timeout;
use crate::cli::args::UpArgs;
use crate::cli::context::Context;
use crate::cli::failure::{CliError, result_of};
use crate::cli::render::progress::{Progress, ProgressMode, Shown};
use crate::cli::signals::Interrupts;
use crate::engine::Engine;
use crate::engine::cancel::Cancel;
use crate::engine::view::{LogQuery, StateView};
use crate::plan::graph::{Dependencies, Selection};
use crate::spec::model::Stack;

/// What stays attached to what.
pub(super) struct Attached<'a> {
    /// The command's.
    pub(super) context: &'a Context,
    /// Where the containers are.
    pub(super) engine: &'a Engine,
    /// The project.
    pub(super) stack: &'a Stack,
    /// What was typed.
    pub(super) args: &'a UpArgs,
    /// Lines from this time on are shown, nanoseconds since 1970.
    pub(super) since_ns: i128,
    /// Cancelled as soon as containers are to stop: nothing may bring them back then.
    pub(super) watching: Cancel,
}

/// Why containers are stopped.
enum Reason {
    /// One of them ended.
    Ended,
    /// The user asked.
    Interrupted,
    /// Output cannot be shown any more.
    Failed(CliError),
}

/// What is still being copied.
type Copying<'a> = Pin<&'a mut dyn Future<Output = Result<(), CliError>>>;

/// Shows what the containers write until all have ended or are stopped.
pub(super) async fn stay(
    attached: &Attached<'_>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let Attached {
        context,
        engine,
        stack,
        args,
        ..
    } = attached;
    let services = attached.services()?;
    let containers = engine.containers(Some(&stack.name), true)?;
    let painter = painter(
        context,
        &stack.name,
        &containers,
        (args.look, args.timestamps),
    );
    let shown: Vec<_> = containers
        .iter()
        .filter(|container| services.contains(&container.service))
        .collect();
    let labels: Vec<String> = shown
        .iter()
        .map(|container| painter.label(&container.name, &container.service, container.number))
        .collect();
    if context.progress != ProgressMode::Quiet && context.progress != ProgressMode::Json {
        context
            .printer
            .err(format!("Attaching to {}\n", labels.join(", ")));
    }
    let mut followed = services.clone();
    followed.extend(args.exit_code_from.clone());
    let mut stream = engine.logs(
        &stack.name,
        &LogQuery {
            services: followed.into_iter().collect(),
            follow: true,
            since_ns: Some(attached.since_ns),
            past_ends: true,
            ..LogQuery::default()
        },
    )?;
    if args.watch {
        // What has ended may be started again by the next save.
        stream.hold_open(attached.watching.clone());
    }
    let ends = Ends::default();
    let mut follow = Follow::new(context, painter);
    follow.shown = Some(services);
    follow.ends_on = match () {
        () if args.abort_on_container_exit || args.exit_code_from.is_some() => EndsOn::Exit,
        () if args.abort_on_container_failure => EndsOn::Failure,
        () => EndsOn::Nothing,
    };
    let mut copying = pin!(follow.copy_telling(&mut stream, &ends));
    let (reason, copied) = tokio::select! {
        biased;
        result = &mut copying => match result {
            Ok(()) if ends.happened.is_cancelled() => (Reason::Ended, true),
            Ok(()) => return Ok(()),
            Err(error) => (Reason::Failed(error), true),
        },
        () = ends.happened.cancelled() => (Reason::Ended, false),
        _ = interrupts.next() => (Reason::Interrupted, false),
    };
    attached.watching.cancel();
    let copying: Option<Copying<'_>> = if copied { None } else { Some(copying) };
    stop(attached, &reason, copying, interrupts).await?;
    match reason {
        Reason::Interrupted => Err(CliError::Ended(130)),
        Reason::Failed(error) => Err(error),
        Reason::Ended => result_of(attached.verdict(ends.code.get())?),
    }
}

/// Stops what an interrupted start had started already.
pub(super) async fn stop_after_interrupt(
    attached: &Attached<'_>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    stop(attached, &Reason::Interrupted, None, interrupts).await
}

/// Stops the services, output going on; a further interrupt kills them.
async fn stop(
    attached: &Attached<'_>,
    reason: &Reason,
    mut copying: Option<Copying<'_>>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let Attached {
        context,
        engine,
        stack,
        args,
        ..
    } = attached;
    let (notice, services) = match reason {
        Reason::Interrupted => (
            "Gracefully stopping... (press Ctrl+C again to force)\n",
            args.services.as_slice(),
        ),
        Reason::Ended => ("Aborting on container exit...\n", &[][..]),
        Reason::Failed(_) => ("", args.services.as_slice()),
    };
    if context.progress != ProgressMode::Json {
        // The terminal has just echoed `^C` there.
        let start = if context.printer.err_look.terminal && !notice.is_empty() {
            "\n"
        } else {
            ""
        };
        context.printer.err(format!("{start}{notice}"));
    }
    let mode = match context.progress {
        // Output goes on meanwhile, which a live region would have to make way for.
        ProgressMode::Tty => ProgressMode::Plain,
        mode => mode,
    };
    let progress = Progress::new(
        &context.printer,
        mode,
        Shown {
            title: "Stopping",
            builds: false,
            pulls: false,
        },
    );
    let cancel = Cancel::default();
    let mut stopping = pin!(engine.stop(
        &stack.name,
        services,
        timeout(args.timeout),
        &progress,
        &cancel
    ));
    loop {
        tokio::select! {
            result = &mut stopping => {
                result?;
                break;
            }
            result = next_end(&mut copying) => {
                copying = None;
                ignore_gone_reader(result)?;
            }
            _ = interrupts.next() => {
                cancel.cancel();
                if context.printer.err_look.terminal {
                    context.printer.err("\n");
                }
                engine.kill(&stack.name, services, libc::SIGKILL, &progress).await?;
                break;
            }
        }
    }
    // What was written last.
    tokio::select! {
        result = next_end(&mut copying), if copying.is_some() => ignore_gone_reader(result),
        _ = interrupts.next(), if copying.is_some() => Ok(()),
        else => Ok(()),
    }
}

/// Returns when copying ends; never where it has ended already.
async fn next_end(copying: &mut Option<Copying<'_>>) -> Result<(), CliError> {
    match copying {
        Some(copying) => copying.as_mut().await,
        None => std::future::pending().await,
    }
}

/// A reader that goes away while containers stop changes nothing.
fn ignore_gone_reader(result: Result<(), CliError>) -> Result<(), CliError> {
    match result {
        Err(CliError::Output(_)) => Ok(()),
        result => result,
    }
}

impl Attached<'_> {
    /// Returns the services whose output is shown: those of `--attach`, else the named ones, else all; without those of
    /// `--no-attach`.
    fn services(&self) -> Result<BTreeSet<String>, CliError> {
        let args = self.args;
        let named = !args.services.is_empty() && !args.attach_dependencies;
        let dependencies = if named || args.no_deps {
            Dependencies::Leave
        } else {
            Dependencies::Follow
        };
        let selection = Selection::new(self.stack, &args.services, dependencies)?;
        let selected = selection.services.iter().map(|(name, _)| name.to_string());
        let mut services: BTreeSet<String> = if args.attach.is_empty() {
            selected.collect()
        } else {
            args.attach.iter().cloned().collect()
        };
        services.retain(|service| !args.no_attach.contains(service));
        Ok(services)
    }

    /// Returns the exit code of the service that `--exit-code-from` names, else `first`.
    fn verdict(&self, first: i32) -> Result<i32, CliError> {
        let Some(service) = &self.args.exit_code_from else {
            return Ok(first);
        };
        let containers = self.engine.containers(Some(&self.stack.name), true)?;
        let mut of_service = containers
            .iter()
            .filter(|container| container.service == *service);
        Ok(match of_service.next().map(|container| &container.state) {
            Some(StateView::Exited { code, .. }) => code.unwrap_or(1),
            _ => first,
        })
    }
}
