//! Variable expansion and removal of quotes, as Dockerfile instructions do it (Dockerfile reference, "Environment
//! replacement"; a subset of POSIX parameter expansion with patterns and replacement).
//!
//! | form | value |
//! |---|---|
//! | `$v` `${v}` | the variable, or nothing |
//! | `${v:-w}` `${v-w}` | `w` if `v` is unset or empty / unset |
//! | `${v:+w}` `${v+w}` | `w` if `v` is set and not empty / set |
//! | `${v:?w}` `${v?w}` | an error that says `w` if `v` is unset or empty / unset |
//! | `${v#p}` `${v##p}` `${v%p}` `${v%%p}` | `v` without the shortest or longest prefix or suffix `p` |
//! | `${v/p/r}` `${v//p/r}` | `v` with the first or every `p` replaced |

use std::collections::{BTreeMap, BTreeSet};

use scan::{Quotes, Scan};

mod pattern;
mod scan;
#[cfg(test)]
mod tests;

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote that is not closed.
    #[error(
        "failed to process {1:?}: unexpected end of statement while looking for matching {name}-quote",
        name = if *.0 == '"' { "double" } else { "single" }
    )]
    Unclosed(char, String),
    /// `${}` and others without a name.
    #[error("failed to process {0:?}: syntax error: bad substitution")]
    BadSubstitution(String),
    /// `${v` without its end, or `${v/p` without its second half.
    #[error("failed to process {0:?}: syntax error: missing '{1}'{end}", end = if *.1 == '/' { " in ${}" } else { "" })]
    Missing(String, char),
    /// `${v=w}` and others that Dockerfiles do not have.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${v:?message}`.
    #[error("{0}: {1}")]
    Required(String, String),
    /// An escape in a pattern before a character that needs none.
    #[error("invalid pattern ({0}) in substitution: invalid escape '\\{escaped}'", escaped = .1.map(String::from).unwrap_or_default())]
    PatternEscape(String, Option<char>),
    /// `${a:-${a:-…}}` deeper than any author would write.
    #[error("failed to process {0:?}: substitutions nested too deeply")]
    TooDeep(String),
    /// Variables made of variables, without end.
    #[error("failed to process {0:?}: it is too long once expanded")]
    TooLong(String),
}

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Nesting of `${…${…}…}` that is still followed.
const MAX_DEPTH: usize = 32;

/// Bytes that one word, or the body of one here-document, may become.
const MAX_BYTES: usize = 8 << 20;

/// Characters of a word that its errors show.
const SHOWN: usize = 200;

/// What a word became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// All of it, blanks included.
    pub text: String,
    /// Separated at blanks that are not quoted.
    pub words: Vec<String>,
    /// Variables that it names and that are not set.
    pub unknown: BTreeSet<String>,
}

/// Returns `word` with variables replaced, quotes removed and escapes taken; blanks stay.
pub fn expand(word: &str, escape: char, variables: &Variables) -> Result<String, ExpandError> {
    expand_noting(word, escape, variables).map(|expanded| expanded.text)
}

/// Returns the blank-separated words that `word` expands to; quoted blanks do not separate.
pub fn expand_words(
    word: &str,
    escape: char,
    variables: &Variables,
) -> Result<Vec<String>, ExpandError> {
    expand_noting(word, escape, variables).map(|expanded| expanded.words)
}

/// Returns all about what `word` expands to.
pub fn expand_noting(
    word: &str,
    escape: char,
    variables: &Variables,
) -> Result<Expanded, ExpandError> {
    Scan::new(word, escape, variables, Quotes::Remove).finish()
}

/// Returns the body of a here-document with variables replaced; quotes are text there and the escape is `\`.
pub fn expand_heredoc(body: &str, variables: &Variables) -> Result<String, ExpandError> {
    let scan = Scan::new(body, '\\', variables, Quotes::Keep);
    scan.finish().map(|expanded| expanded.text)
}
