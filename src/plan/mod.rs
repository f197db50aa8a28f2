//! Planning: what is wanted × what is there → steps. Pure: decides everything, changes nothing.
//!
//! ```text
//! Stack × Observed × Options ─images─────> Plan of pulls and builds ─┐ applied; then observed again,
//! Stack × Observed × Options ─containers─> Plan of all the rest     <┘ so that image ids are known
//! Observed (× Stack) × Options ─teardown, lifecycle─> Plan
//! ```
//!
//! A [`Plan`] is specific enough that applying it takes no decision. Recovery from any crash is to observe and plan again:
//! every state that a plan can leave behind when it is cut off, a half-made replacement among them, is a state that
//! planning takes as input.
//!
//! In reading order: [`observed`], [`options`], [`action`], [`cause`], [`graph`] (order of services), [`fingerprint`] and
//! [`redact`] (what changed, shown safely), [`naming`]; then the decisions, one file a kind: [`images`], [`networks`],
//! [`volumes`], [`containers`], [`prune`], [`teardown`], [`lifecycle`], [`boot`]; `starts` gives the order of
//! starts and stops, `draft` turns all into ordered steps.
//!
//! This room must never touch a file, the clock, the environment, a process or a thread, print, or ask.

pub mod action;
pub mod bake;
pub mod boot;
pub mod cause;
pub mod containers;
mod draft;
pub mod error;
pub mod fingerprint;
pub mod graph;
pub mod images;
pub mod lifecycle;
pub mod naming;
pub mod networks;
pub mod observed;
pub mod options;
pub mod prune;
pub mod redact;
mod starts;
pub mod teardown;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod volumes;

use std::fmt;

use action::{Action, Resource};
use cause::Cause;
use error::Warning;

/// What is to be done, in topological order: a step names only steps before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps; `steps[n].id` is `n + 1`.
    pub steps: Vec<Step>,
    /// What is as it should be, to be shown as `Running` or `Exists`.
    pub unchanged: Vec<Resource>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// Number of a step in its plan, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(pub u32);

/// One operation, why it is done and what it waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// What is done.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// What it waits for, in ascending order of steps.
    pub after: Vec<After>,
    /// Its place in a sequence that is shown as one.
    pub part: Part,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// That step has succeeded; if it fails, this one is not done. Shown as `3`.
    Success(StepId),
    /// That step has ended, well or not. Shown as `~3`.
    End(StepId),
    /// That step has failed; if it succeeds, this one is not needed, and if it fails, that is no error. Shown as `!3`.
    Failure(StepId),
}

/// A step's place in the replacement of a container, which is shown as one `Recreate … Recreated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Shown by itself.
    Whole,
    /// Begins the replacement.
    First,
    /// Shown only when it fails.
    Middle,
    /// Ends the replacement.
    Last,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl After {
    /// Returns the step that is waited for.
    pub fn step(self) -> StepId {
        match self {
            Self::Success(step) | Self::End(step) | Self::Failure(step) => step,
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success(step) => write!(f, "{}", step.0),
            Self::End(step) => write!(f, "~{}", step.0),
            Self::Failure(step) => write!(f, "!{}", step.0),
        }
    }
}

/// One line: `[1,2] -> #3 create container demo-web-1: no container yet`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, after) in self.after.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{after}")?;
        }
        write!(f, "] -> {} {}: {}", self.id, self.action, self.cause)
    }
}

/// One line a step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}
