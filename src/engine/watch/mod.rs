//! `watch`: source files change, containers follow.
//!
//! ```text
//! kernel ─events─> source ─dirty paths─> look ─what changed─> ledger ─tasks─> push | restart | build + up
//!                                                               ^                       │
//! runtime's changes ──────────containers as they are────────────┴────what was done──────┘
//! ```
//!
//! Level-triggered: events only say where to look; the ledger holds, for each container, what it has not been given yet, and
//! a thing is crossed off only when it has been done and has not changed since. So neither a lost event, nor a container that
//! is replaced or restarted, nor a failed build loses a save.
//!
//! - A quiet time of [`QUIET`] ([`QUIET_OF_MANY`] when many files change) is waited for, but never longer than [`LATEST`].
//! - A service has one task at a time, and one build goes on at a time. A build whose files change is broken off and begun
//!   again; once its containers are being replaced it is not.
//! - What changed since watching began, or since the image's build began, is given to every new container again.
//! - The ignore rules are read when watching begins.
//!
//! In reading order: [`event`] (what is told), `rules` (what concerns whom), `tree`, `source` (looking), `ledger` (deciding),
//! `push` (writing into containers), `serve` and `rebuild` (doing).

pub mod error;
pub mod event;
mod ledger;
mod push;
mod rebuild;
mod rules;
mod serve;
mod source;
mod tree;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::EventSink;
use crate::engine::watch::error::WatchError;
use crate::engine::watch::event::{Changed, WatchEvent, WatchSink};
use crate::engine::watch::ledger::{BuildOutcome, Ledger, Order, Served, Task};
use crate::engine::watch::rebuild::Rebuild;
use crate::engine::watch::rules::{ContextIgnore, Rule};
use crate::engine::watch::source::{Seen, Signal, Source};
use crate::engine::watch::tree::Tree;
use crate::engine::{Engine, readable};
use crate::images::build::{DockerfileSource, ignore_rules};
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::options::UpOptions;
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::sys::lock::{Lock, Mode};

/// Quiet time before a change counts as complete.
const QUIET: Duration = Duration::from_millis(10);
/// The same, when more than [`FEW`] paths change.
const QUIET_OF_MANY: Duration = Duration::from_millis(50);
/// How many paths are few.
const FEW: usize = 4;
/// Longest wait from the first change on.
const LATEST: Duration = Duration::from_millis(250);
/// Paths at which looking at everything is less work.
const TOO_MANY: usize = 5_000;

/// Watched source files, from before the containers are brought up.
pub struct Watcher<'a> {
    engine: &'a Engine,
    stack: &'a Stack,
    up: UpOptions,
    source: Source,
    tree: Tree,
    ledger: Ledger,
    warnings: Vec<String>,
    pending: Pending,
    /// Held as long as it watches.
    _lock: Lock,
}

/// What was heard and not looked at yet.
#[derive(Debug, Default)]
struct Pending {
    paths: BTreeSet<PathBuf>,
    everything: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Where tasks are done, and who is told what.
#[derive(Clone, Copy)]
struct Ground<'a> {
    engine: &'a Engine,
    stack: &'a Stack,
    /// The progress of builds and of `up`.
    events: &'a dyn EventSink,
    /// The watch's own.
    watch: &'a dyn WatchSink,
}

/// A task that has ended.
enum Ended {
    Served {
        service: String,
        orders: Vec<Order>,
        results: Vec<Served>,
    },
    Built(BuildOutcome),
}

/// A task that runs.
type Running<'a> = Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// What of each service has changed since its last task.
type Reasons = BTreeMap<String, Reason>;

/// Why a task is done.
#[derive(Debug, Clone)]
struct Reason {
    paths: BTreeSet<PathBuf>,
    heard: Instant,
}

impl Engine {
    /// Begins to watch what the `develop.watch` rules of the services (all where none is named) say. Changes count from now on;
    /// they are acted on by [`Watcher::run`]. `up` says how containers are brought up after a build.
    ///
    /// Errors: no rules, rules without sense, another watch of the project.
    pub fn watcher<'a>(
        &'a self,
        stack: &'a Stack,
        services: &[String],
        up: UpOptions,
    ) -> Result<Watcher<'a>, EngineError> {
        let selection = Selection::new(stack, services, Dependencies::Follow)?;
        let mut warnings = Vec::new();
        let mut rules = Vec::new();
        for (name, service) in &selection.services {
            if !service.watch.is_empty() {
                let context = context_ignore(name.as_str(), service)?;
                let resolve =
                    |path: &Path| fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                let of_service =
                    Rule::of_service(name.as_str(), service, &context, resolve, &mut warnings)?;
                rules.extend(of_service);
            }
        }
        if rules.is_empty() && warnings.is_empty() {
            return Err(WatchError::NoRules.into());
        }
        let lock = self.lock_watch(stack)?;
        let mut source = Source::open()?;
        let tree = source.first(&rules)?;
        Ok(Watcher {
            engine: self,
            stack,
            up,
            source,
            ledger: Ledger::new(rules, &tree),
            tree,
            warnings,
            pending: Pending::default(),
            _lock: lock,
        })
    }

    /// Takes the one right to watch a project.
    fn lock_watch(&self, stack: &Stack) -> Result<Lock, EngineError> {
        // No project has a name with a dot.
        let path = self
            .roots
            .root
            .join("locks")
            .join(format!("{}.watch", stack.name));
        let failed = |source| EngineError::file("lock", &path, source);
        let taken = Lock::try_acquire(&path, Mode::Exclusive).map_err(failed)?;
        let Some(lock) = taken else {
            let text = fs_err::read_to_string(&path).unwrap_or_default();
            return Err(WatchError::Taken {
                project: stack.name.to_string(),
                pid: text.trim().parse().ok(),
            }
            .into());
        };
        let text = format!("{}\n", std::process::id());
        let written = lock.file().set_len(0).and_then(|()| {
            let mut file = lock.file();
            std::io::Write::write_all(&mut file, text.as_bytes())
        });
        written.map_err(failed)?;
        Ok(lock)
    }
}

/// Reads `.dockerignore` of a service that is built.
fn context_ignore(name: &str, service: &Service) -> Result<ContextIgnore, WatchError> {
    let Some(build) = &service.build else {
        return Ok(None);
    };
    let dockerfile = match &build.dockerfile_inline {
        Some(text) => DockerfileSource::Inline(text.clone()),
        None => DockerfileSource::Path(build.dockerfile.clone()),
    };
    let rules = ignore_rules(&build.context, &dockerfile).map_err(|source| WatchError::Ignore {
        service: name.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Some((build.context.clone(), rules)))
}

impl Watcher<'_> {
    /// Acts on changes until `cancel`, which is the only good end: [`EngineError::Interrupted`].
    pub async fn run(
        mut self,
        events: &dyn EventSink,
        watch: &dyn WatchSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let ground = Ground {
            engine: self.engine,
            stack: self.stack,
            events,
            watch,
        };
        let warnings = std::mem::take(&mut self.warnings);
        warnings
            .into_iter()
            .map(WatchEvent::Warning)
            .for_each(|event| watch.watched(event));
        let failed = |source| EngineError::System {
            attempted: "wait for changes of containers".to_owned(),
            source,
        };
        // Watched before they are looked at: a change in between is then not missed.
        let mut changes = self.engine.runtime.changes()?;
        self.refresh()?;
        let services: BTreeSet<_> = self
            .ledger
            .rules()
            .iter()
            .map(|rule| rule.service.clone())
            .collect();
        watch.watched(WatchEvent::Enabled {
            services: services.into_iter().collect(),
            directories: self.source.directories(),
        });
        let reasons = RefCell::new(Reasons::new());
        let mut rebuild: Option<Rebuild> = None;
        let mut running: FuturesUnordered<Running<'_>> = FuturesUnordered::new();
        loop {
            for task in self.ledger.next(&self.tree) {
                running.push(self.begin(task, ground, &reasons, &mut rebuild));
            }
            let due = self.pending.due();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = running.next(), if !running.is_empty() => {
                    if self.end(ended) {
                        rebuild = None;
                    }
                    self.refresh()?;
                }
                signal = self.source.next() => self.hear(signal),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if self.look(&reasons)?
                        && let Some(rebuild) = &rebuild
                    {
                        rebuild.supersede();
                    }
                }
                changed = readable(&changes) => {
                    changed.map_err(failed)?;
                    changes.take().map_err(failed)?;
                    self.refresh()?;
                }
            }
        }
        if let Some(rebuild) = &rebuild {
            // Containers that are being replaced are replaced to the end; a build is broken off.
            rebuild.interrupt();
            while let Some(ended) = running.next().await {
                if self.end(ended) {
                    break;
                }
            }
        }
        Err(EngineError::Interrupted)
    }

    /// Takes in what was heard.
    fn hear(&mut self, signal: Signal) {
        let mut next = Some(signal);
        while let Some(signal) = next {
            match signal {
                Signal::Everything => self.pending.add(None),
                Signal::Dirty(path) if source::concerns(self.ledger.rules(), &path) => {
                    self.pending.add(Some(path));
                }
                Signal::Dirty(_) => {}
            }
            next = self.source.try_next();
        }
    }

    /// Looks at what was heard of; returns whether a build is superseded.
    fn look(&mut self, reasons: &RefCell<Reasons>) -> Result<bool, WatchError> {
        let pending = std::mem::take(&mut self.pending);
        let rules = self.ledger.rules();
        let seen = if pending.everything {
            self.source.again(rules, &mut self.tree)?
        } else {
            self.source.look(rules, &mut self.tree, &pending.paths)?
        };
        let heard = pending.first.unwrap_or_else(Instant::now);
        self.note(&seen, heard, reasons);
        Ok(self.ledger.seen(&seen))
    }

    /// Notes for whom what has changed, for telling.
    fn note(&self, seen: &[Seen], heard: Instant, reasons: &RefCell<Reasons>) {
        let mut reasons = reasons.borrow_mut();
        for Seen { path, .. } in seen {
            let rules = self.ledger.rules().iter();
            for rule in rules.filter(|rule| rule.judge(path) == rules::Scope::In) {
                let reason = reasons.entry(rule.service.clone()).or_insert(Reason {
                    paths: BTreeSet::new(),
                    heard,
                });
                let shown = path.strip_prefix(&self.stack.directory).unwrap_or(path);
                // A directory is told by what is in it.
                let told = Some(shown).filter(|_| !path.is_dir());
                reason.paths.extend(told.map(Path::to_owned));
            }
        }
    }

    /// Looks at the containers.
    fn refresh(&mut self) -> Result<(), EngineError> {
        let found = serve::find(self.engine, self.stack)?;
        self.ledger.found(found, &self.tree);
        Ok(())
    }
}

impl Watcher<'_> {
    /// Begins a task.
    fn begin<'t>(
        &self,
        task: Task,
        ground: Ground<'t>,
        reasons: &RefCell<Reasons>,
        rebuild: &mut Option<Rebuild>,
    ) -> Running<'t> {
        match task {
            Task::Build { services } => {
                let reason = take_reasons(&services, reasons);
                let begun = rebuild.insert(Rebuild::new(services, self.up.clone()));
                let work = begun.work(ground, reason);
                Box::pin(async move { Ended::Built(work.await) })
            }
            Task::Serve { service, orders } => {
                let reason = take_reasons(&BTreeSet::from([service.clone()]), reasons);
                let rules = self.ledger.rules().to_vec();
                Box::pin(async move {
                    let results = serve::serve(ground, &service, &orders, &rules, reason).await;
                    Ended::Served {
                        service,
                        orders,
                        results,
                    }
                })
            }
        }
    }

    /// Takes in the end of a task; returns whether it was a build.
    fn end(&mut self, ended: Ended) -> bool {
        match ended {
            Ended::Served {
                service,
                orders,
                results,
            } => {
                self.ledger.served(&service, &orders, results);
                false
            }
            Ended::Built(outcome) => {
                self.ledger.built(outcome);
                true
            }
        }
    }
}

/// Takes out why a task is done; where nothing changed, a container has come that was owed something.
fn take_reasons(services: &BTreeSet<String>, reasons: &RefCell<Reasons>) -> Option<Reason> {
    let mut reasons = reasons.borrow_mut();
    let taken = services
        .iter()
        .filter_map(|service| reasons.remove(service));
    taken.reduce(|mut one, other| {
        one.paths.extend(other.paths);
        one.heard = one.heard.min(other.heard);
        one
    })
}

impl Reason {
    /// Returns the paths for telling.
    fn changed(this: Option<&Self>) -> Changed {
        let Some(reason) = this else {
            return Changed::default();
        };
        Changed {
            first: reason.paths.first().cloned().unwrap_or_default(),
            more: reason.paths.len().saturating_sub(1),
        }
    }
}

impl Pending {
    /// Adds a path, or everything.
    fn add(&mut self, path: Option<PathBuf>) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        match path {
            Some(path) if !self.everything => {
                self.paths.insert(path);
            }
            Some(_) => {}
            None => self.everything = true,
        }
        if self.paths.len() > TOO_MANY {
            self.everything = true;
        }
        if self.everything {
            self.paths.clear();
        }
    }

    /// Returns when it is looked at.
    fn due(&self) -> Option<Instant> {
        let quiet = if self.everything || self.paths.len() > FEW {
            QUIET_OF_MANY
        } else {
            QUIET
        };
        Some((self.last? + quiet).min(self.first? + LATEST))
    }
}
