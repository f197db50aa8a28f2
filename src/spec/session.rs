//! What one load reads and says, from the first file to the last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::budget::Resource;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::dotenv::{self, Format};
use super::load::{LoadOptions, ReadError, ReadFile};
use super::origin::Trace;
use super::source::{SourceId, Sources, Span, Spanned};
use super::tree::Node;
use super::yaml::parse;

/// How many further places of an unset variable are shown.
const MAX_PLACES: usize = 3;

/// The largest file that is read, in bytes; nothing more of a file need be handed in than a byte beyond it.
pub const MAX_FILE: usize = 32 << 20;

/// Variables by name.
pub(crate) type Environment = BTreeMap<String, String>;

/// Variables by name, each with the place of its key in the dotenv file that sets it.
pub(crate) type Provided = BTreeMap<String, Spanned<String>>;

/// The state of one load.
pub(crate) struct Session<'a> {
    /// What to load.
    pub(crate) options: &'a LoadOptions,
    /// How files are read.
    pub(crate) reader: &'a dyn ReadFile,
    /// Every file read.
    pub(crate) sources: Sources,
    /// Files read so far.
    opened: BTreeMap<PathBuf, SourceId>,
    /// Everything said.
    pub(crate) diagnostics: Diagnostics,
    /// The places of each variable that is not set.
    pub(crate) unset: BTreeMap<String, BTreeSet<Span>>,
    /// Whether a Compose file could not be read, so that what it would have said is not missed.
    pub(crate) is_partial: bool,
    /// Where files and variables come from.
    pub(crate) trace: Trace,
}

/// One Compose file, read.
pub(crate) struct Parsed {
    /// Absolute path; `-` for standard input.
    pub(crate) path: PathBuf,
    /// Its documents.
    pub(crate) documents: Vec<Arc<Node>>,
    /// Whether it has a dollar sign.
    pub(crate) has_variables: bool,
    /// Its first byte.
    pub(crate) start: Span,
}

impl<'a> Session<'a> {
    /// Begins a load.
    pub(crate) fn new(options: &'a LoadOptions, reader: &'a dyn ReadFile) -> Self {
        Self {
            options,
            reader,
            sources: Sources::default(),
            opened: BTreeMap::new(),
            diagnostics: Diagnostics::default(),
            unset: BTreeMap::new(),
            is_partial: false,
            trace: Trace::default(),
        }
    }

    /// Warns, once each, of the variables that are not set.
    pub(crate) fn warn_of_unset(&mut self) {
        for (name, places) in std::mem::take(&mut self.unset) {
            let mut rest = places.into_iter();
            let Some(first) = rest.next() else {
                continue;
            };
            let mut diagnostic = Diagnostic::warning(
                first,
                format!("the \"{name}\" variable is not set, defaulting to a blank string"),
            );
            for place in rest.by_ref().take(MAX_PLACES) {
                diagnostic = diagnostic.note(place, "and here");
            }
            diagnostic = diagnostic.suggest(&name, self.trace.variables());
            diagnostic = diagnostic.hint(format!("write $${name} for a literal ${name}"));
            let more = rest.count();
            if more > 0 {
                diagnostic = diagnostic.hint(format!("it is named at {more} more places"));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    /// Returns `path` as it is shown: relative to the working directory where it lies beneath it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.options.working_directory) {
            Ok(relative) if !relative.as_os_str().is_empty() => relative.to_owned(),
            _ => path.to_owned(),
        }
    }

    /// Takes a file's bytes in; what is not text is reported.
    pub(crate) fn add_source(&mut self, path: &Path, bytes: Vec<u8>) -> Option<SourceId> {
        let shown = self.shown(path);
        if bytes.len() > MAX_FILE {
            self.diagnostics
                .push(Diagnostic::error_without_place(format!(
                    "{}: larger than {} MiB",
                    shown.display(),
                    MAX_FILE >> 20
                )));
            return None;
        }
        if !self.diagnostics.take(Resource::Read, bytes.len(), None) {
            return None;
        }
        let (text, fault) = decoded(bytes);
        let id = self.sources.add(shown, text);
        if let Some((start, encoding)) = fault {
            let span = Span {
                source: id,
                start,
                end: start + 3,
            };
            self.diagnostics.push(
                Diagnostic::error(span, format!("invalid {encoding}"))
                    .hint("save the file in the encoding UTF-8"),
            );
            return None;
        }
        Some(id)
    }

    /// Parses a Compose file; what goes wrong is reported.
    pub(crate) fn parse(&mut self, path: &Path, id: SourceId) -> Option<Parsed> {
        let Self {
            sources,
            diagnostics,
            ..
        } = self;
        let start = Span {
            source: id,
            start: 0,
            end: 0,
        };
        let source = sources.get_mut(id)?;
        if !diagnostics.take(Resource::Parsed, source.text.len(), Some(start)) {
            return None;
        }
        source.end_lines_with_newlines();
        let text = &source.text;
        let documents = parse::parse(text, id, diagnostics)?;
        Some(Parsed {
            path: path.to_owned(),
            documents,
            has_variables: text.contains('$'),
            start,
        })
    }

    /// Reads a dotenv file's variables; errors in it are reported.
    pub(crate) fn dotenv(
        &mut self,
        path: &Path,
        id: SourceId,
        format: Format,
        outside: dotenv::Outside<'_>,
    ) -> Option<Provided> {
        let text = &self.sources.get(id)?.text;
        if !self.diagnostics.take(Resource::Parsed, text.len(), None) {
            return None;
        }
        let room = self.diagnostics.left(Resource::Filled);
        match dotenv::parse(text, format, outside, room) {
            Ok(variables) => {
                let pairs = variables.into_iter().map(|(key, variable)| {
                    let start = u32::try_from(variable.at).unwrap_or(u32::MAX);
                    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
                    let span = Span {
                        source: id,
                        start,
                        end: start.saturating_add(length),
                    };
                    let value = variable.value;
                    (key, Spanned { value, span })
                });
                Some(pairs.collect())
            }
            Err(error) => {
                let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                let span = Span {
                    source: id,
                    start: offset(error.at.start),
                    end: offset(error.at.end),
                };
                let shown = self.shown(path);
                self.diagnostics.error(
                    span,
                    format!("failed to read {}: {}", shown.display(), error.message),
                );
                None
            }
        }
    }

    /// Reads a file that must be there, once; `what` says so if it is not.
    pub(crate) fn open(&mut self, path: &Path, span: Option<Span>, what: &str) -> Option<SourceId> {
        if let Some(id) = self.opened.get(path) {
            return Some(*id);
        }
        match self.reader.read(path) {
            Ok(bytes) => {
                let id = self.add_source(path, bytes)?;
                self.opened.insert(path.to_owned(), id);
                Some(id)
            }
            Err(error) => {
                let shown = self.shown(path);
                let message = match error {
                    ReadError::NotFound if what.ends_with(':') => {
                        format!("{what} {}", shown.display())
                    }
                    ReadError::NotFound => format!("{what} {} not found", shown.display()),
                    ReadError::Other(reason) => format!("{what} {}: {reason}", shown.display()),
                };
                self.diagnostics.push(match span {
                    Some(span) => Diagnostic::error(span, message),
                    None => Diagnostic::error_without_place(message),
                });
                None
            }
        }
    }
}

/// Returns the text of a file: UTF-8, or UTF-16 where a byte order mark says so, which is what Docker Compose's parser
/// reads. The mark is no part of the text. Where the bytes are no text, tells the first byte at fault of what is returned
/// and the encoding that it breaks.
fn decoded(bytes: Vec<u8>) -> (String, Option<(u32, &'static str)>) {
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => from_utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => from_utf16(rest, u16::from_be_bytes),
        _ => from_utf8(bytes),
    }
}

fn from_utf8(bytes: Vec<u8>) -> (String, Option<(u32, &'static str)>) {
    let (mut text, fault) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            (text, u32::try_from(at).ok())
        }
    };
    let mark = if text.starts_with('\u{feff}') { 3 } else { 0 };
    text.drain(..mark);
    let fault = fault.map(|at| at.saturating_sub(u32::try_from(mark).unwrap_or(0)));
    (text, fault.map(|at| (at, "UTF-8")))
}

fn from_utf16(
    bytes: &[u8],
    unit: impl Fn([u8; 2]) -> u16,
) -> (String, Option<(u32, &'static str)>) {
    let units = bytes
        .chunks(2)
        .map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut text = String::with_capacity(bytes.len());
    let mut fault = None;
    for character in char::decode_utf16(units) {
        if character.is_err() && fault.is_none() {
            fault = u32::try_from(text.len()).ok();
        }
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    if bytes.len() % 2 == 1 && fault.is_none() {
        text.pop();
        fault = u32::try_from(text.len()).ok();
    }
    (text, fault.map(|at| (at, "UTF-16")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_utf_8_and_utf_16_are_read_and_others_told_where_they_are_wrong() {
        /// Bytes, the text that is read, and where it is wrong for what encoding.
        type Row<'a> = (&'a [u8], &'a str, Option<(u32, &'a str)>);
        let rows: [Row<'_>; 10] = [
            (b"", "", None),
            (b"a: \xc3\xa9", "a: é", None),
            (b"\xef\xbb\xbfa", "a", None),
            (b"a\xffb", "a\u{fffd}b", Some((1, "UTF-8"))),
            (b"\xef\xbb\xbfa\xff", "a\u{fffd}", Some((1, "UTF-8"))),
            (b"\xff\xfea\0\xe9\0", "aé", None),
            (b"\xfe\xff\0a\xd8\x3e\xdd\x80", "a🦀", None),
            (b"\xff\xfea\0\0\xd8b\0", "a\u{fffd}b", Some((1, "UTF-16"))),
            (b"\xff\xfea\0b", "a", Some((1, "UTF-16"))),
            (b"\xff\xfe", "", None),
        ];
        for (bytes, text, fault) in rows {
            assert_eq!(
                decoded(bytes.to_vec()),
                (text.to_owned(), fault),
                "{bytes:?}"
            );
        }
    }
}
