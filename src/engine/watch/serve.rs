//! Giving the containers of a service what they are owed, and restarting them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::apply::ApplyError;
use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::linux::LinuxHost;
use crate::engine::watch::event::WatchEvent;
use crate::engine::watch::ledger::{Doing, Found, Init, Order, Served};
use crate::engine::watch::push::{self, Item, Place, Pushed};
use crate::engine::watch::rules::Rule;
use crate::engine::watch::{Ground, Reason};
use crate::engine::{Engine, chain, readable};
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::options::LifecycleOptions;
use crate::plan::{self, naming};
use crate::runtime::StopOptions;
use crate::runtime::config::{ContainerId, MountSource};
use crate::runtime::init::RootFs;
use crate::runtime::status::{Container, Status};
use crate::spec::model::Stack;
use crate::spec::model::build::WatchAction;
use crate::sys::atomic::Durability;
use crate::sys::procfs;

/// Most reasons told of one batch; the rest is counted.
const TOLD: usize = 5;

/// Finds the project's containers, without those that `run` made.
pub(super) fn find(engine: &Engine, stack: &Stack) -> Result<Vec<Found>, EngineError> {
    let containers = engine.of_project(&stack.name)?;
    let one_off = |container: &Container| {
        container
            .config()
            .labels
            .get(naming::ONEOFF)
            .is_some_and(|value| value == "True")
    };
    let containers = containers.iter().filter(|container| !one_off(container));
    Ok(containers.filter_map(found).collect())
}

/// Returns what matters of one container.
fn found(container: &Container) -> Option<Found> {
    let config = container.config();
    let doing = match container.status {
        Status::Running { pid, .. } => match procfs::start_time(pid) {
            Ok(Some(started)) => Doing::Running(Init { pid, started }),
            // It has just ended; that will be told.
            Ok(None) | Err(_) => Doing::Waiting,
        },
        Status::Restarting { .. } => Doing::Waiting,
        Status::Created { .. } | Status::Exited(_) => Doing::Nothing,
        Status::Removing => return None,
    };
    let memory = config
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Tmpfs { .. }));
    Some(Found {
        id: container.id().to_string(),
        name: config.name.clone(),
        service: config.labels.get(naming::SERVICE)?.clone(),
        image: config.image.id.clone(),
        doing,
        volatile: memory.map(|mount| PathBuf::from(&mount.target)).collect(),
    })
}

/// What came of the orders of one service, added up.
#[derive(Default)]
struct Tally {
    synced: usize,
    restarted: usize,
    failures: Vec<(String, String)>,
}

/// Carries out orders; tells what was done and what was not.
pub(super) async fn serve(
    ground: Ground<'_>,
    service: &str,
    orders: &[Order],
    rules: &[Rule],
    reason: Option<Reason>,
) -> Vec<Served> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut results = Vec::new();
    let mut restarting = Vec::new();
    for order in orders {
        let (served, restart) = give(ground.engine, order, rules, &mut tally).await;
        if restart {
            restarting.push((results.len(), order));
        }
        results.push(served);
    }
    for (index, order) in restarting {
        let restarted = restart(ground, order).await;
        let Some(served) = results.get_mut(index) else {
            continue;
        };
        match restarted {
            Ok(()) => {
                served.restarted = true;
                tally.restarted += 1;
            }
            Err(error) => {
                served.failed = true;
                tally
                    .failures
                    .push((format!("restart {}", order.found.name), chain(&error)));
            }
        }
    }
    if tally.restarted > 0
        && let Err(error) = restart_dependents(ground, service).await
    {
        tally
            .failures
            .push((format!("restart what depends on {service}"), chain(&error)));
    }
    if tally.synced + tally.restarted > 0 {
        ground.watch.watched(WatchEvent::Done {
            service: service.to_owned(),
            changed: Reason::changed(reason.as_ref()),
            synced: tally.synced,
            restarted: tally.restarted,
            took: reason
                .as_ref()
                .map_or(begun, |reason| reason.heard)
                .elapsed(),
        });
    }
    let failures = tally.failures.len();
    for (attempted, reason) in tally.failures.into_iter().take(TOLD) {
        ground.watch.watched(WatchEvent::Failed {
            service: service.to_owned(),
            attempted,
            reason,
        });
    }
    if failures > TOLD {
        ground.watch.watched(WatchEvent::Warning(format!(
            "service `{service}`: {} more could not be done",
            failures - TOLD
        )));
    }
    results
}

/// Copies what one container is owed; returns whether it is to be restarted.
async fn give(engine: &Engine, order: &Order, rules: &[Rule], tally: &mut Tally) -> (Served, bool) {
    let items = items(order, rules);
    if items.is_empty() {
        return (Served::default(), order.restart.is_some());
    }
    let container = &order.found.name;
    let place = match place(engine, &order.found).await {
        Ok(place) => place,
        Err(error) => {
            tally
                .failures
                .push((format!("write to {container}"), chain(&error)));
            let failed = Served {
                failed: true,
                ..Served::default()
            };
            return (failed, false);
        }
    };
    let running = matches!(place, Place::Running(_));
    let pushed = tokio::task::spawn_blocking(move || push::push(&place, items)).await;
    let pushed = pushed.unwrap_or_else(|error| Pushed {
        failed: vec![(PathBuf::from("/"), std::io::Error::other(error))],
        ..Pushed::default()
    });
    tally.synced += pushed.written.len();
    for (target, error) in &pushed.failed {
        let attempted = format!("write `{}` in {container}", target.display());
        tally.failures.push((attempted, chain(error)));
    }
    let restarts = |(index, _): &(usize, PathBuf)| {
        rules
            .get(*index)
            .is_some_and(|rule| rule.action == WatchAction::SyncRestart)
    };
    // A container that came with old files has begun with them.
    let wanted = order.restart.is_some() || (running && pushed.written.iter().any(restarts));
    // One that was stopped to be written to is started whatever came of that.
    let incomplete = pushed.absent || !pushed.failed.is_empty();
    let served = Served {
        given: pushed.given,
        restarted: false,
        failed: incomplete,
    };
    (served, wanted && !(running && incomplete))
}

/// Returns what an order copies from where to where.
fn items(order: &Order, rules: &[Rule]) -> Vec<Item> {
    let item = |(key, version): (&(usize, PathBuf), &u64)| {
        let (index, source) = key;
        let target = rules.get(*index)?.target_of(source)?;
        Some(Item {
            key: key.clone(),
            version: *version,
            source: source.clone(),
            target,
        })
    };
    order.owed.iter().filter_map(item).collect()
}

/// Returns where a container is written to. One that waits for its restart policy is stopped: it must not start halfway.
async fn place(engine: &Engine, found: &Found) -> Result<Place, EngineError> {
    if let Doing::Running(init) = found.doing {
        return Ok(Place::Running(init));
    }
    let id = id_of(found)?;
    stop(engine, &id).await?;
    let record = engine.runtime.record(&id)?;
    let layout = engine.runtime.layout();
    let generation = layout.generation(&id, record.generation);
    let mounts = record.config.mounts.iter();
    Ok(Place::Stopped {
        layers: RootFs {
            lowers: layout.lowers(&record.config),
            upper: generation.join("upper"),
            work: generation.join("work"),
            is_volatile: false,
        },
        mounted: mounts.map(|mount| PathBuf::from(&mount.target)).collect(),
    })
}

/// Ends a container's waiting for its restart policy.
async fn stop(engine: &Engine, id: &ContainerId) -> Result<(), EngineError> {
    let options = StopOptions {
        timeout: Some(Duration::ZERO),
        durability: Durability::Cached,
        releases: true,
    };
    let mut stopping = engine.runtime.stop(id, options)?;
    let ended = loop {
        if let Some(ended) = stopping.advance()? {
            break ended;
        }
        readable(&stopping)
            .await
            .map_err(|source| EngineError::System {
                attempted: format!("stop container {}", id.short()),
                source,
            })?;
    };
    if ended.released {
        return Ok(());
    }
    engine
        .net
        .release(&[id.as_str()])
        .map_err(|errors| EngineError::Several {
            messages: errors.iter().map(|error| chain(error)).collect(),
        })
}

/// Restarts one container and what asks to be restarted with it, in its own sandbox where it runs.
async fn restart(ground: Ground<'_>, order: &Order) -> Result<(), EngineError> {
    let engine = ground.engine;
    let id = id_of(&order.found)?;
    let container = engine.runtime.get(&id)?;
    engine.adopt(&container).await?;
    match engine.runtime.get(&id)?.status {
        Status::Running { .. } => in_place(engine, &container).await,
        Status::Restarting { .. } => {
            stop(engine, &id).await?;
            start(ground, &order.found.service).await
        }
        Status::Created { .. } | Status::Exited(_) => start(ground, &order.found.service).await,
        // What comes in its place has the files.
        Status::Removing => Ok(()),
    }
}

/// Restarts the running containers of services that ask to be restarted with `service` (`depends_on: restart: true`).
async fn restart_dependents(ground: Ground<'_>, service: &str) -> Result<(), EngineError> {
    let Ground { engine, stack, .. } = ground;
    let named = [service.to_owned()];
    let selection = Selection::new(stack, &named, Dependencies::Leave)?;
    let mut dependents = selection.graph.with_restarted(&BTreeSet::from(named));
    dependents.remove(service);
    if dependents.is_empty() {
        return Ok(());
    }
    for container in engine.of_project(&stack.name)? {
        let of = container.config().labels.get(naming::SERVICE);
        let runs = matches!(container.status, Status::Running { .. });
        if runs && of.is_some_and(|of| dependents.contains(of)) {
            engine.adopt(&container).await?;
            in_place(engine, &container).await?;
        }
    }
    Ok(())
}

/// Gives a running container a new first process.
async fn in_place(engine: &Engine, container: &Container) -> Result<(), EngineError> {
    let restarting = engine
        .runtime
        .restart(container.id(), container.config().stop_timeout)?;
    readable(&restarting)
        .await
        .map_err(|source| EngineError::System {
            attempted: format!("restart container {}", container.id().short()),
            source,
        })?;
    Ok(restarting.finish()?)
}

/// Starts the containers of a service that do not run, with what they depend on.
async fn start(ground: Ground<'_>, service: &str) -> Result<(), EngineError> {
    let Ground {
        engine,
        stack,
        events,
        ..
    } = ground;
    let lock = engine.lock_project(&stack.name).await?;
    let observed = engine.observe(&stack.name, &plan::images::references(stack))?;
    let options = LifecycleOptions {
        services: vec![service.to_owned()],
        ..LifecycleOptions::default()
    };
    let plan = plan::lifecycle::start(Some(stack), &observed, &options)?;
    let host = LinuxHost::new(engine, Some(stack), events, &lock);
    let applied =
        crate::engine::apply::apply(&plan, &host, events, Cancel::default().cancelled()).await;
    match applied {
        Ok(()) => Ok(()),
        Err(error @ (ApplyError::Failed { .. } | ApplyError::Interrupted { .. })) => {
            let failures = match &error {
                ApplyError::Failed { failures } | ApplyError::Interrupted { failures } => failures,
            };
            Err(EngineError::Several {
                messages: failures.iter().map(|failure| chain(failure)).collect(),
            })
        }
    }
}

/// Returns a container's id.
fn id_of(found: &Found) -> Result<ContainerId, EngineError> {
    ContainerId::new(&found.id).ok_or_else(|| EngineError::System {
        attempted: format!("find container `{}`", found.id),
        source: std::io::ErrorKind::InvalidInput.into(),
    })
}
