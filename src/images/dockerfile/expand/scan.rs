//! The expansion of one word, character by character.

use std::collections::BTreeSet;

use super::pattern::Pattern;
use super::{ExpandError, Expanded, MAX_BYTES, MAX_DEPTH, SHOWN, Variables};

/// Characters of a value in which something is replaced: each of them may begin a match.
const MAX_REPLACED: usize = 32 << 10;

/// What quotes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
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

    /// Adds a quoted character.
    fn push_quoted_one(&mut self, character: char) {
        self.text.push(character);
        self.word.push(character);
    }

    /// Returns the words.
    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

/// A position in a word.
pub(super) struct Scan<'a> {
    /// The word, for messages.
    whole: &'a str,
    /// What is still ahead of it.
    ahead: std::str::Chars<'a>,
    /// The escape character.
    escape: char,
    /// The environment.
    variables: &'a Variables,
    /// What quotes mean.
    quotes: Quotes,
    /// How many `${` are open.
    depth: usize,
    /// Variables that were asked for and are not set.
    unknown: BTreeSet<String>,
}

impl<'a> Scan<'a> {
    /// Returns a scan at the start of `whole`.
    pub(super) fn new(
        whole: &'a str,
        escape: char,
        variables: &'a Variables,
        quotes: Quotes,
    ) -> Self {
        Self {
            whole,
            ahead: whole.chars(),
            escape,
            variables,
            quotes,
            depth: 0,
            unknown: BTreeSet::new(),
        }
    }

    /// Expands all of it.
    pub(super) fn finish(mut self) -> Result<Expanded, ExpandError> {
        let (text, words) = self.until(None, false)?.finish();
        Ok(Expanded {
            text,
            words,
            unknown: self.unknown,
        })
    }

    /// Returns the next character without taking it.
    fn peek(&self) -> Option<char> {
        self.ahead.clone().next()
    }

    /// Takes the next character.
    fn take(&mut self) -> Option<char> {
        self.ahead.next()
    }

    /// Takes the next character if it is that one.
    fn take_if(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.ahead.next();
        }
        is_next
    }

    /// Expands until `stop`, which is taken, or the end; `raw_escapes` keeps escape characters for a pattern.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Found, ExpandError> {
        let mut found = Found::default();
        while let Some(character) = self.take() {
            if stop == Some(character) {
                return Ok(found);
            }
            match character {
                '$' => self.dollar()?.chars().for_each(|c| found.push(c)),
                '\'' if self.quotes == Quotes::Remove => found.push_quoted(&self.single_quoted()?),
                '"' if self.quotes == Quotes::Remove => {
                    found.push_quoted(&self.double_quoted(raw_escapes)?);
                }
                _ if character == self.escape => {
                    if raw_escapes {
                        found.push_quoted_one(character);
                    }
                    // An escape at the very end stands for nothing.
                    if let Some(escaped) = self.take() {
                        found.push_quoted_one(escaped);
                    }
                }
                _ => found.push(character),
            }
            self.check_length(&found.text)?;
        }
        match stop {
            None => Ok(found),
            Some(stop) => Err(ExpandError::Missing(self.shown(), stop)),
        }
    }

    /// Refuses what has become too long.
    fn check_length(&self, text: &str) -> Result<(), ExpandError> {
        if text.len() > MAX_BYTES {
            return Err(ExpandError::TooLong(self.shown()));
        }
        Ok(())
    }

    /// Takes the rest of `'…'`.
    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        match self.ahead.as_str().split_once('\'') {
            Some((text, rest)) => {
                self.ahead = rest.chars();
                Ok(text.to_owned())
            }
            None => Err(ExpandError::Unclosed('\'', self.shown())),
        }
    }

    /// Takes the rest of `"…"`, in which only `"`, `$` and the escape itself can be escaped.
    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(character) = self.take() {
            match character {
                '$' => text.push_str(&self.dollar()?),
                '"' => return Ok(text),
                _ if character == self.escape => {
                    if raw_escapes {
                        text.push(character);
                    }
                    match self.peek() {
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == self.escape => {
                            text.extend(self.take());
                        }
                        Some(_) => text.push(character),
                        None => {}
                    }
                }
                _ => text.push(character),
            }
            self.check_length(&text)?;
        }
        Err(ExpandError::Unclosed('"', self.shown()))
    }

    /// Takes what follows a `$`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if !self.take_if('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.value(&name).unwrap_or_default()
            });
        }
        match self.peek() {
            None => return Err(ExpandError::Missing(self.shown(), '}')),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution(self.shown())),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep(self.shown()));
        }
        let name = self.name();
        let value = self.braced(&name)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Takes what follows the name in `${name…}`, the brace included.
    fn braced(&mut self, name: &str) -> Result<String, ExpandError> {
        match self.take() {
            Some('}') => Ok(self.value(name).unwrap_or_default()),
            Some('/') => self.replaced(name),
            Some(trim @ ('#' | '%')) => self.trimmed(trim, name),
            Some(':') => match self.take() {
                Some(modifier @ ('-' | '+' | '?')) => self.modified(name, modifier, true),
                Some(other) => Err(ExpandError::Modifier(format!(":{other}"))),
                None => Err(ExpandError::Missing(self.shown(), '}')),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.modified(name, modifier, false),
            Some(other) => Err(ExpandError::Modifier(other.to_string())),
            None => Err(ExpandError::Missing(self.shown(), '}')),
        }
    }

    /// Takes `word}` of `${name-word}`, `+` or `?`; with a colon what is empty is as good as unset.
    fn modified(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        let value = self.value(name);
        let is_empty = colon && value.as_deref() == Some("");
        match (modifier, value.filter(|_| !is_empty)) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message = match (word.is_empty(), is_empty) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be empty".to_owned(),
                    (true, false) => "is not allowed to be unset".to_owned(),
                };
                Err(ExpandError::Required(name.to_owned(), message))
            }
        }
    }

    /// Takes `pattern}` of `${name#pattern}` and returns the value without what it matches.
    fn trimmed(&mut self, trim: char, name: &str) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        let (pattern, longest) = match word.strip_prefix(trim) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let pattern = Pattern::parse(pattern)?;
        let value: Vec<char> = self.value(name).unwrap_or_default().chars().collect();
        let rest = if trim == '#' {
            pattern.trim_start(&value, longest)
        } else {
            pattern.trim_end(&value, longest)
        };
        Ok(rest.iter().collect())
    }

    /// Takes `pattern/replacement}` (with a second `/` before it for every match) and returns the value with it applied.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let every = self.take_if('/');
        let pattern = Pattern::parse(&self.until(Some('/'), true)?.text)?;
        let replacement = self.until(Some('}'), true)?.text;
        let value: Vec<char> = self.value(name).unwrap_or_default().chars().collect();
        if value.len() > MAX_REPLACED {
            return Err(ExpandError::TooLong(self.shown()));
        }
        pattern
            .replace(&value, &replacement, every, MAX_BYTES)
            .ok_or_else(|| ExpandError::TooLong(self.shown()))
    }

    /// Takes a name: letters, digits and `_`; digits alone; or one special character.
    fn name(&mut self) -> String {
        let rest = self.ahead.as_str();
        let length = |is_part: &dyn Fn(char) -> bool| {
            let end = rest.find(|c| !is_part(c));
            end.unwrap_or(rest.len())
        };
        let end = match self.peek() {
            Some(first) if first.is_ascii_digit() => length(&|c| c.is_ascii_digit()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => length(&|c| c.is_alphanumeric() || c == '_'),
        };
        let (name, rest) = rest.split_at(end);
        self.ahead = rest.chars();
        name.to_owned()
    }

    /// Returns a variable, and notes if there is none.
    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        if value.is_none() {
            self.unknown.insert(name.to_owned());
        }
        value.cloned()
    }

    /// Returns the word as errors show it.
    fn shown(&self) -> String {
        match self.whole.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", self.whole.get(..end).unwrap_or_default()),
            None => self.whole.to_owned(),
        }
    }
}
