//! What is wrong with a file, and where: collected, never thrown, so that one run shows everything.

use super::budget::{Budget, Resource, Taken};
use super::source::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is loaded.
    Error,
    /// It is loaded all the same.
    Warning,
}

/// One thing to say about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the load.
    pub severity: Severity,
    /// One sentence, lower case, no full stop: Docker Compose's words where it has any.
    pub message: String,
    /// The place at fault, where a file is.
    pub span: Option<Span>,
    /// What to write beneath the marked text.
    pub label: Option<String>,
    /// Further places, each with what to write beneath it.
    pub notes: Vec<(Span, String)>,
    /// What to do about it, one sentence each.
    pub hints: Vec<String>,
    /// The last lines that a program wrote before it failed.
    pub output: Vec<String>,
    /// Whether every line that `span` touches is drawn and marked, with those around it, as BuildKit draws instructions.
    pub whole_lines: bool,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: Some(span),
            label: None,
            notes: Vec::new(),
            hints: Vec::new(),
            output: Vec::new(),
            whole_lines: false,
        }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// An error that no place in a file is to blame for.
    pub fn error_without_place(message: impl Into<String>) -> Self {
        Self {
            span: None,
            ..Self::error(Span::default(), message)
        }
    }

    /// A warning that no place in a file is to blame for.
    pub fn warning_without_place(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error_without_place(message)
        }
    }

    /// Writes `text` beneath the marked text.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Marks a further place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// Asks `did you mean` with the one of `candidates` that is nearest to `written`, where one is near.
    #[must_use]
    pub fn suggest<'a>(self, written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, candidates) {
            Some(candidate) => self.hint(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }
}

impl Diagnostic {
    /// Cuts what is too long for anybody to read.
    fn shorten(&mut self) {
        self.notes.truncate(MAX_NOTES);
        let notes = self.notes.iter_mut().map(|(_, text)| text);
        let texts = std::iter::once(&mut self.message).chain(&mut self.label);
        for text in texts.chain(notes).chain(&mut self.hints) {
            if text.len() > MAX_TEXT {
                text.truncate(text.floor_char_boundary(MAX_TEXT));
                text.push('…');
                text.shrink_to_fit();
            }
        }
    }
}

/// How many errors, and how many warnings, are kept: a hostile file must not fill the memory with what is wrong with it.
pub(crate) const MAX_KEPT: usize = 2_000;

/// How many characters of one text are kept: names and values in it may be as long as the file.
const MAX_TEXT: usize = 2_000;

/// How many further places of one diagnostic are kept.
const MAX_NOTES: usize = 50;

/// Everything that is to be said about one load, and what the load may still take.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    budget: Budget,
}

impl Diagnostics {
    /// Adds one.
    pub(crate) fn push(&mut self, mut diagnostic: Diagnostic) {
        let count = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_KEPT {
            diagnostic.shorten();
            self.list.push(diagnostic);
        }
    }

    /// Whether no further error is kept, so that looking for more is in vain.
    pub(crate) fn is_full(&self) -> bool {
        self.errors > MAX_KEPT
    }

    /// Adds an error at `span`.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    /// Takes `amount` of what the load may take; false where that is too much, which is reported once, at `span`.
    pub(crate) fn take(&mut self, what: Resource, amount: usize, span: Option<Span>) -> bool {
        match self.budget.take(what, amount) {
            Taken::Granted => true,
            Taken::Refused => false,
            Taken::FirstRefusal => {
                self.push(match span {
                    Some(span) => Diagnostic::error(span, what.exceeded()),
                    None => Diagnostic::error_without_place(what.exceeded()),
                });
                false
            }
        }
    }

    /// Returns how much of `what` the load may still take.
    pub(crate) fn left(&self, what: Resource) -> usize {
        self.budget.left(what)
    }

    /// Number of errors so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Returns all, in the order of the files and of the places in them, errors and warnings that an alias repeats once.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            (a.span, a.severity, &a.message).cmp(&(b.span, b.severity, &b.message))
        });
        self.list.dedup();
        if self.errors > MAX_KEPT {
            self.list.push(Diagnostic::error_without_place(
                "further problems are not shown",
            ));
        } else if self.warnings > MAX_KEPT {
            self.list.push(Diagnostic::warning_without_place(
                "further warnings are not shown",
            ));
        }
        self.list
    }
}

/// How many pairs of letters one search for the nearest word may compare: a project may have any number of names.
const MAX_COMPARED: usize = 1 << 17;

/// Returns the one of `candidates` nearest to `written`, where it is near enough to be what was meant: a third of the
/// letters may differ, two at least for words of five letters.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > 400 {
        return None;
    }
    let letters: Vec<char> = written.to_lowercase().chars().collect();
    let limit = match letters.len() {
        0 | 1 | 101.. => return None,
        2..=4 => 1,
        5 => 2,
        length => length / 3,
    };
    let mut compared = 0;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(written.len()) > limit * 4 {
            continue;
        }
        compared += (candidate.len() + 1) * letters.len();
        if compared > MAX_COMPARED {
            break;
        }
        let found = (edit_distance(&letters, candidate), candidate);
        if found.0 <= limit && best.is_none_or(|best| found < best) {
            best = Some(found);
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns how many letters must be inserted, removed, replaced or swapped with their neighbour to make `b` of `a`, which
/// is in lower case (optimal string alignment); letters are compared without case.
fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut row = above.clone();
    for (i, x) in a.iter().enumerate() {
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        std::mem::swap(&mut before, &mut above);
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_only_when_it_is_near() {
        let words = ["image", "init", "ports", "environment", "volumes"];
        let rows = [
            ("imgae", Some("image")),
            ("Image", Some("image")),
            ("port", Some("ports")),
            ("enviroment", Some("environment")),
            ("volume", Some("volumes")),
            ("frobnicate", None),
            ("x", None),
        ];
        for (written, expected) in rows {
            assert_eq!(nearest(written, words), expected, "{written}");
        }
    }
}
