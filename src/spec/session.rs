//! What one load reads and says, from the first file to the last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::dotenv::{self, Format};
use super::load::{LoadOptions, ReadError, ReadFile};
use super::origin::Trace;
use super::source::{SourceId, Sources, Span, Spanned};
use super::tree::Node;
use super::yaml::parse;

/// How many further places of an unset variable are shown.
const MAX_PLACES: usize = 3;

/// The largest file that is read, in bytes.
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
        let (text, bad_byte) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                (text, u32::try_from(at).ok())
            }
        };
        let (text, mark) = match text.strip_prefix('\u{feff}') {
            Some(rest) => (rest.to_owned(), 3),
            None => (text, 0),
        };
        let id = self.sources.add(shown, text);
        if let Some(at) = bad_byte {
            let start = at.saturating_sub(mark);
            let span = Span {
                source: id,
                start,
                end: start + 3,
            };
            self.diagnostics.push(
                Diagnostic::error(span, "invalid UTF-8")
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
        let text = &sources.get(id)?.text;
        let documents = parse::parse(text, id, diagnostics)?;
        Some(Parsed {
            path: path.to_owned(),
            documents,
            has_variables: text.contains('$'),
            start: Span {
                source: id,
                start: 0,
                end: 0,
            },
        })
    }

    /// Reads a dotenv file's variables; errors in it are reported.
    pub(crate) fn dotenv(
        &mut self,
        path: &Path,
        id: SourceId,
        format: Format,
        lookup: &dotenv::Lookup<'_>,
    ) -> Option<Provided> {
        let parsed = dotenv::parse(&self.sources.get(id)?.text, format, lookup);
        match parsed {
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
