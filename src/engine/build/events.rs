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

use crate::engine::event::{BuildStep, Event, EventKind, EventSink, Remark, StepNews, Subject};
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

    fn emit(&self, kind: EventKind) {
        self.events.emit(Event {
            subject: Subject::Build(self.image.to_owned()),
            kind,
        });
    }

    /// Tells what happened to a step.
    fn tell(&self, label: StepLabel<'_>, news: StepNews) {
        let (number, _) = self.step(label);
        self.emit(EventKind::Building(BuildStep { number, news }));
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
        let news = StepNews::Began(label.to_string());
        self.emit(EventKind::Building(BuildStep { number, news }));
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
            BuildEvent::Cached(label) => self.tell(label, StepNews::Cached),
            BuildEvent::Explained(label, why) => {
                self.tell(label, StepNews::Explained(why.to_owned()));
            }
            BuildEvent::Output(label, line) => {
                let (_, begun) = self.step(label);
                let text = String::from_utf8_lossy(line).into_owned();
                self.tell(label, StepNews::Wrote(begun.elapsed(), text));
            }
            BuildEvent::Done(label, time) => self.tell(label, StepNews::Done(time)),
            BuildEvent::Failed {
                step, exit_code, ..
            } => self.tell(step, StepNews::Failed(exit_code)),
            BuildEvent::Pulling { image, blob, state } => {
                let mut pulls = self.pulls.borrow_mut();
                let told = pulls.entry(image.to_owned()).or_default();
                tell_layer(image, blob, state, told, self.events);
            }
            BuildEvent::Note(text) => self.emit(EventKind::Line(text.to_owned())),
            BuildEvent::Warning(text) => self.emit(EventKind::Warning(text.to_owned())),
            BuildEvent::Lint(warning, file) => {
                self.emit(EventKind::Remark(Box::new(remark(warning, file))));
            }
        }
    }
}
