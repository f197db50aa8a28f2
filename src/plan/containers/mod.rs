//! Containers of `up` and `create`, with the networks and volumes they need.
//!
//! First what becomes of each container (`decide`), then the steps (`emit`).
//!
//! A container is replaced so that nothing is lost wherever it is cut off:
//!
//! ```text
//! create NEW under a name of its own, with OLD's anonymous volumes   fails: OLD runs on
//! stop OLD                                                           cut off: NEW, made to replace OLD, is found and used
//! remove OLD, not its volumes                                        cut off: NEW is found, under its own name
//! rename NEW to OLD's name
//! start NEW
//! ```

mod decide;
mod emit;

use super::Plan;
use super::error::PlanError;
use super::graph::{Dependencies, Selection};
use super::observed::Observed;
use super::options::UpOptions;
use crate::spec::model::Stack;

/// What planning looks at.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    stack: &'a Stack,
    observed: &'a Observed,
    options: &'a UpOptions,
    selection: &'a Selection<'a>,
}

/// Plans networks, volumes and containers; the images are there by now.
pub fn containers(
    stack: &Stack,
    observed: &Observed,
    options: &UpOptions,
) -> Result<Plan, PlanError> {
    let dependencies = if options.no_deps {
        Dependencies::Leave
    } else {
        Dependencies::Follow
    };
    let selection = Selection::new(stack, &options.services, dependencies)?;
    let inputs = Inputs {
        stack,
        observed,
        options,
        selection: &selection,
    };
    let decisions = decide::decide(&inputs)?;
    emit::emit(&inputs, decisions)
}
