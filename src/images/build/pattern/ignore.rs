//! Ignore rules: patterns in order, of which the last that matches a path or one of its parents decides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Depth, Pattern, PatternError};

/// Ignore rules: the last that matches a path or one of its parents decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreRules {
    /// In order.
    rules: Vec<Rule>,
}

/// One line of `.dockerignore`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// What it matches.
    pattern: Pattern,
    /// Whether it begins with `!`: what it matches is kept.
    keeps: bool,
    /// The path before the first wildcard, for pruning.
    literal: String,
    /// Whether that is all of it.
    is_literal: bool,
    /// Whether it matches everything in the root.
    is_everything: bool,
}

/// Which rules matched a directory: they match all below it too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matched(Vec<bool>);

/// What the rules say of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is left out.
    pub ignored: bool,
    /// For the paths below it.
    pub matched: Matched,
}

impl IgnoreRules {
    /// Parses a `.dockerignore` file: one pattern a line; `#` in the first column begins a comment.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (keeps, pattern) = split(line);
            // A path from the root of the context is one from its top.
            let clean = clean_pattern(pattern);
            let relative = clean.strip_prefix('/').filter(|rest| !rest.is_empty());
            rules.extend(rule(keeps, relative.unwrap_or(&clean))?);
        }
        Ok(Self { rules })
    }

    /// Compiles patterns.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for line in patterns {
            let (keeps, pattern) = split(line);
            rules.extend(rule(keeps, &clean_pattern(pattern))?);
        }
        Ok(Self { rules })
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Judges `path`, relative to the root, whose parent was judged with `parent`.
    pub fn judge(&self, path: &OsStr, parent: &Matched) -> Verdict {
        let mut ignored = false;
        let mut matched = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let hit = parent.0.get(index) == Some(&true) || rule.pattern.matches(path);
            if hit {
                ignored = !rule.keeps;
            }
            matched.push(hit);
        }
        Verdict {
            ignored,
            matched: Matched(matched),
        }
    }

    /// Judges `path` from the root down.
    pub fn judge_all(&self, path: &str) -> Verdict {
        let mut verdict = Verdict {
            ignored: false,
            matched: Matched::default(),
        };
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let part = path.get(..end).unwrap_or_default();
            verdict = self.judge(OsStr::new(part), &verdict.matched);
        }
        verdict
    }

    /// Returns whether a rule may keep something below the ignored directory `path`.
    pub fn may_keep_below(&self, path: &OsStr) -> bool {
        self.may_match_below(path, true)
    }

    /// Returns whether a rule without `!` may match something below the directory `path`.
    pub fn may_take_below(&self, path: &OsStr) -> bool {
        self.may_match_below(path, false)
    }

    fn may_match_below(&self, path: &OsStr, keeps: bool) -> bool {
        let path = path.as_bytes();
        let mut rules = self.rules.iter().filter(|rule| rule.keeps == keeps);
        rules.any(|rule| {
            let literal = rule.literal.as_bytes();
            let shorter = literal.len().min(path.len());
            // Either may be a prefix of the other: `!a/b/c` keeps below `a`, and `!a*` keeps below `ab`.
            literal.get(..shorter) == path.get(..shorter)
        })
    }

    /// Returns whether `source`, a clean path or wildcard of a `COPY`, is left out for certain: nothing at or below it can be kept
    /// (BuildKit's rule `CopyIgnoredFile`).
    pub fn leaves_out(&self, source: &str) -> bool {
        let is_root = source.is_empty();
        if is_root && !self.rules.iter().any(|rule| rule.is_everything) {
            return false;
        }
        // Of a wildcard, the directory it is in: what is kept anywhere below that may match it.
        let wild = source.find(['*', '?', '[', '\\']);
        let top = match wild {
            Some(at) => source
                .get(..at)
                .and_then(|literal| literal.rsplit_once('/'))
                .map_or("", |(parent, _)| parent),
            None => source,
        };
        let is_at_or_below = |path: &str, base: &str| {
            let rest = path.strip_prefix(base);
            base.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let may_be_kept = self.rules.iter().filter(|rule| rule.keeps).any(|rule| {
            let literal = if rule.is_literal {
                rule.literal.as_str()
            } else {
                rule.literal
                    .rsplit_once('/')
                    .map_or("", |(parent, _)| parent)
            };
            is_at_or_below(literal, top) || (!rule.is_literal && is_at_or_below(top, literal))
        });
        !may_be_kept && (is_root || self.judge_all(source).ignored)
    }
}

/// Splits the `!` from a line.
fn split(line: &str) -> (bool, &str) {
    let line = line.trim();
    match line.strip_prefix('!') {
        Some(pattern) => (true, pattern.trim()),
        None => (false, line),
    }
}

/// Makes a rule of a clean pattern; nothing of an empty one.
fn rule(keeps: bool, pattern: &str) -> Result<Option<Rule>, PatternError> {
    if pattern.is_empty() {
        return if keeps {
            Err(PatternError::EmptyExclusion)
        } else {
            Ok(None)
        };
    }
    let mut parts = pattern.split(['*', '?', '[', '\\']);
    let literal = parts.next().unwrap_or_default();
    Ok(Some(Rule {
        pattern: Pattern::compile(pattern, Depth::Deep)?,
        keeps,
        is_literal: parts.next().is_none(),
        literal: literal.to_owned(),
        is_everything: !keeps && matches!(pattern, "*" | "**" | "**/*"),
    }))
}

/// Cleans a pattern as Go's `filepath.Clean` does: what leads out of the root stays, and so matches nothing.
fn clean_pattern(pattern: &str) -> String {
    let is_rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if is_rooted {
        format!("/{joined}")
    } else {
        joined
    }
}
