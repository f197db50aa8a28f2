//! How steps name their stage where an image of several platforms is built, and what of several builds at once is told but once.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::super::dockerfile::expand::Variables;
use super::super::manifest::Platform;
use super::builder::Build;
use super::plan::{Base, PlannedStage};
use super::stage::StageState;
use super::{BuildEvent, BuildProgress, StepLabel};

impl Build<'_> {
    /// Returns what labels call a stage whose `state` is known once it has begun: its name where the build has `several` stages; where it is
    /// for several platforms with its own in front, and behind an arrow what it compiles for, once it asks for that (BuildKit
    /// `dockerfile2llb`, `prefixCommand`).
    pub(super) fn stage_label(
        &self,
        stage: &PlannedStage,
        several: bool,
        state: Option<&StageState>,
    ) -> String {
        let mut parts = Vec::new();
        if self.request.is_several() {
            let own = match (&stage.base, state) {
                (Base::Stage(_), Some(state)) => state.config.platform(),
                _ => self.asked_platform(stage),
            };
            let target = state.and_then(|state| target(state.variables(), &own));
            parts.push(format!("{own}{}", target.unwrap_or_default()));
        }
        if several {
            parts.push(stage.name.clone());
        }
        parts.join(" ")
    }

    /// Returns the platform that a stage asks for.
    fn asked_platform(&self, stage: &PlannedStage) -> Platform {
        let asked = stage.platform.as_deref().map(Platform::parse);
        match asked {
            Some(Ok(platform)) => platform,
            // One that is wrong fails where the base is looked for.
            Some(Err(_)) | None => self.request.platform.clone(),
        }
    }
}

/// Returns `->arm64`, where the variables of a stage for `own` say that it compiles for something else.
fn target(variables: &Variables, own: &Platform) -> Option<String> {
    let value = |name: &str| variables.get(name).map(String::as_str);
    let target = if let Some(text) = value("TARGETPLATFORM") {
        Platform::parse(text).ok()?
    } else {
        let named = ["TARGETOS", "TARGETARCH", "TARGETVARIANT"];
        named.into_iter().find_map(value)?;
        Platform::normalized(
            value("TARGETOS").unwrap_or(&own.os),
            value("TARGETARCH").unwrap_or(&own.architecture),
            value("TARGETVARIANT").filter(|variant| !variant.is_empty()),
        )
    };
    let whole = target.to_string();
    if target.os != own.os {
        return Some(format!("->{whole}"));
    }
    let rest = whole
        .split_once('/')
        .map_or(whole.as_str(), |(_, rest)| rest);
    (target.architecture != own.architecture).then(|| format!("->{rest}"))
}

/// Tells of the builds for several platforms: a step that they share is one step, and a warning that all of them have is one warning.
pub(super) struct Merged<'a> {
    progress: &'a dyn BuildProgress,
    /// Labels of steps that have ended, and what was said.
    told: RefCell<BTreeSet<String>>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(progress: &'a dyn BuildProgress) -> Self {
        Self {
            progress,
            told: RefCell::default(),
        }
    }

    fn is_new(&self, what: String) -> bool {
        self.told.borrow_mut().insert(what)
    }

    fn has_ended(&self, label: StepLabel<'_>) -> bool {
        self.told.borrow().contains(&label.to_string())
    }
}

/// Returns what is remembered of a step that has begun.
fn begun(label: StepLabel<'_>) -> String {
    format!("began {label}")
}

impl BuildProgress for Merged<'_> {
    fn event(&self, event: BuildEvent<'_>) {
        let is_wanted = match event {
            BuildEvent::Started(label) => {
                self.is_new(begun(label));
                !self.has_ended(label)
            }
            BuildEvent::Looking(label) | BuildEvent::Explained(label, _) => !self.has_ended(label),
            // For another of these builds nobody needs to know.
            BuildEvent::Waiting(label, _) => !self.told.borrow().contains(&begun(label)),
            BuildEvent::Cached(label)
            | BuildEvent::Done(label, _)
            | BuildEvent::Failed { step: label, .. }
            | BuildEvent::Broke(label, _)
            | BuildEvent::CutOff(label) => self.is_new(label.to_string()),
            BuildEvent::Note(text) | BuildEvent::Warning(text) => self.is_new(text.to_owned()),
            BuildEvent::Lint(warning, _) => self.is_new(format!("{warning:?}")),
            BuildEvent::Output(..) | BuildEvent::Pulling { .. } | BuildEvent::Stored(..) => true,
        };
        if is_wanted {
            self.progress.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_shows_what_is_compiled_for() {
        let own = Platform::parse("linux/amd64").unwrap();
        for (variables, expected) in [
            (&[][..], None),
            (&[("TARGETPLATFORM", "linux/amd64")], None),
            (&[("TARGETPLATFORM", "linux/arm/v6")], Some("->arm/v6")),
            (&[("TARGETARCH", "arm64")], Some("->arm64")),
            (&[("TARGETOS", "linux")], None),
            (&[("TARGETOS", "windows")], Some("->windows/amd64")),
        ] {
            let variables: Variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(target(&variables, &own).as_deref(), expected);
        }
    }
}
