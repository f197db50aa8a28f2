//! Builds: from what was asked for to the builder's request, and its progress as events.

mod agents;
mod attest;
pub(crate) mod blame;
pub(crate) mod describe;
mod events;
pub(crate) mod options;
mod output;
mod platforms;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;

use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::registry::PushedImage;
use crate::engine::step::{self, RuntimeSteps};
use crate::engine::{Engine, chain};
use crate::images::boolean::parse_bool;
use crate::images::build::{
    Annotation, BuildError, BuildRequest, Built, DockerfileSource, Entitlement, FROM_STREAM,
    Logins, RemoteContext, Requirements, SecretSource, Session, Spooled, StepNetwork,
};
use crate::images::{Packing, Reference};

pub(crate) use agents::Agents;
pub(crate) use events::BuildEvents;
use options::OptionError;
pub(crate) use service::check_secrets;

/// An image to build, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageBuild {
    /// What `COPY` and `ADD` take from: a directory, `-` for a stream, or a URL.
    pub context: String,
    /// The Dockerfile, relative to `directory`, or to a context that is fetched or a stream; the one of the context where unset.
    pub dockerfile: Option<PathBuf>,
    /// The text of the Dockerfile, in its place.
    pub dockerfile_text: Option<String>,
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
    /// Run every step of these stages again.
    pub no_cache_filter: Vec<String>,
    /// Where relative paths of what follows start from.
    pub directory: PathBuf,
    /// `--secret`s.
    pub secrets: Vec<String>,
    /// `--ssh`s.
    pub ssh: Vec<String>,
    /// `--add-host`s.
    pub hosts: Vec<String>,
    /// `--network`; one of the steps' own where empty.
    pub network: String,
    /// `--shm-size`.
    pub shm_size: Option<String>,
    /// `--memory`.
    pub memory: Option<String>,
    /// `--ulimit`s.
    pub limits: Vec<String>,
    /// `--allow`s.
    pub allow: Vec<String>,
    /// `--build-context`s.
    pub contexts: Vec<String>,
    /// `--output`s.
    pub outputs: Vec<String>,
    /// Push every name when it is built.
    pub push: bool,
    /// Keep it in the store whatever the outputs are.
    pub load: bool,
    /// `--annotation`s.
    pub annotations: Vec<String>,
    /// `--cache-from`s.
    pub cache_from: Vec<String>,
    /// `--cache-to`s.
    pub cache_to: Vec<String>,
    /// Attestations that are asked for: `provenance`, `sbom`, and what is said of each.
    pub attestations: Vec<(&'static str, String)>,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// What the image is to run on, also several with commas between; this machine where empty.
    pub platforms: Vec<String>,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:…` that it is known by here: of its configuration, or of its index.
    pub id: String,
    /// `sha256:…` of its configuration, where it has but one.
    pub config: Option<String>,
    /// The manifest or index: where it was pushed, as it is in the registry.
    pub descriptor: BuiltDescriptor,
    /// Whether it is somewhere as an image, and not only its files.
    pub is_image: bool,
}

/// What a build made, as others find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltDescriptor {
    /// Of a manifest or index.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Its length.
    pub size_bytes: u64,
}

impl Engine {
    /// Builds one image, and writes it where it is to go. A context `-` is read from `streams.0`; what has no place goes to `streams.1`.
    pub async fn build_image(
        &self,
        build: &ImageBuild,
        streams: (Box<dyn std::io::Read + Send>, &mut dyn std::io::Write),
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<BuiltImage, EngineError> {
        let outputs = build.outputs.iter();
        let outputs = outputs.map(|text| output::parse(text, &build.directory));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let name = build.tags.first().cloned();
        let (provenance, scanner) = attest::parse(&build.attestations)?;
        let remote = RemoteContext::parse(&build.context);
        let remote =
            remote.map_err(|error| options::wrong("PATH", &build.context, error.to_string()))?;
        let shown = || match &remote {
            Some(remote) => remote.shown(),
            None => build.context.clone(),
        };
        let name = name.unwrap_or_else(shown);
        let dead = step::sweep_dead(self);
        let agents = self.agents(&build.ssh, &build.directory).await?;
        let spooled = self
            .spool(build, remote.as_ref(), &agents, streams.0, (events, cancel))
            .await?;
        let mut request = self.image_request(build, spooled.as_ref(), &agents)?;
        let caches = (build.cache_from.as_slice(), build.cache_to.as_slice());
        let mut warnings = add_caches(&mut request, caches, &build.directory)?;
        request.provenance = provenance;
        request.scanner = scanner;
        for output in &outputs {
            output.check(&request.platforms)?;
        }
        request.annotations = annotations(&build.annotations, request.makes_index())?;
        request.is_stored = output::is_stored(&outputs, build.load || build.push);
        // What no name keeps must stay until it is written.
        let hold = (!request.is_stored).then(|| self.images.hold());
        let hold = hold.transpose()?;
        warnings.extend(dead);
        self.expect_builds(1);
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
        for warning in warnings {
            emit(EventKind::Warning(warning));
        }
        let progress = BuildEvents::new(&name, events);
        let session = Session::default();
        let built = Box::pin(self.images.build(&request, &session, &runner, &progress));
        let built = interrupted_by(built, &session, cancel.cancelled()).await;
        let built = built.map_err(EngineError::from).and_then(|built| {
            for output in &outputs {
                self.write_output(&built, &request.tags, output, (&mut *streams.1, &progress))?;
            }
            Ok(built)
        });
        drop((runner, agents, hold));
        emit(match &built {
            Ok(_) => EventKind::Finished("Built"),
            Err(error) => EventKind::Failed(chain(error)),
        });
        let cleaned = self.clean_up_late().await;
        let built = built?;
        cleaned?;
        if !request.is_stored {
            // Its configuration and manifest are nobody's any more; layers stay in the cache.
            if let Err(error) = self.images.collect() {
                // What was asked for is there.
                let text = format!("free what the build leaves: {}", chain(&error));
                emit(EventKind::Warning(text));
            }
        }
        let is_pushed = build.push || outputs.contains(&output::Output::Registry);
        let names = is_pushed.then_some(build.tags.as_slice());
        let described = self.describe_built(&built, names.unwrap_or_default(), events, cancel);
        Ok(BuiltImage {
            is_image: request.is_stored || outputs.iter().any(output::Output::is_image),
            ..described.await?
        })
    }

    /// Pushes `names`, and says what was built.
    async fn describe_built(
        &self,
        built: &Built,
        names: &[String],
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<BuiltImage, EngineError> {
        let mut descriptor = BuiltDescriptor {
            media_type: built.target.media_type.clone(),
            digest: built.target.digest.to_string(),
            size_bytes: built.target.size,
        };
        // Layers go there compressed, so that it is another one than here.
        if let Some(pushed) = self.push_names(names, events, cancel).await? {
            descriptor.digest = pushed.digest;
            descriptor.size_bytes = pushed.size_bytes;
        }
        let is_single = built.images.len() == 1;
        Ok(BuiltImage {
            id: built.id().to_string(),
            config: is_single.then(|| built.image.id.to_string()),
            descriptor,
            is_image: true,
        })
    }

    /// Brings here a context that is elsewhere or comes from a stream.
    async fn spool(
        &self,
        build: &ImageBuild,
        remote: Option<&RemoteContext>,
        agents: &Agents,
        stream: Box<dyn std::io::Read + Send>,
        (events, cancel): (&dyn EventSink, &Cancel),
    ) -> Result<Option<Spooled>, EngineError> {
        Ok(match (remote, build.context.as_str()) {
            (Some(remote), _) => {
                let args = self.arguments(&build.build_args);
                let secrets = self.secrets(build)?;
                let logins = Logins {
                    secrets: &secrets,
                    agents: &agents.sockets,
                };
                let shown = remote.shown();
                let name = build.tags.first().unwrap_or(&shown);
                tokio::select! {
                    fetched = self.fetch_context(remote, &args, logins, (name, events)) => Some(fetched?),
                    () = cancel.cancelled() => return Err(EngineError::Interrupted),
                }
            }
            (None, "-") => tokio::select! {
                spooled = self.images.spool_context(stream) => Some(spooled?),
                () = cancel.cancelled() => return Err(EngineError::Interrupted),
            },
            (None, _) => None,
        })
    }

    /// Fetches a context that is elsewhere, for the build of `image`.
    pub(crate) async fn fetch_context(
        &self,
        remote: &RemoteContext,
        args: &BTreeMap<String, Option<String>>,
        logins: Logins<'_>,
        (image, events): (&str, &dyn EventSink),
    ) -> Result<Spooled, BuildError> {
        events.emit(Event {
            subject: Subject::Build(image.to_owned()),
            kind: EventKind::Line(format!("fetching the build context {}", remote.shown())),
        });
        let keep = args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep = keep.and_then(Option::as_deref);
        let keep = keep.and_then(parse_bool) == Some(true);
        self.images.fetch_context(remote, keep, logins).await
    }

    /// Returns what the builder is asked for.
    fn image_request(
        &self,
        build: &ImageBuild,
        spooled: Option<&Spooled>,
        agents: &Agents,
    ) -> Result<BuildRequest, EngineError> {
        let tags = build.tags.iter().map(|tag| tag.parse::<Reference>());
        let tags = tags.collect::<Result<Vec<_>, _>>()?;
        let context = match spooled {
            Some(spooled) => spooled.directory(),
            None => build.directory.join(&build.context),
        };
        let alone = spooled.and_then(Spooled::dockerfile_alone);
        let text = build.dockerfile_text.clone();
        let from_stream = text.map(|text| DockerfileSource::Text {
            name: FROM_STREAM,
            text,
        });
        let dockerfile = if let Some(dockerfile) = alone.or(from_stream) {
            dockerfile
        } else {
            DockerfileSource::Path(match (&build.dockerfile, spooled) {
                (None, _) => PathBuf::from("Dockerfile"),
                (Some(path), None) => build.directory.join(path),
                (Some(path), Some(_)) => path.clone(),
            })
        };
        let network = options::network(&build.network);
        let default = self.environment.get("DOCKER_DEFAULT_PLATFORM");
        let default = default.map(String::as_str).filter(|text| !text.is_empty());
        let allowed = allowed(&build.allow, &network)?;
        let mut request = BuildRequest {
            is_local: spooled.is_none(),
            shown_from: build.directory.clone(),
            args: self.arguments(&build.build_args),
            target: build.target.clone(),
            tags,
            labels: build.labels.clone(),
            no_cache: build.no_cache,
            explain: build.explain,
            no_cache_filter: build.no_cache_filter.clone(),
            secrets: self.secrets(build)?,
            agents: agents.sockets.clone(),
            contexts: build
                .contexts
                .iter()
                .map(|text| options::context(text, &build.directory))
                .collect::<Result<_, _>>()?,
            network: network.clone(),
            requirements: requirements(build)?,
            allowed: allowed.entitlements,
            allowed_devices: allowed.devices,
            pull: build.pull,
            source: spooled.and_then(|spooled| spooled.material.clone()),
            ..BuildRequest::new(context, dockerfile, jiff::Timestamp::now())
        };
        let platforms = platforms::parse(&build.platforms, default)?;
        platforms::set(&mut request, platforms);
        Ok(request)
    }

    /// Pushes every name of an image; returns what came of the last.
    async fn push_names(
        &self,
        names: &[String],
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Option<PushedImage>, EngineError> {
        let mut last = None;
        for name in names {
            let emit = |kind| {
                events.emit(Event {
                    subject: Subject::Image(name.clone()),
                    kind,
                });
            };
            emit(EventKind::Started("Pushing"));
            let pushed = self.push_image(name, (Packing::default(), None), events, cancel);
            match pushed.await {
                Ok(pushed) => {
                    emit(EventKind::Finished("Pushed"));
                    last = Some(pushed);
                }
                Err(error) => {
                    emit(EventKind::Failed(chain(&error)));
                    return Err(error);
                }
            }
        }
        Ok(last)
    }

    /// Reads the secrets.
    fn secrets(&self, build: &ImageBuild) -> Result<BTreeMap<String, SecretSource>, OptionError> {
        let read = |text: &String| options::secret(text, &build.directory, &self.environment);
        build.secrets.iter().map(read).collect()
    }

    /// Gives build arguments without a value that of the environment.
    pub(crate) fn arguments(
        &self,
        typed: &BTreeMap<String, Option<String>>,
    ) -> BTreeMap<String, Option<String>> {
        let of_environment = |name: &String| self.environment.get(name).cloned();
        let mut arguments: BTreeMap<_, _> = typed
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().or_else(|| of_environment(name))))
            .collect();
        // Every tool that knows it passes it on.
        let epoch = "SOURCE_DATE_EPOCH".to_owned();
        if let Some(value) = of_environment(&epoch) {
            arguments.entry(epoch).or_insert(Some(value));
        }
        arguments
    }
}

/// Does the work of a session, which is told to end once `interrupt` is over. It is waited for all the same.
pub(crate) async fn interrupted_by<T>(
    work: impl Future<Output = T>,
    session: &Session,
    interrupt: impl Future<Output = ()>,
) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = interrupt => session.interrupt(),
    }
    work.await
}

/// Reads `--annotation`s.
fn annotations(typed: &[String], has_index: bool) -> Result<Vec<Annotation>, OptionError> {
    let option = "--annotation";
    let mut all = Vec::new();
    for text in typed.iter().filter(|text| !text.is_empty()) {
        let read = Annotation::parse(text);
        let read = read.map_err(|message| options::wrong(option, text, message))?;
        if !has_index && read.iter().any(|annotation| annotation.place.needs_index()) {
            let message =
                "there is no index where an image is for one platform, without attestations";
            return Err(options::wrong(option, text, message));
        }
        all.extend(read);
    }
    Ok(all)
}

/// Adds caches of elsewhere to a request; returns warnings.
fn add_caches(
    request: &mut BuildRequest,
    (from, to): (&[String], &[String]),
    directory: &Path,
) -> Result<Vec<String>, OptionError> {
    let mut warnings = Vec::new();
    for text in from {
        match options::cache_from(text, directory)? {
            Ok(place) => request.cache_from.push(place),
            Err(why) => warnings.push(why),
        }
    }
    for text in to {
        match options::cache_to(text, directory)? {
            Ok(export) => request.cache_to.push(export),
            Err(why) => warnings.push(why),
        }
    }
    Ok(warnings)
}

/// Reads what every step is given.
fn requirements(build: &ImageBuild) -> Result<Requirements, OptionError> {
    let size = |option, text: &Option<String>| {
        let size = text.as_ref().map(|text| options::bytes(option, text));
        size.transpose()
    };
    Ok(Requirements {
        hosts: build
            .hosts
            .iter()
            .map(|text| options::host(text))
            .collect::<Result<_, _>>()?,
        shm_bytes: size("--shm-size", &build.shm_size)?,
        limits: build
            .limits
            .iter()
            .map(|text| options::limit(text))
            .collect::<Result<_, _>>()?,
        memory_bytes: size("--memory", &build.memory)?,
    })
}

/// Returns what steps may ask for: what is listed, and what the whole build is given anyhow (docker/buildx).
fn allowed(typed: &[String], network: &StepNetwork) -> Result<options::Allowed, OptionError> {
    let mut allowed = options::allowed(typed)?;
    if *network == StepNetwork::Host {
        allowed.entitlements.insert(Entitlement::NetworkHost);
    }
    Ok(allowed)
}
