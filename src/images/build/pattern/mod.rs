//! Patterns of paths: those of `.dockerignore` and `--exclude`, and the wildcards of `COPY` sources.
//!
//! | in a pattern | matches |
//! |---|---|
//! | `*` | anything but `/` |
//! | `?` | one character but `/` |
//! | `[a-z]` `[^a-z]` | one character of a set, or not of it |
//! | `\x` | `x` |
//! | `**/` and `/**` (ignore rules only) | any number of directories, also none; everything below |
//!
//! The rules are those of moby's patternmatcher and of Go's `filepath.Match`. A pattern runs as a set of states, so that none
//! takes more than (its length × the path's) steps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

mod ignore;
mod states;
#[cfg(test)]
mod tests;

pub use ignore::{IgnoreRules, Matched, Verdict};
use states::States;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An unclosed `[` or a `\` at the end.
    #[error("syntax error in pattern `{0}`")]
    Syntax(String),
    /// `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyExclusion,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Matcher);

/// How a pattern is matched: the plain forms without going through it character by character.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Matcher {
    /// The very path.
    Exact(Vec<u8>),
    /// Paths that begin so: `dir/**`.
    Prefix(Vec<u8>),
    /// Paths that end so: `**x`; for `**/x` also `x` itself.
    Suffix(Vec<u8>),
    /// Anything else.
    States(States),
}

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// That character.
    Literal(char),
    /// A character but `/`.
    One,
    /// Characters but `/`.
    Star,
    /// Any characters.
    All,
    /// Entry of `**/`: goes to [`Token::Deep`] or behind it.
    DeepEntry,
    /// Inside `**/`: any characters; behind it after each `/`.
    Deep,
    /// A character of the ranges, or of none of them.
    Class(bool, Vec<(char, char)>),
}

/// Whether `**` has a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// It crosses directories (ignore rules).
    Deep,
    /// It is two `*` (`COPY` sources).
    Flat,
}

impl Pattern {
    /// Compiles `text`, which is clean.
    pub fn compile(text: &str, depth: Depth) -> Result<Self, PatternError> {
        let tokens = tokens(text, depth)?;
        let is_deep = depth == Depth::Deep;
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        let matcher = if plain(text) {
            Matcher::Exact(text.as_bytes().to_vec())
        } else if let Some(end) = text.strip_prefix("**").filter(|end| is_deep && plain(end)) {
            Matcher::Suffix(end.as_bytes().to_vec())
        } else if let Some(start) = text.strip_suffix("**").filter(|s| is_deep && plain(s)) {
            Matcher::Prefix(start.as_bytes().to_vec())
        } else {
            Matcher::States(States::new(tokens))
        };
        Ok(Self(matcher))
    }

    /// Returns whether the whole of `path` matches.
    pub fn matches(&self, path: &OsStr) -> bool {
        let path = path.as_bytes();
        match &self.0 {
            Matcher::Exact(text) => path == text.as_slice(),
            Matcher::Prefix(start) => path.starts_with(start),
            Matcher::Suffix(end) => {
                path.ends_with(end) || end.strip_prefix(b"/").is_some_and(|name| name == path)
            }
            Matcher::States(states) => states.matches(path),
        }
    }
}

/// Reads a pattern.
fn tokens(text: &str, depth: Depth) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = text.chars();
    let syntax = || PatternError::Syntax(text.to_owned());
    while let Some(first) = rest.next() {
        match first {
            '*' if depth == Depth::Deep && rest.as_str().starts_with('*') => {
                rest.next();
                if rest.as_str().starts_with('/') {
                    rest.next();
                }
                if rest.as_str().is_empty() {
                    tokens.push(Token::All);
                } else {
                    tokens.extend([Token::DeepEntry, Token::Deep]);
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::One),
            '\\' => tokens.push(Token::Literal(rest.next().ok_or_else(syntax)?)),
            '[' => tokens.push(class(&mut rest).ok_or_else(syntax)?),
            other => tokens.push(Token::Literal(other)),
        }
    }
    Ok(tokens)
}

/// Parses what follows `[`; `None` if it is not closed.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let is_negated = rest.as_str().starts_with('^');
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = class_member(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') {
            rest.next();
            high = class_member(rest)?;
        }
        ranges.push((low, high));
        if rest.as_str().starts_with(']') {
            rest.next();
            return Some(Token::Class(is_negated, ranges));
        }
    }
}

/// Takes one member of a class.
fn class_member(rest: &mut std::str::Chars<'_>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        ']' | '-' => None,
        other => Some(other),
    }
}

/// Returns whether `text` has a character that a `COPY` source expands.
pub fn is_wildcard(text: &str) -> bool {
    let mut escaped = false;
    text.bytes().any(|byte| {
        let found = !escaped && matches!(byte, b'*' | b'?' | b'[');
        escaped = !escaped && byte == b'\\';
        found
    })
}

/// Returns the name that a file made of `text` has in a directory: cleaned from the root, so that `../a` is `a`; none where that is a
/// path or nothing.
pub fn file_name(text: &str) -> Option<String> {
    let name = clean(text);
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Returns a path without `.`, `..`, empty parts and the leading `/`; `..` stops at the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}
