//! `up`, `down`, `build`, `pull`, `stop`, `kill`: observe, plan, apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::engine::apply::apply_within;
use crate::engine::cancel::Cancel;
use crate::engine::digests::with_digests;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::LinuxHost;
use crate::engine::store::platform_option;
use crate::engine::using::Wanted;
use crate::engine::{BuildChoices, Engine, chain, readable};
use crate::images::{ImportOptions, Reference};
use crate::plan::action::{Action, Resource};
use crate::plan::images::References;
use crate::plan::observed::Observed;
use crate::plan::options::{DownOptions, ImageOptions, LifecycleOptions, UpOptions};
use crate::plan::{self, Plan, naming};
use crate::runtime::status::{Container, Status};
use crate::spec::model::Stack;
use crate::spec::names::ProjectName;
use crate::sys::lock::Mode;

/// `build`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// Build arguments over the file's; without a value they come from the environment.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Also what the services depend on.
    pub with_dependencies: bool,
    /// Agents instead of the file's: `default`, or an id and a socket.
    pub ssh: Vec<String>,
    /// Memory that a step may use, as typed.
    pub memory: Option<String>,
    /// Attestations over the file's: `provenance`, `sbom`, and what is said of each.
    pub attestations: BTreeMap<&'static str, String>,
}

/// `pull`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// Only these services; all where empty.
    pub services: Vec<String>,
    /// Also what the services depend on.
    pub include_deps: bool,
    /// Go on past images that cannot be pulled, and succeed.
    pub ignore_failures: bool,
    /// Leave out what can be built.
    pub ignore_buildable: bool,
    /// Leave out what is there.
    pub missing_only: bool,
}

/// Plans that were not applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    /// In the order they would be applied.
    pub plans: Vec<Plan>,
}

impl Planned {
    /// Returns what the user should know.
    pub fn warnings(&self) -> Vec<String> {
        self.plans
            .iter()
            .flat_map(|plan| plan.warnings.iter().map(ToString::to_string))
            .collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(Plan::is_empty)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plans.iter().try_for_each(|plan| write!(f, "{plan}"))
    }
}

/// Where a root file system comes from.
pub enum ImportSource {
    /// A tar, plain or compressed.
    Stream(Box<dyn std::io::Read + Send>),
    /// Where such a tar lies.
    Url(String),
}

/// What is asked for of an image that is made of a root file system, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportAsked {
    /// `--change`s.
    pub changes: Vec<String>,
    /// Its comment.
    pub message: Option<String>,
    /// What it is to run on.
    pub platform: Option<String>,
}

impl Engine {
    /// Plans `up`, changes nothing (`--dry-run`).
    pub async fn plan_up(
        &self,
        stack: &Stack,
        options: &UpOptions,
    ) -> Result<Planned, EngineError> {
        let _lock = self.lock_project(&stack.name).await?;
        let options = with_digests(stack, &self.environment, options)?;
        let mut observed = self.observe(&stack.name, &plan::images::references(stack))?;
        let images = plan::images::images(stack, &observed, &options)?;
        observed.assume_images(&images);
        let mut containers = plan::containers::containers(stack, &observed, &options)?;
        if options.prune_networks {
            plan::prune::networks(&mut containers, stack, &observed);
        }
        Ok(Planned {
            plans: vec![images.followed_by(containers)],
        })
    }

    /// Brings the project to what its file says. Where that fails before there is any container, nothing else is left either.
    pub async fn up(
        &self,
        stack: &Stack,
        options: &UpOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let done = self.bring_up(stack, options, events, cancel).await;
        if done.is_err() {
            // The first failure is the one to tell.
            let _cleaned = self.clean_up().await;
        }
        done
    }

    async fn bring_up(
        &self,
        stack: &Stack,
        options: &UpOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.enter_project(&stack.name, events, cancel).await?;
        let known = self.recover(&stack.name, events).await?;
        let options = with_digests(stack, &self.environment, options)?;
        let Wanted {
            observed,
            containers,
            used,
        } = self
            .plan_with_images(stack, known, &options, (&lock, events), cancel)
            .await?;
        warn(&stack.name, &containers, events);
        events.begins(&containers);
        for container in left_alone(&containers, &observed) {
            events.runs(container);
        }
        if containers.is_empty() {
            self.record_up(stack)?;
            self.repair_network(events)?;
            return self
                .run(
                    &containers,
                    &LinuxHost::new(self, Some(stack), events, &lock),
                    events,
                    cancel,
                )
                .await;
        }
        let host = LinuxHost::new(self, Some(stack), events, &lock).using(used);
        host.check(&containers)?;
        let reserved = self.reserve_ports(stack, &containers, &observed)?;
        self.record_up(stack)?;
        // After a boot, or where somebody took a bridge away, there is a record and no link.
        let named = |name: &str| stack.networks.values().any(|network| network.name == name);
        for network in self.net.networks()? {
            if named(&network.config.name) {
                self.net.ensure_network(&network.config).await?;
            }
        }
        self.repair_network(events)?;
        let host = host.with_reserved(reserved);
        let starting = self.lock_instance(Mode::Shared)?;
        let applied = self.run(&containers, &host, events, cancel).await;
        drop(starting);
        if containers
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::RemoveContainer { .. }))
        {
            self.prune_logs(&stack.name, events);
        }
        let synced = self.runtime.sync().map_err(EngineError::from);
        if let (Err(_), Err(error)) = (&applied, &synced) {
            // The first failure is the one to return.
            events.emit(Event {
                subject: Subject::Project(stack.name.to_string()),
                kind: EventKind::Warning(chain(error)),
            });
        }
        applied.and(synced)
    }

    /// Plans `down`, changes nothing.
    pub async fn plan_down(
        &self,
        project: &ProjectName,
        stack: Option<&Stack>,
        options: &DownOptions,
    ) -> Result<Planned, EngineError> {
        let _lock = self.lock_project(project).await?;
        let observed = self.observe(project, &References::new())?;
        Ok(Planned {
            plans: vec![plan::teardown::teardown(
                project, stack, &observed, options,
            )?],
        })
    }

    /// Takes the project down.
    pub async fn down(
        &self,
        project: &ProjectName,
        stack: Option<&Stack>,
        options: &DownOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.enter_project(project, events, cancel).await?;
        let known = self.release_gone();
        let observed = match &known {
            Ok(known) => self.observe_of(known, project, &References::new())?,
            Err(_) => self.observe(project, &References::new())?,
        };
        let released = known.map(drop);
        let plan = plan::teardown::teardown(project, stack, &observed, options)?;
        warn(project, &plan, events);
        let host = LinuxHost::new(self, stack, events, &lock).deferring();
        let applied = self
            .run(&plan, &host, events, cancel)
            .await
            .and(host.settle());
        let (mut recorded, mut swept) = (Ok(()), Ok(()));
        if options.services.is_empty() {
            recorded = self.record_down(project);
            swept = self.sweep_sources();
        }
        let cleaned = self.clean_up().await;
        self.tell_lost(events)?;
        self.prune_logs(project, events);
        let synced = self.runtime.sync().map_err(EngineError::from);
        // The first failure is the one to tell; none keeps the rest from being done.
        let removed = applied.and(released).and(recorded);
        removed.and(cleaned).and(swept).and(synced)
    }

    /// Removes logs of containers that are gone beyond what is kept of them. What cannot be is a warning: all that was asked
    /// for is done.
    fn prune_logs(&self, project: &ProjectName, events: &dyn EventSink) {
        if let Err(error) = self.runtime.prune_logs() {
            events.emit(Event {
                subject: Subject::Project(project.to_string()),
                kind: EventKind::Warning(format!("old logs were not removed: {}", chain(&error))),
            });
        }
    }

    /// Stops services, dependents first.
    pub async fn stop(
        &self,
        project: &ProjectName,
        services: &[String],
        timeout: Option<Duration>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.enter_project(project, events, cancel).await?;
        let observed = self.observe(project, &References::new())?;
        let options = LifecycleOptions {
            services: services.to_vec(),
            timeout,
            ..LifecycleOptions::default()
        };
        let plan = plan::lifecycle::stop(None, &observed, &options)?;
        self.run(
            &plan,
            &LinuxHost::new(self, None, events, &lock),
            events,
            cancel,
        )
        .await
    }

    /// Signals every running container of the services.
    pub async fn kill(
        &self,
        project: &ProjectName,
        services: &[String],
        signal: i32,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let mut errors = Vec::new();
        for container in self.of_project(project)? {
            let service = container.config().labels.get(naming::SERVICE);
            let wanted = services.is_empty() || service.is_some_and(|name| services.contains(name));
            if !wanted || !matches!(container.status, Status::Running { .. }) {
                continue;
            }
            let subject = Subject::Container(container.config().name.clone());
            events.emit(Event {
                subject: subject.clone(),
                kind: EventKind::Started("Killing"),
            });
            let kind = match self.end(&container, signal).await {
                Ok(()) => EventKind::Finished("Killed"),
                Err(error) => {
                    errors.push(chain(&error));
                    EventKind::Failed(chain(&error))
                }
            };
            events.emit(Event { subject, kind });
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(EngineError::Several { messages: errors })
        }
    }

    /// Signals one container; after SIGKILL, returns when it has ended.
    async fn end(&self, container: &Container, signal: i32) -> Result<(), EngineError> {
        self.runtime.kill(container.id(), signal)?;
        if signal != libc::SIGKILL {
            return Ok(());
        }
        let mut waiting = self.runtime.wait(container.id())?;
        while waiting.advance()?.is_none() {
            let failed = |source| EngineError::System {
                attempted: "wait for a container".to_owned(),
                source,
            };
            readable(&waiting).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Builds the services' images.
    pub async fn build(
        &self,
        stack: &Stack,
        options: &BuildOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.with_dependencies,
            ..ImageOptions::default()
        };
        let plan = plan::images::build(stack, &chosen)?;
        warn(&stack.name, &plan, events);
        let lock = self.enter_project(&stack.name, events, cancel).await?;
        let choices = BuildChoices {
            no_cache: options.no_cache,
            explain: options.explain,
            pull: options.pull,
            ssh: options.ssh.clone(),
            attestations: options.attestations.clone(),
            memory_bytes: options
                .memory
                .as_deref()
                .map(|text| crate::engine::build::options::bytes("--memory", text))
                .transpose()?,
            args: options.build_args.clone(),
            all_platforms: true,
        };
        let host = LinuxHost::new(self, Some(stack), events, &lock).with_build(choices);
        self.expect_builds(plan.steps.len());
        let applied = self.run(&plan, &host, events, cancel).await;
        let cleaned = self.clean_up_late().await;
        applied.and(cleaned)
    }

    /// Pulls the services' images.
    pub async fn pull(
        &self,
        stack: &Stack,
        options: &PullOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.include_deps,
            missing_only: options.missing_only,
            ignore_buildable: options.ignore_buildable,
        };
        let lock = self.enter_project(&stack.name, events, cancel).await?;
        let observed = self.observe(&stack.name, &plan::images::references(stack))?;
        let plan = plan::images::pull(stack, &observed, &chosen)?;
        let host = LinuxHost::new(self, Some(stack), events, &lock);
        match self.run(&plan, &host, events, cancel).await {
            Err(EngineError::Apply(crate::engine::apply::ApplyError::Failed { .. }))
                if options.ignore_failures =>
            {
                Ok(())
            }
            applied => applied,
        }
    }

    /// Makes an image of a root file system tar; returns its id.
    pub async fn import_image(
        &self,
        source: ImportSource,
        reference: Option<&str>,
        asked: &ImportAsked,
    ) -> Result<String, EngineError> {
        let reference: Option<Reference> = reference.map(str::parse).transpose()?;
        let platform = asked.platform.as_deref().map(platform_option);
        let options = ImportOptions {
            changes: crate::engine::snapshot::read_changes(&asked.changes)?,
            message: asked.message.clone(),
            platform: platform.transpose()?,
        };
        let reference = reference.as_ref();
        let image = match source {
            ImportSource::Stream(reader) => self.images.import(reader, reference, &options)?,
            ImportSource::Url(url) => self.images.import_url(&url, reference, &options).await?,
        };
        Ok(image.id.to_string())
    }

    /// Applies one plan.
    pub(crate) async fn run(
        &self,
        plan: &Plan,
        host: &LinuxHost<'_>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        host.check_builds(plan)?;
        let interrupted = async {
            cancel.cancelled().await;
            host.interrupt();
        };
        let applied = apply_within(self.parallel, plan, host, events, interrupted).await;
        self.tell_lost(events)?;
        Ok(applied?)
    }

    /// Returns the containers of a project.
    pub(crate) fn of_project(&self, project: &ProjectName) -> Result<Vec<Container>, EngineError> {
        let mut containers = self.runtime.list()?;
        containers.retain(|container| is_of(container, project));
        Ok(containers)
    }

    /// Gives back what containers held whose record was lost with the machine's power, and tells where they are now.
    pub(crate) fn tell_lost(&self, events: &dyn EventSink) -> Result<(), EngineError> {
        for (id, kept) in self.runtime.take_lost() {
            self.images.release(id.as_str())?;
            let short = id.short();
            let kept = kept.display();
            events.emit(Event {
                subject: Subject::Project("containers".to_owned()),
                kind: EventKind::Warning(format!(
                    "the record of container {short} did not reach the disk before the machine went down; what is left of it is in `{kept}`"
                )),
            });
        }
        Ok(())
    }

    /// Puts right what others did to the firewall since, and tells what only the user can.
    pub(crate) fn repair_network(&self, events: &dyn EventSink) -> Result<(), EngineError> {
        for warning in self.net.repair()? {
            events.emit(Event {
                subject: Subject::Project("network".to_owned()),
                kind: EventKind::Warning(warning.to_string()),
            });
        }
        Ok(())
    }
}

/// Whether a container is one of the project's.
pub(super) fn is_of(container: &Container, project: &ProjectName) -> bool {
    let name = container.config().labels.get(naming::PROJECT);
    name.is_some_and(|name| name == project.as_str())
}

/// Returns the containers that a plan leaves as they are, running.
fn left_alone<'a>(
    plan: &'a Plan,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a plan::observed::ContainerId> {
    let names: BTreeSet<&str> = plan
        .unchanged
        .iter()
        .filter_map(|resource| match resource {
            Resource::Container(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let containers = observed.containers.iter();
    containers
        .filter(move |container| names.contains(container.name.as_str()))
        .map(|container| &container.id)
}

/// Passes a plan's warnings on.
pub(crate) fn warn(project: &ProjectName, plan: &Plan, events: &dyn EventSink) {
    for warning in &plan.warnings {
        let kind = EventKind::Warning(warning.to_string());
        events.emit(Event {
            subject: Subject::Project(project.to_string()),
            kind,
        });
    }
}
