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

use std::collections::BTreeMap;

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote that is not closed.
    #[error("missing closing {0} in `{1}`")]
    Unclosed(char, String),
    /// `${` without its `}`, or with nothing in it.
    #[error("bad substitution in `{0}`: {1}")]
    BadSubstitution(String, &'static str),
    /// `${v=w}` and others that Dockerfiles do not have.
    #[error("unsupported modifier `{0}` in substitution")]
    Modifier(String),
    /// `${v:?message}`.
    #[error("{0}: {1}")]
    Required(String, String),
    /// An escape in a pattern before a character that needs none.
    #[error("invalid escape `\\{0}` in the pattern of a substitution")]
    PatternEscape(char),
    /// `${a:-${a:-…}}` deeper than any author would write.
    #[error("substitutions nested too deeply in `{0}`")]
    TooDeep(String),
}

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Nesting of `${…${…}…}` that is still followed.
const MAX_DEPTH: usize = 32;

/// Returns `word` with variables replaced, quotes removed and escapes taken; blanks stay.
pub fn expand(word: &str, escape: char, variables: &Variables) -> Result<String, ExpandError> {
    Scan::new(word, escape, variables, Quotes::Remove)
        .until(None, false)
        .map(|found| found.text)
}

/// Returns the blank-separated words that `word` expands to; quoted blanks do not separate.
pub fn expand_words(
    word: &str,
    escape: char,
    variables: &Variables,
) -> Result<Vec<String>, ExpandError> {
    Scan::new(word, escape, variables, Quotes::Remove)
        .until(None, false)
        .map(Found::into_words)
}

/// Returns the body of a here-document with variables replaced; quotes are text there and the escape is `\`.
pub fn expand_heredoc(body: &str, variables: &Variables) -> Result<String, ExpandError> {
    Scan::new(body, '\\', variables, Quotes::Keep)
        .until(None, false)
        .map(|found| found.text)
}

/// What quotes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They quote, and vanish.
    Remove,
    /// They are text.
    Keep,
}

/// Text found, and the words it falls into.
#[derive(Debug, Default)]
struct Found {
    /// The text, blanks included.
    text: String,
    /// Words that are complete.
    words: Vec<String>,
    /// The word being collected.
    word: String,
}

impl Found {
    /// Adds a character that separates words if it is blank.
    fn push(&mut self, character: char) {
        self.text.push(character);
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// Adds quoted text.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    /// Returns the words.
    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

/// A position in a word.
struct Scan<'a> {
    /// The word, for messages.
    whole: &'a str,
    /// Its characters.
    characters: Vec<char>,
    /// Index of the next one.
    next: usize,
    /// The escape character.
    escape: char,
    /// The environment.
    variables: &'a Variables,
    /// What quotes mean.
    quotes: Quotes,
    /// How many `${` are open.
    depth: usize,
}

impl<'a> Scan<'a> {
    /// Returns a scan at the start of `whole`.
    fn new(whole: &'a str, escape: char, variables: &'a Variables, quotes: Quotes) -> Self {
        Self {
            whole,
            characters: whole.chars().collect(),
            next: 0,
            escape,
            variables,
            quotes,
            depth: 0,
        }
    }

    /// Returns the next character without taking it.
    fn peek(&self) -> Option<char> {
        self.characters.get(self.next).copied()
    }

    /// Takes the next character.
    fn take(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.next += 1;
        Some(character)
    }

    /// Expands until `stop`, which is taken, or the end; `raw_escapes` keeps escape characters for a pattern.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Found, ExpandError> {
        let mut found = Found::default();
        while let Some(character) = self.peek() {
            if stop == Some(character) {
                self.next += 1;
                return Ok(found);
            }
            match character {
                '$' => self.dollar()?.chars().for_each(|c| found.push(c)),
                '\'' if self.quotes == Quotes::Remove => found.push_quoted(&self.single_quoted()?),
                '"' if self.quotes == Quotes::Remove => {
                    found.push_quoted(&self.double_quoted(raw_escapes)?);
                }
                _ if character == self.escape => {
                    self.next += 1;
                    if raw_escapes {
                        found.push_quoted(&character.to_string());
                    }
                    // An escape at the very end stands for nothing.
                    if let Some(escaped) = self.take() {
                        found.push_quoted(&escaped.to_string());
                    }
                }
                _ => {
                    self.next += 1;
                    found.push(character);
                }
            }
        }
        match stop {
            None => Ok(found),
            Some('/') => Err(self.bad("missing `/`")),
            Some(_) => Err(self.bad("missing `}`")),
        }
    }

    /// Takes `'…'`.
    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.next += 1;
        let mut text = String::new();
        while let Some(character) = self.take() {
            if character == '\'' {
                return Ok(text);
            }
            text.push(character);
        }
        Err(ExpandError::Unclosed('\'', self.whole.to_owned()))
    }

    /// Takes `"…"`, in which only `"`, `$` and the escape itself can be escaped.
    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, ExpandError> {
        self.next += 1;
        let mut text = String::new();
        while let Some(character) = self.peek() {
            if character == '$' {
                text.push_str(&self.dollar()?);
                continue;
            }
            self.next += 1;
            if character == '"' {
                return Ok(text);
            }
            if character != self.escape {
                text.push(character);
                continue;
            }
            if raw_escapes {
                text.push(character);
            }
            match self.peek() {
                Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                    self.next += 1;
                    text.push(escaped);
                }
                Some(_) => text.push(character),
                None => {}
            }
        }
        Err(ExpandError::Unclosed('"', self.whole.to_owned()))
    }

    /// Takes `$…`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.value(&name).unwrap_or_default()
            });
        }
        self.next += 1;
        if matches!(self.peek(), Some('{' | '}' | ':')) {
            return Err(self.bad("no name"));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep(self.whole.to_owned()));
        }
        let name = self.name();
        let value = self.braced(&name)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Takes what follows the name in `${name…}`, the brace included.
    fn braced(&mut self, name: &str) -> Result<String, ExpandError> {
        let value = self.value(name);
        match self.take() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some('/') => self.replaced(&value.unwrap_or_default()),
            Some(trim @ ('#' | '%')) => self.trimmed(trim, &value.unwrap_or_default()),
            Some(':') => {
                let Some(modifier) = self.take() else {
                    return Err(self.bad("missing `}`"));
                };
                if !matches!(modifier, '-' | '+' | '?') {
                    return Err(ExpandError::Modifier(format!(":{modifier}")));
                }
                let empty = value.as_deref() == Some("");
                self.modified(name, modifier, value.filter(|_| !empty), empty)
            }
            Some(modifier @ ('-' | '+' | '?')) => self.modified(name, modifier, value, false),
            Some(other) => Err(ExpandError::Modifier(other.to_string())),
            None => Err(self.bad("missing `}`")),
        }
    }

    /// Takes `word}` of `${name-word}`, `+` or `?`; `value` is `None` where the modifier counts it as unset.
    fn modified(
        &mut self,
        name: &str,
        modifier: char,
        value: Option<String>,
        empty: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        match (modifier, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message = match (word.is_empty(), empty) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be empty".to_owned(),
                    (true, false) => "is not allowed to be unset".to_owned(),
                };
                Err(ExpandError::Required(name.to_owned(), message))
            }
        }
    }

    /// Takes `pattern}` of `${name#pattern}` and returns `value` without what it matches.
    fn trimmed(&mut self, trim: char, value: &str) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        let (pattern, longest) = match word.strip_prefix(trim) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let pattern = parse_pattern(pattern)?;
        let value: Vec<char> = value.chars().collect();
        // Lengths of the part taken away, the wanted one first.
        let mut lengths: Vec<usize> = (0..=value.len()).collect();
        if longest {
            lengths.reverse();
        }
        for length in lengths {
            let (part, rest) = if trim == '#' {
                value.split_at(length)
            } else {
                let (rest, part) = value.split_at(value.len() - length);
                (part, rest)
            };
            if matches_whole(&pattern, part) {
                return Ok(rest.iter().collect());
            }
        }
        Ok(value.iter().collect())
    }

    /// Takes `pattern/replacement}` (with a second `/` before it for every match) and returns `value` with it applied.
    fn replaced(&mut self, value: &str) -> Result<String, ExpandError> {
        let every = self.peek() == Some('/');
        if every {
            self.next += 1;
        }
        let pattern = parse_pattern(&self.until(Some('/'), true)?.text)?;
        let replacement = self.until(Some('}'), true)?.text;
        let value: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        let mut done = false;
        while let Some(character) = value.get(at) {
            let rest = value.get(at..).unwrap_or_default();
            // The longest match, and never an empty one: that would replace nothing for ever.
            let length = (1..=rest.len())
                .rev()
                .find(|length| matches_whole(&pattern, rest.get(..*length).unwrap_or_default()));
            match length {
                Some(length) if !done => {
                    result.push_str(&replacement);
                    at += length;
                    done = !every;
                }
                _ => {
                    result.push(*character);
                    at += 1;
                }
            }
        }
        Ok(result)
    }

    /// Takes a name: letters, digits and `_`; digits alone; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
                    self.next += 1;
                    name.push(digit);
                }
            }
            Some(special @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.next += 1;
                name.push(special);
            }
            _ => {
                while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || *c == '_') {
                    self.next += 1;
                    name.push(c);
                }
            }
        }
        name
    }

    /// Returns a variable.
    fn value(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// Returns a fault of a substitution.
    fn bad(&self, why: &'static str) -> ExpandError {
        ExpandError::BadSubstitution(self.whole.to_owned(), why)
    }
}

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// `*`
    Any,
    /// `?`
    One,
    /// Itself.
    Literal(char),
}

/// Parses `*`, `?` and the escapes `\*` `\?` `\\`; `\}` and `\/` are the expansion's own.
fn parse_pattern(pattern: &str) -> Result<Vec<Element>, ExpandError> {
    let mut elements = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        elements.push(match character {
            '*' => Element::Any,
            '?' => Element::One,
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Element::Literal(escaped),
                Some(other) => return Err(ExpandError::PatternEscape(other)),
                None => Element::Literal('\\'),
            },
            other => Element::Literal(other),
        });
    }
    Ok(elements)
}

/// Returns whether `pattern` matches all of `text`; linear in both but for the last `*`, which alone is retried.
fn matches_whole(pattern: &[Element], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(Element::Any), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(Element::One), Some(_)) => {
                p += 1;
                t += 1;
                continue;
            }
            (Some(Element::Literal(wanted)), Some(found)) if wanted == found => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((after_star, start)) if start < text.len() => {
                retry = Some((after_star, start + 1));
                p = after_star;
                t = start + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [
            ("a", "1"),
            ("empty", ""),
            ("path", "/usr/lib/x.tar.gz"),
            ("two", "x  y"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
    }

    #[test]
    fn words_expand() {
        let table = [
            ("plain", "plain"),
            ("$a", "1"),
            ("${a}x", "1x"),
            ("$none.", "."),
            ("$a$a", "11"),
            ("\\$a", "$a"),
            ("'$a'", "$a"),
            ("\"$a\"", "1"),
            ("\"\\$a\"", "$a"),
            ("\"a\\b\"", "a\\b"),
            ("a\\b", "ab"),
            ("a\\\\b", "a\\b"),
            ("tail\\", "tail"),
            ("'it'\"'\"'s'", "it's"),
            ("$", "$"),
            ("$ a", "$ a"),
            ("$1x", "x"),
            ("$$a", "a"),
            ("${none:-d}", "d"),
            ("${none-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${a:-d}", "1"),
            ("${a:+alt}", "alt"),
            ("${empty:+alt}", ""),
            ("${empty+alt}", "alt"),
            ("${none+alt}", ""),
            ("${none:-${a}}", "1"),
            ("${none:-${none2:-deep}}", "deep"),
            ("${none:-'q}q'}", "q}q"),
            ("${a:?no}", "1"),
            ("${path#*/}", "usr/lib/x.tar.gz"),
            ("${path##*/}", "x.tar.gz"),
            ("${path%.*}", "/usr/lib/x.tar"),
            ("${path%%.*}", "/usr/lib/x"),
            ("${path#nomatch}", "/usr/lib/x.tar.gz"),
            ("${path/\\//:}", ":usr/lib/x.tar.gz"),
            ("${path//\\//:}", ":usr:lib:x.tar.gz"),
            ("${path/l?b/Z}", "/usr/Z/x.tar.gz"),
            ("${path//t*/T}", "/usr/lib/x.T"),
            ("a  b", "a  b"),
        ];
        for (word, expected) in table {
            let got = expand(word, '\\', &variables());
            assert_eq!(got, Ok(expected.to_owned()), "{word}");
        }
    }

    #[test]
    fn the_escape_may_be_a_backquote() {
        assert_eq!(
            expand("c:\\x`$a\"`\"\"", '`', &variables()),
            Ok("c:\\x$a\"".to_owned())
        );
    }

    #[test]
    fn words_split_after_expansion_but_not_in_quotes() {
        let table: [(&str, &[&str]); 5] = [
            ("a b", &["a", "b"]),
            ("  $two ", &["x", "y"]),
            ("\"$two\" z", &["x  y", "z"]),
            ("a\\ b", &["a b"]),
            ("", &[]),
        ];
        for (word, expected) in table {
            let got = expand_words(word, '\\', &variables()).unwrap();
            assert_eq!(got, expected, "{word}");
        }
    }

    #[test]
    fn heredoc_bodies_keep_quotes() {
        let body = "say \"$a\" '$a' \\$a \\\\ \\n\n";
        let expected = "say \"1\" '1' $a \\ n\n";
        assert_eq!(expand_heredoc(body, &variables()), Ok(expected.to_owned()));
    }

    #[test]
    fn faults_are_named() {
        let table = [
            ("'a", "missing closing ' in `'a`"),
            ("\"a", "missing closing \" in `\"a`"),
            ("${a", "bad substitution in `${a`: missing `}`"),
            ("${", "bad substitution in `${`: missing `}`"),
            ("${}", "bad substitution in `${}`: no name"),
            ("${a:=x}", "unsupported modifier `:=` in substitution"),
            ("${a:#x}", "unsupported modifier `:#` in substitution"),
            ("${a=x}", "unsupported modifier `=` in substitution"),
            ("${none:?}", "none: is not allowed to be unset"),
            ("${empty:?}", "empty: is not allowed to be empty"),
            ("${none?give it}", "none: give it"),
            (
                "${a#\\q}",
                "invalid escape `\\q` in the pattern of a substitution",
            ),
        ];
        for (word, expected) in table {
            let got = expand(word, '\\', &variables()).unwrap_err();
            assert_eq!(got.to_string(), expected, "{word}");
        }
        let deep = "${n:-".repeat(100_000);
        expand(&deep, '\\', &variables()).unwrap_err();
    }
}
