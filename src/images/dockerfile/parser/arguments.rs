//! The parts of one instruction: keyword, flags, and arguments in their different forms.

use super::super::expand::{self, ExpandError, Variables};
use super::super::instruction::Command;
use super::super::lexer::Logical;
use super::super::{Fault, Span, nearest};

/// The blanks that separate words. Others, such as a no-break space, are text.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// A logical line as its keyword, flags and the rest.
pub(super) struct Words<'a> {
    /// As written.
    pub(super) keyword: &'a str,
    /// After the keyword, trimmed.
    pub(super) rest: &'a str,
    /// Where `rest` starts in the joined text.
    pub(super) rest_at: usize,
}

impl<'a> Words<'a> {
    /// Splits a line.
    pub(super) fn of(line: &'a Logical) -> Self {
        let text = line.text.as_str();
        let end = text.find(BLANKS).unwrap_or(text.len());
        let (keyword, after) = text.split_at(end);
        let rest = after.trim();
        Self {
            keyword,
            rest,
            rest_at: end + (after.len() - after.trim_start().len()),
        }
    }
}

/// A leading `--name=value`.
pub(super) struct Flag {
    /// Without dashes.
    pub(super) name: String,
    /// After `=`.
    pub(super) value: Option<String>,
    /// Its place.
    pub(super) span: Span,
}

/// Takes the flags at the start of `words.rest`; returns them and moves the rest behind them.
pub(super) fn take_flags(line: &Logical, words: &mut Words<'_>, escape: char) -> Vec<Flag> {
    let mut flags = Vec::new();
    while words.rest.starts_with("--") {
        let (word, length) = unquoted_word(words.rest, escape);
        let span = line.place(words.rest_at, words.rest_at + length);
        let after = words.rest.get(length..).unwrap_or_default();
        words.rest_at += length + (after.len() - after.trim_start().len());
        words.rest = after.trim_start();
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            break;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        flags.push(Flag {
            name: name.to_owned(),
            value,
            span,
        });
    }
    flags
}

/// Returns the first word without its quotes and escapes, and its length in bytes as written.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            return (word, at);
        }
        if character == escape && quote != Some('\'') {
            word.extend(characters.next().map(|(_, escaped)| escaped));
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        } else {
            word.push(character);
        }
    }
    (word, text.len())
}

/// The flags of one instruction while they are taken up.
pub(super) struct Flags(pub(super) Vec<Flag>);

impl Flags {
    /// Takes a flag that has a value.
    pub(super) fn value(&mut self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.placed(name)?.map(|(value, _)| value))
    }

    /// Takes a flag that has a value; returns its place too.
    pub(super) fn placed(&mut self, name: &str) -> Result<Option<(String, Span)>, Fault> {
        match self.single(name)? {
            None => Ok(None),
            Some(flag) => flag.required().map(Some),
        }
    }

    /// Takes a flag that may be given often.
    pub(super) fn values(&mut self, name: &str) -> Result<Vec<(String, Span)>, Fault> {
        let mut found = Vec::new();
        while let Some(at) = self.0.iter().position(|flag| flag.name == name) {
            found.push(self.0.remove(at).required()?);
        }
        Ok(found)
    }

    /// Takes a flag that is on where it stands alone; `None` where it does not stand.
    pub(super) fn switch(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        let Some(flag) = self.single(name)? else {
            return Ok(None);
        };
        match flag.value.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(flag.without_value()),
            Some(other) => Err(Fault::new(
                flag.span,
                format!("expecting boolean value for flag {name}, not: {other}"),
            )),
        }
    }

    /// Takes a flag that may be given once.
    fn single(&mut self, name: &str) -> Result<Option<Flag>, Fault> {
        let Some(at) = self.0.iter().position(|flag| flag.name == name) else {
            return Ok(None);
        };
        let flag = self.0.remove(at);
        match self.0.iter().find(|flag| flag.name == name) {
            None => Ok(Some(flag)),
            Some(second) => Err(Fault::new(
                second.span,
                format!("duplicate flag specified: {name}"),
            )),
        }
    }

    /// Ends the taking: what is left is unknown.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), Fault> {
        let Some(flag) = self.0.first() else {
            return Ok(());
        };
        let fault = Fault::new(flag.span, format!("unknown flag: {}", flag.name));
        Err(match nearest(&flag.name, known.iter().copied()) {
            Some(known) => fault.with_hint(format!("did you mean {known}?")),
            None => fault,
        })
    }
}

impl Flag {
    /// Returns the value and the place.
    fn required(self) -> Result<(String, Span), Fault> {
        let value = self.value.clone().ok_or_else(|| self.without_value())?;
        Ok((value, self.span))
    }

    /// Says that the value is missing.
    fn without_value(&self) -> Fault {
        Fault::new(self.span, format!("missing a value on flag: {}", self.name))
    }
}

/// What follows the keyword and the flags.
pub(super) struct Arguments<'a> {
    /// In upper case.
    pub(super) keyword: &'a str,
    /// The text, trimmed.
    pub(super) rest: &'a str,
    /// Where it starts in the joined text.
    pub(super) rest_at: usize,
    /// The whole line.
    pub(super) line: &'a Logical,
    /// The escape character.
    pub(super) escape: char,
}

impl Arguments<'_> {
    /// Returns a fault of the whole instruction.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.line.span, message)
    }

    /// Returns the place of `part`, which is a slice of `rest` found by value.
    pub(super) fn place_of(&self, part: &str) -> Span {
        let at = self.rest_at + self.rest.find(part).unwrap_or_default();
        self.line.place(at, at + part.len())
    }

    /// Parses a JSON array of strings; `None` if the text is not JSON, and so is in the other form.
    pub(super) fn json(&self) -> Result<Option<Vec<String>>, Fault> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(self.rest) else {
            return Ok(None);
        };
        let strings: Option<Vec<String>> = values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Some(text),
                _ => None,
            })
            .collect();
        match strings {
            Some(strings) => Ok(Some(strings)),
            None => Err(self
                .fault("when using JSON array syntax, arrays must be comprised of strings only")),
        }
    }

    /// Parses a command in either form.
    pub(super) fn command(&self) -> Result<Command, Fault> {
        Ok(match self.json()? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(self.rest.to_owned()),
        })
    }

    /// Parses words in either form; quotes stay for the expansion.
    pub(super) fn words(&self) -> Result<Vec<String>, Fault> {
        if let Some(words) = self.json()? {
            let words = words.into_iter().map(|word| self.expandable(word));
            return Ok(words.collect());
        }
        let words = self.rest.split(BLANKS).filter(|word| !word.is_empty());
        Ok(words.map(str::to_owned).collect())
    }

    /// Returns a word of JSON as it can be expanded. That takes its quotes away, as everywhere; those of a word like `it's`, with which
    /// BuildKit fails, are text.
    fn expandable(&self, word: String) -> String {
        match expand::expand(&word, self.escape, &Variables::new()) {
            Err(ExpandError::Unclosed(..)) => {
                let quote = |c| matches!(c, '"' | '\'').then_some(self.escape);
                word.chars()
                    .flat_map(|c| quote(c).into_iter().chain([c]))
                    .collect()
            }
            _ => word,
        }
    }

    /// Splits at blanks that are not quoted; quotes and escapes stay.
    pub(super) fn quoted_words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = self.rest;
        while !rest.is_empty() {
            let (_, length) = unquoted_word(rest, self.escape);
            let (word, after) = rest.split_at(length);
            words.push(word);
            rest = after.trim_start();
        }
        words
    }

    /// Whether the pairs are in the old form `name value to the end`.
    pub(super) fn is_legacy_pair(&self) -> bool {
        let words = self.quoted_words();
        words.first().is_some_and(|first| !first.contains('='))
    }

    /// Parses `name=value …`, or the old form.
    pub(super) fn pairs(&self) -> Result<Vec<(String, String)>, Fault> {
        if self.is_legacy_pair() {
            let Some((name, value)) = self.rest.split_once(BLANKS) else {
                return Err(self.fault(format!("{} must have two arguments", self.keyword)));
            };
            let value = value.trim_start_matches(BLANKS);
            return Ok(vec![(name.to_owned(), value.to_owned())]);
        }
        self.quoted_words()
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some(("", _)) => Err(Fault::new(
                    self.place_of(word),
                    format!("{} names can not be blank", self.keyword),
                )),
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(Fault::new(
                    self.place_of(word),
                    format!(
                        "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                    ),
                )),
            })
            .collect()
    }
}
