//! `stop`, `start` and `restart`: the same containers, nothing made or removed.

use super::Plan;
use super::error::PlanError;
use super::observed::Observed;
use super::options::LifecycleOptions;
use crate::spec::model::Stack;

/// Plans `stop`; without a file the order is known from labels.
pub fn stop(
    _stack: Option<&Stack>,
    _observed: &Observed,
    _options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}

/// Plans `start`.
pub fn start(
    _stack: Option<&Stack>,
    _observed: &Observed,
    _options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}

/// Plans `restart`.
pub fn restart(
    _stack: Option<&Stack>,
    _observed: &Observed,
    _options: &LifecycleOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}
