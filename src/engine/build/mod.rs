//! Builds: from what was asked for to the builder's request, and its progress as events.

mod events;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::step::RuntimeSteps;
use crate::engine::{Engine, chain};
use crate::images::build::{BuildRequest, DockerfileSource, Session};
use crate::images::{Platform, Reference};

pub(crate) use events::BuildEvents;

/// An image to build, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageBuild {
    /// The directory that `COPY` and `ADD` take from, absolute.
    pub context: PathBuf,
    /// The Dockerfile, absolute; the one of the context where unset.
    pub dockerfile: Option<PathBuf>,
    /// The names that the image gets.
    pub tags: Vec<String>,
    /// Build arguments; one without a value takes it from the environment, or has none.
    pub build_args: BTreeMap<String, Option<String>>,
    /// The stage to build; the last where unset.
    pub target: Option<String>,
    /// Labels over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// What the image is to run on; this machine where unset.
    pub platform: Option<String>,
}

impl Engine {
    /// Builds one image; returns its id.
    pub async fn build_image(
        &self,
        build: &ImageBuild,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<String, EngineError> {
        let tags = build.tags.iter().map(|tag| tag.parse::<Reference>());
        let tags = tags.collect::<Result<Vec<_>, _>>()?;
        let name = build.tags.first().cloned();
        let name = name.unwrap_or_else(|| build.context.display().to_string());
        let request = BuildRequest {
            context: build.context.clone(),
            dockerfile: DockerfileSource::Path(
                build
                    .dockerfile
                    .clone()
                    .unwrap_or_else(|| PathBuf::from("Dockerfile")),
            ),
            args: self.arguments(&build.build_args),
            target: build.target.clone(),
            tags,
            labels: build.labels.clone(),
            no_cache: build.no_cache,
            explain: build.explain,
            pull: build.pull,
            platform: platform(build.platform.as_deref())?,
            started: jiff::Timestamp::now(),
        };
        let runner = RuntimeSteps::new(self).map_err(|error| EngineError::System {
            attempted: "prepare to run the steps of a build".to_owned(),
            source: std::io::Error::other(chain(&*error)),
        })?;
        let emit = |kind| {
            events.emit(Event {
                subject: Subject::Build(name.clone()),
                kind,
            });
        };
        emit(EventKind::Started("Building"));
        let progress = BuildEvents::new(&name, events);
        let session = Session::default();
        let built = tokio::select! {
            built = self.images.build(&request, &session, &runner, &progress) => built.map_err(EngineError::from),
            () = cancel.cancelled() => Err(EngineError::Interrupted),
        };
        drop(runner);
        emit(match &built {
            Ok(_) => EventKind::Finished("Built"),
            Err(error) => EventKind::Failed(chain(error)),
        });
        let cleaned = self.clean_up().await;
        let id = built?.image.id.to_string();
        cleaned.map(|()| id)
    }

    /// Gives build arguments without a value that of the environment.
    pub(crate) fn arguments(
        &self,
        typed: &BTreeMap<String, Option<String>>,
    ) -> BTreeMap<String, Option<String>> {
        let of_environment = |name: &String| self.environment.get(name).cloned();
        typed
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().or_else(|| of_environment(name))))
            .collect()
    }
}

/// Reads a platform; the machine's where there is none.
fn platform(text: Option<&str>) -> Result<Platform, EngineError> {
    let Some(text) = text else {
        return Ok(Platform::host());
    };
    Platform::parse(text).map_err(|error| EngineError::System {
        attempted: "read --platform".to_owned(),
        source: std::io::Error::other(error),
    })
}
