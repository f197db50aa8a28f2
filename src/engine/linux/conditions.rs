//! Waiting for containers to be healthy, to complete, to run.

use super::{LinuxHost, runtime_id};
use crate::engine::host::{HostError, HostResult};
use crate::engine::readable;
use crate::plan::action::{AwaitCondition, Awaited};
use crate::plan::observed::ContainerId;
use crate::runtime::record::{Health, HealthStatus};
use crate::runtime::status::{Container, Status};

/// How a container stands to a condition.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    NotYet,
    Never(String),
}

impl LinuxHost<'_> {
    /// Waits until the containers meet the condition.
    pub(super) async fn await_all(
        &self,
        wait: &AwaitCondition,
        ids: &[ContainerId],
    ) -> HostResult<()> {
        let runtime = &self.engine.runtime;
        // Watched before they are looked at: a change in between is then not missed.
        let mut changes = runtime.changes()?;
        let ids = ids.iter().map(runtime_id).collect::<HostResult<Vec<_>>>()?;
        loop {
            let mut met = 0;
            for id in &ids {
                match verdict(&runtime.get(id)?, wait.condition) {
                    Verdict::Met => met += 1,
                    Verdict::NotYet => {}
                    Verdict::Never(why) => return Err(HostError::from(why)),
                }
            }
            let enough = if wait.condition == Awaited::Completed {
                met > 0
            } else {
                met == ids.len()
            };
            if enough {
                return Ok(());
            }
            readable(&changes).await?;
            changes.take()?;
        }
    }
}

/// Judges one container.
fn verdict(container: &Container, condition: Awaited) -> Verdict {
    let name = &container.config().name;
    let ended = |code: String| Verdict::Never(format!("container {name} exited ({code})"));
    match (&container.status, condition) {
        (Status::Exited(exit), Awaited::Completed) if exit.code == 0 && !exit.unknown => {
            Verdict::Met
        }
        (Status::Exited(exit), Awaited::Completed) => Verdict::Never(format!(
            "service didn't complete successfully: container {name} exited ({})",
            exit.code
        )),
        // `up --wait`: a container that was there to run once has done so.
        (Status::Exited(exit), Awaited::RunningOrHealthy) if exit.code == 0 && !exit.unknown => {
            Verdict::Met
        }
        (Status::Exited(exit), _) => ended(exit.code.to_string()),
        (Status::Removing, _) => Verdict::Never(format!("container {name} was removed")),
        (
            Status::Created {
                error: Some((_, message)),
            },
            _,
        ) => Verdict::Never(format!("container {name}: {message}")),
        (Status::Running { .. }, Awaited::Healthy | Awaited::RunningOrHealthy) => {
            healthy(container, condition)
        }
        (
            Status::Created { error: None } | Status::Restarting { .. } | Status::Running { .. },
            _,
        ) => Verdict::NotYet,
    }
}

/// Judges the health of a running container.
fn healthy(container: &Container, condition: Awaited) -> Verdict {
    let name = &container.config().name;
    match (&container.config().health, &container.health) {
        (None, _) if condition == Awaited::RunningOrHealthy => Verdict::Met,
        (None, _) => Verdict::Never(format!("container {name} has no healthcheck configured")),
        (
            Some(_),
            Some(Health {
                status: HealthStatus::Healthy,
                ..
            }),
        ) => Verdict::Met,
        (
            Some(_),
            Some(
                health @ Health {
                    status: HealthStatus::Unhealthy,
                    ..
                },
            ),
        ) => Verdict::Never(format!(
            "container {name} is unhealthy{}",
            last_output(health)
        )),
        (Some(_), _) => Verdict::NotYet,
    }
}

/// Renders what the last probe said.
fn last_output(health: &Health) -> String {
    let Some(probe) = health.probes.last() else {
        return String::new();
    };
    let printed = probe.output.trim();
    if printed.is_empty() {
        format!(
            ": its health check exited with {} and printed nothing",
            probe.code
        )
    } else {
        format!(
            ": its health check exited with {} and printed: {printed}",
            probe.code
        )
    }
}
