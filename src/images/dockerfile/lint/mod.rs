//! What is valid and yet not wise: the rules of `docker build --check`, with its names and words.
//!
//! ```text
//! Dockerfile ─file(…)──> what its text alone shows
//!            └─stage(…)─> what shows once a stage's environment is known
//! ```
//!
//! `# check=skip=Rule,…;error=true;experimental=Rule,…` in the first lines says which count, and the same in a comment right above an
//! instruction leaves rules out for that one.

use std::collections::BTreeSet;

use super::super::boolean::parse_bool;
use super::Span;
use super::instruction::{Dockerfile, Written};

mod file;
mod stage;
#[cfg(test)]
mod tests;

pub use file::file;
pub(crate) use stage::is_secret;
pub use stage::{Known, Reached, stage};

/// Rules that are asked for by name alone.
const EXPERIMENTAL: [&str; 2] = ["CopyIgnoredFile", "InvalidDefinitionDescription"];

/// One thing not wise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// From 1.
    pub line: usize,
    /// Which rule.
    pub rule: &'static str,
    /// What it says.
    pub message: String,
    /// The instruction.
    pub span: Span,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (line {})", self.rule, self.message, self.line)
    }
}

/// Which rules count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether a warning fails the build.
    pub error: bool,
    skipped: Names,
    experimental: Names,
}

/// Names of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    some: BTreeSet<String>,
}

impl Names {
    /// Reads `all` or a list.
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self {
                all: true,
                some: BTreeSet::new(),
            };
        }
        let names = text.split(',').map(|name| name.trim().to_owned());
        Self {
            all: false,
            some: names.collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.some.contains(name)
    }
}

impl Options {
    /// Reads `skip=…;error=…;experimental=…`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text
            .trim()
            .splitn(3, ';')
            .filter(|_| !text.trim().is_empty())
        {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("invalid check option {part:?}"));
            };
            match key.trim() {
                "skip" => options.skipped = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    let error = parse_bool(value.trim());
                    options.error =
                        error.ok_or_else(|| format!("failed to parse check option {part:?}"))?;
                }
                key => return Err(format!("invalid check option {key:?}")),
            }
        }
        Ok(options)
    }

    /// Reads what a Dockerfile says, unless `given` says it in its place.
    pub fn of(file: &Dockerfile, given: Option<&str>) -> Result<Self, super::Fault> {
        match (given, &file.check) {
            (Some(given), _) => {
                Self::parse(given).map_err(|message| super::Fault::new(Span::default(), message))
            }
            (None, Some((text, span))) => {
                Self::parse(text).map_err(|message| super::Fault::new(*span, message))
            }
            (None, None) => Ok(Self::default()),
        }
    }
}

/// Returns a warning of the instruction at `span`, if its rule counts there.
pub fn one(
    file: &Dockerfile,
    options: &Options,
    span: Span,
    rule: &'static str,
    message: String,
) -> Option<Warning> {
    let mut lint = Collector::new(file, options);
    lint.warn(span, rule, message);
    lint.found.pop_first()
}

/// Collects warnings.
struct Collector<'a> {
    file: &'a Dockerfile,
    options: &'a Options,
    found: BTreeSet<Warning>,
    /// Where the last warning was: byte and line.
    last_line: (usize, usize),
}

impl<'a> Collector<'a> {
    fn new(file: &'a Dockerfile, options: &'a Options) -> Self {
        Self {
            file,
            options,
            found: BTreeSet::new(),
            last_line: (0, 1),
        }
    }

    /// Notes a warning of the instruction at `span`, if its rule counts there.
    fn warn(&mut self, span: Span, rule: &'static str, message: String) {
        let counts = if EXPERIMENTAL.contains(&rule) {
            self.options.experimental.has(rule)
        } else {
            !self.options.skipped.has(rule)
        };
        let is_local = || {
            self.written(span)
                .is_some_and(|written| is_skipped(written, rule))
        };
        if !counts || is_local() {
            return;
        }
        let line = self.line_of(span.start);
        self.found.insert(Warning {
            line,
            rule,
            message,
            span,
        });
    }

    /// Returns how the instruction at `span` is written.
    fn written(&self, span: Span) -> Option<&'a Written> {
        let all = &self.file.written;
        let at = all.partition_point(|written| written.span.start < span.start);
        all.get(at).filter(|written| written.span == span)
    }

    /// Returns the line, from 1, of a byte: counted from the last one that was asked for.
    fn line_of(&mut self, offset: usize) -> usize {
        let text = self.file.text.as_str();
        let offset = offset.min(text.len());
        let newlines = |from: usize, to: usize| {
            let between = text.get(from..to).unwrap_or_default();
            between.matches('\n').count()
        };
        let (known, line) = self.last_line;
        let line = if known <= offset {
            line + newlines(known, offset)
        } else {
            line - newlines(offset, known)
        };
        self.last_line = (offset, line);
        line
    }

    fn finish(self) -> Vec<Warning> {
        self.found.into_iter().collect()
    }
}

/// Whether a comment right above leaves the rule out: `# check=skip=Rule // why`.
fn is_skipped(written: &Written, rule: &str) -> bool {
    written.comments.iter().any(|comment| {
        let text = comment.split("//").next().unwrap_or_default();
        let said = text.split_once('=').filter(|(key, _)| {
            let key = key.trim();
            key.eq_ignore_ascii_case("check")
        });
        let options = said.and_then(|(_, value)| Options::parse(value).ok());
        options.is_some_and(|options| options.skipped.has(rule))
    })
}

/// Returns the line, from 1, of a byte.
pub fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.matches('\n').count() + 1
}

/// Fails a build whose warnings are to be errors.
pub fn verdict(options: &Options, warnings: &[Warning]) -> Result<(), String> {
    if !options.error || warnings.is_empty() {
        return Ok(());
    }
    let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    Err(format!(
        "lint violation found for rules: {}",
        rules.join(", ")
    ))
}
