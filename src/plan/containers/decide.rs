//! What becomes of each container.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Inputs;
use crate::plan::cause::Cause;
use crate::plan::error::{PlanError, Warning};
use crate::plan::fingerprint::{self, Change, Fields};
use crate::plan::graph;
use crate::plan::naming;
use crate::plan::observed::{ContainerId, ObservedContainer, State};
use crate::plan::options::Recreate;
use crate::spec::model::service::{NetworkMode, Service};
use crate::spec::names::ServiceName;

/// The most containers of one service: each is three processes, and Linux numbers 32,768 unless told otherwise.
const MAX_SCALE: u32 = 10_000;

/// Every decision of one `up`.
pub(super) struct Decisions<'a> {
    /// Dependencies before dependents.
    pub(super) services: Vec<ServiceDecision<'a>>,
    /// Containers of no service that go.
    pub(super) orphans: Vec<Removal<'a>>,
    /// What the user should know.
    pub(super) warnings: Vec<Warning>,
}

/// What becomes of one service's containers.
pub(super) struct ServiceDecision<'a> {
    /// Its name.
    pub(super) name: &'a ServiceName,
    /// What it asks for.
    pub(super) service: &'a Service,
    /// The same as fields.
    pub(super) asked: Fields,
    /// Image as the file has it.
    pub(super) image: String,
    /// Its id.
    pub(super) image_id: String,
    /// The containers it will have.
    pub(super) members: Vec<Member<'a>>,
    /// The containers that go.
    pub(super) removals: Vec<Removal<'a>>,
}

/// One container that a service will have.
pub(super) struct Member<'a> {
    /// From 1.
    pub(super) number: u32,
    /// The name it will have.
    pub(super) name: String,
    /// Where it comes from.
    pub(super) fate: Fate<'a>,
    /// Whose network namespace it joins.
    pub(super) donor: Option<Donor>,
}

/// Where a container comes from.
pub(super) enum Fate<'a> {
    /// It is there.
    Keep {
        /// Which.
        container: &'a ObservedContainer,
        /// Why it is stopped and started, if it is.
        restart: Option<Cause>,
    },
    /// A new one takes the place of one that is there.
    Recreate {
        /// The one that is there.
        old: &'a ObservedContainer,
        /// Why.
        cause: Cause,
    },
    /// One that was made to take another's place, and is as it should be, takes it now.
    Resume {
        /// The one whose place it takes.
        old: &'a ObservedContainer,
        /// The one that was made.
        new: &'a ObservedContainer,
    },
    /// It is made.
    Create,
}

/// A container that goes.
pub(super) struct Removal<'a> {
    /// Which.
    pub(super) container: &'a ObservedContainer,
    /// Why.
    pub(super) cause: Cause,
}

/// The container whose network namespace another joins.
#[derive(Clone)]
pub(super) struct Donor {
    /// Its service.
    pub(super) service: String,
    /// Its number.
    number: u32,
    /// Its id, unless it is made by this plan.
    pub(super) existing: Option<ContainerId>,
}

/// A container with the reason for which it must be replaced, and the one that was made to replace it.
struct Candidate<'a> {
    container: &'a ObservedContainer,
    why: Option<Cause>,
    successor: Option<&'a ObservedContainer>,
}

/// Decides for every selected service, and for orphans.
pub(super) fn decide<'a>(inputs: &Inputs<'a>) -> Result<Decisions<'a>, PlanError> {
    check_names(inputs)?;
    let mut by_service: BTreeMap<&str, Vec<&ObservedContainer>> = BTreeMap::new();
    for container in inputs.observed.containers.iter().filter(|c| !c.oneoff) {
        let of = by_service.entry(container.service.as_str()).or_default();
        of.push(container);
    }
    let mut decided: Vec<ServiceDecision<'a>> = Vec::new();
    for (name, service) in &inputs.selection.services {
        let existing = by_service.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        let deciding = Deciding {
            inputs,
            name,
            service,
            decided: &decided,
            asked: fingerprint::service(inputs.stack, service, inputs.options),
            image: naming::image_reference(inputs.stack, name, service),
            networks: network_names(inputs, service),
        };
        let decision = deciding.service(existing)?;
        decided.push(decision);
    }
    let (orphans, warnings) = orphans(inputs);
    Ok(Decisions {
        services: decided,
        orphans,
        warnings,
    })
}

/// One service while it is decided on.
struct Deciding<'a, 'd> {
    inputs: &'d Inputs<'a>,
    name: &'a ServiceName,
    service: &'a Service,
    decided: &'d [ServiceDecision<'a>],
    asked: Fields,
    image: String,
    networks: BTreeSet<String>,
}

impl<'a> Deciding<'a, '_> {
    /// Decides on all containers of the service.
    fn service(self, existing: &[&'a ObservedContainer]) -> Result<ServiceDecision<'a>, PlanError> {
        let image_id = self.image_id()?;
        let (mut candidates, mut removals) = self.candidates(existing, &image_id)?;
        let scale = self.scale()?;
        // Those that are as they should be are kept first, then the lowest numbers.
        candidates.sort_by_key(|c| (c.why.is_some(), c.container.number));
        let next = existing.iter().map(|c| c.number).max().unwrap_or(0);
        let kept = candidates.len().min(scale as usize);
        for extra in candidates.split_off(kept) {
            let containers = [Some(extra.container), extra.successor];
            removals.extend(containers.into_iter().flatten().map(|container| Removal {
                container,
                cause: Cause::ScaleDown { to: scale },
            }));
        }
        candidates.sort_by_key(|candidate| candidate.container.number);
        let mut members = Vec::new();
        for candidate in candidates {
            members.push(self.member(candidate, &image_id, &mut removals)?);
        }
        let missing = scale.saturating_sub(u32::try_from(members.len()).unwrap_or(u32::MAX));
        for number in (next.saturating_add(1)..).take(missing as usize) {
            members.push(Member {
                number,
                name: self.container_name(number),
                fate: Fate::Create,
                donor: self.donor(number)?,
            });
        }
        Ok(ServiceDecision {
            name: self.name,
            service: self.service,
            asked: self.asked,
            image: self.image,
            image_id,
            members,
            removals,
        })
    }

    /// Pairs each container with the one made to replace it, and finds those that are there twice.
    fn candidates(
        &self,
        existing: &[&'a ObservedContainer],
        image_id: &str,
    ) -> Result<(Vec<Candidate<'a>>, Vec<Removal<'a>>), PlanError> {
        let ids: BTreeSet<&ContainerId> = existing.iter().map(|c| &c.id).collect();
        let replaces = |container: &ObservedContainer| {
            let old = container.replaces.as_ref();
            old.filter(|old| ids.contains(old) && **old != container.id)
                .cloned()
        };
        let mut removals = Vec::new();
        let mut successors: BTreeMap<ContainerId, &'a ObservedContainer> = BTreeMap::new();
        for container in existing {
            if let Some(old) = replaces(container)
                && let Some(second) = successors.insert(old, container)
            {
                removals.push(interrupted(second));
            }
        }
        let mut by_number: BTreeMap<u32, Candidate<'a>> = BTreeMap::new();
        for container in existing.iter().filter(|c| replaces(c).is_none()) {
            let candidate = Candidate {
                container,
                why: self.why(container, image_id)?,
                successor: successors.get(&container.id).copied(),
            };
            let worse = match by_number.remove(&container.number) {
                Some(other) if is_better(&other, &candidate) => {
                    by_number.insert(container.number, other);
                    Some(candidate)
                }
                other => {
                    by_number.insert(container.number, candidate);
                    other
                }
            };
            let worse = worse.into_iter();
            let containers = worse.flat_map(|c| [Some(c.container), c.successor]);
            removals.extend(containers.flatten().map(interrupted));
        }
        Ok((by_number.into_values().collect(), removals))
    }

    /// Decides on one container that stays or is replaced.
    fn member(
        &self,
        candidate: Candidate<'a>,
        image_id: &str,
        removals: &mut Vec<Removal<'a>>,
    ) -> Result<Member<'a>, PlanError> {
        let Candidate {
            container,
            why,
            successor,
        } = candidate;
        let donor = self.donor(container.number)?;
        let usable = match successor {
            Some(successor) => self.is_usable(successor, image_id, donor.as_ref()),
            None => false,
        };
        let fate = match (why, successor) {
            (Some(_), Some(new)) if usable => Fate::Resume {
                old: container,
                new,
            },
            (why, successor) => {
                removals.extend(successor.map(interrupted));
                match why {
                    Some(cause) => Fate::Recreate {
                        old: container,
                        cause,
                    },
                    None => Fate::Keep {
                        container,
                        restart: self.restart(container),
                    },
                }
            }
        };
        Ok(Member {
            number: container.number,
            name: self.container_name(container.number),
            fate,
            donor,
        })
    }

    /// Why a container must be replaced, policy and all.
    fn why(
        &self,
        container: &ObservedContainer,
        image_id: &str,
    ) -> Result<Option<Cause>, PlanError> {
        let options = self.inputs.options;
        let named = self.inputs.selection.is_named(self.name.as_str());
        match (named, options.recreate) {
            (true, Recreate::Never) => return Ok(None),
            (true, Recreate::Always) => return Ok(Some(Cause::Flag("--force-recreate"))),
            (true, Recreate::Changed) | (false, _) => {}
        }
        if !named && options.always_recreate_deps {
            return Ok(Some(Cause::Flag("--always-recreate-deps")));
        }
        if options.renew_anonymous_volumes {
            return Ok(Some(Cause::Flag("--renew-anon-volumes")));
        }
        let donor = self.donor(container.number)?;
        Ok(self.difference(container, image_id, donor.as_ref()))
    }

    /// How a container differs from what is asked for.
    fn difference(
        &self,
        container: &ObservedContainer,
        image_id: &str,
        donor: Option<&Donor>,
    ) -> Option<Cause> {
        if container.state == State::Unknown {
            return Some(Cause::Unreadable);
        }
        let mut changes = fingerprint::compare(&container.asked, &self.asked);
        if container.image_id != image_id {
            changes.push(Change {
                path: "image id".to_owned(),
                old: Some(short_image(&container.image_id)),
                new: Some(short_image(image_id)),
            });
        }
        if !changes.is_empty() {
            return Some(Cause::Changed(changes));
        }
        if let Some(donor) = donor
            && (donor.existing.is_none() || donor.existing != container.network_of)
        {
            return Some(Cause::DonorReplaced {
                service: donor.service.clone(),
            });
        }
        if !matches!(container.state, State::Running(_)) {
            return None;
        }
        let missing = self.networks.difference(&container.networks).next()?;
        Some(Cause::NotAttached {
            network: missing.clone(),
        })
    }

    /// Whether a container that was made to take another's place can take it.
    fn is_usable(
        &self,
        successor: &ObservedContainer,
        image_id: &str,
        donor: Option<&Donor>,
    ) -> bool {
        // One that has run is not the fresh one that was asked for; one that inherited is not with renewed volumes.
        successor.state == State::Created
            && !self.inputs.options.renew_anonymous_volumes
            && self.difference(successor, image_id, donor).is_none()
    }

    /// Why a container that is kept must be stopped and started.
    fn restart(&self, container: &ObservedContainer) -> Option<Cause> {
        let options = self.inputs.options;
        if options.no_start || options.no_deps || !container.is_live() {
            return None;
        }
        let dependencies = graph::service_dependencies(self.service).into_iter();
        let mut restarting = dependencies.filter(|(_, dependency)| dependency.restart);
        let (service, _) = restarting.find(|(name, _)| {
            let members = self.members_of(name).into_iter().flatten();
            members
                .map(|member| &member.fate)
                .any(|fate| matches!(fate, Fate::Recreate { .. } | Fate::Resume { .. }))
        })?;
        Some(Cause::DependencyReplaced { service })
    }

    /// Returns the container whose network namespace the container of this number joins.
    fn donor(&self, number: u32) -> Result<Option<Donor>, PlanError> {
        let Some(NetworkMode::Service(donor)) = &self.service.network_mode else {
            return Ok(None);
        };
        let found = match self.members_of(donor.as_str()) {
            Some(members) => members
                .iter()
                .find(|member| member.number == number)
                .or(members.first())
                .map(|member| donor_member(donor, member)),
            None => self.donor_observed(donor),
        };
        found.map(Some).ok_or_else(|| PlanError::DonorMissing {
            service: self.name.to_string(),
            donor: donor.to_string(),
        })
    }

    /// A donor that this plan leaves alone (`--no-deps`).
    fn donor_observed(&self, service: &ServiceName) -> Option<Donor> {
        let containers = self.inputs.observed.containers.iter();
        let of = containers.filter(|c| !c.oneoff && c.service == service.as_str());
        let container = of.min_by_key(|c| (!c.is_live(), c.number))?;
        Some(Donor {
            service: service.to_string(),
            number: container.number,
            existing: Some(container.id.clone()),
        })
    }

    /// Returns what was decided on a service, if it is selected and came before.
    fn members_of(&self, service: &str) -> Option<&[Member<'a>]> {
        let decision = self.decided.iter().find(|d| d.name.as_str() == service)?;
        Some(&decision.members)
    }

    /// Returns how many containers the service is to have.
    fn scale(&self) -> Result<u32, PlanError> {
        let asked = self.inputs.options.scale.get(self.name.as_str()).copied();
        let scale = asked.or(self.service.scale).unwrap_or(1);
        match &self.service.container_name {
            Some(container) if scale > 1 => Err(PlanError::NameWithScale {
                service: self.name.to_string(),
                container: container.clone(),
                scale,
            }),
            _ if scale > MAX_SCALE => Err(PlanError::TooMany {
                service: self.name.to_string(),
                scale,
                limit: MAX_SCALE,
            }),
            _ => Ok(scale),
        }
    }

    /// Returns the id of the service's image.
    fn image_id(&self) -> Result<String, PlanError> {
        let observed = self.inputs.observed;
        let asked = self.service.platform.as_deref();
        if let Some(found) = observed.other_platform(&self.image, asked) {
            return Err(PlanError::Platform {
                image: self.image.clone(),
                service: self.name.to_string(),
                asked: asked.unwrap_or_default().to_owned(),
                found: found.to_owned(),
            });
        }
        let id = observed.image(&self.image, asked).cloned();
        id.ok_or_else(|| PlanError::Image {
            image: self.image.clone(),
            service: self.name.to_string(),
            reason: "nothing has pulled or built it",
        })
    }

    /// Returns the name of the container of this number.
    fn container_name(&self, number: u32) -> String {
        naming::container_name(self.inputs.stack, self.name, self.service, number)
    }
}

impl Donor {
    /// Whether it has this number among its service's containers.
    pub(super) fn is_number(&self, number: u32) -> bool {
        self.number == number
    }
}

/// A donor that this plan decides on.
fn donor_member(service: &ServiceName, member: &Member<'_>) -> Donor {
    let existing = match &member.fate {
        Fate::Keep { container, .. } => Some(container.id.clone()),
        Fate::Resume { new, .. } => Some(new.id.clone()),
        Fate::Recreate { .. } | Fate::Create => None,
    };
    Donor {
        service: service.to_string(),
        number: member.number,
        existing,
    }
}

/// A container that an interrupted replacement has left.
fn interrupted(container: &ObservedContainer) -> Removal<'_> {
    Removal {
        container,
        cause: Cause::Interrupted,
    }
}

/// Which of two containers of one number is kept: the one as asked, then the one that runs, then the first id.
fn is_better(one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
    let rank = |c: &Candidate<'_>| {
        (
            c.why.is_some(),
            !c.container.is_live(),
            c.container.id.clone(),
        )
    };
    rank(one) < rank(other)
}

/// Shortens `sha256:…` to twelve digits.
fn short_image(id: &str) -> Value {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits).into()
}

/// Returns the names on the machine of a service's networks.
fn network_names(inputs: &Inputs<'_>, service: &Service) -> BTreeSet<String> {
    let keys = service.networks.keys();
    keys.filter_map(|key| Some(inputs.stack.networks.get(key)?.name.clone()))
        .collect()
}

/// Checks that no two services ask for one container name.
fn check_names(inputs: &Inputs<'_>) -> Result<(), PlanError> {
    let mut names: BTreeMap<&str, &ServiceName> = BTreeMap::new();
    for (name, service) in &inputs.selection.services {
        let Some(container) = &service.container_name else {
            continue;
        };
        if let Some(first) = names.insert(container, name) {
            return Err(PlanError::NameTwice {
                first: first.to_string(),
                second: name.to_string(),
                container: container.clone(),
            });
        }
    }
    Ok(())
}

/// Finds containers whose service the file does not have, and one-off ones that have ended.
fn orphans<'a>(inputs: &Inputs<'a>) -> (Vec<Removal<'a>>, Vec<Warning>) {
    let stack = inputs.stack;
    let is_known = |service: &str| {
        stack.services.contains_key(service) || stack.disabled.contains_key(service)
    };
    let is_orphan = |container: &&ObservedContainer| {
        if container.oneoff {
            matches!(container.state, State::Exited { .. })
        } else {
            !is_known(&container.service)
        }
    };
    let found: Vec<_> = inputs
        .observed
        .containers
        .iter()
        .filter(is_orphan)
        .collect();
    if inputs.options.remove_orphans {
        let removals = found.into_iter().map(|container| Removal {
            container,
            cause: Cause::Orphan {
                service: container.service.clone(),
            },
        });
        return (removals.collect(), Vec::new());
    }
    let mut names: Vec<String> = found.into_iter().map(|c| c.name.clone()).collect();
    names.sort();
    let is_told = !names.is_empty() && !inputs.options.ignore_orphans;
    let warning = is_told.then(|| Warning::Orphans {
        project: stack.name.to_string(),
        containers: names,
    });
    (Vec::new(), warning.into_iter().collect())
}
