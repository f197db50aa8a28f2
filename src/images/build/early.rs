//! What a build refuses before its first step: what it was not allowed, and sources that its contexts do not have.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::dockerfile::Fault;
use super::super::dockerfile::instruction::{Dockerfile, Instruction, Kind};
use super::super::dockerfile::mount::{MountKind, RunNetwork, RunSecurity};
use super::super::registry::error::chain;
use super::super::stop::Stop;
use super::Entitlement;
use super::bases::Planned;
use super::builder::Build;
use super::context::{ContextError, Origin, Taking};
use super::contexts::{Local, NamedContext};
use super::error::{BuildError, StepFailure};
use super::inputs::dockerfile_error;
use super::mounts::source_path;
use super::plan::{Base, Plan, PlanError, PlannedStep};
use super::resolve::{Resolved, fault};
use super::transfer::Source;

impl Build<'_> {
    /// Says that there is no plan.
    pub(super) fn unplanned(&self, error: PlanError) -> BuildError {
        BuildError::unplanned(self.file, error)
    }

    /// Fails where a step asks for what whoever builds has not allowed, whether or not the step is in the cache.
    pub(super) fn refuse(&self, plan: &Plan) -> Result<(), BuildError> {
        let stages = plan.stages.iter();
        let steps = stages.flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)));
        let wrong = steps.filter_map(|(stage, PlannedStep { instruction, .. })| {
            let Kind::Run(run) = &instruction.kind else {
                return None;
            };
            let asked = [
                (run.network == RunNetwork::Host, Entitlement::NetworkHost),
                (
                    run.security == RunSecurity::Insecure,
                    Entitlement::SecurityInsecure,
                ),
            ];
            let refused = asked.into_iter().find(|(is_asked, entitlement)| {
                *is_asked && !self.request.allowed.contains(entitlement)
            });
            let (_, entitlement) = refused?;
            let failure = StepFailure::NotAllowed(entitlement.name());
            let wrong = (instruction.span, failure.to_string());
            Some(fault(self.file, stage, instruction, wrong))
        });
        self.unless(wrong.collect())
    }

    /// Fails where a named context of this machine is not there, whether or not a step takes anything of it.
    pub(super) fn look_for_contexts(&self) -> Result<(), BuildError> {
        for (name, context) in &self.request.contexts {
            let NamedContext::Directory(path) = context else {
                continue;
            };
            let found = fs_err::metadata(path).and_then(|found| {
                let is_directory = found.is_dir();
                let not = || std::io::ErrorKind::NotADirectory.into();
                is_directory.then_some(()).ok_or_else(not)
            });
            found.map_err(|source| BuildError::Named {
                name: name.clone(),
                source: Box::new(BuildError::Context {
                    path: path.clone(),
                    source,
                }),
            })?;
        }
        Ok(())
    }

    /// Fails where a source of a context of this machine is not there: a `lstat` or two a source, so that a build in which nothing
    /// changed takes no longer. What needs more to be found, such as what a wildcard stands for, is the step's matter.
    pub(super) async fn look_for_sources(&self, planned: &Planned) -> Result<(), BuildError> {
        let stop = Stop::default();
        let mut faults = Vec::new();
        let stages = planned.plan.stages.iter().zip(&planned.resolved);
        let steps = stages.flat_map(|(stage, resolved)| {
            let steps = stage.steps.iter().zip(resolved);
            steps.map(move |(step, resolved)| (stage, step, resolved))
        });
        for (stage, step, resolved) in steps {
            let instruction = &step.instruction;
            for (from, wanted) in wanted(step, resolved) {
                let Some(local) = self.local_of(from, instruction).await? else {
                    continue;
                };
                if let Err(error) = wanted.look(&local.origin(&stop)) {
                    let wrong = (instruction.span, chain(&error));
                    faults.push(fault(self.file, stage, instruction, wrong));
                }
            }
        }
        self.unless(faults)
    }

    /// Returns the context that a step takes files from; `None` where that is a stage, an image or elsewhere.
    async fn local_of(
        &self,
        from: Option<&Base>,
        instruction: &Instruction,
    ) -> Result<Option<Arc<Local>>, BuildError> {
        let name = match from {
            None => return Ok(Some(Arc::clone(&self.context))),
            Some(Base::Context(name)) => name,
            Some(_) => return Ok(None),
        };
        let named = self.request.contexts.get(name);
        if !matches!(named, Some(NamedContext::Directory(_))) {
            return Ok(None);
        }
        let opened = self.directory_context(name).await;
        opened.map_err(|source| self.failed(instruction.span, &instruction.text, source))
    }

    /// Fails where anything is wrong.
    fn unless(&self, faults: Vec<Fault>) -> Result<(), BuildError> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults(faults))
        }
    }
}

impl BuildError {
    /// Says that there is no plan.
    pub(super) fn unplanned(file: &Dockerfile, error: PlanError) -> Self {
        match error {
            PlanError::Faults(faults) => Self::Dockerfile(dockerfile_error(file, faults)),
            PlanError::Target { name, hint } => Self::Target {
                name,
                path: file.path.clone(),
                hint,
            },
        }
    }
}

/// A source that a step takes.
enum Wanted<'a> {
    /// Of a `COPY` or `ADD`: a path or a pattern.
    Source(&'a str, Taking<'a>),
    /// Of a mount.
    Path(PathBuf),
}

impl Wanted<'_> {
    /// Fails where it is not there for certain.
    fn look(&self, origin: &Origin<'_>) -> Result<(), ContextError> {
        match self {
            Self::Source(source, taking) => origin.expect(source, *taking),
            Self::Path(path) => origin.expect_path(path),
        }
    }
}

/// Returns what a step takes that is not elsewhere, and of what.
fn wanted<'a>(
    step: &'a PlannedStep,
    resolved: &'a Resolved,
) -> Vec<(Option<&'a Base>, Wanted<'a>)> {
    match resolved {
        Resolved::Applied => Vec::new(),
        Resolved::Transfer(expanded) => {
            let taking = Taking {
                exclude: &expanded.exclude,
                parents: expanded.parents,
            };
            let sources = expanded.sources.iter().filter_map(|source| match source {
                Source::Local(path) => Some(path.as_str()),
                Source::Url(_) | Source::Git(_) => None,
            });
            let wanted = sources.map(|path| (step.from.as_ref(), Wanted::Source(path, taking)));
            wanted.collect()
        }
        Resolved::Run(run) => {
            let mounts = run.mounts.iter().zip(&step.mounts);
            let wanted = mounts.filter_map(|(mount, from)| {
                let source = match &mount.kind {
                    MountKind::Bind { source, .. } => source,
                    MountKind::Cache { source, .. } if from.is_some() => source,
                    _ => return None,
                };
                Some((from.as_ref(), Wanted::Path(source_path(source))))
            });
            wanted.collect()
        }
    }
}
