//! Physical lines to logical ones: parser directives, comments, continuation lines, here-documents (Dockerfile reference,
//! "Format", "Parser directives", "Here-Documents").

use super::instruction::Document;
use super::{Fault, Span};

/// Longest physical line, bytes; BuildKit refuses longer ones.
const MAX_LINE: usize = 65_535;

/// A Dockerfile as logical lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexed {
    /// `\` or `` ` ``.
    pub escape: char,
    /// What the `syntax` directive names, if there is one.
    pub syntax: Option<(String, Span)>,
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
            documents: Vec::new(),
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
        let piece = self.pieces.iter().rev().find(|(at, _)| *at <= offset);
        piece.map_or(self.span.start, |(at, source)| source + (offset - at))
    }
}

/// Splits `text` into logical lines.
pub fn lex(text: &str) -> Result<Lexed, Fault> {
    let mut lines = Physical::new(text);
    let mut lexed = Lexed {
        escape: '\\',
        syntax: None,
        lines: Vec::new(),
    };
    let mut directives = true;
    while let Some((start, line)) = lines.next() {
        if line.len() > MAX_LINE {
            let span = Span {
                start,
                end: start + line.len(),
            };
            return Err(Fault::new(
                span,
                format!("line longer than {MAX_LINE} bytes"),
            ));
        }
        directives = directives && read_directive(&mut lexed, start, line)?;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        directives = false;
        let mut logical = read_logical(&mut lines, start, line, lexed.escape);
        if opens_documents(&logical.text) {
            read_documents(&mut lines, &mut logical, lexed.escape)?;
        }
        lexed.lines.push(logical);
    }
    Ok(lexed)
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
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.next..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let start = self.next;
        self.next += length;
        Some((start, rest.get(..length)?))
    }
}

/// Takes a parser directive; returns whether the next line may be one too.
fn read_directive(lexed: &mut Lexed, start: usize, line: &str) -> Result<bool, Fault> {
    let Some(comment) = line.trim_start().strip_prefix('#') else {
        return Ok(false);
    };
    let Some((key, value)) = comment.split_once('=') else {
        return Ok(false);
    };
    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
    let span = Span {
        start,
        end: start + line.trim_end().len(),
    };
    match key.as_str() {
        "check" => Ok(true),
        "syntax" => {
            if lexed.syntax.is_some() {
                return Err(Fault::new(span, "only one syntax directive can be used"));
            }
            lexed.syntax = Some((value.to_owned(), span));
            Ok(true)
        }
        "escape" => match value {
            "\\" => Ok(true),
            "`" => {
                lexed.escape = '`';
                Ok(true)
            }
            _ => Err(Fault::new(
                span,
                format!("invalid escape token `{value}`: it is \\ or `"),
            )),
        },
        _ => Ok(false),
    }
}

/// Joins the lines of one instruction.
fn read_logical(lines: &mut Physical<'_>, start: usize, line: &str, escape: char) -> Logical {
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
        let Some((start, line)) = lines.next() else {
            break;
        };
        let trimmed = line.trim();
        // Comments and empty lines inside an instruction vanish; they do not end it.
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        logical.span.end = start + line.trim_end().len();
        goes_on = join(&mut logical, start, line, escape);
    }
    let end = logical.text.trim_end().len();
    logical.text.truncate(end);
    logical
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

/// Returns whether the instruction is one whose words may open here-documents.
fn opens_documents(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut keyword = words.next().unwrap_or_default();
    if keyword.eq_ignore_ascii_case("onbuild") {
        keyword = words.next().unwrap_or_default();
    }
    let known = ["add", "copy", "run"];
    known
        .iter()
        .any(|known| keyword.eq_ignore_ascii_case(known))
        && text.contains("<<")
}

/// Takes the bodies of the here-documents that `logical` opens.
fn read_documents(
    lines: &mut Physical<'_>,
    logical: &mut Logical,
    escape: char,
) -> Result<(), Fault> {
    let arguments = logical.text.split_once(char::is_whitespace);
    if arguments.is_some_and(|(_, rest)| is_json(rest.trim())) {
        return Ok(());
    }
    for word in split_raw(&logical.text, escape) {
        let Some(mut document) = parse_opening(&word) else {
            continue;
        };
        loop {
            let Some((_, line)) = lines.next() else {
                let message = format!("unterminated heredoc: no line `{}`", document.name);
                return Err(Fault::new(logical.span, message));
            };
            let bare = line.trim_end_matches(['\n', '\r']);
            let terminator = if document.strip_tabs {
                bare.trim_start_matches('\t')
            } else {
                bare
            };
            if terminator == document.name {
                break;
            }
            document.body.push_str(line);
        }
        logical.documents.push(document);
    }
    Ok(())
}

/// Returns whether `text` is a JSON array.
fn is_json(text: &str) -> bool {
    text.starts_with('[') && serde_json::from_str::<Vec<serde_json::Value>>(text).is_ok()
}

/// Parses a word that opens a here-document: digits, `<<`, an optional `-`, a delimiter that may be quoted.
pub fn parse_opening(word: &str) -> Option<Document> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name: String = rest
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .collect();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    Some(Document {
        expand: name == rest,
        name,
        body: String::new(),
        strip_tabs,
    })
}

/// Splits at blanks that are not quoted; quotes and escapes stay. Nothing where a quote is not closed.
fn split_raw(text: &str, escape: char) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.push(String::new());
            continue;
        }
        let Some(word) = words.last_mut() else {
            break;
        };
        word.push(character);
        if character == escape && quote != Some('\'') {
            word.extend(characters.next());
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        }
    }
    if quote.is_some() {
        return Vec::new();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The joined texts.
    fn texts(source: &str) -> Vec<String> {
        let lexed = lex(source).unwrap();
        lexed.lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_join() {
        let table: [(&str, &[&str]); 12] = [
            ("FROM a\nRUN b\n", &["FROM a", "RUN b"]),
            ("\u{feff}FROM a", &["FROM a"]),
            ("FROM a\r\nRUN b\r\n", &["FROM a", "RUN b"]),
            ("RUN a \\\n  b\n", &["RUN a   b"]),
            ("RUN a\\\nb\n", &["RUN ab"]),
            ("RUN a \\  \t\n b\n", &["RUN a  b"]),
            (
                "RUN a \\\n# no\n\n  # nor this\n b\nX y",
                &["RUN a  b", "X y"],
            ),
            ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
            ("RUN a # not a comment\n", &["RUN a # not a comment"]),
            ("RUN a \\", &["RUN a"]),
            ("  # comment\n   RUN a\n", &["RUN a"]),
            (
                "# escape=`\nRUN a `\n b \\\nRUN c",
                &["RUN a  b \\", "RUN c"],
            ),
        ];
        for (source, expected) in table {
            assert_eq!(texts(source), expected, "{source:?}");
        }
    }

    #[test]
    fn directives_end_at_the_first_other_line() {
        let table = [
            ("# escape=`\n", '`'),
            ("# syntax=docker/dockerfile:1\n# ESCAPE = `\n", '`'),
            ("# a comment\n# escape=`\n", '\\'),
            ("\n# escape=`\n", '\\'),
            ("FROM a\n# escape=`\n", '\\'),
            ("# other=1\n# escape=`\n", '\\'),
        ];
        for (source, escape) in table {
            assert_eq!(lex(source).unwrap().escape, escape, "{source:?}");
        }
        let fault = lex("# escape=x\n").unwrap_err();
        assert_eq!(fault.message, "invalid escape token `x`: it is \\ or `");
    }

    #[test]
    fn heredocs_are_taken() {
        let source = "COPY <<A <<-'B' 3<<\"C\" /d/\na $x\nA\n\tb\n\tB\nC\nRUN cat <<< no 1<<2\n2\n";
        let lexed = lex(source).unwrap();
        let document = |name: &str, body: &str, expand, strip_tabs| Document {
            name: name.to_owned(),
            body: body.to_owned(),
            expand,
            strip_tabs,
        };
        let documents: Vec<_> = lexed.lines.into_iter().map(|l| l.documents).collect();
        assert_eq!(
            documents,
            [
                vec![
                    document("A", "a $x\n", true, false),
                    document("B", "\tb\n", false, true),
                    document("C", "", false, false),
                ],
                vec![document("2", "", true, false)],
            ]
        );
        let fault = lex("FROM a\nRUN <<EOF\nx\n").unwrap_err();
        assert_eq!(fault.message, "unterminated heredoc: no line `EOF`");
        for none in [
            "RUN [\"<<EOF\"]",
            "RUN echo \"<<EOF\"",
            "ENV a=<<EOF",
            "RUN x <<EOF'",
        ] {
            assert_eq!(lex(none).unwrap().lines[0].documents, [], "{none}");
        }
    }

    #[test]
    fn places_go_through_joints() {
        let source = "RUN one \\\n# c\n  two";
        let lexed = lex(source).unwrap();
        let line = &lexed.lines[0];
        let at = line.text.find("two").unwrap();
        let span = line.place(at, at + 3);
        assert_eq!(&source[span.start..span.end], "two");
        assert_eq!(line.place(4, 7), Span { start: 4, end: 7 });
    }
}
