//! `stack apply`.
//!
//! ```text
//! source ─ fetch (git) ─> files ─ load ─> stack ─ engine up, pruning ─> one line a change ─ sweep old revisions
//!    └──────────── --interval: again, until SIGINT (130) or SIGTERM (0) <─────────────────────────┘
//! ```
//!
//! Each round takes the source as it is then, observes and plans anew, so that what somebody changed on the machine is healed
//! as well. A round that fails is told, and the next one comes after twice the time, four times, … up to 32 times the interval
//! (never more than a quarter of an hour, or the interval where that is longer).
//!
//! Exit codes: 0 all is as the source says (or `--dry-run` could plan), 1 something failed, 2 typed wrongly, 130 interrupted; 4
//! with `--detailed-exitcode` where something was changed, or would be. With `--interval`: 130 after SIGINT, 0 after SIGTERM,
//! which is how a service manager ends it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use crate::cli::args::ApplyArgs;
use crate::cli::context::{Context, FILE_NAMES, load_files, now};
use crate::cli::failure::CliError;
use crate::cli::render::changes::{Changes, Round};
use crate::cli::render::progress::{FRAME, Progress, ProgressMode, Shown};
use crate::cli::signals::Interrupts;
use crate::engine::cancel::Cancel;
use crate::engine::source::{Checkout, Source, SourceError};
use crate::engine::{Engine, EngineError};
use crate::plan::graph::Dependencies;
use crate::plan::options::{BuildImages, UpOptions};
use crate::spec::{Loaded, Phase};

/// Exit code of `--detailed-exitcode` where there are changes.
const CHANGED: u8 = 4;

/// Longest time between rounds that fail, unless the interval is longer.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// One command.
struct Apply<'a> {
    context: &'a Context,
    args: &'a ApplyArgs,
    source: Source,
    /// For messages, until a project is known.
    source_name: String,
    changes: Changes<'a>,
    /// How progress is shown beside the lines.
    progress: ProgressMode,
}

/// How a round ended.
struct Ended {
    result: Result<(), CliError>,
    revision: Option<String>,
    count: usize,
    /// The signal that ended it.
    signal: Option<i32>,
}

/// Makes what runs equal to a source.
pub(super) async fn run(context: &Context, args: ApplyArgs) -> Result<(), CliError> {
    let source = Source::parse(args.source.as_deref(), &context.directory)
        .map_err(|error| CliError::Engine(error.into()))?;
    check(context, &args, &source)?;
    context.sealed()?;
    let terminal = context.printer.out_look.terminal;
    let writes = args.json.unwrap_or(!terminal && !context.global.dry_run);
    let apply = Apply {
        context,
        source_name: match &source {
            Source::Here => context.directory.display().to_string(),
            Source::File(path) | Source::Directory(path) => path.display().to_string(),
            Source::Git(source) => source.url.to_string(),
        },
        source,
        args: &args,
        changes: Changes::new(&context.printer, writes, now),
        // Both on one terminal would be drawn over each other.
        progress: if writes && terminal {
            ProgressMode::Quiet
        } else {
            context.progress
        },
    };
    let mut interrupts = Interrupts::listen()?;
    match args.interval {
        None => apply.once(&mut interrupts).await,
        Some(interval) => apply.follow(interval, &mut interrupts).await,
    }
}

/// Refuses what cannot be meant together.
fn check(context: &Context, args: &ApplyArgs, source: &Source) -> Result<(), CliError> {
    let files = &context.global.file;
    if matches!(source, Source::File(_)) && !files.is_empty() {
        return Err(CliError::usage(
            "a file as the source and `-f` exclude each other",
        ));
    }
    let dash = Path::new("-");
    if !matches!(source, Source::Here) && files.iter().any(|file| file == dash) {
        return Err(CliError::usage("a source and `-f -` exclude each other"));
    }
    if args.interval.is_some() && files.iter().any(|file| file == dash) {
        return Err(CliError::usage(
            "standard input cannot be followed: `--interval` needs a file",
        ));
    }
    if args.interval.is_some() && context.global.dry_run {
        return Err(CliError::usage(
            "`--interval` and `--dry-run` exclude each other",
        ));
    }
    Ok(())
}

impl Apply<'_> {
    /// One round, and its exit code.
    async fn once(&self, interrupts: &mut Interrupts) -> Result<(), CliError> {
        let ended = self.round(interrupts, true, |_| true).await;
        if let Some(error) = self.changes.take_failure() {
            return Err(CliError::Output(error));
        }
        ended.result?;
        if self.args.detailed_exitcode && ended.count > 0 {
            return Err(CliError::Ended(CHANGED));
        }
        Ok(())
    }

    /// Rounds until a signal.
    async fn follow(
        &self,
        interval: Duration,
        interrupts: &mut Interrupts,
    ) -> Result<(), CliError> {
        let mut failures = 0_u32;
        let mut revision = None;
        let mut is_first = true;
        loop {
            // A round that found all in order is told only where the last one did not.
            let news = |ended: &Ended| {
                is_first || failures > 0 || ended.count > 0 || ended.revision != revision
            };
            let ended = self.round(interrupts, is_first, news).await;
            if let Some(error) = self.changes.take_failure() {
                return Err(CliError::Output(error));
            }
            if let Some(signal) = ended.signal {
                return Err(CliError::Ended(exit_code(signal)));
            }
            match &ended.result {
                Ok(()) => failures = 0,
                // What is wrong with the command itself stays wrong.
                Err(error) if error.exit_code() == 2 => return ended.result,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    error.report(&self.context.printer, self.progress);
                }
            }
            (revision, is_first) = (ended.revision, false);
            tokio::select! {
                signal = interrupts.next() => return Err(CliError::Ended(exit_code(signal))),
                () = tokio::time::sleep(pause(interval, failures)) => {}
            }
        }
    }

    /// One round: does it, under signals, and sums it up where `news` says so.
    async fn round(
        &self,
        interrupts: &mut Interrupts,
        tells_unchanged: bool,
        news: impl Fn(&Ended) -> bool,
    ) -> Ended {
        let shown = Shown {
            title: "Applying",
            builds: true,
            pulls: true,
        };
        let progress = Progress::new(&self.context.printer, self.progress, shown);
        let round = Round::new(&self.changes, &progress, tells_unchanged);
        let cancel = Cancel::default();
        let (result, signal) = {
            let work = self.work(&round, &cancel);
            attend(work, &progress, interrupts, &cancel).await
        };
        round.settle();
        let ended = Ended {
            result,
            revision: round.revision(),
            count: round.count(),
            signal,
        };
        match &ended.result {
            Ok(()) if self.context.global.dry_run => {
                round.sum_up(&self.source_name, "planned", None);
            }
            Ok(()) if !news(&ended) => {}
            Ok(()) => round.sum_up(&self.source_name, "done", None),
            Err(error) => {
                let text = match error {
                    CliError::Ended(_) => "interrupted".to_owned(),
                    error => error
                        .text(crate::cli::render::diagnostic::Drawing::plain())
                        .trim_end()
                        .to_owned(),
                };
                round.sum_up(&self.source_name, "failed", Some(&text));
            }
        }
        ended
    }

    /// Brings the source here, loads it, applies it.
    async fn work(&self, round: &Round<'_>, cancel: &Cancel) -> Result<(), CliError> {
        // For each round: what an instance has on the machine goes with its last container, whoever takes that down.
        let engine = self.context.engine()?;
        let result = self.work_with(&engine, round, cancel).await;
        if result.is_err() || self.context.global.dry_run {
            // There may be no container that would take it away in the end.
            let cleaned = engine.clean_up().await.map_err(CliError::from);
            return result.and(cleaned);
        }
        result
    }

    async fn work_with(
        &self,
        engine: &Engine,
        round: &Round<'_>,
        cancel: &Cancel,
    ) -> Result<(), CliError> {
        let checkout = match &self.source {
            Source::Git(source) => {
                let checkout = engine.fetch(source, cancel).await?;
                round.set_revision(&checkout.origin.revision);
                Some(checkout)
            }
            Source::Here | Source::File(_) | Source::Directory(_) => None,
        };
        let loaded = self.load(checkout.as_ref())?;
        round.set_project(loaded.stack.name.as_str());
        if round.tells_unchanged() {
            self.context.warn_of(&loaded);
        }
        let ignored = super::usable(&loaded, &[], Dependencies::Follow, Phase::Run)?;
        if round.tells_unchanged() {
            self.context.warn_with(&ignored, &loaded.sources);
        }
        let options = self.options(engine, &loaded, checkout.as_ref())?;
        if self.context.global.dry_run {
            self.plan(engine, &loaded, &options, round).await?;
        } else {
            let stack = &loaded.stack;
            engine.up(stack, &options, round, cancel).await?;
        }
        // Its record or its containers say from now on that it is used.
        drop(checkout);
        Ok(engine.sweep_sources()?)
    }

    /// Shows what would be done.
    async fn plan(
        &self,
        engine: &Engine,
        loaded: &Loaded,
        options: &UpOptions,
        round: &Round<'_>,
    ) -> Result<(), CliError> {
        let planned = engine.plan_up(&loaded.stack, options).await?;
        for warning in planned.warnings() {
            self.context.warn(&warning);
        }
        if self.args.json != Some(true) {
            self.context.out(planned.to_string())?;
        }
        let plans = planned.plans.iter();
        plans
            .flat_map(|plan| &plan.steps)
            .for_each(|step| round.plan(step));
        Ok(())
    }

    /// As `up -d --remove-orphans`, and networks too.
    fn options(
        &self,
        engine: &Engine,
        loaded: &Loaded,
        checkout: Option<&Checkout>,
    ) -> Result<UpOptions, CliError> {
        // What an image is built from came with the revision; of files that lie here nobody knows, and they say
        // `pull_policy: build`, or `--build` does.
        let is_new = match checkout {
            Some(checkout) => {
                engine.applied(&loaded.stack.name)?.as_ref() != Some(&checkout.origin)
            }
            None => false,
        };
        Ok(UpOptions {
            remove_orphans: true,
            prune_networks: true,
            leave_completed: true,
            build: if self.args.build || is_new {
                BuildImages::Always
            } else {
                BuildImages::Missing
            },
            wait: self.args.wait,
            wait_timeout: self.args.wait_timeout.map(Duration::from_secs),
            ..UpOptions::default()
        })
    }

    /// Loads the project of the source.
    fn load(&self, checkout: Option<&Checkout>) -> Result<Loaded, CliError> {
        let mut options = self.context.load_options(crate::spec::Steps::default())?;
        let directory = match (&self.source, checkout) {
            (_, Some(checkout)) => &checkout.directory,
            (Source::Directory(directory), None) => directory,
            (Source::File(file), None) => {
                options.files = vec![file.clone()];
                return load_files(&options);
            }
            (Source::Here | Source::Git(_), None) => return load_files(&options),
        };
        // What was typed about the caller's own files is about the caller's directory; the rest is about the source.
        let here = |path: &PathBuf| self.context.directory.join(path);
        options.env_files = options.env_files.iter().map(here).collect();
        options.project_directory = options.project_directory.map(|path| directory.join(path));
        options.working_directory.clone_from(directory);
        options.environment.remove("COMPOSE_FILE");
        options.environment.remove("PWD");
        options.files = options
            .files
            .iter()
            .map(|file| directory.join(file))
            .collect();
        if options.files.is_empty() {
            let mut names = FILE_NAMES.iter().map(|name| directory.join(name));
            // Not searched upward: what lies above is no part of the source.
            if !names.any(|path| path.symlink_metadata().is_ok()) {
                let place = self.shown(directory, checkout);
                return Err(CliError::Engine(SourceError::NoFile(place).into()));
            }
        }
        if let Some(checkout) = checkout {
            let names = FILE_NAMES.iter().map(|name| directory.join(name));
            for path in names
                .chain([directory.join(".env")])
                .chain(options.files.clone())
            {
                checkout.contains(&path)?;
            }
        }
        let loaded = load_files(&options)?;
        if let Some(checkout) = checkout {
            for file in &loaded.stack.files {
                checkout.contains(file)?;
            }
        }
        Ok(loaded)
    }

    /// Renders a directory of the source as the user knows it.
    fn shown(&self, directory: &Path, checkout: Option<&Checkout>) -> String {
        match checkout {
            Some(checkout) => {
                let below = directory.strip_prefix(&checkout.tree).unwrap_or(directory);
                format!("{}#:{}", self.source_name, below.display())
            }
            None => directory.display().to_string(),
        }
    }
}

/// Does `work` while progress is drawn. The first signal asks it to end after what is going on, a second one gives it up
/// where it stands; returns the signal.
async fn attend(
    work: impl Future<Output = Result<(), CliError>>,
    progress: &Progress<'_>,
    interrupts: &mut Interrupts,
    cancel: &Cancel,
) -> (Result<(), CliError>, Option<i32>) {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(if progress.is_live() {
        FRAME
    } else {
        Duration::from_hours(1)
    });
    let mut asked = None;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            signal = interrupts.next() => {
                if asked.is_some() {
                    break Err(CliError::Ended(130));
                }
                asked = Some(signal);
                cancel.cancel();
            }
            _ = ticks.tick() => progress.tick(),
        }
    };
    progress.finish();
    let result = match result {
        Err(CliError::Engine(EngineError::Interrupted)) => Err(CliError::Ended(130)),
        result => result,
    };
    (result, asked)
}

/// Returns how long to wait after so many failures in a row.
fn pause(interval: Duration, failures: u32) -> Duration {
    let backed_off = interval.saturating_mul(1 << failures.min(5));
    backed_off.min(LONGEST_WAIT.max(interval))
}

/// Returns the exit code of following after a signal.
fn exit_code(signal: i32) -> u8 {
    if signal == libc::SIGTERM { 0 } else { 130 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_fail_come_less_and_less_often() {
        let seconds = |interval, failures| pause(Duration::from_secs(interval), failures).as_secs();
        let rows = [
            (30, 0, 30),
            (30, 1, 60),
            (30, 3, 240),
            (30, 5, 900),
            (1, 5, 32),
            (1, 99, 32),
            (3600, 9, 3600),
        ];
        for (interval, failures, expected) in rows {
            assert_eq!(
                seconds(interval, failures),
                expected,
                "{interval} {failures}"
            );
        }
    }
}
