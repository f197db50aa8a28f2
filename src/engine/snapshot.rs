//! What a container's files are now: as an image (`commit`), as a tar (`export`).

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::{Engine, chain};
use crate::images::flatten::write_flat;
use crate::images::manifest::{Healthcheck, RunConfig};
use crate::images::{Change, Changes, CommitOptions, ImageError, Stop};
use crate::runtime::RuntimeError;
use crate::runtime::status::{Container, Status};

/// `commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// Name that the image gets.
    pub name: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// Dockerfile instructions on top.
    pub changes: Vec<String>,
    /// Hold the container still meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container (a name or the beginning of an id); returns its id.
    pub async fn commit(
        &self,
        key: &str,
        request: &CommitRequest,
        cancel: &Cancel,
    ) -> Result<String, EngineError> {
        let container = self.container(key)?;
        let changes = read_changes(&request.changes)?;
        let name = request.name.as_deref().map(str::parse).transpose()?;
        let config = container.config();
        let base = self.images.find_id(&config.image.id)?;
        let base = base.ok_or_else(|| ImageError::NoSuchImage {
            text: config.image.id.clone(),
        })?;
        let options = CommitOptions {
            name,
            author: request.author.clone(),
            message: request.message.clone(),
            changes,
            config: run_config(&container),
            command: config.process.args.join(" "),
        };
        let changes = self.changes(&container, request.pause, cancel).await?;
        // What was removed meanwhile was perhaps not copied whole.
        let now = self.container(container.id().as_str())?;
        if now.status == Status::Removing || now.record.generation != container.record.generation {
            return Err(EngineError::NoSuchContainer {
                key: key.to_owned(),
            });
        }
        let image = self.images.commit(&base, &changes, &options)?;
        Ok(image.id.to_string())
    }

    /// Copies what a container changed, while it stands still where that is asked for.
    async fn changes(
        &self,
        container: &Container,
        pause: bool,
        cancel: &Cancel,
    ) -> Result<Changes, EngineError> {
        let still = async {
            if pause {
                self.freeze(container).await
            } else {
                Ok(None)
            }
        };
        let _still = tokio::select! {
            still = still => still?,
            () = cancel.cancelled() => return Err(EngineError::Interrupted),
        };
        let (images, upper) = (Arc::clone(&self.images), self.upper(container));
        let stop = Stop::default();
        let until = stop.clone();
        let mut copying = tokio::task::spawn_blocking(move || images.changes(&upper, &until));
        let done = tokio::select! {
            done = &mut copying => done,
            () = cancel.cancelled() => {
                stop.ask();
                let _stopped = copying.await;
                return Err(EngineError::Interrupted);
            }
        };
        let done = done.map_err(|error| EngineError::System {
            attempted: format!("copy the changes of container {}", container.config().name),
            source: std::io::Error::other(error),
        })?;
        Ok(done?)
    }

    /// Writes a container's files as one tar, without what is mounted in it.
    pub fn export(&self, key: &str, sink: &mut impl Write) -> Result<(), EngineError> {
        let container = self.container(key)?;
        let mut layers = vec![self.upper(&container)];
        layers.extend(self.runtime.layout().lowers(container.config()));
        write_flat(&layers, sink).map_err(|error| EngineError::System {
            attempted: format!("export container {}", container.config().name),
            source: std::io::Error::other(chain(&error)),
        })
    }

    /// Returns the id of a container by its name or the beginning of its id.
    pub fn container_id(&self, key: &str) -> Result<String, EngineError> {
        Ok(self.container(key)?.id().to_string())
    }

    /// Finds a container by its name or the beginning of its id.
    pub(crate) fn container(&self, key: &str) -> Result<Container, EngineError> {
        self.runtime.find(key).map_err(|error| match error {
            RuntimeError::NotFound(key) => EngineError::NoSuchContainer { key },
            error => error.into(),
        })
    }

    /// Returns the overlay upper directory of a container.
    pub(crate) fn upper(&self, container: &Container) -> PathBuf {
        let layout = self.runtime.layout();
        let generation = layout.generation(container.id(), container.record.generation);
        generation.join("upper")
    }
}

/// Reads `--change`.
pub(crate) fn read_changes(changes: &[String]) -> Result<Vec<Change>, EngineError> {
    let changes = changes.iter().map(|text| Change::parse(text));
    let changes: Result<Vec<Change>, _> = changes.collect();
    changes.map_err(|error| EngineError::System {
        attempted: "read --change".to_owned(),
        source: std::io::Error::other(error),
    })
}

/// Returns what a container runs, in an image's words.
pub(crate) fn run_config(container: &Container) -> RunConfig {
    let config = container.config();
    let process = &config.process;
    let nanoseconds =
        |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let healthcheck = config.health.as_ref().map(|health| {
        let mut test = vec!["CMD".to_owned()];
        test.extend(health.test.iter().cloned());
        Healthcheck {
            test,
            interval_ns: nanoseconds(health.interval),
            timeout_ns: nanoseconds(health.timeout),
            start_period_ns: nanoseconds(health.start_period),
            start_interval_ns: nanoseconds(health.start_interval),
            retries: health.retries.into(),
        }
    });
    RunConfig {
        user: process.user.clone(),
        env: process.env.clone(),
        cmd: Some(process.args.clone()),
        healthcheck,
        working_dir: process.cwd.clone(),
        labels: config.labels.clone(),
        ..RunConfig::default()
    }
}
