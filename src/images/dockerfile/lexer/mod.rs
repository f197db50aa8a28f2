//! Physical lines to logical ones: parser directives, comments, continuation lines, here-documents (Dockerfile reference,
//! "Format", "Parser directives", "Here-Documents").

use super::instruction::Document;
use super::{Fault, Span};

use directive::Directives;
pub use directive::frontend_of;
pub use heredoc::parse_opening;

mod directive;
mod heredoc;
#[cfg(test)]
mod tests;

/// Longest physical line, bytes with its newline; BuildKit refuses longer ones.
const MAX_LINE: usize = 65_535;

/// A Dockerfile as logical lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexed {
    /// `\` or `` ` ``.
    pub escape: char,
    /// What the `check` directive says, if there is one.
    pub check: Option<(String, Span)>,
    /// One an instruction.
    pub lines: Vec<Logical>,
}

/// One instruction's text, its continuation lines joined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logical {
    /// The joined text; nothing is put between the pieces.
    pub text: String,
    /// Where each piece starts: in `text`, in the source.
    pieces: Vec<(usize, usize)>,
    /// From its first character to its last, here-documents not included.
    pub span: Span,
    /// Here-documents it opens, in order.
    pub documents: Vec<Document>,
    /// The comments right above it, without `#` and blanks around them.
    pub comments: Vec<String>,
    /// Where an empty line stands among its continuation lines.
    pub empty_line: Option<Span>,
}

impl Logical {
    /// Returns a logical line that is all of `text`, at `start` of the source.
    pub fn whole(text: &str, start: usize) -> Self {
        Self {
            text: text.to_owned(),
            pieces: vec![(0, start)],
            span: Span {
                start,
                end: start + text.len(),
            },
            ..Self::default()
        }
    }

    /// Returns the place in the source of the bytes `start..end` of the joined text.
    pub fn place(&self, start: usize, end: usize) -> Span {
        Span {
            start: self.offset(start),
            // The last byte's place plus one: a range that ends with a piece must not reach into the next one.
            end: self.offset(end.saturating_sub(1).max(start)) + usize::from(end > start),
        }
    }

    /// Returns where byte `offset` of the joined text was written.
    fn offset(&self, offset: usize) -> usize {
        // Pieces are in order: the last that begins at or before it.
        let after = self.pieces.partition_point(|(at, _)| *at <= offset);
        let piece = after
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index));
        piece.map_or(self.span.start, |(at, source)| source + (offset - at))
    }
}

/// Splits `text` into logical lines.
pub fn lex(text: &str) -> Result<Lexed, Fault> {
    let mut lines = Physical::new(text);
    let mut directives = Directives::default();
    let mut logical_lines = Vec::new();
    let mut comments: Vec<String> = Vec::new();
    while let Some((start, line)) = lines.next()? {
        let trimmed = line.trim();
        if directives.take(start, line)? {
            continue;
        }
        if let Some(comment) = trimmed.strip_prefix('#') {
            match comment.trim() {
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
            continue;
        }
        if trimmed.is_empty() {
            comments.clear();
            continue;
        }
        let mut logical = read_logical(&mut lines, start, line, directives.escape)?;
        logical.comments = std::mem::take(&mut comments);
        if let Some(at) = logical.text.find('\0') {
            let fault = Fault::new(logical.place(at, at + 1), "a NUL byte in an instruction");
            return Err(fault);
        }
        heredoc::read_documents(&mut lines, &mut logical)?;
        if !logical.text.is_empty() {
            logical_lines.push(logical);
        }
    }
    Ok(Lexed {
        escape: directives.escape,
        check: directives.check,
        lines: logical_lines,
    })
}

/// Physical lines with their places; a byte order mark at the start is skipped.
struct Physical<'a> {
    /// All of it.
    text: &'a str,
    /// Start of the next line.
    next: usize,
}

impl<'a> Physical<'a> {
    /// Starts at the first line.
    fn new(text: &'a str) -> Self {
        let next = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, next }
    }

    /// Returns the next line, its newline included, and its place.
    fn next(&mut self) -> Result<Option<(usize, &'a str)>, Fault> {
        let rest = self.text.get(self.next..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let start = self.next;
        if length > MAX_LINE {
            let end = start + rest.trim_end_matches(['\n', '\r']).len().min(length);
            return Err(Fault::new(
                Span { start, end },
                format!("dockerfile line greater than max allowed size of {MAX_LINE}"),
            ));
        }
        self.next += length;
        Ok(rest.get(..length).map(|line| (start, line)))
    }
}

/// Joins the lines of one instruction.
fn read_logical(
    lines: &mut Physical<'_>,
    start: usize,
    line: &str,
    escape: char,
) -> Result<Logical, Fault> {
    let indent = line.len() - line.trim_start().len();
    let mut logical = Logical {
        span: Span {
            start: start + indent,
            end: start + line.trim_end().len(),
        },
        ..Logical::default()
    };
    let first = line.get(indent..).unwrap_or_default();
    let mut goes_on = join(&mut logical, start + indent, first, escape);
    while goes_on {
        let Some((start, line)) = lines.next()? else {
            break;
        };
        let trimmed = line.trim();
        // Comments and empty lines inside an instruction vanish; they do not end it.
        if trimmed.starts_with('#') {
            continue;
        }
        let end = start + line.trim_end().len();
        if trimmed.is_empty() {
            logical.empty_line = Some(Span { start, end });
            continue;
        }
        logical.span.end = end;
        goes_on = join(&mut logical, start, line, escape);
    }
    let end = logical.text.trim_end().len();
    logical.text.truncate(end);
    Ok(logical)
}

/// Adds a physical line; returns whether it ends in a continuation.
fn join(logical: &mut Logical, start: usize, line: &str, escape: char) -> bool {
    let line = line.trim_end_matches(['\n', '\r']);
    logical.pieces.push((logical.text.len(), start));
    let before = line
        .trim_end_matches([' ', '\t'])
        .strip_suffix(escape)
        // A doubled escape is an escaped escape, not a continuation.
        .filter(|before| !before.ends_with(escape));
    logical.text.push_str(before.unwrap_or(line));
    before.is_some()
}
