//! Source texts and places in them.
//!
//! Every node of a document has a [`Span`]: bytes into one [`Source`]. Lines and columns are computed only when an
//! error is drawn.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

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
    /// Where its lines are; found when it is first asked for.
    index: OnceLock<Index>,
}

/// A line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 0.
    pub number: usize,
    /// Its bytes, without the newline.
    pub range: Range<usize>,
}

/// Counts up to the start of every block of a text, so that any place is found without going over a text of megabytes
/// for each of thousands of errors, whether it has one line or millions.
#[derive(Debug, Clone, Default)]
struct Index {
    newlines: Vec<u32>,
    characters: Vec<u32>,
}

/// Bytes of one block.
const BLOCK: usize = 1 << 14;

fn count(bytes: &[u8], which: impl Fn(u8) -> bool) -> usize {
    bytes.iter().filter(|&&byte| which(byte)).count()
}

fn is_newline(byte: u8) -> bool {
    byte == b'\n'
}

/// Whether a character of UTF-8 begins with `byte`.
fn is_first(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

impl Index {
    fn of(text: &str) -> Self {
        let mut index = Self::default();
        let (mut newlines, mut characters) = (0_u32, 0_u32);
        for block in text.as_bytes().chunks(BLOCK) {
            index.newlines.push(newlines);
            index.characters.push(characters);
            // A block is far smaller than 4 GiB.
            newlines = newlines.saturating_add(count(block, is_newline).try_into().unwrap_or(0));
            characters = characters.saturating_add(count(block, is_first).try_into().unwrap_or(0));
        }
        index
    }
}

impl Source {
    /// A file that was read.
    pub fn new(path: PathBuf, text: String) -> Self {
        Self {
            path,
            text,
            index: OnceLock::new(),
        }
    }

    /// Makes a newline of each carriage return that none follows: YAML ends lines with either, and all that counts lines
    /// here with newlines alone. No byte moves.
    pub(crate) fn end_lines_with_newlines(&mut self) {
        let is_lone =
            |bytes: &[u8], at: usize| bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n');
        let bytes = self.text.as_bytes();
        if !(0..bytes.len()).any(|at| is_lone(bytes, at)) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for at in 0..bytes.len() {
            if is_lone(&bytes, at) {
                bytes[at] = b'\n';
            }
        }
        // One ASCII character for another: still UTF-8.
        self.text = String::from_utf8(bytes).unwrap_or_default();
        self.index = OnceLock::new();
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.text))
    }

    /// Counts the bytes before `at` that are `which`, given the counts before each block.
    fn before(&self, at: usize, blocks: &[u32], which: impl Fn(u8) -> bool) -> usize {
        let Some(&counted) = blocks.get(at / BLOCK) else {
            // Only the end of a text that ends with its block, or of an empty one, lies in no block.
            let last = blocks.len().saturating_sub(1);
            let counted = blocks.last().map_or(0, |&count| count as usize);
            return counted + count(&self.text.as_bytes()[last * BLOCK..at], which);
        };
        counted as usize + count(&self.text.as_bytes()[at / BLOCK * BLOCK..at], which)
    }

    /// Returns the line that has the byte `at`; the last one where the text is shorter.
    pub fn line(&self, at: usize) -> Line {
        let bytes = self.text.as_bytes();
        let at = at.min(bytes.len());
        let newlines = &self.index().newlines;
        let number = self.before(at, newlines, is_newline);
        // The newline before the line, and the one at its end, lie in the last block with fewer, and the block before
        // the first one with more, newlines before them.
        let start = if number == 0 {
            0
        } else {
            let block = newlines.partition_point(|&before| (before as usize) < number) - 1;
            let end = at.min((block + 1) * BLOCK);
            let newline = bytes[block * BLOCK..end]
                .iter()
                .rposition(|&b| is_newline(b));
            newline.map_or(0, |offset| block * BLOCK + offset + 1)
        };
        let block = newlines
            .partition_point(|&before| before as usize <= number)
            .saturating_sub(1);
        let from = at.max(block * BLOCK);
        let newline = bytes[from..].iter().position(|&b| is_newline(b));
        Line {
            number,
            range: start..newline.map_or(bytes.len(), |offset| from + offset),
        }
    }

    /// Returns how many characters stand between two bytes, each the first of a character.
    pub fn characters(&self, range: Range<usize>) -> usize {
        let before = |at| self.before(at, &self.index().characters, is_first);
        before(range.end).saturating_sub(before(range.start))
    }
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
        self.files.push(Source::new(path, text));
        id
    }

    /// Returns the file that `id` names.
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.files.get(usize::try_from(id.0).ok()?)
    }

    /// Returns the file that `id` names for a change of its text.
    pub(crate) fn get_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.files.get_mut(usize::try_from(id.0).ok()?)
    }

    /// Returns where `span` starts.
    pub fn place(&self, span: Span) -> Option<Place> {
        let source = self.get(span.source)?;
        let start = usize::try_from(span.start).ok()?;
        let start = source.text.floor_char_boundary(start);
        let line = source.line(start);
        Some(Place {
            path: source.path.clone(),
            line: line.number + 1,
            column: source.characters(line.range.start..start) + 1,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a plain search finds.
    fn plain(text: &str, at: usize) -> (usize, Range<usize>, usize) {
        let before = &text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..]
            .find('\n')
            .map_or(text.len(), |newline| at + newline);
        (
            before.matches('\n').count(),
            start..end,
            text[start..at].chars().count(),
        )
    }

    fn found(source: &Source, at: usize) -> (usize, Range<usize>, usize) {
        let line = source.line(at);
        let column = source.characters(line.range.start..at);
        (line.number, line.range, column)
    }

    proptest! {
        #[test]
        fn places_are_those_of_a_plain_search(
            pieces in prop::collection::vec(("[aé\n🦀]{0,3}", 0_usize..30_000), 0..6),
            at in any::<prop::sample::Index>(),
        ) {
            let text: String = pieces
                .iter()
                .map(|(piece, times)| piece.repeat(*times))
                .collect();
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let source = Source::new(PathBuf::new(), text);
            for at in [0, at, source.text.len()] {
                prop_assert_eq!(found(&source, at), plain(&source.text, at));
            }
        }
    }

    #[test]
    fn lone_carriage_returns_become_newlines() {
        let mut source = Source::new(PathBuf::new(), "a\rb\r\nc\0\r\r\n\n\r".to_owned());
        source.end_lines_with_newlines();
        assert_eq!(source.text, "a\nb\r\nc\0\n\r\n\n\n");
        assert_eq!(source.line(5).number, 2);
    }

    #[test]
    fn a_text_that_fills_its_blocks_has_its_end() {
        for text in [
            String::new(),
            "\n".repeat(BLOCK),
            "a".repeat(2 * BLOCK),
            format!("{}\n", "a".repeat(BLOCK - 1)),
            format!("{}\nb", "a".repeat(BLOCK - 1)),
        ] {
            let end = text.len();
            let source = Source::new(PathBuf::new(), text);
            for at in [end, end.saturating_sub(1)] {
                assert_eq!(found(&source, at), plain(&source.text, at));
            }
        }
    }
}
