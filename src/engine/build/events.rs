//! A build's progress as events.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::tell_layer;
use crate::images::BlobState;
use crate::images::build::{BuildEvent, BuildProgress};

/// Tells an [`EventSink`] what a build tells.
pub(crate) struct BuildEvents<'a> {
    image: &'a str,
    events: &'a dyn EventSink,
    /// Pulls of base images, by name.
    pulls: RefCell<BTreeMap<String, BTreeMap<String, BlobState>>>,
}

impl<'a> BuildEvents<'a> {
    /// Tells `events` about the build of `image`.
    pub(crate) fn new(image: &'a str, events: &'a dyn EventSink) -> Self {
        Self {
            image,
            events,
            pulls: RefCell::default(),
        }
    }
}

impl BuildProgress for BuildEvents<'_> {
    fn event(&self, event: BuildEvent<'_>) {
        let emit = |kind| {
            self.events.emit(Event {
                subject: Subject::Build(self.image.to_owned()),
                kind,
            });
        };
        match event {
            BuildEvent::Started(step) => emit(EventKind::Line(step.to_string())),
            BuildEvent::Cached(step) => emit(EventKind::Line(format!("{step}: CACHED"))),
            BuildEvent::Explained(step, why) => {
                emit(EventKind::Line(format!("{step}: not cached: {why}")));
            }
            BuildEvent::Output(_, line) => {
                emit(EventKind::Line(String::from_utf8_lossy(line).into_owned()));
            }
            BuildEvent::Done(step, time) => {
                emit(EventKind::Line(format!(
                    "[{}/{}] DONE {:.1}s",
                    step.number,
                    step.total,
                    time.as_secs_f64()
                )));
            }
            // The error itself says this, with the step's place and its last lines.
            BuildEvent::Failed { .. } => {}
            BuildEvent::Pulling { image, blob, state } => {
                let mut pulls = self.pulls.borrow_mut();
                let told = pulls.entry(image.to_owned()).or_default();
                tell_layer(image, blob, state, told, self.events);
            }
            BuildEvent::Warning(text) => emit(EventKind::Warning(text.to_owned())),
        }
    }
}
