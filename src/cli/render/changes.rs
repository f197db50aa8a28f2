//! What `apply` changes, for machines: one JSON object a line on standard output, written when it has happened.
//!
//! ```text
//! {"time":"2026-11-21T10:38:00.123Z","project":"shop","revision":"3f2a…","kind":"container","name":"shop-web-1",
//!  "action":"start","cause":"was stopped","status":"done","error":null}
//! {"time":…,"project":"shop","revision":"3f2a…","kind":"project","name":"shop",
//!  "action":"apply","cause":null,"status":"done","error":null,"changes":4}
//! ```
//!
//! Every line has every key; `changes` is of the last line of a round alone. `revision` is the commit of a git source, else null.
//!
//! | key | values |
//! | --- | --- |
//! | kind | `container`, `network`, `volume`, `image`; `project` sums a round up |
//! | action | `pull`, `build`, `create`, `remove`, `rename`, `disconnect`, `start`, `stop`, `wait`; `apply` of a project |
//! | status | `done`, `failed`, `skipped` (what it needed failed, or an interrupt), `planned` (`--dry-run`) |
//!
//! A wait that ends well changes nothing and has no line, nor has a pull or a build that leads to the image that was there.
//! Causes are the plan's, so values of secrets are hidden in them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Printer;
use super::progress::Progress;
use crate::engine::event::{Event, EventKind, EventSink, StepEnd};
use crate::plan::Step;
use crate::plan::action::{Action, Resource};

/// Writes lines, for as long as a command runs.
pub(crate) struct Changes<'a> {
    printer: &'a Printer,
    /// Whether lines are written; they are counted all the same.
    writes: bool,
    clock: fn() -> Timestamp,
    /// Why a line could not be written.
    failure: RefCell<Option<io::Error>>,
}

/// The changes of one round; passes events on to the progress.
pub(crate) struct Round<'a> {
    changes: &'a Changes<'a>,
    progress: &'a Progress<'a>,
    /// Whether what is as it should be is shown.
    tells_unchanged: bool,
    /// Project and revision, once they are known.
    of: RefCell<(Option<String>, Option<String>)>,
    count: Cell<usize>,
    /// Pulls and builds that ended well, until it is known what they led to: reference and line.
    held: RefCell<Vec<(String, Value)>>,
}

impl<'a> Changes<'a> {
    /// Begins; `writes`: whether lines are written at all.
    pub(crate) fn new(printer: &'a Printer, writes: bool, clock: fn() -> Timestamp) -> Self {
        Self {
            printer,
            writes,
            clock,
            failure: RefCell::default(),
        }
    }

    /// Takes why a line could not be written, if one could not.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.borrow_mut().take()
    }

    fn write(&self, line: &Value) {
        if !self.writes || self.failure.borrow().is_some() {
            return;
        }
        // At once: who reads it acts on it.
        let written = self
            .printer
            .out(format!("{line}\n"))
            .and_then(|()| self.printer.flush());
        *self.failure.borrow_mut() = written.err();
    }
}

impl<'a> Round<'a> {
    /// Begins a round.
    pub(crate) fn new(
        changes: &'a Changes<'a>,
        progress: &'a Progress<'a>,
        tells_unchanged: bool,
    ) -> Self {
        Self {
            changes,
            progress,
            tells_unchanged,
            of: RefCell::default(),
            count: Cell::new(0),
            held: RefCell::default(),
        }
    }

    /// Says which revision the lines to come are of.
    pub(crate) fn set_revision(&self, revision: &str) {
        self.of.borrow_mut().1 = Some(revision.to_owned());
    }

    /// Says which project the lines to come are of.
    pub(crate) fn set_project(&self, project: &str) {
        self.of.borrow_mut().0 = Some(project.to_owned());
    }

    /// Whether this round tells everything, as the first one does.
    pub(crate) fn tells_unchanged(&self) -> bool {
        self.tells_unchanged
    }

    /// Returns the revision, where there is one.
    pub(crate) fn revision(&self) -> Option<String> {
        self.of.borrow().1.clone()
    }

    /// Returns how much has been changed, or is planned to be.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Writes the line of a step that would be done.
    pub(crate) fn plan(&self, step: &Step) {
        if !is_wait(step) {
            self.write(step, "planned", None);
        }
    }

    /// Lets what was held go: nothing more will be known about it.
    pub(crate) fn settle(&self) {
        for (_, line) in self.held.take() {
            self.put(&line);
        }
    }

    /// Writes the line that sums the round up. `source` names what has no project yet.
    pub(crate) fn sum_up(&self, source: &str, status: &str, error: Option<&str>) {
        let (project, _) = self.of.borrow().clone();
        let name = project.unwrap_or_else(|| source.to_owned());
        let mut line = self.line(("project", &name), ("apply", None), (status, error));
        if let Value::Object(line) = &mut line {
            line.insert("changes".to_owned(), json!(self.count.get()));
        }
        self.changes.write(&line);
    }

    fn put(&self, line: &Value) {
        self.count.set(self.count.get() + 1);
        self.changes.write(line);
    }

    /// Writes the lines of a step, or holds them until the images are known.
    fn write(&self, step: &Step, status: &str, error: Option<&str>) {
        let cause = step.cause.to_string();
        let resources = step.action.resources();
        for resource in &resources {
            let (kind, name) = resource_words(resource);
            let verb = verb(&step.action);
            let line = self.line((kind, name), (verb, Some(&cause)), (status, error));
            if kind == "image" && status == "done" {
                self.held.borrow_mut().push((name.to_owned(), line));
            } else if status == "skipped" {
                // Nothing was changed.
                self.changes.write(&line);
            } else {
                self.put(&line);
            }
        }
    }

    fn line(
        &self,
        (kind, name): (&str, &str),
        (action, cause): (&str, Option<&str>),
        (status, error): (&str, Option<&str>),
    ) -> Value {
        let (project, revision) = self.of.borrow().clone();
        json!({
            "time": format!("{:.3}", (self.changes.clock)()),
            "project": project,
            "revision": revision,
            "kind": kind,
            "name": name,
            "action": action,
            "cause": cause,
            "status": status,
            "error": error,
        })
    }
}

impl EventSink for Round<'_> {
    fn emit(&self, event: Event) {
        if self.tells_unchanged || !matches!(event.kind, EventKind::Unchanged(_)) {
            self.progress.emit(event);
        }
    }

    fn step(&self, step: &Step, end: &StepEnd) {
        match end {
            StepEnd::Done if is_wait(step) => {}
            StepEnd::Done => self.write(step, "done", None),
            StepEnd::Failed(error) => self.write(step, "failed", Some(error)),
            StepEnd::Skipped => self.write(step, "skipped", None),
            // Another step makes up for it, or nothing has to: the progress has warned.
            StepEnd::Spared(_) | StepEnd::NotNeeded => {}
        }
    }

    fn images(&self, changed: &BTreeSet<String>) {
        for (reference, line) in self.held.take() {
            if changed.contains(&reference) {
                self.put(&line);
            }
        }
    }
}

/// Whether a step only waits.
fn is_wait(step: &Step) -> bool {
    matches!(step.action, Action::AwaitCondition(_))
}

/// Returns the kind and the name of a resource.
fn resource_words(resource: &Resource) -> (&'static str, &str) {
    match resource {
        Resource::Network(name) => ("network", name),
        Resource::Volume(name) => ("volume", name),
        Resource::Image(name) | Resource::Build(name) => ("image", name),
        Resource::Container(name) => ("container", name),
    }
}

/// Returns the verb of an action.
fn verb(action: &Action) -> &'static str {
    match action {
        Action::PullImage(_) => "pull",
        Action::BuildImage(_) => "build",
        Action::CreateNetwork(_) | Action::CreateVolume(_) | Action::CreateContainer(_) => "create",
        Action::RemoveNetwork { .. }
        | Action::RemoveVolume { .. }
        | Action::RemoveContainer { .. } => "remove",
        Action::RenameContainer { .. } => "rename",
        Action::DisconnectContainer { .. } => "disconnect",
        Action::StartContainer { .. } => "start",
        Action::StopContainer { .. } => "stop",
        Action::AwaitCondition(_) => "wait",
    }
}
