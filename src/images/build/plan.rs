//! Which stages are built, in which order, from what: pure.
//!
//! Only stages that the target needs (through `FROM` and `COPY --from`) are in a plan. The triggers of base images
//! (`ONBUILD`) may need more, so a plan is made again once they are known.

use std::collections::{BTreeMap, BTreeSet};

use super::super::dockerfile::expand::{self, Variables};
use super::super::dockerfile::instruction::{Dockerfile, Instruction, Kind, Stage};
use super::super::dockerfile::{Fault, Span, nearest, parser};
use super::super::reference::Reference;

/// Stages in the order in which they are built; the last is the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub stages: Vec<PlannedStage>,
}

/// One stage that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its index in the Dockerfile.
    pub index: usize,
    /// Its name, or `stage-` and its index.
    pub name: String,
    /// What it starts from.
    pub base: Base,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// The base's triggers, then its own instructions.
    pub steps: Vec<PlannedStep>,
}

/// One instruction of a planned stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The instruction.
    pub instruction: Instruction,
    /// Where a `COPY --from` takes from.
    pub from: Option<Base>,
    /// Where each `--mount` of a `RUN` takes from; `None` is the context, or nothing.
    pub mounts: Vec<Option<Base>>,
}

impl PlannedStep {
    /// Returns whether it makes a layer, and so is shown and counted.
    pub fn makes_layer(&self) -> bool {
        matches!(
            self.instruction.kind,
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_)
        )
    }
}

/// A file system to start or copy from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by index.
    Stage(usize),
    /// An image, as written after expansion.
    Image(String),
    /// A named context, by its name as given.
    Context(String),
}

/// The name of an image and the platform asked for, as written.
pub type BaseName = (String, Option<String>);

/// What a plan is made from, beside the Dockerfile.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `ARG`s before the first `FROM`, and the automatic ones.
    pub globals: &'a Variables,
    /// The stage to build: a name or an index; the last where absent.
    pub target: Option<&'a str>,
    /// Triggers of base images that are known.
    pub triggers: &'a BTreeMap<BaseName, Vec<String>>,
    /// The names of named contexts.
    pub contexts: &'a BTreeSet<String>,
}

impl Inputs<'_> {
    /// Returns the named context that stands for a stage or image of that name (BuildKit `namedcontext.go`: names are compared as
    /// people write them, without `:latest`; one for a platform, `name::platform`, comes first).
    fn context(self, name: &str, platform: Option<&str>) -> Option<Base> {
        let wanted = canonical(name);
        let with_platform = platform.map(|platform| format!("{wanted}::{platform}"));
        let find = |wanted: &str| {
            let mut all = self.contexts.iter();
            all.find(|context| match context.split_once("::") {
                Some((name, platform)) => format!("{}::{platform}", canonical(name)) == wanted,
                None => canonical(context) == wanted,
            })
        };
        let found = with_platform.and_then(|wanted| find(&wanted));
        found
            .or_else(|| find(&wanted))
            .map(|name| Base::Context(name.clone()))
    }
}

/// Returns the name of an image as people write it, or of anything else in lower case.
fn canonical(name: &str) -> String {
    let lower = name.to_lowercase();
    let familiar = match Reference::parse(&lower) {
        Ok(reference) => reference.familiar(),
        Err(_) => lower,
    };
    match familiar.strip_suffix(":latest") {
        Some(name) => name.to_owned(),
        None => familiar,
    }
}

/// A Dockerfile's stages, to be found by name.
struct Stages<'a> {
    file: &'a Dockerfile,
    /// Indexes in ascending order.
    by_name: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Stages<'a> {
    fn of(file: &'a Dockerfile) -> Self {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, stage) in file.stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                by_name.entry(name).or_default().push(index);
            }
        }
        Self { file, by_name }
    }

    /// Returns the stages of a name, which is in lower case.
    fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the last stage of a name before stage `index`.
    fn before(&self, index: usize, name: &str) -> Option<usize> {
        let named = self.named(name);
        let count = named.partition_point(|at| *at < index);
        named.get(..count)?.last().copied()
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// No stage is called that way: no place of the Dockerfile is at fault.
    Target {
        /// As asked for.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// Every fault of the stages that are needed, in the order of their places.
    Faults(Vec<Fault>),
}

/// Makes the plan.
pub fn plan(file: &Dockerfile, inputs: Inputs<'_>) -> Result<Plan, PlanError> {
    let stages = Stages::of(file);
    let target = find_target(file, inputs.target)?;
    let mut planned: BTreeMap<usize, PlannedStage> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut needed = BTreeSet::from([target]);
    // A stage needs only earlier ones, so that going from the last to the first sees every need.
    while let Some(index) = needed.pop_last() {
        match plan_stage(&stages, index, inputs) {
            Ok(stage) => {
                let steps = stage.steps.iter();
                let bases =
                    steps.flat_map(|step| step.from.iter().chain(step.mounts.iter().flatten()));
                for base in bases.chain([&stage.base]) {
                    if let Base::Stage(earlier) = base {
                        needed.insert(*earlier);
                    }
                }
                planned.insert(index, stage);
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(Plan {
            stages: planned.into_values().collect(),
        })
    } else {
        faults.sort_by_key(|fault| fault.span);
        Err(PlanError::Faults(faults))
    }
}

/// Expands the `ARG`s before the first `FROM`: `given` wins over a default; `automatic` can be overridden too.
pub fn global_variables(
    file: &Dockerfile,
    automatic: &Variables,
    given: &Variables,
) -> Result<Variables, Vec<Fault>> {
    let mut variables = automatic.clone();
    for (name, value) in given
        .iter()
        .filter(|(name, _)| automatic.contains_key(*name))
    {
        variables.insert(name.clone(), value.clone());
    }
    let mut faults = Vec::new();
    for argument in &file.arguments {
        if let Some(value) = given.get(&argument.name) {
            variables.insert(argument.name.clone(), value.clone());
        } else if let Some(default) = &argument.default {
            match expand::expand(default, file.escape, &variables) {
                Ok(value) => {
                    variables.insert(argument.name.clone(), value);
                }
                Err(error) => faults.push(Fault::new(argument.span, error.to_string())),
            }
        }
    }
    if faults.is_empty() {
        Ok(variables)
    } else {
        Err(faults)
    }
}

/// Returns the index of the stage to build.
fn find_target(file: &Dockerfile, target: Option<&str>) -> Result<usize, PlanError> {
    let last = file.stages.len().saturating_sub(1);
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(last);
    };
    let lower = target.to_lowercase();
    let by_name = |stage: &Stage| stage.name.as_deref() == Some(&lower);
    if let Some(index) = file.stages.iter().rposition(by_name) {
        return Ok(index);
    }
    if let Ok(index) = lower.parse::<usize>()
        && index <= last
    {
        return Ok(index);
    }
    let names = file.stages.iter().filter_map(|s| s.name.as_deref());
    Err(PlanError::Target {
        name: target.to_owned(),
        hint: match nearest(&lower, names.clone()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => all_targets(names),
        },
    })
}

/// Stages that are named where none is near to what was asked for.
const MAX_TARGETS: usize = 10;

/// Says what the stages are called.
fn all_targets<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown: Vec<String> = names
        .clone()
        .take(MAX_TARGETS)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.count() > MAX_TARGETS {
        ", …"
    } else {
        ""
    };
    if shown.is_empty() {
        "its stages have no names: they are counted from 0".to_owned()
    } else {
        format!("its stages are {}{more}", shown.join(", "))
    }
}

/// Plans one stage.
fn plan_stage(
    stages: &Stages<'_>,
    index: usize,
    inputs: Inputs<'_>,
) -> Result<PlannedStage, Vec<Fault>> {
    let file = stages.file;
    let Some(stage) = file.stages.get(index) else {
        return Err(Vec::new());
    };
    let expand = |text: &str| {
        expand::expand(text, file.escape, inputs.globals)
            .map_err(|error| vec![Fault::new(stage.span, error.to_string())])
    };
    let base = expand(&stage.base)?;
    if base.is_empty() {
        let message = format!("base name `{}` is empty once expanded", stage.base);
        let hint = "an ARG before the first FROM, with a default, can give it";
        return Err(vec![Fault::new(stage.span, message).with_hint(hint)]);
    }
    let platform = stage.platform.as_deref().map(expand).transpose()?;
    let base = match inputs.context(&base, platform.as_deref()) {
        Some(context) if base != "scratch" => context,
        _ => find_base(stages, index, &base),
    };
    let mut faults = Vec::new();
    let mut steps = Vec::new();
    for trigger in triggers_of(file, (&base, platform.as_ref()), inputs.triggers) {
        match parser::parse_one(&trigger, file.escape) {
            Ok(instruction) => steps.push(Instruction {
                span: stage.span,
                ..instruction
            }),
            Err(fault) => faults.push(Fault {
                message: format!("trigger `{trigger}` of the base image: {}", fault.message),
                span: stage.span,
                ..fault
            }),
        }
    }
    steps.extend(stage.instructions.iter().cloned());
    let mut planned = Vec::new();
    for instruction in steps {
        match find_sources(stages, index, &instruction, inputs) {
            Ok((from, mounts)) => planned.push(PlannedStep {
                instruction,
                from,
                mounts,
            }),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let name = stage.name.clone();
    Ok(PlannedStage {
        index,
        name: name.unwrap_or_else(|| format!("stage-{index}")),
        base,
        platform,
        steps: planned,
    })
}

/// Returns what `FROM name` means in stage `index`: an earlier stage, of equal names the last, or an image.
fn find_base(stages: &Stages<'_>, index: usize, name: &str) -> Base {
    if name == "scratch" {
        return Base::Scratch;
    }
    let found = stages.before(index, &name.to_lowercase());
    found.map_or_else(|| Base::Image(name.to_owned()), Base::Stage)
}

/// Returns the triggers that `base` has: of a stage its own `ONBUILD`s, of an image those that are known.
fn triggers_of(
    file: &Dockerfile,
    (base, platform): (&Base, Option<&String>),
    images: &BTreeMap<BaseName, Vec<String>>,
) -> Vec<String> {
    match base {
        Base::Scratch => Vec::new(),
        Base::Image(image) | Base::Context(image) => {
            let known = images.get(&(image.clone(), platform.cloned()));
            known.cloned().unwrap_or_default()
        }
        Base::Stage(index) => {
            let stage = file.stages.get(*index);
            let instructions = stage.map(|stage| stage.instructions.as_slice());
            let triggers = instructions.unwrap_or_default().iter();
            triggers
                .filter_map(|instruction| match &instruction.kind {
                    Kind::Onbuild(text) => Some(text.clone()),
                    _ => None,
                })
                .collect()
        }
    }
}

/// Returns where a `COPY --from` and the mounts of a `RUN` of stage `index` take from.
fn find_sources(
    stages: &Stages<'_>,
    index: usize,
    instruction: &Instruction,
    inputs: Inputs<'_>,
) -> Result<(Option<Base>, Vec<Option<Base>>), Fault> {
    let find = |from: Option<&str>, span| {
        let found = from.map(|from| match inputs.context(from, None) {
            Some(context) if !from.eq_ignore_ascii_case("scratch") => Ok(context),
            _ => find_from(stages, index, from, span),
        });
        found.transpose()
    };
    match &instruction.kind {
        Kind::Copy(copy) => Ok((find(copy.from.as_deref(), instruction.span)?, Vec::new())),
        Kind::Run(run) => {
            let mounts = run.mounts.iter();
            let mounts = mounts.map(|mount| find(mount.from(), mount.span));
            Ok((None, mounts.collect::<Result<_, _>>()?))
        }
        _ => Ok((None, Vec::new())),
    }
}

/// Returns what `--from` in stage `index` means.
fn find_from(stages: &Stages<'_>, index: usize, from: &str, span: Span) -> Result<Base, Fault> {
    let lower = from.to_lowercase();
    let found = match stages.before(index, &lower) {
        Some(earlier) => earlier,
        None => match (stages.named(&lower).first(), lower.parse::<usize>()) {
            (Some(later), _) => *later,
            (None, Ok(number)) => number,
            (None, Err(_)) if lower == "scratch" => return Ok(Base::Scratch),
            (None, Err(_)) => return Ok(Base::Image(from.to_owned())),
        },
    };
    if found < index {
        return Ok(Base::Stage(found));
    }
    let message = if found == index {
        format!("cannot copy from stage `{from}` inside itself")
    } else if found < stages.file.stages.len() {
        format!("cannot copy from stage `{from}`: it needs to be defined before the current stage")
    } else {
        format!("stage `{from}` does not exist: the stages are counted from 0")
    };
    Err(Fault::new(span, message))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `name <- base: KEYWORD[from] …` a line, or the faults.
    fn shown(text: &str, target: Option<&str>, triggers: &[(&str, &[&str])]) -> String {
        let file = parser::parse(Path::new("D"), text).unwrap();
        let given = Variables::from([("G".to_owned(), "given".to_owned())]);
        let globals = global_variables(&file, &Variables::new(), &given).unwrap();
        let triggers = triggers
            .iter()
            .map(|(image, texts)| {
                let texts = texts.iter().map(|text| (*text).to_owned()).collect();
                // `image` or `platform image`.
                let (platform, name) = match image.split_once(' ') {
                    Some((platform, name)) => (Some(platform.to_owned()), name),
                    None => (None, *image),
                };
                ((name.to_owned(), platform), texts)
            })
            .collect();
        let inputs = Inputs {
            globals: &globals,
            target,
            triggers: &triggers,
            contexts: &BTreeSet::from(["ctx".to_owned(), "docker.io/library/named".to_owned()]),
        };
        match plan(&file, inputs) {
            Err(PlanError::Target { name, hint }) => format!("no target {name} ({hint})"),
            Err(PlanError::Faults(faults)) => {
                let lines = faults.into_iter().map(|f| match f.hint {
                    Some(hint) => format!("{} ({hint})", f.message),
                    None => f.message,
                });
                lines.collect::<Vec<_>>().join("\n")
            }
            Ok(plan) => {
                let lines = plan.stages.iter().map(|stage| {
                    let steps = stage.steps.iter().map(|step| match &step.from {
                        Some(from) => format!("{}[{from:?}]", step.instruction.text),
                        None => step.instruction.text.clone(),
                    });
                    let steps = steps.collect::<Vec<_>>().join("; ");
                    format!("{} <- {:?}: {steps}", stage.name, stage.base)
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn only_what_is_needed_is_planned() {
        let text = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM one\nCOPY --from=0 x y\nCOPY --from=img:1 x y\n";
        assert_eq!(
            shown(text, None, &[]),
            "one <- Image(\"a\"): RUN 1\n\
             stage-2 <- Stage(0): COPY --from=0 x y[Stage(0)]; COPY --from=img:1 x y[Image(\"img:1\")]"
        );
        assert_eq!(shown(text, Some("ONE"), &[]), "one <- Image(\"a\"): RUN 1");
        assert_eq!(shown(text, Some("0"), &[]), "one <- Image(\"a\"): RUN 1");
        let late = "FROM a\nFROM b AS two\nCOPY --from=later x y\nFROM c AS later";
        assert!(shown(late, Some("two"), &[]).starts_with("cannot copy from stage `later`"));
        assert_eq!(
            shown(text, Some("twoo"), &[]),
            "no target twoo (did you mean `two`?)"
        );
        assert_eq!(
            shown(text, Some("5"), &[]),
            "no target 5 (its stages are `one`, `two`)"
        );
        assert_eq!(
            shown("FROM a\nFROM b", Some("c"), &[]),
            "no target c (its stages have no names: they are counted from 0)"
        );
    }

    #[test]
    fn names_resolve() {
        let table = [
            ("ARG V=1\nFROM x:$V", "stage-0 <- Image(\"x:1\"): "),
            ("ARG G=1\nFROM x:${G}", "stage-0 <- Image(\"x:given\"): "),
            ("FROM x AS x", "x <- Image(\"x\"): "),
            (
                "FROM Named",
                "stage-0 <- Context(\"docker.io/library/named\"): ",
            ),
            (
                "FROM x AS ctx\nFROM y\nCOPY --from=ctx x y",
                "stage-1 <- Image(\"y\"): COPY --from=ctx x y[Context(\"ctx\")]",
            ),
            ("FROM scratch", "stage-0 <- Scratch: "),
            (
                "FROM $NO",
                "base name `$NO` is empty once expanded (an ARG before the first FROM, with a default, can give it)",
            ),
            (
                "FROM a AS s\nCOPY --from=s x y",
                "cannot copy from stage `s` inside itself",
            ),
            (
                "FROM a\nCOPY --from=late x y\nFROM b AS late\nFROM 0",
                "stage-2 <- Image(\"0\"): ",
            ),
            (
                "FROM a\nCOPY --from=5 x y",
                "stage `5` does not exist: the stages are counted from 0",
            ),
            (
                "FROM a AS s\nFROM b AS s\nFROM s",
                "s <- Image(\"b\"): \nstage-2 <- Stage(1): ",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text, None, &[]), expected, "{text}");
        }
        assert_eq!(
            shown(
                "FROM a AS t\nCOPY --from=late x y\nFROM b AS late",
                Some("t"),
                &[]
            ),
            "cannot copy from stage `late`: it needs to be defined before the current stage"
        );
    }

    #[test]
    fn triggers_run_first_and_may_need_stages() {
        let text = "FROM a AS tools\nFROM base\nRUN own\n";
        assert_eq!(
            shown(text, None, &[("base", &["COPY --from=tools x y"])]),
            "tools <- Image(\"a\"): \n\
             stage-1 <- Image(\"base\"): COPY --from=tools x y[Stage(0)]; RUN own"
        );
        let text = "FROM --platform=linux/arm64 base AS p\nRUN one\nFROM base\nCOPY --from=p / /\n";
        assert_eq!(
            shown(
                text,
                None,
                &[("linux/arm64 base", &["RUN arm"]), ("base", &["RUN own"])]
            ),
            "p <- Image(\"base\"): RUN arm; RUN one\n\
             stage-1 <- Image(\"base\"): RUN own; COPY --from=p / /[Stage(0)]"
        );
        assert_eq!(
            shown("FROM a AS p\nONBUILD RUN t\nFROM p\nRUN own", None, &[]),
            "p <- Image(\"a\"): ONBUILD RUN t\nstage-1 <- Stage(0): RUN t; RUN own"
        );
    }
}
