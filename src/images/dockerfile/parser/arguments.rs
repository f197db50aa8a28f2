//! The parts of one instruction: keyword, flags, and arguments in their different forms.

use super::super::instruction::Command;
use super::super::lexer::Logical;
use super::super::{Fault, Span, nearest};

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
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
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
        let mut found = None;
        while let Some(at) = self.0.iter().position(|flag| flag.name == name) {
            let flag = self.0.remove(at);
            if found.is_some() {
                return Err(Fault::new(
                    flag.span,
                    format!("duplicate flag specified: --{name}"),
                ));
            }
            let missing = || Fault::new(flag.span, format!("missing a value on flag: --{name}"));
            found = Some(flag.value.ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// Takes a flag that may be given often.
    pub(super) fn values(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        while let Some(at) = self.0.iter().position(|flag| flag.name == name) {
            let flag = self.0.remove(at);
            let missing = || Fault::new(flag.span, format!("missing a value on flag: --{name}"));
            found.push(flag.value.ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// Takes a flag that is on where it stands alone.
    pub(super) fn switch(&mut self, name: &str) -> Result<bool, Fault> {
        let Some(at) = self.0.iter().position(|flag| flag.name == name) else {
            return Ok(false);
        };
        let flag = self.0.remove(at);
        match flag.value.as_deref() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Fault::new(
                flag.span,
                format!("invalid value `{other}` of flag --{name}: it is true or false"),
            )),
        }
    }

    /// Takes flags that this builder does not do yet, but for those that say nothing new.
    pub(super) fn unsupported(
        &mut self,
        names: &[&str],
        harmless: &[(&str, &str)],
    ) -> Option<(String, Span)> {
        let mut first = None;
        self.0.retain(|flag| {
            if !names.contains(&flag.name.as_str()) {
                return true;
            }
            let value = flag.value.as_deref().unwrap_or("true");
            if !harmless.contains(&(flag.name.as_str(), value)) && first.is_none() {
                first = Some((format!("--{}", flag.name), flag.span));
            }
            false
        });
        first
    }

    /// Ends the taking: what is left is unknown.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), Fault> {
        let Some(flag) = self.0.first() else {
            return Ok(());
        };
        let fault = Fault::new(flag.span, format!("unknown flag: --{}", flag.name));
        Err(match nearest(&flag.name, known.iter().copied()) {
            Some(known) => fault.with_hint(format!("did you mean `--{known}`?")),
            None => fault,
        })
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
        Ok(match self.json()? {
            // JSON words are expanded too, but their quotes and blanks are text already.
            Some(words) => words
                .iter()
                .map(|word| protect(word, self.escape))
                .collect(),
            None => self.rest.split_whitespace().map(str::to_owned).collect(),
        })
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

    /// Parses `name=value …`, or the old form `name value to the end`.
    pub(super) fn pairs(&self) -> Result<Vec<(String, String)>, Fault> {
        let words = self.quoted_words();
        if !words.first().is_some_and(|first| first.contains('=')) {
            let Some((name, value)) = self.rest.split_once(char::is_whitespace) else {
                return Err(self.fault(format!("{} must have two arguments", self.keyword)));
            };
            return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        words
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some(("", _)) => Err(Fault::new(
                    self.place_of(word),
                    format!("{} names can not be blank", self.keyword),
                )),
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(Fault::new(
                    self.place_of(word),
                    format!("can't find = in `{word}`: must be of the form name=value"),
                )),
            })
            .collect()
    }
}

/// Escapes the quotes and escapes of a JSON word, so that expansion gives them back.
fn protect(word: &str, escape: char) -> String {
    let mut protected = String::new();
    for character in word.chars() {
        if character == '"' || character == '\'' {
            protected.push(escape);
        }
        protected.push(character);
    }
    protected
}
