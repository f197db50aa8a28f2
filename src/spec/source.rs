//! Source texts and places in them.
//!
//! Every node of a document has a [`Span`]: bytes into one [`Source`]. Lines and columns are computed only when an
//! error is drawn.

use std::path::PathBuf;

/// Index of a [`Source`] in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SourceId(pub u32);

/// A range of bytes in one source; `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The file it points into.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and where it was written. Equality and order are the value's alone.
#[derive(Debug, Clone, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// One file's text.
#[derive(Debug, Clone)]
pub struct Source {
    /// As shown in errors: relative to the working directory where it lies beneath it.
    pub path: PathBuf,
    /// The text, valid UTF-8.
    pub text: String,
}

/// Every file that a load read, in the order read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Indexed by [`SourceId`].
    pub files: Vec<Source>,
}

/// A place for people: `path:line:column`, both from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Sources {
    /// Adds a file and returns its id.
    pub fn add(&mut self, path: PathBuf, text: String) -> SourceId {
        let id = SourceId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Source { path, text });
        id
    }

    /// Returns the file that `id` names.
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.files.get(usize::try_from(id.0).ok()?)
    }

    /// Returns where `span` starts.
    pub fn place(&self, span: Span) -> Option<Place> {
        let source = self.get(span.source)?;
        let mut start = usize::try_from(span.start).ok()?.min(source.text.len());
        while !source.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = source.text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some(Place {
            path: source.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..)?.chars().count() + 1,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}
