//! Pulls and builds, and their progress.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::LinuxHost;
use crate::engine::build::{Agents, BuildEvents};
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::host::HostResult;
use crate::engine::step::RuntimeSteps;
use crate::engine::{BuildChoices, Engine};
use crate::images::build::{BuildRequest, DockerfileSource, Logins, RemoteContext, Spooled};
use crate::images::{BlobState, Digest, ImageError, Platform, Progress, Reference};
use crate::plan::action::{BuildImage, PullImage};
use crate::spec::model::Stack;

impl LinuxHost<'_> {
    /// Fetches an image.
    pub(super) async fn pull(&self, pull: &PullImage) -> HostResult<()> {
        let reference: Reference = pull.reference.parse()?;
        let platform = match &pull.platform {
            Some(text) => Platform::parse(text)?,
            None => Platform::host(),
        };
        let progress = PullEvents::new(&pull.reference, self.events);
        let pulled = self.engine.images.pull(&reference, &platform, &progress);
        match pulled.await {
            Ok(_) => Ok(()),
            // The step itself says which image was to be pulled.
            Err(ImageError::Pull { source, .. }) => Err(source),
            Err(error) => Err(error.into()),
        }
    }

    /// Builds an image.
    pub(super) async fn build(&self, build: &BuildImage) -> HostResult<()> {
        let asked = &build.build;
        let choices = &self.build;
        let read = read_request(self.engine, self.stack()?, build, choices, self.events);
        let read = Box::pin(read);
        let (mut request, _kept) = self.session.unless_interrupted(read).await?;
        request.tags.insert(0, build.image.parse()?);
        request.no_cache = choices.no_cache || asked.more.no_cache;
        request.explain = choices.explain;
        request.pull = choices.pull || asked.more.pull;
        let runner = RuntimeSteps::new(self.engine)?;
        let progress = BuildEvents::new(&build.image, self.events);
        let images = &self.engine.images;
        Box::pin(images.build(&request, &self.session, &runner, &progress)).await?;
        Ok(())
    }
}

/// A pull's progress as events: each layer by itself.
pub(crate) struct PullEvents<'a> {
    reference: &'a str,
    events: &'a dyn EventSink,
    /// What was last told of each layer, so that it is told once.
    told: RefCell<BTreeMap<String, BlobState>>,
}

impl<'a> PullEvents<'a> {
    /// Tells `events` about the pull of `reference`.
    pub(crate) fn new(reference: &'a str, events: &'a dyn EventSink) -> Self {
        Self {
            reference,
            events,
            told: RefCell::default(),
        }
    }
}

impl Progress for PullEvents<'_> {
    fn blob(&self, blob: &Digest, state: BlobState) {
        tell_layer(
            self.reference,
            blob,
            state,
            &mut self.told.borrow_mut(),
            self.events,
        );
    }

    fn warning(&self, text: &str) {
        self.events.emit(Event {
            subject: Subject::Image(self.reference.to_owned()),
            kind: EventKind::Warning(format!("image {}: {text}", self.reference)),
        });
    }
}

/// Tells where a layer stands, if that is news.
pub(crate) fn tell_layer(
    image: &str,
    blob: &Digest,
    state: BlobState,
    told: &mut BTreeMap<String, BlobState>,
    events: &dyn EventSink,
) {
    let text = blob.to_string();
    let short: String = text
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect();
    if told.insert(short.clone(), state) == Some(state) {
        return;
    }
    let kind = match state {
        BlobState::Waiting => EventKind::Started("Waiting"),
        BlobState::Downloading {
            done_bytes,
            total_bytes,
        } => EventKind::Progress {
            verb: "Downloading",
            done: done_bytes,
            total: Some(total_bytes),
        },
        BlobState::Extracting => EventKind::Started("Extracting"),
        BlobState::Done => EventKind::Finished("Pull complete"),
        BlobState::Exists => EventKind::Unchanged("Already exists"),
        BlobState::Preparing => EventKind::Started("Preparing"),
        BlobState::Uploading {
            done_bytes,
            total_bytes,
        } => EventKind::Progress {
            verb: "Pushing",
            done: done_bytes,
            total: Some(total_bytes),
        },
        BlobState::Pushed => EventKind::Finished("Pushed"),
        BlobState::Mounted => EventKind::Finished("Mounted"),
        BlobState::Skipped => EventKind::Unchanged("Skipped"),
        BlobState::Loading {
            done_bytes,
            total_bytes,
        } => EventKind::Progress {
            verb: "Loading",
            done: done_bytes,
            total: Some(total_bytes),
        },
        BlobState::Loaded => EventKind::Finished("Loaded"),
    };
    events.emit(Event {
        subject: Subject::Layer(image.to_owned(), short),
        kind,
    });
}

/// Returns what the build of a service asks for, and its context where that was fetched and its agents, which must stay as long.
pub(crate) async fn read_request(
    engine: &Engine,
    stack: &Stack,
    build: &BuildImage,
    choices: &BuildChoices,
    events: &dyn EventSink,
) -> HostResult<(BuildRequest, (Option<Spooled>, Agents))> {
    let asked = &build.build;
    let dockerfile = match &asked.dockerfile_inline {
        Some(text) => DockerfileSource::Inline(text.clone()),
        None => DockerfileSource::Path(asked.dockerfile.clone()),
    };
    let agents = engine.service_agents(stack, build, choices).await?;
    let given = (choices, &agents);
    let (mut request, warnings) = engine.service_request(stack, build, given, dockerfile)?;
    for warning in warnings {
        events.emit(Event {
            subject: Subject::Build(build.image.clone()),
            kind: EventKind::Warning(warning),
        });
    }
    let remote = RemoteContext::parse(&asked.context.to_string_lossy())?;
    let fetched = match &remote {
        Some(remote) => {
            let shown = (build.image.as_str(), events);
            let logins = Logins {
                secrets: &request.secrets,
                agents: &request.agents,
            };
            let fetch = engine.fetch_context(remote, &request.args, logins, shown);
            Some(fetch.await?)
        }
        None => None,
    };
    if let Some(fetched) = &fetched {
        request.take_from(fetched);
    }
    Ok((request, (fetched, agents)))
}
