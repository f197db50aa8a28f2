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

use crate::engine::chain;
use crate::engine::event::{BuildStep, Event, EventKind, EventSink, Remark, StepNews, Subject};
use crate::engine::linux::tell_layer;
use crate::images::build::{BuildEvent, BuildProgress, StepLabel};
use crate::images::dockerfile::instruction::Dockerfile;
use crate::images::dockerfile::lint::Warning;
use crate::images::{BlobState, Digest, Reference};

/// Tells an [`EventSink`] what a build tells.
pub(crate) struct BuildEvents<'a> {
    image: &'a str,
    events: &'a dyn EventSink,
    /// Steps that were told of, in order.
    steps: RefCell<Vec<Told>>,
    /// Pulls of base images, by name.
    pulls: RefCell<BTreeMap<String, BTreeMap<String, BlobState>>>,
}

/// A step that was told of.
struct Told {
    /// Of its stage, from 0: two stages may have one name.
    stage: usize,
    /// As labels name the stage.
    named: String,
    /// In the stage.
    number: usize,
    began: Instant,
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

    /// Does something that is no step of the Dockerfile and is shown as one: `exporting to image`. `work` is handed what tells what it did.
    pub(crate) fn export<T, E: std::error::Error>(
        &self,
        what: &str,
        work: impl FnOnce(&dyn Fn(String)) -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let mut steps = self.steps.borrow_mut();
        steps.push(Told {
            stage: usize::MAX,
            named: what.to_owned(),
            number: 0,
            began,
        });
        let number = steps.len();
        drop(steps);
        let tell = |news| self.emit(EventKind::Building(BuildStep { number, news }));
        tell(StepNews::Began(what.to_owned()));
        let done = work(&|what| tell(StepNews::Noted(what)));
        tell(match &done {
            Ok(_) => StepNews::Done(began.elapsed()),
            Err(error) => StepNews::Broke(chain(error)),
        });
        done
    }

    /// Tells what an image is known by now.
    fn stored(&self, id: &Digest, names: &[Reference]) {
        let told = self.export("exporting to image", |note| {
            note(format!("writing image {id}"));
            for name in names {
                note(format!("naming to {name}"));
            }
            Ok::<_, std::convert::Infallible>(())
        });
        match told {
            Ok(()) => {}
        }
    }

    /// Returns the number of a step, from 1, and when it began; `None` where nothing was told of it.
    fn known(&self, label: StepLabel<'_>) -> Option<(usize, Instant)> {
        let steps = self.steps.borrow();
        let is_it = |step: &Told| {
            // Of several platforms each has the stage.
            let same_stage = step.stage == label.stage_index && step.named == label.stage;
            same_stage && step.number == label.number
        };
        let at = steps.iter().position(is_it)?;
        steps.get(at).map(|step| (at + 1, step.began))
    }

    /// The same, and says what it is where it is new.
    fn step(&self, label: StepLabel<'_>) -> (usize, Instant) {
        if let Some(known) = self.known(label) {
            return known;
        }
        let began = Instant::now();
        let mut steps = self.steps.borrow_mut();
        steps.push(Told {
            stage: label.stage_index,
            named: label.stage.to_owned(),
            number: label.number,
            began,
        });
        let number = steps.len();
        drop(steps);
        let news = StepNews::Began(label.to_string());
        self.emit(EventKind::Building(BuildStep { number, news }));
        (number, began)
    }

    /// Hears that a step begins, which may have waited until now.
    fn begin(&self, label: StepLabel<'_>) {
        let (number, _) = self.step(label);
        if let Some(step) = self.steps.borrow_mut().get_mut(number - 1) {
            step.began = Instant::now();
        }
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
            BuildEvent::Looking(label) | BuildEvent::Started(label) => self.begin(label),
            BuildEvent::Waiting(label, holder) => self.tell(label, StepNews::Waits(holder)),
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
            BuildEvent::Broke(label, why) => self.tell(label, StepNews::Broke(why.to_owned())),
            BuildEvent::CutOff(label) => {
                // One that had not begun was only looked for.
                if self.known(label).is_some() {
                    self.tell(label, StepNews::CutOff);
                }
            }
            BuildEvent::Pulling { image, blob, state } => {
                let mut pulls = self.pulls.borrow_mut();
                let told = pulls.entry(image.to_owned()).or_default();
                tell_layer(image, blob, state, told, self.events);
            }
            BuildEvent::Stored(id, names) => self.stored(id, names),
            BuildEvent::Note(text) => self.emit(EventKind::Line(text.to_owned())),
            BuildEvent::Warning(text) => self.emit(EventKind::Warning(text.to_owned())),
            BuildEvent::Lint(warning, file) => {
                self.emit(EventKind::Remark(Box::new(remark(warning, file))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is told, as plain text.
    #[derive(Default)]
    struct Kept(RefCell<Vec<String>>);

    impl EventSink for Kept {
        fn emit(&self, event: Event) {
            if let EventKind::Building(step) = event.kind {
                self.0.borrow_mut().push(step.to_string());
            }
        }
    }

    #[test]
    fn stages_of_one_name_have_steps_of_their_own() {
        let kept = Kept::default();
        let events = BuildEvents::new("image", &kept);
        let label = |stage_index, number| StepLabel {
            number,
            total: 2,
            stage: "same",
            stage_index,
            text: "RUN x",
        };
        let began = label(0, 2);
        events.event(BuildEvent::Started(began));
        events.event(BuildEvent::Started(label(1, 2)));
        events.event(BuildEvent::Waiting(label(1, 1), Some(7)));
        events.event(BuildEvent::Waiting(label(1, 1), None));
        events.event(BuildEvent::Waiting(label(1, 1), Some(std::process::id())));
        events.event(BuildEvent::CutOff(label(1, 2)));
        // Of one that nothing was told of, nothing is told.
        events.event(BuildEvent::CutOff(label(2, 2)));
        events.event(BuildEvent::Broke(began, "no such file"));
        assert_eq!(
            kept.0.take(),
            [
                "#1 [same 2/2] RUN x",
                "#2 [same 2/2] RUN x",
                "#3 [same 1/2] RUN x",
                "#3 waiting for another build of this step (pid 7)",
                "#3 waiting for another build of this step",
                "#3 waiting for the same step, which goes on in this build already",
                "#2 CANCELED",
                "#1 ERROR: no such file",
            ]
        );
    }
}
