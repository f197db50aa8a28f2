//! What the steps of a plan say once their variables are replaced. Pure, and all of it before the first step runs, so that what is wrong
//! with any of them is told at once (as BuildKit's `dockerfile2llb` does): a step takes what was found here, and reads nothing again.
//!
//! ```text
//! Plan ─(state of each base)─> for each stage: apply ENV, ARG, WORKDIR …; expand COPY, ADD, RUN --mount ─> [Resolved] | every fault
//! ```
//!
//! Where a base is not known yet, since it has to be pulled first, only what depends on no variable is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::dockerfile::expand;
use super::super::dockerfile::instruction::{Dockerfile, Document, Instruction, Kind, Run};
use super::super::dockerfile::mount::{Mount, MountError, MountFlag, MountKind};
use super::super::dockerfile::{Fault, Span};
use super::super::reference::Reference;
use super::super::registry::error::chain;
use super::error::StepFailure;
use super::pattern::file_name;
use super::plan::{Base, Plan, PlannedStage, PlannedStep};
use super::stage::{Given, StageError, StageState, absolute};
use super::transfer::{Expanded, Keyword};

/// A step with its variables replaced.
pub(super) enum Resolved {
    /// Its stage's state has all of it ([`StageState::apply`], [`StageState::enter_directory`]).
    Applied,
    /// A `COPY` or `ADD`.
    Transfer(Arc<Expanded>),
    /// A `RUN`.
    Run(ResolvedRun),
}

/// A `RUN` with its variables replaced: those of the builder, and not those of its shell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvedRun {
    /// In the order of the flags.
    pub(super) mounts: Vec<ResolvedMount>,
    /// A here-document that names its interpreter: where it is mounted, and what it says.
    pub(super) script: Option<(String, String)>,
}

/// Bytes of names and here-documents that the steps of a build may come to: all of them are there at once.
const MAX_BYTES: usize = 64 << 20;

impl Resolved {
    /// Counts what its text takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Applied => 0,
            Self::Transfer(expanded) => expanded.bytes(),
            Self::Run(run) => run.script.as_ref().map_or(0, |(_, text)| text.len()),
        }
    }
}

/// A mount, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvedMount {
    pub(super) kind: MountKind,
    /// Absolute and clean; empty where there is none.
    pub(super) target: String,
}

/// What a stage ends with.
struct End {
    state: StageState,
    /// Whether it goes on from a base that is known.
    is_known: bool,
}

/// Goes through the stages of a plan; returns their steps in the plan's order, or every fault. `base_of` is what a stage starts with that
/// goes on from no other one; `None` where that is not known yet.
pub(super) fn resolve(
    plan: &Plan,
    file: &Dockerfile,
    given: &Given,
    base_of: &dyn Fn(&PlannedStage) -> Option<StageState>,
) -> Result<Vec<Vec<Resolved>>, Vec<Fault>> {
    let mut waiting: BTreeMap<usize, usize> = BTreeMap::new();
    for stage in &plan.stages {
        if let Base::Stage(index) = stage.base {
            *waiting.entry(index).or_default() += 1;
        }
    }
    let mut ends: BTreeMap<usize, End> = BTreeMap::new();
    let (mut resolved, mut faults) = (Vec::new(), Vec::new());
    let mut room = MAX_BYTES;
    for stage in &plan.stages {
        let start = match &stage.base {
            Base::Stage(index) => go_on(*index, &mut ends, &mut waiting),
            _ => match base_of(stage) {
                Some(state) => Some((state, true)),
                None => Some((StageState::of_scratch(&super::Platform::host()), false)),
            },
        };
        // Of one whose base has an environment in doubt nothing can be said.
        let Some((state, is_known)) = start else {
            continue;
        };
        let mut pass = Pass {
            state,
            given,
            is_known,
            room,
            file,
            stage,
            faults: Vec::new(),
        };
        let steps = pass.stage();
        faults.append(&mut pass.faults);
        room = pass.room;
        let Some(steps) = steps else { continue };
        resolved.push(steps);
        if waiting.contains_key(&stage.index) {
            let state = pass.state;
            ends.insert(stage.index, End { state, is_known });
        }
    }
    if faults.is_empty() {
        return Ok(resolved);
    }
    faults.sort_by_key(|fault| fault.span);
    faults.dedup();
    Err(faults)
}

/// Says what is wrong with an instruction of a stage, at a place of it; of a base image's triggers, whose place is `FROM`, with which one.
pub(super) fn fault(
    file: &Dockerfile,
    stage: &PlannedStage,
    instruction: &Instruction,
    (span, message): (Span, String),
) -> Fault {
    let from = file.stages.get(stage.index).map(|from| from.span);
    if Some(instruction.span) != from {
        return Fault::new(span, message);
    }
    let trigger = &instruction.text;
    let message = format!("trigger `{trigger}` of the base image: {message}");
    Fault::new(instruction.span, message)
}

/// Returns what a stage starts with that goes on from an earlier one, and whether that is known. Whoever goes on last has it, and not a
/// copy: along a chain of stages, whose states grow, copies would take the square of its length.
fn go_on(
    index: usize,
    ends: &mut BTreeMap<usize, End>,
    waiting: &mut BTreeMap<usize, usize>,
) -> Option<(StageState, bool)> {
    let count = waiting.get_mut(&index)?;
    *count -= 1;
    let end = if *count == 0 {
        ends.remove(&index)?
    } else {
        let End { state, is_known } = ends.get(&index)?;
        End {
            state: state.clone(),
            is_known: *is_known,
        }
    };
    Some((StageState::of_stage(end.state), end.is_known))
}

/// One stage while it is gone through.
struct Pass<'a> {
    state: StageState,
    given: &'a Given,
    is_known: bool,
    /// What is left of [`MAX_BYTES`].
    room: usize,
    file: &'a Dockerfile,
    stage: &'a PlannedStage,
    faults: Vec<Fault>,
}

/// Why a step cannot be, and which part of it.
type Wrong = (Span, StepFailure);

impl Pass<'_> {
    /// Goes through a stage; returns its steps, `None` where what it leaves to others is in doubt.
    fn stage(&mut self) -> Option<Vec<Resolved>> {
        let mut steps = Vec::new();
        for step in &self.stage.steps {
            let instruction = &step.instruction;
            let resolved = self.step(step);
            match resolved.and_then(|resolved| self.count(resolved, instruction.span)) {
                Ok(resolved) => steps.push(resolved),
                Err(wrong) => {
                    let is_told = self.is_known || !has_variables(instruction);
                    if is_told {
                        self.tell(instruction, &wrong);
                    }
                    // What is said with its variables would be said of other values.
                    if is_told && matches!(instruction.kind, Kind::Env(_) | Kind::Arg(_)) {
                        return None;
                    }
                }
            }
        }
        Some(steps)
    }

    /// Takes what is wrong with an instruction as faults.
    fn tell(&mut self, instruction: &Instruction, wrong: &[Wrong]) {
        let faults = wrong.iter().map(|(span, failure)| {
            let wrong = (*span, chain(failure));
            fault(self.file, self.stage, instruction, wrong)
        });
        self.faults.extend(faults);
    }

    /// Takes the room of a step.
    fn count(&mut self, resolved: Resolved, span: Span) -> Result<Resolved, Vec<Wrong>> {
        let Some(left) = self.room.checked_sub(resolved.bytes()) else {
            let text = "the steps are too long once expanded: more than 64 MiB together";
            return Err(vec![(span, StepFailure::Invalid(text))]);
        };
        self.room = left;
        Ok(resolved)
    }

    /// Resolves one step.
    fn step(&mut self, step: &PlannedStep) -> Result<Resolved, Vec<Wrong>> {
        let Instruction { kind, span, .. } = &step.instruction;
        let wrong = |failure: StepFailure| vec![(*span, failure)];
        let stage_wrong = |error: StageError| wrong(error.into());
        for base in step.from.iter().chain(step.mounts.iter().flatten()) {
            if let Base::Image(name) = base {
                Reference::parse(name).map_err(|error| wrong(error.into()))?;
            }
        }
        let escape = self.given.escape;
        let transfer = |transfer, keyword| {
            let expanded = Expanded::of(transfer, keyword, &self.state, escape);
            expanded.map(|expanded| Resolved::Transfer(Arc::new(expanded)))
        };
        match kind {
            Kind::Copy(copy) => transfer(copy, Keyword::Copy).map_err(wrong),
            Kind::Add(add) => transfer(add, Keyword::Add).map_err(wrong),
            Kind::Run(run) => self.run(run, *span).map(Resolved::Run),
            Kind::Workdir(path) => {
                let entered = self.state.enter_directory(path, self.given);
                entered.map(|_| Resolved::Applied).map_err(stage_wrong)
            }
            kind => {
                let applied = self.state.apply(kind, self.given);
                applied.map(|()| Resolved::Applied).map_err(stage_wrong)
            }
        }
    }

    /// Resolves a `RUN`; every mount of it that is wrong is told.
    fn run(&self, run: &Run, span: Span) -> Result<ResolvedRun, Vec<Wrong>> {
        let (mut mounts, mut wrong) = (Vec::new(), Vec::new());
        for flag in &run.mounts {
            match self.mount(flag) {
                Ok(mount) => mounts.push(mount),
                Err(failure) => wrong.push((flag.span, failure)),
            }
        }
        let script = match script_of(run) {
            Ok(script) => script,
            Err(failure) => {
                wrong.push((span, failure));
                None
            }
        };
        if wrong.is_empty() {
            Ok(ResolvedRun { mounts, script })
        } else {
            Err(wrong)
        }
    }

    /// Resolves a mount.
    fn mount(&self, flag: &MountFlag) -> Result<ResolvedMount, StepFailure> {
        let variables = self.state.variables();
        let expand = |text: &str| expand::expand(text, self.given.escape, variables);
        let Mount { target, kind } = Mount::parse(flag, &expand).map_err(|error| match error {
            MountError::Expand(error) => StepFailure::from(StageError::from(error)),
            error => error.into(),
        })?;
        let is_absolute = target
            .as_deref()
            .is_some_and(|target| target.starts_with('/'));
        let target = match target {
            None => String::new(),
            Some(target) => absolute(&self.state.working_directory(), &target),
        };
        // A relative one is below the base's working directory, which is not known before the base is.
        if target == "/" && (self.is_known || is_absolute) {
            return Err(StepFailure::MountTarget(target));
        }
        Ok(ResolvedMount { kind, target })
    }
}

/// Returns where the here-document of a `RUN` is mounted that names its interpreter, and what it says.
fn script_of(run: &Run) -> Result<Option<(String, String)>, StepFailure> {
    match run.script() {
        // As it is written: a line that tabs stand before is a comment of a shell.
        Some(document) if document.body.starts_with("#!") => {
            let name = file_name(&document.name).ok_or(StepFailure::DocumentName)?;
            Ok(Some((format!("/dev/pipes/{name}"), document.content())))
        }
        _ => Ok(None),
    }
}

/// Whether what an instruction says may depend on variables.
fn has_variables(instruction: &Instruction) -> bool {
    let documents: &[Document] = match &instruction.kind {
        Kind::Copy(transfer) | Kind::Add(transfer) => &transfer.documents,
        _ => &[],
    };
    let mut texts = documents.iter().map(|document| &document.body);
    instruction.text.contains('$') || texts.any(|text| text.contains('$'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::super::dockerfile::expand::Variables;
    use super::super::super::dockerfile::parser;
    use super::super::super::manifest::ImageConfig;
    use super::super::plan::{self, Inputs, global_variables};
    use super::*;

    /// Resolves a Dockerfile; returns what it found, `line: message` a fault.
    fn resolved(text: &str, is_known: bool) -> Result<Vec<Vec<Resolved>>, String> {
        let file = parser::parse(Path::new("D"), text).unwrap();
        let globals = global_variables(&file, &Variables::new(), &Variables::new()).unwrap();
        let parent = ("parent".to_owned(), None);
        let triggers = BTreeMap::from([(parent, vec!["EXPOSE nine".to_owned()])]);
        let inputs = Inputs {
            globals: &globals,
            target: None,
            triggers: &triggers,
            contexts: &BTreeSet::new(),
        };
        let plan = plan::plan(&file, inputs).unwrap();
        let given = Given {
            escape: file.escape,
            globals: globals.clone(),
            ..Given::default()
        };
        let base_of = |stage: &PlannedStage| {
            let mut config = ImageConfig::new(&super::super::Platform::host());
            config.config.env.push("PORT=80".to_owned());
            let is_known = is_known || stage.base == Base::Scratch;
            is_known.then(|| StageState::of_image(config, Vec::new()))
        };
        resolve(&plan, &file, &given, &base_of).map_err(|faults| {
            let lines = faults.iter().map(|fault| {
                let line = text[..fault.span.start].matches('\n').count() + 1;
                format!("{line}: {}", fault.message)
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    }

    /// What is wrong in it, nothing where nothing is.
    fn wrong(text: &str) -> String {
        resolved(text, true).err().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_with_a_step_is_known_before_any_runs() {
        let table = [
            ("EXPOSE $PORT", ""),
            (
                "EXPOSE $PORT-70",
                "2: invalid port `80-70`: it must be like 80, 80/udp or 8000-8010/tcp",
            ),
            ("STOPSIGNAL SIGX", "2: invalid signal `SIGX`"),
            (
                "VOLUME $NO",
                "2: VOLUME specified can not be an empty string",
            ),
            ("LABEL $NO=x", "2: LABEL names can not be blank"),
            ("ENV $NO=x", "2: ENV names can not be blank"),
            ("USER ${NO:?give one}", "2: NO: give one"),
            (
                "WORKDIR ${PORT:^}",
                "2: unsupported modifier (:^) in substitution",
            ),
            (
                "RUN --mount=type=bidn,target=/a true",
                "2: unsupported mount type \"bidn\" (did you mean bind?)",
            ),
            (
                "RUN --mount=type=cache,taget=/a true",
                "2: unexpected key 'taget' in 'taget=/a' (did you mean target?)",
            ),
            (
                "RUN --mount=type=cache true",
                "2: invalid mount target \"/\"",
            ),
            (
                "WORKDIR /w\nRUN --mount=type=tmpfs,target=.. true",
                "3: invalid mount target \"/\"",
            ),
            (
                "RUN --mount=type=cache,target=/a,mode=$PORT --mount=type=tmpfs,target=/b,uid=1 \\\n --mount=type=secret,id=a,src=b true",
                "2: invalid value 80 for mode\n2: uid not allowed for \"tmpfs\" type mounts\n3: both source and id can't be set",
            ),
            (
                "RUN <<a/b\n#!/bin/sh\na/b\n",
                "2: the name of a here-document that becomes a file cannot be a path",
            ),
            (
                "COPY --chmod=${PORT}0 a b",
                "2: invalid chmod parameter: '800'. it should be octal string and between 0 and 07777",
            ),
            (
                "COPY --chown=: a b",
                "2: invalid owner `:`: it must be user or user:group",
            ),
            ("COPY --chown=nobody a b", ""),
            ("COPY https://h/x b", "2: source can't be a URL for COPY"),
            ("COPY --exclude=a[ a b", "2: syntax error in pattern `a[`"),
            (
                "ADD --checksum=sha256:0 a b",
                "2: checksum requires HTTP(S) or Git sources",
            ),
            (
                "COPY --from=a//b a b",
                "2: invalid reference format: `a//b`: each part of the name must be lower-case letters and digits, parted by single `.`, `_`, `__` or `-`s",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(wrong(&format!("FROM a\n{line}\n")), expected, "{line}");
        }
    }

    #[test]
    fn a_stage_knows_what_the_one_below_it_said_and_no_other() {
        let text = "FROM a AS one\nARG X=9\nWORKDIR /w\nFROM one AS two\nEXPOSE ${X}x\nFROM one\nCOPY --from=two a b\nRUN --mount=type=cache,target=c${X} true\n";
        assert_eq!(
            wrong(text),
            "5: invalid port `9x`: it must be like 80, 80/udp or 8000-8010/tcp"
        );
        let found = resolved(&text.replace("${X}x", "$X"), true).unwrap();
        let Some([Resolved::Transfer(_), Resolved::Run(run)]) = found.last().map(Vec::as_slice)
        else {
            panic!("other steps");
        };
        assert_eq!(run.mounts[0].target, "/w/c9");
        // Nothing is said with an environment that is in doubt.
        let text = "FROM a AS one\nENV A=${NO?}\nEXPOSE ${A:?}\nFROM one\nEXPOSE ${A:?}\n";
        assert_eq!(wrong(text), "2: NO: is not allowed to be unset");
        // A stage that is not needed is not looked at.
        assert_eq!(wrong("FROM a\nSTOPSIGNAL x\nFROM b\n"), "");
        assert_eq!(
            wrong("FROM parent\nUSER x\n"),
            "1: trigger `EXPOSE nine` of the base image: invalid port `nine`: it must be like 80, 80/udp or 8000-8010/tcp"
        );
    }

    #[test]
    fn of_a_base_that_is_not_here_yet_only_what_cannot_depend_on_it_is_told() {
        let text = "FROM a AS one\nEXPOSE ${PORT:?}\nCOPY <<E /e\n${PORT:?}\nE\nSTOPSIGNAL x\nFROM one\nUSER ${U:?}\nVOLUME x\nRUN --mount=type=x true\nFROM scratch\nCOPY --from=1 a $PORT/b\nEXPOSE ${NO}x\n";
        let told = "6: invalid signal `x`\n10: unsupported mount type \"x\"\n13: invalid port `x`: it must be like 80, 80/udp or 8000-8010/tcp";
        assert_eq!(resolved(text, false).err().unwrap_or_default(), told);
        assert!(wrong(text).starts_with("6: invalid signal `x`\n8: U: "));
    }

    #[test]
    fn the_working_directory_of_a_base_that_is_not_here_yet_may_be_any() {
        for text in [
            "FROM a\nRUN --mount=target=. true\n",
            "FROM a\nWORKDIR x\nRUN --mount=target=.. true\n",
        ] {
            assert!(resolved(text, false).is_ok(), "{text}");
        }
        let text = "FROM a\nRUN --mount=target=/ true\n";
        let told = "2: invalid mount target \"/\"";
        assert_eq!(resolved(text, false).err().unwrap_or_default(), told);
        assert_eq!(wrong(text), told);
    }

    #[test]
    fn steps_are_not_too_long_together() {
        let text = |count: usize| {
            // A line has 64 KiB at most.
            let value = "x".repeat(60_000);
            let copies = "COPY <<E /f\n$B\nE\n".repeat(count);
            format!(
                "FROM scratch\nENV A={value}\nENV B={}\n{copies}",
                "$A".repeat(16)
            )
        };
        let told = "the steps are too long once expanded: more than 64 MiB together";
        assert!(wrong(&text(75)).ends_with(told));
        assert_eq!(wrong(&text(60)), "");
    }

    #[test]
    fn a_long_chain_of_stages_is_gone_through_once() {
        let stages = (1..4000).map(|number| {
            let base = number - 1;
            format!("FROM s{base} AS s{number}\nENV E{number}=x\n")
        });
        let mut text = format!("FROM a AS s0\n{}", stages.collect::<String>());
        text.push_str("EXPOSE ${E3999}\n");
        assert_eq!(
            wrong(&text).split(' ').nth(1),
            Some("invalid"),
            "the last stage has the variables of all"
        );
    }
}
