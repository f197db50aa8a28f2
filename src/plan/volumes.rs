//! Volumes: made when they are not there, never made anew, removed only on their own explicit option.

use std::collections::{BTreeMap, BTreeSet};

use super::StepId;
use super::action::{Action, VolumeSpec};
use super::cause::Cause;
use super::draft::Draft;
use super::error::{PlanError, Warning};
use super::fingerprint;
use super::naming;
use super::observed::Observed;
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;
use crate::spec::names::VolumeKey;

/// The steps that make volumes, by key.
pub(super) type VolumeSteps = BTreeMap<VolumeKey, StepId>;

/// Returns the keys of the named volumes that a service mounts.
pub(super) fn used(service: &Service) -> impl Iterator<Item = &VolumeKey> {
    service
        .volumes
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { source, .. } => source.as_ref(),
            MountSource::Bind { .. } | MountSource::Tmpfs { .. } => None,
        })
}

/// Adds the steps for the volumes of `keys`.
pub(super) fn volumes(
    stack: &Stack,
    observed: &Observed,
    keys: &BTreeSet<&VolumeKey>,
    draft: &mut Draft,
) -> Result<VolumeSteps, PlanError> {
    let mut steps = VolumeSteps::new();
    for key in keys {
        let Some(volume) = stack.volumes.get(*key) else {
            continue;
        };
        let name = volume.name.clone();
        let there = observed.volumes.iter().find(|there| there.name == name);
        match there {
            None if volume.external => return Err(PlanError::ExternalVolume { name }),
            None => {
                let labels =
                    naming::resource_labels(stack, naming::VOLUME, key.as_str(), &volume.labels);
                let action = Action::CreateVolume(VolumeSpec { name, labels });
                let step = draft.add(action, Cause::Missing, &[]);
                steps.insert((*key).clone(), step);
            }
            Some(_) if volume.external => {}
            Some(there) if there.project.as_deref() != Some(stack.name.as_str()) => {
                let project = stack.name.to_string();
                draft
                    .warnings
                    .push(Warning::ForeignVolume { name, project });
            }
            Some(there) => {
                let asked = fingerprint::volume(&volume.labels);
                let changes = fingerprint::compare(&there.asked, &asked);
                if !changes.is_empty() {
                    draft.warnings.push(Warning::VolumeKept { name, changes });
                }
            }
        }
    }
    Ok(steps)
}
