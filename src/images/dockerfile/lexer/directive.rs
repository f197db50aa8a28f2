//! Parser directives: `# syntax=`, `# escape=`, `# check=`, in the first lines, before anything else.

use super::super::{Fault, Span};

/// The directives while they are read.
#[derive(Debug)]
pub(super) struct Directives {
    /// `\` or `` ` ``.
    pub(super) escape: char,
    /// `check`.
    pub(super) check: Option<(String, Span)>,
    /// Those that stood.
    seen: Vec<&'static str>,
    /// Whether something else has stood since.
    is_over: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            check: None,
            seen: Vec::new(),
            is_over: false,
        }
    }
}

impl Directives {
    /// Takes a line if it is a directive; anything else ends them.
    pub(super) fn take(&mut self, start: usize, line: &str) -> Result<bool, Fault> {
        if self.is_over {
            return Ok(false);
        }
        let found = line.trim_start().strip_prefix('#').and_then(parse);
        let known = found.and_then(|(key, value)| {
            let mut names = ["syntax", "escape", "check"].into_iter();
            let name = names.find(|name| key.eq_ignore_ascii_case(name))?;
            Some((name, value))
        });
        let Some((name, value)) = known else {
            self.is_over = true;
            return Ok(false);
        };
        let span = Span {
            start,
            end: start + line.trim_end().len(),
        };
        if self.seen.contains(&name) {
            let message = format!("only one {name} parser directive can be used");
            return Err(Fault::new(span, message));
        }
        self.seen.push(name);
        match (name, value) {
            ("escape", "\\") => {}
            ("escape", "`") => self.escape = '`',
            ("escape", _) => {
                let message = format!("invalid escape token '{value}' does not match ` or \\");
                return Err(Fault::new(span, message));
            }
            ("check", _) => self.check = Some((value.to_owned(), span)),
            _ => {}
        }
        Ok(true)
    }
}

/// Splits the text of a comment into key and value, if it is of that form.
fn parse(comment: &str) -> Option<(&str, &str)> {
    let (key, value) = comment.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let starts_well = key.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (starts_well && is_word && !value.is_empty()).then_some((key, value))
}

/// Returns the frontend that a Dockerfile asks for, as `# syntax=` or in the forms of other languages: after a line `#!…`, as
/// `//syntax=`, or as a member `syntax` of a JSON object.
pub fn frontend_of(text: &str) -> Option<(String, Span)> {
    let begin = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let rest = text.get(begin..).unwrap_or_default();
    let skipped = match rest.split_once('\n') {
        Some((first, _)) if first.starts_with("#!") => begin + first.len() + 1,
        _ => begin,
    };
    let rest = text.get(skipped..).unwrap_or_default();
    for prefix in ["#", "//"] {
        if let Some(found) = among_first_lines(rest, skipped, prefix) {
            return Some(found);
        }
    }
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(rest).ok()?;
    let syntax = object.get("syntax")?.as_str()?;
    let end = skipped + rest.lines().next().unwrap_or_default().len();
    Some((
        first_word(syntax),
        Span {
            start: skipped,
            end,
        },
    ))
}

/// Looks for `syntax` among the directives that begin with `prefix`.
fn among_first_lines(text: &str, start: usize, prefix: &str) -> Option<(String, Span)> {
    let mut at = start;
    for line in text.split_inclusive('\n') {
        // Only the form with `#` may be indented: it is a comment also then.
        let begun = if prefix == "#" {
            line.trim_start()
        } else {
            line
        };
        let (key, value) = begun.strip_prefix(prefix).and_then(parse)?;
        if key.eq_ignore_ascii_case("syntax") {
            let end = at + line.trim_end().len();
            return Some((first_word(value), Span { start: at, end }));
        }
        let known = ["escape", "check"];
        if !known.iter().any(|name| key.eq_ignore_ascii_case(name)) {
            return None;
        }
        at += line.len();
    }
    None
}

/// What follows a blank is for the frontend.
fn first_word(value: &str) -> String {
    value.split(' ').next().unwrap_or_default().to_owned()
}
