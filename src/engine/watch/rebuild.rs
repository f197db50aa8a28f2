//! Building images again, and replacing the containers of them.
//!
//! ```text
//! building ──done──> replacing ──done──> Done
//!    └ superseded, interrupted: the build is dropped      (replacing is never broken off)
//! ```

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::time::Instant;

use crate::engine::apply::ApplyError;
use crate::engine::cancel::Cancel;
use crate::engine::chain;
use crate::engine::commands::BuildOptions;
use crate::engine::error::EngineError;
use crate::engine::watch::event::WatchEvent;
use crate::engine::watch::ledger::BuildOutcome;
use crate::engine::watch::{Ground, Reason, serve};
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::options::{BuildImages, Recreate, UpOptions};
use crate::spec::model::service::PullPolicy;

/// A build that goes on.
pub(super) struct Rebuild {
    services: BTreeSet<String>,
    up: UpOptions,
    /// Ends the build.
    cancel: Cancel,
    /// Whether the build is over and containers are being replaced.
    replacing: Rc<Cell<bool>>,
    /// Whether nothing is to follow.
    last: Rc<Cell<bool>>,
}

impl Rebuild {
    /// Prepares one.
    pub(super) fn new(services: BTreeSet<String>, up: UpOptions) -> Self {
        Self {
            services,
            up,
            cancel: Cancel::default(),
            replacing: Rc::default(),
            last: Rc::default(),
        }
    }

    /// Gives the build up, because a newer one is due; containers that are being replaced already are replaced to the end.
    pub(super) fn supersede(&self) {
        if !self.replacing.get() {
            self.cancel.cancel();
        }
    }

    /// Gives the build up, because the user asked.
    pub(super) fn interrupt(&self) {
        self.last.set(true);
        self.supersede();
    }

    /// Returns the work.
    pub(super) fn work<'t>(
        &self,
        ground: Ground<'t>,
        reason: Option<Reason>,
    ) -> impl Future<Output = BuildOutcome> + use<'t> {
        let services: Vec<String> = self.services.iter().cloned().collect();
        let (cancel, replacing) = (self.cancel.clone(), Rc::clone(&self.replacing));
        let (up, last) = (self.up.clone(), Rc::clone(&self.last));
        async move {
            let heard = reason
                .as_ref()
                .map_or_else(Instant::now, |reason| reason.heard);
            ground.watch.watched(WatchEvent::Rebuilding {
                services: services.clone(),
                changed: Reason::changed(reason.as_ref()),
            });
            let options = BuildOptions {
                services: services.clone(),
                ..BuildOptions::default()
            };
            let built = ground
                .engine
                .build(ground.stack, &options, ground.events, &cancel)
                .await;
            if cancel.is_cancelled() {
                if !last.get() {
                    ground.watch.watched(WatchEvent::Superseded { services });
                }
                return BuildOutcome::Superseded;
            }
            replacing.set(true);
            let replaced = match built {
                Ok(()) => replace(ground, &services, up).await,
                Err(error) => Err(error),
            };
            match replaced {
                Ok(images) => {
                    ground.watch.watched(WatchEvent::Rebuilt {
                        services,
                        took: heard.elapsed(),
                    });
                    BuildOutcome::Done(images)
                }
                Err(error) => {
                    ground.watch.watched(WatchEvent::Failed {
                        service: services.join(", "),
                        attempted: "rebuild".to_owned(),
                        reason: reasons(&error),
                    });
                    BuildOutcome::Failed
                }
            }
        }
    }
}

/// Brings up the services with their new images, and what asks to be restarted with them; returns the images' ids.
async fn replace(
    ground: Ground<'_>,
    services: &[String],
    up: UpOptions,
) -> Result<Vec<String>, EngineError> {
    let Ground {
        engine,
        stack,
        events,
        ..
    } = ground;
    let selection = Selection::new(stack, services, Dependencies::Leave)?;
    let named: BTreeSet<String> = services.iter().cloned().collect();
    let there: BTreeSet<String> = serve::find(engine, stack)?
        .into_iter()
        .map(|found| found.service)
        .collect();
    let mut all = selection.graph.with_restarted(&named);
    all.retain(|service| named.contains(service) || there.contains(service));
    let options = UpOptions {
        services: all.into_iter().collect(),
        no_deps: true,
        recreate: Recreate::Changed,
        pull: Some(PullPolicy::Missing),
        build: BuildImages::Never,
        no_start: false,
        wait: false,
        remove_orphans: false,
        ..up
    };
    engine
        .up(stack, &options, events, &Cancel::default())
        .await?;
    let found = serve::find(engine, stack)?;
    let of_services = found
        .into_iter()
        .filter(|found| named.contains(&found.service));
    Ok(of_services.map(|found| found.image).collect())
}

/// Returns why a build failed, each failure on lines of its own.
fn reasons(error: &EngineError) -> String {
    match error {
        EngineError::Apply(
            ApplyError::Failed { failures } | ApplyError::Interrupted { failures },
        ) => {
            let lines: Vec<String> = failures.iter().map(|failure| chain(failure)).collect();
            lines.join("\n")
        }
        error => chain(error),
    }
}
