//! What a Dockerfile says, without a build.

use crate::engine::build::events::remark;
use crate::engine::build::{BuildEvents, ImageBuild, options};
use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::{EventSink, Remark};
use crate::engine::linux::read_request;
use crate::engine::{BuildChoices, BuildOptions, Engine, chain};
use crate::images::build::describe::{self, Outline, Target};
use crate::images::build::{BuildError, BuildRequest, RemoteContext};
use crate::plan;
use crate::plan::action::Action;
use crate::plan::options::ImageOptions;
use crate::spec::model::Stack;

/// What is asked of a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// What is not wise in it.
    Check,
    /// What its target takes.
    Outline,
    /// Which targets it has.
    Targets,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// In the order of their lines.
    Check(Vec<Remark>),
    /// Of the target.
    Outline(Outline),
    /// In the order of the file.
    Targets(Vec<Target>),
}

impl Engine {
    /// Answers what is asked of a Dockerfile. For a check, base images that are not here are pulled.
    pub async fn describe_image(
        &self,
        build: &ImageBuild,
        call: Call,
        stream: Box<dyn std::io::Read + Send>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Described, EngineError> {
        let remote = RemoteContext::parse(&build.context);
        let remote =
            remote.map_err(|error| options::wrong("PATH", &build.context, error.to_string()))?;
        let agents = self.agents(&build.ssh, &build.directory).await?;
        let spooled = self
            .spool(build, remote.as_ref(), &agents, stream, (events, cancel))
            .await?;
        let request = self.image_request(build, spooled.as_ref(), &agents)?;
        Ok(match call {
            Call::Targets => Described::Targets(describe::targets(&request)?),
            Call::Outline => Described::Outline(describe::outline(&request)?),
            Call::Check => {
                let checked = self.check(&request, &build.context, events, cancel);
                Described::Check(checked.await?)
            }
        })
    }

    /// Looks for what is not wise in the Dockerfiles of services; a file that several are built from counts once.
    pub async fn check_stack(
        &self,
        stack: &Stack,
        options: &BuildOptions,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Vec<Remark>, EngineError> {
        let chosen = ImageOptions {
            services: options.services.clone(),
            with_dependencies: options.with_dependencies,
            ..ImageOptions::default()
        };
        let plan = plan::images::build(stack, &chosen)?;
        let choices = BuildChoices {
            args: options.build_args.clone(),
            ..BuildChoices::default()
        };
        let mut remarks: Vec<Remark> = Vec::new();
        for step in &plan.steps {
            let Action::BuildImage(build) = &step.action else {
                continue;
            };
            let read = read_request(self, stack, build, &choices, events).await;
            let (request, _kept) = read.map_err(|error| EngineError::System {
                attempted: format!("check the build of {}", build.image),
                source: std::io::Error::other(chain(&*error)),
            })?;
            let found = self.check(&request, &build.image, events, cancel).await?;
            for remark in found {
                if !remarks.contains(&remark) {
                    remarks.push(remark);
                }
            }
        }
        Ok(remarks)
    }

    /// Looks for what is not wise in one Dockerfile.
    async fn check(
        &self,
        request: &BuildRequest,
        image: &str,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Vec<Remark>, EngineError> {
        let progress = BuildEvents::new(image, events);
        let checked: Result<_, BuildError> = tokio::select! {
            checked = self.images.check_dockerfile(request, &progress) => checked,
            () = cancel.cancelled() => return Err(EngineError::Interrupted),
        };
        let checked = checked?;
        let warnings = checked.warnings.iter();
        Ok(warnings.map(|w| remark(w, &checked.file)).collect())
    }
}
