//! `stack up` that stays: output from the first container's start on, until all containers have ended, one of them ends
//! everything, or the user interrupts.
//!
//! ```text
//! begin ─> follow ── start: what has started is followed ── follow ── all ended ────────────────> 0, or of --exit-code-from
//!            ├── one ended, --abort-on-container-… ──> stop ─> the rest ─> its exit code, or that of --exit-code-from
//!            ├── first interrupt ───────> stop ─┬────────────> the rest ─> 130
//!            └── the reader went away ──> stop  └ second one ─> kill ────> 130
//! ```
//!
//! Output is read from the logs, so that nothing is lost between a start and the look at it. While the start is going on, a
//! [`Gate`] keeps out who is about to be replaced or restarted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::{Pin, pin};
use std::time::Duration;

use super::follow::{Ends, EndsOn, Follow, painter};
use super::{timeout, watch};
use crate::cli::args::UpArgs;
use crate::cli::context::{Context, now};
use crate::cli::failure::{CliError, result_of};
use crate::cli::render::logs::LogPainter;
use crate::cli::render::progress::{FRAME, Progress, ProgressMode, Shown};
use crate::cli::signals::Interrupts;
use crate::engine::cancel::Cancel;
use crate::engine::event::{Event, EventSink, StepEnd};
use crate::engine::view::{LogQuery, StateView};
use crate::engine::watch::Watcher;
use crate::engine::{Engine, EngineError, Gate};
use crate::plan::action::Action;
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::observed::ContainerId;
use crate::plan::options::UpOptions;
use crate::plan::{Plan, Step};
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
    /// What is asked of the plan.
    pub(super) options: &'a UpOptions,
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
struct Copying<'a> {
    work: Pin<&'a mut dyn Future<Output = Result<(), CliError>>>,
    ended: bool,
    /// Closed once nothing more is to come.
    gate: Gate,
    /// Which end of a container ends everything.
    ends: &'a Ends,
}

/// How a start ended.
struct Started {
    result: Result<(), EngineError>,
    /// Why it was given up, where it was.
    reason: Option<Reason>,
    /// Whether the user asked twice.
    insists: bool,
}

/// Starts containers and shows what they write until all have ended or are stopped.
pub(super) async fn run(
    attached: &Attached<'_>,
    watcher: Option<Watcher<'_>>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let Attached {
        context,
        engine,
        stack,
        args,
        ..
    } = attached;
    let shown = attached.shown()?;
    let look = (args.look, args.timestamps);
    let painter = RefCell::new(painter(context, &stack.name, &[], look));
    let progress = context.show(Shown {
        title: "Running",
        builds: !args.quiet_build,
        pulls: !args.quiet_pull,
    });
    let gate = Gate::default();
    let mut stream = engine.logs_behind(&stack.name, &attached.query(&shown), gate.clone())?;
    if args.watch {
        // What has ended may be started again by the next save.
        stream.hold_open(attached.watching.clone());
    }
    let sink = Announcing {
        attached,
        progress: &progress,
        painter: &painter,
        gate: gate.clone(),
        shown: &shown,
        begun: Cell::new(false),
    };
    let ends = Ends::default();
    let mut follow = Follow::new(context, &painter);
    follow.shown = Some(shown.clone());
    follow.beside = Some(&progress);
    follow.verdict_of.clone_from(&args.exit_code_from);
    follow.ends_on = match () {
        () if args.abort_on_container_exit || args.exit_code_from.is_some() => EndsOn::Exit,
        () if args.abort_on_container_failure => EndsOn::Failure,
        () => EndsOn::Nothing,
    };
    let mut copying = Copying {
        work: pin!(follow.copy_telling(&mut stream, &ends)),
        ended: false,
        gate,
        ends: &ends,
    };
    let started = start(attached, &sink, &mut copying, interrupts).await;
    progress.finish();
    match (started.reason, started.result) {
        (Some(reason), result) => {
            attached.watching.cancel();
            if started.insists {
                kill(attached, &mut copying).await?;
            } else {
                stop(attached, &reason, &mut copying, interrupts).await?;
            }
            match result {
                Err(error) if error.exit_code() != 130 => Err(error.into()),
                _ => attached.end(reason, &ends),
            }
        }
        (None, Err(error)) => {
            // What was said until then may be why.
            copying.rest(interrupts).await?;
            Err(error.into())
        }
        (None, Ok(())) => {
            copying.gate.open();
            let Some(watcher) = watcher else {
                return stay(attached, &mut copying, interrupts).await;
            };
            let watch = watch::beside(context, watcher, args.quiet_build, &attached.watching);
            let stay = async {
                let stayed = stay(attached, &mut copying, interrupts).await;
                attached.watching.cancel();
                stayed
            };
            let (stayed, ()) = tokio::join!(stay, watch);
            stayed
        }
    }
}

/// Brings the project up while output is copied. The first interrupt lets no further step begin; the second one means that
/// what has started is killed; the third one gives up what does not end.
async fn start(
    attached: &Attached<'_>,
    sink: &Announcing<'_>,
    copying: &mut Copying<'_>,
    interrupts: &mut Interrupts,
) -> Started {
    let cancel = Cancel::default();
    let ends = copying.ends;
    let work = attached
        .engine
        .up(attached.stack, attached.options, sink, &cancel);
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(if sink.progress.is_live() {
        FRAME
    } else {
        Duration::from_hours(1)
    });
    let mut reason = None;
    let mut insists = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            _ = interrupts.next() => match reason {
                Some(Reason::Interrupted) if insists || !sink.begun.get() => {
                    insists = true;
                    break Err(EngineError::Interrupted);
                }
                Some(Reason::Interrupted) => insists = true,
                _ => {
                    attached.say(&Reason::Interrupted, sink.progress);
                    reason = Some(Reason::Interrupted);
                    cancel.cancel();
                }
            },
            result = copying.next() => if let Err(error) = result {
                reason.get_or_insert(Reason::Failed(error));
                cancel.cancel();
            },
            () = ends.happened.cancelled(), if reason.is_none() => {
                attached.say(&Reason::Ended, sink.progress);
                reason = Some(Reason::Ended);
                cancel.cancel();
            }
            _ = ticks.tick() => sink.progress.tick(),
        }
    };
    Started {
        result,
        reason,
        insists,
    }
}

/// Shows what the containers write until all have ended or are stopped.
async fn stay(
    attached: &Attached<'_>,
    copying: &mut Copying<'_>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let ends = copying.ends;
    let reason = tokio::select! {
        biased;
        result = copying.next() => match result {
            Ok(()) if ends.happened.is_cancelled() => Reason::Ended,
            Ok(()) => return Ok(()),
            Err(error) => Reason::Failed(error),
        },
        () = ends.happened.cancelled() => Reason::Ended,
        _ = interrupts.next() => Reason::Interrupted,
    };
    attached.watching.cancel();
    attached.say(&reason, &attached.stopping());
    stop(attached, &reason, copying, interrupts).await?;
    attached.end(reason, ends)
}

/// Stops the services, output going on; a further interrupt kills them.
async fn stop(
    attached: &Attached<'_>,
    reason: &Reason,
    copying: &mut Copying<'_>,
    interrupts: &mut Interrupts,
) -> Result<(), CliError> {
    let Attached {
        context,
        engine,
        stack,
        args,
        ..
    } = attached;
    let services = match reason {
        Reason::Interrupted | Reason::Failed(_) => args.services.as_slice(),
        Reason::Ended => &[],
    };
    let progress = attached.stopping();
    let cancel = Cancel::default();
    let time = timeout(args.timeout);
    {
        let mut stopping = pin!(engine.stop(&stack.name, services, time, &progress, &cancel));
        loop {
            tokio::select! {
                result = &mut stopping => {
                    result?;
                    break;
                }
                result = copying.next() => ignore_gone_reader(result)?,
                _ = interrupts.next() => {
                    cancel.cancel();
                    if context.printer.err_look.terminal {
                        context.printer.err("\n");
                    }
                    return kill(attached, copying).await;
                }
            }
        }
    }
    copying.rest(interrupts).await
}

/// Kills the services, and shows what was written last.
async fn kill(attached: &Attached<'_>, copying: &mut Copying<'_>) -> Result<(), CliError> {
    let Attached {
        engine,
        stack,
        args,
        ..
    } = attached;
    let progress = attached.stopping();
    engine
        .kill(&stack.name, &args.services, libc::SIGKILL, &progress)
        .await?;
    copying.gate.close();
    ignore_gone_reader(copying.next_or_ended().await)
}

impl Copying<'_> {
    /// Returns when copying ends; never where it has ended already.
    async fn next(&mut self) -> Result<(), CliError> {
        if self.ended {
            return std::future::pending().await;
        }
        let result = self.work.as_mut().await;
        self.ended = true;
        result
    }

    async fn next_or_ended(&mut self) -> Result<(), CliError> {
        if self.ended {
            return Ok(());
        }
        self.next().await
    }

    /// Copies what has been written until now; an interrupt breaks it off.
    async fn rest(&mut self, interrupts: &mut Interrupts) -> Result<(), CliError> {
        self.gate.close();
        tokio::select! {
            result = self.next_or_ended() => ignore_gone_reader(result),
            _ = interrupts.next() => Ok(()),
        }
    }
}

/// A reader that goes away while containers stop changes nothing.
fn ignore_gone_reader(result: Result<(), CliError>) -> Result<(), CliError> {
    match result {
        Err(CliError::Output(_)) => Ok(()),
        result => result,
    }
}

/// Passes on what happens during the start, and lets those into the output that run.
struct Announcing<'a> {
    attached: &'a Attached<'a>,
    progress: &'a Progress<'a>,
    painter: &'a RefCell<LogPainter>,
    gate: Gate,
    shown: &'a BTreeSet<String>,
    /// Whether containers are being made and started by now.
    begun: Cell<bool>,
}

impl EventSink for Announcing<'_> {
    fn emit(&self, event: Event) {
        self.progress.emit(event);
    }

    fn step(&self, step: &Step, end: &StepEnd) {
        self.progress.step(step, end);
    }

    /// Says whose output will be shown, before there is any.
    fn begins(&self, plan: &Plan) {
        self.begun.set(true);
        let mut containers: BTreeMap<(String, u32), String> = BTreeMap::new();
        // What cannot be listed is said by the work itself.
        let project = Some(&self.attached.stack.name);
        for container in self
            .attached
            .engine
            .containers(project, true)
            .unwrap_or_default()
        {
            containers.insert((container.service, container.number), container.name);
        }
        for step in &plan.steps {
            match &step.action {
                Action::CreateContainer(spec) => {
                    let key = (spec.service.to_string(), spec.number);
                    containers.insert(key, spec.settled_name.clone());
                }
                Action::RemoveContainer { name, .. } => {
                    containers.retain(|_, container| container != name);
                }
                _ => {}
            }
        }
        let shown = containers
            .iter()
            .filter(|((service, _), _)| self.shown.contains(service));
        let shown =
            shown.map(|((service, number), name)| (name.as_str(), service.as_str(), *number));
        let shown: Vec<_> = shown.collect();
        let mut painter = self.painter.borrow_mut();
        painter.learn(shown.iter().copied());
        let labels: Vec<String> = shown
            .iter()
            .map(|(name, service, number)| painter.label(name, service, *number))
            .collect();
        let mode = self.attached.context.progress;
        if !labels.is_empty() && mode != ProgressMode::Quiet && mode != ProgressMode::Json {
            let names = labels.join(", ");
            self.progress.above(&format!("Attaching to {names}\n"));
        }
    }

    fn runs(&self, container: &ContainerId) {
        self.gate.admit(container);
    }

    fn images(&self, changed: &BTreeSet<String>) {
        self.progress.images(changed);
    }
}

impl<'a> Attached<'a> {
    /// Returns the services whose output is shown: those of `--attach`; else the named ones, or all, without those that the file
    /// says are not to be attached to; without those of `--no-attach`.
    fn shown(&self) -> Result<BTreeSet<String>, CliError> {
        let args = self.args;
        let select = |dependencies| Selection::new(self.stack, &args.services, dependencies);
        let upped = select(if args.no_deps {
            Dependencies::Leave
        } else {
            Dependencies::Follow
        })?;
        let is_upped = |name: &str| {
            upped
                .services
                .iter()
                .any(|(upped, _)| upped.as_str() == name)
        };
        if let Some(name) = args.attach.iter().find(|name| !is_upped(name)) {
            return Err(CliError::usage(format!(
                "`--attach {name}`: the service is not among those that are brought up"
            )));
        }
        let selection = if args.attach_dependencies {
            upped
        } else {
            select(Dependencies::Leave)?
        };
        let of_file = selection
            .services
            .iter()
            .filter(|(_, service)| service.attach != Some(false))
            .map(|(name, _)| name.to_string());
        let mut services: BTreeSet<String> = if args.attach.is_empty() {
            of_file.collect()
        } else {
            args.attach.iter().cloned().collect()
        };
        services.retain(|service| !args.no_attach.contains(service));
        Ok(services)
    }

    /// Returns what is followed: who is shown, who is waited for (the named services, or all), and whose end counts.
    fn query(&self, shown: &BTreeSet<String>) -> LogQuery {
        let args = self.args;
        let until: Vec<String> = if args.services.is_empty() {
            let all = self.stack.services.keys();
            all.map(ToString::to_string).collect()
        } else {
            args.services.clone()
        };
        let services = shown.iter().chain(&until).chain(&args.exit_code_from);
        let services: BTreeSet<String> = services.cloned().collect();
        LogQuery {
            services: services.into_iter().collect(),
            follow: true,
            until,
            since_ns: Some(now().as_nanosecond()),
            past_ends: true,
            ..LogQuery::default()
        }
    }

    /// Says that containers are being stopped, and why.
    fn say(&self, reason: &Reason, progress: &Progress<'_>) {
        let notice = match reason {
            Reason::Interrupted => "Gracefully stopping... (press Ctrl+C again to force)\n",
            Reason::Ended => "Aborting on container exit...\n",
            Reason::Failed(_) => return,
        };
        if self.context.progress == ProgressMode::Json {
            return;
        }
        // The terminal has just echoed `^C` there.
        let start = if self.context.printer.err_look.terminal {
            "\n"
        } else {
            ""
        };
        progress.above(&format!("{start}{notice}"));
    }

    /// Shows stops a line an event: output goes on meanwhile.
    fn stopping(&self) -> Progress<'a> {
        let mode = match self.context.progress {
            ProgressMode::Tty => ProgressMode::Plain,
            mode => mode,
        };
        let shown = Shown {
            title: "Stopping",
            builds: false,
            pulls: false,
        };
        Progress::new(&self.context.printer, mode, shown)
    }

    /// Returns what the command results in after everything was stopped.
    fn end(&self, reason: Reason, ends: &Ends) -> Result<(), CliError> {
        match reason {
            Reason::Interrupted => Err(CliError::Ended(130)),
            Reason::Failed(error) => Err(error),
            Reason::Ended => result_of(self.verdict(ends.code.get())?),
        }
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
