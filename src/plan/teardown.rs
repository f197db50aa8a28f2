//! `down`: everything of a project goes, dependents first; what fails stops only what cannot go without it.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, AnonymousVolumes};
use super::cause::Cause;
use super::draft::Draft;
use super::error::{PlanError, Warning};
use super::graph::ServiceGraph;
use super::lifecycle::check_services;
use super::observed::{ContainerId, Observed, ObservedContainer};
use super::options::DownOptions;
use super::starts::order_stops;
use super::volumes;
use super::{After, Plan, StepId};
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::names::ProjectName;

/// Plans `down`; without a file everything is known from labels.
///
/// The order is that of the labels, hence of what runs, not of a file that may have changed since. External networks and
/// volumes are never removed, nor are those that carry another project's label or none.
pub fn teardown(
    project: &ProjectName,
    stack: Option<&Stack>,
    observed: &Observed,
    options: &DownOptions,
) -> Result<Plan, PlanError> {
    check_services(stack, observed, &options.services)?;
    let graph = ServiceGraph::of_labels(observed);
    let down = Down {
        project,
        stack,
        observed,
        options,
        services: match stack {
            // With a file, dependents of a named service stay; without one, nobody says that they can.
            Some(_) => options.services.iter().cloned().collect(),
            None => graph.with_dependents(&options.services.iter().cloned().collect()),
        },
    };
    let mut draft = Draft::default();
    let removed = down.containers(&graph, &mut draft);
    down.networks(&removed, &mut draft);
    if options.volumes {
        down.volumes(&removed, &mut draft);
    }
    if draft.steps().is_empty() && draft.warnings.is_empty() && options.services.is_empty() {
        draft.warnings.push(Warning::NothingToRemove {
            project: project.to_string(),
        });
    }
    draft.finish()
}

/// What `down` looks at.
struct Down<'a> {
    project: &'a ProjectName,
    stack: Option<&'a Stack>,
    observed: &'a Observed,
    options: &'a DownOptions,
    /// Services meant; all where empty.
    services: BTreeSet<String>,
}

/// What is to become of a container.
enum Meant {
    Goes,
    Stays,
    Orphan,
}

impl Down<'_> {
    /// Adds stops and removals of containers; returns the step that removes each.
    fn containers(&self, graph: &ServiceGraph, draft: &mut Draft) -> BTreeMap<ContainerId, StepId> {
        let mut removed = BTreeMap::new();
        let mut orphans = Vec::new();
        let mut stops: BTreeMap<String, Vec<StepId>> = BTreeMap::new();
        // Shown in the order it is done: dependents first.
        let order: BTreeMap<&str, usize> = graph
            .order()
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str(), index))
            .collect();
        let mut containers: Vec<_> = self.observed.containers.iter().collect();
        containers.sort_by_key(|c| {
            let place = order.get(c.service.as_str()).copied().unwrap_or(0);
            (std::cmp::Reverse(place), c.number, &c.name)
        });
        for container in containers {
            match self.meant(container) {
                Meant::Goes => {}
                Meant::Stays => continue,
                Meant::Orphan => {
                    orphans.push(container.name.clone());
                    continue;
                }
            }
            let mut after = Vec::new();
            if container.is_live() {
                let action = Action::StopContainer {
                    container: container.id.clone(),
                    name: container.name.clone(),
                    timeout: self.options.timeout,
                };
                let stop = draft.add(action, Cause::Command("down"), &[]);
                let of = stops.entry(container.service.clone()).or_default();
                of.push(stop);
                after.push(After::Success(stop));
            }
            let action = Action::RemoveContainer {
                container: container.id.clone(),
                name: container.name.clone(),
                anonymous_volumes: if self.options.volumes {
                    AnonymousVolumes::Remove
                } else {
                    AnonymousVolumes::Keep
                },
            };
            let remove = draft.add(action, Cause::Command("down"), &after);
            removed.insert(container.id.clone(), remove);
        }
        order_stops(graph, &stops, draft);
        if !orphans.is_empty() {
            draft.warnings.push(Warning::Orphans {
                project: self.project.to_string(),
                containers: orphans,
            });
        }
        removed
    }

    /// Decides on one container.
    fn meant(&self, container: &ObservedContainer) -> Meant {
        if container.oneoff {
            return if self.options.remove_orphans {
                Meant::Goes
            } else {
                Meant::Stays
            };
        }
        let service = container.service.as_str();
        let is_known = self
            .stack
            .is_none_or(|stack| find(stack, service).is_some());
        if !is_known {
            return if self.options.remove_orphans {
                Meant::Goes
            } else {
                Meant::Orphan
            };
        }
        if self.services.is_empty() || self.services.contains(service) {
            Meant::Goes
        } else {
            Meant::Stays
        }
    }

    /// Adds removals of networks that nobody uses any more.
    fn networks(&self, removed: &BTreeMap<ContainerId, StepId>, draft: &mut Draft) {
        let used: BTreeSet<&str> = match self.stack {
            Some(stack) => self
                .meant_services(stack)
                .flat_map(|service| service.networks.keys())
                .filter_map(|key| Some(stack.networks.get(key)?.name.as_str()))
                .collect(),
            None => BTreeSet::new(),
        };
        for network in &self.observed.networks {
            let is_external = self.stack.is_some_and(|stack| {
                let mut all = stack.networks.values();
                all.any(|n| n.external && n.name == network.name)
            });
            let is_ours = network.project.as_deref() == Some(self.project.as_str());
            let is_meant = self.services.is_empty()
                || used.contains(network.name.as_str())
                || network.used_by.keys().any(|id| removed.contains_key(id));
            if is_external || !is_ours || !is_meant {
                continue;
            }
            let name = network.name.clone();
            if let Some(after) = free("network", &name, &network.used_by, removed, draft) {
                let action = Action::RemoveNetwork { name };
                draft.add(action, Cause::Command("down"), &after);
            }
        }
    }

    /// Adds removals of the volumes that the file declares or, without one, that carry the project's label.
    fn volumes(&self, removed: &BTreeMap<ContainerId, StepId>, draft: &mut Draft) {
        for volume in &self.observed.volumes {
            let is_meant = match self.stack {
                Some(stack) if self.services.is_empty() => {
                    let mut all = stack.volumes.values();
                    all.any(|v| !v.external && v.name == volume.name)
                }
                Some(stack) => self.meant_services(stack).any(|service| {
                    let mut keys = volumes::used(service);
                    keys.any(|key| {
                        let declared = stack.volumes.get(key);
                        declared.is_some_and(|v| !v.external && v.name == volume.name)
                    })
                }),
                None => {
                    self.services.is_empty()
                        || volume.used_by.keys().any(|id| removed.contains_key(id))
                }
            };
            if !is_meant || volume.project.as_deref() != Some(self.project.as_str()) {
                continue;
            }
            let name = volume.name.clone();
            if let Some(after) = free("volume", &name, &volume.used_by, removed, draft) {
                let action = Action::RemoveVolume { name };
                draft.add(action, Cause::Flag("--volumes"), &after);
            }
        }
    }

    /// Returns the services of the file that are meant.
    fn meant_services<'s>(&'s self, stack: &'s Stack) -> impl Iterator<Item = &'s Service> {
        let all = stack.services.iter().chain(&stack.disabled);
        let meant = all
            .filter(|(name, _)| self.services.is_empty() || self.services.contains(name.as_str()));
        meant.map(|(_, service)| service)
    }
}

/// Returns what must have gone before a resource can go, or warns that others stay on it.
fn free(
    kind: &'static str,
    name: &str,
    used_by: &BTreeMap<ContainerId, String>,
    removed: &BTreeMap<ContainerId, StepId>,
    draft: &mut Draft,
) -> Option<Vec<After>> {
    let staying = used_by.iter().filter(|(id, _)| !removed.contains_key(id));
    let staying: Vec<String> = staying.map(|(_, name)| name.clone()).collect();
    if staying.is_empty() {
        let steps = used_by.keys().filter_map(|id| removed.get(id));
        return Some(steps.map(|step| After::Success(*step)).collect());
    }
    draft.warnings.push(Warning::StillInUse {
        kind,
        name: name.to_owned(),
        used_by: staying,
    });
    None
}

/// Finds a service of the file, enabled or not.
fn find<'a>(stack: &'a Stack, service: &str) -> Option<&'a Service> {
    let enabled = stack.services.get(service);
    enabled.or_else(|| stack.disabled.get(service))
}
