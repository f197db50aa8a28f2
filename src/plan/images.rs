//! Images: what must be pulled or built before containers can be planned.

use std::collections::BTreeSet;

use super::Plan;
use super::error::PlanError;
use super::observed::Observed;
use super::options::{ImageOptions, UpOptions};
use crate::spec::model::Stack;

/// Returns every image reference that planning looks up in [`Observed::images`].
pub fn references(_stack: &Stack) -> BTreeSet<String> {
    BTreeSet::new()
}

/// Plans the pulls and builds of `up` and `create`.
pub fn images(
    _stack: &Stack,
    _observed: &Observed,
    _options: &UpOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}

/// Plans `pull`.
pub fn pull(
    _stack: &Stack,
    _observed: &Observed,
    _options: &ImageOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}

/// Plans `build`.
pub fn build(_stack: &Stack, _options: &ImageOptions) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}
