//! What a Dockerfile says, without a build: what is not wise in it, its targets, and what one of them takes (docker/buildx `--call`;
//! BuildKit `frontend/subrequests`).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use super::super::Images;
use super::super::dockerfile::Fault;
use super::super::dockerfile::expand;
use super::super::dockerfile::instruction::{Argument, Dockerfile, Kind};
use super::super::dockerfile::lint::{self, Warning};
use super::super::dockerfile::mount::MountFlag;
use super::builder::{Build, Opened};
use super::error::BuildError;
use super::inputs::dockerfile_error;
use super::plan::{self, Base, Inputs, PlannedStage};
use super::stage::StageState;
use super::{BuildProgress, BuildRequest, Heard, RunStep, Session, StepError, StepRunner};

/// What is not wise in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The file.
    pub file: Dockerfile,
    /// In the order of their lines.
    pub warnings: Vec<Warning>,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Whether it is built where none is asked for.
    pub is_default: bool,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// What it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// From 1.
    pub line: usize,
}

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name, if it has one.
    pub name: Option<String>,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// In the order of their lines.
    pub arguments: Vec<OutlineArgument>,
    /// Secrets by id, and whether a step fails without.
    pub secrets: BTreeMap<String, bool>,
    /// Agents by id, and whether a step fails without.
    pub agents: BTreeMap<String, bool>,
    /// Ids of cache mounts.
    pub caches: BTreeSet<String>,
}

/// An argument that a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArgument {
    /// As given with `--build-arg`.
    pub name: String,
    /// What it has if nothing else is given.
    pub value: Option<String>,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// Where the `ARG` begins.
    start: usize,
}

impl Images {
    /// Looks for what is not wise in a Dockerfile. Base images that are not here are pulled: their environment counts.
    pub async fn check_dockerfile(
        &self,
        request: &BuildRequest,
        progress: &dyn BuildProgress,
    ) -> Result<Checked, BuildError> {
        let opened = Opened::read(request)?;
        let session = Session::default();
        let _hold = self.store().hold()?;
        let build = Build::new(self, &opened, &session, (&NoSteps, progress))?;
        let planned = build.plan().await?;
        let (_, warnings) = build.warnings(&planned.plan)?;
        drop(build);
        Ok(Checked {
            file: opened.file,
            warnings,
        })
    }
}

/// Lists the targets of a Dockerfile.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    let opened = Opened::read(request)?;
    let file = &opened.file;
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.iter().enumerate();
    let targets = stages.map(|(index, stage)| Target {
        name: stage.name.clone(),
        is_default: index == last,
        description: stage
            .name
            .as_deref()
            .and_then(|name| description(file, stage.span.start, name)),
        base: stage.base.clone(),
        platform: stage.platform.clone(),
        line: lint::line_of(&file.text, stage.span.start),
    });
    Ok(targets.collect())
}

/// Tells what the target of a request takes.
pub fn outline(request: &BuildRequest) -> Result<Outline, BuildError> {
    let opened = Opened::read(request)?;
    let file = &opened.file;
    let inputs = Inputs {
        globals: &opened.given.globals,
        target: request.target.as_deref(),
        triggers: &BTreeMap::new(),
        contexts: &request.contexts.keys().cloned().collect(),
    };
    let wrong = |faults| BuildError::Dockerfile(dockerfile_error(file, faults));
    let plan = plan::plan(file, inputs).map_err(|error| BuildError::unplanned(file, error))?;
    let mut outline = Outline::default();
    for argument in &file.arguments {
        let value = opened.given.globals.get(&argument.name).cloned();
        outline.add(file, argument, argument.name.clone(), value);
    }
    let mut ends: BTreeMap<usize, StageState> = BTreeMap::new();
    for stage in &plan.stages {
        let state = match &stage.base {
            Base::Stage(index) => ends.get(index).cloned().map(StageState::of_stage),
            _ => None,
        };
        let state = state.unwrap_or_else(|| StageState::of_scratch(&request.platform));
        let end = outline.take(&opened, stage, state).map_err(wrong)?;
        ends.insert(stage.index, end);
    }
    outline.arguments.sort_by_key(|argument| argument.start);
    let target = plan.stages.last().map_or(0, |stage| stage.index);
    if let Some(stage) = file.stages.get(target) {
        outline.name.clone_from(&stage.name);
        let name = stage.name.as_deref();
        outline.description = name.and_then(|name| description(file, stage.span.start, name));
    }
    Ok(outline)
}

impl Outline {
    /// Takes the instructions of a stage; returns what it ends with.
    fn take(
        &mut self,
        opened: &Opened<'_>,
        stage: &PlannedStage,
        mut state: StageState,
    ) -> Result<StageState, Vec<Fault>> {
        for step in &stage.steps {
            let instruction = &step.instruction;
            match &instruction.kind {
                Kind::Arg(arguments) => {
                    let applied = state.apply(&instruction.kind, &opened.given);
                    applied
                        .map_err(|error| vec![Fault::new(instruction.span, error.to_string())])?;
                    let variables = state.variables();
                    for argument in arguments {
                        let name = expand::expand(&argument.name, opened.file.escape, variables);
                        let name = name.unwrap_or_else(|_| argument.name.clone());
                        let value = variables.get(&name).cloned();
                        self.add(&opened.file, argument, name, value);
                    }
                }
                Kind::Env(_) => {
                    let applied = state.apply(&instruction.kind, &opened.given);
                    applied
                        .map_err(|error| vec![Fault::new(instruction.span, error.to_string())])?;
                }
                Kind::Run(run) => run.mounts.iter().for_each(|mount| self.mount(mount)),
                _ => {}
            }
        }
        Ok(state)
    }

    /// Adds an argument; one that is declared again is the same one.
    fn add(&mut self, file: &Dockerfile, argument: &Argument, name: String, value: Option<String>) {
        let description = description(file, argument.span.start, &name);
        if let Some(known) = self.arguments.iter_mut().find(|known| known.name == name) {
            known.value = value.or_else(|| known.value.take());
            known.description = known.description.take().or(description);
            return;
        }
        self.arguments.push(OutlineArgument {
            name,
            value,
            description,
            start: argument.span.start,
        });
    }

    /// Adds what a mount takes from outside.
    fn mount(&mut self, mount: &MountFlag) {
        let value = |wanted: &[&str]| {
            let mut fields = mount.fields.iter().rev();
            let found = fields.find(|(key, _)| wanted.contains(&key.as_str()));
            found.map(|(_, value)| value.clone())
        };
        let text = |wanted: &[&str]| value(wanted).flatten();
        let is_required = value(&["required"])
            .is_some_and(|value| !matches!(value.as_deref(), Some("false" | "0")));
        let target = text(&["target", "dst", "destination"]);
        let (list, id) = match text(&["type"]).as_deref() {
            Some("secret") => {
                let file = target.as_deref().and_then(|path| path.rsplit('/').next());
                let id = text(&["id", "source", "src"]).or_else(|| file.map(str::to_owned));
                (&mut self.secrets, id)
            }
            Some("ssh") => {
                let id = text(&["id"]).unwrap_or_else(|| "default".to_owned());
                (&mut self.agents, Some(id))
            }
            Some("cache") => {
                self.caches.extend(text(&["id"]).or(target));
                return;
            }
            _ => return,
        };
        if let Some(id) = id {
            *list.entry(id).or_default() |= is_required;
        }
    }
}

/// Returns what a comment right above the instruction at `start` says of `name`: `# name what it is`.
fn description(file: &Dockerfile, start: usize, name: &str) -> Option<String> {
    let written = file.written.iter().find(|w| w.span.start == start)?;
    let mut comments = written.comments.iter();
    comments.find_map(|comment| {
        let rest = comment.trim_start().strip_prefix(name)?;
        let rest = rest.strip_prefix(' ')?.trim();
        Some(rest.to_owned())
    })
}

/// Runs nothing.
struct NoSteps;

impl StepRunner for NoSteps {
    fn run<'a>(
        &'a self,
        _step: &'a RunStep,
        _hear: &'a mut dyn FnMut(Heard<'_>),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>> {
        Box::pin(async {
            Err(StepError {
                message: "no step is run here".to_owned(),
                source: None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::DockerfileSource;
    use super::*;

    fn request(text: &str, target: Option<&str>) -> BuildRequest {
        BuildRequest {
            target: target.map(str::to_owned),
            args: BTreeMap::from([("GIVEN".to_owned(), Some("cli".to_owned()))]),
            ..BuildRequest::new(
                PathBuf::from("/"),
                DockerfileSource::Inline(text.to_owned()),
                jiff::Timestamp::UNIX_EPOCH,
            )
        }
    }

    const TEXT: &str = "# TAG which busybox\nARG TAG=latest\nFROM busybox:$TAG AS base\n# GIVEN is given\nARG GIVEN=default\nRUN --mount=type=secret,id=token,required --mount=type=ssh true\n\
                        # build makes it\nFROM base AS build\nARG MORE=$GIVEN-x NONE\nRUN --mount=type=cache,target=/c --mount=type=secret,target=/run/other true\nFROM --platform=linux/amd64 scratch\nRUN --mount=type=cache,id=unseen,target=/d true\n";

    #[test]
    fn targets_and_what_they_take_are_told() {
        let targets = targets(&request(TEXT, None)).unwrap();
        let shown: Vec<String> = targets
            .iter()
            .map(|target| {
                let Target {
                    name,
                    is_default,
                    description,
                    base,
                    platform,
                    line,
                } = target;
                format!("{line} {name:?} {is_default} {description:?} {base} {platform:?}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "3 Some(\"base\") false None busybox:$TAG None",
                "8 Some(\"build\") false Some(\"makes it\") base None",
                "11 None true None scratch Some(\"linux/amd64\")",
            ]
        );
        let outline = outline(&request(TEXT, Some("build"))).unwrap();
        let arguments: Vec<String> = outline
            .arguments
            .iter()
            .map(|a| format!("{} {:?} {:?}", a.name, a.value, a.description))
            .collect();
        assert_eq!(
            arguments,
            [
                "TAG Some(\"latest\") Some(\"which busybox\")",
                "GIVEN Some(\"cli\") Some(\"is given\")",
                "MORE Some(\"cli-x\") None",
                "NONE None None",
            ]
        );
        let named = |id: &str, required| (id.to_owned(), required);
        assert_eq!(outline.description.as_deref(), Some("makes it"));
        assert_eq!(
            outline.secrets,
            BTreeMap::from([named("other", false), named("token", true)])
        );
        assert_eq!(outline.agents, BTreeMap::from([named("default", false)]));
        assert_eq!(outline.caches, BTreeSet::from(["/c".to_owned()]));
    }
}
