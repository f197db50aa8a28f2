//! The steps that bring the decisions about.

use std::collections::{BTreeMap, BTreeSet};

use super::Inputs;
use super::decide::{Decisions, Donor, Fate, Member, Removal, ServiceDecision};
use crate::plan::action::{Action, AnonymousVolumes, ContainerRef, ContainerSpec, Resource};
use crate::plan::cause::Cause;
use crate::plan::draft::Draft;
use crate::plan::error::PlanError;
use crate::plan::fingerprint;
use crate::plan::graph::{self, ServiceGraph};
use crate::plan::naming;
use crate::plan::networks::{self, NetworkSteps};
use crate::plan::observed::{ContainerId, ObservedContainer, State};
use crate::plan::starts::{Placed, Starts, order_stops};
use crate::plan::volumes::{self, VolumeSteps};
use crate::plan::{After, Part, Plan, StepId};
use crate::spec::model::service::{Condition, Restart};
use crate::spec::model::volume::MountSource;

/// Steps so far, and where to find them again.
struct Emitter<'a, 'd> {
    inputs: &'d Inputs<'a>,
    draft: Draft,
    networks: NetworkSteps,
    volumes: VolumeSteps,
    /// What each service has in the end.
    starts: Starts<'d>,
    /// Steps that stop containers of a service.
    stops: BTreeMap<String, Vec<StepId>>,
    /// Steps that stop a container.
    stopped: BTreeMap<ContainerId, StepId>,
    /// Steps after which a container is no more.
    removed: BTreeMap<ContainerId, StepId>,
    /// Steps after which a container that stays no longer has the name it had.
    renamed: BTreeMap<ContainerId, StepId>,
    /// Names that steps need to be free, and for whom.
    names: Vec<Naming<'a>>,
    /// Starts of containers that publish ports: the ports, and the container that the started one replaces or is.
    publishing: Vec<(StepId, BTreeSet<String>, Option<ContainerId>)>,
}

/// A step that needs a name to be free.
struct Naming<'a> {
    step: StepId,
    name: String,
    service: &'a str,
    /// The container that gets it, if it is there already.
    container: Option<ContainerId>,
}

/// Turns decisions into a plan.
pub(super) fn emit<'a>(inputs: &Inputs<'a>, decisions: Decisions<'a>) -> Result<Plan, PlanError> {
    let Decisions {
        services,
        orphans,
        warnings,
    } = decisions;
    let mut emitter = Emitter {
        inputs,
        draft: Draft::with_warnings(warnings),
        networks: NetworkSteps::default(),
        volumes: VolumeSteps::new(),
        starts: Starts::new(&inputs.selection.graph, inputs.options.wait_timeout),
        stops: BTreeMap::new(),
        stopped: BTreeMap::new(),
        removed: BTreeMap::new(),
        renamed: BTreeMap::new(),
        names: Vec::new(),
        publishing: Vec::new(),
    };
    emitter.resources(&services, &orphans)?;
    for orphan in &orphans {
        emitter.remove(orphan);
    }
    for decision in &services {
        emitter.service(decision);
    }
    if inputs.options.wait && !inputs.options.no_start {
        let jobs = jobs(&services);
        emitter.starts.wait_for_all(&mut emitter.draft, &jobs);
    }
    emitter.order_sharing();
    emitter.order_names()?;
    emitter.order_networks();
    emitter.order_ports();
    let Emitter {
        mut draft,
        starts,
        stops,
        ..
    } = emitter;
    starts.finish(&mut draft);
    order_stops(&inputs.selection.graph, &stops, &mut draft);
    if !orphans.is_empty() {
        // The file says nothing of their order, their labels do.
        let services = orphans.iter().map(|orphan| &orphan.container.service);
        let stops = services.filter_map(|service| stops.get_key_value(service));
        let stops = stops.map(|(service, steps)| (service.clone(), steps.clone()));
        let graph = ServiceGraph::of_labels(inputs.observed);
        order_stops(&graph, &stops.collect(), &mut draft);
    }
    draft.finish()
}

impl<'a> Emitter<'a, '_> {
    /// Adds networks and volumes that the services use.
    fn resources(
        &mut self,
        services: &[ServiceDecision<'a>],
        orphans: &[Removal<'a>],
    ) -> Result<(), PlanError> {
        let (stack, observed) = (self.inputs.stack, self.inputs.observed);
        let keys = services.iter().flat_map(|d| d.service.networks.keys());
        let mut within: BTreeSet<&ContainerId> = orphans.iter().map(|o| &o.container.id).collect();
        for decision in services {
            within.extend(decision.removals.iter().map(|r| &r.container.id));
            within.extend(decision.members.iter().flat_map(|m| match &m.fate {
                Fate::Keep { container, .. } => vec![&container.id],
                Fate::Recreate { old, .. } => vec![&old.id],
                Fate::Resume { old, new } => vec![&old.id, &new.id],
                Fate::Create => Vec::new(),
            }));
        }
        let draft = &mut self.draft;
        self.networks = networks::networks(stack, observed, &keys.collect(), &within, draft)?;
        let keys = services.iter().flat_map(|d| volumes::used(d.service));
        self.volumes = volumes::volumes(stack, observed, &keys.collect(), draft)?;
        Ok(())
    }

    /// Adds all steps of one service.
    fn service(&mut self, decision: &ServiceDecision<'a>) {
        for removal in &decision.removals {
            self.remove(removal);
        }
        let ready = self.dependencies_ready(decision);
        for member in &decision.members {
            let mut placed = match &member.fate {
                Fate::Keep { container, restart } => {
                    self.keep(decision, member, container, restart.as_ref())
                }
                Fate::Recreate { old, cause } => self.recreate(decision, member, old, cause),
                Fate::Resume { old, new } => self.resume(decision, member, old, new),
                Fate::Create => {
                    let create = self.create(decision, member, None, Cause::NoContainer);
                    let mut pending = Pending::new(ContainerRef::New(create), Cause::NotStarted);
                    pending.after = self.resources_made(decision);
                    pending.after(After::Success(create))
                }
            };
            let start = match placed.start.take() {
                Some(cause) if !self.inputs.options.no_start => {
                    placed.after.extend(&ready);
                    placed
                        .after
                        .extend(self.donor_start(member).map(After::Success));
                    let action = Action::StartContainer {
                        container: placed.reference.clone(),
                        name: member.name.clone(),
                    };
                    let start = self.draft.add(action, cause, &placed.after);
                    let own = match &member.fate {
                        Fate::Keep { container, .. } => Some(container.id.clone()),
                        Fate::Recreate { old, .. } | Fate::Resume { old, .. } => {
                            Some(old.id.clone())
                        }
                        Fate::Create => None,
                    };
                    let ports = fingerprint::host_ports(&decision.asked);
                    self.publishing.push((start, ports, own));
                    Some(start)
                }
                _ => None,
            };
            let placed = Placed {
                number: member.number,
                name: member.name.clone(),
                reference: placed.reference,
                start,
                undisturbed: placed.undisturbed,
            };
            self.starts.place(decision.name.as_str(), placed);
        }
    }

    /// Lets a container that publishes a port wait for the end of whoever has it until then.
    fn order_ports(&mut self) {
        for container in &self.inputs.observed.containers {
            let Some(stop) = self.stopped.get(&container.id) else {
                continue;
            };
            let held = fingerprint::host_ports(&container.asked);
            for (start, wanted, own) in &self.publishing {
                if own.as_ref() != Some(&container.id) && !held.is_disjoint(wanted) {
                    self.draft.order(*start, After::End(*stop));
                }
            }
        }
    }

    /// Whether a container has done its work, and is asked for no more than once.
    fn is_completed(&self, decision: &ServiceDecision<'_>, container: &ObservedContainer) -> bool {
        let once = matches!(
            decision.service.restart,
            None | Some(Restart::No | Restart::OnFailure { .. })
        );
        self.inputs.options.leave_completed
            && once
            && container.state == (State::Exited { code: Some(0) })
    }

    /// Adds what a container that stays needs.
    fn keep(
        &mut self,
        decision: &ServiceDecision<'a>,
        member: &Member<'a>,
        container: &ObservedContainer,
        restart: Option<&Cause>,
    ) -> Pending {
        let reference = ContainerRef::Existing(container.id.clone());
        let mut pending = Pending {
            reference: reference.clone(),
            after: self.resources_made(decision),
            start: None,
            undisturbed: Some(container.state),
        };
        if container.name != member.name {
            let rename = self.rename(decision, member, container, &[], Part::Whole);
            pending.after.push(After::Success(rename));
        }
        let replaced = self.networks.replaced.iter();
        let mut uses = replaced.filter(|network| network.users.contains(&container.id));
        let network = uses.next().map(|network| Cause::NetworkReplaced {
            network: network.name.clone(),
        });
        let why_stop = network
            .clone()
            .or_else(|| restart.cloned())
            .or_else(|| self.donor_starts(member));
        if let Some(cause) = why_stop.clone().filter(|_| container.is_live()) {
            let stop = self.stop(decision.name.as_str(), container, &cause, &[], Part::Whole);
            pending.after.push(After::Success(stop));
            pending.start = Some(cause);
            pending.undisturbed = None;
        } else if !container.is_live() && !self.is_completed(decision, container) {
            pending.start = Some(match container.state {
                State::Exited { code } => Cause::Exited { code },
                _ => Cause::NotStarted,
            });
            pending.undisturbed = None;
        } else {
            let resource = Resource::Container(member.name.clone());
            self.draft.unchanged.push(resource);
        }
        if let Some(cause) = network {
            let action = Action::DisconnectContainer {
                container: container.id.clone(),
                name: member.name.clone(),
            };
            let after = std::mem::take(&mut pending.after);
            let stopped = after.iter().filter(|after| self.is_stop(after.step()));
            let stopped: Vec<After> = stopped.copied().collect();
            let step = self.draft.add(action, cause, &stopped);
            self.removed.insert(container.id.clone(), step);
            pending.after = after;
            pending.after.push(After::Success(step));
        }
        pending
    }

    /// Adds the replacement of a container.
    fn recreate(
        &mut self,
        decision: &ServiceDecision<'a>,
        member: &Member<'a>,
        old: &ObservedContainer,
        cause: &Cause,
    ) -> Pending {
        let create = self.create(decision, member, Some(old), cause.clone());
        let from = naming::replacement_name(&old.id, &member.name);
        let removed = self.retire(decision, old, Some(create));
        let action = Action::RenameContainer {
            container: ContainerRef::New(create),
            from,
            to: member.name.clone(),
        };
        // The removal waits for the creation.
        let after = [After::Success(removed)];
        let rename = self
            .draft
            .add_part(action, Cause::Replaces, &after, Part::Last);
        self.names.push(Naming {
            step: rename,
            name: member.name.clone(),
            service: decision.name.as_str(),
            container: None,
        });
        let mut pending = Pending::new(ContainerRef::New(create), Cause::Replaces);
        pending.after = self.resources_made(decision);
        pending.after(After::Success(rename))
    }

    /// Adds the rest of a replacement that was cut off.
    fn resume(
        &mut self,
        decision: &ServiceDecision<'a>,
        member: &Member<'a>,
        old: &ObservedContainer,
        new: &ObservedContainer,
    ) -> Pending {
        let removed = self.retire(decision, old, None);
        let after = [After::Success(removed)];
        let rename = self.rename(decision, member, new, &after, Part::Last);
        let reference = ContainerRef::Existing(new.id.clone());
        let mut pending = Pending::new(reference, Cause::Interrupted);
        pending.after = self.resources_made(decision);
        pending.after(After::Success(rename))
    }

    /// Adds the end of a container whose place `create` takes.
    fn retire(
        &mut self,
        decision: &ServiceDecision<'a>,
        old: &ObservedContainer,
        create: Option<StepId>,
    ) -> StepId {
        let cause = match create {
            Some(_) => Cause::Replaced,
            None => Cause::Interrupted,
        };
        let mut after: Vec<After> = create.into_iter().map(After::Success).collect();
        let mut part = match create {
            Some(_) => Part::Middle,
            None => Part::First,
        };
        if old.is_live() {
            let stop = self.stop(decision.name.as_str(), old, &cause, &after, part);
            after = vec![After::Success(stop)];
            part = Part::Middle;
        }
        let action = Action::RemoveContainer {
            container: old.id.clone(),
            name: old.name.clone(),
            anonymous_volumes: AnonymousVolumes::Keep,
        };
        let remove = self.draft.add_part(action, cause, &after, part);
        self.removed.insert(old.id.clone(), remove);
        remove
    }

    /// Adds the making of a container.
    fn create(
        &mut self,
        decision: &ServiceDecision<'a>,
        member: &Member<'a>,
        old: Option<&ObservedContainer>,
        cause: Cause,
    ) -> StepId {
        let inputs = self.inputs;
        let network_of = member.donor.as_ref().and_then(|donor| self.donor(donor));
        let mut labels =
            naming::container_labels(inputs.stack, decision.name, decision.service, member.number);
        let hash = naming::config_hash(&decision.asked);
        labels.insert(naming::CONFIG_HASH.to_owned(), hash);
        labels.insert(naming::IMAGE.to_owned(), decision.image_id.clone());
        let name = match old {
            Some(old) => {
                let id = old.id.as_str().to_owned();
                labels.insert(naming::REPLACE.to_owned(), id);
                naming::replacement_name(&old.id, &member.name)
            }
            None => member.name.clone(),
        };
        let inherits = match old {
            Some(old) if !inputs.options.renew_anonymous_volumes => inherited(decision, old),
            _ => BTreeMap::new(),
        };
        let mut after = self.resources_made_for_creation(decision);
        if let Some(ContainerRef::New(donor)) = &network_of {
            after.push(After::Success(*donor));
        }
        let action = Action::CreateContainer(Box::new(ContainerSpec {
            name: name.clone(),
            settled_name: member.name.clone(),
            service: decision.name.clone(),
            number: member.number,
            image: decision.image.clone(),
            image_id: decision.image_id.clone(),
            asked: decision.asked.clone(),
            labels,
            replaces: old.map(|old| old.id.clone()),
            inherits,
            network_of,
        }));
        let part = match old {
            Some(_) => Part::First,
            None => Part::Whole,
        };
        let step = self.draft.add_part(action, cause, &after, part);
        self.names.push(Naming {
            step,
            name,
            service: decision.name.as_str(),
            container: None,
        });
        step
    }

    /// Adds the renaming of a container that is there.
    fn rename(
        &mut self,
        decision: &ServiceDecision<'a>,
        member: &Member<'a>,
        container: &ObservedContainer,
        after: &[After],
        part: Part,
    ) -> StepId {
        let action = Action::RenameContainer {
            container: ContainerRef::Existing(container.id.clone()),
            from: container.name.clone(),
            to: member.name.clone(),
        };
        let step = self.draft.add_part(action, Cause::Interrupted, after, part);
        self.renamed.insert(container.id.clone(), step);
        self.names.push(Naming {
            step,
            name: member.name.clone(),
            service: decision.name.as_str(),
            container: Some(container.id.clone()),
        });
        step
    }

    /// Adds the stop of a container.
    fn stop(
        &mut self,
        service: &str,
        container: &ObservedContainer,
        cause: &Cause,
        after: &[After],
        part: Part,
    ) -> StepId {
        let action = Action::StopContainer {
            container: container.id.clone(),
            name: container.name.clone(),
            timeout: self.inputs.options.stop_timeout,
        };
        let step = self.draft.add_part(action, cause.clone(), after, part);
        self.stopped.insert(container.id.clone(), step);
        self.stops.entry(service.to_owned()).or_default().push(step);
        step
    }

    /// Adds the end of a container that nothing replaces.
    fn remove(&mut self, removal: &Removal<'a>) {
        let Removal { container, cause } = removal;
        let mut after = Vec::new();
        if container.is_live() {
            let service = container.service.as_str();
            let stop = self.stop(service, container, cause, &[], Part::Whole);
            after.push(After::Success(stop));
        }
        let action = Action::RemoveContainer {
            container: container.id.clone(),
            name: container.name.clone(),
            anonymous_volumes: AnonymousVolumes::Keep,
        };
        let step = self.draft.add(action, cause.clone(), &after);
        self.removed.insert(container.id.clone(), step);
    }

    /// Returns what must have been made before a container of the service can be made.
    fn resources_made_for_creation(&self, decision: &ServiceDecision<'a>) -> Vec<After> {
        let replaced: BTreeSet<&str> = self
            .networks
            .replaced
            .iter()
            .map(|network| network.name.as_str())
            .collect();
        // A network that is made anew has to wait for the old containers, and these for the new ones.
        let networks = decision.service.networks.keys().filter(|key| {
            let network = self.inputs.stack.networks.get(*key);
            !network.is_some_and(|network| replaced.contains(network.name.as_str()))
        });
        let networks = networks.filter_map(|key| self.networks.made.get(key));
        let volumes = volumes::used(decision.service).filter_map(|key| self.volumes.get(key));
        networks
            .chain(volumes)
            .map(|s| After::Success(*s))
            .collect()
    }

    /// Returns what must have been made before a container of the service can start.
    fn resources_made(&self, decision: &ServiceDecision<'a>) -> Vec<After> {
        let keys = decision.service.networks.keys();
        let networks = keys.filter_map(|key| self.networks.made.get(key));
        let volumes = volumes::used(decision.service).filter_map(|key| self.volumes.get(key));
        networks
            .chain(volumes)
            .map(|s| After::Success(*s))
            .collect()
    }

    /// Returns the container that a donor is in the end.
    fn donor(&self, donor: &Donor) -> Option<ContainerRef> {
        if let Some(existing) = &donor.existing {
            return Some(ContainerRef::Existing(existing.clone()));
        }
        let mut placed = self.starts.placed(&donor.service).iter();
        let placed = placed.find(|p| donor.is_number(p.number))?;
        Some(placed.reference.clone())
    }

    /// Returns the step that starts the container whose network this one shares.
    fn donor_start(&self, member: &Member<'_>) -> Option<StepId> {
        let donor = member.donor.as_ref()?;
        let mut placed = self.starts.placed(&donor.service).iter();
        placed.find(|p| donor.is_number(p.number))?.start
    }

    /// Why a container that shares the network of one that starts must be stopped and started, too.
    fn donor_starts(&self, member: &Member<'_>) -> Option<Cause> {
        let donor = member.donor.as_ref()?;
        self.donor_start(member).map(|_| Cause::DonorRestarts {
            service: donor.service.clone(),
        })
    }

    /// Whether a step stops a container.
    fn is_stop(&self, step: StepId) -> bool {
        let step = self.draft.steps().get(step.0 as usize);
        step.is_some_and(|step| matches!(step.action, Action::StopContainer { .. }))
    }

    /// Returns what must be so before containers of the service start, and adds the waits it takes.
    fn dependencies_ready(&mut self, decision: &ServiceDecision<'a>) -> Vec<After> {
        let options = self.inputs.options;
        let starts = decision.members.iter().any(|member| match &member.fate {
            Fate::Keep { container, restart } => {
                restart.is_some()
                    || !container.is_live()
                    || self.loses_network(container)
                    || self.donor_starts(member).is_some()
            }
            Fate::Recreate { .. } | Fate::Resume { .. } | Fate::Create => true,
        });
        if options.no_deps || options.no_start || !starts {
            return Vec::new();
        }
        let dependencies = graph::service_dependencies(decision.service);
        let name = decision.name.as_str();
        self.starts.ready(&mut self.draft, name, dependencies)
    }

    /// Whether a network that the container is attached to is made anew.
    fn loses_network(&self, container: &ObservedContainer) -> bool {
        let mut replaced = self.networks.replaced.iter();
        replaced.any(|network| network.users.contains(&container.id))
    }

    /// Makes steps that need a name wait until it is free.
    fn order_names(&mut self) -> Result<(), PlanError> {
        let containers = self.inputs.observed.containers.iter();
        let holders: BTreeMap<&str, &ObservedContainer> =
            containers.map(|c| (c.name.as_str(), c)).collect();
        for naming in &self.names {
            let Some(holder) = holders.get(naming.name.as_str()) else {
                continue;
            };
            if naming.container.as_ref() == Some(&holder.id) {
                continue;
            }
            let gone = self.removed.get(&holder.id);
            let is_removal = |step: &&StepId| {
                let step = self.draft.steps().get(step.0 as usize);
                step.is_some_and(|step| matches!(step.action, Action::RemoveContainer { .. }))
            };
            let free = gone
                .filter(is_removal)
                .or_else(|| self.renamed.get(&holder.id));
            let Some(free) = free else {
                return Err(PlanError::NameTaken {
                    service: naming.service.to_owned(),
                    container: naming.name.clone(),
                    holder: holder.service.clone(),
                });
            };
            self.draft.order(naming.step, After::Success(*free));
        }
        Ok(())
    }

    /// Makes starts of containers that are there wait until those that share their network have stopped, and restarts those
    /// that the plan is not about: a network namespace ends with its container, and who runs on in a dead one would not be
    /// found again.
    fn order_sharing(&mut self) {
        let observed = self.inputs.observed;
        let mut index = 0;
        while let Some(step) = self.draft.steps().get(index) {
            index = index.saturating_add(1);
            let Action::StartContainer {
                container: ContainerRef::Existing(donor),
                ..
            } = &step.action
            else {
                continue;
            };
            let (start, donor) = (step.id, donor.clone());
            let name = observed.containers.iter().find(|c| c.id == donor);
            let cause = Cause::DonorRestarts {
                service: name.map(|c| c.service.clone()).unwrap_or_default(),
            };
            let all = observed.containers.iter().filter(|c| c.is_live());
            for sharing in all.filter(|c| c.network_of.as_ref() == Some(&donor)) {
                let stop = self.stopped.get(&sharing.id).copied();
                let stop = stop.unwrap_or_else(|| self.restart(sharing, &cause, start));
                self.draft.order(start, After::Success(stop));
            }
        }
    }

    /// Adds the restart of a container that the plan is not about, around the start of its donor; returns the stop.
    fn restart(
        &mut self,
        container: &ObservedContainer,
        cause: &Cause,
        donor_start: StepId,
    ) -> StepId {
        let stop = self.stop(&container.service, container, cause, &[], Part::Whole);
        let action = Action::StartContainer {
            container: ContainerRef::Existing(container.id.clone()),
            name: container.name.clone(),
        };
        let after = [After::Success(stop), After::Success(donor_start)];
        self.draft.add(action, cause.clone(), &after);
        stop
    }

    /// Makes removals of networks wait until nobody holds an address.
    fn order_networks(&mut self) {
        for network in &self.networks.replaced {
            for user in &network.users {
                if let Some(step) = self.removed.get(user) {
                    self.draft.order(network.remove, After::Success(*step));
                }
            }
        }
    }
}

/// A container on its way to being started.
struct Pending {
    reference: ContainerRef,
    /// What its start waits for, beside other services.
    after: Vec<After>,
    /// Why it is started, if it is.
    start: Option<Cause>,
    /// What it does, if it is left alone.
    undisturbed: Option<State>,
}

impl Pending {
    /// One that is started.
    fn new(reference: ContainerRef, start: Cause) -> Self {
        Self {
            reference,
            after: Vec::new(),
            start: Some(start),
            undisturbed: None,
        }
    }

    /// Adds something to wait for.
    fn after(mut self, after: After) -> Self {
        self.after.push(after);
        self
    }
}

/// Returns services of which others wait that they complete.
fn jobs(services: &[ServiceDecision<'_>]) -> BTreeSet<String> {
    let all = services.iter();
    let all = all.flat_map(|decision| graph::service_dependencies(decision.service));
    let jobs = all.filter(|(_, d)| d.condition == Condition::ServiceCompletedSuccessfully);
    jobs.map(|(name, _)| name).collect()
}

/// Returns the anonymous volumes that a new container takes over: those whose place nothing else takes.
fn inherited(decision: &ServiceDecision<'_>, old: &ObservedContainer) -> BTreeMap<String, String> {
    let is_anonymous = |source: &MountSource| match source {
        MountSource::Volume { source, .. } => source.is_none(),
        MountSource::Bind { .. } | MountSource::Tmpfs { .. } => false,
    };
    let mounts = decision.service.volumes.iter();
    let taken: BTreeSet<&str> = mounts
        .filter(|mount| !is_anonymous(&mount.source))
        .map(|mount| mount.target.as_str())
        .collect();
    let volumes = old.anonymous_volumes.iter();
    volumes
        .filter(|(target, _)| !taken.contains(target.as_str()))
        .map(|(target, name)| (target.clone(), name.clone()))
        .collect()
}
