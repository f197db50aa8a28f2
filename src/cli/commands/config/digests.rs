//! `--resolve-image-digests` and `--lock-image-digests`: what the registries have under the names now.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::document;
use crate::cli::commands::block_on;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::engine::digests;

/// Asks the registry of every image of the project for its digest; returns each image as it is written with the reference
/// that pins it.
pub(super) fn resolve(
    context: &Context,
    project: &Value,
) -> Result<BTreeMap<String, String>, CliError> {
    let images: BTreeSet<String> = document::images(project).into_values().collect();
    let mut pinned = BTreeMap::new();
    block_on(async {
        let answers = digests::pin(&images, &context.environment).await;
        pinned = answers.map_err(|failures| {
            CliError::Several(failures.into_iter().map(CliError::from).collect())
        })?;
        Ok(())
    })?;
    Ok(pinned)
}
