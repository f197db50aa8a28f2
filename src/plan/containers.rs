//! Containers of `up` and `create`, with the networks and volumes they need.

use super::Plan;
use super::error::PlanError;
use super::observed::Observed;
use super::options::UpOptions;
use crate::spec::model::Stack;

/// Plans networks, volumes and containers; the images are there by now.
pub fn containers(
    _stack: &Stack,
    _observed: &Observed,
    _options: &UpOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}
