//! Dotenv files (Docker Compose's grammar, compose-go dotenv).
//!
//! ```text
//! # a comment
//! [export] KEY=value # a comment         cut at " #", filled in, backslashes as they are
//! KEY: value                             the same
//! KEY='value'                            as it is, over several lines; \' is '
//! KEY="value"                            over several lines; \n \t \" \\ \$ …, then filled in
//! KEY                                    taken from the environment; not set where it is not there
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::template::{self, TemplateErrorKind, Variables};

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The grammar above.
    Dotenv,
    /// `KEY=VALUE` as it stands, quotes and dollar signs too (`format: raw`).
    Raw,
}

/// A variable and where its statement begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The value.
    pub(crate) value: String,
    /// Byte of the key's first letter.
    pub(crate) at: usize,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DotenvError {
    /// The bytes at fault.
    pub(crate) at: Range<usize>,
    /// What is wrong with them.
    pub(crate) message: String,
}

/// Looks a variable up.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// What values may name beside the variables of their own file.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'e> {
    /// The environment, which stands above what the file says.
    pub(crate) environment: &'e Lookup<'e>,
    /// Files that were read before, which stand beneath it.
    pub(crate) earlier: &'e Lookup<'e>,
}

impl<'e> Outside<'e> {
    /// The environment alone.
    pub(crate) fn environment(environment: &'e Lookup<'e>) -> Self {
        Self {
            environment,
            earlier: &|_| None,
        }
    }
}

/// The most variables that a file may set.
const MAX_VARIABLES: usize = 100_000;

/// Reads a file, the values of which may have `room` bytes in all. Where a key repeats, the last one counts.
pub(crate) fn parse(
    text: &str,
    format: Format,
    outside: Outside<'_>,
    room: usize,
) -> Result<BTreeMap<String, Variable>, DotenvError> {
    let mut parser = Parser {
        text,
        at: 0,
        outside,
        room,
        variables: BTreeMap::new(),
    };
    match format {
        Format::Dotenv => while parser.statement()? {},
        Format::Raw => parser.raw()?,
    }
    Ok(parser.variables)
}

struct Parser<'a, 'e> {
    text: &'a str,
    at: usize,
    outside: Outside<'e>,
    /// Bytes that further values may have.
    room: usize,
    variables: BTreeMap<String, Variable>,
}

fn error<T>(at: Range<usize>, message: impl Into<String>) -> Result<T, DotenvError> {
    Err(DotenvError {
        at,
        message: message.into(),
    })
}

impl<'a> Parser<'a, '_> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn line_end(&self) -> usize {
        self.rest()
            .find('\n')
            .map_or(self.text.len(), |newline| self.at + newline)
    }

    /// Reads one statement; returns false at the end.
    fn statement(&mut self) -> Result<bool, DotenvError> {
        self.skip_whitespace();
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(false);
        }
        if rest.starts_with('#') {
            self.at = self.line_end();
            return Ok(true);
        }
        if let Some(after) = rest.strip_prefix("export")
            && after.starts_with(char::is_whitespace)
        {
            self.at += "export".len();
            self.skip_whitespace();
        }
        let start = self.at;
        let separator = self.key_end()?;
        let key = self.text[start..separator].trim_end();
        if key.contains(char::is_whitespace) {
            return error(
                start..start + key.len(),
                format!("key `{key}` cannot contain a space"),
            );
        }
        let inherited = !self.text[separator..].starts_with(['=', ':']);
        self.at = (separator + 1).min(self.text.len());
        let value = if inherited {
            (self.outside.environment)(key).map(str::to_owned)
        } else {
            Some(self.value()?)
        };
        if let Some(value) = value {
            self.set(key, value, start)?;
        }
        Ok(true)
    }

    /// Sets a variable whose statement begins at byte `at`.
    fn set(&mut self, key: &str, value: String, at: usize) -> Result<(), DotenvError> {
        let span = at..at + key.len();
        self.room = match self.room.checked_sub(value.len()) {
            Some(room) => room,
            None => return error(span, TOO_LONG),
        };
        if self.variables.len() >= MAX_VARIABLES {
            return error(
                span,
                format!("more than {MAX_VARIABLES} variables are set here"),
            );
        }
        self.variables
            .insert(key.to_owned(), Variable { value, at });
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Returns where the key's separator, or the end of its line, is.
    fn key_end(&self) -> Result<usize, DotenvError> {
        for (index, c) in self.rest().char_indices() {
            match c {
                '=' | ':' | '\n' => return Ok(self.at + index),
                '_' | '.' | '-' | '[' | ']' => {}
                c if c.is_whitespace() || c.is_alphanumeric() => {}
                c => {
                    let line = &self.text[self.at..self.line_end()];
                    let at = self.at + index;
                    return error(
                        at..at + c.len_utf8(),
                        format!(
                            "unexpected character \"{c}\" in variable name \"{}\"",
                            line.trim_end()
                        ),
                    );
                }
            }
        }
        Ok(self.text.len())
    }

    fn value(&mut self) -> Result<String, DotenvError> {
        let rest = self.rest();
        let spaces = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_whitespace() && c != '\n')
                .len();
        self.at += spaces;
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            return self.quoted(quote);
        }
        let start = self.at;
        let end = self.line_end();
        self.at = end;
        let line = &self.text[start..end];
        let value = line.split_once(" #").map_or(line, |(value, _)| value);
        self.expand(value.trim_end(), start..end)
    }

    fn quoted(&mut self, quote: char) -> Result<String, DotenvError> {
        let start = self.at;
        let mut value = String::new();
        let mut escaped = false;
        for (index, c) in self.rest().char_indices().skip(1) {
            if escaped {
                escaped = false;
                if c != quote {
                    value.push('\\');
                }
                value.push(c);
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                self.at = start + index + 1;
                return if quote == '"' {
                    self.expand(&unescape(&value), start..start + index + 1)
                } else {
                    Ok(value)
                };
            } else {
                value.push(c);
            }
        }
        let end = self.line_end();
        let shown = &self.text[start..end];
        error(start..end, format!("unterminated quoted value {shown}"))
    }

    fn expand(&mut self, text: &str, at: Range<usize>) -> Result<String, DotenvError> {
        let mut known = Known {
            outside: self.outside,
            variables: &self.variables,
        };
        match template::substitute(text, &mut known, self.room).map(Cow::into_owned) {
            Ok(value) => Ok(value),
            Err(error) => {
                let message = match error.kind {
                    TemplateErrorKind::Required { name, message } if message.is_empty() => {
                        format!("required variable {name} is missing a value")
                    }
                    TemplateErrorKind::Required { name, message } => {
                        format!("required variable {name} is missing a value: {message}")
                    }
                    TemplateErrorKind::Invalid => "invalid interpolation format".to_owned(),
                    TemplateErrorKind::TooDeep => "interpolation nested too deep".to_owned(),
                    TemplateErrorKind::TooLong => TOO_LONG.to_owned(),
                };
                self::error(at, message)
            }
        }
    }

    fn raw(&mut self) -> Result<(), DotenvError> {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let at = start + (line.len() - line.trim_start().len());
            start += line.len();
            let statement = line.trim_end_matches(['\n', '\r']).trim_start();
            if statement.is_empty() || statement.starts_with('#') {
                continue;
            }
            let (key, value) = match statement.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (
                    statement.trim_end(),
                    (self.outside.environment)(statement.trim_end()),
                ),
            };
            if key.is_empty() || key.contains(char::is_whitespace) {
                return error(
                    at..at + statement.len(),
                    format!("variable `{key}` has no name or a space in it"),
                );
            }
            if let Some(value) = value {
                self.set(key, value.to_owned(), at)?;
            }
        }
        Ok(())
    }
}

const TOO_LONG: &str = "the values of the file are too long, with what they name filled in";

/// The variables that a value may name: the environment first, then the file so far, then earlier files.
struct Known<'e, 'v> {
    outside: Outside<'e>,
    variables: &'v BTreeMap<String, Variable>,
}

impl Variables for Known<'_, '_> {
    fn value(&self, name: &str) -> Option<&str> {
        let own = || {
            self.variables
                .get(name)
                .map(|variable| variable.value.as_str())
        };
        (self.outside.environment)(name)
            .or_else(own)
            .or_else(|| (self.outside.earlier)(name))
    }

    fn unset(&mut self, _name: &str, _at: Range<usize>) {}
}

/// Puts the characters that escapes stand for in their place; `\$` becomes `$$`, for the interpolation that follows.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let simple = match rest.chars().next() {
            Some('a') => Some("\u{7}"),
            Some('b') => Some("\u{8}"),
            Some('f') => Some("\u{c}"),
            Some('n') => Some("\n"),
            Some('r') => Some("\r"),
            Some('t') => Some("\t"),
            Some('v') => Some("\u{b}"),
            Some('\\') => Some("\\"),
            Some('"') => Some("\""),
            Some('$') => Some("$$"),
            _ => None,
        };
        if let Some(simple) = simple {
            out.push_str(simple);
            rest = &rest[1..];
            continue;
        }
        let octal = rest
            .get(..4)
            .filter(|digits| {
                digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b))
            })
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[4..];
            }
            None => out.push('\\'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<&'static str> {
        match name {
            "SHELL_SET" => Some("from shell"),
            "EMPTY" => Some(""),
            _ => None,
        }
    }

    fn read(text: &str, format: Format) -> String {
        match parse(text, format, Outside::environment(&environment), 1000) {
            Ok(variables) => {
                let pairs = variables
                    .iter()
                    .map(|(key, variable)| format!("{key}=[{}]", variable.value));
                pairs.collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{}..{} {}", error.at.start, error.at.end, error.message),
        }
    }

    #[test]
    fn statements() {
        let rows = [
            ("", ""),
            ("\n \n# c\n", ""),
            ("A=1", "A=[1]"),
            ("A=1\r\nB=2\r\n", "A=[1] B=[2]"),
            ("A: 1", "A=[1]"),
            ("export A=1", "A=[1]"),
            ("  A  =  1  ", "A=[1]"),
            ("A=", "A=[]"),
            ("A=\nB=2", "A=[] B=[2]"),
            ("A=x # c", "A=[x]"),
            ("A=x#y", "A=[x#y]"),
            ("A=a b  c", "A=[a b  c]"),
            ("A=\\n", "A=[\\n]"),
            ("A='x # \"y'", "A=[x # \"y]"),
            ("A='it\\'s'", "A=[it's]"),
            ("A='$B \\n'", "A=[$B \\n]"),
            ("A='a\nb' # c\nB=2", "A=[a\nb] B=[2]"),
            ("A=\"a\nb\"\nB=2", "A=[a\nb] B=[2]"),
            (
                "A=\"\\a\\t\\\"\\\\ \\c \\x07 \\u00e9\"",
                "A=[\u{7}\t\"\\ \\c \\x07 \\u00e9]",
            ),
            ("A=\"\\0101\"", "A=[A]"),
            ("A=\"\\b\\f\\n\\r\\v\"", "A=[\u{8}\u{c}\n\r\u{b}]"),
            ("A_1=1", "A_1=[1]"),
            ("A=\"x\" B=2", "A=[x] B=[2]"),
            ("A='x'B=2", "A=[x] B=[2]"),
            ("A=\"x # y\"", "A=[x # y]"),
            ("A=\"x\" # y\nB=2", "A=[x] B=[2]"),
            (
                "export SHELL_SET\nexport B: 2",
                "B=[2] SHELL_SET=[from shell]",
            ),
            ("A=x$$y", "A=[x$y]"),
            ("A=a'b'", "A=[a'b']"),
            ("A=\"\\$B $$C\"", "A=[$B $C]"),
            ("A=1\nB=$A-${A}", "A=[1] B=[1-1]"),
            ("A=1\nB=\"${A:-x}${C:-d}\"", "A=[1] B=[1d]"),
            ("SHELL_SET=x\nB=$SHELL_SET", "B=[from shell] SHELL_SET=[x]"),
            ("B=$NONE.", "B=[.]"),
            ("A=1\nA=2", "A=[2]"),
            ("SHELL_SET\nNONE\nB=1", "B=[1] SHELL_SET=[from shell]"),
            ("SHELL_SET", "SHELL_SET=[from shell]"),
            ("a.b-c[0]=1", "a.b-c[0]=[1]"),
            ("ÄÖ=1", "ÄÖ=[1]"),
            ("A B=1", "0..3 key `A B` cannot contain a space"),
            (
                "A%=1",
                "1..2 unexpected character \"%\" in variable name \"A%=1\"",
            ),
            ("A=\"x\nB=1", "2..4 unterminated quoted value \"x"),
            ("A='x", "2..4 unterminated quoted value 'x"),
            (
                "A=${B:?no b}",
                "2..12 required variable B is missing a value: no b",
            ),
            ("A=${}", "2..5 invalid interpolation format"),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text, Format::Dotenv), expected, "{text:?}");
        }
    }

    #[test]
    fn raw_statements() {
        let rows = [
            (
                "A='x' # $B\n# c\nSHELL_SET\nNONE\n",
                "A=['x' # $B] SHELL_SET=[from shell]",
            ),
            ("A=1\r\n", "A=[1]"),
            ("A=b=c", "A=[b=c]"),
            ("A =1", "0..4 variable `A ` has no name or a space in it"),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text, Format::Raw), expected, "{text:?}");
        }
    }
}
