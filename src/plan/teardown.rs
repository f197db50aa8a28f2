//! `down`: everything of a project goes, dependents first.

use super::Plan;
use super::error::PlanError;
use super::observed::Observed;
use super::options::DownOptions;
use crate::spec::model::Stack;
use crate::spec::names::ProjectName;

/// Plans `down`; without a file everything is known from labels.
pub fn teardown(
    _project: &ProjectName,
    _stack: Option<&Stack>,
    _observed: &Observed,
    _options: &DownOptions,
) -> Result<Plan, PlanError> {
    Ok(Plan::default())
}
