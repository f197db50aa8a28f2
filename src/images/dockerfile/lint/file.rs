//! What the text of a Dockerfile shows, whatever its stages are built from.

use std::collections::BTreeSet;

use super::super::expand::{self, Variables};
use super::super::instruction::{Dockerfile, Kind, Stage, Written};
use super::super::nearest;
use super::{Collector, Options, Warning};

/// Returns the warnings of the whole text; `globals` are the `ARG`s before the first `FROM` and the automatic ones, `defaults` the same
/// as if nothing had been given to the build, and `is_image` says whether a name can be that of an image.
pub fn file(
    file: &Dockerfile,
    options: &Options,
    globals: &Variables,
    defaults: &Variables,
    is_image: &dyn Fn(&str) -> bool,
) -> Vec<Warning> {
    let mut lint = Collector::new(file, options);
    for written in &file.written {
        lint.empty_lines(written);
        if written.keyword.eq_ignore_ascii_case("maintainer") {
            let message = "Maintainer instruction is deprecated in favor of using label";
            lint.warn(written.span, "MaintainerDeprecated", message.to_owned());
        }
    }
    lint.casing();
    lint.descriptions();
    let mut seen = BTreeSet::new();
    for stage in &file.stages {
        lint.stage_name(stage, &mut seen);
        lint.from(stage, globals);
        lint.default_base(stage, defaults, is_image);
    }
    lint.finish()
}

impl Collector<'_> {
    /// `NoEmptyContinuation`: named at the instruction's last line.
    fn empty_lines(&mut self, written: &Written) {
        if written.empty_line.is_none() {
            return;
        }
        let end = self.line_of(written.span.end);
        let start = self.line_of(written.span.start);
        let before = self.found.len();
        let message = "Empty continuation line".to_owned();
        self.warn(written.span, "NoEmptyContinuation", message.clone());
        if self.found.len() > before {
            let at = |line| Warning {
                line,
                rule: "NoEmptyContinuation",
                message: message.clone(),
                span: written.span,
            };
            self.found.remove(&at(start));
            self.found.insert(at(end));
        }
    }

    /// `ConsistentInstructionCasing`: keywords in the letters that most have.
    fn casing(&mut self) {
        let first_stage = self.file.stages.first().map(|stage| stage.span);
        let counted: Vec<&Written> = self
            .file
            .written
            .iter()
            .filter(|written| first_stage.is_some_and(|first| written.span >= first))
            .collect();
        let is_lower = |word: &str| word.chars().all(|c| !c.is_uppercase());
        let is_upper = |word: &str| word.chars().all(|c| !c.is_lowercase());
        let lower = counted.iter().filter(|w| is_lower(&w.keyword)).count();
        let upper = counted.iter().filter(|w| is_upper(&w.keyword)).count();
        for written in counted {
            let word = &written.keyword;
            let wanted = if lower > upper && !is_lower(word) {
                "lowercase"
            } else if lower <= upper && !is_upper(word) {
                "uppercase"
            } else {
                continue;
            };
            let message = format!(
                "Command '{word}' should match the case of the command majority ({wanted})"
            );
            self.warn(written.span, "ConsistentInstructionCasing", message);
        }
    }

    /// `StageNameCasing`, `FromAsCasing`, `DuplicateStageName`, `ReservedStageName`.
    fn stage_name(&mut self, stage: &Stage, seen: &mut BTreeSet<String>) {
        let (Some(name), Some(written)) = (&stage.name, self.written(stage.span)) else {
            return;
        };
        let words: Vec<&str> = written.rest.split_whitespace().collect();
        if let [.., keyword, own] = words.as_slice() {
            if *own != name {
                let message = format!("Stage name '{own}' should be lowercase");
                self.warn(stage.span, "StageNameCasing", message);
            }
            let from = written.keyword.as_str();
            let lower = |word: &str| word == word.to_lowercase();
            let upper = |word: &str| word == word.to_uppercase();
            let differs = (lower(from) && !lower(keyword)) || (upper(from) && !upper(keyword));
            if differs {
                let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
                self.warn(stage.span, "FromAsCasing", message);
            }
        }
        if matches!(name.as_str(), "scratch" | "context") {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            self.warn(stage.span, "ReservedStageName", message);
        }
        if !seen.insert(name.clone()) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            self.warn(stage.span, "DuplicateStageName", message);
        }
    }

    /// `UndefinedArgInFrom`, `RedundantTargetPlatform`, `FromPlatformFlagConstDisallowed`.
    fn from(&mut self, stage: &Stage, globals: &Variables) {
        let escape = self.file.escape;
        let declared: BTreeSet<&str> = globals
            .keys()
            .map(String::as_str)
            .chain(self.file.arguments.iter().map(|a| a.name.as_str()))
            .collect();
        let texts = [Some(&stage.base), stage.platform.as_ref()];
        for text in texts.into_iter().flatten() {
            let Ok(expanded) = expand::expand_noting(text, escape, globals) else {
                continue;
            };
            for name in &expanded.unknown {
                if declared.contains(name.as_str()) {
                    continue;
                }
                let near = nearest(name, declared.iter().copied());
                let near = near.map(|near| format!(" (did you mean {near}?)"));
                let message = format!(
                    "FROM argument '{name}' is not declared{}",
                    near.unwrap_or_default()
                );
                self.warn(stage.span, "UndefinedArgInFrom", message);
            }
        }
        let Some(platform) = &stage.platform else {
            return;
        };
        if matches!(platform.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            );
            self.warn(stage.span, "RedundantTargetPlatform", message);
        }
        let name = stage.name.as_deref().unwrap_or_default();
        let is_in_name = platform
            .split('/')
            .take(2)
            .any(|part| !part.is_empty() && name.contains(part));
        if !platform.contains('$') && !is_in_name {
            let message =
                format!("FROM --platform flag should not use constant value {platform:?}");
            self.warn(stage.span, "FromPlatformFlagConstDisallowed", message);
        }
    }

    /// `InvalidDefaultArgInFrom`: no image can have the name that comes of the defaults.
    fn default_base(
        &mut self,
        stage: &Stage,
        defaults: &Variables,
        is_image: &dyn Fn(&str) -> bool,
    ) {
        let Ok(name) = expand::expand(&stage.base, self.file.escape, defaults) else {
            return;
        };
        if stage.base.contains('$') && !is_image(&name) {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            self.warn(stage.span, "InvalidDefaultArgInFrom", message);
        }
    }

    /// `InvalidDefinitionDescription`: a comment above a stage or argument that is not about it.
    fn descriptions(&mut self) {
        let file = self.file;
        for stage in &file.stages {
            if let Some(name) = &stage.name {
                self.description(stage.span, "FROM", name, std::slice::from_ref(name));
            }
            for instruction in &stage.instructions {
                if let Kind::Arg(arguments) = &instruction.kind {
                    let names: Vec<String> = arguments.iter().map(|a| a.name.clone()).collect();
                    self.argument_description(instruction.span, &names);
                }
            }
        }
        let spans: BTreeSet<_> = file.arguments.iter().map(|a| a.span).collect();
        for span in spans {
            let of_span = file.arguments.iter().filter(|a| a.span == span);
            let names: Vec<String> = of_span.map(|a| a.name.clone()).collect();
            self.argument_description(span, &names);
        }
    }

    fn argument_description(&mut self, span: super::Span, names: &[String]) {
        let shown = match names {
            [name] => name.as_str(),
            _ => "<arg_key>",
        };
        self.description(span, "ARG", shown, names);
    }

    fn description(&mut self, span: super::Span, keyword: &str, shown: &str, names: &[String]) {
        let Some(comment) = self.written(span).and_then(|w| w.comments.last()) else {
            return;
        };
        let first = comment.split_whitespace().next().unwrap_or_default();
        let is_directive = comment.trim_start().starts_with("check=");
        if is_directive || names.iter().any(|name| name == first) {
            return;
        }
        let message =
            format!("Comment for {keyword} should follow the format: `# {shown} <description>`");
        self.warn(span, "InvalidDefinitionDescription", message);
    }
}
