//! `boot`: after the host has come up, brings back what ran.
//!
//! ```text
//! every network: bridge, table, sysctls, from its record
//! each project:  lock ─ adopt ─ observe ─ plan::boot ─ ports reserved ─ apply ─ unlock
//! ```
//!
//! Everything it takes is on disk: the containers' records with their restart policies, the addresses they hold, the networks.
//! What should run is Docker's rule for a starting daemon ([`wants_boot`]): `always` whatever was before, `unless-stopped` and a
//! failed `on-failure` unless stopped by hand, `no` never. Run again, it finds everything running and does nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::cancel::Cancel;
use crate::engine::commands::warn;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::LinuxHost;
use crate::engine::{Engine, Planned, chain};
use crate::plan::naming;
use crate::plan::observed::ContainerId;
use crate::plan::{self, Plan};
use crate::runtime::status::wants_boot;
use crate::spec::names::ProjectName;
use crate::sys::lock::Mode;

impl Engine {
    /// Plans `boot`, changes nothing.
    pub async fn plan_boot(&self) -> Result<Planned, EngineError> {
        let mut plans = Vec::new();
        for project in self.projects()? {
            let _lock = self.lock_project(&project).await?;
            plans.push(self.boot_plan(&project)?);
        }
        Ok(Planned { plans })
    }

    /// Starts again what should run and does not; goes on past a project that fails.
    pub async fn boot(&self, events: &dyn EventSink, cancel: &Cancel) -> Result<(), EngineError> {
        let mut errors = self.restore_networks(events).await?;
        for project in self.projects()? {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            match self.boot_project(&project, events, cancel).await {
                Ok(()) => {}
                Err(error) if error.exit_code() == 130 => return Err(error),
                Err(error) => errors.push((project.to_string(), error)),
            }
        }
        self.runtime.sync()?;
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), |(_, error)| Err(error)),
            _ => Err(EngineError::Several {
                messages: errors
                    .iter()
                    .map(|(of, error)| format!("{of}: {}", told(error)))
                    .collect(),
            }),
        }
    }

    /// Makes the links and firewall rules of every network again; returns what failed, by network.
    async fn restore_networks(
        &self,
        events: &dyn EventSink,
    ) -> Result<Vec<(String, EngineError)>, EngineError> {
        let mut errors = Vec::new();
        for network in self.net.networks()? {
            let name = network.config.name.clone();
            if let Err(error) = self.net.ensure_network(&network.config).await {
                let kind = EventKind::Failed(chain(&error));
                let subject = Subject::Network(name.clone());
                events.emit(Event { subject, kind });
                errors.push((name, error.into()));
            }
        }
        for warning in self.net.repair()? {
            let kind = EventKind::Warning(warning.to_string());
            let subject = Subject::Project("boot".to_owned());
            events.emit(Event { subject, kind });
        }
        Ok(errors)
    }

    /// Brings back one project.
    async fn boot_project(
        &self,
        project: &ProjectName,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let lock = self.lock_project(project).await?;
        self.recover(project, events).await?;
        let plan = self.boot_plan(project)?;
        warn(project, &plan, events);
        let starting = self.lock_instance(Mode::Shared)?;
        let host = LinuxHost::new(self, None, events, &lock);
        let applied = self.run(&plan, &host, events, cancel).await;
        drop(starting);
        applied
    }

    /// Plans one project.
    fn boot_plan(&self, project: &ProjectName) -> Result<Plan, EngineError> {
        let wanted: BTreeSet<ContainerId> = self
            .of_project(project)?
            .iter()
            .filter(|container| wants_boot(container))
            .map(|container| ContainerId::new(container.id().as_str()))
            .collect();
        let observed = self.observe(project, &plan::images::References::new())?;
        Ok(plan::boot::boot(&observed, &wanted)?)
    }

    /// Returns every project that has containers.
    fn projects(&self) -> Result<BTreeSet<ProjectName>, EngineError> {
        let containers = self.runtime.list()?;
        let labels = containers
            .iter()
            .map(|container| &container.config().labels);
        let names = labels.filter_map(|labels: &BTreeMap<_, _>| labels.get(naming::PROJECT));
        Ok(names
            .filter_map(|name| ProjectName::new(name).ok())
            .collect())
    }
}

/// Renders an error with the steps it consists of.
fn told(error: &EngineError) -> String {
    match error {
        EngineError::Apply(crate::engine::apply::ApplyError::Failed { failures }) => {
            let steps = failures.iter().map(|failure| chain(failure));
            steps.collect::<Vec<_>>().join("; ")
        }
        error => chain(error),
    }
}
