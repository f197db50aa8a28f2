//! A build's progress as events: BuildKit's lines, where each step has a number that its lines begin with, since steps go on at once.
//!
//! ```text
//! #5 [compile 2/3] RUN make
//! #5 0.31 cc -o main main.c
//! #5 DONE 0.8s
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use crate::engine::event::{Event, EventKind, EventSink, Remark, Subject};
use crate::engine::linux::tell_layer;
use crate::images::BlobState;
use crate::images::build::{BuildEvent, BuildProgress, StepLabel};
use crate::images::dockerfile::instruction::Dockerfile;
use crate::images::dockerfile::lint::Warning;

/// Tells an [`EventSink`] what a build tells.
pub(crate) struct BuildEvents<'a> {
    image: &'a str,
    events: &'a dyn EventSink,
    /// Steps that were told of, in order: stage, number in it, and when they began.
    steps: RefCell<Vec<(String, usize, Instant)>>,
    /// Pulls of base images, by name.
    pulls: RefCell<BTreeMap<String, BTreeMap<String, BlobState>>>,
}

impl<'a> BuildEvents<'a> {
    /// Tells `events` about the build of `image`.
    pub(crate) fn new(image: &'a str, events: &'a dyn EventSink) -> Self {
        Self {
            image,
            events,
            steps: RefCell::default(),
            pulls: RefCell::default(),
        }
    }

    /// Writes a line.
    fn line(&self, text: String) {
        self.events.emit(Event {
            subject: Subject::Build(self.image.to_owned()),
            kind: EventKind::Line(text),
        });
    }

    /// Returns the number of a step, from 1, and when it began; says what it is where it is new.
    fn step(&self, label: StepLabel<'_>) -> (usize, Instant) {
        let mut steps = self.steps.borrow_mut();
        let known = |(stage, number, _): &(String, usize, Instant)| {
            stage == label.stage && *number == label.number
        };
        if let Some(at) = steps.iter().position(known) {
            let begun = steps.get(at).map_or_else(Instant::now, |step| step.2);
            return (at + 1, begun);
        }
        let begun = Instant::now();
        steps.push((label.stage.to_owned(), label.number, begun));
        let number = steps.len();
        drop(steps);
        self.line(format!("#{number} {label}"));
        (number, begun)
    }
}

/// Returns what is told of a warning.
pub(super) fn remark(warning: &Warning, file: &Dockerfile) -> Remark {
    Remark {
        rule: warning.rule,
        message: warning.message.clone(),
        path: file.path.clone(),
        text: file.text.clone(),
        range: (warning.span.start, warning.span.end),
    }
}

impl BuildProgress for BuildEvents<'_> {
    fn event(&self, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Started(label) => {
                self.step(label);
            }
            BuildEvent::Cached(label) => {
                let (number, _) = self.step(label);
                self.line(format!("#{number} CACHED"));
            }
            BuildEvent::Explained(label, why) => {
                let (number, _) = self.step(label);
                self.line(format!("#{number} not cached: {why}"));
            }
            BuildEvent::Output(label, line) => {
                let (number, begun) = self.step(label);
                let seconds = begun.elapsed().as_secs_f64();
                let text = String::from_utf8_lossy(line);
                self.line(format!("#{number} {seconds:.2} {text}"));
            }
            BuildEvent::Done(label, time) => {
                let (number, _) = self.step(label);
                self.line(format!("#{number} DONE {:.1}s", time.as_secs_f64()));
            }
            BuildEvent::Failed {
                step, exit_code, ..
            } => {
                let (number, _) = self.step(step);
                self.line(format!("#{number} ERROR: exit code: {exit_code}"));
            }
            BuildEvent::Pulling { image, blob, state } => {
                let mut pulls = self.pulls.borrow_mut();
                let told = pulls.entry(image.to_owned()).or_default();
                tell_layer(image, blob, state, told, self.events);
            }
            BuildEvent::Note(text) => self.line(text.to_owned()),
            BuildEvent::Warning(text) => self.events.emit(Event {
                subject: Subject::Build(self.image.to_owned()),
                kind: EventKind::Warning(text.to_owned()),
            }),
            BuildEvent::Lint(warning, file) => self.events.emit(Event {
                subject: Subject::Build(self.image.to_owned()),
                kind: EventKind::Remark(Box::new(remark(warning, file))),
            }),
        }
    }
}
