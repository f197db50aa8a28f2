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

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An unclosed `[` or a `\` at the end.
    #[error("syntax error in pattern `{0}`")]
    Syntax(String),
    /// `!` alone.
    #[error("illegal exclusion pattern: `!`")]
    EmptyExclusion,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// In order.
    tokens: Vec<Token>,
}

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// That byte.
    Literal(u8),
    /// A byte but `/`. Bytes, not characters: a character of several bytes takes as many `?`, but paths need not be UTF-8.
    One,
    /// Bytes but `/`.
    Star,
    /// Any bytes.
    All,
    /// Entry of `**/`: goes to [`Token::Deep`] or behind it.
    DeepEntry,
    /// Inside `**/`: any bytes; behind it after each `/`.
    Deep,
    /// A byte of the ranges, or of none of them.
    Class(bool, Vec<(u8, u8)>),
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
    /// Compiles `text`, which is relative and clean.
    pub fn compile(text: &str, depth: Depth) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        let syntax = || PatternError::Syntax(text.to_owned());
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'*' if depth == Depth::Deep && rest.first() == Some(&b'*') => {
                    rest = rest.get(1..).unwrap_or_default();
                    if let Some(after) = rest.strip_prefix(b"/") {
                        rest = after;
                    } else if tokens.is_empty() && !rest.is_empty() {
                        // A leading `**x` is "ends in x".
                        tokens.push(Token::All);
                        continue;
                    }
                    if rest.is_empty() {
                        tokens.push(Token::All);
                    } else {
                        tokens.extend([Token::DeepEntry, Token::Deep]);
                    }
                }
                b'*' => tokens.push(Token::Star),
                b'?' => tokens.push(Token::One),
                b'\\' => {
                    let (escaped, after) = rest.split_first().ok_or_else(syntax)?;
                    tokens.push(Token::Literal(*escaped));
                    rest = after;
                }
                b'[' => {
                    let (class, after) = parse_class(rest).ok_or_else(syntax)?;
                    tokens.push(class);
                    rest = after;
                }
                other => tokens.push(Token::Literal(*other)),
            }
        }
        Ok(Self { tokens })
    }

    /// Returns whether the whole of `path` matches.
    pub fn matches(&self, path: &OsStr) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        self.enter(&mut states, 0);
        for byte in path.as_bytes() {
            let mut next = vec![false; self.tokens.len() + 1];
            let mut alive = false;
            for (at, token) in self.tokens.iter().enumerate() {
                if states.get(at) == Some(&true) {
                    alive |= self.step(&mut next, at, token, *byte);
                }
            }
            if !alive {
                return false;
            }
            states = next;
        }
        states.last() == Some(&true)
    }

    /// Takes one byte in the state before `token`; returns whether it can.
    fn step(&self, next: &mut [bool], at: usize, token: &Token, byte: u8) -> bool {
        match token {
            Token::Literal(wanted) if *wanted == byte => self.enter(next, at + 1),
            Token::One if byte != b'/' => self.enter(next, at + 1),
            Token::Class(negated, ranges) if byte != b'/' => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&&byte));
                if inside == *negated {
                    return false;
                }
                self.enter(next, at + 1);
            }
            Token::Star if byte != b'/' => self.enter(next, at),
            Token::All => self.enter(next, at),
            Token::Deep => {
                self.enter(next, at);
                if byte == b'/' {
                    self.enter(next, at + 1);
                }
            }
            _ => return false,
        }
        true
    }

    /// Enters a state and those that need no byte from there.
    fn enter(&self, states: &mut [bool], at: usize) {
        let Some(state) = states.get_mut(at) else {
            return;
        };
        if std::mem::replace(state, true) {
            return;
        }
        match self.tokens.get(at) {
            Some(Token::Star | Token::All) => self.enter(states, at + 1),
            Some(Token::DeepEntry) => {
                self.enter(states, at + 1);
                self.enter(states, at + 2);
            }
            _ => {}
        }
    }
}

/// Parses what follows `[`; `None` if it is not closed.
fn parse_class(text: &[u8]) -> Option<(Token, &[u8])> {
    let (negated, mut rest) = match text.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        let (low, after) = class_byte(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix(b"-") {
            (high, rest) = class_byte(after)?;
        }
        ranges.push((low, high));
        if let Some(after) = rest.strip_prefix(b"]") {
            return Some((Token::Class(negated, ranges), after));
        }
    }
}

/// Takes one member of a class.
fn class_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    match text.split_first()? {
        (b'\\', rest) => rest.split_first().map(|(byte, rest)| (*byte, rest)),
        (b']' | b'-', _) => None,
        (byte, rest) => Some((*byte, rest)),
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
        Self::of(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Compiles patterns.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for line in patterns {
            let line = line.trim();
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if keeps {
                    return Err(PatternError::EmptyExclusion);
                }
                continue;
            }
            let clean = clean(pattern);
            let literal = clean
                .split(['*', '?', '[', '\\'])
                .next()
                .unwrap_or_default();
            rules.push(Rule {
                pattern: Pattern::compile(&clean, Depth::Deep)?,
                keeps,
                literal: literal.to_owned(),
            });
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

    /// Returns whether a rule may keep something below the ignored directory `path`.
    pub fn may_keep_below(&self, path: &OsStr) -> bool {
        let path = path.as_bytes();
        self.rules.iter().filter(|rule| rule.keeps).any(|rule| {
            let literal = rule.literal.as_bytes();
            let shorter = literal.len().min(path.len());
            // Either may be a prefix of the other: `!a/b/c` keeps below `a`, and `!a*` keeps below `ab`.
            literal.get(..shorter) == path.get(..shorter)
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges `path` as a walk from the root does.
    fn ignored(rules: &IgnoreRules, path: &str) -> bool {
        let mut matched = Matched::default();
        let mut verdict = false;
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let judged = rules.judge(OsStr::new(&path[..end]), &matched);
            (verdict, matched) = (judged.ignored, judged.matched);
        }
        verdict
    }

    #[test]
    fn ignore_rules_decide() {
        let table: [(&str, &[&str], &[&str]); 17] = [
            (
                "node_modules",
                &["node_modules", "node_modules/x"],
                &["a/node_modules"],
            ),
            ("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]),
            ("**/*.md", &["a.md", "d/e/a.md"], &["a.mdx"]),
            ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
            ("*\n!a/b/c", &["z", "a", "a/b", "a/b/d"], &["a/b/c"]),
            ("# c\n #x", &["#x"], &["# c", "c"]),
            ("a/**", &["a/b", "a/b/c"], &["a"]),
            ("**foo", &["foo", "a/xfoo", "xfoo"], &["foox"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/bz"]),
            ("[ab]x\n[^c]y", &["ax", "by"], &["cx", "cy"]),
            ("[!a]z", &["!z", "az"], &["bz"]),
            ("/a/../b/", &["b", "b/c"], &["a"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("\\*", &["*"], &["a"]),
            ("{a,b}", &["{a,b}"], &["a", "b"]),
            ("!a\na", &["a"], &[]),
            ("", &[], &["a"]),
        ];
        for (text, yes, no) in table {
            let rules = IgnoreRules::parse(text).unwrap();
            for path in yes {
                assert!(ignored(&rules, path), "{text:?} ignores {path}");
            }
            for path in no {
                assert!(!ignored(&rules, path), "{text:?} keeps {path}");
            }
        }
        assert_eq!(IgnoreRules::parse("!"), Err(PatternError::EmptyExclusion));
        assert_eq!(
            IgnoreRules::parse("[a"),
            Err(PatternError::Syntax("[a".to_owned()))
        );
    }

    #[test]
    fn an_ignored_directory_is_walked_only_for_what_may_be_kept() {
        let rules = IgnoreRules::parse("*\n!a/b/c\n!lib*").unwrap();
        let table = [
            ("a", true),
            ("a/b", true),
            ("a/x", false),
            ("z", false),
            ("libx", true),
        ];
        for (path, expected) in table {
            assert_eq!(rules.may_keep_below(OsStr::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn copy_wildcards_do_not_cross_directories() {
        let flat = Pattern::compile("a/**", Depth::Flat).unwrap();
        assert!(flat.matches(OsStr::new("a/b")));
        assert!(!flat.matches(OsStr::new("a/b/c")));
        let table = [
            ("a*", true),
            ("a\\*", false),
            ("[x]", true),
            ("plain", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_wildcard(text), expected, "{text}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = Pattern::compile(&"*a".repeat(2000), Depth::Deep).unwrap();
        assert!(!pattern.matches(OsStr::new(&"a".repeat(1900))));
    }
}
