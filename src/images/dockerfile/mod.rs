//! Dockerfiles: text to instructions with their places. Pure; knows nothing of images, files or containers.
//!
//! ```text
//! text ─lexer─> logical lines ─parser─> Dockerfile { stages of instructions } ─(build::plan, expand)─> steps
//! ```
//!
//! Reading order: [`lexer`] (directives, comments, continuation, here-documents), [`instruction`] (the tree), [`mount`] (the flags
//! of `RUN`), [`parser`] (lines to the tree), [`expand`] (`$variables` and quotes, done when a step's environment is known),
//! [`lint`] (what is valid and yet not wise).

use std::fmt;
use std::path::PathBuf;

pub mod expand;
pub mod instruction;
pub mod lexer;
pub mod lint;
pub mod mount;
pub mod parser;

/// A range of bytes in a Dockerfile; `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// One thing wrong in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What, lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Advice, if any: `did you mean FROM?`.
    pub hint: Option<String>,
}

impl Fault {
    /// Returns a fault without a hint.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            hint: None,
        }
    }

    /// Returns the fault with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A place for people: `path:line:column`, both from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The Dockerfile, as shown in messages.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// Returns where `offset` (bytes) of `text` is.
    pub fn of(path: PathBuf, text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let in_line = before.get(line_start..).unwrap_or_default();
        Self {
            path,
            line: before.matches('\n').count() + 1,
            column: in_line.chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Every fault of one Dockerfile, with what is needed to draw excerpts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileError {
    /// As shown in messages.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// At least one, in the order of their places.
    pub faults: Vec<Fault>,
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let place = Place::of(self.path.clone(), &self.text, fault.span.start);
            write!(f, "{place}: {}", fault.message)?;
            if let Some(hint) = &fault.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for DockerfileError {}

/// Characters of the longest word that something is suggested for.
const MAX_SUGGESTED: usize = 64;

/// Returns the candidate nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let is_long = |word: &str| word.chars().nth(MAX_SUGGESTED).is_some();
    if is_long(word) {
        return None;
    }
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .filter(|candidate| !is_long(candidate))
        .filter_map(|candidate| Some((distance(word, candidate, limit)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance of two words, in characters; `None` above `limit`.
fn distance(left: &str, right: &str, limit: usize) -> Option<usize> {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut least = before;
        for (cell, b) in row.iter_mut().skip(1).zip(&right) {
            let above = *cell;
            before = (diagonal + usize::from(a != *b))
                .min(above + 1)
                .min(before + 1);
            diagonal = above;
            *cell = before;
            least = least.min(before);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        // It never becomes less from one row to the next.
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let words = ["FROM", "RUN", "COPY", "ENTRYPOINT"];
        let table = [
            ("FOO", Some("FROM")),
            ("RNU", Some("RUN")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("XYZZY", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
        let long = "F".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str(), "FROM"]), None);
        assert_eq!(nearest("FROM", [long.as_str(), "FRM"]), Some("FRM"));
    }
}
