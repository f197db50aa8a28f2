//! What is wrong in a Dockerfile, with its place there. Pure.

use std::path::Path;

use crate::engine::apply::StepFailure as ApplyFailure;
use crate::engine::chain;
use crate::images::build::{BuildError, Excerpt, StepFailure};
use crate::images::dockerfile::{self, DockerfileError, nearest, parser};
use crate::spec::Diagnostic;
use crate::spec::source::{SourceId, Sources, Span};

/// Returns what is wrong in a Dockerfile, which is added to `sources`; nothing where it is not at fault.
pub fn in_dockerfile(error: &BuildError, sources: &mut Sources) -> Vec<Diagnostic> {
    match error {
        BuildError::Dockerfile(error) => of_faults(error, sources),
        BuildError::Step { at, source } => vec![of_instruction(at, source, sources)],
        BuildError::Target { hint, .. } => {
            vec![Diagnostic::error_without_place(error.to_string()).hint(hint)]
        }
        _ => Vec::new(),
    }
}

impl ApplyFailure {
    /// As the function of that name, each message with what was attempted.
    pub fn in_dockerfile(&self, sources: &mut Sources) -> Vec<Diagnostic> {
        let Some(error) = self.source.downcast_ref::<BuildError>() else {
            return Vec::new();
        };
        let mut found = in_dockerfile(error, sources);
        for diagnostic in &mut found {
            diagnostic.message = format!("{}: {}", self.attempted, diagnostic.message);
        }
        found
    }
}

fn of_faults(error: &DockerfileError, sources: &mut Sources) -> Vec<Diagnostic> {
    let id = add(sources, &error.path, &error.text);
    let faults = error.faults.iter();
    faults
        .map(|fault| {
            let diagnostic = whole(Diagnostic::error(
                span(id, fault.span),
                fault.message.as_str(),
            ));
            match &fault.hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            }
        })
        .collect()
}

fn of_instruction(at: &Excerpt, source: &StepFailure, sources: &mut Sources) -> Diagnostic {
    let id = add(sources, &at.place.path, &at.text);
    let diagnostic = whole(Diagnostic::error(span(id, at.span), chain(source)));
    match source {
        StepFailure::Exit { tail, .. } => Diagnostic {
            output: tail.clone(),
            ..diagnostic
        },
        // A name that no stage has is taken for that of an image.
        StepFailure::Image(_) => match meant(at) {
            Some(stage) => diagnostic.hint(format!("did you mean the stage `{stage}`?")),
            None => diagnostic,
        },
        _ => diagnostic,
    }
}

/// Draws instructions rather than a part of a line.
fn whole(diagnostic: Diagnostic) -> Diagnostic {
    Diagnostic {
        whole_lines: true,
        ..diagnostic
    }
}

/// Returns the stage whose name is near to that which an instruction takes files from, or begins with.
fn meant(at: &Excerpt) -> Option<String> {
    let file = parser::parse(&at.place.path, &at.text).ok()?;
    let names: Vec<&str> = file
        .stages
        .iter()
        .filter_map(|stage| stage.name.as_deref())
        .collect();
    let text = at.text.get(at.span.start..at.span.end)?;
    let mut words = text.split_whitespace();
    let keyword = words.next()?;
    let asked = if keyword.eq_ignore_ascii_case("from") {
        words.find(|word| !word.starts_with("--"))
    } else {
        words
            .flat_map(|word| word.split(','))
            .find_map(|word| word.rsplit_once("from=").map(|(_, name)| name))
    };
    let asked = asked?.to_lowercase();
    nearest(&asked, names).map(str::to_owned)
}

/// Adds a Dockerfile under a path without `.` in the midst of it.
fn add(sources: &mut Sources, path: &Path, text: &str) -> SourceId {
    sources.add(path.components().collect(), text.to_owned())
}

/// Makes a place in a Dockerfile one in the source that it became.
fn span(source: SourceId, span: dockerfile::Span) -> Span {
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span {
        source,
        start: place(span.start),
        end: place(span.end),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::images::dockerfile::Place;

    #[test]
    fn a_stage_that_was_meant_is_found() {
        let table = [
            ("COPY --from=biuld /a /b", Some("build")),
            ("COPY --chown=1 --from=BUILT /a /b", Some("build")),
            (
                "RUN --mount=type=bind,from=tets,target=/t true",
                Some("test"),
            ),
            ("FROM --platform=linux/amd64 tset AS last", Some("test")),
            ("COPY --from=alpine /a /b", None),
            ("COPY from=x /a /b", None),
        ];
        for (line, expected) in table {
            let text = format!("FROM a AS build\nFROM b AS test\n{line}\n");
            let start = text.find(line).unwrap_or_default();
            let path = PathBuf::from("Dockerfile");
            let at = Excerpt {
                place: Place::of(path, &text, start),
                step: line.to_owned(),
                span: dockerfile::Span {
                    start,
                    end: start + line.len(),
                },
                text: text.clone(),
            };
            assert_eq!(meant(&at).as_deref(), expected, "{line}");
        }
    }
}
