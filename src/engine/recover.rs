//! What a killed process left is put right: monitors on their way, containers without one.

use crate::engine::commands::is_of;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::step::NETWORKS;
use crate::engine::{Engine, chain, readable};
use crate::runtime::Adoption;
use crate::runtime::record::{Desired, Exit};
use crate::runtime::status::{Container, Status, Watch};
use crate::spec::names::ProjectName;

impl Engine {
    /// Puts right what a killed process left: adopts containers without a monitor, takes names and ports of ended ones
    /// out of force. Returns all containers, of every project, where nothing was waited for or changed since they were listed.
    pub(crate) async fn recover(
        &self,
        project: &ProjectName,
        events: &dyn EventSink,
    ) -> Result<Option<Vec<Container>>, EngineError> {
        let known = self.release_gone()?;
        let mut is_current = true;
        for container in known.iter().filter(|known| is_of(known, project)) {
            let settled = self.settled(container).await?;
            is_current &= settled.is_none();
            let container = settled.as_ref().unwrap_or(container);
            let name = &container.config().name;
            let kind = match self.adopt(container).await? {
                Adopted::NotNeeded => continue,
                Adopted::Runs => EventKind::Finished("Adopted"),
                Adopted::HadEnded(exit) => EventKind::Warning(had_ended(name, exit)),
            };
            is_current = false;
            let subject = Subject::Container(name.clone());
            events.emit(Event { subject, kind });
        }
        Ok(is_current.then_some(known))
    }

    /// Gives back the names, ports and addresses of containers whose removal was killed before it came to them; returns all
    /// containers.
    pub(super) fn release_gone(&self) -> Result<Vec<Container>, EngineError> {
        // In this order: whatever holds something was a container before, so that one that is new is not taken for gone.
        let holders = self.net.holders(&NETWORKS)?;
        let known = self.runtime.list()?;
        let gone: Vec<&str> = holders
            .iter()
            .map(String::as_str)
            .filter(|id| known.iter().all(|container| container.id().as_str() != *id))
            .collect();
        if gone.is_empty() {
            return Ok(known);
        }
        let released = self.net.release(&gone);
        self.net.forget(&gone)?;
        released.map_err(|errors| EngineError::Several {
            messages: errors.iter().map(|error| chain(error)).collect(),
        })?;
        Ok(known)
    }

    /// Waits until a start that a killed command began has gone well or not, so that it is not planned once more, and until a stop
    /// is over, so that it is not taken for running; returns the container as it is then, where that is not as it was listed.
    async fn settled(&self, listed: &Container) -> Result<Option<Container>, EngineError> {
        match listed.status {
            Status::Running { .. } if listed.record.desired == Desired::Stopped => {
                self.await_monitor(listed).await?;
                self.await_end(listed).await?;
            }
            Status::Created { error: None } | Status::Exited(Exit { unknown: true, .. }) => {
                self.await_monitor(listed).await?;
                // It may have started since it was listed: only what is read after its monitor listens tells whether it is starting.
                let container = self.runtime.get(listed.id())?;
                self.await_start(&container).await?;
            }
            _ if listed.watch == Watch::Missing => self.await_monitor(listed).await?,
            _ => return Ok(None),
        }
        let container = self.runtime.get(listed.id())?;
        Ok((container != *listed).then_some(container))
    }

    /// Waits for the end of a container that its monitor was told to end.
    async fn await_end(&self, container: &Container) -> Result<(), EngineError> {
        let id = container.id();
        if !self.runtime.is_stopping(id)? {
            return Ok(());
        }
        let failed = |source| EngineError::System {
            attempted: format!("wait for the end of container {}", id.short()),
            source,
        };
        let mut stopping = self.runtime.wait(id)?;
        while stopping.advance()?.is_none() {
            readable(&stopping).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until no monitor of the container is on its way.
    async fn await_monitor(&self, container: &Container) -> Result<(), EngineError> {
        let Some(spawning) = self.runtime.spawning(container.id())? else {
            return Ok(());
        };
        let waited = tokio::task::spawn_blocking(|| spawning.finish()).await;
        waited
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| EngineError::System {
                attempted: format!("wait for the monitor of {}", container.id().short()),
                source,
            })
    }

    /// Waits until no monitor that listens is starting the container.
    async fn await_start(&self, container: &Container) -> Result<(), EngineError> {
        let failed = |source| EngineError::System {
            attempted: format!("wait for the start of container {}", container.id().short()),
            source,
        };
        let Some(monitor) = self.runtime.starting(container)? else {
            return Ok(());
        };
        // Watched before it is looked at: a change in between is then not missed.
        let mut changes = self.runtime.changes()?;
        let monitor = match crate::sys::pidfd::open(monitor) {
            Ok(monitor) => monitor,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        while self
            .runtime
            .starting(&self.runtime.get(container.id())?)?
            .is_some()
        {
            tokio::select! {
                changed = readable(&changes) => {
                    changed.map_err(failed)?;
                    changes.take().map_err(failed)?;
                }
                ended = readable(&monitor) => return ended.map_err(failed),
            }
        }
        Ok(())
    }

    /// Gives a container whose monitor died a new one; does nothing for any other.
    pub(crate) async fn adopt(&self, container: &Container) -> Result<Adopted, EngineError> {
        if container.watch != Watch::Missing {
            return Ok(Adopted::NotNeeded);
        }
        let id = container.id();
        // Its ports were held by the dead monitor and its child; the same ones are taken again.
        let published = self.net.published(id.as_str())?;
        let sockets: Vec<_> = match crate::net::query::reserve_again(&published) {
            Ok(reserved) => reserved
                .into_iter()
                .map(|reserved| reserved.socket)
                .collect(),
            Err(error) if matches!(container.status, Status::Running { .. }) => {
                return Err(error.into());
            }
            Err(_) => Vec::new(),
        };
        let failed = |source| EngineError::System {
            attempted: format!("adopt container {}", id.short()),
            source,
        };
        let mut adoption = self.runtime.adopt(id, &sockets)?;
        if let Adoption::Adopting(starting) = adoption {
            readable(&starting).await.map_err(failed)?;
            adoption = match starting.finish() {
                Ok(_) => return Ok(Adopted::Runs),
                // It ended after it was looked at: then there is nothing left to adopt.
                Err(_) if self.runtime.get(id)?.pid().is_none() => self.runtime.adopt(id, &[])?,
                Err(error) => return Err(failed(std::io::Error::other(chain(&error)))),
            };
        }
        match adoption {
            // What the plan does about its end is the plan's.
            Adoption::Ended { exit, .. } => {
                self.release(id)?;
                Ok(Adopted::HadEnded(exit))
            }
            Adoption::NotNeeded | Adoption::Adopting(_) => Ok(Adopted::NotNeeded),
        }
    }

    /// Takes names and ports of a container that has ended out of force.
    fn release(&self, id: &crate::runtime::config::ContainerId) -> Result<(), EngineError> {
        self.net
            .release(&[id.as_str()])
            .map_err(|errors| EngineError::Several {
                messages: errors.iter().map(|error| chain(error)).collect(),
            })
    }
}

/// What became of a container whose monitor may have died.
#[derive(Debug)]
pub(crate) enum Adopted {
    /// It has a monitor, or needs none.
    NotNeeded,
    /// It runs and has a new one.
    Runs,
    /// It had ended, which nobody saw.
    HadEnded(Exit),
}

/// Says that a container has ended without anybody seeing it.
fn had_ended(name: &str, exit: Exit) -> String {
    let code = if exit.unknown {
        "its exit code is unknown".to_owned()
    } else {
        format!("exit code {}", exit.code)
    };
    format!("container {name} had ended after its monitor was killed; {code}")
}
